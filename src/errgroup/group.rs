//! The owner of a group, and its ends elsewhere.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use crate::ground::policy::{Asker, TaskStats};
use crate::ground::pool::{Entry, Pool};
use crate::ground::refusal::SpawnError;
use crate::ground::submit::Submit;
use crate::ground::token::Token;

/// Runs tasks that may fail, so many at once, to be waited for as one.
///
/// Over the limit a task is kept as data, one box, and starts in order the moment a place is free.
/// Reach for [`tokio::task::JoinSet`] when the tasks have values that you take one by one.
///
/// Dropping the group aborts its tasks at their next await and blocks nobody.
#[must_use = "a group that is dropped aborts its tasks"]
pub struct ErrGroup<E: Send + 'static> {
    pub(super) pool: Arc<Pool<E>>,
}

/// Spawns in a group from elsewhere, above all from the group's own tasks.
///
/// It is admitted until the group is drained: so a task can always spawn, also while the group waits
/// and at any limit. It does not keep the group alive.
pub struct Handle<E: Send + 'static> {
    pool: Arc<Pool<E>>,
}

macro_rules! verbs {
    ($end:ident, $asker:expr, $closed:literal) => {
        impl<E: Send + 'static> $end<E> {
            /// Gives a task to the group, and answers with its index: tasks are counted from zero.
            ///
            /// Never waits. In a group that is cancelled, the task is dropped and counted as skipped.
            ///
            /// # Panics
            ///
            #[doc = $closed]
            #[track_caller]
            pub fn spawn<F>(&self, task: F) -> usize
            where
                F: Future<Output = Result<(), E>> + Send + 'static,
            {
                self.pool.spawn($asker, task)
            }

            /// Like `spawn`, for a task that wants to know when, and why, it should end.
            ///
            /// # Panics
            ///
            #[doc = $closed]
            #[track_caller]
            pub fn spawn_with<F>(&self, task: impl FnOnce(Token) -> F) -> usize
            where
                F: Future<Output = Result<(), E>> + Send + 'static,
            {
                self.pool.spawn($asker, task(self.token()))
            }

            /// Gives a task to the group if a place, or one in the queue, is free.
            ///
            /// # Errors
            ///
            /// Gives the task back if the group is full, closed or cancelled.
            #[track_caller]
            pub fn try_spawn<F>(&self, task: F) -> Result<usize, SpawnError<F>>
            where
                F: Future<Output = Result<(), E>> + Send + 'static,
            {
                match self.pool.try_spawn($asker, Location::caller(), task)? {
                    Entry::In(index) => Ok(index),
                    Entry::Full(task) => {
                        self.pool.discarded();
                        Err(SpawnError::Full(task))
                    }
                }
            }

            /// Waits until the group has a place for the task, or one in the queue; in the order of
            /// their first polls, `spawn`s included.
            ///
            /// Ends early, with the task, when the group is cancelled. From a task of the group it can
            /// wait for its own place: use `spawn` there.
            ///
            /// # Cancel safety
            ///
            /// Dropped before it ended, the task is dropped with it and no place is lost; if it was
            /// taken in by then, it runs.
            ///
            /// # Errors
            ///
            /// Gives the task back if the group is closed or cancelled.
            #[track_caller]
            pub fn submit<F>(&self, task: F) -> Submit<'_, F, E>
            where
                F: Future<Output = Result<(), E>> + Send + 'static,
            {
                Submit::new(&self.pool, $asker, task)
            }

            /// The group's token.
            pub fn token(&self) -> Token {
                self.pool.token().clone()
            }

            /// Tasks that have no place yet.
            pub fn pending(&self) -> usize {
                self.stats().pending
            }

            /// Tasks that run.
            pub fn running(&self) -> usize {
                self.stats().running
            }

            /// What became of the tasks so far.
            pub fn stats(&self) -> TaskStats {
                self.pool.stats()
            }

            /// Cancels the token; tasks that have not started are skipped.
            pub fn cancel(&self) {
                self.pool.cancel();
            }

            /// Cancels, and stops running tasks at their next await.
            pub fn abort(&self) {
                self.pool.abort();
            }
        }

        impl<E: Send + 'static> fmt::Debug for $end<E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end))
                    .field("stats", &self.pool.stats())
                    .field("cause", &self.pool.token().cause())
                    .finish_non_exhaustive()
            }
        }
    };
}

verbs!(
    ErrGroup,
    Asker::Owner,
    "After `wait` or `wait_all` was called."
);
verbs!(
    Handle,
    Asker::Handle,
    "After `wait` or `wait_all` was called and the last task has ended."
);

impl<E: Send + 'static> ErrGroup<E> {
    pub(super) fn over(pool: Arc<Pool<E>>) -> ErrGroup<E> {
        ErrGroup { pool }
    }

    /// An end to spawn with from elsewhere.
    pub fn handle(&self) -> Handle<E> {
        Handle {
            pool: Arc::clone(&self.pool),
        }
    }
}

impl<E: Send + 'static> Clone for Handle<E> {
    fn clone(&self) -> Handle<E> {
        Handle {
            pool: Arc::clone(&self.pool),
        }
    }
}

impl<E: Send + 'static> Drop for ErrGroup<E> {
    fn drop(&mut self) {
        self.pool.abandon();
    }
}
