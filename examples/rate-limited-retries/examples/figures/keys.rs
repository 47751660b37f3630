//! Many keys at a slow rate each: the CPU time of a start, beside a task and a sleep for each item.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rate_limited_retries::{Dispatcher, Rate};
use schedgroup::Group;
use tokio::time::{Instant, sleep_until};

use crate::meter::{cpu, runtime};

/// How often each key starts.
const ROUNDS: u64 = 2;

pub(crate) fn run(small: bool) {
    let keys: u64 = if small { 10_000 } else { 100_000 };
    let period = Duration::from_secs(if small { 1 } else { 10 });
    println!("\n{keys} keys at 1 per {period:?} each     CPU a start");
    let tasks = tasks(keys, period);
    println!("a task and a sleep an item{:>18.2} us", tasks);
    for slack in [0, 10] {
        let cost = dispatcher(keys, period, Duration::from_millis(slack));
        println!(
            "dispatcher, slack {slack:>2} ms{:>21.2} us{:>8.2} x",
            cost,
            cost / tasks
        );
    }
}

/// The first start of each key: evenly over one period.
fn first(begin: Instant, key: u64, keys: u64, period: Duration) -> Instant {
    begin + Duration::from_secs(1) + period.mul_f64(key as f64 / keys as f64)
}

fn dispatcher(keys: u64, period: Duration, slack: Duration) -> f64 {
    runtime().block_on(async {
        let (begin, before) = (Instant::now(), cpu());
        let done = Arc::new(AtomicU64::new(0));
        let of_work = Arc::clone(&done);
        let group = Group::new();
        let builder = Dispatcher::builder()
            .per_key(Rate::new(1, period))
            .slack(slack);
        let dispatcher = builder.run(&group, move |n: u64, _| {
            let done = Arc::clone(&of_work);
            async move {
                done.fetch_add(n, Relaxed);
            }
        });
        for key in 0..keys {
            dispatcher.not_before(key, first(begin, key, keys, period));
            for _ in 0..ROUNDS {
                dispatcher.push(key, 1).await.expect("it is open");
            }
        }
        group.wait().await.expect("no work panics");
        per_start(done.load(Relaxed), keys, before)
    })
}

fn tasks(keys: u64, period: Duration) -> f64 {
    runtime().block_on(async {
        let (begin, before) = (Instant::now(), cpu());
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for key in 0..keys {
            let first = first(begin, key, keys, period);
            for round in 0..ROUNDS {
                let done = Arc::clone(&done);
                tasks.spawn(async move {
                    sleep_until(first + period * round as u32).await;
                    done.fetch_add(1, Relaxed);
                });
            }
        }
        tasks.join_all().await;
        per_start(done.load(Relaxed), keys, before)
    })
}

fn per_start(done: u64, keys: u64, before: Duration) -> f64 {
    assert_eq!(done, keys * ROUNDS, "each item starts once");
    (cpu() - before).as_secs_f64() * 1e6 / done as f64
}
