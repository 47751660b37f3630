//! The local queue of a worker: the jobs that it has claimed, and runs one after another.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::awaiting::AwaitingJob;
use super::job::JobId;
use super::rt::{Mutex, MutexGuard};
use super::runnable::Work;
use super::woken::WokenJobs;
use crate::common::time::Timestamp;

/// A due job that a worker has claimed and not started.
pub(super) struct Claim {
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) work: Work,
    pub(super) deadline: Timestamp,
    pub(super) scheduled_at: &'static Location<'static>,
}

/// The jobs that a worker has claimed in one step under the group's lock, and runs without that lock.
///
/// The queue has a lock of its own, which decides between the worker and a caller that want the same job:
///
/// - The worker, its owner, takes jobs from the front under this lock alone.
/// - Everybody else holds the group's lock too: to take out a job that is cancelled or moved, to steal the later half
///   for another worker, or to record the jobs that have ended.
///
/// So while a caller holds the group's lock, no job comes into a local queue, and none moves from one to another. A
/// claimed job that the caller finds in no local queue was taken out by its worker: it is at its first poll, or in
/// `ended`, or was the last one and has ended, which the next claim records, or is about to be given back because the
/// group is over.
#[derive(Default)]
pub(super) struct LocalQueue(Mutex<Inner>);

/// The next step of a worker that has jobs.
pub(super) enum NextJob {
    Start(Claim),
    Resume(Arc<AwaitingJob>),
}

/// What [`record`](LocalQueue::record) tells of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// How many claimed jobs have not started.
    pub(super) unstarted: usize,
    /// The earliest of their deadlines.
    pub(super) earliest: Option<Timestamp>,
    /// The greatest lateness of any job that the worker has started.
    pub(super) max_lateness: Duration,
}

#[derive(Default)]
struct Inner {
    /// Jobs that have awaited and were woken. They are polled after those in `unstarted`.
    woken: VecDeque<Arc<AwaitingJob>>,
    /// Claimed jobs, in release order.
    unstarted: VecDeque<Claim>,
    /// The slots of jobs that have ended and are not recorded yet.
    ended: Vec<u32>,
    /// How many jobs were started or polled again, ever.
    polled: u64,
    /// The greatest lateness of a start.
    max_lateness: Duration,
    /// How often the lock was taken.
    #[cfg(test)]
    locks: u64,
}

impl LocalQueue {
    /// A worker that has nothing to do keeps room for this many jobs.
    pub(super) const KEPT: usize = 4;

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(test)]
        let inner = {
            let mut inner = inner;
            inner.locks += 1;
            inner
        };
        inner
    }

    // Methods of the owner.

    /// Takes the next job that starts; or else the next one that was woken, if there is one. Returns also whether it was
    /// the last in the queue, to which only a claim of its owner adds more. `ended` is the slot of the job before it, if
    /// that has ended and only has to be recorded. If a job starts, `now` is called for the time, with whether it is the
    /// last that is claimed.
    pub(super) fn next(
        &self,
        ended: Option<u32>,
        now: impl FnOnce(bool) -> Timestamp,
    ) -> Option<(NextJob, bool)> {
        let mut inner = self.lock();
        // In one step with the start of the next job, so that the counts never show two running jobs of one worker.
        inner.ended.extend(ended);
        let Some(claim) = inner.unstarted.pop_front() else {
            let woken = inner.woken.pop_front()?;
            inner.polled += 1;
            return Some((NextJob::Resume(woken), inner.woken.is_empty()));
        };
        let is_last_claim = inner.unstarted.is_empty();
        let lateness = now(is_last_claim).since(claim.deadline);
        inner.max_lateness = inner.max_lateness.max(lateness);
        // For stall detection: a worker that polls jobs is not stuck.
        inner.polled += 1;
        let is_last = is_last_claim && inner.woken.is_empty();
        Some((NextJob::Start(claim), is_last))
    }

    /// Adds the slot of a job that has ended, if there is one, without taking the next job.
    pub(super) fn ended(&self, ended: Option<u32>) {
        self.lock().ended.extend(ended);
    }

    // Methods of others, who hold the group's lock.

    /// Lets `add` add `count` claimed jobs. Storage for them and for their ends is allocated here.
    pub(super) fn fill(&self, count: usize, add: impl FnOnce(&mut VecDeque<Claim>)) {
        let mut inner = self.lock();
        // `ended` is empty, since a claim records before it adds. So the owner allocates nothing under this lock until
        // its next claim.
        inner.ended.reserve(count);
        inner.unstarted.reserve(count);
        add(&mut inner.unstarted);
    }

    /// Adds jobs that were woken.
    pub(super) fn push_woken(&self, jobs: impl IntoIterator<Item = Arc<AwaitingJob>>) {
        self.lock().woken.extend(jobs);
    }

    /// Moves at most `most` woken jobs of the group here. Returns how many.
    pub(super) fn claim_woken(&self, others: &WokenJobs, most: usize) -> usize {
        others.take(most, &mut self.lock().woken)
    }

    /// Returns whether the job in that slot is here and has not started.
    pub(super) fn contains(&self, slot: u32) -> bool {
        let unstarted = &self.lock().unstarted;
        unstarted.iter().any(|claim| claim.slot == slot)
    }

    /// Takes out the job in that slot, if it is here and has not started.
    pub(super) fn remove(&self, slot: u32) -> Option<Claim> {
        let unstarted = &mut self.lock().unstarted;
        let index = unstarted.iter().position(|claim| claim.slot == slot)?;
        unstarted.remove(index)
    }

    /// Takes out all jobs that have not started.
    pub(super) fn take_all(&self) -> VecDeque<Claim> {
        std::mem::take(&mut self.lock().unstarted)
    }

    /// Takes out the later half of the jobs that have not started.
    pub(super) fn take_half(&self) -> VecDeque<Claim> {
        let unstarted = &mut self.lock().unstarted;
        // The later half, so that both workers go on in release order. A single job is taken too, since it waits behind
        // a job that may block its thread.
        unstarted.split_off(unstarted.len() / 2)
    }

    /// Takes out the later half of the woken jobs.
    pub(super) fn take_half_of_woken(&self) -> VecDeque<Arc<AwaitingJob>> {
        let woken = &mut self.lock().woken;
        woken.split_off(woken.len() / 2)
    }

    /// Returns how many jobs are to be started or polled again.
    pub(super) fn len(&self) -> usize {
        let inner = self.lock();
        inner.woken.len() + inner.unstarted.len()
    }

    /// Returns the slots of the jobs that have not started.
    pub(super) fn unstarted_slots(&self) -> Vec<u32> {
        let inner = self.lock();
        inner.unstarted.iter().map(|claim| claim.slot).collect()
    }

    /// Takes out the jobs that have ended, calls `record` with the slot of each, and returns what is left in the same
    /// step. `record` must take no lock.
    pub(super) fn record(&self, record: impl FnMut(u32)) -> Left {
        let mut inner = self.lock();
        inner.ended.drain(..).for_each(record);
        let deadlines = inner.unstarted.iter().map(|claim| claim.deadline);
        Left {
            unstarted: inner.unstarted.len(),
            earliest: deadlines.min(),
            max_lateness: inner.max_lateness,
        }
    }

    /// Returns how many jobs were started or polled again, ever.
    pub(super) fn polled(&self) -> u64 {
        self.lock().polled
    }

    /// Frees storage, when the owner has nothing to do.
    pub(super) fn shrink(&self) {
        let mut inner = self.lock();
        inner.woken.shrink_to(LocalQueue::KEPT);
        inner.unstarted.shrink_to(LocalQueue::KEPT);
        inner.ended.shrink_to(LocalQueue::KEPT);
    }
}

// Those of loom can only be locked in a model.
#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;

    fn timestamp(nanos: u64) -> Timestamp {
        Timestamp::ALWAYS.after(Duration::from_nanos(nanos))
    }

    /// The job in that slot, which was due `slot` nanoseconds after the beginning.
    pub(in super::super) fn claim(slot: u32) -> Claim {
        Claim {
            slot,
            id: JobId(slot.into()),
            work: Work::Boxed(Box::new(async {})),
            deadline: timestamp(slot.into()),
            scheduled_at: Location::caller(),
        }
    }

    fn filled(slots: impl IntoIterator<Item = u32>) -> LocalQueue {
        let local = LocalQueue::default();
        local.fill(0, |claims| claims.extend(slots.into_iter().map(claim)));
        local
    }

    /// The next job that starts.
    pub(in super::super) fn next(
        local: &LocalQueue,
        ended: Option<u32>,
        now: Timestamp,
    ) -> Option<Claim> {
        match local.next(ended, |_| now)? {
            (NextJob::Start(claim), _) => Some(claim),
            (NextJob::Resume(_), _) => None,
        }
    }

    /// How often the lock was taken. This does not count.
    pub(in super::super) fn locks(local: &LocalQueue) -> u64 {
        local.0.lock().unwrap().locks
    }

    /// The greatest number of jobs for which there is room.
    pub(in super::super) fn room(local: &LocalQueue) -> usize {
        let inner = local.lock();
        let claimed = inner.woken.capacity().max(inner.unstarted.capacity());
        claimed.max(inner.ended.capacity())
    }

    fn slots(claims: impl IntoIterator<Item = Claim>) -> Vec<u32> {
        claims.into_iter().map(|claim| claim.slot).collect()
    }

    fn recorded(local: &LocalQueue) -> Vec<u32> {
        let mut slots = Vec::new();
        local.record(|slot| slots.push(slot));
        slots
    }

    #[test]
    fn jobs_start_in_the_order_in_which_they_were_claimed() {
        let local = filled([3, 5, 9]);
        let left = local.record(|_| ());
        assert_eq!((left.unstarted, left.earliest), (3, Some(timestamp(3))));
        let started = std::iter::from_fn(|| next(&local, None, timestamp(0)));
        assert_eq!(slots(started), [3, 5, 9]);
        let left = local.record(|_| ());
        assert_eq!(
            (left.unstarted, left.earliest, local.polled()),
            (0, None, 3)
        );
    }

    /// A worker that helps another one claims behind the jobs that it has stolen, which may be due later.
    #[test]
    fn the_earliest_deadline_is_known_whatever_was_stolen() {
        let left = filled([7, 9, 5, 6]).record(|_| ());
        assert_eq!(left.earliest, Some(timestamp(5)));
    }

    #[test]
    fn a_job_that_has_ended_is_recorded_once() {
        let local = filled([1, 2]);
        let first = next(&local, None, timestamp(0)).map(|claim| claim.slot);
        assert_eq!(recorded(&local), [], "it has not ended");
        let second = next(&local, first, timestamp(0)).map(|claim| claim.slot);
        assert_eq!(recorded(&local), [1]);
        local.ended(second);
        assert!(next(&local, None, timestamp(0)).is_none());
        assert_eq!(recorded(&local), [2]);
        assert_eq!(recorded(&local), []);
    }

    #[test]
    fn the_latest_start_is_kept() {
        let local = filled([10, 20, 30]);
        for now in [12, 29, 31] {
            assert!(next(&local, None, timestamp(now)).is_some());
        }
        assert_eq!(local.record(|_| ()).max_lateness, Duration::from_nanos(9));
    }

    #[test]
    fn a_job_that_has_not_started_is_found_and_taken_out_once() {
        let local = filled([1, 2, 3]);
        assert!(next(&local, None, timestamp(0)).is_some());
        assert!(!local.contains(1));
        assert!(local.contains(2));
        assert!(local.remove(1).is_none(), "it has started");
        assert_eq!(slots(local.remove(2)), [2]);
        assert!(local.remove(2).is_none());
        assert_eq!(slots(local.take_all()), [3]);
        let left = local.record(|_| ());
        assert_eq!(
            (left.unstarted, left.earliest, local.polled()),
            (0, None, 1)
        );
    }

    #[test]
    fn the_later_half_is_taken_and_a_single_job_whole() {
        for (len, taken) in [(0, 0), (1, 1), (2, 1), (5, 3)] {
            let local = filled(0..len);
            let half = slots(local.take_half());
            assert!(
                half.iter().copied().eq(len - taken..len),
                "{half:?} of {len}"
            );
            assert!(slots(local.take_all()).into_iter().eq(0..len - taken));
        }
    }

    #[tokio::test]
    async fn a_worker_that_has_nothing_to_do_keeps_little_storage() {
        let (group, woken) = (crate::Group::new(), Arc::default());
        let job = AwaitingJob::vacant(group.shared(), &woken).place;
        let local = filled(0..1_000);
        local.push_woken(std::iter::repeat_n(job, 1_000));
        let mut ended = None;
        while let Some((next, _)) = local.next(ended.take(), |_| timestamp(0)) {
            if let NextJob::Start(claim) = next {
                ended = Some(claim.slot);
            }
        }
        assert_eq!(recorded(&local).len(), 1_000);
        local.shrink();
        assert!(room(&local) <= LocalQueue::KEPT, "{}", room(&local));
    }

    #[tokio::test]
    async fn woken_jobs_count_as_polled_and_the_later_half_of_them_is_taken() {
        let (group, woken) = (crate::Group::new(), Arc::default());
        let job = |_| AwaitingJob::vacant(group.shared(), &woken).place;
        let jobs: Vec<_> = (0..5).map(job).collect();
        let local = LocalQueue::default();
        local.push_woken(jobs.iter().cloned());
        let half = local.take_half_of_woken();
        assert!(
            half.iter()
                .zip(&jobs[2..])
                .all(|(taken, job)| Arc::ptr_eq(taken, job))
        );
        assert_eq!((half.len(), local.len()), (3, 2));
        for polled in 1..=2 {
            let next = local.next(None, |_| unreachable!("none starts"));
            assert!(
                matches!(next, Some((NextJob::Resume(_), is_last)) if is_last == (polled == 2))
            );
            assert_eq!(local.polled(), polled);
        }
    }
}
