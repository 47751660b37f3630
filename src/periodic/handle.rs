//! The handle to a job that follows a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::{JobHandle, JobId, JobState};

/// A handle to a series of ticks, or to a job at a time of a wall clock: cancel it, abort it, or query its state.
///
/// Clones refer to the same job. Dropping a handle does not cancel the job. Such a job cannot be moved to another
/// instant, since its timetable or clock decides when it runs.
///
/// A series cannot be paused. To stop it for a while, [cancel](TimedHandle::cancel) it and begin another one later; or
/// let its runs return at once while a flag is set.
///
/// The deadline of a series of [`every`](crate::Group::every) is in the list of [`jobs`](crate::Group::jobs), under its
/// [`id`](TimedHandle::id). If the series follows a wall clock, the list tells only when it looks at the clock next. The
/// next time of a calendar is what the closure of [`at`](super::at()) has returned: let the closure store it.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// let beats = group.every(Duration::from_secs(1)).run(|_| async { println!("beat") });
/// tokio::time::sleep(Duration::from_secs(3)).await;
/// assert!(beats.cancel());
/// assert!(beats.is_finished());
/// group.wait().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TimedHandle {
    job: JobHandle,
    once: Option<Claim>,
}

/// The decision about a job that runs once.
///
/// ```text
///           its start
///   OPEN ───────────────────────────────────────▶ CLOSED
///   │  ▲                                            ▲
///   │  │ the group says that no run was left        │
///   ▼  │                                            │
///   CANCELLING ─────────────────────────────────────┘
///               a start, which finds that it is cancelled
/// ```
///
/// A cancel asks the group after it has claimed the decision here, since the group does not know whether a look that is
/// under way will start the job. In a group that was shut down such a look is the last one: so the group answers that
/// nothing was left to cancel, and it is the look that tells whether the job would have started.
// `Relaxed`: it publishes nothing else, since the group has what the job holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicU8>);

const OPEN: u8 = 0;
const CANCELLING: u8 = 1;
const CLOSED: u8 = 2;

impl Claim {
    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }

    /// Returns whether the job may start. If not, it was cancelled.
    pub(super) fn start(&self) -> bool {
        self.0.swap(CLOSED, Relaxed) == OPEN
    }

    /// Returns whether this cancel prevented the run; `in_group` asks the group.
    fn cancel(&self, in_group: impl FnOnce() -> bool) -> bool {
        // If it cannot be opened again, a start has found it cancelled.
        self.change(OPEN, CANCELLING) && (in_group() || !self.change(CANCELLING, OPEN))
    }
}

impl TimedHandle {
    pub(super) fn series(job: JobHandle) -> TimedHandle {
        TimedHandle { job, once: None }
    }

    pub(super) fn once(job: JobHandle, claim: Claim) -> TimedHandle {
        TimedHandle {
            job,
            once: Some(claim),
        }
    }

    /// Cancels the job or series. Returns `true` if this call prevented a run; at most one call ever returns `true`.
    ///
    /// A run in progress is not interrupted; it is then the last run of its series. For a series that has no further run
    /// anyway, since `wait`, `drain` or `shutdown` was called or the group has ended, it returns `false`.
    ///
    /// One case cannot be told: a job of [`at_wall`](crate::Group::at_wall) whose last look at its clock waits for a slot
    /// of `max_running` when the group is shut down. Then it returns `true`, also if the shutdown came before the job's
    /// time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let beats = group.every(Duration::from_secs(1)).run(|_| async { println!("beat") });
    /// assert!(beats.cancel());
    /// assert!(!beats.clone().cancel(), "it was cancelled before");
    /// group.wait().await
    /// # }
    /// ```
    ///
    /// In this example a series stops for a while. The second one has the start of the first, and so its timetable:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::{Instant, sleep};
    /// use schedgroup::periodic::Tick;
    ///
    /// async fn beat(tick: Tick) {
    ///     println!("beat {}", tick.number());
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let (start, second) = (Instant::now(), Duration::from_secs(1));
    /// let beats = group.every(second).starting_at(start).run(beat);
    /// sleep(second + second / 2).await; // beat 0, beat 1
    /// assert!(beats.cancel());
    /// sleep(3 * second).await;
    /// group.every(second).starting_at(start).run(beat);
    /// sleep(second).await; // beat 5
    /// group.wait().await
    /// # }
    /// ```
    ///
    /// A run of the first series that is in progress may overlap with one of the second.
    pub fn cancel(&self) -> bool {
        match &self.once {
            None => self.job.cancel(),
            Some(once) => once.cancel(|| self.job.cancel()),
        }
    }

    /// Cancels the job or series, and aborts a run in progress at its next await.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let stuck = group.every(Duration::from_secs(1)).run(|_| std::future::pending());
    /// tokio::time::sleep(Duration::from_secs(3)).await;
    /// stuck.abort();
    /// group.wait().await // an abort is no error
    /// # }
    /// ```
    pub fn abort(&self) {
        self.job.abort();
    }

    /// Returns the id of the job in its group.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let beats = group.every(Duration::from_secs(1)).run(|_| async {});
    /// assert!(group.jobs().iter().any(|job| job.id == beats.id()));
    /// group.wait().await
    /// # }
    /// ```
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// Returns the state of the job. It is `Pending` between two ticks. If it follows a wall clock, it is `Running` for
    /// a moment each time it looks at the clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::{Group, JobState};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// let beats = group.every(Duration::from_secs(1)).run(|_| async {});
    /// assert_eq!(beats.state(), JobState::Pending);
    /// group.wait().await?;
    /// assert_eq!(beats.state(), JobState::Finished);
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> JobState {
        self.job.state()
    }

    /// Returns `true` if the job or series has finished, was cancelled, or panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let beats = group.every(Duration::from_secs(1)).run(|_| async {});
    /// assert!(!beats.is_finished());
    /// group.wait().await?;
    /// assert!(beats.is_finished(), "a series ends at `wait`");
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_finished(&self) -> bool {
        self.job.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::sleep;

    use super::{CANCELLING, OPEN};
    use crate::periodic::WallClock;
    use crate::{Group, JobState};

    /// A job that is due in a second, and a claim of it.
    fn due_in_a_second(group: &Group) -> (super::TimedHandle, super::Claim) {
        let start = SystemTime::UNIX_EPOCH;
        let begun = tokio::time::Instant::now();
        let clock = WallClock::new(move || start + begun.elapsed());
        let job = group.at_wall(&clock, start + SECOND, |_| async { unreachable!() });
        let claim = job.once.clone().expect("it runs once");
        (job, claim)
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// The look at the clock comes between the two steps of the cancel.
    #[tokio::test(start_paused = true)]
    async fn a_cancel_that_came_before_the_start_is_told_so() {
        let group = Group::new();
        let (job, claim) = due_in_a_second(&group);
        assert!(claim.change(OPEN, CANCELLING));
        sleep(2 * SECOND).await;
        assert!(job.job.cancel());
        assert_eq!(job.state(), JobState::Cancelled);
        assert!(group.wait().await.is_ok());
    }

    /// The same, and the group is shut down in between: then only the start that was refused tells it.
    #[tokio::test(start_paused = true)]
    async fn a_cancel_that_kept_the_last_look_from_starting_is_told_so() {
        let group = Group::new();
        let (job, claim) = due_in_a_second(&group);
        let cancelled = claim.cancel(|| {
            assert!(!claim.start());
            false
        });
        assert!(cancelled);
        assert!(!job.cancel(), "at most one");
        // And one that kept nothing from starting leaves the decision open.
        let claim = super::Claim::default();
        assert!(!claim.cancel(|| false));
        assert!(claim.start());
    }
}
