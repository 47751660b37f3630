//! Jobs of rows that were cancelled, and whose slots the group has still to free.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::rt::AtomicU32;

/// Slots of cancelled jobs, until the group's lock is taken the next time.
///
/// To free a slot alone costs the lock, and a wait for a line of memory that was not touched for long. So a table that
/// removes a row notes the slot here, and the wait for some of them is one. Who takes the group's lock frees what is
/// noted before anything else: so no caller ever sees that it was not done at once. Only an insert leaves a few, as it
/// neither looks at other slots nor changes them, and takes over one of them: the slot is neither freed nor taken anew,
/// and the driver learns nothing of it.
///
/// ```text
///            a table              under the group's lock
///   EMPTY ────────────▶ slot + 1 ─────────────────────────▶ EMPTY
///     │                    │
///     └────────────────────┴──▶ CLOSED: the group is to end, which the last cancel may bring about at once
/// ```
#[repr(align(64))]
pub(crate) struct Cancels([AtomicU32; CELLS]);

/// A line of memory. In a model each look at a cell multiplies the orders, and one shows all that can happen.
const CELLS: usize = if cfg!(loom) { 1 } else { 16 };
/// An insert takes them all, to have them taken over, when they are more than this.
const MANY: usize = CELLS * 3 / 4;

const EMPTY: u32 = 0;
/// No slot has the number one below.
const CLOSED: u32 = u32::MAX;

/// The slots that were noted.
#[derive(Default)]
pub(super) struct Noted {
    slots: [u32; CELLS],
    len: usize,
}

impl Noted {
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots[..self.len]
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        Some(self.slots[self.len])
    }

    fn push(&mut self, cell: u32) {
        if cell != EMPTY && cell != CLOSED {
            self.slots[self.len] = cell - 1;
            self.len += 1;
        }
    }
}

impl Cancels {
    pub(super) fn new() -> Cancels {
        Cancels(std::array::from_fn(|_| AtomicU32::new(EMPTY)))
    }

    /// Notes a cancel. Returns `false` if there is no room for it, and the caller has to take the group's lock.
    pub(crate) fn note(&self, slot: u32) -> bool {
        // What is closed stays so: this fails then, or `close` finds what it has noted.
        let mut free = self.0.iter().filter(|cell| cell.load(Relaxed) == EMPTY);
        free.any(|cell| {
            cell.compare_exchange(EMPTY, slot + 1, AcqRel, Relaxed)
                .is_ok()
        })
    }

    // Under the group's lock.

    /// Returns whether it is time for an insert to take what is noted.
    pub(super) fn are_many(&self) -> bool {
        // They are noted from the front.
        !matches!(self.0[MANY].load(Relaxed), EMPTY | CLOSED)
    }

    pub(super) fn take(&self) -> Noted {
        let mut noted = Noted::default();
        for cell in &self.0 {
            // Only who holds the lock empties a cell.
            let slot = cell.load(Acquire);
            if slot != EMPTY && slot != CLOSED {
                noted.push(slot);
                cell.store(EMPTY, Release);
            }
        }
        noted
    }

    /// From here on each cancel takes the lock. Returns those that were noted before.
    pub(super) fn close(&self) -> Noted {
        let mut noted = Noted::default();
        if self.0[0].load(Relaxed) == CLOSED {
            return noted;
        }
        for cell in &self.0 {
            noted.push(cell.swap(CLOSED, AcqRel));
        }
        noted
    }
}

// Those of loom can only be used in a model.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_taken_once() {
        let cancels = Cancels::new();
        for slot in 0..CELLS as u32 {
            assert_eq!(cancels.are_many(), slot as usize > MANY);
            assert!(cancels.note(slot));
        }
        assert!(!cancels.note(99), "it is full");
        assert!(cancels.take().slots().iter().copied().eq(0..CELLS as u32));
        assert_eq!(cancels.take().slots(), []);
        assert!(cancels.note(99));
        assert_eq!(cancels.take().slots(), [99]);
    }

    #[test]
    fn what_is_closed_stays_so() {
        let cancels = Cancels::new();
        assert!(cancels.note(7));
        assert_eq!(cancels.close().slots(), [7]);
        for _ in 0..2 {
            assert!(!cancels.note(8) && !cancels.are_many());
            assert_eq!(cancels.take().slots(), []);
            assert_eq!(cancels.close().slots(), []);
        }
    }
}
