//! The task of a job that awaits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::running::RunningJob;
use super::shared::Shared;
use super::spare_task::{Mail, Mailbox, SpareTask, TaskParts};
use super::state::Reuse;

//              first poll, or        take                     its end, if the group
//              woken for a job      from the mailbox          keeps spare tasks
//   spawned ─────────────────▶ idle ──────────────▶ polls a job ─────────────────▶ idle
//                               │ retired              │ its end, if not
//                               ▼                      ▼
//                             ended                  ended
//
// An abort, and the end of the runtime, drop the task from each of these states.
/// A tokio task that polls one awaiting job after another, one at a time.
///
/// A wake-up of the job is a wake-up of the task, and nothing of the group's is locked for it. When the
/// job has ended, the task is kept for another as a [`SpareTask`], or ends if there are enough of those.
pub(super) struct JobTask {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    job: Option<RunningJob>,
    is_new: bool,
}

impl JobTask {
    /// Spawns the task of a worker's spare, if that has still to be done. Its job comes later.
    pub(super) fn spawn(shared: &Arc<Shared>, spare: &mut SpareTask) {
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
        // tokio polls a spawned task unasked. Its job has been polled by the worker just now, and has the mailbox
        // as its waker: it is polled again only if that was woken.
        if std::mem::take(is_new) && !mailbox.set_waker(cx.waker()) {
            return Poll::Pending;
        }
        let mut running = match job.take() {
            Some(running) => running,
            // Only a wake-up leads here. With no job in the mailbox it came too early, or late and from a waker that
            // a former job gave away; then the next job is polled once for nothing, which a future has to bear.
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
        // `end` may make this task a spare one, and a worker may give it a job before this poll has returned. Then a
        // wake-up for that job makes tokio poll the task once more: it is neither lost nor concurrent with this poll.
        match running.end(shared, outcome, Some(task)) {
            Reuse::Kept => Poll::Pending,
            Reuse::No => Poll::Ready(()),
        }
    }
}

/// The job was aborted, or the runtime shuts down.
impl Drop for JobTask {
    fn drop(&mut self) {
        // From here on `put` returns a job to its worker, which stops it. So a job on its way is stopped here or there,
        // once.
        let mailed = self.mailbox.close();
        if let Some(job) = self.job.take().or(mailed) {
            job.stop(&self.shared);
        }
    }
}
