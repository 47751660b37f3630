//! A dropped handle that is still counted.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::rt::AtomicU32;

/// The slot of a handle that was dropped, until the next caller takes the group's lock and counts it down.
///
/// Most handles are dropped right after their job was scheduled, so the next `schedule` does that, and the drop takes
/// no lock. Until then the slot of a job that has ended stays in use.
pub(super) struct DroppedHandle(AtomicU32);

/// No slot has this number.
const NONE: u32 = u32::MAX;

impl Default for DroppedHandle {
    fn default() -> DroppedHandle {
        DroppedHandle(AtomicU32::new(NONE))
    }
}

impl DroppedHandle {
    /// Leaves a handle to the next who takes the lock. Returns `false` if another one is still left.
    pub(super) fn leave(&self, slot: u32) -> bool {
        let left = self.0.compare_exchange(NONE, slot, Release, Relaxed);
        left.is_ok()
    }

    /// Takes what was left, with the lock held.
    pub(super) fn take(&self) -> Option<u32> {
        // Mostly there is none. To miss one that is just coming leaves it to the next.
        let slot = self.0.load(Acquire);
        if slot == NONE {
            return None;
        }
        // A mere store will do: only who holds the lock empties it, and what is not empty is changed by no other.
        self.0.store(NONE, Release);
        Some(slot)
    }
}
