//! Looks out for a cancel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Waits for a token, if there is one. It is public in the signature of a hidden method only.
#[derive(Debug, Default)]
pub struct Watch(Option<Pin<Box<WaitForCancellationFutureOwned>>>);

impl Watch {
    pub(super) fn new(token: CancellationToken) -> Watch {
        Watch(Some(Box::pin(token.cancelled_owned())))
    }

    /// Is it cancelled? If not, the task is woken when it is.
    pub(super) fn is_cancelled(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(cancelled) = &mut self.0 else {
            return false;
        };
        let ready = matches!(cancelled.as_mut().poll(cx), Poll::Ready(()));
        if ready {
            // Not to be polled again.
            self.0 = None;
        }
        ready
    }
}
