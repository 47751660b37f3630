//! The jobs that were woken and that no worker has taken yet.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, PoisonError};

use super::awaiting::AwaitingJob;
use super::rt::{AtomicUsize, Mutex, MutexGuard};

/// They are polled first come, first served.
///
/// The lock of this queue comes after the group's, and nothing else is locked under it.
#[derive(Default)]
pub(super) struct WokenJobs {
    queue: Mutex<Queue>,
    // Changed under the lock, and read without it: most claims find none. A worker that reads 0 here under the group's
    // lock may park: who has pushed a job since, or has called a worker for those before, takes that lock afterwards.
    len: AtomicUsize,
}

/// Room for this many woken jobs is kept.
const KEPT: usize = 64;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<AwaitingJob>>,
    /// A worker was called since the queue was empty. Until it is again, no other wake-up has to call one: a
    /// worker that leaves some behind calls for help itself.
    called: bool,
    /// The driver was told to watch, likewise.
    watched: bool,
    /// No worker will come any more.
    closed: bool,
}

/// What the first of many wake-ups has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Nobody,
    /// A worker must come.
    Worker,
    /// The worker that polls the caller looks here afterwards. The driver must watch whether it does: it could
    /// block its thread, even until the job that it has woken does something.
    Driver,
}

impl WokenJobs {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; `within` says whether that is done by a job of the group.
    pub(super) fn push(&self, job: Arc<AwaitingJob>, within: impl FnOnce() -> bool) -> Call {
        let mut queue = self.lock();
        if queue.closed {
            return Call::Nobody;
        }
        queue.jobs.push_back(job);
        self.len.store(queue.jobs.len(), Release);
        if queue.called {
            return Call::Nobody;
        }
        let (flag, call) = match within() {
            true => (&mut queue.watched, Call::Driver),
            false => (&mut queue.called, Call::Worker),
        };
        match std::mem::replace(flag, true) {
            true => Call::Nobody,
            false => call,
        }
    }

    /// Moves at most `most` to another queue, and returns how many.
    pub(super) fn take(&self, most: usize, to: &mut VecDeque<Arc<AwaitingJob>>) -> usize {
        if self.len() == 0 {
            return 0;
        }
        let mut queue = self.lock();
        let count = queue.jobs.len().min(most);
        to.extend(queue.jobs.drain(..count));
        self.len.store(queue.jobs.len(), Release);
        if queue.jobs.is_empty() {
            (queue.called, queue.watched) = (false, false);
            queue.jobs.shrink_to(KEPT);
        }
        count
    }

    /// The runtime is gone. Returns what is left, to be dropped: each job holds the group, and the group this queue.
    pub(super) fn close(&self) -> VecDeque<Arc<AwaitingJob>> {
        let mut queue = self.lock();
        queue.closed = true;
        self.len.store(0, Release);
        std::mem::take(&mut queue.jobs)
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Acquire)
    }
}
