//! What a queued item costs, in exact bytes of a counting allocator: 8 bytes of work.

use std::time::Duration;

use rate_limited_retries::{Dispatcher, Rate};
use schedgroup::Group;

use crate::counting::live;
use crate::meter::runtime;
use crate::peers::Peers;

const ITEMS: i64 = 100_000;
const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn run(small: bool) {
    let items = if small { ITEMS / 10 } else { ITEMS };
    println!("\n{items} queued items of 8 bytes            keys   bytes an item");
    for keys in [1, 500, items / 2, items] {
        println!("dispatcher{keys:>31}{:>16.1}", dispatcher(items, keys));
    }
    println!(
        "the same, of keys that started{items:>11}{:>16.1}",
        started(items)
    );
    println!("floor{items:>36}{:>16.1}", floor());
    println!("governor, backon, semaphore{:>14}{:>16.1}", 1, peers(items));
}

/// Nothing starts before an hour has passed, by the overall rate.
fn dispatcher(items: i64, keys: i64) -> f64 {
    runtime().block_on(async {
        let group = Group::new();
        let before = live();
        let builder = Dispatcher::builder().overall(Rate::new(1, HOUR));
        let dispatcher = builder.run(&group, |_: u64, _| async {});
        // It takes the whole burst.
        dispatcher.push(0, 0).await.expect("it is open");
        while dispatcher.stats().started == 0 {
            tokio::task::yield_now().await;
        }
        push(&dispatcher, items, keys).await;
        (live() - before) as f64 / items as f64
    })
}

/// Each key has started once within the last hour, and has one item that waits for the next.
fn started(items: i64) -> f64 {
    runtime().block_on(async {
        let group = Group::new();
        let before = live();
        let builder = Dispatcher::builder().per_key(Rate::new(1, HOUR));
        let dispatcher = builder.run(&group, |_: u64, _| async {});
        for key in 0..items {
            dispatcher.push(key, 0).await.expect("it is open");
        }
        while dispatcher.stats().started < items as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        push(&dispatcher, items, items).await;
        (live() - before) as f64 / items as f64
    })
}

async fn push(dispatcher: &Dispatcher<i64, u64>, items: i64, keys: i64) {
    for n in 0..items {
        let pushed = dispatcher.push(n % keys, n as u64).await;
        pushed.expect("it is open");
    }
    assert_eq!(dispatcher.stats().queued, items as usize);
}

/// What has to be kept of an item with a key of its own: the work, its cost and whether it takes a place of the bound,
/// the key, and under each key and each instant a number that leads here: in a table that is full to seven eighths with a
/// byte for each slot, and in a heap. Without room to grow.
fn floor() -> f64 {
    let (work, key, cost_and_bound) = (8.0, 8.0, 5.0);
    let (instant, number) = (8.0, 4.0);
    work + key + cost_and_bound + (number + 1.0) * 8.0 / 7.0 + instant + number
}

fn peers(items: i64) -> f64 {
    runtime().block_on(async {
        let before = live();
        let peers = Peers::new(Rate::new(1, HOUR), 1);
        for n in 0..items {
            let work = move |_| {
                std::hint::black_box(n);
                std::future::ready(Ok(()))
            };
            tokio::spawn(peers.item("key", work));
        }
        // Until all stand where they wait.
        tokio::time::sleep(Duration::from_secs(1)).await;
        (live() - before) as f64 / items as f64
    })
}
