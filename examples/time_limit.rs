//! Shows a group with a time limit.
//!
//! You should see `hello` and `world`, and `timeout!` after 300 ms. The job that is due in an hour never runs. `wait` does
//! not wait for it: it returns `DeadlineExceeded` as soon as the limit is reached.
//!
//! ```sh
//! cargo run --example time_limit
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::{Group, WaitError};

#[tokio::main]
async fn main() {
    let group = Group::builder().timeout(Duration::from_millis(300)).build();

    group.delay(Duration::from_millis(50), async { println!("hello") });
    group.delay(Duration::from_millis(100), async { println!("world") });
    group.delay(Duration::from_secs(3600), async {
        println!("this line is never seen");
    });

    match group.wait().await {
        Err(WaitError::DeadlineExceeded) => println!("timeout!"),
        other => panic!("the time limit should have ended the group, not {other:?}"),
    }
}
