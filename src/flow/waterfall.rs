//! Steps one after the other.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_util::sync::CancellationToken;

use super::stop::Watch;
use crate::ground::error::TaskError;
use crate::ground::panic::{ENDED, Payload, catch, discard, forget, poll_caught};

/// Steps, each with the value of the one before; made by [`waterfall`](super::waterfall()).
///
/// They run where it is awaited, so that they may borrow.
#[must_use = "nothing runs until it is awaited"]
pub struct Waterfall<S> {
    steps: S,
    token: Option<CancellationToken>,
}

impl<S> Waterfall<S> {
    pub(super) fn new(steps: S) -> Waterfall<S> {
        Waterfall { steps, token: None }
    }

    /// Ends it when `token` is cancelled, in the middle of a step or between two.
    ///
    /// If the last step's value is there by then, it is returned.
    pub fn token(mut self, token: CancellationToken) -> Waterfall<S> {
        self.token = Some(token);
        self
    }
}

impl<S: Steps> Waterfall<S> {
    /// One step more, which is handed the value of those before.
    #[track_caller]
    pub fn then<U, N, F>(self, next: N) -> Waterfall<Then<S, N, F>>
    where
        N: FnOnce(S::Value) -> F,
        F: Future<Output = Result<U, S::Error>>,
    {
        Waterfall {
            steps: Then {
                before: self.steps,
                next: Some(next),
                running: None,
                called_at: Location::caller(),
            },
            token: self.token,
        }
    }
}

impl<S: Steps> IntoFuture for Waterfall<S> {
    type Output = Result<S::Value, TaskError<S::Error>>;
    type IntoFuture = Falling<S>;

    fn into_future(self) -> Falling<S> {
        Falling {
            steps: self.steps,
            watch: self.token.map(Watch::new).unwrap_or_default(),
        }
    }
}

/// A [`Waterfall`] under way.
///
/// # Cancel safety
///
/// Dropping it drops the step that runs, and the value with it.
#[must_use = "nothing runs until it is awaited"]
pub struct Falling<S> {
    steps: S,
    watch: Watch,
}

/// Steps are moved about; their futures have a box each.
impl<S> Unpin for Falling<S> {}

impl<S: Steps> Future for Falling<S> {
    type Output = Result<S::Value, TaskError<S::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let end = match this.steps.poll(cx, &mut this.watch) {
            Poll::Ready(end) => end,
            // After the step: a value that is there wins over a cancel.
            Poll::Pending if this.watch.is_cancelled(cx) => Err(TaskError::Cancelled),
            Poll::Pending => return Poll::Pending,
        };
        catch(|| this.steps.clear()).unwrap_or_else(forget);
        Poll::Ready(end)
    }
}

/// What a poll of steps makes.
type Fallen<S> = Poll<Result<<S as Steps>::Value, TaskError<<S as Steps>::Error>>>;

/// A chain of steps.
pub trait Steps {
    /// What the last one makes.
    type Value;
    /// What each may fail with.
    type Error;

    #[doc(hidden)]
    const COUNT: usize;

    #[doc(hidden)]
    fn poll(&mut self, cx: &mut Context<'_>, watch: &mut Watch) -> Fallen<Self>;

    #[doc(hidden)]
    fn clear(&mut self);
}

/// No step: the value that a waterfall begins with.
pub struct Seed<T, E> {
    value: Option<T>,
    error: PhantomData<fn() -> E>,
}

impl<T, E> Seed<T, E> {
    pub(super) fn new(value: T) -> Seed<T, E> {
        Seed {
            value: Some(value),
            error: PhantomData,
        }
    }
}

impl<T, E> Steps for Seed<T, E> {
    type Value = T;
    type Error = E;

    const COUNT: usize = 0;

    fn poll(&mut self, _: &mut Context<'_>, _: &mut Watch) -> Fallen<Self> {
        let value = self.value.take();
        Poll::Ready(Ok(value.expect(ENDED)))
    }

    fn clear(&mut self) {
        self.value = None;
    }
}

/// The steps before, and one more.
pub struct Then<S, N, F> {
    before: S,
    next: Option<N>,
    running: Option<Pin<Box<Option<F>>>>,
    called_at: &'static Location<'static>,
}

impl<S, N, F, U> Steps for Then<S, N, F>
where
    S: Steps,
    N: FnOnce(S::Value) -> F,
    F: Future<Output = Result<U, S::Error>>,
{
    type Value = U;
    type Error = S::Error;

    const COUNT: usize = S::COUNT + 1;

    fn poll(&mut self, cx: &mut Context<'_>, watch: &mut Watch) -> Fallen<Self> {
        let index = S::COUNT;
        let panicked = |payload: Payload| TaskError::panicked(index, payload, self.called_at);
        if self.running.is_none() {
            let value = match ready!(self.before.poll(cx, watch)) {
                Ok(value) if watch.is_cancelled(cx) => {
                    discard(value).unwrap_or_else(forget);
                    return Poll::Ready(Err(TaskError::Cancelled));
                }
                Ok(value) => value,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let next = self.next.take().expect(ENDED);
            match catch(|| Box::pin(Some(next(value)))) {
                Ok(running) => self.running = Some(running),
                Err(payload) => return Poll::Ready(Err(panicked(payload))),
            }
        }
        let running = self.running.as_mut().expect("it was just begun");
        let end = ready!(poll_caught(running.as_mut(), cx));
        Poll::Ready(match end {
            Ok(end) => end.map_err(|error| TaskError::Failed { index, error }),
            Err(payload) => Err(panicked(payload)),
        })
    }

    fn clear(&mut self) {
        self.running = None;
        self.next = None;
        self.before.clear();
    }
}

impl<S: Steps> fmt::Debug for Waterfall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waterfall")
            .field("steps", &S::COUNT)
            .finish_non_exhaustive()
    }
}

impl<S: Steps> fmt::Debug for Falling<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Falling")
            .field("steps", &S::COUNT)
            .finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for Seed<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").finish_non_exhaustive()
    }
}

impl<S, N, F> fmt::Debug for Then<S, N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Then")
            .field("called_at", &format_args!("{}", self.called_at))
            .finish_non_exhaustive()
    }
}
