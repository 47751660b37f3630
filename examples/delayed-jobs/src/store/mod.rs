//! Where jobs are kept: one trait, and three stores that have it.
//!
//! The store is the truth. Workers hold hints of what is due soon, and find out by [`Store::claim`]
//! what they may run. A claim is a lease: it is renewed while the job runs, and whoever finds it expired
//! gives the job back. Each claim of a job has a number of its own, so that a worker that was thought
//! dead cannot end what another one has claimed since.
//!
//! ```text
//! memory    for tests, on tokio's clock
//! sqlite    one file, one writer thread that commits in groups
//! postgres  one database for many machines
//! sql       all that the two databases share
//! ```

mod error;
mod memory;
mod postgres;
mod sql;
mod sqlite;
mod types;

use std::fmt;
use std::pin::Pin;

use tokio::sync::watch;

use crate::job::{JobId, Record};
use crate::time::{Clock, Micros};

pub use error::StoreError;
pub use memory::MemoryStore;
pub(crate) use postgres::enqueue_in as enqueue_in_postgres;
pub use postgres::open_postgres;
pub(crate) use sqlite::enqueue_in as enqueue_in_sqlite;
pub use sqlite::open_sqlite;
pub use types::{
    Asked, Claim, Claimed, Counts, Ended, Enqueued, Filter, Lease, NewJob, OnDuplicate, QueueRow,
    Reclaimed, Slot, UniqueKey, Verdict,
};

/// What a store will answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps jobs, and decides who may run them.
///
/// Each call is one step: it happens whole or not at all, and once it has answered it is there to stay.
/// Dropping an answer does not take the step back.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// The clock that all who use this store go by.
    fn clock(&self) -> Clock;

    /// Takes jobs in, and tells of each what became of it, in the same order. Up to 1,000 jobs without
    /// keys are one step; of more, and of jobs with keys, each lot or job is a step of its own.
    fn enqueue(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Enqueued>>;

    /// The pending jobs of a queue that are due after `after` and not after `until`, earliest first, at
    /// most `limit`. Nothing is promised to the caller: these are hints.
    fn ahead(
        &self,
        queue: &str,
        after: Micros,
        until: Micros,
        limit: usize,
    ) -> Answer<'_, Vec<(Micros, JobId)>>;

    /// Leases due jobs of a queue, by priority and then by time. No other claim gets them while the
    /// lease lives. A paused queue gives none.
    fn claim(&self, claim: Claim) -> Answer<'_, Vec<Claimed>>;

    /// Ends a claim with its verdict. False if the claim counts no more.
    fn finish(&self, ended: Ended) -> Answer<'_, bool>;

    /// Renews leases until `until`, and tells which of them are still held.
    fn renew(&self, leases: Vec<Lease>, until: Micros) -> Answer<'_, Vec<JobId>>;

    /// The running jobs of a worker that somebody has asked to cancel.
    fn asked_to_cancel(&self, worker: &str) -> Answer<'_, Vec<JobId>>;

    /// Takes back the leases that have expired at `now`. A job that has lost its worker `crashes` times
    /// is dead, a job that was to be cancelled is, and the others are pending again.
    fn reclaim(&self, now: Micros, crashes: u32) -> Answer<'_, Vec<Reclaimed>>;

    /// When the next lease of another worker expires.
    fn next_expiry(&self, worker: &str) -> Answer<'_, Option<Micros>>;

    /// Notes how far a running job is. False if the claim counts no more.
    fn progress(&self, lease: Lease, percent: u8) -> Answer<'_, bool>;

    /// Cancels a pending job, or asks for the end of a running one.
    fn cancel(&self, id: JobId, now: Micros) -> Answer<'_, Asked>;

    /// Makes a dead or cancelled job pending again, due at `now`, with all its tries. One that was
    /// pending already becomes due at `now`.
    fn retry(&self, id: JobId, now: Micros) -> Answer<'_, Asked>;

    /// All that is known of a job.
    fn get(&self, id: JobId) -> Answer<'_, Option<Record>>;

    /// Jobs, pending ones by the time when they are due and others latest first.
    fn list(&self, filter: Filter) -> Answer<'_, Vec<Record>>;

    /// How many jobs there are in each state.
    fn counts(&self) -> Answer<'_, Counts>;

    /// The queues that hold jobs or are paused.
    fn queues(&self) -> Answer<'_, Vec<QueueRow>>;

    /// Lets a queue's jobs wait.
    fn pause(&self, queue: &str) -> Answer<'_, ()>;

    /// Lets them go again.
    fn resume(&self, queue: &str) -> Answer<'_, ()>;

    /// Makes the job of a slot, unless somebody did. True if this call did.
    fn fill_slot(&self, slot: Slot) -> Answer<'_, bool>;

    /// Forgets done and cancelled jobs that ended before `before`, at most `limit`, and
    /// tells how many.
    fn prune(&self, before: Micros, limit: usize) -> Answer<'_, u64>;

    /// A number that moves when somebody else may have changed something: a hint, perhaps for nothing,
    /// perhaps late, perhaps never.
    fn changes(&self) -> watch::Receiver<u64>;
}
