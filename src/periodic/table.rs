//! Which tick comes next. It is pure: all times are given to it, as durations since the start.

use std::time::Duration;

/// The handling of ticks whose time passes while a run is in progress, or while a due tick waits for its slot of
/// `max_running`. No two runs ever overlap.
///
/// The names are those of [`tokio::time::MissedTickBehavior`], with two differences. tokio's `Skip` runs one missed
/// tick at once and skips the others; this one skips all of them, so that each run belongs to a time of the timetable.
/// And tokio's default is `Burst`; here it is `Skip`.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::periodic::MissedTicks;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// let second = Duration::from_secs(1);
/// group.every(second).missed(MissedTicks::Burst(1)).run(move |tick| async move {
///     if tick.number() == 0 {
///         tokio::time::sleep(3 * second + second / 2).await;
///     }
///     println!("tick {}", tick.number());
/// });
/// tokio::time::sleep(4 * second).await; // tick 0, tick 3, tick 4
/// group.wait().await
/// # }
/// ```
#[doc(alias = "MissedTickBehavior")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissedTicks {
    /// All missed ticks are skipped; the next run is at the next time of the timetable.
    #[default]
    Skip,
    /// The first missed tick runs at once, and all later ticks are postponed by as much as it was late. So are the ticks
    /// behind one that waits for a slot, or is late for another reason, by a period or more.
    Delay,
    /// The last of the missed ticks run, at most as many as this number, one after the other without a pause; the
    /// others are skipped. With `u64::MAX` all missed ticks run; zero is like `Skip`.
    Burst(u64),
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
    /// How far the timetable was postponed by then, with [`MissedTicks::Delay`].
    put_off: Duration,
}

impl Position {
    fn next(self) -> Position {
        Position {
            number: self.number.saturating_add(1),
            ..self
        }
    }
}

impl Timetable {
    /// The first tick that has not passed by `now`.
    pub(super) fn first(&self, now: Duration) -> Position {
        Position {
            number: self.upcoming(now),
            put_off: Duration::ZERO,
        }
    }

    /// Returns the tick to run at `now`, when `due` is due. It is a later one if more ticks have been missed than
    /// are made up for, because a clock was set forward or the job waited for its slot.
    pub(super) fn begin(&self, due: Position, now: Duration) -> Position {
        match self.missed {
            MissedTicks::Burst(max @ 1..) => self.leave_out(due, now, max),
            MissedTicks::Burst(0) | MissedTicks::Skip | MissedTicks::Delay => due,
        }
    }

    /// Returns the tick that was begun at `now`, with the postponement of the later ones.
    pub(super) fn begun(&self, tick: Position, now: Duration) -> Position {
        match self.missed {
            // Only if the next tick has been missed, too: a start that is just a little late postpones nothing.
            MissedTicks::Delay if self.due(tick.next()) <= now => self.postpone(tick, now),
            _ => tick,
        }
    }

    /// Returns the tick after `last`, whose run has ended at `now`.
    pub(super) fn after(&self, last: Position, now: Duration) -> Position {
        let next = last.next();
        match self.missed {
            MissedTicks::Burst(max) => self.leave_out(next, now, max),
            MissedTicks::Skip => self.leave_out(next, now, 0),
            MissedTicks::Delay => self.postpone(next, now),
        }
    }

    /// Returns when a tick is due; far away rather than an overflow. `Duration::MAX` never comes: it is also that of
    /// the last number, which stands for all ticks that cannot be counted.
    pub(super) fn due(&self, at: Position) -> Duration {
        if at.number == u64::MAX {
            return Duration::MAX;
        }
        let nanos = self.period.as_nanos().saturating_mul(at.number.into());
        let Ok(seconds) = u64::try_from(nanos / NANOS) else {
            return Duration::MAX;
        };
        Duration::new(seconds, (nanos % NANOS) as u32).saturating_add(at.put_off)
    }

    /// Postpones this tick and all later ones by as much as it is late.
    fn postpone(&self, at: Position, now: Duration) -> Position {
        let late = now.saturating_sub(self.due(at));
        Position {
            put_off: at.put_off.saturating_add(late),
            ..at
        }
    }

    /// This tick, or the first of the last `max` that were missed by `now`.
    fn leave_out(&self, at: Position, now: Duration, max: u64) -> Position {
        let first = self.upcoming(now).saturating_sub(max);
        Position {
            number: at.number.max(first),
            ..at
        }
    }

    /// The first tick whose time is not before `now`.
    fn upcoming(&self, now: Duration) -> u64 {
        let number = now.as_nanos().div_ceil(self.period.as_nanos());
        u64::try_from(number).unwrap_or(u64::MAX)
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times at which runs of these lengths start, with a period of ten seconds.
    fn starts(missed: MissedTicks, lengths: &[u64]) -> Vec<u64> {
        let table = Timetable {
            period: Duration::from_secs(10),
            missed,
        };
        let (mut now, mut at) = (Duration::ZERO, table.first(Duration::ZERO));
        let runs = lengths.iter().map(|&length| {
            let start = now.max(table.due(at));
            at = table.begin(at, start);
            now = start + Duration::from_secs(length);
            at = table.after(at, now);
            start.as_secs()
        });
        runs.collect()
    }

    #[test]
    fn missed_ticks_are_skipped_postponed_or_made_up_for_as_the_setting_says() {
        let lengths = [3, 25, 3, 3, 3, 3];
        let rows = [
            (MissedTicks::Skip, [0, 10, 40, 50, 60, 70]),
            (MissedTicks::Delay, [0, 10, 35, 45, 55, 65]),
            (MissedTicks::Burst(u64::MAX), [0, 10, 35, 38, 41, 50]),
            (MissedTicks::Burst(2), [0, 10, 35, 38, 41, 50]),
            (MissedTicks::Burst(1), [0, 10, 35, 40, 50, 60]),
            (MissedTicks::Burst(0), [0, 10, 40, 50, 60, 70]),
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
    fn a_tick_that_is_due_makes_room_for_those_that_are_made_up_for() {
        // The tick at 10 is due, and it is 45: those at 10, 20, 30 and 40 are missed.
        let rows = [
            (MissedTicks::Skip, 1),
            (MissedTicks::Delay, 1),
            (MissedTicks::Burst(0), 1),
            (MissedTicks::Burst(1), 4),
            (MissedTicks::Burst(3), 2),
            (MissedTicks::Burst(4), 1),
            (MissedTicks::Burst(5), 1),
        ];
        for (missed, begins) in rows {
            let table = Timetable {
                period: Duration::from_secs(10),
                missed,
            };
            let due = Position {
                number: 1,
                put_off: Duration::ZERO,
            };
            let begun = table.begin(due, Duration::from_secs(45));
            assert_eq!(begun.number, begins, "{missed:?}");
        }
    }

    /// The tick at 10 starts late, since it waited for a slot, and its run is short.
    #[test]
    fn a_tick_that_starts_late_postpones_the_next_if_that_was_missed_too() {
        let table = Timetable {
            period: Duration::from_secs(10),
            missed: MissedTicks::Delay,
        };
        let at = Duration::from_secs;
        let due = table.first(at(10));
        for (start, next) in [(10, 20), (19, 20), (20, 30), (45, 55)] {
            let tick = table.begin(due, at(start));
            assert_eq!((tick.number, table.due(tick)), (1, at(10)), "{start}");
            let after = table.after(table.begun(tick, at(start)), at(start));
            assert_eq!((after.number, table.due(after)), (2, at(next)), "{start}");
        }
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

    /// A clock can show a time that lies so far behind the start that the next tick cannot be told. If it counted as due, the
    /// series would run again and again without a pause.
    #[test]
    fn a_tick_behind_the_last_time_never_comes() {
        for missed in [MissedTicks::Skip, MissedTicks::Delay, MissedTicks::Burst(2)] {
            let table = Timetable {
                period: Duration::from_secs(7),
                missed,
            };
            let first = table.first(Duration::MAX);
            assert_eq!(table.due(first), Duration::MAX, "{missed:?}");
        }
    }
}
