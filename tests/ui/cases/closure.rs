use std::time::Duration;

fn main() {
    let group = schedgroup::Group::new();
    group.delay(Duration::ZERO, || println!("a closure is no future"));
}
