//! The scheduling methods, written once for the three that have them: `Group`, `Handle`, `JobContext`.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::JobContext;
use super::context_jobs::{Lazy, Repeating};
use super::error::JobPanic;
use super::handle::{JobHandle, JoinHandle};
use super::job::{Job, Next};
use super::runnable::{Runnable, WithResult};
use super::shared::Shared;
use super::state::{Caller, JobKind, Rejected};
use crate::common::panic;
use crate::common::schedule_error::ScheduleError;
use crate::common::time::Timestamp;

/// Submits jobs to a group for one kind of caller.
#[derive(Clone, Copy)]
pub(super) struct Submitter<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) caller: Caller,
}

impl Submitter<'_> {
    pub(super) fn after(self, delay: Duration) -> Timestamp {
        self.shared.now().after(delay)
    }

    pub(super) fn at(self, at: Instant) -> Timestamp {
        self.shared.clock.timestamp(at)
    }

    /// Accepts a job, or returns it with the reason why it was rejected.
    fn submit<B: Runnable + 'static>(
        self,
        at: Timestamp,
        runnable: B,
        kind: JobKind,
        site: &'static Location<'static>,
    ) -> Result<JobHandle, (Rejected, B)> {
        // All before the lock: the box may be large, and the token has a lock of its own. If the token or the clock
        // ends the group between this check and the step below, the job is accepted, never starts, and is dropped.
        let runnable = Box::new(runnable);
        let (now, cancelled) = self.shared.end_inputs();
        // A series that ends with `wait` cannot begin after `wait`, not even if a job schedules it.
        let caller = match kind {
            JobKind::UntilWait => Caller::External,
            JobKind::Once | JobKind::Series | JobKind::InSteps => self.caller,
        };
        // Admission: the check whether the group is open, and the insertion, are one step under the lock. So a
        // concurrent `wait` either finds the job, or has closed the group before, and the job is rejected.
        let accepted = self.shared.enter(|state, effects| {
            match state.lifecycle.admit(caller, now, cancelled) {
                Ok(()) => Ok(state.insert(at, runnable, kind, site, effects)),
                Err(rejected) => Err((rejected, runnable)),
            }
        });
        match accepted {
            Ok((id, slot)) => Ok(JobHandle::accepted(Arc::clone(self.shared), id, slot)),
            Err((rejected, runnable)) => Err((rejected, *runnable)),
        }
    }

    /// Accepts a job, or drops it and returns a finished handle; panics if scheduling here is misuse by
    /// the group's owner.
    #[track_caller]
    fn schedule_runnable<B: Runnable + 'static>(
        self,
        at: Timestamp,
        runnable: B,
        kind: JobKind,
    ) -> JobHandle {
        let site = Location::caller();
        let (rejected, runnable) = match self.submit(at, runnable, kind, site) {
            Ok(handle) => return handle,
            Err(rejected) => rejected,
        };
        // A second step under the lock, for rejected jobs only: the handle of each has a unique id.
        let id = self.shared.with(|state| state.jobs.next_id());
        // Before the panic below: a destructor that panics while another panic unwinds would end the process.
        if let Err(payload) = panic::discard(runnable) {
            self.shared.report_panic(&JobPanic::new(payload, id, site));
        }
        if let (Caller::Owner, Rejected::Closed(by)) = (self.caller, rejected) {
            by.misuse();
        }
        let deadline = self.shared.clock.instant(at);
        JobHandle::rejected(Arc::clone(self.shared), id, deadline)
    }

    #[track_caller]
    pub(super) fn schedule(self, at: Timestamp, job: impl Job) -> JobHandle {
        self.schedule_runnable(at, job, JobKind::Once)
    }

    #[track_caller]
    pub(super) fn try_schedule<J: Job>(
        self,
        at: Timestamp,
        job: J,
    ) -> Result<JobHandle, ScheduleError<J>> {
        self.submit(at, job, JobKind::Once, Location::caller())
            .map_err(|(rejected, job)| rejected.with(job))
    }

    #[track_caller]
    pub(super) fn schedule_with<J: Job>(
        self,
        at: Timestamp,
        job: impl FnOnce(JobContext) -> J + Send + 'static,
    ) -> JobHandle {
        self.schedule_runnable(at, Lazy::new(self.shared, job), JobKind::Once)
    }

    #[track_caller]
    pub(super) fn spawn<F>(self, at: Timestamp, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (runnable, receiver) = WithResult::new(future, Location::caller());
        JoinHandle::new(
            self.schedule_runnable(at, runnable, JobKind::Once),
            receiver,
        )
    }

    #[track_caller]
    pub(super) fn repeat<F, Fut>(self, first: Instant, run: F, kind: JobKind) -> JobHandle
    where
        F: FnMut(JobContext) -> Fut + Send + 'static,
        Fut: Future<Output = Next> + Send + 'static,
    {
        self.schedule_runnable(self.at(first), Repeating::new(self.shared, run), kind)
    }
}

/// Implements the scheduling methods for a type that has a method `submitter`.
///
/// `$panics` is the part of their documentation that tells when they panic.
macro_rules! schedule_methods {
    ($type:ty, $panics:literal) => {
        impl $type {
            /// Schedules `job` to run once, `delay` from now, or at once if that is zero.
            ///
            /// The job never starts early. Any delay is accepted, also `Duration::MAX`; such a job can be
            /// cancelled and moved like any other. Dropping the returned handle does not cancel the
            /// job. If the group was cancelled or dropped or has reached its deadline, or its runtime has
            /// ended, the job is dropped and the returned handle is a finished one.
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = schedgroup::Group::new();
            /// group.delay(Duration::from_millis(200), async { println!("world") });
            /// group.delay(Duration::from_millis(100), async { println!("hello") });
            /// group.wait().await
            /// # }
            /// ```
            #[doc(alias = "AfterFunc")]
            #[track_caller]
            pub fn delay(
                &self,
                delay: std::time::Duration,
                job: impl $crate::Job,
            ) -> $crate::JobHandle {
                let submitter = self.submitter();
                submitter.schedule(submitter.after(delay), job)
            }

            /// Schedules `job` to run once, at the instant `at`, or at once if that has passed.
            ///
            /// Otherwise like [`delay`](Self::delay).
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = schedgroup::Group::new();
            /// let at = Instant::now() + Duration::from_secs(1);
            /// group.schedule(at, async move { assert!(Instant::now() >= at) });
            /// group.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn schedule(
                &self,
                at: tokio::time::Instant,
                job: impl $crate::Job,
            ) -> $crate::JobHandle {
                let submitter = self.submitter();
                submitter.schedule(submitter.at(at), job)
            }

            /// Schedules `job` to run once, `delay` from now, or returns it if the group rejects it.
            ///
            /// Use it where the caller does not know whether the group is still open. It never panics and
            /// never waits.
            ///
            /// # Errors
            ///
            /// [`ScheduleError`](crate::ScheduleError) with the job in it: `Closed` after `wait`, `drain` or
            /// `shutdown` was called, but through a [`JobContext`](crate::JobContext) only once the group has
            /// drained or was shut down, or the grace of a drain is over; otherwise `Cancelled` if the group was
            /// cancelled or dropped or has reached its deadline, or its runtime has ended.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::{Group, ScheduleError};
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let group = Group::new();
            /// group.cancel();
            /// match group.try_delay(Duration::from_secs(1), async {}) {
            ///     Err(ScheduleError::Cancelled(job)) => job.await,
            ///     other => panic!("{other:?}"),
            /// }
            /// # }
            /// ```
            #[track_caller]
            pub fn try_delay<J: $crate::Job>(
                &self,
                delay: std::time::Duration,
                job: J,
            ) -> Result<$crate::JobHandle, $crate::ScheduleError<J>> {
                let submitter = self.submitter();
                submitter.try_schedule(submitter.after(delay), job)
            }

            /// Schedules `job` to run once, at the instant `at`, or returns it if the group rejects it.
            ///
            /// # Errors
            ///
            /// Those of [`try_delay`](Self::try_delay).
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::{Group, ScheduleError};
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = Group::new();
            /// let at = Instant::now() + Duration::from_secs(1);
            /// assert!(group.try_schedule(at, async {}).is_ok());
            /// let wait = group.wait();
            /// let rejected = group.try_schedule(at, async {});
            /// assert!(matches!(rejected, Err(ScheduleError::Closed(_))));
            /// wait.await
            /// # }
            /// ```
            #[track_caller]
            pub fn try_schedule<J: $crate::Job>(
                &self,
                at: tokio::time::Instant,
                job: J,
            ) -> Result<$crate::JobHandle, $crate::ScheduleError<J>> {
                let submitter = self.submitter();
                submitter.try_schedule(submitter.at(at), job)
            }

            /// Schedules a closure to run once, `delay` from now: it gets a
            /// [`JobContext`](crate::JobContext) and returns the job.
            ///
            /// Through the context a job sees the cancel token and schedules further jobs, even while
            /// `wait` or `drain` is under way. The closure is called when the job starts, and only the
            /// closure is kept until then.
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = schedgroup::Group::new();
            /// group.delay_with(Duration::from_millis(100), |job| async move {
            ///     job.delay(Duration::from_millis(100), async { println!("and then") });
            /// });
            /// group.wait().await // covers both
            /// # }
            /// ```
            #[track_caller]
            pub fn delay_with<J: $crate::Job>(
                &self,
                delay: std::time::Duration,
                job: impl FnOnce($crate::JobContext) -> J + Send + 'static,
            ) -> $crate::JobHandle {
                let submitter = self.submitter();
                submitter.schedule_with(submitter.after(delay), job)
            }

            /// Schedules a closure to run once, at the instant `at`; otherwise like
            /// [`delay_with`](Self::delay_with).
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = schedgroup::Group::new();
            /// let at = Instant::now() + Duration::from_secs(1);
            /// group.schedule_with(at, |job| async move {
            ///     println!("{:?} late", job.lateness());
            /// });
            /// group.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn schedule_with<J: $crate::Job>(
                &self,
                at: tokio::time::Instant,
                job: impl FnOnce($crate::JobContext) -> J + Send + 'static,
            ) -> $crate::JobHandle {
                let submitter = self.submitter();
                submitter.schedule_with(submitter.at(at), job)
            }

            /// Schedules `future` to run once, `delay` from now, and returns a
            /// [`JoinHandle`](crate::JoinHandle) that resolves to its value.
            ///
            /// If the job panics, both the handle and `wait` return the panic.
            ///
            #[doc = $panics]
            ///
            /// # Errors
            ///
            /// The handle resolves to [`JobError::Cancelled`](crate::JobError::Cancelled) if the job was
            /// cancelled, aborted, dropped with its group or rejected, and to
            /// [`JobError::Panicked`](crate::JobError::Panicked) if it panicked.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::JobError> {
            /// let group = schedgroup::Group::new();
            /// let answer = group.spawn_after(Duration::from_secs(1), async { 6 * 7 });
            /// assert_eq!(answer.await?, 42);
            /// # Ok(())
            /// # }
            /// ```
            #[track_caller]
            pub fn spawn_after<F>(
                &self,
                delay: std::time::Duration,
                future: F,
            ) -> $crate::JoinHandle<F::Output>
            where
                F: Future + Send + 'static,
                F::Output: Send + 'static,
            {
                let submitter = self.submitter();
                submitter.spawn(submitter.after(delay), future)
            }

            /// Schedules `future` to run once, at the instant `at`; otherwise like
            /// [`spawn_after`](Self::spawn_after).
            ///
            #[doc = $panics]
            ///
            /// # Errors
            ///
            /// Those of [`spawn_after`](Self::spawn_after).
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use tokio::time::Instant;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::JobError> {
            /// let group = schedgroup::Group::new();
            /// let at = Instant::now() + Duration::from_secs(1);
            /// let answer = group.spawn_at(at, async { 6 * 7 });
            /// assert_eq!(answer.await?, 42);
            /// # Ok(())
            /// # }
            /// ```
            #[track_caller]
            pub fn spawn_at<F>(
                &self,
                at: tokio::time::Instant,
                future: F,
            ) -> $crate::JoinHandle<F::Output>
            where
                F: Future + Send + 'static,
                F::Output: Send + 'static,
            {
                let submitter = self.submitter();
                submitter.spawn(submitter.at(at), future)
            }

            /// Schedules a repeating job: it runs at `first`, and again whenever its last run asked for,
            /// until a run returns [`Next::Done`](crate::Next::Done).
            ///
            /// `wait` does not resolve before that. So a job that repeats for as long as the group is open
            /// returns `Done` when [`is_draining`](crate::JobContext::is_draining) is `true`; it sees this in
            /// its next run, so `wait` may take as long as one pause. A series of [`every`](Self::every)
            /// ends at `wait` by itself.
            ///
            /// The runs never overlap. Between two runs the job is pending, holds no slot of
            /// `max_running`, and can be cancelled and moved. A reset during a run is not lost: the job
            /// runs again at that instant or at the one that the run returns, whichever is earlier, and also
            /// if the run returns `Done`. A cancel during a run makes it the last one.
            ///
            /// What runs have to remember is shared with them, for example in an `Arc` that is cloned for each
            /// run. A number that an `async move` block captures is copied: changes that a run makes to it are
            /// lost.
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::Next;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = schedgroup::Group::new();
            /// group.repeat(tokio::time::Instant::now(), |job| async move {
            ///     println!("beat {}", job.run());
            ///     if job.is_draining() { Next::Done } else { Next::After(Duration::from_secs(1)) }
            /// });
            /// group.wait().await
            /// # }
            /// ```
            ///
            /// In this example a lease is renewed every ten seconds, until that fails three times in a row;
            /// then the group is cancelled, and with it all jobs that need the lease:
            ///
            /// ```
            /// # use std::time::Duration;
            /// # use schedgroup::{Group, Next};
            /// # use tokio::time::Instant;
            /// # async fn renew() -> Result<(), &'static str> { Err("no route") }
            /// use std::sync::Arc;
            /// use std::sync::atomic::{AtomicU32, Ordering};
            ///
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() {
            /// let (group, period) = (Group::new(), Duration::from_secs(10));
            /// let failures = Arc::new(AtomicU32::new(0));
            /// group.repeat(Instant::now() + period, move |job| {
            ///     let failures = Arc::clone(&failures);
            ///     async move {
            ///         match renew().await {
            ///             Ok(()) => failures.store(0, Ordering::Relaxed),
            ///             Err(_) if failures.fetch_add(1, Ordering::Relaxed) < 2 => {}
            ///             Err(_) => job.token().cancel(),
            ///         }
            ///         Next::At(job.deadline() + period)
            ///     }
            /// });
            /// group.token().cancelled().await; // after 30 seconds
            /// group.shutdown(Duration::from_secs(5)).await; // waits for the running jobs
            /// # }
            /// ```
            #[track_caller]
            pub fn repeat<F, Fut>(&self, first: tokio::time::Instant, run: F) -> $crate::JobHandle
            where
                F: FnMut($crate::JobContext) -> Fut + Send + 'static,
                Fut: Future<Output = $crate::Next> + Send + 'static,
            {
                self.submitter()
                    .repeat(first, run, $crate::sched::state::JobKind::Series)
            }
        }
    };
}
pub(super) use schedule_methods;
