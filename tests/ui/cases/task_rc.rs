use schedgroup::task::TaskGroup;
use std::rc::Rc;

fn main() {
    let group = TaskGroup::new();
    let shared = Rc::new(1);
    group.spawn(async move {
        println!("{shared}");
    });
}
