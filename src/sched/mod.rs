//! The scheduling group.
//!
//! One job's way:
//!
//! ```text
//! Group, Handle, JobContext    verbs     misuse is decided here, at the caller's line
//!         │
//!         ▼  one step under the lock: open? then counted, in a slot, entry in the intake
//!   state: closing + jobs + intake
//!         │
//!         ▼  woken only for an earlier deadline
//!   driver: heap (queue, wheel) + one sleep
//!         │
//!         ▼  due: released in the order of (deadline, submission)
//!   state: jobs, ready                   counted against `max_running`
//!         │
//!         ▼  claimed, up to 32 at a time, into the local queue of a worker
//!   worker, local_queue                  start check, then polled once with its panic caught
//!         │
//!         ▼  only if it has to await
//!   job_task, spare                      a tokio task that is used again
//!         │
//!         ▼  dropped, then counted down
//!   state: drained?                      the last one wakes who waits
//!         │
//!         ▼
//!   Wait, Drain, Shutdown
//! ```
//!
//! Floors, imports go down only:
//!
//! ```text
//! faces    verbs  builder  group  handle  context  wait
//! engines  driver  worker  job_task  run  yield_now
//! joints   state  shared
//! parts    intake  gate  ends  closing  running  local_queue  spare  ready  workers  jobs
//! ground   job  error  stats  wheel  queue  sweep  body  origin  slot  rt  alarm  timerfd
//! ```

mod alarm;
mod body;
mod builder;
mod closing;
mod context;
mod driver;
mod ends;
mod error;
mod gate;
mod group;
mod handle;
mod intake;
mod job;
mod job_task;
mod jobs;
mod local_queue;
mod origin;
mod queue;
mod ready;
mod rt;
mod run;
mod running;
mod shared;
mod slot;
mod spare;
mod state;
mod stats;
mod sweep;
#[cfg(all(feature = "timerfd", target_os = "linux"))]
mod timerfd;
mod verbs;
mod wait;
mod wheel;
mod worker;
mod workers;
mod yield_now;

pub use builder::Builder;
pub use context::JobContext;
pub use error::{JobError, JobPanic, ScheduleError, WaitError};
pub use group::Group;
pub use handle::{Handle, JobHandle, JoinHandle};
pub use job::{Job, JobId, JobState, Next};
pub use stats::{JobInfo, Report, Stats};
pub use wait::{Drain, Shutdown, Wait};
