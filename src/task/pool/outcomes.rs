//! The ends of the tasks of a group.

use crate::Report;
use crate::common::error::TaskError;
use crate::common::panic::discard_each;
use crate::task::policy::Cause;
use crate::task::stats::TaskStats;

/// The end of one task.
pub(super) enum End<E> {
    Finished,
    Failed(TaskError<E>),
    Aborted,
}

impl<E> End<E> {
    /// Returns the cause for which the others are to end, if this is a failure.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            End::Failed(error) => Some(Cause::of(error)),
            End::Finished | End::Aborted => None,
        }
    }
}

/// All outcomes so far, each in one of the counts; the failures in order of time.
pub(super) struct Outcomes<E> {
    failures: Vec<TaskError<E>>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    finished: u64,
    failed: u64,
    panicked: u64,
    aborted: u64,
    /// Held by the group, and never started.
    dropped: u64,
    /// Never held: spawned in a group that had ended.
    rejected: u64,
    discarded: u64,
    /// Tasks and members that ended by themselves, well or not.
    ended: u64,
}

impl Counts {
    pub(crate) fn report_since(&self, before: Counts) -> Report {
        let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        Report {
            finished: count(self.ended, before.ended),
            aborted: count(self.aborted, before.aborted),
            dropped: count(self.dropped, before.dropped),
        }
    }
}

impl<E> Outcomes<E> {
    pub(super) fn new() -> Outcomes<E> {
        Outcomes {
            failures: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Counts the end of a task that ran.
    pub(super) fn record(&mut self, end: End<E>) {
        // For the reports: an aborted task has not ended by itself. Members count in the same number when they
        // leave.
        self.counts.ended += u64::from(!matches!(end, End::Aborted));
        match end {
            End::Finished => self.counts.finished += 1,
            End::Failed(error) => self.fail(error),
            End::Aborted => self.counts.aborted += 1,
        }
    }

    /// Counts an error, of a task or a member.
    pub(super) fn fail(&mut self, error: TaskError<E>) {
        match error {
            TaskError::Panicked(_) => self.counts.panicked += 1,
            _ => self.counts.failed += 1,
        }
        self.failures.push(error);
    }

    pub(super) fn member_left(&mut self) {
        self.counts.ended += 1;
    }

    pub(super) fn abort_members(&mut self, count: usize) {
        self.counts.aborted += count as u64;
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.counts.dropped += count as u64;
    }

    pub(super) fn reject(&mut self) {
        self.counts.rejected += 1;
    }

    pub(super) fn discard(&mut self) {
        self.counts.discarded += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The counts, beside what is held.
    pub(super) fn stats(&self, pending: usize, running: usize) -> TaskStats {
        TaskStats {
            pending,
            running,
            finished: self.counts.finished,
            failed: self.counts.failed,
            panicked: self.counts.panicked,
            skipped: self.counts.dropped + self.counts.rejected,
            aborted: self.counts.aborted,
            discarded: self.counts.discarded,
        }
    }

    pub(super) fn take_failures(&mut self) -> Vec<TaskError<E>> {
        std::mem::take(&mut self.failures)
    }
}

/// Errors are the user's values: in one collection the second destructor that panics would end the process.
impl<E> Drop for Outcomes<E> {
    fn drop(&mut self) {
        discard_each(self.take_failures());
    }
}
