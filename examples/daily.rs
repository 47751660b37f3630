//! Shows a job that runs daily at 02:30 in Berlin, over both changes of daylight saving time.
//!
//! You should see three runs in March and three in October 2027. On 28 March there is no 02:30, and the job runs at 03:30
//! summer time. On 31 October 02:30 occurs twice, and the job runs at the first one. On all other days it runs at 02:30
//! local time, before and after the change.
//!
//! The group has no calendar of its own: it calls a closure that returns the next time. Here that closure has the rule of
//! Central European Time in a few lines; a program would use `jiff` or `croner`. The clock is simulated, so the days pass
//! in seconds.
//!
//! ```sh
//! cargo run --example daily
//! ```
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use schedgroup::periodic::{self, WallClock};
use schedgroup::{Group, WaitError};
use tokio::time::Instant;

const DAY: i64 = 86_400;
const HALF_PAST_TWO: i64 = 2 * 3_600 + 30 * 60;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), WaitError> {
    for (year, month, day) in [(2027, 3, 27), (2027, 10, 30)] {
        let midnight = time(days(year, month, day) * DAY);
        let begun = Instant::now();
        let clock = WallClock::new(move || midnight + begun.elapsed());

        let group = Group::new();
        periodic::at(|now| Some(next_half_past_two(now)))
            .on_wall_clock(&clock)
            .run(&group, |tick| async move {
                if let Some(at) = tick.wall_time() {
                    print_local(seconds(at));
                }
            });
        tokio::time::sleep(Duration::from_secs(2 * 86_400 + 43_200)).await;
        group.wait().await?;
        println!();
    }
    Ok(())
}

/// Returns the next 02:30 in Berlin after `now`.
fn next_half_past_two(now: SystemTime) -> SystemTime {
    let now = seconds(now);
    let today = (now + offset(now)).div_euclid(DAY);
    let [today, tomorrow] = [today, today + 1].map(half_past_two);
    time(if today > now { today } else { tomorrow })
}

/// Returns 02:30 of a day: the first of the two in October; in March, when there is none, the instant an hour later.
fn half_past_two(day: i64) -> i64 {
    let local = day * DAY + HALF_PAST_TWO;
    let summer = local - 2 * 3_600;
    if offset(summer) == 2 * 3_600 {
        summer
    } else {
        local - 3_600
    }
}

/// Returns the seconds that Berlin is ahead of UTC: two hours between the last Sundays of March and October, 01:00 UTC,
/// and one hour otherwise.
fn offset(at: i64) -> i64 {
    let (year, ..) = date(at.div_euclid(DAY));
    let change = |month| {
        let last = days(year, month, 31);
        // 1 January 1970 was a Thursday.
        let sunday = last - (last + 4).rem_euclid(7);
        sunday * DAY + 3_600
    };
    let is_summer = (change(3)..change(10)).contains(&at);
    if is_summer { 2 * 3_600 } else { 3_600 }
}

fn print_local(at: i64) {
    let offset = offset(at);
    let local = at + offset;
    let (year, month, day) = date(local.div_euclid(DAY));
    let minutes = local.rem_euclid(DAY) / 60;
    println!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC+{}",
        minutes / 60,
        minutes % 60,
        offset / 3_600
    );
}

/// Returns the days since 1 January 1970 of a Gregorian date. Years are counted from March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let days_before = (153 * month + 2) / 5;
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + days_before
        + day
        - 719_469
}

/// Returns the year, month and day that lie `since` days after 1 January 1970.
fn date(since: i64) -> (i64, i64, i64) {
    let year = 1970 + since.div_euclid(365);
    let begun = |year| days(year, 1, 1);
    let year = (year - 2..=year).rev().find(|&year| begun(year) <= since);
    let year = year.unwrap_or(1970);
    let month = (1..=12).rev().find(|&month| days(year, month, 1) <= since);
    let month = month.unwrap_or(1);
    (year, month, since - days(year, month, 1) + 1)
}

/// Converts a time to seconds since 1 January 1970. `time` converts back.
fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64)
}
