//! The run of one task, whose end is told whatever it is.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use super::outcome::End;
use super::queued::TaskMeta;
use crate::ground::error::TaskError;
use crate::ground::panic::poll_caught;
use crate::task::policy::Outcome;

/// Who is told of the end of a task.
pub(super) trait Employer {
    type Error;

    fn ended(self: &Arc<Self>, meta: &TaskMeta, end: End<Self::Error>);
}

/// Reports a task's end, whatever the end: if it is dropped, the task was aborted.
struct CompletionGuard<P: Employer> {
    /// Until the end was told.
    employer: Option<Arc<P>>,
    meta: TaskMeta,
}

impl<P: Employer> CompletionGuard<P> {
    fn report(&mut self, end: End<P::Error>) {
        if let Some(employer) = self.employer.take() {
            employer.ended(&self.meta, end);
        }
    }
}

impl<P: Employer> Drop for CompletionGuard<P> {
    fn drop(&mut self) {
        self.report(End::Aborted);
    }
}

/// A task on its way to its first poll. One value, so that a task that is aborted before is dropped before
/// its guard is.
pub(super) struct Run<F, P: Employer> {
    task: F,
    guard: CompletionGuard<P>,
}

impl<F, P: Employer> Run<F, P> {
    pub(super) fn new(task: F, employer: Arc<P>, meta: TaskMeta) -> Run<F, P> {
        let guard = CompletionGuard {
            employer: Some(employer),
            meta,
        };
        Run { task, guard }
    }
}

pub(super) async fn run<F, P>(run: Run<F, P>)
where
    P: Employer,
    F: Future<Output: Outcome<P::Error>>,
{
    let Run { task, mut guard } = run;
    let mut task = pin!(Some(task));
    let outcome = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    let TaskMeta {
        index, spawned_at, ..
    } = guard.meta;
    guard.report(match outcome.map(Outcome::into_result) {
        Ok(Ok(())) => End::Well,
        Ok(Err(error)) => End::Failed(TaskError::Failed { index, error }),
        Err(payload) => End::Failed(TaskError::panicked(index, payload, spawned_at)),
    });
}
