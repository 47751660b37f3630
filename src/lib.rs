//! Schedule many delayed jobs on one tokio driver task, and wait for, cancel or shut down all of them together.
//!
//! A [`Group`] is one driver task with one heap of deadlines and one sleep, a port of Go's
//! [schedgroup](https://github.com/mdlayher/schedgroup) by Matt Layher without its lost wake-ups,
//! hanging waits and jobs that kill the process.
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::Group;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), schedgroup::WaitError> {
//! let group = Group::new();
//! for i in 1..=3 {
//!     group.delay(Duration::from_millis(100 * i), async move { println!("{i}") });
//! }
//! group.wait().await // 1, 2, 3
//! # }
//! ```
//!
//! | you want | reach for |
//! |---|---|
//! | a job after a while, or at an instant | [`Group::delay`], [`Group::schedule`] |
//! | its value | [`Group::spawn_after`], [`Group::spawn_at`] |
//! | a job that schedules more, or listens for cancel | [`Group::delay_with`], [`JobContext`] |
//! | a job that comes again | [`Group::repeat`], [`Next`] |
//! | to move, cancel or abort one | [`JobHandle`] |
//! | a limit on how many run | [`Builder::max_running`] |
//! | all of them done | [`Group::wait`] |
//! | all of them done within a time, with a report | [`Group::drain`], [`Report`] |
//! | a graceful end of what runs, with a report | [`Group::shutdown`], [`Report`] |
//! | to schedule from other tasks and threads | [`Handle`] |
//! | at most one pending job per key: sessions, timeouts, debouncing | [`keyed::KeyedGroup`] |
//! | ticks that neither drift nor overlap | [`Group::every`] |
//! | a job or ticks at times of the wall clock or of a calendar | [`Group::at_wall`], [`periodic::WallClock`], [`periodic::at`] |
//! | a group of tasks, at most N at a time, that ends at the first error | [`task::TaskGroup`] |
//! | all results of tasks, the first, the last, a stream of them; retries | [`flow`] |

// Modules:
//
// keyed    jobs under keys, beside the scheduling group
// periodic regular ticks and the wall clock, beside the scheduling group
// sched    the scheduling group: from verbs down to the heap
// task     groups of tasks: a limit, a policy for errors, one end
// flow     sets of tasks and what is made of their results; retries
// ground   what every module above uses: panics, timeline, trace

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod common;
pub mod flow;
pub mod keyed;
pub mod periodic;
mod sched;
pub mod task;

pub use common::error::{TaskError, TaskErrors};
pub use common::panic::{Panic, TaskPanic};
pub use sched::{
    Builder, Drain, Group, Handle, Job, JobContext, JobError, JobHandle, JobId, JobInfo, JobPanic,
    JobState, JoinHandle, Next, Report, ScheduleError, Shutdown, Stats, Wait, WaitError,
};
pub use tokio_util::sync::CancellationToken;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
