//! Coarse buckets for what is due later, so that the heap holds only what is due soon.
//!
//! A pop of a binary heap costs a cache miss for each of its deeper levels: 30 ns at ten thousand entries,
//! 200 at a million. Here an entry far away is four bytes in a bucket, and is touched again only when
//! its bucket's time comes near.

use crate::ground::timeline::Tick;

/// Nanoseconds in a granule, as a power of two: 2^20 are about a millisecond.
const GRANULE: u32 = 20;
/// Buckets in a level, as a power of two: one for each bit of a word.
const FAN: u32 = 6;
const BUCKETS: usize = 1 << FAN;

/// A stretch of time: the unit that the wheel tells apart.
pub(super) type Granule = u64;

pub(super) fn granule(at: Tick) -> Granule {
    at.bits() >> GRANULE
}

/// Numbers of slots by the granule of their deadlines, all of them later than the wheel's own.
///
/// Level 0 has a bucket for each granule of the current 64, level 1 one for each 64 granules of the
/// current 64 x 64, and so on. A bucket lies in the level of the highest six bits in which its granule
/// differs from the wheel's.
#[derive(Debug)]
pub(super) struct Wheel {
    at: Granule,
    levels: Vec<Level>,
    len: usize,
}

#[derive(Debug)]
struct Level {
    /// Bit `i` is set if bucket `i` is not empty.
    occupied: u64,
    buckets: Box<[Bucket; BUCKETS]>,
}

#[derive(Debug)]
pub(super) struct Bucket {
    /// No entry in it is due before that.
    pub(super) earliest: Tick,
    pub(super) slots: Vec<u32>,
}

/// A bucket that is the first of its level.
pub(super) struct First {
    pub(super) start: Granule,
    /// Nothing in it is due before that.
    pub(super) earliest: Tick,
    pub(super) len: usize,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket {
            earliest: Tick::NEVER,
            slots: Vec::new(),
        }
    }
}

impl Wheel {
    pub(super) fn new(at: Granule) -> Wheel {
        Wheel {
            at,
            levels: Vec::new(),
            len: 0,
        }
    }

    /// Everything up to the end of this granule is not the wheel's matter.
    pub(super) fn at(&self) -> Granule {
        self.at
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keeps a slot whose deadline lies in a granule after the wheel's own.
    pub(super) fn push(&mut self, at: Tick, slot: u32) {
        let granule = granule(at);
        debug_assert!(granule > self.at, "not later than the wheel's own granule");
        let level = (granule ^ self.at).ilog2() / FAN;
        let index = (granule >> (level * FAN)) as usize % BUCKETS;
        while self.levels.len() <= level as usize {
            self.levels.push(Level {
                occupied: 0,
                buckets: Box::new(std::array::from_fn(|_| Bucket::default())),
            });
        }
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << index;
        let bucket = &mut level.buckets[index];
        bucket.earliest = bucket.earliest.min(at);
        bucket.slots.push(slot);
        self.len += 1;
    }

    /// The first bucket of each level that is not empty, by level and index; the earliest comes first.
    fn firsts(&self) -> impl Iterator<Item = (usize, usize)> {
        let levels = self.levels.iter().enumerate();
        levels
            .filter(|(_, level)| level.occupied != 0)
            .map(|(number, level)| (number, level.occupied.trailing_zeros() as usize))
    }

    /// The first granule of a bucket.
    fn start(&self, (level, index): (usize, usize)) -> Granule {
        let bits = level as u32 * FAN;
        let above = self.at >> bits >> FAN << FAN;
        (above | index as u64) << bits
    }

    /// The first bucket that is not empty.
    pub(super) fn peek(&self) -> Option<First> {
        self.peek_levels().next()
    }

    /// The same for each level, the earliest first.
    pub(super) fn peek_levels(&self) -> impl Iterator<Item = First> {
        self.firsts().map(|first| {
            let bucket = &self.levels[first.0].buckets[first.1];
            First {
                start: self.start(first),
                earliest: bucket.earliest,
                len: bucket.slots.len(),
            }
        })
    }

    /// Takes the first bucket out if it starts by then; the wheel goes on to its start. What is due
    /// after its first granule is for the caller to push again.
    pub(super) fn take(&mut self, until: Granule) -> Option<Bucket> {
        let first = self.firsts().next()?;
        let start = self.start(first);
        if start > until {
            return None;
        }
        let level = &mut self.levels[first.0];
        level.occupied &= !(1 << first.1);
        let bucket = std::mem::take(&mut level.buckets[first.1]);
        self.len -= bucket.slots.len();
        self.at = start;
        Some(bucket)
    }

    /// Goes on to a granule before which no bucket starts.
    pub(super) fn go_on(&mut self, to: Granule) {
        debug_assert!(self.peek().is_none_or(|first| first.start > to));
        self.at = self.at.max(to);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tick(granule: Granule) -> Tick {
        Tick::ALWAYS.after(Duration::from_nanos(granule << GRANULE))
    }

    /// Turns the wheel by one granule at a time and notes when each slot comes out.
    fn run(wheel: &mut Wheel, deadlines: &[Granule], until: Granule) -> Vec<(Granule, u32)> {
        let mut out = Vec::new();
        for now in wheel.at()..=until {
            while let Some(bucket) = wheel.take(now) {
                assert!(granule(bucket.earliest) >= wheel.at());
                for slot in bucket.slots {
                    let due = deadlines[slot as usize];
                    if due <= wheel.at() {
                        out.push((wheel.at(), slot));
                    } else {
                        wheel.push(tick(due), slot);
                    }
                }
            }
            wheel.go_on(now);
        }
        out
    }

    #[test]
    fn every_slot_comes_out_in_its_own_granule() {
        let mut deadlines: Vec<Granule> = (1..200).collect();
        deadlines.extend([255, 256, 4095, 4096, 4097, 262_143, 262_144, 262_145]);
        let mut wheel = Wheel::new(0);
        for (slot, &due) in deadlines.iter().enumerate() {
            wheel.push(tick(due), slot as u32);
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
            wheel.push(tick(due), 0);
            let earliest = wheel.peek().unwrap().earliest;
            assert_eq!(
                granule(earliest),
                if due == 900_000 { 900_000 } else { 5_000 }
            );
        }
    }

    #[test]
    fn the_end_of_time_has_a_bucket() {
        let mut wheel = Wheel::new(0);
        wheel.push(Tick::NEVER, 7);
        assert_eq!(wheel.peek().unwrap().earliest, Tick::NEVER);
        let mut deadline = wheel.take(Granule::MAX).unwrap();
        while wheel.at() < granule(Tick::NEVER) {
            wheel.push(Tick::NEVER, deadline.slots[0]);
            deadline = wheel.take(Granule::MAX).unwrap();
        }
        assert_eq!(deadline.slots, [7]);
    }

    #[test]
    fn the_wheel_goes_on_over_empty_stretches() {
        let mut wheel = Wheel::new(0);
        wheel.push(tick(1 << 30), 1);
        wheel.go_on((1 << 30) - 1);
        assert!(wheel.take((1 << 30) - 1).is_none());
        assert_eq!(wheel.take(1 << 30).unwrap().slots, [1]);
    }
}
