//! How runs end, the counts of that, and the first panic.

use crate::common::closing::Report;
use crate::common::time::Timestamp;
use crate::sched::error::JobPanic;

/// The end of a run.
pub(in crate::sched) enum Ending {
    /// By itself, with the instant at which the job wants to run again, if at all.
    Ran(Option<Timestamp>),
    Panicked(JobPanic),
    /// By an abort, with the panic of the destructor, if it panicked.
    Aborted(Option<JobPanic>),
}

/// How many jobs have ended in each way.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sched) struct Counts {
    pub(in crate::sched) finished: u64,
    pub(in crate::sched) panicked: u64,
    pub(in crate::sched) aborted: u64,
    pub(in crate::sched) dropped: u64,
}

impl Counts {
    /// Returns how many jobs have ended in each way since the counts were `then`.
    pub(in crate::sched) fn report_since(self, then: Counts) -> Report {
        let count = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
        Report {
            finished: count(self.finished + self.panicked, then.finished + then.panicked),
            aborted: count(self.aborted, then.aborted),
            dropped: count(self.dropped, then.dropped),
        }
    }
}

/// The first panic of a job, for `wait` to return.
#[derive(Debug, Default)]
pub(in crate::sched) enum FirstPanic {
    #[default]
    None,
    Kept(JobPanic),
    /// The `Group` was dropped, and no `wait` comes any more.
    Discarded,
}

impl FirstPanic {
    /// Keeps the panic, or returns it if it is not the first or no `wait` can return it any more.
    pub(in crate::sched) fn keep(&mut self, panic: JobPanic) -> Option<JobPanic> {
        if !matches!(self, FirstPanic::None) {
            return Some(panic);
        }
        *self = FirstPanic::Kept(panic);
        None
    }

    pub(super) fn get(&self) -> Option<&JobPanic> {
        match self {
            FirstPanic::Kept(panic) => Some(panic),
            FirstPanic::None | FirstPanic::Discarded => None,
        }
    }

    /// Keeps no panic any more, since the `Group` was dropped. Returns the one that was kept, to be dropped: it may
    /// hold a handle of this group, and would keep the group for ever.
    pub(in crate::sched) fn discard(&mut self) -> Option<JobPanic> {
        match std::mem::replace(self, FirstPanic::Discarded) {
            FirstPanic::Kept(panic) => Some(panic),
            FirstPanic::None | FirstPanic::Discarded => None,
        }
    }
}
