//! The ends of the tasks of a group.

use crate::common::closing::Report;
use crate::common::error::TaskError;
use crate::common::panic::DiscardEach;
use crate::task::stats::TaskStats;

/// All outcomes so far, each in one of the counts.
pub(super) struct Outcomes<E> {
    /// In order of time, until `wait` returns them; `None` if no `wait` can come.
    pub(super) failures: Option<DiscardEach<Vec<TaskError<E>>>>,
    pub(super) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    finished: u64,
    failed: u64,
    panicked: u64,
    /// Tasks that were aborted, and members that were alive at the end of a grace.
    pub(super) aborted: u64,
    /// Tasks that were aborted and counted as `panicked`, since their destructors panicked.
    aborted_panicked: u64,
    /// Held by the group, and never started.
    pub(super) dropped: u64,
    /// Never held: spawned in a group that had ended.
    pub(super) rejected: u64,
    pub(super) discarded: u64,
    /// Tasks and members that ended by themselves, well or not.
    pub(super) ended: u64,
}

impl Counts {
    pub(crate) fn report_since(&self, before: Counts) -> Report {
        let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        Report {
            finished: count(self.ended, before.ended),
            aborted: count(
                self.aborted + self.aborted_panicked,
                before.aborted + before.aborted_panicked,
            ),
            dropped: count(self.dropped, before.dropped),
        }
    }

    /// The counts, beside what is held.
    pub(super) fn stats(&self, pending: usize, running: usize) -> TaskStats {
        TaskStats {
            pending,
            running,
            finished: self.finished,
            failed: self.failed,
            panicked: self.panicked,
            skipped: self.dropped + self.rejected,
            aborted: self.aborted,
            discarded: self.discarded,
        }
    }
}

impl<E> Outcomes<E> {
    pub(super) fn new() -> Outcomes<E> {
        Outcomes {
            failures: Some(DiscardEach::default()),
            counts: Counts::default(),
        }
    }

    /// Counts the end of a task that ran; the failure of an aborted one is the panic of its destructor. An error that no
    /// `wait` can return is given back, to be dropped after the lock.
    pub(super) fn record(
        &mut self,
        is_aborted: bool,
        failure: Option<TaskError<E>>,
    ) -> Option<TaskError<E>> {
        // For the reports: an aborted task has not ended by itself.
        self.counts.ended += u64::from(!is_aborted);
        match failure {
            Some(failure) => {
                self.counts.aborted_panicked += u64::from(is_aborted);
                return self.fail(failure);
            }
            None if is_aborted => self.counts.aborted += 1,
            None => self.counts.finished += 1,
        }
        None
    }

    /// Counts an error, of a task or a member. It is given back as by `record`.
    pub(super) fn fail(&mut self, error: TaskError<E>) -> Option<TaskError<E>> {
        match error {
            TaskError::Panicked(_) => self.counts.panicked += 1,
            _ => self.counts.failed += 1,
        }
        let Some(failures) = &mut self.failures else {
            return Some(error);
        };
        failures.push(error);
        None
    }
}
