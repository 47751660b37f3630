//! The channel into the driver. Callers push entries, and wake the driver only for one that is due before the deadline
//! that the driver sleeps for.
//!
//! The driver owns the heap behind the channel, which is not under the lock. It reports the size and the first deadline
//! of the heap at the end of each turn, in the step that releases the due jobs, and when a sweep has ended. If it
//! releases jobs in between, the last report still holds: no live entry is earlier, and there are no more of them.

use std::task::Waker;

use crate::common::time::Timestamp;
use crate::sched::queue::Entry;

// Arm or wake: an entry that is pushed while the driver goes to sleep must either be seen by the driver before it
// sleeps, or change its timer, or wake it. One turn of the driver:
//
// 1. Under the lock, it takes the entries out of the inbox.
// 2. Mostly without the lock, it moves them into its heap and takes the due ones out of the heap.
// 3. Under the lock of the timer and, within that, under the group's lock, it parks (`park`) until its next deadline.
// 4. Still under the lock of the timer, but no longer under the group's, it sets its timer to that deadline.
//
// A push between 1 and 3 finds the driver `Running`, and wakes nothing. In 3 `park` looks at the entries that have come
// since 1, in the same step, and refuses if one of them is due before the deadline that the driver would sleep for.
//
// A push after 3 finds `Parked`. If its entry is earlier than `until`, it sets the timer to the earlier deadline
// (`WakeDriver::At`). For this it needs the lock of the timer, so it comes after 4, and is not overwritten there. The
// next push of a still earlier entry takes the waker out and wakes the driver (`WakeDriver::Now`). If the driver is
// still between 3 and 4 then, tokio polls its task once more. So it is safe to set the timer after the group's lock.
//
// `notify` is for every other reason to take a turn. `notified` has the effect of an entry that is always earlier.
/// The entries that the driver has not taken yet, and the state of the driver.
pub(in crate::sched) struct Inbox {
    /// Pushed by callers, taken out by the driver.
    entries: Vec<Entry>,
    /// The earliest deadline among `entries`, or `NEVER`.
    earliest: Timestamp,
    /// Not later than any live entry in the driver's heap: the driver's last report, and the entries that it has taken
    /// out since (see `drain`).
    head: Timestamp,
    /// The number of entries in the driver's heap, kept in the same way.
    queued: usize,
    driver: DriverState,
    /// The waker of the driver. It stays here when the driver's own timer wakes it, and need not be cloned for each time
    /// that the driver parks.
    waker: Option<Waker>,
    /// There is a reason for a turn of the driver that is not an entry.
    notified: bool,
}

enum DriverState {
    /// The driver is in a turn, and looks at the inbox before it parks.
    Running,
    /// The driver sleeps. If its timer or the token wakes it, it stays in this state until its turn begins.
    Parked {
        /// The deadline that it sleeps for. Its timer may be set to an earlier instant (see `Timer`).
        until: Timestamp,
        /// An entry has come that is earlier than the driver's own deadline, and `until` is that of the entry.
        is_earlier: bool,
    },
}

/// How the driver is to be woken.
#[derive(Debug)]
pub(in crate::sched) enum WakeDriver {
    Now(Waker),
    /// By its timer, at this instant.
    At(Timestamp),
}

/// This many entries wake the driver though none of them is early. It moves them into its heap while the callers go on,
/// and the buffer stays small.
const FULL: usize = 1 << 16;
/// Callers that push more entries than this between two turns of the driver yield to it.
const CROWDED: usize = 1 << 13;
/// If the driver has nothing to sleep for, the buffer keeps room for this many entries: an idle group is to be small.
const KEPT_IDLE: usize = 16;
/// A sweep is worth it if the dead entries outnumber the live ones by more than this.
const KEPT_DEAD: usize = 256;

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            entries: Vec::new(),
            earliest: Timestamp::NEVER,
            head: Timestamp::NEVER,
            queued: 0,
            driver: DriverState::Running,
            waker: None,
            notified: false,
        }
    }
}

impl Inbox {
    /// Adds an entry. Returns how the driver is to be woken, if the entry makes that necessary.
    pub(super) fn push(&mut self, entry: Entry) -> Option<WakeDriver> {
        self.entries.push(entry);
        self.earliest = self.earliest.min(entry.at);
        match &mut self.driver {
            DriverState::Parked { .. } if self.entries.len() >= FULL => self.notify(),
            // An entry for exactly `until` is not early: the driver wakes up then, and takes the entry out before it
            // releases anything.
            DriverState::Parked {
                until, is_earlier, ..
            } if entry.at < *until => {
                // A second early entry wakes the driver, which takes all that follow. So a series of entries, each
                // earlier than the one before, does not set the timer for each of them.
                if *is_earlier {
                    return self.notify();
                }
                (*until, *is_earlier) = (entry.at, true);
                Some(WakeDriver::At(entry.at))
            }
            _ => None,
        }
    }

    /// Makes the driver take another turn. Returns its waker if it is parked.
    pub(super) fn notify(&mut self) -> Option<WakeDriver> {
        self.notified = true;
        // The waker is taken out, so that many callers wake the driver once.
        match std::mem::replace(&mut self.driver, DriverState::Running) {
            DriverState::Parked { .. } => self.take_waker().map(WakeDriver::Now),
            DriverState::Running => None,
        }
    }

    /// Takes the driver's waker out, for a driver that is woken or has gone.
    pub(in crate::sched) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Takes the entries out for the driver, and puts an empty buffer in their place.
    pub(super) fn drain(&mut self, empty: Vec<Entry>) -> Vec<Entry> {
        // They count as entries of the heap from here on, until the driver's next report.
        self.head = self.head();
        self.earliest = Timestamp::NEVER;
        self.queued += self.entries.len();
        std::mem::replace(&mut self.entries, empty)
    }

    /// The driver's report: its heap holds `queued` entries, and the first of them is due at `head`.
    pub(in crate::sched) fn set_queue_stats(&mut self, head: Timestamp, queued: usize) {
        self.head = head;
        self.queued = queued;
    }

    /// Takes out all entries after the driver has cleared its heap: every job has been dropped, and every entry is
    /// dead.
    pub(in crate::sched) fn forget(&mut self) -> Vec<Entry> {
        let forgotten = self.drain(Vec::new());
        self.set_queue_stats(Timestamp::NEVER, 0);
        forgotten
    }

    /// Notes that a turn of the driver begins.
    pub(super) fn on_wake(&mut self) {
        // In the same step the driver looks at everything it may have been notified for. A later `notify` makes `park`
        // refuse.
        self.driver = DriverState::Running;
        self.notified = false;
    }

    /// Parks the driver until `until`. Returns `false` if there is a reason for another turn instead.
    pub(super) fn park(&mut self, until: Timestamp, waker: &Waker) -> bool {
        if self.notified || self.earliest < until || self.entries.len() >= FULL {
            return false;
        }
        if until == Timestamp::NEVER {
            self.entries.shrink_to(KEPT_IDLE);
        }
        self.waker
            .get_or_insert_with(|| waker.clone())
            .clone_from(waker);
        self.driver = DriverState::Parked {
            until,
            is_earlier: false,
        };
        true
    }

    /// Returns whether callers push entries faster than the driver takes them out.
    pub(in crate::sched) fn is_crowded(&self) -> bool {
        self.entries.len() > CROWDED
    }

    /// Returns the earliest deadline among the entries that the driver has not taken out.
    pub(in crate::sched) fn earliest(&self) -> Timestamp {
        self.earliest
    }

    /// Returns an instant that is not later than any live entry here and in the driver's heap.
    pub(super) fn head(&self) -> Timestamp {
        self.head.min(self.earliest)
    }

    /// Returns whether there are enough entries beyond twice the `live` ones for a sweep to be worth it.
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
    fn the_driver_does_not_park_on_an_earlier_entry() {
        let mut inbox = Inbox::default();
        inbox.push(entry(5));
        assert!(!inbox.park(timestamp(6), Waker::noop()));
        assert!(inbox.park(timestamp(5), Waker::noop()));
        assert_eq!(inbox.drain(Vec::new()), [entry(5)]);
    }

    #[test]
    fn a_notification_is_not_lost_on_a_driver_that_runs() {
        let mut inbox = Inbox::default();
        assert!(inbox.notify().is_none());
        assert!(!inbox.park(timestamp(1), Waker::noop()));
        inbox.on_wake();
        assert!(inbox.park(timestamp(1), Waker::noop()));
        assert!(inbox.notify().is_some());
    }

    #[test]
    fn a_full_inbox_wakes_the_driver() {
        let mut inbox = Inbox::default();
        assert!(inbox.park(timestamp(1), Waker::noop()));
        let woken = (0..FULL).filter(|_| inbox.push(entry(2)).is_some()).count();
        assert_eq!(woken, 1);
    }

    #[test]
    fn the_driver_does_not_park_on_a_full_inbox() {
        let mut inbox = Inbox::default();
        (1..FULL).for_each(|_| drop(inbox.push(entry(2))));
        assert!(inbox.park(timestamp(1), Waker::noop()));
        inbox.on_wake();
        assert!(inbox.push(entry(2)).is_none(), "it runs");
        assert!(!inbox.park(timestamp(1), Waker::noop()));
    }

    #[test]
    fn the_head_is_the_earliest_here_and_with_the_driver() {
        let mut inbox = Inbox::default();
        inbox.push(entry(7));
        inbox.drain(Vec::new());
        inbox.push(entry(8));
        assert_eq!(inbox.head(), timestamp(7), "the driver has it");
        inbox.set_queue_stats(timestamp(9), 1);
        assert_eq!(inbox.head(), timestamp(8));
        assert_eq!(inbox.forget(), [entry(8)]);
        assert_eq!(inbox.head(), Timestamp::NEVER);
    }

    #[test]
    fn entries_are_too_many_when_the_dead_outnumber_the_live_by_a_constant() {
        let mut inbox = Inbox::default();
        inbox.set_queue_stats(Timestamp::NEVER, KEPT_DEAD + 19);
        inbox.push(entry(1));
        for holder in ["here", "with the driver"] {
            assert!(!inbox.has_too_many_for(10), "{holder}");
            assert!(inbox.has_too_many_for(9), "{holder}");
            inbox.drain(Vec::new());
        }
        inbox.set_queue_stats(Timestamp::NEVER, 0);
        assert!(!inbox.has_too_many_for(0));
    }
}
