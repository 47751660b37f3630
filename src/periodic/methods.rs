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
            /// Creates a series of runs at a fixed rate, one per `period`, which starts with [`run`](Every::run).
            ///
            /// Tick 0 is due when `run` is called, and tick k is due k periods later, however long the runs take. Two
            /// runs never overlap. `wait` ends the series after its present run: a program first awaits whatever tells
            /// it to end, such as `tokio::signal::ctrl_c()`.
            ///
            /// For a job that decides after each run when the next one is due, use [`repeat`](Self::repeat); `wait`
            /// does not end such a job by itself.
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

            /// Schedules a closure to run once, when a wall clock has reached `at`, or at once if it has; the closure
            /// gets a [`JobContext`] and returns the job.
            ///
            /// It is [`WallClock::schedule`] as a method of the group.
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
