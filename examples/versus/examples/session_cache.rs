//! Compares a `KeyedGroup` with a `DelayQueue` and a map, for 500,000 sessions that are touched by key and expired by a
//! handler.
//!
//! You should see one line for each of the two: the bytes per session, its key and value included, the time of a touch by
//! key, and the time of an expiry. An
//! expiry is timed until all sessions have expired.
//!
//! ```sh
//! cargo run --release -p versus --example session_cache
//! ```
// A `GlobalAlloc` cannot be written without `unsafe`; this one counts and calls the system's allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::time::{DelayQueue, delay_queue};

const SESSIONS: u64 = 500_000;
const ROUNDS: u32 = 5;
const IDLE: Duration = Duration::from_secs(600);

/// Whose session it is, and when it began.
type Session = (u64, u64);

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

/// How many sessions have expired.
static EXPIRED: AtomicUsize = AtomicUsize::new(0);

async fn expired(_id: u64, _session: Session) {
    EXPIRED.fetch_add(1, Ordering::Relaxed);
}

/// What a cache on a `DelayQueue` needs beside it: where each session is in the queue.
#[derive(Default)]
struct Queue {
    sessions: DelayQueue<(u64, Session)>,
    places: HashMap<u64, delay_queue::Key>,
}

async fn expire_all(queue: Arc<Mutex<Queue>>) {
    loop {
        let (id, session) = poll_fn(|cx| {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Poll::Ready(Some(expired)) = queue.sessions.poll_expired(cx) else {
                return Poll::Pending;
            };
            let (id, session) = expired.into_inner();
            queue.places.remove(&id);
            Poll::Ready((id, session))
        })
        .await;
        expired(id, session).await;
    }
}

/// Microseconds of a touch, in the order in which requests come: in none.
async fn touch_all(mut touch: impl FnMut(u64, Instant)) -> f64 {
    let mut spent = Duration::ZERO;
    for round in 1..=u64::from(ROUNDS) {
        let at = Instant::now() + IDLE;
        let begun = std::time::Instant::now();
        (0..SESSIONS).for_each(|nth| touch(nth * (7_368_787 + 2 * round) % SESSIONS, at));
        spent += begun.elapsed();
        tokio::task::yield_now().await;
    }
    spent.as_nanos() as f64 / 1e3 / f64::from(ROUNDS) / SESSIONS as f64
}

/// What one of the two forms costs.
struct Costs {
    bytes: isize,
    touch: f64,
    expiry: f64,
}

/// The last touch, by which all expire now, and how long that takes.
async fn measure(before: isize, touch: impl FnMut(u64, Instant) + Clone) -> Costs {
    sleep(Duration::from_millis(100)).await;
    let bytes = (IN_USE.load(Ordering::Relaxed) - before) / SESSIONS as isize;
    let in_use = touch_all(touch.clone()).await;
    let (at, mut touch) = (Instant::now() + Duration::from_secs(1), touch);
    (0..SESSIONS).for_each(|id| touch(id, at));
    sleep_until(at).await;
    let begun = std::time::Instant::now();
    while EXPIRED.load(Ordering::Relaxed) < SESSIONS as usize {
        tokio::task::yield_now().await;
    }
    EXPIRED.store(0, Ordering::Relaxed);
    Costs {
        bytes,
        touch: in_use,
        expiry: begun.elapsed().as_nanos() as f64 / 1e3 / SESSIONS as f64,
    }
}

async fn keyed() -> Costs {
    let before = IN_USE.load(Ordering::Relaxed);
    let sessions = KeyedGroup::with_handler(|_, id, session| expired(id, session));
    for id in 0..SESSIONS {
        sessions.insert_after(id, (id, 0), IDLE, OnDuplicate::Replace);
    }
    measure(before, |id, at| assert!(sessions.reset_at(&id, at))).await
}

async fn queued() -> Costs {
    let before = IN_USE.load(Ordering::Relaxed);
    let queue: Arc<Mutex<Queue>> = Arc::default();
    let driver = tokio::spawn(expire_all(Arc::clone(&queue)));
    for id in 0..SESSIONS {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let place = queue.sessions.insert((id, (id, 0)), IDLE);
        queue.places.insert(id, place);
    }
    let costs = measure(before, |id, at| {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let place = queue.places[&id];
        queue.sessions.reset_at(&place, at);
    });
    let costs = costs.await;
    driver.abort();
    costs
}

#[tokio::main]
async fn main() {
    println!("{SESSIONS} sessions    bytes each   µs/touch     µs/expiry");
    for (name, costs) in [
        ("DelayQueue + map", queued().await),
        ("KeyedGroup", keyed().await),
    ] {
        println!(
            "{name:<18} {:>10} {:>11.3} {:>13.3}",
            costs.bytes, costs.touch, costs.expiry
        );
    }
}
