//! The channel into the driver: entries go in at one end, and the driver is woken only for an entry
//! that is due before the one it sleeps for.
//!
//! The driver owns the heap behind it. What is known here of the heap's entries, it reports when a turn begins
//! and when it parks.

use std::task::Waker;

use crate::common::time::Timestamp;
use crate::sched::queue::Entry;

// Arm or wake: a job that comes while the driver goes to sleep must either be seen by it, or wake it.
//
// 1. The driver takes the entries out, under the lock.
// 2. It puts them into its heap and releases what is due, mostly without the lock.
// 3. It parks until its next deadline, under the lock.
// 4. It sets its timer, without the lock, but under the timer's, which it has taken before 3.
//
// A push between 1 and 3 finds the driver `Running` and wakes nothing. But `park` is one step with a look at what
// has come since 1, and refuses if any of it is due before the deadline that the driver would sleep for.
//
// A push after 3 finds `Parked`. If its entry is the earlier one, the first such push after 3 sets the timer to it, and
// cannot do so before 4. The second one takes the waker out and wakes the driver. The driver may still be on
// its way to 4: then tokio polls its task once more. So the timer may be set after the lock.
//
// `notify` is the same for all other reasons to look; `notified` stands for an entry that is always early.
/// Entries that the driver has not taken yet, and until when it sleeps.
pub(in crate::sched) struct Inbox {
    /// Pushed by callers, taken by the driver.
    entries: Vec<Entry>,
    /// The earliest deadline among `entries`.
    earliest: Timestamp,
    /// Not later than any live entry in the driver's heap. As the driver reported it last; what it has taken since
    /// is counted in by `drain`.
    head: Timestamp,
    /// The number of entries that the driver holds, likewise.
    queued: usize,
    driver: DriverState,
    /// Something else than an entry wants the driver to look.
    notified: bool,
}

enum DriverState {
    /// The driver looks at the inbox before it parks.
    Running,
    Parked {
        /// The deadline that it sleeps for. It may be awake already by its timer or the token, and not know yet.
        until: Timestamp,
        waker: Waker,
        /// An earlier entry has come, and the timer is set to that instead.
        is_earlier: bool,
    },
}

/// How the driver is to be made to look.
#[derive(Debug)]
pub(in crate::sched) enum WakeDriver {
    Now(Waker),
    /// By its timer, at that time.
    At(Timestamp),
}

/// This many entries wake the driver though none is early: it moves them into its heap while the callers
/// continue, and the buffer stays small.
const FULL: usize = 1 << 16;
/// Callers that bring more than this between two turns of the driver make room for it.
const CROWDED: usize = 1 << 13;
/// Dead entries beyond the live ones up to here are not worth a sweep.
const KEPT_DEAD: usize = 1024;

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            entries: Vec::new(),
            earliest: Timestamp::NEVER,
            head: Timestamp::NEVER,
            queued: 0,
            driver: DriverState::Running,
            notified: false,
        }
    }
}

impl Inbox {
    /// Takes an entry in. Returns how the driver is to be woken if it must be for this one.
    pub(super) fn push(&mut self, entry: Entry) -> Option<WakeDriver> {
        self.entries.push(entry);
        self.earliest = self.earliest.min(entry.at);
        match &mut self.driver {
            DriverState::Parked { .. } if self.entries.len() >= FULL => self.notify(),
            // At the very instant is not earlier: the driver is awake then, and takes the entry in before it
            // releases anything.
            DriverState::Parked {
                until, is_earlier, ..
            } if entry.at < *until => {
                // Many of which each is earlier than the one before wake the driver once, and set no timer.
                if *is_earlier {
                    return self.notify();
                }
                (*until, *is_earlier) = (entry.at, true);
                Some(WakeDriver::At(entry.at))
            }
            _ => None,
        }
    }

    /// Makes the driver look. Returns its waker if it is asleep.
    pub(super) fn notify(&mut self) -> Option<WakeDriver> {
        self.notified = true;
        // Taken out, so that of many earlier entries only the first wakes the driver.
        match std::mem::replace(&mut self.driver, DriverState::Running) {
            DriverState::Parked { waker, .. } => Some(WakeDriver::Now(waker)),
            DriverState::Running => None,
        }
    }

    /// The driver is awake and takes what has come in; it gives an empty buffer for what comes next.
    pub(super) fn drain(&mut self, empty: Vec<Entry>) -> Vec<Entry> {
        // Until the driver reports anew, what it takes here still bounds the next deadline from below.
        self.head = self.head();
        self.earliest = Timestamp::NEVER;
        self.queued += self.entries.len();
        std::mem::replace(&mut self.entries, empty)
    }

    /// The driver's heap holds `queued` entries, the first of them due at `head`.
    pub(in crate::sched) fn set_queue_stats(&mut self, head: Option<Timestamp>, queued: usize) {
        self.head = head.unwrap_or(Timestamp::NEVER);
        self.queued = queued;
    }

    /// No entry speaks for a job any more, and the driver has cleared its heap.
    pub(in crate::sched) fn forget(&mut self) -> Vec<Entry> {
        let forgotten = self.drain(Vec::new());
        self.set_queue_stats(None, 0);
        forgotten
    }

    /// The driver is awake: what it was notified for, it is about to see.
    pub(super) fn on_wake(&mut self) {
        // In the step in which the driver looks at the state. What notifies after this step makes `park` refuse.
        self.driver = DriverState::Running;
        self.notified = false;
    }

    /// Parks the driver until then, unless there is something to look at first. Returns whether it is parked.
    pub(super) fn park(&mut self, until: Timestamp, waker: &Waker) -> bool {
        let early =
            !self.entries.is_empty() && (self.earliest < until || self.entries.len() >= FULL);
        if early || self.notified {
            return false;
        }
        self.driver = DriverState::Parked {
            until,
            waker: waker.clone(),
            is_earlier: false,
        };
        true
    }

    /// Returns whether entries come faster than the driver takes them.
    pub(in crate::sched) fn is_crowded(&self) -> bool {
        self.entries.len() > CROWDED
    }

    /// The earliest deadline among the entries that the driver has not taken yet.
    pub(in crate::sched) fn earliest(&self) -> Timestamp {
        self.earliest
    }

    /// Not later than any live entry, here and in the driver's heap.
    pub(super) fn head(&self) -> Timestamp {
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

    use super::*;
    use crate::sched::queue::Sequence;

    fn timestamp(at: u64) -> Timestamp {
        Timestamp::ALWAYS.after(Duration::from_nanos(at))
    }

    fn entry(at: u64) -> Entry {
        Entry {
            at: timestamp(at),
            sequence: Sequence::first(at),
            slot: 0,
        }
    }

    #[test]
    fn only_an_earlier_entry_concerns_the_sleeping_driver_and_the_second_wakes_it_at_once() {
        let mut inbox = Inbox::default();
        assert!(inbox.park(timestamp(10), Waker::noop()));
        assert!(inbox.push(entry(10)).is_none());
        assert!(inbox.push(entry(11)).is_none());
        let earlier = inbox.push(entry(9));
        assert!(matches!(earlier, Some(WakeDriver::At(at)) if at == timestamp(9)));
        assert!(inbox.push(entry(9)).is_none());
        assert!(matches!(inbox.push(entry(8)), Some(WakeDriver::Now(_))));
        assert!(inbox.push(entry(7)).is_none());
    }

    #[test]
    fn the_driver_does_not_lie_down_on_an_earlier_entry() {
        let mut inbox = Inbox::default();
        inbox.push(entry(5));
        assert!(!inbox.park(timestamp(6), Waker::noop()));
        assert!(inbox.park(timestamp(5), Waker::noop()));
        assert_eq!(inbox.drain(Vec::new()), [entry(5)]);
    }

    #[test]
    fn a_poke_is_not_lost_on_a_driver_that_is_up() {
        let mut inbox = Inbox::default();
        assert!(inbox.notify().is_none());
        assert!(!inbox.park(timestamp(1), Waker::noop()));
        inbox.on_wake();
        assert!(inbox.park(timestamp(1), Waker::noop()));
        assert!(inbox.notify().is_some());
    }

    #[test]
    fn a_full_intake_wakes_the_driver() {
        let mut inbox = Inbox::default();
        assert!(inbox.park(timestamp(1), Waker::noop()));
        let woken = (0..FULL).filter(|_| inbox.push(entry(2)).is_some()).count();
        assert_eq!(woken, 1);
        assert!(!inbox.park(timestamp(1), Waker::noop()));
    }

    #[test]
    fn the_head_is_the_earliest_here_and_with_the_driver() {
        let mut inbox = Inbox::default();
        inbox.push(entry(7));
        inbox.drain(Vec::new());
        inbox.push(entry(8));
        assert_eq!(inbox.head(), timestamp(7), "the driver has it");
        inbox.set_queue_stats(Some(timestamp(9)), 1);
        assert_eq!(inbox.head(), timestamp(8));
        assert_eq!(inbox.forget(), [entry(8)]);
        assert_eq!(inbox.head(), Timestamp::NEVER);
    }

    #[test]
    fn entries_are_too_many_when_the_dead_outnumber_the_live_by_a_constant() {
        let mut inbox = Inbox::default();
        inbox.set_queue_stats(None, KEPT_DEAD + 19);
        inbox.push(entry(1));
        for holder in ["here", "with the driver"] {
            assert!(!inbox.has_too_many_for(10), "{holder}");
            assert!(inbox.has_too_many_for(9), "{holder}");
            inbox.drain(Vec::new());
        }
        inbox.set_queue_stats(None, 0);
        assert!(!inbox.has_too_many_for(0));
    }
}
