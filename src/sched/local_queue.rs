//! The local queue of a worker: due jobs that it has claimed and starts one after another.

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

/// A due job that a worker is about to start.
pub(super) struct Claim {
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) work: Work,
    pub(super) deadline: Timestamp,
    pub(super) scheduled_at: &'static Location<'static>,
}

// A claimed job is always in one known state, because of who may do what:
//
// - Only the owner starts jobs: it takes them from the front, under this lock alone.
// - All others hold the group's lock when they take jobs out or move them to another queue.
//
// So under the group's lock no claim moves between queues, and a claimed job that is in none of them has left its
// queue to start: it is at its first poll, or among `ended`, or about to be given back because the group is over.
// Between an owner and a caller who want the same job, this lock decides.
/// The due jobs that a worker claims in one step of the group's lock, and works off without it.
///
/// The owner takes from the front. All others come with the group's lock held: to take out a job that is
/// cancelled or moved, to steal the later half for another worker, and to record the jobs that have ended. So
/// this lock comes after the group's, and only that of the woken jobs is taken under it.
#[derive(Default)]
pub(super) struct LocalQueue(Mutex<Inner>);

/// What a worker has claimed and not started, and how late its latest start was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) unstarted: usize,
    /// When the first of them was due.
    pub(super) first: Option<Timestamp>,
    pub(super) max_lateness: Duration,
}

/// What a worker does next.
pub(super) enum Task {
    Start(Claim),
    Resume(Arc<AwaitingJob>),
}

#[derive(Default)]
struct Inner {
    /// Jobs that have awaited and were woken. They come after those that start; each claim takes of both.
    woken: VecDeque<Arc<AwaitingJob>>,
    /// In release order.
    unstarted: VecDeque<Claim>,
    /// Jobs that have ended and are not recorded yet.
    ended: Vec<u32>,
    /// Jobs that were started or polled again.
    polled: u64,
    /// How late the latest start was.
    max_lateness: Duration,
}

/// Room for as many jobs is kept by a worker that has nothing to do.
const KEPT: usize = 4;

impl LocalQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The owner.

    /// Takes the next job. `ended` is the slot of the job before, if that has ended and only has to be
    /// recorded; `now` is asked for the time if the job starts, and told if it is the last that is claimed.
    pub(super) fn next(
        &self,
        ended: Option<u32>,
        now: impl FnOnce(bool) -> Timestamp,
    ) -> Option<Task> {
        let mut inner = self.lock();
        // One step, so that the counts never show two jobs running on one worker.
        inner.ended.extend(ended);
        let Some(deadline) = inner.unstarted.front().map(|claim| claim.deadline) else {
            let job = inner.woken.pop_front()?;
            inner.polled += 1;
            return Some(Task::Resume(job));
        };
        let lateness = now(inner.unstarted.len() == 1).since(deadline);
        inner.max_lateness = inner.max_lateness.max(lateness);
        // Stall detection reads this: a worker that polls jobs is not stuck.
        inner.polled += 1;
        // In a group with a limit it holds its slot already.
        inner.unstarted.pop_front().map(Task::Start)
    }

    /// The owner gives others a turn after a job; `ended` as in [`next`](LocalQueue::next).
    pub(super) fn ended(&self, ended: Option<u32>) {
        self.lock().ended.extend(ended);
    }

    // Others, under the group's lock.

    /// Lets `add` add `count` jobs. Room for them is made at once, here and for their ends.
    pub(super) fn fill(&self, count: usize, add: impl FnOnce(&mut VecDeque<Claim>)) {
        let mut inner = self.lock();
        // `ended` is empty here, since a claim records before it adds. With this room the owner allocates nothing
        // under the lock until its next claim.
        inner.ended.reserve(count);
        inner.unstarted.reserve(count);
        add(&mut inner.unstarted);
    }

    /// Adds jobs that were woken.
    pub(super) fn push_woken(&self, jobs: impl IntoIterator<Item = Arc<AwaitingJob>>) {
        self.lock().woken.extend(jobs);
    }

    /// Takes at most `most` of those that were woken. Their lock comes after this one.
    pub(super) fn claim_woken(&self, others: &WokenJobs, most: usize) -> usize {
        others.take(most, &mut self.lock().woken)
    }

    /// Returns whether this is a job that has not started.
    pub(super) fn contains(&self, slot: u32) -> bool {
        let unstarted = &self.lock().unstarted;
        unstarted.iter().any(|claim| claim.slot == slot)
    }

    /// Takes out a job that has not started.
    pub(super) fn remove(&self, slot: u32) -> Option<Claim> {
        let unstarted = &mut self.lock().unstarted;
        let index = unstarted.iter().position(|claim| claim.slot == slot)?;
        unstarted.remove(index)
    }

    pub(super) fn take_all(&self) -> VecDeque<Claim> {
        std::mem::take(&mut self.lock().unstarted)
    }

    /// Takes the later half of what has not started.
    pub(super) fn take_half(&self) -> VecDeque<Claim> {
        let unstarted = &mut self.lock().unstarted;
        // The later half, so that both workers continue in release order. Of a single job it is that job: it waits
        // behind one that may block its thread.
        unstarted.split_off(unstarted.len() / 2)
    }

    /// Takes the later half of those that were woken.
    pub(super) fn take_half_of_woken(&self) -> VecDeque<Arc<AwaitingJob>> {
        let woken = &mut self.lock().woken;
        woken.split_off(woken.len() / 2)
    }

    /// How many are left to be started or polled again.
    pub(super) fn len(&self) -> usize {
        let inner = self.lock();
        inner.woken.len() + inner.unstarted.len()
    }

    /// The slots of those that have not started.
    pub(super) fn unstarted_slots(&self) -> Vec<u32> {
        let inner = self.lock();
        inner.unstarted.iter().map(|claim| claim.slot).collect()
    }

    /// Calls `record` with the slot of each job that has ended since, and returns what is left, in one step with
    /// that. `record` takes no lock.
    pub(super) fn record(&self, record: impl FnMut(u32)) -> Left {
        let mut inner = self.lock();
        inner.ended.drain(..).for_each(record);
        Left {
            unstarted: inner.unstarted.len(),
            first: inner.unstarted.front().map(|claim| claim.deadline),
            max_lateness: inner.max_lateness,
        }
    }

    /// How many jobs were started or polled again, ever.
    pub(super) fn polled(&self) -> u64 {
        self.lock().polled
    }

    /// The owner has nothing to do.
    pub(super) fn shrink(&self) {
        let mut inner = self.lock();
        inner.woken.shrink_to(KEPT);
        inner.unstarted.shrink_to(KEPT);
        inner.ended.shrink_to(KEPT);
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

    /// The next job, which has not started: no other is there.
    fn next(local: &LocalQueue, ended: Option<u32>, now: Timestamp) -> Option<Claim> {
        local.next(ended, |_| now).map(|task| match task {
            Task::Start(claim) => claim,
            Task::Resume(_) => unreachable!("none was woken"),
        })
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
        assert_eq!((left.unstarted, left.first), (3, Some(timestamp(3))));
        let started = std::iter::from_fn(|| next(&local, None, timestamp(0)));
        assert_eq!(slots(started), [3, 5, 9]);
        let left = local.record(|_| ());
        assert_eq!((left.unstarted, left.first, local.polled()), (0, None, 3));
    }

    #[test]
    fn a_job_that_has_ended_is_booked_once() {
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
        assert_eq!((left.unstarted, left.first, local.polled()), (0, None, 1));
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

    #[test]
    fn a_worker_that_has_nothing_to_do_keeps_little_storage() {
        let local = filled(0..1_000);
        let mut ended = None;
        while let Some(claim) = next(&local, ended, timestamp(0)) {
            ended = Some(claim.slot);
        }
        assert_eq!(recorded(&local).len(), 1_000);
        local.shrink();
        let inner = local.lock();
        let kept = (inner.unstarted.capacity(), inner.ended.capacity());
        assert!(kept.0.max(kept.1) <= KEPT, "{kept:?}");
    }
}
