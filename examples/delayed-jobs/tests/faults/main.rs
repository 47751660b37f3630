//! Faults that users of such programs met, each as a promise that holds here.
#![forbid(unsafe_code)]

mod clock;
mod ends;
mod files;
mod load;
mod pages;
mod plans;
mod program;
mod schedules;
mod servers;
mod steps;
mod watch;

#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use delayed_jobs::{Job, JobId, Payload, Queue, Record, Snapshot, StoreError, Worker};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note(u32);

impl Payload for Note {
    const KIND: &'static str = "note";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Other(u32);

impl Payload for Other {
    const KIND: &'static str = "other";
}

/// When which try of which note began, in milliseconds since the start.
#[derive(Clone)]
struct Log {
    start: Instant,
    lines: Arc<Mutex<Vec<(u64, u32, u32)>>>,
}

impl Log {
    fn new() -> Log {
        Log {
            start: Instant::now(),
            lines: Arc::default(),
        }
    }

    fn note(&self, job: &Job<Note>) {
        let at = self.start.elapsed().as_millis() as u64;
        let line = (at, job.payload.0, job.attempt());
        self.lines.lock().expect("no panic").push(line);
    }

    fn lines(&self) -> Vec<(u64, u32, u32)> {
        self.lines.lock().expect("no panic").clone()
    }
}

/// A worker that notes what it runs.
fn noting(queue: &Queue, log: &Log) -> Worker {
    let seen = log.clone();
    queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async { Ok(()) }
    })
}

async fn record(queue: &Queue, id: JobId) -> Record {
    queue.job(id).await.expect("an answer").expect("a job")
}

async fn put(queue: &Queue, note: u32) -> JobId {
    queue.enqueue(Note(note)).await.expect("enqueued").id()
}

/// Runs a worker beside `work`, and shuts it down afterwards.
async fn beside(worker: Worker, work: impl Future<Output = ()>) -> Snapshot {
    let shutdown = CancellationToken::new();
    let work = async {
        work.await;
        shutdown.cancel();
    };
    let (summary, ()) = tokio::join!(worker.run(shutdown.clone()), work);
    summary.expect("a run")
}

/// A worker on its way, ended by its token.
struct Running {
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<Snapshot, StoreError>>,
}

fn spawn(worker: Worker) -> Running {
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(worker.run(shutdown.clone()));
    Running { shutdown, task }
}

impl Running {
    async fn end(self) -> Snapshot {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a run")
    }
}
