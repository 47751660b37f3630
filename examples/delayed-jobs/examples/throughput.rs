//! How many jobs a second go in and are worked, on both stores.
//!
//! ```sh
//! cargo run --release -p delayed-jobs --example throughput
//! ```
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::time::{Duration, Instant};

use delayed_jobs::{Job, Payload, Queue};
use serde::{Deserialize, Serialize};
use support::{Disk, Postgres};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
async fn main() -> Result<(), Box<dyn Error>> {
    println!("| jobs a second | SQLite | Postgres |\n|---|---|---|");
    let (_dir, path) = support::sqlite();
    let sqlite = measure(&Queue::open(&path).await?).await?;
    let postgres = match Postgres::start(Disk::Waited) {
        Some(server) => measure(&Queue::open(&server.database().await).await?).await?,
        None => [0.0; 4],
    };
    let rows = [
        "enqueued one after the other",
        "enqueued by 64 tasks, one by one each",
        "enqueued 1,000 at a time",
        "worked, 64 at once",
    ];
    for (row, (sqlite, postgres)) in rows.iter().zip(sqlite.iter().zip(postgres)) {
        println!("| {row} | {sqlite:.0} | {postgres:.0} |");
    }
    Ok(())
}

async fn measure(queue: &Queue) -> Result<[f64; 4], Box<dyn Error>> {
    let far = Duration::from_secs(3600);
    let begun = Instant::now();
    for number in 0..500 {
        queue.enqueue(email(number)).after(far).await?;
    }
    let one_by_one = 500.0 / begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for number in 0..100 {
                queue
                    .enqueue(email(task * 100 + number))
                    .after(far)
                    .await
                    .expect("enqueued");
            }
        });
    }
    tasks.join_all().await;
    let by_many = 6400.0 / begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    for lot in 0..20 {
        let jobs = (0..1000).map(|number| queue.enqueue(email(lot * 1000 + number)));
        queue.enqueue_all(jobs).await?;
    }
    let in_lots = 20_000.0 / begun.elapsed().as_secs_f64();

    let worker = queue.worker().concurrency("default", 64);
    let worker = worker.register(|_: Job<Email>| async { Ok(()) });
    let metrics = worker.metrics();
    let shutdown = CancellationToken::new();
    let begun = Instant::now();
    let running = tokio::spawn(worker.run(shutdown.clone()));
    while metrics.snapshot().done < 20_000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let worked = 20_000.0 / begun.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await??;
    Ok([one_by_one, by_many, in_lots, worked])
}
