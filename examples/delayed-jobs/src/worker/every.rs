//! The times of a schedule: a period, or a cron expression in a time zone.

use std::fmt;
use std::time::Duration;

use crate::time::{Micros, micros};

/// The times of a schedule. A `Duration` converts into a schedule for each full period since 1970, UTC. With the feature
/// `cron`, a schedule can have the times of a cron expression in a time zone.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "cron")]
/// # fn main() -> Result<(), delayed_jobs::CronError> {
/// use std::time::Duration;
///
/// use delayed_jobs::Every;
///
/// let hourly = Every::from(Duration::from_secs(3600));
/// let weekdays = Every::cron("30 9 * * MON-FRI", "Europe/Berlin")?;
/// # let _ = (hourly, weekdays);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "cron"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Every(Times);

#[derive(Clone, Debug)]
enum Times {
    Period(Duration),
    #[cfg(feature = "cron")]
    Cron(Box<Cron>),
}

#[cfg(feature = "cron")]
#[derive(Clone, Debug)]
struct Cron {
    expression: String,
    zone: String,
    cron: croner::Cron,
    time_zone: jiff::tz::TimeZone,
}

/// The error of a schedule whose cron expression or time zone is not valid.
#[cfg(feature = "cron")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The expression is not valid, or has no time in the future.
    #[error("`{expression}` is no cron expression: {words}")]
    Expression {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        words: String,
    },
    /// There is no such time zone.
    #[error("there is no time zone `{0}`")]
    Zone(String),
}

impl From<Duration> for Every {
    fn from(period: Duration) -> Every {
        Every(Times::Period(period))
    }
}

impl Every {
    /// Reads a cron expression of five fields, or six with the seconds first, for the wall clock of a time zone by its
    /// IANA name.
    ///
    /// If the expression has a single time of day, like `30 2 * * *`, and clocks are turned forward, a time that does not exist
    /// is replaced by the first one after the gap; when they are turned back, a time that occurs twice counts once. With a
    /// list, a range or a step in the field of the hour, the minute or the second, like `0,30 2 * * *`, a time that does not
    /// exist is left out, and one that occurs twice counts twice.
    ///
    /// # Errors
    ///
    /// Returns a [`CronError`].
    #[cfg(feature = "cron")]
    pub fn cron(expression: &str, zone: &str) -> Result<Every, CronError> {
        let wrong = |words: String| CronError::Expression {
            expression: expression.to_owned(),
            words,
        };
        let cron: croner::Cron = expression
            .parse()
            .map_err(|error: croner::errors::CronError| wrong(error.to_string()))?;
        let time_zone =
            jiff::tz::TimeZone::get(zone).map_err(|_| CronError::Zone(zone.to_owned()))?;
        let cron = Cron {
            expression: expression.to_owned(),
            zone: zone.to_owned(),
            cron,
            time_zone,
        };
        match cron.next(crate::time::Clock::system().now()) {
            Some(_) => Ok(Every(Times::Cron(Box::new(cron)))),
            None => Err(wrong("it has no time ahead".to_owned())),
        }
    }

    /// Returns whether the schedule has any time.
    pub(super) fn is_sound(&self) -> bool {
        match &self.0 {
            Times::Period(period) => period.as_micros() > 0,
            #[cfg(feature = "cron")]
            Times::Cron(_) => true,
        }
    }

    /// Returns the first time after `now`.
    pub(super) fn next(&self, now: Micros) -> Micros {
        match &self.0 {
            Times::Period(period) => {
                let period = micros(*period);
                Micros((now.0.div_euclid(period) + 1).saturating_mul(period))
            }
            #[cfg(feature = "cron")]
            Times::Cron(cron) => cron.next(now).unwrap_or(Micros::NEVER),
        }
    }

    /// Returns the last time before `time`.
    pub(super) fn before(&self, time: Micros) -> Micros {
        match &self.0 {
            Times::Period(period) => {
                let period = micros(*period);
                Micros(
                    (time.0.saturating_sub(1))
                        .div_euclid(period)
                        .saturating_mul(period),
                )
            }
            #[cfg(feature = "cron")]
            Times::Cron(cron) => cron.before(time).unwrap_or(Micros::EARLIEST),
        }
    }

    /// Returns the first of the `most` last times that are after `last` and before `ahead`; `ahead` if there is none.
    pub(super) fn missed(&self, most: u32, last: Micros, ahead: Micros) -> Micros {
        match &self.0 {
            Times::Period(period) => {
                let period = micros(*period);
                let first = ahead
                    .0
                    .saturating_sub(period.saturating_mul(i64::from(most)));
                let next = last.0.saturating_add(period);
                Micros(next.clamp(first.min(ahead.0), ahead.0))
            }
            #[cfg(feature = "cron")]
            Times::Cron(cron) => {
                let before = |time: &Micros| cron.before(*time).filter(|before| *before > last);
                let missed = std::iter::successors(Some(ahead), before);
                missed.take(most as usize + 1).last().unwrap_or(ahead)
            }
        }
    }
}

#[cfg(feature = "cron")]
impl Cron {
    fn next(&self, now: Micros) -> Option<Micros> {
        let found = self.cron.find_next_occurrence(&self.zoned(now)?, false);
        Some(Micros(found.ok()?.timestamp().as_microsecond()))
    }

    fn before(&self, time: Micros) -> Option<Micros> {
        let found = self
            .cron
            .find_previous_occurrence(&self.zoned(time)?, false);
        Some(Micros(found.ok()?.timestamp().as_microsecond()))
    }

    fn zoned(&self, time: Micros) -> Option<jiff::Zoned> {
        let time = jiff::Timestamp::from_microsecond(time.0).ok()?;
        Some(time.to_zoned(self.time_zone.clone()))
    }
}

impl fmt::Display for Every {
    /// Writes a text that differs for schedules with different times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Times::Period(period) => write!(f, "every {} us", period.as_micros()),
            #[cfg(feature = "cron")]
            Times::Cron(cron) => write!(f, "at {} in {}", cron.expression, cron.zone),
        }
    }
}

#[cfg(all(test, feature = "cron"))]
mod tests {
    use super::*;

    fn walk(every: &Every, from: &str, steps: usize) -> Vec<String> {
        let mut at: Micros = from.parse().expect("a time");
        let mut times = Vec::new();
        for _ in 0..steps {
            at = every.next(at);
            let text = at.to_string();
            times.push(text[..16].to_owned());
        }
        times
    }

    #[test]
    fn times_are_those_of_the_wall_clock_of_the_zone() {
        let every = Every::cron("30 9 * * MON-FRI", "Europe/Berlin").expect("an expression");
        // Daylight saving time ends on Sunday the 25th.
        let times = walk(&every, "2026-10-22 12:00:00Z", 3);
        assert_eq!(
            times,
            ["2026-10-23 07:30", "2026-10-26 08:30", "2026-10-27 08:30"]
        );
    }

    #[test]
    fn a_time_in_the_gap_comes_after_it_and_one_that_comes_twice_is_met_once() {
        let every = Every::cron("30 2 * * *", "Europe/Berlin").expect("an expression");
        let times = walk(&every, "2026-03-28 12:00:00Z", 2);
        assert_eq!(times, ["2026-03-29 01:00", "2026-03-30 00:30"]);
        let times = walk(&every, "2026-10-24 12:00:00Z", 2);
        assert_eq!(times, ["2026-10-25 00:30", "2026-10-26 01:30"]);
    }

    #[test]
    fn of_several_times_a_day_those_in_the_gap_are_left_out_and_those_that_come_twice_are_met_twice()
     {
        for expression in ["0,30 2 * * *", "*/30 2 * * *", "0-30/30 2 * * *"] {
            let every = Every::cron(expression, "Europe/Berlin").expect("an expression");
            let times = walk(&every, "2026-03-28 02:00:00Z", 2);
            assert_eq!(times, ["2026-03-30 00:00", "2026-03-30 00:30"]);
            let times = walk(&every, "2026-10-24 12:00:00Z", 5);
            let twice = [
                "2026-10-25 00:00",
                "2026-10-25 00:30",
                "2026-10-25 01:00",
                "2026-10-25 01:30",
            ];
            assert_eq!(times[..4], twice);
            assert_eq!(times[4], "2026-10-26 01:00");
        }
        let every = Every::cron("15 1,2 * * *", "Europe/Berlin").expect("an expression");
        let times = walk(&every, "2026-03-28 12:00:00Z", 2);
        assert_eq!(times, ["2026-03-29 00:15", "2026-03-29 23:15"]);
    }

    #[test]
    fn going_back_meets_the_same_times() {
        for every in [
            Every::cron("*/7 * * * *", "America/New_York").expect("an expression"),
            Every::cron("15 1,2 * * *", "Europe/Berlin").expect("an expression"),
            Every::from(Duration::from_secs(420)),
        ] {
            let mut at: Micros = "2026-10-24 00:00:00Z".parse().expect("a time");
            for _ in 0..500 {
                let next = every.next(at);
                let again = every.next(every.before(next));
                assert_eq!(again, next, "{every}");
                at = next;
            }
        }
    }

    #[test]
    fn of_missed_times_the_last_ones_are_made_up_for() {
        let daily = Every::cron("0 0 * * *", "UTC").expect("an expression");
        let day = |n: u32| -> Micros {
            let text = format!("2026-03-{n:02} 00:00:00Z");
            text.parse().expect("a time")
        };
        assert_eq!(daily.missed(3, day(1), day(10)), day(7));
        assert_eq!(daily.missed(30, day(1), day(10)), day(2));
        assert_eq!(daily.missed(3, day(9), day(10)), day(10));
        assert_eq!(daily.missed(0, day(1), day(10)), day(10));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let words = |expression, zone| match Every::cron(expression, zone) {
            Ok(every) => every.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(words("a b", "UTC").starts_with("`a b` is no cron expression: "));
        assert!(words("0 0 31 2 *", "UTC").starts_with("`0 0 31 2 *` is no cron expression: "));
        assert_eq!(words("* * * * *", "Mars"), "there is no time zone `Mars`");
    }
}
