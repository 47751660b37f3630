//! Live bytes after many bursts and many groups.

// A global allocator cannot be written without it; it only counts allocations and passes them on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use schedgroup::Group;

use crate::{paused_clock, two_workers};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SPARE: u64 = 64 * 1024;

/// Runs bursts of 10,000 jobs in one group and cancels every second burst. After the last burst as many bytes must be
/// live as after the tenth, or after half of them if there are fewer than twenty.
pub(crate) fn waves(waves: u64) -> u64 {
    const BURST: u64 = 10_000;
    let start = Instant::now();
    let first = waves.div_ceil(2).min(10);
    let drift = paused_clock().block_on(async move {
        let group = Group::new();
        let mut after_first = LIVE.load(Relaxed);
        for wave in 1..=waves {
            for job in 0..BURST {
                let payload = [job as u8; 64];
                let job = group.delay(Duration::from_micros(job), async move {
                    std::hint::black_box(&payload);
                });
                if wave % 2 == 0 {
                    job.cancel();
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            if wave == first {
                after_first = LIVE.load(Relaxed);
            }
        }
        (LIVE.load(Relaxed) - after_first).unsigned_abs()
    });
    println!(
        "waves: {drift} bytes between wave {first} and wave {waves}, {BURST} jobs each, {:.1?}",
        start.elapsed()
    );
    u64::from(drift > SPARE)
}

/// Creates groups, schedules jobs and drops the groups. No task and no byte may be left.
pub(crate) fn groups(groups: u64) -> u64 {
    let start = Instant::now();
    let runtime = two_workers();
    let (left, tasks) = runtime.block_on(async move {
        let mut after_some = LIVE.load(Relaxed);
        for round in 1..=groups {
            let group = Group::new();
            group.delay(Duration::from_secs(3600), async {});
            group.delay(Duration::ZERO, async {});
            drop(group);
            if round % 64 == 0 {
                tokio::task::yield_now().await;
            }
            if round == groups / 10 {
                settle().await;
                after_some = LIVE.load(Relaxed);
            }
        }
        settle().await;
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        (
            (LIVE.load(Relaxed) - after_some).max(0) as u64,
            tasks as u64,
        )
    });
    println!(
        "groups: {left} bytes and {tasks} tasks left of {groups} groups, {:.1?}",
        start.elapsed()
    );
    tasks + u64::from(left > SPARE)
}

/// Waits until the drivers of dropped groups have ended, for at most five seconds.
async fn settle() {
    let start = Instant::now();
    let metrics = tokio::runtime::Handle::current().metrics();
    while metrics.num_alive_tasks() > 0 && start.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
