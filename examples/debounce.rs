//! Saving while a user types: one save after each pause, and at least one a second.
//!
//! Look for: 40 key strokes and a handful of saves. The first burst pauses, so its save comes 200 ms
//! after the last key; the second one goes on and on, so the ceiling cuts it.
//!
//! ```sh
//! cargo run --example debounce
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::WaitError;
use schedgroup::keyed::KeyedGroup;
use tokio::time::{Instant, sleep};

const QUIET: Duration = Duration::from_millis(200);
const CEILING: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), WaitError> {
    let begun = Instant::now();
    // Two saves of one file never overlap.
    let saves = KeyedGroup::builder().exclusive().build_with(
        move |_, file: &str, stroke: u32| async move {
            let ms = begun.elapsed().as_millis();
            println!("{ms:>4} ms  saved stroke {stroke} of {file}");
        },
    );
    for stroke in 1..=40 {
        saves.debounce("draft.txt", QUIET, CEILING, stroke);
        let pause = if stroke == 5 { 400 } else { 50 };
        sleep(Duration::from_millis(pause)).await;
    }
    println!(
        "40 strokes, the last at {} ms",
        begun.elapsed().as_millis() - 50
    );
    saves.wait().await
}
