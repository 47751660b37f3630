//! The channel into the driver: entries go in at one end, and the driver is woken only for an entry
//! that is due before the one it sleeps for.
//!
//! The driver owns the heap behind it. What is known here of the heap's entries, it tells when a turn begins
//! and when it lies down.

use std::task::Waker;

use super::queue::Entry;
use crate::ground::timeline::Tick;

/// Entries that the driver has not taken yet, and how deep it sleeps.
///
/// Both are under the group's lock, so "is there something earlier?" and "lie down" are one step, and
/// so are "push" and "is it asleep?": no wake-up falls in between.
pub(super) struct Intake {
    entries: Vec<Entry>,
    /// The earliest deadline among `entries`.
    earliest: Tick,
    /// Not later than any live entry in the driver's heap.
    head: Tick,
    /// How many entries the driver holds.
    queued: usize,
    nap: Nap,
    /// Something else than an entry wants the driver to look.
    poked: bool,
}

enum Nap {
    /// The driver looks at the intake before it lies down.
    Awake,
    Asleep {
        until: Tick,
        waker: Waker,
    },
}

/// So many entries wake the driver though none is early: it moves them into its heap while the
/// producers go on, and the buffer stays small.
const FULL: usize = 1 << 16;
/// Dead entries beyond the live ones up to here are not worth a sweep.
const KEPT_DEAD: usize = 1024;

impl Default for Intake {
    fn default() -> Intake {
        Intake {
            entries: Vec::new(),
            earliest: Tick::NEVER,
            head: Tick::NEVER,
            queued: 0,
            nap: Nap::Awake,
            poked: false,
        }
    }
}

impl Intake {
    /// Takes an entry in; the driver's waker if it must be woken for it.
    pub(super) fn push(&mut self, entry: Entry) -> Option<Waker> {
        self.entries.push(entry);
        self.earliest = self.earliest.min(entry.at);
        match &self.nap {
            Nap::Asleep { until, .. } if entry.at < *until || self.entries.len() >= FULL => {
                self.rouse()
            }
            _ => None,
        }
    }

    /// Makes the driver look; its waker if it is asleep.
    pub(super) fn poke(&mut self) -> Option<Waker> {
        self.poked = true;
        self.rouse()
    }

    fn rouse(&mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.nap, Nap::Awake) {
            Nap::Asleep { waker, .. } => Some(waker),
            Nap::Awake => None,
        }
    }

    /// The driver is up and takes what has come in; it gives an empty buffer for what comes next.
    pub(super) fn drain(&mut self, empty: Vec<Entry>) -> Vec<Entry> {
        self.head = self.head();
        self.earliest = Tick::NEVER;
        self.queued += self.entries.len();
        std::mem::replace(&mut self.entries, empty)
    }

    /// The driver's heap holds so many entries, the first of them due then.
    pub(super) fn told(&mut self, head: Option<Tick>, queued: usize) {
        self.head = head.unwrap_or(Tick::NEVER);
        self.queued = queued;
    }

    /// No entry speaks for a job any more, and the driver has cleared its heap.
    pub(super) fn forget(&mut self) -> Vec<Entry> {
        let forgotten = self.drain(Vec::new());
        self.told(None, 0);
        forgotten
    }

    /// The driver is up: what it was poked for, it is about to see.
    pub(super) fn rise(&mut self) {
        self.nap = Nap::Awake;
        self.poked = false;
    }

    /// The driver lies down until then, unless there is something to look at first.
    pub(super) fn lie_down(&mut self, until: Tick, waker: &Waker) -> bool {
        let early =
            !self.entries.is_empty() && (self.earliest < until || self.entries.len() >= FULL);
        if early || self.poked {
            return false;
        }
        self.nap = Nap::Asleep {
            until,
            waker: waker.clone(),
        };
        true
    }

    /// Not later than any live entry, here and in the driver's heap.
    pub(super) fn head(&self) -> Tick {
        self.head.min(self.earliest)
    }

    /// Returns whether there are more dead entries than live ones, and enough to be worth a sweep.
    pub(super) fn has_too_many_for(&self, live: usize) -> bool {
        self.queued + self.entries.len() > 2 * live + KEPT_DEAD
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::queue::Stamp;
    use super::*;

    fn tick(at: u64) -> Tick {
        Tick::ALWAYS.after(Duration::from_nanos(at))
    }

    fn entry(at: u64) -> Entry {
        Entry {
            at: tick(at),
            stamp: Stamp::first(at),
            slot: 0,
        }
    }

    #[test]
    fn only_an_earlier_entry_wakes_the_sleeping_driver_and_only_once() {
        let mut intake = Intake::default();
        assert!(intake.lie_down(tick(10), Waker::noop()));
        assert!(intake.push(entry(10)).is_none());
        assert!(intake.push(entry(11)).is_none());
        assert!(intake.push(entry(9)).is_some());
        assert!(intake.push(entry(8)).is_none());
    }

    #[test]
    fn the_driver_does_not_lie_down_on_an_earlier_entry() {
        let mut intake = Intake::default();
        intake.push(entry(5));
        assert!(!intake.lie_down(tick(6), Waker::noop()));
        assert!(intake.lie_down(tick(5), Waker::noop()));
        assert_eq!(intake.drain(Vec::new()), [entry(5)]);
    }

    #[test]
    fn a_poke_is_not_lost_on_a_driver_that_is_up() {
        let mut intake = Intake::default();
        assert!(intake.poke().is_none());
        assert!(!intake.lie_down(tick(1), Waker::noop()));
        intake.rise();
        assert!(intake.lie_down(tick(1), Waker::noop()));
        assert!(intake.poke().is_some());
    }

    #[test]
    fn a_full_intake_wakes_the_driver() {
        let mut intake = Intake::default();
        assert!(intake.lie_down(tick(1), Waker::noop()));
        let woken = (0..FULL)
            .filter(|_| intake.push(entry(2)).is_some())
            .count();
        assert_eq!(woken, 1);
        assert!(!intake.lie_down(tick(1), Waker::noop()));
    }

    #[test]
    fn the_head_is_the_earliest_here_and_with_the_driver() {
        let mut intake = Intake::default();
        intake.push(entry(7));
        intake.drain(Vec::new());
        intake.push(entry(8));
        assert_eq!(intake.head(), tick(7), "the driver has it");
        intake.told(Some(tick(9)), 1);
        assert_eq!(intake.head(), tick(8));
        assert_eq!(intake.forget(), [entry(8)]);
        assert_eq!(intake.head(), Tick::NEVER);
    }

    #[test]
    fn entries_are_too_many_when_the_dead_outnumber_the_live_by_a_constant() {
        let mut intake = Intake::default();
        intake.told(None, KEPT_DEAD + 18);
        intake.push(entry(1));
        for place in ["here", "with the driver"] {
            assert!(!intake.has_too_many_for(10), "{place}");
            assert!(intake.has_too_many_for(9), "{place}");
            intake.drain(Vec::new());
        }
        intake.told(None, 0);
        assert!(!intake.has_too_many_for(0));
    }
}
