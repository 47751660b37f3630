//! The verbs by key, written once for the three that have them: `KeyedGroup`, `KeyedHandle`,
//! `KeyedContext`.

/// Gives a type the verbs by key. It says with `inner` which handle they go through, and with `reject`
/// what happens to a job that the group rejects; `KeyedContext`, `OnDuplicate` and `Outcome` are in scope
/// there.
///
/// `$panics` is what its callers must know about misuse.
macro_rules! verbs {
    ($type:ident, $panics:literal) => {
        impl<K, S> $type<K, S> {
            /// Returns the number of keys that have a pending job.
            pub fn len(&self) -> usize {
                self.inner().keys.lock().len
            }

            /// Returns `true` if no key has a pending job.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl<K, S> $type<K, S>
        where
            K: Eq + std::hash::Hash + Send + 'static,
            S: std::hash::BuildHasher + Send + Sync + 'static,
        {
            /// Schedules `job` for `key` at the instant `at`, or at once if that has passed;
            /// `on_duplicate` says what happens if the key has a pending job already.
            ///
            /// In a race with the start of the pending job there is one winner:
            /// [`Outcome::Replaced`](crate::keyed::Outcome::Replaced) means that it will not run, and
            /// [`Outcome::Inserted`](crate::keyed::Outcome::Inserted) that it has started, or that
            /// there was none. The job that is not kept is dropped before this returns; one that was
            /// replaced just as it was about to start is dropped by the task that was about to run it.
            ///
            #[doc = $panics]
            #[track_caller]
            pub fn schedule(
                &self,
                key: K,
                at: tokio::time::Instant,
                job: impl $crate::Job,
                on_duplicate: OnDuplicate,
            ) -> Outcome {
                match self.try_schedule(key, at, job, on_duplicate) {
                    Ok(outcome) => outcome,
                    Err(rejected) => self.reject(rejected),
                }
            }

            /// Schedules `job` for `key`, `delay` from now; otherwise like
            /// [`schedule`](Self::schedule).
            ///
            #[doc = $panics]
            #[track_caller]
            pub fn delay(
                &self,
                key: K,
                delay: std::time::Duration,
                job: impl $crate::Job,
                on_duplicate: OnDuplicate,
            ) -> Outcome {
                match self.try_delay(key, delay, job, on_duplicate) {
                    Ok(outcome) => outcome,
                    Err(rejected) => self.reject(rejected),
                }
            }

            /// Schedules `job` for `key` at the instant `at`, or gives it back if the group rejects
            /// it.
            ///
            /// For callers that do not know whether the group is still open. Otherwise like
            /// [`schedule`](Self::schedule); the outcome is never
            /// [`Outcome::Refused`](crate::keyed::Outcome::Refused).
            ///
            /// # Errors
            ///
            /// [`ScheduleError`](crate::ScheduleError) with the job in it, if it had to go to the
            /// group: `Closed` after `wait`, `drain` or `shutdown`, else `Cancelled`. The key keeps what it
            /// had.
            #[track_caller]
            pub fn try_schedule<J: $crate::Job>(
                &self,
                key: K,
                at: tokio::time::Instant,
                job: J,
                on_duplicate: OnDuplicate,
            ) -> Result<Outcome, $crate::ScheduleError<J>> {
                self.inner().put(key, at, job, on_duplicate)
            }

            /// Schedules `job` for `key`, `delay` from now, or gives it back if the group rejects it.
            ///
            /// # Errors
            ///
            /// Those of [`try_schedule`](Self::try_schedule).
            #[track_caller]
            pub fn try_delay<J: $crate::Job>(
                &self,
                key: K,
                delay: std::time::Duration,
                job: J,
                on_duplicate: OnDuplicate,
            ) -> Result<Outcome, $crate::ScheduleError<J>> {
                self.try_schedule(
                    key,
                    $crate::common::time::later(tokio::time::Instant::now(), delay),
                    job,
                    on_duplicate,
                )
            }

            /// Schedules the job that `job` makes, for `key` at the instant `at`; it is given its
            /// [`KeyedContext`](crate::keyed::KeyedContext) when it starts.
            ///
            /// Through the context a job schedules further jobs by key, its own key included, also
            /// while `wait` drains the group. Until the job is due only the closure is kept. Otherwise
            /// like [`schedule`](Self::schedule).
            ///
            #[doc = $panics]
            #[track_caller]
            pub fn schedule_with<J: $crate::Job>(
                &self,
                key: K,
                at: tokio::time::Instant,
                job: impl FnOnce(KeyedContext<K, S>) -> J + Send + 'static,
                on_duplicate: OnDuplicate,
            ) -> Outcome {
                match self.inner().put_with(key, at, job, on_duplicate) {
                    Ok(outcome) => outcome,
                    Err(rejected) => self.reject(rejected),
                }
            }

            /// Schedules the job that `job` makes, for `key`, `delay` from now; otherwise like
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
                job: impl FnOnce(KeyedContext<K, S>) -> J + Send + 'static,
                on_duplicate: OnDuplicate,
            ) -> Outcome {
                self.schedule_with(
                    key,
                    $crate::common::time::later(tokio::time::Instant::now(), delay),
                    job,
                    on_duplicate,
                )
            }

            /// Schedules `job` for `key` to run once no other call has come for `quiet`, and at most
            /// `ceiling` after the first; it replaces the key's pending job.
            ///
            /// Call it for every event, and the last job of a burst runs. The first call is the first
            /// `debounce` of the pending entry: what is scheduled for the key in another way begins a
            /// new one. Without a ceiling (`Duration::MAX`), events that never pause put the job off
            /// for good.
            ///
            /// It never panics: a job that the group rejects is dropped
            /// ([`Outcome::Refused`](crate::keyed::Outcome::Refused)), and the key keeps what it had.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::keyed::KeyedGroup;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let saves = KeyedGroup::new();
            /// let (quiet, ceiling) = (Duration::from_millis(200), Duration::from_secs(1));
            /// for text in ["h", "he", "hel", "hell", "hello"] {
            ///     saves.debounce("draft", quiet, ceiling, async move { println!("saved {text}") });
            ///     tokio::time::sleep(Duration::from_millis(50)).await;
            /// }
            /// saves.wait().await // saved hello
            /// # }
            /// ```
            #[track_caller]
            pub fn debounce(
                &self,
                key: K,
                quiet: std::time::Duration,
                ceiling: std::time::Duration,
                job: impl $crate::Job,
            ) -> Outcome {
                self.inner().debounced(key, quiet, ceiling, job)
            }

            /// Moves the key's pending job to another instant. Returns `true` if the move will be
            /// honoured.
            ///
            /// Returns `false` if the key has no pending job, if it is just being started, and in a
            /// group that is shut down or cancelled. Moving a job later costs a look-up and no more
            /// than storing the instant.
            pub fn touch<Q>(&self, key: &Q, at: tokio::time::Instant) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.inner().keys.touch(key, at)
            }

            /// Moves the key's pending job to `delay` from now; otherwise like
            /// [`touch`](Self::touch).
            pub fn touch_after<Q>(&self, key: &Q, delay: std::time::Duration) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.touch(
                    key,
                    $crate::common::time::later(tokio::time::Instant::now(), delay),
                )
            }

            /// Cancels the key's pending job. Returns `true` if this call prevented its run.
            ///
            /// What the job holds is dropped before this returns; if it is just being started, by the
            /// task that was about to run it. A run in progress is left alone.
            pub fn cancel<Q>(&self, key: &Q) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.inner().keys.cancel(key)
            }

            /// Returns `true` if the key has a pending job.
            pub fn contains<Q>(&self, key: &Q) -> bool
            where
                K: std::borrow::Borrow<Q>,
                Q: Eq + std::hash::Hash + ?Sized,
            {
                self.inner().keys.deadline(key).is_some()
            }
        }
    };
}
pub(super) use verbs;
