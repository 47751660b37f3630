//! Schedule many delayed or repeating jobs on one tokio driver task, move or cancel each of them, and wait for, drain or
//! shut down all of them together.
//!
//! A [`Group`] is one driver task with one heap of deadlines and one sleep: a port of Go's
//! [schedgroup](https://github.com/mdlayher/schedgroup) by Matt Layher, without its lost wake-ups, hanging waits and jobs
//! that end the process.
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
//! # The ten commonest tasks
//!
//! | task | call | more |
//! |---|---|---|
//! | schedule one | [`group.delay(after, job)`](Group::delay), [`group.schedule(at, job)`](Group::schedule) | [`Handle`] from other tasks; [`delay_with`](Group::delay_with) for a job that schedules more |
//! | wait for all | [`group.wait().await`](Group::wait) | [`drain`](Group::drain) with a grace period |
//! | cancel one | [`job.cancel()`](JobHandle::cancel) | [`abort`](JobHandle::abort) stops one that runs |
//! | move one | [`job.reset_after(delay)`](JobHandle::reset_after) | [`reset_at`](JobHandle::reset_at) |
//! | repeat | [`group.every(period).run(job)`](Group::every) | [`repeat`](Group::repeat) where the job says when; [`periodic::at`] for calendars and cron |
//! | one per key, with a value or a job | [`keyed::KeyedGroup`] | sessions, request timeouts, debouncing, batches |
//! | limit how many run | [`Group::builder().max_running(n)`](Builder::max_running) | a slot is held only while a job runs |
//! | shut down | [`group.shutdown(grace).await`](Group::shutdown) | [`Report`]; to end at once, [`cancel`](Group::cancel) or drop the group |
//! | get results | [`group.spawn_after(delay, future)`](Group::spawn_after) | [`JoinHandle`]; of tasks that start at once: `all`, `race`, `map`, `stream` of [`flow`] |
//! | run tasks that can fail | [`task::TaskGroup`] | the first error ends the others; a limit; back pressure; retries: [`flow::retry`](flow::retry()) |
//!
//! # Where jobs run
//!
//! The driver task only keeps the deadlines. Due jobs are run by worker tasks, normally at most as many as the runtime has
//! worker threads, so they run in parallel. No job has a task of its own: one that awaits costs one small
//! allocation, and is polled again by some worker when it is woken. A job that blocks its thread keeps a worker busy, cannot be
//! aborted, and belongs in [`spawn_blocking`](tokio::task::spawn_blocking).
//!
//! A job is `Send + 'static`, as for [`tokio::spawn`]. Its panic ends that job alone, unless the program is built with
//! `panic = "abort"`: then it ends the process.
//!
//! Jobs that end together belong in one group. Each group has a driver task and a timer of its own, so one with many jobs
//! costs less than many with few.
//!
//! # Tests
//!
//! On a paused clock (`#[tokio::test(start_paused = true)]`) a job starts at its deadline, rounded up to a millisecond, and
//! no real time passes.
//!
//! # Tracing
//!
//! With the feature `tracing`, which is on by default, these have the target `schedgroup`:
//!
//! | what | level | name or message | fields |
//! |---|---|---|---|
//! | span of each run of a job, entered for each poll; it has no parent | `DEBUG` | `job` | `group`, `id`, `scheduled_at`, `lateness_us` |
//! | event of a job's panic, or of its destructor's | `ERROR` | `job panicked` | `group`, `id`, `scheduled_at`, `panic` |
//! | event of a task's panic ([`task`], [`flow`]), likewise | `ERROR` | `task panicked` | `group`, `index`, `spawned_at`, `panic` |
//! | event of a [`Group`] that is dropped with pending jobs and was not cancelled | `WARN` | `group dropped: ..` | `group`, `pending`, `running` |
//!
//! `group` is the [name](Builder::name) of the group, empty if it has none, and for tasks of a combinator the combinator's, as
//! `flow::all`. `id` is the number of the [`JobId`], `lateness_us` is in microseconds, `scheduled_at` and `spawned_at` are
//! `file:line:column` of the call, and `panic` is the message. Nothing is formatted or allocated for a span or an event
//! that no subscriber wants.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `tracing` | on | the spans and events above |
//! | `timerfd` | off | [`Builder::timerfd`]: on Linux, jobs start within some tens of microseconds of their deadlines |
//! | `stream` | off | [`flow::Stream`] implements `futures_core::Stream` |

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod common;
pub mod flow;
#[doc(alias = "DelayQueue")]
#[doc(alias = "debounce")]
#[doc(alias = "throttle")]
pub mod keyed;
#[doc(alias = "cron")]
pub mod periodic;
mod sched;
#[doc(alias = "errgroup")]
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
