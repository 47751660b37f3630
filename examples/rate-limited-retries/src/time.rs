//! Instants and durations as whole nanoseconds. What would overflow is an instant far away.

use std::time::Duration;

use tokio::time::Instant;

/// The delay that is used if the platform's clock cannot represent a longer one; tokio uses the same.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the instant `delay` after `at`. A delay counts for 584 years at most.
pub(crate) fn later(at: Instant, delay: Duration) -> Instant {
    at.checked_add(Duration::from_nanos(nanos(delay)))
        .unwrap_or_else(|| at + FAR)
}

/// A clock that counts nanoseconds from its creation.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            epoch: Instant::now(),
        }
    }

    /// Returns zero for an instant before the clock was created.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }

    pub(crate) fn now(&self) -> u64 {
        self.nanos(Instant::now())
    }

    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        later(self.epoch, Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_round_trip() {
        let clock = Clock::new();
        for nanos in [0, 1, 999, 1_000_000, 86_400_000_000_000] {
            assert_eq!(clock.nanos(clock.instant(nanos)), nanos);
        }
        assert_eq!(clock.nanos(clock.epoch - Duration::from_secs(1)), 0);
    }

    #[test]
    fn later_is_exact_or_far_away() {
        let at = Instant::now();
        let delay = Duration::new(1, 1);
        assert_eq!(later(at, delay), at + delay);
        let far = later(at, Duration::MAX);
        assert!(far >= at + FAR);
        assert!(later(far, Duration::MAX) >= far);
    }
}
