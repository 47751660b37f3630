//! How the tasks of a pool ended, and what a failure does to the others.

use crate::ground::error::TaskError;
use crate::ground::token::{Cause, Token};
use crate::task::policy::{OnError, TaskStats};

/// How one task ended.
pub(super) enum End<E> {
    Well,
    Failed(TaskError<E>),
    Aborted,
}

/// What is to be done after an end, outside of the lock.
#[must_use]
pub(super) struct OnFailure<E> {
    /// What becomes of the others.
    pub(super) others: OnError,
    /// A failure that is not kept, to be dropped.
    pub(super) unwanted: Option<TaskError<E>>,
}

impl<E> OnFailure<E> {
    const NOTHING: OnFailure<E> = OnFailure {
        others: OnError::Continue,
        unwanted: None,
    };
}

/// All outcomes so far, each in one of the counts; the failures in order of time.
pub(super) struct Outcomes<E> {
    /// None: what fails is counted, and not kept.
    on_error: Option<OnError>,
    failures: Vec<TaskError<E>>,
    stats: TaskStats,
}

impl<E> Outcomes<E> {
    pub(super) fn new(on_error: Option<OnError>) -> Outcomes<E> {
        Outcomes {
            on_error,
            failures: Vec::new(),
            stats: TaskStats::default(),
        }
    }

    /// Counts the end of a task that ran. The token hears of a failure before it is cancelled for it.
    pub(super) fn record(&mut self, end: End<E>, token: &Token) -> OnFailure<E> {
        match end {
            End::Well => self.stats.finished += 1,
            End::Aborted => self.stats.aborted += 1,
            End::Failed(error) => return self.fail(error, token),
        }
        OnFailure::NOTHING
    }

    fn fail(&mut self, error: TaskError<E>, token: &Token) -> OnFailure<E> {
        match error {
            TaskError::Panicked { .. } => self.stats.panicked += 1,
            _ => self.stats.failed += 1,
        }
        let Some(others) = self.on_error else {
            return OnFailure {
                unwanted: Some(error),
                ..OnFailure::NOTHING
            };
        };
        if others != OnError::Continue {
            token.explain(Cause::of(&error));
        }
        self.failures.push(error);
        OnFailure {
            others,
            unwanted: None,
        }
    }

    /// So many tasks never started.
    pub(super) fn skip(&mut self, count: usize) {
        self.stats.skipped += count as u64;
    }

    /// A task was not taken in.
    pub(super) fn discard(&mut self) {
        self.stats.discarded += 1;
    }

    pub(super) fn stats(&self) -> TaskStats {
        self.stats
    }

    /// Was a task skipped or aborted?
    pub(super) fn has_lost(&self) -> bool {
        self.stats.skipped + self.stats.aborted > 0
    }

    pub(super) fn take_failures(&mut self) -> Vec<TaskError<E>> {
        std::mem::take(&mut self.failures)
    }
}
