use std::rc::Rc;

fn main() {
    let names = Rc::new(["a", "b"]);
    let tasks = (0..2).map(|n| {
        let name = names[n];
        async move { name.len() }
    });
    let _lengths = schedgroup::flow::stream(tasks);
}
