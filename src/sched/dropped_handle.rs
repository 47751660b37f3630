//! A dropped handle that is still counted.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::rt::AtomicU32;

/// The slot of the handle that was dropped last, until somebody takes the group's lock, for whatever reason, and counts it
/// down.
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
    /// Leaves a handle to the next who takes the lock. Returns the one that was left before, if it is still counted.
    pub(super) fn replace(&self, slot: u32) -> Option<u32> {
        Some(self.0.swap(slot, AcqRel)).filter(|&former| former != NONE)
    }

    /// Takes what was left, with the lock held.
    pub(super) fn take(&self) -> Option<u32> {
        // A mere look first, since mostly there is none. To miss one that is just coming leaves it to the next.
        if self.0.load(Relaxed) == NONE {
            return None;
        }
        self.replace(NONE)
    }
}
