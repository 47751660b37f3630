//! One GCRA bucket, pure: it gets all times, in nanoseconds.

use super::allowance::Rate;

/// What has gone through one bucket: the instant at which it will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// In parts of a nanosecond, so that nothing is ever rounded; see [`Rate`].
    full: u128,
}

impl Bucket {
    /// The first nanosecond at which this cost may go.
    pub(super) fn earliest(&self, rate: Rate, cost: u32) -> u64 {
        rate.nanos(self.opens(rate, cost))
    }

    fn opens(&self, rate: Rate, cost: u32) -> u128 {
        self.full.saturating_sub(rate.credit(cost))
    }

    /// This cost goes at `at`, which is not before its earliest instant.
    pub(super) fn take(&mut self, rate: Rate, cost: u32, at: u64) {
        let opens = self.opens(rate, cost);
        // Within the nanosecond of its earliest instant it goes exactly then: the rest of the
        // nanosecond is not lost.
        let exact = if rate.nanos(opens) == at {
            opens
        } else {
            rate.parts(at)
        };
        self.full = self.full.max(exact).saturating_add(rate.earned(cost));
    }

    /// Returns whether the bucket is full, as if nothing had ever gone through.
    pub(super) fn is_full(&self, rate: Rate, now: u64) -> bool {
        self.full <= rate.parts(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// When costs go that are all asked for at 1000.
    fn instants(rate: Rate, costs: &[u32]) -> Vec<u64> {
        let mut bucket = Bucket::default();
        let gone = costs.iter().map(|&cost| {
            let at = bucket.earliest(rate, cost).max(1000);
            bucket.take(rate, cost, at);
            at - 1000
        });
        gone.collect()
    }

    fn rate(count: u32, period: u64, burst: u32) -> Rate {
        Rate::new(count, Duration::from_nanos(period)).burst(burst)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_evenly() {
        let instants = instants(rate(1, 10, 3), &[1; 6]);
        assert_eq!(instants, [0, 0, 0, 10, 20, 30]);
    }

    #[test]
    fn thirds_of_a_nanosecond_add_up() {
        let instants = instants(rate(3, 10, 1), &[1; 7]);
        assert_eq!(instants, [0, 4, 7, 10, 14, 17, 20]);
    }

    #[test]
    fn a_cost_of_many_waits_for_as_many_and_a_cost_of_none_for_its_turn() {
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
            bucket.take(slowest, u32::MAX, u64::MAX);
        }
        assert_eq!(bucket.earliest(slowest, u32::MAX), u64::MAX);
        assert!(!bucket.is_full(slowest, u64::MAX));
    }
}
