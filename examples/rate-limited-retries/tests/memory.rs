//! What waiting work costs and what it leaves behind, in exact bytes of a counting allocator.

#[path = "../../../tests/counting/mod.rs"]
mod counting;

use std::time::Duration;

use counting::live;
use rate_limited_retries::rate::{Pacer, Rate};
use schedgroup::Group;
use tokio::time::{Instant, sleep};

type Payload = [u64; 4];

const URLS: i64 = 50_000;
const HOSTS: i64 = 500;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn waiting_work_is_small_and_leaves_nothing() {
    let group = Group::new();
    let before = live();
    let pacer = Pacer::builder(Rate::per_second(20).burst(5))
        .overall(Rate::per_second(2_000))
        .run(&group, |_: Payload, _| async {});
    for url in 0..URLS {
        pacer.push(url % HOSTS, [0; 4]);
    }
    let beyond = (live() - before) / URLS - size_of::<Payload>() as i64;
    println!("{beyond} bytes beyond the payload");
    assert!(beyond <= 250, "{beyond} bytes beyond the payload");

    group.wait().await.unwrap();
    let left = live() - before;
    // What keys were used last still counts for a moment, and is looked through in passing.
    assert!(
        left <= HOSTS * 400,
        "{left} bytes are left of {URLS} entries"
    );
    drop((pacer, group));
    memory_follows_the_keys_also_while_some_are_in_use().await;
}

async fn memory_follows_the_keys_also_while_some_are_in_use() {
    const CROWD: i64 = 50_000;
    let group = Group::new();
    let pacer = Pacer::builder(Rate::per_second(1_000)).run(&group, |_: Payload, _| async {});
    pacer.not_before(-1, Instant::now() + Duration::from_secs(3_600));
    pacer.push(-1, [0; 4]);
    sleep(Duration::from_secs(1)).await;
    let before = live();
    for key in 0..CROWD {
        pacer.push(key, [0; 4]);
    }
    sleep(Duration::from_secs(1)).await;
    for _ in 0..CROWD {
        pacer.not_before(-1, Instant::now());
    }
    assert_eq!((pacer.keys(), pacer.waiting()), (1, 1));
    let left = live() - before;
    println!("{left} bytes are left of {CROWD} keys");
    assert!(left <= 100_000, "{left} bytes are left of {CROWD} keys");
}
