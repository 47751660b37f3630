//! Instants and durations as one ordered number.

use std::time::Duration;

use tokio::time::Instant;

/// A point on a [`Clock`], in nanoseconds: eight bytes that compare like the instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(u64);

/// The timestamp of the epoch: past and future have 292 years each.
const ORIGIN: u64 = 1 << 63;

impl Timestamp {
    /// The earliest timestamp, which is not after any instant.
    pub(crate) const ALWAYS: Timestamp = Timestamp(0);
    /// The latest timestamp. A deadline beyond it saturates to it, so no deadline is an error.
    pub(crate) const NEVER: Timestamp = Timestamp(u64::MAX);

    /// Returns the number itself, whose digits the timing wheel sorts by.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The timestamp of a number that [`bits`](Timestamp::bits) gave.
    pub(crate) const fn from_bits(bits: u64) -> Timestamp {
        Timestamp(bits)
    }

    /// This timestamp, moved later; far away rather than an overflow.
    pub(crate) fn after(self, delay: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(nanos(delay)))
    }

    /// This timestamp, moved earlier.
    pub(crate) fn before(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(nanos(by)))
    }

    /// Returns how much later this timestamp is; zero if it is not.
    pub(crate) fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration as one number; far away rather than an overflow.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// For an instant further away no timer is set, so that waiting for it does not move a paused clock.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Translates between tokio's instants and timestamps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn new(epoch: Instant) -> Clock {
        Clock { epoch }
    }

    pub(crate) fn timestamp(&self, at: Instant) -> Timestamp {
        match at.checked_duration_since(self.epoch) {
            Some(future) => Timestamp(ORIGIN.saturating_add(nanos(future))),
            None => Timestamp(ORIGIN.saturating_sub(nanos(self.epoch.duration_since(at)))),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.timestamp(Instant::now())
    }

    /// The instant of a timestamp; on a platform whose clock does not reach so far, the farthest that
    /// tokio itself counts on, 30 years, or the epoch for the past.
    pub(crate) fn instant(&self, timestamp: Timestamp) -> Instant {
        if timestamp.0 >= ORIGIN {
            self.epoch
                .checked_add(Duration::from_nanos(timestamp.0 - ORIGIN))
                .unwrap_or_else(|| self.epoch + Duration::from_secs(86_400 * 365 * 30))
        } else {
            self.epoch
                .checked_sub(Duration::from_nanos(ORIGIN - timestamp.0))
                .unwrap_or(self.epoch)
        }
    }
}

/// The instant `delay` after `at`; far away rather than an overflow.
pub(crate) fn later(at: Instant, delay: Duration) -> Instant {
    let clock = Clock::new(at);
    clock.instant(clock.timestamp(at).after(delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock::new(Instant::now())
    }

    #[test]
    fn an_instant_survives_the_round_trip() {
        let clock = clock();
        for offset in [0, 1, 999, 1_000_000, 86_400_000_000_000] {
            let offset = Duration::from_nanos(offset);
            for at in [clock.epoch + offset, clock.epoch - offset] {
                assert_eq!(clock.instant(clock.timestamp(at)), at);
            }
        }
    }

    #[test]
    fn timestamps_compare_like_instants_on_both_sides_of_the_epoch() {
        let clock = clock();
        let nano = Duration::from_nanos(1);
        let timestamps = [
            clock.epoch - nano - nano,
            clock.epoch - nano,
            clock.epoch,
            clock.epoch + nano,
        ]
        .map(|at| clock.timestamp(at));
        assert!(timestamps.is_sorted_by(|a, b| a < b), "{timestamps:?}");
    }

    #[test]
    fn a_delay_beyond_the_last_timestamp_is_far_away() {
        let clock = clock();
        assert_eq!(
            clock.timestamp(clock.epoch).after(Duration::MAX),
            Timestamp::NEVER
        );
        assert!(
            clock.instant(Timestamp::NEVER) > clock.epoch + Duration::from_secs(86_400 * 365 * 200)
        );
    }

    #[test]
    fn later_is_exact_or_far_away() {
        let at = Instant::now();
        let delay = Duration::new(1, 1);
        assert_eq!(later(at, delay), at + delay);
        assert!(later(at, Duration::MAX) > at + Duration::from_secs(86_400 * 365 * 29));
    }

    #[test]
    fn since_counts_only_forward() {
        let clock = clock();
        let start = clock.timestamp(clock.epoch);
        let later = start.after(Duration::from_micros(3));
        assert_eq!(later.since(start), Duration::from_micros(3));
        assert_eq!(start.since(later), Duration::ZERO);
    }
}
