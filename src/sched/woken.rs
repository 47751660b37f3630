//! The jobs that were woken and that no worker has taken yet.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::awaiting::AwaitingJob;
use super::rt::{Mutex, MutexGuard, thread_index};

/// A queue for each worker thread of the runtime, up to eight: a job waits in that of the thread that woke it.
///
/// Most jobs are woken where they were polled, so a worker finds them in the queue of its own thread, and their memory
/// in the cache of its own core. Each queue is first come, first served. No thread waits for another: a worker takes
/// a few jobs of every queue, and all of them if there are not enough in its own.
///
/// The locks of the queues come after the group's, and nothing else is locked under one.
pub(super) struct WokenJobs(Box<[Aligned]>);

const MOST_QUEUES: usize = 8;
/// Room for as many woken jobs is kept in each queue.
const KEPT: usize = 64;

// Two queues in one cache line would slow each other down.
#[repr(align(64))]
#[derive(Default)]
struct Aligned(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<AwaitingJob>>,
    /// A worker was called since the queue was empty. Until it is again, no other wake-up has to call one: a
    /// worker that leaves some behind calls for help itself.
    called: bool,
    /// The driver was told to watch, likewise.
    watched: bool,
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
    /// `threads` is how many worker threads the runtime has.
    pub(super) fn new(threads: usize) -> WokenJobs {
        let queues = (0..threads.clamp(1, MOST_QUEUES)).map(|_| Aligned::default());
        WokenJobs(queues.collect())
    }

    /// Adds a job; `within` says whether that is done by a job of the group.
    pub(super) fn push(&self, job: Arc<AwaitingJob>, within: impl FnOnce() -> bool) -> Call {
        let mut queue = self.0[self.own()].lock();
        queue.jobs.push_back(job);
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

    /// Moves about so many to another queue, and returns how many.
    pub(super) fn take(&self, most: usize, to: &mut VecDeque<Arc<AwaitingJob>>) -> usize {
        let own = self.own();
        let mut count = self.0[own].lock().take(most, to);
        for other in (0..self.0.len()).filter(|&other| other != own) {
            // The worker of that thread may be stuck, so none is passed over.
            let few = (most - count.min(most)).max(most.div_ceil(8));
            count += self.0[other].lock().take(few, to);
        }
        count
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|queue| queue.lock().jobs.len()).sum()
    }

    /// The queue of this thread.
    fn own(&self) -> usize {
        match self.0.len() {
            1 => 0,
            len => thread_index() % len,
        }
    }
}

impl Aligned {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn take(&mut self, most: usize, to: &mut VecDeque<Arc<AwaitingJob>>) -> usize {
        let count = self.jobs.len().min(most);
        to.extend(self.jobs.drain(..count));
        if self.jobs.is_empty() {
            (self.called, self.watched) = (false, false);
            self.jobs.shrink_to(KEPT);
        }
        count
    }
}
