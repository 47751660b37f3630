//! The bucket that all keys share, when its tokens are reserved ahead; pure.

use std::collections::BTreeMap;

use super::allowance::Rate;

/// Which stretches of a bucket's time are not given away.
///
/// To earn a cost takes a stretch of time, of which a bucket has only one at once. What goes at `at` has
/// to have its stretch begin then or later, and end within a burst of `at`: this is what GCRA asks, for a
/// bucket that fills one cost after the other. A plain bucket gives away its time from one end. With keys
/// that may go only later, that would let one far instant keep all others waiting; so the gaps stay
/// free, and whoever may go earlier gets them.
#[derive(Debug)]
pub(super) struct Calendar {
    /// From begin to end, in parts of a nanosecond; none too short for a cost of one. The last has no
    /// end.
    gaps: BTreeMap<u128, u128>,
}

impl Calendar {
    pub(super) fn new() -> Calendar {
        Calendar {
            gaps: BTreeMap::from([(0, u128::MAX)]),
        }
    }

    /// The first instant from `at` on at which this cost may go beside all that was reserved; it is
    /// reserved.
    pub(super) fn reserve(&mut self, rate: Rate, cost: u32, now: u64, at: u64) -> u64 {
        self.forget(rate.parts(now));
        let (wanted, length) = (rate.parts(at), rate.earned(cost));
        let around = self.gaps.range(..=wanted).next_back();
        let later = self.gaps.range(wanted.saturating_add(1)..);
        let mut fitting = around.into_iter().chain(later).filter_map(|(&from, &to)| {
            let begin = from.max(wanted);
            (begin.saturating_add(length) <= to).then_some((from, begin, to))
        });
        let Some((from, begin, to)) = fitting.next() else {
            return u64::MAX;
        };
        self.gaps.remove(&from);
        for (from, to) in [(from, begin), (begin.saturating_add(length), to)] {
            if to - from >= rate.earned(1) {
                self.gaps.insert(from, to);
            }
        }
        at.max(rate.nanos(begin.saturating_sub(rate.credit(cost))))
    }

    /// What has passed cannot be given away any more.
    fn forget(&mut self, now: u128) {
        while let Some(gap) = self.gaps.first_entry() {
            if *gap.get() > now {
                return;
            }
            gap.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rate(burst: u32) -> Rate {
        Rate::new(1, Duration::from_nanos(10)).burst(burst)
    }

    #[test]
    fn without_gaps_it_is_a_bucket() {
        let mut calendar = Calendar::new();
        let taken: Vec<_> = (0..5).map(|_| calendar.reserve(rate(3), 1, 5, 5)).collect();
        assert_eq!(taken, [5, 5, 5, 15, 25]);
    }

    #[test]
    fn a_far_instant_keeps_nobody_waiting() {
        let mut calendar = Calendar::new();
        assert_eq!(calendar.reserve(rate(1), 1, 0, 1000), 1000);
        let taken: Vec<_> = (0..3).map(|_| calendar.reserve(rate(1), 1, 0, 0)).collect();
        assert_eq!(taken, [0, 10, 20]);
        assert_eq!(calendar.reserve(rate(1), 1, 0, 995), 1010);
        assert_eq!(calendar.reserve(rate(1), 3, 0, 960), 960);
        assert_eq!(calendar.reserve(rate(1), 2, 0, 985), 1020);
    }

    /// The worst case: each leaves a gap that is almost long enough for another.
    #[test]
    fn what_is_reserved_ahead_is_less_than_twice_as_wide() {
        let mut calendar = Calendar::new();
        for n in 0..10 {
            let at = 9 + 19 * n;
            assert_eq!(calendar.reserve(rate(1), 1, 0, at), at);
        }
        assert_eq!(calendar.reserve(rate(1), 1, 0, 0), 9 + 19 * 9 + 10);
    }

    #[test]
    fn what_has_passed_is_forgotten() {
        let mut calendar = Calendar::new();
        for now in 0..1000 {
            calendar.reserve(rate(2), 1, 20 * now, 20 * now + 100);
        }
        assert!(calendar.gaps.len() < 12, "{} gaps", calendar.gaps.len());
    }
}
