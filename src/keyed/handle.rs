//! The entries as other tasks hold them, and as a run of one sees them.

use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::methods::{keyed_deadline, keyed_methods};
use super::rule::{Inserted, OnDuplicate};
use super::shared::{Entries, Keys};
use crate::sched::Run;
use crate::{Handle, JobId, Stats};

/// A handle to the entries of a [`KeyedGroup`](super::KeyedGroup), for other tasks; or to entries in an existing
/// [`Group`](crate::Group), created by [`on_with`](super::Builder::on_with) or [`on`](super::Builder::on).
///
/// It has all the methods that work by key. None of them panics if the group rejects entries: the value comes
/// back as [`Inserted::Rejected`].
///
/// It is cheap to clone, and clones refer to the same entries. Like a [`Handle`] it does not keep the group alive. When
/// the group is dropped, or ends after it was [detached](crate::Group::detach), the entries are dropped with it.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use schedgroup::keyed::{Inserted, KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let save = |_, name: &'static str, text: String| async move { println!("{name}: {text}") };
/// let saves = KeyedGroup::builder().on_with(&group, save);
/// let pause = Duration::from_secs(5);
/// saves.insert_after("draft", "hello".to_owned(), pause, OnDuplicate::Replace);
/// group.wait().await?;
/// let late = saves.insert_after("draft", "hello?".to_owned(), pause, OnDuplicate::Replace);
/// assert_eq!(late, Inserted::Rejected("hello?".to_owned()));
/// # Ok(())
/// # }
/// ```
pub struct KeyedHandle<K, V = super::BoxedJob, S = RandomState> {
    keys: Arc<Keys<K, V, S>>,
    group: Handle,
}

impl<K, V, S> KeyedHandle<K, V, S> {
    pub(super) fn new(keys: Arc<Keys<K, V, S>>, group: Handle) -> KeyedHandle<K, V, S> {
        KeyedHandle { keys, group }
    }

    pub(super) fn entries(&self) -> Entries<'_, K, V, S> {
        Entries {
            keys: &self.keys,
            group: &self.group,
        }
    }

    fn checked<T>(&self, answer: T) -> T {
        answer
    }

    /// Returns the group's own token, like [`Handle::token`].
    pub fn token(&self) -> CancellationToken {
        self.group.token()
    }

    /// Returns the counts of the group at this moment, like [`Handle::stats`].
    pub fn stats(&self) -> Stats {
        self.group.stats()
    }
}

keyed_methods!(
    KeyedHandle,
    "From a handle it does not panic: what the group rejects comes back as [`Inserted::Rejected`]."
);
keyed_deadline!(KeyedHandle);

impl<K, V, S> AsRef<Handle> for KeyedHandle<K, V, S> {
    /// Returns a handle to the group in which the entries are.
    fn as_ref(&self) -> &Handle {
        &self.group
    }
}

impl<K, V, S> Clone for KeyedHandle<K, V, S> {
    fn clone(&self) -> Self {
        KeyedHandle::new(Arc::clone(&self.keys), self.group.clone())
    }
}

impl<K, V, S> fmt::Debug for KeyedHandle<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("len", &self.len())
            .field("exclusive", &self.keys.is_exclusive())
            .field("group", &self.group)
            .finish()
    }
}

/// A running handler's view of its group: the deadline of its entry, the cancel token, and the methods that work by
/// key.
///
/// A handler gets one for each entry, and so does a closure that is scheduled with
/// [`delay_with`](super::KeyedGroup::delay_with) or [`schedule_with`](super::KeyedGroup::schedule_with). What it
/// inserts is accepted while `wait` or `drain` is under way, and is waited for; so a handler may insert its entry
/// again. If the group rejects entries, since it was shut down or cancelled, or was closed and no entry is left, its
/// methods do not panic: the value comes back as [`Inserted::Rejected`]. A context may outlive its run, and inserts under
/// the same rules then.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{KeyedContext, KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let pause = Duration::from_secs(1);
/// let hooks = KeyedGroup::with_handler(
///     move |hook: KeyedContext<u64, u32>, order: u64, attempt: u32| async move {
///         println!("order {order}, attempt {attempt}");
///         if attempt < 3 {
///             hook.insert_after(order, attempt + 1, pause * attempt, OnDuplicate::Keep);
///         }
///     },
/// );
/// hooks.insert_after(7, 1, pause, OnDuplicate::Keep);
/// hooks.wait().await // covers all three
/// # }
/// ```
pub struct KeyedContext<K, V = super::BoxedJob, S = RandomState> {
    keys: Arc<Keys<K, V, S>>,
    run: Run,
}

impl<K, V, S> KeyedContext<K, V, S> {
    pub(super) fn new(keys: Arc<Keys<K, V, S>>, run: Run) -> KeyedContext<K, V, S> {
        KeyedContext { keys, run }
    }

    fn entries(&self) -> Entries<'_, K, V, S> {
        Entries {
            keys: &self.keys,
            group: self.keys.group(),
        }
    }

    fn checked<T>(&self, answer: T) -> T {
        answer
    }

    /// Returns the group's token. A cancel of the group does not interrupt running handlers: they see it here.
    /// `wait`, `drain` and `shutdown` do not cancel it: a handler sees them in
    /// [`is_draining`](KeyedContext::is_draining).
    pub fn token(&self) -> CancellationToken {
        self.keys.group().token()
    }

    /// Returns the instant at which this entry was due. For the deadline of another entry ask a
    /// [`handle`](KeyedContext::handle).
    pub fn deadline(&self) -> Instant {
        self.keys.group().instant(self.run.deadline)
    }

    /// Returns how late the run started, measured from [`deadline`](KeyedContext::deadline).
    pub fn lateness(&self) -> Duration {
        self.run.now.since(self.run.deadline)
    }

    /// Returns the number of this run of the entry. It is always 1, since an entry that is inserted again is a new
    /// entry.
    pub fn run(&self) -> u64 {
        1
    }

    /// Returns `true` if `wait`, `drain` or `shutdown` of the group was called.
    pub fn is_draining(&self) -> bool {
        self.keys.group().is_draining()
    }

    /// Returns the id of the run among the jobs of the group.
    pub fn id(&self) -> JobId {
        self.run.id
    }

    /// Returns a handle for other tasks, which may insert while `wait` or `drain` is under way, as this context may.
    pub fn handle(&self) -> KeyedHandle<K, V, S> {
        KeyedHandle::new(Arc::clone(&self.keys), self.keys.group().clone())
    }
}

keyed_methods!(
    KeyedContext,
    "From a context it does not panic: what the group rejects comes back as [`Inserted::Rejected`]."
);

impl<K, V, S> AsRef<Handle> for KeyedContext<K, V, S> {
    /// Returns a handle that is admitted while the group drains.
    fn as_ref(&self) -> &Handle {
        self.keys.group()
    }
}

impl<K, V, S> Clone for KeyedContext<K, V, S> {
    fn clone(&self) -> Self {
        KeyedContext::new(Arc::clone(&self.keys), self.run)
    }
}

impl<K, V, S> fmt::Debug for KeyedContext<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedContext")
            .field("id", &self.run.id)
            .field("deadline", &self.deadline())
            .field("lateness", &self.lateness())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
