//! What the caller keeps of a job that follows a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{JobHandle, JobId, JobState};

/// A series of ticks, or a job at a time of the wall clock: cancel it, ask how it is.
///
/// Clones speak for the same job. Dropping a handle changes nothing. It cannot be moved: its clock says
/// when it runs.
#[derive(Clone, Debug)]
pub struct TimedHandle {
    job: JobHandle,
    once: Option<Claim>,
}

/// Who decides about a job that runs once: the first to ask, its start, its cancel or its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// True for the first. Nothing else is published by it: what the job holds is the group's.
    fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// The job of a handle made by [`once`](TimedHandle::once), until it starts or is dropped.
pub(super) struct Once<J> {
    job: Option<J>,
    claim: Claim,
}

impl<J> Once<J> {
    pub(super) fn new(job: J) -> (Once<J>, Claim) {
        let claim = Claim::default();
        let once = Once {
            job: Some(job),
            claim: claim.clone(),
        };
        (once, claim)
    }

    /// The job, to be started, unless it was cancelled. Whoever cancels after this is told that it was
    /// too late.
    pub(super) fn begin(&mut self) -> Option<J> {
        self.job.take().filter(|_| self.claim.claim())
    }
}

impl<J> Drop for Once<J> {
    fn drop(&mut self) {
        self.claim.claim();
    }
}

impl TimedHandle {
    pub(super) fn series(job: JobHandle) -> TimedHandle {
        TimedHandle { job, once: None }
    }

    pub(super) fn once(job: JobHandle, claim: Claim) -> TimedHandle {
        TimedHandle {
            job,
            once: Some(claim),
        }
    }

    /// Cancels what has not started. True if this call prevented a run; at most one call ever answers
    /// true.
    ///
    /// A run in progress is left alone; of a series it is then the last.
    pub fn cancel(&self) -> bool {
        match &self.once {
            None => self.job.cancel(),
            Some(once) => {
                let first = once.claim();
                if first {
                    self.job.cancel();
                }
                first
            }
        }
    }

    /// Cancels what has not started, and stops a run in progress at its next await.
    pub fn abort(&self) {
        self.job.abort();
    }

    /// The name of the job in its group.
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// Where the job is in its life. It is `Pending` between two ticks, and for a moment `Running` when
    /// it looks at its clock.
    pub fn state(&self) -> JobState {
        self.job.state()
    }

    /// Has it come to an end, whichever?
    pub fn is_finished(&self) -> bool {
        self.job.is_finished()
    }
}
