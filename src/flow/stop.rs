//! The stop of a combinator before its tasks have ended: its token, or its deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::common::closing::StopReason;
use crate::common::error::TaskError;
use crate::common::panic::Guarded;
use crate::common::time::{CENTURY, later};

impl<E> From<StopReason> for TaskError<E> {
    fn from(stop: StopReason) -> TaskError<E> {
        match stop {
            StopReason::Cancelled => TaskError::Cancelled,
            StopReason::DeadlineExceeded => TaskError::DeadlineExceeded,
        }
    }
}

/// Waits for an instant. Until its first poll it needs no runtime.
pub(super) struct Timer {
    at: Instant,
    // Guarded, since it holds a waker, and is dropped together with values of the user: of their destructors only one
    // may panic.
    sleep: Option<Guarded<Pin<Box<Sleep>>>>,
}

impl Timer {
    pub(super) fn at(at: Instant) -> Timer {
        Timer { at, sleep: None }
    }

    pub(super) fn after(delay: Duration) -> Timer {
        Timer::at(later(Instant::now(), delay))
    }

    /// Returns whether its instant will have passed when `delay` is over.
    fn is_over(&self, delay: Duration) -> bool {
        self.at.saturating_duration_since(Instant::now()) <= delay
    }

    /// Makes the sleep that `poll` needs, unless the instant is too far away to matter. Panics at the caller's line on a
    /// runtime without a timer.
    #[track_caller]
    fn arm(&mut self) {
        // A sleep until the farthest instant would be an overflow in tokio.
        if self.sleep.is_none() && self.is_over(CENTURY) {
            // Not by `get_or_insert_with`: `track_caller` does not reach into a closure.
            self.sleep = Some(Guarded::new(Box::pin(sleep_until(self.at))));
        }
    }

    #[track_caller]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The clock first: a sleep that has elapsed is pending while tokio's budget of this task is used up.
        if self.is_over(Duration::ZERO) {
            return Poll::Ready(());
        }
        self.arm();
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// A token and a deadline, both optional, and the future that waits for the token.
///
/// That is made at the first poll: until then a combinator needs no runtime.
#[derive(Default)]
pub(super) struct StopSignal {
    token: Option<CancellationToken>,
    deadline: Option<Timer>,
    // Guarded like a timer's sleep.
    cancelled: Option<Guarded<Pin<Box<WaitForCancellationFutureOwned>>>>,
}

/// What waits for the token and for the deadline is made anew.
impl Clone for StopSignal {
    fn clone(&self) -> StopSignal {
        StopSignal {
            token: self.token.clone(),
            deadline: self.deadline.as_ref().map(|timer| Timer::at(timer.at)),
            cancelled: None,
        }
    }
}

impl StopSignal {
    pub(super) fn set_token(&mut self, token: CancellationToken) {
        self.token = Some(token);
        self.cancelled = None;
    }

    pub(super) fn set_deadline(&mut self, at: Instant) {
        self.deadline = Some(Timer::at(at));
    }

    /// Returns the reason to stop, if there is one now.
    pub(super) fn get(&self) -> Option<StopReason> {
        self.get_within(Duration::ZERO)
    }

    /// Returns the reason to stop that there is now, or that the deadline will be when `delay` is over.
    pub(super) fn get_within(&self, delay: Duration) -> Option<StopReason> {
        if self
            .token
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
        {
            return Some(StopReason::Cancelled);
        }
        let deadline = self.deadline.as_ref()?;
        deadline
            .is_over(delay)
            .then_some(StopReason::DeadlineExceeded)
    }

    /// Makes the sleep of the deadline now, since a later `poll` may not know the caller's line.
    #[track_caller]
    pub(super) fn arm(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.arm();
        }
    }

    /// Returns the reason to stop; without one, the task is woken when there is one.
    #[track_caller]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<StopReason> {
        if let Some(stop) = self.poll_token(cx) {
            return Some(stop);
        }
        let timer = self.deadline.as_mut()?.poll(cx);
        timer.is_ready().then_some(StopReason::DeadlineExceeded)
    }

    /// Like `poll`, for the time between two attempts of a job: only the token wakes the waker, and no timer
    /// of the runtime is held.
    pub(super) fn poll_paused(&mut self, cx: &mut Context<'_>) -> Option<StopReason> {
        if let Some(deadline) = &mut self.deadline {
            deadline.sleep = None;
        }
        self.poll_token(cx)
    }

    /// Like `poll`, without the deadline.
    fn poll_token(&mut self, cx: &mut Context<'_>) -> Option<StopReason> {
        let token = self.token.as_ref()?;
        let cancelled = self
            .cancelled
            .get_or_insert_with(|| Guarded::new(Box::pin(token.clone().cancelled_owned())));
        if cancelled.as_mut().poll(cx).is_pending() {
            return None;
        }
        // It has resolved, and must not be polled again.
        self.cancelled = None;
        Some(StopReason::Cancelled)
    }
}
