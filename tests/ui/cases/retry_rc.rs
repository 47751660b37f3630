use std::rc::Rc;

fn main() {
    let group = schedgroup::Group::new();
    let shared = Rc::new(1);
    let retry = schedgroup::flow::retry(move || {
        let shared = shared.clone();
        async move { Ok::<_, ()>(*shared) }
    });
    let _value = retry.spawn_on(group.handle());
}
