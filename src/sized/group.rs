//! The owner of a group, and its handles.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::task::policy::{Caller, TaskStats};
use crate::task::pool::drained::Drained;
use crate::task::pool::shared::Pool;
use crate::task::spawn::task_verbs;

/// Runs tasks that return `()`, at most N at a time.
///
/// A task over the limit is queued as one boxed allocation, in FIFO order. A task's panic ends that task
/// alone; it is counted, and a tracing event.
///
/// Dropping the group aborts its tasks at their next await and blocks nothing.
///
/// # Examples
///
/// ```
/// use schedgroup::sized::SizedGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = SizedGroup::new(1);
/// group.spawn(async {});
/// group.spawn(async {});
/// assert_eq!((group.running(), group.pending()), (1, 1));
/// assert_eq!(group.wait().await.finished, 2);
/// # }
/// ```
#[must_use = "a group that is dropped aborts its tasks"]
pub struct SizedGroup {
    pool: Arc<Pool<Infallible>>,
}

/// A cloneable handle that spawns in a group from other tasks, above all from the group's own.
///
/// It is admitted until the group has drained: so a task can always spawn, also while the group waits, and at
/// any size. It never panics, and does not keep the group alive.
///
/// # Examples
///
/// ```
/// use schedgroup::sized::SizedGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = SizedGroup::new(1);
/// let handle = group.handle();
/// group.spawn(async move {
///     handle.spawn(async {}); // the group waits already, and covers it
/// });
/// assert_eq!(group.wait().await.finished, 2);
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    pool: Arc<Pool<Infallible>>,
}

task_verbs! {
    impl [] SizedGroup [];
    error = Infallible;
    output = ();
    caller = Caller::Owner;
    ///
    /// # Panics
    ///
    /// After `wait` was called.
}

task_verbs! {
    impl [] Handle [];
    error = Infallible;
    output = ();
    caller = Caller::Handle;
    ///
    /// Never panics: once the group has drained, the task is dropped and counted as skipped, too.
}

impl SizedGroup {
    pub(super) fn over(pool: Arc<Pool<Infallible>>) -> SizedGroup {
        SizedGroup { pool }
    }

    /// Returns a cloneable handle for spawning from other tasks.
    pub fn handle(&self) -> Handle {
        Handle {
            pool: Arc::clone(&self.pool),
        }
    }

    /// Closes the group and waits until every task has ended; resolves to the counts of its tasks.
    ///
    /// The group is closed by the call itself. A task spawned concurrently with this call is either waited for
    /// or rejected; a [`submit`](SizedGroup::submit) that is in the queue is waited for, and so is what tasks
    /// spawn through a [`Handle`] while the group waits. At the end the token is cancelled.
    ///
    /// Awaited from a task of the group, it waits for that task: for ever.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it has resolved (`select!`, `timeout`), `wait` may be called again. The
    /// group stays closed.
    ///
    /// # Panics
    ///
    /// If the future of another `wait` is alive, or has resolved.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::sized::SizedGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = SizedGroup::new(10);
    /// group.spawn(async { panic!("it is counted") });
    /// let stats = group.wait().await;
    /// assert_eq!((stats.finished, stats.panicked), (0, 1));
    /// # }
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            drained: Drained::new(&self.pool),
        }
    }
}

impl Drop for SizedGroup {
    fn drop(&mut self) {
        self.pool.abandon();
    }
}

/// Waits for a group and resolves to the counts of its tasks; created by [`SizedGroup::wait`].
///
/// # Cancel safety
///
/// It may be dropped at any time: the group stays closed, and `wait` may be called again.
#[must_use = "a wait does nothing until it is awaited, but the group is closed"]
pub struct Wait<'a> {
    drained: Drained<'a, Infallible>,
}

impl Future for Wait<'_> {
    type Output = TaskStats;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskStats> {
        let drained = Pin::new(&mut self.drained).poll(cx);
        drained.map(|_| self.drained.stats())
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("stats", &self.drained.stats())
            .finish_non_exhaustive()
    }
}
