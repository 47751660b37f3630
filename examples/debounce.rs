//! Shows how to save a file while a user types: once after each pause, and at least once a second.
//!
//! You should see three saves for 40 key strokes. Stroke 5 is followed by a pause, and is saved 200 ms after it. The other
//! strokes follow each other without a pause, so the ceiling of one second forces a save in between. The last stroke is
//! saved 200 ms after it.
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
    // `exclusive`: two saves of one file never overlap.
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
