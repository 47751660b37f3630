//! Instants and durations as one ordered number.

use std::time::Duration;

use tokio::time::Instant;

/// A point on a [`Timeline`], in nanoseconds: eight bytes that compare like the instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

/// Where the epoch lies among the ticks: past and future have 292 years each.
const ORIGIN: u64 = 1 << 63;

impl Tick {
    /// Before or at every instant.
    pub(crate) const ALWAYS: Tick = Tick(0);
    /// As far as the line goes. A deadline beyond it is cut to it, so that none is ever an error.
    pub(crate) const NEVER: Tick = Tick(u64::MAX);

    /// The number itself, for who sorts ticks by their digits.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The tick of a number that [`bits`](Tick::bits) gave.
    pub(crate) const fn from_bits(bits: u64) -> Tick {
        Tick(bits)
    }

    /// This tick, moved later; far away rather than an overflow.
    pub(crate) fn after(self, delay: Duration) -> Tick {
        Tick(self.0.saturating_add(nanos(delay)))
    }

    /// This tick, moved earlier.
    pub(crate) fn before(self, by: Duration) -> Tick {
        Tick(self.0.saturating_sub(nanos(by)))
    }

    /// How much later this tick is; zero if it is not.
    pub(crate) fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration as one number; far away rather than an overflow.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Translates between tokio's instants and ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    epoch: Instant,
}

impl Timeline {
    pub(crate) fn new(epoch: Instant) -> Timeline {
        Timeline { epoch }
    }

    pub(crate) fn tick(&self, at: Instant) -> Tick {
        match at.checked_duration_since(self.epoch) {
            Some(future) => Tick(ORIGIN.saturating_add(nanos(future))),
            None => Tick(ORIGIN.saturating_sub(nanos(self.epoch.duration_since(at)))),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        self.tick(Instant::now())
    }

    /// The instant of a tick; on a platform whose clock does not reach so far, the farthest that
    /// tokio itself counts on, 30 years, or the epoch for the past.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        if tick.0 >= ORIGIN {
            self.epoch
                .checked_add(Duration::from_nanos(tick.0 - ORIGIN))
                .unwrap_or_else(|| self.epoch + Duration::from_secs(86_400 * 365 * 30))
        } else {
            self.epoch
                .checked_sub(Duration::from_nanos(ORIGIN - tick.0))
                .unwrap_or(self.epoch)
        }
    }
}

/// The instant `delay` after `at`; far away rather than an overflow.
pub(crate) fn later(at: Instant, delay: Duration) -> Instant {
    let line = Timeline::new(at);
    line.instant(line.tick(at).after(delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Timeline {
        Timeline::new(Instant::now())
    }

    #[test]
    fn an_instant_survives_the_round_trip() {
        let line = line();
        for offset in [0, 1, 999, 1_000_000, 86_400_000_000_000] {
            let offset = Duration::from_nanos(offset);
            for at in [line.epoch + offset, line.epoch - offset] {
                assert_eq!(line.instant(line.tick(at)), at);
            }
        }
    }

    #[test]
    fn ticks_compare_like_instants_on_both_sides_of_the_epoch() {
        let line = line();
        let nano = Duration::from_nanos(1);
        let ticks = [
            line.epoch - nano - nano,
            line.epoch - nano,
            line.epoch,
            line.epoch + nano,
        ]
        .map(|at| line.tick(at));
        assert!(ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
    }

    #[test]
    fn a_delay_beyond_the_line_is_far_away() {
        let line = line();
        assert_eq!(line.tick(line.epoch).after(Duration::MAX), Tick::NEVER);
        assert!(line.instant(Tick::NEVER) > line.epoch + Duration::from_secs(86_400 * 365 * 200));
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
        let line = line();
        let start = line.tick(line.epoch);
        let later = start.after(Duration::from_micros(3));
        assert_eq!(later.since(start), Duration::from_micros(3));
        assert_eq!(start.since(later), Duration::ZERO);
    }
}
