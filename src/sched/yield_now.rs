//! How the driver and the workers yield to other tasks.

use std::future::poll_fn;
use std::task::Poll;

use tokio::runtime::{Handle, RuntimeFlavor};

/// Yields to other tasks, in such a way that another thread can steal the task meanwhile.
///
/// tokio's own `yield_now` holds the task back until its thread is idle, which a job that blocks the thread prevents. A
/// task that wakes itself goes to the back of the thread's run queue instead, from where other threads steal it. In a
/// current-thread runtime nothing is stolen, and tokio's form is fairer to other tasks that yield.
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
