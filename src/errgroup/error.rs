//! What `wait` and `wait_all` say.

use std::error::Error;
use std::fmt;

use crate::ground::panic::TaskPanic;
use crate::ground::pool::{Failure, Fault};

/// Why a group did not end well.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WaitError<E> {
    /// A task returned an error.
    Failed {
        /// What `spawn` returned for the task.
        index: usize,
        /// What the task returned.
        error: E,
    },
    /// A task panicked.
    Panicked {
        /// What `spawn` returned for the task.
        index: usize,
        /// The panic; [`TaskPanic::resume`] goes on with it.
        panic: TaskPanic,
    },
    /// No task failed, but the group was cancelled from outside, so that some may not have run.
    Cancelled,
}

impl<E> WaitError<E> {
    /// What `spawn` returned for the task; none for a cancel.
    pub fn index(&self) -> Option<usize> {
        match self {
            WaitError::Failed { index, .. } | WaitError::Panicked { index, .. } => Some(*index),
            WaitError::Cancelled => None,
        }
    }

    /// The task's own error, if it returned one.
    pub fn into_error(self) -> Option<E> {
        match self {
            WaitError::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl<E> From<Failure<E>> for WaitError<E> {
    fn from(Failure { index, fault }: Failure<E>) -> WaitError<E> {
        match fault {
            Fault::Failed(error) => WaitError::Failed { index, error },
            Fault::Panicked(panic) => WaitError::Panicked { index, panic },
        }
    }
}

// By hand: the derive would take `E` for a source and so ask that all error types be `Error`, also
// where only the text is wanted.
impl<E: fmt::Display> fmt::Display for WaitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Failed { index, error } => write!(f, "task {index} failed: {error}"),
            WaitError::Panicked { index, panic } => write!(f, "task {index}: {panic}"),
            WaitError::Cancelled => f.write_str("the group was cancelled"),
        }
    }
}

impl<E: Error + 'static> Error for WaitError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WaitError::Failed { error, .. } => Some(error),
            WaitError::Panicked { panic, .. } => Some(panic),
            WaitError::Cancelled => None,
        }
    }
}

/// All errors of a group, in order of its tasks; at least one.
#[derive(Clone, Debug)]
pub struct Errors<E> {
    errors: Vec<WaitError<E>>,
}

impl<E> Errors<E> {
    /// `None` for no errors.
    pub(super) fn new(mut errors: Vec<WaitError<E>>) -> Option<Errors<E>> {
        errors.sort_by_key(WaitError::index);
        (!errors.is_empty()).then_some(Errors { errors })
    }

    /// The errors, in order of their tasks.
    pub fn iter(&self) -> std::slice::Iter<'_, WaitError<E>> {
        self.errors.iter()
    }

    /// How many there are; never zero.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.errors.len()
    }
}

impl<E> IntoIterator for Errors<E> {
    type Item = WaitError<E>;
    type IntoIter = std::vec::IntoIter<WaitError<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a Errors<E> {
    type Item = &'a WaitError<E>;
    type IntoIter = std::slice::Iter<'a, WaitError<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<E: fmt::Display> fmt::Display for Errors<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.errors[..] {
            return one.fmt(f);
        }
        write!(f, "{} errors: ", self.errors.len())?;
        for (n, error) in self.errors.iter().enumerate() {
            let between = if n == 0 { "" } else { " | " };
            write!(f, "{between}{error}")?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for Errors<E> {
    /// The first in order of tasks; [`iter`](Errors::iter) has them all.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.errors.first().map(|error| error as _)
    }
}
