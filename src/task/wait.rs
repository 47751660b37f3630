//! The end of a group.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::group::TaskGroup;
use crate::ground::error::{TaskError, TaskErrors};
use crate::ground::panic::discard_each;
use crate::task::pool::drained::Drained;

impl<E: Send + 'static> TaskGroup<E> {
    /// Closes the group and waits until every task has ended; resolves to the first error in time.
    ///
    /// The group is closed by the call itself. A task spawned concurrently with this call is either waited for
    /// or rejected; a [`submit`](TaskGroup::submit) that is in the queue is waited for, and so is what tasks
    /// spawn through a [`Handle`](super::TaskHandle) while the group waits. At the end the token is cancelled; what
    /// is cancelled or rejected after the last task has ended changes nothing that this says.
    ///
    /// Awaited from a task of the group, it waits for that task: for ever.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it has resolved (`select!`, `timeout`), no error is lost and `wait` may
    /// be called again. The group stays closed.
    ///
    /// # Panics
    ///
    /// If the future of another `wait` or `wait_all` is alive, or has resolved.
    ///
    /// # Errors
    ///
    /// The first error or panic in time; without one, [`Cancelled`](TaskError::Cancelled) if a task was skipped
    /// or aborted. A cancel that cost no task its end is no error.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::TaskError;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = TaskGroup::<()>::new();
    /// group.spawn(std::future::pending());
    /// if tokio::time::timeout(Duration::from_secs(5), group.wait()).await.is_err() {
    ///     group.abort();
    ///     assert!(matches!(group.wait().await, Err(TaskError::Cancelled)));
    /// }
    /// # }
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Wait<'_, E> {
        Wait {
            drained: Drained::new(&self.pool),
        }
    }

    /// Closes the group and waits like [`wait`](TaskGroup::wait); resolves to all errors, in order of their
    /// tasks.
    ///
    /// # Cancel safety
    ///
    /// As for `wait`, which may follow a dropped `wait_all`, and the other way round.
    ///
    /// # Panics
    ///
    /// If the future of another `wait` or `wait_all` is alive, or has resolved.
    ///
    /// # Errors
    ///
    /// All errors and panics; without any, [`Cancelled`](TaskError::Cancelled) alone, in the cases of
    /// `wait`.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::{TaskGroup, OnError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().on_error(OnError::Continue).build();
    /// for outcome in [Err("no route"), Ok(()), Err("no disk")] {
    ///     group.spawn(async move { outcome });
    /// }
    /// let errors = group.wait_all().await.unwrap_err();
    /// assert_eq!(errors.to_string(), "2 errors: task 0: no route | task 2: no disk");
    /// # }
    /// ```
    #[track_caller]
    pub fn wait_all(&self) -> WaitAll<'_, E> {
        WaitAll {
            drained: Drained::new(&self.pool),
        }
    }
}

/// Waits for a group and resolves to its first error; created by [`TaskGroup::wait`].
///
/// # Cancel safety
///
/// It may be dropped at any time: the group stays closed, and `wait` may be called again.
#[must_use = "a wait does nothing until it is awaited, but the group is closed"]
pub struct Wait<'a, E: Send + 'static> {
    drained: Drained<'a, E>,
}

/// Waits for a group and resolves to all its errors; created by [`TaskGroup::wait_all`].
///
/// # Cancel safety
///
/// It may be dropped at any time: the group stays closed, and `wait_all` may be called again.
#[must_use = "a wait does nothing until it is awaited, but the group is closed"]
pub struct WaitAll<'a, E: Send + 'static> {
    drained: Drained<'a, E>,
}

impl<E: Send + 'static> Future for Wait<'_, E> {
    type Output = Result<(), TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let drained = Pin::new(&mut self.drained).poll(cx);
        drained.map(|(failures, lost)| {
            let mut failures = failures.into_iter();
            let first = failures.next();
            discard_each(failures);
            match first {
                Some(first) => Err(first),
                None if lost => Err(TaskError::Cancelled),
                None => Ok(()),
            }
        })
    }
}

impl<E: Send + 'static> Future for WaitAll<'_, E> {
    type Output = Result<(), TaskErrors<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let drained = Pin::new(&mut self.drained).poll(cx);
        drained.map(|(mut errors, lost)| {
            errors.sort_by_key(TaskError::index);
            if errors.is_empty() && lost {
                errors.push(TaskError::Cancelled);
            }
            TaskErrors::new(errors).map_or(Ok(()), Err)
        })
    }
}

impl<E: Send + 'static> fmt::Debug for Wait<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("stats", &self.drained.stats())
            .finish_non_exhaustive()
    }
}

impl<E: Send + 'static> fmt::Debug for WaitAll<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitAll")
            .field("stats", &self.drained.stats())
            .finish_non_exhaustive()
    }
}
