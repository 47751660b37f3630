//! Arguments and results of a store.

use std::time::Duration;

use serde::Serialize;

use crate::job::{JobId, Priority, Record, State};
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
    /// Which of the due jobs go first.
    pub priority: Priority,
    /// When it is due.
    pub run_at: Micros,
    /// When it was handed in.
    pub created_at: Micros,
    /// The maximum number of attempts, if it is not for the handler to say.
    pub attempts: Option<u32>,
    /// How long a run may take, if it is not for the handler to say.
    pub timeout: Option<Duration>,
    /// What the limits for keys are counted by.
    pub limit_key: Option<String>,
    /// The key that no other job may hold.
    pub key: Option<UniqueKey>,
    /// The jobs that it comes after.
    pub after: Option<After>,
}

/// Jobs that another one comes after. One that is not there any more counts as done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Which.
    pub jobs: Vec<JobId>,
    /// Whether they have ended is enough; otherwise the job is cancelled if one of them is not done in the end.
    pub any_end: bool,
}

/// A key, and what happens if another job holds it.
#[derive(Clone, Debug)]
pub struct UniqueKey {
    /// The key. It is unique in the store, over all kinds and queues.
    pub key: String,
    /// What happens if it is taken.
    pub on_duplicate: OnDuplicate,
    /// The states in which a job holds it.
    pub within: UniqueWhile,
    /// The end of the period that it is for, if it is for one: another period is another key.
    pub until: Option<Micros>,
    /// How long replacements may put the job off, counted from when the first one was enqueued.
    pub max_wait: Option<Duration>,
}

/// A rule for a new job whose key another job holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The new one is rejected.
    Reject,
    /// The old one stays as it is, and the new one is dropped.
    Keep,
    /// The new one replaces the old one and gets its id. If the old one has started already, it loses the key to the
    /// new one: a running one continues, concurrently with the new one.
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
    /// It was dropped, for this job has its key.
    Kept(JobId),
    /// It was rejected, for this job has its key.
    Refused(JobId),
}

impl Enqueued {
    /// Returns the id of the job that has the key now, or of the new one.
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
    /// From when on jobs of each priority are looked for, highest first. Earlier ones are left out: claims before have taken
    /// them, and their traces need not be read again. All at [`Micros::EARLIEST`] to leave none out. A claim from a queue with
    /// limits, or with ageing, leaves none out.
    pub from: [Micros; 3],
    /// Which jobs of lost workers are claimed.
    pub suspects: Suspects,
    /// Whether the queue has limits over all workers. Nothing is claimed from one that has some if this is not so.
    pub limited: bool,
    /// How much longer a job may wait until it goes before others of the next higher priority; for ever if there is
    /// no such time.
    pub ageing: Option<Duration>,
}

/// What a claim brings.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Lot {
    /// The jobs, in their order.
    pub jobs: Vec<Claimed>,
    /// When to claim again, if due jobs were left behind for the limits of their queue.
    pub again: Option<Micros>,
}

/// A rule for jobs that were running when their worker was lost, and may have been the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suspects {
    /// Jobs that have lost this many workers are left out.
    Without(u32),
    /// Only jobs that have lost this many workers, at least one, are claimed. The worker holds nothing else
    /// meanwhile: what happens to it is that job's doing.
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
    /// The maximum number of attempts, if the job has its own.
    pub attempts: Option<u32>,
    /// How long a run may take, if the job has its own limit.
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
    /// Whether the end need not be on the disk when it is answered, as with the jobs of a relaxed queue
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
    /// Its queue.
    pub queue: String,
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
    /// Another unfinished job has its key by now.
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
    /// Pending jobs of the schedule for slots before this were missed, and go.
    pub earliest: Micros,
    /// Pending jobs of the schedule for slots after this were made under a clock that was wrong: they go too.
    pub latest: Micros,
    /// Whether the slot is filled although the last run of the schedule has not ended, if it has begun.
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
    /// Only jobs with this key, whether they still hold it or not.
    pub key: Option<String>,
    /// Only jobs that ended before this time, and whose key is not kept beyond it.
    pub ended_before: Option<Micros>,
    /// Only jobs that come after this one in the order of a list: the next page.
    pub after: Option<JobId>,
    /// The maximum number of jobs.
    pub limit: usize,
}

/// A search among the jobs of a filter, in their order.
#[derive(Clone, Debug)]
pub struct Search {
    /// Which jobs. Its limit is the number of those that are found.
    pub filter: Filter,
    /// A text that the first 64 KiB of the payload contain; the empty one is in all.
    pub text: String,
    /// Only jobs that were handed in at this time or later.
    pub since: Micros,
    /// The number of jobs that are looked at, at most, however few are found.
    pub most: usize,
}

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The jobs.
    pub jobs: Vec<Record>,
    /// Where to go on: after this job, unless all were looked at.
    pub next: Option<JobId>,
}

/// A change of many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Pending ones are cancelled, and running ones are to be.
    Cancel,
    /// Dead and cancelled ones are pending again, due at once and with all their attempts; pending ones are due at once
    /// if the filter asks for that state. Of several that would hold one key it is the latest.
    Retry,
    /// All but running ones are deleted.
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

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Whether the queue is paused.
    pub paused: bool,
    /// The number of its jobs that are pending or running.
    pub unfinished: u64,
}

/// A worker that lives, by its own word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerRow {
    /// Its name, which is unique.
    pub name: String,
    /// The name of its machine.
    pub host: String,
    /// Its queues and their concurrency, in words.
    pub queues: String,
    /// When it began.
    pub began_at: Micros,
    /// Until then it is believed to live.
    pub until: Micros,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// What it is: its times, its kind, its queue and its payload, in words.
    pub spec: String,
    /// The slot that it has filled last: its next run, or the last one.
    pub slot: Option<Micros>,
    /// Whether it is paused.
    pub paused: bool,
}
