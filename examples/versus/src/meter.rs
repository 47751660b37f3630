//! Measures time, CPU time, bytes and wake-ups of this process, and lateness.

// A global allocator cannot be written without it; it only counts allocations and passes them on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
/// The bytes are counted in processes that measure them alone: it would slow all others down.
static COUNTS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Relaxed) {
            LIVE.fetch_add(layout.size() as i64, Relaxed);
        }
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTS.load(Relaxed) {
            LIVE.fetch_sub(layout.size() as i64, Relaxed);
        }
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTS.load(Relaxed) {
            LIVE.fetch_add(size as i64 - layout.size() as i64, Relaxed);
        }
        // SAFETY: as our caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

pub(crate) fn count_bytes() {
    COUNTS.store(true, Relaxed);
}

pub(crate) fn live_bytes() -> f64 {
    LIVE.load(Relaxed) as f64
}

/// Nanoseconds that all threads of this process have run.
pub(crate) fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Reads a number of kilobytes or counts out of the process's status; 0 where there is none.
fn status(file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0.0)
}

pub(crate) fn resident_bytes() -> f64 {
    status("/proc/self/status", "VmRSS:") * 1024.0
}

/// How often threads of this process have gone to sleep.
pub(crate) fn sleeps() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let each = tasks.flatten().map(|task| {
        let file = task.path().join("status");
        status(&file.to_string_lossy(), "voluntary_ctxt_switches:")
    });
    each.sum()
}

/// Wall and CPU time since it was made.
pub(crate) struct Stopwatch {
    start: Instant,
    cpu: f64,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch {
            start: Instant::now(),
            cpu: cpu(),
        }
    }

    pub(crate) fn wall(&self) -> f64 {
        self.start.elapsed().as_nanos() as f64
    }

    pub(crate) fn cpu(&self) -> f64 {
        cpu() - self.cpu
    }
}

/// Microseconds of lateness in buckets that are at most a sixteenth wide.
pub(crate) struct Lateness {
    buckets: Vec<AtomicU64>,
    early: AtomicU64,
}

const STEPS: u64 = 16;

impl Default for Lateness {
    fn default() -> Lateness {
        Lateness {
            buckets: (0..STEPS * 40).map(|_| AtomicU64::new(0)).collect(),
            early: AtomicU64::new(0),
        }
    }
}

fn bucket(micros: u64) -> usize {
    let level = (micros / STEPS + 1).ilog2() as u64;
    // Level 0 holds STEPS buckets of one microsecond, each further one STEPS of twice the width.
    let start = STEPS * ((1 << level) - 1);
    (level * STEPS + ((micros - start) >> level)) as usize
}

/// The upper end of a bucket, in microseconds.
fn end_of(bucket: usize) -> f64 {
    let (level, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    (STEPS * ((1 << level) - 1) + ((step + 1) << level)) as f64
}

impl Lateness {
    pub(crate) fn note(&self, deadline: tokio::time::Instant) {
        let now = tokio::time::Instant::now();
        if now < deadline {
            self.early.fetch_add(1, Relaxed);
        }
        let micros = now.saturating_duration_since(deadline).as_micros() as u64;
        let last = self.buckets.len() - 1;
        self.buckets[bucket(micros).min(last)].fetch_add(1, Relaxed);
    }

    pub(crate) fn early(&self) -> f64 {
        self.early.load(Relaxed) as f64
    }

    fn counts(&self) -> Vec<u64> {
        self.buckets
            .iter()
            .map(|count| count.load(Relaxed))
            .collect()
    }

    /// The lateness that this share of all did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        let mut left = (total as f64 * share).ceil() as u64;
        for (bucket, count) in counts.into_iter().enumerate() {
            left = left.saturating_sub(count);
            if left == 0 {
                return end_of(bucket);
            }
        }
        f64::NAN
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// How many were that late; see [`ROUGH_NAMES`].
    pub(crate) fn rough(&self) -> [f64; ROUGH_NAMES.len()] {
        let mut rough = [0.0; ROUGH_NAMES.len()];
        for (bucket, count) in self.counts().into_iter().enumerate() {
            let end = end_of(bucket);
            let place = ROUGH_ENDS.iter().position(|&rough_end| end <= rough_end);
            rough[place.unwrap_or(ROUGH_ENDS.len())] += count as f64;
        }
        rough
    }
}

/// Ends of the printed histogram's bars, in microseconds.
const ROUGH_ENDS: [f64; 9] = [250.0, 500.0, 1e3, 1.5e3, 2e3, 3e3, 5e3, 1e4, 5e4];
pub(crate) const ROUGH_NAMES: [&str; 10] = [
    "to 0.25 ms",
    "to 0.5 ms",
    "to 1 ms",
    "to 1.5 ms",
    "to 2 ms",
    "to 3 ms",
    "to 5 ms",
    "to 10 ms",
    "to 50 ms",
    "later",
];

/// Waits until no thread of this process works any more.
pub(crate) async fn quiet() {
    const LOOK: Duration = Duration::from_millis(4);
    let mut calm = 0;
    while calm < 2 {
        let before = cpu();
        tokio::time::sleep(LOOK).await;
        let busy = cpu() - before;
        calm = if busy < LOOK.as_nanos() as f64 / 20.0 {
            calm + 1
        } else {
            0
        };
    }
}
