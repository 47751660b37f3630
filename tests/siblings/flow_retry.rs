//! One thing at a time: retries and waterfalls.

use std::future::{Future, IntoFuture, pending};
use std::iter::{empty, repeat};
use std::num::ParseIntError;
use std::pin::Pin;
use std::time::Duration;

use schedgroup::TaskError;
use schedgroup::flow::{self, Attempts, Ended, Verdict};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{OnDrop, bounded, misuse, ms, panic_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Busy(Duration),
    Broken,
    Flaky,
}

/// What `Retry-After` asks for takes the place of the next delay, and uses it up.
#[tokio::test(start_paused = true)]
async fn an_error_can_choose_the_pause() {
    let (start, mut times) = (Instant::now(), Vec::new());
    let mut faults = [Fault::Flaky, Fault::Busy(ms(500)), Fault::Flaky].into_iter();
    let value = flow::retry(Attempts::Unlimited, [10, 20, 40].map(ms), || {
        times.push(start.elapsed());
        let fault = faults.next();
        async move { fault.map_or(Ok(7), Err) }
    })
    .verdict(|fault: &Fault| match fault {
        Fault::Busy(pause) => Verdict::After(*pause),
        Fault::Broken => Verdict::Stop,
        Fault::Flaky => Verdict::Again,
    });
    assert_eq!(value.await.unwrap(), 7);
    assert_eq!(times, [0, 10, 510, 550].map(ms));
}

#[tokio::test]
async fn an_error_can_stop_it() {
    let error = flow::retry(9, repeat(ms(1)), || async { Err::<(), _>(Fault::Broken) })
        .verdict(|_: &Fault| Verdict::Stop)
        .await
        .unwrap_err();
    assert!(matches!(error.ended, Ended::Stopped), "{error:?}");
    assert_eq!((error.last, error.attempts), (Some(Fault::Broken), 1));
}

#[tokio::test]
async fn the_last_attempt_asks_for_no_verdict_and_no_pause() {
    let retry = flow::retry(1, empty(), || async { Err::<(), _>("boom") });
    let error = retry.verdict(|_: &&str| unreachable!()).await.unwrap_err();
    assert!(matches!(error.ended, Ended::Attempts), "{error:?}");
}

#[tokio::test]
async fn no_delays_is_one_attempt() {
    let retry = flow::retry(Attempts::Unlimited, empty(), || async {
        Err::<(), _>("boom")
    });
    let error = retry.await.unwrap_err();
    assert!(matches!(error.ended, Ended::Delays), "{error:?}");
    assert_eq!(error.attempts, 1);
}

#[test]
fn no_attempts_are_refused() {
    let op = || async { Ok::<_, ()>(()) };
    assert_eq!(
        misuse(|| drop(flow::retry(0, empty(), op))),
        "schedgroup: flow::retry needs at least one attempt: with none it could never succeed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_it_beside_the_error_before() {
    let mut calls = 0;
    let line = line!() + 1;
    let error = flow::retry(9, repeat(ms(1)), || {
        calls += 1;
        let call = calls;
        async move {
            if call == 3 {
                panic!("boom")
            } else {
                Err::<(), _>(call)
            }
        }
    })
    .await
    .unwrap_err();
    let Ended::Panicked(panic) = error.ended else {
        panic!("{error:?}");
    };
    assert_eq!((panic.message(), panic.spawned_at().line()), ("boom", line));
    assert_eq!((error.last, error.attempts), (Some(2), 3));
    // Outside of its future, too.
    let error = flow::retry(
        9,
        repeat(ms(1)),
        || -> std::future::Ready<Result<(), ()>> { panic!("boom") },
    );
    assert!(matches!(error.await.unwrap_err().ended, Ended::Panicked(_)));
}

#[tokio::test(start_paused = true)]
async fn any_pause_can_be_cancelled() {
    let (token, start) = (CancellationToken::new(), Instant::now());
    let timer = token.clone();
    tokio::spawn(async move {
        sleep(ms(1_000)).await;
        timer.cancel();
    });
    let retry = flow::retry(2, [Duration::MAX], || async { Err::<(), _>("boom") });
    let error = retry.token(token).await.unwrap_err();
    assert!(matches!(error.ended, Ended::Cancelled), "{error:?}");
    assert_eq!(error.to_string(), "cancelled after 1 attempt: boom");
    assert_eq!(start.elapsed(), ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn it_takes_a_backoff_and_may_borrow() {
    let (start, text) = (Instant::now(), String::from("not a number"));
    let delays = [10, 20, 40, 40].map(ms).into_iter();
    let error = flow::retry(Attempts::Unlimited, delays, || async {
        text.parse::<u32>()
    })
    .await
    .unwrap_err();
    assert!(matches!(error.ended, Ended::Delays), "{error:?}");
    let last: Option<ParseIntError> = error.last;
    assert!(last.is_some());
    assert_eq!(
        (error.attempts, start.elapsed()),
        (5, ms(10 + 20 + 40 + 40))
    );
}

#[tokio::test]
async fn a_cancelled_attempt_is_dropped_with_care() {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let error = flow::retry(1, empty(), || {
        let bomb = OnDrop(|| panic!("in a destructor"));
        let cancel = cancel.clone();
        async move {
            let _bomb = bomb;
            cancel.cancel();
            pending::<Result<(), ()>>().await
        }
    })
    .token(token);
    let error = bounded(error).await.unwrap_err();
    assert!(matches!(error.ended, Ended::Cancelled), "{error:?}");
}

#[tokio::test]
async fn a_waterfall_names_the_step_that_failed() {
    for failing in 0..3 {
        let step =
            move |n: usize| async move { if n == failing { Err("boom") } else { Ok(n + 1) } };
        let outcome = flow::waterfall(0).then(step).then(step).then(step).await;
        assert!(
            matches!(outcome, Err(TaskError::Failed { index, error: "boom" }) if index == failing),
            "{failing}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_step_that_panics_is_named_with_its_line() {
    for early in [false, true] {
        let line = line!() + 4;
        let outcome = flow::waterfall::<_, ()>(early)
            .then(|early| async move { Ok(early) })
            // Before its future is made, or in it.
            .then(|early| {
                assert!(!early, "boom");
                async { if true { panic!("boom") } else { Ok(()) } }
            })
            .then(|()| async { unreachable!() });
        let outcome: Result<(), _> = outcome.await;
        let Err(TaskError::Panicked(panic)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((panic.message(), panic.spawned_at().line()), ("boom", line));
        assert_eq!(panic.index(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waterfall_is_cancelled_in_the_middle_of_a_step() {
    let (token, start) = (CancellationToken::new(), Instant::now());
    let timer = token.clone();
    tokio::spawn(async move {
        sleep(ms(15)).await;
        timer.cancel();
    });
    let step = |n: u32| async move {
        sleep(ms(10)).await;
        Ok::<_, ()>(n + 1)
    };
    let outcome = flow::waterfall(0).then(step).then(step).token(token).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!(start.elapsed(), ms(15));
}

#[tokio::test]
async fn what_a_step_held_is_gone_before_the_next_begins() {
    let flag = crate::common::Flag::new();
    let (guard, seen) = (flag.guard(), flag.clone());
    let drops = flow::waterfall::<_, ()>(guard)
        .then(|guard| async move {
            let _guard = guard;
            tokio::task::yield_now().await;
            Ok(())
        })
        .then(move |()| async move { Ok(seen.drops()) });
    assert_eq!(drops.await.unwrap(), 1);
}

#[tokio::test]
async fn a_poll_after_the_end_is_named() {
    let mut retry = flow::retry(1, empty(), || async { Ok::<_, ()>(1) }).into_future();
    let mut steps = flow::waterfall(1)
        .then(|n| async move { Ok::<_, ()>(n) })
        .into_future();
    bounded(&mut retry).await.unwrap();
    bounded(&mut steps).await.unwrap();
    let named = "schedgroup: a future was polled after it had ended";
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(
        panic_of(|| drop(Pin::new(&mut retry).poll(&mut cx))).message,
        named
    );
    assert_eq!(
        panic_of(|| drop(Pin::new(&mut steps).poll(&mut cx))).message,
        named
    );
}
