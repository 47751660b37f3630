//! The error that gives back what a group has rejected.

use std::fmt;

use thiserror::Error;

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
