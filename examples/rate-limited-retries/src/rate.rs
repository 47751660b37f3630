//! A rate: at most N per period, with a burst.

use std::time::Duration;

use crate::time::nanos;

/// A rate limit: at most `count` per `period`, evenly spaced, with a burst.
///
/// The rate is exact and does not drift: three per second stay three per second, although their distance is not a whole
/// number of nanoseconds. In any window of one period, at most `count` plus the burst starts, by the instants at which work
/// really starts.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::Rate;
/// use std::time::Duration;
///
/// let gentle = Rate::per_second(20).burst(5);
/// let quota = Rate::new(5000, Duration::from_secs(3600)).burst(100);
/// assert_eq!((quota.count(), quota.period().as_secs()), (5000, 3600));
/// assert_eq!(gentle.in_a_period(), 25);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Not zero.
    count: u32,
    /// In nanoseconds; not zero.
    period: u64,
    /// Not zero.
    burst: u32,
    /// `period / count` as a fraction in its lowest terms: most rates have a denominator of one, and then there is
    /// nothing to divide.
    numerator: u64,
    denominator: u32,
}

impl Rate {
    /// Creates a rate of `count` per `period`. The burst is one unless [`burst`](Rate::burst) sets it.
    ///
    /// # Panics
    ///
    /// If `count` or `period` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Rate;
    /// use std::time::Duration;
    ///
    /// let rate = Rate::new(1, Duration::from_secs(10));
    /// assert_eq!(rate.count(), 1);
    /// ```
    #[track_caller]
    pub fn new(count: u32, period: Duration) -> Rate {
        assert!(
            count > 0,
            "rate-limited-retries: Rate::new was called with a count of zero: nothing could ever start"
        );
        assert!(
            !period.is_zero(),
            "rate-limited-retries: Rate::new was called with a period of zero"
        );
        let period = nanos(period);
        let common = gcd(u64::from(count), period);
        Rate {
            count,
            period,
            burst: 1,
            numerator: period / common,
            // Not above `count`.
            denominator: (u64::from(count) / common) as u32,
        }
    }

    /// Creates a rate of `count` per second.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Rate;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Rate::per_second(3), Rate::new(3, Duration::from_secs(1)));
    /// ```
    #[track_caller]
    pub fn per_second(count: u32) -> Rate {
        Rate::new(count, Duration::from_secs(1))
    }

    /// Sets the burst: the number of starts that may happen at once after a pause.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Rate;
    ///
    /// assert_eq!(Rate::per_second(3).burst(5).burst_size(), 5);
    /// ```
    #[must_use = "the rate is returned"]
    #[track_caller]
    pub fn burst(mut self, count: u32) -> Rate {
        assert!(
            count > 0,
            "rate-limited-retries: Rate::burst must be at least 1: nothing could ever start"
        );
        self.burst = count;
        self
    }

    /// Returns the number of starts per [`period`](Rate::period).
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rate_limited_retries::Rate::per_second(3).count(), 3);
    /// ```
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the period, which is at most 584 years.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rate_limited_retries::Rate::per_second(3).period().as_secs(), 1);
    /// ```
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period)
    }

    /// Returns the burst.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rate_limited_retries::Rate::per_second(3).burst_size(), 1);
    /// ```
    pub fn burst_size(&self) -> u32 {
        self.burst
    }

    /// Returns the maximum number of starts in any window of one period: the count plus the burst.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rate_limited_retries::Rate::per_second(10).burst(10).in_a_period(), 20);
    /// ```
    pub fn in_a_period(&self) -> u64 {
        u64::from(self.count) + u64::from(self.burst)
    }

    /// The period, in nanoseconds.
    pub(crate) fn window(self) -> u64 {
        self.period
    }

    /// A nanosecond has `denominator` parts, of which a cost of one takes `numerator`: whole numbers, whatever the
    /// rate.
    pub(crate) fn parts(self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.denominator)
    }

    /// How long it takes to earn this cost, in parts.
    pub(crate) fn earned(self, cost: u32) -> u128 {
        u128::from(self.numerator) * u128::from(cost)
    }

    /// How long before its cost is earned something may start: all of the burst but what it takes itself.
    /// What costs more than the burst starts when the whole burst is there.
    pub(crate) fn credit(self, cost: u32) -> u128 {
        self.earned(self.burst - cost.min(self.burst))
    }

    /// The first whole nanosecond that is not before.
    pub(crate) fn nanos(self, parts: u128) -> u64 {
        let nanos = if self.denominator == 1 {
            parts
        } else {
            parts.div_ceil(u128::from(self.denominator))
        };
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
