//! Settings of a group.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::group::TaskGroup;
use super::policy::OnError;
use super::pool::{Pool, Settings};
use crate::common::run;
use crate::common::time::later;

/// Settings for a [`TaskGroup`]; created by [`TaskGroup::builder`].
///
/// By default there is no limit, no queue capacity and no deadline, and the first error aborts the others.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::task::{OnError, TaskGroup};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder()
///     .name("downloads")
///     .limit(4)
///     .on_error(OnError::Cancel)
///     .timeout(Duration::from_secs(30))
///     .build();
/// group.spawn_with(|token| async move {
///     token.cancelled().await; // has its own last steps
///     Ok(())
/// });
/// group.spawn(async { Err("no route") });
/// assert!(group.wait().await.is_err());
/// assert_eq!(group.stats().finished, 1);
/// # }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<E = Infallible> {
    limit: usize,
    queue: usize,
    on_error: OnError,
    token: CancellationToken,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    name: Option<Box<str>>,
    runtime: Option<runtime::Handle>,
    errors: PhantomData<fn() -> E>,
}

impl<E> Default for Builder<E> {
    fn default() -> Builder<E> {
        Builder {
            limit: usize::MAX,
            queue: 0,
            on_error: OnError::default(),
            token: CancellationToken::new(),
            deadline: None,
            timeout: None,
            name: None,
            runtime: None,
            errors: PhantomData,
        }
    }
}

impl<E: Send + 'static> Builder<E> {
    /// Sets the concurrency limit: at most `tasks` tasks run at a time.
    ///
    /// Tasks beyond it are queued in FIFO order and start as slots become free.
    ///
    /// # Panics
    ///
    /// If `tasks` is zero: no task could ever run.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().limit(2).build();
    /// for _ in 0..5 {
    ///     group.spawn(async {});
    /// }
    /// assert_eq!((group.stats().running, group.stats().pending), (2, 3));
    /// assert_eq!(group.wait().await.unwrap().finished, 5);
    /// # }
    /// ```
    #[doc(alias = "concurrency")]
    #[doc(alias = "SetLimit")]
    #[track_caller]
    pub fn limit(mut self, tasks: usize) -> Builder<E> {
        assert!(
            tasks > 0,
            "schedgroup: Builder::limit must be at least 1: no task could ever run"
        );
        self.limit = tasks;
        self
    }

    /// Sets how many tasks beyond the limit `try_spawn` and `submit` may queue; zero by default.
    ///
    /// `spawn` ignores it: its queue is unbounded. But the tasks that it queues use the capacity up, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().limit(1).queue(2).build();
    /// let accepted = (0..5).filter(|_| group.try_spawn(async {}).is_ok());
    /// assert_eq!(accepted.count(), 3); // one runs, two are queued
    /// # }
    /// ```
    pub fn queue(mut self, tasks: usize) -> Builder<E> {
        self.queue = tasks;
        self
    }

    /// Sets what the first error or panic does to the other tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::{OnError, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().on_error(OnError::Cancel).build();
    /// group.spawn_with(|token| async move {
    ///     token.cancelled().await;
    ///     println!("the last steps");
    ///     Ok(())
    /// });
    /// group.spawn(async { Err("no route") });
    /// assert_eq!(group.wait().await.unwrap_err().index(), Some(1));
    /// assert_eq!(group.stats().finished, 1);
    /// # }
    /// ```
    pub fn on_error(mut self, policy: OnError) -> Builder<E> {
        self.on_error = policy;
        self
    }

    /// Sets a parent token: cancelling it cancels the group.
    ///
    /// The group works on a child of it: ending the group does not cancel `token`.
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
    /// let group = TaskGroup::builder().token(program.clone()).build();
    /// group.spawn_with(|token| async move { token.cancelled().await });
    /// program.cancel();
    /// assert_eq!(group.wait().await.unwrap().finished, 1);
    /// # }
    /// ```
    pub fn token(mut self, token: CancellationToken) -> Builder<E> {
        self.token = token;
        self
    }

    /// Sets the instant at which the group ends: no task starts at this instant or later, and `wait` returns
    /// [`DeadlineExceeded`](crate::TaskError::DeadlineExceeded) if a task was skipped or aborted because of it.
    ///
    /// [`on_error`](Builder::on_error) decides about running tasks: by default they are aborted; with `Cancel` and
    /// `Continue` they only see that the group's token is cancelled. If a [`timeout`](Builder::timeout) is set too, the
    /// earlier of the two applies.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::TaskError;
    /// use schedgroup::task::TaskGroup;
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let deadline = Instant::now() + Duration::from_secs(1);
    /// let group = TaskGroup::builder().deadline(deadline).build();
    /// group.spawn(std::future::pending::<()>());
    /// assert!(matches!(group.wait().await, Err(TaskError::DeadlineExceeded)));
    /// assert_eq!(Instant::now(), deadline);
    /// # }
    /// ```
    pub fn deadline(mut self, deadline: Instant) -> Builder<E> {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the time after [`build`](Builder::build) at which the group ends, as it does at a
    /// [`deadline`](Builder::deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::TaskError;
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = TaskGroup::builder().timeout(Duration::from_secs(1)).build();
    /// group.spawn(std::future::pending::<()>());
    /// assert!(matches!(group.wait().await, Err(TaskError::DeadlineExceeded)));
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Builder<E> {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the name of the group in events and `Debug`.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group: TaskGroup = TaskGroup::builder().name("downloads").build();
    /// assert!(format!("{group:?}").contains("downloads"));
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder<E> {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Sets the runtime on which the tasks run; by default the one in which `build` is called.
    ///
    /// If it is shut down, its tasks are aborted. The first that is aborted so, or that is spawned afterwards, cancels
    /// the group.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let group = TaskGroup::builder().runtime(runtime.handle().clone()).build();
    /// group.spawn(async {});
    /// assert_eq!(runtime.block_on(group.wait()).unwrap().finished, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn runtime(mut self, runtime: runtime::Handle) -> Builder<E> {
        self.runtime = Some(runtime);
        self
    }

    /// Creates the group.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if none was set, and on a runtime without a timer with a deadline or a timeout that ends
    /// within 100 years.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::task::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = TaskGroup::builder().build(); // the same as `TaskGroup::new()`
    /// group.spawn(async {});
    /// assert_eq!(group.wait().await.unwrap().finished, 1);
    /// # }
    /// ```
    #[track_caller]
    pub fn build(self) -> TaskGroup<E> {
        let runtime = run::runtime_for(self.runtime);
        // By its clock, which may be paused.
        let named = runtime.clone();
        let _inside = named.enter();
        let timeout = self.timeout.map(|timeout| later(Instant::now(), timeout));
        TaskGroup::over(Pool::new(Settings {
            name: self.name,
            limit: self.limit,
            queue: self.queue,
            on_error: self.on_error,
            token: self.token.child_token(),
            deadline: self.deadline.into_iter().chain(timeout).min(),
            runtime,
        }))
    }
}

impl<E> fmt::Debug for Builder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("limit", &self.limit)
            .field("queue", &self.queue)
            .field("on_error", &self.on_error)
            .field("deadline", &self.deadline)
            .field("timeout", &self.timeout)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
