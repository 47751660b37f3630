//! The code of a job: its start, and its polls.

use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::error::{JobError, JobPanic};
use super::job::{JobId, Next};
use crate::common::panic::{Payload, catch, discard, forget};
use crate::common::time::Timestamp;

/// The data of a run that its code can ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) id: JobId,
    pub(crate) deadline: Timestamp,
    /// The worker's clock as it starts.
    pub(crate) now: Timestamp,
    /// That was read for this run. Else it is some tens of microseconds slow at most.
    pub(super) is_exact: bool,
    pub(super) scheduled_at: &'static Location<'static>,
}

/// A job until it starts.
pub(super) enum Work {
    Boxed(Box<dyn Runnable>),
    Row(Row),
}

/// A job that is a row of a table, and has no allocation of its own.
pub(super) struct Row {
    pub(super) table: Arc<dyn RowTable>,
    pub(super) key: RowKey,
}

/// The row of a table that a job is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowKey {
    pub(crate) table: TableId,
    pub(crate) row: u32,
}

/// The number of a table in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableId(pub(super) std::num::NonZeroU32);

pub(crate) type JobFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A table whose rows are jobs of a group.
///
/// A row that waits is its slot in the group and nothing else: what it holds lies in the table. The table's
/// lock comes before the group's, and what it does to the job of a row it does under both.
pub(crate) trait RowTable: Send + Sync {
    /// Returns whether the row can start now. If not, the table has given the job back to the group as a
    /// blocked one, and unblocks it later. `me` is the table itself. A panic of user code ends the job.
    fn may_start(&self, me: &Arc<dyn RowTable>, row: u32, slot: u32) -> Result<bool, Payload>;

    /// Begins the run of the row whose job is in `slot`; `None` if it was removed or replaced just before. This is user
    /// code: it may panic.
    fn start(self: Arc<Self>, row: u32, slot: u32, run: Run) -> Option<JobFuture>;

    /// Drops all that is left in it: its group was dropped.
    fn clear(&self);
}

/// A job that has not started: one allocation, as small as what the user handed in.
pub(super) trait Runnable: Send {
    /// Begins a run, and puts what is to be polled into `live`. This is user code: it may panic.
    // Not as its result: to move what has just been written costs more than to write it (store forwarding).
    fn start(self: Box<Self>, run: &Run, live: &mut Option<Started>);

    /// Returns the number of runs that a series has begun.
    fn runs(&self) -> u64 {
        0
    }
}

/// A job that has started.
pub(super) enum Started {
    /// The user's own future, in the very box that it waited in.
    Future(JobFuture),
    /// A runnable that holds the future of its run and outlives it.
    Stateful(Box<dyn Stateful>),
}

/// A runnable that is polled itself.
pub(super) trait Stateful: Runnable {
    /// Polls the run; its end says what the job wants next.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Next>;
    fn into_runnable(self: Box<Self>) -> Box<dyn Runnable>;
}

impl<F: Future<Output = ()> + Send + 'static> Runnable for F {
    fn start(self: Box<Self>, _: &Run, live: &mut Option<Started>) {
        *live = Some(Started::Future(Box::into_pin(self)));
    }
}

/// The runnable behind a [`JoinHandle`](super::handle::JoinHandle).
///
/// It sends its result when it is dropped, which is after the job's state was set and its future
/// dropped, and before `wait` stops counting the job: who has the value sees a finished job that holds
/// nothing any more, and after `wait` no value is on its way.
pub(super) struct WithResult<F: Future> {
    future: Option<Pin<Box<F>>>,
    result: Option<Result<F::Output, JobError>>,
    receiver: Option<oneshot::Sender<Result<F::Output, JobError>>>,
    id: JobId,
    scheduled_at: &'static Location<'static>,
}

/// The receiving end of a [`WithResult`].
pub(super) type Receiver<T> = oneshot::Receiver<Result<T, JobError>>;

impl<F: Future> WithResult<F> {
    pub(super) fn new(
        future: F,
        scheduled_at: &'static Location<'static>,
    ) -> (WithResult<F>, Receiver<F::Output>) {
        let (sender, receiver) = oneshot::channel();
        let joined = WithResult {
            future: Some(Box::pin(future)),
            result: None,
            receiver: Some(sender),
            id: JobId(0),
            scheduled_at,
        };
        (joined, receiver)
    }
}

impl<F> Runnable for WithResult<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn start(mut self: Box<Self>, run: &Run, live: &mut Option<Started>) {
        self.id = run.id;
        *live = Some(Started::Stateful(self));
    }
}

impl<F> Stateful for WithResult<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        let ended = match catch(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            // One destructor at a time: two panics at once would end the process.
            Ok(Poll::Ready(value)) => match discard(self.future.take()) {
                Ok(()) => Ok(value),
                Err(payload) => {
                    discard(value).unwrap_or_else(forget);
                    Err(payload)
                }
            },
            Err(payload) => Err(payload),
        };
        match ended {
            Ok(value) => {
                self.result = Some(Ok(value));
                Poll::Ready(Next::Done)
            }
            Err(payload) => {
                let panic = JobPanic::new(payload, self.id, self.scheduled_at);
                self.result = Some(Err(JobError::Panicked(panic.clone())));
                resume_unwind(Box::new(Reported(panic)))
            }
        }
    }

    fn into_runnable(self: Box<Self>) -> Box<dyn Runnable> {
        self
    }
}

impl<F: Future> Drop for WithResult<F> {
    fn drop(&mut self) {
        let future = discard(self.future.take());
        let result = self.result.take().unwrap_or(Err(JobError::Cancelled));
        // The `JoinHandle` may have been dropped, which is the caller's choice.
        let unsent = self.receiver.take().map(|receiver| receiver.send(result));
        let value = discard(unsent);
        // One panic continues in the caller that drops this, and two at once would end the process.
        match (future, value) {
            (Ok(()), Ok(())) => {}
            (Err(payload), Ok(())) | (Ok(()), Err(payload)) => resume_unwind(payload),
            (Err(payload), Err(second)) => {
                forget(second);
                resume_unwind(payload)
            }
        }
    }
}

/// A panic that was made a value by the job's own runnable, on its way to the group.
struct Reported(JobPanic);

/// The panic of a job as a value, the same one that its runnable may have reported already.
pub(super) fn job_panic(
    payload: Payload,
    id: JobId,
    scheduled_at: &'static Location<'static>,
) -> JobPanic {
    match payload.downcast::<Reported>() {
        Ok(reported) => reported.0,
        Err(payload) => JobPanic::new(payload, id, scheduled_at),
    }
}
