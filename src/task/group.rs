//! The owner of a group, and its handles.

use std::sync::Arc;

use crate::task::policy::Caller;
use crate::task::pool::shared::Pool;
use crate::task::spawn::task_verbs;

/// Runs tasks that may fail, at most N at a time, to be waited for together.
///
/// By default the first error or panic aborts the others; [`Builder::on_error`](super::Builder::on_error)
/// says otherwise. A task over the limit is queued as one boxed allocation, in FIFO order. Reach for
/// [`tokio::task::JoinSet`] when the tasks have values that you take one by one.
///
/// Dropping the group aborts its tasks at their next await and blocks nothing.
///
/// # Examples
///
/// ```
/// use schedgroup::TaskError;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::<&str>::builder().limit(2).build();
/// group.spawn(std::future::pending());
/// group.spawn(async { Err("no route") });
/// group.spawn(async { Ok(()) });
/// let error = group.wait().await.unwrap_err();
/// assert_eq!(error.to_string(), "task 1: no route");
/// assert_eq!((group.stats().aborted, group.stats().skipped), (1, 1));
/// # }
/// ```
#[must_use = "a group that is dropped aborts its tasks"]
pub struct TaskGroup<E: Send + 'static> {
    pub(super) pool: Arc<Pool<E>>,
}

/// A cloneable handle that spawns in a group from other tasks, above all from the group's own.
///
/// It is admitted until the group has drained: so a task can always spawn, also while the group waits, and at
/// any limit. It never panics, and does not keep the group alive.
///
/// # Examples
///
/// ```
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::<()>::new();
/// let handle = group.handle();
/// group.spawn(async move {
///     handle.spawn(async { Ok(()) }); // the group waits already, and covers it
///     Ok(())
/// });
/// group.wait().await.unwrap();
/// assert_eq!(group.stats().finished, 2);
/// # }
/// ```
pub struct TaskHandle<E: Send + 'static> {
    pool: Arc<Pool<E>>,
}

task_verbs! {
    impl [<E: Send + 'static>] TaskGroup [<E>];
    error = E;
    output = Result<(), E>;
    caller = Caller::Owner;
    ///
    /// # Panics
    ///
    /// After `wait` or `wait_all` was called.
}

task_verbs! {
    impl [<E: Send + 'static>] TaskHandle [<E>];
    error = E;
    output = Result<(), E>;
    caller = Caller::Handle;
    ///
    /// Never panics: once the group has drained, the task is dropped and counted as skipped, too.
}

impl<E: Send + 'static> TaskGroup<E> {
    pub(super) fn over(pool: Arc<Pool<E>>) -> TaskGroup<E> {
        TaskGroup { pool }
    }

    /// Returns a cloneable handle for spawning from other tasks.
    pub fn handle(&self) -> TaskHandle<E> {
        TaskHandle {
            pool: Arc::clone(&self.pool),
        }
    }
}

impl<E: Send + 'static> Clone for TaskHandle<E> {
    fn clone(&self) -> TaskHandle<E> {
        TaskHandle {
            pool: Arc::clone(&self.pool),
        }
    }
}

impl<E: Send + 'static> Drop for TaskGroup<E> {
    fn drop(&mut self) {
        self.pool.abandon();
    }
}
