//! The stop of a combinator before its tasks have ended: its token, or its deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::common::error::TaskError;

/// The reason why a combinator was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    DeadlineExceeded,
}

impl<E> From<Stop> for TaskError<E> {
    fn from(stop: Stop) -> TaskError<E> {
        match stop {
            Stop::Cancelled => TaskError::Cancelled,
            Stop::DeadlineExceeded => TaskError::DeadlineExceeded,
        }
    }
}

/// A token and a deadline, both optional, and the futures that wait for them.
///
/// Those are made at the first poll: until then a combinator needs no runtime.
#[derive(Debug, Default)]
pub(super) struct StopSignal {
    token: Option<CancellationToken>,
    deadline: Option<Instant>,
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl StopSignal {
    pub(super) fn set_token(&mut self, token: CancellationToken) {
        self.token = Some(token);
        self.cancelled = None;
    }

    pub(super) fn set_deadline(&mut self, at: Instant) {
        self.deadline = Some(at);
        self.timer = None;
    }

    /// Returns the reason to stop, if there is one now.
    pub(super) fn get(&self) -> Option<Stop> {
        if self
            .token
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
        {
            return Some(Stop::Cancelled);
        }
        self.is_over(Duration::ZERO)
            .then_some(Stop::DeadlineExceeded)
    }

    /// Returns the reason to stop; without one, the task is woken when there is one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Stop> {
        self.poll_token(cx).or_else(|| self.poll_deadline(cx))
    }

    /// Like `poll`, for the time between two attempts of a job: only the token wakes the waker, and no timer
    /// of the runtime is held.
    pub(super) fn poll_paused(&mut self, cx: &mut Context<'_>) -> Option<Stop> {
        self.timer = None;
        self.poll_token(cx)
    }

    /// Returns whether the deadline will have passed when `delay` is over.
    pub(super) fn is_over(&self, delay: Duration) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline.saturating_duration_since(Instant::now()) <= delay)
    }

    fn poll_token(&mut self, cx: &mut Context<'_>) -> Option<Stop> {
        let token = self.token.as_ref()?;
        let cancelled = self
            .cancelled
            .get_or_insert_with(|| Box::pin(token.clone().cancelled_owned()));
        if cancelled.as_mut().poll(cx).is_pending() {
            return None;
        }
        // It has resolved, and must not be polled again.
        self.cancelled = None;
        Some(Stop::Cancelled)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Option<Stop> {
        let deadline = self.deadline?;
        // The clock first: a timer that has fired is pending while tokio's budget of this task is used up.
        if !self.is_over(Duration::ZERO) {
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
        self.timer = None;
        Some(Stop::DeadlineExceeded)
    }
}
