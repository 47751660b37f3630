//! The workers of a group: how many there are, their local queues, and whether they are stuck.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::common::time::Timestamp;
use crate::sched::local_queue::LocalQueue;
use crate::sched::woken::WokenJobs;

/// The worker tasks of a group.
///
/// ```text
///           start              looks                  nothing to start
///   (none) ───────▶ starting ─────────▶ busy ──────────────────────────────▶ parked
///                      ▲                 │                                      │
///                      │                 │ nothing to start, and another is     │
///                      │                 │ parked or the group has drained      │
///                      │                 ▼                                      │
///                      │              (exited)                                  │
///                      └────────────────────────────────────────────────────────┘
///                        woken for a job, or to exit when the group has drained
/// ```
///
/// A runtime that shuts down drops the task of a worker in any of these states.
///
/// Starting and busy workers are *active*: they look at the ready queue by themselves, a busy one when it has run the
/// jobs that it has claimed. Except for spare ones (below), there are at most as many active workers as the runtime has
/// worker threads. A worker that finds nothing to start parks, unless another one is parked, so that a lone job wakes a
/// task instead of spawning one.
///
/// Stall detection: if jobs block the threads of all workers, a job that could start has to wait, although the limit
/// does not forbid it. The group cannot see that a thread is blocked, but it can see that no job is polled for a while.
/// So while there may be jobs for which no worker is starting, the driver *watches*: if no job is polled for
/// [`STALL_AFTER`], it adds a spare worker, which claims from the ready queue or steals from the local queues of the
/// others.
pub(in crate::sched) struct Workers {
    // All of it is under the group's lock. The invariant: for each job that could start there is a starting worker, or
    // as many workers are active as there are threads. In the second case a busy worker will look for the job when it
    // has run the jobs that it has claimed, and the driver watches whether one does. The steps that release a job or
    // free a slot restore it in one of three ways:
    //
    // - The release of due jobs, a claim and the end of a run call workers (`State::want_workers`).
    // - A cancel, an abort and a move of a claimed job, a row that a worker has claimed and may not start, and a row
    //   that is unblocked are rare. They notify the driver, whose turn calls workers (`State::job_left`, `unblock`).
    // - A query that records the end of a job does nothing: the worker of that job is busy, and claims next.
    active: usize,
    /// Those of the active workers that have not looked at the ready queue yet. A worker is counted here before its
    /// task is spawned or woken, so that one job does not start two workers.
    starting: usize,
    /// The runtime's worker threads.
    threads: usize,
    /// The local queues of the workers that are busy or parked.
    locals: Vec<Arc<LocalQueue>>,
    /// The waker of the parked worker, at most one. The step that wakes it takes it out. So a worker that is polled and
    /// is still the parked one was not woken by the group.
    parked: Option<Waker>,
    /// How often a worker has parked. The last of these is that of the parked one.
    parkings: u64,
    /// How many jobs were polled by the workers that have exited.
    polled: u64,
    watch: StallWatch,
    /// A worker can block its thread without blocking the driver; otherwise to watch is useless.
    watches: bool,
    /// The number of claims, modulo 2^32.
    claims: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StallWatch {
    Off,
    /// The driver has not checked yet.
    Wanted,
    /// `polled` jobs had been polled by `at`, and none since, as far as the driver knows.
    Since {
        polled: u64,
        at: Timestamp,
    },
}

/// The state of a worker's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum WorkerState {
    Starting,
    Busy,
    // A worker that was woken stays in this state until it is polled. It counts as starting, and is not in
    // `Workers::parked` any more.
    Parked,
    Exited,
}

/// A worker as the group knows it. It is identified by its local queue.
pub(in crate::sched) struct Registration {
    pub(in crate::sched) local: Arc<LocalQueue>,
    /// The group's queue of woken jobs. The worker gets it with its first claim.
    pub(in crate::sched) woken: Option<Arc<WokenJobs>>,
    /// The end of each job that it has claimed last is to be recorded at once, not by the next claim.
    pub(in crate::sched) records_each: bool,
    /// The slot of the job that it has run last, if that has ended and is not recorded yet.
    pub(in crate::sched) ended: Option<u32>,
    /// How many jobs it has claimed in one step at most, since its queue was shrunk.
    most_claimed: usize,
    pub(in crate::sched) state: WorkerState,
    /// The number of its last parking.
    parking: u64,
}

impl Registration {
    /// Returns the registration of a worker that is counted as starting.
    pub(in crate::sched) fn new() -> Registration {
        Registration {
            local: Arc::default(),
            woken: None,
            records_each: false,
            ended: None,
            most_claimed: 0,
            state: WorkerState::Starting,
            parking: 0,
        }
    }

    /// Notes that it has claimed `count` jobs in one step.
    pub(super) fn claimed(&mut self, count: usize) {
        self.most_claimed = self.most_claimed.max(count);
    }

    /// Frees storage of its queue, when it has nothing to do.
    pub(super) fn shrink(&mut self) {
        if std::mem::take(&mut self.most_claimed) > LocalQueue::KEPT {
            self.local.shrink();
        }
    }
}

/// A spare worker is added when jobs have waited for this long while none was polled.
const STALL_AFTER: Duration = Duration::from_millis(5);

/// One claim of this many first steals from another worker.
const CLAIMS_A_THEFT: u32 = 64;

/// The workers to call for the jobs that could start.
#[derive(Default)]
#[must_use]
pub(super) struct WorkersWanted {
    /// Wake the parked worker.
    pub(super) wake: Option<Waker>,
    /// Start as many new workers. They and the woken one are counted as starting already.
    pub(super) start: usize,
    /// Notify the driver, which does not know yet that it has to watch.
    pub(super) watch: bool,
}

impl Workers {
    /// `threads` is the number of worker threads of the runtime; `watches` tells whether one of them can be blocked
    /// without blocking the driver.
    pub(in crate::sched) fn new(threads: usize, watches: bool) -> Workers {
        Workers {
            active: 0,
            starting: 0,
            threads,
            locals: Vec::new(),
            parked: None,
            parkings: 0,
            polled: 0,
            watch: StallWatch::Off,
            watches,
            claims: 0,
        }
    }

    // Workers for the jobs that could start.

    /// Returns which workers to start or wake for the jobs that could start now.
    pub(super) fn want_workers(&mut self, startable: usize) -> WorkersWanted {
        // Each worker that is starting will claim at least one of them, and then call workers for the rest.
        let wanted = startable.saturating_sub(self.starting);
        // The common case.
        if wanted == 0 {
            return WorkersWanted::default();
        }
        let starting = wanted.min(self.threads.saturating_sub(self.active));
        self.active += starting;
        self.starting += starting;
        // The parked one first, since a wake-up is cheaper than a new task. It is taken out here, under the lock, so
        // that no other step wakes it a second time.
        let parked = if starting > 0 {
            self.parked.take()
        } else {
            None
        };
        WorkersWanted {
            start: starting - usize::from(parked.is_some()),
            wake: parked,
            watch: starting < wanted && self.watch(),
        }
    }

    /// Returns whether [`want_workers`](Workers::want_workers) would do something for the jobs that could start now.
    pub(super) fn are_needed(&self, startable: usize) -> bool {
        let may_watch = self.watches && self.watch == StallWatch::Off;
        startable > self.starting && (self.active < self.threads || may_watch)
    }

    /// Begins a watch. Returns `true` if the driver does not know of one yet.
    pub(super) fn watch(&mut self) -> bool {
        let begins = self.watches && self.watch == StallWatch::Off;
        if begins {
            self.watch = StallWatch::Wanted;
        }
        begins
    }

    /// Checks for a stall, in a turn of the driver. Returns `true` if a spare worker is to be started, which is counted
    /// as starting already.
    pub(super) fn check(&mut self, startable: usize, now: Timestamp) -> bool {
        if self.watch == StallWatch::Off {
            return false;
        }
        // Jobs in the local queue of a stuck worker wait as those in the ready queue do.
        let claimed: usize = self.locals.iter().map(|local| local.len()).sum();
        let waiting = startable + claimed;
        // How many jobs all workers have ever polled. It never goes back, since a worker that exits adds its number to
        // `self.polled`. So it is the same as before only if no worker has polled a job since.
        let polled = self.polled + self.locals.iter().map(|local| local.polled()).sum::<u64>();
        let stands_still = match self.watch {
            StallWatch::Since { polled: before, at } if before == polled && waiting > 0 => {
                if now < at.after(STALL_AFTER) {
                    return false;
                }
                true
            }
            _ => false,
        };
        self.watch = match waiting {
            0 => StallWatch::Off,
            _ => StallWatch::Since { polled, at: now },
        };
        // A worker that is starting has not run yet, and will claim a job. Without this condition each check would add
        // another worker.
        let spare = stands_still && waiting > self.starting;
        self.active += usize::from(spare);
        self.starting += usize::from(spare);
        spare
    }

    /// Returns when the driver has to [check](Workers::check) next.
    pub(super) fn next_check(&self) -> Timestamp {
        match self.watch {
            StallWatch::Off => Timestamp::NEVER,
            StallWatch::Wanted => Timestamp::ALWAYS,
            StallWatch::Since { at, .. } => at.after(STALL_AFTER),
        }
    }

    /// Returns how many of `jobs` one worker claims, so that the other threads have their share.
    pub(super) fn share_of(&self, jobs: usize, most: usize) -> usize {
        jobs.div_ceil(self.threads).min(most)
    }

    // The states of a worker.

    /// Makes a starting worker busy. Returns `false` if the worker was polled without being woken by the group, and is
    /// still parked.
    pub(super) fn activate(&mut self, worker: &mut Registration) -> bool {
        match worker.state {
            WorkerState::Starting => self.locals.push(Arc::clone(&worker.local)),
            // It does not count as active, so it must not claim.
            WorkerState::Parked if self.is_parked(worker) => return false,
            WorkerState::Parked => {}
            WorkerState::Busy | WorkerState::Exited => return true,
        }
        self.starting -= 1;
        worker.state = WorkerState::Busy;
        true
    }

    /// Parks a busy worker that has found nothing to start; if another one is parked already, it exits.
    pub(super) fn park_or_exit(&mut self, worker: &mut Registration, waker: &Waker) {
        // In the same step that found nothing. A job that is released later finds the waker here.
        self.active -= 1;
        if self.parked.is_none() {
            worker.state = WorkerState::Parked;
            self.parked = Some(waker.clone());
            self.parkings += 1;
            worker.parking = self.parkings;
        } else {
            self.remove(worker);
        }
    }

    fn remove(&mut self, worker: &mut Registration) {
        worker.state = WorkerState::Exited;
        // So that the sum in `check` does not go back.
        self.polled += worker.local.polled();
        self.locals
            .retain(|other| !Arc::ptr_eq(other, &worker.local));
    }

    /// Stores the waker of a poll that was not caused by the group, in a worker that stays parked.
    pub(super) fn refresh_waker(&mut self, worker: &Registration, waker: &Waker) {
        if self.is_parked(worker) {
            self.parked = Some(waker.clone());
        }
    }

    /// Removes a worker whose task ends or is dropped.
    pub(super) fn worker_dropped(&mut self, worker: &mut Registration) {
        match worker.state {
            WorkerState::Exited => return,
            WorkerState::Parked if self.is_parked(worker) => self.parked = None,
            // A parked worker that was woken, and was not polled since, counts as starting.
            WorkerState::Starting | WorkerState::Parked => {
                self.active -= 1;
                self.starting -= 1;
            }
            WorkerState::Busy => self.active -= 1,
        }
        self.remove(worker);
    }

    fn is_parked(&self, worker: &Registration) -> bool {
        self.parked.is_some() && worker.parking == self.parkings
    }

    /// Takes the waker of the parked worker when the group has drained. The worker exits when it is polled.
    pub(super) fn take_last_parked(&mut self) -> Option<Waker> {
        // Like every worker that is woken it counts as starting, so that `activate` lets its next poll pass.
        let waker = self.parked.take()?;
        self.active += 1;
        self.starting += 1;
        Some(waker)
    }

    /// Counts a claim. Returns whether the worker is to steal from another one first.
    ///
    /// While one worker has enough to do, stall detection does not see that another is stuck. Without this, the jobs
    /// that the stuck one has claimed would wait for it.
    pub(super) fn is_to_help(&mut self) -> bool {
        self.claims = self.claims.wrapping_add(1);
        self.claims % CLAIMS_A_THEFT == 0
    }

    /// Returns the local queues of the other workers, which take turns in being the first.
    pub(super) fn others(&self, local: &Arc<LocalQueue>) -> impl Iterator<Item = &Arc<LocalQueue>> {
        // At least `local` is among them.
        let first = (self.claims / CLAIMS_A_THEFT) as usize % self.locals.len();
        let (before, from) = self.locals.split_at(first);
        let all = from.iter().chain(before);
        all.filter(move |other| !Arc::ptr_eq(other, local))
    }

    pub(super) fn locals(&self) -> &[Arc<LocalQueue>] {
        &self.locals
    }
}

// Those of loom can only be locked in a model.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sched::local_queue::tests::{claim, next};

    fn at(millis: u64) -> Timestamp {
        Timestamp::ALWAYS.after(Duration::from_millis(millis))
    }

    impl Registration {
        fn parks(&mut self, workers: &mut Workers) -> WorkerState {
            workers.park_or_exit(self, Waker::noop());
            self.state
        }

        /// Claims `count` jobs and starts one.
        fn starts_one_of(&self, count: usize) {
            let claims = (0..count as u32).map(claim);
            self.local.fill(count, |local| local.extend(claims));
            assert!(next(&self.local, None, at(0)).is_some());
        }
    }

    /// A group on `threads` threads, with one busy worker.
    fn busy(threads: usize) -> (Workers, Registration) {
        let mut workers = Workers::new(threads, true);
        let mut task = Registration::new();
        assert_eq!(workers.want_workers(1).start, 1);
        assert!(workers.activate(&mut task));
        task.starts_one_of(1);
        (workers, task)
    }

    #[test]
    fn one_worker_is_started_per_job_and_thread() {
        for (threads, startable, started) in [(1, 1, 1), (4, 1, 1), (4, 3, 3), (4, 9, 4), (4, 0, 0)]
        {
            let mut workers = Workers::new(threads, true);
            assert_eq!(workers.want_workers(startable).start, started);
        }
    }

    #[test]
    fn a_worker_that_is_starting_is_not_started_twice() {
        let mut workers = Workers::new(4, true);
        for (startable, started) in [(1, 1), (1, 0), (2, 1)] {
            let wanted = workers.want_workers(startable);
            assert_eq!((wanted.start, wanted.watch), (started, false));
        }
        assert_eq!(
            workers.next_check(),
            Timestamp::NEVER,
            "all jobs are served"
        );
    }

    /// Each poll may have another waker. One that was called for a job is not parked again by a poll.
    #[test]
    fn a_parked_worker_that_is_polled_for_nothing_leaves_the_waker_of_that_poll() {
        struct Other;
        impl std::task::Wake for Other {
            fn wake(self: Arc<Self>) {}
        }
        let (mut workers, mut worker) = busy(1);
        assert_eq!(worker.parks(&mut workers), WorkerState::Parked);
        let other = Waker::from(Arc::new(Other));
        workers.refresh_waker(&worker, &other);
        let called = workers.take_last_parked();
        assert!(called.is_some_and(|waker| waker.will_wake(&other)));
        workers.refresh_waker(&worker, &other);
        assert!(workers.take_last_parked().is_none());
    }

    #[test]
    fn a_worker_without_jobs_parks_and_a_second_one_exits() {
        let (mut workers, mut first) = busy(2);
        let mut second = Registration::new();
        assert_eq!(workers.want_workers(1).start, 1);
        assert!(workers.activate(&mut second));
        assert_eq!(workers.locals().len(), 2);
        assert_eq!(first.parks(&mut workers), WorkerState::Parked);
        assert_eq!(second.parks(&mut workers), WorkerState::Exited);
        workers.worker_dropped(&mut second);
        assert_eq!((workers.active, workers.locals().len()), (0, 1));
    }

    #[test]
    fn the_parked_worker_is_woken_before_another_is_started() {
        let (mut workers, mut task) = busy(2);
        task.parks(&mut workers);
        assert!(!workers.activate(&mut task), "it has not been woken");
        let wanted = workers.want_workers(2);
        assert!(wanted.wake.is_some());
        assert_eq!(wanted.start, 1);
        assert!(workers.activate(&mut task));
        assert!(workers.want_workers(1).wake.is_none());
        assert_eq!(task.state, WorkerState::Busy);
    }

    #[test]
    fn each_worker_claims_its_part_and_never_too_much() {
        for (threads, startable, share) in
            [(1, 1, 1), (1, 99, 32), (4, 4, 1), (4, 9, 3), (4, 999, 32)]
        {
            assert_eq!(Workers::new(threads, true).share_of(startable, 32), share);
        }
    }

    #[test]
    fn a_watch_begins_when_no_worker_comes_and_ends_when_no_job_waits() {
        let (mut workers, _task) = busy(1);
        let wanted = workers.want_workers(1);
        assert_eq!((wanted.start, wanted.watch), (0, true));
        assert!(!workers.want_workers(2).watch, "it has begun");
        assert_eq!(workers.next_check(), Timestamp::ALWAYS);
        assert!(!workers.check(1, at(10)));
        assert_eq!(workers.next_check(), at(15));
        assert!(!workers.check(0, at(13)));
        assert_eq!(workers.next_check(), Timestamp::NEVER);
    }

    #[test]
    fn without_a_start_for_long_one_spare_worker_comes_and_then_another() {
        let (mut workers, _task) = busy(1);
        assert!(workers.want_workers(1).watch);
        assert!(!workers.check(1, at(10)));
        assert!(!workers.check(1, at(14)));
        assert!(workers.check(1, at(15)));
        assert!(!workers.check(1, at(30)), "it is starting");
        let mut spare = Registration::new();
        assert!(workers.activate(&mut spare));
        spare.starts_one_of(1);
        assert!(!workers.check(1, at(40)), "it took one");
        assert_eq!(workers.next_check(), at(45));
        assert!(workers.check(1, at(45)));
    }

    #[test]
    fn what_a_worker_has_claimed_and_not_started_is_watched_too() {
        let (mut workers, task) = busy(1);
        task.starts_one_of(3);
        assert!(workers.watch());
        assert!(!workers.watch(), "it has begun");
        assert!(!workers.check(0, at(10)));
        assert!(workers.check(0, at(15)));
    }

    #[test]
    fn a_start_is_a_sign_of_progress_also_of_a_worker_that_has_gone() {
        let (mut workers, mut task) = busy(1);
        assert!(workers.want_workers(2).watch);
        assert!(!workers.check(2, at(10)));
        task.starts_one_of(1);
        assert!(!workers.check(1, at(15)));
        workers.worker_dropped(&mut task);
        assert!(!workers.check(1, at(19)));
        assert_eq!(workers.next_check(), at(20), "nothing was lost");
    }

    #[test]
    fn a_spare_worker_counts_against_the_threads() {
        let (mut workers, mut task) = busy(1);
        assert!(workers.want_workers(1).watch);
        assert!(!workers.check(1, at(0)));
        assert!(workers.check(1, at(5)));
        let mut spare = Registration::new();
        assert!(workers.activate(&mut spare));
        assert_eq!(spare.parks(&mut workers), WorkerState::Parked);
        let wanted = workers.want_workers(1);
        assert!(wanted.wake.is_none(), "one is busy");
        assert_eq!(wanted.start, 0, "one is busy");
        assert_eq!(task.parks(&mut workers), WorkerState::Exited);
        assert!(workers.want_workers(1).wake.is_some());
    }

    #[test]
    fn a_worker_that_is_dropped_makes_room_wherever_it_was() {
        for state in [
            WorkerState::Starting,
            WorkerState::Busy,
            WorkerState::Parked,
        ] {
            let mut workers = Workers::new(1, true);
            let mut task = Registration::new();
            assert_eq!(workers.want_workers(1).start, 1);
            if state != WorkerState::Starting {
                assert!(workers.activate(&mut task));
            }
            if state == WorkerState::Parked {
                task.parks(&mut workers);
            }
            assert_eq!(task.state, state);
            workers.worker_dropped(&mut task);
            let wanted = workers.want_workers(1);
            assert!(wanted.wake.is_none(), "{state:?}");
            assert_eq!(wanted.start, 1, "{state:?}");
            assert_eq!(workers.locals().len(), 0, "{state:?}");
        }
    }

    #[test]
    fn a_parked_worker_is_dismissed_once() {
        let (mut workers, mut task) = busy(1);
        assert!(workers.take_last_parked().is_none(), "it is busy");
        task.parks(&mut workers);
        assert!(workers.take_last_parked().is_some());
        assert!(workers.take_last_parked().is_none());
        assert_eq!((workers.active, workers.starting), (1, 1));
        assert!(workers.activate(&mut task));
        workers.worker_dropped(&mut task);
        assert_eq!((workers.active, workers.starting), (0, 0));
        assert_eq!(
            (task.state, workers.locals().len()),
            (WorkerState::Exited, 0)
        );
    }

    #[test]
    fn where_a_blocked_worker_blocks_the_driver_nothing_is_watched() {
        let mut workers = Workers::new(1, false);
        let wanted = workers.want_workers(2);
        assert_eq!((wanted.start, wanted.watch), (1, false));
        assert!(!workers.watch());
        assert!(!workers.check(2, at(10)));
        assert_eq!(workers.next_check(), Timestamp::NEVER);
    }

    #[test]
    fn a_worker_helps_at_each_sixty_fourth_claim_and_each_time_another_one_first() {
        let (mut workers, _task) = busy(3);
        let locals: Vec<_> = (0..4).map(|_| Registration::new().local).collect();
        workers.locals.clone_from(&locals);
        let others = |workers: &Workers| -> Vec<usize> {
            let number = |other| locals.iter().position(|local| Arc::ptr_eq(local, other));
            workers.others(&locals[1]).filter_map(number).collect()
        };
        let mut first = Vec::new();
        for claim in 1..=4 * CLAIMS_A_THEFT {
            assert_eq!(workers.is_to_help(), claim % CLAIMS_A_THEFT == 0, "{claim}");
            if claim % CLAIMS_A_THEFT == 0 {
                first.push(others(&workers));
            }
        }
        assert_eq!(first, [[2, 3, 0], [2, 3, 0], [3, 0, 2], [0, 2, 3]]);
    }

    #[test]
    fn a_worker_that_was_woken_and_is_dropped_leaves_another_parked() {
        let (mut workers, mut task) = busy(2);
        assert_eq!(workers.want_workers(1).start, 1);
        let mut second = Registration::new();
        assert!(workers.activate(&mut second));
        assert_eq!(task.parks(&mut workers), WorkerState::Parked);
        assert!(workers.want_workers(1).wake.is_some());
        assert_eq!(second.parks(&mut workers), WorkerState::Parked);
        workers.worker_dropped(&mut task);
        assert!(workers.is_parked(&second));
        assert_eq!((workers.active, workers.starting), (0, 0));
    }
}
