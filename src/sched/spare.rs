//! Tasks that stand ready for jobs that await.

use std::sync::{Arc, PoisonError};
use std::task::Waker;

use super::rt::{AbortHandle, Mutex, MutexGuard};
use super::running::RunningJob;

/// A task that has no job at the moment: a [`JobTask`](super::job_task::JobTask) between two of them.
///
/// A worker polls a job for the first time with the waker of a spare task. A job that has to await then
/// moves into that task as it is: its waker is known already, and the task is woken only by what the job
/// waits for.
pub(super) struct Spare {
    pub(super) task: TaskParts,
    pub(super) abort: AbortHandle,
}

/// How a task is given a job, and woken for it.
pub(super) struct TaskParts {
    pub(super) waker: Waker,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Spare {
    /// The task is not needed any more, and ends.
    pub(super) fn retire(self) {
        self.task.mailbox.lock().retired = true;
        self.task.waker.wake();
    }
}

/// Where a job waits until its task is polled for it.
///
/// ```text
///   worker: put ──▶ job in the mailbox ──▶ task: take
///                        │
///                        └─ the task is dropped: the job goes with it
/// ```
///
/// A wake-up can come between the job's first poll and `put`. The task then finds the mailbox empty and
/// notes it, and `put` says that it has to be woken again.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    job: Option<RunningJob>,
    /// The task was polled and found no job.
    missed: bool,
    retired: bool,
    /// The task was dropped.
    closed: bool,
}

/// What a task finds.
pub(super) enum Mail {
    Job(RunningJob),
    Nothing,
    /// No job will come.
    Retired,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job to the task. True if it must be woken for it; the job comes back if the task was
    /// dropped.
    pub(super) fn put(&self, job: RunningJob) -> Result<bool, RunningJob> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(job);
        }
        inner.job = Some(job);
        Ok(std::mem::take(&mut inner.missed))
    }

    /// The task is polled.
    pub(super) fn take(&self) -> Mail {
        let mut inner = self.lock();
        match inner.job.take() {
            Some(job) => Mail::Job(job),
            None if inner.retired => Mail::Retired,
            None => {
                inner.missed = true;
                Mail::Nothing
            }
        }
    }

    /// The task is dropped.
    pub(super) fn close(&self) -> Option<RunningJob> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.job.take()
    }
}
