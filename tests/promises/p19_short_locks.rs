//! Nothing that a user calls once is O(pending) under the lock.
//!
//! That the end of a group, a `wait` and the list of jobs look at one chunk of jobs per hold of the lock is a test
//! beside the group, `sched::group`, which can count that. What it costs another thread is the soak `end`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use schedgroup::Group;
use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::sleep;

use crate::common::{HOUR, Hold, ms};

/// The quickest of many calls: a busy machine makes some of them slow, never all.
fn quickest(mut call: impl FnMut()) -> Duration {
    let calls = (0..100).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed()
    });
    calls.min().unwrap_or_default()
}

/// So many jobs that are due and wait for the only slot, and as many that are not due.
async fn waiting(count: u64) -> Group {
    let (group, hold) = (Group::builder().max_running(1).build(), Hold::new());
    group.delay(Duration::ZERO, hold.job());
    for _ in 0..count {
        group.delay(ms(1), async {});
        group.delay(HOUR, async {});
    }
    sleep(ms(5)).await;
    assert_eq!(group.stats().waiting as u64, count);
    group
}

async fn keyed(count: u64) -> KeyedGroup<u64> {
    let keyed = KeyedGroup::new();
    for key in 0..count {
        keyed.delay(key, HOUR, async {}, OnDuplicate::Replace);
    }
    keyed
}

/// A hundred times the jobs, and the same cost but for what the caches make of it.
#[tokio::test(start_paused = true)]
async fn counts_cost_the_same_however_many_jobs_there_are() {
    let (few, many) = (waiting(500).await, waiting(50_000).await);
    let (few_keys, many_keys) = (keyed(500).await, keyed(50_000).await);

    for (call, of_few, of_many) in [
        (
            "Group::stats",
            quickest(|| _ = black_box(few.stats())),
            quickest(|| _ = black_box(many.stats())),
        ),
        (
            "Debug of a Group",
            quickest(|| drop(black_box(format!("{few:?}")))),
            quickest(|| drop(black_box(format!("{many:?}")))),
        ),
        (
            "KeyedGroup::len",
            quickest(|| _ = black_box(few_keys.len())),
            quickest(|| _ = black_box(many_keys.len())),
        ),
    ] {
        let most = 10 * of_few + Duration::from_micros(10);
        assert!(of_many <= most, "{call}: {of_few:?} and {of_many:?}");
    }
}
