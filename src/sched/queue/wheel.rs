//! A hierarchical timing wheel (Varghese and Lauck 1987) for entries that are due later, so that the heap holds only
//! those that are due soon. It has up to eight levels of 64 buckets, and cascades lazily.
//!
//! A pop of a binary heap costs a cache miss for each of its deeper levels: some 40 ns at ten thousand entries, and 190 to
//! 280 ns at a million (benches/NOTES.md). Here a far entry is four bytes in a bucket, and is touched again only when its
//! bucket is due soon.

use std::collections::VecDeque;

use crate::common::time::Timestamp;

/// The length of a tick in nanoseconds, as a power of two: 2^20 ns are about a millisecond.
const TICK_BITS: u32 = 20;
/// The number of buckets in a level, as a power of two: one for each bit of a word.
const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;

/// A bucket of more entries than this is large: the driver wakes up ahead of its time to move it.
pub(super) const LARGE: usize = 4096;

/// The number of a tick. The wheel does not distinguish instants in the same tick.
pub(super) type Tick = u64;

pub(super) fn tick(at: Timestamp) -> Tick {
    at.bits() >> TICK_BITS
}

/// The first instant of a tick.
fn start_of(tick: Tick) -> Timestamp {
    Timestamp::from_bits(tick << TICK_BITS)
}

// No entry is ever removed from the middle. An entry is a hint to look at a slot when the bucket is due soon. To cancel
// or move a job changes only its slot; that the hint is dead is found out when its bucket is taken out and each slot in
// it is looked up. For a removal at once each job would need links to its neighbours in the bucket, which take more
// memory than the hint. The sweep keeps dead entries from outnumbering live ones.
//
// Lazy cascading: no bucket moves to a lower level just because time passes. A bucket of a higher level is taken out
// when it is the first one and due soon, and its entries are pushed again, each at the level that its deadline calls
// for by then. After a time in which nothing was due, `advance` skips all ticks at once.
/// Numbers of slots, by the ticks of their deadlines, which are all later than the wheel's own tick `at`.
///
/// Level 0 has a bucket for each tick of the current 64, level 1 has one for each 64 ticks of the current 64 x 64, and
/// so on. The level of an entry is given by the highest group of six bits in which its tick differs from the wheel's.
#[derive(Debug)]
pub(super) struct Wheel {
    at: Tick,
    /// The first tick of the first bucket that is not empty; `Tick::MAX` if all are empty.
    first: Tick,
    /// The earliest deadline in that bucket; `NEVER` if all are empty.
    earliest: Timestamp,
    /// How many buckets are large. The driver asks this and the two before in each of its turns: kept here, they spare
    /// it a look at the levels, which mostly are in no cache.
    large: usize,
    levels: Vec<Level>,
    len: usize,
}

#[derive(Debug)]
struct Level {
    /// Bit `i` is set if bucket `i` is not empty.
    occupied: u64,
    /// Bit `i` is set if bucket `i` is [`LARGE`].
    large: u64,
    buckets: Box<[Bucket; BUCKETS]>,
}

#[derive(Debug)]
pub(super) struct Bucket {
    /// No entry in the bucket is due before this.
    pub(super) earliest: Timestamp,
    pub(super) slots: Slots,
}

/// Numbers of slots in the order in which they were pushed, in segments.
///
/// A bucket may get tens of millions of them. One vector would be copied when it grows, which holds up the driver for
/// 100 ms then.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The segments before the last one; each has exactly `SEGMENT` slots. Most buckets have none.
    #[expect(
        clippy::box_collection,
        reason = "a level has 64 buckets, and they are to be small"
    )]
    full: Option<Box<VecDeque<Vec<u32>>>>,
    last: Vec<u32>,
}

/// Slots in a segment.
const SEGMENT: usize = 4096;

impl Slots {
    fn push(&mut self, slot: u32) {
        if self.last.len() == SEGMENT {
            let full = std::mem::replace(&mut self.last, Vec::with_capacity(SEGMENT));
            self.full.get_or_insert_default().push_back(full);
        }
        self.last.push(slot);
    }

    pub(super) fn len(&self) -> usize {
        let full = self.full.as_ref().map_or(0, |full| full.len());
        full * SEGMENT + self.last.len()
    }

    /// Returns the first segment; an empty one if there are no slots.
    pub(super) fn first(&self) -> &[u32] {
        let full = self.full.as_ref().and_then(|full| full.front());
        full.unwrap_or(&self.last)
    }

    pub(super) fn pop_first(&mut self) -> Vec<u32> {
        let full = self.full.as_mut().and_then(|full| full.pop_front());
        full.unwrap_or_else(|| {
            self.full = None;
            std::mem::take(&mut self.last)
        })
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let full = self.full.iter().flat_map(|full| full.iter());
        full.chain([&self.last]).map(Vec::capacity).sum()
    }
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket {
            earliest: Timestamp::NEVER,
            slots: Slots::default(),
        }
    }
}

impl Wheel {
    pub(super) fn new(at: Tick) -> Wheel {
        Wheel {
            at,
            first: Tick::MAX,
            earliest: Timestamp::NEVER,
            large: 0,
            levels: Vec::new(),
            len: 0,
        }
    }

    /// Returns the wheel's tick. All entries are due in later ticks.
    pub(super) fn at(&self) -> Tick {
        self.at
    }

    /// Returns the first tick of the first bucket that is not empty; `Tick::MAX` if all are empty.
    pub(super) fn first(&self) -> Tick {
        self.first
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let buckets = self.levels.iter().flat_map(|level| level.buckets.iter());
        buckets.map(|bucket| bucket.slots.capacity()).sum()
    }

    /// Adds a slot whose deadline lies in a tick after the wheel's own.
    pub(super) fn push(&mut self, at: Timestamp, slot: u32) {
        let tick = tick(at);
        debug_assert!(tick > self.at, "not later than the wheel's own tick");
        // The level of the highest bits in which the two ticks differ. The bits above are equal, so a bucket of this
        // level is later than `at`, and later than all buckets of the lower levels.
        let level = (tick ^ self.at).ilog2() / LEVEL_BITS;
        let bits = level * LEVEL_BITS;
        let index = (tick >> bits) as usize % BUCKETS;
        self.first = self.first.min(tick >> bits << bits);
        self.earliest = self.earliest.min(at);
        if self.levels.len() <= level as usize {
            self.add_levels(level as usize + 1);
        }
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << index;
        let bucket = &mut level.buckets[index];
        bucket.earliest = bucket.earliest.min(at);
        bucket.slots.push(slot);
        if bucket.slots.len() == LARGE + 1 {
            level.large |= 1 << index;
            self.large += 1;
        }
        self.len += 1;
    }

    /// A function of its own, or `push` would reserve stack for a whole level in each call.
    #[cold]
    fn add_levels(&mut self, count: usize) {
        self.levels.resize_with(count, || Level {
            occupied: 0,
            large: 0,
            buckets: Box::new(std::array::from_fn(|_| Bucket::default())),
        });
    }

    /// Adds a slot with any deadline. One that is not later than the wheel is added as if it were due in the next tick.
    pub(super) fn push_late(&mut self, at: Timestamp, slot: u32) {
        self.push(at.max(start_of(self.at + 1)), slot);
    }

    /// Returns the first tick of a bucket.
    fn start(&self, (level, index): (usize, usize)) -> Tick {
        let bits = level as u32 * LEVEL_BITS;
        let above = self.at >> bits >> LEVEL_BITS << LEVEL_BITS;
        (above | index as u64) << bits
    }

    /// Finds the first bucket that is not empty. All buckets of a level are earlier than those of the levels above.
    fn find_first(&self) -> Option<(usize, usize)> {
        let mut levels = self.levels.iter().enumerate();
        levels.find_map(|(number, level)| {
            let first = level.occupied.trailing_zeros() as usize;
            (first < BUCKETS).then_some((number, first))
        })
    }

    /// Returns the earliest deadline of the first bucket, or an earlier instant; `None` if there is no entry.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        (self.len > 0).then_some(self.earliest)
    }

    /// Returns whether there is a large bucket.
    pub(super) fn has_large(&self) -> bool {
        self.large > 0
    }

    /// Returns all large buckets, also those behind other ones.
    pub(super) fn large(&self) -> impl Iterator<Item = &Bucket> {
        let levels: &[Level] = if self.large > 0 { &self.levels } else { &[] };
        levels.iter().flat_map(|level| {
            let mut left = level.large;
            std::iter::from_fn(move || {
                let index = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                level.buckets.get(index)
            })
        })
    }

    /// Takes the first bucket out, if it starts by the tick `until`. Returns it with its last tick. The wheel advances
    /// to the bucket's earliest deadline, or to `until` if that is earlier. The caller pushes again what is due later
    /// than that.
    pub(super) fn take(&mut self, until: Tick) -> Option<(Bucket, Tick)> {
        if self.first > until {
            return None;
        }
        let (level, index) = self.find_first()?;
        let last = self.first + (1 << (level as u32 * LEVEL_BITS)) - 1;
        let level = &mut self.levels[level];
        level.occupied &= !(1 << index);
        level.large &= !(1 << index);
        let bucket = std::mem::take(&mut level.buckets[index]);
        self.len -= bucket.slots.len();
        self.large -= usize::from(bucket.slots.len() > LARGE);
        let next = self.find_first();
        self.first = next.map_or(Tick::MAX, |next| self.start(next));
        self.earliest = next.map_or(Timestamp::NEVER, |(level, index)| {
            self.levels[level].buckets[index].earliest
        });
        // The wheel advances into the range of this bucket, or entries that are pushed again would go to the same
        // bucket. But not further than its first deadline or `until`, since entries that are not later than `at` go to
        // the heap, which is to stay small.
        self.at = tick(bucket.earliest).min(until);
        Some((bucket, last))
    }

    /// Advances to a tick, or to just before the first bucket that is not empty.
    pub(super) fn advance(&mut self, to: Tick) {
        // Not into the range of that bucket: an entry that is then pushed for this range would go to a lower level, and
        // be found before the entries of the bucket.
        self.at = self.at.max(to.min(self.first - 1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timestamp(tick: Tick) -> Timestamp {
        Timestamp::ALWAYS.after(Duration::from_nanos(tick << TICK_BITS))
    }

    fn all(mut slots: Slots) -> Vec<u32> {
        let mut all = Vec::new();
        while !slots.first().is_empty() {
            all.append(&mut slots.pop_first());
        }
        all
    }

    #[test]
    fn slots_keep_their_order_and_none_moves_as_they_grow() {
        let (mut slots, mut first) = (Slots::default(), None);
        for slot in 0..10_000 {
            slots.push(slot);
            assert_eq!(slots.len(), slot as usize + 1);
            if slots.len() >= SEGMENT {
                let first = first.get_or_insert(slots.first().as_ptr());
                assert_eq!(*first, slots.first().as_ptr());
            }
        }
        assert!(slots.capacity() <= 10_000 + SEGMENT);
        assert!(all(slots).into_iter().eq(0..10_000));
    }

    /// The queue keeps the last bucket that it has looked up.
    #[test]
    fn slots_that_were_taken_out_leave_no_storage() {
        let mut slots = Slots::default();
        (0..3 * SEGMENT as u32).for_each(|slot| slots.push(slot));
        while !slots.pop_first().is_empty() {}
        assert!(slots.full.is_none());
        assert_eq!(slots.last.capacity(), 0);
    }

    /// Turns the wheel by one tick at a time and notes when each slot comes out.
    fn run(wheel: &mut Wheel, deadlines: &[Tick], until: Tick) -> Vec<(Tick, u32)> {
        let mut out = Vec::new();
        for now in wheel.at()..=until {
            while let Some((bucket, _)) = wheel.take(now) {
                assert!(tick(bucket.earliest) >= wheel.at());
                for slot in all(bucket.slots) {
                    let due = deadlines[slot as usize];
                    if due <= wheel.at() {
                        out.push((wheel.at(), slot));
                    } else {
                        wheel.push(timestamp(due), slot);
                    }
                }
            }
            wheel.advance(now);
        }
        out
    }

    #[test]
    fn every_slot_comes_out_in_its_own_tick() {
        let mut deadlines: Vec<Tick> = (1..200).collect();
        deadlines.extend([255, 256, 4095, 4096, 4097, 262_143, 262_144, 262_145]);
        let mut wheel = Wheel::new(0);
        for (slot, &due) in deadlines.iter().enumerate() {
            wheel.push(timestamp(due), slot as u32);
        }
        let out = run(&mut wheel, &deadlines, 300_000);
        let expected: Vec<_> = deadlines.iter().copied().zip(0..).collect();
        assert_eq!(out, expected);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn the_first_bucket_tells_the_earliest_deadline_exactly() {
        let mut wheel = Wheel::new(0);
        for due in [900_000, 5_000, 5_001, 70_000] {
            wheel.push(timestamp(due), 0);
            let earliest = wheel.earliest().unwrap();
            assert_eq!(tick(earliest), if due == 900_000 { 900_000 } else { 5_000 });
        }
    }

    #[test]
    fn the_end_of_time_has_a_bucket() {
        let mut wheel = Wheel::new(0);
        wheel.push(Timestamp::NEVER, 7);
        assert_eq!(wheel.earliest().unwrap(), Timestamp::NEVER);
        let (mut deadline, _) = wheel.take(Tick::MAX).unwrap();
        while wheel.at() < tick(Timestamp::NEVER) {
            wheel.push(Timestamp::NEVER, deadline.slots.first()[0]);
            (deadline, _) = wheel.take(Tick::MAX).unwrap();
        }
        assert_eq!(all(deadline.slots), [7]);
    }

    #[test]
    fn the_wheel_skips_empty_ticks() {
        let mut wheel = Wheel::new(0);
        wheel.push(timestamp(1 << 30), 1);
        wheel.advance((1 << 30) - 1);
        assert!(wheel.take((1 << 30) - 1).is_none());
        assert_eq!(all(wheel.take(1 << 30).unwrap().0.slots), [1]);
    }

    #[test]
    fn it_knows_the_large_bucket_that_is_left() {
        let mut wheel = Wheel::new(0);
        for slot in 1..=LARGE as u32 {
            wheel.push(timestamp(5), slot);
            wheel.push(timestamp(7), slot);
            wheel.push(timestamp(9), slot);
        }
        assert_eq!(wheel.large().count(), 0, "not more than that");
        wheel.push(timestamp(5), 0);
        wheel.push(timestamp(9), 0);
        let large = |wheel: &Wheel| {
            wheel
                .large()
                .map(|large| tick(large.earliest))
                .collect::<Vec<_>>()
        };
        assert_eq!(large(&wheel), [5, 9]);
        assert!(wheel.take(5).is_some());
        assert_eq!(large(&wheel), [9]);
        assert!(wheel.take(7).is_some());
        assert!(wheel.take(9).is_some());
        assert_eq!(large(&wheel), []);
        assert!(!wheel.has_large());
    }

    #[test]
    fn it_advances_to_just_before_the_next_bucket() {
        let mut wheel = Wheel::new(0);
        wheel.push(timestamp(70), 0);
        wheel.advance(1_000);
        assert_eq!(wheel.at(), 63);
        assert!(wheel.take(64).is_some());
        wheel.advance(1_000);
        assert_eq!(wheel.at(), 1_000);
    }
}
