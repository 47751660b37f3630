use std::rc::Rc;

async fn attempt() -> Result<u8, ()> {
    let shared = Rc::new(1);
    tokio::task::yield_now().await;
    Ok(*shared)
}

fn main() {
    let group = schedgroup::Group::new();
    let _value = schedgroup::flow::retry(attempt).spawn_on(&group);
}
