//! underway, as a process beside the comparison: it reads when jobs are due, and says when each has started.
//!
//! ```text
//! delayed-jobs-versus-underway ADDRESS CONCURRENCY defaults|tuned
//! ```
//!
//! Its input is a line for each job with its time in microseconds since 1970; its output is `begin` when it begins to work, and
//! for each start a line with the number of the job and the time.
#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::ToSpan;
use sqlx::{PgPool, Postgres, Transaction};
use underway::{Queue, Task, Worker};

struct Number;

impl Task for Number {
    type Input = u32;
    type Output = ();

    async fn execute(
        &self,
        _: Transaction<'_, Postgres>,
        number: u32,
    ) -> underway::task::Result<()> {
        say(&format!("{number} {}", micros()));
        Ok(())
    }
}

/// A line at once, whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, at_once, settings] = &words[..] else {
        return Err("ADDRESS CONCURRENCY defaults|tuned".into());
    };
    let times: Vec<i64> = std::io::stdin()
        .lock()
        .lines()
        .map(|line| Ok(line?.trim().parse()?))
        .collect::<Result<_, Box<dyn std::error::Error>>>()?;

    let pool = PgPool::connect(address).await?;
    underway::run_migrations(&pool).await?;
    let queue = Queue::builder().name("numbers").pool(pool.clone());
    let queue = Arc::new(queue.build().await?);
    if times.iter().any(|time| *time > micros()) {
        for (number, time) in (0..).zip(&times) {
            // A delay begins when the job is in.
            let delay = (time - micros()).max(0).microseconds();
            queue.enqueue_after(&pool, &Number, &number, delay).await?;
        }
    } else {
        let numbers: Vec<u32> = (0..).take(times.len()).collect();
        queue.enqueue_multi(&pool, &Number, &numbers).await?;
    }
    let mut worker = Worker::new(queue, Number);
    worker.set_concurrency_limit(at_once.parse()?);
    say("begin");
    match settings.as_str() {
        // With each poll it begins to run one more task at a time.
        "tuned" => worker.run_every(50.milliseconds()).await?,
        _ => worker.run().await?,
    }
    Ok(())
}
