//! Limits of a queue over all workers.

use std::fmt;
use std::time::Duration;

/// Limits of a queue over all workers, and limits per key in it.
///
/// They are stored, and apply as soon as they are set, also to workers that run already. The
/// [`concurrency`](crate::Worker::concurrency) of each worker applies in addition, unless
/// [`worker_at_once`](Limit::worker_at_once) replaces it.
///
/// A rate spreads its starts evenly: with `n` per minute one job starts every `60 / n` seconds. With more than ten per
/// second, all jobs of a tenth of a second start together. The interval is rounded up to a whole microsecond: a rate
/// of 600,000 per second starts 500,000. Jobs with an
/// [`Enqueue::limit_key`](crate::Enqueue::limit_key) have the limits of their key in addition to those of the queue. A
/// slot that becomes free on another machine is noticed within a tenth of a second.
///
/// Starts under an earlier rate of the queue delay the next one by at most the interval of the new rate.
///
/// A claim reads the due jobs of a key that is at its limit one by one, so it is slower the more of them there are.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use delayed_jobs::{Limit, testkit};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let queue = testkit::queue();
/// let minute = Duration::from_secs(60);
/// let limit = Limit::default()
///     .at_once(20)
///     .rate(600, minute)
///     .key_at_once(1); // one at a time for each customer
/// queue.limit("emails", limit).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "hand it to `Queue::limit`"]
pub struct Limit {
    /// The limits of the queue.
    pub(crate) all: Part,
    /// The limits of each key.
    pub(crate) key: Part,
    /// The limit of each worker.
    pub(crate) worker: Option<u32>,
}

/// The limits of a queue or of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) at_once: Option<u32>,
    pub(crate) pace: Option<Pace>,
}

/// A rate as a virtual schedule (the generic cell rate algorithm): the time when the next start is due by the rate alone
/// goes on by `every` with each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// The interval between two starts, in microseconds.
    pub(crate) every: i64,
    /// The number of jobs that may start together.
    pub(crate) burst: i64,
}

impl Pace {
    /// If the interval is shorter than this, several jobs start together.
    const TOGETHER: i64 = 100_000;

    /// The longest interval, which is more than a century. So no sum of times overflows.
    const LONGEST: i64 = 1 << 52;

    /// Rounds the interval up, so that no more jobs start than the rate allows.
    fn new(starts: u32, period: Duration) -> Pace {
        let every = period.as_nanos().div_ceil(1000 * u128::from(starts));
        let every =
            i64::try_from(every).map_or(Pace::LONGEST, |every| every.clamp(1, Pace::LONGEST));
        Pace {
            every,
            burst: (Pace::TOGETHER / every).max(1),
        }
    }
}

impl Limit {
    /// Returns whether it limits several workers together.
    pub(crate) fn is_shared(&self) -> bool {
        (self.all, self.key) != Default::default()
    }

    /// Sets how many jobs of the queue each worker runs at a time, instead of its
    /// [`concurrency`](crate::Worker::concurrency). Workers that run already follow soon, and do not stop running jobs.
    ///
    /// # Panics
    ///
    /// If it is zero: pause the queue instead.
    #[track_caller]
    pub fn worker_at_once(mut self, limit: u32) -> Limit {
        self.worker = Some(some(limit));
        self
    }

    /// Sets how many jobs of the queue run at a time, over all workers.
    ///
    /// # Panics
    ///
    /// If it is zero: pause the queue instead.
    #[track_caller]
    pub fn at_once(mut self, limit: u32) -> Limit {
        self.all.at_once = Some(some(limit));
        self
    }

    /// Sets how many jobs of the queue start per period, over all workers.
    ///
    /// # Panics
    ///
    /// If it is zero: pause the queue instead.
    #[track_caller]
    pub fn rate(mut self, starts: u32, period: Duration) -> Limit {
        self.all.pace = Some(Pace::new(some(starts), period));
        self
    }

    /// Sets how many jobs of each key run at a time.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn key_at_once(mut self, limit: u32) -> Limit {
        self.key.at_once = Some(some(limit));
        self
    }

    /// Sets how many jobs of each key start per period.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn key_rate(mut self, starts: u32, period: Duration) -> Limit {
        self.key.pace = Some(Pace::new(some(starts), period));
        self
    }
}

impl fmt::Display for Limit {
    /// Writes a text like `20 at once, one each 100ms; of a key 1 at once; on each worker 4 at once`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |part: Part| {
            let at_once = part.at_once.map(|limit| format!("{limit} at once"));
            let pace = part.pace.map(|pace| {
                let every = Duration::from_micros(pace.every.unsigned_abs());
                format!("one each {every:?}")
            });
            let words: Vec<_> = at_once.into_iter().chain(pace).collect();
            (!words.is_empty()).then(|| words.join(", "))
        };
        let key = words(self.key).map(|key| format!("of a key {key}"));
        let worker = self
            .worker
            .map(|limit| format!("on each worker {limit} at once"));
        let parts: Vec<_> = [words(self.all), key, worker]
            .into_iter()
            .flatten()
            .collect();
        match parts.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}

#[track_caller]
fn some(limit: u32) -> u32 {
    assert!(limit > 0, "delayed-jobs: a limit must be at least 1");
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interval_is_shorter_than_that_of_the_rate() {
        for (starts, period, every) in [
            (600_000, Duration::from_secs(1), 2),
            (3, Duration::from_secs(1), 333_334),
            (2, Duration::from_secs(1), 500_000),
            (1, Duration::from_nanos(1001), 2),
            (u32::MAX, Duration::from_secs(1), 1),
            (1, Duration::ZERO, 1),
            (1, Duration::MAX, Pace::LONGEST),
        ] {
            let pace = Pace::new(starts, period);
            assert_eq!(pace.every, every, "{starts} per {period:?}");
        }
    }

    #[test]
    fn limits_are_told_in_words() {
        let minute = Duration::from_secs(60);
        let limit = Limit::default().at_once(20).rate(600, minute);
        assert_eq!(limit.to_string(), "20 at once, one each 100ms");
        let limit = limit.key_at_once(1);
        assert_eq!(
            limit.to_string(),
            "20 at once, one each 100ms; of a key 1 at once"
        );
        let limit = Limit::default().worker_at_once(4);
        assert_eq!(limit.to_string(), "on each worker 4 at once");
        assert!(!limit.is_shared() && limit.key_at_once(1).is_shared());
        assert_eq!(Limit::default().to_string(), "none");
    }
}
