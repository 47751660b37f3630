//! Shows three jobs with three deadlines, and one `wait` for all of them.
//!
//! You should see `1`, `2` and `3`: the jobs run in the order of their deadlines, although they are scheduled in the
//! opposite order. The program ends as soon as the last job has run.
//!
//! ```sh
//! cargo run --example hello
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::{Group, WaitError};

#[tokio::main]
async fn main() -> Result<(), WaitError> {
    let group = Group::new();
    for i in [3, 2, 1] {
        group.delay(Duration::from_millis(100 * i), async move {
            println!("{i}");
        });
    }
    group.wait().await
}
