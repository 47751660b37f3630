//! The ready queue: due jobs that wait for a slot, and the limit on how many run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::common::time::Timestamp;
use crate::sched::queue::Entry;

/// Due jobs in release order, and the count of the slots of `max_running`.
///
/// Nearly all jobs are released in the order of their deadlines. They are in `in_order`, a FIFO queue. A job that is
/// released after one with a later deadline is in `overtaking`, a binary heap. The earlier of the two fronts is next.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    // A job that is cancelled or moved leaves its entry behind, dead, since neither structure can remove an entry from
    // its middle. The slot of an entry tells whether it is live, and the caller looks that up (`is_live`).
    in_order: VecDeque<Entry>,
    overtaking: BinaryHeap<Reverse<Entry>>,
    /// The number of live entries.
    waiting: usize,
    running: usize,
    limit: usize,
    /// The latest deadline of all jobs that were ever added.
    latest: Timestamp,
}

/// A sweep is worth it if the dead entries outnumber the live ones by more than this. Spare capacity up to this is
/// kept.
const KEPT: usize = 1024;

impl ReadyQueue {
    pub(super) fn new(limit: usize) -> ReadyQueue {
        ReadyQueue {
            in_order: VecDeque::new(),
            overtaking: BinaryHeap::new(),
            waiting: 0,
            running: 0,
            limit,
            latest: Timestamp::ALWAYS,
        }
    }

    /// Adds a job that is due.
    pub(super) fn push(&mut self, entry: Entry) {
        self.extend(std::iter::once(entry));
    }

    /// Adds jobs that are due. `entries` are in order.
    pub(super) fn extend(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut entries = entries.peekable();
        let Some(&first) = entries.peek() else {
            return;
        };
        let before = self.len();
        let mut latest = self.latest;
        let entries = entries.inspect(|entry| latest = latest.max(entry.at));
        if self.in_order.back().is_none_or(|last| *last < first) {
            self.in_order.extend(entries);
        } else {
            self.overtaking.extend(entries.map(Reverse));
        }
        self.latest = latest;
        self.waiting += self.len() - before;
    }

    /// Returns whether a job is known to be due, since one with the same or a later deadline was added before.
    pub(super) fn is_due(&self, entry: &Entry) -> bool {
        entry.at <= self.latest
    }

    /// Notes that the entry of a job is dead, which was cancelled or moved. Returns `true` if a sweep is worth it.
    pub(super) fn remove(&mut self) -> bool {
        // The entry is only uncounted. `take` skips it.
        self.waiting -= 1;
        if self.waiting == 0 {
            self.clear();
        }
        self.len() > 2 * self.waiting + KEPT
    }

    /// Returns the number of entries, dead ones included.
    fn len(&self) -> usize {
        self.in_order.len() + self.overtaking.len()
    }

    /// Removes the dead entries.
    pub(super) fn sweep(&mut self, mut is_live: impl FnMut(&Entry) -> bool) {
        self.in_order.retain(&mut is_live);
        self.in_order.shrink_to(2 * self.in_order.len());
        self.overtaking.retain(|Reverse(entry)| is_live(entry));
        self.overtaking.shrink_to(2 * self.overtaking.len());
    }

    /// Takes the next job in release order, if a slot is free for it. It counts as running. `take` returns `None` for
    /// a dead entry.
    pub(super) fn take<T>(
        &mut self,
        mut take: impl FnMut(&Entry) -> Option<T>,
    ) -> Option<(Entry, T)> {
        if self.startable() == 0 {
            return None;
        }
        let mut entries = std::iter::from_fn(|| self.pop());
        let taken = entries.find_map(|entry| Some((entry, take(&entry)?)))?;
        self.waiting -= 1;
        self.running += 1;
        if self.waiting == 0 {
            self.clear();
        }
        Some(taken)
    }

    fn pop(&mut self) -> Option<Entry> {
        let overtakes = match (self.in_order.front(), self.overtaking.peek()) {
            (Some(first), Some(Reverse(other))) => other < first,
            (first, _) => first.is_none(),
        };
        if overtakes {
            self.overtaking.pop().map(|Reverse(entry)| entry)
        } else {
            self.in_order.pop_front()
        }
    }

    /// Removes the dead entries when no live one is left.
    fn clear(&mut self) {
        self.in_order.clear();
        self.in_order.shrink_to(KEPT);
        self.overtaking.clear();
        self.overtaking.shrink_to(KEPT);
    }

    /// Notes that a running job has ended, or has not started after all.
    pub(super) fn free_slot(&mut self) {
        self.running -= 1;
    }

    /// Returns whether there is a limit on how many run.
    pub(super) fn is_limited(&self) -> bool {
        self.limit < usize::MAX
    }

    /// Returns for how many waiting jobs a slot is free.
    pub(super) fn startable(&self) -> usize {
        self.waiting.min(self.limit - self.running)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Returns an instant that is not later than the earliest deadline of a waiting job.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        let overtaking = self.overtaking.peek().map(|Reverse(entry)| entry);
        let fronts = self.in_order.front().into_iter().chain(overtaking);
        fronts.map(|entry| entry.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sched::queue::Sequence;

    /// An entry that is due after `at` milliseconds.
    fn entry(at: u64, job: u64) -> Entry {
        Entry {
            at: Timestamp::ALWAYS.after(Duration::from_millis(at)),
            sequence: Sequence::first(job),
            slot: 0,
        }
    }

    fn ready(limit: usize, waiting: u64) -> ReadyQueue {
        let mut ready = ReadyQueue::new(limit);
        (0..waiting).for_each(|job| ready.push(entry(0, job)));
        ready
    }

    fn next(ready: &mut ReadyQueue) -> Option<Entry> {
        ready.take(|_| Some(())).map(|(entry, ())| entry)
    }

    fn drain(ready: &mut ReadyQueue) -> Vec<u64> {
        std::iter::from_fn(|| next(ready))
            .map(|entry| entry.sequence.number())
            .collect()
    }

    #[test]
    fn jobs_are_taken_in_order_and_only_into_free_slots() {
        let mut ready = ready(2, 3);
        assert_eq!(next(&mut ready), Some(entry(0, 0)));
        assert_eq!(next(&mut ready), Some(entry(0, 1)));
        assert_eq!(next(&mut ready), None);
        ready.free_slot();
        assert_eq!(next(&mut ready), Some(entry(0, 2)));
    }

    #[test]
    fn a_job_that_becomes_due_later_with_an_earlier_deadline_overtakes() {
        let mut ready = ReadyQueue::new(9);
        for (at, job) in [(10, 0), (30, 1), (20, 2), (5, 3), (40, 4), (30, 5)] {
            ready.push(entry(at, job));
            let first = [10, 10, 10, 5, 5, 5][job as usize];
            assert_eq!(ready.earliest(), Some(entry(first, 0).at));
        }
        assert_eq!(drain(&mut ready), [3, 0, 2, 1, 5, 4]);
        assert_eq!(ready.earliest(), None);
    }

    #[test]
    fn jobs_that_become_due_in_order_need_no_heap() {
        let mut ready = ReadyQueue::new(0);
        (0..1000).for_each(|job| ready.push(entry(job / 3, job)));
        assert_eq!(ready.overtaking.capacity(), 0);
    }

    #[test]
    fn a_dead_entry_is_passed_over() {
        let mut ready = ready(9, 2);
        ready.remove();
        let taken = ready.take(|found| (found.sequence != Sequence::first(0)).then_some(()));
        assert_eq!(taken, Some((entry(0, 1), ())));
        assert_eq!((ready.waiting(), ready.running()), (0, 1));
    }

    #[test]
    fn dead_entries_never_outnumber_live_ones_by_more_than_a_constant() {
        let mut ready = ReadyQueue::new(0);
        for job in 0..10_000 {
            ready.push(entry(10 + job % 2, job));
        }
        let swept = (0..9_000).position(|_| ready.remove());
        assert_eq!(swept, Some(5_512), "waiting {}", ready.waiting());
        let live = ready.waiting() as u64;
        ready.sweep(|found| found.sequence.number() < live);
        let kept = ready.in_order.len() + ready.overtaking.len();
        assert_eq!(kept as u64, live);
        // As much again is kept as room.
        assert_eq!(ready.in_order.capacity(), 2 * ready.in_order.len());
        assert_eq!(ready.overtaking.capacity(), 2 * ready.overtaking.len());
        assert!(!ready.remove(), "it was swept");
    }

    #[test]
    fn storage_is_given_back_when_the_queue_empties() {
        let mut ready = ReadyQueue::new(usize::MAX);
        for job in 0..20_000 {
            ready.push(entry(10 + job % 2, job));
        }
        assert_eq!(drain(&mut ready).len(), 20_000);
        assert!(ready.in_order.capacity() <= KEPT);
        assert!(ready.overtaking.capacity() <= KEPT);
    }
}
