//! The queue of deadlines. It is pure: it holds no job, and reads no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::wheel::{Bucket, Tick, Wheel, tick};
use crate::common::time::Timestamp;

/// A hint to look at a slot no later than `at`. Only the slot itself knows whether its job is still there, and when it
/// is due. An entry is *live* if the slot has its sequence, and otherwise *dead*: it is skipped.
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

/// Connects entries with jobs, and orders equal deadlines by submission.
///
/// The upper 56 bits are the number of the submission, which is that of the job, or a new one for each later run of a
/// series; they last for 2,000 years of a million submissions per second. The lower eight count the entries that the
/// submission has had. After 255 of them a dead entry of the driver could count as live again; then a slot is looked at
/// in vain. In the ready queue the deadline is compared as well, since the place of an entry depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) struct Sequence(u64);

/// In place of the count: the job accepts any entry of its slot.
const INHERITED: u64 = 0xff;

impl Sequence {
    pub(in crate::sched) fn first(number: u64) -> Sequence {
        Sequence(number << 8)
    }

    /// Returns the sequence of a job that has taken over the slot of another one, and its entry with it.
    pub(in crate::sched) fn inherited(number: u64) -> Sequence {
        Sequence(number << 8 | INHERITED)
    }

    pub(in crate::sched) fn is_inherited(self) -> bool {
        self.0 & INHERITED == INHERITED
    }

    pub(in crate::sched) fn number(self) -> u64 {
        self.0 >> 8
    }

    /// Returns the sequence of the next entry of the same submission.
    pub(in crate::sched) fn renewed(self) -> Sequence {
        let renewed = ((self.0 & INHERITED) + 1) % INHERITED;
        Sequence((self.0 & !INHERITED) | renewed)
    }
}

/// Entries in the order of (deadline, submission).
///
/// ```text
///             later than the wheel                  due soon
///   push -----------------------------> wheel ----------------------------> runs
///     |                                                                      |  the earliest of
///     +-------------------------------> heap -------------------------------+-> them is next
///             not later than the wheel, or there are few
/// ```
///
/// Only the binary heap compares single entries, and it is small: it holds what is pushed when it is due soon already,
/// or while there are [few](FEW) entries, for which a wheel would be more work and more memory. Any other entry is only
/// the number of its slot, in a bucket of the [`Wheel`]. When a bucket is due soon, the driver looks up its slots, and
/// their entries are sorted and appended to a *run*, which is a sorted FIFO queue. If a bucket of a higher level has
/// more slots than are looked up in one step, only the entries that are due soon go to a run, and the rest goes to lower
/// levels of the wheel.
///
/// There are several runs: jobs of one deadline that were scheduled over a long time are in buckets of several levels,
/// and those that were scheduled last leave the wheel first. A job that was moved later is found with its new deadline
/// when its bucket is looked up, and goes to a later bucket. The move itself costs nothing here.
#[derive(Debug)]
pub(in crate::sched) struct Queue {
    wheel: Wheel,
    /// The bucket that was taken out of the wheel last, until all of it was looked up: in parts, if it has many slots.
    moving: Bucket,
    /// How many slots of its first segment have been looked up.
    moved: usize,
    /// Entries that were looked up and are due by this tick go to the runs, and the others back to the wheel.
    moving_until: Tick,
    /// At most [`RUNS`] sorted queues.
    runs: Vec<VecDeque<Entry>>,
    heap: BinaryHeap<Reverse<Entry>>,
    /// An empty buffer, to sort entries in.
    near: Vec<Entry>,
}

/// About the number of levels of the wheel in which jobs of one deadline are.
const RUNS: usize = 3;
/// Storage of no more entries than this is not given back.
const KEPT: usize = 128;
/// The heap takes entries that are not due soon, instead of the wheel, until it has this many.
const FEW: usize = 64;
/// `near` keeps its storage if that is no larger: an idle group is to be small.
const KEPT_NEAR: usize = 16;
/// A bucket leaves the wheel at least this long before its time.
const AHEAD: Duration = Duration::from_millis(16);
/// A large bucket leaves the wheel this much earlier for each of its entries, since to look them up takes time. By this
/// the latest of 500,000 jobs a second was 6 ms late instead of 39 (benches/NOTES.md).
const AHEAD_EACH: Duration = Duration::from_nanos(500);

/// Returns how long before its time a bucket of `len` entries leaves the wheel.
fn ahead(len: usize) -> Duration {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    AHEAD.max(AHEAD_EACH * len)
}

/// Returns the tick up to which entries are due soon.
fn near(now: Timestamp) -> Tick {
    tick(now.after(AHEAD))
}

impl Queue {
    pub(in crate::sched) fn new(now: Timestamp) -> Queue {
        Queue::at(tick(now))
    }

    fn at(tick: Tick) -> Queue {
        Queue {
            wheel: Wheel::new(tick),
            moving: Bucket::default(),
            moved: 0,
            moving_until: 0,
            runs: Vec::new(),
            heap: BinaryHeap::new(),
            near: Vec::new(),
        }
    }

    pub(in crate::sched) fn push(&mut self, entry: Entry) {
        // The wheel keeps only the slot. The sequence is read again when the bucket is looked up. If the slot has
        // another job by then, the queue has two entries for that job, the second of which is found dead (see
        // `Jobs::release`).
        if tick(entry.at) > self.near_until() && !self.has_few() {
            self.wheel.push(entry.at, entry.slot);
        } else {
            self.heap.push(Reverse(entry));
        }
    }

    /// Returns whether the next entry goes to the heap whenever it is due.
    fn has_few(&self) -> bool {
        self.wheel.len() == 0 && self.heap.len() < FEW
    }

    /// Pushes many entries, in any order.
    pub(in crate::sched) fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let mut entries = entries.into_iter();
        while self.has_few() {
            let Some(entry) = entries.next() else {
                return;
            };
            self.heap.push(Reverse(entry));
        }
        self.extend_near(entries, self.near_until());
    }

    /// Returns the tick up to which an entry that is pushed does not go to the wheel.
    fn near_until(&self) -> Tick {
        match self.left_to_move() {
            0 => self.wheel.at(),
            // No other bucket leaves the wheel while one is looked up in parts. So what comes before all of its entries
            // must not wait in the wheel until that is done.
            _ => self.wheel.at().max(tick(self.moving.earliest) - 1),
        }
    }

    /// Takes the entries of the slots that the last [`cascade`](Queue::cascade) returned, in any order.
    pub(in crate::sched) fn cascaded(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.extend_near(entries, self.moving_until);
    }

    /// Adds entries: those that are due by the tick `until` go to the runs, and the others to the wheel.
    fn extend_near(&mut self, entries: impl IntoIterator<Item = Entry>, until: Tick) {
        let mut near = std::mem::take(&mut self.near);
        for entry in entries {
            if tick(entry.at) > until {
                self.wheel.push(entry.at, entry.slot);
            } else {
                near.push(entry);
            }
        }
        // They are sorted once. A run is popped from the front without comparing its own entries.
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

    /// Returns a run to which entries from `first` on can be appended, or `None` if there are too many runs.
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

    /// Pushes an entry in such a way that its slot is looked up before it is popped, even if it is due already.
    pub(super) fn push_late(&mut self, entry: Entry) {
        self.wheel.push_late(entry.at, entry.slot);
    }

    /// Advances the wheel after a time in which nothing was due. So an entry that is pushed next goes to the level that
    /// its distance from now calls for, and need not cascade down from a higher one.
    pub(in crate::sched) fn advance(&mut self, now: Timestamp) {
        // While a bucket is looked up in parts, the tick of the wheel must not change: all parts are to be divided
        // between runs and wheel at the same tick.
        if self.left_to_move() == 0 {
            self.wheel.advance(near(now));
        }
    }

    /// Returns at most `most` slots of a bucket that is due soon; `None` if there is none. The caller looks up their
    /// entries and passes them to [`cascaded`](Queue::cascaded).
    #[inline]
    pub(in crate::sched) fn cascade(&mut self, now: Timestamp, most: usize) -> Option<Vec<u32>> {
        // The common case, and all that is inlined.
        let is_far = self.wheel.first() > near(now) && !self.wheel.has_large();
        if is_far && self.left_to_move() == 0 {
            return None;
        }
        self.take_slots(now, most)
    }

    fn take_slots(&mut self, now: Timestamp, most: usize) -> Option<Vec<u32>> {
        if self.left_to_move() == 0 {
            let (bucket, last) = self.wheel.take(self.prefetch_until(now))?;
            self.moved = 0;
            // The common case. All entries of a small bucket go to a run: to sort them costs less than to look them up
            // again at each lower level.
            let is_small = bucket.slots.len() <= most;
            self.moving_until = if is_small { last } else { self.wheel.at() };
            self.moving = bucket;
        }
        // From the front, so that the order of submission is kept.
        let segment = self.moving.slots.first();
        if self.moved == 0 && segment.len() <= most {
            return Some(self.moving.slots.pop_first());
        }
        let part = &segment[self.moved..];
        let part = part[..most.min(part.len())].to_vec();
        self.moved += part.len();
        if self.moved == segment.len() {
            self.moving.slots.pop_first();
            self.moved = 0;
        }
        Some(part)
    }

    /// Returns the tick up to which buckets leave the wheel now: those that are due soon, and all those up to a large
    /// bucket that has to leave ahead of its time.
    fn prefetch_until(&self, now: Timestamp) -> Tick {
        let large = self.wheel.large().filter_map(|large| {
            // Up to the first deadline in the large bucket and not only to its start. So the entries of that tick,
            // which may be nearly all of them, go to a run at once, and not to a bucket of a lower level.
            let first = tick(large.earliest);
            (first <= tick(now.after(ahead(large.slots.len())))).then_some(first)
        });
        large.fold(near(now), Tick::max)
    }

    fn left_to_move(&self) -> usize {
        self.moving.slots.len() - self.moved
    }

    /// Returns whether an entry that is due by `now` is still in the wheel or in a bucket that is being looked up.
    /// Until it is [moved](Queue::cascade), the due entries are not in order.
    pub(in crate::sched) fn is_behind(&self, now: Timestamp) -> bool {
        match self.left_to_move() {
            0 => self.wheel.first() <= tick(now),
            _ => self.moving.earliest <= now,
        }
    }

    /// Returns the earliest deadline; `NEVER` if there is no entry.
    pub(in crate::sched) fn next(&self) -> Timestamp {
        let heap = self.heap.peek().map(|Reverse(entry)| entry.at);
        let moving = (self.left_to_move() > 0).then_some(self.moving.earliest);
        let wheel = self.wheel.earliest();
        let runs = self.runs.iter().filter_map(VecDeque::front);
        let runs = runs.map(|entry| entry.at);
        let next = runs.chain(heap).chain(wheel).chain(moving).min();
        next.unwrap_or(Timestamp::NEVER)
    }

    /// Returns when the first large bucket has to leave the wheel; `NEVER` if there is none. The driver wakes up then,
    /// or at the earliest deadline.
    pub(in crate::sched) fn next_large(&self) -> Timestamp {
        let large = self.wheel.large();
        let ahead = large.map(|large| large.earliest.before(ahead(large.slots.len())));
        ahead.min().unwrap_or(Timestamp::NEVER)
    }

    /// Moves due entries in order to the batch, until it has `most`. The queue must not be [behind](Queue::is_behind).
    pub(in crate::sched) fn pop_due(
        &mut self,
        now: Timestamp,
        batch: &mut Vec<Entry>,
        most: usize,
    ) {
        while batch.len() < most {
            let fronts = self.runs.iter().map(VecDeque::front).enumerate();
            let fronts = fronts.filter_map(|(number, front)| Some((front?, number)));
            let heap = self.heap.peek().map(|Reverse(entry)| entry);
            let run = fronts.clone().min();
            let run = run.filter(|(first, _)| heap.is_none_or(|heap| *first <= heap));
            let Some((first, number)) = run else {
                // The heap has the first entry, or there is none.
                if heap.is_none_or(|heap| heap.at > now) {
                    return;
                }
                let heap = &mut self.heap;
                batch.extend(heap.pop().map(|Reverse(entry)| entry));
                shrink(heap.len(), heap.capacity(), |kept| heap.shrink_to(kept));
                continue;
            };
            if first.at > now {
                return;
            }
            // With the first entry, all entries of its run are taken that come before the other fronts. (Two entries
            // may be equal.)
            let others = fronts.filter(|(_, other)| *other != number);
            let others = others.map(|(front, _)| front);
            let next = others.chain(heap).min().copied();
            let run = &mut self.runs[number];
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
        *self = Queue::at(self.wheel.at());
    }
}

/// Shrinks storage that is less than a quarter full, so that its cost is spread over many pops.
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
        popped.iter().map(|entry| entry.sequence.number()).collect()
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
            assert_eq!(queue.next(), timestamp(unit));
            assert_eq!(
                pop(&mut queue, 3 * unit, &deadlines),
                [1, 3, 2, 5, 0, 4],
                "{unit} ns"
            );
            assert_eq!((queue.len(), queue.next()), (0, Timestamp::NEVER));
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
        queue.push_late(entry(50 * MS, 0));
        let moved = [5_000 * MS];
        assert_eq!(pop(&mut queue, 4_999 * MS, &moved), []);
        assert_eq!(queue.next(), timestamp(moved[0]));
        assert_eq!(pop(&mut queue, 5_000 * MS, &moved), [0]);
    }

    #[test]
    fn a_large_bucket_wakes_ahead_of_its_time_and_a_small_one_does_not() {
        use super::super::wheel::LARGE;

        let at = 60_000 * MS;
        let mut queue = queue();
        for _ in 0..=FEW {
            queue.push(entry(at, 0));
        }
        assert_eq!(
            (queue.next(), queue.next_large()),
            (timestamp(at), Timestamp::NEVER)
        );
        for _ in 0..LARGE {
            queue.push(entry(at, 0));
        }
        assert_eq!(queue.next_large(), timestamp(at).before(AHEAD));
        for _ in 0..100 * LARGE {
            queue.push(entry(at, 0));
        }
        let ahead = AHEAD_EACH * (1 + 101 * LARGE as u32);
        assert_eq!(queue.next_large(), timestamp(at).before(ahead));
        assert_eq!(queue.next(), timestamp(at));
    }

    #[test]
    fn a_small_bucket_before_a_large_one_leaves_the_wheel_with_it() {
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
        assert_eq!(moved, deadlines.len() - FEW);
        assert_eq!(
            (queue.next(), queue.next_large()),
            (timestamp(small), Timestamp::NEVER)
        );
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
    fn jobs_of_one_deadline_meet_no_large_heap_however_long_it_took_to_schedule_them() {
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
        assert!(queue.heap.capacity() <= FEW);
    }

    #[test]
    fn a_few_entries_have_no_wheel_wherever_they_are_due() {
        for unit in [1, MS, 3_600_000 * MS] {
            let deadlines: Vec<u64> = (0..=FEW as u64).map(|job| job % 7 * unit + unit).collect();
            let mut queue = queue();
            let mut entries = (0..).zip(&deadlines).map(|(job, &at)| entry(at, job));
            queue.extend(entries.by_ref().take(FEW));
            assert_eq!((queue.heap.len(), queue.wheel.len()), (FEW, 0));
            queue.extend(entries);
            assert_eq!(queue.wheel.len(), usize::from(unit > 1));
            let popped = pop(&mut queue, 7 * unit, &deadlines);
            let sorted = popped.is_sorted_by_key(|&job| (deadlines[job as usize], job));
            assert!(sorted && popped.len() == deadlines.len(), "{popped:?}");
        }
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
        let sorted = runs.sum::<usize>() + queue.heap.capacity();
        sorted + queue.moving.slots.capacity() + queue.wheel.capacity()
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
        for at in [5, 6, 3, 4] {
            queue.push(entry(at, at));
        }
        for at in [100_000 * MS, 200_000 * MS] {
            queue.push_late(entry(at, at));
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
    fn a_renewed_sequence_keeps_its_job_and_wraps_within_it() {
        let first = Sequence::first(7);
        let mut sequence = first;
        for _ in 0..254 {
            sequence = sequence.renewed();
            assert_eq!(sequence.number(), 7);
            assert_ne!(sequence, first);
            assert!(!sequence.is_inherited());
        }
        assert_eq!(sequence.renewed(), first);
    }

    #[test]
    fn an_inherited_sequence_keeps_its_job_until_it_is_renewed() {
        let inherited = Sequence::inherited(7);
        assert!(inherited.is_inherited() && !inherited.renewed().is_inherited());
        assert_eq!([inherited.number(), inherited.renewed().number()], [7, 7]);
        assert!(
            inherited < Sequence::first(8),
            "its order is that of the job"
        );
    }

    #[test]
    fn the_next_deadline_is_known_while_its_bucket_is_looked_up() {
        let mut queue = queue();
        (0..10).for_each(|job| queue.push_late(entry(500 * MS + job, job)));
        queue.advance(timestamp(400 * MS));
        let moved = queue.cascade(timestamp(500 * MS), 3);
        assert!(moved.is_some_and(|slots| slots.len() == 3));
        assert_eq!(queue.next(), timestamp(500 * MS));
        assert!(queue.is_behind(timestamp(500 * MS)));
    }

    /// A tick of the wheel.
    const TICK: u64 = 1 << 20;
    /// The driver looks up as many slots at a time.
    const LOOKED_UP: usize = 512;

    /// The time by which a bucket of more than 4,096 entries moves in ahead.
    fn lead(len: usize) -> u64 {
        (16_000_000).max(500 * len as u64)
    }

    /// Lets a queue of these deadlines run empty as the driver does, which sleeps until `next` or `next_large`. Returns
    /// when each slot was looked up.
    fn looked_up(deadlines: &[u64]) -> Vec<Vec<u64>> {
        let entry = |slot: usize| entry(deadlines[slot], slot as u64);
        let mut queue = queue();
        // While there are few entries, they go to the heap.
        queue.extend((0..64).map(|job| Entry::first(Timestamp::NEVER, job, u32::MAX)));
        queue.extend((0..deadlines.len()).map(entry));
        let (mut now, mut seen) = (Timestamp::ALWAYS, vec![Vec::new(); deadlines.len()]);
        loop {
            while let Some(slots) = queue.cascade(now, LOOKED_UP) {
                for &slot in &slots {
                    seen[slot as usize].push(now.bits());
                }
                queue.cascaded(slots.into_iter().map(|slot| entry(slot as usize)));
            }
            queue.pop_due(now, &mut Vec::new(), usize::MAX);
            let next = queue.next().min(queue.next_large());
            if next == Timestamp::NEVER {
                return seen;
            }
            assert!(next > now, "it would not sleep");
            now = next;
        }
    }

    /// Pseudo-random numbers (splitmix64): the same seed gives the same ones.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % bound
        }

        /// A distance within 64 buckets of a level.
        fn distance(&mut self) -> u64 {
            let level = self.below(4);
            self.below(64 * TICK) << (6 * level)
        }
    }

    #[test]
    fn the_crowd_of_one_instant_is_looked_up_once_however_long_ahead_it_was_scheduled() {
        for seconds in [1, 2, 60, 3_600] {
            let seen = looked_up(&[seconds * 1_000 * TICK; 100_000]);
            assert!(seen.iter().all(|seen| seen.len() == 1), "{seconds} s ahead");
        }
    }

    #[test]
    fn few_jobs_are_looked_up_once_at_most_however_far_away_they_are() {
        let mut random = Random(0);
        let deadlines: Vec<u64> = (0..LOOKED_UP).map(|_| random.distance()).collect();
        let seen = looked_up(&deadlines);
        assert!(seen.iter().all(|seen| seen.len() <= 1));
    }

    /// The many jobs of one millisecond are in order their lead ahead of their time, also behind other buckets.
    ///
    /// `SCHEDGROUP_SEED` sets the first of the 64 seeds.
    #[test]
    fn a_crowd_moves_in_ahead_of_its_time_whatever_stands_in_front_of_it() {
        let first = std::env::var("SCHEDGROUP_SEED");
        let first = first.map_or(0, |seed| seed.parse().expect("a number"));
        for seed in first..first + 64 {
            let mut random = Random(seed);
            let crowds: Vec<_> = (0..1 + random.below(3))
                .map(|_| (random.distance(), 4_097 + random.below(40_000 - 4_097)))
                .collect();
            let mut large = Vec::new();
            for &(at, len) in &crowds {
                large.extend(std::iter::repeat_n(100 * TICK + at, len as usize));
            }
            let mut few = Vec::new();
            for _ in 0..random.below(6) {
                let (crowd, _) = crowds[random.below(crowds.len() as u64) as usize];
                let at = (100 * TICK + crowd).saturating_sub(random.distance());
                few.extend(std::iter::repeat_n(at, 1 + random.below(99) as usize));
            }
            let (mut deadlines, last) = match random.below(2) {
                0 => (few, large),
                _ => (large, few),
            };
            deadlines.extend(last);
            let seen = looked_up(&deadlines);
            let mut ticks = std::collections::BTreeMap::<u64, (u64, u64, usize)>::new();
            for (&at, seen) in deadlines.iter().zip(&seen) {
                let (earliest, last, len) = ticks.entry(at / TICK).or_insert((at, 0, 0));
                *earliest = at.min(*earliest);
                *last = seen.iter().copied().fold(*last, u64::max);
                *len += 1;
            }
            for (tick, (earliest, last, len)) in ticks {
                assert!(
                    len <= 4096 || last <= earliest.saturating_sub(lead(len)),
                    "seed {seed}: {len} due at {earliest}, in tick {tick}, have moved in only at {last}"
                );
            }
        }
    }
}
