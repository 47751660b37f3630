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
    /// Cancels the token, skips queued tasks and stops running ones at their next await.
    ///
    /// A task that blocks its thread cannot be stopped: the group waits for it.
    #[default]
    Abort,
    /// Cancels the token and skips queued tasks. Running ones go on to their own end: they see it through
    /// their token.
    Cancel,
    /// Leaves them alone: all of them run.
    Continue,
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
    /// Never started: the group was cancelled before, or a handle spawned it after the group had drained.
    pub skipped: u64,
    /// Stopped while they ran.
    pub aborted: u64,
    /// Not taken in, because the group was full.
    pub discarded: u64,
}

/// Who asks: after `wait` only the ends that tasks hold are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Owner,
    Handle,
}
