//! The task of a job that awaits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::running::RunningJob;
use super::shared::Shared;
use super::spare::{Mail, Mailbox, Spare, TaskParts};
use super::state::Reuse;

/// A tokio task that polls one awaiting job after another, one at a time.
///
/// A wake-up of the job is a wake-up of the task, and nothing of the group's is locked for it. When the
/// job has ended the task stands ready as a [`Spare`], or ends if there are enough of those.
pub(super) struct JobTask {
    shared: Arc<Shared>,
    job: Option<RunningJob>,
    /// Where the next job comes from; a task of one job needs none.
    mailbox: Option<Arc<Mailbox>>,
}

impl JobTask {
    /// Spawns a task for a job that awaits, which is polled there at once: it has registered another
    /// waker.
    pub(super) fn spawn(shared: &Arc<Shared>, job: RunningJob) {
        let (slot, id) = (job.slot, job.id);
        let task = shared.runtime.spawn(JobTask {
            shared: Arc::clone(shared),
            job: Some(job),
            mailbox: None,
        });
        shared.enter(|state, _| state.runs_in(slot, id, task.abort_handle()));
    }
}

impl Future for JobTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let JobTask {
            shared,
            job,
            mailbox,
        } = self.get_mut();
        let mut running = match (job.take(), &mailbox) {
            (Some(running), _) => running,
            (None, Some(mailbox)) => match mailbox.take() {
                Mail::Job(running) => running,
                Mail::Nothing => return Poll::Pending,
                Mail::Retired => return Poll::Ready(()),
            },
            (None, None) => return Poll::Ready(()),
        };
        let outcome = match running.poll(shared, cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                *job = Some(running);
                return Poll::Pending;
            }
        };
        let parts = |mailbox: &Arc<Mailbox>| TaskParts {
            waker: cx.waker().clone(),
            mailbox: Arc::clone(mailbox),
        };
        match running.end(shared, outcome, mailbox.as_ref().map(parts)) {
            Reuse::Kept => Poll::Pending,
            Reuse::Wanted(abort) => {
                let task = parts(mailbox.get_or_insert_default());
                let spare = Spare { task, abort };
                shared.enter(|state, todo| state.keep_spare(spare, todo));
                Poll::Pending
            }
            Reuse::No => Poll::Ready(()),
        }
    }
}

/// The job was aborted, or the runtime shuts down.
impl Drop for JobTask {
    fn drop(&mut self) {
        let mailed = self.mailbox.as_ref().and_then(|mailbox| mailbox.close());
        if let Some(job) = self.job.take().or(mailed) {
            // A runtime that goes ends the group, also if this run is the last.
            self.shared
                .enter(|state, todo| state.task_dropped(job.slot, todo));
            job.end(&self.shared, Ok(None), None);
        }
    }
}
