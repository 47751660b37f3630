//! A handle of a job that was dropped and is still counted.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::rt::AtomicU32;

/// The slot of a handle that was dropped without the group's lock. The next caller that takes the lock counts it down.
///
/// Most handles are dropped right after their job was scheduled. So the drop takes no lock, and the next `schedule`
/// does this on the way. Until then the slot of a job that has ended stays in use.
pub(super) struct DroppedHandle(AtomicU32);

/// No slot has this number.
const NONE: u32 = u32::MAX;

impl Default for DroppedHandle {
    fn default() -> DroppedHandle {
        DroppedHandle(AtomicU32::new(NONE))
    }
}

impl DroppedHandle {
    /// Leaves a handle to the next caller that takes the lock. Returns `false` if another one is still left.
    pub(super) fn leave(&self, slot: u32) -> bool {
        // Pairs with `take`: what was done through the handle comes before its slot is given to another job.
        let left = self.0.compare_exchange(NONE, slot, Release, Relaxed);
        left.is_ok()
    }

    /// Takes the handle that was left. The caller holds the group's lock.
    pub(super) fn take(&self) -> Option<u32> {
        // Mostly there is none. One that is left concurrently may be missed, and is taken by the next caller.
        let slot = self.0.load(Acquire);
        if slot == NONE {
            return None;
        }
        // A store is enough: only a holder of the lock empties this, and `leave` does not change it while it is not
        // empty. It publishes nothing.
        self.0.store(NONE, Relaxed);
        Some(slot)
    }
}
