//! The heap of deadlines. It is pure: it holds no job and reads no clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::ground::timeline::Tick;

/// A hint: "look at this slot no later than `at`". Whether the job is still there, and due, only its
/// slot knows; an entry that no longer speaks for its slot is dead and is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) at: Tick,
    pub(super) stamp: Stamp,
    pub(super) slot: u32,
}

/// Ties entries to jobs, and orders equal deadlines by submission.
///
/// The upper 56 bits are the job's number, which last for 2,000 years of a million jobs a second; the
/// lower eight count how often the job got a new entry. After 256 of them an old entry could speak
/// for the job again: the slot is then looked at once for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub(super) fn first(job: u64) -> Stamp {
        Stamp(job << 8)
    }

    pub(super) fn job(self) -> u64 {
        self.0 >> 8
    }

    /// The stamp of the same job's next entry.
    pub(super) fn renewed(self) -> Stamp {
        Stamp((self.0 & !0xff) | (self.0.wrapping_add(1) & 0xff))
    }
}

/// Entries in the order of (deadline, submission).
///
/// The one type that knows it is a binary heap.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
}

/// Below this capacity storage is not worth giving back.
const KEPT: usize = 1024;

impl Queue {
    pub(super) fn push(&mut self, entry: Entry) {
        self.heap.push(Reverse(entry));
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the first entry if it is due.
    pub(super) fn pop_due(&mut self, now: Tick) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        let entry = self.heap.pop();
        self.give_back();
        entry.map(|Reverse(entry)| entry)
    }

    /// Takes all entries out, in no order, to be put back with [`refill`](Queue::refill).
    pub(super) fn take(&mut self) -> Vec<Reverse<Entry>> {
        std::mem::take(&mut self.heap).into_vec()
    }

    /// Puts entries back that [`take`](Queue::take) took out.
    pub(super) fn refill(&mut self, entries: Vec<Reverse<Entry>>) {
        self.heap = BinaryHeap::from(entries);
        self.give_back();
    }

    pub(super) fn clear(&mut self) {
        self.heap = BinaryHeap::new();
    }

    /// A quarter full is the mark, so that each shrink is paid for by as many pops.
    fn give_back(&mut self) {
        let capacity = self.heap.capacity();
        if capacity > KEPT && self.heap.len() < capacity / 4 {
            self.heap.shrink_to(2 * self.heap.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(at: u64, job: u64) -> Entry {
        Entry {
            at: Tick::ALWAYS.after(Duration::from_nanos(at)),
            stamp: Stamp::first(job),
            slot: 0,
        }
    }

    fn drain(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop_due(Tick::NEVER))
            .map(|entry| entry.stamp.job())
            .collect()
    }

    #[test]
    fn entries_come_out_by_deadline_then_by_submission() {
        let mut queue = Queue::default();
        for (at, job) in [(3, 1), (1, 5), (2, 2), (1, 4), (3, 0)] {
            queue.push(entry(at, job));
        }
        assert_eq!(drain(&mut queue), [4, 5, 2, 0, 1]);
    }

    #[test]
    fn nothing_comes_out_before_its_time() {
        let mut queue = Queue::default();
        queue.push(entry(10, 0));
        assert_eq!(queue.pop_due(entry(9, 0).at), None);
        assert_eq!(queue.pop_due(entry(10, 0).at), Some(entry(10, 0)));
    }

    #[test]
    fn storage_is_given_back_after_a_burst() {
        let mut queue = Queue::default();
        for at in 0..100_000 {
            queue.push(entry(at, at));
        }
        drain(&mut queue);
        assert!(
            queue.heap.capacity() <= KEPT,
            "{} entries kept",
            queue.heap.capacity()
        );
    }

    #[test]
    fn a_renewed_stamp_keeps_its_job_and_wraps_within_it() {
        let first = Stamp::first(7);
        let mut stamp = first;
        for _ in 0..255 {
            stamp = stamp.renewed();
            assert_eq!(stamp.job(), 7);
            assert_ne!(stamp, first);
        }
        assert_eq!(stamp.renewed(), first);
    }
}
