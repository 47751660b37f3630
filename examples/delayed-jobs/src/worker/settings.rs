//! Settings and their defaults.

use std::time::Duration;

/// The default limit on jobs of a queue that run at a time.
pub(super) const CONCURRENCY: usize = 16;

/// The longest time between two looks at the store, except in tests that skip over long times.
pub(super) const RESCAN: Duration = Duration::from_millis(2500);

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long a worker keeps its jobs without a heartbeat.
    pub(crate) lease: Duration,
    /// Hints are kept for jobs that are due within this time.
    pub(crate) look_ahead: Duration,
    /// The longest time between two looks at the store.
    pub(crate) rescan: Duration,
    /// The maximum number of jobs that a look finds, over all queues. There are at most twice as many hints.
    pub(crate) window: usize,
    /// A job is dead when this many workers that ran it were lost, two at least.
    pub(crate) crashes: u32,
    /// How long a cancelled handler may continue.
    pub(crate) cancel_grace: Duration,
    /// How long running jobs may continue after the shutdown.
    pub(crate) grace: Duration,
    /// How long a job waits until it goes before new jobs of the next higher priority.
    pub(crate) ageing: Option<Duration>,
    /// The longest time between two deletions of old jobs.
    pub(crate) prune: Duration,
    /// How long done and cancelled jobs are kept.
    pub(crate) retention: Duration,
    /// How long dead jobs are kept; without it they are never deleted.
    pub(crate) dead_retention: Option<Duration>,
}

impl Settings {
    /// Returns the shortest time after which jobs of a state are deleted.
    pub(super) fn shortest_retention(&self) -> Duration {
        let dead = self.dead_retention.unwrap_or(Duration::MAX);
        self.retention.min(dead)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: Duration::from_secs(30),
            look_ahead: Duration::from_secs(10),
            rescan: RESCAN,
            window: 10_000,
            crashes: 3,
            cancel_grace: Duration::from_secs(5),
            grace: Duration::from_secs(15),
            ageing: None,
            prune: Duration::from_secs(60),
            retention: Duration::from_secs(24 * 3600),
            dead_retention: None,
        }
    }
}
