//! What entries cost and what they leave behind, in exact bytes of a counting allocator.
#![deny(unsafe_code)]

mod counting;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::Group;
use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep};

use counting::{allocations, live};

const KEYS: u64 = 200_000;
const IDLE: Duration = Duration::from_secs(60);
const MIB: i64 = 1024 * 1024;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn entries_stay_small_and_leave_nothing_behind() {
    a_session_cache_stays_small_and_expires_nothing_early().await;
    an_entry_has_no_allocation_of_its_own().await;
    a_few_that_survive_keep_little().await;
    keys_that_were_read_are_as_small_as_before().await;
    entries_in_a_group_of_somebody_else_go_with_their_handles().await;
    many_tables_in_a_group_at_a_time_leave_nothing_behind().await;
}

async fn a_session_cache_stays_small_and_expires_nothing_early() {
    let before = live();
    let (early, expired) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let last_touch = Instant::now() + Duration::from_secs(50);
    let counts = (Arc::clone(&early), Arc::clone(&expired));
    let sessions = KeyedGroup::with_handler(move |_, key: u64, _: [u64; 2]| {
        let is_early = key % 20 != 0 && Instant::now() < last_touch + IDLE;
        counts.0.fetch_add(usize::from(is_early), SeqCst);
        counts.1.fetch_add(1, SeqCst);
        async {}
    });
    for key in 0..KEYS {
        sessions.insert_after(key, [key; 2], IDLE, OnDuplicate::Replace);
    }
    for _ in 0..5 {
        sleep(Duration::from_secs(10)).await;
        let honoured = (0..KEYS).filter(|key| key % 20 != 0);
        let honoured = honoured
            .filter(|key| sessions.reset_after(key, IDLE))
            .count();
        assert_eq!(honoured, 190_000);
        let (len, pending) = (sessions.len(), sessions.stats().pending);
        assert!(
            len <= 210_000 && pending <= 210_000,
            "{len} keys, {pending} pending"
        );
        let live = live() - before;
        assert!(live <= 24 * MIB, "{live} bytes");
    }
    println!("{} bytes a session", (live() - before) / KEYS as i64);
    sleep(2 * IDLE).await;
    let (early, expired) = (early.load(SeqCst), expired.load(SeqCst));
    assert_eq!((early, expired, sessions.len()), (0, KEYS as usize, 0));
    let left = live() - before;
    assert!(left <= MIB / 4, "{left} bytes are left of {KEYS} keys");
}

async fn an_entry_has_no_allocation_of_its_own() {
    let sessions = KeyedGroup::with_handler(|_, _: u64, _: [u64; 2]| async {});
    sessions.insert_after(KEYS, [0; 2], IDLE, OnDuplicate::Replace);
    let before = (allocations(), live());
    for key in 0..KEYS {
        sessions.insert_after(key, [key; 2], IDLE, OnDuplicate::Replace);
    }
    let made = allocations() - before.0;
    // The arrivals that the driver has not taken in yet, one each, are not counted.
    assert!(made <= KEYS / 10, "{made} allocations for {KEYS} entries");
    sleep(Duration::from_secs(1)).await;
    let bytes = (live() - before.1) / KEYS as i64;
    println!("{bytes} bytes an entry of 24 in key and value");
    assert!(bytes <= 112, "{bytes} bytes an entry");
    let made = allocations();
    for key in 0..KEYS {
        assert!(sessions.reset_after(&key, 2 * IDLE));
    }
    assert_eq!(allocations() - made, 0, "a reset allocates nothing");
}

async fn a_few_that_survive_keep_little() {
    const SURVIVORS: u64 = 100;
    // What was before has gone.
    sleep(Duration::from_secs(1)).await;
    let before = live();
    let sessions = KeyedGroup::with_handler(|_, _: u64, _: [u64; 2]| async {});
    for key in 0..KEYS {
        sessions.insert_after(key, [key; 2], IDLE, OnDuplicate::Replace);
    }
    for key in (0..KEYS).filter(|key| key % (KEYS / SURVIVORS) != 0) {
        assert!(sessions.remove(&key).is_some());
    }
    sleep(Duration::from_secs(1)).await;
    let each = (live() - before) / SURVIVORS as i64;
    println!("{each} bytes for each of {SURVIVORS} that survive {KEYS}");
    // A page of slots with its list, a page of rows, and what all of them together leave.
    assert!(each <= 8 * 1024, "{each} bytes each");
    assert_eq!(sessions.drain_values().len(), SURVIVORS as usize);
    sleep(Duration::from_secs(1)).await;
    let left = live() - before;
    assert!(left <= MIB / 4, "{left} bytes are left");
}

async fn keys_that_were_read_are_as_small_as_before() {
    let sessions = KeyedGroup::with_handler(|_, _: u64, _: [u64; 2]| async {});
    for key in 0..10_000 {
        sessions.insert_after(key, [key; 2], IDLE, OnDuplicate::Replace);
    }
    sleep(Duration::from_secs(1)).await;
    let before = live();
    assert_eq!(sessions.keys().len(), 10_000);
    assert_eq!(live() - before, 0);
}

async fn entries_in_a_group_of_somebody_else_go_with_their_handles() {
    let group = Group::new();
    group.delay(IDLE, async {});
    sleep(Duration::from_secs(1)).await;
    let before = live();
    for connection in 0..10_000_u64 {
        let requests = KeyedGroup::builder().on_with(&group, |_, _: u64, _: u64| async {});
        requests.insert_after(1, connection, IDLE, OnDuplicate::Replace);
        requests.insert_after(2, connection, Duration::ZERO, OnDuplicate::Replace);
        assert!(requests.remove(&1).is_some());
        tokio::task::yield_now().await;
    }
    sleep(Duration::from_secs(1)).await;
    let left = live() - before;
    assert!(left <= 64 * 1024, "{left} bytes are left of 10,000 tables");
}

/// A list of them once stayed as long as there had been tables at a time.
async fn many_tables_in_a_group_at_a_time_leave_nothing_behind() {
    let group = Group::new();
    let table = || KeyedGroup::builder().on_with(&group, |_, _: u64, _: u64| async {});
    let lasting = table();
    let before = live();
    let mut tables: Vec<_> = (0..10_000).map(|_| table()).collect();
    // From either end, and from the middle.
    tables.drain(..2_000);
    tables.truncate(6_000);
    tables.drain(2_000..4_000);
    drop(tables);
    let left = live() - before;
    assert!(left <= 4 * 1024, "{left} bytes are left of 10,000 tables");
    lasting.insert_after(1, 1, IDLE, OnDuplicate::Replace);
    let other = table();
    other.insert_after(1, 2, IDLE, OnDuplicate::Replace);
    assert_eq!((lasting.remove(&1), other.remove(&1)), (Some(1), Some(2)));
}
