//! Queued work that a group runs at a rate.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use schedgroup::Handle;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::Instant;

use super::builder::Builder;
use super::drain::Drained;
use super::error::{Closed, TryPushError};
use super::shared::{New, Pusher, Run, Settings, Shared};
use super::stats::{KeyStats, Stats};
use crate::lanes::{Item, Key};
use crate::time::later;

/// A dispatcher of work: it has one FIFO queue per key, and a scheduling group runs the work as soon as the limits allow.
///
/// Queued work is data: it has no task and no timer, and holds no slot of the group's `max_running`. One job of the group
/// waits until the next piece of work may start. The [`Builder`] sets the limits: a [`Rate`](crate::Rate) per key and
/// overall, the number of pieces of work that run at a time, per key and overall, and the number that may be queued.
///
/// - Work of one key starts in the order in which it was pushed. Work that comes [again](crate::Context::again) goes first.
/// - A rate is charged when work starts, at its exact instant. If the start is late by more than a tenth of the period (at
///   least 20 ms, at most 100 ms), the rate is charged at the start itself. So late timers cost no capacity, and no window
///   of one period has more starts than the [`Rate`](crate::Rate) says. Work that waits for a slot of the group has not
///   started, and is charged once.
/// - The overall rate is charged last, when the key itself may start, so no key waits because of a later instant of
///   another key. Keys that wait for the overall rate start in the order of their own instants. If a piece of work costs
///   more than one, the keys behind it wait until its whole cost is available.
/// - Keys that wait for a slot, of the dispatcher or of its group, take turns: a key with a long queue does not keep
///   others from their starts. With an overall rate the turns for a slot of the group go by the instants that are charged,
///   so a key may start several times before another one that has waited for less than 100 ms.
/// - After [`not_before`](Dispatcher::not_before), no work of the key starts until the given instant.
/// - `wait` and `drain` of the group cover queued work. A group that is cancelled, shut down or dropped starts no more work,
///   and [`drain`](Dispatcher::drain) then gives back the work that is left.
/// - A key uses memory while it has work, or past starts that still count. After that it is removed at some later call.
///
/// Clones share the queues. Dropping a dispatcher does not affect queued work: it still runs.
///
/// In the counts of the group, all queued work is one job, and so are short pieces of work that start one after the other.
/// Work that has to await keeps the job, and the next due work starts in another job. Work that blocks its thread delays
/// other work by one or two milliseconds; then another worker continues.
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
    pub(super) shared: Arc<Shared<K, T>>,
}

impl<K, T> Dispatcher<K, T> {
    /// Creates a [`Builder`] without any limit.
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

    /// Returns the counts of all keys, and the instant of the next start.
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

    /// Accepts no more work from outside, lets queued work start at its rate until the grace is over, and gives back the
    /// work that is left.
    ///
    /// It takes effect at the call, where the grace begins, and `push` calls that wait for a permit fail. The future resolves as
    /// soon as no work is queued, delayed or running, at the end of the grace at the latest, and at once if the group was
    /// cancelled or has ended. Until then,
    /// running work may push more work and be retried. Work that still runs at the end of the grace is not interrupted, and
    /// gets back what it pushes or retries; `shutdown` of the group ends it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the dispatcher stays closed and goes on with queued work. It may be drained again.
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
        let (started, end) = (self.shared.close(), later(Instant::now(), grace));
        let shared = Arc::clone(&self.shared);
        async move { shared.drain(end, started).await }
    }
}

impl<K, T> Dispatcher<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Queues work of cost one for its key. If a [bound](Builder::bound) is set, the call waits for a permit; otherwise it
    /// never waits. Running work uses [`Context::push`](crate::Context::push), which never waits: with this method it could
    /// wait for itself.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it waits, the work is dropped. No permit is lost, but the caller loses its place in the
    /// order of calls.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`], with the work, after a `drain`, if the group was closed by `wait`, `drain` or `shutdown`, if it was
    /// cancelled or dropped, and if its runtime has ended. A call that waits for a permit while the group is closed by its
    /// `wait` or `drain` returns it as soon as there is a permit, or the group has ended.
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
    /// Work with a cost of zero is queued, but not charged to the rates. Work that costs more than the burst starts when the
    /// whole burst is available, and later work waits until the rest of its cost is paid.
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
    /// dispatcher.push_cost("key", 10, "expensive").await?; // at once
    /// dispatcher.push("key", "cheap").await?; // after ten seconds
    /// group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push_cost(&self, key: K, cost: u32, work: T) -> Result<(), Closed<T>> {
        match self.take_permit() {
            Ok(()) => {}
            Err(None) => return Err(Closed(work)),
            Err(Some(permits)) => {
                let cancelled = self.shared.group.token();
                match cancelled.run_until_cancelled(permits.acquire()).await {
                    Some(Ok(permit)) => permit.forget(),
                    Some(Err(_)) | None => return Err(Closed(work)),
                }
            }
        }
        self.put(key, cost, work)
    }

    /// Queues work of cost one for its key if the [bound](Builder::bound) allows it. It never waits.
    ///
    /// # Errors
    ///
    /// Returns [`TryPushError`], with the work: `Full`, or `Closed` as for [`push`](Dispatcher::push).
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
        match self.take_permit() {
            Ok(()) => Ok(self.put(key, cost, work)?),
            Err(None) => Err(TryPushError::Closed(work)),
            Err(Some(_)) => Err(TryPushError::Full(work)),
        }
    }

    /// Takes a permit, if there is a bound and a permit is free. Returns the semaphore if the dispatcher is full, and `None`
    /// if it is closed.
    fn take_permit(&self) -> Result<(), Option<&Semaphore>> {
        let Some(permits) = &self.shared.permits else {
            return Ok(());
        };
        match permits.try_acquire() {
            Ok(permit) => permit.forget(),
            // In a closed group a permit would be of no use, and there may never be one.
            Err(TryAcquireError::NoPermits) if !self.shared.group.is_closed() => {
                return Err(Some(permits));
            }
            Err(_) => return Err(None),
        }
        Ok(())
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
        // Releases the permit if the work is not accepted, also if `Eq` of a key panics.
        let permit = PermitGuard(&self.shared);
        let pushed = self.shared.push(&Pusher::Outside, Key::Owned(key), new);
        if pushed.is_ok() {
            std::mem::forget(permit);
        }
        pushed.map_err(|Closed(new)| Closed(new.item.work))
    }

    /// Delays the start of this key's work until `at`, as a server asks for with `Retry-After`.
    ///
    /// It applies to queued work and to work that is pushed later. Work that has started continues. Of several instants the
    /// latest one holds, until [`clear_not_before`](Dispatcher::clear_not_before). A key is held for at most an hour, or for
    /// [`max_hold`](Builder::max_hold).
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

    /// Lifts the hold that [`not_before`](Dispatcher::not_before), a [`RetryAfter`](schedgroup::flow::Verdict::RetryAfter) or a
    /// policy [in order](crate::Policy::in_order) has set for this key.
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

    /// Returns the counts of one key. They are zero for an unknown key.
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
struct PermitGuard<'a, K, T>(&'a Shared<K, T>);

impl<K, T> Drop for PermitGuard<'_, K, T> {
    fn drop(&mut self) {
        self.0.release_permit();
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
