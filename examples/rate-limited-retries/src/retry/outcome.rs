//! What an attempt says, and what comes of a chain of them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

/// What an attempt says of itself.
///
/// A `Result` becomes one with `into`: every error is then worth another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<T, E> {
    /// It succeeded.
    Done(T),
    /// It failed, and may succeed later: after the next of the policy's delays.
    Retry(E),
    /// It failed, and was told when to come again: neither sooner nor later.
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

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The last attempt failed for good.
    #[error("the failure is for good")]
    GiveUp,
    /// As many attempts were made as there may be.
    #[error("all attempts were used")]
    Exhausted,
    /// The next attempt would have come after the time for the whole chain.
    #[error("the time for all attempts is over")]
    TimedOut,
    /// The attempt was told to come again later than a delay may be.
    #[error("told to come again later than a delay may be")]
    TooLong {
        /// When it may come again.
        until: Instant,
    },
    /// Too many of the recent attempts were retries.
    #[error("the budget for retries is spent")]
    Budget,
    /// Attempts for this key failed in a row, and none is made for a while, or one is being made to
    /// see how it goes.
    #[error("the circuit is open")]
    CircuitOpen {
        /// When one attempt may see how it goes.
        until: Instant,
    },
    /// The job was cancelled, aborted, dropped with its group, or panicked: its handle says which.
    #[error("the job ended before it was decided")]
    Stopped,
}

/// The end of a chain without success: why, after how many attempts, and the last error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveUp<E> {
    pub(super) reason: Reason,
    pub(super) attempts: u32,
    pub(super) last_error: Option<E>,
}

impl<E> GaveUp<E> {
    /// Why there is no further attempt.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// How many attempts were started.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What the last attempt failed with; none if none has ended.
    pub fn last_error(&self) -> Option<&E> {
        self.last_error.as_ref()
    }

    /// What the last attempt failed with.
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
    /// The source of the last error, which `Display` has told itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last_error.as_ref()?.source()
    }
}

/// What is to be done after an attempt, by [`Chain::end`](super::Chain::end).
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
