//! Runs delayed jobs that survive a crash and start within milliseconds of their time.
//!
//! A job is a payload with a time, and has a handler. It is stored in a SQLite file, or in Postgres for many machines. It
//! runs at its time or after it, at least once, also if the program is killed in between.
//!
//! Most similar packages poll their database, and are late by up to the interval of the poll. Here each worker keeps the
//! jobs of the next ten seconds as hints in a scheduling group of [`schedgroup`], and claims a job when it is due. No job is
//! leased before that, so a crash delays only jobs that were running.
//!
//! | you want | use |
//! |---|---|
//! | to open a store | [`Queue::open`] |
//! | a payload of your own | [`Payload`] |
//! | a job after a delay, at a time, with a priority | [`Queue::enqueue`], [`Enqueue`] |
//! | one job per key, payload or period; debounced ones | [`Enqueue::unique`], [`Unique`] |
//! | to enqueue within your transaction | `in_sqlite`, `in_postgres` of [`Enqueue`] and [`EnqueueAll`] |
//! | a job that comes after others, the callback of a batch | [`Enqueue::after_done`], [`Enqueue::after_ended`] |
//! | many jobs in one call | [`Queue::enqueue_all`] |
//! | to run jobs | [`Queue::worker`], [`Worker`] |
//! | retries, a timeout | [`Handling`], [`Retry`], [`Failure`] |
//! | the number of the attempt, the progress, the output, the cancellation | [`Job`] |
//! | a job that ends with your transaction | `Job::complete_in_sqlite`, `Job::complete_in_postgres` |
//! | jobs at regular times, by cron expressions too | [`Worker::every`], [`Every`] |
//! | to manage jobs | [`Queue::list`], [`Queue::cancel`], [`Queue::retry`], [`Queue::pause`] |
//! | to cancel, retry or delete many jobs | [`Queue::change`], [`Filter`] |
//! | to find jobs by their payloads | [`Queue::search`], [`Search`] |
//! | to pause a schedule, or run it now | [`Queue::pause_schedule`], [`Queue::run_schedule`] |
//! | limits over all workers, also per key; to change the concurrency of running workers | [`Queue::limit`], [`Limit`] |
//! | counts and lateness | [`Metrics`] |
//! | a web page | `page`, with the feature of that name |
//! | tests on a paused clock | [`testkit`] |
//!
//! # Features
//!
//! - `sqlite` (on by default): a store in one file, and one in memory for tests (`testkit::queue`).
//! - `postgres`: a store in a database, for many machines.
//! - `cron`: schedules by cron expressions in time zones.
//! - `page`: a web page, with routes for probes and for Prometheus.
//! - `cli`: the program, with all of these features.

// Modules:
//
// page     the web page to manage jobs
// testkit  helpers for tests of programs that have jobs
// queue    the public API: open a store, manage its jobs, create workers
// enqueue  the settings of a job that is being enqueued
// unique   the rules for unique jobs
// worker   runs the jobs
// handler  the job and the context that a handler gets
// limit    limits of a queue over all workers
// store    stores the jobs
// metrics  lateness and counts
// retry    when a failed job is retried
// job      ids, states, payloads
// time     microseconds, and the clock of a store
// lock     a lock that a panic does not poison

#![forbid(unsafe_code)]

mod enqueue;
mod handler;
mod job;
mod limit;
mod lock;
mod metrics;
#[cfg(feature = "page")]
pub mod page;
mod queue;
mod retry;
pub mod store;
pub mod testkit;
mod time;
mod unique;
mod worker;

pub use enqueue::{Enqueue, EnqueueAll, EnqueueError};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use handler::CompleteError;
pub use handler::Job;
pub use job::{Cursor, DEFAULT_QUEUE, JobId, Payload, Priority, Record, State, TryError};
pub use limit::Limit;
pub use metrics::{Metrics, Snapshot};
pub use queue::{AskError, Queue, ScheduleError};
pub use retry::{Failure, Retry};
pub use store::{
    Change, Counts, Enqueued, Filter, Found, OnDuplicate, QueueRow, ScheduleRow, Search,
    StoreError, WorkerRow,
};
pub use time::{Clock, Micros};
pub use unique::{Unique, UniqueWhile};
#[cfg(feature = "cron")]
pub use worker::CronError;
pub use worker::{Every, Handling, MissedRuns, Recurring, Worker};

#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
