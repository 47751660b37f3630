//! Shows ticks every 100 ms with each rule for missed ticks. The run of tick 2 takes 350 ms.
//!
//! You should see that `Skip` leaves a gap in the numbers and stays at whole hundreds of milliseconds; that `Delay` shifts
//! all later ticks; and that `Burst(2)` catches up with the last two of the three ticks that were missed. Each tick is a
//! few milliseconds late, and this lateness does not add up.
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
