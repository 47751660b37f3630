//! Keeps a group open without a task.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use super::pool::{Caller, Pool};

/// A guard that makes a group wait until it is dropped, for work that the group does not run.
///
/// It corresponds to `Add` and `Done` of Go's `WaitGroup`, but cannot be forgotten or counted twice. It is created by
/// [`TaskGroup::member`](super::TaskGroup::member) and [`TaskHandle::member`](super::TaskHandle::member). A member that
/// is alive when the grace of a [`shutdown`](super::TaskGroup::shutdown) or [`drain`](super::TaskGroup::drain) is over
/// counts as aborted and is not waited for.
///
/// # Examples
///
/// ```
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::new();
/// let member = group.member();
/// tokio::task::spawn_blocking(move || member.fail("no disk"));
/// let error = group.wait().await.unwrap_err();
/// assert_eq!(error.to_string(), "task 0: no disk");
/// # }
/// ```
#[doc(alias = "WaitGroup")]
#[must_use = "a member that is dropped no longer keeps the group open"]
pub struct Member<E: Send + 'static = Infallible> {
    /// `None`: rejected by the group, it keeps nothing open.
    pool: Option<Arc<Pool<E>>>,
    index: usize,
}

impl<E: Send + 'static> Member<E> {
    /// Creates a member; the group may have rejected it.
    #[track_caller]
    pub(super) fn join(pool: &Arc<Pool<E>>, caller: Caller) -> Member<E> {
        let (index, is_admitted) = pool.join(caller);
        let pool = is_admitted.then(|| Arc::clone(pool));
        Member { pool, index }
    }

    /// Records an error under the member's index; the group's [`OnError`](super::OnError) applies to it as to a task's
    /// error.
    ///
    /// If the group has ended already, as after a shutdown whose grace is over, the error is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::{Cause, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// group.spawn(std::future::pending::<Result<(), &str>>());
    /// group.member().fail("no disk"); // aborts the task
    /// assert!(group.wait().await.is_err());
    /// assert_eq!(group.cause(), Some(Cause::Failed { index: 1 }));
    /// # }
    /// ```
    pub fn fail(&self, error: E) {
        if let Some(pool) = &self.pool {
            pool.member_failed(self.index, error);
        }
    }

    /// Returns the index of the member; members and tasks are counted together, from zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// assert_eq!(group.spawn(async {}), 0);
    /// assert_eq!(group.member().index(), 1);
    /// # }
    /// ```
    pub fn index(&self) -> usize {
        self.index
    }
}

impl<E: Send + 'static> Drop for Member<E> {
    fn drop(&mut self) {
        // A rejected one was never counted. The last one of a closed group ends it here.
        if let Some(pool) = &self.pool {
            pool.leave();
        }
    }
}

impl<E: Send + 'static> fmt::Debug for Member<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
