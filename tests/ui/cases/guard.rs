use std::{sync::Mutex, time::Duration};

static TOTAL: Mutex<u32> = Mutex::new(0);

async fn work() {
    let mut total = TOTAL.lock().unwrap();
    tokio::task::yield_now().await;
    *total += 1;
}

fn main() {
    let group = schedgroup::Group::new();
    group.delay(Duration::ZERO, work());
}
