//! The same again, until it succeeds.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::error::{Ended, RetryError};
use super::stop::Watch;
use crate::ground::panic::{Payload, TaskPanic, catch, forget, poll_caught};

/// How often a retry tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attempts {
    /// So many times.
    AtMost(u32),
    /// For ever, or as long as there are delays.
    Unlimited,
}

impl From<u32> for Attempts {
    fn from(count: u32) -> Attempts {
        Attempts::AtMost(count)
    }
}

/// What an error means for a retry; see [`Retry::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Again, after the next delay.
    Again,
    /// Again, after this pause in place of the next delay: what a server asks for with `Retry-After`.
    After(Duration),
    /// Not again: it would not help.
    Stop,
}

/// Attempts and their settings; made by [`retry`](super::retry()).
#[must_use = "nothing runs until it is awaited"]
pub struct Retry<D, O, V> {
    attempts: Attempts,
    delays: D,
    op: O,
    verdict: V,
    token: Option<CancellationToken>,
    called_at: &'static Location<'static>,
}

impl<D, O, E> Retry<D, O, fn(&E) -> Verdict> {
    #[track_caller]
    pub(super) fn new(attempts: Attempts, delays: D, op: O) -> Self {
        assert!(
            attempts != Attempts::AtMost(0),
            "schedgroup: flow::retry needs at least one attempt: with none it could never succeed"
        );
        Retry {
            attempts,
            delays,
            op,
            verdict: |_| Verdict::Again,
            token: None,
            called_at: Location::caller(),
        }
    }
}

impl<D, O, V> Retry<D, O, V> {
    /// Asks `verdict` about each error but the last attempt's; without it all are tried again.
    pub fn verdict<E, W>(self, verdict: W) -> Retry<D, O, W>
    where
        W: FnMut(&E) -> Verdict,
    {
        Retry {
            attempts: self.attempts,
            delays: self.delays,
            op: self.op,
            verdict,
            token: self.token,
            called_at: self.called_at,
        }
    }

    /// Ends it when `token` is cancelled, in the middle of an attempt or of a pause.
    ///
    /// If the value is there by then, it is returned.
    pub fn token(mut self, token: CancellationToken) -> Retry<D, O, V> {
        self.token = Some(token);
        self
    }
}

impl<D, O, V, F, T, E> IntoFuture for Retry<D, O, V>
where
    D: Iterator<Item = Duration>,
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    V: FnMut(&E) -> Verdict,
{
    type Output = Result<T, RetryError<E>>;
    type IntoFuture = Retrying<D, O, V, F, E>;

    fn into_future(self) -> Retrying<D, O, V, F, E> {
        Retrying {
            watch: self.token.clone().map(Watch::new).unwrap_or_default(),
            retry: self,
            begun: 0,
            last: None,
            attempt: Box::pin(None),
            step: Step::Begin,
        }
    }
}

/// A [`Retry`] under way.
///
/// # Cancel safety
///
/// Dropping it drops the attempt that runs.
#[must_use = "nothing runs until it is awaited"]
pub struct Retrying<D, O, V, F, E> {
    retry: Retry<D, O, V>,
    watch: Watch,
    begun: u32,
    last: Option<E>,
    /// One box for all of them.
    attempt: Pin<Box<Option<F>>>,
    step: Step,
}

enum Step {
    Begin,
    Attempt,
    Pause(Pin<Box<Sleep>>),
}

/// Only the attempt and the pause are polled in place, and they have their boxes.
impl<D, O, V, F, E> Unpin for Retrying<D, O, V, F, E> {}

impl<D, O, V, F, T, E> Retrying<D, O, V, F, E>
where
    D: Iterator<Item = Duration>,
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    V: FnMut(&E) -> Verdict,
{
    fn begin(&mut self) -> Result<(), Ended> {
        self.begun = self.begun.saturating_add(1);
        let attempt = catch(&mut self.retry.op).map_err(|payload| self.panicked(payload))?;
        self.attempt.set(Some(attempt));
        self.step = Step::Attempt;
        Ok(())
    }

    fn panicked(&self, payload: Payload) -> Ended {
        Ended::Panicked(TaskPanic::new(payload, self.retry.called_at))
    }

    /// The pause after an error, or the reason why there is none.
    fn failed(&mut self, error: &E) -> Result<Duration, Ended> {
        if self.retry.attempts == Attempts::AtMost(self.begun) {
            return Err(Ended::Attempts);
        }
        let verdict = (self.retry.verdict)(error);
        if verdict == Verdict::Stop {
            return Err(Ended::Stopped);
        }
        // The delay is used up all the same: they may be the bound.
        let delay = self.retry.delays.next().ok_or(Ended::Delays)?;
        Ok(match verdict {
            Verdict::After(pause) => pause,
            _ => delay,
        })
    }

    fn give_up(&mut self, ended: Ended) -> RetryError<E> {
        RetryError {
            ended,
            last: self.last.take(),
            attempts: self.begun,
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Ended>> {
        loop {
            // While an attempt runs, it is polled first: a value that is there wins over a cancel.
            if !matches!(self.step, Step::Attempt) && self.watch.is_cancelled(cx) {
                return Poll::Ready(Err(Ended::Cancelled));
            }
            match &mut self.step {
                Step::Begin => self.begin()?,
                Step::Pause(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.step = Step::Begin;
                }
                Step::Attempt => {
                    let Poll::Ready(end) = poll_caught(self.attempt.as_mut(), cx) else {
                        if self.watch.is_cancelled(cx) {
                            let attempt = &mut self.attempt;
                            catch(|| attempt.set(None)).unwrap_or_else(forget);
                            return Poll::Ready(Err(Ended::Cancelled));
                        }
                        return Poll::Pending;
                    };
                    let pause = match end {
                        Ok(Ok(value)) => return Poll::Ready(Ok(value)),
                        Ok(Err(error)) => {
                            let pause = self.failed(&error);
                            self.last = Some(error);
                            pause?
                        }
                        Err(payload) => return Poll::Ready(Err(self.panicked(payload))),
                    };
                    if pause.is_zero() {
                        // No sleep, but a turn for the others.
                        self.step = Step::Begin;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    self.step = Step::Pause(Box::pin(sleep(pause)));
                }
            }
        }
    }
}

impl<D, O, V, F, T, E> Future for Retrying<D, O, V, F, E>
where
    D: Iterator<Item = Duration>,
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    V: FnMut(&E) -> Verdict,
{
    type Output = Result<T, RetryError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = ready!(self.poll_step(cx));
        Poll::Ready(end.map_err(|ended| self.give_up(ended)))
    }
}

impl<D, O, V> fmt::Debug for Retry<D, O, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("called_at", &format_args!("{}", self.called_at))
            .finish_non_exhaustive()
    }
}

impl<D, O, V, F, E> fmt::Debug for Retrying<D, O, V, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("begun", &self.begun)
            .field("of", &self.retry.attempts)
            .finish_non_exhaustive()
    }
}
