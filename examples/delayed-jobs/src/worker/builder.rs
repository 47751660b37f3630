//! The builder of a worker, and its life.

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use schedgroup::Group;
use schedgroup::keyed::KeyedGroup;
use tokio::sync::{Notify, RwLock};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, HeldJobs};
use super::every::Every;
use super::heartbeat::Heartbeat;
use super::lane::{Groups, Lane};
use super::outage::Outage;
use super::schedule::{Recurring, Schedule};
use super::settings::{CONCURRENCY, RESCAN, Settings};
use super::site::Site;
use crate::handler::{Handler, Handlers, Job};
use crate::job::Payload;
use crate::metrics::{Metrics, Snapshot};
use crate::retry::{Failure, Retry};
use crate::store::StoreError;

/// A worker that runs jobs; created by [`Queue::worker`](crate::Queue::worker).
///
/// It runs the jobs of the queues of the payloads that it has handlers for. Many workers may share one store, in
/// one process or on many machines.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use delayed_jobs::{Failure, Handling, Job, Payload, Queue, Retry};
/// # use serde::{Deserialize, Serialize};
/// # use tokio_util::sync::CancellationToken;
/// #[derive(Serialize, Deserialize)]
/// struct Email {
///     to: String,
/// }
///
/// impl Payload for Email {
///     const KIND: &'static str = "email";
/// }
///
/// async fn send(job: Job<Email>) -> Result<(), Failure> {
///     println!("to {}, try {}", job.payload.to, job.attempt());
///     Ok(())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs.db");
/// # let path = path.to_str().ok_or("a path")?;
/// let queue = Queue::open(path).await?; // a file, or postgres://...
/// queue.enqueue(Email { to: "ada@example.org".into() }).await?;
///
/// let patient = Retry::exponential(Duration::from_secs(1), Duration::from_secs(3600)).attempts(5);
/// let worker = queue
///     .worker()
///     .register_with(Handling::default().retry(patient), send)
///     .concurrency("default", 8);
///
/// let shutdown = CancellationToken::new(); // give it to your signal handler
/// # let stop = shutdown.clone();
/// # let metrics = worker.metrics();
/// # tokio::spawn(async move {
/// #     while metrics.snapshot().done == 0 { tokio::time::sleep(Duration::from_millis(5)).await }
/// #     stop.cancel();
/// # });
/// let summary = worker.run(shutdown).await?;
/// println!("{} done", summary.done);
/// # assert_eq!(summary.done, 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "a worker does nothing until `run` is awaited"]
pub struct Worker {
    site: Arc<Site>,
    settings: Settings,
    handlers: Handlers,
    limits: BTreeMap<String, usize>,
    schedules: Vec<Schedule>,
    metrics: Arc<Metrics>,
}

/// Settings for the jobs of a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "hand it to `Worker::register_with`"]
pub struct Handling {
    retry: Retry,
    timeout: Option<Duration>,
}

impl Handling {
    /// Sets when a failed job is retried.
    pub fn retry(mut self, retry: Retry) -> Handling {
        self.retry = retry;
        self
    }

    /// Sets a timeout. A run that takes longer is dropped, and counts as failed.
    pub fn timeout(mut self, timeout: Duration) -> Handling {
        self.timeout = Some(timeout);
        self
    }
}

impl Worker {
    pub(crate) fn new(site: Arc<Site>) -> Worker {
        Worker {
            site,
            settings: Settings::default(),
            handlers: Handlers::default(),
            limits: BTreeMap::new(),
            schedules: Vec::new(),
            metrics: Arc::new(Metrics::new()),
        }
    }

    /// Registers `handler` for the jobs with the payload `T`.
    ///
    /// Each run is within a `tracing` span `job` of the level `INFO`, with the fields `job` (the id), `kind` and `attempt`. It
    /// is entered for each poll.
    ///
    /// # Panics
    ///
    /// If there is a handler for them already.
    #[track_caller]
    pub fn register<T, F, Fut>(self, handler: F) -> Worker
    where
        T: Payload,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.register_with(Handling::default(), handler)
    }

    /// Registers `handler` for the jobs with the payload `T`, with these settings.
    ///
    /// # Panics
    ///
    /// If there is a handler for them already.
    #[track_caller]
    pub fn register_with<T, F, Fut>(mut self, handling: Handling, handler: F) -> Worker
    where
        T: Payload,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut handler = Handler::new(handler);
        handler.retry = handling.retry;
        handler.timeout = handling.timeout;
        let new = self.handlers.add(T::KIND, handler);
        assert!(
            new,
            "delayed-jobs: there is a handler for `{}` already",
            T::KIND
        );
        self.limits
            .entry(T::QUEUE.to_owned())
            .or_insert(CONCURRENCY);
        self
    }

    /// Sets the concurrency of a queue: at most `limit` of its jobs run at a time in this worker. The default is 16.
    ///
    /// The worker then runs the jobs of this queue, also if no payload names it
    /// ([`Enqueue::queue`](crate::Enqueue::queue)).
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn concurrency(mut self, queue: impl Into<String>, limit: usize) -> Worker {
        assert!(limit > 0, "delayed-jobs: a concurrency must be at least 1");
        self.limits.insert(queue.into(), limit);
        self
    }

    /// Schedules a job at each time of `every`. This is a `Duration`, for each full period since 1970, UTC (so an hour means
    /// every full hour), or a cron expression in a time zone.
    ///
    /// There is one job per time, however many workers have this schedule. If no worker is alive at that time, the job runs
    /// when a worker is alive again, and other times that passed meanwhile are skipped. Times at which the last run has not
    /// ended are skipped too. [`every_with`](Worker::every_with) has other rules.
    ///
    /// A schedule with other times or another payload replaces the former one of the same name. A schedule that is
    /// removed from the program keeps the job of its next time, which still runs:
    /// [`pause_schedule`](crate::Queue::pause_schedule) deletes it.
    ///
    /// # Panics
    ///
    /// If the period is shorter than a microsecond, the payload cannot be written as JSON, or there is a schedule of
    /// this name already; and [`run`](Worker::run) does if there is no handler for the payload.
    #[track_caller]
    pub fn every<T: Payload>(
        self,
        name: impl Into<String>,
        every: impl Into<Every>,
        payload: &T,
    ) -> Worker {
        self.every_with(Recurring::default(), name, every, payload)
    }

    /// Schedules a job at each time of `every`, with rules for missed and overlapping runs; otherwise like
    /// [`every`](Worker::every).
    ///
    /// # Panics
    ///
    /// The same as [`every`](Worker::every).
    #[track_caller]
    pub fn every_with<T: Payload>(
        mut self,
        recurring: Recurring,
        name: impl Into<String>,
        every: impl Into<Every>,
        payload: &T,
    ) -> Worker {
        let (name, every) = (name.into(), every.into());
        assert!(
            self.schedules.iter().all(|known| known.name != name),
            "delayed-jobs: there is a schedule `{name}` already"
        );
        assert!(
            every.is_sound(),
            "delayed-jobs: a period must be at least a microsecond"
        );
        let payload = match serde_json::to_string(payload) {
            Ok(payload) => payload,
            Err(error) => panic!("delayed-jobs: the payload of a schedule is no JSON: {error}"),
        };
        self.schedules.push(Schedule {
            name,
            every,
            kind: T::KIND,
            queue: T::QUEUE,
            payload,
            recurring,
        });
        self
    }

    /// Sets the lease: the time for which a worker keeps a job without a heartbeat. The default is 30 s.
    ///
    /// A worker sends three heartbeats in that time.
    ///
    /// # Panics
    ///
    /// If it is shorter than 100 ms.
    #[track_caller]
    pub fn lease(mut self, lease: Duration) -> Worker {
        assert!(
            lease >= Duration::from_millis(100),
            "delayed-jobs: a lease must be at least 100 ms"
        );
        self.settings.lease = lease;
        self
    }

    /// Sets the number of lost workers after which a job is dead. The default is 3, and 1 counts as 2: after one loss it is not
    /// known which of the jobs of the worker was the cause.
    ///
    /// A job that has lost all but one of them runs alone, and the last loss counts only if it did. So no job is charged
    /// with a crash that another one caused. It waits for a moment when the worker has no other job; while it runs, the
    /// worker starts none. If it has not ended after five minutes, other jobs start beside it, and a loss then is no longer
    /// charged to it alone; this time doubles with each further loss.
    pub fn crashes(mut self, crashes: u32) -> Worker {
        self.settings.crashes = crashes.max(2);
        self
    }

    /// Sets the grace: the time for which running jobs may continue after the shutdown. The default is 15 s.
    pub fn grace(mut self, grace: Duration) -> Worker {
        self.settings.grace = grace;
        self
    }

    /// Sets the time for which a handler may continue after its job was cancelled. The default is 5 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Worker {
        self.settings.cancel_grace = grace;
        self
    }

    /// Makes priorities age: a due job that has waited for `step` goes before jobs of the next higher priority that become
    /// due then, and so on. By default priorities do not age, and a job waits as long as jobs of a higher priority are due.
    pub fn ageing(mut self, step: Duration) -> Worker {
        self.settings.ageing = Some(step);
        self
    }

    /// Sets how long done and cancelled jobs are kept. The default is a day. A job that is unique per period is kept for so long
    /// after the end of that period.
    pub fn retention(mut self, retention: Duration) -> Worker {
        self.settings.retention = retention;
        self
    }

    /// Sets how long dead jobs are kept; by default they are never deleted.
    pub fn dead_retention(mut self, retention: Duration) -> Worker {
        self.settings.dead_retention = Some(retention);
        self
    }

    /// Returns the counts of the worker, which can be read while it runs.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// For tests on a paused clock, which may jump over years: the worker looks at the store seldom and far ahead.
    /// Leases are taken back at the same times as otherwise.
    pub(crate) fn far_sighted(mut self) -> Worker {
        self.settings.rescan = Duration::from_secs(24 * 3600);
        self.settings.look_ahead = 2 * self.settings.rescan;
        // Old jobs are kept for up to a hundredth longer, or a minute.
        let retention = self.settings.shortest_retention();
        self.settings.prune = self.settings.prune.max(retention / 100);
        self
    }

    /// Takes the schedules away.
    pub(crate) fn unscheduled(mut self) -> Worker {
        self.schedules.clear();
        self
    }

    /// Returns the queues and the kinds of jobs that it has handlers for.
    pub(crate) fn queues_and_kinds(&self) -> (Vec<String>, Vec<String>) {
        (self.limits.keys().cloned().collect(), self.handlers.kinds())
    }

    pub(crate) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Runs jobs until `shutdown` is cancelled.
    ///
    /// Then the worker claims no more jobs. The tokens of running jobs are cancelled, and these jobs may finish within the
    /// grace. Jobs that do not are stopped and given back, due at the same time as before. If the store fails for a while,
    /// its calls are retried, and no job is lost. Whatever the store does, `run` returns within two seconds after the grace.
    ///
    /// A handler that blocks its thread makes other jobs late, and cannot be stopped. It keeps its lease. After the grace the
    /// other jobs are given back, and `run` waits for it. Move blocking work to `tokio::task::spawn_blocking`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, running jobs are stopped at their next await and nothing is given back:
    /// their leases expire.
    ///
    /// # Panics
    ///
    /// If no handler is registered, or if a schedule has no handler.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store at the start. Later errors are `tracing` events.
    pub async fn run(self, shutdown: CancellationToken) -> Result<Snapshot, StoreError> {
        assert!(
            !self.handlers.kinds().is_empty(),
            "delayed-jobs: a worker without handlers has nothing to do"
        );
        for schedule in &self.schedules {
            assert!(
                self.handlers.of(schedule.kind).is_some(),
                "delayed-jobs: the schedule `{}` has no handler for `{}`",
                schedule.name,
                schedule.kind
            );
        }
        let metrics = self.metrics();
        let begin = async {
            self.site.store.set_clock().await?;
            for schedule in &self.schedules {
                self.site.store.declare(schedule.spec()).await?;
            }
            Ok::<_, StoreError>(())
        };
        tokio::select! {
            biased;
            begun = begin => begun?,
            // The store has not answered yet, and no job runs.
            () = shutdown.cancelled() => return Ok(metrics.snapshot()),
        }
        let life = Life::begin(self);
        shutdown.cancelled().await;
        life.end().await;
        Ok(metrics.snapshot())
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("handlers", &self.handlers)
            .field("limits", &self.limits)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The least time for writing the ends of jobs that ended at the end of the grace.
const LAST_ENDS: Duration = Duration::from_millis(300);

/// The groups of a running worker. They end when this is dropped.
struct Life {
    engine: Arc<Engine>,
    /// The group of the hints and rounds.
    clockwork: Group,
    /// The group of the tasks that have to run until the last job has ended.
    upkeep: Group,
    /// The groups in which jobs run.
    runs: Arc<Groups>,
    /// The group in which the ends of jobs are written.
    ends: Group,
    /// The heartbeats, if they have their own thread.
    heartbeat: Option<Heartbeat>,
}

impl Life {
    fn begin(worker: Worker) -> Life {
        let clockwork = Group::builder().name("clockwork").build();
        let upkeep = Group::builder().name("upkeep").build();
        let ends = Group::builder().name("ends").build();
        let runs = Arc::new(Groups::default());
        let limits = worker.limits.into_iter().enumerate();
        let lanes = limits.map(|(at, (queue, limit))| Lane::new(queue, limit, at, &runs));
        let lanes = lanes.collect();
        let clock = worker.site.store.clock();
        // The store may have been out of reach until a moment ago, so others get the time to renew their leases first.
        let quiet = (worker.settings.lease / 2).min(2 * RESCAN);
        let engine = Arc::new_cyclic(|engine: &Weak<Engine>| Engine {
            name: format!("{}-{:08x}", std::process::id(), fastrand::u32(..)),
            store: Arc::clone(&worker.site.store),
            site: Arc::clone(&worker.site),
            started_at: clock.now(),
            clock,
            outage: Outage::new(worker.settings.lease),
            settings: worker.settings,
            kinds: worker.handlers.kinds(),
            handlers: worker.handlers,
            schedules: worker.schedules,
            lanes,
            groups: Arc::downgrade(&runs),
            ends: ends.handle(),
            upkeep: upkeep.handle(),
            beats_by_itself: AtomicBool::new(false),
            is_beating: AtomicBool::new(false),
            hints: KeyedGroup::builder().on_with(&clockwork, {
                let engine = Weak::clone(engine);
                move |_, (id, due), at| {
                    if let Some(engine) = engine.upgrade() {
                        // Timers and the clock of the store differ a little. If this is too early, the job waits again.
                        engine.hint(at, id, due);
                    }
                    ready(())
                }
            }),
            rounds: KeyedGroup::builder().exclusive().on(&clockwork),
            metrics: worker.metrics,
            closing: AtomicBool::new(false),
            look_cost: AtomicU64::new(0),
            claim_cost: AtomicU64::new(0),
            held: HeldJobs::default(),
            slot_released: Notify::new(),
            isolating: AtomicBool::new(false),
            next_alone: Mutex::default(),
            futile_pauses: AtomicU32::new(0),
            claiming: RwLock::new(()),
            has_unknown_leases: AtomicBool::new(false),
            last_look: Mutex::default(),
            last_report: Mutex::default(),
            quiet_until: Mutex::new(Instant::now().checked_add(quiet)),
            pulse: AtomicU64::new(0),
            alive: AtomicU64::new(u64::MAX),
            begun: std::time::Instant::now(),
        });
        worker.site.join(&engine);
        let heartbeat = Heartbeat::start(&engine);
        Life::keep_up(&engine, &upkeep, heartbeat.is_none());
        engine.look_after(Duration::ZERO);
        Life {
            engine,
            clockwork,
            upkeep,
            runs,
            ends,
            heartbeat,
        }
    }

    fn keep_up(engine: &Arc<Engine>, upkeep: &Group, beats: bool) {
        let beating = Arc::clone(engine);
        if beats {
            engine.beats_by_itself.store(true, Ordering::SeqCst);
        } else {
            upkeep.every(Duration::from_millis(250)).run(move |_| {
                let alive = beating.begun.elapsed().as_millis();
                let alive = u64::try_from(alive).unwrap_or(u64::MAX);
                beating.pulse.store(alive, Ordering::Relaxed);
                async {}
            });
        }
        let pruning = Arc::clone(engine);
        let retention = engine.settings.shortest_retention();
        let period = retention.clamp(Duration::from_secs(1), engine.settings.prune);
        // Not at once: the first claim of the worker comes first.
        let series = upkeep.every(period).starting_at(Instant::now() + period);
        series.run(move |_| {
            let engine = Arc::clone(&pruning);
            async move { engine.prune().await }
        });
        upkeep.delay(Duration::ZERO, Arc::clone(engine).listen());
    }

    async fn end(self) {
        let grace = self.engine.settings.grace;
        let begun = Instant::now();
        self.engine.close();
        // A claim that is under way may finish, so that no job stays leased that does not run. The jobs that it claims
        // are given back with the others.
        let clockwork = self.clockwork.shutdown(grace);
        let runs = self.runs.take();
        let ends: Vec<_> = runs.iter().map(|runs| runs.shutdown(grace)).collect();
        let mut stopped = pin!(async {
            clockwork.await;
            for end in ends {
                end.await;
            }
        });
        let limit = grace.saturating_add(LAST_ENDS);
        if timeout(limit, &mut stopped).await.is_err() {
            tracing::warn!("handlers that block their threads are waited for");
            self.engine.release().await;
            stopped.await;
        }
        // Ends of jobs are written until the grace is over. Jobs whose ends are not written are given back.
        let left = grace.saturating_sub(begun.elapsed()).max(LAST_ENDS);
        self.ends.shutdown(left).await;
        self.engine.release().await;
        drop(self.heartbeat);
        self.upkeep.shutdown(Duration::ZERO).await;
    }
}
