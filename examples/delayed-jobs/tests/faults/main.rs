//! Faults that users of such programs met, each as a promise that holds here.
#![forbid(unsafe_code)]

mod clock;
mod ends;
mod files;
mod kills;
mod load;
mod pages;
mod plans;
mod program;
mod relaxed;
mod schedules;
mod servers;
mod steps;
mod tls;
mod watch;
mod wrapped;

#[path = "../support/notes.rs"]
mod notes;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use delayed_jobs::{Job, JobId, Payload, Queue, Record, StoreError, Worker};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use notes::{Log, Note, beside, noting, spawn};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Other(u32);

impl Payload for Other {
    const KIND: &'static str = "other";
}

/// Asserts that `measure` returns less than `most`, in one of three measurements: a busy machine is late now and then,
/// and a fault each time.
async fn assert_below<F: Future<Output = Duration>>(most: Duration, measure: impl Fn() -> F) {
    let mut measured = Vec::new();
    for _ in 0..3 {
        let took = measure().await;
        if took < most {
            return;
        }
        measured.push(took);
    }
    panic!("{measured:?}, not below {most:?}");
}

async fn record(queue: &Queue, id: JobId) -> Record {
    queue.job(id).await.expect("an answer").expect("a job")
}

/// Waits until the job of a note has started. Returns when that was, in milliseconds since the start of the log.
async fn start_of(log: &Log, note: u32) -> u64 {
    let line = || log.lines().into_iter().find(|line| line.1 == note);
    support::until("it has started", || async { line().is_some() }).await;
    line().expect("it has started").0
}

async fn put(queue: &Queue, note: u32) -> JobId {
    queue.enqueue(Note(note)).await.expect("enqueued").id()
}
