//! A task that waits for a slot, as data.
//!
//! ```text
//!   a slot is free ───────────────────────────────────────────────▶ running ──▶ finished, failed,
//!                                                                     ▲         panicked or aborted
//!   spawn; try_spawn, submit with capacity ─▶ accepted ───────────────┤
//!                                              ▲    │         a slot  │
//!                        capacity becomes free │    │                 │
//!                                              │    └──▶ skipped      │
//!                                              │   the group stops    │
//!   submit without capacity ──────────────▶ waiting ──────────────────┘
//!                                              │              a slot
//!                                              └──▶ back with its submit
//!                                    that is dropped, or the group stops
//! ```
//!
//! Up to `waiting` the task is its submit's; from `accepted` or `running` on it is the group's, which counts it.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use super::shared::Pool;
use crate::task::output::TaskOutput;

pub(super) type CallSite = &'static Location<'static>;

pub(super) struct Queued<E> {
    pub(super) meta: TaskMeta,
    pub(super) task: QueuedTask<E>,
}

/// Launches a task whose type only it knows.
type Launch<E> = dyn FnOnce(&Arc<Pool<E>>, TaskMeta) + Send;

pub(super) enum QueuedTask<E> {
    /// The group has it: a call of this launches it.
    Owned(Box<Launch<E>>),
    /// Its `submit` holds it too, and is woken when the group accepts it.
    Submitted(Arc<dyn StartSubmitted<E>>, Option<Waker>),
}

impl<E> QueuedTask<E> {
    /// Starts it. If a `submit` waits, its waker is returned.
    pub(super) fn start(self, pool: &Arc<Pool<E>>, meta: TaskMeta) -> Option<Waker> {
        match self {
            QueuedTask::Owned(launch) => {
                launch(pool, meta);
                None
            }
            QueuedTask::Submitted(task, waker) => {
                task.start(pool, meta);
                waker
            }
        }
    }
}

impl<E> Queued<E> {
    /// Returns whether the group, and no `submit`, owns the task.
    pub(super) fn is_accepted(&self) -> bool {
        // The caller holds the pool's lock, or has taken the task out of the queue: then the answer does not change.
        match &self.task {
            QueuedTask::Owned(_) => true,
            QueuedTask::Submitted(task, _) => task.is_accepted(),
        }
    }
}

/// What is known of a task, whatever its type.
#[derive(Clone, Copy)]
pub(super) struct TaskMeta {
    /// Its index in the group, and its place in the queue.
    pub(super) index: usize,
    pub(super) spawned_at: CallSite,
}

/// The task of a `submit` without its type.
pub(super) trait StartSubmitted<E>: Send + Sync {
    fn accept(&self);
    fn is_accepted(&self) -> bool;
    /// Drops the task.
    fn clear(&self);
    fn start(&self, pool: &Arc<Pool<E>>, meta: TaskMeta);
}

/// A task that both its waiting `submit` and the queue hold, until one of them takes it out. Cancelling the `submit`
/// never leaks a slot, since slots are given to tasks and not to waiting futures.
// `accepted` decides which of the two takes the task: it is the queue's from then on. The mutex only allows to move the
// task out of a shared value. It is held for that move alone, and no other lock is taken under it.
pub(super) struct PendingSubmit<F> {
    task: Mutex<Option<F>>,
    /// Goes from false to true once, under the pool's lock. It is loaded under that lock too, or after the task was
    /// taken out of the queue under it. So the lock orders the store and the loads, and `Relaxed` is enough.
    accepted: AtomicBool,
}

impl<F> PendingSubmit<F> {
    pub(super) fn new(task: F) -> PendingSubmit<F> {
        PendingSubmit {
            task: Mutex::new(Some(task)),
            accepted: AtomicBool::new(false),
        }
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }

    pub(super) fn take(&self) -> Option<F> {
        self.task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl<E, F> StartSubmitted<E> for PendingSubmit<F>
where
    E: Send + 'static,
    F: Future<Output: TaskOutput<E>> + Send + 'static,
{
    fn accept(&self) {
        self.accepted.store(true, Relaxed);
    }

    fn is_accepted(&self) -> bool {
        PendingSubmit::is_accepted(self)
    }

    fn clear(&self) {
        drop(self.take());
    }

    fn start(&self, pool: &Arc<Pool<E>>, meta: TaskMeta) {
        // Always `Some`: the task was accepted before it started, and a submit takes back only what is not accepted.
        if let Some(task) = self.take() {
            pool.launch(task, meta);
        }
    }
}

/// The claim of a `submit` on its task in the queue.
pub(crate) struct SubmitTicket<F> {
    pub(crate) index: usize,
    pub(super) pending: Arc<PendingSubmit<F>>,
}
