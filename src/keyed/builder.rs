//! Settings for a keyed group.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::group::KeyedGroup;
use super::handle::{KeyedContext, KeyedHandle};
use super::job::BoxedJob;
use super::key::share;
use super::shared::{Exclusive, Handler, Keys};
use crate::common::panic::{DiscardEach, Guarded, drop_quietly, run_inside};
use crate::sched::JobFuture;
use crate::{Group, Handle, Job};

/// Settings for a [`KeyedGroup`]: those of a [`Group`], whether a key's runs may overlap, and how keys are hashed.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let reloads = KeyedGroup::builder()
///     .exclusive()
///     .max_running(4)
///     .build_with(|_, path: &str, revision: u64| async move {
///         println!("{path} at revision {revision}");
///     });
/// reloads.insert_after("config.toml", 7, Duration::from_millis(50), OnDuplicate::Replace);
/// reloads.wait().await
/// # }
/// ```
#[must_use = "settings are nothing until one of the `build` and `on` methods is called"]
pub struct Builder<K, V = BoxedJob, S = RandomState> {
    group: crate::Builder,
    /// Dropped with a handler, while a panic of misuse unwinds.
    hasher: Guarded<S>,
    exclusive: Exclusive<K>,
    values: PhantomData<fn(V)>,
}

impl<K, V> KeyedGroup<K, V> {
    /// Returns a [`Builder`] with the default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// # use schedgroup::keyed::KeyedGroup;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let jobs = KeyedGroup::<String>::builder().name("reports").build();
    /// let values = KeyedGroup::<String, u64>::builder().build_with(|_, _, _| async {});
    /// assert!(jobs.is_empty() && values.is_empty());
    /// # }
    /// ```
    pub fn builder() -> Builder<K, V> {
        Builder {
            group: Group::builder(),
            hasher: Guarded::new(RandomState::new()),
            exclusive: None,
            values: PhantomData,
        }
    }
}

impl<K, V, S> Builder<K, V, S> {
    /// Makes the runs of one key exclusive: an entry that expires during its key's run runs after it, and
    /// [`abort`](KeyedGroup::abort) can stop the run of a key.
    ///
    /// An entry that waits for its key's run holds no slot of `max_running`, and entries start in the order of their
    /// deadlines, those of one key and those of different keys. If a key is inserted several times during a run, each
    /// insert replaces the pending entry, so one more run follows; but an entry that was [expired](KeyedGroup::expire)
    /// is no longer pending and has a run of its own. `shutdown` lets entries run that are due, until its grace is over.
    ///
    /// This costs two allocations per run, and a clone of the key, which the handler gets.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let second = Duration::from_secs(1);
    /// let syncs = KeyedGroup::builder().exclusive().build_with(move |_, _: &str, _: u32| async move {
    ///     tokio::time::sleep(10 * second).await;
    /// });
    /// let start = tokio::time::Instant::now();
    /// syncs.insert_after("ada", 1, second, OnDuplicate::Replace);
    /// tokio::time::sleep(2 * second).await;
    /// syncs.insert_after("ada", 2, second, OnDuplicate::Replace);
    /// syncs.wait().await?;
    /// assert_eq!(start.elapsed(), 21 * second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn exclusive(mut self) -> Builder<K, V, S>
    where
        K: Clone + Send + Sync + 'static,
    {
        self.exclusive = Some(share);
        self
    }

    /// Sets the hasher of keys. The default withstands keys that an attacker chooses; others are faster.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::collections::hash_map::RandomState;
    /// # use schedgroup::keyed::KeyedGroup;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hasher = RandomState::new();
    /// let jobs = KeyedGroup::<u64>::builder().hasher(hasher).build();
    /// # drop(jobs);
    /// # }
    /// ```
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> Builder<K, V, T> {
        Builder {
            group: self.group,
            hasher: Guarded::new(hasher),
            exclusive: self.exclusive,
            values: PhantomData,
        }
    }

    fn set(mut self, set: impl FnOnce(crate::Builder) -> crate::Builder) -> Builder<K, V, S> {
        self.group = set(self.group);
        self
    }

    /// Sets a parent token, like [`Builder::token`](crate::Builder::token).
    pub fn token(self, token: CancellationToken) -> Builder<K, V, S> {
        self.set(|group| group.token(token))
    }

    /// Sets the instant at which the group ends, like [`Builder::deadline`](crate::Builder::deadline).
    pub fn deadline(self, deadline: Instant) -> Builder<K, V, S> {
        self.set(|group| group.deadline(deadline))
    }

    /// Sets the time after which the group ends, like [`Builder::timeout`](crate::Builder::timeout).
    pub fn timeout(self, timeout: Duration) -> Builder<K, V, S> {
        self.set(|group| group.timeout(timeout))
    }

    /// Limits the number of entries that are handled at a time, like
    /// [`Builder::max_running`](crate::Builder::max_running).
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn max_running(mut self, limit: usize) -> Builder<K, V, S> {
        self.group = self.group.max_running(limit);
        self
    }

    /// Sets the name of the group, like [`Builder::name`](crate::Builder::name).
    pub fn name(self, name: impl Into<String>) -> Builder<K, V, S> {
        self.set(|group| group.name(name))
    }

    /// Sets the runtime on which the group runs, like [`Builder::runtime`](crate::Builder::runtime).
    pub fn runtime(self, runtime: runtime::Handle) -> Builder<K, V, S> {
        self.set(|group| group.runtime(runtime))
    }

    /// Uses a timerfd of the Linux kernel, like [`Builder::timerfd`](crate::Builder::timerfd).
    pub fn timerfd(self) -> Builder<K, V, S> {
        self.set(crate::Builder::timerfd)
    }
}

impl<K, V, S> Builder<K, V, S>
where
    K: Eq + Hash + Send + 'static,
    V: Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Creates a keyed group whose entries are handled by `handler` when they expire.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if none was set, and on one without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let sessions = KeyedGroup::builder().build_with(|_, user: String, cart: Vec<u64>| async move {
    ///     println!("{user} left {} things behind", cart.len());
    /// });
    /// let idle = Duration::from_secs(600);
    /// sessions.insert_after("ada".to_owned(), vec![7, 8], idle, OnDuplicate::Replace);
    /// sessions.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn build_with<J: Job>(
        mut self,
        handler: impl Fn(KeyedContext<K, V, S>, K, V) -> J + Send + Sync + 'static,
    ) -> KeyedGroup<K, V, S> {
        // The panic of misuse goes on though the handler may panic when it is dropped.
        let mut handler = DiscardEach::from(Some(handler));
        let group = std::mem::take(&mut self.group).build();
        let handler = handler.take().expect("it was put there");
        KeyedGroup::own(self.on_with(&group, handler), group)
    }

    /// Creates a table of entries in an existing group, whose owner waits for it, cancels it and shuts it down.
    /// `handler` handles the entries when they expire.
    ///
    /// Settings of this builder that concern the group, such as `max_running`, have no effect here: those of the
    /// existing group apply. Those that concern the table, [`exclusive`](Builder::exclusive) and
    /// [`hasher`](Builder::hasher), have their effect. If `group` is a job's context, entries are accepted while `wait`
    /// or `drain` is under way.
    ///
    /// `group` may be a keyed group. So a key can have a second deadline, in a table of its own. The future of a drain or
    /// shutdown returns the entries of its own table; those of this one are left for
    /// [`drain_values`](KeyedHandle::drain_values). A group that is in an `Arc` is passed as `&*group`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::Group;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let requests = KeyedGroup::builder().on_with(&group, |_, id: u64, to: &str| async move {
    ///     println!("request {id}: no answer from {to}");
    /// });
    /// requests.insert_after(7, "db-1", Duration::from_secs(1), OnDuplicate::Replace);
    /// group.wait().await
    /// # }
    /// ```
    ///
    /// In this example values expire after 100 seconds, and each is loaded again after 80, while it can still be read.
    /// To remove a key, remove it from `refreshes` and abort its load there, and then remove it from `cache`: otherwise
    /// its next load inserts it again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedContext, KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// const EXPIRY: Duration = Duration::from_secs(100);
    /// const REFRESH: Duration = Duration::from_secs(80);
    /// async fn load(host: &str) -> usize {
    ///     tokio::time::sleep(Duration::from_secs(1)).await;
    ///     host.len()
    /// }
    ///
    /// let cache = KeyedGroup::with_handler(|_, _: &str, _: usize| async {});
    /// let values = cache.handle();
    /// let refreshes = KeyedGroup::builder().exclusive().on_with(
    ///     &cache,
    ///     move |refreshes: KeyedContext<&str, ()>, host, ()| {
    ///         let values = values.clone();
    ///         async move {
    ///             values.insert_after(host, load(host).await, EXPIRY, OnDuplicate::Replace);
    ///             refreshes.insert_after(host, (), REFRESH, OnDuplicate::Replace);
    ///         }
    ///     },
    /// );
    /// cache.insert_after("localhost", 0, EXPIRY, OnDuplicate::Replace);
    /// refreshes.insert_after("localhost", (), REFRESH, OnDuplicate::Replace);
    /// tokio::time::sleep(3 * EXPIRY).await;
    /// assert_eq!(cache.with("localhost", |value| *value), Some(9));
    /// # }
    /// ```
    pub fn on_with<J: Job>(
        self,
        group: &impl AsRef<Handle>,
        handler: impl Fn(KeyedContext<K, V, S>, K, V) -> J + Send + Sync + 'static,
    ) -> KeyedHandle<K, V, S> {
        self.on_handled(
            group,
            Box::new(move |context, key, value, guard| {
                let job = handler(context, key, value);
                match guard {
                    None => Box::pin(job),
                    Some(guard) => holding(guard, job),
                }
            }),
        )
    }

    fn on_handled(
        self,
        group: &impl AsRef<Handle>,
        handler: Handler<K, V, S>,
    ) -> KeyedHandle<K, V, S> {
        let group = group.as_ref();
        let keys = Keys::new(group, self.hasher.into_inner(), self.exclusive, handler);
        KeyedHandle::new(keys, group.clone())
    }
}

impl<K, S> Builder<K, BoxedJob, S>
where
    K: Eq + Hash + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Creates a keyed group of jobs: each entry's value is the job that runs when it expires.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if none was set, and on one without a timer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let reloads = KeyedGroup::builder().exclusive().build();
    /// let reload = async { println!("reloading") };
    /// reloads.delay("config.toml", Duration::from_millis(50), reload, OnDuplicate::Replace);
    /// reloads.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn build(mut self) -> KeyedGroup<K, BoxedJob, S> {
        let group = std::mem::take(&mut self.group).build();
        KeyedGroup::own(self.on(&group), group)
    }

    /// Creates a table of jobs by key in an existing group; otherwise like [`on_with`](Builder::on_with).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::Group;
    /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let saves = KeyedGroup::builder().on(&group);
    /// saves.delay("draft", Duration::from_secs(5), async { println!("saved") }, OnDuplicate::Replace);
    /// group.wait().await
    /// # }
    /// ```
    pub fn on(self, group: &impl AsRef<Handle>) -> KeyedHandle<K, BoxedJob, S> {
        self.on_handled(
            group,
            Box::new(|context, key, job: BoxedJob, guard| {
                // A key whose destructor panics does not cost its job the run.
                drop_quietly(key);
                let job = job.start(context);
                match guard {
                    None => job,
                    Some(guard) => holding(guard, job),
                }
            }),
        )
    }
}

/// Runs a job and drops the guard after it, also if the job is aborted or panics.
fn holding<G: Send + 'static>(guard: G, job: impl Job) -> JobFuture {
    Box::pin(async move {
        let _guard = guard;
        run_inside(pin!(Some(job))).await;
    })
}

impl<K, V, S> fmt::Debug for Builder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("group", &self.group)
            .field("exclusive", &self.exclusive.is_some())
            .finish_non_exhaustive()
    }
}
