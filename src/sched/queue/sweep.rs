//! A sweep removes dead entries: it gathers the live entries of all slots in a new queue, while the old one stays in
//! use.
//!
//! 1. In each turn of the driver a chunk of slots is looked up, in the same step under the lock that empties the inbox.
//!    So an entry that arrives later for a slot of that chunk is newer than what was seen in the slot.
//! 2. Such an entry goes into both queues. An entry for a slot of a later chunk goes only into the old one, since the
//!    slot is still to be looked up: so no entry is gathered twice.
//! 3. The new queue looks every slot up again before its entry can be popped (`push_late`). By this it notices a job
//!    that was moved later, or released from the old queue, after its chunk was looked up.
//! 4. When all chunks have been looked up, and all entries of the new queue that are due have been looked up again, the
//!    new queue replaces the old one, which may still have due entries: the new one has them too.

use std::ops::Range;

use super::heap::{Entry, Queue};
use crate::common::time::Timestamp;

#[derive(Debug)]
pub(in crate::sched) struct Sweep {
    fresh: Queue,
    /// The slots below this one were looked up in former turns.
    seen: u32,
    /// The first slot of the next chunk; `u32::MAX`, which is no slot, when all have been looked up.
    next: u32,
    /// The number of slots in a chunk.
    chunk_len: u32,
}

impl Sweep {
    pub(in crate::sched) fn new(now: Timestamp, chunk_len: u32) -> Sweep {
        Sweep {
            fresh: Queue::new(now),
            seen: 0,
            next: 0,
            chunk_len,
        }
    }

    /// Returns the slots to look up next.
    pub(in crate::sched) fn chunk(&self) -> Range<u32> {
        self.next..self.next.saturating_add(self.chunk_len)
    }

    /// Adds the entries of that chunk; `None` behind the last one.
    pub(in crate::sched) fn add_chunk(&mut self, entries: Option<Vec<Entry>>) {
        // Only up to the chunk of this turn: an entry for that chunk which was in the inbox at the time was seen in its
        // slot, and would be gathered twice.
        self.seen = self.next;
        self.next = match &entries {
            Some(_) => self.chunk().end,
            None => u32::MAX,
        };
        let entries = entries.into_iter().flatten();
        // Into the wheel, also if they are due, so that their slots are looked up again: the old queue may release the
        // jobs meanwhile.
        entries.for_each(|entry| self.fresh.push_late(entry));
    }

    /// Adds entries that were in the inbox when the chunk of this turn was looked up.
    pub(in crate::sched) fn add_arrived(&mut self, arrived: &[Entry]) {
        let seen = arrived.iter().filter(|entry| entry.slot < self.seen);
        seen.for_each(|&entry| self.fresh.push_late(entry));
    }

    /// Returns the new queue when all chunks have been looked up.
    pub(in crate::sched) fn gathered(&mut self) -> Option<&mut Queue> {
        (self.next == u32::MAX).then_some(&mut self.fresh)
    }
}
