//! How many jobs a second go in and are worked, and the CPU time of each in this process.

use std::time::{Duration, Instant};

use delayed_jobs::Queue;
use tokio::task::JoinSet;

use super::{Kind, Outcome, Place, cpu_time, email, load, work};

const ROWS: [&str; 5] = [
    "enqueued one after the other",
    "enqueued by 64 tasks, one by one each",
    "enqueued 1,000 at a time",
    "worked, 64 at once",
    "worked, 512 at once",
];

pub(crate) async fn run(kinds: &[Kind]) -> Outcome {
    println!("load {}\n", load());
    println!("| jobs a second, and CPU of each | {kinds:?} |\n|---|---|");
    let mut columns = Vec::new();
    for kind in kinds {
        let Some(place) = Place::new(*kind).await else {
            continue;
        };
        columns.push(measure(&place.open().await?).await?);
    }
    for (at, row) in ROWS.iter().enumerate() {
        let cells = columns.iter().map(|column| {
            let (jobs, cpu) = column[at];
            format!(" {jobs:.0}, {} µs |", cpu.as_micros())
        });
        println!("| {row} |{}", cells.collect::<String>());
    }
    Ok(())
}

async fn measure(queue: &Queue) -> Outcome<Vec<(f64, Duration)>> {
    let far = Duration::from_secs(3600);
    let since = |begun: Instant, used: Duration, jobs: u32| {
        let a_second = f64::from(jobs) / begun.elapsed().as_secs_f64();
        (a_second, (cpu_time() - used) / jobs)
    };
    let (begun, used) = (Instant::now(), cpu_time());
    for number in 0..500 {
        queue.enqueue(email(number)).after(far).await?;
    }
    let mut rows = vec![since(begun, used, 500)];

    let (begun, used) = (Instant::now(), cpu_time());
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for number in 0..100 {
                let job = queue.enqueue(email(task * 100 + number));
                job.after(far).await.expect("enqueued");
            }
        });
    }
    tasks.join_all().await;
    rows.push(since(begun, used, 6400));

    let (begun, used) = (Instant::now(), cpu_time());
    for lot in 0..60 {
        let jobs = (0..1000).map(|number| queue.enqueue(email(lot * 1000 + number)));
        queue.enqueue_all(jobs).await?;
    }
    rows.push(since(begun, used, 60_000));

    for at_once in [64, 512] {
        let worked = work(queue, at_once, 20_000, Duration::from_secs(60)).await?;
        rows.push((worked.jobs, worked.cpu));
    }
    Ok(rows)
}
