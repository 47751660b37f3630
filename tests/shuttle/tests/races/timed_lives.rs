//! Whole lives of groups with series of ticks, jobs at times of a wall clock that is set, and retries, beside threads that
//! cancel, abort and move them, and then any of the ends. Each job and each attempt is accounted for.

use std::iter::repeat_with;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use schedgroup::flow::{self, Ended, RetryHandle, Verdict};
use schedgroup::periodic::{self, MissedTicks, OnPanic, TimedHandle, WallClock};
use schedgroup::{Group, Handle, JobHandle, JobState};
use shuttle::{future, thread};
use tokio::time::Instant;

use crate::lives::{Gate, end, is_far, random, when};
use crate::{NEVER, NOW, explore};

// A period is over at once or never: the sleep of shuttle fires at once, so the driver would spin for a second. What is
// due in more than a century sets no timer.
const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const FAR: Duration = Duration::from_secs(86_400 * 365 * 110);

/// What a retry returns or fails with: a clone of the world's token.
type Value = Arc<()>;
type Retry = RetryHandle<Value, Value>;

#[derive(Default)]
struct World {
    limit: usize,
    panics: bool,
    running: AtomicUsize,
    /// The seconds that the wall clock shows, and the latest that it has shown.
    wall: AtomicU64,
    latest: AtomicU64,
    jobs: Mutex<Vec<Arc<Job>>>,
    retries: Mutex<Vec<(Arc<Job>, Retry)>>,
    /// What jobs hold, and how much of it is gone.
    made: AtomicUsize,
    gone: AtomicUsize,
    values: Value,
    /// No job may start or go on any more.
    over: AtomicBool,
    done: AtomicBool,
    gate: Gate,
}

/// A series, a job at a time of the wall clock, or a retry.
#[derive(Default)]
struct Job {
    is_once: bool,
    /// It was scheduled before the end.
    is_accepted: bool,
    handle: OnceLock<AnyHandle>,
    /// Its runs or attempts: one that goes on, and all that have begun.
    running: AtomicUsize,
    starts: AtomicUsize,
    /// The starts when a cancel answered true.
    cancelled: Mutex<Option<usize>>,
    is_aborted: AtomicBool,
    errors: AtomicUsize,
    has_succeeded: AtomicBool,
}

enum AnyHandle {
    Timed(TimedHandle),
    Retry(JobHandle),
}

/// What a job holds. Its drop may call the group back.
struct Held(Arc<World>);

impl Held {
    fn new(world: &Arc<World>) -> Held {
        world.made.fetch_add(1, SeqCst);
        Held(Arc::clone(world))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if random(4) == 0 {
            thread::yield_now();
            self.0.call();
        }
        self.0.gone.fetch_add(1, SeqCst);
    }
}

/// A run that goes on, until it is dropped.
struct Run<'a>(&'a World, &'a Job);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.1.running.fetch_sub(1, SeqCst);
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Job {
    fn begin(&self, world: &World) {
        assert!(!world.over.load(SeqCst), "it starts after the end");
        self.starts.fetch_add(1, SeqCst);
    }

    async fn run(&self, world: &World) {
        let before = self.running.fetch_add(1, SeqCst);
        assert_eq!(before, 0, "two runs at once");
        let before = world.running.fetch_add(1, SeqCst);
        assert!(before < world.limit, "{before} of {}", world.limit);
        let _run = Run(world, self);
        for _ in 0..random(3) {
            assert!(!world.over.load(SeqCst), "it goes on after the end");
            match random(6) {
                0 | 1 => future::yield_now().await,
                2 => world.gate.pass().await,
                3 if world.panics && random(2) == 0 => resume_unwind(Box::new("planned")),
                _ => world.call(),
            }
        }
    }

    fn cancel(&self) {
        let is_cancelled = match self.handle.get() {
            Some(AnyHandle::Timed(timed)) => timed.cancel(),
            Some(AnyHandle::Retry(job)) => job.cancel(),
            None => false,
        };
        if is_cancelled {
            let starts = self.starts.load(SeqCst);
            let before = self.cancelled.lock().unwrap().replace(starts);
            assert_eq!(before, None, "two prevented it");
        }
    }

    fn is_finished(&self) -> bool {
        match self.handle.get().unwrap() {
            AnyHandle::Timed(timed) => timed.is_finished(),
            AnyHandle::Retry(job) => job.is_finished(),
        }
    }

    /// Whether it may have ended before its time.
    fn is_cut(&self) -> bool {
        let is_cancelled = self.cancelled.lock().unwrap().is_some();
        is_cancelled || self.is_aborted.load(SeqCst) || !self.is_accepted
    }
}

fn time(wall: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(wall)
}

impl World {
    fn clock(self: &Arc<World>) -> WallClock {
        let world = Arc::clone(self);
        let read = move || {
            if random(4) == 0 {
                thread::yield_now();
            }
            let wall = world.wall.load(SeqCst);
            world.latest.fetch_max(wall, SeqCst);
            time(wall)
        };
        WallClock::new(read).look_every(NANO)
    }

    fn schedule(self: &Arc<World>, group: &Handle, is_accepted: bool) {
        let kind = random(5);
        let job = Arc::new(Job {
            is_once: kind == 0,
            is_accepted,
            ..Job::default()
        });
        let (world, of_run) = (Held::new(self), Arc::clone(&job));
        let handle = if kind > 2 {
            let handle = self.retry(group, world, of_run);
            let of_retry = AnyHandle::Retry(handle.job().clone());
            if random(3) > 0 {
                self.retries
                    .lock()
                    .unwrap()
                    .push((Arc::clone(&job), handle));
            }
            of_retry
        } else {
            AnyHandle::Timed(self.timed(group, kind, world, of_run))
        };
        assert!(job.handle.set(handle).is_ok());
        self.jobs.lock().unwrap().push(job);
    }

    fn timed(
        self: &Arc<World>,
        group: &Handle,
        kind: usize,
        held: Held,
        job: Arc<Job>,
    ) -> TimedHandle {
        let tick = move || {
            let (world, job) = (Arc::clone(&held.0), Arc::clone(&job));
            job.begin(&world);
            if job.starts.load(SeqCst) > 2 {
                job.cancel();
            }
            async move { job.run(&world).await }
        };
        let (clock, at) = (self.clock(), self.wall.load(SeqCst) + random(3) as u64);
        let on_panic = [OnPanic::End, OnPanic::Continue][random(2)];
        let missed = [MissedTicks::Skip, MissedTicks::Delay, MissedTicks::Burst(2)][random(3)];
        let world = Arc::clone(self);
        match kind {
            0 => group.at_wall(&clock, time(at), move |_| {
                assert!(world.latest.load(SeqCst) >= at, "too early");
                tick()
            }),
            1 => {
                let every = group.every([NANO, FAR][random(2)]);
                let every = match random(4) {
                    0 => every.starting_at(Instant::now() - 60 * SECOND),
                    1 => every.starting_at(Instant::now() + FAR),
                    2 => every.on_wall_clock(&clock, time(at)),
                    _ => every,
                };
                every.missed(missed).on_panic(on_panic).run(move |_| tick())
            }
            _ => {
                let mut left = random(5);
                let next = move |now| {
                    left = left.checked_sub(1)?;
                    Some(now + random(2) as u32 * SECOND)
                };
                let series = periodic::at(next).on_wall_clock(&clock);
                series.on_panic(on_panic).run(group, move |_| tick())
            }
        }
    }

    fn retry(self: &Arc<World>, group: &Handle, held: Held, job: Arc<Job>) -> Retry {
        let op = move || {
            let (world, job) = (Arc::clone(&held.0), Arc::clone(&job));
            job.begin(&world);
            async move {
                job.run(&world).await;
                let value = Arc::clone(&world.values);
                if random(2) == 0 {
                    job.errors.fetch_add(1, SeqCst);
                    return Err(value);
                }
                job.has_succeeded.store(true, SeqCst);
                Ok(value)
            }
        };
        let of_when = Held::new(self);
        let verdict = move |_: &Value| {
            if random(4) == 0 {
                of_when.0.call();
            }
            [Verdict::Retry, Verdict::Stop, Verdict::RetryAfter(when())][random(3)]
        };
        let mut retry = flow::retry(op).delays(repeat_with(when)).when(verdict);
        if random(3) == 0 {
            // A timer fires at any time.
            retry = retry.attempt_timeout(SECOND);
        }
        group.retry(retry)
    }

    fn call(&self) {
        let job = {
            let jobs = self.jobs.lock().unwrap();
            jobs.get(random(jobs.len().max(1))).cloned()
        };
        let Some(job) = job else {
            return;
        };
        match (random(9), job.handle.get().unwrap()) {
            (0, _) => self.gate.open(false),
            (1 | 2, _) => _ = self.wall.fetch_add(1, SeqCst),
            (3, _) => {
                let back = |wall: u64| Some(wall.saturating_sub(random(4) as u64));
                self.wall.fetch_update(SeqCst, SeqCst, back).unwrap();
            }
            (4 | 5, _) => job.cancel(),
            (6, handle) => {
                job.is_aborted.store(true, SeqCst);
                match handle {
                    AnyHandle::Timed(timed) => timed.abort(),
                    AnyHandle::Retry(job) => job.abort(),
                }
            }
            (_, AnyHandle::Timed(timed)) => _ = timed.state(),
            (_, AnyHandle::Retry(job)) => _ = job.reset_after(when()),
        }
    }

    /// Lets time pass for those that wait for it.
    fn hurry(&self) {
        self.wall.fetch_add(1, SeqCst);
        let job = |index| self.jobs.lock().unwrap().get(index).cloned();
        for job in (0..).map_while(job) {
            if let Some(AnyHandle::Retry(job)) = job.handle.get() {
                if job.state() == JobState::Pending && is_far(job.deadline()) {
                    job.reset_after(NOW);
                }
            }
        }
    }

    fn is_gone(&self) -> bool {
        let is_gone = self.made.load(SeqCst) == self.gone.load(SeqCst);
        is_gone && self.running.load(SeqCst) == 0 && Arc::strong_count(&self.values) == 1
    }

    /// Awaits a retry, if there is one, and compares its end with its attempts.
    async fn join(&self, is_waited: bool) -> bool {
        let retry = self.retries.lock().unwrap().pop();
        let Some((job, handle)) = retry else {
            return false;
        };
        let end = handle.await;
        assert_eq!(end.is_ok(), job.has_succeeded.load(SeqCst));
        if let Err(error) = end {
            assert_eq!(error.attempts as usize, job.starts.load(SeqCst));
            assert_eq!(error.last.is_some(), job.errors.load(SeqCst) > 0);
            assert!(error.ended != Ended::Attempts || error.attempts == 3);
            let may_be_cut = job.is_cut() || self.panics || !is_waited;
            assert!(may_be_cut || error.ended != Ended::Cancelled);
        }
        true
    }

    fn check(&self, is_waited: bool) {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        for job in jobs {
            // The end of a job is recorded after its values were dropped.
            while !job.is_finished() {
                thread::yield_now();
            }
            let (starts, cancelled) = (job.starts.load(SeqCst), *job.cancelled.lock().unwrap());
            assert!(!job.is_once || starts <= 1, "{starts} starts");
            assert!(!job.is_once || !is_waited || job.is_cut() || starts == 1);
            // A run of a series may have been about to start.
            let most = |before| before + usize::from(!job.is_once);
            assert!(cancelled.is_none_or(|before| starts <= most(before)));
            job.cancel();
            assert_eq!(*job.cancelled.lock().unwrap(), cancelled);
        }
    }
}

async fn live(panics: bool) {
    let world = Arc::new(World {
        limit: [usize::MAX, 1, 2][random(3)],
        panics,
        wall: AtomicU64::new(10),
        ..World::default()
    });
    let mut builder = Group::builder();
    if world.limit < usize::MAX {
        builder = builder.max_running(world.limit);
    }
    let group = builder.build();
    let handle = group.handle();
    (0..1 + random(3)).for_each(|_| world.schedule(&handle, true));
    let threads = [(); 2].map(|()| {
        let (world, handle) = (Arc::clone(&world), handle.clone());
        thread::spawn(move || {
            (0..3).for_each(|_| match random(4) {
                0 => world.schedule(&handle, false),
                1 => _ = future::block_on(world.join(false)),
                _ => world.call(),
            });
        })
    });
    drop(handle);
    let of_closer = Arc::clone(&world);
    let closer = thread::spawn(move || {
        while !of_closer.done.load(SeqCst) {
            of_closer.gate.open(false);
            of_closer.hurry();
            thread::yield_now();
        }
    });
    let kind = random(5);
    if kind < 4 {
        end(&group, kind, [NOW, NEVER][random(2)], panics).await;
        world.over.store(true, SeqCst);
        let stats = group.stats();
        assert_eq!((stats.pending, stats.running, stats.waiting), (0, 0, 0));
    }
    drop(group);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    while world.join(kind == 0).await {}
    while !world.is_gone() {
        thread::yield_now();
    }
    world.done.store(true, SeqCst);
    closer.join().unwrap();
    world.check(kind == 0);
}

#[test]
fn series_and_retries_live_and_end_whatever_is_called() {
    explore(|| future::block_on(live(false)));
}

#[test]
fn series_and_retries_live_and_end_whatever_is_called_though_some_panic() {
    explore(|| future::block_on(live(true)));
}
