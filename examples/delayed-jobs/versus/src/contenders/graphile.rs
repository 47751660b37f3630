//! graphile_worker. Tuned, it asks often, takes many jobs at a time into a local queue, and ends many together.

use std::time::Duration;

use chrono::{DateTime, Utc};
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};

use super::{LOT, Outcome, POLL, Settings};
use crate::{Starts, Task};

#[derive(Clone, Serialize, Deserialize)]
struct Number {
    number: u32,
}

impl TaskHandler for Number {
    const IDENTIFIER: &'static str = "number";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let starts = context.get_ext::<Starts>().ok_or("no starts")?;
        starts.note(self.number);
        Ok::<(), &str>(())
    }
}

pub async fn work(task: Task, settings: Settings) -> Outcome {
    let mut options = WorkerOptions::default()
        .database_url(&task.address)
        .concurrency(task.at_once)
        .add_extension(task.starts.clone())
        .define_job::<Number>();
    if settings == Settings::Tuned {
        let together = Duration::from_millis(1);
        options = options
            .poll_interval(POLL)
            .local_queue(LocalQueueConfig::default().with_size(LOT))
            .complete_job_batch_delay(together);
    }
    let worker = options.init().await?;
    let specs = task.times.iter().map(|at| {
        let at = DateTime::<Utc>::from(*at);
        JobSpec::builder().run_at(at).build()
    });
    let specs: Vec<JobSpec> = specs.collect();
    let jobs: Vec<_> = (0..)
        .zip(&specs)
        .map(|(number, spec)| (Number { number }, spec))
        .collect();
    for lot in jobs.chunks(1000) {
        worker.create_utils().add_jobs(lot).await?;
    }
    task.starts.begin();
    worker.run().await?;
    Ok(())
}
