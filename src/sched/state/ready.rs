//! The ready queue: due jobs that wait for a slot, and the limit on how many run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::common::time::Timestamp;
use crate::sched::queue::Entry;

/// Due jobs in release order, and the count of the slots of `max_running`.
///
/// A job that is cancelled or moved leaves its entry behind, dead, since no entry can be removed from the middle. The
/// slot of an entry tells whether it is live, and the caller looks that up (`is_live`). When there are many dead ones,
/// they are swept, a few at a time, since all of this is under the group's lock: the entries become `unswept`, and each
/// step takes some of them out and puts the live ones back.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    entries: Entries,
    /// The entries that a sweep has yet to look at.
    unswept: Entries,
    /// The number of live entries.
    waiting: usize,
    running: usize,
    limit: usize,
    /// The latest deadline of all jobs that were ever added.
    latest: Timestamp,
}

/// Entries, of which the first can be taken out.
///
/// Nearly all jobs are released in the order of their deadlines. They are in `in_order`, a FIFO queue. A job that is
/// released after one with a later deadline is in `overtaking`, a binary heap. The earlier of the two fronts is first.
#[derive(Debug, Default)]
struct Entries {
    in_order: VecDeque<Entry>,
    overtaking: BinaryHeap<Reverse<Entry>>,
}

/// Returns the capacity to shrink to, if most of it is spare.
fn shrunk(capacity: usize, len: usize) -> Option<usize> {
    (capacity > KEPT && capacity / 4 >= len).then_some(capacity / 2)
}

impl Entries {
    /// Adds entries, which are in order.
    fn extend(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut entries = entries.peekable();
        let Some(first) = entries.peek() else {
            return;
        };
        if self.in_order.back().is_none_or(|last| last < first) {
            self.in_order.extend(entries);
        } else {
            self.overtaking.extend(entries.map(Reverse));
        }
    }

    fn first(&self) -> Option<&Entry> {
        let overtaking = self.overtaking.peek().map(|Reverse(entry)| entry);
        self.in_order.front().into_iter().chain(overtaking).min()
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

    fn shrink(&mut self) {
        let (in_order, overtaking) = (&mut self.in_order, &mut self.overtaking);
        if let Some(capacity) = shrunk(in_order.capacity(), in_order.len()) {
            in_order.shrink_to(capacity);
        }
        if let Some(capacity) = shrunk(overtaking.capacity(), overtaking.len()) {
            overtaking.shrink_to(capacity);
        }
    }

    fn len(&self) -> usize {
        self.in_order.len() + self.overtaking.len()
    }

    fn clear(&mut self) {
        self.in_order.clear();
        self.overtaking.clear();
        // Asked here, since a `VecDeque` takes long to find that it need not shrink.
        if self.in_order.capacity() > KEPT {
            self.in_order.shrink_to(KEPT);
        }
        self.overtaking.shrink_to(KEPT);
    }
}

/// A sweep is worth it if the dead entries outnumber the live ones by more than this. Spare capacity up to this is
/// kept.
const KEPT: usize = 128;
/// A step of a sweep looks at this many entries.
const SWEPT: usize = 64;
/// A claim looks at no more entries than this: at its jobs, and at the dead entries that it skips.
pub(super) const MOST_LOOKS: usize = 512;

impl ReadyQueue {
    pub(super) fn new(limit: usize) -> ReadyQueue {
        ReadyQueue {
            entries: Entries::default(),
            unswept: Entries::default(),
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
        let before = self.entries.len();
        let mut latest = self.latest;
        self.entries
            .extend(entries.inspect(|entry| latest = latest.max(entry.at)));
        self.latest = latest;
        self.waiting += self.entries.len() - before;
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
        self.entries.len() + self.unswept.len() > 2 * self.waiting + KEPT
    }

    /// Makes one step of a sweep.
    ///
    /// Each entry that dies costs a step at most, so a sweep ends before many more have died.
    pub(super) fn sweep(&mut self, mut is_live: impl FnMut(&Entry) -> bool) {
        if self.unswept.len() == 0 {
            std::mem::swap(&mut self.entries, &mut self.unswept);
        }
        let looked_at = std::iter::from_fn(|| self.unswept.pop()).take(SWEPT);
        looked_at
            .filter(|entry| is_live(entry))
            .for_each(|entry| self.entries.extend(std::iter::once(entry)));
        if self.unswept.len() == 0 {
            self.unswept = Entries::default();
        }
    }

    /// Takes the next job in release order, if a slot is free for it. It counts as running. `take` returns `None` for
    /// a dead entry. It looks at no more than `looks` entries, and counts down by those. If there are more dead ones
    /// before the job, they are skipped, and there is no job: the caller has to let go of the lock, and try again.
    pub(super) fn take<T>(
        &mut self,
        looks: &mut usize,
        mut take: impl FnMut(&Entry) -> Option<T>,
    ) -> Option<(Entry, T)> {
        if self.startable() == 0 {
            return None;
        }
        let mut entries = std::iter::from_fn(|| {
            *looks = looks.checked_sub(1)?;
            self.pop()
        });
        let taken = entries.find_map(|entry| Some((entry, take(&entry)?)))?;
        self.waiting -= 1;
        self.running += 1;
        if self.waiting == 0 {
            self.clear();
        }
        Some(taken)
    }

    fn pop(&mut self) -> Option<Entry> {
        let unswept = self.unswept.first();
        let is_first =
            unswept.is_some_and(|first| self.entries.first().is_none_or(|other| first < other));
        if is_first {
            self.unswept.pop()
        } else {
            self.entries.pop()
        }
    }

    /// Gives some storage back while a backlog shrinks, also if it never empties. To be called once for some jobs that
    /// were taken out.
    pub(super) fn shrink(&mut self) {
        // When none waits, it was given back by `clear`.
        if self.waiting > 0 {
            self.entries.shrink();
            self.unswept.shrink();
        }
    }

    /// Removes the dead entries when no live one is left.
    fn clear(&mut self) {
        self.entries.clear();
        self.unswept.clear();
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
        let firsts = self.entries.first().into_iter().chain(self.unswept.first());
        firsts.map(|entry| entry.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
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
        let mut looks = 1;
        let taken = ready.take(&mut looks, |_| Some(()));
        taken.map(|(entry, ())| entry)
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
        assert_eq!(ready.entries.overtaking.capacity(), 0);
    }

    #[test]
    fn a_dead_entry_is_passed_over() {
        let mut ready = ready(9, 2);
        ready.remove();
        let is_live = |found: &Entry| (found.sequence != Sequence::first(0)).then_some(());
        let taken = ready.take(&mut 2, is_live);
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
        assert_eq!(swept, Some(5_064), "waiting {}", ready.waiting());
        let live = ready.waiting() as u64;
        let (mut looked_at, mut steps) = (0, 0);
        while steps == 0 || ready.unswept.len() > 0 {
            ready.sweep(|found| {
                looked_at += 1;
                found.sequence.number() < live
            });
            steps += 1;
        }
        assert_eq!((looked_at, steps), (10_000, 10_000_usize.div_ceil(SWEPT)));
        assert_eq!(ready.entries.len(), ready.waiting());
        assert_eq!(ready.unswept.in_order.capacity(), 0);
        assert_eq!(ready.unswept.overtaking.capacity(), 0);
        assert!(!ready.remove(), "it was swept");
    }

    /// While jobs are added, taken and removed, in any order of their deadlines.
    #[test]
    fn a_sweep_that_is_under_way_changes_no_order() {
        let mut ready = ReadyQueue::new(usize::MAX);
        let (mut live, mut seed) = (BTreeSet::new(), 1_u64);
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut steps_under_way = 0;
        for job in 0..60_000 {
            let fresh = entry(job / 8 + random(1_000), job);
            live.insert(fresh);
            ready.push(fresh);
            for _ in 0..random(3) {
                let from = entry(job / 8 + random(1_000), job);
                let found = live.range(from..).next().copied();
                if found.is_some_and(|found| live.remove(&found)) && ready.remove() {
                    ready.sweep(|found| live.contains(found));
                    steps_under_way += u32::from(ready.unswept.len() > 0);
                }
            }
            if random(16) == 0 {
                let first = live.first().copied();
                assert!(ready.earliest() <= first.map(|first| first.at));
                let mut taken = None;
                while taken.is_none() && ready.startable() > 0 {
                    let mut looks = MOST_LOOKS;
                    taken = ready.take(&mut looks, |found| live.remove(found).then_some(()));
                }
                assert_eq!(taken.map(|(taken, ())| taken), first);
            }
            assert_eq!(ready.waiting(), live.len());
        }
        assert!(steps_under_way > 100, "{steps_under_way}");
    }

    #[test]
    fn a_take_skips_a_limited_number_of_dead_entries() {
        let mut ready = ready(1, 1_000);
        (0..999).for_each(|_| _ = ready.remove());
        let take = |ready: &mut ReadyQueue, mut looks: usize| {
            let is_live = |found: &Entry| (found.sequence == Sequence::first(999)).then_some(());
            (ready.take(&mut looks, is_live), looks)
        };
        assert_eq!(take(&mut ready, 512), (None, 0));
        assert_eq!(take(&mut ready, 512), (Some((entry(0, 999), ())), 24));
    }

    /// So that its cost is spread over many takes.
    #[test]
    fn storage_is_halved_when_a_quarter_of_it_or_less_is_in_use() {
        assert_eq!(shrunk(4 * KEPT, KEPT + 1), None);
        assert_eq!(shrunk(4 * KEPT, KEPT), Some(2 * KEPT));
        assert_eq!(shrunk(KEPT, 0), None, "this much is kept");
    }

    /// Also in the middle of a sweep.
    #[test]
    fn storage_is_given_back_though_a_few_of_a_backlog_still_wait() {
        for swept in [0, 1] {
            let mut ready = ReadyQueue::new(usize::MAX);
            for job in 0..20_000 {
                ready.push(entry(10 + job % 2, job));
            }
            (0..swept).for_each(|_| ready.sweep(|_| true));
            for _ in 0..19_990 {
                assert!(next(&mut ready).is_some());
                ready.shrink();
            }
            assert_eq!(ready.waiting(), 10);
            for entries in [&ready.entries, &ready.unswept] {
                assert!(entries.in_order.capacity() <= KEPT, "{swept}");
                assert!(entries.overtaking.capacity() <= KEPT, "{swept}");
            }
        }
    }

    /// Also in the middle of a sweep.
    #[test]
    fn nothing_is_left_of_a_queue_whose_last_job_is_removed() {
        for swept in [0, 1] {
            let mut ready = ReadyQueue::new(0);
            for job in 0..20_000 {
                ready.push(entry(10 + job % 2, job));
            }
            (0..10_000).for_each(|_| _ = ready.remove());
            (0..swept).for_each(|_| ready.sweep(|_| true));
            (0..10_000).for_each(|_| _ = ready.remove());
            for entries in [&ready.entries, &ready.unswept] {
                assert_eq!(entries.len(), 0, "{swept}");
                assert!(entries.in_order.capacity() <= KEPT, "{swept}");
                assert!(entries.overtaking.capacity() <= KEPT, "{swept}");
            }
        }
    }

    #[test]
    fn storage_is_given_back_when_the_queue_empties() {
        let mut ready = ReadyQueue::new(usize::MAX);
        for job in 0..20_000 {
            ready.push(entry(10 + job % 2, job));
        }
        assert_eq!(drain(&mut ready).len(), 20_000);
        assert!(ready.entries.in_order.capacity() <= KEPT);
        assert!(ready.entries.overtaking.capacity() <= KEPT);
    }
}
