//! Settings for a group.

use std::fmt;
use std::marker::PhantomData;

use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::group::TaskGroup;
use crate::ground::token::Token;
use crate::task::policy::OnError;
use crate::task::pool::shared::Pool;

/// Settings for an [`TaskGroup`]; by default no limit, no queue, and the first error aborts the others.
///
/// # Examples
///
/// ```
/// use schedgroup::task::{TaskGroup, OnError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder().limit(4).on_error(OnError::Cancel).build();
/// group.spawn_with(|token| async move {
///     token.cancelled().await; // has its own last steps
///     Ok(())
/// });
/// group.spawn(async { Err("no route") });
/// assert!(group.wait().await.is_err());
/// assert_eq!(group.stats().finished, 1);
/// # }
/// ```
#[must_use = "a builder makes nothing until `build`"]
pub struct Builder<E> {
    limit: usize,
    queue: usize,
    on_error: OnError,
    token: Option<CancellationToken>,
    runtime: Option<runtime::Handle>,
    errors: PhantomData<fn() -> E>,
}

impl<E: Send + 'static> TaskGroup<E> {
    /// Returns the default settings for a group.
    pub fn builder() -> Builder<E> {
        Builder {
            limit: usize::MAX,
            queue: 0,
            on_error: OnError::default(),
            token: None,
            runtime: None,
            errors: PhantomData,
        }
    }

    /// Creates a group with the default settings: its first error aborts the other tasks.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn new() -> TaskGroup<E> {
        TaskGroup::builder().build()
    }

    /// Creates a group that is cancelled with `token`. It works on a child of `token`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn with_token(token: CancellationToken) -> TaskGroup<E> {
        TaskGroup::builder().token(token).build()
    }
}

impl<E: Send + 'static> Default for TaskGroup<E> {
    #[track_caller]
    fn default() -> TaskGroup<E> {
        TaskGroup::new()
    }
}

impl<E: Send + 'static> Builder<E> {
    /// Sets how many tasks run at a time.
    ///
    /// # Panics
    ///
    /// For zero, with which no task could ever run.
    #[track_caller]
    pub fn limit(mut self, tasks: usize) -> Builder<E> {
        assert!(
            tasks > 0,
            "schedgroup: Builder::limit must be at least 1: no task could ever run"
        );
        self.limit = tasks;
        self
    }

    /// Sets the capacity of the queue behind the limit for `try_spawn` and `submit`. `spawn` is unbounded.
    pub fn queue(mut self, tasks: usize) -> Builder<E> {
        self.queue = tasks;
        self
    }

    /// Sets what the first error or panic does to the other tasks.
    pub fn on_error(mut self, policy: OnError) -> Builder<E> {
        self.on_error = policy;
        self
    }

    /// Sets a parent token: cancelling it is like [`TaskGroup::cancel`]. The group works on a child of it.
    pub fn token(mut self, token: CancellationToken) -> Builder<E> {
        self.token = Some(token);
        self
    }

    /// Sets the runtime on which the tasks run; by default the one in which the group is built.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Builder<E> {
        self.runtime = Some(runtime);
        self
    }

    /// Creates the group.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, unless one was named.
    #[track_caller]
    pub fn build(self) -> TaskGroup<E> {
        TaskGroup::over(Pool::new(
            "TaskGroup",
            self.limit,
            self.queue,
            Some(self.on_error),
            Token::new(self.token.as_ref()),
            self.runtime,
        ))
    }
}

impl<E> fmt::Debug for Builder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("limit", &self.limit)
            .field("queue", &self.queue)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}
