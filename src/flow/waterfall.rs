//! Steps one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stop::StopSignal;
use crate::common::error::TaskError;
use crate::common::panic::{
    DiscardEach, ENDED, Payload, TaskPanic, catch, drop_quietly, poll_caught,
};

/// A future that runs steps one after the other, each with the value of the one before; created by
/// [`waterfall`](super::waterfall()).
///
/// It resolves to the last step's value, or to the first error. The steps run in the task that awaits it, so
/// they may borrow; `'a` is the lifetime of what they borrow.
///
/// # Cancel safety
///
/// Awaiting `&mut waterfall` in a `select!` loses nothing. Dropping it drops the step that runs, and the value
/// with it.
///
/// # Panics
///
/// A poll after the end panics. With a [`deadline`](Waterfall::deadline) it needs a tokio runtime with a timer, and
/// panics without one at the line of the `.await`.
///
/// # Errors
///
/// A [`TaskError`]: `Failed` if a step returned an error or `Panicked` if it panicked, with the number of the step,
/// counted from zero; or `Cancelled` or `DeadlineExceeded`, which have no number.
///
/// # Examples
///
/// ```
/// use schedgroup::flow::{self, Waterfall};
///
/// fn double<'a>(text: &'a str) -> Waterfall<'a, u32, std::num::ParseIntError> {
///     flow::waterfall(text)
///         .then(|text| async move { text.parse() })
///         .then(|number: u32| async move { Ok(2 * number) })
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(double("21").await.unwrap(), 42);
/// assert_eq!(double("x").await.unwrap_err().index(), Some(0));
/// # }
/// ```
#[must_use = "a waterfall runs nothing until it is awaited"]
pub struct Waterfall<'a, T, E> {
    stop: StopSignal,
    /// The number of steps.
    steps: usize,
    /// The steps before the last one, without those that have ended. They are no part of each other, so that thousands of
    /// them need no more of the stack than one does.
    before: VecDeque<Step<'a, (), E>>,
    /// Until the end.
    last: Option<Step<'a, T, E>>,
}

/// Polls one step, which finds the value of the one before.
type Step<'a, T, E> = Box<dyn FnMut(&mut Context<'_>) -> Poll<Result<T, TaskError<E>>> + Send + 'a>;

/// The value of a step, until the next one takes it.
type Passed<T> = Arc<Mutex<DiscardEach<Option<T>>>>;

fn lock<T>(passed: &Passed<T>) -> MutexGuard<'_, DiscardEach<Option<T>>> {
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a, T: Send + 'a, E: 'a> Waterfall<'a, T, E> {
    pub(super) fn new(value: T) -> Waterfall<'a, T, E> {
        let mut value = DiscardEach::from(Some(value));
        Waterfall {
            stop: StopSignal::default(),
            steps: 0,
            before: VecDeque::new(),
            last: Some(Box::new(move |_| {
                Poll::Ready(Ok(value.take().expect(ENDED)))
            })),
        }
    }

    /// Adds a step, which gets the value of the one before.
    ///
    /// # Panics
    ///
    /// If the waterfall has resolved already, as `(&mut waterfall).await`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let names = vec!["b".to_owned(), "a".to_owned()];
    /// let sorted = schedgroup::flow::waterfall::<_, ()>(&names)
    ///     .then(|names| async move { Ok(names.iter().collect::<Vec<_>>()) })
    ///     .then(|mut names| async move { names.sort(); Ok(names) });
    /// assert_eq!(sorted.await.unwrap(), ["a", "b"]);
    /// # }
    /// ```
    #[track_caller]
    pub fn then<U, N, F>(self, next: N) -> Waterfall<'a, U, E>
    where
        U: 'a,
        N: FnOnce(T) -> F + Send + 'a,
        F: Future<Output = Result<U, E>> + Send + 'a,
    {
        if self.last.is_none() {
            // Before the panic: a destructor that panics while another panic unwinds would end the process.
            drop_quietly(next);
            panic!("{ENDED}");
        }
        let (index, called_at) = (self.steps, Location::caller());
        let panicked =
            move |payload: Payload| TaskError::Panicked(TaskPanic::new(payload, index, called_at));
        let (mut before, passed) = (self.before, Passed::default());
        let value = Arc::clone(&passed);
        before.extend(self.last.map(|mut step| -> Step<'a, (), E> {
            Box::new(move |cx| step(cx).map_ok(|value| **lock(&passed) = Some(value)))
        }));
        let mut next = DiscardEach::from(Some(next));
        let mut running: DiscardEach<Option<Pin<Box<Option<F>>>>> = DiscardEach::default();
        let step = move |cx: &mut Context<'_>| {
            if running.is_none() {
                let value = lock(&value).take().expect(ENDED);
                let next = next.take().expect(ENDED);
                match catch(|| Box::pin(Some(next(value)))) {
                    Ok(first) => *running = Some(first),
                    Err(payload) => return Poll::Ready(Err(panicked(payload))),
                }
            }
            let step = running.as_mut().expect("it was just begun");
            Poll::Ready(match ready!(poll_caught(step.as_mut(), cx)) {
                Ok(end) => end.map_err(|error| TaskError::Failed { index, error }),
                Err(payload) => Err(panicked(payload)),
            })
        };
        Waterfall {
            stop: self.stop,
            steps: self.steps + 1,
            before,
            last: Some(Box::new(step)),
        }
    }
}

impl<'a, T, E> Waterfall<'a, T, E> {
    /// Sets a token; a cancel of it ends the waterfall with [`Cancelled`](TaskError::Cancelled), during a step or
    /// between two.
    ///
    /// If the last step's value is there when the cancel comes, it is returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::{TaskError, flow};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let token = CancellationToken::new();
    /// token.cancel();
    /// let steps = flow::waterfall::<_, ()>(1).then(|n| async move { Ok(n + 1) });
    /// assert!(matches!(steps.token(token).await, Err(TaskError::Cancelled)));
    /// # }
    /// ```
    pub fn token(mut self, token: CancellationToken) -> Waterfall<'a, T, E> {
        self.stop.set_token(token);
        self
    }

    /// Sets an instant at which the waterfall ends with [`DeadlineExceeded`](TaskError::DeadlineExceeded).
    ///
    /// Otherwise it acts like a cancel of the [`token`](Waterfall::token) at that instant.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::{TaskError, flow};
    /// use tokio::time::{Instant, sleep};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let steps = flow::waterfall::<_, ()>(())
    ///     .then(|()| async { Ok(sleep(Duration::from_secs(60)).await) })
    ///     .deadline(Instant::now() + Duration::from_secs(1));
    /// assert!(matches!(steps.await, Err(TaskError::DeadlineExceeded)));
    /// # }
    /// ```
    pub fn deadline(mut self, at: Instant) -> Waterfall<'a, T, E> {
        self.stop.set_deadline(at);
        self
    }
}

impl<T, E> Future for Waterfall<'_, T, E> {
    type Output = Result<T, TaskError<E>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Waterfall {
            stop, before, last, ..
        } = &mut *self;
        let Some(last_step) = last else {
            panic!("{ENDED}");
        };
        let end = loop {
            let polled = match before.front_mut() {
                Some(step) => step(cx).map_ok(|()| None),
                None => last_step(cx).map_ok(Some),
            };
            match polled {
                Poll::Ready(Ok(Some(value))) => break Ok(value),
                Poll::Ready(Ok(None)) => {
                    // What the step borrows or holds is gone before the next one begins.
                    before.pop_front();
                    if let Some(stop) = stop.get() {
                        break Err(stop.into());
                    }
                }
                Poll::Ready(Err(error)) => break Err(error),
                // After the step: a value that is there wins over a stop.
                Poll::Pending => match stop.poll(cx) {
                    Some(stop) => break Err(stop.into()),
                    None => return Poll::Pending,
                },
            }
        };
        before.clear();
        *last = None;
        Poll::Ready(end)
    }
}

impl<T, E> fmt::Debug for Waterfall<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waterfall")
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}
