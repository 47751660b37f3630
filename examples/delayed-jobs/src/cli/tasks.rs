//! The handlers of the program itself.

use std::time::Duration;

use delayed_jobs::{Failure, Handling, Job, Payload, Retry, Worker};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::words::say;

/// Prints its payload.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Print(serde_json::Value);

impl Payload for Print {
    const KIND: &'static str = "print";
}

/// One of the jobs of a demo.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Demo {
    /// Which demo: when it began, in microseconds.
    pub(super) batch: i64,
    /// Which job of it, from 0.
    pub(super) number: u32,
    /// The number of jobs in the demo.
    pub(super) of: u32,
}

impl Payload for Demo {
    const KIND: &'static str = "demo";
}

pub(super) fn register(worker: Worker) -> Worker {
    let retry = Retry::exponential(Duration::from_millis(300), Duration::from_secs(2)).attempts(3);
    let handling = Handling::default()
        .retry(retry)
        .timeout(Duration::from_secs(10));
    worker.register(print).register_with(handling, demo)
}

async fn print(job: Job<Print>) -> Result<(), Failure> {
    match &job.payload.0 {
        serde_json::Value::String(text) => say!("job {}: {text}", job.id())?,
        other => say!("job {}: {other}", job.id())?,
    }
    Ok(())
}

/// Runs a job of the demo. Most take some milliseconds. One in ten fails at first, one in a hundred fails for good, and
/// some are slow and report their progress.
async fn demo(job: Job<Demo>) -> Result<(), Failure> {
    let number = job.payload.number;
    sleep(Duration::from_millis(5 + u64::from(number % 7))).await;
    if number % 100 == 99 {
        return Err(Failure::new("the other end never answers"));
    }
    if number % 10 == 3 && job.attempt() == 1 {
        return Err(Failure::new("the other end was busy"));
    }
    if number % 50 == 20 {
        for percent in (10..=100).step_by(10) {
            sleep(Duration::from_millis(200)).await;
            job.progress(percent).await?;
        }
    }
    Ok(())
}
