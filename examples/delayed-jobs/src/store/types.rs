//! What goes into a store and what comes out of it.

use serde::Serialize;

use crate::job::{JobId, Priority, State};
use crate::time::Micros;

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
    /// The key that no other unfinished job may have.
    pub key: Option<UniqueKey>,
}

/// A key, and what happens if an unfinished job has it.
#[derive(Clone, Debug)]
pub struct UniqueKey {
    /// The key. It is unique in the store, over all kinds and queues.
    pub key: String,
    /// What happens if it is taken.
    pub on_duplicate: OnDuplicate,
}

/// What happens to a new job whose key an unfinished job has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The new one is refused.
    Reject,
    /// The old one stays as it is, and the new one is dropped.
    Keep,
    /// The new one takes the old one's place and its id. If the old one is running already, it goes on
    /// without the key, beside the new one.
    Replace,
}

/// What became of a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// It is in.
    New(JobId),
    /// It took the place of this pending job.
    Replaced(JobId),
    /// It was dropped, for this job has its key.
    Kept(JobId),
    /// It was refused, for this job has its key.
    Refused(JobId),
}

impl Enqueued {
    /// The job that has the key now, or the new one.
    pub fn id(self) -> JobId {
        match self {
            Enqueued::New(id)
            | Enqueued::Replaced(id)
            | Enqueued::Kept(id)
            | Enqueued::Refused(id) => id,
        }
    }
}

/// Who wants to run how many jobs of which queue.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The worker. No two have the same name.
    pub worker: String,
    /// The queue.
    pub queue: String,
    /// At most so many.
    pub limit: usize,
    /// Jobs due later than this are left alone.
    pub now: Micros,
    /// Until when the leases hold.
    pub lease_until: Micros,
}

/// A job that was leased.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The lease.
    pub lease: Lease,
    /// Which handler it is for.
    pub kind: String,
    /// The payload, as JSON.
    pub payload: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// When it was due.
    pub run_at: Micros,
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
    /// How.
    pub verdict: Verdict,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It did its job.
    Done,
    /// It failed, and is tried again then.
    Retry {
        /// When.
        at: Micros,
        /// Why it failed.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// Why.
        error: String,
    },
    /// It was cancelled.
    Cancelled,
    /// Its worker gave it back: it is due as it was, and this try does not count.
    Released,
}

/// What happened to a job whose worker was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The job.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// Pending, dead or cancelled.
    pub state: State,
}

/// What a request for one job met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// It was done: the job is in this state now. A running job that is to be cancelled is running still.
    Granted(State),
    /// It makes no sense for a job in this state.
    Refused(State),
    /// Another unfinished job has its key by now.
    KeyTaken,
    /// There is no such job.
    Unknown,
}

/// The job of one slot of a schedule.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The schedule's name.
    pub schedule: String,
    /// The time that the slot stands for. There is one job for each, ever.
    pub slot: Micros,
    /// The job.
    pub job: NewJob,
}

/// Which jobs to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Those in this state.
    pub state: Option<State>,
    /// Those in this queue.
    pub queue: Option<String>,
    /// Those of this kind.
    pub kind: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    /// Any job, at most 100.
    fn default() -> Filter {
        Filter {
            state: None,
            queue: None,
            kind: None,
            limit: 100,
        }
    }
}

/// How many jobs there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Waiting for their time.
    pub pending: u64,
    /// Leased.
    pub running: u64,
    /// Done.
    pub done: u64,
    /// Failed for good.
    pub dead: u64,
    /// Cancelled.
    pub cancelled: u64,
}

impl Counts {
    /// Jobs that have not come to an end.
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
    /// Do its jobs wait for a resume?
    pub paused: bool,
    /// How many of its jobs are pending or running.
    pub unfinished: u64,
}
