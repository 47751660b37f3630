use std::sync::Mutex;

static TOTAL: Mutex<u32> = Mutex::new(0);

async fn add(number: u32) -> Result<u32, ()> {
    let mut total = TOTAL.lock().unwrap();
    tokio::task::yield_now().await;
    *total += number;
    Ok(*total)
}

fn main() {
    let _sums = schedgroup::flow::try_all((0..3).map(add));
}
