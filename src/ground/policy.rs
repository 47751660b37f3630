//! The words of a group of tasks: what a task may return, what its failure does, what became of all.

use std::convert::Infallible;

/// What a task of a group may return: nothing, or an error.
pub(crate) trait Outcome<E>: Send + 'static {
    fn into_result(self) -> Result<(), E>;
}

impl Outcome<Infallible> for () {
    fn into_result(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<E: Send + 'static> Outcome<E> for Result<(), E> {
    fn into_result(self) -> Result<(), E> {
        self
    }
}

/// What the first error or panic of a task does to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnError {
    /// Nothing: all of them run.
    Continue,
    /// The token is cancelled and what has not started is skipped.
    #[default]
    Cancel,
    /// The same, and running tasks are stopped at their next await.
    Abort,
}

/// What became of the tasks of a group so far; each task is in one of the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskStats {
    /// Kept until a place is free; tasks of waiting `submit`s are among them.
    pub pending: usize,
    /// Running now.
    pub running: usize,
    /// Ended well.
    pub finished: u64,
    /// Returned an error.
    pub failed: u64,
    /// Panicked.
    pub panicked: u64,
    /// Taken in, and never started: the group was cancelled before.
    pub skipped: u64,
    /// Stopped while they ran.
    pub aborted: u64,
    /// Not taken in, because the group was full.
    pub discarded: u64,
}

/// Who asks: after `wait` only the ends that tasks hold are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Owner,
    Handle,
}
