//! A sweep of the heap: the entries of all jobs that wait, gathered anew beside the heap that goes on
//! serving.
//!
//! 1. In each turn of the driver a page of slots is looked up, in the same step under the lock that empties
//!    the inbox. So an entry that arrives later for a slot of a former page is newer than what was seen there.
//! 2. Such an entry goes into both heaps. For a slot that is still to come its page will do, so that
//!    nothing is gathered twice.
//! 3. A job that is moved later keeps its entry in either heap. What the old heap releases meanwhile, the new
//!    one finds gone when it looks the slot up, which it does for each before anything can be popped.
//! 4. When all pages are turned, and what is due by now has been looked up once more, the new heap takes the
//!    place of the old one.

use std::ops::Range;

use super::heap::{Entry, Queue};
use crate::common::time::Timestamp;

#[derive(Debug)]
pub(in crate::sched) struct Sweep {
    fresh: Queue,
    /// Slab below this one were looked up in former turns.
    seen: u32,
    /// The first slot that is still to come; none is when it is `u32::MAX`, which is no slot.
    next: u32,
    /// Slab in a page.
    page: u32,
}

impl Sweep {
    pub(in crate::sched) fn new(now: Timestamp, page: u32) -> Sweep {
        Sweep {
            fresh: Queue::new(now),
            seen: 0,
            next: 0,
            page,
        }
    }

    /// The slots to look up next.
    pub(in crate::sched) fn page(&self) -> Range<u32> {
        self.next..self.next.saturating_add(self.page)
    }

    /// What that page held; `None` behind the last one.
    pub(in crate::sched) fn turn_page(&mut self, entries: Option<Vec<Entry>>) {
        self.seen = self.next;
        self.next = match &entries {
            Some(_) => self.page().end,
            None => u32::MAX,
        };
        let entries = entries.into_iter().flatten();
        entries.for_each(|entry| self.fresh.push_late(entry));
    }

    /// Entries that had arrived when this turn's page was looked up.
    pub(in crate::sched) fn drain_inbox(&mut self, arrived: &[Entry]) {
        let seen = arrived.iter().filter(|entry| entry.slot < self.seen);
        seen.for_each(|&entry| self.fresh.push_late(entry));
    }

    /// The new heap, when all pages have been turned.
    pub(in crate::sched) fn gathered(&mut self) -> Option<&mut Queue> {
        (self.next == u32::MAX).then_some(&mut self.fresh)
    }
}
