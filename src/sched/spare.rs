//! Tasks that stand ready for jobs that await.

use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use super::rt::{AbortHandle, Mutex, MutexGuard};
use super::running::RunningJob;

/// The task for the next job that has to await.
///
/// A worker polls a job for the first time with the waker of a spare task. If the job has to await, it
/// moves into that task as it is: no second poll, and the task is woken only by what the job waits for.
pub(super) struct Spare {
    pub(super) task: TaskParts,
    /// `None` if the task has still to be spawned.
    pub(super) abort: Option<AbortHandle>,
}

/// How a task is woken, and given a job.
pub(super) struct TaskParts {
    pub(super) waker: Waker,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Default for Spare {
    /// A spare task that is spawned when a job has to await. Until then its mailbox is woken in its stead.
    fn default() -> Spare {
        let mailbox: Arc<Mailbox> = Arc::default();
        Spare {
            task: TaskParts {
                waker: Waker::from(Arc::clone(&mailbox)),
                mailbox,
            },
            abort: None,
        }
    }
}

impl Spare {
    pub(super) fn is_spawned(&self) -> bool {
        self.abort.is_some()
    }

    /// The task is not needed any more, and ends.
    pub(super) fn retire(self) {
        self.task.mailbox.lock().retired = true;
        self.task.waker.wake();
    }
}

/// Where a job waits for the task that it is to live in.
///
/// ```text
///   worker: put ──▶ job in the mailbox ──▶ task: take
///                        │
///                        └─ the task is dropped: the job goes with it
/// ```
///
/// A wake-up can come before the job is where it belongs, and must not be lost:
/// - between the first poll and `put`, the task is polled for it and finds nothing. It notes that, and
///   `put` says that it has to be woken again.
/// - before the task has been spawned and polled, the mailbox itself is woken. It notes that, and the task
///   [hears](Mailbox::hear) of it when it is polled first; from then on the mailbox wakes the task.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    job: Option<RunningJob>,
    /// The task was polled and found no job.
    missed: bool,
    /// The mailbox was woken before the task could be.
    woken: bool,
    /// The task, if it was spawned for a job that has the mailbox as its waker.
    task: Option<Waker>,
    retired: bool,
    /// The task was dropped.
    closed: bool,
}

/// What a task finds in its mailbox.
pub(super) enum Mail {
    Job(RunningJob),
    Nothing,
    /// No job will come.
    Retired,
}

impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut inner = self.lock();
        match &inner.task {
            Some(task) => task.wake_by_ref(),
            None => inner.woken = true,
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job to the task. True if the task must be woken for it; the job comes back if the task was
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

    /// The task is polled for the first time. True if it was woken already.
    pub(super) fn hear(&self, task: &Waker) -> bool {
        let mut inner = self.lock();
        inner.task = Some(task.clone());
        inner.woken
    }

    /// The task is dropped.
    pub(super) fn close(&self) -> Option<RunningJob> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.task = None;
        inner.job.take()
    }
}
