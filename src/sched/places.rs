//! Who runs next: due jobs in release order, the places they may take, and the runners that serve
//! them.

use std::collections::VecDeque;

use super::queue::Entry;
use crate::ground::timeline::Tick;

/// Due jobs and the room for them.
///
/// A *place* is what `max_running` counts: a job holds one from its start to its end. A *runner* is a
/// task that takes due jobs one after another, each to its first await; there are at most as many as
/// the runtime has workers, so that a job that blocks its thread leaves the queue to the others.
#[derive(Debug)]
pub(super) struct Places {
    ready: VecDeque<Entry>,
    /// Jobs in `ready`; its other entries are stale.
    waiting: usize,
    running: usize,
    limit: usize,
    runners: usize,
    workers: usize,
    /// How many jobs have ever been taken: a mark of progress.
    taken: u64,
    /// Not later than the deadline of any waiting job.
    earliest: Tick,
}

/// Stale entries beyond the live ones, and spare storage, up to here are not worth a sweep.
const KEPT: usize = 1024;

impl Places {
    pub(super) fn new(limit: usize, workers: usize) -> Places {
        Places {
            ready: VecDeque::new(),
            waiting: 0,
            running: 0,
            limit,
            runners: 0,
            workers,
            taken: 0,
            earliest: Tick::NEVER,
        }
    }

    /// A job is due.
    pub(super) fn offer(&mut self, entry: Entry) {
        self.ready.push_back(entry);
        self.waiting += 1;
        self.earliest = self.earliest.min(entry.at);
    }

    /// A due job was cancelled or moved: its entry is stale. True if the stale ones call for a sweep.
    pub(super) fn withdraw(&mut self) -> bool {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.clear();
        }
        self.ready.len() > 2 * self.waiting + KEPT
    }

    pub(super) fn sweep(&mut self, live: impl FnMut(&Entry) -> bool) {
        self.ready.retain(live);
        self.ready.shrink_to(2 * self.ready.len());
    }

    /// The next job in release order takes a place, if there is one.
    pub(super) fn take(&mut self, mut live: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        if self.waiting == 0 || self.running >= self.limit {
            return None;
        }
        let entry = std::iter::from_fn(|| self.ready.pop_front()).find(|entry| live(entry))?;
        self.waiting -= 1;
        self.running += 1;
        self.taken += 1;
        if self.waiting == 0 {
            self.clear();
        }
        Some(entry)
    }

    /// Nothing live is left.
    fn clear(&mut self) {
        self.ready.clear();
        self.ready.shrink_to(KEPT);
        self.earliest = Tick::NEVER;
    }

    /// A running job has ended.
    pub(super) fn vacate(&mut self) {
        self.running -= 1;
    }

    /// Jobs that could start now.
    fn startable(&self) -> usize {
        self.waiting.min(self.limit - self.running)
    }

    /// How many runners to start for the jobs that wait.
    ///
    /// Never one alone if there is more than one worker: a task that is spawned alone sits in a slot
    /// of its worker from which no other can take it, and if its job blocks the thread that also
    /// serves the timers, all timers of the runtime stand still. The second one wakes another worker.
    pub(super) fn hire(&mut self) -> usize {
        let wanted = match self.startable() {
            0 => 0,
            startable if self.workers > 1 => startable.max(2),
            _ => 1,
        };
        let hired = wanted.min(self.workers.saturating_sub(self.runners));
        self.runners += hired;
        hired
    }

    /// A runner keeps its task for one job; true if another must start in its stead.
    pub(super) fn stay_with_job(&mut self) -> bool {
        self.runners -= 1;
        let replace = self.startable() > 0 && self.runners < self.workers;
        self.runners += usize::from(replace);
        replace
    }

    /// A task that was with one job could serve again; true if it is needed.
    pub(super) fn return_to_duty(&mut self) -> bool {
        let needed = self.startable() > 0 && self.runners < self.workers;
        self.runners += usize::from(needed);
        needed
    }

    /// A runner has gone.
    pub(super) fn leave(&mut self) {
        self.runners -= 1;
    }

    /// Jobs wait though there are places: the runners are busy, or stuck.
    pub(super) fn is_behind(&self) -> bool {
        self.startable() > 0
    }

    /// One more runner than there are workers, since all of them seem stuck.
    pub(super) fn relieve(&mut self) {
        self.runners += 1;
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Not later than the deadline of any waiting job. It may be that of one that has been taken since: it is
    /// told without a look at the others.
    pub(super) fn earliest(&self) -> Tick {
        self.earliest
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Stamp;
    use super::*;

    fn entry(job: u64) -> Entry {
        Entry {
            at: Tick::ALWAYS,
            stamp: Stamp::first(job),
            slot: 0,
        }
    }

    fn places(limit: usize, workers: usize, waiting: u64) -> Places {
        let mut places = Places::new(limit, workers);
        (0..waiting).for_each(|job| places.offer(entry(job)));
        places
    }

    #[test]
    fn jobs_are_taken_in_order_and_only_into_free_places() {
        let mut places = places(2, 1, 3);
        assert_eq!(places.take(|_| true), Some(entry(0)));
        assert_eq!(places.take(|_| true), Some(entry(1)));
        assert_eq!(places.take(|_| true), None);
        places.vacate();
        assert_eq!(places.take(|_| true), Some(entry(2)));
        assert_eq!(places.taken(), 3);
    }

    #[test]
    fn a_stale_entry_is_passed_over() {
        let mut places = places(9, 1, 2);
        places.withdraw();
        assert_eq!(places.take(|found| *found != entry(0)), Some(entry(1)));
        assert_eq!((places.waiting(), places.running()), (0, 1));
    }

    #[test]
    fn the_earliest_deadline_is_forgotten_with_the_last_job() {
        let at = |millis| Tick::ALWAYS.after(std::time::Duration::from_millis(millis));
        let mut places = Places::new(9, 1);
        for millis in [7, 5, 9] {
            places.offer(Entry {
                at: at(millis),
                ..entry(millis)
            });
        }
        assert_eq!(places.earliest(), at(5));
        places.take(|_| true);
        places.take(|_| true);
        assert_eq!(places.earliest(), at(5), "not later than nine");
        places.withdraw();
        assert_eq!(places.earliest(), Tick::NEVER);
    }

    #[test]
    fn a_lone_job_gets_two_runners_unless_there_is_one_worker() {
        assert_eq!(places(9, 1, 1).hire(), 1);
        assert_eq!(places(9, 4, 1).hire(), 2);
        assert_eq!(places(9, 4, 3).hire(), 3);
        assert_eq!(places(9, 4, 9).hire(), 4);
        assert_eq!(places(9, 4, 0).hire(), 0);
    }

    #[test]
    fn runners_are_at_most_the_workers_until_all_are_stuck() {
        let mut places = places(9, 2, 1);
        assert_eq!(places.hire(), 2);
        assert_eq!(places.hire(), 0);
        places.relieve();
        places.leave();
        assert_eq!(places.hire(), 0, "the relief is there beside one of them");
        places.leave();
        assert_eq!(places.hire(), 1);
    }

    #[test]
    fn a_runner_that_stays_with_its_job_is_replaced_only_for_a_job_that_can_start() {
        let mut places = places(1, 1, 2);
        assert_eq!(places.hire(), 1);
        places.take(|_| true);
        assert!(!places.stay_with_job(), "no place is free");
        places.vacate();
        assert!(places.return_to_duty());
        assert!(!places.return_to_duty(), "one runner per worker");
    }

    #[test]
    fn stale_entries_never_outnumber_live_ones_by_more_than_a_constant() {
        let mut places = places(0, 1, 10_000);
        let swept = (0..9_000).position(|_| places.withdraw());
        assert_eq!(swept, Some(5_512), "waiting {}", places.waiting());
        let live = places.waiting() as u64;
        places.sweep(|found| found.stamp.job() < live);
        assert_eq!(places.ready.len() as u64, live);
        assert!(places.ready.capacity() as u64 <= 2 * live);
        assert!(!places.withdraw(), "it was swept");
    }
}
