//! The lateness and the outcomes of jobs in this process.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use crate::store::Verdict;

/// The number of buckets per power of two. So a quantile has an error of at most an eighth.
const SPLIT: u64 = 8;
const BUCKETS: usize = 8 * 40;

/// Counts of a worker since it started. They can be read at any time, at little cost.
///
/// The workers of a process also record them through the facade of the crate `metrics`, for the recorder that the program
/// has installed:
///
/// | name | what | labels |
/// |---|---|---|
/// | `delayed_jobs_started_total` | counter of runs that started | |
/// | `delayed_jobs_ended_total` | counter of runs that ended | `kind`; `outcome`: `done`, `failed` (and retried), `dead`, `cancelled`, `snoozed`, `released` |
/// | `delayed_jobs_lateness_seconds` | histogram of the lateness of starts, without jobs that were due before their worker started | |
/// | `delayed_jobs_run_seconds` | histogram of how long runs took | `kind` |
/// | `delayed_jobs_reclaimed_total` | counter of leases of lost workers that were taken back | |
/// | `delayed_jobs_leases_lost_total` | counter of leases that were lost | |
pub struct Metrics {
    lateness: [AtomicU64; BUCKETS],
    max: AtomicU64,
    overdue: AtomicU64,
    started: AtomicU64,
    /// By [`Outcome`].
    ended: [AtomicU64; 6],
    reclaimed: AtomicU64,
    lost: AtomicU64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Dead,
    Cancelled,
    Snoozed,
    Released,
}

impl Outcome {
    pub(crate) fn of(verdict: &Verdict) -> Outcome {
        match verdict {
            Verdict::Done { .. } => Outcome::Done,
            Verdict::Retry { .. } => Outcome::Failed,
            Verdict::Dead { .. } => Outcome::Dead,
            Verdict::Cancelled => Outcome::Cancelled,
            Verdict::Snoozed { .. } => Outcome::Snoozed,
            Verdict::Released => Outcome::Released,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Dead => "dead",
            Outcome::Cancelled => "cancelled",
            Outcome::Snoozed => "snoozed",
            Outcome::Released => "released",
        }
    }
}

/// The counts of [`Metrics`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Runs that started.
    pub started: u64,
    /// Those of these runs whose job was due before the worker started. The figures of lateness leave them out.
    pub overdue: u64,
    /// Runs that succeeded.
    pub done: u64,
    /// Runs that failed, and are retried.
    pub failed: u64,
    /// Runs that failed for good.
    pub dead: u64,
    /// Runs that were cancelled.
    pub cancelled: u64,
    /// Runs that snoozed their job.
    pub snoozed: u64,
    /// Runs that were given back at the shutdown.
    pub released: u64,
    /// Leases of lost workers that were taken back.
    pub reclaimed: u64,
    /// Leases that this worker has lost.
    pub lost: u64,
    /// The median lateness of a start, in microseconds.
    pub p50: u64,
    /// The 99th percentile of the lateness, in microseconds.
    pub p99: u64,
    /// The greatest lateness, in microseconds.
    pub max: u64,
    /// Starts by lateness: the upper bound of each bucket in microseconds, and its count. Empty buckets are left out.
    pub buckets: Vec<(u64, u64)>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let zero = || AtomicU64::new(0);
        Metrics {
            lateness: std::array::from_fn(|_| zero()),
            max: zero(),
            overdue: zero(),
            started: zero(),
            ended: std::array::from_fn(|_| zero()),
            reclaimed: zero(),
            lost: zero(),
        }
    }

    /// Counts a start of a job that was due before its worker started.
    pub(crate) fn start_overdue(&self) {
        metrics::counter!("delayed_jobs_started_total").increment(1);
        self.overdue.fetch_add(1, Relaxed);
        self.started.fetch_add(1, Relaxed);
    }

    pub(crate) fn start(&self, lateness: Duration) {
        metrics::counter!("delayed_jobs_started_total").increment(1);
        metrics::histogram!("delayed_jobs_lateness_seconds").record(lateness.as_secs_f64());
        let micros = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.lateness[bucket(micros)].fetch_add(1, Relaxed);
        self.max.fetch_max(micros, Relaxed);
        self.started.fetch_add(1, Relaxed);
    }

    /// Counts the end of a run by its outcome. A run that did not end by itself has no duration.
    pub(crate) fn end(&self, kind: &str, outcome: Outcome, took: Option<Duration>) {
        let of = || kind.to_owned();
        let word = outcome.word();
        metrics::counter!("delayed_jobs_ended_total", "kind" => of(), "outcome" => word)
            .increment(1);
        if let Some(took) = took {
            metrics::histogram!("delayed_jobs_run_seconds", "kind" => of())
                .record(took.as_secs_f64());
        }
        self.ended[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn reclaim(&self) {
        metrics::counter!("delayed_jobs_reclaimed_total").increment(1);
        self.reclaimed.fetch_add(1, Relaxed);
    }

    pub(crate) fn lose_lease(&self) {
        metrics::counter!("delayed_jobs_leases_lost_total").increment(1);
        self.lost.fetch_add(1, Relaxed);
    }

    /// Returns all counts at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let counts: Vec<u64> = self
            .lateness
            .iter()
            .map(|count| count.load(Relaxed))
            .collect();
        let max = self.max.load(Relaxed);
        let ended = |outcome| self.ended[outcome as usize].load(Relaxed);
        let buckets = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Snapshot {
            started: self.started.load(Relaxed),
            overdue: self.overdue.load(Relaxed),
            done: ended(Outcome::Done),
            failed: ended(Outcome::Failed),
            dead: ended(Outcome::Dead),
            cancelled: ended(Outcome::Cancelled),
            snoozed: ended(Outcome::Snoozed),
            released: ended(Outcome::Released),
            reclaimed: self.reclaimed.load(Relaxed),
            lost: self.lost.load(Relaxed),
            p50: quantile(&counts, 0.5).min(max),
            p99: quantile(&counts, 0.99).min(max),
            max,
            buckets: buckets.map(|(at, count)| (upper(at), *count)).collect(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Returns the bucket of a value. The first buckets have one value each, later ones an eighth of a power of two.
fn bucket(micros: u64) -> usize {
    if micros < SPLIT {
        return micros as usize;
    }
    let power = u64::from(micros.ilog2());
    let eighth = (micros >> (power - 3)) - SPLIT;
    (((power - 2) * SPLIT + eighth) as usize).min(BUCKETS - 1)
}

/// Returns the greatest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SPLIT {
        return bucket;
    }
    let (power, eighth) = (bucket / SPLIT + 2, bucket % SPLIT);
    ((SPLIT + eighth + 1) << (power - 3)) - 1
}

fn quantile(counts: &[u64], part: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let wanted = ((total as f64 * part).ceil() as u64).max(1);
    let mut seen = 0;
    let found = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    found.map_or(0, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket_and_at_most_an_eighth_below_its_bound() {
        let mut last = 0;
        for micros in (0..5000).chain((0..400).map(|n| 5000 << (n / 16)).map(|n: u64| n + n / 7)) {
            let bound = upper(bucket(micros));
            assert!(
                micros <= bound && bound <= micros + micros / 8,
                "{micros} in {bound}"
            );
            assert!(bucket(micros) >= last);
            last = bucket(micros);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_starts() {
        let metrics = Metrics::new();
        assert_eq!(metrics.snapshot().p99, 0);
        for micros in 1..=1000 {
            metrics.start(Duration::from_micros(micros));
        }
        let now = metrics.snapshot();
        assert!((500..=563).contains(&now.p50), "{now:?}");
        assert!((990..=1000).contains(&now.p99), "{now:?}");
        assert_eq!((now.max, now.started), (1000, 1000));
        assert_eq!(
            now.buckets.iter().map(|(_, count)| count).sum::<u64>(),
            1000
        );
    }
}
