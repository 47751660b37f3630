//! A sweep of the heap: the entries of all jobs that wait, gathered anew beside the heap that continues to
//! serve.
//!
//! 1. In each turn of the driver a chunk of slots is looked up, in the same step under the lock that empties
//!    the inbox. So an entry that arrives later for a slot of a former chunk is newer than what was seen there.
//! 2. Such an entry goes into both heaps. A slot that is still to come is looked up with its chunk, so that
//!    nothing is gathered twice.
//! 3. A job that is moved later keeps its entry in either heap. What the old heap releases meanwhile, the new
//!    one finds released when it looks the slot up, which it does for each before anything can be popped.
//! 4. When all chunks have been looked up, and what is due by now has been looked up once more, the new heap
//!    replaces the old one.

use std::ops::Range;

use super::heap::{Entry, Queue};
use crate::common::time::Timestamp;

#[derive(Debug)]
pub(in crate::sched) struct Sweep {
    fresh: Queue,
    /// Slots below this one were looked up in former turns.
    seen: u32,
    /// The first slot that is still to come; none is when it is `u32::MAX`, which is no slot.
    next: u32,
    /// Slots in a chunk.
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

    /// Adds what that chunk held; `None` behind the last one.
    pub(in crate::sched) fn add_chunk(&mut self, entries: Option<Vec<Entry>>) {
        // Not up to the chunk of this turn: what has arrived with it is seen there, and would be gathered twice.
        self.seen = self.next;
        self.next = match &entries {
            Some(_) => self.chunk().end,
            None => u32::MAX,
        };
        let entries = entries.into_iter().flatten();
        // Late, also if it is due: into the wheel, from which it comes out only by a look at its slot. By then the
        // old heap may have released it.
        entries.for_each(|entry| self.fresh.push_late(entry));
    }

    /// Adds the entries that had arrived when this turn's chunk was looked up.
    pub(in crate::sched) fn drain_inbox(&mut self, arrived: &[Entry]) {
        let seen = arrived.iter().filter(|entry| entry.slot < self.seen);
        seen.for_each(|&entry| self.fresh.push_late(entry));
    }

    /// Returns the new heap, when all chunks have been looked up.
    pub(in crate::sched) fn gathered(&mut self) -> Option<&mut Queue> {
        (self.next == u32::MAX).then_some(&mut self.fresh)
    }
}
