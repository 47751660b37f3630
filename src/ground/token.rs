//! A token that says why it was cancelled.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::error::TaskError;
use super::panic::{catch, forget};

/// Why a group's [`Token`] was cancelled; the first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// By `cancel`, by the token that the group was made with, or by dropping the group.
    Cancelled,
    /// The task of this index returned an error.
    Failed {
        /// What `spawn` returned for it.
        index: usize,
    },
    /// The task of this index panicked.
    Panicked {
        /// What `spawn` returned for it.
        index: usize,
    },
    /// `wait` saw the last task end.
    Finished,
}

impl Cause {
    pub(crate) fn of<E>(error: &TaskError<E>) -> Cause {
        match *error {
            TaskError::Failed { index, .. } => Cause::Failed { index },
            TaskError::Panicked { index, .. } => Cause::Panicked { index },
            TaskError::Cancelled | TaskError::DeadlineExceeded => Cause::Cancelled,
        }
    }
}

/// Tells the tasks of a group that they should end, and why.
///
/// Clones speak for the same group. Whoever needs the plain token of tokio-util, to select on or to
/// derive children from, takes [`token`](Token::token).
#[derive(Clone, Debug)]
pub struct Token {
    token: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
}

impl Token {
    pub(crate) fn new(parent: Option<&CancellationToken>) -> Token {
        Token {
            token: parent.map_or_else(CancellationToken::new, CancellationToken::child_token),
            cause: Arc::default(),
        }
    }

    /// Is the group cancelled, or has it finished?
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the group is cancelled or has finished.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Why the token was cancelled; `None` while it is not.
    pub fn cause(&self) -> Option<Cause> {
        let cancelled = self.token.is_cancelled();
        // Written down, so that a reason which comes late does not change what was read.
        cancelled.then(|| *self.cause.get_or_init(|| Cause::Cancelled))
    }

    /// The group's token as tokio-util's: cancelling it cancels the group.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Writes the reason down, before the token is cancelled for it: whoever sees the token cancelled
    /// reads the reason. A reason that comes late is dropped.
    pub(crate) fn explain(&self, cause: Cause) {
        if !self.token.is_cancelled() {
            // An error means that another reason was first, and that one stays.
            let _ = self.cause.set(cause);
        }
    }

    /// Wakes user code: not to be called under a lock. A waker's panic ends here.
    pub(crate) fn cancel(&self) {
        catch(|| self.token.cancel()).unwrap_or_else(forget);
    }
}
