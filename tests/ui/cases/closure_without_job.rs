use std::time::Duration;

fn main() {
    let group = schedgroup::Group::new();
    group.delay_with(Duration::ZERO, |context| println!("job {}", context.id()));
}
