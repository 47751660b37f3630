//! Counts and instants.

use tokio::time::Instant;

/// Counts of a dispatcher; returned by [`Dispatcher::stats`](crate::Dispatcher::stats).
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{Dispatcher, Rate};
/// use schedgroup::Group;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let rate = Rate::per_second(1);
/// let dispatcher = Dispatcher::builder().per_key(rate).run(&group, |_: u32, _| async {});
/// for work in 0..3 {
///     dispatcher.try_push("key", work).expect("it is open");
/// }
/// tokio::time::sleep(std::time::Duration::from_millis(500)).await;
/// let stats = dispatcher.stats();
/// assert_eq!((stats.started, stats.queued, stats.keys), (1, 2, 1));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Work that is queued.
    pub queued: usize,
    /// Work that is delayed until an instant, as for a retry. Work whose whole key is held is queued.
    pub delayed: usize,
    /// Work that runs.
    pub running: usize,
    /// Keys that have work, or past starts that still count, and others that are not removed yet.
    pub keys: usize,
    /// The number of starts of work.
    pub started: u64,
    /// The number of times that work was put back into its queue.
    pub returned: u64,
    /// The next instant at which queued work may start, or delayed work is due and may have to wait for a slot. `None` if
    /// there is none before work is pushed or ends.
    pub next: Option<Instant>,
}

/// Counts of one key; returned by [`Dispatcher::key_stats`](crate::Dispatcher::key_stats).
///
/// # Examples
///
/// ```
/// use rate_limited_retries::Dispatcher;
/// use schedgroup::Group;
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let dispatcher = Dispatcher::builder().run(&group, |_: u32, _| async {});
/// let later = Instant::now() + Duration::from_secs(60);
/// dispatcher.not_before("key", later);
/// dispatcher.try_push("key", 1).expect("it is open");
/// let stats = dispatcher.key_stats(&"key");
/// assert_eq!((stats.queued, stats.not_before, stats.next), (1, Some(later), Some(later)));
/// assert_eq!(dispatcher.key_stats(&"other"), Default::default());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStats {
    /// Work that is queued.
    pub queued: usize,
    /// Work that is delayed until an instant, as for a retry. Work whose whole key is held is queued.
    pub delayed: usize,
    /// Work that runs.
    pub running: usize,
    /// The number of starts since the key was last removed. A key without work is removed when its rate allows a whole
    /// burst again.
    pub started: u64,
    /// The instant before which no work of the key starts, if it is in the future.
    pub not_before: Option<Instant>,
    /// The instant at which the limits of the key allow the next start of queued work. The overall limits may delay it
    /// further. `None` if no work is queued or no slot is free, and if no work will start any more.
    pub next: Option<Instant>,
}
