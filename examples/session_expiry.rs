//! Shows 100,000 sessions that expire one second after their last touch, on one driver task.
//!
//! You should see how many bytes a session and its handle cost and how long a touch takes. Touches use hardly any memory,
//! since a later deadline is only stored. The last line has the number of sessions that expired early, which is `0`. A
//! debug build is several times slower.
//!
//! ```sh
//! cargo run --release --example session_expiry
//! ```
// A `GlobalAlloc` cannot be written without `unsafe`; this one counts and calls the system's allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::{Group, JobHandle, WaitError};
use tokio::time::{Instant, sleep};

const SESSIONS: usize = 100_000;
const IDLE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: each call goes to `System` unchanged; the counter is all that is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn in_use() -> isize {
    IN_USE.load(Ordering::Relaxed)
}

/// What the jobs of the sessions share with the loop that touches them.
struct Ledger {
    begun: Instant,
    /// Nanoseconds from `begun` to the last touch that moved its session, one per session.
    touched: Vec<AtomicU64>,
    expired: AtomicUsize,
    early: AtomicUsize,
}

impl Ledger {
    fn expire(&self, session: usize) {
        let touched = Duration::from_nanos(self.touched[session].load(Ordering::Acquire));
        if self.begun.elapsed() < touched + IDLE {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Moves the session's deadline. The time is read before the move and stored only if the job was moved, so a job
    /// never counts as early because of a touch that came too late for it.
    fn touch(&self, session: usize, handle: &JobHandle) -> bool {
        let now = self.begun.elapsed();
        let honoured = handle.reset_after(IDLE);
        if honoured {
            self.touched[session].store(now.as_nanos() as u64, Ordering::Release);
        }
        honoured
    }
}

#[tokio::main]
async fn main() -> Result<(), WaitError> {
    let ledger = Arc::new(Ledger {
        begun: Instant::now(),
        touched: (0..SESSIONS).map(|_| AtomicU64::new(0)).collect(),
        expired: AtomicUsize::new(0),
        early: AtomicUsize::new(0),
    });
    let group = Group::new();

    let before = in_use();
    let mut handles = Vec::with_capacity(SESSIONS);
    for session in 0..SESSIONS {
        let now = ledger.begun.elapsed().as_nanos() as u64;
        ledger.touched[session].store(now, Ordering::Release);
        let of_job = Arc::clone(&ledger);
        handles.push(group.delay(IDLE, async move { of_job.expire(session) }));
    }
    let opened = in_use() - before;
    println!(
        "opened   {SESSIONS} sessions in {:?}, {} bytes each, handle included",
        ledger.begun.elapsed(),
        opened / SESSIONS as isize,
    );

    // One session in twenty is not touched.
    let (mut honoured, mut late, mut spent) = (0_u32, 0_u32, Duration::ZERO);
    for _ in 0..ROUNDS {
        sleep(IDLE / 10).await;
        let round = Instant::now();
        for (session, handle) in handles.iter().enumerate() {
            if session % 20 != 0 {
                if ledger.touch(session, handle) {
                    honoured += 1;
                } else {
                    late += 1;
                }
            }
        }
        spent += round.elapsed();
    }
    println!(
        "touched  {honoured} times, {:?} per touch, {:+} bytes; {late} touches came after the expiry",
        spent / (honoured + late),
        in_use() - before - opened,
    );

    group.wait().await?;
    drop(handles);
    let expired = ledger.expired.load(Ordering::Relaxed);
    let early = ledger.early.load(Ordering::Relaxed);
    println!(
        "expired  {expired} after {:?}, {early} of them early; {:+} bytes are left",
        ledger.begun.elapsed(),
        in_use() - before,
    );
    assert_eq!(expired, SESSIONS, "each session expires exactly once");
    assert_eq!(early, 0, "a session expired before its time");
    Ok(())
}
