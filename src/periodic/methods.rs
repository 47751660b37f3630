//! The methods of `Group`, `Handle` and `JobContext` for what follows a clock, written once for the three.

use std::time::{Duration, SystemTime};

use super::clock::WallClock;
use super::every::Every;
use super::handle::TimedHandle;
use crate::{Group, Handle, Job, JobContext};

/// `$handle` is through which handle they schedule, and `$panics` what its callers must know about misuse.
macro_rules! methods {
    ($type:ty, $handle:expr, $panics:literal) => {
        impl $type {
            /// Creates a series of runs, one each `period`, which starts with [`run`](Every::run).
            ///
            /// The ticks are anchored: tick k is meant for the start plus k periods, however long the runs take, and
            /// two runs never overlap. [`repeat`](Self::repeat) is for a job that says itself when it runs next. A
            /// series ends at `wait` after its present run, while `wait` waits for a repeating job until it is done.
            ///
            /// # Panics
            ///
            /// If the period is zero.
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::Duration;
            /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = schedgroup::Group::new();
            /// group.every(Duration::from_secs(1)).run(|tick| async move {
            ///     println!("beat {}", tick.number());
            /// });
            /// tokio::time::sleep(Duration::from_millis(2500)).await; // beat 0, beat 1, beat 2
            /// group.wait().await
            /// # }
            /// ```
            #[doc(alias = "interval")]
            #[track_caller]
            pub fn every(&self, period: Duration) -> Every<'_> {
                let handle: fn(&$type) -> &Handle = $handle;
                Every::new(handle(self), period)
            }

            /// Schedules the job that `job` makes, at a time of a wall clock, or at once if that has passed:
            /// [`WallClock::schedule`] as a method.
            ///
            #[doc = $panics]
            ///
            /// # Examples
            ///
            /// ```
            /// # use std::time::{Duration, SystemTime};
            /// # use schedgroup::Group;
            /// # use schedgroup::periodic::WallClock;
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() -> Result<(), schedgroup::WaitError> {
            /// let group = Group::new();
            /// let soon = SystemTime::now() + Duration::from_millis(5);
            /// group.at_wall(&WallClock::system(), soon, |_| async { println!("now") });
            /// group.wait().await
            /// # }
            /// ```
            #[track_caller]
            pub fn at_wall<F, J>(&self, clock: &WallClock, at: SystemTime, job: F) -> TimedHandle
            where
                F: FnOnce(JobContext) -> J + Send + 'static,
                J: Job,
            {
                let handle: fn(&$type) -> &Handle = $handle;
                clock.schedule(handle(self), at, job)
            }
        }
    };
}

methods!(
    Group,
    Group::own,
    "# Panics\n\nAfter `wait`, `drain` or `shutdown` was called."
);
methods!(
    Handle,
    |handle| handle,
    "Never panics: in a group that rejects it the job is dropped, and the returned handle is a finished one."
);
methods!(
    JobContext,
    AsRef::as_ref,
    "Never panics: in a group that rejects it the job is dropped, and the returned handle is a finished one."
);
