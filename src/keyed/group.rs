//! A keyed group and its owner's methods.

use std::fmt;
use std::hash::{Hash, RandomState};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::end::End;
use super::handle::{KeyedContext, KeyedHandle};
use super::job::BoxedJob;
use super::methods::{keyed_deadline, keyed_methods};
use super::rule::{Inserted, OnDuplicate};
use super::shared::Entries;
use crate::common::panic::drop_quietly;
use crate::sched::Rejected;
use crate::{Group, Handle, Job, Stats, Wait};

/// A group with at most one pending entry per key. When an entry expires, the handler runs with its key and value.
///
/// In a `KeyedGroup<K>` the values are jobs: the job itself runs, and no handler is needed.
///
/// Each pending entry is one job of a scheduling group: it never expires early, is counted in the group's stats, and is
/// waited for, cancelled and shut down with it. An entry is pending until its handler starts. Then its key is free for
/// a new entry, and a look-up finds nothing until there is one. Memory is used only for keys that have an entry. The
/// [module](super) says what an entry costs.
///
/// Dropping it ends the group, like dropping a [`Group`], and drops the entries. To use it from several tasks, put it
/// in an `Arc` or hand out [`handle`](KeyedGroup::handle)s. A handler uses its [`KeyedContext`]: one that holds an
/// `Arc` of the group would keep the group alive for ever.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let idle = Duration::from_secs(600);
/// let sessions = KeyedGroup::with_handler(|_, user: String, cart: Vec<u64>| async move {
///     println!("{user} left {} things behind", cart.len());
/// });
/// sessions.insert_after("ada".to_owned(), vec![7], idle, OnDuplicate::Replace);
/// sessions.with("ada", |cart| cart.push(8));
/// assert!(sessions.reset_after("ada", idle));
/// sessions.wait().await // ada left 2 things behind
/// # }
/// ```
#[doc(alias = "ttl")]
#[doc(alias = "watchdog")]
#[must_use = "a keyed group that is dropped drops its pending entries"]
pub struct KeyedGroup<K, V = BoxedJob, S = RandomState> {
    inner: KeyedHandle<K, V, S>,
    group: Group,
}

impl<K, V> KeyedGroup<K, V>
where
    K: Eq + Hash + Send + 'static,
    V: Send + 'static,
{
    /// Creates a keyed group whose entries are handled by `handler` when they expire, and that is not tied to a parent
    /// cancellation token.
    ///
    /// One handler serves all entries; it may run for several entries in parallel.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedContext, KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// async fn expired(context: KeyedContext<u64, String>, id: u64, name: String) {
    ///     println!("{name} ({id}) is {:?} late", context.lateness());
    /// }
    /// let leases = KeyedGroup::with_handler(expired);
    /// leases.insert_after(7, "printer".to_owned(), Duration::from_secs(60), OnDuplicate::Replace);
    /// leases.wait().await
    /// # }
    /// ```
    #[doc(alias = "poll_expired")]
    #[track_caller]
    pub fn with_handler<J: Job>(
        handler: impl Fn(KeyedContext<K, V>, K, V) -> J + Send + Sync + 'static,
    ) -> KeyedGroup<K, V> {
        KeyedGroup::builder().build_with(handler)
    }
}

impl<K: Eq + Hash + Send + 'static> KeyedGroup<K> {
    /// Creates a keyed group of jobs that is not tied to a parent cancellation token.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let reports = KeyedGroup::new();
    /// reports.delay("sales", Duration::from_secs(60), async { println!("sold: 7") }, OnDuplicate::Keep);
    /// reports.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn new() -> KeyedGroup<K> {
        KeyedGroup::builder().build()
    }
}

impl<K, V, S> KeyedGroup<K, V, S> {
    pub(super) fn own(inner: KeyedHandle<K, V, S>, group: Group) -> KeyedGroup<K, V, S> {
        KeyedGroup { inner, group }
    }

    fn entries(&self) -> Entries<'_, K, V, S> {
        self.inner.entries()
    }

    /// Returns a cheap, cloneable handle to the entries for other tasks and threads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sessions = KeyedGroup::with_handler(|_, _: &str, _: u64| async {});
    /// let handle = sessions.handle();
    /// tokio::spawn(async move {
    ///     handle.insert_after("ada", 7, Duration::from_secs(60), OnDuplicate::Replace);
    /// })
    /// .await?;
    /// assert!(sessions.contains_key("ada"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle(&self) -> KeyedHandle<K, V, S> {
        self.inner.clone()
    }

    /// Closes the group and waits until every entry has been handled, like [`Group::wait`].
    ///
    /// Pending entries keep their deadlines, and can still be moved and removed. After a cancel the entries are left
    /// for [`drain_values`](KeyedGroup::drain_values).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again.
    ///
    /// # Panics
    ///
    /// In the cases in which [`Group::wait`] panics.
    ///
    /// # Errors
    ///
    /// Those of [`Group::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let sessions = KeyedGroup::with_handler(|_, _: &str, _: u64| async {});
    /// sessions.insert_after("ada", 7, Duration::from_secs(60), OnDuplicate::Replace);
    /// sessions.wait().await // after a minute
    /// # }
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Wait<'_> {
        self.group.wait()
    }

    /// Closes the group and waits until every entry has been handled or `grace` is over, like [`Group::drain`].
    ///
    /// The future resolves to a report and the entries that are left: those that did not expire within the grace, and
    /// those that expired and found no slot. Running handlers may still insert entries. An entry whose handler is
    /// aborted at the end of the grace is not among those that are left: its value is dropped with the handler. Nor is
    /// one that is removed or replaced meanwhile; the report counts it as dropped.
    ///
    /// To have all entries handled within the grace, [`expire`](KeyedGroup::expire) each of the
    /// [`keys`](KeyedGroup::keys) after this call, when no other task can insert any more.
    ///
    /// # Cancel safety
    ///
    /// The drain begins at the call and goes on if the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let hooks = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
    /// let second = Duration::from_secs(1);
    /// hooks.insert_after(7, "order-7", second, OnDuplicate::Replace);
    /// hooks.insert_after(8, "order-8", 3600 * second, OnDuplicate::Replace);
    /// let (report, left) = hooks.drain(10 * second).await;
    /// assert_eq!((report.finished, report.dropped), (1, 1));
    /// assert_eq!(left, [(8, "order-8")]);
    /// # }
    /// ```
    ///
    /// In this example the handler closes all connections at the end, and has five seconds for them:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let second = Duration::from_secs(1);
    /// let connections = KeyedGroup::with_handler(move |_, id: u64, _: &str| async move {
    ///     tokio::time::sleep(second).await;
    ///     println!("closed {id}");
    /// });
    /// for id in 0..3 {
    ///     connections.insert_after(id, "10.0.0.7", 30 * second, OnDuplicate::Replace);
    /// }
    /// let drain = connections.drain(5 * second);
    /// for id in connections.keys() {
    ///     connections.expire(&id);
    /// }
    /// let (report, left) = drain.await; // after a second
    /// assert_eq!((report.finished, left.len()), (3, 0));
    /// # }
    /// ```
    pub fn drain(&self, grace: Duration) -> End<'_, K, V, S> {
        End::new(self.group.drain(grace), self.entries().keys)
    }

    /// Ends the group within `grace`, like [`Group::shutdown`].
    ///
    /// Entries that are due already may be handled until the grace is over. The future resolves to a report and the
    /// entries that are left. What a handler inserts after the call is not among them: it comes back to the handler, as
    /// [`Inserted::Rejected`](super::Inserted::Rejected). Where handlers insert their entries again, as to retry, call
    /// [`drain`](KeyedGroup::drain): it accepts those and returns them.
    ///
    /// The future resolves when the running handlers have ended, which may take the whole grace. To get the entries that
    /// are left before that, call [`drain_values`](KeyedGroup::drain_values) after this, and then await the future.
    /// Entries that are due and have not started are among them.
    ///
    /// # Cancel safety
    ///
    /// The shutdown begins at the call and goes on if the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let hooks = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
    /// hooks.insert_after(7, "order-7", Duration::from_secs(1), OnDuplicate::Replace);
    /// let (report, left) = hooks.shutdown(Duration::from_secs(10)).await;
    /// assert_eq!((report.dropped, left), (1, vec![(7, "order-7")]));
    /// # }
    /// ```
    pub fn shutdown(&self, grace: Duration) -> End<'_, K, V, S> {
        End::new(self.group.shutdown(grace), self.entries().keys)
    }

    /// Cancels the group, like [`Group::cancel`]: no further entry is handled.
    ///
    /// The entries stay for [`drain_values`](KeyedGroup::drain_values), [`remove`](KeyedGroup::remove) and
    /// [`with`](KeyedGroup::with).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let hooks = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
    /// hooks.insert_after(7, "order-7", Duration::from_secs(1), OnDuplicate::Replace);
    /// hooks.cancel();
    /// assert!(hooks.wait().await.is_err());
    /// assert_eq!(hooks.drain_values(), [(7, "order-7")]);
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.group.cancel();
    }

    /// Returns the counts of the group at this moment, like [`Group::stats`].
    pub fn stats(&self) -> Stats {
        self.group.stats()
    }

    /// Returns the group's own token, like [`Group::token`].
    pub fn token(&self) -> CancellationToken {
        self.group.token()
    }

    /// Panics, as the methods of [`Group`] do, if an entry was rejected because the group is closed: that is a mistake of
    /// its owner.
    #[track_caller]
    fn checked<T>(&self, answer: Inserted<T>) -> Inserted<T> {
        if matches!(answer, Inserted::Rejected(_)) {
            let admitted = self.group.as_ref().row_jobs().admit();
            if let Err(Rejected::Closed(by)) = admitted {
                // A destructor's panic must not take the place of the one below.
                drop_quietly(answer);
                by.misuse();
            }
        }
        answer
    }
}

keyed_methods!(
    KeyedGroup,
    "# Panics\n\nAfter `wait`, `drain` or `shutdown` was called. A [`KeyedHandle`] does not panic, and neither do \
     [`insert_at`](Self::insert_at) and [`insert_after`](Self::insert_after)."
);
keyed_deadline!(KeyedGroup);

impl<K, V, S> AsRef<Handle> for KeyedGroup<K, V, S> {
    /// Returns a handle to the group in which the entries are.
    fn as_ref(&self) -> &Handle {
        self.group.as_ref()
    }
}

impl<K: Eq + Hash + Send + 'static> Default for KeyedGroup<K> {
    #[track_caller]
    fn default() -> KeyedGroup<K> {
        KeyedGroup::new()
    }
}

impl<K, V, S> fmt::Debug for KeyedGroup<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedGroup")
            .field("entries", &self.inner)
            .field("group", &self.group)
            .finish()
    }
}
