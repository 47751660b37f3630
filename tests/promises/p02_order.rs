//! Jobs are released by deadline, then by submission; with one thread or one slot they also start
//! so.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schedgroup::{Group, JobHandle, Next};
use tokio::time::{Instant, sleep};

use crate::common::{
    Hold, Log, Random, bounded, context_of, methods, ms, on_both, runtimes, settle, until, us,
};

#[tokio::test(start_paused = true)]
async fn deadlines_within_one_millisecond_fire_in_their_order() {
    let group = Group::new();
    let log = Log::new();
    for micros in [999, 1, 500, 2, 998] {
        group.delay(us(micros), log.job(micros));
    }
    group.wait().await.unwrap();
    assert_eq!(log.take(), [1, 2, 500, 998, 999].map(|n| (n, ms(1))));
}

#[tokio::test(start_paused = true)]
async fn the_order_holds_after_a_jump_of_the_clock() {
    let group = Group::new();
    let log = Log::new();
    for (seconds, label) in [(3, "c"), (1, "a"), (2, "b"), (3, "d"), (1, "aa")] {
        group.delay(Duration::from_secs(seconds), log.job(label));
    }
    tokio::time::advance(Duration::from_secs(10)).await;
    group.wait().await.unwrap();
    let jump = Duration::from_secs(10);
    assert_eq!(log.take(), ["a", "aa", "b", "c", "d"].map(|n| (n, jump)));
}

/// Cancelled jobs leave dead entries, and the heap is replaced by one without them while the jobs fall due.
#[tokio::test(start_paused = true)]
async fn the_order_holds_when_a_sweep_ends_in_the_middle_of_a_crowd() {
    for turns in (0..50).step_by(5) {
        let (group, log, mut random) = (Group::new(), Log::new(), Random(turns));
        let doomed: Vec<_> = (0..12_000).map(|_| group.delay(ms(50), async {})).collect();
        let mut expected: Vec<_> = (0..10_000_u32)
            .map(|job| (ms(10 + random.below(8)), job))
            .collect();
        for &(delay, job) in &expected {
            group.delay(delay, log.job(job));
        }
        settle().await;
        assert!(doomed.iter().all(JobHandle::cancel));
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(ms(20)).await;
        bounded(group.wait()).await.unwrap();
        expected.sort_unstable();
        let expected: Vec<_> = expected.into_iter().map(|(_, job)| job).collect();
        let ran: Vec<_> = log.take().into_iter().map(|(job, _)| job).collect();
        assert!(ran == expected, "{turns} turns after the sweep had begun");
    }
}

#[tokio::test(start_paused = true)]
async fn random_deadlines_fire_as_a_stable_sort_would_have_it() {
    let group = Group::new();
    let log = Log::new();
    let mut random = Random(3);
    let start = Instant::now();
    let mut jobs = (0..5_000)
        .map(|n| (random.below(3_000), n))
        .collect::<Vec<_>>();
    for &(micros, n) in &jobs {
        group.schedule(start + us(micros), log.job(n));
    }
    group.wait().await.unwrap();
    jobs.sort_unstable();
    let sorted = jobs
        .into_iter()
        .map(|(micros, n)| (n, ms(micros.div_ceil(1_000))))
        .collect::<Vec<_>>();
    assert_eq!(log.take(), sorted);
}

#[tokio::test(start_paused = true)]
async fn equal_deadlines_keep_the_order_of_submission_across_methods() {
    let group = Group::new();
    let hold = Hold::new();
    let (handle, context) = (group.handle(), context_of(&group, &hold).await);
    let log = Log::new();
    let calls = Cell::new(0);
    let job = || {
        calls.set(calls.get() + 1);
        log.job(calls.get())
    };
    let at = Instant::now() + ms(5);
    let of_group = methods!(group, at, job);
    let of_handle = methods!(handle, at, job);
    let of_context = methods!(context, at, job);
    for ((one, two), three) in of_group.into_iter().zip(of_handle).zip(of_context) {
        for (_, call) in [one, two, three] {
            call();
        }
    }
    hold.release();
    group.wait().await.unwrap();
    assert_eq!(log.labels(), (1..=21).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_moved_job_fires_in_the_place_of_its_new_deadline() {
    let group = Group::new();
    let log = Log::new();
    let jobs = [10, 20, 30, 40].map(|n| group.delay(ms(n), log.job(n)));
    assert!(jobs[0].reset_after(ms(25)));
    assert!(jobs[3].reset_after(ms(15)));
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [(40, ms(15)), (20, ms(20)), (10, ms(25)), (30, ms(30))]
    );
}

/// Lazily moved jobs come to the surface with the others: their new deadlines count.
#[tokio::test(start_paused = true)]
async fn moved_jobs_keep_the_order_after_a_jump_of_the_clock() {
    let group = Group::new();
    let log = Log::new();
    let jobs = [1, 2, 3, 4, 5, 6].map(|n| group.delay(ms(n), log.job(n)));
    crate::common::settle().await;
    assert!(jobs[0].reset_after(us(5_500)));
    assert!(jobs[1].reset_after(ms(60)));
    assert!(jobs[2].reset_after(us(3_500)));
    tokio::time::advance(ms(50)).await;
    group.wait().await.unwrap();
    assert_eq!(log.labels(), [3, 4, 5, 1, 6, 2]);
}

#[test]
fn with_one_slot_jobs_start_in_order_on_any_runtime() {
    on_both(|| async {
        let group = Group::builder().max_running(1).build();
        let (log, hold) = (Log::new(), Hold::new());
        group.delay(Duration::ZERO, hold.job());
        hold.started().await;
        let mut random = Random(4);
        let start = Instant::now();
        let mut jobs = (0..200)
            .map(|n| (random.below(2_000), n))
            .collect::<Vec<_>>();
        for &(micros, n) in &jobs {
            group.schedule(start + us(2_000 + micros), log.job(n));
        }
        until("all are due", || group.stats().waiting == 200).await;
        hold.release();
        group.wait().await.unwrap();
        jobs.sort_unstable();
        let sorted = jobs.into_iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(log.labels(), sorted);
    });
}

#[test]
fn with_one_thread_jobs_start_in_order() {
    let [(_, runtime), _] = runtimes();
    runtime.block_on(bounded(async {
        for round in 0..200 {
            let group = Group::new();
            let log = Log::new();
            let start = Instant::now() + us(100);
            for n in 0..5 {
                group.schedule(start + us(n), log.job(n));
            }
            group.wait().await.unwrap();
            assert_eq!(log.labels(), [0, 1, 2, 3, 4], "round {round}");
        }
    }));
}

/// Jobs that are due and wait for a slot are not a queue of arrivals.
#[tokio::test(start_paused = true)]
async fn a_job_that_comes_later_with_an_earlier_deadline_overtakes_those_that_wait() {
    let group = Group::builder().max_running(1).build();
    let (log, hold) = (Log::new(), Hold::new());
    let start = Instant::now();
    group.delay(Duration::ZERO, hold.job());
    for n in 10..60 {
        group.delay(ms(n), log.job(n));
    }
    let moved = group.delay(crate::common::HOUR, log.job(5));
    sleep(ms(100)).await;
    assert_eq!(group.stats().waiting, 50);
    group.schedule(start + ms(20), log.job(120));
    group.schedule(start + ms(1), log.job(1));
    assert!(moved.reset_at(start + ms(5)));
    crate::common::settle().await;
    assert_eq!(group.stats().next_deadline, Some(start + ms(1)));
    hold.release();
    group.wait().await.unwrap();
    let mut expected = vec![1, 5];
    expected.extend(10..=20);
    expected.push(120);
    expected.extend(21..60);
    assert_eq!(log.labels(), expected);
}

/// Each move of a due job leaves a dead entry behind, and a job has 255 numbers for its entries.
#[tokio::test(start_paused = true)]
async fn a_due_job_that_was_moved_hundreds_of_times_keeps_to_its_deadline() {
    let group = Group::builder().max_running(1).build();
    let (log, hold) = (Log::new(), Hold::new());
    group.delay(Duration::ZERO, hold.job());
    let moved = group.delay(ms(1), log.job("moved"));
    group.delay(ms(2), log.job("before it"));
    sleep(ms(3)).await;
    for moves in 1..=255 {
        sleep(ms(1)).await;
        assert!(moved.reset_after(Duration::ZERO));
        settle().await;
        assert_eq!(group.stats().waiting, 2, "{moves}");
    }
    hold.release();
    group.wait().await.unwrap();
    assert_eq!(log.labels(), ["before it", "moved"]);
}

/// It goes on after an await, and its next run was due before others that wait. In its last two polls nobody else had a
/// turn.
#[tokio::test(start_paused = true)]
async fn the_next_run_of_a_series_overtakes_those_that_wait_if_it_was_due_before() {
    let group = Group::builder().max_running(1).build();
    let (log, start) = (Log::new(), Instant::now());
    let run = log.clone();
    group.repeat(start, move |context| {
        let run = run.clone();
        async move {
            match context.run() {
                1 => {
                    sleep(ms(50)).await;
                    Next::At(start + ms(15))
                }
                _ => {
                    run.job(15).await;
                    Next::Done
                }
            }
        }
    });
    for n in [10, 20, 30] {
        group.delay(ms(n), log.job(n));
    }
    sleep(ms(40)).await;
    group.schedule(start + ms(12), log.job(12));
    group.wait().await.unwrap();
    assert_eq!(log.labels(), [10, 12, 15, 20, 30]);
}

/// A further run is submitted when the run before it ends. So it comes after the jobs of its deadline that were there
/// by then, whether the driver has released them or not.
#[tokio::test(start_paused = true)]
async fn the_next_run_of_a_series_comes_after_the_jobs_of_its_deadline_that_were_there_before() {
    for next in [Next::After(Duration::ZERO), Next::At(Instant::now())] {
        for others in [1, 10, 2_000] {
            let group = Group::builder().max_running(1).build();
            let log = Log::new();
            for series in ["first", "second"] {
                let runs = log.clone();
                group.repeat(Instant::now(), move |context| {
                    runs.push(series.to_owned());
                    if context.run() == 1 {
                        context.delay(Duration::ZERO, runs.job(format!("of {series}")));
                    }
                    let next = if context.run() == 3 { Next::Done } else { next };
                    async move { next }
                });
            }
            for n in 0..others {
                group.delay(Duration::ZERO, log.job(n.to_string()));
            }
            group.wait().await.unwrap();
            let mut expected = vec!["first".to_owned(), "second".to_owned()];
            expected.extend((0..others).map(|n| n.to_string()));
            let rest = [
                "of first",
                "first",
                "of second",
                "second",
                "first",
                "second",
            ];
            expected.extend(rest.map(str::to_owned));
            assert_eq!(log.labels(), expected, "{next:?}, {others} others");
        }
    }
}

/// Due jobs that a worker has claimed already stay where they are in the order.
#[tokio::test(start_paused = true)]
async fn to_ask_for_the_state_of_a_due_job_does_not_change_when_it_starts() {
    let group = Group::new();
    let (log, asked) = (Log::new(), Arc::new(OnceLock::new()));
    let due = Instant::now() + ms(1);
    let (first, later) = (log.job(0), Arc::clone(&asked));
    group.schedule(due, async move {
        first.await;
        let jobs: &Vec<JobHandle> = later.get().unwrap();
        assert!(jobs.iter().all(JobHandle::is_pending));
    });
    let jobs: Vec<_> = (1..10).map(|n| group.schedule(due, log.job(n))).collect();
    asked.set(jobs.into_iter().step_by(2).collect()).unwrap();
    group.wait().await.unwrap();
    assert_eq!(log.labels(), (0..10).collect::<Vec<_>>());
}
