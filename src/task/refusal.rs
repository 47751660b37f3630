//! A task that was not taken in, handed back.

use std::fmt;

/// Why a group of tasks did not take a task, with the task.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError<F> {
    /// `wait` was called: spawn before it, or from one of the group's tasks through a handle.
    #[error("the group is closed, its wait was called: spawn in another group")]
    Closed(F),
    /// The group was cancelled or dropped.
    #[error("the group was cancelled: the task did not start")]
    Cancelled(F),
    /// All places are taken: try again later, or let the group keep the task with `spawn`.
    #[error("the group is full: try again later, or let it keep the task with spawn")]
    Full(F),
}

impl<F> SpawnError<F> {
    /// The task, as it was handed in; it was never polled.
    pub fn into_inner(self) -> F {
        match self {
            SpawnError::Closed(task) | SpawnError::Cancelled(task) | SpawnError::Full(task) => task,
        }
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpawnError::Closed(_) => "Closed(..)",
            SpawnError::Cancelled(_) => "Cancelled(..)",
            SpawnError::Full(_) => "Full(..)",
        })
    }
}
