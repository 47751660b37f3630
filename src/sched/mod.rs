// The scheduling group. CONTRIBUTING.md lists what each file holds.
//
// The way of one job:
//
// ```text
// Group, Handle, JobContext    schedule  misuse is decided here, at the caller's line
//         │
//         ▼  admission, one step under the lock: if the group is open, the job gets a slot and an entry in the inbox
//   state: lifecycle, slab, inbox
//         │
//         ▼  the driver is woken, or its timer set anew, only for an earlier deadline
//   driver: queue (heap, timing wheel) and one sleep
//         │
//         ▼  due: released in the order of (deadline, submission)
//   state: jobs, ready                   wait for a slot of `max_running`
//         │
//         ▼  a worker claims up to 32 jobs at a time into its local queue
//   worker, local_queue                  start check, then the first poll, with its panic caught
//         │
//         ▼  only a job that has to await: it is its own waker, without a task, and a worker polls it when it is woken
//   awaiting, woken
//         │
//         ▼  its values are dropped, then it is no longer counted
//   state: drained?                      the last job wakes the tasks that wait
//         │
//         ▼
//   Wait, Drain, Shutdown
// ```

mod awaiting;
mod builder;
mod cancels;
mod context;
mod context_jobs;
mod driver;
mod dropped_handle;
mod ended_drops;
mod error;
mod group;
mod handle;
mod job;
mod local_queue;
mod queue;
mod row_jobs;
mod rt;
mod run;
mod runnable;
mod schedule;
mod shared;
mod state;
mod stats;
mod timer;
#[cfg(all(feature = "timerfd", target_os = "linux"))]
mod timerfd;
mod wait;
mod woken;
mod worker;
mod yield_now;

pub use builder::Builder;
pub(crate) use cancels::Cancels;
pub use context::JobContext;
pub use error::{JobError, JobPanic, WaitError};
pub use group::Group;
pub use handle::{Handle, JobHandle, JoinHandle};
pub use job::{Job, JobId, JobState, Next};
pub(crate) use row_jobs::RowJobs;
pub(crate) use runnable::{JobFuture, RowKey, RowTable, Run, TableId};
pub(crate) use state::Rejected;
pub use stats::{JobInfo, Stats};
pub use wait::{Drain, Shutdown, Wait};
