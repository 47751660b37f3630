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
    /// That of the task in its group, and its place in the queue.
    pub(super) index: usize,
    pub(super) spawned_at: CallSite,
    pub(super) task: QueuedTask<E>,
}

pub(super) enum QueuedTask<E> {
    /// The group has it.
    Owned(Box<dyn StartOwned<E>>),
    /// Its `submit` holds the other end, and is woken when the task is accepted.
    Submitted(Arc<dyn StartSubmitted<E>>, Option<Waker>),
}

impl<E> QueuedTask<E> {
    /// Starts it. If a `submit` waits, its waker is returned.
    pub(super) fn start(self, pool: &Arc<Pool<E>>, meta: TaskMeta) -> Option<Waker> {
        match self {
            QueuedTask::Owned(task) => {
                task.start(pool, meta);
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
        // Under the pool's lock, or of a task that is out of the queue, where the answer cannot change any more.
        match &self.task {
            QueuedTask::Owned(_) => true,
            QueuedTask::Submitted(task, _) => task.is_accepted(),
        }
    }
}

/// The data of a running task.
pub(super) struct TaskMeta {
    pub(super) index: usize,
    /// Its number among the abort handles.
    pub(super) handle_index: u32,
    pub(super) spawned_at: CallSite,
}

/// A boxed task whose type is forgotten until it starts.
pub(super) trait StartOwned<E>: Send {
    fn start(self: Box<Self>, pool: &Arc<Pool<E>>, meta: TaskMeta);
}

impl<E, F> StartOwned<E> for F
where
    E: Send + 'static,
    F: Future<Output: TaskOutput<E>> + Send + 'static,
{
    fn start(self: Box<Self>, pool: &Arc<Pool<E>>, meta: TaskMeta) {
        pool.launch(*self, meta);
    }
}

/// The same for a task that its `submit` may take back.
pub(super) trait StartSubmitted<E>: Send + Sync {
    fn accept(&self);
    fn is_accepted(&self) -> bool;
    /// Drops the task.
    fn clear(&self);
    fn start(&self, pool: &Arc<Pool<E>>, meta: TaskMeta);
}

/// A task between a waiting `submit` and the queue: the one that takes it out has it. Cancelling the `submit`
/// never leaks a slot, since slots are given to tasks and not to waiting futures.
// Both ends hold it. Which of them takes the task is decided by `accepted`, under the pool's lock; the lock in here
// only lets it be moved out of a shared value. So it is never contended for long, and no other lock is taken under
// it.
pub(crate) struct PendingSubmit<F> {
    task: Mutex<Option<F>>,
    /// Goes from false to true once, under the pool's lock. `Relaxed` does for both the store and the loads: they are
    /// under that lock too, or on a task that has been taken out of the queue under it, and the lock orders them.
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
        // It was accepted, so its submit does not take it: there is always a task here.
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
