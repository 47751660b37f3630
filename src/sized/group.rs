//! The owner of a group.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::ground::policy::{Asker, TaskStats};
use crate::ground::pool::{Entry, Pool};
use crate::ground::refusal::SpawnError;
use crate::ground::submit::Submit;
use crate::ground::token::Token;

/// Runs tasks without errors, at most so many at once.
///
/// A task that has no place yet is kept as data, one box, and starts in order the moment one is free.
/// A task's panic ends that task alone; it is counted, and a tracing event.
///
/// Dropping the group aborts its tasks at their next await and blocks nobody.
#[must_use = "a group that is dropped aborts its tasks"]
pub struct SizedGroup {
    pool: Arc<Pool<Infallible>>,
}

impl SizedGroup {
    pub(super) fn over(pool: Arc<Pool<Infallible>>) -> SizedGroup {
        SizedGroup { pool }
    }

    /// Gives a task to the group, which keeps it until a place is free. Never waits.
    ///
    /// In a group that is cancelled, the task is dropped and counted as skipped.
    ///
    /// # Panics
    ///
    /// After `wait` was called.
    #[track_caller]
    pub fn spawn<F>(&self, task: F) -> usize
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.pool.spawn(Asker::Owner, task)
    }

    /// Like [`spawn`](SizedGroup::spawn), for a task that wants to know when it should end.
    ///
    /// # Panics
    ///
    /// After `wait` was called.
    #[track_caller]
    pub fn spawn_with<F>(&self, task: impl FnOnce(Token) -> F) -> usize
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.pool.spawn(Asker::Owner, task(self.token()))
    }

    /// Gives a task to the group if a place, or one in the queue, is free.
    ///
    /// # Errors
    ///
    /// Gives the task back if the group is full, which is counted as discarded, closed or cancelled.
    #[track_caller]
    pub fn try_spawn<F>(&self, task: F) -> Result<usize, SpawnError<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self
            .pool
            .try_spawn(Asker::Owner, Location::caller(), task)?
        {
            Entry::In(index) => Ok(index),
            Entry::Full(task) => {
                self.pool.discarded();
                Err(SpawnError::Full(task))
            }
        }
    }

    /// Waits until the group has a place for the task, or one in the queue.
    ///
    /// Ends early, with the task, when the group is cancelled. From a task of the group it can wait for
    /// its own place: use `spawn` there.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it ended, the task is dropped with it and no place is lost; if it was taken in
    /// by then, it runs.
    ///
    /// # Errors
    ///
    /// Gives the task back if the group is closed or cancelled.
    #[track_caller]
    pub fn submit<F>(&self, task: F) -> Submit<'_, F, Infallible>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Submit::new(&self.pool, Asker::Owner, task)
    }

    /// Closes the group, waits until every task has ended, and answers with what became of them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again.
    ///
    /// # Panics
    ///
    /// On a second call.
    #[track_caller]
    pub fn wait(&self) -> Wait<'_> {
        assert!(
            self.pool.close(),
            "schedgroup: multiple calls to SizedGroup::wait"
        );
        Wait { pool: &self.pool }
    }

    /// The group's token.
    pub fn token(&self) -> Token {
        self.pool.token().clone()
    }

    /// What became of the tasks so far.
    pub fn stats(&self) -> TaskStats {
        self.pool.stats()
    }

    /// Cancels the token; tasks that have not started are skipped.
    pub fn cancel(&self) {
        self.pool.cancel();
    }
}

impl Drop for SizedGroup {
    fn drop(&mut self) {
        self.pool.abandon();
    }
}

impl fmt::Debug for SizedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SizedGroup")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Ends with the group; made by [`SizedGroup::wait`].
///
/// # Cancel safety
///
/// It may be dropped at any time. That does not open the group again.
#[must_use = "a wait does nothing until it is awaited, but the group is closed"]
pub struct Wait<'a> {
    pool: &'a Pool<Infallible>,
}

impl Future for Wait<'_> {
    type Output = TaskStats;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskStats> {
        self.pool.poll_drained(cx).map(|_| self.pool.stats())
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("stats", &self.pool.stats())
            .finish_non_exhaustive()
    }
}
