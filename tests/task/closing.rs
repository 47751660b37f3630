//! How a group of tasks is closed from outside: drained, shut down, past its deadline.

use std::future::pending;
use std::time::Duration;

use schedgroup::task::{Cause, OnError, TaskGroup};
use schedgroup::{CancellationToken, ScheduleError, TaskError};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use crate::common::{
    Flag, HOUR, Hold, OnDrop, alive_tasks, bounded, counts, jump, misuse, ms, multi_thread,
    panic_of, paused, poll_once, poll_with_bomb, settle, sized, watched,
};

/// A group, at most `limit` at a time, whose tasks take a second each.
fn seconds(limit: usize, tasks: usize) -> TaskGroup {
    let group = sized(limit);
    for _ in 0..tasks {
        // The second begins with the task.
        group.spawn(async { sleep(ms(1_000)).await });
    }
    group
}

#[tokio::test(start_paused = true)]
async fn a_drain_runs_what_comes_within_its_grace() {
    let (group, start) = (seconds(1, 2), Instant::now());
    let drain = group.drain(HOUR);
    let handle = group.handle();
    handle.spawn(async { sleep(ms(1_000)).await });
    handle.try_spawn(async {}).unwrap_err();
    let member = handle.member();
    tokio::spawn(async move {
        sleep(ms(3_500)).await;
        drop(member);
    });
    // Four that it held or that came, the member among them.
    assert_eq!(counts(drain.await), (4, 0, 0));
    assert_eq!(start.elapsed(), ms(3_500));
    assert_eq!(group.wait().await.unwrap().finished, 3);
    assert_eq!(group.cause(), Some(Cause::Finished));
}

/// Its end is final: what comes later is rejected as before, and a member that comes later changes no count.
#[tokio::test]
async fn a_group_that_drained_stays_closed_when_its_owner_is_gone() {
    let group = TaskGroup::<u32>::new();
    let handle = group.handle();
    group.wait().await.unwrap();
    drop(group);
    let late = handle.try_spawn(async { Ok(()) });
    assert!(matches!(late, Err(ScheduleError::Closed(_))), "{late:?}");
    handle.member().fail(7);
    assert_eq!(handle.stats().failed, 0);
    assert_eq!(handle.cause(), Some(Cause::Finished));
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_as_a_shutdown_when_its_grace_is_over() {
    let (group, start) = (sized(1), Instant::now());
    let (handle, flag) = (group.handle(), Flag::new());
    let guard = flag.guard();
    group.spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    group.spawn(flag.job());
    let drain = group.drain(ms(100));
    handle.spawn(flag.job());
    assert_eq!(counts(drain.await), (0, 1, 2));
    assert_eq!((start.elapsed(), flag.drops()), (ms(100), 3));
    let late = handle.try_spawn(async {});
    assert!(matches!(late, Err(ScheduleError::Closed(_))), "{late:?}");
    assert_eq!(group.cause(), Some(Cause::Cancelled));
    let outcome = group.wait().await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_rejects_handles_and_runs_what_it_holds_within_its_grace() {
    let (group, start) = (seconds(2, 5), Instant::now());
    let handle = group.handle();
    let shutdown = group.shutdown(ms(3_500));
    let late = handle.try_spawn(async {});
    assert!(matches!(late, Err(ScheduleError::Closed(_))), "{late:?}");
    let late = handle.submit(async {}).await;
    assert!(matches!(late, Err(ScheduleError::Closed(_))), "{late:?}");
    assert!(!group.token().is_cancelled(), "running tasks are let be");
    assert_eq!(counts(shutdown.await), (5, 0, 0));
    assert_eq!(start.elapsed(), ms(3_000));
    assert_eq!(group.wait().await.unwrap().finished, 5);
}

#[tokio::test(start_paused = true)]
async fn the_numbers_of_a_shutdown_add_up_to_what_the_group_held() {
    for grace in [0, 500, 1_000, 1_500, 5_000] {
        let group = seconds(2, 5);
        // Failed tasks and panics have ended by themselves.
        group.spawn(async { panic!("boom") });
        let members = [group.member(), group.member()];
        sleep(ms(1_001)).await;
        let [leaves, stays] = members;
        tokio::spawn(async move {
            sleep(ms(400)).await;
            drop(leaves);
        });
        let handle = group.handle();
        let shutdown = group.shutdown(ms(grace));
        handle.spawn(async {});
        let report = shutdown.await;
        let (finished, aborted, dropped) = counts(report);
        assert_eq!(
            finished + aborted + dropped,
            3 + 1 + 2,
            "{grace}: {report:?}"
        );
        let expected = match grace {
            0 => (0, 4, 2),
            500 => (1, 3, 2),
            1_000 | 1_500 => (4, 2, 0),
            _ => (5, 1, 0),
        };
        assert_eq!(
            (finished, aborted, dropped),
            expected,
            "{grace}: {report:?}"
        );
        drop(stays);
        let stats = group.stats();
        assert_eq!((stats.pending, stats.running), (0, 0), "{grace}: {stats:?}");
        assert_eq!(stats.skipped as usize, dropped + 1, "the late one too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_alive_when_the_grace_is_over_is_not_waited_for() {
    let group = TaskGroup::<&str>::new();
    let (early, late) = (group.member(), group.member());
    let handle = group.handle();
    let drain = group.drain(ms(100));
    tokio::spawn(async move {
        sleep(ms(50)).await;
        drop(early);
    });
    assert_eq!(counts(bounded(drain).await), (1, 1, 0));
    late.fail("too late");
    drop(late);
    let outcome = group.wait().await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!((group.stats().aborted, group.stats().failed), (1, 0));
    // One that is rejected keeps nothing open, and says nothing.
    handle.member().fail("never in");
    assert_eq!(group.stats().failed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_drain_or_shutdown_stays_in_force() {
    for drains in [true, false] {
        let (group, start) = (TaskGroup::<()>::new(), Instant::now());
        group.spawn(pending::<Result<_, _>>());
        if drains {
            drop(group.drain(ms(100)));
        } else {
            drop(group.shutdown(ms(100)));
        }
        let outcome = bounded(group.wait()).await;
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
        assert_eq!(start.elapsed(), ms(100), "drains: {drains}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_earliest_end_of_several_graces_holds() {
    let (group, start) = (TaskGroup::<()>::new(), Instant::now());
    group.spawn(pending::<Result<_, _>>());
    let ends = async {
        let first = group.drain(HOUR);
        let (second, third) = (group.shutdown(ms(200)), group.drain(ms(300)));
        tokio::join!(first, second, third, group.wait())
    };
    let (first, second, third, waited) = bounded(ends).await;
    for report in [first, second, third] {
        assert_eq!(counts(report), (0, 1, 0));
    }
    assert!(waited.is_err());
    assert_eq!(start.elapsed(), ms(200));
    assert_eq!(counts(group.shutdown(HOUR).await), (0, 0, 0), "again");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_errors_to_wait() {
    let group = TaskGroup::builder().on_error(OnError::Continue).build();
    group.spawn(async { Err("no route") });
    group.spawn(async { Ok(()) });
    assert_eq!(counts(group.shutdown(HOUR).await), (2, 0, 0));
    let failed = group.wait().await.unwrap_err();
    assert_eq!(failed.into_error(), Some("no route"));
}

#[tokio::test(start_paused = true)]
async fn a_submit_in_the_queue_is_covered_by_a_shutdown_or_given_back() {
    for (grace, accepted) in [(1_500, true), (500, false)] {
        let group = seconds(1, 1);
        let mut submit = group.submit(async {});
        assert!(poll_once(&mut submit).is_pending());
        let (report, submitted) = tokio::join!(group.shutdown(ms(grace)), submit);
        match submitted {
            Ok(1) if accepted => assert_eq!(counts(report), (2, 0, 0)),
            Err(ScheduleError::Cancelled(task)) if !accepted => {
                task.await;
                assert_eq!(counts(report), (0, 1, 0));
            }
            other => panic!("{grace}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_owner_is_told_which_of_its_calls_closed_the_group() {
    type Close = fn(&TaskGroup<()>);
    let closes: [(&str, Close); 4] = [
        ("wait", |group| drop(group.wait())),
        ("wait_all", |group| drop(group.wait_all())),
        ("drain", |group| drop(group.drain(HOUR))),
        ("shutdown", |group| drop(group.shutdown(HOUR))),
    ];
    for (name, close) in closes {
        let group = TaskGroup::<()>::new();
        let member = group.member();
        close(&group);
        drop(group.shutdown(HOUR));
        let task = async { Ok(()) };
        assert_eq!(
            misuse(|| group.spawn(task)),
            format!("schedgroup: attempted to spawn a task after TaskGroup::{name} was called")
        );
        assert_eq!(
            misuse(|| drop(group.member())),
            format!("schedgroup: attempted to add a member after TaskGroup::{name} was called")
        );
        drop(member);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_dropped_in_its_grace_aborts_its_tasks_at_once() {
    let (group, flag) = (sized(1), Flag::new());
    for _ in 0..3 {
        let guard = flag.guard();
        group.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
    }
    drop(group.shutdown(HOUR));
    settle().await;
    drop(group);
    settle().await;
    assert_eq!(flag.drops(), 3);
}

/// The group is closed for good, and no task of the tests waits for an hour.
#[tokio::test(start_paused = true)]
async fn a_group_that_has_drained_keeps_no_timer() {
    let before = alive_tasks();
    let group = TaskGroup::<()>::builder().timeout(HOUR).build();
    group.spawn(async { Ok(()) });
    group.drain(HOUR).await;
    settle().await;
    assert_eq!(alive_tasks(), before);
    let group = TaskGroup::<()>::builder().timeout(HOUR).build();
    drop(group.shutdown(HOUR));
    drop(group);
    settle().await;
    assert_eq!(alive_tasks(), before);
}

#[test]
fn a_waker_that_panics_costs_no_other_its_report() {
    watched(|| {
        multi_thread().block_on(async {
            let (group, hold) = (sized(1), Hold::new());
            group.spawn(hold.job());
            let mut bad = Box::pin(group.shutdown(HOUR));
            poll_with_bomb(bad.as_mut());
            let good = group.drain(HOUR);
            hold.started().await;
            hold.release();
            assert_eq!(counts(bounded(good).await), (1, 0, 0));
            assert_eq!(counts(bounded(bad).await), (1, 0, 0));
        });
    });
}

#[test]
fn a_runtime_without_a_timer_is_enough_without_a_grace() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let group = TaskGroup::<()>::new();
        group.spawn(pending::<Result<_, _>>());
        let line = line!() + 1;
        let rejected = panic_of(|| drop(group.shutdown(HOUR)));
        assert_eq!((rejected.file.as_str(), rejected.line), (file!(), line));
        group
            .try_spawn(async { Ok(()) })
            .expect("nothing has changed");
        let report = group.shutdown(Duration::ZERO).await;
        assert_eq!(report.aborted + report.finished, 2, "{report:?}");
        let line = line!() + 1;
        let rejected = panic_of(|| drop(TaskGroup::<()>::builder().timeout(HOUR).build()));
        assert_eq!((rejected.file.as_str(), rejected.line), (file!(), line));
    });
}

/// A timer on it can not fire any more. The member lives elsewhere, and keeps the group open until then.
#[test]
fn a_grace_is_over_when_its_runtime_is_shut_down() {
    for begins_before in [true, false] {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let builder = TaskGroup::<()>::builder().runtime(runtime.handle().clone());
        let group = builder.timeout(HOUR).build();
        let member = group.member();
        let before = begins_before.then(|| group.drain(HOUR));
        drop(runtime);
        let drain = before.unwrap_or_else(|| group.drain(HOUR));
        let elsewhere = Builder::new_current_thread().enable_all().build().unwrap();
        let report = elsewhere.block_on(async { timeout(ms(10_000), drain).await });
        assert_eq!(report.map(counts), Ok((0, 1, 0)), "{begins_before}");
        assert_eq!(group.cause(), Some(Cause::Cancelled));
        drop(member);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_tasks_as_the_policy_says() {
    for policy in [OnError::Abort, OnError::Cancel, OnError::Continue] {
        let start = Instant::now();
        let group = TaskGroup::<()>::builder()
            .limit(2)
            .on_error(policy)
            .deadline(start + ms(500))
            .timeout(HOUR)
            .build();
        // It listens, and takes a while more.
        group.spawn_with(|token| async move {
            token.cancelled().await;
            sleep(ms(100)).await;
            Ok(())
        });
        // It does not.
        group.spawn(async {
            sleep(ms(1_000)).await;
            Ok(())
        });
        group.spawn(async { Ok(()) });
        let outcome = bounded(group.wait()).await;
        assert!(
            matches!(outcome, Err(TaskError::DeadlineExceeded)),
            "{outcome:?}"
        );
        let stats = group.stats();
        let ends = (stats.finished, stats.aborted, stats.skipped);
        match policy {
            OnError::Abort => assert_eq!((start.elapsed(), ends), (ms(500), (0, 2, 1))),
            _ => assert_eq!((start.elapsed(), ends), (ms(1_000), (2, 0, 1))),
        }
        assert_eq!(group.cause(), Some(Cause::DeadlineExceeded), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_costs_no_task_its_end_is_no_error() {
    let group = TaskGroup::<()>::builder().timeout(ms(100)).build();
    group.spawn(async { Ok(()) });
    group.wait().await.unwrap();
    sleep(HOUR).await;
    assert_eq!(group.cause(), Some(Cause::Finished));

    let builder = TaskGroup::<()>::builder().on_error(OnError::Cancel);
    let group = builder.timeout(ms(100)).build();
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Ok(())
    });
    group.wait().await.unwrap();
    assert_eq!(group.cause(), Some(Cause::DeadlineExceeded));
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_at_the_deadline_or_later() {
    let group = TaskGroup::<&str>::builder()
        .deadline(Instant::now())
        .build();
    let late = group.try_spawn(async { Ok(()) });
    assert!(matches!(late, Err(ScheduleError::Cancelled(_))), "{late:?}");
    group.spawn(async { panic!("it is skipped") });
    let outcome = group.wait_all().await.unwrap_err();
    let errors: Vec<_> = outcome.iter().collect();
    assert!(
        matches!(errors[..], [TaskError::DeadlineExceeded]),
        "{errors:?}"
    );
    assert_eq!(errors[0].to_string(), "deadline passed before the end");
}

/// The timer is a task like others, and may be late; the deadline is looked at all the same.
#[tokio::test(start_paused = true)]
async fn a_deadline_holds_also_where_its_timer_is_late() {
    let builder = TaskGroup::<()>::builder().limit(1);
    let group = builder.timeout(ms(5)).build();
    group.spawn(pending::<Result<_, _>>());
    group.spawn(async { Ok(()) });
    jump(ms(5));
    let late = group.try_spawn(async { Ok(()) });
    assert!(matches!(late, Err(ScheduleError::Cancelled(_))), "{late:?}");
    assert_eq!((group.stats().pending, group.stats().skipped), (0, 1));
    assert_eq!(group.cause(), Some(Cause::DeadlineExceeded));
    assert!(
        bounded(group.wait()).await.is_err(),
        "that task was aborted or skipped"
    );
}

/// One that a runtime has for itself, where a test has paused it.
#[test]
fn a_timeout_is_counted_by_the_clock_of_the_named_runtime() {
    let runtime = paused();
    runtime.block_on(tokio::time::advance(HOUR));
    let builder = TaskGroup::builder().runtime(runtime.handle().clone());
    let group = builder.timeout(ms(2_000)).build();
    group.spawn(async { sleep(ms(1_000)).await });
    let stats = runtime.block_on(group.wait()).unwrap();
    assert_eq!(stats.finished, 1);
}

/// As for a cancel of a scheduling group: the deadline came first.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_is_the_reason_though_its_timer_is_late() {
    type End = fn(TaskGroup) -> Option<TaskGroup>;
    let ends: [(&str, End); 4] = [
        ("cancel", |group| {
            group.cancel();
            Some(group)
        }),
        ("abort", |group| {
            group.abort();
            Some(group)
        }),
        ("shutdown", |group| {
            drop(group.shutdown(Duration::ZERO));
            Some(group)
        }),
        ("drop", |_| None),
    ];
    for (name, end) in ends {
        let group = TaskGroup::builder().timeout(ms(100)).build();
        let handle = group.handle();
        group.spawn(pending::<()>());
        jump(ms(200));
        let group = end(group);
        assert_eq!(handle.cause(), Some(Cause::DeadlineExceeded), "{name}");
        let Some(group) = group else { continue };
        let outcome = bounded(group.wait()).await;
        assert!(
            matches!(outcome, Err(TaskError::DeadlineExceeded)),
            "{name} {outcome:?}"
        );
    }
}

/// As are a cancel and the others: the deadline came first.
#[tokio::test(start_paused = true)]
async fn an_error_after_a_deadline_whose_timer_is_late_is_not_the_cause() {
    for of_a_member in [false, true] {
        let group = TaskGroup::builder().timeout(ms(100)).build();
        if of_a_member {
            let member = group.member();
            jump(ms(200));
            member.fail("late");
        } else {
            group.spawn(async {
                jump(ms(200));
                Err("late")
            });
        }
        let failed = bounded(group.wait()).await.unwrap_err();
        assert_eq!(failed.into_error(), Some("late"), "{of_a_member}");
        assert_eq!(
            group.cause(),
            Some(Cause::DeadlineExceeded),
            "{of_a_member}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_after_a_grace_whose_timer_is_late_is_aborted() {
    for fails in [false, true] {
        let group = TaskGroup::<&str>::new();
        let member = group.member();
        let drain = group.drain(ms(100));
        jump(ms(200));
        if fails {
            member.fail("late");
        }
        drop(member);
        assert_eq!(counts(drain.await), (0, 1, 0), "{fails}");
        let outcome = bounded(group.wait()).await;
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    }
}

/// The only worker is blocked beyond the deadline and the grace, and then runs the timer that was woken last first.
#[test]
fn a_deadline_comes_before_a_grace_that_is_over_later() {
    watched(|| {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_time().build().unwrap();
        let task = async {
            let group = TaskGroup::builder().timeout(ms(10)).build();
            group.spawn(pending::<()>());
            let drain = group.drain(ms(20));
            // The timers are armed.
            sleep(ms(1)).await;
            // The runtime has no other thread that could run them in time.
            std::thread::sleep(ms(30));
            assert_eq!(drain.await.aborted, 1);
            (group.cause(), group.wait().await)
        };
        let (cause, outcome) = runtime.block_on(runtime.spawn(task)).unwrap();
        assert_eq!(cause, Some(Cause::DeadlineExceeded));
        assert!(
            matches!(outcome, Err(TaskError::DeadlineExceeded)),
            "{outcome:?}"
        );
    });
}

/// A task that blocks its thread keeps the timer from firing; what is queued behind it does not start all the same.
#[tokio::test(start_paused = true)]
async fn nothing_queued_starts_after_a_deadline_whose_timer_is_late() {
    for policy in [OnError::Abort, OnError::Cancel, OnError::Continue] {
        let builder = TaskGroup::<()>::builder().limit(1).on_error(policy);
        let group = builder.timeout(ms(100)).build();
        group.spawn(async {
            jump(ms(200));
            Ok(())
        });
        group.spawn(async { Ok(()) });
        let outcome = bounded(group.wait()).await;
        assert!(
            matches!(outcome, Err(TaskError::DeadlineExceeded)),
            "{policy:?} {outcome:?}"
        );
        let stats = group.stats();
        assert_eq!((stats.finished, stats.skipped), (1, 1), "{policy:?}");
    }
}

/// As for a deadline. Nothing comes either.
#[tokio::test(start_paused = true)]
async fn nothing_starts_or_comes_after_a_grace_whose_timer_is_late() {
    for queued in [0, 5] {
        let group = sized(1);
        let handle = group.handle();
        group.spawn(async move {
            yield_now().await; // the grace begins
            jump(ms(200));
            let late = handle.try_spawn(async {});
            assert!(matches!(late, Err(ScheduleError::Closed(_))), "{late:?}");
        });
        for _ in 0..queued {
            group.spawn(async {});
        }
        let report = bounded(group.drain(ms(100))).await;
        assert_eq!(counts(report), (1, 0, queued));
    }
    let group = sized(1);
    group.spawn(async {
        yield_now().await;
        jump(ms(200));
    });
    group.spawn(async {});
    let report = bounded(group.shutdown(ms(100))).await;
    assert_eq!(counts(report), (1, 0, 1));
}

/// Its timer is dropped behind the end, which is an end of the grace too.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_grace_changes_nothing_that_wait_says_of_a_group_that_has_drained() {
    let group = TaskGroup::<()>::new();
    let handle = group.handle();
    drop(group.drain(HOUR));
    handle.spawn(async { Ok(()) });
    settle().await;
    assert_eq!(group.stats().skipped, 1);
    assert_eq!(group.wait().await.unwrap().skipped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_cancels_its_group_at_once() {
    let builder = TaskGroup::<()>::builder().deadline(Instant::now());
    assert_eq!(builder.build().cause(), Some(Cause::DeadlineExceeded));
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_for_the_end_stays() {
    let group = TaskGroup::<()>::builder().timeout(ms(100)).build();
    group.spawn(pending::<Result<_, _>>());
    group.cancel();
    let outcome = bounded(group.wait()).await;
    // The deadline still ends what does not listen.
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!(group.cause(), Some(Cause::Cancelled));

    let group = TaskGroup::builder().timeout(ms(100)).build();
    group.spawn(async {
        sleep(ms(50)).await;
        Err("no route")
    });
    group.spawn(pending::<Result<_, _>>());
    let failed = bounded(group.wait()).await.unwrap_err();
    assert_eq!(failed.into_error(), Some("no route"));
    assert_eq!(group.cause(), Some(Cause::Failed { index: 0 }));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_or_a_grace_without_end_is_none() {
    let group = TaskGroup::<()>::builder().timeout(Duration::MAX).build();
    group.spawn(pending::<Result<_, _>>());
    let shutdown = group.shutdown(Duration::MAX);
    // No task beside the group's own, so no timer that moves a paused clock.
    assert_eq!(alive_tasks(), 1);
    let years = HOUR * 24 * 365 * 90;
    assert!(timeout(years, shutdown).await.is_err());
    assert_eq!((group.stats().running, group.cause()), (1, None));
    let report = timeout(years, group.shutdown(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(counts(report), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_holds_nothing_ends_at_the_call() {
    for method in ["wait", "drain", "shutdown"] {
        let (group, start) = (TaskGroup::<()>::new(), Instant::now());
        match method {
            "wait" => drop(group.wait()),
            "drain" => drop(group.drain(HOUR)),
            _ => drop(group.shutdown(HOUR)),
        }
        assert_eq!(group.cause(), Some(Cause::Finished), "{method}");
        group.wait().await.unwrap();
        assert_eq!(start.elapsed(), ms(0), "{method}");
    }
}

/// Nobody polls a `wait`: the end is a step of its own, and those who listen to the token see it.
#[tokio::test]
async fn the_end_of_a_group_cancels_its_token_though_nothing_is_polled() {
    let (group, hold) = (TaskGroup::new(), Hold::new());
    let token = group.token();
    group.spawn(hold.job());
    drop(group.shutdown(Duration::MAX));
    hold.started().await;
    assert!(!token.is_cancelled());
    hold.release();
    bounded(token.cancelled()).await;
    assert_eq!(group.cause(), Some(Cause::Finished));
}

#[tokio::test]
async fn a_task_that_never_ends_is_taken_by_every_group() {
    async fn serve() -> ! {
        pending().await
    }
    let (plain, fallible) = (TaskGroup::new(), TaskGroup::<&str>::new());
    plain.spawn(async {});
    plain.spawn(serve());
    plain.spawn_with(|token| async move {
        loop {
            token.cancelled().await;
            pending::<()>().await;
        }
    });
    fallible.spawn(serve());
    fallible.try_spawn(async { panic!("boom") }).unwrap();
    settle().await;
    plain.abort();
    assert!(bounded(plain.wait()).await.is_err());
    assert_eq!(plain.stats().aborted, 2);
    let failed = bounded(fallible.wait()).await.unwrap_err();
    assert_eq!(failed.index(), Some(1));
}

#[tokio::test]
async fn errors_of_a_group_that_is_never_waited_for_may_panic_in_their_destructors() {
    let group = TaskGroup::builder().on_error(OnError::Continue).build();
    for _ in 0..2 {
        group.spawn(async { Err(OnDrop(|| panic!("in a destructor"))) });
    }
    settle().await;
    assert_eq!(group.stats().failed, 2);
    drop(group);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_group_leaves_no_timer_of_its_deadline() {
    let before = alive_tasks();
    let group = TaskGroup::<()>::builder().timeout(HOUR).build();
    settle().await;
    assert_eq!(alive_tasks(), before + 1);
    drop(group);
    settle().await;
    assert_eq!(alive_tasks(), before);
}

/// Also if it is the only one that was ever queued.
#[tokio::test(start_paused = true)]
async fn a_cancelled_parent_drops_what_is_queued_behind_a_task_that_does_not_end() {
    for queued in [1, 3] {
        let (parent, flag) = (CancellationToken::new(), Flag::new());
        let group = TaskGroup::<()>::builder()
            .limit(1)
            .token(parent.clone())
            .build();
        group.spawn(pending::<Result<(), ()>>());
        for _ in 0..queued {
            let guard = flag.guard();
            group.spawn(async move {
                drop(guard);
                Ok(())
            });
        }
        settle().await;
        assert_eq!(flag.drops(), 0);
        parent.cancel();
        settle().await;
        assert_eq!(flag.drops(), queued);
        let stats = group.stats();
        assert_eq!((stats.skipped, stats.running), (queued as u64, 1));
    }
}
