//! Cancels of rows that were noted without the group's lock.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::rt::AtomicU32;

/// The slots of rows whose cancels are noted and not applied yet.
///
/// To cancel one row costs the group's lock, and a cache miss for its slot. So a table that removes a row only notes
/// the slot here, under its own lock. The cancels are applied together, and the misses overlap.
///
/// - Every caller that takes the group's lock applies the noted cancels before anything else (`State::apply_cancels`).
///   So no caller can see that a cancel was not applied at once.
/// - A handle that moves its job, or asks for its state, does not: it looks at no row (`Shared::enter_without_tables`).
/// - Nor does the insert of a row: it does not look at other jobs. Once many cancels are noted, it takes them out, and
///   the next inserts take over these slots one by one (`State::insert_row`). Then the slot is neither freed nor taken
///   anew, and the driver keeps the entry that it has.
/// - In a group that is closing no cancel may be left noted, since the last cancel drains the group. So the cells are
///   `CLOSED`, and each cancel takes the group's lock. If the first table comes when the group is closing already, another
///   job is held then, and the step that stops counting that job closes the cells.
///
/// ```text
///          noted by a table            taken under the group's lock
///   EMPTY ─────────────────▶ slot + 1 ──────────────────────────────▶ EMPTY
///     │                         │
///     └─────────────────────────┴──▶ CLOSED, under the group's lock, for ever
/// ```
#[repr(align(64))]
pub(crate) struct Cancels([AtomicU32; CELLS]);

/// As many as a line of the cache holds. For loom one is enough, since each access multiplies the orders to explore.
const CELLS: usize = if cfg!(loom) { 1 } else { 16 };
/// An insert takes the noted slots out when there are more than this.
const MANY: usize = CELLS * 3 / 4;

const EMPTY: u32 = 0;
/// Not the cell of any slot, since no slot has the number `u32::MAX - 1`.
const CLOSED: u32 = u32::MAX;

/// Slots that were taken out of [`Cancels`].
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

    /// Notes the cancel of a row. Returns `false` if there is no room or the group is closing: then the caller has to
    /// cancel the row under the group's lock.
    pub(crate) fn note(&self, slot: u32) -> bool {
        // A race with `close` is decided by the cell: either `close` finds the slot in it, or this finds it `CLOSED`,
        // and fails. `Release` pairs with `take` and `close`: the row is out of its table before its slot is freed.
        let mut free = self.0.iter().filter(|cell| cell.load(Relaxed) == EMPTY);
        free.any(|cell| {
            cell.compare_exchange(EMPTY, slot + 1, Release, Relaxed)
                .is_ok()
        })
    }

    // Under the group's lock.

    /// Returns whether enough cancels are noted for an insert to take them out.
    pub(super) fn are_many(&self) -> bool {
        // The cells are filled from the front.
        !matches!(self.0[MANY].load(Relaxed), EMPTY | CLOSED)
    }

    /// Takes the noted slots out.
    pub(super) fn take(&self) -> Noted {
        let mut noted = Noted::default();
        for cell in &self.0 {
            // A load and a store are enough: only a holder of the group's lock changes a cell that is not empty. An
            // empty cell publishes nothing.
            let slot = cell.load(Acquire);
            if slot != EMPTY && slot != CLOSED {
                noted.push(slot);
                cell.store(EMPTY, Relaxed);
            }
        }
        noted
    }

    /// Lets no cancel be noted any more. Returns the slots that were noted before.
    pub(super) fn close(&self) -> Noted {
        let mut noted = Noted::default();
        if self.0[0].load(Relaxed) == CLOSED {
            return noted;
        }
        for cell in &self.0 {
            noted.push(cell.swap(CLOSED, Acquire));
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
