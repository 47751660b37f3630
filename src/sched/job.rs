//! The types of a job: what it is, its id, its state, and its next step.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A future that a group can run: it returns `()` and is `Send + 'static`.
///
/// Pass an `async move` block or the call of an `async fn`. If the work returns a `Result`, handle the error inside the
/// job, `async move { if let Err(error) = work().await { .. } }`, or schedule the work with
/// [`spawn_after`](crate::Group::spawn_after), whose [`JoinHandle`](crate::JoinHandle) resolves to the value.
///
/// A job must not block its thread. Like any blocking task it would occupy a worker of the runtime, could not be
/// aborted, and if it blocks after an await it could hold up every timer of the runtime. Do blocking work in
/// `tokio::task::spawn_blocking`, and await its handle in the job.
///
/// Due jobs run in parallel on the runtime's worker threads, never on the driver. They have no tasks of their own:
/// worker tasks of the group start them, and when a job is woken any free worker polls it again. So inside a job
/// `tokio::task::id` returns the id of a worker: several jobs share it, and it may change at each await. All jobs that
/// a worker polls share its cooperative budget, which is renewed when the worker yields. The waker stays the same for
/// the whole run, and the span of the run is entered at each poll.
///
/// The trait is implemented for every such future and cannot be implemented by hand. It exists for the sake of compiler
/// errors: if you pass a closure, the error says what to pass instead, and if a captured value is not `Send`, the error
/// names that value.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// async fn greet(name: String) {
///     println!("hello, {name}");
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// group.delay(Duration::from_millis(1), greet("world".to_owned()));
/// group.delay(Duration::from_millis(2), async move { println!("and good night") });
/// group.wait().await
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job: a job is a future that returns `()` and is `Send + 'static`",
    label = "not a job",
    note = "where a method takes a job, pass `async move {{ .. }}` instead of a closure",
    note = "where it takes a closure, let that return the job: `|context| async move {{ .. }}`"
)]
pub trait Job: Future<Output = ()> + Send + 'static + sealed::Sealed {}

// `do_not_recommend` would hide what the compiler finds below this impl: the type that is not `Send`.
impl<F: Future<Output = ()> + Send + 'static> Job for F {}

mod sealed {
    pub trait Sealed {}
    impl<F: Future<Output = ()> + Send + 'static> Sealed for F {}
}

/// The id of a job, unique in its group. Jobs that were submitted later compare greater.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::new();
/// let job = group.delay(Duration::from_secs(1), async {});
/// println!("scheduled job {}", job.id());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The state of a job.
///
/// The last three are final. A repeating job is `Pending` between its runs.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::{Group, JobState};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = Group::new();
/// let job = group.delay(Duration::from_secs(1), std::future::pending());
/// assert_eq!(job.state(), JobState::Pending);
/// tokio::time::sleep(Duration::from_secs(2)).await;
/// assert_eq!(job.state(), JobState::Running);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Not started: its deadline lies ahead, or it is due and waits for a slot or a worker.
    Pending,
    /// Started and not finished.
    Running,
    /// Ran to its end.
    Finished,
    /// Cancelled, aborted, or dropped with its group.
    Cancelled,
    /// Ended by a panic of its own.
    Panicked,
}

/// The next step of a repeating job; returned by each run of [`repeat`](crate::Group::repeat).
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
///         _ => Next::After(Duration::from_secs(60)),
///     }
/// });
/// group.wait().await
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Next {
    /// No further run.
    Done,
    /// Run again after this delay, counted from the end of this run.
    After(Duration),
    /// Run again at this instant, or at once if it has passed. Due jobs reach the workers in the order of their deadlines,
    /// so a series that keeps returning instants in the past comes before all jobs that are due later.
    At(Instant),
}
