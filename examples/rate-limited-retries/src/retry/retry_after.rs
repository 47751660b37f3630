//! When a server says to come again.

use std::time::{Duration, SystemTime};

/// Returns the time to wait by the value of an HTTP `Retry-After` header, which has seconds or a date.
///
/// Seconds may have a fraction. For a date that has passed it returns zero. For a number that is too large for a duration
/// it returns [`Duration::MAX`]: [`Policy::max_retry_after`](super::Policy::max_retry_after) and the
/// [maximum](crate::Builder::max_hold) of a dispatcher decide whether to wait for it. For anything else it returns `None`:
/// then use a delay of your own.
///
/// A date counts from `now`. If the clock of the server may be wrong, pass the `Date` of its response.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::retry_after;
/// use std::time::{Duration, SystemTime};
///
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
/// assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
/// assert_eq!(retry_after("1.5", now), Some(Duration::from_millis(1500)));
/// assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
/// assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
/// assert_eq!(retry_after("soon", now), None);
/// ```
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.starts_with(|first: char| first.is_ascii_digit()) {
        return seconds(value);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Parses a number of seconds: digits, which a point and more digits may follow.
fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    // Only digits are left here, so the parse fails only if the number is too large.
    let whole = whole.parse().map_or(Duration::MAX, Duration::from_secs);
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| 10 * nanos + u64::from(digit - b'0'));
    Some(whole.saturating_add(Duration::from_nanos(nanos)))
}
