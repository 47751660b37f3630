use std::rc::Rc;

fn main() {
    let shared = Rc::new(1);
    let task = async move {
        std::future::ready(()).await;
        println!("{shared}");
    };
    let _all = schedgroup::flow::all([task]);
}
