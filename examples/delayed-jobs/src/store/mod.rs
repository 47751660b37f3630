//! Stores of jobs: one trait, and one implementation, on SQLite or Postgres.
//!
//! The store is the source of truth. Workers hold hints of what is due soon, and [`Store::claim`] decides
//! what they may run. A claim is a lease: it is renewed while the job runs, and a worker that finds it expired
//! gives the job back. Each claim of a job has its own number, so that a worker that was assumed to be
//! lost cannot end a job that another worker has claimed since.
//!
//! ```text
//! address   reads the address of a database
//! sqlite    a store in one file, with one writer thread that commits in groups; and one in memory, for tests
//! postgres  a store on one database for many machines
//! sql       the code that both databases share
//! ```

mod address;
mod error;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod types;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::job::{JobId, Record};
use crate::limit::Limit;
use crate::time::{Clock, Micros};

pub(crate) use address::Address;
pub use error::StoreError;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, open_postgres};
#[cfg(feature = "postgres")]
pub(crate) use postgres::{enqueue_in as enqueue_in_postgres, finish_in as finish_in_postgres};
#[cfg(feature = "sqlite")]
pub use sqlite::{MemoryStore, open_sqlite};
#[cfg(feature = "sqlite")]
pub(crate) use sqlite::{
    enqueue_in as enqueue_in_sqlite, finish_in as finish_in_sqlite, open as open_sqlite_as,
};
pub use types::{
    After, Asked, Change, Claim, Claimed, Counts, Ended, Enqueued, Filter, Found, Lease, Lot,
    NewJob, OnDuplicate, QueueRow, Reclaimed, ScheduleRow, ScheduleSpec, Search, Slot, Suspects,
    UniqueKey, Verdict, WorkerRow,
};

/// The error for a database that this program was built without.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
pub(crate) fn not_built() -> StoreError {
    StoreError::Address("this program was built without that kind of database: see the features")
}

/// The future that a call of a store returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store that keeps jobs, and decides which worker may run them.
///
/// Each call is atomic, unless it says that it has several steps, and durable once its future has resolved, except in a
/// relaxed queue. Dropping the future does not undo the call.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Returns the clock that all users of this store follow.
    fn clock(&self) -> Clock;

    /// Enqueues jobs, and returns the outcome of each, in the same order. Up to 1,000 jobs without keys are one
    /// atomic step; of more, and of jobs with keys, each batch or job is a step of its own. Nothing is enqueued if one of them
    /// comes after others and would replace another job ([`StoreError::ReplacesAndWaits`]).
    fn enqueue(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Enqueued>>;

    /// Returns at most `limit` pending jobs of a queue that are due after `after` and not after `until`, earliest first.
    /// They are hints: another worker may claim them.
    fn ahead(
        &self,
        queue: &str,
        after: Micros,
        until: Micros,
        limit: usize,
    ) -> Answer<'_, Vec<(Micros, JobId)>>;

    /// Leases due jobs of a queue, by priority and then by time. No other claim gets them until the lease expires. A paused
    /// queue returns no jobs, and no job starts before its time by the clock of the database.
    fn claim(&self, claim: Claim) -> Answer<'_, Lot>;

    /// Ends a claim with its verdict. Returns `false` if the claim is no longer valid.
    ///
    /// If the cancellation of the job was requested, it is cancelled, unless it is done.
    fn finish(&self, ended: Ended) -> Answer<'_, bool>;

    /// Renews leases until `until`, and returns which of them are still held.
    fn renew(&self, leases: Vec<Lease>, until: Micros) -> Answer<'_, Vec<JobId>>;

    /// Returns the leases that a worker has in the store.
    fn held_by(&self, worker: &str) -> Answer<'_, Vec<Lease>>;

    /// Returns the running jobs of a worker whose cancellation was requested.
    fn asked_to_cancel(&self, worker: &str) -> Answer<'_, Vec<JobId>>;

    /// Takes back the leases that have expired at `now`. A job whose cancellation was requested is cancelled. A job that ran
    /// alone and has lost `crashes` workers is dead. The others are pending again, due at once after the first loss and later
    /// after each further one.
    fn reclaim(&self, now: Micros, crashes: u32) -> Answer<'_, Vec<Reclaimed>>;

    /// Returns when the first job of these kinds and queues that has lost `crashes` workers is due.
    fn next_suspect(
        &self,
        queues: &[String],
        kinds: &[String],
        crashes: u32,
    ) -> Answer<'_, Option<(Micros, String)>>;

    /// Records that other jobs run beside a job that was claimed alone, so that it is not dead if its worker is lost from
    /// now on. Returns `false` if the claim is no longer valid.
    fn share(&self, lease: Lease) -> Answer<'_, bool>;

    /// Returns when the next lease of another worker expires.
    fn next_expiry(&self, worker: &str) -> Answer<'_, Option<Micros>>;

    /// Stores the progress of a running job. Returns `false` if the claim is no longer valid.
    fn progress(&self, lease: Lease, percent: u8) -> Answer<'_, bool>;

    /// Cancels a pending job, or requests the cancellation of a running one.
    fn cancel(&self, id: JobId, now: Micros) -> Answer<'_, Asked>;

    /// Makes a dead or cancelled job pending again, due at `now`, with all its attempts. A pending job becomes due at
    /// `now`.
    fn retry(&self, id: JobId, now: Micros) -> Answer<'_, Asked>;

    /// Returns the record of a job.
    fn get(&self, id: JobId) -> Answer<'_, Option<Record>>;

    /// Lists jobs: pending ones by the time when they are due, others latest first.
    fn list(&self, filter: Filter) -> Answer<'_, Vec<Record>>;

    /// Searches the payloads of a limited number of jobs.
    fn search(&self, search: Search) -> Answer<'_, Found>;

    /// Returns the number of jobs that match a filter, up to its limit.
    fn count(&self, filter: Filter) -> Answer<'_, u64>;

    /// Returns the number of jobs in each state.
    fn counts(&self) -> Answer<'_, Counts>;

    /// Lists the queues that hold jobs or are paused.
    fn queues(&self) -> Answer<'_, Vec<QueueRow>>;

    /// Records that a worker is alive, and removes workers that have not done so for too long.
    fn beat(&self, worker: WorkerRow, now: Micros) -> Answer<'_, ()>;

    /// Records that a worker has ended.
    fn leave(&self, worker: &str) -> Answer<'_, ()>;

    /// Lists the workers that are alive, in the order in which they started.
    fn workers(&self, now: Micros) -> Answer<'_, Vec<WorkerRow>>;

    /// Lists the schedules.
    fn schedules(&self) -> Answer<'_, Vec<ScheduleRow>>;

    /// Pauses a queue.
    fn pause(&self, queue: &str) -> Answer<'_, ()>;

    /// Resumes a queue.
    fn resume(&self, queue: &str) -> Answer<'_, ()>;

    /// Sets the limits of a queue over all workers. The empty limit removes them.
    fn set_limit(&self, queue: &str, limit: Limit) -> Answer<'_, ()>;

    /// Lists the queues that have limits.
    fn limits(&self) -> Answer<'_, Vec<(String, Limit)>>;

    /// Sets what a schedule is from now on. If that changes it, its pending jobs are deleted unless they have started before.
    fn declare(&self, schedule: ScheduleSpec) -> Answer<'_, ()>;

    /// Pauses or resumes a schedule, and returns whether there is one of this name. A paused schedule fills no slot, its
    /// pending job is deleted unless it has started before, and slots that pass meanwhile are skipped.
    fn pause_schedule(&self, schedule: &str, paused: bool) -> Answer<'_, bool>;

    /// Creates a job of a schedule that is due at `now`, in addition to that of its next slot. Returns its id and its queue,
    /// or `None` if no worker has declared a schedule of this name.
    fn run_schedule(&self, schedule: &str, now: Micros) -> Answer<'_, Option<(JobId, String)>>;

    /// Returns the slot that a schedule has filled last.
    fn last_slot(&self, schedule: &str) -> Answer<'_, Option<Micros>>;

    /// Creates the job of a slot, unless the slot was filled before, the schedule has changed, or an earlier job of the
    /// schedule has not started or, without overlap, has not ended. Before that it deletes jobs of other slots that were
    /// missed. Returns `true` if this call created the job.
    fn fill_slot(&self, slot: Slot) -> Answer<'_, bool>;

    /// Changes the jobs that match a filter, up to its limit, and returns their ids. The jobs of each state may be a step of
    /// their own. If one fails, those before it stay.
    fn change(&self, change: Change, filter: Filter, now: Micros) -> Answer<'_, Vec<JobId>>;

    /// Returns a handle to the same store that works on another runtime, so that heartbeats continue while handlers block
    /// this one. `None` if the store has no such handle.
    fn apart(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// Returns the schema of the tables, if the database has schemas and one was set.
    fn schema(&self) -> Option<&str> {
        None
    }

    /// Asks the database for its time, if its clock is not that of this machine, and returns by how many microseconds the
    /// clock was set, forward or backward.
    fn set_clock(&self) -> Answer<'_, i64> {
        Box::pin(std::future::ready(Ok(0)))
    }

    /// Returns a number that changes when another program may have changed something. It is a hint, and may be spurious,
    /// late or missing.
    fn changes(&self) -> watch::Receiver<u64>;
}
