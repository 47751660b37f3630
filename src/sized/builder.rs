//! Settings for a group.

use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::group::SizedGroup;
use crate::ground::token::Token;
use crate::task::pool::shared::Pool;

/// Settings for a [`SizedGroup`].
///
/// # Examples
///
/// ```
/// use schedgroup::SpawnError;
/// use schedgroup::sized::SizedGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = SizedGroup::builder(1).queue(1).build();
/// assert!(group.try_spawn(async {}).is_ok()); // runs
/// assert!(group.try_spawn(async {}).is_ok()); // is queued
/// assert!(matches!(group.try_spawn(async {}), Err(SpawnError::Full(_))));
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder makes nothing until `build`"]
pub struct Builder {
    size: usize,
    queue: usize,
    token: Option<CancellationToken>,
    runtime: Option<runtime::Handle>,
}

impl SizedGroup {
    /// Returns the default settings for a group in which at most `size` tasks run at a time.
    ///
    /// # Panics
    ///
    /// For zero, with which no task could ever run.
    #[track_caller]
    pub fn builder(size: usize) -> Builder {
        assert!(
            size > 0,
            "schedgroup: the size of a SizedGroup must be at least 1: no task could ever run"
        );
        Builder {
            size,
            queue: 0,
            token: None,
            runtime: None,
        }
    }

    /// Creates a group in which at most `size` tasks run at a time.
    ///
    /// # Panics
    ///
    /// For zero, and outside of a tokio runtime.
    #[track_caller]
    pub fn new(size: usize) -> SizedGroup {
        SizedGroup::builder(size).build()
    }
}

impl Builder {
    /// Sets the capacity of the queue behind the size for `try_spawn` and `submit`. `spawn` is unbounded.
    pub fn queue(mut self, tasks: usize) -> Builder {
        self.queue = tasks;
        self
    }

    /// Sets a parent token: cancelling it is like [`SizedGroup::cancel`]. The group works on a child of it.
    pub fn token(mut self, token: CancellationToken) -> Builder {
        self.token = Some(token);
        self
    }

    /// Sets the runtime on which the tasks run; by default the one in which the group is built.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Builder {
        self.runtime = Some(runtime);
        self
    }

    /// Creates the group.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, unless one was named.
    #[track_caller]
    pub fn build(self) -> SizedGroup {
        SizedGroup::over(Pool::new(
            "SizedGroup",
            self.size,
            self.queue,
            // A panic of one task does nothing to the others, and no verb asks for it later.
            None,
            Token::new(self.token.as_ref()),
            self.runtime,
        ))
    }
}
