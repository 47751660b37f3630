//! A lane: one queue in one worker, with the jobs that the worker holds, and the limit of those that run at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::{Group, Handle, Stats};

use super::front::Front;
use crate::lock::lock;

/// A run is short if it takes less than this: a job that waits for it here starts no later than it could on another
/// worker. The shorter the runs are, the more of them end while a claim and the ends of jobs are written to disk.
const SHORT_RUN: Duration = Duration::from_millis(20);
const SHORTEST_RUN: Duration = Duration::from_millis(2);

/// The groups in which jobs run, each with the concurrency of its lane as its limit. They end when their owner, the
/// running worker, is dropped.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Vec<(usize, Group)>>);

impl Groups {
    /// Adds a group for a lane. The groups that it replaces stay until they are empty.
    pub(super) fn add(&self, at: usize, name: &str, limit: usize) -> Handle {
        let group = Group::builder().name(name).max_running(limit).build();
        let handle = group.handle();
        let mut groups = lock(&self.0);
        groups.retain(|(lane, group)| *lane != at || is_busy(group.stats()));
        groups.push((at, group));
        handle
    }

    /// Removes and returns all groups, so that the caller can end them.
    pub(super) fn take(&self) -> Vec<Group> {
        let groups = std::mem::take(&mut *lock(&self.0));
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

fn is_busy(stats: Stats) -> bool {
    stats.pending + stats.running > 0
}

/// The group in which jobs start, and an older one for the jobs that started before the concurrency was changed.
#[derive(Debug)]
struct Runs {
    now: Handle,
    before: Vec<Handle>,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: String,
    /// The concurrency that the worker was built with; and below it the current one.
    own_limit: usize,
    limit: AtomicUsize,
    runs: Mutex<Runs>,
    /// The number of jobs that are held: they run, or wait for a slot.
    pub(super) held: AtomicUsize,
    /// The last claim may have left due jobs in the store, since there were no more slots.
    pub(super) more: AtomicBool,
    /// There is a hint for each job that is due up to this time.
    pub(super) reach: AtomicI64,
    /// The recent duration of a run, in microseconds.
    run_time: AtomicU64,
    /// The front of the queue.
    pub(super) front: Mutex<Front>,
    /// At the last look the queue had limits over all workers.
    pub(super) has_limits: AtomicBool,
}

impl Lane {
    pub(super) fn new(queue: String, limit: usize, at: usize, groups: &Groups) -> Lane {
        let runs = Runs {
            now: groups.add(at, &queue, limit),
            before: Vec::new(),
        };
        Lane {
            queue,
            own_limit: limit,
            limit: AtomicUsize::new(limit),
            runs: Mutex::new(runs),
            held: AtomicUsize::new(0),
            more: AtomicBool::new(false),
            reach: AtomicI64::new(0),
            run_time: AtomicU64::new(u64::MAX),
            front: Mutex::default(),
            has_limits: AtomicBool::new(false),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Starts a job as soon as there is a slot. If the worker shuts down and rejects it, the job stays among the held
    /// jobs and is given back with them.
    pub(super) fn start(&self, run: impl Future<Output = ()> + Send + 'static) {
        // Called under the lock, so that the group cannot be replaced and dropped meanwhile.
        let _ = lock(&self.runs).now.try_delay(Duration::ZERO, run);
    }

    /// Sets the concurrency; `None` means the one that the worker was built with. Jobs that are here already stay in
    /// their group, and none is claimed until there is a slot for it. Returns whether the concurrency has changed.
    pub(super) fn resize(&self, at: usize, limit: Option<u32>, groups: &Groups) -> bool {
        let limit = limit.map_or(self.own_limit, |limit| limit as usize);
        if self.limit.swap(limit, Ordering::SeqCst) == limit {
            return false;
        }
        let mut runs = lock(&self.runs);
        let now = groups.add(at, &self.queue, limit);
        let before = std::mem::replace(&mut runs.now, now);
        runs.before.push(before);
        true
    }

    /// Records the duration of a run.
    pub(super) fn ran(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.run_time.load(Ordering::Relaxed);
        let now = match before {
            u64::MAX => took,
            before => before - before / 8 + took / 8,
        };
        self.run_time.store(now, Ordering::Relaxed);
    }

    /// Returns how many jobs may be held. If runs are short, the next jobs are claimed before the present ones have
    /// ended. While jobs run in two groups, no more jobs are held than may run.
    pub(super) fn capacity(&self) -> usize {
        let mut runs = lock(&self.runs);
        runs.before.retain(|before| is_busy(before.stats()));
        match runs.before.is_empty() {
            true => self.lots().saturating_mul(self.limit()),
            false => self.limit(),
        }
    }

    /// Returns how many jobs may be held per slot.
    fn lots(&self) -> usize {
        let run_time = Duration::from_micros(self.run_time.load(Ordering::Relaxed));
        match run_time {
            time if time < SHORTEST_RUN => 8,
            time if time < SHORT_RUN => 2,
            _ => 1,
        }
    }

    pub(super) fn is_short(&self) -> bool {
        self.lots() > 1
    }

    /// Returns whether the jobs that are held fill the slots long enough, so that one later claim can cover many ends.
    pub(super) fn has_plenty(&self, held: usize) -> bool {
        let most = self.lots().saturating_mul(self.limit());
        self.is_short() && held > most.saturating_mul(3) / 4
    }
}
