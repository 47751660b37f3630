//! As on a multi-thread runtime: the task goes to the back of the run queue.

use std::future::poll_fn;
use std::task::Poll;

use super::rt::Runtime;

pub(super) async fn yield_now(_: &Runtime) {
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
