//! This package, and a worker on its store that does what most engines do: it asks each second for what is due.

use std::time::{Duration, SystemTime};

use delayed_jobs::store::{Claim, Ended, Suspects, Verdict};
use delayed_jobs::{Job, Micros, Payload, Queue};
use serde::{Deserialize, Serialize};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use crate::Task;

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

pub async fn work(task: Task) -> Outcome {
    let queue = Queue::open(&task.address).await?;
    enqueue(&queue, &task.times).await?;
    let starts = task.starts;
    let worker = queue.worker().concurrency("default", task.at_once);
    starts.begin();
    let worker = worker.register(move |job: Job<Number>| {
        starts.note(job.payload.0);
        async { Ok(()) }
    });
    worker.run(CancellationToken::new()).await?;
    Ok(())
}

pub async fn poll(task: Task) -> Outcome {
    let queue = Queue::open(&task.address).await?;
    enqueue(&queue, &task.times).await?;
    let store = queue.store();
    let mut poll = interval(Duration::from_secs(1));
    task.starts.begin();
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
            task.starts.note(number);
            let ended = Ended {
                lease: job.lease,
                at: store.clock().now(),
                verdict: Verdict::Done { output: None },
                relaxed: false,
            };
            store.finish(ended).await?;
        }
    }
}
