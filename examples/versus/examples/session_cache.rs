//! 200,000 sessions by key, 95 % of them touched five times, beside `DelayQueue::reset_at`.
//!
//! Look for: the price of a touch by key as a share of `reset_at`'s, which knows its entry already; the
//! same with a map from key to entry, as a cache on a `DelayQueue` needs it; bytes a session.
//!
//! ```sh
//! cargo run --release --example session_cache
//! ```
// A `GlobalAlloc` cannot be written without `unsafe`; this one counts and hands on to the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

const SESSIONS: u64 = 200_000;
const ROUNDS: u32 = 5;
const IDLE: Duration = Duration::from_secs(600);

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

/// Nanoseconds a touch, over all sessions but one in twenty.
fn time(mut touch: impl FnMut(u64, Instant)) -> f64 {
    let begun = std::time::Instant::now();
    for round in 0..ROUNDS {
        let at = Instant::now() + IDLE + Duration::from_secs(round.into());
        (0..SESSIONS)
            .filter(|session| session % 20 != 0)
            .for_each(|session| touch(session, at));
    }
    let touches = f64::from(ROUNDS) * SESSIONS as f64 * 0.95;
    begun.elapsed().as_nanos() as f64 / touches
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let before = IN_USE.load(Ordering::Relaxed);
    let sessions = KeyedGroup::new();
    for session in 0..SESSIONS {
        let expired = async move { println!("session {session} has expired") };
        sessions.delay(session, IDLE, expired, OnDuplicate::Replace);
    }
    tokio::task::yield_now().await;
    let keyed = time(|session, at| assert!(sessions.touch(&session, at)));
    tokio::task::yield_now().await;
    let bytes = IN_USE.load(Ordering::Relaxed) - before;
    println!(
        "{} keys, {} pending, {} bytes a session",
        sessions.len(),
        sessions.group().stats().pending,
        bytes / SESSIONS as isize,
    );

    let mut queue = DelayQueue::new();
    let entries: Vec<_> = (0..SESSIONS)
        .map(|session| queue.insert(session, IDLE))
        .collect();
    let by_entry = time(|session, at| queue.reset_at(&entries[session as usize], at));
    let map: HashMap<u64, _> = (0..SESSIONS).zip(entries).collect();
    let by_key = time(|session, at| queue.reset_at(&map[&session], at));

    println!("touch by key         {keyed:>6.1} ns");
    println!(
        "reset_at by entry    {by_entry:>6.1} ns, ratio {:.2}",
        keyed / by_entry
    );
    println!(
        "reset_at by key      {by_key:>6.1} ns, ratio {:.2}",
        keyed / by_key
    );
}
