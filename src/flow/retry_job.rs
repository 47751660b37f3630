//! A retry that is a job of a scheduling group.

use std::fmt;
use std::ops::ControlFlow::{Break, Continue};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
#[cfg(not(shuttle))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

// Under the scheduler of tests/shuttle the lock is a point at which tasks switch.
#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{Ended, RetryError};
use super::retry::Retry;
use super::stop::StopSignal;
use crate::common::closing::StopReason;
use crate::common::panic::{ENDED, Guarded, catch, drop_payload, drop_quietly};
use crate::{Group, Handle, JobContext, JobHandle, Next};

impl<O, F, E> Retry<'static, O, F, E> {
    /// Makes the attempts as one job of a scheduling group, the first of them at once.
    ///
    /// Pass a reference, `&group`, or `&*group` if the group is in an `Arc`: a `Group` that is passed by value is
    /// dropped in the call, and the retry with it.
    ///
    /// A pause is a deadline in the group's heap: during a pause the job is pending, has no task, and takes no slot of
    /// `max_running`. The [`job`](RetryHandle::job) of the returned handle can be cancelled, aborted or moved like any
    /// other; if it is moved during a pause, the next attempt is made at the new instant.
    ///
    /// `wait` waits for the whole retry. `drain` lets it make the attempts that are due within the grace. `shutdown`
    /// and a cancel of the group drop a retry that pauses, like any pending job, and let a running attempt finish; if
    /// that is not the last one, the retry counts as dropped after it. To abort the running attempt when the group is
    /// cancelled, pass the group's token to [`token`](Retry::token).
    ///
    /// When the [`token`](Retry::token) is cancelled or the [`deadline`](Retry::deadline) has passed, a running attempt is
    /// dropped. A job that pauses, or waits for a slot of `max_running`, is cancelled by its handle, if a task awaits
    /// that; otherwise it ends when it has a slot. A handle that is awaited holds a timer of the group's runtime for the
    /// deadline, so it can be awaited anywhere.
    ///
    /// A panic of the operation, of the delays, of `when` or of `notify` is a panic of the job, and `wait` returns it.
    /// If the group accepts no more jobs, no attempt is made, and the handle resolves to [`Ended::Cancelled`].
    ///
    /// A retry that was awaited for a while, as by `&mut retry` in a `select!`, goes on where it was: its attempt continues,
    /// or its pause ends.
    ///
    /// To make the first attempt later, schedule the retry itself as a future, `group.spawn_after(delay, retry)`; its
    /// pauses then hold a slot of `max_running`.
    ///
    /// # Panics
    ///
    /// If the retry has resolved already, as `(&mut retry).await`. In a closed group it does not panic, not even with
    /// `&group`; the method [`Group::retry`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::{Group, flow};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let mut calls = 0;
    /// let page = flow::retry(move || {
    ///     calls += 1;
    ///     async move { if calls < 3 { Err("busy") } else { Ok("page") } }
    /// })
    /// .delays([Duration::from_secs(1); 2])
    /// .spawn_on(&group);
    /// assert_eq!(page.await, Ok("page")); // after 2 seconds
    /// # }
    /// ```
    #[track_caller]
    // Bounds of the method and not of the impl: there the compiler would only say that the method is unknown, and not
    // name the line at which a future is not `Send`.
    pub fn spawn_on<T>(self, group: impl AsRef<Handle>) -> RetryHandle<T, E>
    where
        O: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let retry = self.unresolved();
        let stop = retry.stop.clone();
        // A closed group panics at its owner's line: what the retry holds must not panic too while that unwinds.
        let retry = Guarded::new(retry);
        let (report, receiver) = oneshot::channel();
        let cell = Arc::new(RetryCell::new(None));
        let runs = Arc::clone(&cell);
        // The first run waits for this lock, so that it finds the retry with its job's handle.
        let mut filled = lock(&cell);
        let group = group.as_ref();
        let job = group.repeat_in_steps(Instant::now(), move |_| Run {
            spawned: lock(&runs).take(),
            cell: Arc::clone(&runs),
        });
        *filled = Some(Spawned {
            retry: retry.into_inner(),
            report: Some(report),
            waker: Arc::new(AttemptNow(job.clone())).into(),
        });
        drop(filled);
        // The last one if the group has rejected the job, and then a panic of a destructor is none of the caller's.
        drop_quietly(cell);
        RetryHandle {
            job,
            receiver: Some(receiver),
            stop,
            stopped: None,
        }
    }
}

/// Gives a type the method `retry`. It schedules through `$handle`; `$closed` is for its docs, about a group that was
/// closed.
macro_rules! retry_method {
    ($type:ty, $handle:expr, $closed:literal) => {
        impl $type {
            /// Makes the attempts of a [`flow::retry`](crate::flow::retry) as one job of this group, the first of them
            /// at once.
            ///
            /// It is [`Retry::spawn_on`] as a method of the group.
            ///
            /// # Panics
            ///
            /// If the retry has resolved already, as `(&mut retry).await`.
            #[doc = $closed]
            ///
            /// # Examples
            ///
            /// ```
            /// use std::time::Duration;
            /// use schedgroup::{Group, flow};
            ///
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let group = Group::new();
            /// let fetch = flow::retry(|| async { Err::<(), _>("busy") });
            /// let page = group.retry(fetch.attempts(2).delays([Duration::from_secs(1)]));
            /// assert!(page.await.is_err_and(|error| error.attempts == 2));
            /// # }
            /// ```
            #[track_caller]
            pub fn retry<O, F, T, E>(&self, retry: Retry<'static, O, F, E>) -> RetryHandle<T, E>
            where
                O: FnMut() -> F + Send + 'static,
                F: Future<Output = Result<T, E>> + Send + 'static,
                T: Send + 'static,
                E: Send + 'static,
            {
                let handle: fn(&$type) -> &Handle = $handle;
                retry.spawn_on(handle(self))
            }
        }
    };
}

retry_method!(
    Group,
    Group::own,
    "Also after `wait`, `drain` or `shutdown` was called."
);
retry_method!(
    Handle,
    |handle| handle,
    "In a group that rejects it no attempt is made, and the handle resolves to [`Ended::Cancelled`]."
);
retry_method!(
    JobContext,
    AsRef::as_ref,
    "In a group that rejects it no attempt is made, and the handle resolves to [`Ended::Cancelled`]."
);

/// The retry, between two runs of its job. Values are only moved under its lock.
type RetryCell<O, F, T, E> = Mutex<Option<Spawned<O, F, T, E>>>;

fn lock<V>(cell: &Mutex<V>) -> MutexGuard<'_, V> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A retry with the other end of its handle.
struct Spawned<O, F, T, E> {
    retry: Retry<'static, O, F, E>,
    /// Until the end was reported.
    report: Option<oneshot::Sender<Result<T, RetryError<E>>>>,
    waker: Waker,
}

impl<O, F, T, E> Spawned<O, F, T, E> {
    fn end(&mut self, end: Result<T, Ended>) -> Next {
        if let Some(report) = self.report.take() {
            let end = end.map_err(|ended| self.retry.give_up(ended));
            // Without a handle the end is dropped. Neither its destructor nor the waker of the handle's task is a part of
            // the job.
            catch(|| drop(report.send(end))).unwrap_or_else(drop_payload);
        }
        Next::Done
    }
}

/// The job was cancelled, aborted, rejected or dropped with its group, or it panicked.
impl<O, F, T, E> Drop for Spawned<O, F, T, E> {
    fn drop(&mut self) {
        self.end(Err(Ended::Cancelled));
    }
}

/// Ends a pause when the token is cancelled: the job's next run is due now, and sees it.
struct AttemptNow(JobHandle);

impl Wake for AttemptNow {
    fn wake(self: Arc<Self>) {
        self.0.reset_after(Duration::ZERO);
    }
}

/// One attempt, as a run of the job.
///
/// It is no `async` block, so that a panic leaves it whole: what it holds is dropped by the group, and not while
/// the thread is panicking, where a destructor that panics too would end the process.
struct Run<O, F, T, E> {
    /// Until the end of the run.
    spawned: Option<Spawned<O, F, T, E>>,
    cell: Arc<RetryCell<O, F, T, E>>,
}

/// The attempt has a box of its own.
impl<O, F, T, E> Unpin for Run<O, F, T, E> {}

/// An attempt that was aborted or has panicked is dropped with its run. The retry goes with its job, when the group has
/// recorded the end: who hears of it from the handle can ask for the state of the job.
impl<O, F, T, E> Drop for Run<O, F, T, E> {
    fn drop(&mut self) {
        let spawned = self.spawned.take();
        if let Some(mut spawned) = spawned.filter(|spawned| spawned.report.is_some()) {
            spawned.retry.drop_attempt();
            *lock(&self.cell) = Some(spawned);
        }
    }
}

impl<O, F, T, E> Future for Run<O, F, T, E>
where
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    type Output = Next;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let spawned = self.spawned.as_mut().expect(ENDED);
        let pause = match ready!(spawned.retry.poll_attempt(cx)) {
            Continue(pause) => pause,
            Break(end) => return Poll::Ready(spawned.end(end)),
        };
        let mut paused = Context::from_waker(&spawned.waker);
        if let Some(stop) = spawned.retry.stop.poll_paused(&mut paused) {
            return Poll::Ready(spawned.end(Err(stop.into())));
        }
        let spawned = self.spawned.take();
        *lock(&self.cell) = spawned;
        Poll::Ready(Next::After(pause))
    }
}

/// A future that resolves to the result of a retry that is a job of a scheduling group; returned by
/// [`Retry::spawn_on`].
///
/// To take the results of many retries as they come, put the handles into a `FuturesUnordered` of the crate futures,
/// which needs no task for each.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` in a `select!` loses nothing. Dropping it does not affect the attempts; their result is
/// dropped.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Errors
///
/// [`RetryError`], with the reason why it gave up, the number of attempts and the last error. If the job was cancelled
/// by others or panicked, the reason is [`Ended::Cancelled`]; the [`state`](JobHandle::state) of the
/// [`job`](RetryHandle::job) tells the two apart. The panic itself is an event of the feature `tracing`, and `wait` of
/// the group returns the first.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::{Group, flow};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let handle = flow::retry(|| async { Err::<(), _>("busy") })
///     .delays([Duration::from_secs(3_600)])
///     .spawn_on(&group);
/// tokio::time::sleep(Duration::from_secs(1)).await;
/// assert!(handle.job().cancel()); // in its pause
/// let error = handle.await.unwrap_err();
/// assert_eq!((error.attempts, error.last), (1, Some("busy")));
/// # }
/// ```
#[must_use = "the attempts are made without their handle, but their value and their errors are lost"]
pub struct RetryHandle<T, E> {
    job: JobHandle,
    /// Until it has resolved.
    receiver: Option<oneshot::Receiver<Result<T, RetryError<E>>>>,
    /// That of the retry, which only sees it while its job runs.
    stop: StopSignal,
    /// Why this handle has cancelled the job.
    stopped: Option<StopReason>,
}

impl<T, E> RetryHandle<T, E> {
    /// Returns the handle of the job that makes the attempts, to cancel, abort or move it, or to query its state.
    ///
    /// A cancel during an attempt lets it finish, and makes it the last: if it returns a value, so does the retry, and
    /// the job has finished. A move during an attempt makes the next one earlier, or changes nothing if there is none.
    /// An abort drops the attempt at its next await. To cancel retries by an id of your own, keep clones of their
    /// handles in a map.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::{Group, flow};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let mut calls = 0;
    /// let handle = flow::retry(move || {
    ///     calls += 1;
    ///     async move { if calls == 1 { Err("busy") } else { Ok(()) } }
    /// })
    /// .delays([Duration::from_secs(3_600)])
    /// .spawn_on(&group);
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// assert!(handle.job().reset_after(Duration::ZERO)); // the server is back: do not wait for an hour
    /// assert!(handle.await.is_ok());
    /// # }
    /// ```
    pub fn job(&self) -> &JobHandle {
        &self.job
    }
}

impl<T, E> Future for RetryHandle<T, E> {
    type Output = Result<T, RetryError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = &mut *self;
        let receiver = handle.receiver.as_mut().expect(ENDED);
        let mut end = Pin::new(&mut *receiver).poll(cx);
        if end.is_pending() && handle.stopped.is_none() {
            // The group's timer and clock: this may be polled where there is no timer, or not even a runtime.
            let stop = catch(|| {
                let _entered = handle.job.runtime().enter();
                handle.stop.poll(cx)
            });
            match stop {
                // A job that waits for its slot does not see the stop. A running attempt does, unless it has looked for
                // the last time: then it is to be the last one, or its job could pause and wait for a slot.
                Ok(Some(stop)) if handle.job.cancel() => handle.stopped = Some(stop),
                Ok(_) => {}
                // The runtime of the group may have ended just now, and its timer with it. Then the job has reported,
                // since a runtime drops its tasks first.
                Err(payload) => {
                    end = Pin::new(receiver).poll(cx);
                    if end.is_pending() {
                        resume_unwind(payload);
                    }
                    drop_payload(payload);
                }
            }
        }
        let end = ready!(end).expect("a retry reports before it is dropped");
        handle.receiver = None;
        Poll::Ready(end.map_err(|mut error| {
            if let (Ended::Cancelled, Some(stop)) = (error.ended, handle.stopped) {
                error.ended = stop.into();
            }
            error
        }))
    }
}

impl<T, E> fmt::Debug for RetryHandle<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryHandle")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}
