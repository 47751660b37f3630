//! The jobs that were woken and that no worker has taken yet.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, PoisonError};

use super::awaiting::AwaitingJob;
use super::rt::{AtomicUsize, Mutex, MutexGuard};

/// A FIFO queue, with a lock of its own that comes after all others (see `shared.rs`). So a job can be woken without
/// the group's lock.
#[derive(Default)]
pub(super) struct WokenJobs {
    queue: Mutex<Queue>,
    // Written under the lock, and read without it, since most claims find nothing. A worker that reads 0 here under the
    // group's lock may park. No wake-up is lost by that: a `push` that comes later and returns `Call::Worker` is
    // followed by a step under the group's lock, which finds the worker parked. If it returns `Call::Nothing`, the
    // caller that was told to call a worker has this step still before it. After `Call::Driver` the worker that polls
    // the waking job claims again.
    len: AtomicUsize,
}

/// Room for this many jobs is kept.
const KEPT: usize = 64;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<AwaitingJob>>,
    /// A worker was called since the queue was last empty. Until it is empty again no other wake-up has to call one,
    /// since a worker that leaves jobs in the queue calls other workers itself.
    called: bool,
    /// The driver was told to watch since the queue was last empty.
    watched: bool,
    /// The runtime is gone, and no worker takes jobs any more.
    closed: bool,
}

/// What the caller of [`push`](WokenJobs::push) has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Nothing,
    /// Call a worker.
    Worker,
    /// Let the driver watch. The caller is a job of the group, and the worker that polls it looks at this queue
    /// afterwards. But the caller could block its thread, perhaps until the job that it has woken has done something.
    Driver,
}

impl WokenJobs {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job. `within` tells whether the caller is code of a job of the group.
    pub(super) fn push(&self, job: Arc<AwaitingJob>, within: impl FnOnce() -> bool) -> Call {
        let mut queue = self.lock();
        if queue.closed {
            return Call::Nothing;
        }
        queue.jobs.push_back(job);
        self.len.store(queue.jobs.len(), Release);
        if queue.called {
            return Call::Nothing;
        }
        let (flag, call) = match within() {
            true => (&mut queue.watched, Call::Driver),
            false => (&mut queue.called, Call::Worker),
        };
        match std::mem::replace(flag, true) {
            true => Call::Nothing,
            false => call,
        }
    }

    /// Moves at most `most` jobs to another queue. Returns how many.
    pub(super) fn take(&self, most: usize, to: &mut VecDeque<Arc<AwaitingJob>>) -> usize {
        let mut queue = self.lock();
        let count = queue.jobs.len().min(most);
        to.extend(queue.jobs.drain(..count));
        self.len.store(queue.jobs.len(), Release);
        if queue.jobs.is_empty() {
            (queue.called, queue.watched) = (false, false);
        }
        // Gives storage back after a burst, also if jobs that wake themselves again and again keep the queue filled.
        let len = queue.jobs.len();
        if len <= queue.jobs.capacity() / 4 {
            queue.jobs.shrink_to(KEPT.max(2 * len));
        }
        count
    }

    /// Closes the queue when the runtime is gone. Returns the jobs that are left, to be dropped: each holds the group,
    /// which holds this queue, and would be kept for ever.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn storage_is_given_back_though_a_few_of_a_burst_are_left() {
        let (group, woken) = (crate::Group::new(), Arc::<WokenJobs>::default());
        let job = AwaitingJob::vacant(group.shared(), &woken).place;
        for _ in 0..10_000 {
            woken.push(Arc::clone(&job), || false);
        }
        let mut taken = VecDeque::new();
        while woken.len() > 10 {
            woken.take(111, &mut taken);
        }
        assert_eq!((woken.len(), taken.len()), (10, 9_990));
        assert!(woken.lock().jobs.capacity() <= KEPT);
        // Each holds the queue.
        woken.close();
    }
}
