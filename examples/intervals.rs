//! A tick each 100 ms, whose third run takes 350 ms: what each rule makes of the ticks that it misses.
//!
//! Look for: `Skip` has a gap in the numbers and stays on whole hundreds; `Delay` is put off for good;
//! `Burst` catches up, here with the last two of the three ticks it missed. None drifts: the times do not creep.
//!
//! ```sh
//! cargo run --example intervals
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::periodic::MissedTicks;
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, sleep};

#[tokio::main]
async fn main() -> Result<(), WaitError> {
    for missed in [MissedTicks::Skip, MissedTicks::Delay, MissedTicks::Burst(2)] {
        println!("{missed:?}");
        let (group, start) = (Group::new(), Instant::now());
        let ticks = group.every(Duration::from_millis(100)).missed(missed);
        ticks.run(move |tick| async move {
            println!(
                "  tick {} at {:>3} ms",
                tick.number(),
                start.elapsed().as_millis()
            );
            if tick.number() == 2 {
                sleep(Duration::from_millis(350)).await;
            }
        });
        sleep(Duration::from_millis(850)).await;
        group.wait().await?;
    }
    Ok(())
}
