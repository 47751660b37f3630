//! A job's view of its group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::JobPanic;
use super::handle::Handle;
use super::job::JobId;
use super::runnable::Run;
use super::schedule::{Submitter, schedule_methods};
use super::shared::Shared;
use super::state::Caller;
use crate::common::panic::Payload;

/// A running job's view of its group: its deadline, the cancel token, and the methods to schedule more.
///
/// The jobs of `delay_with`, `schedule_with`, `repeat` and `at_wall` get one, and each
/// [`Tick`](crate::periodic::Tick) of a series has one. What it schedules is accepted while `wait` or `drain` is under
/// way, and is waited for. Once the group was shut down or cancelled, or was closed and no job is left, its methods do
/// not panic, but drop the job and return a finished handle. A context may outlive its job, and schedules
/// under the same rules then. The counts of the group are at `context.handle().stats()`.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// group.delay_with(Duration::from_secs(1), |context| async move {
///     println!("{:?} late", context.lateness());
///     context.delay(Duration::from_secs(1), async { println!("and then") });
/// });
/// group.wait().await // covers both
/// # }
/// ```
pub struct JobContext {
    /// Of the group's own jobs, which are admitted while it drains.
    lent: Handle,
    run: Run,
    number: u64,
}

impl JobContext {
    /// The context of a run that starts now.
    pub(super) fn new(shared: &Arc<Shared>, run: Run, number: u64) -> JobContext {
        JobContext {
            lent: Handle::uncounted(Arc::clone(shared), Caller::Job),
            run: run.at_exact_time(|| shared.now()),
            number,
        }
    }

    /// Returns the group's token. A cancel of the group does not interrupt running jobs: they see it here.
    /// `wait`, `drain` and `shutdown` do not cancel it: a job sees them in [`is_draining`](JobContext::is_draining).
    ///
    /// In a branch of `select!` write `context.token().cancelled_owned()`, since `cancelled()` borrows the token.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group = schedgroup::Group::new();
    /// group.delay_with(Duration::ZERO, |context| async move {
    ///     context.token().cancelled().await;
    ///     println!("tidied up");
    /// });
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// group.cancel();
    /// group.shutdown(Duration::from_secs(1)).await;
    /// # }
    /// ```
    pub fn token(&self) -> CancellationToken {
        self.lent.token()
    }

    /// Returns the instant at which this run was due.
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
    /// group.schedule_with(at, move |context| async move {
    ///     assert_eq!(context.deadline(), at);
    /// });
    /// group.wait().await
    /// # }
    /// ```
    pub fn deadline(&self) -> Instant {
        self.lent.instant(self.run.deadline)
    }

    /// Returns how late this run started, measured from [`deadline`](JobContext::deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::Instant;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// let minute = Duration::from_secs(60);
    /// group.schedule_with(Instant::now() - minute, move |context| async move {
    ///     assert_eq!(context.lateness(), minute);
    /// });
    /// group.wait().await
    /// # }
    /// ```
    pub fn lateness(&self) -> Duration {
        self.run.now.since(self.run.deadline)
    }

    /// Returns the number of this run of the job; 1 for the first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, Next};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// group.repeat(tokio::time::Instant::now(), |context| async move {
    ///     match context.run() {
    ///         3 => Next::Done,
    ///         _ => Next::After(Duration::from_secs(1)),
    ///     }
    /// });
    /// group.wait().await // after two seconds
    /// # }
    /// ```
    pub fn run(&self) -> u64 {
        self.number
    }

    /// Returns `true` if `wait`, `drain` or `shutdown` of the group was called.
    ///
    /// A repeating job looks at it in each run, to end with the group. A pause is not cut short: the job sees it in its
    /// next run.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use schedgroup::{Group, Next};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = Group::new();
    /// group.repeat(tokio::time::Instant::now(), |context| async move {
    ///     if context.is_draining() { Next::Done } else { Next::After(Duration::from_secs(1)) }
    /// });
    /// group.wait().await
    /// # }
    /// ```
    pub fn is_draining(&self) -> bool {
        self.lent.is_draining()
    }

    /// Returns the id of the job.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// group.delay_with(Duration::ZERO, |context| async move {
    ///     println!("job {}", context.id());
    /// });
    /// group.wait().await
    /// # }
    /// ```
    pub fn id(&self) -> JobId {
        self.run.id
    }

    /// Returns a handle for other tasks, which may schedule while `wait` or `drain` is under way, as this context may.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), schedgroup::WaitError> {
    /// let group = schedgroup::Group::new();
    /// group.delay_with(Duration::ZERO, |context| async move {
    ///     let handle = context.handle();
    ///     let other = tokio::spawn(async move {
    ///         handle.delay(Duration::from_secs(1), async { println!("waited for, too") });
    ///     });
    ///     other.await.unwrap_or_else(|error| println!("{error}"));
    /// });
    /// group.wait().await
    /// # }
    /// ```
    pub fn handle(&self) -> Handle {
        self.lent.clone()
    }

    /// Returns the context with another number of the run: a series does not count its looks at a clock as runs.
    pub(crate) fn with_run(mut self, number: u64) -> JobContext {
        self.number = number;
        self
    }

    /// Returns whether a job that is due at that instant may start.
    pub(crate) fn may_start_at(&self, due: Instant) -> bool {
        let due = self.lent.timestamp(due);
        let shared = self.lent.shared();
        shared.with(|state| state.lifecycle.may_start_at(due))
    }

    /// Reports a panic that its series survives, as those that end a job are.
    pub(crate) fn report_panic(&self, payload: Payload) {
        let shared = self.lent.shared();
        let panic = JobPanic::new(payload, self.run.id, self.run.scheduled_at);
        shared.report_panic(&panic);
        // A panic that is not the first comes back, and is dropped after the lock.
        let _unwanted = shared.with(|state| state.jobs.first_panic.keep(panic));
    }

    fn submitter(&self) -> Submitter<'_> {
        self.lent.submitter()
    }
}

schedule_methods!(
    JobContext,
    "Never panics: in a group that has drained or was shut down the job is dropped, and the returned handle is a \
     finished one."
);

impl AsRef<Handle> for JobContext {
    /// Returns a handle that is admitted while the group drains, and that [`detach`](crate::Group::detach) does not
    /// count.
    fn as_ref(&self) -> &Handle {
        &self.lent
    }
}

impl Clone for JobContext {
    fn clone(&self) -> JobContext {
        JobContext {
            lent: Handle::uncounted(Arc::clone(self.lent.shared()), Caller::Job),
            ..*self
        }
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.run.id)
            .field("run", &self.number)
            .field("deadline", &self.deadline())
            .field("lateness", &self.lateness())
            .finish_non_exhaustive()
    }
}
