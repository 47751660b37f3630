//! A task in the line of a pool, as data.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

type CallSite = &'static Location<'static>;

/// A task that has no place yet.
pub(super) struct Queued<P> {
    pub(super) index: usize,
    pub(super) spawned_at: CallSite,
    pub(super) task: QueuedTask<P>,
}

pub(super) enum QueuedTask<P> {
    Owned(Box<dyn Start<P>>),
    /// A `submit` still holds the other end.
    Submitted(Arc<dyn Accept<P>>, Option<Waker>),
}

impl<P> QueuedTask<P> {
    /// Starts it. If a `submit` waits, its waker comes back.
    pub(super) fn start(self, pool: &Arc<P>, meta: TaskMeta) -> Option<Waker> {
        match self {
            QueuedTask::Owned(task) => {
                task.start(pool, meta);
                None
            }
            QueuedTask::Submitted(offer, submit) => {
                offer.start(pool, meta);
                submit
            }
        }
    }
}

impl<P> Queued<P> {
    /// Does the group, and no `submit`, answer for the task?
    pub(super) fn is_taken_in(&self) -> bool {
        match &self.task {
            QueuedTask::Owned(_) => true,
            QueuedTask::Submitted(offer, _) => offer.is_accepted(),
        }
    }
}

/// Names one task while it runs.
pub(super) struct TaskMeta {
    pub(super) index: usize,
    pub(super) seat: u32,
    pub(super) spawned_at: CallSite,
}

/// What runs a task that has found its place.
pub(super) trait Launch<F> {
    fn launch(self: &Arc<Self>, task: F, meta: TaskMeta);
}

pub(super) trait Start<P>: Send {
    fn start(self: Box<Self>, pool: &Arc<P>, meta: TaskMeta);
}

impl<P: Launch<F>, F: Send> Start<P> for F {
    fn start(self: Box<Self>, pool: &Arc<P>, meta: TaskMeta) {
        pool.launch(*self, meta);
    }
}

pub(super) trait Accept<P>: Send + Sync {
    fn accept(&self);
    fn is_accepted(&self) -> bool;
    /// Drops the task.
    fn clear(&self);
    fn start(&self, pool: &Arc<P>, meta: TaskMeta);
}

/// A task between a waiting `submit` and the line: whoever takes it out has it.
pub(crate) struct PendingSubmit<F> {
    task: Mutex<Option<F>>,
    /// Written and read under the pool's lock, which orders it.
    accepted: AtomicBool,
}

impl<F> PendingSubmit<F> {
    pub(super) fn new(task: F) -> PendingSubmit<F> {
        PendingSubmit {
            task: Mutex::new(Some(task)),
            accepted: AtomicBool::new(false),
        }
    }

    pub(super) fn accept(&self) {
        self.accepted.store(true, Relaxed);
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

impl<P: Launch<F>, F: Send> Accept<P> for PendingSubmit<F> {
    fn accept(&self) {
        PendingSubmit::accept(self);
    }

    fn is_accepted(&self) -> bool {
        PendingSubmit::is_accepted(self)
    }

    fn clear(&self) {
        drop(self.take());
    }

    fn start(&self, pool: &Arc<P>, meta: TaskMeta) {
        // Accepted, so the submit leaves it alone.
        if let Some(task) = self.take() {
            pool.launch(task, meta);
        }
    }
}

/// What a `submit` knows of its task in the line.
pub(crate) struct SubmitTicket<F> {
    pub(crate) index: usize,
    pub(crate) number: u64,
    pub(crate) offer: Arc<PendingSubmit<F>>,
}
