//! The code of a job: its start, and its polls.

use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::error::{JobError, JobPanic};
use super::job::{JobId, Next};
use crate::common::panic::{Payload, catch, discard, drop_payload, drop_quietly};
use crate::common::time::Timestamp;

/// The data of a run that its code can ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) id: JobId,
    pub(crate) deadline: Timestamp,
    /// The time of the start, by the worker's clock.
    pub(crate) now: Timestamp,
    /// The clock was read for this run. Otherwise `now` is from before some of the jobs that the worker has run since,
    /// which may have taken long (see `CachedClock`).
    pub(super) is_exact: bool,
    pub(super) scheduled_at: &'static Location<'static>,
}

impl Run {
    /// Returns the run with the exact time of its start, which is now, for a context that tells it.
    pub(crate) fn at_exact_time(mut self, now: impl FnOnce() -> Timestamp) -> Run {
        if !self.is_exact {
            (self.now, self.is_exact) = (now(), true);
        }
        self
    }
}

/// A claimed job until it starts.
pub(super) enum Work {
    Boxed(Box<dyn Runnable>),
    /// A row of a table. It has no allocation of its own.
    Row {
        table: Arc<dyn RowTable>,
        key: RowKey,
    },
}

/// The row that a job is: a table of the group, and a row of that table.
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
/// The group keeps only a slot for a pending row; the values of the row are in the table. The table has a lock of its
/// own, which comes before the group's. It changes the job of a row under both locks; but a cancel it may only note
/// under its own (`Cancels`).
pub(crate) trait RowTable: Send + Sync {
    /// Returns whether the claimed row can start now. If not, the table has made its job a blocked one of the group, in
    /// the same step, and unblocks it later. `me` is the table itself. An error is the panic of user code, which ends
    /// the job.
    fn may_start(&self, me: &Arc<dyn RowTable>, row: u32, slot: u32) -> Result<bool, Payload>;

    /// Begins the run of the row whose job is in `slot`. Returns `None` if the row was removed or replaced just before.
    /// This is user code, which may panic.
    fn start(self: Arc<Self>, row: u32, slot: u32, run: Run) -> Option<JobFuture>;

    /// Drops the values of all rows: the group has no owner any more who could ask for them.
    fn clear(&self);
}

/// A job that has not started. A job that is only a future is one allocation, of the size of that future.
pub(super) trait Runnable: Send {
    /// Begins a run, and writes what is to be polled to `started`. This is user code, which may panic.
    // `started` is no return value, since to move a value that was just written is slow (store forwarding).
    fn start(self: Box<Self>, run: &Run, started: &mut Option<Started>);

    /// Returns the number of the job and that of its last run, for a series of which a run has begun.
    fn last_run(&self) -> Option<(JobId, u64)> {
        None
    }
}

/// A job that has started.
pub(super) enum Started {
    /// The user's future, in the box that it was scheduled in.
    Future(JobFuture),
    /// A runnable that holds the future of its run, and outlives it.
    Stateful(Box<dyn Stateful>),
}

/// A runnable that is polled by itself: it has something to do after its future has ended.
pub(super) trait Stateful: Runnable {
    /// Polls the run. Its result is what the job wants next.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Next>;
    /// Drops the future of a run that was aborted or has panicked. An error is the panic of its destructor.
    fn drop_run(&mut self) -> Result<(), Payload>;
    fn into_runnable(self: Box<Self>) -> Box<dyn Runnable>;
}

impl<F: Future<Output = ()> + Send + 'static> Runnable for F {
    fn start(self: Box<Self>, _: &Run, started: &mut Option<Started>) {
        *started = Some(Started::Future(Box::into_pin(self)));
    }
}

/// The runnable behind a [`JoinHandle`](super::handle::JoinHandle).
///
/// It sends the result when it is dropped. That is after the future was dropped and the end of the job recorded, and
/// before the group stops counting the job. So a task that has received the value finds a finished job, and after
/// `wait` every value has been sent.
pub(super) struct WithResult<F: Future> {
    future: Option<Pin<Box<F>>>,
    result: Option<Result<F::Output, JobError>>,
    sender: Option<oneshot::Sender<Result<F::Output, JobError>>>,
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
        let runnable = WithResult {
            future: Some(Box::pin(future)),
            result: None,
            sender: Some(sender),
            id: JobId(0),
            scheduled_at,
        };
        (runnable, receiver)
    }
}

impl<F> Runnable for WithResult<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn start(mut self: Box<Self>, run: &Run, started: &mut Option<Started>) {
        self.id = run.id;
        *started = Some(Started::Stateful(self));
    }
}

impl<F: Future> WithResult<F> {
    /// Makes the panic of the job its result. Returns the payload for the group.
    fn panicked(&mut self, payload: Payload) -> Payload {
        let panic = JobPanic::new(payload, self.id, self.scheduled_at);
        self.result = Some(Err(JobError::Panicked(panic.clone())));
        Box::new(Reported(panic))
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
            // One destructor at a time, since a second panic during the first would end the process.
            Ok(Poll::Ready(value)) => match discard(self.future.take()) {
                Ok(()) => Ok(value),
                Err(payload) => {
                    drop_quietly(value);
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
            Err(payload) => resume_unwind(self.panicked(payload)),
        }
    }

    fn drop_run(&mut self) -> Result<(), Payload> {
        discard(self.future.take()).map_err(|payload| match self.result {
            None => self.panicked(payload),
            // The run has panicked before, and that is the job's panic.
            Some(_) => payload,
        })
    }

    fn into_runnable(self: Box<Self>) -> Box<dyn Runnable> {
        self
    }
}

impl<F: Future> Drop for WithResult<F> {
    fn drop(&mut self) {
        let future = discard(self.future.take());
        let result = self.result.take().unwrap_or(Err(JobError::Cancelled));
        // The value comes back if the `JoinHandle` was dropped, and is dropped here.
        let unsent = self.sender.take().map(|sender| sender.send(result));
        let value = discard(unsent);
        // One panic goes on in the caller. A second one at the same time would end the process.
        match (future, value) {
            (Ok(()), Ok(())) => {}
            (Err(payload), Ok(())) | (Ok(()), Err(payload)) => resume_unwind(payload),
            (Err(payload), Err(second)) => {
                drop_payload(second);
                resume_unwind(payload)
            }
        }
    }
}

/// The payload of a panic that the runnable of the job has already made a `JobPanic`, on its way to the group.
struct Reported(JobPanic);

/// Returns the panic of a job as a value. If its runnable has made one already, it is the same one.
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
