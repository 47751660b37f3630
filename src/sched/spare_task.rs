//! Spare tasks: tasks that are kept for jobs that await.

use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use super::rt::{AbortHandle, Mutex, MutexGuard};
use super::running::RunningJob;

/// The task for the next job that has to await.
///
/// A worker polls a job for the first time with the waker of a spare task. If the job has to await, it
/// moves into that task as it is: no second poll, and the task is woken only by what the job waits for.
pub(super) struct SpareTask {
    pub(super) task: TaskParts,
    /// `None` if the task has still to be spawned.
    pub(super) abort: Option<AbortHandle>,
}

/// The waker of a task, and the mailbox through which it is given a job.
pub(super) struct TaskParts {
    pub(super) waker: Waker,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Default for SpareTask {
    /// A spare task that is spawned when a job has to await. Until then its mailbox is woken in its stead.
    fn default() -> SpareTask {
        let mailbox: Arc<Mailbox> = Arc::default();
        SpareTask {
            task: TaskParts {
                waker: Waker::from(Arc::clone(&mailbox)),
                mailbox,
            },
            abort: None,
        }
    }
}

impl SpareTask {
    pub(super) fn is_spawned(&self) -> bool {
        self.abort.is_some()
    }

    /// The task is not needed any more, and ends.
    pub(super) fn retire(self) {
        // Before the wake-up: the task finds the reason for it, and nothing else wakes it any more.
        self.task.mailbox.lock().retired = true;
        self.task.waker.wake();
    }
}

// A wake-up that comes while a job is on its way into its task must not be lost. There are two ways for it:
//
// Into a task that is there. The first poll of the job got the task's own waker.
//
// 1. The worker polls the job, which registers the waker and is pending.
// 2. What the job waits for wakes the task. The task is polled, finds no job, and returns `Pending`.
// 3. The worker puts the job into the mailbox. No further wake-up will come.
//
// So the task leaves `missed` in step 2, and the worker, which finds it in step 3, wakes the task again.
//
// Into a task that is spawned for it. The first poll of the job got the mailbox as its waker.
//
// 1. The worker polls the job, which registers the mailbox and is pending.
// 2. What the job waits for wakes the mailbox. There is no task to wake yet, so it leaves `woken`.
// 3. The task is polled for the first time, unasked, as tokio polls each task that is spawned. `set_waker` leaves its
//    waker for later wake-ups and returns `woken`: only then has the poll a meaning.
//
// If the first poll of the task comes between 1 and 2, the mailbox finds the task's waker and wakes it. If step 3
// comes before the job is in the mailbox, the first case applies from there on.
/// A mailbox of one job, which waits in it for the task that it is to live in.
///
/// ```text
///   worker: put ──▶ job in the mailbox ──▶ task: take
///                        │
///                        └─ the task is dropped: the job goes with it
/// ```
///
/// It remembers a wake-up that comes before the job is there, or before the task has been polled.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The worker's until `put`, the task's from `take` on; in between it goes with the task if that is dropped.
    job: Option<RunningJob>,
    /// The task was polled and found no job. Written by the task, reset by `put`.
    missed: bool,
    /// The mailbox was woken before the task could be. Read once, by the first poll.
    woken: bool,
    /// The task, if it was spawned for a job that has the mailbox as its waker.
    task: Option<Waker>,
    retired: bool,
    /// The task was dropped.
    closed: bool,
}

/// The content of a mailbox, as its task finds it.
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
        // One step with `set_waker`: either it finds `woken`, or this finds its waker. The waker is tokio's, so no user
        // code runs under this lock.
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

    /// Hands a job to the task. Returns `true` if the task must be woken for it; the job comes back if the task
    /// was dropped.
    pub(super) fn put(&self, job: RunningJob) -> Result<bool, RunningJob> {
        let mut inner = self.lock();
        // The task will not look into its mailbox again: a job that is left here would be neither polled nor ended.
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

    /// The task is polled for the first time. Returns `true` if it was woken already.
    pub(super) fn set_waker(&self, task: &Waker) -> bool {
        let mut inner = self.lock();
        inner.task = Some(task.clone());
        inner.woken
    }

    /// The task is dropped.
    pub(super) fn close(&self) -> Option<RunningJob> {
        let mut inner = self.lock();
        // The waker refers to the task, which refers to this mailbox: kept, it would keep both for ever.
        inner.closed = true;
        inner.task = None;
        inner.job.take()
    }
}

// Those of loom can only be locked in a model.
#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::Location;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use super::super::job::JobId;
    use super::*;
    use crate::common::trace::Span;

    fn job(slot: u32) -> RunningJob {
        let site = Location::caller();
        RunningJob {
            slot,
            id: JobId(slot.into()),
            scheduled_at: site,
            span: Span::job("", slot.into(), site, || Duration::ZERO),
            live: None,
        }
    }

    fn slot(mail: Mail) -> Option<u32> {
        match mail {
            Mail::Job(job) => Some(job.slot),
            Mail::Nothing => None,
            Mail::Retired => panic!("it is needed"),
        }
    }

    fn put(mailbox: &Mailbox, slot: u32) -> bool {
        let put = mailbox.put(job(slot));
        put.unwrap_or_else(|_| panic!("its task is there"))
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_job_is_taken_once() {
        let mailbox = Mailbox::default();
        assert!(!put(&mailbox, 7));
        assert_eq!(slot(mailbox.take()), Some(7));
        assert_eq!(slot(mailbox.take()), None);
    }

    #[test]
    fn a_task_that_looked_too_early_is_to_be_woken_for_the_job_once() {
        let mailbox = Mailbox::default();
        assert_eq!(slot(mailbox.take()), None);
        assert!(put(&mailbox, 1));
        assert_eq!(slot(mailbox.take()), Some(1));
        assert!(!put(&mailbox, 2));
    }

    #[test]
    fn a_wake_up_before_the_task_is_polled_first_is_heard_then_and_later_ones_wake_it() {
        for early in [false, true] {
            let spare = SpareTask::default();
            let TaskParts { waker, mailbox } = spare.task;
            let (count, task) = counted();
            if early {
                waker.wake_by_ref();
            }
            assert_eq!(mailbox.set_waker(&task), early);
            assert_eq!(count.0.load(SeqCst), 0);
            waker.wake_by_ref();
            waker.wake();
            assert_eq!(count.0.load(SeqCst), 2);
        }
    }

    #[test]
    fn a_job_comes_back_whose_task_was_dropped_before_or_after() {
        let mailbox = Mailbox::default();
        put(&mailbox, 1);
        assert_eq!(mailbox.close().map(|job| job.slot), Some(1));
        assert_eq!(mailbox.put(job(2)).err().map(|job| job.slot), Some(2));
        assert!(mailbox.close().is_none());
    }

    /// Else a task and its mailbox would keep each other for ever.
    #[test]
    fn a_closed_mailbox_lets_go_of_its_task() {
        let mailbox = Mailbox::default();
        let (count, task) = counted();
        mailbox.set_waker(&task);
        drop(task);
        assert_eq!(Arc::strong_count(&count), 2);
        drop(mailbox.close());
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn a_task_that_is_retired_is_woken_to_see_it() {
        let (count, waker) = counted();
        let mailbox = Arc::<Mailbox>::default();
        let task = TaskParts {
            waker,
            mailbox: Arc::clone(&mailbox),
        };
        SpareTask { task, abort: None }.retire();
        assert_eq!(count.0.load(SeqCst), 1);
        assert!(matches!(mailbox.take(), Mail::Retired));
    }
}
