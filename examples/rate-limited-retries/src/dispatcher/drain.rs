//! What is left of a dispatcher.

use std::fmt;
use std::sync::Arc;

/// The report of a dispatcher that was drained; returned by [`Dispatcher::drain`](crate::Dispatcher::drain).
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{Dispatcher, Rate};
/// use schedgroup::Group;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let rate = Rate::per_second(1);
/// let dispatcher = Dispatcher::builder().per_key(rate).run(&group, |_: u32, _| async {});
/// for work in 0..10 {
///     dispatcher.try_push("key", work).expect("it is open");
/// }
/// let drained = dispatcher.drain(Duration::from_millis(4500)).await;
/// assert_eq!((drained.started, drained.left.len()), (5, 5));
/// assert_eq!(drained.left[0].work, 5);
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "the work that has not started is in it"]
pub struct Drained<K, T> {
    /// The number of starts of work since the call.
    pub started: u64,
    /// The number of pieces of work that still run. They are not interrupted; `shutdown` of the group ends them.
    pub running: usize,
    /// The work that has not started, by key and in order. Work that was delayed until a later instant comes last.
    pub left: Vec<Unstarted<K, T>>,
}

/// Work that has not started, or that would have been retried.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::Unstarted;
///
/// fn keep(left: Vec<Unstarted<String, String>>) {
///     for Unstarted { key, work, attempts, .. } in left {
///         println!("{key}: {work}, after {attempts} attempts");
///     }
/// }
/// # let _ = keep;
/// ```
#[non_exhaustive]
pub struct Unstarted<K, T> {
    /// Its key.
    pub key: Arc<K>,
    /// The work.
    pub work: T,
    /// Its cost.
    pub cost: u32,
    /// The number of attempts that were made.
    pub attempts: u32,
}

impl<K: fmt::Debug, T> fmt::Debug for Unstarted<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unstarted")
            .field("key", &self.key)
            .field("cost", &self.cost)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
