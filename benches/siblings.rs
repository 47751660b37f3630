//! Each family against what one writes by hand: `JoinSet` with a `Semaphore`, spawned tasks in
//! `FuturesUnordered` and in `join_all`.
//!
//! ```sh
//! cargo bench --bench siblings
//! ```
//!
//! Times are medians of rounds, in each of which every form is measured; ratios are to the first form of a block.
#![deny(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, iter};
use schedgroup::flow;
use schedgroup::task::TaskGroup;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
#[allow(
    unsafe_code,
    reason = "a global allocator cannot be written without it"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const LIMIT: usize = 16;
const ROUNDS: usize = 7;
const OK: Result<(), ()> = Ok(());

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// A future that was made and not dropped.
struct Live;

impl Live {
    fn new() -> Live {
        PEAK.fetch_max(LIVE.fetch_add(1, Relaxed) + 1, Relaxed);
        Live
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Relaxed);
    }
}

#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    tasks: usize,
    sleep: Option<Duration>,
}

impl Work {
    fn task<T: Send + 'static>(self, value: T) -> impl Future<Output = T> + Send + 'static {
        let live = Live::new();
        async move {
            let _live = live;
            if let Some(time) = self.sleep {
                tokio::time::sleep(time).await;
            }
            value
        }
    }
}

type Form = fn(Work) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! form {
    (|$work:ident| $code:expr) => {
        (|$work| Box::pin(async move { $code })) as Form
    };
}

async fn join_set(work: Work) {
    let mut tasks = JoinSet::new();
    for _ in 0..work.tasks {
        tasks.spawn(work.task(OK));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

async fn join_set_and_semaphore(work: Work) {
    let (places, mut tasks) = (Arc::new(Semaphore::new(LIMIT)), JoinSet::new());
    for _ in 0..work.tasks {
        let (places, task) = (Arc::clone(&places), work.task(OK));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            task.await
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

async fn fallible(work: Work, limit: usize) {
    let group = TaskGroup::<()>::builder().limit(limit).build();
    for _ in 0..work.tasks {
        group.spawn(work.task(OK));
    }
    group.wait().await.unwrap();
}

async fn infallible(work: Work, limit: usize) {
    let group = TaskGroup::builder().limit(limit).build();
    for _ in 0..work.tasks {
        group.spawn(work.task(()));
    }
    assert_eq!(group.wait().await.unwrap().finished, work.tasks as u64);
}

fn limited() -> Vec<(&'static str, Form)> {
    vec![
        (
            "JoinSet + Semaphore",
            form!(|work| join_set_and_semaphore(work).await),
        ),
        (
            "TaskGroup of Results",
            form!(|work| fallible(work, LIMIT).await),
        ),
        ("TaskGroup", form!(|work| infallible(work, LIMIT).await)),
        (
            "buffer_unordered, spawned",
            form!(|work| {
                let tasks = iter(0..work.tasks).map(|_| tokio::spawn(work.task(OK)));
                let ended = tasks.buffer_unordered(LIMIT);
                ended
                    .for_each(|ended| async {
                        ended.unwrap().unwrap();
                    })
                    .await;
            }),
        ),
        (
            "flow::all",
            form!(|work| {
                let tasks = (0..work.tasks).map(|_| work.task(OK));
                assert_eq!(flow::all(tasks).limit(LIMIT).await.len(), work.tasks);
            }),
        ),
        (
            "flow::for_each",
            form!(|work| {
                let each = flow::for_each(0..work.tasks, move |_| work.task(()));
                each.limit(LIMIT).await.unwrap();
            }),
        ),
        (
            "buffered, spawned",
            form!(|work| {
                let tasks = iter(0..work.tasks).map(|_| tokio::spawn(work.task(OK)));
                let ended = tasks.buffered(LIMIT);
                ended
                    .for_each(|ended| async {
                        ended.unwrap().unwrap();
                    })
                    .await;
            }),
        ),
        (
            "flow::stream",
            form!(|work| {
                let tasks = (0..work.tasks).map(|_| work.task(OK));
                let mut ends = flow::stream(tasks).limit(LIMIT);
                while let Some(end) = ends.next().await {
                    end.unwrap().unwrap();
                }
            }),
        ),
    ]
}

/// Under tokio's budget a `FuturesUnordered` of this many join handles is polled all over again each time
/// that the budget is used up, for seconds; without it, it is at its best.
fn unlimited() -> Vec<(&'static str, Form)> {
    vec![
        ("JoinSet", form!(|work| join_set(work).await)),
        (
            "TaskGroup of Results",
            form!(|work| fallible(work, usize::MAX).await),
        ),
        (
            "join_all, spawned",
            form!(|work| {
                let tasks = (0..work.tasks).map(|_| tokio::spawn(work.task(OK)));
                assert_eq!(unconstrained(join_all(tasks)).await.len(), work.tasks);
            }),
        ),
        (
            "FuturesUnordered, spawned",
            form!(|work| {
                let tasks = (0..work.tasks).map(|_| tokio::spawn(work.task(OK)));
                let mut tasks: FuturesUnordered<_> = tasks.collect();
                unconstrained(async {
                    while let Some(ended) = tasks.next().await {
                        ended.unwrap().unwrap();
                    }
                })
                .await;
            }),
        ),
        (
            "flow::try_all",
            form!(|work| {
                let tasks = (0..work.tasks).map(|_| work.task(OK));
                assert_eq!(flow::try_all(tasks).await.unwrap().len(), work.tasks);
            }),
        ),
    ]
}

#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    /// For each task.
    allocations: f64,
    peak: usize,
}

impl Measured {
    fn add_round(&mut self, runtime: &Runtime, work: Work, form: Form) {
        PEAK.store(0, Relaxed);
        let (start, before) = (Instant::now(), ALLOCATIONS.load(Relaxed));
        // In a task, like most code: the thread that blocks would only be in the way.
        runtime.block_on(async { tokio::spawn(form(work)).await.unwrap() });
        self.times.push(start.elapsed());
        self.allocations = (ALLOCATIONS.load(Relaxed) - before) as f64 / work.tasks as f64;
        self.peak = self.peak.max(PEAK.load(Relaxed));
    }

    fn time(&mut self) -> f64 {
        self.times.sort();
        self.times[ROUNDS / 2].as_secs_f64() * 1e3
    }
}

fn main() {
    let ready = Work {
        name: "100,000 ready tasks",
        tasks: 100_000,
        sleep: None,
    };
    let timed = Work {
        name: "1,000 tasks of 1 ms",
        tasks: 1_000,
        sleep: Some(Duration::from_millis(1)),
    };
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    let two = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for (flavour, runtime) in [("one thread", one), ("two workers", two)] {
        for (work, limit, forms) in [
            (ready, "limit 16", limited()),
            (timed, "limit 16", limited()),
            (ready, "no limit", unlimited()),
        ] {
            println!("{}, {limit}, {flavour}", work.name);
            let mut measured: Vec<_> = forms.iter().map(|_| Measured::default()).collect();
            for _ in 0..ROUNDS {
                for (measured, (_, form)) in measured.iter_mut().zip(&forms) {
                    measured.add_round(&runtime, work, *form);
                }
            }
            let first = (measured[0].time(), measured[0].allocations);
            for (measured, (name, _)) in measured.iter_mut().zip(&forms) {
                let time = measured.time();
                println!(
                    "  {name:<26} {time:>8.2} ms {:>5.2} x  {:.2} allocations a task {:>5.2} x  {:>6} futures",
                    time / first.0,
                    measured.allocations,
                    measured.allocations / first.1,
                    measured.peak,
                );
            }
        }
    }
}
