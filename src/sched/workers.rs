//! How many workers serve the ready queue, and whether they are stuck.

use std::time::Duration;

use crate::ground::timeline::Tick;

/// The worker tasks of a group.
///
/// ```text
///           start                look               job awaits
///   (none) ───────▶ coming ───────────────▶ busy ───────────────▶ detached
///                     ▲                    │ │ ▲                      │
///                     └────────────────────┘ │ └──────────────────────┘
///                        pause for others    │        rejoin
///                                            ▼ nothing to start
///                                          (gone)
/// ```
///
/// Coming and busy workers are *active*: they look at the ready queue without being asked, a busy one
/// after the job that it is with. There are at most as many as the runtime has worker threads, so that
/// a job that blocks its thread leaves the queue to the others.
///
/// If all of them block theirs, a job that could start waits although no limit keeps it. That cannot be
/// seen; that no job was started for a while can. So as long as jobs could start that no coming worker
/// is there for, the driver *watches*, and adds a spare worker when [`PATIENCE`] has passed without a
/// start.
#[derive(Debug)]
pub(super) struct Workers {
    active: usize,
    /// The part of `active` that is about to look at the ready queue.
    coming: usize,
    /// The runtime's worker threads.
    threads: usize,
    /// Jobs that have ever been started: a mark of progress.
    started: u64,
    watch: Option<Watch>,
    /// A worker can block without blocking the driver.
    watches: bool,
}

/// What the task of a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    Coming,
    Busy,
    /// With a job that awaits, or gone.
    Off,
}

/// No job was started since then.
#[derive(Clone, Copy, Debug)]
struct Watch {
    started: u64,
    since: Tick,
}

/// How long a job may be startable without any being started.
const PATIENCE: Duration = Duration::from_millis(5);

/// What is to be done for the jobs that could start.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Staffing {
    /// Workers to start; they are counted as coming.
    pub(super) start: usize,
    /// The driver must look again in time: it does not know of the watch yet.
    pub(super) watch: bool,
}

impl Workers {
    /// `threads` is how many worker threads the runtime has; `watches` if one can be blocked without
    /// blocking the driver.
    pub(super) fn new(threads: usize, watches: bool) -> Workers {
        Workers {
            active: 0,
            coming: 0,
            threads,
            started: 0,
            watch: None,
            watches,
        }
    }

    /// Sees to it that somebody comes for the jobs that could start now.
    pub(super) fn staff(&mut self, startable: usize, now: Tick) -> Staffing {
        let wanted = startable.saturating_sub(self.coming);
        let start = wanted.min(self.threads.saturating_sub(self.active));
        self.active += start;
        self.coming += start;
        let watch = self.watches && start < wanted && self.watch.is_none();
        if watch {
            self.watch = Some(Watch {
                started: self.started,
                since: now,
            });
        } else if startable == 0 {
            self.watch = None;
        }
        Staffing { start, watch }
    }

    /// The driver looks: true if a spare worker is to start, since all others seem to be stuck. It is
    /// counted as coming.
    pub(super) fn check(&mut self, startable: usize, now: Tick) -> bool {
        let Some(watch) = self.watch else {
            return false;
        };
        let progress = watch.started != self.started;
        let stalled = startable > self.coming && !progress && now >= watch.since.after(PATIENCE);
        if startable == 0 {
            self.watch = None;
        } else if progress || stalled {
            self.watch = Some(Watch {
                started: self.started,
                since: now,
            });
        }
        if stalled {
            self.active += 1;
            self.coming += 1;
        }
        stalled
    }

    /// When the driver has to [check](Workers::check) next.
    pub(super) fn next_check(&self) -> Tick {
        self.watch
            .map_or(Tick::NEVER, |watch| watch.since.after(PATIENCE))
    }

    /// A coming worker looks at the ready queue.
    pub(super) fn look(&mut self) {
        self.coming -= 1;
    }

    /// A job was taken by a worker.
    pub(super) fn took_job(&mut self) {
        self.started += 1;
    }

    /// A busy worker gives others a turn before it looks again.
    pub(super) fn pause(&mut self) {
        self.coming += 1;
    }

    /// A busy worker goes, or stays with a job that awaits.
    pub(super) fn leave(&mut self) {
        self.active -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::ALWAYS.after(Duration::from_millis(millis))
    }

    fn start(workers: &mut Workers, startable: usize) -> usize {
        workers.staff(startable, at(0)).start
    }

    /// A worker of this many is with a job.
    fn busy(threads: usize) -> Workers {
        let mut workers = Workers::new(threads, true);
        assert_eq!(start(&mut workers, 1), 1);
        workers.look();
        workers.took_job();
        workers
    }

    #[test]
    fn one_worker_is_started_per_job_and_thread() {
        for (threads, startable, started) in [(1, 1, 1), (4, 1, 1), (4, 3, 3), (4, 9, 4), (4, 0, 0)]
        {
            let mut workers = Workers::new(threads, true);
            assert_eq!(start(&mut workers, startable), started);
        }
    }

    #[test]
    fn a_worker_that_is_coming_is_not_started_twice() {
        let mut workers = Workers::new(4, true);
        assert_eq!(start(&mut workers, 1), 1);
        assert_eq!(start(&mut workers, 1), 0);
        assert_eq!(start(&mut workers, 2), 1);
        assert_eq!(workers.next_check(), Tick::NEVER, "all of them are served");
    }

    #[test]
    fn a_worker_that_leaves_or_detaches_makes_room_for_another() {
        let mut workers = busy(1);
        assert_eq!(start(&mut workers, 1), 0);
        workers.leave();
        assert_eq!(start(&mut workers, 1), 1);
    }

    #[test]
    fn a_watch_begins_when_nobody_comes_and_ends_when_nothing_waits() {
        let mut workers = busy(1);
        let watch = Staffing {
            start: 0,
            watch: true,
        };
        assert_eq!(workers.staff(1, at(10)), watch);
        assert_eq!(
            workers.staff(2, at(12)),
            Staffing::default(),
            "it has begun"
        );
        assert_eq!(workers.next_check(), at(15));
        assert_eq!(workers.staff(0, at(13)), Staffing::default());
        assert_eq!(workers.next_check(), Tick::NEVER);
    }

    #[test]
    fn without_a_start_for_long_one_spare_worker_comes_and_then_another() {
        let mut workers = busy(1);
        assert!(workers.staff(1, at(10)).watch);
        assert!(!workers.check(1, at(14)));
        assert_eq!(workers.next_check(), at(15), "since then");
        assert!(workers.check(1, at(15)));
        assert!(!workers.check(1, at(30)), "it is coming");
        workers.look();
        workers.took_job();
        assert!(!workers.check(1, at(31)), "it took one");
        assert_eq!(workers.next_check(), at(36));
        assert!(workers.check(1, at(36)));
    }

    #[test]
    fn a_start_is_a_sign_of_progress() {
        let mut workers = busy(1);
        assert!(workers.staff(2, at(10)).watch);
        workers.took_job();
        assert!(!workers.check(1, at(15)));
        assert_eq!(workers.next_check(), at(20));
        workers.took_job();
        assert!(!workers.check(0, at(20)), "none waits");
        assert_eq!(workers.next_check(), Tick::NEVER);
    }

    #[test]
    fn a_spare_worker_counts_against_the_threads() {
        let mut workers = busy(1);
        assert!(workers.staff(1, at(0)).watch);
        assert!(workers.check(1, at(5)));
        workers.look();
        workers.leave();
        assert_eq!(start(&mut workers, 1), 0, "one is left for one thread");
        workers.leave();
        assert_eq!(start(&mut workers, 1), 1);
    }

    #[test]
    fn where_a_blocked_worker_blocks_the_driver_nothing_is_watched() {
        let mut workers = Workers::new(1, false);
        assert_eq!(start(&mut workers, 2), 1);
        assert_eq!(workers.next_check(), Tick::NEVER);
    }
}
