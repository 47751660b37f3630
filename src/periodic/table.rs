//! Which tick comes next. It is pure: all times are told, as durations since the start.

use std::time::Duration;

/// What becomes of ticks whose time passes while a run is in progress. No two runs ever overlap.
///
/// The words are those of [`tokio::time::MissedTickBehavior`]. One meaning differs: tokio's `Skip`
/// makes up for one missed tick at once, ours for none, so that each run is meant for a time of the
/// timetable. So does one default: tokio's is `Burst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissedTicks {
    /// They are left out; the next run is at the next time of the timetable.
    #[default]
    Skip,
    /// The first of them runs at once, and all later ones are put off by as much as it was late.
    Delay,
    /// All of them run, one after the other without a pause, until the timetable holds again.
    Burst,
}

/// The times of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timetable {
    /// Not zero.
    pub(super) period: Duration,
    pub(super) missed: MissedTicks,
}

/// One tick of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) number: u64,
    /// How far the timetable was put off until then.
    put_off: Duration,
}

impl Timetable {
    /// The first tick that has not passed by `now`.
    pub(super) fn first(&self, now: Duration) -> Position {
        Position {
            number: self.upcoming(now),
            put_off: Duration::ZERO,
        }
    }

    /// The tick after this one, whose run has ended at `now`.
    pub(super) fn after(&self, last: Position, now: Duration) -> Position {
        let mut next = Position {
            number: last.number.saturating_add(1),
            ..last
        };
        match self.missed {
            MissedTicks::Burst => {}
            MissedTicks::Skip => next.number = next.number.max(self.upcoming(now)),
            MissedTicks::Delay => {
                let late = now.saturating_sub(self.due(next));
                next.put_off = next.put_off.saturating_add(late);
            }
        }
        next
    }

    /// When a tick is due; far away rather than an overflow.
    pub(super) fn due(&self, at: Position) -> Duration {
        let nanos = self.period.as_nanos().saturating_mul(at.number.into());
        let seconds = u64::try_from(nanos / NANOS).unwrap_or(u64::MAX);
        Duration::new(seconds, (nanos % NANOS) as u32).saturating_add(at.put_off)
    }

    fn upcoming(&self, now: Duration) -> u64 {
        let number = now.as_nanos().div_ceil(self.period.as_nanos());
        u64::try_from(number).unwrap_or(u64::MAX)
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which runs start that take so long each, with a period of ten seconds.
    fn starts(missed: MissedTicks, lengths: &[u64]) -> Vec<u64> {
        let table = Timetable {
            period: Duration::from_secs(10),
            missed,
        };
        let (mut now, mut at) = (Duration::ZERO, table.first(Duration::ZERO));
        let runs = lengths.iter().map(|&length| {
            let start = now.max(table.due(at));
            now = start + Duration::from_secs(length);
            at = table.after(at, now);
            start.as_secs()
        });
        runs.collect()
    }

    #[test]
    fn the_table_of_missed_ticks() {
        let lengths = [3, 25, 3, 3, 3, 3];
        let rows = [
            (MissedTicks::Skip, [0, 10, 40, 50, 60, 70]),
            (MissedTicks::Delay, [0, 10, 35, 45, 55, 65]),
            (MissedTicks::Burst, [0, 10, 35, 38, 41, 50]),
        ];
        for (missed, expected) in rows {
            assert_eq!(starts(missed, &lengths), expected, "{missed:?}");
        }
    }

    #[test]
    fn a_tick_that_is_due_just_now_is_not_missed() {
        assert_eq!(starts(MissedTicks::Skip, &[10, 20, 0]), [0, 10, 30]);
    }

    #[test]
    fn the_farthest_tick_is_far_away() {
        let table = Timetable {
            period: Duration::MAX,
            missed: MissedTicks::Skip,
        };
        let last = Position {
            number: u64::MAX,
            put_off: Duration::MAX,
        };
        assert!(table.due(last) > Duration::MAX / 2);
        assert_eq!(table.after(last, Duration::MAX).number, u64::MAX);
    }
}
