//! The methods by key, written once for the three that have them: `KeyedGroup`, `KeyedHandle`, `KeyedContext`.

/// Implements the methods by key for a type that has the methods `entries`, which returns the `Entries` that they are
/// called on, and `checked`, which may panic on a rejected insert.
///
/// `$panics` is the part of their documentation that tells when they panic.
macro_rules! keyed_methods {
    ($type:ident, $panics:literal) => {
        impl<K, V, S> $type<K, V, S> {
            /// Returns the number of pending entries.
            ///
            /// An entry is pending until its handler starts, or until it is [expired](Self::expire). After a cancel
            /// these are the entries that are left, without expired ones, which only
            /// [`drain_values`](Self::drain_values) returns.
            #[track_caller]
            pub fn len(&self) -> usize {
                self.entries().keys.len()
            }

            /// Returns `true` if no entry is pending.
            #[track_caller]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Removes all entries that have not been handled, and returns them in no particular order.
            ///
            /// After a cancel, a [`drain`](crate::keyed::KeyedGroup::drain) or a
            /// [`shutdown`](crate::keyed::KeyedGroup::shutdown) these are the entries that are left; before it, all
            /// pending entries, and those that were [expired](Self::expire) and have not started. The cost grows with
            /// their number; the lock is held for 512 of them at a time.
            ///
            /// An entry is returned without its deadline. A program that needs the deadlines of the entries that are
            /// left, as to save a cache, keeps them in the values.
            ///
            /// Concurrently with [`keys`](Self::keys) it clones keys. If that panics, the panic is passed on, and the
            /// next call returns what this one has removed.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let retries = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
            /// retries.insert_after(7, "order-7", Duration::from_secs(60), OnDuplicate::Replace);
            /// retries.cancel();
            /// assert_eq!(retries.drain_values(), [(7, "order-7")]);
            /// # }
            /// ```
            #[doc(alias = "clear")]
            #[track_caller]
            pub fn drain_values(&self) -> Vec<(K, V)> {
                self.entries().keys.drain()
            }
        }

        impl<K, V, S> $type<K, V, S>
        where
            K: Eq + std::hash::Hash + Send + 'static,
            V: Send + 'static,
            S: std::hash::BuildHasher + Send + Sync + 'static,
        {
            /// Inserts an entry that expires at the instant `when`, or at once if that has passed; `on_duplicate`
            /// says what happens if the key has a pending entry already.
            ///
            /// It never waits, and does not panic if the group rejects entries: then the value comes back as
            /// [`Inserted::Rejected`](crate::keyed::Inserted::Rejected). If the pending entry is just about to start,
            /// the answer tells which came first: `Replaced` means that the old entry will not be handled, `New` that
            /// it is being handled, and `Kept` that it is handled after this call. A replaced entry keeps its old key
            /// value, and the new `key` is dropped.
            ///
            /// `Kept` returns the value that was handed in. To get the value of the pending entry, call
            /// [`with`](Self::with); to get or insert a value in one call, [`debounce_with`](Self::debounce_with).
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{Inserted, KeyedGroup, OnDuplicate};
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let holds = KeyedGroup::with_handler(|_, seat: &str, user: u64| async move {
            ///     println!("{seat} is free again, {user} has not paid");
            /// });
            /// let until = Instant::now() + Duration::from_secs(600);
            /// assert_eq!(holds.insert_at("12a", 7, until, OnDuplicate::Keep), Inserted::New);
            /// assert_eq!(holds.insert_at("12a", 8, until, OnDuplicate::Keep), Inserted::Kept(8));
            /// holds.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn insert_at(
                &self,
                key: K,
                value: V,
                when: tokio::time::Instant,
                on_duplicate: OnDuplicate,
            ) -> Inserted<V> {
                let at = self.entries().group.timestamp(when);
                self.entries().insert(key, value, at, on_duplicate)
            }

            /// Inserts an entry that expires `delay` from now; otherwise like [`insert_at`](Self::insert_at).
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{Inserted, KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let requests = KeyedGroup::with_handler(|_, id: u64, to: &str| async move {
            ///     println!("request {id}: no answer from {to}");
            /// });
            /// let second = Duration::from_secs(1);
            /// requests.insert_after(1, "db-1", second, OnDuplicate::Replace);
            /// requests.insert_after(2, "db-2", second, OnDuplicate::Replace);
            /// assert_eq!(requests.remove(&1), Some("db-1")); // it has answered
            /// requests.wait().await // request 2: no answer from db-2
            /// # }
            /// ```
            #[track_caller]
            pub fn insert_after(
                &self,
                key: K,
                value: V,
                delay: std::time::Duration,
                on_duplicate: OnDuplicate,
            ) -> Inserted<V> {
                let at = self.entries().group.after(delay);
                self.entries().insert(key, value, at, on_duplicate)
            }

            /// Inserts an entry, or replaces the value of the key's pending entry, and makes it expire `quiet` from
            /// now, but at most `ceiling` after the first call for this entry.
            ///
            /// Call it for every event: the entry expires when no event has come for `quiet`, and the last value of
            /// the burst is handled. The ceiling is counted from the first `debounce` of the pending entry; an insert
            /// that replaces the entry makes the next `debounce` the first, and a reset does not. Without a ceiling
            /// (`Duration::MAX`), events that never pause put the entry off for ever. If the values are jobs, `value`
            /// is the job itself.
            ///
            /// It never waits, and does not panic if the group rejects entries: then the value comes back as
            /// [`Inserted::Rejected`](crate::keyed::Inserted::Rejected), and the key keeps the entry that it had.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::KeyedGroup;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let saves = KeyedGroup::with_handler(|_, name: &str, text: &str| async move {
            ///     println!("{name}: {text}");
            /// });
            /// let (quiet, ceiling) = (Duration::from_millis(200), Duration::from_secs(1));
            /// for text in ["h", "he", "hel", "hell", "hello"] {
            ///     saves.debounce("draft", quiet, ceiling, text);
            ///     tokio::time::sleep(Duration::from_millis(50)).await;
            /// }
            /// saves.wait().await // draft: hello
            /// # }
            /// ```
            #[track_caller]
            pub fn debounce<T>(
                &self,
                key: K,
                quiet: std::time::Duration,
                ceiling: std::time::Duration,
                value: T,
            ) -> Inserted<V>
            where
                V: crate::keyed::ValueFrom<T>,
            {
                let value = V::value_from(value);
                self.entries().debounce(key, quiet, ceiling, value)
            }

            /// Debounces an entry whose value collects the events: `make` creates the value for the first event, and
            /// `update` changes the pending value for each later one. Returns `false`, and calls neither, if the group
            /// rejects entries.
            ///
            /// Otherwise like [`debounce`](Self::debounce). The closures run under the lock of the keyed group, so they
            /// should be short.
            ///
            /// With a `quiet` of `Duration::MAX` only the ceiling counts: later calls do not move the deadline of an
            /// entry that the first one has made. So one call gets the value of a key or inserts it, and a batch is
            /// handled `ceiling` after its first item. To have it handled when it is full, let `update` test for that
            /// length or more, and call [`expire`](Self::expire). A batch may get a few more items from other tasks
            /// before that; a test for exactly that length would leave it to one caller, however late that is.
            ///
            /// # Panics
            ///
            /// If a closure calls a method of the same keyed group that needs its entries. A panic of a closure is passed
            /// on to the caller; the value then stays as `update` left it. An entry whose `make` panics counts as cancelled
            /// in the stats.
            ///
            /// # Examples
            ///
            /// ```
            /// use std::cell::Cell;
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::KeyedGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let batches = KeyedGroup::with_handler(|_, tenant: &str, lines: Vec<String>| async move {
            ///     println!("{} lines of {tenant}", lines.len());
            /// });
            /// let (quiet, ceiling) = (Duration::from_millis(500), Duration::from_secs(5));
            /// for number in 0..1_000 {
            ///     // Either closure may need the line, but only one of them is called.
            ///     let line = Cell::new(format!("line {number}"));
            ///     batches.debounce_with(
            ///         "ada",
            ///         quiet,
            ///         ceiling,
            ///         || vec![line.take()],
            ///         |lines| lines.push(line.take()),
            ///     );
            /// }
            /// batches.wait().await // 1000 lines of ada
            /// # }
            /// ```
            ///
            /// In this example a cache gets or inserts a value, which expires a minute after it was inserted:
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::KeyedGroup;
            /// # use tokio::time::sleep;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let minute = Duration::from_secs(60);
            /// let cache = KeyedGroup::with_handler(|_, _: &str, _: u64| async {});
            /// let get_or_insert = |name, new| {
            ///     let mut value = new;
            ///     cache.debounce_with(name, Duration::MAX, minute, || new, |old| value = *old);
            ///     value
            /// };
            /// assert_eq!(get_or_insert("ada", 1), 1);
            /// sleep(minute / 2).await;
            /// assert_eq!(get_or_insert("ada", 2), 1);
            /// sleep(minute).await;
            /// assert_eq!(get_or_insert("ada", 3), 3);
            /// # }
            /// ```
            #[doc(alias = "get_or_insert_with")]
            #[doc(alias = "get_with")]
            #[doc(alias = "batch")]
            #[track_caller]
            pub fn debounce_with(
                &self,
                key: K,
                quiet: std::time::Duration,
                ceiling: std::time::Duration,
                make: impl FnOnce() -> V,
                update: impl FnOnce(&mut V),
            ) -> bool {
                self.entries()
                    .debounce_with(key, quiet, ceiling, make, update)
            }

            /// Moves the key's pending entry to another instant. Returns `true` if the move takes effect.
            ///
            /// Returns `false` if nothing is pending for the key, or if the group was shut down, cancelled or dropped, or
            /// has reached its deadline or the end of a drain's grace. An entry is pending until its handler is called,
            /// also while it is due and waits for a slot. A move to a later instant costs one look-up and one store.
            ///
            /// A cache that keeps an entry for as long as it is read calls [`with`](Self::with) and then this.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let sessions = KeyedGroup::with_handler(|_, _: String, _: u64| async {});
            /// let idle = Duration::from_secs(600);
            /// sessions.insert_after("ada".to_owned(), 7, idle, OnDuplicate::Replace);
            /// let at = Instant::now() + 2 * idle;
            /// assert!(sessions.reset_at("ada", at));
            /// assert!(!sessions.reset_at("ben", at));
            /// # }
            /// ```
            #[track_caller]
            pub fn reset_at<Q>(&self, key: &Q, when: tokio::time::Instant) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                let at = self.entries().group.timestamp(when);
                self.entries().reset(key, at)
            }

            /// Moves the key's pending entry to `delay` from now; otherwise like [`reset_at`](Self::reset_at).
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let idle = Duration::from_secs(600);
            /// let sessions = KeyedGroup::with_handler(|_, user: &str, _: u64| async move {
            ///     println!("{user} has gone");
            /// });
            /// sessions.insert_after("ada", 7, idle, OnDuplicate::Replace);
            /// for _ in 0..3 {
            ///     tokio::time::sleep(idle / 2).await;
            ///     assert!(sessions.reset_after("ada", idle));
            /// }
            /// sessions.wait().await // after 2.5 times `idle`
            /// # }
            /// ```
            #[track_caller]
            pub fn reset_after<Q>(&self, key: &Q, delay: std::time::Duration) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                let at = self.entries().group.after(delay);
                self.entries().reset(key, at)
            }

            /// Removes the key's pending entry, and returns its value. It will not be handled.
            ///
            /// A run in progress is not affected. After the end of the group it returns an entry that was left.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let requests = KeyedGroup::with_handler(|_, _: u64, _: &str| async {});
            /// requests.insert_after(7, "db-1", Duration::from_secs(1), OnDuplicate::Replace);
            /// assert_eq!(requests.remove(&7), Some("db-1"));
            /// assert_eq!(requests.remove(&7), None);
            /// # }
            /// ```
            #[track_caller]
            pub fn remove<Q>(&self, key: &Q) -> Option<V>
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.entries().remove(key)
            }

            /// Expires the key's pending entry now. Returns `true` if it was pending and will be handled.
            ///
            /// Returns `false` if nothing is pending for the key, if the group has ended, or if it was shut down before
            /// the entry was due.
            ///
            /// This cannot be undone: from now on the entry is not pending, its key is free, and a later debounce,
            /// reset or removal does not affect it. It is handled as soon as there is a slot for it, and in an
            /// [exclusive](crate::keyed::Builder::exclusive) keyed group as soon as the run of its key has ended. Only
            /// [`drain_values`](Self::drain_values) and the end of the group still take it out.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::KeyedGroup;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let batches = KeyedGroup::with_handler(|_, tenant: &str, lines: u32| async move {
            ///     println!("{lines} lines of {tenant}");
            /// });
            /// let (quiet, ceiling) = (Duration::from_millis(500), Duration::from_secs(5));
            /// for _ in 0..1_500 {
            ///     let mut full = false;
            ///     batches.debounce_with("ada", quiet, ceiling, || 1, |lines| {
            ///         *lines += 1;
            ///         full = *lines >= 1_000;
            ///     });
            ///     if full {
            ///         batches.expire("ada");
            ///     }
            /// }
            /// batches.wait().await // 1000 lines of ada, 500 lines of ada
            /// # }
            /// ```
            #[track_caller]
            pub fn expire<Q>(&self, key: &Q) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.entries().expire(key)
            }

            /// Stops the run of a key at its next await. Returns `true` if the key has a run.
            ///
            /// It works only in a keyed group that is [exclusive](crate::keyed::Builder::exclusive): other keyed groups
            /// do not know which run belongs to which key, and return `false`. An entry that is pending for the key
            /// starts when the run has ended.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let uploads = KeyedGroup::builder()
            ///     .exclusive()
            ///     .build_with(|_, _: &str, _: u64| std::future::pending());
            /// uploads.insert_after("a.txt", 7, Duration::ZERO, OnDuplicate::Replace);
            /// tokio::time::sleep(Duration::from_secs(1)).await;
            /// assert!(uploads.abort("a.txt"));
            /// uploads.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn abort<Q>(&self, key: &Q) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.entries().abort(key)
            }

            /// Calls `look` with the value of the key's pending entry, and returns its result; `None` if nothing is
            /// pending for the key.
            ///
            /// The closure runs under the lock of the keyed group, so it should be short. To get a copy of the value,
            /// clone it in the closure. The deadline stays as it is.
            ///
            /// # Panics
            ///
            /// If the closure calls a method of the same keyed group that needs its entries. A panic of the closure is
            /// passed on to the caller.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let sessions = KeyedGroup::with_handler(|_, _: &str, _: Vec<u64>| async {});
            /// sessions.insert_after("ada", vec![1], Duration::from_secs(60), OnDuplicate::Replace);
            /// sessions.with("ada", |cart| cart.push(2));
            /// assert_eq!(sessions.with("ada", |cart| cart.len()), Some(2));
            /// assert_eq!(sessions.with("ben", |cart| cart.len()), None);
            /// # }
            /// ```
            #[doc(alias = "get")]
            #[track_caller]
            pub fn with<Q, R>(&self, key: &Q, look: impl FnOnce(&mut V) -> R) -> Option<R>
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.entries().with(key, look)
            }

            /// Returns `true` if an entry is pending for the key.
            #[track_caller]
            pub fn contains_key<Q>(&self, key: &Q) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.entries().contains(key)
            }

            /// Returns the keys of the pending entries, in no particular order.
            ///
            /// The lock is held for 512 of them at a time, so the list does not show one single moment. The keys are
            /// cloned while the lock is free.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let sessions = KeyedGroup::with_handler(|_, _: &str, _: u64| async {});
            /// sessions.insert_after("ada", 7, Duration::from_secs(60), OnDuplicate::Replace);
            /// assert_eq!(sessions.keys(), ["ada"]);
            /// # }
            /// ```
            #[track_caller]
            pub fn keys(&self) -> Vec<K>
            where
                K: Clone + Sync,
            {
                self.entries().keys.keys()
            }
        }

        /// Where the values are jobs.
        impl<K, S> $type<K, $crate::keyed::BoxedJob, S>
        where
            K: Eq + std::hash::Hash + Send + 'static,
            S: std::hash::BuildHasher + Send + Sync + 'static,
        {
            /// Schedules `job` for `key` at the instant `when`, or at once if that has passed; `on_duplicate` says
            /// what happens if the key has a pending job already.
            ///
            /// Otherwise like [`insert_at`](Self::insert_at).
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let reports = KeyedGroup::new();
            /// let noon = Instant::now() + Duration::from_secs(3600);
            /// reports.schedule("sales", noon, async { println!("sold: 7") }, OnDuplicate::Keep);
            /// reports.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn schedule(
                &self,
                key: K,
                when: tokio::time::Instant,
                job: impl $crate::Job,
                on_duplicate: OnDuplicate,
            ) -> Inserted<$crate::keyed::BoxedJob> {
                let job = $crate::keyed::BoxedJob::new(job);
                self.checked(self.insert_at(key, job, when, on_duplicate))
            }

            /// Schedules `job` for `key`, `delay` from now; otherwise like [`schedule`](Self::schedule).
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{Inserted, KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let timeouts = KeyedGroup::new();
            /// let second = Duration::from_secs(1);
            /// timeouts.delay(7, 2 * second, async { println!("no answer") }, OnDuplicate::Replace);
            /// let sooner = timeouts.delay(7, second, async { println!("now!") }, OnDuplicate::KeepEarliest);
            /// assert!(matches!(sooner, Inserted::Replaced(_)));
            /// timeouts.wait().await // now!
            /// # }
            /// ```
            #[track_caller]
            pub fn delay(
                &self,
                key: K,
                delay: std::time::Duration,
                job: impl $crate::Job,
                on_duplicate: OnDuplicate,
            ) -> Inserted<$crate::keyed::BoxedJob> {
                let job = $crate::keyed::BoxedJob::new(job);
                self.checked(self.insert_after(key, job, delay, on_duplicate))
            }

            /// Schedules a closure for `key` at the instant `when`: it gets a
            /// [`KeyedContext`](crate::keyed::KeyedContext) and returns the job.
            ///
            /// The closure is called when the job starts, and only the closure is kept until then. Otherwise like
            /// [`schedule`](Self::schedule).
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedContext, KeyedGroup, OnDuplicate};
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let reports = KeyedGroup::new();
            /// let noon = Instant::now() + Duration::from_secs(3600);
            /// let report = |context: KeyedContext<&'static str>| async move {
            ///     println!("sold: 7, {:?} late", context.lateness());
            /// };
            /// reports.schedule_with("sales", noon, report, OnDuplicate::Keep);
            /// reports.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn schedule_with<J: $crate::Job>(
                &self,
                key: K,
                when: tokio::time::Instant,
                job: impl FnOnce(KeyedContext<K, $crate::keyed::BoxedJob, S>) -> J + Send + 'static,
                on_duplicate: OnDuplicate,
            ) -> Inserted<$crate::keyed::BoxedJob> {
                let job = $crate::keyed::BoxedJob::lazy(job);
                self.checked(self.insert_at(key, job, when, on_duplicate))
            }

            /// Schedules a closure for `key`, `delay` from now; otherwise like
            /// [`schedule_with`](Self::schedule_with).
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedContext, KeyedGroup, OnDuplicate};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// const PAUSE: Duration = Duration::from_millis(100);
            /// let hooks = KeyedGroup::new();
            /// let deliver = |hook: KeyedContext<&'static str>| async move {
            ///     println!("no answer");
            ///     let again = async { println!("delivered") };
            ///     hook.delay("order-7", PAUSE, again, OnDuplicate::Replace);
            /// };
            /// hooks.delay_with("order-7", PAUSE, deliver, OnDuplicate::Replace);
            /// hooks.wait().await // no answer, delivered
            /// # }
            /// ```
            #[track_caller]
            pub fn delay_with<J: $crate::Job>(
                &self,
                key: K,
                delay: std::time::Duration,
                job: impl FnOnce(KeyedContext<K, $crate::keyed::BoxedJob, S>) -> J + Send + 'static,
                on_duplicate: OnDuplicate,
            ) -> Inserted<$crate::keyed::BoxedJob> {
                let job = $crate::keyed::BoxedJob::lazy(job);
                self.checked(self.insert_after(key, job, delay, on_duplicate))
            }
        }
    };
}

/// Implements the deadline by key for a type. A context has that of its run instead.
macro_rules! keyed_deadline {
    ($type:ident) => {
        impl<K, V, S> $type<K, V, S>
        where
            K: Eq + std::hash::Hash + Send + 'static,
            V: Send + 'static,
            S: std::hash::BuildHasher + Send + Sync + 'static,
        {
            /// Returns the instant at which the key's pending entry expires; `None` if there is none, or if its group has
            /// ended and drops it.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let sessions = KeyedGroup::with_handler(|_, _: &str, _: u64| async {});
            /// let at = Instant::now() + Duration::from_secs(60);
            /// sessions.insert_at("ada", 7, at, OnDuplicate::Replace);
            /// assert_eq!(sessions.deadline("ada"), Some(at));
            /// # }
            /// ```
            #[track_caller]
            pub fn deadline<Q>(&self, key: &Q) -> Option<tokio::time::Instant>
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                let entries = self.entries();
                entries.deadline(key).map(|at| entries.group.instant(at))
            }
        }
    };
}
pub(super) use {keyed_deadline, keyed_methods};
