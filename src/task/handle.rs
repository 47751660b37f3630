//! Handles of a group.

use std::convert::Infallible;
use std::sync::Arc;

use super::member::Member;
use super::methods::task_methods;
use super::pool::{Caller, Pool};

/// A cheap, cloneable handle for spawning into a group from other tasks and threads, in particular from the
/// group's own tasks.
///
/// It can spawn while `wait` or `drain` is under way, so a task of the group can always spawn more tasks, whatever the
/// limit. After a `shutdown` was called, and once a closed group has no task left, its tasks are rejected. It never
/// panics, and does not keep the group alive.
///
/// An `async fn` that spawns itself does not compile, since the compiler cannot tell whether it is `Send`. Let a function
/// that is not `async` spawn it, as in the example.
///
/// Whether a deadline has passed or a grace is over is told by tokio's clock on the thread that calls a method. A clock
/// that a test has paused is paused only inside that test's runtime, so call the methods there.
///
/// # Examples
///
/// ```
/// use schedgroup::task::{TaskGroup, TaskHandle};
///
/// /// Visits a tree, a task for each node.
/// fn visit(handle: TaskHandle, depth: u32) {
///     let children = handle.clone();
///     handle.spawn(async move {
///         if depth > 0 {
///             visit(children.clone(), depth - 1);
///             visit(children, depth - 1);
///         }
///     });
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder().limit(2).build();
/// visit(group.handle(), 5);
/// assert_eq!(group.wait().await.unwrap().finished, 63);
/// # }
/// ```
pub struct TaskHandle<E: Send + 'static = Infallible> {
    pool: Arc<Pool<E>>,
}

impl<E: Send + 'static> TaskHandle<E> {
    pub(super) fn over(pool: Arc<Pool<E>>) -> TaskHandle<E> {
        TaskHandle { pool }
    }

    /// Creates a member: a guard for which the group waits as for a task, and which takes no slot of the limit.
    ///
    /// If the group has been shut down or has ended, the member is rejected: nothing waits for it, and errors that it
    /// is given are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// let handle = group.handle();
    /// group.spawn(async move {
    ///     let member = handle.member();
    ///     tokio::task::spawn_blocking(move || member.fail("no disk"));
    ///     Ok(())
    /// });
    /// let error = group.wait().await.unwrap_err();
    /// assert_eq!(error.to_string(), "task 1: no disk");
    /// # }
    /// ```
    pub fn member(&self) -> Member<E> {
        Member::join(&self.pool, Caller::Handle)
    }
}

task_methods! {
    impl TaskHandle;
    caller = Caller::Handle;
    ///
    /// It never panics: if the group has been shut down or has ended, the task is dropped and counted as skipped, too.
}

impl<E: Send + 'static> Clone for TaskHandle<E> {
    fn clone(&self) -> TaskHandle<E> {
        TaskHandle {
            pool: Arc::clone(&self.pool),
        }
    }
}
