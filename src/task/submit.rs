//! Waits for a place of a pool.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_util::sync::WaitForCancellationFutureOwned;

use super::policy::{Caller, Outcome};
use super::pool::queued::SubmitTicket;
use super::pool::shared::{Entry, Pool};
use super::refusal::SpawnError;

/// Outcomes when the group has taken the task in, with the task's index, or hands the task back.
///
/// # Cancel safety
///
/// Dropping it before it has ended takes the task out of the line, unless the task was taken in by
/// then: it runs. A place is never lost, because it is not the waiter that holds it: a place is given
/// to the task itself.
#[must_use = "a submit does nothing until it is awaited"]
pub struct Submit<'a, F, E: Send + 'static> {
    pool: &'a Arc<Pool<E>>,
    caller: Caller,
    spawned_at: &'static Location<'static>,
    step: Step<F>,
}

enum Step<F> {
    New(F),
    SubmitTicket(SubmitTicket<F>, Pin<Box<WaitForCancellationFutureOwned>>),
    Done,
}

/// The task is moved about until it starts, and not polled here.
impl<F, E: Send + 'static> Unpin for Submit<'_, F, E> {}

impl<'a, F, E: Send + 'static> Submit<'a, F, E> {
    #[track_caller]
    pub(crate) fn new(pool: &'a Arc<Pool<E>>, caller: Caller, task: F) -> Submit<'a, F, E> {
        Submit {
            pool,
            caller,
            spawned_at: Location::caller(),
            step: Step::New(task),
        }
    }
}

impl<F, E> Future for Submit<'_, F, E>
where
    E: Send + 'static,
    F: Future<Output: Outcome<E>> + Send + 'static,
{
    type Output = Result<usize, SpawnError<F>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match std::mem::replace(&mut this.step, Step::Done) {
            Step::New(task) => {
                let task = match this.pool.try_spawn(this.caller, this.spawned_at, task) {
                    Err(refused) => return Poll::Ready(Err(refused)),
                    Ok(Entry::In(index)) => return Poll::Ready(Ok(index)),
                    Ok(Entry::Full(task)) => task,
                };
                let offered = this
                    .pool
                    .offer(this.caller, this.spawned_at, task, cx.waker());
                let place = match offered {
                    Err(refused) => return Poll::Ready(Err(refused)),
                    Ok(place) => place,
                };
                let cancelled = this.pool.token().token().cancelled_owned();
                this.step = Step::SubmitTicket(place, Box::pin(cancelled));
            }
            step => this.step = step,
        }
        let Step::SubmitTicket(place, cancelled) = &mut this.step else {
            panic!("schedgroup: a Submit was polled after it had ended");
        };
        let index = place.index;
        let mut answer = this.pool.poll_offer(place.number, &place.offer, cx);
        if answer.is_pending() && cancelled.as_mut().poll(cx).is_ready() {
            answer = Poll::Ready(match this.pool.withdraw(place.number, &place.offer) {
                Some(task) => Err(task),
                None => Ok(()),
            });
        }
        let Poll::Ready(answer) = answer else {
            return Poll::Pending;
        };
        this.step = Step::Done;
        Poll::Ready(answer.map(|()| index).map_err(SpawnError::Cancelled))
    }
}

impl<F, E: Send + 'static> Drop for Submit<'_, F, E> {
    fn drop(&mut self) {
        if let Step::SubmitTicket(place, _) = &self.step {
            drop(self.pool.withdraw(place.number, &place.offer));
        }
    }
}

impl<F, E: Send + 'static> fmt::Debug for Submit<'_, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match &self.step {
            Step::New(_) => "new",
            Step::SubmitTicket(..) => "in line",
            Step::Done => "done",
        };
        f.debug_struct("Submit")
            .field("step", &step)
            .field("spawned_at", &format_args!("{}", self.spawned_at))
            .finish_non_exhaustive()
    }
}
