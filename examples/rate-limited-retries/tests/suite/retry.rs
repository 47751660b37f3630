//! What comes of failed work: policies, budgets, and `Retry-After`.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::{HOUR, Log, Random, jump, ms};
use backon::{BackoffBuilder, ConstantBuilder};
use rate_limited_retries::{
    Builder, Dispatcher, Failure, GaveUp, Policy, Rate, Reason, retry_after,
};
use schedgroup::flow::{self, Ended, Verdict};
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, sleep};
use tower::retry::budget::{Budget, TpsBudget};

type Logged = Log<(&'static str, u64, u32)>;
type Ends = Arc<Mutex<Vec<GaveUp<u64>>>>;

/// A dispatcher whose work fails with the answer of `answer` to (work, attempt), and is retried by the policy.
fn failing<E: Send + 'static>(
    group: &Group,
    policy: Policy<E>,
    answer: impl Fn(u64, u32) -> Result<(), E> + Send + Sync + 'static,
) -> (Dispatcher<&'static str, u64>, Logged, Ends) {
    let (log, ends) = (Log::new(), Ends::default());
    let (starts, gave_up) = (log.clone(), Arc::clone(&ends));
    let builder = Dispatcher::builder().per_key(Rate::per_second(1_000));
    let dispatcher = builder.run(group, move |work: u64, context| {
        let attempt = context.attempt();
        starts.push((*context.key(), work, attempt));
        let (policy, result) = (policy.clone(), answer(work, attempt));
        let ends = Arc::clone(&gave_up);
        async move {
            if let Err(failure) = policy.attempt(ready(result)).await {
                if let Err(gave_up) = context.retry(&policy, work, &failure) {
                    ends.lock().unwrap().push(gave_up);
                }
            }
        }
    });
    (dispatcher, log, ends)
}

/// A dispatcher with one run at a time per key, whose work 0 fails at its first `failures` attempts. The log has the starts.
fn failing_first(
    group: &Group,
    builder: Builder<&'static str, u64>,
    policy: Policy<&'static str>,
    failures: u32,
) -> (Dispatcher<&'static str, u64>, Log<u64>) {
    let log = Log::new();
    let starts = log.clone();
    let dispatcher = builder.in_flight(1).run(group, move |work: u64, context| {
        starts.push(work);
        let policy = policy.clone();
        async move {
            if work == 0 && context.attempt() <= failures {
                let failure = Failure::Error("busy");
                context.retry(&policy, work, &failure).unwrap();
            }
        }
    });
    (dispatcher, log)
}

fn ends(ends: &Ends) -> Vec<(u64, u32, Reason)> {
    let ends = std::mem::take(&mut *ends.lock().unwrap());
    ends.into_iter()
        .map(|end| (end.work, end.attempts, end.reason))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn failed_work_is_retried_after_the_delays_until_it_succeeds() {
    let group = Group::new();
    let delays = [100, 200, 400, 800].map(ms).into_iter();
    let busy = |_, attempt| if attempt < 4 { Err("busy") } else { Ok(()) };
    let (dispatcher, log, gave_up) = failing(&group, Policy::new(delays), busy);
    dispatcher.push("k", 7).await.unwrap();
    group.wait().await.unwrap();
    let expected = [(1, 0), (2, 100), (3, 300), (4, 700)];
    assert_eq!(
        log.take(),
        expected.map(|(attempt, at)| (("k", 7, attempt), ms(at)))
    );
    assert_eq!(ends(&gave_up), []);
    let stats = dispatcher.stats();
    assert_eq!((stats.started, stats.returned), (4, 3));
}

/// Delayed work is queued when its instant has come, which a count may be the first to see.
#[tokio::test(start_paused = true)]
async fn work_that_is_due_again_is_counted_though_it_has_not_started() {
    let group = Group::new();
    let policy = Policy::new([100].map(ms).into_iter());
    let busy = |_, attempt| if attempt < 2 { Err("busy") } else { Ok(()) };
    let (dispatcher, _log, _gave_up) = failing(&group, policy, busy);
    dispatcher.push("k", 7).await.unwrap();
    sleep(ms(50)).await;
    let counts = || {
        let stats = dispatcher.stats();
        (stats.queued, stats.delayed)
    };
    assert_eq!(counts(), (0, 1));
    jump(ms(100));
    assert_eq!((counts(), counts()), ((1, 0), (1, 0)));
    group.wait().await.unwrap();
    assert_eq!(counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn giving_up_returns_the_work_the_attempts_and_the_reason() {
    let minute = Duration::from_secs(60);
    let verdicts = |error: &&str| match *error {
        "final" => Verdict::Stop,
        "later" => Verdict::RetryAfter(Duration::from_secs(61)),
        _ => Verdict::Retry,
    };
    for (error, max_times, expected) in [
        ("busy", 2, (7, 3, Reason::Delays)),
        ("busy", 0, (7, 1, Reason::Delays)),
        ("later", 0, (7, 1, Reason::Delays)),
        ("final", 2, (7, 1, Reason::Stopped)),
        ("later", 2, (7, 1, Reason::TooLong(Duration::from_secs(61)))),
    ] {
        let group = Group::new();
        let delays = ConstantBuilder::default().with_max_times(max_times);
        let policy = Policy::new(delays).when(verdicts).max_retry_after(minute);
        let (dispatcher, _, gave_up) = failing(&group, policy, move |_, _| Err(error));
        dispatcher.push("k", 7).await.unwrap();
        group.wait().await.unwrap();
        assert_eq!(ends(&gave_up), [expected], "{error}, {max_times}");
    }
}

/// What comes again goes before what was pushed later, and keeps none of it waiting until then.
#[tokio::test(start_paused = true)]
async fn failed_work_is_retried_at_the_head_of_its_key() {
    let (group, log) = (Group::new(), Log::new());
    let starts = log.clone();
    let policy = Policy::new(ConstantBuilder::default().with_delay(ms(150)));
    let builder = Dispatcher::builder().per_key(Rate::per_second(10));
    let dispatcher = builder.run(&group, move |work: u64, context| {
        starts.push(work);
        let policy = policy.clone();
        async move {
            if work == 0 && context.attempt() == 1 {
                context
                    .retry(&policy, work, &Failure::Error("busy"))
                    .unwrap();
            }
        }
    });
    for work in 0..4 {
        dispatcher.push("k", work).await.unwrap();
    }
    group.wait().await.unwrap();
    let expected = [(0, 0), (1, 100), (0, 200), (2, 300), (3, 400)];
    assert_eq!(log.take(), expected.map(|(work, at)| (work, ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_delays_only_its_key_and_its_work_goes_first() {
    let group = Group::new();
    let policy = Policy::new(ConstantBuilder::default()).when(|after: &Option<u64>| {
        after.map_or(Verdict::Retry, |after| Verdict::RetryAfter(ms(after)))
    });
    let answer = |work, attempt| {
        if (work, attempt) == (0, 1) {
            Err(Some(500))
        } else {
            Ok(())
        }
    };
    let (dispatcher, log, _) = failing(&group, policy, answer);
    for work in 0..3 {
        dispatcher.push("k", work).await.unwrap();
        dispatcher.push("other", 10 + work).await.unwrap();
    }
    group.wait().await.unwrap();
    let mut started = log.take();
    started.retain(|((key, ..), _)| *key == "k");
    let expected = [(0, 1, 0), (0, 2, 500), (1, 1, 501), (2, 1, 502)];
    assert_eq!(
        started,
        expected.map(|(work, attempt, at)| (("k", work, attempt), ms(at)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_in_order_lets_nothing_overtake_what_is_retried() {
    let group = Group::new();
    let policy = Policy::new(ConstantBuilder::default().with_delay(ms(500))).in_order();
    let (dispatcher, log) = failing_first(&group, Dispatcher::builder(), policy, 2);
    for work in 0..3 {
        dispatcher.push("k", work).await.unwrap();
    }
    group.wait().await.unwrap();
    let expected = [(0, 0), (0, 500), (0, 1_000), (1, 1_000), (2, 1_000)];
    assert_eq!(log.take(), expected.map(|(work, at)| (work, ms(at))));
}

/// A hold that is lifted lets the work that is retried start first, not the work behind it.
#[tokio::test(start_paused = true)]
async fn work_that_is_retried_in_order_is_not_overtaken_though_its_hold_is_lifted_or_long() {
    for is_lifted in [true, false] {
        let group = Group::new();
        let policy = Policy::new(ConstantBuilder::default().with_delay(ms(500))).in_order();
        let builder = Dispatcher::builder().max_hold(ms(300));
        let (dispatcher, log) = failing_first(&group, builder, policy, 1);
        for work in 0..3 {
            dispatcher.push("k", work).await.unwrap();
        }
        sleep(ms(200)).await;
        if is_lifted {
            dispatcher.clear_not_before(&"k");
        }
        group.wait().await.unwrap();
        let then = if is_lifted { 200 } else { 500 };
        let expected = [(0, 0), (0, then), (1, then), (2, then)];
        assert_eq!(log.take(), expected.map(|(work, at)| (work, ms(at))));
    }
}

/// The operator says that the server is well: then the work that the server has turned away starts too.
#[tokio::test(start_paused = true)]
async fn lifting_the_hold_of_a_retry_after_starts_its_work_first() {
    let group = Group::new();
    let policy =
        Policy::new(ConstantBuilder::default()).when(|_: &&str| Verdict::RetryAfter(ms(60_000)));
    let busy = |work, attempt| {
        if (work, attempt) == (0, 1) {
            Err("busy")
        } else {
            Ok(())
        }
    };
    let (dispatcher, log, _) = failing(&group, policy, busy);
    for work in 0..2 {
        dispatcher.push("k", work).await.unwrap();
    }
    sleep(ms(500)).await;
    dispatcher.clear_not_before(&"k");
    group.wait().await.unwrap();
    let expected = [(0, 1, 0), (0, 2, 500), (1, 1, 501)];
    assert_eq!(
        log.take(),
        expected.map(|(work, attempt, at)| (("k", work, attempt), ms(at)))
    );
}

/// The server asked for it, and the limit of the dispatcher protects the rest of the queue only.
#[tokio::test(start_paused = true)]
async fn work_waits_for_a_whole_retry_after_though_its_key_is_held_for_less() {
    let group = Group::new();
    let policy =
        Policy::new(ConstantBuilder::default()).when(|_: &&str| Verdict::RetryAfter(ms(500)));
    let builder = Dispatcher::builder().max_hold(ms(100));
    let (dispatcher, log) = failing_first(&group, builder, policy, 1);
    for work in 0..2 {
        dispatcher.push("k", work).await.unwrap();
    }
    group.wait().await.unwrap();
    let expected = [(0, 0), (1, 100), (0, 500)];
    assert_eq!(log.take(), expected.map(|(work, at)| (work, ms(at))));
}

/// A server that sends a date as a number asks for half a century.
#[tokio::test(start_paused = true)]
async fn work_is_given_up_if_a_server_asks_for_more_than_an_hour() {
    for (pause, reason) in [
        ("3600", None),
        ("3601", Some(Reason::TooLong(HOUR + ms(1_000)))),
        ("1764480000", Some(Reason::TooLong(ms(1_764_480_000_000)))),
    ] {
        let group = Group::new();
        let policy = Policy::new(ConstantBuilder::default()).when(move |_: &&str| {
            let pause = retry_after(pause, SystemTime::now());
            Verdict::RetryAfter(pause.unwrap())
        });
        let busy = |_, attempt| if attempt == 1 { Err("busy") } else { Ok(()) };
        let (dispatcher, _, gave_up) = failing(&group, policy, busy);
        let begin = Instant::now();
        dispatcher.push("k", 7).await.unwrap();
        group.wait().await.unwrap();
        let expected: Vec<_> = reason.map(|reason| (7, 1, reason)).into_iter().collect();
        assert_eq!(ends(&gave_up), expected, "{pause}");
        assert!(begin.elapsed() <= HOUR, "{pause}: {:?}", begin.elapsed());
    }
}

/// The item is given up, and the others of its key need not ask.
#[tokio::test(start_paused = true)]
async fn a_retry_after_that_is_too_long_still_delays_its_key() {
    let group = Group::new();
    let policy = Policy::new(ConstantBuilder::default())
        .when(|&after: &Duration| Verdict::RetryAfter(after))
        .max_retry_after(ms(100));
    let answer = |work, _| if work == 0 { Err(HOUR * 5) } else { Ok(()) };
    let (dispatcher, log, gave_up) = failing(&group, policy, answer);
    for work in 0..2 {
        dispatcher.push("k", work).await.unwrap();
    }
    group.wait().await.unwrap();
    assert_eq!(ends(&gave_up), [(0, 1, Reason::TooLong(HOUR * 5))]);
    let started = log.take();
    assert_eq!(
        started[1],
        (("k", 1, 1), HOUR),
        "up to the cap of the dispatcher"
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_counts_and_is_retried_without_a_verdict() {
    let (group, log) = (Group::new(), Log::new());
    let starts = log.clone();
    let policy = Policy::<&str>::new(
        ConstantBuilder::default()
            .with_delay(ms(50))
            .with_max_times(2),
    )
    .when(|error| unreachable!("{error}"))
    .attempt_timeout(ms(200));
    let dispatcher = Dispatcher::builder().run(&group, move |work: u64, context| {
        starts.push(context.attempt());
        let (policy, log) = (policy.clone(), starts.clone());
        async move {
            let failure = policy
                .attempt(pending::<Result<(), _>>())
                .await
                .unwrap_err();
            assert_eq!(failure, Failure::TimedOut);
            if let Err(gave_up) = context.retry(&policy, work, &failure) {
                log.push(100 + gave_up.attempts);
            }
        }
    });
    dispatcher.push("k", 0).await.unwrap();
    group.wait().await.unwrap();
    let expected = [(1, 0), (2, 250), (3, 500), (103, 700)];
    assert_eq!(log.take(), expected.map(|(what, at)| (what, ms(at))));
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_the_budget() {
    let group = Group::new();
    // Two a second are allowed in any case: twenty in ten seconds; and half of the successes.
    let budget: Arc<TpsBudget> = Arc::new(TpsBudget::new(Duration::from_secs(10), 2, 0.5));
    let policy = Policy::new(
        ConstantBuilder::default()
            .with_delay(ms(10))
            .with_max_times(10),
    )
    .budget(budget);
    let answer = |work, _| if work < 30 { Ok(()) } else { Err("down") };
    let (dispatcher, _, gave_up) = failing(&group, policy, answer);
    for work in 0..130 {
        dispatcher.push("k", work).await.unwrap();
    }
    group.wait().await.unwrap();
    let stats = dispatcher.stats();
    assert_eq!(stats.returned, 20 + 15);
    let gave_up = ends(&gave_up);
    assert_eq!(gave_up.len(), 100);
    assert!(
        gave_up.iter().all(|(.., reason)| *reason == Reason::Budget),
        "{gave_up:?}"
    );
}

/// The budget is asked last: what would be given up anyway takes no credit.
#[tokio::test(start_paused = true)]
async fn work_that_is_given_up_takes_nothing_of_the_budget() {
    #[derive(Default)]
    struct Counts(Mutex<(u32, u32)>);
    impl Budget for Counts {
        fn deposit(&self) {
            self.0.lock().unwrap().0 += 1;
        }
        fn withdraw(&self) -> bool {
            self.0.lock().unwrap().1 += 1;
            true
        }
    }
    let (group, counts) = (Group::new(), Arc::new(Counts::default()));
    let policy = Policy::new(ConstantBuilder::default().with_max_times(1))
        .when(|error: &u64| match error {
            0 => Verdict::Stop,
            1 => Verdict::RetryAfter(HOUR),
            _ => Verdict::Retry,
        })
        .max_retry_after(ms(1))
        .budget(counts.clone());
    let (dispatcher, ..) = failing(
        &group,
        policy,
        |work, _| if work < 3 { Err(work) } else { Ok(()) },
    );
    for (key, work) in ["a", "b", "c", "d"].into_iter().zip(0..) {
        dispatcher.push(key, work).await.unwrap();
    }
    group.wait().await.unwrap();
    // Work 2 is retried once, and then its delays have ended; work 3 succeeds.
    assert_eq!(*counts.0.lock().unwrap(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_delays_its_key_also_if_its_work_is_given_up() {
    let policy = |delays| {
        Policy::new(ConstantBuilder::default().with_max_times(delays))
            .when(|_: &&str| Verdict::RetryAfter(ms(500)))
    };
    let no_budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 0, 0.0));
    for (policy, reason) in [
        (policy(0), Reason::Delays),
        (policy(1).budget(no_budget), Reason::Budget),
    ] {
        let group = Group::new();
        let busy = |work, _| if work == 0 { Err("busy") } else { Ok(()) };
        let (dispatcher, log, gave_up) = failing(&group, policy, busy);
        dispatcher.push("k", 0).await.unwrap();
        dispatcher.push("k", 1).await.unwrap();
        group.wait().await.unwrap();
        assert_eq!(ends(&gave_up), [(0, 1, reason)]);
        let expected = [(("k", 0, 1), ms(0)), (("k", 1, 1), ms(500))];
        assert_eq!(log.take(), expected, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_a_closed_dispatcher_gives_back_is_no_retry() {
    struct Counts(AtomicU32);
    impl Budget for Counts {
        fn deposit(&self) {}
        fn withdraw(&self) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst);
            true
        }
    }
    let (group, withdrawn) = (Group::new(), Arc::new(Counts(AtomicU32::new(0))));
    let given_up = Ends::default();
    let of_work = Arc::clone(&given_up);
    let policy = Policy::new(ConstantBuilder::default())
        .budget(Arc::clone(&withdrawn) as Arc<dyn Budget + Send + Sync>)
        .notify(move |_: &Failure<u64>, _| panic!("nothing is retried"));
    let dispatcher = Dispatcher::builder().run(&group, move |work: u64, context| {
        let (policy, given_up) = (policy.clone(), Arc::clone(&of_work));
        async move {
            sleep(ms(100)).await;
            let failure = Failure::Error(work);
            let given_back = context.retry(&policy, work, &failure).unwrap_err();
            given_up.lock().unwrap().push(given_back);
        }
    });
    dispatcher.push("k", 7).await.unwrap();
    sleep(ms(1)).await;
    let drained = dispatcher.drain(Duration::ZERO).await;
    assert_eq!(drained.running, 1);
    group.wait().await.unwrap();
    assert_eq!(ends(&given_up), [(7, 1, Reason::Closed)]);
    assert_eq!(withdrawn.0.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn the_hook_is_called_for_each_failure_that_is_retried() {
    let (group, heard) = (Group::new(), Arc::new(Mutex::new(Vec::new())));
    let hears = Arc::clone(&heard);
    let delays = [ms(10), ms(20)];
    let policy = Policy::new(delays.into_iter())
        .notify(move |failure, pause| hears.lock().unwrap().push(format!("{failure} {pause:?}")));
    let (dispatcher, ..) = failing(&group, policy, |_, _| Err("busy"));
    dispatcher.push("k", 0).await.unwrap();
    group.wait().await.unwrap();
    assert_eq!(*heard.lock().unwrap(), ["busy 10ms", "busy 20ms"]);
}

#[tokio::test(start_paused = true)]
async fn each_piece_of_work_has_delays_of_its_own() {
    let group = Group::new();
    let delays = [100, 200].map(ms).into_iter();
    let (dispatcher, log, _) = failing(&group, Policy::new(delays), |_, _| Err("busy"));
    for key in ["a", "b"] {
        dispatcher.push(key, 0).await.unwrap();
    }
    group.wait().await.unwrap();
    let started = log.take();
    for wanted in ["a", "b"] {
        let of_key = started.iter().filter(|((key, ..), _)| *key == wanted);
        let at: Vec<Duration> = of_key.map(|(_, at)| *at).collect();
        assert_eq!(at, [0, 100, 300].map(ms), "{wanted}");
    }
}

/// The same delays without a queue: the crate's own retry.
#[tokio::test(start_paused = true)]
async fn the_same_delays_serve_the_crates_own_retry() {
    let (group, delays) = (Group::new(), ConstantBuilder::default().with_delay(ms(100)));
    let begin = Instant::now();
    let error = flow::retry(|| async { Err::<(), _>("busy") })
        .attempts(u32::MAX)
        .delays(delays.with_max_times(4).build())
        .spawn_on(&group)
        .await
        .unwrap_err();
    assert_eq!((error.attempts, error.ended), (5, Ended::Delays));
    assert_eq!(begin.elapsed(), ms(400));
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_verdict_ends_its_work_and_frees_its_slot() {
    let group = Group::new();
    let policy = Policy::new(ConstantBuilder::default()).when(|_: &&str| panic!("no verdict"));
    let answer = |work, _| if work == 0 { Err("busy") } else { Ok(()) };
    let (dispatcher, log, _) = failing(&group, policy, answer);
    for work in 0..3 {
        dispatcher.push("k", work).await.unwrap();
    }
    let ended = group.wait().await;
    assert!(matches!(ended, Err(WaitError::Panicked(_))), "{ended:?}");
    assert_eq!(log.labels(), [("k", 0, 1), ("k", 1, 1), ("k", 2, 1)]);
    assert_eq!(dispatcher.stats().running, 0);
}

#[test]
fn the_text_of_a_failure_has_its_error_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("no route")]
    struct NoRoute(#[source] std::io::Error);
    let failure = Failure::Error(NoRoute(std::io::Error::other("cable cut")));
    let source = std::error::Error::source(&failure).unwrap();
    assert_eq!(
        (failure.to_string(), source.to_string()),
        ("no route".into(), "cable cut".into())
    );
    assert_eq!(
        Failure::<NoRoute>::TimedOut.to_string(),
        "the attempt timed out"
    );
    let reasons = [
        (Reason::Stopped, "the error is final"),
        (Reason::Delays, "all attempts were made"),
        (
            Reason::TooLong(HOUR),
            "the server asks for a pause of 3600s",
        ),
        (Reason::Closed, "the dispatcher is closed"),
    ];
    for (reason, says) in reasons {
        assert_eq!(reason.to_string(), says);
    }
}

// `Retry-After`.

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn retry_after_reads_seconds_fractions_and_the_three_forms_of_dates() {
    let now = at(784_111_777);
    let seconds = Duration::from_secs;
    for (value, expected) in [
        ("0", Duration::ZERO),
        ("120", seconds(120)),
        ("  7 ", seconds(7)),
        ("1.5", ms(1_500)),
        ("0.000000001", Duration::from_nanos(1)),
        ("2.0000000009", seconds(2)),
        ("Sun, 06 Nov 1994 08:49:40 GMT", seconds(3)),
        ("Sunday, 06-Nov-94 08:49:40 GMT", seconds(3)),
        ("Sun Nov  6 08:49:40 1994", seconds(3)),
    ] {
        assert_eq!(retry_after(value, now), Some(expected), "{value:?}");
    }
}

#[test]
fn a_date_that_has_passed_is_now() {
    let now = at(784_111_777);
    for value in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:36 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        assert_eq!(retry_after(value, now), Some(Duration::ZERO), "{value:?}");
    }
}

#[test]
fn a_number_of_too_many_digits_is_a_very_long_delay() {
    let now = at(784_111_777);
    for value in ["99999999999999999999999", "18446744073709551615.999999999"] {
        let far = retry_after(value, now).unwrap();
        assert!(far >= Duration::from_secs(u64::MAX), "{value:?}: {far:?}");
    }
}

#[test]
fn retry_after_rejects_invalid_values_and_never_panics() {
    let now = at(784_111_777);
    let nonsense = [
        "",
        " ",
        "soon",
        "-1",
        "+1",
        "1e3",
        "1.",
        ".5",
        "1.2.3",
        "1 2",
        "1s",
        "0x10",
        "1,5",
        "\u{663}",
        "Sun, 06 Nov 1994",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
    ];
    for value in nonsense {
        assert_eq!(retry_after(value, now), None, "{value:?}");
    }
    let parts = [
        "1", "99", ".", " ", "Sun,", "Nov", "GMT", ":", "\u{e9}", "-", "1994", "08:49:37",
    ];
    let mut random = Random(3);
    for _ in 0..100_000 {
        let length = random.below(8);
        let value: String = (0..length)
            .map(|_| parts[random.below(12) as usize])
            .collect();
        let _ = retry_after(&value, now);
    }
}
