//! Errors of jobs and of groups.

use std::fmt;
use std::panic::Location;

use thiserror::Error;

use super::job::JobId;
use crate::common::panic::Panic;

/// The error of a [`wait`](crate::Group::wait) that failed; returned by [`Wait`](crate::Wait).
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use schedgroup::{Group, WaitError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// group.delay(Duration::from_secs(1), async { panic!("no disk") });
/// match group.wait().await {
///     Err(WaitError::Panicked(panic)) => println!("job {} panicked", panic.job()),
///     other => unreachable!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The group was cancelled, a `drain` or `shutdown` left jobs over, or the runtime ended: jobs that had not started
    /// never will.
    #[error("group was cancelled before all of its jobs had finished")]
    Cancelled,
    /// The group's own deadline passed: jobs that had not started never will.
    #[error("deadline of the group passed before all of its jobs had finished")]
    DeadlineExceeded,
    /// Every job ended, and at least one of them panicked. It has the panic that came first.
    #[error(transparent)]
    Panicked(JobPanic),
}

/// The error of a job that has no value; returned by [`JoinHandle`](crate::JoinHandle).
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use schedgroup::{Group, JobError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let value = group.spawn_after(Duration::from_secs(1), async { 42 });
/// group.cancel();
/// assert!(matches!(value.await, Err(JobError::Cancelled)));
/// # }
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job was cancelled, aborted, rejected, or dropped with its group.
    #[error("job was cancelled before it had finished")]
    Cancelled,
    /// The job panicked.
    #[error(transparent)]
    Panicked(JobPanic),
}

/// The panic of a job, which is identified by its id.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use schedgroup::{Group, JobPanic, WaitError};
///
/// /// A line for the log.
/// fn line(panic: &JobPanic) -> String {
///     format!("job {} of {}: {}", panic.job(), panic.scheduled_at(), panic.message())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = Group::new();
/// group.delay(Duration::ZERO, async { panic!("no route") });
/// if let Err(WaitError::Panicked(panic)) = group.wait().await {
///     assert!(line(&panic).ends_with("no route"));
/// }
/// # }
/// ```
pub type JobPanic = Panic<JobId>;

impl Panic<JobId> {
    /// Returns the id of the job.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::{Group, WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// let job = group.delay(Duration::ZERO, async { panic!("no route") });
    /// if let Err(WaitError::Panicked(panic)) = group.wait().await {
    ///     assert_eq!(panic.job(), job.id());
    /// }
    /// # }
    /// ```
    pub fn job(&self) -> JobId {
        *self.id()
    }

    /// Returns the line of the program that scheduled the job.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::{Group, WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// group.delay(Duration::ZERO, async { panic!("no route") });
    /// if let Err(WaitError::Panicked(panic)) = group.wait().await {
    ///     println!("scheduled at {}", panic.scheduled_at()); // src/main.rs:6:7
    /// }
    /// # }
    /// ```
    pub fn scheduled_at(&self) -> &'static Location<'static> {
        self.call_site()
    }
}

impl fmt::Display for Panic<JobId> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "job {} scheduled at {} panicked: {}",
            self.job(),
            self.scheduled_at(),
            self.message()
        )
    }
}

/// The error of a job or a task that a group rejected; it has the job in it.
///
/// So `?` can convert it to a `Box<dyn Error + Send + Sync>` or an `anyhow::Error` only if the job is `Sync`. A boxed
/// future often is not; convert the text instead, with `.map_err(|error| error.to_string())?` to a `Box`.
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
/// let rejected = group.try_delay(Duration::from_secs(1), async { println!("now") });
/// if let Err(error @ ScheduleError::Cancelled(_)) = rejected {
///     error.into_inner().await; // now
/// }
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScheduleError<J> {
    /// The group was closed by `wait`, `drain` or `shutdown`. While a `wait` or a `drain` is under way, running jobs
    /// may still schedule through their context; otherwise use another group.
    #[error("group is closed: wait, drain or shutdown was called")]
    Closed(J),
    /// The group was cancelled or dropped or has reached its deadline, or its runtime ended.
    #[error("group is cancelled")]
    Cancelled(J),
    /// The limit of a [`TaskGroup`](crate::task::TaskGroup) is reached and its queue is full. Try again later, wait for
    /// a slot with [`submit`](crate::task::TaskGroup::submit), or queue the task with
    /// [`spawn`](crate::task::TaskGroup::spawn), whose queue is unbounded.
    #[error("group is full: its limit is reached and its queue has no capacity left")]
    Full(J),
}

impl<J> ScheduleError<J> {
    /// Returns the job that was rejected; it was never polled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use schedgroup::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group = Group::new();
    /// group.shutdown(Duration::ZERO).await;
    /// let job = async { println!("runs here instead") };
    /// if let Err(rejected) = group.try_delay(Duration::from_secs(1), job) {
    ///     rejected.into_inner().await;
    /// }
    /// # }
    /// ```
    pub fn into_inner(self) -> J {
        match self {
            ScheduleError::Closed(job)
            | ScheduleError::Cancelled(job)
            | ScheduleError::Full(job) => job,
        }
    }
}

impl<J> fmt::Debug for ScheduleError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScheduleError::Closed(_) => "Closed(..)",
            ScheduleError::Cancelled(_) => "Cancelled(..)",
            ScheduleError::Full(_) => "Full(..)",
        })
    }
}
