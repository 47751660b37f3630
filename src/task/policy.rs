//! The effect of a failure on the other tasks, and the cause of the token's cancel.

use crate::common::error::TaskError;

/// The effect of the first error or panic of a task on the others.
///
/// The same happens when the group's [deadline](super::Builder::deadline) passes, except that `Continue` then acts like
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
    /// Cancels the token and skips queued tasks. Running tasks are not interrupted; they see the cancel through their
    /// token and end by themselves.
    Cancel,
    /// Does not affect the others: all of them run.
    ///
    /// Each error and panic is kept until `wait` returns it. So in a group that lives for long, the tasks should handle
    /// errors themselves, or memory grows with the number of errors.
    Continue,
}

/// The first reason why a group's token was cancelled.
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
    /// `cancel` or `abort` was called, the parent token was cancelled, the grace of a drain or shutdown was over, or
    /// the group was dropped. Also if the group's runtime was shut down and so dropped a task.
    Cancelled,
    /// The group's own deadline passed.
    DeadlineExceeded,
    /// The task or member of this index returned an error.
    Failed {
        /// The index that `spawn` returned for it.
        index: usize,
    },
    /// The task of this index panicked.
    Panicked {
        /// The index that `spawn` returned for it.
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
