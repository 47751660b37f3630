//! Counts and lists of a group's jobs.

use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use super::job::{JobId, JobState};

/// Counts of a group's jobs at one moment, all taken together; returned by [`stats`](crate::Group::stats).
///
/// Every job that was accepted is in exactly one of `pending`, `running`, `finished`, `cancelled` and
/// `panicked`. A repeating job is one job: it is pending or running until its series ends.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::builder().max_running(1).build();
/// for _ in 0..3 {
///     group.delay(Duration::ZERO, std::future::pending());
/// }
/// tokio::time::sleep(Duration::from_millis(1)).await;
/// let stats = group.stats();
/// assert_eq!((stats.running, stats.waiting, stats.pending), (1, 2, 2));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that have not started.
    pub pending: usize,
    /// The part of `pending` that is due and has no slot yet.
    pub waiting: usize,
    /// Jobs that have started and not ended.
    pub running: usize,
    /// Jobs that ran to their end.
    pub finished: u64,
    /// Jobs that were cancelled, aborted, or dropped with the group.
    pub cancelled: u64,
    /// Jobs that ended by a panic.
    pub panicked: u64,
    /// A lower bound of the earliest deadline of a pending job: a job that was moved, cancelled or started
    /// since may still be counted. `None` if nothing is pending.
    pub next_deadline: Option<Instant>,
    /// How late the latest start of a job has been until now. While jobs are short the clock is read for each eighth of
    /// them, and for the last of each batch; [`JobContext::lateness`](crate::JobContext::lateness) is exact for its
    /// run.
    pub max_lateness: Duration,
    /// How often the driver has woken. A job that is due later than the one the driver sleeps
    /// for does not wake it.
    pub driver_wakeups: u64,
}

/// Counts of a group's jobs by outcome when it was ended; returned by [`drain`](crate::Group::drain) and
/// [`shutdown`](crate::Group::shutdown), also by those of a [`TaskGroup`](crate::task::TaskGroup).
///
/// The three numbers add up to all the jobs that the group held at the call; after a drain, also those that came
/// later.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::new();
/// group.delay(Duration::from_secs(1), async {});
/// let report = group.shutdown(Duration::ZERO).await;
/// assert_eq!((report.finished, report.aborted, report.dropped), (0, 0, 1));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Report {
    /// Jobs that ran to their end, by a panic or not; repeating ones too, whatever they returned.
    pub finished: usize,
    /// Jobs that had started and were aborted, at the end of the grace or one by one.
    pub aborted: usize,
    /// Jobs that had not started and never will; repeating ones between two runs, or cancelled in one, too.
    pub dropped: usize,
}

/// One job of a group that has not ended, as it was at one moment; listed by [`jobs`](crate::Group::jobs).
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use schedgroup::{Group, JobState};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// group.delay(Duration::from_secs(60), async {});
/// let jobs = group.jobs();
/// assert_eq!((jobs[0].state, jobs[0].run), (JobState::Pending, 1));
/// println!("job {} was scheduled at {}", jobs[0].id, jobs[0].scheduled_at);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobInfo {
    /// The id of the job.
    pub id: JobId,
    /// Whether it is pending or running.
    pub state: JobState,
    /// When it is due; if it runs, when this run was.
    pub deadline: Instant,
    /// The line of the program that scheduled it.
    pub scheduled_at: &'static Location<'static>,
    /// The number of the run that it is at; if it is pending, of the one that comes next. 1 is the first. Of a job
    /// that follows a wall clock or a calendar each look at the clock counts as a run.
    pub run: u64,
}
