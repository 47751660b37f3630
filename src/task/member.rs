//! Holds a group open without a task.

use std::fmt;
use std::sync::Arc;

use super::group::TaskGroup;
use crate::task::policy::Caller;
use crate::task::pool::shared::Pool;

/// A guard that keeps a group open until it is dropped, for work that the group does not run.
///
/// It is what Go's `WaitGroup` counts by hand with `Add` and `Done`, and cannot be forgotten or counted twice.
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
#[must_use = "a member that is dropped no longer holds the group open"]
pub struct Member<E: Send + 'static> {
    pool: Arc<Pool<E>>,
    index: usize,
}

impl<E: Send + 'static> TaskGroup<E> {
    /// Creates a guard that `wait` waits for like for a task. It takes no slot of the limit.
    ///
    /// # Panics
    ///
    /// After `wait` or `wait_all` was called.
    #[track_caller]
    pub fn member(&self) -> Member<E> {
        let index = self.pool.join(Caller::Owner);
        let Ok(index) = index else {
            panic!("schedgroup: attempted to add a member after TaskGroup::wait was called");
        };
        Member {
            pool: Arc::clone(&self.pool),
            index,
        }
    }
}

impl<E: Send + 'static> Member<E> {
    /// Records an error under the member's index; the group's policy applies to it.
    pub fn fail(&self, error: E) {
        self.pool.member_failed(self.index, error);
    }

    /// Returns its index, counted from zero together with the tasks.
    pub fn index(&self) -> usize {
        self.index
    }
}

impl<E: Send + 'static> Drop for Member<E> {
    fn drop(&mut self) {
        self.pool.leave();
    }
}

impl<E: Send + 'static> fmt::Debug for Member<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
