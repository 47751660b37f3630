//! Handles to a group, to one job, and to one job's value.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::JobContext;
use super::error::JobError;
use super::job::{JobId, JobState, Next};
use super::runnable::Receiver;
use super::schedule::{Submitter, schedule_methods};
use super::shared::Shared;
use super::state::{Caller, JobKind};
use super::stats::Stats;
use crate::common::panic::ENDED;
use crate::common::time::Timestamp;

/// A handle for scheduling on a group from other tasks, threads and runtimes; created by
/// [`Group::handle`](crate::Group::handle).
///
/// A handle does not keep the group alive; only a [detached](crate::Group::detach) group keeps running for its handles,
/// which are counted: a clone and a drop take the group's lock for a moment.
///
/// The end of the group does not make its methods panic, since the task that holds a handle cannot know when the owner
/// ends the group. Once `wait`, `drain` or `shutdown` was called, or the group was cancelled or dropped or has reached
/// its deadline, they drop the job and return a finished [`JobHandle`]. The `try_` forms return the job instead, and
/// [`is_closed`](Handle::is_closed) tests for this state. A handle from
/// [`JobContext::handle`](crate::JobContext::handle) may still schedule while `wait` or `drain` is under way.
///
/// A function that takes `&impl AsRef<Handle>`, as functions of this crate do, can be called with a reference to a
/// [`Group`](crate::Group), a `Handle`, a [`JobContext`] or a keyed group; with `&*group` if the group is in an
/// [`Arc`]. The borrowed handle does not keep a detached group running; a clone of it does.
///
/// A delay is counted from the time of tokio's clock on the thread that calls the method. A clock that a test has
/// paused is paused only inside that test's runtime, so schedule from a task of that runtime.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = Group::new();
/// let handle = group.handle();
/// let other = tokio::spawn(async move {
///     handle.delay(Duration::from_secs(1), async { println!("scheduled by another task") });
/// });
/// other.await?;
/// group.wait().await?;
/// # Ok(())
/// # }
/// ```
pub struct Handle {
    shared: Arc<Shared>,
    caller: Caller,
    /// A detached group keeps running for this handle. It never changes: a handle that is lent is not counted, and one
    /// that is returned is.
    counted: bool,
}

impl Handle {
    /// Creates a handle that is counted.
    pub(super) fn new(shared: Arc<Shared>, caller: Caller) -> Handle {
        shared.with(|state| state.lifecycle.handle_created());
        Handle {
            shared,
            caller,
            counted: true,
        }
    }

    /// Creates a handle that is not counted: that of a `Group` or a `JobContext`, which lend it by `AsRef`.
    pub(super) fn uncounted(shared: Arc<Shared>, caller: Caller) -> Handle {
        Handle {
            shared,
            caller,
            counted: false,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        Submitter {
            shared: &self.shared,
            caller: self.caller,
        }
    }

    /// Returns the group's own token, like [`Group::token`](crate::Group::token).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, WaitError};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let handle = group.handle();
    /// group.delay(Duration::from_secs(3600), async { unreachable!() });
    /// handle.token().cancel();
    /// assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
    /// # }
    /// ```
    pub fn token(&self) -> CancellationToken {
        self.shared.share_token()
    }

    /// Returns the group's counts at this moment. The cost does not depend on the number of jobs.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let handle = group.handle();
    /// handle.delay(Duration::from_secs(60), async {});
    /// assert_eq!(handle.stats().pending, 1);
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        shared.with(|state| state.stats(&shared.clock))
    }

    /// Returns `true` if the group rejects jobs of this handle, so that [`try_delay`](Handle::try_delay) would return
    /// an error.
    ///
    /// Once it is `true` it stays `true`. While it is `false`, another task may close the group at any moment, so a
    /// call that must not lose its job uses `try_delay` and looks at the result.
    ///
    /// # Examples
    ///
    /// ```
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// let handle = group.handle();
    /// assert!(!handle.is_closed());
    /// group.cancel();
    /// assert!(handle.is_closed());
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        let (now, cancelled) = self.shared.end_inputs();
        let admitted = self
            .shared
            .with(|state| state.lifecycle.admit(self.caller, now, cancelled));
        admitted.is_err()
    }

    /// Like [`repeat`](Handle::repeat), for a series that ends with `wait`. When that is called, a pending series runs
    /// once more and at once, to see that its group drains; a running one ends with its present run. After that none is
    /// accepted, not even from a job. A run in which the series had no tick, of a group that drains, returns `Done`: after a
    /// shutdown the series then counts as dropped, and otherwise as finished.
    #[track_caller]
    pub(crate) fn repeat_until_wait<F, Fut>(&self, first: Instant, run: F) -> JobHandle
    where
        F: FnMut(JobContext) -> Fut + Send + 'static,
        Fut: Future<Output = Next> + Send + 'static,
    {
        self.submitter().repeat(first, run, JobKind::UntilWait)
    }

    /// Like [`repeat`](Handle::repeat), for a job that runs once, in several steps: it has not finished as long as a
    /// step asks for another one.
    #[track_caller]
    pub(crate) fn repeat_in_steps<F, Fut>(&self, first: Instant, step: F) -> JobHandle
    where
        F: FnMut(JobContext) -> Fut + Send + 'static,
        Fut: Future<Output = Next> + Send + 'static,
    {
        self.submitter().repeat(first, step, JobKind::InSteps)
    }
}

schedule_methods!(
    Handle,
    "Never panics: after `wait`, `drain` or `shutdown` was called the job is dropped, and the returned handle is a \
     finished one, unless this is the handle of a job's context and the group still drains."
);

impl AsRef<Handle> for Handle {
    fn as_ref(&self) -> &Handle {
        self
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared), self.caller)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.counted {
            self.shared
                .enter(|state, effects| state.handle_dropped(effects));
        }
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

/// A handle to one scheduled job: cancel it, reschedule it, or query its state.
///
/// Clones refer to the same job and compare equal. Handles of different jobs are never equal, not even if the jobs
/// belong to two groups and have the same id. Dropping a handle does not cancel the job. A handle keeps nothing alive
/// that the job held.
///
/// It is not a future. To await one job, schedule it with [`spawn_after`](crate::Group::spawn_after) or
/// [`spawn_at`](crate::Group::spawn_at), whose [`JoinHandle`] resolves when the job has ended.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::{Group, JobState};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = Group::new();
/// let hour = Duration::from_secs(3600);
/// let soon = group.delay(hour, async { println!("done") });
/// let never = group.delay(hour, async { unreachable!("it was cancelled") });
/// assert!(soon.reset_after(Duration::from_secs(1)));
/// assert!(never.cancel());
/// group.wait().await?; // after a second
/// assert_eq!((soon.state(), never.state()), (JobState::Finished, JobState::Cancelled));
/// # Ok(())
/// # }
/// ```
pub struct JobHandle {
    id: JobId,
    /// Of the group that the job was submitted to, accepted or not.
    shared: Arc<Shared>,
    admission: Admission,
}

#[derive(Clone, Copy)]
enum Admission {
    // The number alone identifies the job, without a sequence: the slot counts its handles, and is not given to another
    // job before the count is zero. A clone is counted at once, under the lock. A drop may be counted later, by the next
    // caller that takes the lock (`DroppedHandle`); until then the slot is kept.
    Slot(u32),
    /// The job was not accepted.
    Rejected {
        deadline: Instant,
    },
}

impl JobHandle {
    pub(super) fn accepted(shared: Arc<Shared>, id: JobId, slot: u32) -> JobHandle {
        JobHandle {
            id,
            shared,
            admission: Admission::Slot(slot),
        }
    }

    pub(super) fn rejected(shared: Arc<Shared>, id: JobId, deadline: Instant) -> JobHandle {
        JobHandle {
            id,
            shared,
            admission: Admission::Rejected { deadline },
        }
    }

    /// Returns the runtime of the job's group, which has a timer.
    pub(crate) fn runtime(&self) -> &runtime::Handle {
        &self.shared.runtime
    }

    /// Cancels the job. Returns `true` if this call prevented its next run; at most one call ever returns `true`.
    ///
    /// What a pending job holds is dropped before this returns. A due job that waits for a slot is still pending. If a
    /// job is just about to start, either the cancel or the start takes effect, never both. A repeating job that is
    /// running finishes this run, and it is the last one; a run counts as running from shortly before its closure is
    /// called. [`abort`](JobHandle::abort) stops a running job, too.
    ///
    /// It returns `false` for a job that the end of its group has prevented before: one of a group that was cancelled,
    /// dropped, or has reached its deadline or the end of a grace, and one that was not due when the group was shut
    /// down. What that job holds is dropped before this returns, unless the group is dropping it already.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let job = group.delay(Duration::from_secs(1), async { unreachable!() });
    /// assert!(job.cancel());
    /// assert!(!job.cancel(), "it was cancelled before");
    /// # }
    /// ```
    pub fn cancel(&self) -> bool {
        let Admission::Slot(slot) = self.admission else {
            return false;
        };
        let shared = &self.shared;
        // The job is dropped here, after the lock and before this returns. Until then it counts as being dropped, so the
        // group does not drain while its destructor runs.
        let mut unstarted = None;
        let prevented =
            shared.enter_checked(|state, effects| state.cancel(slot, &mut unstarted, effects));
        shared.drop_jobs(unstarted);
        prevented
    }

    /// Moves the job to another instant. Returns `true` if the move takes effect.
    ///
    /// A pending job is moved, even if it is due and waits for a slot. A repeating job that is running will run again
    /// at `at`, or earlier if its run returns an earlier instant. The call returns `false` for a job that has ended,
    /// for a job that runs only once and is running, and for any job of a group that was shut down, cancelled or
    /// dropped, or has reached its deadline or the end of a drain's grace.
    ///
    /// Moving a job to a later instant only stores that instant, so it is cheap to do for each packet or request.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let job = group.delay(Duration::from_secs(3600), async {});
    /// let sooner = Instant::now() + Duration::from_secs(1);
    /// assert!(job.reset_at(sooner));
    /// assert_eq!(job.deadline(), sooner);
    /// group.wait().await
    /// # }
    /// ```
    pub fn reset_at(&self, at: Instant) -> bool {
        self.reset(|shared| shared.clock.timestamp(at))
    }

    /// Moves the job to `delay` from now; otherwise like [`reset_at`](JobHandle::reset_at).
    ///
    /// # Examples
    ///
    /// In this example the job runs when nothing has happened for a minute:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let minute = Duration::from_secs(60);
    /// let idle = group.delay(minute, async { println!("idle for a minute") });
    /// for _ in 0..3 {
    ///     tokio::time::sleep(minute / 2).await;
    ///     idle.reset_after(minute);
    /// }
    /// group.wait().await
    /// # }
    /// ```
    pub fn reset_after(&self, delay: Duration) -> bool {
        self.reset(|shared| shared.now().after(delay))
    }

    fn reset(&self, at: impl FnOnce(&Shared) -> Timestamp) -> bool {
        let Admission::Slot(slot) = self.admission else {
            return false;
        };
        let shared = &self.shared;
        let at = at(shared);
        // Before the lock: the token has a lock of its own, which is never taken under the group's.
        let is_over = shared.is_over();
        shared.enter_without_tables(|state, effects| state.reset(slot, at, is_over, effects))
    }

    /// Stops the job: a pending job is cancelled, and a running job ends at its next await and frees its slot. `wait`
    /// does not count this as an error, unless the group was shut down before.
    ///
    /// A job that does not await cannot be stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, JobState};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let endless = group.delay(Duration::ZERO, std::future::pending());
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// endless.abort();
    /// group.wait().await?;
    /// assert_eq!(endless.state(), JobState::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn abort(&self) {
        if let Admission::Slot(slot) = self.admission {
            let shared = &self.shared;
            let mut unstarted = None;
            shared.enter_checked(|state, effects| state.abort(slot, &mut unstarted, effects));
            shared.drop_jobs(unstarted);
        }
    }

    /// Returns the id of the job.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let first = group.delay(Duration::from_secs(2), async {});
    /// let second = group.delay(Duration::from_secs(1), async {});
    /// assert!(first.id() < second.id(), "ids rise in the order of submission");
    /// # }
    /// ```
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Returns the instant at which the job is due; if it is running or has ended, the instant at which it was due
    /// last.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// let job = group.delay(Duration::from_secs(1), async {});
    /// assert_eq!(job.deadline(), Instant::now() + Duration::from_secs(1));
    /// # }
    /// ```
    pub fn deadline(&self) -> Instant {
        match self.admission {
            Admission::Slot(slot) => self
                .shared
                .clock
                .instant(self.shared.with(|state| state.jobs.deadline(slot))),
            Admission::Rejected { deadline } => deadline,
        }
    }

    /// Returns `true` if the job has not started, or is between two runs.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// assert!(group.delay(Duration::from_secs(1), async {}).is_pending());
    /// # }
    /// ```
    pub fn is_pending(&self) -> bool {
        self.state() == JobState::Pending
    }

    /// Returns `true` if the job has finished, was cancelled, or panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let job = group.delay(Duration::from_secs(1), async {});
    /// group.wait().await?;
    /// assert!(job.is_finished());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_finished(&self) -> bool {
        !matches!(self.state(), JobState::Pending | JobState::Running)
    }

    /// Returns the state of the job; see [`JobState`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, JobState};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let job = group.delay(Duration::from_secs(1), async {});
    /// assert_eq!(job.state(), JobState::Pending);
    /// group.cancel();
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// assert_eq!(job.state(), JobState::Cancelled);
    /// # }
    /// ```
    pub fn state(&self) -> JobState {
        match self.admission {
            Admission::Slot(slot) => self
                .shared
                .enter_without_tables(|state, _| state.job_state(slot)),
            Admission::Rejected { .. } => JobState::Cancelled,
        }
    }
}

impl PartialEq for JobHandle {
    fn eq(&self, other: &JobHandle) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for JobHandle {}

impl Hash for JobHandle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Clone for JobHandle {
    fn clone(&self) -> JobHandle {
        if let Admission::Slot(slot) = self.admission {
            // Before the clone exists, so that the slot stays this job's as long as one of the two exists.
            self.shared.with(|state| state.jobs.ref_inc(slot));
        }
        JobHandle {
            id: self.id,
            shared: Arc::clone(&self.shared),
            admission: self.admission,
        }
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if let Admission::Slot(slot) = self.admission {
            self.shared.drop_handle(slot);
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

/// A future that resolves to the value of a job that was scheduled with `spawn_after` or `spawn_at`.
///
/// [`job`](JoinHandle::job) has the methods to cancel, abort, move or query the job. To take the values of many jobs as
/// they come, put the handles into a `FuturesUnordered` of the crate futures, which needs no task for each.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` in a `select!` loses nothing. Dropping the handle does not affect the job, whose value is
/// then dropped when it ends; with [`abort_on_drop`](JoinHandle::abort_on_drop) dropping the handle stops the job.
///
/// # Panics
///
/// If it is polled again after it has resolved.
///
/// # Errors
///
/// [`JobError::Cancelled`] if the job was cancelled, aborted, dropped with its group or rejected;
/// [`JobError::Panicked`] if it panicked.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::JobError> {
/// let group = schedgroup::Group::new();
/// let page = group.spawn_after(Duration::from_secs(1), async { "page" });
/// assert!(page.job().is_pending());
/// assert_eq!(page.await?, "page");
/// # Ok(())
/// # }
/// ```
#[must_use = "a job runs without its JoinHandle; use `delay` or `schedule` if its value is not wanted"]
pub struct JoinHandle<T> {
    job: JobHandle,
    /// Until it has resolved.
    receiver: Option<Receiver<T>>,
    aborts: bool,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(job: JobHandle, receiver: Receiver<T>) -> JoinHandle<T> {
        JoinHandle {
            job,
            receiver: Some(receiver),
            aborts: false,
        }
    }

    /// Returns the handle to the job itself, to cancel, abort or move it, or to query its state.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, JobError};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = Group::new();
    /// let answer = group.spawn_after(Duration::from_secs(1), async { 42 });
    /// assert!(answer.job().cancel());
    /// assert!(matches!(answer.await, Err(JobError::Cancelled)));
    /// # }
    /// ```
    pub fn job(&self) -> &JobHandle {
        &self.job
    }

    /// Makes this handle [abort](JobHandle::abort) the job when it is dropped; by default the job continues.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::Group;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let hour = Duration::from_secs(3600);
    /// let report = group.spawn_after(hour, async { unreachable!() }).abort_on_drop();
    /// let in_time = tokio::time::timeout(Duration::from_secs(1), report).await;
    /// assert!(in_time.is_err());
    /// group.wait().await // at once: the job was dropped with its handle
    /// # }
    /// ```
    #[must_use = "dropping the handle aborts the job"]
    pub fn abort_on_drop(mut self) -> JoinHandle<T> {
        self.aborts = true;
        self
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = self.receiver.as_mut().expect(ENDED);
        let received = ready!(Pin::new(receiver).poll(cx));
        self.receiver = None;
        Poll::Ready(received.unwrap_or(Err(JobError::Cancelled)))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.aborts {
            self.job.abort();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("job", &self.job)
            .field("abort_on_drop", &self.aborts)
            .finish_non_exhaustive()
    }
}
