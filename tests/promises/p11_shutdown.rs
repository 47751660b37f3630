//! `shutdown(grace)`: what is not yet due is dropped, what runs or is due may finish until the grace
//! is over, the rest is aborted or dropped; and the report adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schedgroup::{Group, JobError, JobState, Next};
use tokio::time::{Instant, sleep, sleep_until};

use super::{assert_cancelled, panic_message};
use crate::common::{
    Flag, HOUR, Hold, Log, Random, bounded, context_of, counts, ms, multi_thread, settle, until,
    watched,
};

/// What a shutdown of the group reports, and after how long.
async fn shut_down(group: &Group, grace: Duration) -> ((usize, usize, usize), Duration) {
    let start = Instant::now();
    let report = group.shutdown(grace).await;
    (counts(report), start.elapsed())
}

/// One slot; the first of three due jobs of thirty milliseconds each runs, the others wait.
async fn one_running_two_waiting() -> Group {
    let group = Group::builder().max_running(1).build();
    for _ in 0..3 {
        group.delay_with(Duration::ZERO, |_| sleep(ms(30)));
    }
    settle().await;
    let stats = group.stats();
    assert_eq!((stats.running, stats.waiting), (1, 2), "{stats:?}");
    group
}

#[tokio::test(start_paused = true)]
async fn of_an_idle_group_ends_at_once() {
    let group = Group::new();
    assert_eq!(shut_down(&group, HOUR).await, ((0, 0, 0), ms(0)));
}

#[tokio::test(start_paused = true)]
async fn drops_what_is_not_yet_due_and_ends_at_once() {
    let group = Group::new();
    let flag = Flag::new();
    for n in 1..=3 {
        group.delay(ms(n), flag.job());
    }
    assert_eq!(shut_down(&group, HOUR).await, ((0, 0, 3), ms(0)));
    assert_eq!(flag.drops(), 3);
}

/// Due jobs that the driver has not even seen yet.
#[tokio::test(start_paused = true)]
async fn lets_what_is_due_at_the_call_run() {
    let group = Group::new();
    let log = Log::new();
    group.delay(Duration::ZERO, log.job("now"));
    group.schedule(Instant::now() - ms(5), log.job("past"));
    group.delay(Duration::from_nanos(1), log.job("in a moment"));
    assert_eq!(shut_down(&group, HOUR).await, ((2, 0, 1), ms(0)));
    assert_eq!(log.labels(), ["past", "now"]);
}

#[tokio::test(start_paused = true)]
async fn ends_with_the_last_running_job() {
    let group = Group::new();
    group.delay(Duration::ZERO, sleep(ms(30)));
    group.delay(Duration::ZERO, sleep(ms(20)));
    settle().await;
    assert_eq!(shut_down(&group, ms(100)).await, ((2, 0, 0), ms(30)));
}

#[tokio::test(start_paused = true)]
async fn aborts_what_runs_when_the_grace_is_over() {
    let group = Group::new();
    let flag = Flag::new();
    let guard = flag.guard();
    let job = group.delay(Duration::ZERO, async move {
        sleep(HOUR).await;
        drop(guard);
    });
    group.delay(Duration::ZERO, sleep(ms(30)));
    settle().await;
    assert_eq!(shut_down(&group, ms(100)).await, ((1, 1, 0), ms(100)));
    assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
}

#[tokio::test(start_paused = true)]
async fn without_grace_aborts_and_drops_at_once() {
    let group = one_running_two_waiting().await;
    group.delay(HOUR, async {});
    assert_eq!(shut_down(&group, Duration::ZERO).await, ((0, 1, 3), ms(0)));
}

#[tokio::test(start_paused = true)]
async fn lets_due_jobs_take_slots_until_the_grace_is_over() {
    for (grace, expected, after) in [
        (100, (3, 0, 0), 90),
        (70, (2, 1, 0), 70),
        (50, (1, 1, 1), 50),
        (20, (0, 1, 2), 20),
    ] {
        let group = one_running_two_waiting().await;
        let report = shut_down(&group, ms(grace)).await;
        assert_eq!(report, (expected, ms(after)), "grace of {grace} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn counts_a_panic_as_finished() {
    let group = Group::new();
    group.delay(Duration::ZERO, async {
        sleep(ms(5)).await;
        panic!("boom");
    });
    settle().await;
    assert_eq!(shut_down(&group, HOUR).await, ((1, 0, 0), ms(5)));
    // Nothing was left over, so that it is what a wait returns.
    assert_eq!(panic_message(&group.wait().await), "boom");
}

#[tokio::test(start_paused = true)]
async fn counts_only_what_the_group_still_held() {
    let group = Group::new();
    group.delay(Duration::ZERO, async {});
    group.delay(Duration::ZERO, async { panic!("boom") });
    let cancelled = group.delay(HOUR, async {});
    settle().await;
    assert!(cancelled.cancel());
    group.delay(HOUR, async {});
    assert_eq!(shut_down(&group, HOUR).await, ((0, 0, 1), ms(0)));
}

#[tokio::test(start_paused = true)]
async fn counts_what_is_cancelled_and_aborted_one_by_one_meanwhile() {
    let group = Group::builder().max_running(1).build();
    let running = group.delay(Duration::ZERO, sleep(HOUR));
    let waiting = group.delay(Duration::ZERO, async {});
    let last = group.delay(Duration::ZERO, async {});
    settle().await;
    let shutdown = group.shutdown(2 * HOUR);
    sleep(ms(10)).await;
    assert!(waiting.cancel());
    running.abort();
    assert_eq!(counts(shutdown.await), (1, 1, 1));
    assert_eq!(last.state(), JobState::Finished);
}

#[tokio::test(start_paused = true)]
async fn ends_a_series_after_its_run() {
    let group = Group::new();
    let log = Log::new();
    let series = |first, next| {
        let log = log.clone();
        group.repeat(first, move |context| {
            log.push(context.run());
            async move {
                sleep(ms(10)).await;
                next
            }
        })
    };
    let now = Instant::now();
    let wants_more = series(now, Next::After(Duration::ZERO));
    let done = series(now, Next::Done);
    let pending = series(now + ms(1), Next::Done);
    settle().await;
    assert_eq!(shut_down(&group, HOUR).await, ((2, 0, 1), ms(10)));
    assert_eq!(log.labels(), [1, 1]);
    for finished in [done, wants_more] {
        assert_eq!(finished.state(), JobState::Finished);
    }
    assert_eq!(pending.state(), JobState::Cancelled);
}

/// Whatever it wanted next: a run at another time, or at the one that it was moved to.
#[tokio::test(start_paused = true)]
async fn a_series_whose_run_finishes_within_the_grace_is_finished_for_wait_too() {
    for (next, moved) in [
        (Next::After(Duration::ZERO), false),
        (Next::After(HOUR), false),
        (Next::At(Instant::now()), false),
        (Next::Done, true),
    ] {
        let group = Group::new();
        let job = group.repeat(Instant::now(), move |_| async move {
            sleep(ms(10)).await;
            next
        });
        settle().await;
        if moved {
            assert!(job.reset_after(HOUR));
        }
        let (outcome, report) = tokio::join!(group.wait(), group.shutdown(ms(50)));
        assert_eq!(counts(report), (1, 0, 0), "{next:?}, moved: {moved}");
        assert!(outcome.is_ok(), "{next:?}, moved: {moved}: {outcome:?}");
        assert_eq!(job.state(), JobState::Finished, "{next:?}, moved: {moved}");
        assert_eq!((group.stats().finished, group.stats().cancelled), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_series_that_was_cancelled_in_its_run_counts_as_dropped() {
    let group = Group::new();
    let job = group.repeat(Instant::now(), |_| async {
        sleep(ms(10)).await;
        Next::After(HOUR)
    });
    settle().await;
    assert!(job.cancel());
    assert_eq!(shut_down(&group, HOUR).await, ((0, 0, 1), ms(10)));
    assert_eq!(job.state(), JobState::Cancelled);
    assert_cancelled(&group.wait().await);
}

#[tokio::test(start_paused = true)]
async fn rejects_what_running_jobs_schedule() {
    let group = Group::new();
    let (hold, flag) = (Hold::new(), Flag::new());
    let context = context_of(&group, &hold).await;
    let shutdown = group.shutdown(HOUR);
    let rejected = context.delay(Duration::ZERO, flag.job());
    assert_eq!((rejected.state(), flag.drops()), (JobState::Cancelled, 1));
    assert!(context.is_draining());
    hold.release();
    assert_eq!(counts(shutdown.await), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_join_handles() {
    let group = Group::new();
    let now = Instant::now();
    let finishes = group.spawn_at(now, async { sleep(ms(10)).await });
    let aborted = group.spawn_at(now, async { sleep(HOUR).await });
    let dropped = group.spawn_at(now + HOUR, async {});
    settle().await;
    assert_eq!(shut_down(&group, ms(20)).await.0, (1, 1, 1));
    finishes.await.unwrap();
    for value in [aborted, dropped] {
        let result = value.await;
        assert!(matches!(result, Err(JobError::Cancelled)), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn takes_effect_at_the_call_and_goes_on_if_its_future_is_dropped() {
    let group = Group::new();
    let (pending, running) = (Flag::new(), Flag::new());
    group.delay(HOUR, pending.job());
    let guard = running.guard();
    group.delay(Duration::ZERO, async move {
        std::future::pending::<()>().await;
        drop(guard);
    });
    settle().await;
    let start = Instant::now();
    drop(group.shutdown(ms(50)));
    settle().await;
    assert_eq!((pending.drops(), running.drops()), (1, 0));
    sleep_until(start + ms(49)).await;
    settle().await;
    assert_eq!(running.drops(), 0);
    sleep_until(start + ms(50)).await;
    settle().await;
    assert_eq!(running.drops(), 1);
}

#[tokio::test(start_paused = true)]
async fn ends_a_wait_beside_it() {
    let start = Instant::now();
    // Everything finishes within the grace, one job is aborted, one is dropped.
    for (job, pending, left_over) in [(5, false, false), (500, false, true), (5, true, true)] {
        let group = Group::new();
        group.delay(Duration::ZERO, sleep(ms(job)));
        if pending {
            group.delay(HOUR, async {});
        }
        settle().await;
        let shape = (job, pending);
        let shutdown = async {
            sleep(ms(1)).await;
            group.shutdown(ms(50)).await
        };
        let (outcome, report) = tokio::join!(group.wait(), shutdown);
        assert_eq!(report.aborted + report.dropped > 0, left_over, "{shape:?}");
        if left_over {
            assert_cancelled(&outcome);
        } else {
            outcome.unwrap();
        }
    }
    assert!(start.elapsed() < ms(200), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn called_again_keeps_the_earliest_end_of_grace() {
    for (first, second, ends) in [(100, 10, 10), (10, 100, 10), (100, 0, 0)] {
        let group = Group::new();
        group.delay(Duration::ZERO, sleep(HOUR));
        settle().await;
        let start = Instant::now();
        let one = group.shutdown(ms(first));
        let other = group.shutdown(ms(second));
        let reports = tokio::join!(one, other);
        assert_eq!(counts(reports.0), (0, 1, 0), "{first}, {second}");
        assert_eq!(counts(reports.1), (0, 1, 0), "{first}, {second}");
        assert_eq!(start.elapsed(), ms(ends), "{first}, {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_cancelled_group_still_waits_for_what_runs() {
    let group = one_running_two_waiting().await;
    group.cancel();
    assert_eq!(shut_down(&group, ms(100)).await, ((1, 0, 2), ms(30)));
    let group = one_running_two_waiting().await;
    let shutdown = group.shutdown(ms(100));
    group.cancel();
    assert_eq!(counts(shutdown.await), (1, 0, 2));
}

/// A random group in a random moment: its jobs are all in the report, each once.
#[tokio::test(start_paused = true)]
async fn reports_every_job_that_the_group_held() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let group = Group::builder()
            .max_running(1 + random.below(4) as usize)
            .build();
        let mut jobs = Vec::new();
        for _ in 0..random.below(20) {
            // A series without work or a pause would keep the clock from moving.
            let (at, work) = (ms(random.below(60)), ms(1 + random.below(30)));
            jobs.push(match random.below(6) {
                0 => group.repeat(Instant::now() + at, move |_| async move {
                    sleep(work).await;
                    Next::After(work)
                }),
                1 => group.delay(at, async { panic!("boom") }),
                2 => group.spawn_after(at, sleep(work)).job().clone(),
                3 => group.delay(at, std::future::pending()),
                _ => group.delay_with(at, move |_| sleep(work)),
            });
        }
        sleep(ms(random.below(60))).await;
        if random.below(2) == 0 {
            settle().await;
        }
        let stats = group.stats();
        let shutdown = group.shutdown(ms(random.below(40)));
        for job in &jobs {
            match random.below(8) {
                0 => _ = job.cancel(),
                1 => job.abort(),
                _ => {}
            }
        }
        let report = shutdown.await;
        let held = stats.pending + stats.running;
        let reported = report.finished + report.aborted + report.dropped;
        assert_eq!(reported, held, "seed {seed}: {report:?} of {stats:?}");
        assert!(jobs.iter().all(|job| job.is_finished()), "seed {seed}");
        let after = group.stats();
        assert_eq!((after.pending, after.running), (0, 0), "seed {seed}");
    }
}

#[test]
fn no_job_code_runs_after_it_has_returned() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            let [blocking, ended] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
            let in_job = [&blocking, &ended].map(Arc::clone);
            let (call, called) = std::sync::mpsc::channel::<()>();
            let job = group.delay(Duration::ZERO, async move {
                let [blocking, ended] = in_job;
                blocking.store(true, Ordering::SeqCst);
                // Returns when the other end is dropped.
                let _ = called.recv();
                std::thread::sleep(ms(100));
                ended.store(true, Ordering::SeqCst);
            });
            until("it blocks", || blocking.load(Ordering::SeqCst)).await;
            let shutdown = group.shutdown(Duration::ZERO);
            drop(call);
            let report = shutdown.await;
            assert!(ended.load(Ordering::SeqCst), "it was not waited for");
            // It could not be aborted, and ran to its end.
            assert_eq!(counts(report), (1, 0, 0));
            assert_eq!(job.state(), JobState::Finished);
        }));
    });
}

#[test]
fn a_job_that_blocks_and_then_awaits_is_aborted_there() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            let blocking = Arc::new(AtomicBool::new(false));
            let beyond = Arc::new(AtomicBool::new(false));
            let (in_job, end) = (Arc::clone(&blocking), Arc::clone(&beyond));
            group.delay(Duration::ZERO, async move {
                in_job.store(true, Ordering::SeqCst);
                std::thread::sleep(ms(50));
                std::future::pending::<()>().await;
                end.store(true, Ordering::SeqCst);
            });
            until("it blocks", || blocking.load(Ordering::SeqCst)).await;
            let report = group.shutdown(Duration::ZERO).await;
            assert_eq!(counts(report), (0, 1, 0));
            assert!(!beyond.load(Ordering::SeqCst));
        }));
    });
}
