//! What waiting work costs and what it leaves behind, in exact bytes of a counting allocator.
#![deny(unsafe_code)]

#[path = "../../../tests/counting/mod.rs"]
mod counting;

use std::time::Duration;

use counting::live;
use rate_limited_retries::{Dispatcher, Rate};
use schedgroup::Group;
use tokio::time::{Instant, sleep};

type Payload = [u64; 4];

const URLS: i64 = 50_000;
const HOSTS: i64 = 500;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn queued_work_is_small_and_leaves_nothing() {
    let group = Group::new();
    let before = live();
    let dispatcher = Dispatcher::builder()
        .per_key(Rate::per_second(20).burst(5))
        .overall(Rate::per_second(2_000))
        .run(&group, |_: Payload, _| async {});
    for url in 0..URLS {
        dispatcher.push(url % HOSTS, [0; 4]).await.unwrap();
    }
    let beyond = (live() - before) / URLS - size_of::<Payload>() as i64;
    println!("{beyond} bytes beyond the payload");
    assert!(beyond <= 24, "{beyond} bytes beyond the payload");

    group.wait().await.unwrap();
    let left = live() - before;
    // What keys were used last still counts for a moment, and is looked through in passing.
    assert!(
        left <= HOSTS * 400,
        "{left} bytes are left of {URLS} entries"
    );
    drop((dispatcher, group));
    memory_follows_the_keys_also_while_some_are_in_use().await;
    a_queue_that_shrinks_gives_its_memory_back().await;
    a_key_that_waits_for_its_first_start_is_small().await;
}

async fn a_key_that_waits_for_its_first_start_is_small() {
    const KEYS: i64 = 100_000;
    let group = Group::new();
    let rate = Rate::new(1, Duration::from_secs(3_600));
    let dispatcher = Dispatcher::builder()
        .overall(rate)
        .run(&group, |_: u64, _| async {});
    // It takes the whole burst of the overall rate.
    dispatcher.push(-1, 0).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let before = live();
    for key in 0..KEYS {
        dispatcher.push(key, 0).await.unwrap();
    }
    assert_eq!(dispatcher.stats().queued, KEYS as usize);
    let each = (live() - before) / KEYS;
    println!("{each} bytes an item with a key of its own");
    assert!(each <= 80, "{each} bytes an item with a key of its own");
}

async fn memory_follows_the_keys_also_while_some_are_in_use() {
    const CROWD: i64 = 50_000;
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::per_second(1_000));
    let dispatcher = builder.run(&group, |_: Payload, _| async {});
    dispatcher.not_before(-1, Instant::now() + Duration::from_secs(3_600));
    dispatcher.push(-1, [0; 4]).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = live();
    for key in 0..CROWD {
        dispatcher.push(key, [0; 4]).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    for _ in 0..CROWD {
        dispatcher.not_before(-1, Instant::now());
    }
    let stats = dispatcher.stats();
    assert_eq!((stats.keys, stats.queued), (1, 1));
    let left = live() - before;
    println!("{left} bytes are left of {CROWD} keys");
    assert!(left <= 100_000, "{left} bytes are left of {CROWD} keys");
}

async fn a_queue_that_shrinks_gives_its_memory_back() {
    const WORK: i64 = 50_000;
    let group = Group::new();
    let builder = Dispatcher::builder().per_key(Rate::per_second(10_000));
    let dispatcher = builder.run(&group, |_: Payload, _| async {});
    let before = live();
    for _ in 0..WORK {
        dispatcher.push(0, [0; 4]).await.unwrap();
    }
    let full = live() - before;
    while dispatcher.stats().queued > WORK as usize / 20 {
        sleep(Duration::from_millis(1)).await;
    }
    let left = live() - before;
    println!("{left} bytes of {full} when a twentieth is left");
    assert!(
        left <= full / 4,
        "{left} bytes of {full} when a twentieth is left"
    );
    group.wait().await.unwrap();
}
