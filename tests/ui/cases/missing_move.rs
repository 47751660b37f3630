use std::time::Duration;

fn main() {
    let group = schedgroup::Group::new();
    for i in 0..3 {
        group.delay(Duration::ZERO, async { println!("{i}") });
    }
}
