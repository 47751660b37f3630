//! How tasks fail.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use super::panic::TaskPanic;

/// The error of a task that has no value, or of a group whose tasks did not all succeed.
///
/// Where tasks return no errors of their own, only the other variants occur.
///
/// Its text includes the task's own error, and [`source`](Error::source) continues with that error's source, as that
/// of [`std::io::Error`] does: a reporter that walks down the chain prints each text once. The task's error itself is
/// returned, with its type, by [`error`](TaskError::error) or [`into_error`](TaskError::into_error). An error that shows
/// its causes with `{:#}` is printed so by `{:#}`.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use std::io;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::new();
/// group.spawn(async { Err(io::Error::new(io::ErrorKind::NotFound, "no route")) });
/// let error = group.wait().await.unwrap_err();
/// assert_eq!(error.to_string(), "task 0: no route");
/// assert!(error.source().is_none());
/// assert_eq!(error.error().map(io::Error::kind), Some(io::ErrorKind::NotFound));
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TaskError<E = Infallible> {
    /// A task returned an error.
    Failed {
        /// The task's index, from zero, in the order in which the tasks were handed in.
        index: usize,
        /// What the task returned.
        error: E,
    },
    /// A task panicked; [`resume`](crate::Panic::resume) continues its panic.
    Panicked(TaskPanic),
    /// The task did not run to its end, or one of the group's did not: it was skipped or aborted.
    Cancelled,
    /// The same, and what ended it was the deadline.
    DeadlineExceeded,
}

impl<E> TaskError<E> {
    /// Returns the task's index; `None` if no task failed.
    pub fn index(&self) -> Option<usize> {
        match self {
            TaskError::Failed { index, .. } => Some(*index),
            TaskError::Panicked(panic) => Some(panic.index()),
            TaskError::Cancelled | TaskError::DeadlineExceeded => None,
        }
    }

    /// Returns the task's own error, if it returned one.
    pub fn error(&self) -> Option<&E> {
        match self {
            TaskError::Failed { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Converts into the task's own error, if it returned one.
    pub fn into_error(self) -> Option<E> {
        match self {
            TaskError::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}

// By hand: the derive would take `E` for a source and so ask that all error types be `Error`, also
// where only the text is wanted.
impl<E: fmt::Display> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Failed { index, error } => {
                write!(f, "task {index}: ")?;
                // With the reader's own flags: `{:#}` may ask it for its causes.
                error.fmt(f)
            }
            TaskError::Panicked(panic) => panic.fmt(f),
            TaskError::Cancelled => f.write_str("cancelled before the end"),
            TaskError::DeadlineExceeded => f.write_str("deadline passed before the end"),
        }
    }
}

impl<E: Error + 'static> Error for TaskError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TaskError::Failed { error, .. } => error.source(),
            // Its text is in the line above, and it has no source of its own.
            _ => None,
        }
    }
}

/// The errors of a group's tasks, at least one.
///
/// Those of [`wait_all`](crate::task::TaskGroup::wait_all) are in order of the tasks, those of
/// a race in order of time.
///
/// Its text includes each of them. One alone has its own [`source`](Error::source); several have no single one:
/// [`iter`](TaskErrors::iter) has them all.
#[derive(Clone, Debug)]
pub struct TaskErrors<E> {
    errors: Vec<TaskError<E>>,
}

impl<E> TaskErrors<E> {
    /// `None` for no errors.
    pub(crate) fn new(errors: Vec<TaskError<E>>) -> Option<TaskErrors<E>> {
        (!errors.is_empty()).then_some(TaskErrors { errors })
    }

    /// Returns an iterator over the errors, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, TaskError<E>> {
        self.errors.iter()
    }

    /// Returns the last error in their order.
    pub fn last(&self) -> &TaskError<E> {
        self.errors.last().expect("there is at least one")
    }

    /// Returns the number of errors; never zero.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.errors.len()
    }
}

impl<E> IntoIterator for TaskErrors<E> {
    type Item = TaskError<E>;
    type IntoIter = std::vec::IntoIter<TaskError<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a TaskErrors<E> {
    type Item = &'a TaskError<E>;
    type IntoIter = std::slice::Iter<'a, TaskError<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<E: fmt::Display> fmt::Display for TaskErrors<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.errors[..] {
            return one.fmt(f);
        }
        write!(f, "{} errors: ", self.errors.len())?;
        for (n, error) in self.errors.iter().enumerate() {
            let between = if n == 0 { "" } else { " | " };
            f.write_str(between)?;
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for TaskErrors<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.errors[..] {
            [one] => one.source(),
            _ => None,
        }
    }
}
