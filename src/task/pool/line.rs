//! The line of a pool: tasks that wait for a place, in order. Some are taken in; behind them stand those
//! whose `submit` is still asking.

use std::task::Waker;

use super::queued::{Queued, QueuedTask};
use super::wait_queue::WaitQueue;

/// The places of a pool, and the line behind them.
pub(super) struct Line<P> {
    queue: WaitQueue<Queued<P>>,
    /// Somebody is starting parked tasks: the others leave theirs to it.
    pumping: bool,
    /// Somebody listens to the token, for the line.
    watched: bool,
}

/// The head of the line, which has its place.
pub(super) struct Head<P> {
    pub(super) parked: Queued<P>,
    /// Wakes the `submit` whose task is taken in by this step of the line.
    pub(super) taken_in: Option<Waker>,
}

impl<P> Line<P> {
    /// So many places; so much of the line is taken in.
    pub(super) fn new(limit: usize, room: usize) -> Line<P> {
        Line {
            queue: WaitQueue::new(limit, room),
            pumping: false,
            watched: false,
        }
    }

    /// Takes a place, if one is free and nobody has asked before.
    pub(super) fn take(&mut self) -> bool {
        self.queue.take()
    }

    pub(super) fn give_back(&mut self) {
        self.queue.give_back();
    }

    pub(super) fn running(&self) -> usize {
        self.queue.taken()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// Stands a task at the end. A `submit` that finds room there is taken in at once.
    pub(super) fn stand(&mut self, parked: Queued<P>) -> u64 {
        if let QueuedTask::Submitted(offer, _) = &parked.task {
            if self.has_room() {
                offer.accept();
            }
        }
        self.queue.park(parked)
    }

    /// Is it for the caller to have the token listened to? Once.
    pub(super) fn watch(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true)
    }

    /// Wakes `fresh` for the `submit` of that number, and gives back the waker before; `Err` if it is not
    /// asking any more.
    pub(super) fn listen(&mut self, number: u64, fresh: Waker) -> Result<Option<Waker>, Waker> {
        match self.queue.asking(number) {
            Some(Queued {
                task: QueuedTask::Submitted(_, waker),
                ..
            }) => Ok(waker.replace(fresh)),
            _ => Err(fresh),
        }
    }

    /// Takes one out that is still asking.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<Queued<P>> {
        self.queue.withdraw(number)
    }

    /// Takes a page of the line out, to be skipped: nothing is added to it any more.
    pub(super) fn take_page(&mut self) -> Vec<Queued<P>> {
        self.queue.take_page()
    }

    /// The head of the line, if there is a place for it.
    pub(super) fn next(&mut self) -> Option<Head<P>> {
        let parked = self.queue.next()?;
        if let QueuedTask::Submitted(offer, _) = &parked.task {
            offer.accept();
        }
        let taken_in = match self.queue.newest_inside().map(|inside| &mut inside.task) {
            Some(QueuedTask::Submitted(offer, waker)) => {
                offer.accept();
                waker.take()
            }
            _ => None,
        };
        Some(Head { parked, taken_in })
    }

    /// Begins to start parked tasks; false if somebody else is at it.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.pumping, true)
    }

    pub(super) fn pause(&mut self) {
        self.pumping = false;
    }

    /// No task runs, waits, or is about to.
    pub(super) fn is_idle(&self) -> bool {
        !self.pumping && self.running() == 0 && self.waiting() == 0
    }
}
