//! Three jobs, three deadlines, one wait.
//!
//! Look for: `1`, `2`, `3`, in the order of their deadlines although they were handed in the other
//! way round, and an end as soon as the last one has run.
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
