//! Helpers for tests of programs with delayed jobs, in memory and on a paused clock.
//!
//! [`drain`] and [`run_for`] work with a database too, where time passes as always.
//!
//! ```
//! # use std::time::Duration;
//! # use delayed_jobs::{Failure, Job, Payload, testkit};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize)]
//! # struct Email { to: String }
//! # impl Payload for Email { const KIND: &'static str = "email"; }
//! # async fn send(job: Job<Email>) -> Result<(), Failure> { Ok(()) }
//! // In a test: #[tokio::test(start_paused = true)]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = testkit::queue();
//! queue.enqueue(Email { to: "ada@example.org".into() }).after(Duration::from_secs(3 * 86_400)).await?;
//!
//! let summary = testkit::drain(queue.worker().register(send)).await?; // three days pass in a second
//! assert_eq!((summary.done, summary.max), (1, 0));
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::job::State;
use crate::metrics::Snapshot;
#[cfg(feature = "sqlite")]
use crate::queue::Queue;
#[cfg(feature = "sqlite")]
use crate::store::MemoryStore;
use crate::store::{Filter, Store, StoreError};
use crate::time::Micros;
use crate::worker::Worker;

/// Creates a queue in memory, on tokio's clock. It is a SQLite database without a file, so it needs the feature `sqlite`.
///
/// # Panics
///
/// If SQLite has no memory for it.
#[cfg(feature = "sqlite")]
pub fn queue() -> Queue {
    Queue::on(Arc::new(MemoryStore::new()))
}

/// Runs a worker until no job is left that it could run, and returns its counts. Then no job of its kinds and queues is
/// pending or running, except in paused queues, and jobs that come after others which it could not run.
///
/// The schedules of the worker are left out, since with them there always is a next job: use [`run_for`] for them.
///
/// # Errors
///
/// Those of the store.
pub async fn drain(worker: Worker) -> Result<Snapshot, StoreError> {
    let store = Arc::clone(&worker.site().store);
    let shutdown = CancellationToken::new();
    let (queues, kinds) = worker.queues_and_kinds();
    let is_in_memory = store.clock().is_tokios();
    let metrics = worker.metrics();
    let drained = async {
        let mut changes = store.changes();
        loop {
            let begun = metrics.snapshot().started;
            let has_work = async || has_work(&*store, &queues, &kinds).await;
            // It asks for one kind and state after the other. A job that has started meanwhile may have changed its state twice,
            // and one that ran before may have enqueued a job of a kind that was asked for first.
            if !(has_work().await? || has_work().await?) {
                if metrics.snapshot().started == begun {
                    break;
                }
                continue;
            }
            match is_in_memory {
                true => changes.changed().await.map_err(|_| StoreError::Closed)?,
                // A database tells only what others have changed.
                false => sleep(Duration::from_millis(20)).await,
            }
        }
        shutdown.cancel();
        Ok(())
    };
    let run = for_test(worker.unscheduled()).run(shutdown.clone());
    let (summary, ()) = tokio::try_join!(run, drained)?;
    Ok(summary)
}

/// Lets time pass fast, where the store tells of each change.
fn for_test(worker: Worker) -> Worker {
    match worker.site().store.clock().is_tokios() {
        true => worker.far_sighted(),
        false => worker,
    }
}

async fn has_work(
    store: &dyn Store,
    queues: &[String],
    kinds: &[String],
) -> Result<bool, StoreError> {
    let rows = store.queues().await?;
    let open = rows
        .iter()
        .filter(|row| row.unfinished > 0 && queues.contains(&row.name));
    for row in open {
        for kind in kinds {
            // A job that starts between the first two steps is seen by the third one.
            for state in [State::Running, State::Pending, State::Running] {
                let filter = Filter {
                    state: Some(state),
                    queue: Some(row.name.clone()),
                    kind: Some(kind.clone()),
                    limit: 1,
                    ..Filter::default()
                };
                let may_run = !row.paused || state == State::Running;
                let first = store.list(filter).await?.into_iter().next();
                // A job that is never due waits for the end of another one.
                if may_run && first.is_some_and(|job| job.run_at < Micros::NEVER) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Runs a worker for this long, and returns its counts.
///
/// # Errors
///
/// Those of the store.
pub async fn run_for(worker: Worker, time: Duration) -> Result<Snapshot, StoreError> {
    let shutdown = CancellationToken::new();
    let stop = async {
        sleep(time).await;
        shutdown.cancel();
        Ok(())
    };
    let (summary, ()) = tokio::try_join!(for_test(worker).run(shutdown.clone()), stop)?;
    Ok(summary)
}
