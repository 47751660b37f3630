//! The settings, and the iterator that follows them.

use std::iter::FusedIterator;
use std::time::Duration;

use super::random::Random;
use crate::time::nanos;

/// The jitter of a delay, so that clients that failed together do not retry together.
///
/// The table in [the module's head](crate::backoff) has the formulas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// Anything from nothing to the whole delay.
    Full,
    /// Half of the delay, and anything up to the other half.
    Equal,
    /// Anything from the first delay to three times the one before; the factor plays no part.
    Decorrelated,
}

/// Settings for exponential backoff; each [`iter`](Backoff::iter) follows them from the start.
///
/// It is `Copy`, so that `move || backoff` makes the delays of one chain after the other.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use rate_limited_retries::backoff::{Backoff, Jitter};
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(30))
///     .factor(1.5)
///     .jitter(Jitter::Full)
///     .max_delays(4);
/// let tries = 1 + backoff.iter().count();
/// assert_eq!(tries, 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "settings do nothing by themselves"]
pub struct Backoff {
    /// In nanoseconds, as all delays here; not zero.
    first: u64,
    /// Not below `first`.
    max_delay: u64,
    /// Finite, and not below one.
    factor: f64,
    jitter: Jitter,
    max_delays: Option<usize>,
    seed: Option<u64>,
}

impl Backoff {
    /// Creates delays that begin with `first` and double until they reach `max_delay`, without jitter and
    /// without an end.
    ///
    /// No delay is ever above `max_delay`, whatever the jitter. Equal arguments make a constant delay.
    ///
    /// # Panics
    ///
    /// If `first` is zero, which no factor could make grow, or above `max_delay`.
    #[track_caller]
    pub fn exponential(first: Duration, max_delay: Duration) -> Backoff {
        assert!(
            !first.is_zero(),
            "rate-limited-retries: Backoff::exponential was called with a first delay of zero"
        );
        assert!(
            first <= max_delay,
            "rate-limited-retries: Backoff::exponential was called with a first delay of {first:?}, above its cap of {max_delay:?}"
        );
        Backoff {
            first: nanos(first),
            max_delay: nanos(max_delay),
            factor: 2.0,
            jitter: Jitter::None,
            max_delays: None,
            seed: None,
        }
    }

    /// Sets the factor from one delay to the next; 2 by default.
    ///
    /// # Panics
    ///
    /// If it is below 1, infinite, or not a number.
    #[track_caller]
    pub fn factor(mut self, factor: f64) -> Backoff {
        assert!(
            factor.is_finite() && factor >= 1.0,
            "rate-limited-retries: Backoff::factor must be a finite number of at least 1, not {factor}"
        );
        self.factor = factor;
        self
    }

    /// Sets the jitter of the delays.
    pub fn jitter(mut self, jitter: Jitter) -> Backoff {
        self.jitter = jitter;
        self
    }

    /// Sets the number of delays: a chain then has one attempt more. Zero means a single attempt.
    pub fn max_delays(mut self, count: usize) -> Backoff {
        self.max_delays = Some(count);
        self
    }

    /// Sets the seed of the jitter, for tests: all iterators are then the same.
    ///
    /// Without it each iterator has a seed of its own. Do not ship a fixed seed: all clients would then
    /// retry together.
    pub fn seed(mut self, seed: u64) -> Backoff {
        self.seed = Some(seed);
        self
    }

    /// Returns an iterator over the delays, from the first.
    pub fn iter(&self) -> Delays {
        Delays {
            settings: *self,
            base: self.first,
            last: self.first,
            left: self.max_delays,
            random: self.seed.map_or_else(Random::from_std, Random::seeded),
        }
    }
}

impl IntoIterator for Backoff {
    type Item = Duration;
    type IntoIter = Delays;

    fn into_iter(self) -> Delays {
        self.iter()
    }
}

impl IntoIterator for &Backoff {
    type Item = Duration;
    type IntoIter = Delays;

    fn into_iter(self) -> Delays {
        self.iter()
    }
}

/// An iterator over the delays of one chain of attempts; returned by [`Backoff::iter`].
#[derive(Clone, Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Delays {
    settings: Backoff,
    /// The next delay without jitter.
    base: u64,
    /// The delay that came before, the first one to begin with.
    last: u64,
    left: Option<usize>,
    random: Random,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let Backoff {
            first,
            max_delay,
            factor,
            jitter,
            ..
        } = self.settings;
        let base = self.base;
        // The cast saturates, and is exact wherever a double is; where it is not, it never shrinks.
        self.base = ((base as f64 * factor) as u64).clamp(base, max_delay);
        self.last = match jitter {
            Jitter::None => base,
            Jitter::Full => self.random.between(0, base),
            Jitter::Equal => self.random.between(base - base / 2, base),
            Jitter::Decorrelated => {
                let wide = self.random.between(first, self.last.saturating_mul(3));
                wide.min(max_delay)
            }
        };
        Some(Duration::from_nanos(self.last))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.unwrap_or(usize::MAX), self.left)
    }
}

impl FusedIterator for Delays {}
