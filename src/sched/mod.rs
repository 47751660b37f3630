// The scheduling group.
//
// One job's way:
//
// ```text
// Group, Handle, JobContext    schedule  misuse is decided here, at the caller's line
//         │
//         ▼  one step under the lock: open? then counted, in a slot, entry in the inbox
//   state: lifecycle, slab, inbox
//         │
//         ▼  its timer is set anew only for an earlier deadline
//   driver: queue (heap, wheel) + one sleep
//         │
//         ▼  due: released in the order of (deadline, submission)
//   state: jobs, ready                   counted against `max_running`
//         │
//         ▼  claimed, up to 32 at a time, into the local queue of a worker
//   worker, local_queue                  start check, then polled with its panic caught
//         │
//         ▼  only if it has to await: until it is woken, then to a worker again
//   awaiting                             the job as its own waker, without a task
//         │
//         ▼  dropped, then counted down
//   state: drained?                      the last one wakes who waits
//         │
//         ▼
//   Wait, Drain, Shutdown
// ```

mod awaiting;
mod builder;
mod cancels;
mod context;
mod driver;
mod dropped_handle;
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
pub use error::{JobError, JobPanic, ScheduleError, WaitError};
pub use group::Group;
pub use handle::{Handle, JobHandle, JoinHandle};
pub use job::{Job, JobId, JobState, Next};
pub(crate) use row_jobs::RowJobs;
pub(crate) use runnable::{JobFuture, RowKey, RowTable, Run, TableId};
pub use stats::{JobInfo, Report, Stats};
pub use wait::{Drain, Shutdown, Wait};
