//! Shows a batch of log lines per tenant. A batch is shipped when its tenant has been quiet for 500 ms, when it is 5 s old,
//! and when it has 1,000 lines.
//!
//! You should see that the busy tenant ships batches of 1,000 lines, that the steady tenant ships one batch after 5 s, and
//! that the quiet tenant ships its one line after 500 ms. At the end the lines that were not shipped are given back.
//!
//! ```sh
//! cargo run --example log_shipper
//! ```
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use schedgroup::keyed::{KeyedContext, KeyedGroup};
use tokio::time::{Instant, sleep};

const QUIET: Duration = Duration::from_millis(500);
const CEILING: Duration = Duration::from_secs(5);
const FULL: usize = 1_000;

type Tenant = &'static str;
type Lines = Vec<String>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let begun = Instant::now();
    let ship = move |_: KeyedContext<Tenant, Lines>, tenant: Tenant, lines: Lines| async move {
        let (at, last) = (begun.elapsed().as_millis(), lines.last());
        println!(
            "{at:>5} ms  {tenant:<6} {:>4} lines, the last is {:?}",
            lines.len(),
            last.map_or("", |line| line)
        );
    };
    // `exclusive`: batches of one tenant are shipped one after another.
    let batches = KeyedGroup::builder().exclusive().build_with(ship);
    let log = |tenant: Tenant, line: String| {
        let mut full = false;
        // Only one of the two closures is called, and takes the line.
        let line = Cell::new(Some(line));
        batches.debounce_with(
            tenant,
            QUIET,
            CEILING,
            || line.take().into_iter().collect(),
            |lines: &mut Lines| {
                lines.extend(line.take());
                full = lines.len() >= FULL;
            },
        );
        if full {
            batches.expire(tenant);
        }
    };
    for tick in 0..70 {
        for line in 0..90 {
            log("busy", format!("{tick}.{line}"));
        }
        log("steady", format!("{tick}"));
        if tick == 10 {
            log("quiet", "once".to_owned());
        }
        sleep(Duration::from_millis(100)).await;
    }
    let (_, left) = batches.shutdown(Duration::from_secs(1)).await;
    for (tenant, lines) in left {
        println!("{} lines of {tenant} were given back", lines.len());
    }
}
