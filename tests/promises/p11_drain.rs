//! `drain(grace)` is `wait` with an end: what falls due within the grace runs, contexts are admitted, and when the
//! grace is over what is left is aborted or dropped; and the report adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::{Group, JobHandle, JobState, Next, Report, ScheduleError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{assert_cancelled, panic_message};
use crate::common::{
    Flag, HOUR, Hold, Log, Random, bounded, context_of, counts, jump, ms, multi_thread, settle,
    until, watched,
};

/// What a drain of the group reports, and after how long.
async fn drained(group: &Group, grace: Duration) -> ((usize, usize, usize), Duration) {
    let start = Instant::now();
    let report = group.drain(grace).await;
    (counts(report), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn of_an_idle_group_ends_at_once() {
    assert_eq!(drained(&Group::new(), HOUR).await, ((0, 0, 0), ms(0)));
}

#[tokio::test(start_paused = true)]
async fn neither_it_nor_wait_nor_shutdown_cancels_the_token() {
    for grace in [HOUR, ms(1)] {
        for end in ["wait", "drain", "shutdown"] {
            let group = Group::new();
            let token = group.token();
            group.delay(Duration::ZERO, sleep(ms(10)));
            settle().await;
            match end {
                "wait" => group.wait().await.unwrap(),
                "drain" => drop(group.drain(grace).await),
                _ => drop(group.shutdown(grace).await),
            }
            assert!(!token.is_cancelled(), "{end} {grace:?}");
            drop(group);
            assert!(token.is_cancelled(), "{end} {grace:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn runs_what_falls_due_within_the_grace_and_drops_the_rest_at_its_end() {
    let (group, log, flag) = (Group::new(), Log::new(), Flag::new());
    for at in [0, 10, 99] {
        group.delay(ms(at), log.job(at));
    }
    // At the very end nothing starts any more.
    for at in [100, 101, 3_600_000] {
        group.delay(ms(at), flag.job());
    }
    let drain = group.drain(ms(100));
    sleep(ms(99)).await;
    assert_eq!(flag.drops(), 0, "they could still be moved");
    assert_eq!(counts(drain.await), (3, 0, 3));
    assert_eq!(log.take(), [(0, ms(0)), (10, ms(10)), (99, ms(99))]);
    assert_eq!(flag.drops(), 3);
}

#[tokio::test(start_paused = true)]
async fn ends_with_the_last_job() {
    let group = Group::new();
    group.delay_with(ms(20), |_| sleep(ms(30)));
    assert_eq!(drained(&group, HOUR).await, ((1, 0, 0), ms(50)));
}

#[tokio::test(start_paused = true)]
async fn without_grace_aborts_and_drops_at_once() {
    let group = Group::builder().max_running(1).build();
    for _ in 0..3 {
        group.delay(Duration::ZERO, sleep(ms(30)));
    }
    group.delay(HOUR, async {});
    settle().await;
    assert_eq!(drained(&group, Duration::ZERO).await, ((0, 1, 3), ms(0)));
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_or_waits_for_a_slot_when_the_grace_is_over_is_aborted_or_dropped() {
    for (grace, expected, after) in [
        (100, (3, 0, 0), 90),
        (70, (2, 1, 0), 70),
        (50, (1, 1, 1), 50),
    ] {
        let group = Group::builder().max_running(1).build();
        for _ in 0..3 {
            group.delay_with(Duration::ZERO, |_| sleep(ms(30)));
        }
        let report = drained(&group, ms(grace)).await;
        assert_eq!(report, (expected, ms(after)), "grace of {grace} ms");
    }
}

/// Each link schedules the next one through its context, ten milliseconds later.
fn chain(context: &schedgroup::JobContext, links: Arc<AtomicUsize>) {
    context.delay_with(ms(10), move |context| async move {
        links.fetch_add(1, Ordering::SeqCst);
        chain(&context, links);
    });
}

#[tokio::test(start_paused = true)]
async fn admits_contexts_until_the_grace_is_over_and_counts_what_they_schedule() {
    let (group, hold) = (Group::new(), Hold::new());
    let context = context_of(&group, &hold).await;
    let (links, handle) = (Arc::new(AtomicUsize::new(0)), group.handle());
    let drain = group.drain(ms(95));
    chain(&context, Arc::clone(&links));
    hold.release();
    assert!(handle.is_closed(), "others are rejected at the call");
    assert!(!context.handle().is_closed() && context.is_draining());
    // Nine links and the job that was held; the tenth link was due beyond the grace.
    assert_eq!(counts(drain.await), (10, 0, 1));
    assert_eq!(links.load(Ordering::SeqCst), 9);
    let rejected = context.try_delay(ms(1), async {}).unwrap_err();
    assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
}

/// It cannot be aborted, and finds out that nothing is admitted any more.
#[test]
fn rejects_contexts_once_the_grace_is_over_though_jobs_still_run() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let (group, flag) = (Group::new(), Flag::new());
            let (job, sealed) = (flag.job(), Arc::new(AtomicBool::new(false)));
            let seen = Arc::clone(&sealed);
            let start = Instant::now();
            group.delay_with(Duration::ZERO, move |context| async move {
                while !context.handle().is_closed() && start.elapsed() < HOUR / 60 {
                    std::thread::sleep(ms(1));
                }
                seen.store(context.handle().is_closed(), Ordering::SeqCst);
                context.delay(Duration::ZERO, job);
            });
            until("it runs", || group.stats().running == 1).await;
            assert_eq!(counts(group.drain(ms(50)).await), (1, 0, 0));
            assert!(
                sealed.load(Ordering::SeqCst),
                "it was still admitted after a minute"
            );
            assert_eq!(flag.drops(), 1, "what it scheduled was dropped");
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_moved_into_the_grace_runs() {
    let (group, log) = (Group::new(), Log::new());
    let job = group.delay(HOUR, log.job("moved"));
    let drain = group.drain(ms(100));
    sleep(ms(10)).await;
    assert!(job.reset_after(ms(20)));
    assert_eq!(counts(drain.await), (1, 0, 0));
    assert_eq!(log.take(), [("moved", ms(30))]);
}

#[tokio::test(start_paused = true)]
async fn a_series_goes_on_within_the_grace_and_counts_as_dropped_if_its_next_run_lies_beyond_it() {
    let (group, log) = (Group::new(), Log::new());
    let series = |label: &'static str, pause, last| {
        let log = log.clone();
        group.repeat(Instant::now(), move |context| {
            log.push(label);
            async move {
                match context.run() {
                    run if run == last => Next::Done,
                    _ => Next::After(pause),
                }
            }
        })
    };
    let ends = series("ends", ms(10), 3);
    let goes_on = series("goes on", ms(40), u64::MAX);
    let far = series("far", HOUR, u64::MAX);
    assert_eq!(drained(&group, ms(100)).await, ((1, 0, 2), ms(100)));
    let labels = log.labels();
    let runs = |label| labels.iter().filter(|&&found| found == label).count();
    assert_eq!([runs("ends"), runs("goes on"), runs("far")], [3, 3, 1]);
    assert_eq!(ends.state(), JobState::Finished);
    assert_eq!(goes_on.state(), JobState::Cancelled);
    assert_eq!(far.state(), JobState::Cancelled);
    assert_cancelled(&group.wait().await);
}

/// The run ends when the grace is over. Whether the driver or the run comes first makes no difference.
#[tokio::test(start_paused = true)]
async fn a_series_that_would_go_on_after_the_grace_counts_as_dropped() {
    let group = Group::new();
    let series = group.repeat(Instant::now(), |_| async {
        jump(ms(20));
        Next::After(ms(1))
    });
    assert_eq!(drained(&group, ms(10)).await, ((0, 0, 1), ms(20)));
    assert_eq!(series.state(), JobState::Cancelled);
    assert_cancelled(&group.wait().await);
}

/// The driver has not seen yet that the grace is over.
#[tokio::test(start_paused = true)]
async fn what_is_cancelled_after_the_grace_was_lost_by_its_end() {
    type End = fn(&JobHandle);
    let ends: [(&str, End); 2] = [
        ("cancel", |job| assert!(!job.cancel())),
        ("abort", |job| job.abort()),
    ];
    for (how, end) in ends {
        let group = Group::new();
        let job = group.delay(HOUR, async {});
        let drain = group.drain(ms(10));
        settle().await;
        jump(ms(10));
        end(&job);
        assert_eq!(counts(drain.await), (0, 0, 1), "{how}");
        assert_cancelled(&group.wait().await);
    }
}

/// Ticks end at a drain as they end at `wait`.
#[tokio::test(start_paused = true)]
async fn ticks_end_after_their_present_run() {
    let (group, log) = (Group::new(), Log::new());
    let of_series = log.clone();
    group.every(HOUR).run(move |_| {
        let log = of_series.clone();
        async move {
            sleep(ms(10)).await;
            log.push("ran");
        }
    });
    settle().await;
    assert_eq!(drained(&group, 2 * HOUR).await, ((1, 0, 0), ms(10)));
    assert_eq!(log.len(), 1);
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_beside_it_fails_only_for_what_the_end_of_the_grace_cost() {
    for (job, cancels, lost) in [
        (5, false, false),
        (5, true, false),
        (HOUR.as_millis(), false, true),
    ] {
        for order in ["before", "meanwhile", "after"] {
            let group = Group::new();
            group.delay(ms(1), sleep(ms(job as u64)));
            let other = group.delay(ms(20), async {});
            let early = (order == "before").then(|| group.wait());
            let drain = group.drain(ms(50));
            if cancels {
                assert!(other.cancel(), "that is no error of the group");
            }
            let meanwhile = (order == "meanwhile").then(|| group.wait());
            let report = drain.await;
            let wait = early.or(meanwhile).unwrap_or_else(|| group.wait());
            let outcome = timeout(ms(1), wait).await.expect("it has drained");
            let shape = (job, cancels, order);
            assert_eq!(report.aborted > 0, lost, "{shape:?}: {report:?}");
            assert_eq!(report.dropped > 0, cancels, "{shape:?}: {report:?}");
            match lost {
                true => assert_cancelled(&outcome),
                false => outcome.unwrap_or_else(|error| panic!("{shape:?}: {error}")),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn counts_a_panic_as_finished_and_leaves_it_to_wait() {
    let group = Group::new();
    group.delay(ms(5), async { panic!("boom") });
    assert_eq!(drained(&group, HOUR).await, ((1, 0, 0), ms(5)));
    assert_eq!(panic_message(&group.wait().await), "boom");
}

#[tokio::test(start_paused = true)]
async fn takes_effect_at_the_call_and_stays_in_force_if_its_future_is_dropped() {
    let (group, log) = (Group::new(), Log::new());
    let (pending, running) = (Flag::new(), Flag::new());
    let guard = running.guard();
    group.delay(Duration::ZERO, async move {
        std::future::pending::<()>().await;
        drop(guard);
    });
    group.delay(ms(10), log.job("within"));
    group.delay(ms(60), pending.job());
    let start = Instant::now();
    drop(group.drain(ms(50)));
    assert!(group.handle().is_closed());
    sleep_until(start + ms(49)).await;
    settle().await;
    assert_eq!((log.len(), running.drops(), pending.drops()), (1, 0, 0));
    sleep_until(start + ms(50)).await;
    settle().await;
    assert_eq!((running.drops(), pending.drops()), (1, 1));
    assert_cancelled(&group.wait().await);
}

#[tokio::test(start_paused = true)]
async fn of_several_drains_and_shutdowns_the_earliest_end_of_a_grace_holds() {
    type End = fn(&Group, Duration) -> std::pin::Pin<Box<dyn Future<Output = Report> + '_>>;
    let drain: End = |group, grace| Box::pin(group.drain(grace));
    let shutdown: End = |group, grace| Box::pin(group.shutdown(grace));
    for (first, second) in [(drain, drain), (drain, shutdown), (shutdown, drain)] {
        for (one, other) in [(100, 10), (10, 100), (100, 0)] {
            let group = Group::new();
            group.delay(Duration::ZERO, sleep(HOUR));
            settle().await;
            let start = Instant::now();
            let ends = (first(&group, ms(one)), second(&group, ms(other)));
            let reports = tokio::join!(ends.0, ends.1);
            assert_eq!(counts(reports.0), (0, 1, 0), "{one}, {other}");
            assert_eq!(counts(reports.1), (0, 1, 0), "{one}, {other}");
            assert_eq!(start.elapsed(), ms(one.min(other)), "{one}, {other}");
        }
    }
}

/// A shutdown drops at its call what a drain would have waited for.
#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_it_short() {
    let (group, start) = (Group::new(), Instant::now());
    group.delay(ms(50), async {});
    let drain = group.drain(HOUR);
    sleep(ms(10)).await;
    let shutdown = group.shutdown(HOUR);
    assert_eq!(counts(drain.await), (0, 0, 1));
    assert_eq!(counts(shutdown.await), (0, 0, 1));
    assert_eq!(start.elapsed(), ms(10));
}

#[tokio::test(start_paused = true)]
async fn of_a_cancelled_group_waits_for_what_runs() {
    let group = Group::new();
    group.delay(Duration::ZERO, sleep(ms(30)));
    group.delay(ms(20), async {});
    settle().await;
    let drain = group.drain(ms(100));
    group.cancel();
    assert_eq!(counts(drain.await), (1, 0, 1));
    assert_cancelled(&group.wait().await);
}

/// A random group in a random moment: its jobs, and what they schedule while it drains, are all in the report.
#[tokio::test(start_paused = true)]
async fn reports_every_job_that_the_group_held_and_that_came_later() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let group = Group::builder()
            .max_running(1 + random.below(4) as usize)
            .build();
        let (mut jobs, later) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..random.below(20) {
            let (at, work) = (ms(random.below(60)), ms(1 + random.below(30)));
            let later = Arc::clone(&later);
            jobs.push(match random.below(6) {
                0 => group.repeat(Instant::now() + at, move |_| async move {
                    sleep(work).await;
                    Next::After(work)
                }),
                1 => group.delay(at, async { panic!("boom") }),
                2 => group.delay(at, std::future::pending()),
                3 => group.delay_with(at, move |context| async move {
                    let draining = context.is_draining();
                    if context.try_delay(work, sleep(work)).is_ok() && draining {
                        later.fetch_add(1, Ordering::SeqCst);
                    }
                }),
                _ => group.delay_with(at, move |_| sleep(work)),
            });
        }
        sleep(ms(random.below(60))).await;
        if random.below(2) == 0 {
            settle().await;
        }
        let stats = group.stats();
        let drain = group.drain(ms(random.below(60)));
        for job in &jobs {
            match random.below(8) {
                0 => _ = job.cancel(),
                1 => job.abort(),
                _ => {}
            }
        }
        let report = drain.await;
        let held = stats.pending + stats.running + later.load(Ordering::SeqCst);
        let reported = report.finished + report.aborted + report.dropped;
        assert_eq!(reported, held, "seed {seed}: {report:?} of {stats:?}");
        assert!(jobs.iter().all(|job| job.is_finished()), "seed {seed}");
        let after = group.stats();
        assert_eq!((after.pending, after.running), (0, 0), "seed {seed}");
    }
}
