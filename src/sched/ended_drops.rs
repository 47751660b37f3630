//! Jobs whose values have been dropped.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::rt::AtomicUsize;

/// How many jobs have had their values dropped after their end, ever. So a cancel need not take the group's lock a second
/// time to stop counting its job.
///
/// A group drains only when no value is left. So in a group that is closing, who counts a job here takes the lock after
/// that, and looks whether the group has drained.
#[derive(Default)]
pub(super) struct EndedDrops(AtomicUsize);

/// The group is closing. The other bits are the count, which may wrap around.
const CLOSED: usize = 1;

impl EndedDrops {
    /// Counts jobs. Returns whether the caller has to look whether the group has drained.
    #[must_use]
    pub(super) fn add(&self, count: usize) -> bool {
        // A race with `close` is decided here: either `close` comes later, and this is in the count that is read after
        // it, or this finds `CLOSED`. `AcqRel` pairs with `left_of`: the values are gone before the group has drained.
        self.0.fetch_add(count << 1, AcqRel) & CLOSED != 0
    }

    // Under the group's lock.

    /// Has every later caller of `add` look whether the group has drained.
    pub(super) fn close(&self) {
        // Called again and again: by each step that looks whether the group has drained.
        if self.0.load(Acquire) & CLOSED == 0 {
            self.0.fetch_or(CLOSED, AcqRel);
        }
    }

    /// Returns how many of the drops that have `begun`, ever, have not ended.
    pub(super) fn left_of(&self, begun: usize) -> usize {
        begun.wrapping_sub(self.0.load(Acquire) >> 1) & (usize::MAX >> 1)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_ended_is_left_also_after_more_drops_than_can_be_counted() {
        for former in [0, usize::MAX >> 1] {
            let drops = EndedDrops(AtomicUsize::new(former << 1));
            let begun = former.wrapping_add(3);
            assert!(!drops.add(2));
            assert_eq!(drops.left_of(begun), 1);
            drops.close();
            drops.close();
            assert_eq!(drops.left_of(begun), 1);
            assert!(drops.add(1));
            assert_eq!(drops.left_of(begun), 0);
        }
    }
}
