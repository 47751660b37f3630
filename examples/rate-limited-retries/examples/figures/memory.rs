//! What a queued item costs, in exact bytes of a counting allocator: 8 bytes of work.

use rate_limited_retries::{Dispatcher, Rate};
use schedgroup::Group;

use crate::counting::live;
use crate::meter::runtime;
use crate::peers::Peers;

const ITEMS: i64 = 100_000;

pub(crate) fn run(small: bool) {
    let items = if small { ITEMS / 10 } else { ITEMS };
    println!("\n{items} queued items of 8 bytes            keys   bytes an item");
    for keys in [1, 500, items] {
        println!("dispatcher{:>31}{:>16.1}", keys, dispatcher(items, keys));
    }
    println!("governor, backon, semaphore{:>14}{:>16.1}", 1, peers(items));
}

fn dispatcher(items: i64, keys: i64) -> f64 {
    runtime().block_on(async {
        let group = Group::new();
        let before = live();
        let builder =
            Dispatcher::builder().per_key(Rate::new(1, std::time::Duration::from_secs(3_600)));
        let dispatcher = builder.run(&group, |_: u64, _| async {});
        let later = tokio::time::Instant::now() + std::time::Duration::from_secs(3_000);
        for key in 0..keys {
            dispatcher.not_before(key, later);
        }
        for n in 0..items {
            dispatcher
                .push(n % keys, n as u64)
                .await
                .expect("it is open");
        }
        assert_eq!(dispatcher.stats().queued, items as usize);
        (live() - before) as f64 / items as f64
    })
}

fn peers(items: i64) -> f64 {
    runtime().block_on(async {
        let before = live();
        let peers = Peers::new(Rate::new(1, std::time::Duration::from_secs(3_600)), 1);
        for n in 0..items {
            let work = move |_| {
                std::hint::black_box(n);
                std::future::ready(Ok(()))
            };
            tokio::spawn(peers.item("key", work));
        }
        // Until all stand where they wait.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        (live() - before) as f64 / items as f64
    })
}
