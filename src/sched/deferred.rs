//! What the next who takes the group's lock has to record.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::rt::{AtomicU32, AtomicUsize};

/// Ends that need the lock but no haste: they are left to the next who takes it, for whatever reason.
///
/// Most handles are dropped right after their job was scheduled, and the values of a job that was cancelled right after
/// that. So each of these pairs takes the lock once instead of twice or three times.
pub(super) struct Deferred {
    /// The slot of the handle that was dropped last. Until it is counted down the slot of a job that has ended stays in
    /// use.
    handle: AtomicU32,
    /// Twice the number of jobs whose values have been dropped. It is [`CLOSED`] as soon as the group waits for the last of
    /// them: then nothing is deferred any more.
    //
    // One number, so that a drop and the close come one after the other: a drop before the close is taken by it, and who
    // drops after it knows.
    dropped: AtomicUsize,
}

/// No slot has this number.
const NONE: u32 = u32::MAX;
const CLOSED: usize = 1;

impl Default for Deferred {
    fn default() -> Deferred {
        Deferred {
            handle: AtomicU32::new(NONE),
            dropped: AtomicUsize::new(0),
        }
    }
}

impl Deferred {
    /// The handle on a slot is dropped. Returns the one before it, if that is still counted: then the caller takes the
    /// lock.
    pub(super) fn drop_handle(&self, slot: u32) -> Option<u32> {
        Some(self.handle.swap(slot, AcqRel)).filter(|&former| former != NONE)
    }

    /// The values of `count` jobs have been dropped. Returns `false` if the caller has to take the lock, and say so there.
    pub(super) fn dropped(&self, count: usize) -> bool {
        let more = |dropped| (dropped != CLOSED).then_some(dropped + 2 * count);
        self.dropped.fetch_update(AcqRel, Acquire, more).is_ok()
    }

    // With the lock held. A mere look comes first, since mostly there is nothing. To miss what is just coming leaves it to
    // the next.

    pub(super) fn take_handle(&self) -> Option<u32> {
        match self.handle.load(Relaxed) {
            NONE => None,
            _ => self.drop_handle(NONE),
        }
    }

    /// How many jobs' values have been dropped since the last call.
    pub(super) fn take_dropped(&self) -> usize {
        match self.dropped.load(Relaxed) {
            0 | CLOSED => 0,
            // Only the lock's holder closes it, so it is open still.
            _ => self.dropped.swap(0, AcqRel) / 2,
        }
    }

    /// The group waits for the last of its jobs from now on. Returns what [`take_dropped`](Deferred::take_dropped) would, for
    /// the last time.
    pub(super) fn close(&self) -> usize {
        match self.dropped.load(Relaxed) {
            CLOSED => 0,
            _ => self.dropped.swap(CLOSED, AcqRel) / 2,
        }
    }
}
