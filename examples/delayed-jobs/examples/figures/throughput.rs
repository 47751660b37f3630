//! How many jobs a second go in and are worked, and the CPU time of each in this process.

use std::time::{Duration, Instant};

use delayed_jobs::Queue;
use delayed_jobs::store::PostgresOptions;
use tokio::task::JoinSet;

use super::{Kind, Outcome, Place, cpu_time, email, load, work};

const ROWS: [&str; 8] = [
    "enqueued one after the other",
    "enqueued by 64 tasks, one by one each",
    "enqueued 1,000 at a time",
    "enqueued 10,000 at a time",
    "worked, 64 at once",
    "worked, 512 at once",
    "in a relaxed queue: enqueued by 64 tasks",
    "in a relaxed queue: worked, 64 at once",
];

/// The queue whose jobs need not be on the disk.
const RELAXED: &str = "relaxed";

pub(crate) async fn run(kinds: &[Kind]) -> Outcome {
    println!("load {}\n", load());
    println!("| jobs a second, and CPU of each | {kinds:?} |\n|---|---|");
    let mut columns = Vec::new();
    for kind in kinds {
        let Some(place) = Place::new(*kind).await else {
            continue;
        };
        let queue = match kind {
            Kind::Sqlite => place.open().await?,
            Kind::Postgres => {
                let options = PostgresOptions::new(&place.address)?.relaxed_queue(RELAXED);
                Queue::on(options.open().await?)
            }
        };
        let mut column = measure(&queue).await?;
        if *kind == Kind::Postgres {
            let begun = (Instant::now(), cpu_time());
            one_by_one(&queue, RELAXED, Duration::ZERO).await;
            column.push(since(begun, 6400));
            let worked = work(&queue, RELAXED, 64, 6400, Duration::from_secs(60)).await?;
            column.push((worked.jobs, worked.cpu));
        }
        columns.push(column);
    }
    for (at, row) in ROWS.iter().enumerate() {
        let cells = columns.iter().map(|column| {
            let cell = column.get(at);
            let text = cell.map(|(jobs, cpu)| format!(" {jobs:.0}, {} µs |", cpu.as_micros()));
            text.unwrap_or_else(|| " – |".to_owned())
        });
        println!("| {row} |{}", cells.collect::<String>());
    }
    Ok(())
}

async fn measure(queue: &Queue) -> Outcome<Vec<(f64, Duration)>> {
    let far = Duration::from_secs(3600);
    let begun = (Instant::now(), cpu_time());
    for number in 0..500 {
        queue.enqueue(email(number)).after(far).await?;
    }
    let mut rows = vec![since(begun, 500)];

    let begun = (Instant::now(), cpu_time());
    one_by_one(queue, "default", far).await;
    rows.push(since(begun, 6400));

    for lot in [1000, 10_000] {
        let begun = (Instant::now(), cpu_time());
        for _ in 0..60_000 / lot {
            let jobs = (0..lot).map(|number| queue.enqueue(email(number)));
            queue.enqueue_all(jobs).await?;
        }
        rows.push(since(begun, 60_000));
    }

    for at_once in [64, 512] {
        let worked = work(queue, "default", at_once, 20_000, Duration::from_secs(60)).await?;
        rows.push((worked.jobs, worked.cpu));
    }
    Ok(rows)
}

/// Jobs a second, and the CPU time of each.
fn since((begun, used): (Instant, Duration), jobs: u32) -> (f64, Duration) {
    let a_second = f64::from(jobs) / begun.elapsed().as_secs_f64();
    (a_second, (cpu_time() - used) / jobs)
}

/// Enqueues 6,400 jobs by 64 tasks.
async fn one_by_one(queue: &Queue, name: &'static str, after: Duration) {
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for number in 0..100 {
                let job = queue.enqueue(email(task * 100 + number)).queue(name);
                job.after(after).await.expect("enqueued");
            }
        });
    }
    tasks.join_all().await;
}
