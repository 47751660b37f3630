//! Waits for a slot of a group.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_util::sync::WaitForCancellationFutureOwned;

use super::output::TaskOutput;
use super::pool::{Caller, Pool, SubmitTicket, Submitted};
use crate::common::panic::{ENDED, Guarded};
use crate::common::schedule_error::ScheduleError;

/// A future that waits until a group accepts a task; created by [`TaskGroup::submit`](super::TaskGroup::submit).
///
/// It resolves to the task's index, or to an error with the task in it.
///
/// # Cancel safety
///
/// Dropping it before it has resolved takes the task out of the queue. If the group had accepted the task by then, the
/// task runs. Dropping a `submit` never leaks a slot, since slots are assigned to tasks, not to waiting futures.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Errors
///
/// Those of [`TaskGroup::submit`](super::TaskGroup::submit).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = TaskGroup::builder().limit(1).build();
/// group.spawn(tokio::time::sleep(Duration::from_secs(60)));
/// let submit = group.submit(async { unreachable!("it does not start") });
/// assert!(tokio::time::timeout(Duration::from_secs(1), submit).await.is_err());
/// assert_eq!(group.wait().await.unwrap().finished, 1);
/// # }
/// ```
#[must_use = "a submit does nothing until it is awaited"]
pub struct Submit<'a, F, E: Send + 'static> {
    pool: &'a Arc<Pool<E>>,
    caller: Caller,
    spawned_at: &'static Location<'static>,
    step: Step<F>,
}

enum Step<F> {
    New(F),
    // Guarded, since it holds a waker: of its destructor and that of the task only one may panic.
    Queued(
        SubmitTicket<F>,
        Guarded<Pin<Box<WaitForCancellationFutureOwned>>>,
    ),
    Done,
}

/// The task is moved about until it starts, and not polled here.
impl<F, E: Send + 'static> Unpin for Submit<'_, F, E> {}

impl<'a, F, E: Send + 'static> Submit<'a, F, E> {
    #[track_caller]
    pub(super) fn new(pool: &'a Arc<Pool<E>>, caller: Caller, task: F) -> Submit<'a, F, E> {
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
    F: Future<Output: TaskOutput<E>> + Send + 'static,
{
    type Output = Result<usize, ScheduleError<F>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Done while it is out: if user code in here panics, a further poll panics too and a drop takes nothing
        // back.
        match std::mem::replace(&mut this.step, Step::Done) {
            Step::New(task) => {
                let ticket = match this.pool.submit(this.caller, this.spawned_at, task)? {
                    Submitted::Accepted(index) => return Poll::Ready(Ok(index)),
                    Submitted::Waiting(ticket) => ticket,
                };
                let cancelled = this.pool.token().clone().cancelled_owned();
                this.step = Step::Queued(ticket, Guarded::new(Box::pin(cancelled)));
            }
            step => this.step = step,
        }
        let Step::Queued(ticket, cancelled) = &mut this.step else {
            panic!("{ENDED}");
        };
        let index = ticket.index;
        // First the queue, then the token. Both keep a waker, so what changes after its look wakes this task; and a
        // task that was accepted before the cancel counts as accepted.
        let mut answer = this.pool.poll_submit(ticket, cx);
        if answer.is_pending() && cancelled.as_mut().poll(cx).is_ready() {
            // The group accepts until the lock is taken here: then the task is the group's, which runs or skips it.
            answer = Poll::Ready(match this.pool.cancel_submit(ticket) {
                Some(task) => Err(task),
                None => Ok(()),
            });
        }
        let Poll::Ready(answer) = answer else {
            return Poll::Pending;
        };
        this.step = Step::Done;
        Poll::Ready(answer.map(|()| index).map_err(ScheduleError::Cancelled))
    }
}

impl<F, E: Send + 'static> Drop for Submit<'_, F, E> {
    fn drop(&mut self) {
        if let Step::Queued(ticket, _) = &self.step {
            // The task of a submit that waits is dropped here, after the lock. An accepted one is the group's, and
            // runs.
            drop(self.pool.cancel_submit(ticket));
        }
    }
}

impl<F, E: Send + 'static> fmt::Debug for Submit<'_, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match &self.step {
            Step::New(_) => "new",
            Step::Queued(..) => "queued",
            Step::Done => "done",
        };
        f.debug_struct("Submit")
            .field("step", &step)
            .field("spawned_at", &format_args!("{}", self.spawned_at))
            .finish_non_exhaustive()
    }
}
