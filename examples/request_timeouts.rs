//! 100,000 requests in flight: a reply removes its request and wakes who waits, a request without one times out.
//!
//! Look for: every reply finds its request, those without one fail after the timeout, and there is no second map
//! of who waits.
//!
//! ```sh
//! cargo run --release --example request_timeouts
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::WaitError;
use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::sync::oneshot;
use tokio::time::Instant;

const REQUESTS: u64 = 100_000;
const TIMEOUT: Duration = Duration::from_secs(2);

/// Who waits for the reply.
type Waiting = oneshot::Sender<Result<u64, &'static str>>;

#[tokio::main]
async fn main() -> Result<(), WaitError> {
    let requests = KeyedGroup::with_handler(|_, _: u64, waiting: Waiting| async move {
        // Fails if the caller has gone.
        let _ = waiting.send(Err("no answer"));
    });
    let begun = Instant::now();
    let mut replies = Vec::new();
    for id in 0..REQUESTS {
        let (waiting, reply) = oneshot::channel();
        requests.insert_after(id, waiting, TIMEOUT, OnDuplicate::Replace);
        replies.push(reply);
    }
    let opened = begun.elapsed();
    println!("{} requests in flight", requests.len());

    // Every hundredth request is never answered.
    let begun = Instant::now();
    for id in (0..REQUESTS).filter(|id| id % 100 != 7) {
        if let Some(waiting) = requests.remove(&id) {
            let _ = waiting.send(Ok(2 * id));
        }
    }
    let replied = begun.elapsed();

    let (mut answered, mut timed_out) = (0, 0);
    for (id, reply) in (0..).zip(replies) {
        match reply.await {
            Ok(Ok(reply)) => {
                assert_eq!(reply, 2 * id);
                answered += 1;
            }
            Ok(Err(_)) | Err(_) => timed_out += 1,
        }
    }
    println!("{answered} were answered, {timed_out} timed out");
    println!(
        "{} ns to open one, {} ns to reply",
        opened.as_nanos() / u128::from(REQUESTS),
        replied.as_nanos() / u128::from(REQUESTS)
    );
    requests.wait().await
}
