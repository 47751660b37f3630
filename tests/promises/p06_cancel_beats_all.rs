//! A cancel beats everything: no job starts after it, pending ones are dropped, `wait` returns the
//! first reason at once; running jobs see it through their token.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use schedgroup::{Group, JobState, Next, ScheduleError, WaitError};
use tokio::time::{Instant, advance, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{assert_cancelled, assert_deadline_exceeded, panic_message};
use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, Woken, beside, block_until_told, bounded, counts, jump, ms,
    multi_thread, on_both, poll_once, settle, watched,
};

/// The three ways to end a group, each at ten milliseconds.
const WAYS: [&str; 3] = ["cancel", "token", "deadline"];

fn group_for(way: &str, token: &CancellationToken) -> Group {
    let builder = Group::builder().token(token.clone());
    match way {
        "deadline" => builder.timeout(ms(10)).build(),
        _ => builder.build(),
    }
}

async fn end_at_ten(way: &str, group: &Group, token: &CancellationToken) {
    sleep(ms(10)).await;
    match way {
        "cancel" => group.cancel(),
        "token" => token.cancel(),
        _ => {}
    }
}

#[track_caller]
fn assert_reason(way: &str, outcome: &Result<(), WaitError>) {
    match way {
        "deadline" => assert_deadline_exceeded(outcome),
        _ => assert_cancelled(outcome),
    }
}

#[tokio::test(start_paused = true)]
async fn wait_returns_the_reason_at_once_while_jobs_are_pending_and_running() {
    for way in WAYS {
        let token = CancellationToken::new();
        let group = group_for(way, &token);
        let start = Instant::now();
        let log = Log::new();
        let (running, pending) = (log.clone(), Flag::new());
        group.delay(Duration::ZERO, async move {
            sleep(ms(50)).await;
            running.push("not interrupted");
        });
        for _ in 0..100 {
            group.delay(HOUR, pending.job());
        }
        let waiter = async { (group.wait().await, start.elapsed()) };
        let (outcome, elapsed) = beside(waiter, end_at_ten(way, &group, &token)).await;
        assert_reason(way, &outcome);
        assert_eq!(elapsed, ms(10), "{way}");
        settle().await;
        assert_eq!(pending.drops(), 100, "{way}: by the driver's next turn");
        sleep(ms(100)).await;
        assert_eq!(log.take(), [("not interrupted", ms(50))], "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn wait_returns_the_reason_at_once_while_only_running_jobs_are_left() {
    for way in WAYS {
        let token = CancellationToken::new();
        let group = group_for(way, &token);
        let start = Instant::now();
        let job = group.delay(Duration::ZERO, sleep(ms(400)));
        let waiter = async { (group.wait().await, start.elapsed()) };
        let (outcome, elapsed) = beside(waiter, end_at_ten(way, &group, &token)).await;
        assert_reason(way, &outcome);
        assert_eq!(elapsed, ms(10), "{way}");
        sleep_until(start + ms(401)).await;
        assert_eq!(job.state(), JobState::Finished, "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_job_sees_the_end_through_its_token() {
    for way in WAYS {
        let token = CancellationToken::new();
        let group = group_for(way, &token);
        let log = Log::new();
        let seen = log.clone();
        group.delay_with(Duration::ZERO, |context| async move {
            context.token().cancelled().await;
            seen.push(());
        });
        end_at_ten(way, &group, &token).await;
        settle().await;
        assert_eq!(log.take(), [((), ms(10))], "{way}");
        assert!(group.token().is_cancelled(), "{way}");
        assert_eq!(token.is_cancelled(), way == "token", "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_stays() {
    let cancelled = Group::builder().timeout(ms(10)).build();
    sleep(ms(9)).await;
    cancelled.cancel();
    let passed = Group::builder().timeout(ms(10)).build();
    sleep(ms(11)).await;
    passed.cancel();
    passed.token().cancel();
    assert_cancelled(&cancelled.wait().await);
    assert_deadline_exceeded(&passed.wait().await);
}

/// The driver need not have had a turn in between.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_unseen_is_the_first_reason() {
    let group = Group::builder().timeout(ms(10)).build();
    tokio::time::advance(ms(10)).await;
    group.cancel();
    assert_deadline_exceeded(&group.wait().await);
}

#[tokio::test(start_paused = true)]
async fn of_deadline_and_timeout_the_earlier_one_holds() {
    for (deadline, timeout) in [(10, 20), (20, 10)] {
        let start = Instant::now();
        let group = Group::builder()
            .deadline(start + ms(deadline))
            .timeout(ms(timeout))
            .build();
        group.delay(HOUR, async {});
        assert_deadline_exceeded(&group.wait().await);
        assert_eq!(start.elapsed(), ms(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_due_at_the_very_deadline_of_the_group_does_not_start() {
    let group = Group::builder().timeout(ms(10)).build();
    let log = Log::new();
    group.delay(ms(9), log.job("before"));
    group.delay(ms(10), log.job("at"));
    sleep(ms(20)).await;
    assert_eq!(log.take(), [("before", ms(9))]);
    assert_deadline_exceeded(&group.wait().await);
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_deadline_has_passed_at_its_making_runs_nothing() {
    let builders = [
        Group::builder().timeout(Duration::ZERO),
        Group::builder().deadline(Instant::now() - ms(1)),
    ];
    for builder in builders {
        let group = builder.build();
        let log = Log::new();
        let job = group.delay(Duration::ZERO, log.job(()));
        assert_deadline_exceeded(&group.wait().await);
        settle().await;
        assert_eq!((log.len(), job.state()), (0, JobState::Cancelled));
    }
}

/// Due, accepted, and the cancel comes without the driver having had a turn.
#[tokio::test(start_paused = true)]
async fn a_due_job_does_not_start_after_the_cancel() {
    for way in ["cancel", "token", "own token"] {
        let token = CancellationToken::new();
        let group = Group::with_token(token.clone());
        let (log, flag) = (Log::new(), Flag::new());
        let (ran, guard) = (log.clone(), flag.guard());
        group.delay(Duration::ZERO, async move {
            ran.push(());
            drop(guard);
        });
        match way {
            "cancel" => group.cancel(),
            "token" => token.cancel(),
            _ => group.token().cancel(),
        }
        settle().await;
        assert_eq!((log.len(), flag.drops()), (0, 1), "{way}");
    }
}

/// The driver drops what is pending in its next turns. No answer tells whether it has done so.
#[tokio::test(start_paused = true)]
async fn no_cancel_prevents_what_the_end_of_the_group_has_prevented() {
    for way in [
        "cancel",
        "token",
        "own token",
        "deadline",
        "drop",
        "shutdown",
    ] {
        for (the_driver_has_seen_it, due) in [(false, HOUR), (true, HOUR), (false, ms(10))] {
            let token = CancellationToken::new();
            let group = group_for(way, &token);
            let (first, far) = (Flag::new(), Flag::new());
            let pending = group.delay(due, first.job());
            let later = group.delay(HOUR, far.job());
            let series = group.repeat(Instant::now(), |_| async {
                sleep(HOUR).await;
                Next::After(HOUR)
            });
            settle().await;
            let mut group = Some(group);
            match way {
                "cancel" => group.as_ref().unwrap().cancel(),
                "token" => token.cancel(),
                "own token" => group.as_ref().unwrap().token().cancel(),
                "deadline" => advance(ms(10)).await,
                "drop" => drop(group.take()),
                _ => drop(group.as_ref().unwrap().shutdown(2 * HOUR)),
            }
            if the_driver_has_seen_it {
                settle().await;
                assert_eq!((first.drops(), far.drops()), (1, 1), "{way}");
            }
            for (job, flag) in [(&pending, &first), (&later, &far)] {
                assert!(!job.cancel() && !job.cancel(), "{way}: {job:?}");
                assert_eq!(
                    (job.state(), flag.drops()),
                    (JobState::Cancelled, 1),
                    "{way}"
                );
            }
            assert!(!series.cancel(), "{way}: it does not run again");
            assert!(!series.reset_after(ms(1)), "{way}");
            if way == "shutdown" {
                sleep(HOUR + ms(1)).await;
                assert_eq!(series.state(), JobState::Finished, "by itself");
            }
        }
    }
}

/// Nor do the other methods: nothing is moved, and nothing is accepted.
#[tokio::test(start_paused = true)]
async fn nothing_is_moved_or_accepted_once_the_group_has_ended() {
    for way in [
        "cancel",
        "token",
        "own token",
        "deadline",
        "drop",
        "drain",
        "shutdown",
        "drain without grace",
        "shutdown without grace",
    ] {
        for the_driver_has_seen_it in [false, true] {
            let token = CancellationToken::new();
            let builder = Group::builder().max_running(1).token(token.clone());
            let builder = match way {
                "deadline" => builder.timeout(ms(10)),
                _ => builder,
            };
            let group = builder.build();
            let (contexts, mut context) = tokio::sync::mpsc::unbounded_channel();
            let series = group.repeat(Instant::now(), move |context| {
                contexts.send(context).unwrap();
                async {
                    sleep(HOUR).await;
                    Next::After(HOUR)
                }
            });
            let context = context.recv().await.unwrap();
            let waits = group.delay(ms(1), async { unreachable!("it has no slot") });
            let far = group.delay(HOUR, async { unreachable!("the group ends") });
            sleep(ms(1)).await;
            let handle = group.handle();
            let mut group = Some(group);
            let owner = group.as_ref().unwrap();
            match way {
                "cancel" => owner.cancel(),
                "token" => token.cancel(),
                "own token" => owner.token().cancel(),
                "deadline" => {}
                "drop" => drop(group.take()),
                "drain" => drop(owner.drain(ms(10))),
                "shutdown" => drop(owner.shutdown(ms(10))),
                "drain without grace" => drop(owner.drain(Duration::ZERO)),
                _ => drop(owner.shutdown(Duration::ZERO)),
            }
            if matches!(way, "deadline" | "drain" | "shutdown") {
                jump(ms(10));
            }
            if the_driver_has_seen_it {
                settle().await;
            }
            let shape = (way, the_driver_has_seen_it);
            for job in [&series, &waits, &far] {
                let moved = (job.reset_at(Instant::now()), job.reset_after(ms(1)));
                assert_eq!(moved, (false, false), "{shape:?}: {job:?}");
            }
            for handle in [&handle, &context.handle()] {
                let rejected = handle.try_delay(ms(1), async {}).unwrap_err();
                let closed = way.contains("drain") || way.contains("shutdown");
                match rejected {
                    ScheduleError::Closed(_) => assert!(closed, "{shape:?}"),
                    ScheduleError::Cancelled(_) => assert!(!closed, "{shape:?}"),
                    other => panic!("{shape:?}: {other:?}"),
                }
                assert!(handle.is_closed(), "{shape:?}");
                assert!(handle.delay(ms(1), async {}).is_finished(), "{shape:?}");
                let ticks = handle.every(ms(1)).run(|_| async {});
                assert!(ticks.is_finished(), "{shape:?}");
            }
            for job in [&series, &waits, &far] {
                assert!(!job.cancel(), "{shape:?}: {job:?}");
            }
        }
    }
}

/// They were due together, and claimed together if there is no limit. The clock goes past the end while the first runs.
#[tokio::test(start_paused = true)]
async fn no_job_starts_once_the_clock_has_ended_the_group() {
    for way in ["deadline", "drain", "shutdown"] {
        for limit in [1, 2, usize::MAX] {
            let builder = Group::builder().max_running(limit);
            let group = match way {
                "deadline" => builder.timeout(ms(10)).build(),
                _ => builder.build(),
            };
            let (first, never) = (Log::new(), Flag::new());
            let runs = first.clone();
            group.delay(ms(1), async move {
                jump(ms(10));
                runs.push("ran");
            });
            for _ in 0..3 {
                let guard = never.guard();
                group.delay(ms(1), async move {
                    let _guard = guard;
                    unreachable!("it starts after the end")
                });
            }
            let report = match way {
                "deadline" => {
                    assert_deadline_exceeded(&group.wait().await);
                    group.shutdown(HOUR).await
                }
                "drain" => group.drain(ms(10)).await,
                _ => {
                    jump(ms(1));
                    group.shutdown(ms(10)).await
                }
            };
            assert_eq!((first.len(), never.drops()), (1, 3), "{way}, {limit}");
            let stats = group.stats();
            assert_eq!((stats.finished, stats.cancelled), (1, 3), "{way}, {limit}");
            if way != "deadline" {
                assert_eq!((report.finished, report.dropped), (1, 3), "{way}, {limit}");
            }
        }
    }
}

/// A shutdown lets it take a slot within the grace.
#[tokio::test(start_paused = true)]
async fn a_cancel_prevents_what_is_due_when_the_group_is_shut_down() {
    let group = Group::builder().max_running(1).build();
    group.delay(Duration::ZERO, sleep(HOUR));
    let flag = Flag::new();
    let waits = group.delay(ms(10), flag.job());
    sleep(ms(10)).await;
    let shutdown = group.shutdown(2 * HOUR);
    assert_eq!((waits.cancel(), flag.drops()), (true, 1));
    let report = shutdown.await;
    assert_eq!((report.finished, report.dropped), (1, 1));
}

/// Released together, and the first of them cancels.
#[test]
fn a_job_that_cancels_keeps_all_later_ones_from_starting() {
    on_both(|| async {
        for through_token in [false, true] {
            let group = std::sync::Arc::new(Group::builder().max_running(1).build());
            let weak = std::sync::Arc::downgrade(&group);
            let (log, at) = (Log::new(), Instant::now() + ms(2));
            let canceller = log.clone();
            group.schedule_with(at, move |context| async move {
                canceller.push("canceller");
                if through_token {
                    context.token().cancel();
                } else {
                    weak.upgrade().unwrap().cancel();
                }
            });
            let later = group.schedule(at, log.job("later"));
            assert_cancelled(&group.wait().await);
            crate::common::until("dropped", || later.is_finished()).await;
            assert_eq!(log.labels(), ["canceller"]);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_a_slot_does_not_get_it_after_the_cancel() {
    let group = Group::builder().max_running(1).build();
    let (log, hold) = (Log::new(), Hold::new());
    group.delay(Duration::ZERO, hold.job());
    let waiting = group.delay(Duration::ZERO, log.job(()));
    hold.started().await;
    settle().await;
    assert_eq!(group.stats().waiting, 1);
    group.token().cancel();
    // Without a turn of the driver in between.
    hold.release();
    settle().await;
    assert_eq!((log.len(), waiting.state()), (0, JobState::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_repeating_job_does_not_run_again_after_the_cancel() {
    let group = Group::new();
    let log = Log::new();
    let runs = log.clone();
    let job = group.repeat(Instant::now(), move |context| {
        runs.push(context.run());
        async {
            sleep(ms(10)).await;
            schedgroup::Next::After(Duration::ZERO)
        }
    });
    sleep(ms(15)).await;
    group.cancel();
    sleep(ms(50)).await;
    assert_eq!(log.take(), [(1, ms(0)), (2, ms(10))]);
    assert_eq!(job.state(), JobState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_after_a_panic_is_what_wait_returns() {
    let group = Group::new();
    group.delay(Duration::ZERO, async { panic!("boom") });
    settle().await;
    assert_eq!(group.stats().panicked, 1);
    group.cancel();
    assert_cancelled(&group.wait().await);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_between_the_call_and_the_poll_of_wait_is_seen() {
    let group = Group::new();
    group.delay(HOUR, async {});
    let mut wait = group.wait();
    group.cancel();
    let polled = poll_once(&mut wait);
    assert!(
        matches!(polled, Poll::Ready(Err(WaitError::Cancelled))),
        "{polled:?}"
    );
}

/// The token is cancelled before anybody is woken.
#[tokio::test(start_paused = true)]
async fn who_is_woken_by_the_end_finds_the_token_cancelled() {
    struct Looks(CancellationToken, Log<bool>);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.1.push(self.0.is_cancelled());
        }
    }
    for way in WAYS {
        let token = CancellationToken::new();
        let (group, seen) = (group_for(way, &token), Log::new());
        group.delay(HOUR, async {});
        let mut wait = pin!(group.wait());
        let waker = Arc::new(Looks(group.token(), seen.clone())).into();
        let polled = wait.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        end_at_ten(way, &group, &token).await;
        settle().await;
        let seen = seen.labels();
        assert!(
            !seen.is_empty() && seen.iter().all(|&it| it),
            "{way}: {seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_tokens_children_hear_the_cancel() {
    let group = Group::new();
    let child = group.token().child_token();
    group.cancel();
    assert!(child.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_ends_cancels_no_other_of_the_same_token() {
    let token = CancellationToken::new();
    let log = Log::new();
    let (one, other) = (
        Group::with_token(token.clone()),
        Group::with_token(token.clone()),
    );
    other.delay(ms(10), log.job("other"));
    one.cancel();
    drop(one);
    other.wait().await.unwrap();
    assert_eq!(log.take(), [("other", ms(10))]);
    assert!(!token.is_cancelled());
}

/// Drained at one millisecond, ended at ten, and looked at only then.
#[tokio::test(start_paused = true)]
async fn once_the_group_has_drained_no_end_changes_what_wait_says() {
    for way in WAYS {
        for polled_early in [false, true] {
            let token = CancellationToken::new();
            let group = group_for(way, &token);
            group.delay(ms(1), async {});
            let mut wait = group.wait();
            if polled_early {
                assert!(poll_once(&mut wait).is_pending(), "{way}");
            }
            end_at_ten(way, &group, &token).await;
            sleep(ms(5)).await;
            let outcome = wait.await;
            assert!(outcome.is_ok(), "{way}, {polled_early}: {outcome:?}");
            assert_eq!(group.stats().finished, 1, "{way}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_after_the_group_has_drained_leaves_the_first_panic() {
    for way in WAYS {
        let token = CancellationToken::new();
        let group = group_for(way, &token);
        group.delay(ms(1), async { panic!("boom") });
        let wait = group.wait();
        end_at_ten(way, &group, &token).await;
        sleep(ms(5)).await;
        assert_eq!(panic_message(&wait.await), "boom", "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_after_a_shutdown_is_complete_changes_neither_its_report_nor_wait() {
    for way in WAYS {
        let token = CancellationToken::new();
        let group = group_for(way, &token);
        group.delay(Duration::ZERO, sleep(ms(1)));
        settle().await;
        let shutdown = group.shutdown(HOUR);
        end_at_ten(way, &group, &token).await;
        sleep(ms(5)).await;
        let report = shutdown.await;
        assert_eq!(counts(report), (1, 0, 0), "{way}");
        let outcome = group.wait().await;
        assert!(outcome.is_ok(), "{way}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_after_the_group_has_drained_still_cancels_the_token() {
    let group = Group::new();
    group.wait().await.unwrap();
    group.cancel();
    assert!(group.token().is_cancelled());
}

/// The group had drained before its runtime went, though its driver had not seen that.
#[test]
fn a_runtime_that_goes_after_the_group_has_drained_changes_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let group = Group::builder().runtime(runtime.handle().clone()).build();
    let mut wait = group.wait();
    drop(runtime);
    let polled = poll_once(&mut wait);
    assert!(matches!(polled, Poll::Ready(Ok(()))), "{polled:?}");
}

/// The other way round: the cancel comes first, by the token, and the driver has had no turn in between.
#[tokio::test(start_paused = true)]
async fn a_cancel_before_the_last_end_is_the_reason_though_it_went_unnoticed() {
    let by_its_last_job = Group::new();
    by_its_last_job.delay_with(ms(1), |context| async move { context.token().cancel() });
    assert_cancelled(&by_its_last_job.wait().await);

    let before_its_last_job_is_cancelled = Group::new();
    let job = before_its_last_job_is_cancelled.delay(HOUR, async {});
    let wait = before_its_last_job_is_cancelled.wait();
    settle().await;
    before_its_last_job_is_cancelled.token().cancel();
    assert!(!job.cancel(), "it was prevented already");
    assert_cancelled(&wait.await);

    let before_a_shutdown = Group::new();
    before_a_shutdown.token().cancel();
    before_a_shutdown.shutdown(HOUR).await;
    assert_cancelled(&before_a_shutdown.wait().await);
}

/// On a thread that the driver shares with them.
#[tokio::test(start_paused = true)]
async fn many_pending_jobs_are_dropped_in_turns_with_other_tasks() {
    let group = Group::new();
    for _ in 0..64 * 1_024 {
        group.delay(HOUR, async {});
    }
    settle().await;
    group.cancel();
    let mut turns = 0;
    while group.stats().pending > 0 {
        turns += 1;
        tokio::task::yield_now().await;
    }
    assert!((12..40).contains(&turns), "{turns} turns");
}

/// By the real clock, since a paused one stands still while a job blocks its thread.
#[tokio::test(start_paused = true)]
async fn wait_hears_of_a_cancelled_token_before_the_driver_does() {
    let token = CancellationToken::new();
    let group = group_for("token", &token);
    group.delay(HOUR, async {});
    let (mut wait, woken) = (pin!(group.wait()), Arc::new(Woken::default()));
    let waker = Arc::clone(&woken).into();
    assert!(
        wait.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    settle().await;
    token.cancel();
    assert_eq!(woken.times(), 1, "no task has run since");
    assert_cancelled(&wait.await);
}

/// The task that waits is woken on the thread of that job.
#[test]
fn wait_returns_though_the_job_that_has_cancelled_the_group_blocks_its_thread() {
    watched(|| {
        let runtime = multi_thread();
        runtime.block_on(bounded(async {
            let (group, (tell, told)) = (Arc::new(Group::new()), mpsc::channel());
            let (waits, cancels) = (Arc::clone(&group), Arc::clone(&group));
            // First of all, since the group is closed by the task that waits.
            group.delay_with(ms(20), |_| async move {
                cancels.cancel();
                block_until_told(&told);
            });
            let waiter = tokio::spawn(async move {
                let outcome = waits.wait().await;
                tell.send(()).unwrap();
                outcome
            });
            assert_cancelled(&waiter.await.unwrap());
        }));
    });
}

/// tokio keeps a task that is woken by another task for the thread of that task, which is blocked here.
#[test]
fn pending_jobs_are_dropped_while_the_task_that_cancels_blocks_its_thread() {
    for way in ["cancel", "token"] {
        watched(move || {
            multi_thread().block_on(bounded(async {
                let token = CancellationToken::new();
                let group = group_for(way, &token);
                let (tell, told) = mpsc::channel();
                let held = OnDrop(move || _ = tell.send(()));
                group.delay(HOUR, async move { drop(held) });
                let cancels = async move {
                    end_at_ten(way, &group, &token).await;
                    told.recv_timeout(Duration::from_secs(10))
                };
                let dropped = tokio::spawn(cancels).await.unwrap();
                assert!(dropped.is_ok(), "{way}: it was not dropped in time");
            }));
        });
    }
}

/// The driver, which has woken the task that waits, drops the job next.
#[test]
fn wait_returns_the_reason_at_once_while_a_destructor_of_a_pending_job_blocks_its_thread() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::builder().timeout(ms(20)).build();
            let (tell, told) = mpsc::channel();
            let held = OnDrop(move || _ = told.recv_timeout(Duration::from_secs(10)));
            group.delay(HOUR, async move { drop(held) });
            let waits = async move { (group.wait().await, tell.send(())) };
            let (outcome, in_time) = tokio::spawn(waits).await.unwrap();
            assert_deadline_exceeded(&outcome);
            assert!(in_time.is_ok(), "the destructor has given up");
        }));
    });
}
