//! How races and retries fail.

use std::error::Error;
use std::fmt;

use crate::ground::error::{TaskError, TaskErrors};
use crate::ground::panic::TaskPanic;

/// Why a race has no winner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RaceError<E> {
    /// There were no tasks.
    Empty,
    /// All tasks failed or panicked: their errors in order of time, so that the last in time is
    /// [`last`](TaskErrors::last).
    AllFailed(TaskErrors<E>),
    /// The token was cancelled before a task had won.
    Cancelled,
}

impl<E> RaceError<E> {
    /// The last error in time, if all tasks failed.
    pub fn last(&self) -> Option<&TaskError<E>> {
        match self {
            RaceError::AllFailed(errors) => Some(errors.last()),
            _ => None,
        }
    }
}

// By hand, like those of `TaskError`: an error that is only text will do.
impl<E: fmt::Display> fmt::Display for RaceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RaceError::Empty => f.write_str("no tasks to race"),
            RaceError::AllFailed(errors) => {
                write!(f, "all tasks failed, at last {}", errors.last())
            }
            RaceError::Cancelled => f.write_str("cancelled before a task had won"),
        }
    }
}

impl<E: Error + 'static> Error for RaceError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last().map(|error| error as _)
    }
}

/// Why a retry gave up, beside the last error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryError<E> {
    /// What ended it.
    pub ended: Ended,
    /// The error of the last attempt that returned one.
    pub last: Option<E>,
    /// How many attempts were begun.
    pub attempts: u32,
}

/// What ended a retry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ended {
    /// That was the last attempt.
    Attempts,
    /// There were no more delays.
    Delays,
    /// [`Verdict::Stop`](super::Verdict::Stop).
    Stopped,
    /// The token, in the middle of an attempt or of a pause, or before the first.
    Cancelled,
    /// The last attempt panicked.
    Panicked(TaskPanic),
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ended {
            Ended::Attempts | Ended::Delays => f.write_str("gave up")?,
            Ended::Stopped => f.write_str("stopped")?,
            Ended::Cancelled => f.write_str("cancelled")?,
            Ended::Panicked(panic) => panic.fmt(f)?,
        }
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, " after {} attempt{plural}", self.attempts)?;
        match &self.last {
            Some(last) => write!(f, ": {last}"),
            None => Ok(()),
        }
    }
}

impl<E: Error + 'static> Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match (&self.ended, &self.last) {
            (Ended::Panicked(panic), _) => Some(panic),
            (_, Some(last)) => Some(last),
            _ => None,
        }
    }
}
