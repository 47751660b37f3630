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
