//! A rate: at most N per period, with a burst.

use std::time::Duration;

use crate::time::nanos;

/// A rate limit: at most N per period, with a burst.
///
/// It is kept exactly: three a second are three a second for ever, though their distance is no whole
/// number of nanoseconds.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use rate_limited_retries::rate::Rate;
/// let gentle = Rate::per_second(20).burst(5);
/// let quota = Rate::new(5000, Duration::from_secs(3600)).burst(100);
/// # assert_ne!(gentle, quota);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Not zero.
    pub(super) count: u32,
    /// In nanoseconds; not zero.
    pub(super) period: u64,
    /// Not zero.
    pub(super) burst: u32,
}

impl Rate {
    /// Creates a rate of `count` per `period`, evenly spaced; the burst is one unless [`burst`](Rate::burst) sets it.
    ///
    /// # Panics
    ///
    /// If `count` or `period` is zero.
    #[track_caller]
    pub fn new(count: u32, period: Duration) -> Rate {
        assert!(
            count > 0,
            "rate-limited-retries: Rate::new was called with a count of zero: nothing could ever go"
        );
        assert!(
            !period.is_zero(),
            "rate-limited-retries: Rate::new was called with a period of zero"
        );
        Rate {
            count,
            period: nanos(period),
            burst: 1,
        }
    }

    /// Creates a rate of `count` per second: [`Rate::new`] with a period of one second.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    #[track_caller]
    pub fn per_second(count: u32) -> Rate {
        Rate::new(count, Duration::from_secs(1))
    }

    /// Sets the burst: at most this many go at once after a pause.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn burst(mut self, count: u32) -> Rate {
        assert!(
            count > 0,
            "rate-limited-retries: Rate::burst must be at least 1: nothing could ever go"
        );
        self.burst = count;
        self
    }

    /// A nanosecond has `count` parts, of which a cost of one takes `period`: whole numbers, whatever
    /// the rate.
    pub(super) fn parts(self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.count)
    }

    /// How long it takes to earn this cost.
    pub(super) fn earned(self, cost: u32) -> u128 {
        u128::from(self.period) * u128::from(cost)
    }

    /// How long before its cost is earned something may go: all of the burst but what it takes itself.
    /// Something dearer than the burst goes when the whole burst is there.
    pub(super) fn credit(self, cost: u32) -> u128 {
        self.earned(self.burst - cost.min(self.burst))
    }

    /// The first whole nanosecond that is not before.
    pub(super) fn nanos(self, parts: u128) -> u64 {
        u64::try_from(parts.div_ceil(u128::from(self.count))).unwrap_or(u64::MAX)
    }
}
