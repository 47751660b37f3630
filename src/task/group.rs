//! The owner of a group.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::builder::Builder;
use super::handle::TaskHandle;
use super::member::Member;
use super::methods::task_methods;
use super::pool::{Caller, Pool};
use super::wait::{Closed, Drain, Shutdown, Wait, WaitAll, WaitInner};
use crate::common::closing::Closing;

/// A group of concurrent tasks, at most N at a time, which are waited for, cancelled and shut down together.
///
/// In a `TaskGroup<E>` a task returns `Result<(), E>`; in a `TaskGroup`, which is `TaskGroup<Infallible>`, it returns
/// `()`. The compiler infers `E` from the first task that is spawned; where it cannot, write `TaskGroup::<E>::new()`. A
/// task that never ends, like `async { loop { .. } }`, is accepted by both.
///
/// A task beyond the [`limit`](Builder::limit) is queued, as one boxed allocation, and starts in FIFO order as
/// soon as a slot is free. It starts when it gets its slot: from then on it is running, also before its first poll. By
/// default the first error or panic aborts the others; [`on_error`](Builder::on_error) changes that.
///
/// A task has no value. To get the values of all tasks, use [`flow::try_all`](crate::flow::try_all) or
/// [`flow::all`](crate::flow::all); to take values one by one as tasks end, use
/// [`flow::stream`](crate::flow::stream()) or [`tokio::task::JoinSet`].
///
/// Dropping the group aborts its tasks at their next await and does not block. Errors that no `wait` has returned are
/// dropped with it.
///
/// # Examples
///
/// ```
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::<&str>::builder().limit(2).build();
/// group.spawn(async { loop { tokio::task::yield_now().await } });
/// group.spawn(async { Err("no route") });
/// group.spawn(async { Ok(()) });
/// let error = group.wait().await.unwrap_err();
/// assert_eq!(error.to_string(), "task 1: no route");
/// assert_eq!((group.stats().aborted, group.stats().skipped), (1, 1));
/// # }
/// ```
#[doc(alias = "errgroup")]
#[doc(alias = "ErrGroup")]
#[doc(alias = "SizedGroup")]
#[doc(alias = "WaitGroup")]
#[doc(alias = "JoinSet")]
#[doc(alias = "TaskTracker")]
#[doc(alias = "nursery")]
#[must_use = "a group that is dropped aborts its tasks"]
pub struct TaskGroup<E: Send + 'static = Infallible> {
    pool: Arc<Pool<E>>,
}

impl<E: Send + 'static> TaskGroup<E> {
    /// Creates a group with the default settings, which is not tied to a parent cancellation token.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), schedgroup::TaskError<io::Error>> {
    /// let group = TaskGroup::<io::Error>::new();
    /// for path in ["Cargo.toml", "src"] {
    ///     group.spawn(async move {
    ///         println!("{path}: {} bytes", std::fs::metadata(path)?.len());
    ///         Ok(())
    ///     });
    /// }
    /// group.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn new() -> TaskGroup<E> {
        Builder::default().build()
    }

    /// Creates a group that is cancelled when `token` is cancelled. It works on a child of `token`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::CancellationToken;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let program = CancellationToken::new();
    /// let group = TaskGroup::with_token(program.clone());
    /// group.spawn_with(|token| async move { token.cancelled().await });
    /// program.cancel();
    /// assert_eq!(group.wait().await.unwrap().finished, 1);
    /// # }
    /// ```
    #[track_caller]
    pub fn with_token(token: CancellationToken) -> TaskGroup<E> {
        Builder::default().token(token).build()
    }

    /// Returns a builder with the default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().limit(10).build();
    /// for _ in 0..1000 {
    ///     group.spawn(async {});
    /// }
    /// assert_eq!(group.wait().await.unwrap().finished, 1000);
    /// # }
    /// ```
    pub fn builder() -> Builder<E> {
        Builder::default()
    }

    pub(super) fn over(pool: Arc<Pool<E>>) -> TaskGroup<E> {
        TaskGroup { pool }
    }

    /// Returns a cloneable handle for spawning from other tasks and threads.
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
    ///     handle.spawn(async {}); // the group is closed already, and waits for it
    /// });
    /// assert_eq!(group.wait().await.unwrap().finished, 2);
    /// # }
    /// ```
    pub fn handle(&self) -> TaskHandle<E> {
        TaskHandle::over(Arc::clone(&self.pool))
    }

    /// Creates a member: a guard for which the group waits as for a task, and which takes no slot of the limit.
    ///
    /// # Panics
    ///
    /// After `wait`, `wait_all`, `drain` or `shutdown` was called.
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
    /// let thread = std::thread::spawn(move || drop(member));
    /// group.spawn(async {});
    /// group.wait().await.unwrap(); // for the thread, too
    /// thread.join().unwrap();
    /// # }
    /// ```
    #[track_caller]
    pub fn member(&self) -> Member<E> {
        Member::join(&self.pool, Caller::Owner)
    }

    /// Closes the group and waits until every task has ended; resolves to their counts, or to the error that came
    /// first.
    ///
    /// The group is closed by the call itself, not by the first poll. A task spawned concurrently with this
    /// call is either waited for or rejected; it is never lost. A [`submit`](TaskGroup::submit) that is in the
    /// queue is waited for, and so are tasks that are spawned through a [`TaskHandle`] while the group waits. At the
    /// end the token is cancelled. A cancel or a rejected task after the last task has ended does not change what this
    /// returns.
    ///
    /// A task of the group must not await this: it would wait for itself for ever.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it has resolved (`select!`, `timeout`), no error is lost and `wait` may
    /// be called again. The group stays closed.
    ///
    /// # Panics
    ///
    /// If the future of another `wait` or `wait_all` is alive, or has resolved.
    ///
    /// # Errors
    ///
    /// The error or panic that came first. If there was none but a task was skipped or aborted, then
    /// [`DeadlineExceeded`](crate::TaskError::DeadlineExceeded) if the group's deadline was the reason, and
    /// [`Cancelled`](crate::TaskError::Cancelled) otherwise. A cancel is no error if no task was skipped or aborted.
    /// Where `E` is an `anyhow::Error` or a `String`, `?` cannot convert this error: [`TaskError`](crate::TaskError) says
    /// what to write instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::TaskError;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// group.spawn(std::future::pending::<()>());
    /// if tokio::time::timeout(Duration::from_secs(5), group.wait()).await.is_err() {
    ///     group.abort();
    ///     assert!(matches!(group.wait().await, Err(TaskError::Cancelled)));
    /// }
    /// # }
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Wait<'_, E> {
        Wait(WaitInner::new(&self.pool, "wait"))
    }

    /// Closes the group and waits like [`wait`](TaskGroup::wait); resolves to all errors, in order of their
    /// tasks.
    ///
    /// # Cancel safety
    ///
    /// As for `wait`. After a `wait_all` was dropped either of the two may be called, and also after a `wait` was
    /// dropped.
    ///
    /// # Panics
    ///
    /// If the future of another `wait` or `wait_all` is alive, or has resolved.
    ///
    /// # Errors
    ///
    /// All errors and panics. If there were none but a task was skipped or aborted, a single
    /// [`DeadlineExceeded`](crate::TaskError::DeadlineExceeded) or [`Cancelled`](crate::TaskError::Cancelled), as for
    /// `wait`.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::{OnError, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().on_error(OnError::Continue).build();
    /// for outcome in [Err("no route"), Ok(()), Err("no disk")] {
    ///     group.spawn(async move { outcome });
    /// }
    /// let errors = group.wait_all().await.unwrap_err();
    /// assert_eq!(errors.to_string(), "2 errors: task 0: no route | task 2: no disk");
    /// # }
    /// ```
    #[track_caller]
    pub fn wait_all(&self) -> WaitAll<'_, E> {
        WaitAll(WaitInner::new(&self.pool, "wait_all"))
    }

    /// Closes the group and waits until every task has ended, at most for `grace`; resolves to a report.
    ///
    /// Until the grace is over it is like [`wait`](TaskGroup::wait): tasks can be spawned only through a
    /// [`TaskHandle`], and they run. When the grace is over, running tasks are aborted and queued ones are dropped, as
    /// by [`shutdown`](TaskGroup::shutdown) with a grace of zero. If `drain` and `shutdown` are called several times,
    /// the grace that is over first applies. A grace of more than 100 years has no end; any other is over when the
    /// group's runtime is shut down.
    ///
    /// The report counts the tasks and members that the group held at the call and those that came later. It has no
    /// errors: call `wait` during or after the drain to get them. `wait` returns `Cancelled` if a task was skipped or
    /// aborted and none failed.
    ///
    /// # Cancel safety
    ///
    /// It begins at the call and goes on if the future is dropped.
    ///
    /// # Panics
    ///
    /// On a runtime without a timer, unless `grace` is zero or more than 100 years.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = TaskGroup::new();
    /// let handle = group.handle();
    /// group.spawn(async move {
    ///     tokio::time::sleep(Duration::from_secs(1)).await;
    ///     handle.spawn(async {}); // within the grace
    /// });
    /// let report = group.drain(Duration::from_secs(10)).await;
    /// assert_eq!((report.finished, report.aborted, report.dropped), (2, 0, 0));
    /// # }
    /// ```
    #[track_caller]
    pub fn drain(&self, grace: Duration) -> Drain<'_, E> {
        Drain(Closed::new(&self.pool, Closing::Drain, grace))
    }

    /// Rejects new tasks, waits at most for `grace` until all tasks have ended, then aborts running tasks and
    /// drops queued ones; resolves to a report.
    ///
    /// From the call on no task is accepted, not even through a [`TaskHandle`]. Until the grace is over, queued tasks
    /// still start as slots become free. So does the task of a [`submit`](TaskGroup::submit) that waits, which then
    /// counts as held; otherwise its caller gets it back. When the future resolves no code of the tasks runs any more; a task
    /// that blocks its thread is waited for. A member that is alive when the grace is over counts as aborted and is not
    /// waited for.
    ///
    /// The token is cancelled when the grace is over. To notify running tasks at once, call
    /// [`cancel`](TaskGroup::cancel) before this; it drops queued tasks. If `drain` and `shutdown` are called several
    /// times, the grace that is over first applies. A grace of more than 100 years has no end; any other is over when
    /// the group's runtime is shut down.
    ///
    /// The three numbers of the report add up to the tasks and members that the group held at the call; `finished`
    /// counts those that ended by themselves, with an error or without. The report has no errors: call `wait` during or
    /// after the shutdown to get them. `wait` returns `Cancelled` if a task was skipped or aborted and none failed.
    ///
    /// # Cancel safety
    ///
    /// It begins at the call and goes on if the future is dropped.
    ///
    /// # Panics
    ///
    /// On a runtime without a timer, unless `grace` is zero or more than 100 years.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = TaskGroup::builder().limit(2).build();
    /// group.spawn(tokio::time::sleep(Duration::from_secs(1)));
    /// group.spawn(std::future::pending::<()>());
    /// group.spawn(std::future::pending::<()>()); // starts when the first has ended
    /// let report = group.shutdown(Duration::from_secs(10)).await;
    /// assert_eq!((report.finished, report.aborted, report.dropped), (1, 2, 0));
    /// # }
    /// ```
    #[track_caller]
    pub fn shutdown(&self, grace: Duration) -> Shutdown<'_, E> {
        Shutdown(Closed::new(&self.pool, Closing::ShutDown, grace))
    }
}

task_methods! {
    impl TaskGroup;
    caller = Caller::Owner;
    ///
    /// # Panics
    ///
    /// After `wait`, `wait_all`, `drain` or `shutdown` was called.
}

impl<E: Send + 'static> Default for TaskGroup<E> {
    #[track_caller]
    fn default() -> TaskGroup<E> {
        TaskGroup::new()
    }
}

impl<E: Send + 'static> Drop for TaskGroup<E> {
    fn drop(&mut self) {
        self.pool.drop_owner();
    }
}
