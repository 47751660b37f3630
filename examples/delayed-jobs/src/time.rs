//! Times of the wall clock in whole microseconds, and the clock of a store.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Microseconds since 1970, UTC. A time that is too far away is saturated; it is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// The earliest time.
    pub const EARLIEST: Micros = Micros(i64::MIN);

    /// The latest time.
    pub const NEVER: Micros = Micros(i64::MAX);

    /// Returns the time `delay` later.
    pub fn after(self, delay: Duration) -> Micros {
        Micros(self.0.saturating_add(micros(delay)))
    }

    /// Returns the time `delay` earlier.
    pub fn before(self, delay: Duration) -> Micros {
        Micros(self.0.saturating_sub(micros(delay)))
    }

    /// Returns the duration since `earlier`, or zero if `earlier` is later.
    pub fn since(self, earlier: Micros) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// Returns a duration in microseconds, saturated.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Micros {
    /// Rounds up, so that nothing starts early.
    fn from(time: SystemTime) -> Micros {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Micros(0).after(since + Duration::from_nanos(999)),
            Err(before) => Micros(0).before(before.duration()),
        }
    }
}

impl fmt::Display for Micros {
    /// Writes a text like `2026-11-25 03:01:12.000250Z`. A year with more or fewer than four digits has a sign.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let sign = if year > 9999 { "+" } else { "" };
        write!(
            f,
            "{sign}{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

impl FromStr for Micros {
    type Err = String;

    /// Reads what [`Display`](fmt::Display) writes: `2026-11-25 03:01:12Z`, with a `T` or a space, and
    /// with a fraction of the second or without.
    fn from_str(text: &str) -> Result<Micros, String> {
        let read = || {
            let (day, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
            let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
            let (sign, digits) = match day.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, day.strip_prefix('+').unwrap_or(day)),
            };
            let [year, month, day] = numbers(digits, '-')?;
            let year = sign * year;
            let [hour, minute, second] = numbers(time, ':')?;
            let micros = match fraction.len() {
                0..=6 => number(&format!("{fraction:0<6}"))?,
                _ => return None,
            };
            let days = days(year, month, day);
            let real = civil(days) == (year, month, day);
            let real = real && hour < 24 && minute < 60 && second < 60;
            let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
            // The first and the last second of the range are not complete.
            let micros = i128::from(seconds) * 1_000_000 + i128::from(micros);
            real.then_some(Micros(i64::try_from(micros).ok()?))
        };
        read().ok_or_else(|| format!("`{text}` is no time like 2026-11-25 03:01:12Z"))
    }
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let numbers: Vec<i64> = text.split(between).map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Reads digits, without a sign.
fn number(digits: &str) -> Option<i64> {
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits
        .parse::<u32>()
        .ok()
        .filter(|_| is_plain)
        .map(i64::from)
}

/// Returns the days since 1970 for a date; the inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Returns year, month and day of the Gregorian calendar for the days since 1970.
///
/// It counts from the first of March of year 0, so that a leap day is the last day of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// The clock of a store.
///
/// All programs that use a store have to agree on its clock. For SQLite it is the clock of the machine. For Postgres it is
/// the clock of the server: its time is requested regularly, and followed by the monotonic clock of this machine in between.
/// In memory it is tokio's clock, which tests pause.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Server(Arc<Server>),
    Tokio { start: Instant, at: Micros },
}

/// A clock far away: what it showed at one moment, and how long ago that was.
#[derive(Debug)]
struct Server {
    start: std::time::Instant,
    /// The time that it showed at `start`, in microseconds. It is corrected whenever the remote clock was read.
    at_start: AtomicI64,
}

impl Clock {
    /// Returns the clock of this machine.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// Returns a clock that starts at `now` and follows the monotonic clock of this machine.
    pub fn server(now: Micros) -> Clock {
        Clock(Source::Server(Arc::new(Server {
            start: std::time::Instant::now(),
            at_start: AtomicI64::new(now.0),
        })))
    }

    /// Tells a clock of [`Clock::server`] and all its clones that it is `now`, or later by at most `within`. A clock that
    /// shows another time is set to `now`. Returns by how many microseconds it was wrong.
    ///
    /// If the first time and all later ones were the earliest possible ones, the clock is never ahead of the server. So a
    /// worker does not ask for a job before the server considers it due.
    pub fn set(&self, now: Micros, within: Duration) -> i64 {
        let Source::Server(server) = &self.0 else {
            return 0;
        };
        let shown = self.now();
        if (now..=now.after(within)).contains(&shown) {
            return 0;
        }
        let wrong = now.0.saturating_sub(shown.0);
        server.at_start.fetch_add(wrong, Ordering::Relaxed);
        wrong
    }

    /// Returns a clock that starts at the time of day and then follows tokio's, paused or not.
    pub fn tokio() -> Clock {
        Clock(Source::Tokio {
            start: Instant::now(),
            at: Clock::system().now(),
        })
    }

    /// Returns whether it is that of a store in memory.
    pub(crate) fn is_tokios(&self) -> bool {
        matches!(self.0, Source::Tokio { .. })
    }

    /// Returns the current time, rounded down, so that no job starts early.
    pub fn now(&self) -> Micros {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                Micros(0).after(since.unwrap_or_default())
            }
            Source::Server(server) => {
                let at_start = Micros(server.at_start.load(Ordering::Relaxed));
                at_start.after(server.start.elapsed())
            }
            Source::Tokio { start, at } => at.after(start.elapsed()),
        }
    }

    /// Returns the duration from now until `at`, or zero if `at` has passed.
    pub fn until(&self, at: Micros) -> Duration {
        at.since(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar_are_right_around_leap_days() {
        let text = |seconds: i64| Micros(seconds * 1_000_000 + 250).to_string();
        assert_eq!(text(0), "1970-01-01 00:00:00.000250Z");
        assert_eq!(text(951_782_400), "2000-02-29 00:00:00.000250Z");
        assert_eq!(text(951_868_799), "2000-02-29 23:59:59.000250Z");
        assert_eq!(text(4_107_542_400), "2100-03-01 00:00:00.000250Z");
        assert_eq!(text(-1), "1969-12-31 23:59:59.000250Z");
    }

    #[test]
    fn what_is_written_can_be_read_and_nonsense_cannot() {
        for day in (-10_000..60_000).step_by(13) {
            let time = Micros(day * 86_400_000_000 + 12_345_678_901);
            assert_eq!(time.to_string().parse(), Ok(time), "{time}");
        }
        let far = [253_402_300_800_000_000, -62_167_219_200_000_001, i64::MIN];
        let far = far.map(Micros).into_iter().chain([Micros::NEVER]);
        for time in far {
            assert_eq!(time.to_string().parse(), Ok(time), "{time}");
        }
        let short = Micros(1_764_039_672_500_000);
        assert_eq!("2025-11-25T03:01:12.5Z".parse(), Ok(short));
        for wrong in [
            "",
            "Z",
            "2026-02-29 00:00:00Z",
            "2026-11-25 24:00:00Z",
            "2026-11-25",
            "2026-11-25 1:1Z",
            "2026-+1-25 00:00:00Z",
            "2026-11-25 00:00:00.+5Z",
        ] {
            assert!(wrong.parse::<Micros>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn far_times_are_the_end_of_time() {
        assert_eq!(Micros(5).after(Duration::MAX), Micros::NEVER);
        assert_eq!(Micros(5).since(Micros::NEVER), Duration::ZERO);
        assert!(Micros::NEVER.since(Micros(0)) > Duration::from_secs(1 << 40));
    }

    #[test]
    fn a_time_between_two_microseconds_is_rounded_up() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1001);
        assert_eq!(Micros::from(time), Micros(2));
        let whole = SystemTime::UNIX_EPOCH + Duration::from_nanos(2000);
        assert_eq!(Micros::from(whole), Micros(2));
    }

    #[test]
    fn a_clock_of_a_server_is_behind_it_by_the_least_time_that_an_answer_took() {
        let begun = std::time::Instant::now();
        let time = || Micros(1_764_039_672_500_000).after(begun.elapsed());
        let before = |time: Micros, micros: i64| Micros(time.0 - micros);
        let mut least = 40_000;
        let answered_at = time();
        let clock = Clock::server(before(answered_at, least));
        // This thread may have been stopped until then, and all times are rounded to microseconds.
        least += time().0 - answered_at.0 + 2;
        // How long a question and its answer were on their way.
        for (asked, answered) in [
            (0, 90_000_i64),
            (50_000, 20_000),
            (90_000, 0),
            (3_000, 60_000),
        ] {
            let answered_at = time();
            let within = Duration::from_micros(asked + answered.unsigned_abs());
            clock.set(before(answered_at, answered), within);
            least = least.min(answered + time().0 - answered_at.0 + 2);
            let (from, shown, to) = (time(), clock.now(), time());
            assert!(shown.0 <= to.0 + 2, "{shown} at {to}");
            assert!(shown.0 + least >= from.0, "{shown} at {from}, {least} us");
        }
        // A clock that was set back is followed.
        let hour = 3_600_000_000;
        let set_back = before(time(), hour);
        assert!(clock.set(set_back, Duration::ZERO) < -hour / 2);
        assert!(clock.now().0 <= before(time(), hour).0 + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn tokios_clock_stands_when_it_is_paused() {
        let clock = Clock::tokio();
        let then = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(then), Duration::from_secs(3600));
    }
}
