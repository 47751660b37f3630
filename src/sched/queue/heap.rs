//! The heap of deadlines. It is pure: it holds no job and reads no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::wheel::{Bucket, Tick, Wheel, tick};
use crate::common::time::Timestamp;

/// A hint: "look at this slot no later than `at`". Whether the job is still there, and due, only its
/// slot knows; an entry that no longer speaks for its slot is dead and is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) struct Entry {
    pub(in crate::sched) at: Timestamp,
    pub(in crate::sched) sequence: Sequence,
    pub(in crate::sched) slot: u32,
}

impl Entry {
    /// The first entry of a job.
    pub(in crate::sched) fn first(at: Timestamp, job: u64, slot: u32) -> Entry {
        let sequence = Sequence::first(job);
        Entry { at, sequence, slot }
    }
}

/// Ties entries to jobs, and orders equal deadlines by submission.
///
/// The upper 56 bits are the job's number, which last for 2,000 years of a million jobs a second; the
/// lower eight count how often the job got a new entry. After 255 of them an old entry could speak
/// for the job again: the slot is then looked at once for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) struct Sequence(u64);

/// No count of entries.
const INHERITED: u64 = 0xff;

impl Sequence {
    pub(in crate::sched) fn first(job: u64) -> Sequence {
        Sequence(job << 8)
    }

    /// Of a job that got none: it has taken over the slot of another, and the entries of that speak for it.
    pub(in crate::sched) fn inherited(job: u64) -> Sequence {
        Sequence(job << 8 | INHERITED)
    }

    pub(in crate::sched) fn is_inherited(self) -> bool {
        self.0 & INHERITED == INHERITED
    }

    pub(in crate::sched) fn job(self) -> u64 {
        self.0 >> 8
    }

    /// The sequence of the same job's next entry.
    pub(in crate::sched) fn renewed(self) -> Sequence {
        let renewed = ((self.0 & INHERITED) + 1) % INHERITED;
        Sequence((self.0 & !INHERITED) | renewed)
    }
}

/// Entries in the order of (deadline, submission).
///
/// ```text
///             later than the wheel                  its time comes near
///   push -----------------------------> wheel ----------------------------> runs
///     |                                                                      |  the earliest of
///     +-------------------------------> heap -------------------------------+-> them is next
///             not later than the wheel
/// ```
///
/// Only the heap compares entry with entry, and it is small: what comes for a later time is in the
/// [`Wheel`] as a slot's number. Near its time a whole bucket is looked up by the driver, sorted, and
/// appended to a run; of a large bucket of a higher level only what is near, and the rest goes to lower levels.
/// There are several runs, since jobs of one deadline that were scheduled over some time are in
/// buckets of several levels, of which the ones scheduled last move in first. A job that was moved later is found
/// there with its new deadline and put into a later bucket, which is all that moving it ever costs.
#[derive(Debug)]
pub(in crate::sched) struct Queue {
    wheel: Wheel,
    /// A bucket of the wheel on its way to the run.
    moving: Bucket,
    /// The number of its slots that have been moved already.
    moved: usize,
    /// What is looked up of it and due by that tick goes to the runs, and the rest back to the wheel.
    moving_until: Tick,
    /// Each is in order. At most [`RUNS`].
    runs: Vec<VecDeque<Entry>>,
    heap: BinaryHeap<Reverse<Entry>>,
    /// A small buffer for what is put in order, empty.
    near: Vec<Entry>,
}

/// Jobs of one deadline are in about as many levels of the wheel.
const RUNS: usize = 3;
/// Below this capacity storage is not worth giving back.
const KEPT: usize = 1024;
/// A buffer of this size keeps its storage for the next time: an idle group is small.
const KEPT_NEAR: usize = 16;
/// Buckets move in at least this much ahead of their time.
const AHEAD: Duration = Duration::from_millis(16);
/// A large bucket moves in ahead by this much for each of its entries: enough for no job to be late for it, though
/// others have the processor for most of the time.
const AHEAD_EACH: Duration = Duration::from_nanos(500);

/// Returns how much ahead of its time a bucket of `len` entries moves in.
fn ahead(len: usize) -> Duration {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    AHEAD.max(AHEAD_EACH * len)
}

/// Returns the tick up to which everything is near.
fn near(now: Timestamp) -> Tick {
    tick(now.after(AHEAD))
}

impl Queue {
    pub(in crate::sched) fn new(now: Timestamp) -> Queue {
        Queue {
            wheel: Wheel::new(tick(now)),
            moving: Bucket::default(),
            moved: 0,
            moving_until: 0,
            runs: Vec::new(),
            heap: BinaryHeap::new(),
            near: Vec::new(),
        }
    }

    pub(in crate::sched) fn push(&mut self, entry: Entry) {
        // The wheel keeps the slot alone. Its sequence is read anew when the bucket is near: so a slot that is used
        // again by then gives two entries of its new job, of which the second is found released.
        if tick(entry.at) > self.wheel.at() {
            self.wheel.push(entry.at, entry.slot);
        } else {
            self.heap.push(Reverse(entry));
        }
    }

    /// Pushes many, which are in no order.
    pub(in crate::sched) fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.extend_near(entries, self.wheel.at());
    }

    /// Takes back what was looked up of the last [`cascade`](Queue::cascade), in no order.
    pub(in crate::sched) fn cascaded(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.extend_near(entries, self.moving_until);
    }

    /// What is due by that tick goes to the runs, and the rest to the wheel.
    fn extend_near(&mut self, entries: impl IntoIterator<Item = Entry>, until: Tick) {
        let mut near = std::mem::take(&mut self.near);
        for entry in entries {
            if tick(entry.at) > until {
                self.wheel.push(entry.at, entry.slot);
            } else {
                near.push(entry);
            }
        }
        // Sorted once and appended to a run, which is popped from the front without a comparison among its own
        // entries.
        near.sort_unstable();
        if let Some(first) = near.first() {
            match self.run_behind(first) {
                Some(run) => run.extend(&near),
                None => self.heap.extend(near.iter().copied().map(Reverse)),
            }
            near.clear();
        }
        if near.capacity() <= KEPT_NEAR {
            self.near = near;
        }
    }

    /// A run that can be continued with that entry, or begun.
    fn run_behind(&mut self, first: &Entry) -> Option<&mut VecDeque<Entry>> {
        let continued = |run: &VecDeque<Entry>| run.back().is_some_and(|last| last < first);
        let number = self.runs.iter().position(continued);
        let number = number.or_else(|| self.runs.iter().position(VecDeque::is_empty));
        let number = number.unwrap_or(self.runs.len());
        if number == self.runs.len() && number < RUNS {
            self.runs.push(VecDeque::new());
        }
        self.runs.get_mut(number)
    }

    /// Keeps an entry whose slot is to be looked up before it is popped, even if it is due.
    pub(in crate::sched) fn push_late(&mut self, entry: Entry) {
        self.wheel.push_late(entry.at, entry.slot);
    }

    /// Advances to what is near, over a time in which nothing was to do. What is pushed then does not have to
    /// cascade down from a level that it had as seen from long ago.
    pub(in crate::sched) fn advance(&mut self, now: Timestamp) {
        // The rest of a bucket that is being moved is to be treated as its first part was: the wheel's tick may not
        // change in between.
        if self.left_to_move() == 0 {
            self.wheel.advance(near(now));
        }
    }

    /// Some slots of a bucket whose time comes near, at most `most`; the caller looks up when they are
    /// due and pushes them again.
    pub(in crate::sched) fn cascade(&mut self, now: Timestamp, most: usize) -> Option<Vec<u32>> {
        if self.left_to_move() == 0 {
            let taken = match self.wheel.len() {
                0 => None,
                _ => self.wheel.take(self.prefetch_until(now)),
            };
            let Some((bucket, last)) = taken else {
                (self.moving, self.moved) = (Bucket::default(), 0);
                self.advance(now);
                return None;
            };
            // Most are small. To sort such a one as a whole costs less than to look it up again at each lower level.
            if bucket.slots.len() <= most {
                (self.moving, self.moved) = (Bucket::default(), 0);
                self.moving_until = last;
                return Some(bucket.slots);
            }
            self.moving_until = self.wheel.at();
            (self.moving, self.moved) = (bucket, 0);
        }
        // From the front, so that what is in the order of submission stays so.
        let part = &self.moving.slots[self.moved..];
        let part = part[..most.min(part.len())].to_vec();
        self.moved += part.len();
        Some(part)
    }

    /// Returns the tick up to which everything moves in: it is near, or not later than the first of something large that is.
    fn prefetch_until(&self, now: Timestamp) -> Tick {
        let large = self.wheel.large().filter_map(|large| {
            // Not just up to the bucket's start: so those of its first tick, which may be nearly all of them, move in at
            // once instead of through a bucket of a lower level.
            let first = tick(large.earliest);
            (first <= tick(now.after(ahead(large.len)))).then_some(first)
        });
        large.fold(near(now), Tick::max)
    }

    fn left_to_move(&self) -> usize {
        self.moving.slots.len() - self.moved
    }

    /// Returns whether anything due by `now` is still to [arrive](Queue::cascade). Until then the order of
    /// what could be popped is not known.
    pub(in crate::sched) fn is_behind(&self, now: Timestamp) -> bool {
        match self.wheel.peek() {
            _ if self.left_to_move() > 0 => self.moving.earliest <= now,
            Some(first) => first.start <= tick(now),
            None => false,
        }
    }

    /// Returns the earliest deadline.
    pub(in crate::sched) fn next(&self) -> Option<Timestamp> {
        let mut next = self.heap.peek().map(|Reverse(entry)| entry.at);
        for run in &self.runs {
            next = earlier(next, run.front().map(|entry| entry.at));
        }
        next = earlier(next, self.wheel.peek().map(|first| first.earliest));
        let moving = (self.left_to_move() > 0).then_some(self.moving.earliest);
        earlier(next, moving)
    }

    /// Returns when there is something to do: at the earliest deadline, or ahead of it for a large bucket.
    pub(in crate::sched) fn next_wake(&self) -> Option<Timestamp> {
        let large = self.wheel.large();
        let ahead = large.map(|large| large.earliest.before(ahead(large.len)));
        earlier(self.next(), ahead.min())
    }

    /// Takes entries that are due from the front, until there are `most` in the batch. Nothing may be
    /// [behind](Queue::is_behind).
    pub(in crate::sched) fn pop_due(
        &mut self,
        now: Timestamp,
        batch: &mut Vec<Entry>,
        most: usize,
    ) {
        while batch.len() < most {
            let heap = self.heap.peek().map(|Reverse(entry)| (entry, RUNS));
            let fronts = self.runs.iter().map(VecDeque::front).enumerate();
            let fronts = fronts.filter_map(|(number, front)| Some((front?, number)));
            let fronts = fronts.chain(heap);
            let Some((first, number)) = fronts.clone().min() else {
                return;
            };
            if first.at > now {
                return;
            }
            let others = fronts.filter(|(_, other)| *other != number);
            let next = others.map(|(front, _)| *front).min();
            let Some(run) = self.runs.get_mut(number) else {
                let heap = &mut self.heap;
                batch.extend(heap.pop().map(|Reverse(entry)| entry));
                shrink(heap.len(), heap.capacity(), |kept| heap.shrink_to(kept));
                continue;
            };
            // With the first goes all that comes no later than the other fronts: two entries may say the same.
            let (front, _) = run.as_slices();
            let room = front.len().min(most - batch.len());
            let count = front[..room]
                .partition_point(|entry| entry.at <= now && next.is_none_or(|next| *entry <= next));
            batch.extend(run.drain(..count));
            shrink(run.len(), run.capacity(), |kept| run.shrink_to(kept));
        }
    }

    pub(in crate::sched) fn len(&self) -> usize {
        self.wheel.len()
            + self.left_to_move()
            + self.runs.iter().map(VecDeque::len).sum::<usize>()
            + self.heap.len()
    }

    pub(in crate::sched) fn clear(&mut self) {
        *self = Queue {
            wheel: Wheel::new(self.wheel.at()),
            moving: Bucket::default(),
            moved: 0,
            moving_until: 0,
            runs: Vec::new(),
            heap: BinaryHeap::new(),
            near: Vec::new(),
        };
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Storage shrinks when it is a quarter full, so that each shrink is paid for by as many pops.
fn shrink(len: usize, capacity: usize, shrink_to: impl FnOnce(usize)) {
    if capacity > KEPT && len < capacity / 4 {
        shrink_to(2 * len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(nanos: u64) -> Timestamp {
        Timestamp::ALWAYS.after(Duration::from_nanos(nanos))
    }

    fn entry(at: u64, job: u64) -> Entry {
        Entry {
            at: timestamp(at),
            sequence: Sequence::first(job),
            slot: job as u32,
        }
    }

    fn queue() -> Queue {
        Queue::new(Timestamp::ALWAYS)
    }

    /// Pops what is due by `now`, as the driver does; slot `i` is due at `deadlines[i]`.
    fn pop(queue: &mut Queue, now: u64, deadlines: &[u64]) -> Vec<u64> {
        while queue.is_behind(timestamp(now)) {
            let slots = queue
                .cascade(timestamp(now), 3)
                .expect("something is behind");
            let due = |slot: u32| entry(deadlines[slot as usize], slot.into());
            queue.cascaded(slots.into_iter().map(due));
        }
        let mut popped = Vec::new();
        queue.pop_due(timestamp(now), &mut popped, usize::MAX);
        popped.iter().map(|entry| entry.sequence.job()).collect()
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn entries_come_out_by_deadline_then_by_submission() {
        for unit in [1, MS, 40 * MS, 3_600_000 * MS] {
            let deadlines = [3, 1, 2, 1, 3, 2].map(|at| at * unit);
            let mut queue = queue();
            for (job, at) in deadlines.into_iter().enumerate() {
                queue.push(entry(at, job as u64));
            }
            assert_eq!(queue.next(), Some(timestamp(unit)));
            assert_eq!(
                pop(&mut queue, 3 * unit, &deadlines),
                [1, 3, 2, 5, 0, 4],
                "{unit} ns"
            );
            assert_eq!((queue.len(), queue.next()), (0, None));
        }
    }

    /// Once a slot is used again, its bucket and another say so of the same job.
    #[test]
    fn two_entries_that_say_the_same_come_out_beside_each_other() {
        let mut queue = queue();
        for jobs in [[1, 2, 4], [1, 2, 3]] {
            queue.extend(jobs.map(|job| entry(job, job)));
        }
        assert_eq!(pop(&mut queue, 4, &[]), [1, 1, 2, 2, 3, 4]);
    }

    #[test]
    fn nothing_comes_out_before_its_time() {
        for at in [10, 10 * MS, 10_000_000 * MS] {
            let mut queue = queue();
            queue.push(entry(at, 0));
            assert_eq!(pop(&mut queue, at - 1, &[at]), []);
            assert_eq!(pop(&mut queue, at, &[at]), [0]);
        }
    }

    #[test]
    fn what_comes_for_a_time_that_has_come_is_put_in_order() {
        let deadlines = [5 * MS, 7 * MS, 6 * MS, 5 * MS];
        let mut queue = queue();
        queue.push(entry(deadlines[0], 0));
        queue.push(entry(deadlines[1], 1));
        assert_eq!(pop(&mut queue, 4 * MS, &deadlines), []);
        queue.push(entry(deadlines[2], 2));
        queue.extend(vec![entry(deadlines[3], 3)]);
        assert_eq!(pop(&mut queue, 7 * MS, &deadlines), [0, 3, 2, 1]);
    }

    #[test]
    fn a_slot_that_is_due_later_than_its_bucket_goes_on() {
        let mut queue = queue();
        queue.push(entry(50 * MS, 0));
        let moved = [5_000 * MS];
        assert_eq!(pop(&mut queue, 4_999 * MS, &moved), []);
        assert_eq!(queue.next(), Some(timestamp(moved[0])));
        assert_eq!(pop(&mut queue, 5_000 * MS, &moved), [0]);
    }

    #[test]
    fn a_large_bucket_wakes_ahead_of_its_time_and_a_small_one_does_not() {
        use super::super::wheel::LARGE;

        let at = 60_000 * MS;
        let mut queue = queue();
        queue.push(entry(at, 0));
        assert_eq!(queue.next_wake(), Some(timestamp(at)));
        for _ in 0..LARGE {
            queue.push(entry(at, 0));
        }
        assert_eq!(queue.next_wake(), Some(timestamp(at).before(AHEAD)));
        for _ in 0..100 * LARGE {
            queue.push(entry(at, 0));
        }
        let ahead = AHEAD_EACH * (1 + 101 * LARGE as u32);
        assert_eq!(queue.next_wake(), Some(timestamp(at).before(ahead)));
        assert_eq!(queue.next(), Some(timestamp(at)));
    }

    #[test]
    fn what_stands_in_front_of_a_large_bucket_moves_in_with_it() {
        let (small, large) = (50 * MS, 300 * MS);
        let mut deadlines = vec![small];
        deadlines.resize(1_000_000, large);
        let mut queue = queue();
        for (slot, &at) in deadlines.iter().enumerate() {
            queue.push(entry(at, slot as u64));
        }
        let mut moved = 0;
        while let Some(slots) = queue.cascade(timestamp(0), 4096) {
            moved += slots.len();
            let due = |slot: u32| entry(deadlines[slot as usize], slot.into());
            queue.cascaded(slots.into_iter().map(due));
        }
        assert!(moved >= deadlines.len(), "{moved} moved");
        assert_eq!(queue.next_wake(), Some(timestamp(small)));
        assert_eq!(pop(&mut queue, small, &deadlines), [0]);
    }

    /// The wheel stood still meanwhile: it advances to now before it takes anything in.
    #[test]
    fn after_a_long_idle_time_an_entry_is_looked_up_at_most_once() {
        for idle in [0, 70, 5_000, 400_000, 3_600_000] {
            for delay in [1, 15, 30, 63, 64, 200, 4_000] {
                let mut queue = queue();
                let now = timestamp(idle * MS + 1);
                queue.advance(now);
                queue.push(entry((idle + delay) * MS, 0));
                let due = [(idle + delay) * MS];
                let mut looked_up = 0;
                while let Some(slots) = queue.cascade(timestamp(due[0]), 9) {
                    looked_up += slots.len();
                    queue.cascaded(slots.into_iter().map(|_| entry(due[0], 0)));
                }
                assert!(
                    looked_up <= 1,
                    "{looked_up} times, idle {idle} ms, {delay} ms"
                );
                assert_eq!(pop(&mut queue, due[0], &due), [0]);
            }
        }
    }

    /// Those that were scheduled last are in the finest level, and move in first.
    #[test]
    fn jobs_of_one_deadline_meet_no_heap_however_long_it_took_to_schedule_them() {
        let (at, mut queue) = (5_000 * MS, queue());
        let mut jobs = 0;
        for scheduled in [0, 1_000, 4_900] {
            queue.advance(timestamp(scheduled * MS));
            for _ in 0..2_000 {
                queue.push(entry(at, jobs));
                jobs += 1;
            }
        }
        let popped = pop(&mut queue, at, &vec![at; jobs as usize]);
        assert!(popped.is_sorted());
        assert_eq!(popped.len(), jobs as usize);
        assert_eq!(queue.heap.capacity(), 0);
    }

    #[test]
    fn storage_is_given_back_after_a_burst() {
        for unit in [0, 1, MS] {
            let deadlines: Vec<u64> = (0..100_000).map(|job| job * unit).collect();
            let mut queue = queue();
            for (job, &at) in deadlines.iter().enumerate() {
                queue.push(entry(at, job as u64));
            }
            assert_eq!(pop(&mut queue, 100_000 * MS, &deadlines).len(), 100_000);
            let runs: usize = queue.runs.iter().map(VecDeque::capacity).sum();
            let kept = (runs, queue.heap.capacity());
            assert!(kept.0 <= KEPT, "{kept:?} entries kept");
            assert!(kept.1 <= KEPT, "{kept:?} entries kept");
        }
    }

    /// In entries of any kind, in all parts of the queue.
    fn capacity(queue: &Queue) -> usize {
        let runs = queue.runs.iter().map(VecDeque::capacity);
        let stretches = runs.sum::<usize>() + queue.heap.capacity();
        stretches + queue.moving.slots.capacity() + queue.wheel.capacity()
    }

    /// One in a thousand of the burst is due when the others have gone, or an hour later.
    #[test]
    fn storage_is_given_back_though_a_few_of_a_burst_survive() {
        for (unit, later) in [
            (0, 1),
            (1, 50),
            (1_000, 1),
            (MS, 1),
            (0, 3_600_000),
            (MS, 3_600_000),
        ] {
            let last = 100_000 * unit;
            let due = |job: u64| match job % 1_000 {
                0 => last + later * MS,
                _ => job * unit,
            };
            for moved in [false, true] {
                let mut deadlines: Vec<u64> = (0..100_000).map(due).collect();
                let mut queue = queue();
                for (job, at) in (0..).zip(&mut deadlines) {
                    // Reset ones are found where they were before.
                    queue.push(entry(if moved { job * unit } else { *at }, job));
                }
                if moved {
                    while let Some(slots) = queue.cascade(timestamp(last), 512) {
                        let now = |slot: u32| entry(deadlines[slot as usize], slot.into());
                        queue.cascaded(slots.into_iter().map(now));
                    }
                }
                let popped = pop(&mut queue, last, &deadlines);
                let live = queue.len();
                assert_eq!(popped.len() + live, 100_000);
                let kept = capacity(&queue);
                assert!(
                    kept <= 2 * KEPT + 8 * live,
                    "{kept} entries kept for {live}, unit {unit}, {later} ms later, moved {moved}"
                );
            }
        }
    }

    #[test]
    fn storage_shrinks_when_it_is_large_and_less_than_a_quarter_full() {
        let shrunk = |len, capacity| {
            let mut to = None;
            shrink(len, capacity, |kept| to = Some(kept));
            to
        };
        assert_eq!(shrunk(0, KEPT), None);
        assert_eq!(shrunk(0, KEPT + 1), Some(0));
        assert_eq!(shrunk(KEPT, 4 * KEPT), None);
        assert_eq!(shrunk(KEPT - 1, 4 * KEPT), Some(2 * KEPT - 2));
    }

    #[test]
    fn entries_are_counted_wherever_they_are() {
        let mut queue = queue();
        // In order; out of order; far away.
        for at in [5, 6, 3, 4, 100_000 * MS, 200_000 * MS] {
            queue.push(entry(at, at));
        }
        assert_eq!(queue.len(), 6);
        assert_eq!(pop(&mut queue, 3, &[]), [3]);
        assert_eq!(queue.len(), 5);
        assert!(queue.cascade(timestamp(100_000 * MS), 0).is_some());
        assert_eq!(queue.len(), 5, "one is on its way");
        queue.clear();
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_renewed_stamp_keeps_its_job_and_wraps_within_it() {
        let first = Sequence::first(7);
        let mut sequence = first;
        for _ in 0..254 {
            sequence = sequence.renewed();
            assert_eq!(sequence.job(), 7);
            assert_ne!(sequence, first);
            assert!(!sequence.is_inherited());
        }
        assert_eq!(sequence.renewed(), first);
    }

    #[test]
    fn an_inherited_stamp_keeps_its_job_until_it_is_renewed() {
        let inherited = Sequence::inherited(7);
        assert!(inherited.is_inherited() && !inherited.renewed().is_inherited());
        assert_eq!([inherited.job(), inherited.renewed().job()], [7, 7]);
        assert!(
            inherited < Sequence::first(8),
            "its order is that of the job"
        );
    }

    #[test]
    fn the_next_is_told_while_its_bucket_moves_in() {
        let mut queue = queue();
        (0..10).for_each(|job| queue.push(entry(500 * MS + job, job)));
        queue.advance(timestamp(400 * MS));
        let moved = queue.cascade(timestamp(500 * MS), 3);
        assert!(moved.is_some_and(|slots| slots.len() == 3));
        assert_eq!(queue.next(), Some(timestamp(500 * MS)));
        assert!(queue.is_behind(timestamp(500 * MS)));
    }
}
