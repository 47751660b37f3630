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
//!   state: jobs, places                  counted against `max_running`
//!         │
//!         ▼  start check, then polled with its panic caught
//!   runner                               the job's task, if it has to await
//!         │
//!         ▼  dropped, then counted down
//!   state: drained?                      the last one wakes who waits
//!         │
//!         ▼
//!   Wait, Shutdown
//! ```
//!
//! Floors, imports go down only:
//!
//! ```text
//! faces    verbs  builder  group  handle  context  wait
//! engines  driver  runner  tend
//! joints   state  shared
//! parts    until_wait  intake  gate  ends  closing  places  jobs  waiters
//! ground   job  error  stats  wheel  queue  sweep  body  origin  slot  alarm  timerfd
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
mod jobs;
mod origin;
mod places;
mod queue;
mod runner;
mod shared;
mod slot;
mod state;
mod stats;
mod sweep;
mod tend;
#[cfg(all(feature = "timerfd", target_os = "linux"))]
mod timerfd;
mod until_wait;
mod verbs;
mod wait;
mod waiters;
mod wheel;

pub use builder::Builder;
pub use context::JobContext;
pub use error::{JobError, JobPanic, ScheduleError, WaitError};
pub use group::Group;
pub use handle::{Handle, JobHandle, JoinHandle};
pub use job::{Job, JobId, JobState, Next};
pub use stats::{Report, Stats};
pub use wait::{Shutdown, Wait};
