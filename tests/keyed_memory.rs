//! What keys cost and what they leave behind, in exact bytes of a counting allocator.

mod counting;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep};

use counting::live;

const KEYS: u64 = 200_000;
const IDLE: Duration = Duration::from_secs(60);
const MIB: i64 = 1024 * 1024;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn a_session_cache_stays_small_and_expires_nothing_early() {
    let before = live();
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
        let live = live() - before;
        assert!(live <= 60 * MIB, "{live} bytes");
    }
    println!("{} bytes a key", (live() - before) / KEYS as i64);
    sleep(2 * IDLE).await;
    let (early, expired) = (early.load(SeqCst), expired.load(SeqCst));
    assert_eq!((early, expired, sessions.len()), (0, KEYS as usize, 0));
    let left = live() - before;
    assert!(left <= MIB / 4, "{left} bytes are left of {KEYS} keys");
}
