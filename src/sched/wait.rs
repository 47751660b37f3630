//! The futures of `wait`, `drain` and `shutdown`. They look at the state of the group; a wake-up only means to look
//! again.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::error::WaitError;
use super::shared::Shared;
use super::state::{Counts, GroupOutcome, State};
use crate::common::closing::{Report, StopReason};
use crate::common::panic::{ENDED, drop_quietly};

/// A future that is dropped when it resolves, and names the misuse if it is polled again.
struct Boxed<'a, T>(Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<'a, T> Boxed<'a, T> {
    fn new(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
        Boxed(Some(Box::pin(future)))
    }

    fn has_ended(&self) -> bool {
        self.0.is_none()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let polled = self.0.as_mut().expect(ENDED).as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

/// A future that resolves when every job of a group has ended; created by [`Group::wait`](crate::Group::wait).
///
/// # Cancel safety
///
/// It may be dropped at any time. That does not open the group again, and if it had not resolved,
/// [`Group::wait`](crate::Group::wait) may be called again.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Errors
///
/// Those of [`Group::wait`](crate::Group::wait).
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let group = schedgroup::Group::new();
/// group.delay(Duration::from_secs(1), async {});
/// let mut wait = group.wait(); // closes the group
/// tokio::select! {
///     outcome = &mut wait => return outcome,
///     () = tokio::time::sleep(Duration::from_millis(1)) => println!("not yet"),
/// }
/// wait.await
/// # }
/// ```
#[must_use = "the group is closed already; await this to see its jobs end"]
pub struct Wait<'a> {
    shared: &'a Shared,
    inner: Boxed<'a, Result<(), WaitError>>,
}

impl<'a> Wait<'a> {
    pub(super) fn new(shared: &'a Shared) -> Wait<'a> {
        Wait {
            shared,
            inner: Boxed::new(until(shared, outcome)),
        }
    }
}

impl Future for Wait<'_> {
    type Output = Result<(), WaitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.poll(cx)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.inner.has_ended() {
            self.shared.with(|state| state.lifecycle.give_up_wait());
        }
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

/// A future that resolves to a [`Report`] when a drain is complete; created by
/// [`Group::drain`](crate::Group::drain).
///
/// # Cancel safety
///
/// It may be dropped at any time. The drain goes on.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::new();
/// let job = group.delay(Duration::from_secs(3600), async {});
/// drop(group.drain(Duration::from_secs(1)));
/// tokio::time::sleep(Duration::from_secs(2)).await;
/// assert!(job.is_finished(), "it was dropped when the grace was over");
/// # }
/// ```
#[must_use = "the group drains already; await this to see its jobs end"]
pub struct Drain<'a> {
    inner: Boxed<'a, Report>,
}

impl<'a> Drain<'a> {
    pub(super) fn new(shared: &'a Shared, before: Counts) -> Drain<'a> {
        Drain {
            inner: report(shared, before),
        }
    }
}

impl Future for Drain<'_> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.poll(cx)
    }
}

impl fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}

/// A future that resolves to a [`Report`] when a shutdown is complete; created by
/// [`Group::shutdown`](crate::Group::shutdown).
///
/// # Cancel safety
///
/// It may be dropped at any time. The shutdown goes on.
///
/// # Panics
///
/// A poll after the end panics.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = schedgroup::Group::new();
/// let job = group.delay(Duration::ZERO, std::future::pending());
/// drop(group.shutdown(Duration::from_secs(1)));
/// tokio::time::sleep(Duration::from_secs(2)).await;
/// assert!(job.is_finished(), "it was aborted when the grace was over");
/// # }
/// ```
#[must_use = "the shutdown is on its way already; await this to see it complete"]
pub struct Shutdown<'a> {
    inner: Boxed<'a, Report>,
}

impl<'a> Shutdown<'a> {
    pub(super) fn new(shared: &'a Shared, before: Counts) -> Shutdown<'a> {
        Shutdown {
            inner: report(shared, before),
        }
    }
}

impl Future for Shutdown<'_> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.poll(cx)
    }
}

impl fmt::Debug for Shutdown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").finish_non_exhaustive()
    }
}

/// Returns a future of the report for `drain` and `shutdown`: how jobs have ended since the counts were `before`.
fn report(shared: &Shared, before: Counts) -> Boxed<'_, Report> {
    Boxed::new(until(shared, move |state| state.report_since(before)))
}

fn outcome(state: &State) -> Option<Result<(), WaitError>> {
    state.outcome().map(|outcome| match outcome {
        GroupOutcome::Done => Ok(()),
        GroupOutcome::Stopped(StopReason::Cancelled) => Err(WaitError::Cancelled),
        GroupOutcome::Stopped(StopReason::DeadlineExceeded) => Err(WaitError::DeadlineExceeded),
        GroupOutcome::Panicked(panic) => Err(WaitError::Panicked(panic.clone())),
    })
}

/// One waiting task. Its waker is removed when it is dropped.
struct Waiter<'a> {
    shared: &'a Shared,
    number: Option<u64>,
}

impl Waiter<'_> {
    /// Returns what `look` finds, or registers the waker for the next change that `look` may depend on.
    fn poll<T>(&mut self, cx: &mut Context<'_>, look: impl Fn(&State) -> Option<T>) -> Poll<T> {
        // The clone and the drop of a waker may be user code. So the new one is cloned before the lock, and the former
        // one is dropped after it.
        let fresh = cx.waker().clone();
        // Checked, so that a late driver does not delay the answer to a cancel or a deadline.
        let (found, former) = self.shared.enter_checked(|state, _| match look(state) {
            Some(found) => (Poll::Ready(found), Some(fresh)),
            // In the same step as `look`: an end that comes later finds this waker.
            None => {
                let former = state.waiters.listen(&mut self.number, fresh);
                (Poll::Pending, former)
            }
        });
        // A panic of the waker's destructor ends here, or the future could not be polled again, and what was found be lost.
        drop_quietly(former);
        found
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.shared.with(|state| state.waiters.leave(number));
            // A panic of a user's waker ends here: this may be dropped while its thread is panicking.
            drop_quietly(waker);
        }
    }
}

/// Calls `look` at once, and again when the group was stopped or has drained or its token is cancelled, until it finds
/// something.
async fn until<T>(shared: &Shared, look: impl Fn(&State) -> Option<T>) -> T {
    let mut cancelled = pin!(shared.token.cancelled());
    let mut heard = false;
    let mut waiter = Waiter {
        shared,
        number: None,
    };
    poll_fn(|cx| {
        // The order matters. If `look` came first, a cancel could be lost:
        //
        // 1. `look` finds the token not cancelled, and the group open.
        // 2. The token is cancelled.
        // 3. The poll of `cancelled` resolves, and registers no waker: this task is not woken any more.
        //
        // In the right order, a cancel before the poll is seen by `look`, and a cancel after it wakes this task.
        heard = heard || cancelled.as_mut().poll(cx).is_ready();
        waiter.poll(cx, &look)
    })
    .await
}
