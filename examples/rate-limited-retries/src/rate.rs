//! A rate: at most N per period, with a burst.

use std::time::Duration;

use crate::time::nanos;

/// A rate limit: at most `count` per `period`, evenly spaced, with a burst.
///
/// The rate is exact and does not drift: three per second stay three per second, although their distance is not a whole
/// number of nanoseconds. The costs of the work that starts in any window of one period sum to at most `count` plus the
/// burst, or plus the largest cost if that is more, by the instants at which work really starts. Work of cost zero is not
/// counted.
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
    /// Never zero.
    count: u32,
    /// In nanoseconds; never zero.
    period: u64,
    /// Never zero.
    burst: u32,
    /// `period / count` as a fraction in its lowest terms. Most rates have a denominator of one, and then no division
    /// is needed.
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
            "rate-limited-retries: the count of a rate must be at least 1: nothing could ever start"
        );
        assert!(
            !period.is_zero(),
            "rate-limited-retries: the period of a rate must not be zero"
        );
        let period = nanos(period);
        let common = gcd(u64::from(count), period);
        Rate {
            count,
            period,
            burst: 1,
            numerator: period / common,
            // At most `count`, so it fits into a `u32`.
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
    /// With a rate per key, the burst is also how far a key can catch up after it has waited for the
    /// [overall rate](crate::Builder::overall). If the costs of work differ, keys often become ready at the same time. If
    /// their rates then sum to the overall rate, they lose some 5 to 13 % of it with a burst of one, and nothing with a burst
    /// of one and a half times the largest cost.
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

    /// Returns the count plus the burst. The costs of the work that starts in any window of one period sum to at most
    /// this, unless one is above the burst. Work of cost zero is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rate_limited_retries::Rate::per_second(10).burst(10).in_a_period(), 20);
    /// ```
    pub fn in_a_period(&self) -> u64 {
        u64::from(self.count) + u64::from(self.burst)
    }

    /// Returns the period in nanoseconds.
    pub(crate) fn period_nanos(self) -> u64 {
        self.period
    }

    /// Converts nanoseconds to parts. A nanosecond has `denominator` parts, and a cost of one takes `numerator` parts.
    /// Both are whole numbers for every rate, so nothing is rounded.
    pub(crate) fn parts(self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.denominator)
    }

    /// Returns how long it takes until the rate allows another start of this cost, in parts.
    pub(crate) fn earned(self, cost: u32) -> u128 {
        u128::from(self.numerator) * u128::from(cost)
    }

    /// Returns how long before the bucket is full work of this cost may start, in parts: the burst without the cost
    /// itself. Work that costs more than the burst has to wait until the bucket is full.
    pub(crate) fn credit(self, cost: u32) -> u128 {
        self.earned(self.burst - cost.min(self.burst))
    }

    /// Converts parts to nanoseconds, rounded up.
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
