//! How races and retries fail.

use std::error::Error;
use std::fmt;

use crate::ground::error::{TaskError, TaskErrors};
use crate::ground::panic::TaskPanic;

/// Why a [`race`](super::race) has no winner, or a [`take`](super::take) fewer values than wanted.
///
/// For a race the number of values wanted is one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RaceError<E> {
    /// There were fewer tasks than values wanted, and none of them failed.
    TooFew,
    /// So many tasks failed or panicked that the values wanted can no longer be had: their errors in
    /// order of time, so that the last in time is [`last`](TaskErrors::last). In a race, all failed.
    Failed(TaskErrors<E>),
    /// The token was cancelled before there were as many values as wanted.
    Cancelled,
}

impl<E> RaceError<E> {
    /// Returns the last error in time, if tasks failed.
    pub fn last(&self) -> Option<&TaskError<E>> {
        match self {
            RaceError::Failed(errors) => Some(errors.last()),
            _ => None,
        }
    }
}

// By hand, like those of `TaskError`: an error that is only text will do.
impl<E: fmt::Display> fmt::Display for RaceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RaceError::TooFew => f.write_str("fewer tasks than values wanted"),
            RaceError::Failed(errors) => {
                write!(f, "too many tasks failed, at last {}", errors.last())
            }
            RaceError::Cancelled => f.write_str("cancelled before there were enough values"),
        }
    }
}

impl<E: Error + 'static> Error for RaceError<E> {
    /// The source of the user's error that was last in time, which `Display` has told itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.last()? {
            TaskError::Failed { error, .. } => error.source(),
            _ => None,
        }
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
    /// The source of the last error, which `Display` has told itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_ref()?.source()
    }
}
