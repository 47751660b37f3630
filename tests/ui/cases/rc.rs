use std::{rc::Rc, time::Duration};

fn main() {
    let group = schedgroup::Group::new();
    let shared = Rc::new(1);
    group.delay(Duration::ZERO, async move {
        std::future::ready(()).await;
        println!("{shared}");
    });
}
