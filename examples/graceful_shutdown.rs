//! Shows a service that ends within a grace period on ctrl-c, and at once on a second ctrl-c.
//!
//! You should see ticks, and after ctrl-c (or after 3 s without it) a report. Jobs that run may finish within the grace of
//! 2 s, jobs that are not yet due are dropped, and jobs that still run after the grace are aborted. Without ctrl-c, one
//! request finishes and one is aborted, and the ticks and the hourly report are dropped. A second ctrl-c within the grace
//! aborts what still runs at once.
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
    // Both run when the shutdown begins. Without ctrl-c, the first one finishes within the grace.
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
            println!("ctrl-c: shutting down within {GRACE:?}; press it again to abort");
        }
        () = sleep(UNATTENDED) => {
            println!("no ctrl-c in {UNATTENDED:?}: shutting down within {GRACE:?} all the same");
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
            // Of two graces, the one that ends first holds.
            let report = group.shutdown(Duration::ZERO).await;
            println!("second ctrl-c after {:?}: {} aborted", begun.elapsed(), report.aborted);
        }
    }
    Ok(())
}
