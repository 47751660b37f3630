//! Jobs that note when they run, and a worker beside other work.
#![allow(dead_code, reason = "each test program uses its part of it")]

use std::sync::{Arc, Mutex};

use delayed_jobs::{Job, Payload, Queue, Snapshot, StoreError, Worker};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note(pub(crate) u32);

impl Payload for Note {
    const KIND: &'static str = "note";
}

/// When which attempt of which note began, in milliseconds since the start.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) start: Instant,
    lines: Arc<Mutex<Vec<(u64, u32, u32)>>>,
}

impl Log {
    pub(crate) fn new() -> Log {
        Log {
            start: Instant::now(),
            lines: Arc::default(),
        }
    }

    pub(crate) fn note(&self, job: &Job<Note>) {
        let at = self.start.elapsed().as_millis() as u64;
        let line = (at, job.payload.0, job.attempt());
        self.lines.lock().expect("no panic").push(line);
    }

    pub(crate) fn lines(&self) -> Vec<(u64, u32, u32)> {
        self.lines.lock().expect("no panic").clone()
    }

    pub(crate) fn notes(&self) -> Vec<u32> {
        self.lines().iter().map(|line| line.1).collect()
    }
}

/// A worker that notes what it runs.
pub(crate) fn noting(queue: &Queue, log: &Log) -> Worker {
    let seen = log.clone();
    queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async { Ok(()) }
    })
}

/// Runs a worker beside `work`, and shuts it down afterwards.
pub(crate) async fn beside(worker: Worker, work: impl Future<Output = ()>) -> Snapshot {
    let shutdown = CancellationToken::new();
    let work = async {
        work.await;
        shutdown.cancel();
    };
    let (summary, ()) = tokio::join!(worker.run(shutdown.clone()), work);
    summary.expect("a run")
}

/// A worker on its way, ended by its token.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<Result<Snapshot, StoreError>>,
}

pub(crate) fn spawn(worker: Worker) -> Running {
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(worker.run(shutdown.clone()));
    Running { shutdown, task }
}

impl Running {
    pub(crate) async fn end(self) -> Snapshot {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a run")
    }
}
