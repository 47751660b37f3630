//! Ends that are held elsewhere: of a group, of one job, of one job's value.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::body::Receiver;
use super::context::JobContext;
use super::error::{JobError, ScheduleError};
use super::gate::Caller;
use super::job::{Job, JobId, JobState, Next};
use super::origin::Course;
use super::shared::Shared;
use super::verbs::{Entrance, verbs};
use crate::ground::timeline::Tick;

/// Schedules on a group from elsewhere: other tasks, other threads, other runtimes.
///
/// Cheap to clone. It does not keep the group alive; only a detached group goes on for its handles.
///
/// Its verbs never panic, since whoever holds it cannot know how the group is: once `wait` or `shutdown` was
/// called, or the group was cancelled or dropped, they drop the job and return a finished handle. The `try_` forms
/// give the job back. A handle of a job's context is admitted while `wait` drains the group.
///
/// A delay counts from tokio's clock as it reads where the verb is called. A clock that a test has
/// paused stands still inside of its runtime alone, so there schedule from one of its tasks.
pub struct Handle {
    shared: Arc<Shared>,
    caller: Caller,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, caller: Caller) -> Handle {
        shared.enter(|state, _| state.handle_made());
        Handle { shared, caller }
    }

    fn entrance(&self) -> Entrance<'_> {
        Entrance {
            shared: &self.shared,
            caller: self.caller,
        }
    }

    /// Like [`schedule_with`](Handle::schedule_with), for what is kept until the job starts; a refused
    /// job's comes back.
    ///
    /// It runs and drops nothing of a user's and wakes no waker of theirs, so a lock may be held.
    #[track_caller]
    pub(crate) fn try_schedule_with<T: Send + 'static, J: Job>(
        &self,
        at: Instant,
        kept: T,
        make: impl FnOnce(T, JobContext) -> J + Send + 'static,
    ) -> Result<JobHandle, ScheduleError<T>> {
        self.entrance().try_schedule_with(at, kept, make)
    }

    /// Like [`repeat`](Handle::repeat); but after a `wait` a pending one runs at once, to see that its
    /// group drains, no run follows one that ends after that, and none begins.
    #[track_caller]
    pub(crate) fn repeat_until_wait<F, Fut>(&self, first: Instant, run: F) -> JobHandle
    where
        F: FnMut(JobContext) -> Fut + Send + 'static,
        Fut: Future<Output = Next> + Send + 'static,
    {
        self.entrance().repeat(first, run, Course::UntilWait)
    }
}

verbs!(
    Handle,
    "Never panics: after `wait` or `shutdown` too the job is dropped and the returned handle is a finished one, unless \
     this is the handle of a job's context and the group still drains."
);

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared), self.caller)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.enter(|state, todo| state.handle_gone(todo));
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("group", &self.shared.name())
            .field("from", &self.caller)
            .finish_non_exhaustive()
    }
}

/// One job: cancel it, move it, ask how it is.
///
/// Clones speak for the same job. Dropping a handle changes nothing, and a handle keeps nothing of
/// what the job held.
pub struct JobHandle {
    id: JobId,
    link: Link,
}

enum Link {
    Live {
        shared: Arc<Shared>,
        slot: u32,
    },
    /// The job was not accepted.
    Refused {
        deadline: Instant,
    },
}

impl JobHandle {
    pub(super) fn live(shared: Arc<Shared>, id: JobId, slot: u32) -> JobHandle {
        JobHandle {
            id,
            link: Link::Live { shared, slot },
        }
    }

    pub(super) fn refused(id: JobId, deadline: Instant) -> JobHandle {
        JobHandle {
            id,
            link: Link::Refused { deadline },
        }
    }

    /// Cancels the job. True if this call prevented its next run; at most one call ever answers true.
    ///
    /// What a pending job holds is dropped before this returns. A race with the job's start has one
    /// winner. A due job that waits for a place is still pending. A repeating job that is running
    /// finishes this run and makes it its last.
    pub fn cancel(&self) -> bool {
        let Link::Live { shared, slot } = &self.link else {
            return false;
        };
        let (prevented, unstarted) = shared.enter(|state, todo| state.cancel(*slot, todo));
        shared.drop_unstarted(unstarted);
        prevented
    }

    /// Moves the job to another instant. True if the move will be honoured.
    ///
    /// A pending job moves, also one that is due and waits for a place. A repeating job that is running
    /// will run again at that instant at the latest. Everything else answers false: a job that has
    /// ended, one that runs for its only time, and any job of a group that is shut down or cancelled.
    ///
    /// Moving a job later costs no more than storing the instant.
    pub fn reset_at(&self, at: Instant) -> bool {
        self.reset(|shared| shared.timeline.tick(at))
    }

    /// Moves the job to `delay` from now; otherwise like [`reset_at`](JobHandle::reset_at).
    pub fn reset_after(&self, delay: Duration) -> bool {
        self.reset(|shared| shared.now().after(delay))
    }

    fn reset(&self, at: impl FnOnce(&Shared) -> Tick) -> bool {
        let Link::Live { shared, slot } = &self.link else {
            return false;
        };
        let at = at(shared);
        !shared.is_cancelled()
            && shared.enter(|state, todo| state.reset(*slot, at, || shared.now(), todo))
    }

    /// Stops the job: a pending one is cancelled, a running one ends at its next await and gives its
    /// place free. `wait` does not count it as an error.
    ///
    /// A job that does not await cannot be stopped.
    pub fn abort(&self) {
        if let Link::Live { shared, slot } = &self.link {
            let unstarted = shared.enter(|state, todo| state.abort(*slot, todo));
            shared.drop_unstarted(unstarted);
        }
    }

    /// The name of the job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// When the job is due; while it runs and afterwards, when its last run was.
    pub fn deadline(&self) -> Instant {
        match &self.link {
            Link::Live { shared, slot } => shared
                .timeline
                .instant(shared.enter(|state, _| state.job_deadline(*slot))),
            Link::Refused { deadline } => *deadline,
        }
    }

    /// Has the job not started, or is it between two runs?
    pub fn is_pending(&self) -> bool {
        self.state() == JobState::Pending
    }

    /// Has the job come to an end, whichever?
    pub fn is_finished(&self) -> bool {
        !matches!(self.state(), JobState::Pending | JobState::Running)
    }

    /// Where the job is in its life.
    pub fn state(&self) -> JobState {
        match &self.link {
            Link::Live { shared, slot } => shared.enter(|state, _| state.job_state(*slot)),
            Link::Refused { .. } => JobState::Cancelled,
        }
    }
}

impl Clone for JobHandle {
    fn clone(&self) -> JobHandle {
        JobHandle {
            id: self.id,
            link: match &self.link {
                Link::Live { shared, slot } => {
                    shared.enter(|state, _| state.hold(*slot));
                    Link::Live {
                        shared: Arc::clone(shared),
                        slot: *slot,
                    }
                }
                Link::Refused { deadline } => Link::Refused {
                    deadline: *deadline,
                },
            },
        }
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if let Link::Live { shared, slot } = &self.link {
            shared.enter(|state, _| state.let_go(*slot));
        }
    }
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("id", &self.id)
            .field("state", &self.state())
            .field("deadline", &self.deadline())
            .finish()
    }
}

/// The value of a job that was scheduled with `spawn_after` or `spawn_at`.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` loses nothing when it is dropped; dropping the handle changes nothing for the
/// job, only its value is dropped with it.
///
/// # Panics
///
/// Like tokio's, if it is polled again after it has given its value.
///
/// # Errors
///
/// [`JobError::Cancelled`] if the job was cancelled, aborted or dropped with its group;
/// [`JobError::Panicked`] if it panicked.
#[must_use = "a job runs without its JoinHandle; use `delay` or `schedule` if its value is not wanted"]
pub struct JoinHandle<T> {
    job: JobHandle,
    receiver: Receiver<T>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(job: JobHandle, receiver: Receiver<T>) -> JoinHandle<T> {
        JoinHandle { job, receiver }
    }

    /// The job behind the value: to cancel, move, and ask.
    pub fn job(&self) -> &JobHandle {
        &self.job
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(cx)
            .map(|received| received.unwrap_or(Err(JobError::Cancelled)))
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}
