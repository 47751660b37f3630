//! Arguments and results of a store.

use std::time::Duration;

use serde::Serialize;

use crate::job::{Cursor, JobId, Priority, Record, State};
use crate::time::Micros;
use crate::unique::UniqueWhile;

/// A job on its way into a store.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Which handler it is for.
    pub kind: String,
    /// The queue it goes to.
    pub queue: String,
    /// The payload, as JSON.
    pub payload: String,
    /// The priority among due jobs.
    pub priority: Priority,
    /// When it is due.
    pub run_at: Micros,
    /// When it was enqueued.
    pub created_at: Micros,
    /// The maximum number of attempts, if it is not that of the handler.
    pub attempts: Option<u32>,
    /// The timeout of a run, if it is not that of the handler.
    pub timeout: Option<Duration>,
    /// The key by which the limits per key count it.
    pub limit_key: Option<String>,
    /// The unique key.
    pub key: Option<UniqueKey>,
    /// The jobs that it comes after. Then its key must not replace another job.
    pub after: Option<After>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl NewJob {
    pub(super) fn replaces(&self) -> bool {
        let key = self.key.as_ref();
        key.is_some_and(|key| key.on_duplicate == OnDuplicate::Replace)
    }
}

/// Jobs that another job comes after. A job that was deleted before, or is not there yet, counts as done, and no job waits
/// for one with a higher id than its own. A job that would come after itself, or replace another one
/// ([`OnDuplicate::Replace`]), is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Their ids.
    pub jobs: Vec<JobId>,
    /// Whether any end of them will do. Otherwise the job is cancelled if one of them is not done in the end, or is
    /// deleted while it is pending.
    pub any_end: bool,
}

/// A unique key, and the rule for duplicates.
#[derive(Clone, Debug)]
pub struct UniqueKey {
    /// The key. It is unique in the store, over all kinds and queues.
    pub key: String,
    /// The rule for a second job with this key.
    pub on_duplicate: OnDuplicate,
    /// The states in which a job has it.
    pub within: UniqueWhile,
    /// The end of its period, if it has one. In another period the key is another one.
    pub until: Option<Micros>,
    /// The maximum time by which replacements may postpone the job, from when the first one was enqueued.
    pub max_wait: Option<Duration>,
}

/// A rule for a new job whose key another job already has.
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The new one is rejected.
    Reject,
    /// The old one stays as it is, and the new one is dropped.
    Keep,
    /// The new one replaces the old one and gets its id. If the old one is not pending, it loses the key to the new one: a
    /// running one continues, concurrently with the new one.
    Replace,
}

/// The outcome of enqueueing a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// It was enqueued.
    New(JobId),
    /// It replaced this pending job.
    Replaced(JobId),
    /// It was dropped, since this job has its key.
    Kept(JobId),
    /// It was rejected, since this job has its key.
    Refused(JobId),
}

impl Enqueued {
    /// Returns the id of the job that now has the key, or of the new job.
    pub fn id(self) -> JobId {
        match self {
            Enqueued::New(id)
            | Enqueued::Replaced(id)
            | Enqueued::Kept(id)
            | Enqueued::Refused(id) => id,
        }
    }
}

/// A request of a worker for due jobs of a queue.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The name of the worker, which is unique.
    pub worker: String,
    /// The queue.
    pub queue: String,
    /// The maximum number of jobs.
    pub limit: usize,
    /// The current time: jobs due later are not claimed.
    pub now: Micros,
    /// When the leases expire.
    pub lease_until: Micros,
    /// The kinds that the worker has handlers for; no other job is claimed.
    pub kinds: Vec<String>,
    /// The times from which on jobs of each priority are searched, highest priority first. Jobs of earlier times are left
    /// out: earlier claims have taken them, and their index entries need not be read again. With [`Micros::EARLIEST`] no job
    /// is left out. A claim from a queue with limits, or with ageing, leaves none out.
    pub from: [Micros; 3],
    /// Which jobs of lost workers are claimed.
    pub suspects: Suspects,
    /// Whether the queue has limits over all workers. If it has and this is `false`, nothing is claimed.
    pub limited: bool,
    /// The time after which a waiting job goes before jobs of the next higher priority that are due later. Without it
    /// priorities do not age.
    pub ageing: Option<Duration>,
}

/// The result of a claim.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Lot {
    /// The jobs, in their order.
    pub jobs: Vec<Claimed>,
    /// When to claim again, if due jobs were left because of the limits of their queue.
    pub again: Option<Micros>,
}

/// A rule for jobs that ran when their worker was lost, and that may be the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suspects {
    /// Jobs that have lost this many workers are left out.
    Without(u32),
    /// Only jobs that have lost this many workers, at least one, are claimed. The worker has no other job meanwhile, so
    /// if it is lost, that job is the reason.
    Alone(u32),
}

/// A job that was leased.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The lease.
    pub lease: Lease,
    /// Its priority.
    pub priority: Priority,
    /// Which handler it is for.
    pub kind: String,
    /// The payload, as JSON.
    pub payload: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// When it was due.
    pub run_at: Micros,
    /// The maximum number of attempts, if the job was enqueued with one.
    pub attempts: Option<u32>,
    /// The timeout of a run, if the job was enqueued with one.
    pub timeout: Option<Duration>,
    /// Whether its queue is a relaxed one; see [`Ended::relaxed`].
    pub relaxed: bool,
}

/// One claim of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub id: JobId,
    /// The number of the claim.
    pub claim: i64,
}

/// The end of a claim.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The claim.
    pub lease: Lease,
    /// When it ended.
    pub at: Micros,
    /// How it ended.
    pub verdict: Verdict,
    /// Whether the end may be confirmed before it is on disk, as for the jobs of a relaxed queue
    /// (`PostgresOptions::relaxed_queue`).
    pub relaxed: bool,
}

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It succeeded.
    Done {
        /// What it has brought forth, as JSON.
        output: Option<String>,
    },
    /// It failed, and is retried.
    Retry {
        /// When it is retried.
        at: Micros,
        /// Its error.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// Its error.
        error: String,
    },
    /// It was cancelled.
    Cancelled,
    /// It is to run again at another time, and this attempt does not count.
    Snoozed {
        /// When it runs again.
        at: Micros,
    },
    /// Its worker gave it back: it is due as it was, and this attempt does not count.
    Released,
}

/// A job whose lease was taken back because its worker was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The job.
    pub id: JobId,
    /// Its state now: pending, dead or cancelled.
    pub state: State,
}

/// The outcome of a request for one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// It was done: the job is in this state now. A running job that is to be cancelled is running still.
    Granted(State),
    /// It does not apply to a job in this state.
    Refused(State),
    /// Another job has its key by now.
    KeyTaken,
    /// There is no such job.
    Unknown,
}

/// What a schedule is: another value under the same name is a change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSpec {
    /// The schedule's name.
    pub name: String,
    /// Its period, its payload and all else that makes it what it is, as a text.
    pub spec: String,
    /// Which handler its jobs are for.
    pub kind: String,
    /// The queue of its jobs.
    pub queue: String,
    /// Their payload, as JSON.
    pub payload: String,
}

/// The job of one slot of a schedule.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The schedule's name.
    pub schedule: String,
    /// What the schedule is; a slot of a schedule that has changed since is not filled.
    pub spec: String,
    /// The time that the slot stands for. There is one job for each, ever.
    pub slot: Micros,
    /// Pending jobs of the schedule for slots before this were missed, and are deleted unless they have started before.
    pub earliest: Micros,
    /// Pending jobs of the schedule for slots after this were made under a clock that was wrong, and are deleted, too.
    pub latest: Micros,
    /// Whether the slot is filled although a job of the schedule that has started has not ended: it runs, or it waits for
    /// its next attempt.
    pub overlap: bool,
    /// The job.
    pub job: NewJob,
}

/// A filter for jobs: those to list, or to change together.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only this job.
    pub id: Option<JobId>,
    /// Only jobs in this state.
    pub state: Option<State>,
    /// Only jobs in this queue.
    pub queue: Option<String>,
    /// Only jobs of this kind.
    pub kind: Option<String>,
    /// Only jobs with this key, also if they no longer have it.
    pub key: Option<String>,
    /// Only jobs that ended before this time. For one that is unique per period, that period ended before it, too.
    pub ended_before: Option<Micros>,
    /// Only jobs that come after this place in a list, for the next page: that of the last job of a page
    /// ([`Record::cursor`]), or of a search ([`Found::next`]).
    pub after: Option<Cursor>,
    /// The maximum number of jobs.
    pub limit: usize,
    /// The maximum length of payloads and outputs, in characters: longer ones are returned cut. Without it they are whole.
    pub longest: Option<usize>,
}

/// A search in the jobs that match a filter, in their order.
#[derive(Clone, Debug)]
pub struct Search {
    /// The jobs to search. The limit of the filter is the maximum number of jobs that are found, and at least one.
    pub filter: Filter,
    /// The text to find in the first 65,536 characters of the payload. The empty text is in all of them.
    pub text: String,
    /// Only jobs that were enqueued at this time or later.
    pub since: Micros,
    /// The maximum number of jobs that are read, however few are found. At least one is read.
    pub most: usize,
}

/// The result of a search.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The jobs.
    pub jobs: Vec<Record>,
    /// The place after which the search continues; `None` if all were read.
    pub next: Option<Cursor>,
}

/// A change of many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Pending jobs are cancelled, and the cancellation of running ones is requested.
    Cancel,
    /// Dead and cancelled jobs are pending again, due at once and with all their attempts. Pending jobs become due at once
    /// if the filter asks for that state. Of several jobs with the same key only the latest is retried, and none if that one
    /// is not dead or cancelled, or if another one has the key. Jobs that have lost their keys are all retried, without them.
    Retry,
    /// All jobs except running ones are deleted.
    Delete,
}

impl Default for Filter {
    /// Returns a filter for any job, at most 100.
    fn default() -> Filter {
        Filter {
            id: None,
            state: None,
            queue: None,
            kind: None,
            key: None,
            ended_before: None,
            after: None,
            limit: 100,
            longest: None,
        }
    }
}

/// The number of jobs in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Jobs that wait until they are due.
    pub pending: u64,
    /// Jobs that are leased.
    pub running: u64,
    /// Jobs that are done.
    pub done: u64,
    /// Jobs that failed for good.
    pub dead: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
}

impl Counts {
    /// Returns the number of jobs that have not ended.
    pub fn unfinished(&self) -> u64 {
        self.pending + self.running
    }

    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "page"))]
    pub(crate) fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Pending => &mut self.pending,
            State::Running => &mut self.running,
            State::Done => &mut self.done,
            State::Dead => &mut self.dead,
            State::Cancelled => &mut self.cancelled,
        }
    }
}

/// A queue of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Whether the queue is paused.
    pub paused: bool,
    /// The number of its jobs that are pending or running.
    pub unfinished: u64,
}

/// A worker that has reported that it is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerRow {
    /// Its name, which is unique.
    pub name: String,
    /// The name of its machine.
    pub host: String,
    /// Its queues and their concurrency, in words.
    pub queues: String,
    /// When it started.
    pub began_at: Micros,
    /// Until when it counts as alive.
    pub until: Micros,
}

/// A schedule that a worker has declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// Its times, its kind, its queue and its payload, in words.
    pub spec: String,
    /// The time of its latest job: of its next run, or of the last one.
    pub slot: Option<Micros>,
    /// Whether it is paused.
    pub paused: bool,
}
