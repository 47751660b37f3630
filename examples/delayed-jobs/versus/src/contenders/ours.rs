//! Three ways to work the same jobs. Each gets its own file, enqueues, and then runs for good.

use std::time::{Duration, SystemTime};

use apalis::prelude::*;
use apalis_sqlite::{SqlitePool, SqliteStorage};
use delayed_jobs::store::{Claim, Ended, Suspects, Verdict};
use delayed_jobs::{Micros, Payload, Queue};
use serde::{Deserialize, Serialize};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{Starts, Times};

pub type Outcome = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[derive(Serialize, Deserialize)]
struct Number(u32);

impl Payload for Number {
    const KIND: &'static str = "number";
}

async fn enqueue(queue: &Queue, times: &[SystemTime]) -> Outcome {
    let jobs = (0..)
        .zip(times)
        .map(|(number, at)| queue.enqueue(Number(number)).at(*at));
    queue.enqueue_all(jobs).await?;
    Ok(())
}

pub async fn ours(path: String, times: Times, starts: Starts) -> Outcome {
    let queue = Queue::open(&path).await?;
    enqueue(&queue, &times).await?;
    let worker = queue
        .worker()
        .register(move |job: delayed_jobs::Job<Number>| {
            starts.note(job.payload.0);
            async { Ok(()) }
        });
    worker.run(CancellationToken::new()).await?;
    Ok(())
}

/// What most engines do: ask each second for what is due.
pub async fn polling(path: String, times: Times, starts: Starts) -> Outcome {
    let queue = Queue::open(&path).await?;
    enqueue(&queue, &times).await?;
    let store = queue.store();
    let mut poll = interval(Duration::from_secs(1));
    loop {
        poll.tick().await;
        let now = store.clock().now();
        let claim = Claim {
            worker: "polling".to_owned(),
            queue: "default".to_owned(),
            limit: 1000,
            now,
            lease_until: now.after(Duration::from_secs(30)),
            kinds: vec![Number::KIND.to_owned()],
            from: [Micros::EARLIEST; 3],
            suspects: Suspects::Without(2),
            limited: false,
            ageing: None,
        };
        for job in store.claim(claim).await?.jobs {
            let Number(number) = serde_json::from_str(&job.payload)?;
            starts.note(number);
            let (lease, at) = (job.lease, store.clock().now());
            let verdict = Verdict::Done { output: None };
            let ended = Ended {
                lease,
                at,
                verdict,
                relaxed: false,
            };
            store.finish(ended).await?;
        }
    }
}

pub async fn apalis(path: String, times: Times, starts: Starts) -> Outcome {
    let pool = SqlitePool::connect(&format!("sqlite:{path}?mode=rwc")).await?;
    SqliteStorage::setup(&pool).await?;
    let mut backend = SqliteStorage::new(&pool);
    for (number, at) in (0_u32..).zip(times.iter()) {
        let task = TaskBuilder::new(number).run_at_time(*at).build();
        backend.push_task(task).await?;
    }
    let worker = WorkerBuilder::new("worker")
        .backend(backend)
        .build(move |number: u32| {
            starts.note(number);
            async { Ok::<(), BoxDynError>(()) }
        });
    worker.run().await?;
    Ok(())
}
