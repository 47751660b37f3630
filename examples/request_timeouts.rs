//! Shows 100,000 requests in flight. A reply removes its request and wakes its caller; a request without a reply times out.
//!
//! You should see that 99,000 requests are answered, and that the other 1,000 time out after 2 s. The program needs no
//! second map for the callers that wait: each of them is the value of its request. The last line has the cost of opening
//! and of answering a request; a debug build is several times slower.
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

/// The sender that wakes the caller of a request.
type Waiting = oneshot::Sender<Result<u64, &'static str>>;

#[tokio::main]
async fn main() -> Result<(), WaitError> {
    let requests = KeyedGroup::with_handler(|_, _: u64, waiting: Waiting| async move {
        // It fails if the caller no longer waits.
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

    let (mut answered, mut timed_out) = (0_u128, 0);
    for (id, reply) in (0..).zip(replies) {
        match reply.await {
            Ok(Ok(reply)) => {
                assert_eq!(reply, 2 * id);
                answered += 1;
            }
            Ok(Err(_)) => timed_out += 1,
            Err(_) => panic!("request {id} was lost"),
        }
    }
    println!("{answered} were answered, {timed_out} timed out");
    println!(
        "{} ns to open a request, {} ns to answer it",
        opened.as_nanos() / u128::from(REQUESTS),
        replied.as_nanos() / answered
    );
    requests.wait().await
}
