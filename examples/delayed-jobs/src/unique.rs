//! Rules for unique jobs.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::store::{OnDuplicate, UniqueKey};
use crate::time::{Micros, micros};

/// A rule for unique jobs: what the key is, in which states a job has it, and what happens to a second job.
///
/// A text is a rule by itself: it is a key, over all kinds and queues, that the job has until it has ended, and no other job
/// may have meanwhile.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use delayed_jobs::{Enqueued, OnDuplicate, Payload, Unique, UniqueWhile, testkit};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Report { of: u32 }
/// # impl Payload for Report { const KIND: &'static str = "report"; }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let queue = testkit::queue();
/// // At most one a day of the same payload, also if it is done by then.
/// let daily = Unique::payload()
///     .per(Duration::from_secs(86_400))
///     .within(UniqueWhile::Succeeded)
///     .or(OnDuplicate::Keep);
/// let first = queue.enqueue(Report { of: 7 }).unique(daily.clone()).await?;
/// let again = queue.enqueue(Report { of: 7 }).unique(daily).await?;
/// assert_eq!(again, Enqueued::Kept(first.id()));
///
/// // Debounced: each call puts the job off, until there was none for five seconds, but for a minute at most.
/// let quiet = Duration::from_secs(5);
/// let quiet_or_late = Unique::key("reindex:42").or(OnDuplicate::Replace).max_wait(Duration::from_secs(60));
/// queue.enqueue(Report { of: 42 }).after(quiet).unique(quiet_or_late.clone()).await?;
/// queue.enqueue(Report { of: 42 }).after(quiet).unique(quiet_or_late).await?;
/// # assert_eq!(queue.counts().await?.pending, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "hand it to `Enqueue::unique`"]
pub struct Unique {
    by: By,
    per: Option<Duration>,
    within: UniqueWhile,
    on_duplicate: OnDuplicate,
    max_wait: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Key(String),
    Payload,
}

/// The states in which a job has its key.
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UniqueWhile {
    /// Until it starts, so a second job may be pending while the first one runs.
    Pending,
    /// Until it has ended.
    #[default]
    Unfinished,
    /// Also when it is done, until it is deleted. A dead or cancelled job has no key.
    Succeeded,
    /// Until it is deleted, however it ended.
    Kept,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl UniqueWhile {
    /// Returns a bit for each of [`State::ALL`](crate::State::ALL).
    pub(crate) fn bits(self) -> i64 {
        match self {
            UniqueWhile::Pending => 0b1,
            UniqueWhile::Unfinished => 0b11,
            UniqueWhile::Succeeded => 0b111,
            UniqueWhile::Kept => 0b11111,
        }
    }
}

impl Unique {
    /// Creates a rule for a key of your own, over all kinds and queues.
    pub fn key(key: impl Into<String>) -> Unique {
        Unique::by(By::Key(key.into()))
    }

    /// Creates a rule for jobs of the same kind with equal payloads, whatever the order of their fields.
    ///
    /// Integers of more than 64 bits are compared as floating-point numbers: different ones may count as equal, so store
    /// them as text.
    pub fn payload() -> Unique {
        Unique::by(By::Payload)
    }

    fn by(by: By) -> Unique {
        Unique {
            by,
            per: None,
            within: UniqueWhile::default(),
            on_duplicate: OnDuplicate::Reject,
            max_wait: None,
        }
    }

    /// Allows one job per full period since 1970, UTC, by the time when it is due. Each of them is kept until its period and
    /// its retention are over, also if it no longer has its key. Rules with different periods do not affect each other.
    ///
    /// # Panics
    ///
    /// If the period is shorter than a microsecond.
    #[track_caller]
    pub fn per(mut self, period: Duration) -> Unique {
        assert!(
            period.as_micros() > 0,
            "delayed-jobs: a period must be at least a microsecond"
        );
        self.per = Some(period);
        self
    }

    /// Sets the states in which a job has its key. By default it has the key until it has ended.
    pub fn within(mut self, within: UniqueWhile) -> Unique {
        self.within = within;
        self
    }

    /// Sets what happens if another job has the key. By default the new job is rejected.
    pub fn or(mut self, on_duplicate: OnDuplicate) -> Unique {
        self.on_duplicate = on_duplicate;
        self
    }

    /// Sets the maximum time by which replacements may postpone the job, from when the first one was enqueued. By default there
    /// is none. It makes sure that a debounced job runs, however often it is replaced.
    pub fn max_wait(mut self, max_wait: Duration) -> Unique {
        self.max_wait = Some(max_wait);
        self
    }

    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        self.max_wait
    }

    /// Returns the key of the rule, or `None` if the key is computed from the payload.
    pub(crate) fn own_key(&self) -> Option<&str> {
        match &self.by {
            By::Key(key) => Some(key),
            By::Payload => None,
        }
    }

    pub(crate) fn of(self, kind: &str, payload: &str, run_at: Micros) -> UniqueKey {
        let key = match self.by {
            By::Key(key) => key,
            By::Payload => digest(kind, payload),
        };
        let until = self.per.map(|period| {
            let period = micros(period);
            let number = run_at.0.div_euclid(period).saturating_add(1);
            Micros(number.saturating_mul(period))
        });
        UniqueKey {
            key,
            on_duplicate: self.on_duplicate,
            within: self.within,
            until,
            max_wait: self.max_wait,
        }
    }
}

/// Returns a digest of a payload. It does not depend on the order of the fields, also in a program in which a feature of
/// `serde_json` keeps that order.
fn digest(kind: &str, payload: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(payload);
    let sort = |mut value: serde_json::Value| {
        value.sort_all_objects();
        value.to_string()
    };
    let sorted = parsed.map_or_else(|_| payload.to_owned(), sort);
    let digest = Sha256::digest(sorted.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}#{hex}")
}

impl From<&str> for Unique {
    fn from(key: &str) -> Unique {
        Unique::key(key)
    }
}

impl From<String> for Unique {
    fn from(key: String) -> Unique {
        Unique::key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_payloads_have_one_key_whatever_their_order() {
        let key = digest("a", r#"{"x":1,"y":[2]}"#);
        assert_eq!(digest("a", r#"{ "y": [2], "x": 1 }"#), key);
        assert_ne!(digest("b", r#"{"x":1,"y":[2]}"#), key);
        assert_ne!(digest("a", r#"{"x":1,"y":[3]}"#), key);
    }

    #[test]
    fn a_period_is_told_by_its_end() {
        let until = |at: i64| {
            let hourly = Unique::key("k").per(Duration::from_secs(3600));
            hourly.of("a", "1", Micros(at)).until
        };
        assert_eq!(until(0), Some(Micros(3_600_000_000)));
        assert_eq!(until(3_599_999_999), Some(Micros(3_600_000_000)));
        assert_eq!(until(3_600_000_000), Some(Micros(7_200_000_000)));
        let shortest = Unique::key("k").per(Duration::from_micros(1));
        let until = shortest.of("a", "1", Micros::NEVER).until;
        assert_eq!(until, Some(Micros::NEVER), "the end of time");
        assert_eq!(Unique::key("k").of("a", "1", Micros(0)).until, None);
    }
}
