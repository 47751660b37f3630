//! The engine of a worker: it decides when to query the store, and what to do then.
//!
//! Two keyed groups share one scheduling group. In the first group a key is a job that is due soon (a hint). When it
//! expires, it only requests a claim for the job's queue. In the second group a key is a kind of work ([`Round`]), such
//! as "claim for this queue" or "look ahead". This group is exclusive, and that is all the batching there is: however
//! many hints expire while a claim for a queue is under way, one more claim follows.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use schedgroup::Handle;
use schedgroup::keyed::{KeyedHandle, OnDuplicate};
use tokio::sync::{Notify, RwLock};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::front::EVERYTHING;
use super::heartbeat::SELDOM;
use super::lane::{Groups, Lane};
use super::outage::Outage;
use super::run::{self, Stops};
use super::schedule::Schedule;
use super::settings::{RESCAN, Settings};
use super::site::Site;
use crate::handler::Handlers;
use crate::job::{JobId, State};
use crate::lock::lock;
use crate::metrics::{Metrics, Outcome};
use crate::store::{
    Answer, Change, Claim, Claimed, Ended, Filter, Lease, Lot, Store, StoreError, Suspects,
    Verdict, WorkerRow,
};
use crate::time::{Clock, Micros};

/// The delay from a change by another worker to the claim for it, so that many changes lead to one claim.
const AFTER_CHANGE: Duration = Duration::from_millis(5);

/// The delay from the end of a run to the claim for its slot if many jobs are due, so that ends that come together lead
/// to one claim.
const AFTER_RUN: Duration = Duration::from_millis(1);

/// The maximum number of jobs of one claim, however large the concurrency is.
const LARGEST: usize = 10_000;

/// The shortest time between two looks, however early the window of hints ends.
const SHORTEST: Duration = Duration::from_millis(50);

/// The shortest time after which a worker enqueues the next job of a schedule by itself, however short the period is.
const SHORTEST_FILL: Duration = Duration::from_secs(1);

/// The maximum number of finished jobs that one statement deletes.
const PRUNED: usize = 500;

/// The timeout of a call of the store, however long the lease is.
const LONGEST_CALL: Duration = Duration::from_secs(10);

/// How often a worker reports that it is alive, for pages and queries. These reports renew no leases.
const REPORT: Duration = Duration::from_secs(10);

/// The longest time for which no job is claimed so that a job whose workers were lost can run alone. Before that, the
/// worker waits ten times as long for a moment when it has no job. After each pause in vain this wait doubles, from five
/// minutes to an hour and twenty minutes. The job may then run alone for as long as a first wait, and twice as long after
/// each further loss.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_DOUBLED: u32 = 4;

/// A clock that differs from the monotonic clock by more than this was set.
const STEP: Duration = Duration::from_secs(1);

/// A process that does nothing for this much longer than half a lease has stood still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// The timeout for giving back the jobs that are held at the shutdown.
const RELEASE: Duration = Duration::from_millis(1500);

/// A kind of work. Two runs of the same kind never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Round {
    /// Claims the due jobs of this lane.
    Claim(usize),
    /// Looks for jobs that are due soon, and for leases of lost workers.
    Look,
    /// Enqueues the next job of this schedule.
    Fill(usize),
    /// Reports that this worker is alive.
    Report,
    /// Runs a job alone whose workers were lost.
    Alone,
}

/// A job that is leased to this worker.
#[derive(Debug)]
struct Held {
    lease: Lease,
    kind: String,
    stops: Stops,
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) name: String,
    /// The other workers on the store in this process.
    pub(super) site: Arc<Site>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    /// The time at which the worker started.
    pub(super) started_at: Micros,
    pub(super) settings: Settings,
    pub(super) handlers: Handlers,
    /// The kinds of jobs that have a handler.
    pub(super) kinds: Vec<String>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) lanes: Vec<Lane>,
    /// The groups in which the jobs of the lanes run.
    pub(super) groups: Weak<Groups>,
    /// The group in which the ends of jobs are written.
    pub(super) ends: Handle,
    /// The group of the tasks that have to run until the last job has ended.
    pub(super) upkeep: Handle,
    /// The worker has no thread of its own for its heartbeats, so they are jobs of `upkeep` while it has jobs.
    pub(super) beats_by_itself: AtomicBool,
    /// The next of these heartbeats is due at some time.
    pub(super) is_beating: AtomicBool,
    /// The hints. The key has the job and the time, since a job that was moved has a hint for each time. The value is
    /// the lane.
    pub(super) hints: KeyedHandle<(JobId, Micros), usize>,
    pub(super) rounds: KeyedHandle<Round>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) closing: AtomicBool,
    /// The duration of the last look, in microseconds.
    pub(super) look_cost: AtomicU64,
    /// The duration of the last claim, in microseconds.
    pub(super) claim_cost: AtomicU64,
    pub(super) held: HeldJobs,
    /// Notified when a job is removed from `held`.
    pub(super) slot_released: Notify,
    /// A job runs alone or waits for that, and no other job is claimed.
    pub(super) isolating: AtomicBool,
    /// No job whose workers were lost runs alone before this instant, since the last one did until recently.
    pub(super) next_alone: Mutex<Option<Instant>>,
    /// The number of pauses in a row in which the other jobs did not end, so that no job could run alone.
    pub(super) futile_pauses: AtomicU32,
    /// Locked for reading by each claim, and for writing by a step that must know that no claim is under way.
    pub(super) claiming: RwLock<()>,
    /// Whether the store answers.
    pub(super) outage: Outage,
    /// A claim got no answer, so jobs may be leased to this worker that it does not know.
    pub(super) has_unknown_leases: AtomicBool,
    /// The time of the last look, by the clock of the store and by the monotonic clock.
    pub(super) last_look: Mutex<Option<(Micros, Instant)>>,
    /// When this worker last reported that it is alive.
    pub(super) last_report: Mutex<Option<Instant>>,
    /// No lease is taken back before this instant: the worker has just started, or the clock was set, or all stood still.
    pub(super) quiet_until: Mutex<Option<Instant>>,
    /// When the runtime last ran a task of this worker, in milliseconds since `begun`.
    pub(super) pulse: AtomicU64,
    /// When the last look began or the thread of the heartbeats last ran, in milliseconds since `begun`. The maximum if
    /// there is no such thread: then the store is in memory, and all of its workers are in this process.
    pub(super) alive: AtomicU64,
    pub(super) begun: std::time::Instant,
}

/// The jobs that are leased to this worker.
#[derive(Debug, Default)]
pub(super) struct HeldJobs(Mutex<HashMap<JobId, Held>>);

impl HeldJobs {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Held>> {
        lock(&self.0)
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn leases(&self) -> Vec<Lease> {
        self.lock().values().map(|held| held.lease).collect()
    }

    /// Returns the jobs whose runs are over, but whose ends are not in the store, each with the kind of a run that has
    /// started.
    fn stopped(&self) -> Vec<(Lease, Option<String>)> {
        let held = self.lock();
        let stopped = held
            .values()
            .filter(|held| held.stops.stage.over.load(Ordering::SeqCst));
        let started = |held: &Held| held.stops.stage.started.load(Ordering::SeqCst);
        stopped
            .map(|held| (held.lease, started(held).then(|| held.kind.clone())))
            .collect()
    }

    /// Returns what stops the run of a job, if it runs under `lease` or no lease is given. The caller uses it outside
    /// of the lock.
    fn stops(&self, id: JobId, lease: Option<Lease>) -> Option<Stops> {
        let held = self.lock();
        let held = held.get(&id)?;
        let ours = lease.is_none_or(|lease| held.lease == lease);
        ours.then(|| held.stops.clone())
    }

    /// Removes a job. If it is held under another lease by now, it stays.
    fn remove(&self, lease: Lease) {
        let mut held = self.lock();
        if held.get(&lease.id).is_some_and(|held| held.lease == lease) {
            held.remove(&lease.id);
        }
    }
}

impl Engine {
    /// Requests a claim for a lane.
    pub(super) fn request_claim(self: &Arc<Self>, lane: usize) {
        self.claim_after(lane, Duration::ZERO);
    }

    pub(super) fn request_all_claims(self: &Arc<Self>) {
        (0..self.lanes.len()).for_each(|lane| self.request_claim(lane));
    }

    fn claim_after(self: &Arc<Self>, lane: usize, delay: Duration) {
        let engine = Arc::clone(self);
        let round = async move { engine.claim(lane).await };
        // It is rejected if the worker shuts down. Then nothing more is to be claimed.
        self.rounds
            .delay(Round::Claim(lane), delay, round, OnDuplicate::KeepEarliest);
    }

    /// Calls the store with a timeout. A call that has timed out is not undone.
    pub(super) async fn in_time<T>(&self, call: Answer<'_, T>) -> Result<T, StoreError> {
        let limit = (self.settings.lease / 2).min(LONGEST_CALL);
        match timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::TimedOut(limit)),
        }
    }

    fn request(&self, at: usize, limit: usize, suspects: Suspects) -> Claim {
        let now = self.clock.now();
        Claim {
            worker: self.name.clone(),
            queue: self.lanes[at].queue.clone(),
            limit,
            now,
            lease_until: now.after(self.settings.lease),
            kinds: self.kinds.clone(),
            from: EVERYTHING,
            suspects,
            limited: self.lanes[at].has_limits.load(Ordering::Relaxed),
            ageing: self.settings.ageing,
        }
    }

    /// Returns the number of lost workers from which on a job runs alone.
    fn suspicious(&self) -> u32 {
        self.settings.crashes - 1
    }

    async fn claim(self: &Arc<Self>, at: usize) {
        if let Some(wait) = self.outage.wait() {
            return self.claim_after(at, wait);
        }
        let lane = &self.lanes[at];
        // Set before the free slots are counted, so that a job that ends after the count asks for another claim.
        lane.more.store(true, Ordering::SeqCst);
        let _claiming = self.claiming.read().await;
        if self.isolating.load(Ordering::SeqCst) {
            // When the pause is over, every lane is asked to claim.
            return;
        }
        let capacity = lane.capacity();
        let free = capacity.saturating_sub(lane.held.load(Ordering::SeqCst));
        if free == 0 {
            return;
        }
        // At most about half of the slots per claim, so that jobs run and end while the next ones are claimed.
        let asked = free.min(lane.limit().max(capacity / 2)).min(LARGEST);
        let mut claim = self.request(at, asked, Suspects::Without(self.suspicious()));
        let begun = Instant::now();
        if !claim.limited && claim.ageing.is_none() {
            claim.from = lock(&lane.front).begin(begun);
        }
        let from = claim.from;
        let claimed = self.in_time(self.store.claim(claim)).await;
        let cost = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.claim_cost.store(cost, Ordering::Relaxed);
        match claimed {
            Ok(Lot { jobs, again }) => {
                self.outage.succeeded();
                let is_over = lock(&lane.front).claimed(from, &jobs, asked, begun.elapsed());
                if is_over {
                    self.request_claim(at);
                } else if let Some(again) = again {
                    self.claim_after(at, self.clock.until(again));
                } else if jobs.len() < asked {
                    lane.more.store(false, Ordering::SeqCst);
                } else if asked < free {
                    self.request_claim(at);
                }
                for job in jobs {
                    self.start(at, job);
                }
            }
            Err(error) => {
                self.has_unknown_leases.store(true, Ordering::SeqCst);
                let wait = self.outage.failed("jobs could not be claimed", &error);
                self.claim_after(at, wait);
            }
        }
    }

    pub(super) fn alone_after(self: &Arc<Self>, delay: Duration) {
        let engine = Arc::clone(self);
        let round = async move {
            let again = engine.run_suspect().await;
            if engine.isolating.swap(false, Ordering::SeqCst) {
                engine.request_all_claims();
            }
            match again {
                Ok(Some(wait)) => engine.alone_after(wait),
                Ok(None) => {}
                // The next look at the store finds the job again.
                Err(error) => {
                    engine.outage.failed("no job could be run alone", &error);
                }
            }
        };
        self.rounds
            .delay(Round::Alone, delay, round, OnDuplicate::KeepEarliest);
    }

    /// Runs one job alone whose workers were lost. If this worker is lost too, the job is the cause, and no other job
    /// is affected. Before the next such job, others have as much time as this one took. Returns when to look for it.
    async fn run_suspect(self: &Arc<Self>) -> Result<Option<Duration>, StoreError> {
        let next_alone = *lock(&self.next_alone);
        let wait = next_alone.map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Ok(Some(wait));
        }
        let queues: Vec<_> = self.lanes.iter().map(|lane| lane.queue.clone()).collect();
        let crashes = self.suspicious();
        let next = || async {
            let next = self.store.next_suspect(&queues, &self.kinds, crashes);
            self.in_time(next).await
        };
        let Some((due, _)) = next().await? else {
            return Ok(None);
        };
        let wait = self.clock.until(due);
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
        let patience = self.settings.lease.min(PATIENCE);
        let futile = self.futile_pauses.load(Ordering::Relaxed);
        let wait = patience * 10 * 2_u32.pow(futile.min(MOST_DOUBLED));
        if timeout(wait, self.find_idle_moment()).await.is_err() {
            // Another worker may have run it meanwhile.
            if next().await?.is_none_or(|(due, _)| due > self.clock.now()) {
                return Ok(None);
            }
            self.isolating.store(true, Ordering::SeqCst);
            // Waits for claims that began before this was known.
            drop(self.claiming.write().await);
            if timeout(patience, self.until_idle()).await.is_err() {
                tracing::info!(
                    "a job that has lost workers waits for a moment when nothing else runs"
                );
                self.futile_pauses.store(futile + 1, Ordering::Relaxed);
                return Ok(Some(Duration::ZERO));
            }
        }
        let begun = Instant::now();
        self.futile_pauses.store(0, Ordering::Relaxed);
        let Some((_, queue)) = next().await? else {
            return Ok(None);
        };
        let Some(at) = queues.iter().position(|known| *known == queue) else {
            return Ok(None);
        };
        if self.closing.load(Ordering::SeqCst) {
            return Ok(None);
        }
        // Until the job is among the held ones, its lease must not be taken for one of a claim without an answer.
        let claiming = self.claiming.read().await;
        let claim = self.request(at, 1, Suspects::Alone(crashes));
        let claimed = self.in_time(self.store.claim(claim)).await;
        let claimed =
            claimed.inspect_err(|_| self.has_unknown_leases.store(true, Ordering::SeqCst))?;
        let Some(job) = claimed.jobs.into_iter().next() else {
            // A limit of its queue does not allow it yet, so the next look asks again.
            return Ok(None);
        };
        let lease = job.lease;
        tracing::info!(job = %lease.id, "a job that has lost workers runs alone");
        self.start(at, job);
        drop(claiming);
        // It may hang, so others do not wait for its end. Its time grows with its losses, so that a job that loses its
        // worker after a long time is found out, too.
        let record = self.in_time(self.store.get(lease.id)).await.ok().flatten();
        let further = record.map_or(0, |job| job.crashes.saturating_sub(crashes));
        let alone = patience * 10 * 2_u32.pow(further.min(MOST_DOUBLED));
        while timeout(alone, self.until_idle()).await.is_err() {
            match self.in_time(self.store.share(lease)).await {
                Ok(_) => {
                    tracing::warn!(job = %lease.id, ?alone, "a job that has lost workers does not end, so others run beside it: give it a timeout");
                    break;
                }
                Err(error) => {
                    let what = "no job could run beside one that runs alone";
                    self.outage.failed(what, &error);
                }
            }
        }
        let took = begun.elapsed();
        *lock(&self.next_alone) = Instant::now().checked_add(took);
        Ok(Some(took))
    }

    /// Waits until this worker holds no job, and then keeps it so: no job is claimed until the pause is over.
    async fn find_idle_moment(&self) {
        loop {
            self.until_idle().await;
            // While this is locked, no claim is under way.
            let _no_claim = self.claiming.write().await;
            if self.held.is_empty() {
                return self.isolating.store(true, Ordering::SeqCst);
            }
        }
    }

    async fn until_idle(&self) {
        loop {
            let mut slot_released = pin!(self.slot_released.notified());
            slot_released.as_mut().enable();
            if self.held.is_empty() {
                return;
            }
            slot_released.await;
        }
    }

    fn start(self: &Arc<Self>, at: usize, job: Claimed) {
        let lane = &self.lanes[at];
        let stops = Stops::default();
        if self.closing.load(Ordering::SeqCst) {
            stops.token.cancel();
        }
        let held = Held {
            lease: job.lease,
            kind: job.kind.clone(),
            stops: stops.clone(),
        };
        lane.held.fetch_add(1, Ordering::SeqCst);
        let before = self.held.lock().insert(job.lease.id, held);
        if let Some(before) = before {
            // The job was claimed again, so its former lease was lost, which had not been noticed yet.
            before.stops.lose();
        }
        self.keep_beating();
        let over = stops.over();
        let run = run::run(Arc::clone(self), at, job, stops, over);
        // If the run is rejected, the job stays among the held jobs and is given back with them.
        lane.start(run);
    }

    /// Sends heartbeats while this worker has jobs, unless a thread does. On a paused clock that jumps over years there must be
    /// none in between.
    fn keep_beating(self: &Arc<Self>) {
        let beats = self.beats_by_itself.load(Ordering::SeqCst);
        if !beats || self.is_beating.swap(true, Ordering::SeqCst) {
            return;
        }
        let engine = Arc::clone(self);
        let beat = async move {
            engine.renew(&*engine.store).await;
            // In this order, since a job that starts now sees that a heartbeat is due, or is seen here.
            engine.is_beating.store(false, Ordering::SeqCst);
            if !engine.held.is_empty() {
                engine.keep_beating();
            }
        };
        let period = (self.settings.lease / 3).min(SELDOM);
        // It is rejected when the worker has ended.
        let _ = self.upkeep.try_delay(period, beat);
    }

    /// Removes a job whose end is in the store.
    pub(super) fn release_slot(self: &Arc<Self>, at: usize, lease: Lease) {
        self.held.remove(lease);
        let lane = &self.lanes[at];
        let held = lane.held.fetch_sub(1, Ordering::SeqCst) - 1;
        self.slot_released.notify_waiters();
        if !lane.more.load(Ordering::SeqCst) {
            return;
        }
        if lane.has_plenty(held) {
            return;
        }
        match lane.is_short() {
            true => self.claim_after(at, AFTER_RUN),
            false => self.request_claim(at),
        }
    }

    /// Adds a hint for a job if it is due soon enough.
    pub(super) fn hint(self: &Arc<Self>, at: usize, id: JobId, due: Micros) {
        let lane = &self.lanes[at];
        let wait = self.clock.until(due);
        if wait.is_zero() {
            return self.request_claim(at);
        }
        if due.0 > lane.reach.load(Ordering::SeqCst) {
            return;
        }
        if self.hints.len() >= 2 * self.settings.window {
            // There is no room for it, so the store is searched when the job is due.
            return self.look_after(wait);
        }
        self.hints
            .insert_after((id, due), at, wait, OnDuplicate::KeepEarliest);
    }

    pub(super) fn hint_for(self: &Arc<Self>, queue: &str, id: JobId, due: Micros) {
        if let Some(at) = self.lanes.iter().position(|lane| lane.queue == queue) {
            self.hint(at, id, due);
        }
    }

    pub(super) fn look_after(self: &Arc<Self>, delay: Duration) {
        let engine = Arc::clone(self);
        let round = async move {
            if let Some(wait) = engine.outage.wait() {
                // Others may change the store all the time, or it may seem so while it does not answer.
                return engine.look_after(wait);
            }
            let begun = Instant::now();
            engine.watch_standstill();
            let next = match engine.look().await {
                Ok(next) => {
                    engine.outage.succeeded();
                    next
                }
                Err(error) => engine
                    .outage
                    .failed("the store could not be looked through", &error),
            };
            let cost = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            engine.look_cost.store(cost, Ordering::Relaxed);
            engine.look_after(next);
        };
        self.rounds
            .delay(Round::Look, delay, round, OnDuplicate::KeepEarliest);
    }

    /// Updates the hints, and takes back the leases of lost workers. Returns when to look again.
    async fn look(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let Settings {
            crashes,
            look_ahead,
            window,
            rescan,
            ..
        } = self.settings;
        // This is the time that was compared with the monotonic clock. The wall clock may be set at any moment after
        // it.
        let now = self.watch_clock().await?;
        // Before leases of others are taken back, since this worker itself may have been stopped for longer than its
        // lease.
        self.renew_with(&*self.store).await?;
        // Their leases may have expired already.
        self.release_unknown_leases().await?;
        if !self.is_quiet() {
            for lost in self.in_time(self.store.reclaim(now, crashes)).await? {
                tracing::warn!(job = %lost.id, state = %lost.state, "a job lost its worker");
                self.metrics.reclaim();
            }
        }
        let asked = self.store.asked_to_cancel(&self.name);
        for id in self.in_time(asked).await? {
            self.cancel(id);
        }
        // Others may lock what these two change, so the look does not wait for them.
        (0..self.schedules.len()).for_each(|at| self.fill_after(at, Duration::ZERO));
        let limits = self.in_time(self.store.limits()).await?;
        for (at, lane) in self.lanes.iter().enumerate() {
            let limit = limits.iter().find(|(queue, _)| *queue == lane.queue);
            let limit = limit.map(|(_, limit)| *limit).unwrap_or_default();
            lane.has_limits.store(limit.is_shared(), Ordering::Relaxed);
            let groups = self
                .groups
                .upgrade()
                .filter(|_| !self.closing.load(Ordering::SeqCst));
            if let Some(groups) = groups
                && lane.resize(at, limit.worker, &groups)
            {
                // Pages and queries see the change at once.
                *lock(&self.last_report) = None;
            }
        }
        self.request_report();
        let mut next = rescan;
        let until = now.after(look_ahead);
        let room = (window / self.lanes.len()).max(1);
        for (at, lane) in self.lanes.iter().enumerate() {
            // Stored before the look: a job that is enqueued during the look comes with a hint.
            lane.reach.store(until.0, Ordering::SeqCst);
            let ahead = self.store.ahead(&lane.queue, now, until, room);
            let ahead = self.in_time(ahead).await?;
            if let Some((last, _)) = ahead.last().filter(|_| ahead.len() == room) {
                lane.reach.store(last.0, Ordering::SeqCst);
                next = next.min(last.since(now) / 2);
            }
            for (due, id) in ahead {
                self.hint(at, id, due);
            }
            self.request_claim(at);
        }
        self.alone_after(Duration::ZERO);
        let expiry = self.store.next_expiry(&self.name);
        if let Some(expiry) = self.in_time(expiry).await? {
            let expiry = expiry.since(self.clock.now()) + Duration::from_millis(1);
            next = next.min(match self.is_quiet() {
                true => expiry.max(self.settings.lease.min(RESCAN)),
                false => expiry,
            });
        }
        Ok(next.max(SHORTEST))
    }

    fn request_report(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        let round = async move {
            if let Err(error) = engine.report().await {
                // The next look at the store tries again.
                let what = "this worker could not report that it is alive";
                engine.outage.failed_apart(what, &error, Duration::ZERO);
            }
        };
        self.rounds.delay(
            Round::Report,
            Duration::ZERO,
            round,
            OnDuplicate::KeepEarliest,
        );
    }

    /// Reports that this worker is alive, if it is time. Pages and queries see that.
    async fn report(&self) -> Result<(), StoreError> {
        let is_due = lock(&self.last_report).is_none_or(|last| last.elapsed() >= REPORT);
        if self.closing.load(Ordering::SeqCst) || !is_due {
            return Ok(());
        }
        let queues = self.lanes.iter();
        let queues = queues.map(|lane| format!("{} {}", lane.queue, lane.limit()));
        let now = self.clock.now();
        let worker = WorkerRow {
            name: self.name.clone(),
            host: host(),
            queues: queues.collect::<Vec<_>>().join(", "),
            began_at: self.started_at,
            until: now.after(4 * REPORT),
        };
        self.in_time(self.store.beat(worker, now)).await?;
        *lock(&self.last_report) = Some(Instant::now());
        Ok(())
    }

    /// Checks whether the clock was set. If it was, no lease of another worker is taken back for the duration of a
    /// lease: leases may look expired although their workers had no chance to renew them. Returns the time that was
    /// checked.
    async fn watch_clock(&self) -> Result<Micros, StoreError> {
        let set = self.in_time(self.store.set_clock()).await?;
        let (now, local) = (self.clock.now(), Instant::now());
        let before = lock(&self.last_look).replace((now, local));
        let step = match before {
            None => Duration::ZERO,
            Some(_) if set != 0 => Duration::from_micros(set.unsigned_abs()),
            Some((then, local_then)) => {
                let should = then.after(local - local_then);
                now.since(should).max(should.since(now))
            }
        };
        if step > STEP {
            tracing::warn!(
                ?step,
                "the clock of the store was set: no lease is taken back for a while"
            );
            *lock(&self.quiet_until) = local.checked_add(self.settings.lease);
        }
        Ok(now)
    }

    /// Checks whether this process has just stood still, as when its machine is paused. Then other workers may have stood
    /// still, too, so that their leases have expired although their jobs run. The look and the thread of the heartbeats
    /// check this, whichever goes on first. Returns whether it has stood still.
    pub(super) fn watch_standstill(&self) -> bool {
        let lease = self.settings.lease;
        let now = self.begun.elapsed();
        let silent = now.saturating_sub(Duration::from_millis(self.alive.load(Ordering::SeqCst)));
        // The thread of the heartbeats may wait for a call for half a lease.
        let has_stood_still = silent >= lease / 2 + STANDSTILL;
        if has_stood_still {
            tracing::warn!(
                ?silent,
                "this worker stood still: no lease is taken back for a while"
            );
            *lock(&self.quiet_until) = Instant::now().checked_add(lease);
        }
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.alive.fetch_max(now, Ordering::SeqCst);
        has_stood_still
    }

    /// Returns whether no lease is taken back, since workers that live may not have been able to renew theirs.
    fn is_quiet(&self) -> bool {
        let is_quiet = lock(&self.quiet_until).is_some_and(|until| Instant::now() < until);
        is_quiet || self.outage.may_have_cost_leases()
    }

    /// Gives back the jobs that were leased by claims without an answer.
    async fn release_unknown_leases(&self) -> Result<(), StoreError> {
        if !self.has_unknown_leases.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let _no_claim = self.claiming.write().await;
        let given_back = self.release_leases_except_held().await;
        given_back.inspect_err(|_| self.has_unknown_leases.store(true, Ordering::SeqCst))
    }

    async fn release_leases_except_held(&self) -> Result<(), StoreError> {
        let found = self.in_time(self.store.held_by(&self.name)).await?;
        let known: HashSet<_> = self.held.leases().into_iter().collect();
        for lease in found.into_iter().filter(|lease| !known.contains(lease)) {
            let ended = Ended {
                lease,
                at: self.clock.now(),
                verdict: Verdict::Released,
                relaxed: false,
            };
            self.in_time(self.store.finish(ended)).await?;
        }
        Ok(())
    }

    /// Requests the next jobs of the schedules of a kind, since a run of this kind has begun or ended.
    pub(super) fn request_slots(self: &Arc<Self>, kind: &str) {
        for (at, schedule) in self.schedules.iter().enumerate() {
            if schedule.kind == kind {
                self.fill_after(at, Duration::ZERO);
            }
        }
    }

    fn fill_after(self: &Arc<Self>, at: usize, delay: Duration) {
        let engine = Arc::clone(self);
        let round = async move {
            match engine.fill_slot(at).await {
                // If the job of this slot is cancelled or deleted, no run of it asks for the next one.
                Ok(due) => engine.fill_after(at, engine.clock.until(due).max(SHORTEST_FILL)),
                // The next look at the store tries again.
                Err(error) => {
                    let what = "no slot could be filled";
                    engine.outage.failed_apart(what, &error, Duration::ZERO);
                }
            }
        };
        self.rounds
            .delay(Round::Fill(at), delay, round, OnDuplicate::KeepEarliest);
    }

    /// Returns the time of the slot whose job should be in the store by now.
    async fn fill_slot(self: &Arc<Self>, at: usize) -> Result<Micros, StoreError> {
        let schedule = &self.schedules[at];
        let last = match schedule.needs_last() {
            true => self.in_time(self.store.last_slot(&schedule.name)).await?,
            false => None,
        };
        let slot = schedule.next(self.clock.now(), last);
        let due = slot.slot;
        if self.in_time(self.store.fill_slot(slot)).await? {
            // No job has this id. The hint only says when to look.
            self.site.hint(schedule.queue, JobId(-1 - at as i64), due);
        }
        Ok(due)
    }

    /// Claims whenever another program has changed the store, and then looks ahead. It spends only a part of its time
    /// on both. It never returns.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut changes = self.store.changes();
        while changes.changed().await.is_ok() {
            sleep(AFTER_CHANGE).await;
            self.request_all_claims();
            let cost = |of: &AtomicU64| Duration::from_micros(of.load(Ordering::Relaxed));
            self.look_after(10 * cost(&self.look_cost));
            sleep(3 * cost(&self.claim_cost)).await;
        }
    }

    /// Renews the leases, and stops the jobs whose leases were lost.
    pub(super) async fn renew(&self, store: &dyn Store) {
        if let Err(error) = self.renew_with(store).await {
            self.outage.failed("leases could not be renewed", &error);
        }
    }

    async fn renew_with(&self, store: &dyn Store) -> Result<(), StoreError> {
        let leases = self.held.leases();
        if leases.is_empty() {
            return Ok(());
        }
        let until = self.clock.now().after(self.settings.lease);
        let renewed = self.in_time(store.renew(leases.clone(), until)).await?;
        let kept: HashSet<_> = renewed.into_iter().collect();
        for lease in leases.iter().filter(|lease| !kept.contains(&lease.id)) {
            // The job may have ended meanwhile, although it is held until that is known here.
            let has_ended = |stops: &Stops| {
                stops.completed.load(Ordering::SeqCst) || stops.ended.load(Ordering::SeqCst)
            };
            let stops = self.held.stops(lease.id, Some(*lease));
            if let Some(stops) = stops.filter(|stops| !has_ended(stops)) {
                tracing::warn!(job = %lease.id, "the lease was lost: another worker may run the job");
                self.metrics.lose_lease();
                stops.lose();
            }
        }
        Ok(())
    }

    /// Deletes jobs whose retention is over.
    pub(super) async fn prune(&self) {
        for (state, retention) in [
            (State::Done, Some(self.settings.retention)),
            (State::Cancelled, Some(self.settings.retention)),
            (State::Dead, self.settings.dead_retention),
        ] {
            let Some(retention) = retention else { continue };
            if let Err(error) = self.forget(state, retention).await {
                self.outage
                    .failed("old jobs could not be forgotten", &error);
            }
        }
    }

    /// Deletes few jobs at a time, with pauses, since others wait for the same disk.
    async fn forget(&self, state: State, retention: Duration) -> Result<(), StoreError> {
        loop {
            let begun = Instant::now();
            let now = self.clock.now();
            let old = Filter {
                state: Some(state),
                ended_before: Some(now.before(retention)),
                limit: PRUNED,
                ..Filter::default()
            };
            let forgotten = self.store.change(Change::Delete, old, now);
            if self.in_time(forgotten).await?.len() < PRUNED {
                return Ok(());
            }
            sleep(Duration::from_millis(20).max(3 * begun.elapsed())).await;
        }
    }

    /// Stops a job if it runs in this worker.
    pub(super) fn cancel(&self, id: JobId) {
        if let Some(stops) = self.held.stops(id, None) {
            stops.cancel();
        }
    }

    /// Tells the running jobs that the worker shuts down.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for lease in self.held.leases() {
            if let Some(stops) = self.held.stops(lease.id, Some(lease)) {
                stops.token.cancel();
            }
        }
    }

    /// Gives back the jobs that are still held and do not run, since they were stopped or have never started. This has a
    /// timeout: a job that is not given back is taken when its lease expires.
    pub(super) async fn release(self: &Arc<Self>) {
        let mut calls = JoinSet::new();
        for (lease, kind) in self.held.stopped() {
            let engine = Arc::clone(self);
            calls.spawn(async move {
                let ended = Ended {
                    lease,
                    at: engine.clock.now(),
                    verdict: Verdict::Released,
                    relaxed: false,
                };
                // It is not given back if its end was in the store already.
                if engine.store.finish(ended).await?
                    && let Some(kind) = kind
                {
                    engine.metrics.end(&kind, Outcome::Released, None);
                }
                engine.held.remove(lease);
                Ok(())
            });
        }
        let engine = Arc::clone(self);
        // Always, since the end of the grace may have stopped a claim that was under way.
        calls.spawn(async move {
            let _no_claim = engine.claiming.write().await;
            engine.release_leases_except_held().await
        });
        let engine = Arc::clone(self);
        calls.spawn(async move { engine.store.leave(&engine.name).await });
        let all = async {
            while let Some(called) = calls.join_next().await {
                if let Ok(Err(error)) = called {
                    self.outage.failed("a job was not given back", &error);
                }
            }
        };
        let _ = timeout(RELEASE, all).await;
        self.site.request_claims();
        let left = self.held.stopped().len();
        if left > 0 {
            tracing::warn!(
                jobs = left,
                "not given back in time; their leases will expire"
            );
        }
    }
}

/// Returns the name of this machine.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}
