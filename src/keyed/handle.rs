//! The keys of a group as other tasks hold them, and as a key's own job sees them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shared::Keys;
use super::state::{OnDuplicate, Outcome, Pending, Plan};
use super::verbs::verbs;
use crate::common::panic;
use crate::common::time::later;
use crate::{Handle, Job, JobContext, JobId, ScheduleError};

/// A handle to the keys of a [`KeyedGroup`](super::KeyedGroup), for other tasks, or to keys in a group of
/// your own.
///
/// It has all the methods that work by key, and none of them panics: a job that the group rejects, because
/// it was waited for, shut down, cancelled or dropped, is dropped and reported as [`Outcome::Refused`].
///
/// Cheap to clone; clones refer to the same keys. It does not keep the group alive, like a [`Handle`].
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use schedgroup::keyed::{KeyedGroup, OnDuplicate, Outcome};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let saves = KeyedGroup::on(&group);
/// let save = async { println!("saved") };
/// saves.delay("draft", Duration::from_secs(5), save, OnDuplicate::Replace);
/// group.wait().await?;
/// let too_late = saves.delay("draft", Duration::ZERO, async {}, OnDuplicate::Replace);
/// assert_eq!(too_late, Outcome::Refused);
/// # Ok(())
/// # }
/// ```
pub struct KeyedHandle<K, S = RandomState> {
    pub(super) keys: Arc<Keys<K, S>>,
    group: Handle,
}

impl<K, S> KeyedHandle<K, S> {
    pub(super) fn new(keys: Arc<Keys<K, S>>, group: Handle) -> KeyedHandle<K, S> {
        KeyedHandle { keys, group }
    }

    fn inner(&self) -> &KeyedHandle<K, S> {
        self
    }

    fn reject<T>(&self, rejected: ScheduleError<T>) -> Outcome {
        drop_rejected(rejected)
    }

    /// Returns the instant at which the key's pending job is due.
    pub fn deadline<Q>(&self, key: &Q) -> Option<Instant>
    where
        K: Borrow<Q>,
        S: BuildHasher,
        Q: Eq + Hash + ?Sized,
    {
        self.keys.deadline(key)
    }
}

impl<K, S> KeyedHandle<K, S>
where
    K: Eq + Hash + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    #[track_caller]
    pub(super) fn put<J: Job>(
        &self,
        key: K,
        at: Instant,
        job: J,
        on_duplicate: OnDuplicate,
    ) -> Result<Outcome, ScheduleError<J>> {
        let start = |job, _: &_, _| job;
        self.keys
            .put(&self.group, key, job, start, on_duplicate.plan(at))
    }

    #[track_caller]
    pub(super) fn put_with<F, J>(
        &self,
        key: K,
        at: Instant,
        job: F,
        on_duplicate: OnDuplicate,
    ) -> Result<Outcome, ScheduleError<F>>
    where
        F: FnOnce(KeyedContext<K, S>) -> J + Send + 'static,
        J: Job,
    {
        let start = |job: F, keys: &Arc<_>, context: JobContext| {
            job(KeyedContext {
                inner: KeyedHandle::new(Arc::clone(keys), context.handle()),
                context,
            })
        };
        self.keys
            .put(&self.group, key, job, start, on_duplicate.plan(at))
    }

    #[track_caller]
    pub(super) fn debounced<J: Job>(
        &self,
        key: K,
        quiet: Duration,
        ceiling: Duration,
        job: J,
    ) -> Outcome {
        let plan = |known: Option<&Pending>| {
            // Under the lock: of two calls at once the job that stays is the one with the later instant.
            let now = Instant::now();
            let first = known.and_then(|pending| pending.debounced).unwrap_or(now);
            Some(Plan {
                at: later(now, quiet).min(later(first, ceiling)),
                debounced: Some(first),
            })
        };
        let start = |job, _: &_, _| job;
        self.keys
            .put(&self.group, key, job, start, plan)
            .unwrap_or_else(drop_rejected)
    }
}

verbs!(
    KeyedHandle,
    "From a handle it does not panic: a job that the group rejects is dropped, and the outcome is
    [`Outcome::Refused`]."
);

impl<K, S> AsRef<Handle> for KeyedHandle<K, S> {
    /// Returns a handle to the group in which the keys' jobs are.
    fn as_ref(&self) -> &Handle {
        &self.group
    }
}

impl<K, S> Clone for KeyedHandle<K, S> {
    fn clone(&self) -> Self {
        KeyedHandle::new(Arc::clone(&self.keys), self.group.clone())
    }
}

impl<K, S> fmt::Debug for KeyedHandle<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("len", &self.len())
            .field("exclusive", &self.keys.exclusive)
            .field("group", &self.group)
            .finish()
    }
}

/// Drops what the group has rejected. A destructor that panics does not spoil the answer.
pub(super) fn drop_rejected<T>(rejected: ScheduleError<T>) -> Outcome {
    panic::discard(rejected).unwrap_or_else(panic::forget);
    Outcome::Refused
}

/// A running keyed job's view of its group: when it was due, whether to stop, and the methods by key.
///
/// The jobs that [`delay_with`](super::KeyedGroup::delay_with) and
/// [`schedule_with`](super::KeyedGroup::schedule_with) make get one. Its methods are admitted while the group
/// drains, and `wait` covers what they schedule; so a job may schedule its own key again. They never
/// panic: a job that is rejected, because the group was shut down, cancelled or has drained, is dropped and
/// reported as [`Outcome::Refused`]. A context may outlive its job.
pub struct KeyedContext<K, S = RandomState> {
    inner: KeyedHandle<K, S>,
    context: JobContext,
}

impl<K, S> KeyedContext<K, S> {
    /// Returns the group's token. A cancel of the group does not interrupt running jobs: they see it here.
    pub fn token(&self) -> CancellationToken {
        self.context.token()
    }

    /// Returns the instant at which this job was due.
    pub fn deadline(&self) -> Instant {
        self.context.deadline()
    }

    /// Returns how late the job started, measured from [`deadline`](KeyedContext::deadline).
    pub fn lateness(&self) -> Duration {
        self.context.lateness()
    }

    /// Returns `true` if `wait`, `drain` or `shutdown` of the group was called.
    pub fn is_draining(&self) -> bool {
        self.context.is_draining()
    }

    /// Returns the number of the job in its group.
    pub fn id(&self) -> JobId {
        self.context.id()
    }

    /// Returns a handle that is admitted while the group drains, as this context is.
    pub fn handle(&self) -> KeyedHandle<K, S> {
        self.inner.clone()
    }

    fn inner(&self) -> &KeyedHandle<K, S> {
        &self.inner
    }

    fn reject<T>(&self, rejected: ScheduleError<T>) -> Outcome {
        drop_rejected(rejected)
    }
}

verbs!(
    KeyedContext,
    "From a context it does not panic: a job that the group rejects is dropped, and the outcome is
    [`Outcome::Refused`]."
);

impl<K, S> AsRef<Handle> for KeyedContext<K, S> {
    /// Returns a handle that is admitted while the group drains.
    fn as_ref(&self) -> &Handle {
        self.context.as_ref()
    }
}

impl<K, S> Clone for KeyedContext<K, S> {
    fn clone(&self) -> Self {
        KeyedContext {
            inner: self.inner.clone(),
            context: self.context.clone(),
        }
    }
}

impl<K, S> fmt::Debug for KeyedContext<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedContext")
            .field("job", &self.context)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
