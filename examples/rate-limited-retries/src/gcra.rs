//! A GCRA bucket, with an exact count per period. It is a pure data structure: it gets all times as arguments, in
//! nanoseconds.

use std::collections::VecDeque;

use crate::rate::Rate;

/// Returns the tolerance of a rate. A start that is late by at most the tolerance is charged at its exact instant, so
/// that no capacity is lost to late timers, and little to other programs. A start that is later is charged when it
/// happens, so that a program which was stopped does not catch up all at once.
///
/// The tolerance is a tenth of the period, but at least 20 ms, as late as starts are on a busy machine, and at most
/// 100 ms.
fn tolerance(rate: Rate) -> u64 {
    (rate.period_nanos() / 10).clamp(20_000_000, 100_000_000)
}

/// The state of one bucket: the instant at which it will be full again, and its late starts.
///
/// This instant alone is enough to keep the rate at the exact instants. The real starts are later, by up to
/// [`tolerance`]. If that is longer than the interval between two starts, a late start and the punctual ones after it
/// could together exceed what the rate allows in one period. So a bucket that had such a start also keeps a [`Window`].
#[derive(Default)]
pub(crate) struct Bucket {
    /// The instant at which the bucket will be full again. It is the theoretical arrival time (TAT) of GCRA.
    full: Parts,
    /// `Some` while a late start still matters.
    window: Option<Box<Window>>,
}

/// An instant in parts of a nanosecond, so that nothing is rounded; see [`Rate::parts`]. It is stored in two halves,
/// since the alignment of a `u128` would cost each bucket eight bytes.
#[derive(Clone, Copy, Default)]
struct Parts {
    high: u64,
    low: u64,
}

impl Parts {
    fn new(parts: u128) -> Parts {
        Parts {
            high: (parts >> 64) as u64,
            low: parts as u64,
        }
    }

    fn get(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

impl Bucket {
    /// Returns the exact instant at which work of this cost may start, rounded up to a whole nanosecond.
    pub(crate) fn exact(&self, rate: Rate, cost: u32) -> u64 {
        rate.nanos(self.opens(rate, cost))
    }

    /// Returns until when the late starts of the last period keep work of this cost from its start. Work of cost zero adds
    /// nothing to a period, and so waits for none.
    ///
    /// Call it only when the exact instant has come. If a dispatcher slept until this instant in the first place, it
    /// would be late again by as much in each period.
    pub(crate) fn blocked_until(&self, rate: Rate, cost: u32) -> u64 {
        let window = self.window.as_ref().filter(|_| cost > 0);
        window.map_or(0, |window| window.earliest(rate, cost))
    }

    fn opens(&self, rate: Rate, cost: u32) -> u128 {
        self.full.get().saturating_sub(rate.credit(cost))
    }

    /// Charges for work that starts `now`, and that could have started at `at`, which is not before its exact instant.
    /// Returns which of the two is charged.
    pub(crate) fn take(&mut self, rate: Rate, cost: u32, at: u64, now: u64) -> u64 {
        let charged = if now - at > tolerance(rate) { now } else { at };
        let opens = self.opens(rate, cost);
        // A start within the nanosecond of its earliest instant is charged at exactly that instant, so that the rest of
        // the nanosecond is not lost.
        let exact = if rate.nanos(opens) == charged {
            opens
        } else {
            rate.parts(charged)
        };
        let begins = self.full.get().max(exact);
        self.full = Parts::new(begins.saturating_add(rate.earned(cost)));
        // A period that begins with work of cost zero contains no more than the one that begins with the next start.
        let late = cost > 0 && rate.parts(now) > begins.saturating_add(rate.earned(1));
        if late || self.window.is_some() {
            let window = self.window.get_or_insert_default();
            window.take(rate, cost, now, late);
            if window.late.is_empty() && window.blocked_until <= now {
                self.window = None;
            }
        }
        charged
    }

    /// Returns whether no earlier start affects a later one any more.
    pub(crate) fn is_idle(&self, rate: Rate, now: u64) -> bool {
        self.full.get() <= rate.parts(now)
            && self.window.as_ref().is_none_or(|window| {
                let last = window.late.back();
                let end = last.map_or(0, |late| late.at.saturating_add(rate.period_nanos()));
                end.max(window.blocked_until) <= now
            })
    }
}

/// The late starts of the last period.
///
/// A start that is late by at most `T`, the interval between two starts, can be left out. Say that it happened at `s`
/// and its exact instant was `v`, so that `s <= v + T`. The first start that exceeds the count and the burst since then
/// has its exact instant at `v + period + T` or later, which is not before `s + period`.
#[derive(Default)]
struct Window {
    /// The sum of the costs of all starts since the first late one.
    started: u64,
    /// No work that costs something starts before this instant. It is the end of the period after the last late start
    /// that was removed from `late`.
    blocked_until: u64,
    late: VecDeque<Late>,
}

/// A period has this many cells. Late starts in the same cell are kept as one, so that a long period with many starts
/// uses little memory. This costs less than a cell of the period.
const CELLS: u64 = 8_192;

#[derive(Clone, Copy)]
struct Late {
    /// The sum of the costs of all earlier starts.
    before: u64,
    at: u64,
}

impl Window {
    /// Returns the sum of the costs that may start within one period.
    fn allowed(rate: Rate, cost: u32) -> u64 {
        u64::from(rate.count()) + u64::from(rate.burst_size().max(cost))
    }

    fn earliest(&self, rate: Rate, cost: u32) -> u64 {
        let (ends, allowed) = (self.started + u64::from(cost), Window::allowed(rate, cost));
        let full = self.late.iter();
        let full = full.take_while(|late| ends - late.before > allowed);
        full.last().map_or(self.blocked_until, |late| {
            late.at.saturating_add(rate.period_nanos())
        })
    }

    fn take(&mut self, rate: Rate, cost: u32, now: u64, late: bool) {
        let before = self.started;
        self.started += u64::from(cost);
        let allowed = Window::allowed(rate, 0);
        while let Some(first) = self.late.front() {
            let end = first.at.saturating_add(rate.period_nanos());
            if end > now && self.started - first.before <= allowed {
                break;
            }
            // It is removed: its period is over, or it is full, and `blocked_until` remembers when it ends.
            self.blocked_until = end;
            self.late.pop_front();
        }
        if !late {
            return;
        }
        let cell = |at: u64| at / (rate.period_nanos() / CELLS).max(1);
        match self.late.back_mut() {
            // Both are kept as one that counts all starts since the first, until the period after the second is over.
            Some(last) if cell(last.at) == cell(now) => last.at = now,
            _ => self.late.push_back(Late { before, at: now }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::tests::{Random, ms};
    use std::time::Duration;

    /// Returns when work of these costs starts if all of it is pushed at 1000.
    fn instants(rate: Rate, costs: &[u32]) -> Vec<u64> {
        let mut bucket = Bucket::default();
        let started = costs.iter().map(|&cost| {
            let at = bucket.exact(rate, cost).max(1000);
            bucket.take(rate, cost, at, at);
            at - 1000
        });
        started.collect()
    }

    fn rate(count: u32, period: u64, burst: u32) -> Rate {
        Rate::new(count, Duration::from_nanos(period)).burst(burst)
    }

    #[test]
    fn a_burst_starts_at_once_and_the_rest_evenly() {
        let instants = instants(rate(1, 10, 3), &[1; 6]);
        assert_eq!(instants, [0, 0, 0, 10, 20, 30]);
    }

    #[test]
    fn thirds_of_a_nanosecond_add_up() {
        let instants = instants(rate(3, 10, 1), &[1; 7]);
        assert_eq!(instants, [0, 4, 7, 10, 14, 17, 20]);
    }

    #[test]
    fn a_cost_of_many_waits_for_as_many_and_a_cost_of_zero_for_its_turn() {
        let instants = instants(rate(1, 10, 3), &[2, 2, 0, 3, 0, 1]);
        assert_eq!(instants, [0, 10, 10, 40, 40, 50]);
    }

    #[test]
    fn a_cost_above_the_burst_waits_for_all_of_it_and_is_paid_off_afterwards() {
        let instants = instants(rate(1, 10, 2), &[1, 5, 1, 1]);
        assert_eq!(instants, [0, 10, 50, 60]);
    }

    #[test]
    fn the_farthest_instant_is_far_away() {
        let slowest = rate(1, u64::MAX, u32::MAX);
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            bucket.take(slowest, u32::MAX, u64::MAX, u64::MAX);
        }
        assert_eq!(bucket.exact(slowest, u32::MAX), u64::MAX);
        assert!(!bucket.is_idle(slowest, u64::MAX));
    }

    #[test]
    fn a_bucket_is_kept_until_a_late_start_no_longer_counts() {
        let rate = Rate::per_second(1_000);
        let mut bucket = Bucket::default();
        bucket.take(rate, 1_000, 0, ms(50));
        // It costs more than the burst, so the period of the late start is full before it is over.
        bucket.take(rate, 2, ms(1_000), ms(1_000));
        assert_eq!(bucket.blocked_until(rate, 1), ms(1_050));
        assert!(!bucket.is_idle(rate, ms(1_049)));
        assert!(bucket.is_idle(rate, ms(1_050)));
    }

    #[test]
    fn a_start_within_the_tolerance_costs_nothing_and_a_later_one_is_charged_then() {
        for (millis, tolerated) in [(50, 20), (500, 50), (1_000, 100), (10_000, 100)] {
            let (period, tolerated) = (millis * 1_000_000, tolerated * 1_000_000);
            let rate = rate(1, period, 1);
            for (late, next) in [
                (0, period),
                (tolerated, period),
                (tolerated + 1, period + tolerated + 1),
            ] {
                let mut bucket = Bucket::default();
                bucket.take(rate, 1, 0, late);
                assert_eq!(bucket.exact(rate, 1), next, "{late} late, {millis} ms");
            }
        }
    }

    /// Starts with random costs and pauses are late by up to twice the tolerance. No window of one period contains
    /// starts that cost more than the count and the burst, or the largest cost if that is more.
    #[test]
    fn no_window_of_a_period_has_more_than_the_count_and_a_burst() {
        for seed in 0..400 {
            let mut random = Random(seed);
            let count = 1 + random.below(300) as u32;
            let burst = 1 + random.below(5) as u32;
            let period = 1_000_000 * (1 + random.below(200));
            let rate = rate(count, period, burst);
            let largest = burst + random.below(3) as u32;
            let lateness = 1 + random.below(2 * tolerance(rate));
            let (mut bucket, mut now, mut starts) = (Bucket::default(), 0, Vec::new());
            // With a backlog the next work could have started when the last one could.
            let (has_backlog, mut at) = (random.below(2) == 0, 0);
            for _ in 0..2_000 {
                let cost = random.below(u64::from(largest) + 1) as u32;
                let ready = match random.below(50) {
                    0 => now + random.below(3 * period),
                    _ if has_backlog => at,
                    _ => now,
                };
                at = bucket.exact(rate, cost).max(ready);
                now = now.max(at);
                if random.below(4) == 0 {
                    now += random.below(lateness);
                }
                now = now.max(bucket.blocked_until(rate, cost));
                bucket.take(rate, cost, at, now);
                starts.push((now, u64::from(cost)));
            }
            let (mut from, mut sum) = (0, 0);
            for &(at, cost) in &starts {
                sum += cost;
                while at - starts[from].0 >= period {
                    sum -= starts[from].1;
                    from += 1;
                }
                assert!(
                    sum <= u64::from(count + largest),
                    "{sum} at {at} of {rate:?}, costs up to {largest}, seed {seed}"
                );
            }
        }
    }

    /// The rate is reached although each start is up to two milliseconds late.
    #[test]
    fn late_starts_lose_no_capacity() {
        for (count, seconds) in [(100, 1), (1_000, 1), (5_000, 1), (100_000, 100)] {
            let rate = Rate::new(count, Duration::from_secs(seconds));
            let length = 5 * seconds.max(2);
            let (mut bucket, mut random, mut now, mut starts) =
                (Bucket::default(), Random(7), 0, 0);
            let mut at = 0;
            while now < length * 1_000_000_000 {
                at = bucket.exact(rate, 1).max(at);
                // The timer fires at the next whole millisecond, and up to one more millisecond late.
                let mut wake = |at: u64| {
                    if at > now {
                        now = at.next_multiple_of(1_000_000) + random.below(1_000_000);
                    }
                };
                wake(at);
                wake(bucket.blocked_until(rate, 1));
                bucket.take(rate, 1, at, now);
                starts += 1;
            }
            let share = starts * 10_000 * seconds / (length * u64::from(count));
            assert!(share >= 9_985, "{share} of ten thousand at {rate:?}");
        }
    }

    /// A thousand a second, as a quota of an hour.
    #[test]
    fn the_late_starts_of_a_long_period_are_kept_in_little_memory() {
        let rate = rate(3_600_000, 3_600_000_000_000, 1);
        let mut bucket = Bucket::default();
        for n in 0..100_000_u64 {
            let at = bucket.exact(rate, 1).max(n * 1_000_000);
            let now = at + 2_000_000;
            assert!(bucket.blocked_until(rate, 1) <= now);
            bucket.take(rate, 1, at, now);
        }
        let kept = bucket.window.as_ref().unwrap().late.len();
        assert!(kept <= 230, "{kept} kept of a hundred seconds");
    }

    /// The first start is 50 ms late, and the last one costs one more than the burst. So the period after the first one is
    /// full, and the bucket allows work of cost zero.
    #[test]
    fn a_cost_of_zero_waits_for_no_period_that_is_full() {
        let rate = Rate::per_second(100);
        let (mut bucket, mut at) = (Bucket::default(), 0);
        for n in 0..101 {
            let cost = if n == 100 { 2 } else { 1 };
            at = bucket.exact(rate, cost).max(at);
            bucket.take(rate, cost, at, at.max(ms(50)));
        }
        assert_eq!(bucket.exact(rate, 0), ms(1_010));
        assert_eq!(bucket.blocked_until(rate, 0), 0);
        bucket.take(rate, 0, ms(1_010), ms(1_010));
        assert_eq!(bucket.exact(rate, 1), ms(1_020));
        assert_eq!(bucket.blocked_until(rate, 1), ms(1_050));
    }

    #[test]
    fn late_starts_that_cost_nothing_are_not_kept() {
        let rate = Rate::per_second(1_000);
        let mut bucket = Bucket::default();
        for n in 0..10_000_u64 {
            let at = n * 10_000;
            bucket.take(rate, 0, at, at + 2_000_000);
        }
        let kept = bucket.window.as_ref().map_or(0, |window| window.late.len());
        assert_eq!(kept, 0, "they affect no later start");
    }

    #[test]
    fn only_late_starts_of_the_last_period_are_kept() {
        let rate = Rate::per_second(1_000);
        let mut bucket = Bucket::default();
        for n in 0..50_000_u64 {
            let at = bucket.exact(rate, 1).max(n * 1_000_000);
            assert!(
                bucket.blocked_until(rate, 1) <= at + 2_000_000,
                "constant lateness adds up"
            );
            bucket.take(rate, 1, at, at + 2_000_000);
        }
        let kept = bucket.window.as_ref().unwrap().late.len();
        assert!(kept <= 1_001, "{kept} kept");
        assert!(!bucket.is_idle(rate, 50_500_000_000));
        assert!(bucket.is_idle(rate, 51_100_000_000));
        let at = 52_000_000_000;
        bucket.take(rate, 1, at, at);
        assert!(bucket.window.is_none(), "nothing late is left");
    }
}
