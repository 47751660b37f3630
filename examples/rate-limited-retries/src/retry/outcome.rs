//! The outcome of an attempt, and that of a chain of them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

/// The outcome of an attempt.
///
/// A `Result` becomes one with `into`: every error is then retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<T, E> {
    /// It succeeded.
    Done(T),
    /// It failed, and may succeed later: after the next of the policy's delays.
    Retry(E),
    /// It failed, and the server set the delay until the next attempt.
    RetryAfter(E, Duration),
    /// It failed for good.
    GiveUp(E),
}

impl<T, E> From<Result<T, E>> for Outcome<T, E> {
    fn from(result: Result<T, E>) -> Outcome<T, E> {
        match result {
            Ok(value) => Outcome::Done(value),
            Err(error) => Outcome::Retry(error),
        }
    }
}

/// The reason why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The last attempt failed for good.
    #[error("the failure is for good")]
    GiveUp,
    /// The maximum number of attempts was made, or the delays have ended.
    #[error("all attempts were used")]
    Exhausted,
    /// The next attempt would have come after the deadline of the whole chain.
    #[error("the time for all attempts is over")]
    TimedOut,
    /// The delay that the server asked for is longer than the maximum.
    #[error("the server asked for a longer delay than the maximum")]
    TooLong {
        /// The instant that the server asked for.
        until: Instant,
    },
    /// Too many of the recent attempts were retries.
    #[error("the budget for retries is spent")]
    Budget,
    /// The circuit of this key is open after failures in a row, or a probe of it is in progress.
    #[error("the circuit is open")]
    CircuitOpen {
        /// The instant at which a probe may be made.
        until: Instant,
    },
    /// The job was cancelled, aborted, dropped with its group, or panicked: its handle has the state.
    #[error("the job ended before it was decided")]
    Stopped,
}

/// The error of a chain that gave up: why, after how many attempts, and the last error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveUp<E> {
    pub(super) reason: Reason,
    pub(super) attempts: u32,
    pub(super) last_error: Option<E>,
}

impl<E> GaveUp<E> {
    /// Returns the reason why there is no further attempt.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the number of attempts that were started.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the error of the last attempt; `None` if none has ended.
    pub fn last_error(&self) -> Option<&E> {
        self.last_error.as_ref()
    }

    /// Converts into the error of the last attempt.
    pub fn into_last_error(self) -> Option<E> {
        self.last_error
    }
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GaveUp {
            reason, attempts, ..
        } = self;
        match &self.last_error {
            Some(error) => write!(
                f,
                "gave up: {reason} (attempts: {attempts}, the last: {error})"
            ),
            None => write!(f, "gave up: {reason} (attempts: {attempts})"),
        }
    }
}

impl<E: Error + 'static> Error for GaveUp<E> {
    /// The source of the last error, which `Display` has printed itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last_error.as_ref()?.source()
    }
}

/// The next step after an attempt; returned by [`Chain::end`](super::Chain::end).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision<T, E> {
    /// Nothing: it succeeded.
    Done(T),
    /// Another attempt at this instant.
    Again(Instant),
    /// Nothing more: it failed.
    GaveUp(GaveUp<E>),
}
