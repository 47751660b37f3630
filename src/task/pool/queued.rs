//! A task in the line of a pool, as data.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

type Caller = &'static Location<'static>;

/// A task that has no place yet.
pub(super) struct Parked<P> {
    pub(super) index: usize,
    pub(super) spawned_at: Caller,
    pub(super) task: Task<P>,
}

pub(super) enum Task<P> {
    Own(Box<dyn Start<P>>),
    /// A `submit` still holds the other end.
    Offered(Arc<dyn Accept<P>>, Option<Waker>),
}

impl<P> Task<P> {
    /// Starts it. If a `submit` waits, its waker comes back.
    pub(super) fn start(self, pool: &Arc<P>, ticket: Ticket) -> Option<Waker> {
        match self {
            Task::Own(task) => {
                task.start(pool, ticket);
                None
            }
            Task::Offered(offer, submit) => {
                offer.start(pool, ticket);
                submit
            }
        }
    }
}

impl<P> Parked<P> {
    /// Does the group, and no `submit`, answer for the task?
    pub(super) fn is_taken_in(&self) -> bool {
        match &self.task {
            Task::Own(_) => true,
            Task::Offered(offer, _) => offer.is_accepted(),
        }
    }
}

/// Names one task while it runs.
pub(super) struct Ticket {
    pub(super) index: usize,
    pub(super) seat: u32,
    pub(super) spawned_at: Caller,
}

/// What runs a task that has found its place.
pub(super) trait Launch<F> {
    fn launch(self: &Arc<Self>, task: F, ticket: Ticket);
}

pub(super) trait Start<P>: Send {
    fn start(self: Box<Self>, pool: &Arc<P>, ticket: Ticket);
}

impl<P: Launch<F>, F: Send> Start<P> for F {
    fn start(self: Box<Self>, pool: &Arc<P>, ticket: Ticket) {
        pool.launch(*self, ticket);
    }
}

pub(super) trait Accept<P>: Send + Sync {
    fn accept(&self);
    fn is_accepted(&self) -> bool;
    /// Drops the task.
    fn clear(&self);
    fn start(&self, pool: &Arc<P>, ticket: Ticket);
}

/// A task between a waiting `submit` and the line: whoever takes it out has it.
pub(crate) struct Offer<F> {
    task: Mutex<Option<F>>,
    /// Written and read under the pool's lock, which orders it.
    accepted: AtomicBool,
}

impl<F> Offer<F> {
    pub(super) fn new(task: F) -> Offer<F> {
        Offer {
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

impl<P: Launch<F>, F: Send> Accept<P> for Offer<F> {
    fn accept(&self) {
        Offer::accept(self);
    }

    fn is_accepted(&self) -> bool {
        Offer::is_accepted(self)
    }

    fn clear(&self) {
        drop(self.take());
    }

    fn start(&self, pool: &Arc<P>, ticket: Ticket) {
        // Accepted, so the submit leaves it alone.
        if let Some(task) = self.take() {
            pool.launch(task, ticket);
        }
    }
}

/// What a `submit` knows of its task in the line.
pub(crate) struct InLine<F> {
    pub(crate) index: usize,
    pub(crate) number: u64,
    pub(crate) offer: Arc<Offer<F>>,
}
