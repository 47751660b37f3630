//! Counts and lists of a group's jobs.

use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use super::job::{JobId, JobState};

/// Counts of a group's jobs at one moment, all taken together; returned by [`stats`](crate::Group::stats).
///
/// Every job that was accepted is counted in exactly one of `pending`, `running`, `finished`, `cancelled` and
/// `panicked`. A repeating job counts as one job, which is pending or running until its series ends. Its runs are not
/// counted here: a job that needs such a metric counts its runs itself.
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
    /// The jobs among `pending` that are due and have not started yet: they wait for a slot or a worker. A job that was
    /// just scheduled, moved, or has just fallen due is among them once the driver has taken its next turn.
    pub waiting: usize,
    /// Jobs that have started and not ended.
    pub running: usize,
    /// Jobs that ran to their end.
    pub finished: u64,
    /// Jobs that were cancelled, aborted, or dropped with the group.
    pub cancelled: u64,
    /// Jobs that ended by a panic.
    pub panicked: u64,
    /// A lower bound of the earliest deadline of a pending job, which may be too early if a job was moved, cancelled or
    /// started shortly before. `None` if nothing is pending.
    pub next_deadline: Option<Instant>,
    /// The greatest lateness with which a job has started so far. Where jobs are short, the clock is read only for
    /// every eighth job and for the last of each batch; [`JobContext::lateness`](crate::JobContext::lateness) is exact
    /// for its run.
    pub max_lateness: Duration,
    /// How many turns the driver has taken: one for each wake-up, and more while many jobs arrive or fall due. A job that
    /// is due later than the one the driver sleeps for does not wake it.
    pub driver_wakeups: u64,
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
    /// When it is due; if it is running, when this run was due. If the job follows a wall clock or a calendar, when it
    /// looks at the clock next, which may be long before its next run.
    pub deadline: Instant,
    /// The line of the program that scheduled it.
    pub scheduled_at: &'static Location<'static>,
    /// The number of its present run, or of its next run if it is pending; the first run is 1. If the job follows a
    /// wall clock or a calendar, each look at the clock counts as a run.
    pub run: u64,
}
