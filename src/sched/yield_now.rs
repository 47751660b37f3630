//! A yield for the tasks of a group, to let others have a turn.

use std::future::poll_fn;
use std::task::Poll;

use tokio::runtime::{Handle, RuntimeFlavor};

/// Yields, and waits for the next turn where another worker can take the task from.
///
/// tokio's own `yield_now` keeps the task back until its worker is idle, which a job that blocks the
/// thread prevents. A task that wakes itself goes to the back of the worker's run queue instead, from
/// where any other worker steals it. On a current-thread runtime nothing can be stolen, and tokio's
/// form is fairer to tasks that yield themselves.
pub(super) async fn yield_now(runtime: &Handle) {
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        return tokio::task::yield_now().await;
    }
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
