//! What keys cost and what they leave behind, in exact bytes of a counting allocator.

// A global allocator cannot be written without it; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, SeqCst);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, SeqCst);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const KEYS: u64 = 200_000;
const IDLE: Duration = Duration::from_secs(60);
const MIB: i64 = 1024 * 1024;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn a_session_cache_stays_small_and_expires_nothing_early() {
    let before = LIVE.load(SeqCst);
    let sessions = KeyedGroup::new();
    let (early, expired) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let last_touch = Instant::now() + Duration::from_secs(50);
    for key in 0..KEYS {
        let (early, expired) = (Arc::clone(&early), Arc::clone(&expired));
        let touched = key % 20 != 0;
        let expire = async move {
            let is_early = touched && Instant::now() < last_touch + IDLE;
            early.fetch_add(usize::from(is_early), SeqCst);
            expired.fetch_add(1, SeqCst);
        };
        sessions.delay(key, IDLE, expire, OnDuplicate::Replace);
    }
    for _ in 0..5 {
        sleep(Duration::from_secs(10)).await;
        let honoured = (0..KEYS).filter(|key| key % 20 != 0);
        let honoured = honoured
            .filter(|key| sessions.touch_after(key, IDLE))
            .count();
        assert_eq!(honoured, 190_000);
        let (len, pending) = (sessions.len(), sessions.group().stats().pending);
        assert!(
            len <= 210_000 && pending <= 210_000,
            "{len} keys, {pending} pending"
        );
        let live = LIVE.load(SeqCst) - before;
        assert!(live <= 60 * MIB, "{live} bytes");
    }
    println!("{} bytes a key", (LIVE.load(SeqCst) - before) / KEYS as i64);
    sleep(2 * IDLE).await;
    let (early, expired) = (early.load(SeqCst), expired.load(SeqCst));
    assert_eq!((early, expired, sessions.len()), (0, KEYS as usize, 0));
    let left = LIVE.load(SeqCst) - before;
    assert!(left <= MIB / 4, "{left} bytes are left of {KEYS} keys");
}
