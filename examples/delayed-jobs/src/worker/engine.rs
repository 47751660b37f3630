//! The clockwork of a worker: when to look into the store, and what to do about it.
//!
//! Two keyed groups lie on one scheduling group. In the first, a key is a job of the near future, and its
//! firing does nothing but ring the job's queue. In the second a key is a round of work: "claim for this
//! queue", "look ahead". Rounds are exclusive, which is all the batching there is: however many hints
//! fire while a queue's claim is on its way, one more claim follows.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schedgroup::Handle;
use schedgroup::keyed::{KeyedHandle, OnDuplicate};
use tokio::time::Instant;

use super::run::{self, Stops};
use super::schedule::Schedule;
use super::settings::Settings;
use crate::handler::Handlers;
use crate::job::JobId;
use crate::metrics::Metrics;
use crate::store::{Claim, Claimed, Ended, Lease, Store, StoreError, Verdict};
use crate::time::{Clock, Micros};

/// After a store has failed.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// From a change by another worker to the look at it, so that many changes are one look.
const AFTER_CHANGE: Duration = Duration::from_millis(20);

/// However early the window ends.
const SHORTEST: Duration = Duration::from_millis(50);

/// At most this many finished jobs are deleted by one statement.
const PRUNED: usize = 1000;

/// A piece of work that never overlaps itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Round {
    /// Lease what is due in this lane.
    Claim(usize),
    /// Look ahead, and after lost workers.
    Look,
}

/// A queue, and those of its jobs that run here.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: String,
    pub(super) limit: usize,
    /// The group that the jobs run in, which limits them.
    pub(super) runs: Handle,
    /// How many jobs are held, running or on their way to it.
    pub(super) held: AtomicUsize,
    /// The last claim may have left due jobs behind, for want of slots.
    pub(super) more: AtomicBool,
    /// Up to here the hints are complete.
    pub(super) reach: AtomicI64,
}

impl Lane {
    pub(super) fn new(queue: String, limit: usize, runs: Handle) -> Lane {
        Lane {
            queue,
            limit,
            runs,
            held: AtomicUsize::new(0),
            more: AtomicBool::new(false),
            reach: AtomicI64::new(0),
        }
    }
}

/// A job that is leased to this worker.
#[derive(Debug)]
struct Held {
    lease: Lease,
    stops: Stops,
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) name: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    /// When it began.
    pub(super) born: Micros,
    pub(super) settings: Settings,
    pub(super) handlers: Handlers,
    pub(super) schedules: Vec<Schedule>,
    pub(super) lanes: Vec<Lane>,
    /// The lane of each job of the near future, and when it is due.
    pub(super) hints: KeyedHandle<JobId, (usize, Micros)>,
    pub(super) rounds: KeyedHandle<Round>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) closing: AtomicBool,
    /// How many microseconds the last look took.
    pub(super) look_cost: AtomicU64,
    pub(super) held: HeldJobs,
}

/// What this worker has to answer for.
#[derive(Debug, Default)]
pub(super) struct HeldJobs(Mutex<HashMap<JobId, Held>>);

impl HeldJobs {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> Vec<Lease> {
        self.lock().values().map(|held| held.lease).collect()
    }

    /// What stops the run of a job, perhaps under this very lease. It is pulled outside of the lock.
    fn stops(&self, id: JobId, lease: Option<Lease>) -> Option<Stops> {
        let held = self.lock();
        let held = held.get(&id)?;
        let ours = lease.is_none_or(|lease| held.lease == lease);
        ours.then(|| held.stops.clone())
    }

    /// The job may be held under another lease by now; that one stays.
    fn remove(&self, lease: Lease) {
        let mut held = self.lock();
        if held.get(&lease.id).is_some_and(|held| held.lease == lease) {
            held.remove(&lease.id);
        }
    }
}

impl Engine {
    /// Claims what is due in a lane, soon.
    pub(super) fn ring(self: &Arc<Self>, lane: usize) {
        self.claim_after(lane, Duration::ZERO);
    }

    pub(super) fn ring_all(self: &Arc<Self>) {
        (0..self.lanes.len()).for_each(|lane| self.ring(lane));
    }

    fn claim_after(self: &Arc<Self>, lane: usize, delay: Duration) {
        let engine = Arc::clone(self);
        let round = async move { engine.claim(lane).await };
        // It is rejected when the worker goes down, which claims nothing more.
        self.rounds
            .delay(Round::Claim(lane), delay, round, OnDuplicate::KeepEarliest);
    }

    async fn claim(self: &Arc<Self>, at: usize) {
        let lane = &self.lanes[at];
        // Before the places are counted: a job that ends after that sees it, and rings again.
        lane.more.store(true, Ordering::SeqCst);
        let free = lane.limit.saturating_sub(lane.held.load(Ordering::SeqCst));
        if free == 0 {
            return;
        }
        let now = self.clock.now();
        let claim = Claim {
            worker: self.name.clone(),
            queue: lane.queue.clone(),
            limit: free,
            now,
            lease_until: now.after(self.settings.lease),
        };
        match self.store.claim(claim).await {
            Ok(claimed) => {
                if claimed.len() < free {
                    lane.more.store(false, Ordering::SeqCst);
                }
                for job in claimed {
                    self.start(at, job);
                }
            }
            Err(error) => {
                tracing::warn!(%error, queue = lane.queue, "jobs could not be claimed");
                self.claim_after(at, AFTER_ERROR);
            }
        }
    }

    fn start(self: &Arc<Self>, at: usize, job: Claimed) {
        let lane = &self.lanes[at];
        let stops = Stops::default();
        let held = Held {
            lease: job.lease,
            stops: stops.clone(),
        };
        lane.held.fetch_add(1, Ordering::SeqCst);
        let before = self.held.lock().insert(job.lease.id, held);
        if let Some(before) = before {
            // Its lease was lost, nobody has noticed yet, and here the job is again.
            before.stops.lose();
        }
        let run = run::run(Arc::clone(self), at, job, stops);
        // If it is refused the job stays among the held ones, and is given back with them.
        let _ = lane.runs.try_delay(Duration::ZERO, run);
    }

    /// A job has come to its end here, and the store knows.
    pub(super) fn let_go(self: &Arc<Self>, at: usize, lease: Lease) {
        self.held.remove(lease);
        let lane = &self.lanes[at];
        lane.held.fetch_sub(1, Ordering::SeqCst);
        if lane.more.load(Ordering::SeqCst) {
            self.ring(at);
        }
    }

    /// Remembers that a job will be due, if that is near enough.
    pub(super) fn hint(self: &Arc<Self>, at: usize, id: JobId, due: Micros) {
        let lane = &self.lanes[at];
        let wait = self.clock.until(due);
        if wait.is_zero() {
            return self.ring(at);
        }
        if due.0 > lane.reach.load(Ordering::SeqCst) || self.hints.len() >= 2 * self.settings.window
        {
            return;
        }
        self.hints
            .insert_after(id, (at, due), wait, OnDuplicate::KeepEarliest);
    }

    pub(super) fn hint_for(self: &Arc<Self>, queue: &str, id: JobId, due: Micros) {
        if let Some(at) = self.lanes.iter().position(|lane| lane.queue == queue) {
            self.hint(at, id, due);
        }
    }

    pub(super) fn look_after(self: &Arc<Self>, delay: Duration) {
        let engine = Arc::clone(self);
        let round = async move {
            let begun = Instant::now();
            let next = engine.look().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the store could not be looked through");
                AFTER_ERROR
            });
            let cost = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            engine.look_cost.store(cost, Ordering::Relaxed);
            engine.look_after(next);
        };
        self.rounds
            .delay(Round::Look, delay, round, OnDuplicate::KeepEarliest);
    }

    /// Brings the hints up to date, and takes back the leases of lost workers. Returns when to look again.
    async fn look(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let Settings {
            crashes,
            look_ahead,
            window,
            rescan,
            ..
        } = self.settings;
        let now = self.clock.now();
        for lost in self.store.reclaim(now, crashes).await? {
            tracing::warn!(job = %lost.id, state = %lost.state, "a job lost its worker");
            self.metrics.reclaimed.fetch_add(1, Ordering::Relaxed);
        }
        for id in self.store.asked_to_cancel(&self.name).await? {
            self.cancel(id);
        }
        let until = now.after(look_ahead);
        self.fill_slots(now, until).await?;
        let mut next = rescan;
        let room = (window / self.lanes.len()).max(1);
        for (at, lane) in self.lanes.iter().enumerate() {
            // Before the look: what is enqueued during it is hinted at by who enqueues it.
            lane.reach.store(until.0, Ordering::SeqCst);
            let ahead = self.store.ahead(&lane.queue, now, until, room).await?;
            if let Some((last, _)) = ahead.last().filter(|_| ahead.len() == room) {
                lane.reach.store(last.0, Ordering::SeqCst);
                next = next.min(last.since(now) / 2);
            }
            for (due, id) in ahead {
                self.hint(at, id, due);
            }
            self.ring(at);
        }
        if let Some(expiry) = self.store.next_expiry(&self.name).await? {
            let expiry = expiry.since(self.clock.now()) + Duration::from_millis(1);
            next = next.min(expiry);
        }
        Ok(next.max(SHORTEST))
    }

    async fn fill_slots(&self, now: Micros, until: Micros) -> Result<(), StoreError> {
        for schedule in &self.schedules {
            for slot in schedule.slots(now, until) {
                let at = slot.slot;
                self.store.fill_slot(slot).await?;
                schedule.was_filled(at);
            }
        }
        Ok(())
    }

    /// Looks whenever another program has changed something, but spends no more than a tenth of its time
    /// with that. Does not end.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut changes = self.store.changes();
        while changes.changed().await.is_ok() {
            let cost = Duration::from_micros(self.look_cost.load(Ordering::Relaxed));
            self.look_after(AFTER_CHANGE.max(10 * cost));
        }
    }

    /// Shows that this worker lives, and stops the jobs that were taken from it.
    pub(super) async fn renew(&self) {
        let leases = self.held.leases();
        let until = self.clock.now().after(self.settings.lease);
        let kept: HashSet<_> = match self.store.renew(leases.clone(), until).await {
            Ok(kept) => kept.into_iter().collect(),
            Err(error) => return tracing::warn!(%error, "leases could not be renewed"),
        };
        for lease in leases.iter().filter(|lease| !kept.contains(&lease.id)) {
            // It may have come to its end meanwhile.
            if let Some(stops) = self.held.stops(lease.id, Some(*lease)) {
                tracing::warn!(job = %lease.id, "the lease was lost");
                stops.lose();
            }
        }
    }

    pub(super) async fn prune(&self) {
        let Some(retention) = self.settings.retention else {
            return;
        };
        let before = self.clock.now().before(retention);
        loop {
            match self.store.prune(before, PRUNED).await {
                Ok(pruned) if pruned < PRUNED as u64 => return,
                Ok(_) => {}
                Err(error) => return tracing::warn!(%error, "old jobs could not be forgotten"),
            }
        }
    }

    /// Stops a job, if it runs here.
    pub(super) fn cancel(&self, id: JobId) {
        if let Some(stops) = self.held.stops(id, None) {
            stops.cancel();
        }
    }

    /// Lets the running jobs know that the worker goes down.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for lease in self.held.leases() {
            if let Some(stops) = self.held.stops(lease.id, Some(lease)) {
                stops.token.cancel();
            }
        }
    }

    /// Gives back what is still held: it was stopped in the middle, or never begun.
    pub(super) async fn release(&self) {
        for lease in self.held.leases() {
            let ended = Ended {
                lease,
                at: self.clock.now(),
                verdict: Verdict::Released,
            };
            self.metrics.released.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.store.finish(ended).await {
                tracing::warn!(%error, job = %lease.id, "not given back; its lease will expire");
            }
        }
    }
}
