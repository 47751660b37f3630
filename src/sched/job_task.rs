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
/// job has ended, the task stands ready for another as a [`Spare`](super::spare::Spare), or ends if there
/// are enough of those.
pub(super) struct JobTask {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    job: Option<RunningJob>,
    is_new: bool,
}

impl JobTask {
    /// Spawns the task of a worker's spare, if that has still to be done. Its job comes later.
    pub(super) fn spawn(shared: &Arc<Shared>, spare: &mut Spare) {
        if !spare.is_spawned() {
            let task = shared.runtime.spawn(JobTask {
                shared: Arc::clone(shared),
                mailbox: Arc::clone(&spare.task.mailbox),
                job: None,
                is_new: true,
            });
            spare.abort = Some(task.abort_handle());
        }
    }
}

impl Future for JobTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let JobTask {
            shared,
            mailbox,
            job,
            is_new,
        } = self.get_mut();
        // To be spawned is not to be woken: what comes has registered the mailbox and waits.
        if std::mem::take(is_new) && !mailbox.hear(cx.waker()) {
            return Poll::Pending;
        }
        let mut running = match job.take() {
            Some(running) => running,
            None => match mailbox.take() {
                Mail::Job(running) => running,
                Mail::Nothing => return Poll::Pending,
                Mail::Retired => return Poll::Ready(()),
            },
        };
        let outcome = match running.poll(shared, cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                *job = Some(running);
                return Poll::Pending;
            }
        };
        let task = TaskParts {
            waker: cx.waker().clone(),
            mailbox: Arc::clone(mailbox),
        };
        match running.end(shared, outcome, Some(task)) {
            Reuse::Kept => Poll::Pending,
            Reuse::No => Poll::Ready(()),
        }
    }
}

/// The job was aborted, or the runtime shuts down.
impl Drop for JobTask {
    fn drop(&mut self) {
        let mailed = self.mailbox.close();
        if let Some(job) = self.job.take().or(mailed) {
            job.stop(&self.shared);
        }
    }
}
