//! The effect of a failure on the other tasks, and the cause of the token's cancel.

use crate::common::error::TaskError;

/// The effect of the first error or panic of a task on the others.
///
/// The group's [deadline](super::Builder::deadline) does the same, but for `Continue`, which it treats as
/// `Cancel`.
///
/// # Examples
///
/// ```
/// use schedgroup::task::{OnError, TaskGroup};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder().on_error(OnError::Continue).build();
/// group.spawn(async { Err("no route") });
/// group.spawn(async { Ok(()) });
/// assert!(group.wait().await.is_err());
/// assert_eq!(group.stats().finished, 1);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnError {
    /// Cancels the token, skips queued tasks and stops running ones at their next await.
    ///
    /// A task that blocks its thread cannot be stopped: the group waits for it.
    #[default]
    Abort,
    /// Cancels the token and skips queued tasks. Running ones continue to their own end: they see it through
    /// their token.
    Cancel,
    /// Does not affect the others: all of them run.
    ///
    /// Each error and panic is kept until `wait`, so a group that lives for long should handle errors in
    /// its tasks.
    Continue,
}

/// The reason why a group's token was cancelled; the first reason stays.
///
/// # Examples
///
/// ```
/// use schedgroup::task::{Cause, TaskGroup};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::new();
/// assert_eq!(group.cause(), None);
/// group.spawn(async { Err("no route") });
/// assert!(group.wait().await.is_err());
/// assert_eq!(group.cause(), Some(Cause::Failed { index: 0 }));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// `cancel` or `abort` was called, the parent token was cancelled, a grace was over, or the group was
    /// dropped.
    Cancelled,
    /// The group's own deadline passed.
    DeadlineExceeded,
    /// The task or member of this index returned an error.
    Failed {
        /// What `spawn` returned for it.
        index: usize,
    },
    /// The task of this index panicked.
    Panicked {
        /// What `spawn` returned for it.
        index: usize,
    },
    /// The group was closed and its last task ended.
    Finished,
}

impl Cause {
    pub(super) fn of<E>(error: &TaskError<E>) -> Cause {
        match error {
            TaskError::Failed { index, .. } => Cause::Failed { index: *index },
            TaskError::Panicked(panic) => Cause::Panicked {
                index: panic.index(),
            },
            TaskError::Cancelled => Cause::Cancelled,
            TaskError::DeadlineExceeded => Cause::DeadlineExceeded,
        }
    }
}
