//! Schedule many delayed or repeating jobs on one tokio driver task, move or cancel each of them, and wait for, drain or
//! shut down all of them together.
//!
//! A [`Group`] keeps all deadlines in one driver task with one queue and one sleep. It is a port of Go's
//! [schedgroup](https://github.com/mdlayher/schedgroup) by Matt Layher. Unlike the original, it loses no wake-up, its
//! `wait` does not hang, and a job that panics does not end the process.
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
//! | wait for all | [`group.wait().await`](Group::wait) | await one: [`spawn_after`](Group::spawn_after) |
//! | cancel one | [`job.cancel()`](JobHandle::cancel) | [`abort`](JobHandle::abort) stops one that runs |
//! | move one | [`job.reset_after(delay)`](JobHandle::reset_after) | [`reset_at`](JobHandle::reset_at) |
//! | repeat | [`group.every(period).run(job)`](Group::every) | [`repeat`](Group::repeat) for a job that decides when it runs next; [`periodic::at`] for calendars and cron |
//! | one per key, with a value or a job | [`keyed::KeyedGroup`] | sessions, request timeouts, debouncing, batches |
//! | limit how many run | [`Group::builder().max_running(n)`](Builder::max_running) | a slot is held only while a job runs |
//! | shut down | [`group.drain(grace).await`](Group::drain), [`group.shutdown(grace).await`](Group::shutdown) | [how a group ends](#how-a-group-ends) |
//! | get results | [`group.spawn_after(delay, future)`](Group::spawn_after) | [`JoinHandle`]; for tasks that start at once: `all`, `race`, `map`, `stream` of [`flow`] |
//! | run tasks that can fail | [`task::TaskGroup`] | the first error ends the others; a limit; back pressure; retries: [`flow::retry`](flow::retry()) |
//!
//! # How a group ends
//!
//! | call | pending jobs | running jobs | new jobs |
//! |---|---|---|---|
//! | [`wait()`](Group::wait) | run when they are due | run to their end | only those of running jobs |
//! | [`drain(grace)`](Group::drain) | run if they are due within the grace; the others are dropped | are aborted when the grace is over | only those of running jobs |
//! | [`shutdown(grace)`](Group::shutdown) | are dropped, except those that are due already | are aborted when the grace is over | none |
//! | [`cancel()`](Group::cancel), or a cancel of its token | are dropped | are not interrupted, but see it through [`JobContext::token`] | none |
//! | [`deadline`](Builder::deadline), [`timeout`](Builder::timeout) | like `cancel` | like `cancel` | none |
//! | drop | are dropped | are aborted at their next await | none |
//! | [`detach()`](Group::detach) | run when they are due | run to their end | those of [`Handle`]s and running jobs |
//!
//! `wait`, `drain` and `shutdown` are futures that resolve when no job is left; `drain` and `shutdown` resolve to a
//! [`Report`]. All three take effect when they are called, not when they are first polled. A repeating job or a retry
//! between two runs is pending, so `shutdown` drops it. `wait` and `drain` end a series of [`every`](Group::every) or
//! [`periodic::at`] after its present run, but let a job of [`repeat`](Group::repeat) run until it returns
//! [`Next::Done`]. After a cancel `wait` resolves at once, and a `shutdown` when the running jobs have ended.
//!
//! # Where jobs run
//!
//! The driver task only keeps the deadlines: in a binary heap, and far ones in a hierarchical timing wheel. Due jobs are
//! run by worker tasks of the group, normally at most as many as the runtime has worker threads, so jobs run in
//! parallel. No job has a task of its own: a job that awaits costs one small allocation, and when it is woken any of the
//! workers polls it again.
//!
//! A job that blocks its thread keeps a worker busy and cannot be aborted. It can also delay the task that the job
//! before it has just woken, such as one that awaits its [`JoinHandle`]: tokio keeps that task for the same thread. Move
//! blocking work to [`spawn_blocking`](tokio::task::spawn_blocking).
//!
//! A job is `Send + 'static`, as for [`tokio::spawn`]. Its panic ends that job alone, unless the program is built with
//! `panic = "abort"`: then it ends the process.
//!
//! Jobs that end together belong in one group. Each group has a driver task and a timer of its own, so one group with
//! many jobs costs less than many groups with few.
//!
//! # Guarantees
//!
//! The page `docs/guarantees.md` of the repository explains what the group guarantees: that no job starts early, that
//! none is lost, in which order jobs start, what a cancel and an end mean, and what is done under a lock. It names the
//! tests of each guarantee.
//!
//! # Tests
//!
//! On a paused clock (`#[tokio::test(start_paused = true)]`) a job starts at its deadline, rounded up to a millisecond,
//! and no real time passes. A test that sleeps until that very instant may resume before the job has run, since both
//! are woken at once: let it sleep a millisecond longer, or wait for the job. `group.wait().await` runs all jobs to
//! their end, and `Instant::now()` is then the instant at which the last one ended.
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::{sync::Arc, time::Duration};
//! use schedgroup::Group;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let group = Group::new();
//! let rang = Arc::new(AtomicBool::new(false));
//! let bell = Arc::clone(&rang);
//! group.delay(Duration::from_secs(60), async move { bell.store(true, Ordering::Relaxed) });
//! tokio::time::sleep(Duration::from_millis(59_999)).await;
//! assert!(!rang.load(Ordering::Relaxed));
//! tokio::time::sleep(Duration::from_millis(2)).await;
//! assert!(rang.load(Ordering::Relaxed));
//! # }
//! ```
//!
//! `tokio::time::advance` moves the clock in one step: all jobs that are due on the way start at its end, series miss
//! ticks, and it may return before a due job has run. A `sleep` stops at each deadline on the way. Jobs by the wall
//! clock need a [`WallClock::new`](periodic::WallClock::new) that follows the paused clock.
//!
//! # Tracing
//!
//! The feature `tracing`, which is on by default, adds these spans and events. Their target is `schedgroup`.
//!
//! | what | level | name or message | fields |
//! |---|---|---|---|
//! | span of each run of a job, entered for each poll; it has no parent | `DEBUG` | `job` | `group`, `id`, `scheduled_at`, `lateness_us` |
//! | event of a job's panic, or of its destructor's | `ERROR` | `job panicked` | `group`, `id`, `scheduled_at`, `panic` |
//! | event of the panic of a task of [`task`] or [`flow`], or of its destructor's | `ERROR` | `task panicked` | `group`, `index`, `spawned_at`, `panic` |
//! | event of a [`Group`] that is dropped with pending jobs and was not cancelled | `WARN` | `group dropped: ..` | `group`, `pending`, `running` |
//!
//! `group` is the [name](Builder::name) of the group, empty if it has none; for tasks of a combinator it is the name of
//! the combinator, such as `flow::all`. `id` is the number of the [`JobId`], `lateness_us` is in microseconds,
//! `scheduled_at` and `spawned_at` are `file:line:column` of the call, and `panic` is the message. A span or an event
//! that no subscriber wants is neither formatted nor allocated.
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

pub use common::closing::Report;
pub use common::error::{TaskError, TaskErrors};
pub use common::panic::{Panic, TaskPanic};
pub use common::schedule_error::ScheduleError;
pub use sched::{
    Builder, Drain, Group, Handle, Job, JobContext, JobError, JobHandle, JobId, JobInfo, JobPanic,
    JobState, JoinHandle, Next, Shutdown, Stats, Wait, WaitError,
};
pub use tokio_util::sync::CancellationToken;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
