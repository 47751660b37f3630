//! When a server says to come again.

use std::time::{Duration, SystemTime};

/// Returns how long to wait by the value of an HTTP `Retry-After` header, which is in seconds or a date.
///
/// It reads the three date formats that HTTP has had. It returns `None` for a date that has passed and for
/// anything else: use a delay of your own then. A very long delay is returned as it is, up to
/// [`Duration::MAX`]; [`Retry::max_delay`](super::Retry::max_delay) decides whether to wait for it. It
/// never panics.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use rate_limited_retries::retry::retry_after;
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
/// assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
/// assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
/// assert_eq!(retry_after("soon", now), None);
/// ```
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that are no number are too many.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let at = SystemTime::UNIX_EPOCH.checked_add(since_epoch(value)?)?;
    at.duration_since(now).ok()
}

/// A date of HTTP, from 1970 on.
fn since_epoch(date: &str) -> Option<Duration> {
    let mut words = date.split([' ', ',', '-']).filter(|word| !word.is_empty());
    let words = [(); 7].map(|()| words.next());
    let (day, month, year, time) = match words {
        // Sun, 06 Nov 1994 08:49:37 GMT, and Sunday, 06-Nov-94 08:49:37 GMT
        [
            Some(_),
            Some(day),
            Some(month),
            Some(year),
            Some(time),
            Some("GMT"),
            None,
        ] => (day, month, year, time),
        // Sun Nov  6 08:49:37 1994
        [
            Some(_),
            Some(month),
            Some(day),
            Some(time),
            Some(year),
            None,
            None,
        ] => (day, month, year, time),
        _ => return None,
    };
    let year = match (number(year)?, year.len()) {
        (year, 4) => year,
        (year, 2) if year < 70 => 2000 + year,
        (year, 2) => 1900 + year,
        _ => return None,
    };
    let month = MONTHS.iter().position(|&(name, _)| name == month)?;
    let day = number(day).filter(|day| (1..=days_in(month, year)).contains(day))?;
    let days = (1970..year)
        .map(|year| 365 + u64::from(is_leap(year)))
        .sum::<u64>()
        + (0..month).map(|month| days_in(month, year)).sum::<u64>()
        + (day - 1);
    (year >= 1970).then(|| Some(Duration::from_secs(86_400 * days + seconds(time)?)))?
}

/// Of a time of the day, which may be a leap second.
fn seconds(time: &str) -> Option<u64> {
    let mut parts = time.split(':').map(number);
    match [(); 4].map(|()| parts.next()) {
        [
            Some(Some(hour @ ..24)),
            Some(Some(minute @ ..60)),
            Some(Some(second @ ..=60)),
            None,
        ] => Some(3600 * hour + 60 * minute + second),
        _ => None,
    }
}

/// A number of at most four digits.
fn number(digits: &str) -> Option<u64> {
    let sound = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| digits.parse().ok())?
}

const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

fn days_in(month: usize, year: u64) -> u64 {
    MONTHS[month].1 + u64::from(month == 1 && is_leap(year))
}

fn is_leap(year: u64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}
