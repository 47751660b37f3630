//! A keyed group and its owner's verbs.

use std::borrow::Borrow;
use std::fmt;
use std::future::ready;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::handle::{KeyedContext, KeyedHandle, drop_rejected};
use super::state::{OnDuplicate, Outcome};
use super::verbs::verbs;
use crate::{Group, Handle, ScheduleError, Shutdown, Wait};

/// A group with at most one pending job per key.
///
/// Each pending key is one job of the group: it is never early, is counted in the group's stats, and
/// is waited for, cancelled and shut down with it. A key is pending until its job starts; then it is
/// free for a new one, and leaves nothing behind. Memory follows the keys that are in use.
///
/// Dropping it ends the group, like dropping a [`Group`]. Share it in an `Arc`, or hand out
/// [`handle`](KeyedGroup::handle)s; a job should hold a handle, since a job that holds the group keeps
/// itself alive.
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
pub struct KeyedGroup<K, S = RandomState> {
    inner: KeyedHandle<K, S>,
    group: Group,
}

impl<K: Eq + Hash + Send + 'static> KeyedGroup<K> {
    /// Creates a keyed group with a group of its own that is not tied to a parent cancellation token.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    #[track_caller]
    pub fn new() -> KeyedGroup<K> {
        KeyedGroup::builder().build()
    }

    /// Creates keys in a group that has another owner, which waits for it, cancels it and shuts it down.
    ///
    /// Through a job's context, what is scheduled by key is admitted while the group drains, as ever.
    pub fn on(group: &impl AsRef<Handle>) -> KeyedHandle<K> {
        KeyedGroup::builder().build_on(group)
    }
}

impl<K, S> KeyedGroup<K, S> {
    pub(super) fn own(inner: KeyedHandle<K, S>, group: Group) -> KeyedGroup<K, S> {
        KeyedGroup { inner, group }
    }

    /// Returns the group in which the keys' jobs are: to cancel it, for its stats and its token, and to
    /// schedule without a key.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Returns a handle to work with the keys from other tasks and threads.
    pub fn handle(&self) -> KeyedHandle<K, S> {
        self.inner.clone()
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
        self.group.wait()
    }

    /// Ends the group within `grace`, and reports the outcomes of its jobs: [`Group::shutdown`].
    ///
    /// # Cancel safety
    ///
    /// It takes effect at the call and continues if the future is dropped.
    pub fn shutdown(&self, grace: Duration) -> Shutdown<'_> {
        self.group.shutdown(grace)
    }

    /// Returns the instant at which the key's pending job is due.
    pub fn deadline<Q>(&self, key: &Q) -> Option<Instant>
    where
        K: Borrow<Q>,
        S: BuildHasher,
        Q: Eq + Hash + ?Sized,
    {
        self.inner.deadline(key)
    }

    fn inner(&self) -> &KeyedHandle<K, S> {
        &self.inner
    }

    /// After `wait` it is the owner's mistake, and the group says so in its own words.
    #[track_caller]
    fn reject<T>(&self, rejected: ScheduleError<T>) -> Outcome {
        let misuse = matches!(rejected, ScheduleError::Closed(_));
        let outcome = drop_rejected(rejected);
        if misuse {
            self.group.delay(Duration::ZERO, ready(()));
        }
        outcome
    }
}

verbs!(
    KeyedGroup,
    "# Panics\n\nIf the job had to go to the group after `wait`, `drain` or `shutdown` was called. A
    [`KeyedHandle`] does not panic."
);

impl<K, S> AsRef<Handle> for KeyedGroup<K, S> {
    /// Returns a handle to the group in which the keys' jobs are.
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

impl<K, S> fmt::Debug for KeyedGroup<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedGroup")
            .field("keys", &self.inner)
            .field("group", &self.group)
            .finish()
    }
}
