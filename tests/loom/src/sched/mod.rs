#[path = "../../../../src/sched/awaiting.rs"]
mod awaiting;
#[path = "../../../../src/sched/cancels.rs"]
mod cancels;
#[path = "../../../../src/sched/ended_drops.rs"]
mod ended_drops;
#[path = "../../../../src/sched/error.rs"]
mod error;
#[path = "../../../../src/sched/job.rs"]
mod job;
#[path = "../../../../src/sched/local_queue.rs"]
mod local_queue;
#[path = "../../../../src/sched/queue/mod.rs"]
mod queue;
#[path = "../../../../src/sched/row_jobs.rs"]
mod row_jobs;
#[path = "../../../../src/sched/run.rs"]
mod run;
#[path = "../../../../src/sched/runnable.rs"]
mod runnable;
#[path = "../../../../src/sched/state/mod.rs"]
mod state;
#[path = "../../../../src/sched/stats.rs"]
mod stats;
#[path = "../../../../src/sched/woken.rs"]
mod woken;
#[path = "../../../../src/sched/worker.rs"]
mod worker;

mod handle;
pub(crate) mod models;
mod rt;
mod shared;
pub(crate) mod yield_now;

pub(crate) use cancels::Cancels;
pub(crate) use handle::Handle;
pub(crate) use row_jobs::RowJobs;
pub(crate) use runnable::{JobFuture, RowKey, RowTable, Run, TableId};
