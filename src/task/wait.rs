//! The futures of `wait`, `wait_all`, `drain` and `shutdown`.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::pool::{Counts, Outcome, Pool};
use super::stats::TaskStats;
use crate::common::closing::{Closing, Report};
use crate::common::error::{TaskError, TaskErrors};
use crate::common::panic::{ENDED, discard_each};

/// Resolves when the group has drained. Its waker is removed when it is dropped.
struct Drained<'a, E: Send + 'static> {
    pool: &'a Arc<Pool<E>>,
    number: Option<u64>,
    ended: bool,
}

impl<'a, E: Send + 'static> Drained<'a, E> {
    fn new(pool: &'a Arc<Pool<E>>) -> Drained<'a, E> {
        Drained {
            pool,
            number: None,
            ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        assert!(!self.ended, "{ENDED}");
        // Each poll reads the state anew, so a spurious wake-up does no harm.
        let drained = self.pool.poll_drained(&mut self.number, cx);
        self.ended = drained.is_ready();
        drained
    }
}

impl<E: Send + 'static> Drop for Drained<'_, E> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // Otherwise the pool would keep the waker until the group ends.
            self.pool.stop_waiting(number);
        }
    }
}

/// The one `wait` of a group that may be alive. If it is dropped before it has resolved, the next may come.
pub(super) struct WaitInner<'a, E: Send + 'static> {
    drained: Drained<'a, E>,
}

impl<'a, E: Send + 'static> WaitInner<'a, E> {
    #[track_caller]
    pub(super) fn new(pool: &'a Arc<Pool<E>>, method: &'static str) -> WaitInner<'a, E> {
        // At the call and not at the first poll, so that misuse panics at the caller's line.
        let admitted = pool.close_to_wait(method);
        assert!(
            admitted,
            "schedgroup: multiple calls to TaskGroup::{method}"
        );
        WaitInner {
            drained: Drained::new(pool),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<E>> {
        // The failures are taken only now: a `wait` that is dropped before leaves them to the next one.
        ready!(self.drained.poll(cx));
        Poll::Ready(self.drained.pool.take_outcome())
    }
}

impl<E: Send + 'static> Drop for WaitInner<'_, E> {
    fn drop(&mut self) {
        // One that has resolved has taken the failures, and must stay the last.
        if !self.drained.ended {
            self.drained.pool.give_up_wait();
        }
    }
}

/// A future that waits for a group and resolves to its counts or its first error; created by
/// [`TaskGroup::wait`](super::TaskGroup::wait).
///
/// # Cancel safety
///
/// It may be dropped at any time: the group stays closed, and `wait` may be called again.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Errors
///
/// Those of [`TaskGroup::wait`](super::TaskGroup::wait).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = TaskGroup::new();
/// group.spawn(tokio::time::sleep(Duration::from_secs(5)));
/// let stats = loop {
///     tokio::select! {
///         outcome = group.wait() => break outcome.unwrap(),
///         () = tokio::time::sleep(Duration::from_secs(2)) => println!("{:?}", group.stats()),
///     }
/// };
/// assert_eq!(stats.finished, 1);
/// # }
/// ```
#[must_use = "the group is closed already; await this to see its tasks end"]
pub struct Wait<'a, E: Send + 'static = Infallible>(pub(super) WaitInner<'a, E>);

/// A future that waits for a group and resolves to its counts or to all its errors; created by
/// [`TaskGroup::wait_all`](super::TaskGroup::wait_all).
///
/// # Cancel safety
///
/// It may be dropped at any time: the group stays closed, and `wait_all` may be called again.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Errors
///
/// Those of [`TaskGroup::wait_all`](super::TaskGroup::wait_all).
///
/// # Examples
///
/// ```
/// use schedgroup::task::{OnError, TaskGroup};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let group = TaskGroup::builder().on_error(OnError::Continue).build();
/// for part in 0..4 {
///     group.spawn(async move { if part % 2 == 0 { Ok(()) } else { Err(part) } });
/// }
/// let errors = group.wait_all().await.unwrap_err();
/// assert!(errors.iter().map(|error| error.index()).eq([Some(1), Some(3)]));
/// # }
/// ```
#[must_use = "the group is closed already; await this to see its tasks end"]
pub struct WaitAll<'a, E: Send + 'static = Infallible>(pub(super) WaitInner<'a, E>);

impl<E: Send + 'static> Future for Wait<'_, E> {
    type Output = Result<TaskStats, TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = ready!(self.0.poll(cx));
        let mut failures = end.failures.into_iter();
        let first = failures.next();
        // One by one: errors are users' values, and two destructors that panic at once would end the process.
        discard_each(failures);
        Poll::Ready(match first.or(end.lost) {
            Some(error) => Err(error),
            None => Ok(end.stats),
        })
    }
}

impl<E: Send + 'static> Future for WaitAll<'_, E> {
    type Output = Result<TaskStats, TaskErrors<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = ready!(self.0.poll(cx));
        let mut errors = end.failures;
        errors.sort_by_key(TaskError::index);
        if errors.is_empty() {
            errors.extend(end.lost);
        }
        Poll::Ready(TaskErrors::new(errors).map_or(Ok(end.stats), Err))
    }
}

/// A future that resolves to a [`Report`] when a drain is complete; created by
/// [`TaskGroup::drain`](super::TaskGroup::drain).
///
/// # Cancel safety
///
/// It may be dropped at any time: the drain goes on.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = TaskGroup::new();
/// group.spawn(std::future::pending::<()>());
/// drop(group.drain(Duration::from_secs(10)));
/// assert!(group.wait().await.is_err(), "its task was aborted after the grace");
/// # }
/// ```
#[must_use = "the drain is on its way already; await this to see it complete"]
pub struct Drain<'a, E: Send + 'static = Infallible>(pub(super) Closed<'a, E>);

/// A future that resolves to a [`Report`] when a shutdown is complete; created by
/// [`TaskGroup::shutdown`](super::TaskGroup::shutdown).
///
/// # Cancel safety
///
/// It may be dropped at any time: the shutdown goes on.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::task::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = TaskGroup::new();
/// group.spawn(std::future::pending::<()>());
/// group.cancel(); // notifies those that listen
/// let report = group.shutdown(Duration::from_secs(10)).await;
/// assert_eq!(report.aborted, 1);
/// # }
/// ```
#[must_use = "the shutdown is on its way already; await this to see it complete"]
pub struct Shutdown<'a, E: Send + 'static = Infallible>(pub(super) Closed<'a, E>);

/// A group that was closed with a grace.
pub(super) struct Closed<'a, E: Send + 'static> {
    drained: Drained<'a, E>,
    before: Counts,
}

impl<'a, E: Send + 'static> Closed<'a, E> {
    #[track_caller]
    pub(super) fn new(pool: &'a Arc<Pool<E>>, closing: Closing, grace: Duration) -> Closed<'a, E> {
        let before = pool.close_within(closing, grace);
        Closed {
            drained: Drained::new(pool),
            before,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Report> {
        ready!(self.drained.poll(cx));
        let counts = self.drained.pool.counts();
        Poll::Ready(counts.report_since(self.before))
    }
}

impl<E: Send + 'static> Future for Drain<'_, E> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        self.0.poll(cx)
    }
}

impl<E: Send + 'static> Future for Shutdown<'_, E> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        self.0.poll(cx)
    }
}

impl<E: Send + 'static> fmt::Debug for Wait<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Wait", &self.0.drained, f)
    }
}

impl<E: Send + 'static> fmt::Debug for WaitAll<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("WaitAll", &self.0.drained, f)
    }
}

impl<E: Send + 'static> fmt::Debug for Drain<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Drain", &self.0.drained, f)
    }
}

impl<E: Send + 'static> fmt::Debug for Shutdown<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Shutdown", &self.0.drained, f)
    }
}

fn show<E: Send + 'static>(
    name: &str,
    drained: &Drained<'_, E>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.debug_struct(name)
        .field("stats", &drained.pool.stats())
        .finish_non_exhaustive()
}
