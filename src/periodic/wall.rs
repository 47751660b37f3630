//! Jobs at times of the wall clock.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::{Origin, WallClock};
use super::handle::{Claim, TimedHandle};
use crate::common::panic::Guarded;
use crate::{Handle, Job, JobContext, Next};

impl WallClock {
    /// Schedules a closure to run once, when this clock has reached `at`, or at once if it has; the closure gets a
    /// [`JobContext`] and returns the job.
    ///
    /// `wait` waits for it, as for every job, and a `shutdown` drops it unless this clock has reached `at` before. If the
    /// group rejects jobs, the closure is dropped and the returned handle is a finished one.
    /// [`at_wall`](crate::Group::at_wall) is the same as a method of the group. A group that is in an `Arc` is passed
    /// here as `&*group`. The clock is read here for the first time, and a panic of it is passed on.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use schedgroup::Group;
    /// # use schedgroup::periodic::WallClock;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let (group, clock) = (Group::new(), WallClock::system());
    /// let soon = SystemTime::now() + Duration::from_millis(5);
    /// clock.schedule(&group, soon, |context| async move {
    ///     println!("job {} runs", context.id());
    /// });
    /// group.wait().await
    /// # }
    /// ```
    #[track_caller]
    pub fn schedule<F, J>(&self, group: &impl AsRef<Handle>, at: SystemTime, job: F) -> TimedHandle
    where
        F: FnOnce(JobContext) -> J + Send + 'static,
        J: Job,
    {
        let origin = Origin::Wall(self.clone(), at);
        // Guarded while a clock of the user is read.
        let job = Guarded::new(job);
        let first = origin.look_for(Duration::ZERO, origin.read());
        let first = first.unwrap_or_else(Instant::now);
        let mut job = Some(job.into_inner());
        let claim = Claim::default();
        let decision = claim.clone();
        let handle = group.as_ref().repeat_in_steps(first, move |context| {
            // Looks are not runs of the job.
            let now = origin.read();
            let (run, next) = match origin.look_for(Duration::ZERO, now) {
                Some(again) => (None, Next::At(again)),
                // A shutdown came first, and this look was due then. It is the last one, and the job is dropped.
                None if !context.may_start_at(now.instant_of(Duration::ZERO)) => {
                    (None, Next::After(Duration::MAX))
                }
                None => match job.take().filter(|_| decision.start()) {
                    Some(job) => (Some(job(context.with_run(1))), Next::Done),
                    // A cancel was first. Its next step finds the job pending, and ends it.
                    None => (None, Next::After(Duration::MAX)),
                },
            };
            async move {
                if let Some(run) = run {
                    run.await;
                }
                next
            }
        });
        TimedHandle::once(handle, claim)
    }
}
