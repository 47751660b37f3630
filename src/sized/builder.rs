//! Settings for a group.

use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::group::SizedGroup;
use crate::ground::pool::Pool;
use crate::ground::token::Token;

/// Settings for a [`SizedGroup`].
#[derive(Debug)]
#[must_use = "a builder makes nothing until `build`"]
pub struct Builder {
    size: usize,
    queue: usize,
    token: Option<CancellationToken>,
    runtime: Option<runtime::Handle>,
}

impl SizedGroup {
    /// Settings for a group in which at most `size` tasks run at once.
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

    /// A group in which at most `size` tasks run at once.
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
    /// So many more tasks are taken in by `try_spawn` and `submit` before they say full or wait.
    /// `spawn` knows no such bound.
    pub fn queue(mut self, tasks: usize) -> Builder {
        self.queue = tasks;
        self
    }

    /// Cancelling `token` is like [`SizedGroup::cancel`]; the group works on a child of it.
    pub fn token(mut self, token: CancellationToken) -> Builder {
        self.token = Some(token);
        self
    }

    /// The tasks run there; without it, where the group is built.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Builder {
        self.runtime = Some(runtime);
        self
    }

    /// The group.
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
            // A panic of one task is none of the others' business, and nobody asks for it later.
            None,
            Token::new(self.token.as_ref()),
            self.runtime,
        ))
    }
}
