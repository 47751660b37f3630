//! Holds a group open without a task.

use std::fmt;
use std::sync::Arc;

use super::group::ErrGroup;
use crate::ground::policy::Asker;
use crate::ground::pool::Pool;

/// Holds a group open until it is dropped, for work that the group does not run.
///
/// What other systems count by hand, plus one, minus one, is a value here: it cannot be forgotten or
/// counted twice.
#[must_use = "a member that is dropped no longer holds the group open"]
pub struct Member<E: Send + 'static> {
    pool: Arc<Pool<E>>,
    index: usize,
}

impl<E: Send + 'static> ErrGroup<E> {
    /// A guard that `wait` waits for like for a task. It takes no place of the limit.
    ///
    /// # Panics
    ///
    /// After `wait` or `wait_all` was called.
    #[track_caller]
    pub fn member(&self) -> Member<E> {
        let index = self.pool.join(Asker::Owner);
        let Ok(index) = index else {
            panic!("schedgroup: attempted to add a member after ErrGroup::wait was called");
        };
        Member {
            pool: Arc::clone(&self.pool),
            index,
        }
    }
}

impl<E: Send + 'static> Member<E> {
    /// Records an error under the member's index; the group's policy holds for it.
    pub fn fail(&self, error: E) {
        self.pool.member_failed(self.index, error);
    }

    /// Counted from zero, together with the tasks.
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
