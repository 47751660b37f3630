//! The verbs of keyed groups and of their handles.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Keys;
use super::state::{OnDuplicate, Outcome, Pending};
use crate::ground::timeline::later;
use crate::{Group, Handle, Job, ScheduleError, Shutdown, Wait};

/// At most one pending job for each key, in a group that it owns.
///
/// Each pending key is one job of the group: it is never early, is counted in the group's stats, and
/// is waited for, cancelled and shut down with it. A key is pending until its job starts; then it is
/// free for a new one, and leaves nothing behind. Memory follows the keys that are in use.
///
/// Dropping it ends the group, like dropping a [`Group`]. Share it in an `Arc`, or hand out
/// [`handle`](KeyedGroup::handle)s; a job should hold a handle, since a job that holds the group keeps
/// itself alive. `O` says who owns the group: a `KeyedGroup<K, S, ()>` is a [`KeyedHandle`].
///
/// For keys with values that expire, and no code to run, in a loop of your own:
/// `DelayQueue` of tokio-util.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{KeyedGroup, OnDuplicate, Outcome};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let timeouts = KeyedGroup::new();
/// let second = Duration::from_secs(1);
/// timeouts.delay(7, 2 * second, async { println!("request 7: no answer") }, OnDuplicate::Replace);
/// let sooner = timeouts.delay(7, second, async { println!("now!") }, OnDuplicate::KeepEarliest);
/// assert_eq!(sooner, Outcome::Replaced);
/// assert_eq!(timeouts.len(), 1);
/// timeouts.wait().await // now!
/// # }
/// ```
#[must_use = "a keyed group that is dropped drops its pending jobs"]
pub struct KeyedGroup<K, S = RandomState, O = Group> {
    keys: Arc<Keys<K, S>>,
    handle: Handle,
    owner: O,
}

/// The keys of a [`KeyedGroup`] from elsewhere, or keys in a group of your own.
///
/// It has all the verbs that work by key. Cheap to clone, and clones speak of the same keys. It does
/// not keep the group alive, like a [`Handle`].
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
/// let saves = KeyedGroup::on(group.handle());
/// saves.delay("draft", Duration::from_secs(5), async { println!("saved") }, OnDuplicate::Replace);
/// group.wait().await
/// # }
/// ```
pub type KeyedHandle<K, S = RandomState> = KeyedGroup<K, S, ()>;

impl<K: Eq + Hash + Send + 'static> KeyedGroup<K> {
    /// A keyed group with a group of its own, which nothing cancels but itself.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    #[track_caller]
    pub fn new() -> KeyedGroup<K> {
        KeyedGroup::builder().build()
    }

    /// Keys in a group that belongs to somebody else, who waits for it, cancels it and shuts it down.
    ///
    /// The handle of a job's context is admitted while the group drains, as ever.
    pub fn on(group: Handle) -> KeyedHandle<K> {
        KeyedGroup::builder().build_on(group)
    }
}

impl<K, S> KeyedGroup<K, S> {
    /// The group in which the keys' jobs are: to cancel it, for its stats and its token, and to schedule
    /// on without a key.
    pub fn group(&self) -> &Group {
        &self.owner
    }

    /// An end to work with the keys from elsewhere.
    pub fn handle(&self) -> KeyedHandle<K, S> {
        KeyedGroup {
            keys: Arc::clone(&self.keys),
            handle: self.owner.handle(),
            owner: (),
        }
    }

    /// Closes the group and waits until every job has ended: [`Group::wait`].
    ///
    /// Pending keys keep their times, and can still be moved and cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not open the group again.
    ///
    /// # Panics
    ///
    /// Where [`Group::wait`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Group::wait`].
    #[track_caller]
    pub fn wait(&self) -> Wait<'_> {
        self.owner.wait()
    }

    /// Ends the group within `grace`, and reports what became of its jobs: [`Group::shutdown`].
    ///
    /// # Cancel safety
    ///
    /// It takes effect at the call and goes on if the future is dropped.
    pub fn shutdown(&self, grace: Duration) -> Shutdown<'_> {
        self.owner.shutdown(grace)
    }
}

impl<K, S, O> KeyedGroup<K, S, O> {
    pub(super) fn assemble(hasher: S, exclusive: bool, handle: Handle, owner: O) -> Self {
        KeyedGroup {
            keys: Arc::new(Keys::new(hasher, exclusive)),
            handle,
            owner,
        }
    }

    /// How many keys have a pending job.
    pub fn len(&self) -> usize {
        self.keys.lock().len
    }

    /// Has no key a pending job?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, S, O> KeyedGroup<K, S, O>
where
    K: Eq + Hash + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Runs `job` for `key` at the instant `at`, or at once if that has passed; `on_duplicate` says what
    /// happens if the key has a pending job already.
    ///
    /// In a race with the start of the pending job there is one winner: [`Outcome::Replaced`] means that
    /// it will not run, and [`Outcome::Inserted`] that it has started, or that there was none. The job
    /// that is not kept is dropped before this returns; one that was replaced in the very moment of its
    /// start is dropped by the task that was about to run it.
    ///
    /// # Panics
    ///
    /// If the job had to go to the group after `wait` or `shutdown` was called on this very owner of it. A
    /// [`KeyedHandle`] answers [`Outcome::Refused`] then. What `Hash` and `Eq` of the key panic with goes to the
    /// caller.
    #[track_caller]
    pub fn schedule(
        &self,
        key: K,
        at: Instant,
        job: impl Job,
        on_duplicate: OnDuplicate,
    ) -> Outcome {
        match self.try_schedule(key, at, job, on_duplicate) {
            Ok(outcome) => outcome,
            Err(refused) => self.refuse(refused),
        }
    }

    /// Runs `job` for `key`, `delay` from now; otherwise like [`schedule`](KeyedGroup::schedule).
    ///
    /// # Panics
    ///
    /// Where [`schedule`](KeyedGroup::schedule) does.
    #[track_caller]
    pub fn delay(
        &self,
        key: K,
        delay: Duration,
        job: impl Job,
        on_duplicate: OnDuplicate,
    ) -> Outcome {
        self.schedule(key, later(Instant::now(), delay), job, on_duplicate)
    }

    /// Runs `job` for `key` at the instant `at`, or hands it back if the group takes no more jobs.
    ///
    /// For events that go on while the program goes down. Otherwise like
    /// [`schedule`](KeyedGroup::schedule); the answer is never [`Outcome::Refused`].
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] with the job in it, if it had to go to the group: `Closed` after `wait` or
    /// `shutdown`, else `Cancelled`. The key keeps what it had.
    #[track_caller]
    pub fn try_schedule<J: Job>(
        &self,
        key: K,
        at: Instant,
        job: J,
        on_duplicate: OnDuplicate,
    ) -> Result<Outcome, ScheduleError<J>> {
        self.keys.put(&self.handle, key, job, |known| match known {
            Some(pending) if !on_duplicate.replaces(pending.deadline(), at) => None,
            _ => Some(at),
        })
    }

    /// Runs `job` for `key`, `delay` from now, or hands it back.
    ///
    /// # Errors
    ///
    /// Those of [`try_schedule`](KeyedGroup::try_schedule).
    #[track_caller]
    pub fn try_delay<J: Job>(
        &self,
        key: K,
        delay: Duration,
        job: J,
        on_duplicate: OnDuplicate,
    ) -> Result<Outcome, ScheduleError<J>> {
        self.try_schedule(key, later(Instant::now(), delay), job, on_duplicate)
    }

    /// Runs the last of many jobs for `key`: once no other has come for `quiet`, and at most `ceiling`
    /// after the first.
    ///
    /// Call it for every event. The first is the one that made the key pending. Without a ceiling
    /// (`Duration::MAX`), events that never pause put the job off for good.
    ///
    /// # Panics
    ///
    /// Where [`schedule`](KeyedGroup::schedule) does.
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
    pub fn debounce(&self, key: K, quiet: Duration, ceiling: Duration, job: impl Job) -> Outcome {
        let now = Instant::now();
        let at = |known: Option<&Pending>| {
            let first = known.map_or(now, |pending| pending.since);
            Some(later(now, quiet).min(later(first, ceiling)))
        };
        match self.keys.put(&self.handle, key, job, at) {
            Ok(outcome) => outcome,
            Err(refused) => self.refuse(refused),
        }
    }

    /// Lets the group say, in its own words, that it takes no more jobs, if that is a mistake here.
    #[track_caller]
    fn refuse<J: Job>(&self, refused: ScheduleError<J>) -> Outcome {
        self.handle.delay(Duration::ZERO, refused.into_inner());
        Outcome::Refused
    }

    /// Moves the key's pending job to another instant. True if the move will be honoured.
    ///
    /// False if the key has no pending job, if it is just being started, and in a group that is shut
    /// down or cancelled. Moving a job later costs a look-up and no more than storing the instant.
    pub fn touch<Q>(&self, key: &Q, at: Instant) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.keys.hash(key);
        let mut state = self.keys.lock();
        let Some(pending) = state.pending(hash, |known| known.borrow() == key) else {
            return false;
        };
        if pending.held.is_none() {
            return pending.job.reset_at(at);
        }
        // It stays far away until the run that holds it has ended; only the group knows if it may.
        let honoured = pending.job.reset_after(Duration::MAX);
        if honoured {
            pending.held = Some(at);
        }
        honoured
    }

    /// Moves the key's pending job to `delay` from now; otherwise like [`touch`](KeyedGroup::touch).
    pub fn touch_after<Q>(&self, key: &Q, delay: Duration) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.touch(key, later(Instant::now(), delay))
    }

    /// Cancels the key's pending job. True if this call prevented its run.
    ///
    /// What the job holds is dropped before this returns; in the very moment of its start, by the task
    /// that was about to run it. A run in progress is left alone.
    pub fn cancel<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.keys.hash(key);
        let taken = self
            .keys
            .lock()
            .take(hash, |known, _| known.borrow() == key);
        // Its ticket counts no more; this frees what the job holds.
        taken.map(|taken| taken.pending.job.cancel()).is_some()
    }

    /// Has the key a pending job?
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.deadline(key).is_some()
    }

    /// When the key's pending job is due.
    pub fn deadline<Q>(&self, key: &Q) -> Option<Instant>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.keys.hash(key);
        let mut state = self.keys.lock();
        let pending = state.pending(hash, |known| known.borrow() == key)?;
        Some(pending.deadline())
    }
}

impl<K: Eq + Hash + Send + 'static> Default for KeyedGroup<K> {
    #[track_caller]
    fn default() -> KeyedGroup<K> {
        KeyedGroup::new()
    }
}

impl<K, S> Clone for KeyedGroup<K, S, ()> {
    fn clone(&self) -> Self {
        KeyedGroup {
            keys: Arc::clone(&self.keys),
            handle: self.handle.clone(),
            owner: (),
        }
    }
}

impl<K, S, O> fmt::Debug for KeyedGroup<K, S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedGroup")
            .field("len", &self.len())
            .field("exclusive", &self.keys.exclusive)
            .field("group", &self.handle)
            .finish_non_exhaustive()
    }
}
