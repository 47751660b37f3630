//! Lateness while jobs occupy a worker thread, and while very many jobs repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use schedgroup::{Group, Next};
use tokio::time::{Instant, sleep, sleep_until};

use crate::late::{APART, Late};
use crate::{Xorshift, two_workers};

const BLOCK: Duration = Duration::from_millis(300);

/// Every half second a job schedules another one, due in 5 ms, and then blocks its thread for 300 ms.
pub(crate) fn schedule_then_block(seconds: u64) -> u64 {
    let (late, own) = two_workers().block_on(async move {
        let (group, own) = (Group::new(), Late::empty());
        for round in 0..seconds * 2 {
            let own = own.clone();
            group.delay_with(
                Duration::from_millis(500 * round + 5),
                |context| async move {
                    let due = Instant::now() + Duration::from_millis(5);
                    context.schedule(due, async move { own.add(due) });
                    std::thread::sleep(BLOCK);
                },
            );
        }
        let late = Late::of_jobs(&group, APART, seconds).await;
        group.wait().await.expect("no job panics");
        (late, own)
    });
    let ([half, most, all], [_, _, own]) = (late.figures(), own.figures());
    println!(
        "schedule-then-block: late by p50 {half} ms, p99 {most} ms, at most {all} ms; what the blocking jobs scheduled at most {own} ms"
    );
    u64::from(all.max(own) > 20.0)
}

/// The same for jobs that block after an await, compared with tokio tasks that sleep. The worker that runs such a job has
/// just polled tokio's timer, and no other worker does until it is back. So no lateness is promised here, and the tasks
/// are as late as the jobs.
pub(crate) fn block_after_await(seconds: u64) -> u64 {
    let (late, tasks) = two_workers().block_on(async move {
        let (group, tasks) = (Group::new(), Late::empty());
        for round in 0..seconds * 2 {
            group.delay(Duration::from_millis(500 * round + 3), async {
                sleep(Duration::from_millis(2)).await;
                std::thread::sleep(BLOCK);
            });
        }
        let sleeps = tokio::spawn({
            let (tasks, start) = (tasks.clone(), Instant::now());
            async move {
                for beat in 1..=seconds * 1000 / APART.as_millis() as u64 {
                    let due = start + APART * beat as u32;
                    sleep_until(due).await;
                    tasks.add(due);
                }
            }
        });
        let late = Late::of_jobs(&group, APART, seconds).await;
        sleeps.await.expect("it sleeps");
        (late, tasks)
    });
    for (what, late) in [("jobs", late), ("tasks that sleep", tasks)] {
        let [half, most, all] = late.figures();
        println!(
            "block-after-await: {what} late by p50 {half} ms, p99 {most} ms, at most {all} ms"
        );
    }
    0
}

/// 200 groups of 1,000 jobs that repeat every second. None may miss a run.
pub(crate) fn repeating(seconds: u64) -> u64 {
    const GROUPS: u64 = 200;
    const JOBS: u64 = 1000;
    let (late, runs, took) = two_workers().block_on(async move {
        let (late, runs) = (Late::empty(), Arc::new(AtomicU64::new(0)));
        let (mut random, mut groups) = (Xorshift(7), Vec::new());
        // All are in before the first is due.
        let start = Instant::now() + Duration::from_secs(1);
        for _ in 0..GROUPS {
            let group = Group::new();
            for _ in 0..JOBS {
                let first = start + Duration::from_micros(random.below(1_000_000));
                let (late, runs) = (late.clone(), Arc::clone(&runs));
                group.repeat(first, move |context| {
                    late.add(context.deadline());
                    runs.fetch_add(1, Relaxed);
                    let next = context.deadline() + Duration::from_secs(1);
                    let ends = context.run() == seconds;
                    async move { if ends { Next::Done } else { Next::At(next) } }
                });
            }
            groups.push(group);
        }
        let begun = Instant::now();
        for group in groups {
            group.wait().await.expect("no job panics");
        }
        (late, runs.load(Relaxed), begun.elapsed())
    });
    let missing = (GROUPS * JOBS * seconds).abs_diff(runs);
    let [half, most, all] = late.figures();
    println!(
        "repeating: {missing} missing of {runs} runs of {GROUPS} groups of {JOBS} in {took:.1?}, late by p50 {half} ms, p99 {most} ms, at most {all} ms"
    );
    missing
}
