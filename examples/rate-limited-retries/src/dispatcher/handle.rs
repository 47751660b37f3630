//! Queued work that a group runs at a rate.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use schedgroup::Handle;
use tokio::sync::TryAcquireError;
use tokio::time::Instant;

use super::builder::Builder;
use super::drain::Drained;
use super::error::{Closed, TryPushError};
use super::shared::{New, Pusher, Run, Settings, Shared};
use super::stats::{KeyStats, Stats};
use crate::lanes::{Item, Key};

/// A dispatcher: one FIFO queue per key, whose work a scheduling group runs as soon as the rate limits allow.
///
/// What is queued is data: no task, no timer, and no slot of the group's `max_running`. One job of the group waits until
/// the next piece of work may start. The limits are those of its [`Builder`]: a [`Rate`](crate::Rate) per key and
/// overall, how much of a key runs at a time, how much in all, how much is queued.
///
/// - Work of one key starts in the order in which it was pushed, what comes [again](crate::Context::again) first.
/// - A rate is charged when work starts, at its exact instant; at the start itself if that is late by more than a tenth of
///   the period, which counts as 20 ms at least and 100 ms at most. So no capacity is lost to timers, and in any window of
///   one period no more than the rate's count and burst start. Work that waits for a slot of the group has not started,
///   and is charged for once.
/// - The overall rate is taken last, when the key itself may start, so no key waits for another's instant that is
///   further away. Those that wait for it start in the order of their own instants. With costs above one, the one whose
///   turn it is waits for its whole cost, and the others behind it.
/// - After [`not_before`](Dispatcher::not_before) nothing of the key starts until then.
/// - `wait` and `drain` of the group cover what is queued; a group that is cancelled, shut down or dropped starts nothing
///   more, and [`drain`](Dispatcher::drain) then gives back what is left.
/// - A key costs memory while it has work, or a past that still counts; after that it is forgotten in passing.
///
/// Clones share the queues. Dropping a dispatcher does not affect queued work: it still runs. In the counts of its group
/// all that is queued is one job, and so are short pieces of work that start one after the other: only work that has to
/// wait keeps the job, and then what is due goes on in another one. What blocks its thread keeps the others waiting for
/// one or two milliseconds; then another worker goes on.
///
/// # Panics
///
/// A panic of `Hash` or `Eq` of a key is passed on to the caller, and changes nothing.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{Dispatcher, Rate};
/// use schedgroup::Group;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = Group::new();
/// let dispatcher = Dispatcher::builder().per_key(Rate::per_second(2)).run(
///     &group,
///     |page: u32, context| async move {
///         println!("{} {page}", context.key());
///     },
/// );
/// for page in 1..=3 {
///     dispatcher.push("a.example", page).await?; // at once, after 500 ms, after a second
/// }
/// group.wait().await?;
/// # Ok(())
/// # }
/// ```
pub struct Dispatcher<K, T> {
    shared: Arc<Shared<K, T>>,
}

impl<K, T> Dispatcher<K, T> {
    /// Creates settings without any limit: [`Builder`].
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    ///
    /// let builder = Dispatcher::<String, String>::builder();
    /// # drop(builder);
    /// ```
    pub fn builder() -> Builder<K, T> {
        Builder::new()
    }

    pub(super) fn new(settings: Settings, group: Handle, run: Run<K, T>) -> Dispatcher<K, T> {
        Dispatcher {
            shared: Arc::new(Shared::new(settings, group, run)),
        }
    }

    /// Returns counts of all keys, and when something may start next.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |_: u32, _| async {});
    /// dispatcher.push("key", 1).await?;
    /// assert_eq!(dispatcher.stats().queued, 1);
    /// group.wait().await?;
    /// assert_eq!(dispatcher.stats().started, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Accepts no more work from outside, lets what is queued start at its rate until the grace is over, and gives back
    /// what is left.
    ///
    /// It takes effect at the call, and `push` calls that wait for a permit fail. The future resolves as soon as nothing is queued,
    /// delayed or running, and at the end of the grace at the latest; at once if the group has ended. Running work may push
    /// more and come again until then. Work that still runs at the end of the grace is left alone, and what it sends back
    /// is given back to it: end it with `shutdown` of the group.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the dispatcher stays closed, and goes on with what is queued. It may be drained again.
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
    /// let drained = dispatcher.drain(Duration::from_millis(4500)).await; // starts at 0, 1, 2, 3 and 4 seconds
    /// assert_eq!((drained.started, drained.left.len()), (5, 5));
    /// # }
    /// ```
    #[must_use = "what is left is given back by the future"]
    pub fn drain(&self, grace: Duration) -> impl Future<Output = Drained<K, T>> + Send + use<K, T>
    where
        K: Send + Sync + 'static,
        T: Send + 'static,
    {
        let started = self.shared.close();
        let shared = Arc::clone(&self.shared);
        async move { shared.drain(grace, started).await }
    }
}

impl<K, T> Dispatcher<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Queues work of cost one for its key. It waits for a permit if a [bound](Builder::bound) is set, else it never
    /// waits.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped while it waits, the work is dropped and no permit is lost; the caller's turn is.
    ///
    /// # Errors
    ///
    /// [`Closed`], with the work, after a `drain`, and in a group that was closed by `wait`, `drain` or `shutdown`, was
    /// cancelled or dropped, or whose runtime has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, Rate};
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let builder = Dispatcher::builder().per_key(Rate::per_second(10)).bound(5);
    /// let dispatcher = builder.run(&group, |_: u32, _| async {});
    /// for work in 0..20 {
    ///     dispatcher.push("key", work).await?;
    /// }
    /// assert_eq!(dispatcher.stats().queued, 5);
    /// group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push(&self, key: K, work: T) -> Result<(), Closed<T>> {
        self.push_cost(key, 1, work).await
    }

    /// Queues work of this cost for its key; otherwise like [`push`](Dispatcher::push).
    ///
    /// A cost of zero takes nothing of the rates and is queued all the same. A cost above the burst starts when the whole
    /// burst is there; those after it wait until it is earned.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Dispatcher::push).
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, Rate};
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let builder = Dispatcher::builder().per_key(Rate::per_second(1));
    /// let dispatcher = builder.run(&group, |_: &str, _| async {});
    /// dispatcher.push_cost("key", 10, "dear").await?; // at once
    /// dispatcher.push("key", "cheap").await?; // after ten seconds
    /// group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push_cost(&self, key: K, cost: u32, work: T) -> Result<(), Closed<T>> {
        if let Some(permits) = &self.shared.permits {
            match permits.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Err(Closed(work)),
            }
        }
        self.put(key, cost, work)
    }

    /// Queues work of cost one for its key, if the [bound](Builder::bound) allows it; it never waits.
    ///
    /// # Errors
    ///
    /// [`TryPushError`], with the work: `Full`, or `Closed` as for [`push`](Dispatcher::push).
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, TryPushError};
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// let dispatcher = Dispatcher::builder().bound(1).run(&group, |_: u32, _| async {});
    /// assert!(dispatcher.try_push("key", 1).is_ok());
    /// assert_eq!(dispatcher.try_push("key", 2), Err(TryPushError::Full(2)));
    /// # }
    /// ```
    pub fn try_push(&self, key: K, work: T) -> Result<(), TryPushError<T>> {
        self.try_push_cost(key, 1, work)
    }

    /// Queues work of this cost for its key, if the [bound](Builder::bound) allows it; otherwise like [`try_push`](Dispatcher::try_push).
    ///
    /// # Errors
    ///
    /// Those of [`try_push`](Dispatcher::try_push).
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Dispatcher;
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |_: u32, _| async {});
    /// assert!(dispatcher.try_push_cost("key", 10, 1).is_ok());
    /// # }
    /// ```
    pub fn try_push_cost(&self, key: K, cost: u32, work: T) -> Result<(), TryPushError<T>> {
        if let Some(permits) = &self.shared.permits {
            match permits.try_acquire() {
                Ok(permit) => permit.forget(),
                Err(TryAcquireError::NoPermits) => return Err(TryPushError::Full(work)),
                Err(TryAcquireError::Closed) => return Err(TryPushError::Closed(work)),
            }
        }
        Ok(self.put(key, cost, work)?)
    }

    /// A permit was taken, if there is a bound.
    fn put(&self, key: K, cost: u32, work: T) -> Result<(), Closed<T>> {
        let new = New {
            item: Item {
                work,
                cost,
                bounded: self.shared.permits.is_some(),
            },
            again: None,
        };
        // The permit goes back if the work is not accepted, also in a panic of `Eq`.
        let permit = GiveBack(&self.shared);
        let pushed = self.shared.push(&Pusher::Outside, Key::Owned(key), new);
        if pushed.is_ok() {
            std::mem::forget(permit);
        }
        pushed.map_err(|Closed(new)| Closed(new.item.work))
    }

    /// Delays the start of this key's work until `at`, as a server asks for with `Retry-After`.
    ///
    /// It holds for what is queued and for what comes; what has started continues. Of several the latest holds, until
    /// [`clear_not_before`](Dispatcher::clear_not_before). It reaches an hour ahead at most, or as far as
    /// [`max_hold`](Builder::max_hold) says.
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
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |_: u32, _| async {});
    /// dispatcher.push("key", 1).await?;
    /// dispatcher.not_before("key", Instant::now() + Duration::from_secs(60));
    /// group.wait().await?; // after a minute
    /// # Ok(())
    /// # }
    /// ```
    pub fn not_before(&self, key: K, at: Instant) {
        self.shared.not_before(Key::Owned(key), at);
    }

    /// Lifts what [`not_before`](Dispatcher::not_before) has set for this key.
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
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let dispatcher = Dispatcher::builder().run(&group, |_: u32, _| async {});
    /// dispatcher.push("key", 1).await?;
    /// dispatcher.not_before("key", Instant::now() + Duration::from_secs(60));
    /// dispatcher.clear_not_before(&"key"); // the operator says that the server is well
    /// group.wait().await?; // at once
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear_not_before(&self, key: &K) {
        self.shared.clear_not_before(key);
    }

    /// Returns counts of one key; zeros for one that it does not know.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::{Dispatcher, Rate};
    /// use schedgroup::Group;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// let builder = Dispatcher::builder().per_key(Rate::per_second(1));
    /// let dispatcher = builder.run(&group, |_: u32, _| async {});
    /// let begin = Instant::now();
    /// dispatcher.push("key", 1).await?;
    /// dispatcher.push("key", 2).await?;
    /// tokio::time::sleep(Duration::from_millis(10)).await;
    /// let stats = dispatcher.key_stats(&"key");
    /// assert_eq!((stats.started, stats.queued), (1, 1));
    /// assert_eq!(stats.next, Some(begin + Duration::from_secs(1)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_stats(&self, key: &K) -> KeyStats {
        self.shared.key_stats(key)
    }
}

/// A permit of the bound that was not used.
struct GiveBack<'a, K, T>(&'a Shared<K, T>);

impl<K, T> Drop for GiveBack<'_, K, T> {
    fn drop(&mut self) {
        self.0
            .permits
            .iter()
            .for_each(|permits| permits.add_permits(1));
    }
}

impl<K, T> Clone for Dispatcher<K, T> {
    fn clone(&self) -> Dispatcher<K, T> {
        Dispatcher {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K, T> fmt::Debug for Dispatcher<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("stats", &self.stats())
            .field("group", &self.shared.group)
            .finish_non_exhaustive()
    }
}
