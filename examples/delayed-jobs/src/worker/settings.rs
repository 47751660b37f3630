//! Settings and their defaults.

use std::time::Duration;

/// The default limit on jobs of a queue that run at a time.
pub(super) const CONCURRENCY: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long a worker is believed to live without a sign of it.
    pub(crate) lease: Duration,
    /// How far the window of hints reaches.
    pub(crate) look_ahead: Duration,
    /// How long between two looks into the store, if nothing calls for one.
    pub(crate) rescan: Duration,
    /// How many hints there are at most, over all queues.
    pub(crate) window: usize,
    /// A job that has lost this many workers is dead.
    pub(crate) crashes: u32,
    /// How long a cancelled handler may go on.
    pub(crate) cancel_grace: Duration,
    /// How long running jobs may go on after the shutdown.
    pub(crate) grace: Duration,
    /// How much longer a job waits until it goes before others of the next higher priority.
    pub(crate) ageing: Option<Duration>,
    /// How long done and cancelled jobs are remembered.
    pub(crate) retention: Option<Duration>,
    /// How long dead jobs are.
    pub(crate) dead_retention: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: Duration::from_secs(30),
            look_ahead: Duration::from_secs(10),
            rescan: Duration::from_millis(2500),
            window: 10_000,
            crashes: 3,
            cancel_grace: Duration::from_secs(5),
            grace: Duration::from_secs(15),
            ageing: None,
            retention: Some(Duration::from_secs(24 * 3600)),
            dead_retention: None,
        }
    }
}
