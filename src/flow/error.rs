//! The errors of races and retries.

use std::error::Error;
use std::fmt;

use crate::common::closing::StopReason;
use crate::common::error::{TaskError, TaskErrors};

/// The error of a [`race`](super::race()) without a winner, or of a [`take`](super::take()) with too few values.
///
/// In its variants, the number of values wanted is one for a race, and `count` for `take`.
///
/// # Examples
///
/// ```
/// use schedgroup::flow::{self, RaceError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let failing = ["down", "busy"].map(|error| async move { Err::<(), _>(error) });
/// let error = flow::race(failing).limit(1).await.unwrap_err();
/// assert_eq!(error.to_string(), "too many tasks failed, the last was task 1: busy");
/// let RaceError::Failed(errors) = error else { unreachable!() };
/// assert_eq!(errors.len(), 2);
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RaceError<E> {
    /// There were fewer tasks than values wanted, and none of them failed.
    TooFew,
    /// Too many tasks failed or panicked for the number of values wanted; in a race, all of them. It has their errors in
    /// order of completion, so [`last`](TaskErrors::last) is the latest.
    Failed(TaskErrors<E>),
    /// The token was cancelled before there were as many values as wanted.
    Cancelled,
    /// The deadline passed before there were as many values as wanted.
    DeadlineExceeded,
}

impl<E> From<StopReason> for RaceError<E> {
    fn from(stop: StopReason) -> RaceError<E> {
        match stop {
            StopReason::Cancelled => RaceError::Cancelled,
            StopReason::DeadlineExceeded => RaceError::DeadlineExceeded,
        }
    }
}

impl<E> RaceError<E> {
    /// Returns the latest error, if tasks failed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::flow;
    /// # use tokio::time::sleep;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mirrors = [("slow", 200), ("fast", 100)].map(|(mirror, millis)| async move {
    ///     sleep(Duration::from_millis(millis)).await;
    ///     Err::<(), _>(mirror)
    /// });
    /// let error = flow::race(mirrors).await.unwrap_err();
    /// assert_eq!(error.last().and_then(|last| last.error()), Some(&"slow"));
    /// # }
    /// ```
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
                f.write_str("too many tasks failed, the last was ")?;
                errors.last().fmt(f)
            }
            RaceError::Cancelled => f.write_str("cancelled before there were enough values"),
            RaceError::DeadlineExceeded => {
                f.write_str("deadline exceeded before there were enough values")
            }
        }
    }
}

impl<E: Error + 'static> Error for RaceError<E> {
    /// Returns the source of the latest task's error; the error itself is in the text of `Display`.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last()?.source()
    }
}

/// The error of a [`retry`](super::retry()) that gave up, with the reason and the last error.
///
/// Its text includes the last error, and [`source`](Error::source) returns the source of that error. Where every
/// attempt ran into its timeout there is none, and the text says so. It implements [`Error`] if `E` does;
/// [`TaskError`] says what to do otherwise.
///
/// # Examples
///
/// ```
/// use schedgroup::flow::{self, Ended};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = flow::retry(|| async { Err::<(), _>("no route") }).await.unwrap_err();
/// assert_eq!((error.attempts, error.ended, error.last), (3, Ended::Attempts, Some("no route")));
/// assert_eq!(error.to_string(), "gave up after 3 attempts: no route");
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RetryError<E> {
    /// The number of attempts that were started.
    pub attempts: u32,
    /// The reason why it gave up.
    pub ended: Ended,
    /// The error of the last attempt that returned one.
    pub last: Option<E>,
}

/// The reason why a retry ended without a value.
///
/// # Examples
///
/// ```
/// use schedgroup::flow::{self, Ended, Verdict};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let retry = flow::retry(|| async { Err::<(), _>("forbidden") }).when(|_| Verdict::Stop);
/// match retry.await.unwrap_err().ended {
///     Ended::Attempts | Ended::Delays => println!("try again later"),
///     Ended::Stopped => println!("it would not help"),
///     ended => println!("{ended:?}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// As many attempts as allowed were made, and the last one failed.
    Attempts,
    /// The iterator of delays came to its end.
    Delays,
    /// [`when`](super::Retry::when) returned [`Verdict::Stop`](super::Verdict::Stop).
    Stopped,
    /// The token was cancelled; or the job that [`spawn_on`](super::Retry::spawn_on) had created was cancelled,
    /// aborted, dropped or rejected, or it panicked.
    Cancelled,
    /// The deadline passed, or the next pause would have reached it.
    DeadlineExceeded,
}

impl From<StopReason> for Ended {
    fn from(stop: StopReason) -> Ended {
        match stop {
            StopReason::Cancelled => Ended::Cancelled,
            StopReason::DeadlineExceeded => Ended::DeadlineExceeded,
        }
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.ended {
            Ended::Attempts | Ended::Delays => "gave up",
            Ended::Stopped => "stopped",
            Ended::Cancelled => "cancelled",
            Ended::DeadlineExceeded => "deadline exceeded",
        })?;
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, " after {} attempt{plural}", self.attempts)?;
        match &self.last {
            Some(last) => {
                f.write_str(": ")?;
                // With the reader's own flags, as `TaskError` does.
                last.fmt(f)
            }
            // Every attempt has ended and none of them with an error.
            None if matches!(self.ended, Ended::Attempts | Ended::Delays) => {
                f.write_str(": timed out")
            }
            None => Ok(()),
        }
    }
}

impl<E: Error + 'static> Error for RetryError<E> {
    /// Returns the source of the last error; the error itself is in the text of `Display`.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_ref()?.source()
    }
}
