//! The errors of tasks.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use super::panic::TaskPanic;

/// The error of a task that has no value, or of a group whose tasks did not all succeed.
///
/// In a group whose tasks return no errors, `Failed` does not occur.
///
/// Its text includes the task's own error, and [`source`](Error::source) returns the source of that error, as
/// [`std::io::Error`] does. So a reporter that walks down the chain prints each text once. To get the task's own error
/// with its type, match on `Failed` or call [`error`](TaskError::error) or [`into_error`](TaskError::into_error). The
/// format `{:#}` is passed on to the task's error.
///
/// It implements [`Error`] if `E` does. `String`, `anyhow::Error` and `Box<dyn Error>` do not, so `?` cannot convert a
/// `TaskError<String>`. Convert its text instead, with `.map_err(|error| format!("{error:#}"))?` to a `Box<dyn Error>`
/// and with `.map_err(|error| anyhow!("{error:#}"))?` to an `anyhow::Error`; or take the task's own error out of it.
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
    /// A task panicked; call [`resume`](crate::Panic::resume) to continue its panic here.
    Panicked(TaskPanic),
    /// The task, or one of the group's tasks, was skipped or aborted, so it did not run to its end.
    Cancelled,
    /// The task, or one of the group's, was skipped or aborted because the deadline passed.
    DeadlineExceeded,
}

impl<E> TaskError<E> {
    /// Returns the task's index; `None` if no task failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// group.spawn(async { Ok(()) });
    /// group.spawn(async { Err("no route") });
    /// let error = group.wait().await.unwrap_err();
    /// assert_eq!(error.index(), Some(1));
    /// # }
    /// ```
    pub fn index(&self) -> Option<usize> {
        match self {
            TaskError::Failed { index, .. } => Some(*index),
            TaskError::Panicked(panic) => Some(panic.index()),
            TaskError::Cancelled | TaskError::DeadlineExceeded => None,
        }
    }

    /// Returns the task's own error, if it returned one.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// group.spawn(async { Err("no route") });
    /// let error = group.wait().await.unwrap_err();
    /// assert_eq!(error.error(), Some(&"no route"));
    /// # }
    /// ```
    pub fn error(&self) -> Option<&E> {
        match self {
            TaskError::Failed { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Converts into the task's own error, if it returned one.
    ///
    /// `None` does not tell a panic from a cancel: where that matters, match on the variants instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use schedgroup::TaskError;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// group.spawn(async { Err(Error::from(ErrorKind::NotFound)) });
    /// match group.wait().await.map_err(TaskError::into_error) {
    ///     Ok(stats) => println!("{} tasks", stats.finished),
    ///     Err(Some(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
    ///     Err(None) => println!("a task panicked, or the group was cancelled"),
    /// }
    /// # }
    /// ```
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
/// The errors of [`wait_all`](crate::task::TaskGroup::wait_all) are in the order of the tasks, those of a race in the
/// order in which they came.
///
/// Its text includes each of them. If there is one error, [`source`](Error::source) is that of the error; if there are
/// several, `source` is `None`, and [`iter`](TaskErrors::iter) returns all of them.
///
/// # Examples
///
/// ```
/// use schedgroup::task::{OnError, TaskGroup};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder().on_error(OnError::Continue).build();
/// for outcome in [Err("no route"), Ok(()), Err("no disk")] {
///     group.spawn(async move { outcome });
/// }
/// let errors = group.wait_all().await.unwrap_err();
/// for error in &errors {
///     println!("{error}"); // task 0: no route, task 2: no disk
/// }
/// assert_eq!(errors.len(), 2);
/// # }
/// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::{OnError, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().on_error(OnError::Continue).build();
    /// for outcome in [Err("no route"), Ok(()), Err("no disk")] {
    ///     group.spawn(async move { outcome });
    /// }
    /// let errors = group.wait_all().await.unwrap_err();
    /// assert!(errors.iter().filter_map(|error| error.error()).eq(&["no route", "no disk"]));
    /// # }
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, TaskError<E>> {
        self.errors.iter()
    }

    /// Returns the last error in their order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::flow::{self, RaceError};
    /// # use tokio::time::sleep;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mirrors = [("slow", 200), ("fast", 100)].map(|(mirror, millis)| async move {
    ///     sleep(Duration::from_millis(millis)).await;
    ///     Err::<(), _>(mirror)
    /// });
    /// if let Err(RaceError::Failed(errors)) = flow::race(mirrors).await {
    ///     assert_eq!(errors.last().error(), Some(&"slow")); // in order of time
    /// }
    /// # }
    /// ```
    pub fn last(&self) -> &TaskError<E> {
        self.errors.last().expect("there is at least one")
    }

    /// Returns the number of errors; never zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::{OnError, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().on_error(OnError::Continue).build();
    /// for outcome in [Err("no route"), Ok(()), Err("no disk")] {
    ///     group.spawn(async move { outcome });
    /// }
    /// let errors = group.wait_all().await.unwrap_err();
    /// assert_eq!(errors.len(), 2);
    /// # }
    /// ```
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
