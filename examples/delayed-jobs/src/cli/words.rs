//! Reads and writes times and durations.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use delayed_jobs::{Micros, Snapshot};

const UNITS: [(&str, f64); 6] = [
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// Prints a line like `println!`, but returns an error if the standard output is closed (a broken pipe) instead of panicking.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($text)*)
    }};
}
pub(super) use say;

/// Prints an error. Unlike `eprintln!`, it does not panic if standard error is closed.
pub(crate) fn print_error(error: &dyn Error) {
    let _ = writeln!(io::stderr(), "error: {error}");
}

/// Reads `500ms`, `1.5s`, `10m`, `2h`, `3d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let seconds = unit.and_then(|(_, size)| Some(number.parse::<f64>().ok()? * size));
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 3s, 10m, 2h or 3d"))
}

/// Reads a period, which is a microsecond or longer.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    match period.as_micros() {
        0 => Err("a period must be at least a microsecond".to_owned()),
        _ => Ok(period),
    }
}

/// Reads `100/1m`.
pub(super) fn rate(text: &str) -> Result<(u32, Duration), String> {
    let read = || {
        let (starts, time) = text.split_once('/')?;
        let starts = starts.parse().ok().filter(|starts| *starts > 0)?;
        Some((starts, period(time).ok()?))
    };
    read().ok_or_else(|| format!("`{text}` is not a rate such as 100/1m or 5/1s"))
}

/// Reads a lease, and rejects one that is shorter than a worker allows.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    match lease >= Duration::from_millis(100) {
        true => Ok(lease),
        false => Err("a lease must be at least 100ms".to_owned()),
    }
}

/// Reads the name of a schema, and rejects one that is not as plain as [`PostgresOptions`](delayed_jobs::store::PostgresOptions)
/// wants it.
pub(super) fn schema(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_first = |c: char| is_plain(c) && !c.is_ascii_digit();
    match text.len() <= 40 && text.starts_with(is_first) && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("at most 40 of a-z, 0-9 and _, and no digit first".to_owned()),
    }
}

/// Returns a text without characters that control a terminal. Line breaks become spaces.
pub(super) fn printable(text: &str) -> String {
    // Characters that change the direction of writing can hide what a text says.
    let is_format = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = text.chars().map(|c| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() || is_format(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    });
    shown.collect()
}

/// Formats a duration, like `3.2 s`.
pub(super) fn short(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        120_000_000..7_200_000_000 => format!("{:.1} min", micros as f64 / 60e6),
        7_200_000_000..172_800_000_000 => format!("{:.1} h", micros as f64 / 3.6e9),
        _ => format!("{:.1} d", micros as f64 / 86.4e9),
    }
}

/// Formats a time relative to now, like `in 3.2 s` or `2.0 h ago`.
pub(super) fn relative(time: Micros, now: Micros) -> String {
    match time > now {
        true => format!("in {}", short(time.since(now))),
        false => format!("{} ago", short(now.since(time))),
    }
}

/// Returns a histogram of the lateness of starts, with a line for each power of two.
pub(super) fn histogram(metrics: &Snapshot) -> String {
    let mut powers: Vec<(u64, u64)> = Vec::new();
    for (upper, count) in &metrics.buckets {
        let bound = (upper + 1).next_power_of_two().max(128);
        match powers.last_mut() {
            Some((last, sum)) if *last == bound => *sum += count,
            _ => powers.push((bound, *count)),
        }
    }
    let most = powers.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut lines = String::new();
    for (bound, count) in powers {
        let bar = "#".repeat((count * 50).div_ceil(most) as usize);
        let bound = short(Duration::from_micros(bound));
        // A write to a `String` never fails.
        let _ = writeln!(lines, "  < {bound:>9} {count:>7} {bar}");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_all_units() {
        let read = |text: &str| duration(text).map(|time| time.as_micros());
        assert_eq!(read("250us"), Ok(250));
        assert_eq!(read("500ms"), Ok(500_000));
        assert_eq!(read("1.5s"), Ok(1_500_000));
        assert_eq!(read("2h"), Ok(7_200_000_000));
        assert_eq!(read("3d"), Ok(259_200_000_000));
        for wrong in [
            "",
            "3",
            "s",
            "3 s",
            "-3s",
            "1..2s",
            "3w",
            "99999999999999999999d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_text_of_somebody_elses_does_nothing_to_the_terminal() {
        assert_eq!(
            printable("a\x1b[2J\r\nb\u{202e}"),
            "a\u{fffd}[2J\u{fffd} b\u{fffd}"
        );
    }

    #[test]
    fn times_are_told_as_one_would() {
        let at = |seconds: i64| Micros(seconds * 1_000_000);
        assert_eq!(relative(at(103), at(100)), "in 3.0 s");
        assert_eq!(relative(at(100), at(400)), "5.0 min ago");
        assert_eq!(relative(at(100), at(100)), "0 us ago");
    }
}
