//! The end of a group.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::group::ErrGroup;
use crate::ground::error::{TaskError, TaskErrors};
use crate::ground::panic::discard_each;
use crate::ground::pool::Pool;

impl<E: Send + 'static> ErrGroup<E> {
    /// Closes the group and waits until every task has ended, then answers with the first error in
    /// time.
    ///
    /// The group is closed by the call itself. A spawn that races with it is either covered or
    /// refused; tasks may go on spawning through a [`Handle`](super::Handle), and are covered. At the
    /// end the token is cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again.
    ///
    /// # Panics
    ///
    /// On a second call of `wait` or `wait_all`.
    ///
    /// # Errors
    ///
    /// The first error or panic in time; without one,
    /// [`Cancelled`](TaskError::Cancelled) if the group was cancelled from outside, or if tasks were lost
    /// with their runtime.
    #[track_caller]
    pub fn wait(&self) -> Wait<'_, E> {
        self.close();
        Wait { pool: &self.pool }
    }

    /// Like [`wait`](ErrGroup::wait), with all errors in order of their tasks.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again.
    ///
    /// # Panics
    ///
    /// On a second call of `wait` or `wait_all`.
    ///
    /// # Errors
    ///
    /// All errors and panics; without any, [`Cancelled`](TaskError::Cancelled) alone, in the cases of
    /// `wait`.
    #[track_caller]
    pub fn wait_all(&self) -> WaitAll<'_, E> {
        self.close();
        WaitAll { pool: &self.pool }
    }

    #[track_caller]
    fn close(&self) {
        assert!(
            self.pool.close(),
            "schedgroup: multiple calls to ErrGroup::wait"
        );
    }
}

/// Ends with the group; made by [`ErrGroup::wait`].
///
/// # Cancel safety
///
/// It may be dropped at any time. That does not open the group again.
#[must_use = "a wait does nothing until it is awaited, but the group is closed"]
pub struct Wait<'a, E: Send + 'static> {
    pool: &'a Pool<E>,
}

/// Ends with the group; made by [`ErrGroup::wait_all`].
///
/// # Cancel safety
///
/// It may be dropped at any time. That does not open the group again.
#[must_use = "a wait does nothing until it is awaited, but the group is closed"]
pub struct WaitAll<'a, E: Send + 'static> {
    pool: &'a Pool<E>,
}

impl<E: Send + 'static> Future for Wait<'_, E> {
    type Output = Result<(), TaskError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.pool.poll_drained(cx).map(|(failures, cancelled)| {
            let mut failures = failures.into_iter();
            let first = failures.next();
            discard_each(failures);
            match first {
                Some(first) => Err(first),
                None if cancelled => Err(TaskError::Cancelled),
                None => Ok(()),
            }
        })
    }
}

impl<E: Send + 'static> Future for WaitAll<'_, E> {
    type Output = Result<(), TaskErrors<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.pool.poll_drained(cx).map(|(mut errors, cancelled)| {
            errors.sort_by_key(TaskError::index);
            if errors.is_empty() && cancelled {
                errors.push(TaskError::Cancelled);
            }
            TaskErrors::new(errors).map_or(Ok(()), Err)
        })
    }
}

impl<E: Send + 'static> fmt::Debug for Wait<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("stats", &self.pool.stats())
            .finish_non_exhaustive()
    }
}

impl<E: Send + 'static> fmt::Debug for WaitAll<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitAll")
            .field("stats", &self.pool.stats())
            .finish_non_exhaustive()
    }
}
