use std::time::Duration;

fn main() {
    let group = schedgroup::Group::new();
    let name = String::from("local");
    let borrowed = &name;
    group.delay(Duration::ZERO, async move { println!("{borrowed}") });
}
