//! The run of one task, whose end is told whatever it is.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use super::outcome::End;
use super::queued::Ticket;
use crate::ground::error::TaskError;
use crate::ground::panic::poll_caught;
use crate::task::policy::Outcome;

/// Who is told of the end of a task.
pub(super) trait Employer {
    type Error;

    fn ended(self: &Arc<Self>, ticket: &Ticket, end: End<Self::Error>);
}

/// Reports a task's end, whatever the end: if it is dropped, the task was aborted.
struct Duty<P: Employer> {
    /// Until the end was told.
    employer: Option<Arc<P>>,
    ticket: Ticket,
}

impl<P: Employer> Duty<P> {
    fn report(&mut self, end: End<P::Error>) {
        if let Some(employer) = self.employer.take() {
            employer.ended(&self.ticket, end);
        }
    }
}

impl<P: Employer> Drop for Duty<P> {
    fn drop(&mut self) {
        self.report(End::Aborted);
    }
}

/// A task on its way to its first poll. One value, so that a task that is aborted before is dropped before
/// its duty is.
pub(super) struct Run<F, P: Employer> {
    task: F,
    duty: Duty<P>,
}

impl<F, P: Employer> Run<F, P> {
    pub(super) fn new(task: F, employer: Arc<P>, ticket: Ticket) -> Run<F, P> {
        let duty = Duty {
            employer: Some(employer),
            ticket,
        };
        Run { task, duty }
    }
}

pub(super) async fn run<F, P>(run: Run<F, P>)
where
    P: Employer,
    F: Future<Output: Outcome<P::Error>>,
{
    let Run { task, mut duty } = run;
    let mut task = pin!(Some(task));
    let outcome = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    let Ticket {
        index, spawned_at, ..
    } = duty.ticket;
    duty.report(match outcome.map(Outcome::into_result) {
        Ok(Ok(())) => End::Well,
        Ok(Err(error)) => End::Failed(TaskError::Failed { index, error }),
        Err(payload) => End::Failed(TaskError::panicked(index, payload, spawned_at)),
    });
}
