//! Measures the figures of `docs/benchmarks.md`, each by a command. Each has a database of its own, which is deleted at
//! the end.
//!
//! ```sh
//! cargo run --release -p delayed-jobs --example figures -- throughput   # jobs per second, and CPU per job
//! cargo run --release -p delayed-jobs --example figures -- floor        # compared with a loop of the same statements
//! cargo run --release -p delayed-jobs --example figures -- backlog      # with a million due jobs
//! cargo run --release -p delayed-jobs --example figures -- many 1000000 # lateness and memory with as many rows
//! ```
//!
//! `many` prints p50, p99 and the maximum of each round, without open pages and with three, and the load. With a last word
//! `sqlite` or `postgres` only that store is measured.
#![forbid(unsafe_code)]

mod backlog;
mod floor;
mod many;
#[path = "../../tests/support/mod.rs"]
mod support;
mod throughput;

use std::env;
use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use delayed_jobs::{Job, Payload, Queue, StoreError};
use serde::{Deserialize, Serialize};
use support::{Disk, Postgres};
use tokio_util::sync::CancellationToken;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Serialize, Deserialize)]
struct Email {
    to: String,
    text: String,
}

impl Payload for Email {
    const KIND: &'static str = "email";
}

fn email(number: usize) -> Email {
    Email {
        to: format!("{number}@example.org"),
        text: "x".repeat(150),
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let only = match words.last() {
        Some(&"sqlite") => Some(Kind::Sqlite),
        Some(&"postgres") => Some(Kind::Postgres),
        _ => None,
    };
    let kinds: Vec<Kind> = match only {
        Some(kind) => vec![kind],
        None => vec![Kind::Sqlite, Kind::Postgres],
    };
    let rows = words.get(1).and_then(|word| word.parse().ok());
    match words.first() {
        Some(&"floor") => floor::run().await,
        Some(&"backlog") => backlog::run(&kinds, rows.unwrap_or(1_000_000)).await,
        Some(&"many") => many::run(&kinds, rows.unwrap_or(1_000_000)).await,
        // A worker in a process of its own.
        Some(&"worker") => many::worker(words[1]).await,
        None | Some(&("throughput" | "sqlite" | "postgres")) => throughput::run(&kinds).await,
        Some(word) => Err(format!("`{word}` is none of the figures").into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// A new, empty database, and what has to live as long.
struct Place {
    kind: Kind,
    address: String,
    _dir: Option<tempfile::TempDir>,
    _server: Option<Postgres>,
}

impl Place {
    /// `None` if there is no server of that kind.
    async fn new(kind: Kind) -> Option<Place> {
        match kind {
            Kind::Sqlite => {
                let (dir, address) = support::sqlite();
                Some(Place {
                    kind,
                    address,
                    _dir: Some(dir),
                    _server: None,
                })
            }
            Kind::Postgres => {
                let server = Postgres::start_with(Disk::Waited, &[], SERVER)?;
                let address = server.database().await;
                Some(Place {
                    kind,
                    address,
                    _dir: None,
                    _server: Some(server),
                })
            }
        }
    }

    async fn open(&self) -> Result<Queue, StoreError> {
        Queue::open(&self.address).await
    }

    /// Rows of the same size as all others, a millisecond apart from `from` on, or all due long ago.
    async fn fill(&self, rows: u64, pending: Pending) -> Outcome {
        let due = match pending {
            Pending::Far => "4102444800000000 + n * 1000",
            Pending::Due => "n",
        };
        let columns =
            "insert into delayed_jobs (kind, queue, payload, priority, run_at, state, created_at)";
        let cells = format!(
            r#"'email', 'default', '{{"to":"' || n || '@example.org","text":"{}"}}', 1, {due}, 'pending', 0"#,
            "x".repeat(150)
        );
        match self.kind {
            Kind::Sqlite => {
                let connection = rusqlite::Connection::open(&self.address)?;
                let numbers = format!(
                    "with recursive n(n) as (select 1 union all select n + 1 from n where n < {rows})"
                );
                connection.execute(&format!("{columns} {numbers} select {cells} from n"), [])?;
                connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
            }
            Kind::Postgres => {
                let numbers = format!("generate_series(1, {rows}) as n");
                support::run(
                    &self.address,
                    &format!("{columns} select {cells} from {numbers}"),
                )
                .await;
                support::run(&self.address, "vacuum analyze delayed_jobs").await;
                support::run(&self.address, "checkpoint").await;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// Not due for long.
    Far,
    /// All due.
    Due,
}

/// What anyone sets who has more than a gigabyte of memory for a server.
const SERVER: &str = "shared_buffers = 1GB\nmax_wal_size = 8GB\n";

/// How many of these jobs a worker does in a second, and the CPU time that this process takes for each.
struct Worked {
    jobs: f64,
    cpu: Duration,
}

/// Works until `jobs` are done or the time is over.
async fn work(
    queue: &Queue,
    name: &str,
    at_once: usize,
    jobs: u64,
    time: Duration,
) -> Outcome<Worked> {
    let worker = queue.worker().concurrency(name, at_once);
    let worker = worker.register(|_: Job<Email>| async { Ok(()) });
    let metrics = worker.metrics();
    let shutdown = CancellationToken::new();
    let (begun, used) = (Instant::now(), cpu_time());
    let running = tokio::spawn(worker.run(shutdown.clone()));
    while metrics.snapshot().done < jobs && begun.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let done = metrics.snapshot().done;
    let worked = Worked {
        jobs: done as f64 / begun.elapsed().as_secs_f64(),
        cpu: (cpu_time() - used) / u32::try_from(done.max(1))?,
    };
    shutdown.cancel();
    running.await??;
    Ok(worked)
}

/// The CPU time of this process so far, in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(0.0)
}

/// What else the machine has to do.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
