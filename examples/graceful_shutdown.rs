//! A service that stops politely: ctrl-c drains it with a grace, a second ctrl-c cuts the grace off.
//!
//! Look for: ticks, then on ctrl-c (or after 3 s without one, which takes the same path and says so)
//! a report: what runs may finish, what is not yet due is dropped, what outlasts the grace is
//! aborted. Press ctrl-c twice and both requests are aborted at once.
//!
//! ```sh
//! cargo run --example graceful_shutdown
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::{Group, Next};
use tokio::time::{Instant, sleep};

const UNATTENDED: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let group = Group::new();

    group.repeat(Instant::now(), |context| async move {
        println!("tick {}", context.run());
        Next::After(Duration::from_millis(500))
    });
    // Under way when the end comes: one fits into the grace, one does not.
    group.delay(Duration::from_millis(100), async {
        sleep(Duration::from_secs(4)).await;
        println!("the quick request was answered");
    });
    group.delay(Duration::from_millis(100), async {
        sleep(Duration::from_secs(3600)).await;
        println!("the slow request was answered");
    });
    group.delay(Duration::from_secs(3600), async {
        println!("the hourly report was written");
    });

    tokio::select! {
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            println!("ctrl-c: draining for at most {GRACE:?}; once more to abort");
        }
        () = sleep(UNATTENDED) => {
            println!("no ctrl-c in {UNATTENDED:?}: taking the same way, draining for at most {GRACE:?}");
        }
    }

    let begun = Instant::now();
    tokio::select! {
        report = group.shutdown(GRACE) => {
            println!(
                "after {:?}: {} finished, {} aborted, {} dropped",
                begun.elapsed(), report.finished, report.aborted, report.dropped,
            );
        }
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            // The earliest end of grace holds.
            let report = group.shutdown(Duration::ZERO).await;
            println!("second ctrl-c after {:?}: {} aborted", begun.elapsed(), report.aborted);
        }
    }
    Ok(())
}
