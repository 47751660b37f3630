//! The workloads. Each runs in a process of its own and returns figures by name.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use crate::contender::Contender;
use crate::meter::{self, Lateness, Stopwatch, quiet};
use crate::timeouts::Timeouts;

pub(crate) type Figures = Vec<(&'static str, f64)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Workload {
    /// Far deadlines in random order, by this many tasks on two workers.
    Schedule {
        producers: usize,
    },
    ScheduleOnCurrentThread,
    /// Futures of 256 bytes.
    ScheduleLarge,
    Memory,
    MemoryLarge,
    /// All due by the time they are scheduled.
    AlreadyDue,
    /// All due at once.
    Burst(Job),
    BurstOnCurrentThread,
    /// Due at random times within a second.
    Spread(Job),
    /// Jobs that are ready, due likewise, and the lateness of each; the size is the rate.
    Lateness(Beside),
    CancelAll,
    /// Every second one, by its key.
    CancelHalf,
    /// All are moved later, five times.
    ResetLater,
    /// Moved to random times, and one in ten let go and replaced.
    Churn,
    Idle,
    AfterBurst,
    /// One job at a time, in one of 64 groups after the other, on a paused clock.
    Lone,
    LoneOnTwoWorkers,
    /// Series of a second, on a paused clock.
    Repeat,
    RepeatOnTwoWorkers {
        period: Duration,
    },
    /// Calls that are done after one turn, and one in a thousand that its timer has to end.
    Timeouts,
}

/// What each job of a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// Ready at its first poll.
    Ready,
    /// Pending that many times, and woken at once.
    Pends(u32),
    /// Sleeps for a millisecond.
    Sleeps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Beside {
    Nothing,
    /// A task that computes for 5 ms between its awaits.
    Hog,
    /// One job that blocks its thread for 200 ms, due alone.
    BlockingJob,
    /// The same, due with 50 others.
    BlockingJobAmongOthers,
    /// Two threads that schedule far jobs without a pause.
    Flood,
}

impl Beside {
    fn blocks(self) -> bool {
        matches!(self, Beside::BlockingJob | Beside::BlockingJobAmongOthers)
    }
}

/// A job of this many bytes that counts itself and is ready at its first poll.
fn job<const PAYLOAD: usize>() -> impl Future<Output = ()> + Send + 'static {
    let (payload, done) = ([1_u8; PAYLOAD], &DONE);
    async move {
        done.fetch_add(u64::from(std::hint::black_box(&payload)[0]), Relaxed);
    }
}

fn small() -> impl Future<Output = ()> + Send + 'static {
    let job = job::<23>();
    debug_assert_eq!(size_of_val(&job), 32);
    job
}

fn large() -> impl Future<Output = ()> + Send + 'static {
    let job = job::<247>();
    debug_assert_eq!(size_of_val(&job), 256);
    job
}

async fn pends(times: u32) {
    for _ in 0..times {
        yield_now().await;
    }
    small().await;
}

async fn sleeps() {
    sleep(MILLISECOND).await;
    small().await;
}

static DONE: AtomicU64 = AtomicU64::new(0);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The exit code of a process that had not scheduled all jobs when the first was due.
pub(crate) const TOO_LATE: i32 = 75;

/// How many times the usual time there is before the first job is due; more on a slow or busy machine.
pub(crate) static PATIENCE: AtomicU32 = AtomicU32::new(1);

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(0x9E37_79B9_7F4A_7C15)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(end)) >> 64) as u64
    }

    fn duration(&mut self, end: Duration) -> Duration {
        Duration::from_nanos(self.below(end.as_nanos() as u64))
    }
}

fn offsets(size: usize, end: Duration) -> Vec<Duration> {
    let mut random = Random::new();
    (0..size).map(|_| random.duration(end)).collect()
}

/// Time enough to schedule this many jobs before the first is due, and for all to be at rest.
fn lead(size: usize) -> Duration {
    let usual = Duration::from_millis(100) + Duration::from_micros(3) * size as u32;
    usual * PATIENCE.load(Relaxed)
}

/// Waits until what was scheduled is at rest, and gives up on this process if it was due by then.
async fn at_rest_before(due: Instant) {
    quiet().await;
    if due <= Instant::now() {
        std::process::exit(TOO_LATE);
    }
}

fn two_workers(work: impl Future<Output = Figures>) -> Figures {
    run_on(
        Builder::new_multi_thread().worker_threads(2).enable_all(),
        work,
    )
}

fn one_thread(work: impl Future<Output = Figures>) -> Figures {
    run_on(Builder::new_current_thread().enable_all(), work)
}

/// Without I/O, for which a runtime would ask the system at each step of the clock.
fn paused_clock(work: impl Future<Output = Figures>) -> Figures {
    let mut builder = Builder::new_current_thread();
    run_on(builder.enable_time().start_paused(true), work)
}

/// Whatever is pending at the end is left behind: the process ends, without waiting for a million
/// tasks to be taken down.
fn run_on(builder: &mut Builder, work: impl Future<Output = Figures>) -> Figures {
    let runtime = builder.build().unwrap();
    let figures = runtime.block_on(work);
    std::mem::forget(runtime);
    figures
}

pub(crate) fn run<C: Contender>(workload: Workload, size: usize) -> Figures {
    match workload {
        Workload::Schedule { producers } => two_workers(schedule::<C, _>(size, producers, small)),
        Workload::ScheduleOnCurrentThread => one_thread(schedule::<C, _>(size, 1, small)),
        Workload::ScheduleLarge => two_workers(schedule::<C, _>(size, 1, large)),
        Workload::Memory => two_workers(memory::<C, _>(size, small)),
        Workload::MemoryLarge => two_workers(memory::<C, _>(size, large)),
        Workload::AlreadyDue => two_workers(already_due::<C>(size)),
        Workload::Burst(job) => match job {
            Job::Ready => two_workers(burst::<C, _>(size, small)),
            Job::Pends(times) => two_workers(burst::<C, _>(size, move || pends(times))),
            Job::Sleeps => two_workers(burst::<C, _>(size, sleeps)),
        },
        Workload::BurstOnCurrentThread => one_thread(burst::<C, _>(size, small)),
        Workload::Spread(job) => match job {
            Job::Ready => two_workers(spread::<C, _>(size, small)),
            Job::Pends(times) => two_workers(spread::<C, _>(size, move || pends(times))),
            Job::Sleeps => two_workers(spread::<C, _>(size, sleeps)),
        },
        Workload::Lateness(beside) => two_workers(lateness::<C>(size, beside)),
        Workload::CancelAll => two_workers(cancel_all::<C>(size)),
        Workload::CancelHalf => two_workers(cancel_half::<C>(size)),
        Workload::ResetLater => two_workers(reset_later::<C>(size)),
        Workload::Churn => two_workers(churn::<C>(size)),
        Workload::Idle => two_workers(idle::<C>(size)),
        Workload::AfterBurst => two_workers(after_burst::<C>(size)),
        Workload::Lone => paused_clock(lone::<C>(size)),
        Workload::LoneOnTwoWorkers => two_workers(lone::<C>(size)),
        Workload::Repeat => paused_clock(repeat::<C>(size, SECOND, 100)),
        Workload::RepeatOnTwoWorkers { period } => {
            let periods = (2 * SECOND).div_duration_f64(period) as u32;
            two_workers(repeat::<C>(size, period, periods))
        }
        Workload::Timeouts => run_timeouts::<C>(size),
    }
}

pub(crate) fn run_timeouts<T: Timeouts>(size: usize) -> Figures {
    two_workers(timeouts::<T>(size))
}

/// Schedules a job at each instant; the keys, if this contender keeps them or `keep` says so.
fn fill<C, J>(
    group: &C,
    base: Instant,
    offsets: &[Duration],
    keep: bool,
    job: impl Fn() -> J,
) -> Vec<C::Key>
where
    C: Contender,
    J: Future<Output = ()> + Send + 'static,
{
    let keep = keep || C::KEEPS;
    let mut keys = Vec::with_capacity(if keep { offsets.len() } else { 0 });
    for &offset in offsets {
        let key = group.schedule(base + offset, job());
        if keep {
            keys.push(key);
        }
    }
    keys
}

async fn schedule<C, J>(size: usize, producers: usize, job: fn() -> J) -> Figures
where
    C: Contender,
    J: Future<Output = ()> + Send + 'static,
{
    let group = Arc::new(C::new());
    let base = Instant::now() + 100 * MINUTE;
    let offsets = offsets(size, MINUTE);
    let shares = offsets
        .chunks(size.div_ceil(producers))
        .map(<[Duration]>::to_vec);
    let shares: Vec<_> = shares.collect();
    quiet().await;
    let watch = Stopwatch::start();
    let tasks = shares.into_iter().map(|share| {
        let group = Arc::clone(&group);
        tokio::spawn(async move { fill(&*group, base, &share, false, job) })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut keys = Vec::new();
    for task in tasks {
        keys.push(task.await.unwrap());
    }
    let wall = watch.wall();
    quiet().await;
    let cpu = watch.cpu();
    let mut figures = vec![("wall", wall / size as f64), ("cpu", cpu / size as f64)];
    figures.extend(group.turns().map(|turns| ("turns", turns as f64)));
    std::mem::forget(keys);
    figures
}

async fn memory<C, J>(size: usize, job: fn() -> J) -> Figures
where
    C: Contender,
    J: Future<Output = ()> + Send + 'static,
{
    meter::count_bytes();
    let group = C::new();
    let offsets = offsets(size, MINUTE);
    quiet().await;
    let (live, resident) = (meter::live_bytes(), meter::resident_bytes());
    let keys = fill(&group, Instant::now() + 100 * MINUTE, &offsets, false, job);
    quiet().await;
    let each = |bytes: f64| bytes / size as f64;
    let figures = vec![
        ("live", each(meter::live_bytes() - live)),
        ("resident", each(meter::resident_bytes() - resident)),
    ];
    std::mem::forget((group, keys));
    figures
}

async fn already_due<C: Contender>(size: usize) -> Figures {
    let group = C::new();
    let same = vec![Duration::ZERO; size];
    quiet().await;
    let watch = Stopwatch::start();
    let keys = fill(&group, Instant::now(), &same, false, small);
    group.wait().await;
    let (wall, cpu) = (watch.wall(), watch.cpu());
    assert_eq!(DONE.load(Relaxed), size as u64);
    drop(keys);
    vec![("wall", wall / size as f64), ("cpu", cpu / size as f64)]
}

async fn burst<C, J>(size: usize, job: impl Fn() -> J) -> Figures
where
    C: Contender,
    J: Future<Output = ()> + Send + 'static,
{
    let group = C::new();
    let same = vec![Duration::ZERO; size];
    let life = Stopwatch::start();
    let due = Instant::now() + lead(size);
    let keys = fill(&group, due, &same, false, job);
    at_rest_before(due).await;
    let firing = Stopwatch::start();
    sleep_until(due).await;
    group.wait().await;
    let wall = due.elapsed().as_nanos() as f64;
    let (firing, life) = (firing.cpu(), life.cpu());
    assert_eq!(DONE.load(Relaxed), size as u64);
    drop(keys);
    vec![
        ("wall", wall / size as f64),
        ("firing", firing / size as f64),
        ("life", life / size as f64),
    ]
}

async fn spread<C, J>(size: usize, job: impl Fn() -> J) -> Figures
where
    C: Contender,
    J: Future<Output = ()> + Send + 'static,
{
    let group = C::new();
    let offsets = offsets(size, SECOND);
    let due = Instant::now() + lead(size);
    let keys = fill(&group, due, &offsets, false, job);
    at_rest_before(due).await;
    let firing = Stopwatch::start();
    sleep_until(due).await;
    group.wait().await;
    let firing = firing.cpu();
    let last = due + offsets.into_iter().max().unwrap_or_default();
    let end = last.elapsed().as_nanos() as f64 / 1e3;
    assert_eq!(DONE.load(Relaxed), size as u64);
    drop(keys);
    vec![("firing", firing / size as f64), ("end", end)]
}

async fn lateness<C: Contender>(rate: usize, beside: Beside) -> Figures {
    let lateness: &'static Lateness = Box::leak(Box::default());
    let group = Arc::new(C::new());
    let due = Instant::now() + lead(rate);
    let half = due + SECOND / 2;
    let mut all = 0;
    for offset in offsets(rate, SECOND) {
        let at = due + offset;
        // Whatever blocks is due all alone, or with those that are said to be due with it.
        let apart = at.max(half) - at.min(half) > Duration::from_millis(5);
        if apart || !beside.blocks() {
            group.schedule(at, async move { lateness.note(at) });
            all += 1;
        }
    }
    at_rest_before(due).await;
    match beside {
        Beside::Nothing | Beside::Flood => {}
        Beside::Hog => {
            tokio::spawn(async {
                loop {
                    let start = std::time::Instant::now();
                    while start.elapsed() < Duration::from_millis(5) {
                        std::hint::spin_loop();
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        Beside::BlockingJob | Beside::BlockingJobAmongOthers => {
            group.schedule(half, async {
                std::thread::sleep(Duration::from_millis(200))
            });
        }
    }
    if beside == Beside::BlockingJobAmongOthers {
        for _ in 0..50 {
            group.schedule(half, async move { lateness.note(half) });
            all += 1;
        }
    }
    sleep_until(due).await;
    if beside == Beside::Flood {
        let flooded = due + SECOND;
        for _ in 0..2 {
            let (group, runtime) = (Arc::clone(&group), tokio::runtime::Handle::current());
            std::thread::spawn(move || {
                let _entered = runtime.enter();
                while Instant::now() < flooded {
                    let far = Instant::now() + 100 * MINUTE;
                    fill(&*group, far, &[Duration::ZERO; 64], false, small);
                }
            });
        }
    }
    sleep_until(due + SECOND).await;
    while lateness.count() < all {
        sleep(Duration::from_millis(20)).await;
    }
    let mut figures = vec![
        ("p50", lateness.quantile(0.5)),
        ("p99", lateness.quantile(0.99)),
        ("p99.9", lateness.quantile(0.999)),
        ("max", lateness.quantile(1.0)),
        ("early", lateness.early()),
    ];
    figures.extend(meter::ROUGH_NAMES.into_iter().zip(lateness.rough()));
    std::mem::forget(group);
    figures
}

async fn cancel_all<C: Contender>(size: usize) -> Figures {
    let group = C::new();
    let far = Instant::now() + 100 * MINUTE;
    let keys = fill(&group, far, &offsets(size, MINUTE), false, small);
    quiet().await;
    let watch = Stopwatch::start();
    group.cancel_all().await;
    let wall = watch.wall();
    drop(keys);
    quiet().await;
    vec![
        ("wall", wall / size as f64),
        ("cpu", watch.cpu() / size as f64),
    ]
}

async fn cancel_half<C: Contender>(size: usize) -> Figures {
    let group = C::new();
    let far = Instant::now() + 100 * MINUTE;
    let keys = fill(&group, far, &offsets(size, MINUTE), true, small);
    quiet().await;
    let watch = Stopwatch::start();
    for key in keys.iter().step_by(2) {
        group.cancel(key);
    }
    let wall = watch.wall();
    quiet().await;
    let (cancelled, cpu) = (size.div_ceil(2) as f64, watch.cpu());
    std::mem::forget((group, keys));
    vec![("wall", wall / cancelled), ("cpu", cpu / cancelled)]
}

async fn reset_later<C: Contender>(size: usize) -> Figures {
    const ROUNDS: u32 = 5;
    let group = C::new();
    let far = Instant::now() + 100 * MINUTE;
    let offsets = offsets(size, MINUTE);
    let mut keys = fill(&group, far, &offsets, true, small);
    quiet().await;
    let watch = Stopwatch::start();
    for round in 1..=ROUNDS {
        for (key, &offset) in keys.iter_mut().zip(&offsets) {
            group.reset(key, far + offset + round * MINUTE, small());
        }
    }
    let wall = watch.wall();
    quiet().await;
    let (resets, cpu) = (f64::from(ROUNDS) * size as f64, watch.cpu());
    std::mem::forget((group, keys));
    vec![("wall", wall / resets), ("cpu", cpu / resets)]
}

async fn churn<C: Contender>(size: usize) -> Figures {
    const STEPS: usize = 5;
    let group = C::new();
    let far = Instant::now() + 100 * MINUTE;
    let mut keys = fill(&group, far, &offsets(size, MINUTE), true, small);
    let mut random = Random::new();
    quiet().await;
    let watch = Stopwatch::start();
    for step in 0..STEPS * size {
        let key = &mut keys[random.below(size as u64) as usize];
        if random.below(10) == 0 {
            group.reset(key, Instant::now(), small());
            *key = group.schedule(far + random.duration(MINUTE), small());
        } else {
            group.reset(key, far + random.duration(MINUTE), small());
        }
        if step % 128 == 127 {
            tokio::task::yield_now().await;
        }
    }
    let wall = watch.wall();
    quiet().await;
    let (steps, cpu) = ((STEPS * size) as f64, watch.cpu());
    std::mem::forget((group, keys));
    vec![("wall", wall / steps), ("cpu", cpu / steps)]
}

async fn idle<C: Contender>(size: usize) -> Figures {
    const SECONDS: u32 = 2;
    let group = C::new();
    let far = Instant::now() + 100 * MINUTE;
    let keys = fill(&group, far, &offsets(size, MINUTE), false, small);
    quiet().await;
    let (watch, sleeps) = (Stopwatch::start(), meter::sleeps());
    sleep(SECONDS * SECOND).await;
    let each = |total: f64| total / f64::from(SECONDS);
    let figures = vec![
        ("cpu", each(watch.cpu()) / 1e3),
        ("wakes", each(meter::sleeps() - sleeps)),
    ];
    std::mem::forget((group, keys));
    figures
}

async fn after_burst<C: Contender>(size: usize) -> Figures {
    meter::count_bytes();
    let group = C::new();
    quiet().await;
    let live = meter::live_bytes();
    let due = Instant::now() + lead(size);
    let same = vec![Duration::ZERO; size];
    drop(fill(&group, due, &same, false, small));
    drop(same);
    while DONE.load(Relaxed) < size as u64 {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(SECOND).await;
    group.reap();
    let left = meter::live_bytes() - live;
    std::mem::forget(group);
    vec![("live", left)]
}

async fn lone<C: Contender>(size: usize) -> Figures {
    static FIRED: Notify = Notify::const_new();
    const GROUPS: usize = 64;

    async fn fire<C: Contender>(group: &C) {
        let at = Instant::now() + MILLISECOND;
        let key = group.schedule(at, async { FIRED.notify_one() });
        FIRED.notified().await;
        drop(key);
        group.reap();
    }

    let groups: Vec<C> = (0..GROUPS).map(|_| C::new()).collect();
    // What a group makes at its first job is not counted.
    for group in &groups {
        fire(group).await;
    }
    let watch = Stopwatch::start();
    for group in groups.iter().cycle().take(size) {
        fire(group).await;
    }
    let cpu = watch.cpu();
    std::mem::forget(groups);
    vec![("cpu", cpu / size as f64)]
}

/// Counts from the second run of each series on.
async fn repeat<C: Contender>(size: usize, period: Duration, periods: u32) -> Figures {
    let group = C::new();
    let begin = Instant::now() + lead(size);
    for offset in offsets(size, period) {
        group.repeat(begin + offset, period, small);
    }
    sleep_until(begin + period).await;
    let (watch, before) = (Stopwatch::start(), DONE.load(Relaxed));
    sleep_until(begin + period + periods * period).await;
    let (cpu, runs) = (watch.cpu(), DONE.load(Relaxed) - before);
    assert!(
        runs >= size as u64,
        "{runs} runs of {size} series in {periods} periods"
    );
    std::mem::forget(group);
    vec![("cpu", cpu / runs as f64)]
}

async fn timeouts<T: Timeouts>(size: usize) -> Figures {
    const LIMIT: Duration = Duration::from_millis(200);
    const ONE_IN: usize = 1_000;
    let tasks = size.min(1_000);
    let first = move |task| task * size / tasks;
    let timeouts = Arc::new(T::new());
    quiet().await;
    let watch = Stopwatch::start();
    let tasks = (0..tasks).map(|task| {
        let timeouts = Arc::clone(&timeouts);
        tokio::spawn(async move {
            let mut elapsed = 0;
            for call in first(task)..first(task + 1) {
                let hangs = call % ONE_IN == 0;
                let work = async move {
                    if hangs {
                        pending::<()>().await;
                    }
                    yield_now().await;
                };
                elapsed += u64::from(!timeouts.within(LIMIT, work).await);
            }
            elapsed
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut elapsed = 0;
    for task in tasks {
        elapsed += task.await.unwrap();
    }
    quiet().await;
    let cpu = watch.cpu();
    let hung = size.div_ceil(ONE_IN) as u64;
    assert!(elapsed >= hung, "{elapsed} of {hung} were ended");
    std::mem::forget(timeouts);
    vec![("cpu", cpu / size as f64)]
}
