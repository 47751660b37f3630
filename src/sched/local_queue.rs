//! The local queue of a worker: due jobs that it has claimed and starts one after another.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::PoisonError;
use std::time::Duration;

use super::body::Body;
use super::job::JobId;
use super::rt::{Mutex, MutexGuard};
use crate::ground::timeline::Tick;

/// A due job that a worker is about to start.
pub(super) struct Claim {
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) body: Box<dyn Body>,
    pub(super) deadline: Tick,
    pub(super) scheduled_at: &'static Location<'static>,
}

/// What a worker claims in one step of the group's lock, and works off without it.
///
/// The owner takes from the front. Everybody else comes with the group's lock held: to take a job out
/// again that is cancelled or moved, to take the later half for another worker, and to book the jobs
/// that have ended. So this lock comes after the group's, and nothing else is locked under it.
#[derive(Default)]
pub(super) struct LocalQueue(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// In release order.
    unstarted: VecDeque<Claim>,
    /// Jobs that ended at their first poll and are not booked yet.
    ended: Vec<u32>,
    /// Jobs that were started, and how late the latest of them was.
    started: u64,
    max_lateness: Duration,
}

/// Room for as many jobs is kept by a worker that has nothing to do.
const KEPT: usize = 4;

impl LocalQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The owner.

    /// Takes the next job, which starts now. `ended` is the slot of the job before, if that has ended and only has to be booked: both are one step, so that a job is always
    /// found in one place.
    pub(super) fn next(&self, ended: Option<u32>, now: Tick) -> Option<Claim> {
        let mut inner = self.lock();
        inner.ended.extend(ended);
        let claim = inner.unstarted.pop_front()?;
        let lateness = now.since(claim.deadline);
        inner.started += 1;
        inner.max_lateness = inner.max_lateness.max(lateness);
        Some(claim)
    }

    /// The owner gives others a turn after a job; `ended` as in [`next`](LocalQueue::next).
    pub(super) fn ended(&self, ended: Option<u32>) {
        self.lock().ended.extend(ended);
    }

    // Others, under the group's lock.

    /// Adds so many jobs. Room for them is made at once, here and for their ends.
    pub(super) fn push(&self, count: usize, claims: impl IntoIterator<Item = Claim>) {
        let mut inner = self.lock();
        inner.ended.reserve(count);
        inner.unstarted.reserve(count);
        inner.unstarted.extend(claims);
    }

    /// Is this a job that has not started?
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

    /// Takes the later half.
    pub(super) fn take_half(&self) -> VecDeque<Claim> {
        let unstarted = &mut self.lock().unstarted;
        unstarted.split_off(unstarted.len() / 2)
    }

    /// How many have not started, and when the first of them was due.
    pub(super) fn unstarted(&self) -> (usize, Option<Tick>) {
        let inner = self.lock();
        let first = inner.unstarted.front().map(|claim| claim.deadline);
        (inner.unstarted.len(), first)
    }

    /// The slots of those that have not started.
    pub(super) fn unstarted_slots(&self) -> Vec<u32> {
        let inner = self.lock();
        inner.unstarted.iter().map(|claim| claim.slot).collect()
    }

    /// Books the jobs that have ended, by their slots, and says how late the latest start was. `book` takes
    /// no lock.
    pub(super) fn book(&self, book: impl FnMut(u32)) -> Duration {
        let mut inner = self.lock();
        inner.ended.drain(..).for_each(book);
        inner.max_lateness
    }

    /// How many jobs were started, ever.
    pub(super) fn started(&self) -> u64 {
        self.lock().started
    }

    /// The owner has nothing to do.
    pub(super) fn shrink(&self) {
        let mut inner = self.lock();
        inner.unstarted.shrink_to(KEPT);
        inner.ended.shrink_to(KEPT);
    }
}
