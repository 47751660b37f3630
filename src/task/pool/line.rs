//! The line of a pool: tasks that wait for a place, in order. Some are taken in; behind them stand those
//! whose `submit` is still asking.

use std::task::Waker;

use super::queued::{Parked, Task};
use super::wait_queue::Permits;

/// The places of a pool, and the line behind them.
pub(super) struct Line<P> {
    permits: Permits<Parked<P>>,
    /// Somebody is starting parked tasks: the others leave theirs to it.
    pumping: bool,
    /// Somebody listens to the token, for the line.
    watched: bool,
}

/// The head of the line, which has its place.
pub(super) struct Head<P> {
    pub(super) parked: Parked<P>,
    /// Wakes the `submit` whose task is taken in by this step of the line.
    pub(super) taken_in: Option<Waker>,
}

impl<P> Line<P> {
    /// So many places; so much of the line is taken in.
    pub(super) fn new(limit: usize, room: usize) -> Line<P> {
        Line {
            permits: Permits::new(limit, room),
            pumping: false,
            watched: false,
        }
    }

    /// Takes a place, if one is free and nobody has asked before.
    pub(super) fn take(&mut self) -> bool {
        self.permits.take()
    }

    pub(super) fn give_back(&mut self) {
        self.permits.give_back();
    }

    pub(super) fn running(&self) -> usize {
        self.permits.taken()
    }

    pub(super) fn waiting(&self) -> usize {
        self.permits.waiting()
    }

    pub(super) fn has_room(&self) -> bool {
        self.permits.has_room()
    }

    /// Stands a task at the end. A `submit` that finds room there is taken in at once.
    pub(super) fn stand(&mut self, parked: Parked<P>) -> u64 {
        if let Task::Offered(offer, _) = &parked.task {
            if self.has_room() {
                offer.accept();
            }
        }
        self.permits.park(parked)
    }

    /// Is it for the caller to have the token listened to? Once.
    pub(super) fn watch(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true)
    }

    /// Wakes `fresh` for the `submit` of that number, and gives back the waker before; `Err` if it is not
    /// asking any more.
    pub(super) fn listen(&mut self, number: u64, fresh: Waker) -> Result<Option<Waker>, Waker> {
        match self.permits.asking(number) {
            Some(Parked {
                task: Task::Offered(_, waker),
                ..
            }) => Ok(waker.replace(fresh)),
            _ => Err(fresh),
        }
    }

    /// Takes one out that is still asking.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<Parked<P>> {
        self.permits.withdraw(number)
    }

    /// Takes a page of the line out, to be skipped: nothing is added to it any more.
    pub(super) fn take_page(&mut self) -> Vec<Parked<P>> {
        self.permits.take_page()
    }

    /// The head of the line, if there is a place for it.
    pub(super) fn next(&mut self) -> Option<Head<P>> {
        let parked = self.permits.next()?;
        if let Task::Offered(offer, _) = &parked.task {
            offer.accept();
        }
        let taken_in = match self.permits.newest_inside().map(|inside| &mut inside.task) {
            Some(Task::Offered(offer, waker)) => {
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
