//! A queue of a worker: those of its jobs that are here, and how many of them run at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::{Group, Handle, Stats};

use super::engine::lock;
use super::front::Front;

/// Runs that take less than this are over before a job that waits for them here could have run on another worker; and of those
/// that take less than that, more are, while a claim and the ends of jobs are on their way to the disk.
const SHORT_RUN: Duration = Duration::from_millis(20);
const SHORTEST_RUN: Duration = Duration::from_millis(2);

/// The groups that jobs run in, each limited to the concurrency of its lane. They end with their owner, the life of the
/// worker.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Vec<(usize, Group)>>);

impl Groups {
    /// Adds a group for a lane. Those that it replaces stay until they are empty.
    pub(super) fn add(&self, at: usize, name: &str, limit: usize) -> Handle {
        let group = Group::builder().name(name).max_running(limit).build();
        let handle = group.handle();
        let mut groups = lock(&self.0);
        groups.retain(|(lane, group)| *lane != at || is_busy(group.stats()));
        groups.push((at, group));
        handle
    }

    /// Takes all of them, to be ended.
    pub(super) fn take(&self) -> Vec<Group> {
        let groups = std::mem::take(&mut *lock(&self.0));
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

fn is_busy(stats: Stats) -> bool {
    stats.pending + stats.running > 0
}

/// Where jobs start, and where others run that have started before the concurrency was changed.
#[derive(Debug)]
struct Runs {
    now: Handle,
    before: Vec<Handle>,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: String,
    /// The concurrency that the worker was made with, and the one that holds now.
    own_limit: usize,
    limit: AtomicUsize,
    runs: Mutex<Runs>,
    /// How many jobs are held, running or on their way to it.
    pub(super) held: AtomicUsize,
    /// The last claim may have left due jobs behind, for want of slots.
    pub(super) more: AtomicBool,
    /// Up to here the hints are complete.
    pub(super) reach: AtomicI64,
    /// How long a run takes of late, in microseconds.
    run_time: AtomicU64,
    /// Where its due jobs begin.
    pub(super) front: Mutex<Front>,
    /// The queue had limits over all workers at the last look.
    pub(super) limited: AtomicBool,
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
            limited: AtomicBool::new(false),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Starts a job as soon as there is a slot. If it is rejected, since the worker goes down, the job stays among the held
    /// ones and is given back with them.
    pub(super) fn start(&self, run: impl Future<Output = ()> + Send + 'static) {
        // Called under the lock, so that the group cannot be replaced and dropped meanwhile.
        let _ = lock(&self.runs).now.try_delay(Duration::ZERO, run);
    }

    /// Sets the concurrency, or that with which the worker was made. Jobs that are here run on where they are, and none is
    /// claimed until there is room for it. Returns whether it was another.
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

    /// A run has taken this long.
    pub(super) fn ran(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.run_time.load(Ordering::Relaxed);
        let now = match before {
            u64::MAX => took,
            before => before - before / 8 + took / 8,
        };
        self.run_time.store(now, Ordering::Relaxed);
    }

    /// How many jobs may be held: of short ones the next lots are claimed while the last one runs. While jobs run in two
    /// groups, no more are held than may run.
    pub(super) fn capacity(&self) -> usize {
        let mut runs = lock(&self.runs);
        runs.before.retain(|before| is_busy(before.stats()));
        match runs.before.is_empty() {
            true => self.lots() * self.limit(),
            false => self.limit(),
        }
    }

    /// How many jobs may be held for each slot.
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

    /// Enough jobs are here to fill the slots until later ends claim for them all.
    pub(super) fn has_plenty(&self, held: usize) -> bool {
        self.is_short() && held > self.lots() * self.limit() * 3 / 4
    }
}
