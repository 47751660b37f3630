//! A limited group of tasks against what one writes by hand, a `JoinSet` and a `Semaphore`.
//!
//! ```sh
//! cargo bench --bench siblings
//! ```

// A global allocator cannot be written without it; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use schedgroup::errgroup::ErrGroup;
use schedgroup::sized::SizedGroup;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
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
const ROUNDS: usize = 5;

/// One task; counts the futures of tasks that were polled and not dropped.
#[derive(Clone, Copy)]
struct Work {
    tasks: usize,
    sleep: Option<Duration>,
}

static STARTED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

impl Work {
    async fn run(self) {
        PEAK.fetch_max(STARTED.fetch_add(1, Relaxed) + 1, Relaxed);
        if let Some(time) = self.sleep {
            tokio::time::sleep(time).await;
        }
        STARTED.fetch_sub(1, Relaxed);
    }
}

async fn by_hand(work: Work) {
    let (places, mut tasks) = (Arc::new(Semaphore::new(LIMIT)), JoinSet::new());
    for _ in 0..work.tasks {
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            work.run().await;
            Ok::<(), ()>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

async fn errgroup(work: Work) {
    let group = ErrGroup::<()>::builder().limit(LIMIT).build();
    for _ in 0..work.tasks {
        group.spawn(async move {
            work.run().await;
            Ok(())
        });
    }
    group.wait().await.unwrap();
}

async fn sized(work: Work) {
    let group = SizedGroup::new(LIMIT);
    for _ in 0..work.tasks {
        group.spawn(work.run());
    }
    assert_eq!(group.wait().await.finished, work.tasks as u64);
}

/// The median time of a round, and the allocations of the last one for each task.
fn measure<F: Future<Output = ()>>(
    runtime: &Runtime,
    work: Work,
    form: fn(Work) -> F,
) -> (Duration, f64) {
    let mut times = Vec::new();
    let mut each = 0.0;
    for _ in 0..ROUNDS {
        let (start, before) = (Instant::now(), ALLOCATIONS.load(Relaxed));
        runtime.block_on(form(work));
        times.push(start.elapsed());
        each = (ALLOCATIONS.load(Relaxed) - before) as f64 / work.tasks as f64;
    }
    times.sort();
    (times[ROUNDS / 2], each)
}

fn main() {
    let ready = Work {
        tasks: 100_000,
        sleep: None,
    };
    let timed = Work {
        tasks: 1_000,
        sleep: Some(Duration::from_millis(1)),
    };
    for (flavour, runtime) in [
        (
            "one thread",
            Builder::new_current_thread().enable_all().build().unwrap(),
        ),
        (
            "two workers",
            Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
        ),
    ] {
        for (name, work) in [
            ("100,000 ready tasks", ready),
            ("1,000 tasks of 1 ms", timed),
        ] {
            println!("{name}, limit {LIMIT}, {flavour}");
            let hand = measure(&runtime, work, by_hand);
            let forms = [
                ("JoinSet + Semaphore", hand),
                ("ErrGroup", measure(&runtime, work, errgroup)),
                ("SizedGroup", measure(&runtime, work, sized)),
            ];
            for (form, (time, each)) in forms {
                println!(
                    "  {form:<20} {:>9.2} ms  {:>5.2} x   {each:.2} allocations a task  {:>5.2} x",
                    time.as_secs_f64() * 1e3,
                    time.as_secs_f64() / hand.0.as_secs_f64(),
                    each / hand.1,
                );
            }
        }
    }
    println!("at most {} tasks ran at once", PEAK.load(Relaxed));
}
