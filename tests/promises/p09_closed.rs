//! After `wait` outsiders are rejected, running jobs are not, and `wait` covers what they schedule.

use std::future::ready;
use std::time::Duration;

use schedgroup::keyed::KeyedGroup;
use schedgroup::{Group, Handle, JobError, JobState, Next, ScheduleError};
use tokio::time::{Instant, sleep};

use crate::common::{Flag, HOUR, Hold, Log, context_of, methods, ms, settle};

/// Each link schedules the next through what it was given, two milliseconds later.
fn chain(handle: &Handle, left: u32, log: Log<bool>) {
    if left > 0 {
        handle.delay_with(ms(2), move |context| async move {
            log.push(context.is_draining());
            chain(&context.handle(), left - 1, log);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_goes_on_while_wait_drains_and_is_covered() {
    let group = Group::new();
    let log = Log::new();
    chain(&group.handle(), 100, log.clone());
    // Between two links: which task comes first within one millisecond is the runtime's affair.
    sleep(ms(81)).await;
    group.wait().await.unwrap();
    let links = (1..=100).map(|n| (n > 40, ms(2 * n))).collect::<Vec<_>>();
    assert_eq!(log.take(), links);
}

#[tokio::test(start_paused = true)]
async fn every_method_of_a_running_jobs_context_is_covered_by_wait() {
    let group = Group::new();
    let hold = Hold::new();
    let context = context_of(&group, &hold).await;
    let handle = context.handle();
    let log = Log::new();
    let wait = group.wait();
    let (at, job) = (Instant::now() + ms(10), || log.job(()));
    let of_context = methods!(context, at, job);
    let of_handle = methods!(handle, at, job);
    for (method, call) in of_context.into_iter().chain(of_handle) {
        assert!(call().is_pending(), "{method}");
    }
    context.try_delay(ms(10), log.job(())).unwrap();
    context.try_schedule(at, log.job(())).unwrap();
    hold.release();
    wait.await.unwrap();
    assert_eq!(log.take(), vec![((), ms(10)); 16]);
}

#[tokio::test(start_paused = true)]
async fn a_context_that_outlives_its_job_is_admitted_until_the_group_is_drained() {
    let group = Group::new();
    let (hold, other) = (Hold::new(), Hold::new());
    let context = context_of(&group, &hold).await;
    group.delay(Duration::ZERO, other.job());
    hold.release();
    settle().await;
    let handle = context.handle();
    assert_eq!(group.stats().finished, 1, "its job has ended");
    let log = Log::new();
    context.delay(ms(1), log.job("open"));
    let wait = group.wait();
    context.delay(ms(2), log.job("draining"));
    handle.delay(ms(3), log.job("through its handle"));
    other.release();
    wait.await.unwrap();
    assert_eq!(log.labels(), ["open", "draining", "through its handle"]);
    for rejected in [
        context.try_delay(ms(1), ready(())).err(),
        handle.try_delay(ms(1), ready(())).err(),
    ] {
        assert!(
            matches!(rejected, Some(ScheduleError::Closed(_))),
            "{rejected:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_the_group_is_rejected_beside_an_admitted_context() {
    let group = Group::new();
    let hold = Hold::new();
    let (handle, context) = (group.handle(), context_of(&group, &hold).await);
    let wait = group.wait();
    let rejected = handle.try_delay(ms(1), async {}).unwrap_err();
    assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
    context.try_delay(ms(1), async {}).unwrap();
    // Clones keep the rights of what they are clones of.
    assert!(handle.clone().try_delay(ms(1), async {}).is_err());
    assert!(context.clone().try_delay(ms(1), async {}).is_ok());
    assert!(context.handle().clone().try_delay(ms(1), async {}).is_ok());
    hold.release();
    wait.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn is_draining_tells_that_wait_was_called() {
    let group = Group::new();
    let log = Log::new();
    let seen = log.clone();
    group.repeat(Instant::now(), move |context| {
        seen.push(context.is_draining());
        let next = if context.is_draining() {
            Next::Done
        } else {
            Next::After(ms(10))
        };
        async move { next }
    });
    sleep(ms(25)).await;
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [
            (false, ms(0)),
            (false, ms(10)),
            (false, ms(20)),
            (true, ms(30))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_wait_unfinished_lets_the_jobs_run_and_does_not_reopen() {
    let group = Group::new();
    let log = Log::new();
    let job = group.delay(ms(10), log.job("ran"));
    let unfinished = tokio::time::timeout(ms(5), group.wait()).await;
    assert!(unfinished.is_err(), "{unfinished:?}");
    let rejected = group.try_delay(ms(1), async {}).unwrap_err();
    assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
    sleep(ms(10)).await;
    assert_eq!(log.take(), [("ran", ms(10))]);
    assert_eq!(job.state(), JobState::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_wait_goes_on_after_a_pause_in_polling_it() {
    let group = Group::new();
    group.delay(ms(50), async {});
    let start = Instant::now();
    let mut wait = group.wait();
    for _ in 0..4 {
        let unfinished = tokio::time::timeout(ms(10), &mut wait).await;
        assert!(unfinished.is_err(), "{unfinished:?}");
    }
    wait.await.unwrap();
    assert_eq!(start.elapsed(), ms(50));
}

/// What `wait` returns stays true: nothing is accepted between the last job's end and its return.
#[tokio::test(start_paused = true)]
async fn nothing_is_admitted_between_the_last_end_and_the_return_of_wait() {
    let group = Group::new();
    let (hold, flag) = (Hold::new(), Flag::new());
    let context = context_of(&group, &hold).await;
    let wait = group.wait();
    hold.release();
    settle().await;
    let rejected = context.delay(HOUR, flag.job());
    assert_eq!((rejected.state(), flag.drops()), (JobState::Cancelled, 1));
    wait.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loop_may_call_wait_again_whenever_the_unfinished_one_was_dropped() {
    let group = Group::new();
    let log = Log::new();
    group.delay(ms(25), log.job("ran"));
    let mut turns = 0;
    let outcome = loop {
        tokio::select! {
            outcome = group.wait() => break outcome,
            () = sleep(ms(10)) => turns += 1,
        }
    };
    outcome.unwrap();
    assert_eq!((turns, log.take()), (2, vec![("ran", ms(25))]));
}

#[tokio::test(start_paused = true)]
async fn a_wait_after_a_dropped_one_says_what_happened_in_between() {
    let group = Group::new();
    group.delay(ms(10), async { panic!("boom") });
    drop(group.wait());
    let unfinished = tokio::time::timeout(ms(5), group.wait()).await;
    assert!(unfinished.is_err(), "{unfinished:?}");
    sleep(ms(20)).await;
    assert_eq!(super::panic_message(&group.wait().await), "boom");
}

/// A handle lives in other tasks, for which the end of the group is no mistake.
#[tokio::test(start_paused = true)]
async fn a_handles_methods_drop_the_job_once_the_group_is_closed() {
    for end in ["wait", "drain", "shutdown"] {
        for drained in [false, true] {
            let group = Group::new();
            let (handle, flag) = (group.handle(), Flag::new());
            if !drained {
                group.delay(HOUR, async {});
            }
            match end {
                "wait" => drop(group.wait()),
                "drain" => drop(group.drain(HOUR)),
                _ => drop(group.shutdown(HOUR)),
            }
            settle().await;
            let (at, job) = (Instant::now(), || flag.job());
            let later = group.handle();
            for (number, (method, call)) in methods!(handle, at, job)
                .into_iter()
                .chain(methods!(later, at, job))
                .enumerate()
            {
                let job = call();
                let when = format!("{method} after {end}, drained: {drained}");
                assert_eq!(job.state(), JobState::Cancelled, "{when}");
                assert_eq!(job.deadline(), at, "{when}");
                assert_eq!(flag.drops(), number + 1, "{when}");
                assert!(!job.cancel() && !job.reset_after(ms(1)), "{when}");
            }
            let value = handle.spawn_after(ms(1), async { 7 }).await;
            assert!(matches!(value, Err(JobError::Cancelled)), "{value:?}");
            let rejected = handle.try_schedule(at, async {}).unwrap_err();
            assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
        }
    }
}

/// What takes a handle takes a group, and must not be ended by what its owner did before.
#[tokio::test(start_paused = true)]
async fn the_handle_that_a_group_lends_never_panics() {
    fn lent(group: &impl AsRef<Handle>) -> &Handle {
        group.as_ref()
    }
    let (group, keyed, flag) = (Group::new(), KeyedGroup::<u8>::new(), Flag::new());
    let by_key = keyed.handle();
    group.wait().await.unwrap();
    keyed.wait().await.unwrap();
    for handle in [lent(&group), lent(&keyed), lent(&by_key)] {
        let (at, job) = (Instant::now(), || flag.job());
        for (method, call) in methods!(handle, at, job) {
            assert_eq!(call().state(), JobState::Cancelled, "{method}");
        }
    }
    assert_eq!(flag.drops(), 21);
}

/// A context lends a handle that is admitted as the context is.
#[tokio::test(start_paused = true)]
async fn the_handle_that_a_context_lends_is_admitted_while_the_group_drains() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let context = context_of(&group, &hold).await;
    let wait = group.wait();
    let lent: &Handle = context.as_ref();
    lent.delay(ms(1), log.job("lent"));
    lent.clone().delay(ms(2), log.job("cloned"));
    context.clone().delay(ms(3), log.job("of a clone"));
    hold.release();
    wait.await.unwrap();
    assert_eq!(log.labels(), ["lent", "cloned", "of a clone"]);
}

/// In whatever state the group is, `is_closed` says what `try_delay` would.
#[tokio::test(start_paused = true)]
async fn a_handle_is_closed_whenever_it_would_reject_a_job() {
    type End = fn(Group) -> Option<Group>;
    let ends: [(&str, End, bool, bool); 7] = [
        ("none", Some, false, false),
        (
            "wait",
            |group| {
                drop(group.wait());
                Some(group)
            },
            true,
            false,
        ),
        (
            "drain",
            |group| {
                drop(group.drain(HOUR));
                Some(group)
            },
            true,
            false,
        ),
        (
            "shutdown",
            |group| {
                drop(group.shutdown(HOUR));
                Some(group)
            },
            true,
            true,
        ),
        (
            "cancel",
            |group| {
                group.cancel();
                Some(group)
            },
            true,
            true,
        ),
        (
            "token",
            |group| {
                group.token().cancel();
                Some(group)
            },
            true,
            true,
        ),
        ("drop", |_| None, true, true),
    ];
    for (end, call, closed, closed_inside) in ends {
        let (group, hold) = (Group::new(), Hold::new());
        let context = context_of(&group, &hold).await;
        let (handle, inside) = (group.handle(), context.handle());
        let group = call(group);
        for turn in ["at once", "after a while"] {
            for (handle, expected) in [(&handle, closed), (&inside, closed_inside)] {
                assert_eq!(handle.is_closed(), expected, "{end}, {turn}: {handle:?}");
                let tried = handle.try_delay(HOUR, ready(()));
                assert_eq!(tried.is_err(), expected, "{end}, {turn}: {handle:?}");
                tried.into_iter().for_each(|job| assert!(job.cancel()));
            }
            settle().await;
        }
        hold.release();
        drop(group);
    }
}
