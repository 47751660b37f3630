//! The run of one task, whose end is reported whatever it is.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use super::outcomes::End;
use super::queued::TaskMeta;
use super::shared::Pool;
use crate::common::error::TaskError;
use crate::common::panic::{TaskPanic, poll_caught};
use crate::task::output::{Sealed, TaskOutput};

/// Reports the end of a task: if it is dropped before, the task was aborted.
struct CompletionGuard<E: Send + 'static> {
    /// Until the end was reported.
    pool: Option<Arc<Pool<E>>>,
    meta: TaskMeta,
}

impl<E: Send + 'static> CompletionGuard<E> {
    fn report(&mut self, end: End<E>) {
        // Taken, so that the `Drop` behind a regular end reports nothing: each task is counted once.
        if let Some(pool) = self.pool.take() {
            pool.ended(&self.meta, end);
        }
    }
}

impl<E: Send + 'static> Drop for CompletionGuard<E> {
    fn drop(&mut self) {
        // Only an abort, or a runtime that shuts down, drops a task before its end. The slot is released here in
        // each case.
        self.report(End::Aborted);
    }
}

/// A task on its way to its first poll. One value, whose fields are dropped in this order: so what an aborted
/// task held is gone before its end is reported.
pub(super) struct Run<F, E: Send + 'static> {
    task: F,
    guard: CompletionGuard<E>,
}

impl<F, E: Send + 'static> Run<F, E> {
    pub(super) fn new(task: F, pool: Arc<Pool<E>>, meta: TaskMeta) -> Run<F, E> {
        let guard = CompletionGuard {
            pool: Some(pool),
            meta,
        };
        Run { task, guard }
    }
}

pub(super) async fn run<F, E>(run: Run<F, E>)
where
    E: Send + 'static,
    F: Future<Output: TaskOutput<E>>,
{
    // A task that is dropped before its first poll is still one `Run`. From here on the order is that of the locals:
    // the pinned task is declared after the guard, and so is dropped before it.
    let Run { task, mut guard } = run;
    let mut task = pin!(Some(task));
    // It drops the future at its end too: what the task held is gone before its end is counted and `wait` returns.
    let output = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    let TaskMeta {
        index, spawned_at, ..
    } = guard.meta;
    guard.report(match output.map(|output| output.into_result(Sealed::NEW)) {
        Ok(Ok(())) => End::Finished,
        Ok(Err(error)) => End::Failed(TaskError::Failed { index, error }),
        Err(payload) => {
            let panic = TaskPanic::new(payload, index, spawned_at);
            End::Failed(TaskError::Panicked(panic))
        }
    });
}
