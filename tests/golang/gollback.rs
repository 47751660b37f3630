//! `github.com/vardius/gollback`, `gollback_test.go` and `example_test.go`, Copyright (c) 2019 Rafał
//! Lorenz, MIT.
//!
//! Not here: `TestRaceNilContext`, `TestAllNilContext`, `TestRetryNilContext` (a token is never nil, and
//! may be left out).

use std::iter::repeat;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::TaskError;
use schedgroup::flow::{self, Ended, RaceError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{HOUR, bounded, cancelled_after, ms, multi_thread, settle, timed, watched};

type Outcome = Result<u32, &'static str>;

#[tokio::test(start_paused = true)]
async fn test_race() {
    let start = Instant::now();
    let none: [std::future::Ready<Outcome>; 0] = [];
    assert!(matches!(flow::race(none).await, Err(RaceError::TooFew)));

    let won = flow::race(timed([(1000, Ok(1)), (1001, Err("failed")), (1002, Ok(3))])).await;
    assert_eq!((won.unwrap(), start.elapsed()), (1, ms(1000)));

    let won = flow::race(timed([(3, Ok(1)), (2, Err("failed")), (1, Ok(3))])).await;
    assert_eq!(won.unwrap(), 3);

    // All fail but the first, one in the middle, or the last to end.
    for winner in 0..3 {
        let mut tasks = [(1, Err("failed")), (2, Err("failed")), (3, Err("failed"))];
        tasks[winner].1 = Ok(7);
        assert_eq!(flow::race(timed(tasks)).await.unwrap(), 7, "{winner}");
    }

    let lost = flow::race(timed([(1, Err("a")), (3, Err("b")), (2, Err("c"))])).await;
    let Err(RaceError::Failed(errors)) = lost else {
        panic!("{lost:?}");
    };
    let errors: Vec<_> = errors.into_iter().map(TaskError::into_error).collect();
    assert_eq!(errors, [Some("a"), Some("c"), Some("b")]);
}

#[tokio::test(start_paused = true)]
async fn test_race_timeout() {
    let start = Instant::now();
    let race = flow::race(timed([(10_000, Ok(1))]));
    let lost = race.token(cancelled_after(5_000)).await;
    assert!(matches!(lost, Err(RaceError::Cancelled)), "{lost:?}");
    assert_eq!(start.elapsed(), ms(5_000));
}

#[tokio::test(start_paused = true)]
async fn test_all() {
    let ends = flow::all(timed([(3, Ok(1)), (1, Err("failed")), (2, Ok(3))])).await;
    let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
    assert_eq!(ends, [Ok(1), Err("failed"), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn test_retry_timeout() {
    let start = Instant::now();
    let op = || async { Err::<(), _>("failed") };
    let error = flow::retry(op)
        .attempts(u32::MAX)
        .delays(repeat(ms(20)))
        .token(cancelled_after(50))
        .await
        .unwrap_err();
    assert!(matches!(error.ended, Ended::Cancelled), "{error:?}");
    // F-GB3: the cause is kept beside.
    assert_eq!((error.attempts, error.last), (3, Some("failed")));
    assert_eq!(start.elapsed(), ms(50));
}

#[tokio::test(start_paused = true)]
async fn test_retry_fail() {
    let mut calls = 0;
    let op = || {
        calls += 1;
        async { Err::<(), _>("failed") }
    };
    let error = flow::retry(op)
        .attempts(5)
        .delays(repeat(ms(1)))
        .await
        .unwrap_err();
    assert!(matches!(error.ended, Ended::Attempts), "{error:?}");
    assert_eq!((error.last, error.attempts, calls), (Some("failed"), 5, 5));
}

#[tokio::test]
async fn test_retry_success() {
    let mut calls = 0;
    let op = || {
        calls += 1;
        async { Ok::<_, &str>("yes") }
    };
    let retry = flow::retry(op).attempts(5).delays(repeat(HOUR));
    assert_eq!(retry.await.unwrap(), "yes");
    assert_eq!(calls, 1);
}

/// All have failed by the time that anybody looks; made-order is counted as the tasks' last act.
#[test]
fn f_gb1_the_last_error_in_time_is_the_last() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..2_000 {
                let order = Arc::new(std::sync::Mutex::new(0));
                let tasks = (0..4).map(|_| {
                    let order = Arc::clone(&order);
                    async move {
                        let mut order = order.lock().unwrap();
                        *order += 1;
                        Err::<(), _>(*order)
                    }
                });
                // One at a time, so that what is last in time is no question of nanoseconds.
                let lost = bounded(flow::race(tasks).limit(1 + round % 2 * 3)).await;
                let Err(RaceError::Failed(errors)) = lost else {
                    panic!("{lost:?}");
                };
                assert_eq!(errors.len(), 4);
                if round % 2 == 0 {
                    let last = errors.last().clone().into_error();
                    assert_eq!(last, Some(4), "round {round}: {errors:?}");
                }
            }
        });
    });
}

/// The same on one thread, where all four have ended before the race is polled again.
#[tokio::test]
async fn f_gb1_errors_that_were_all_there_keep_their_order() {
    for _ in 0..100 {
        let tasks = (0..4).map(|n| async move { Err::<(), _>(n) });
        let lost = flow::race(tasks).await.unwrap_err();
        let last = lost.last().cloned().and_then(TaskError::into_error);
        assert_eq!(last, Some(3), "{lost:?}");
    }
}

#[test]
fn f_gb2_a_cancelled_token_starts_nothing() {
    watched(|| {
        multi_thread().block_on(async {
            let token = CancellationToken::new();
            token.cancel();
            for round in 0..2_000 {
                let started = Arc::new(AtomicUsize::new(0));
                let tasks = (0..4).map(|n| {
                    let started = Arc::clone(&started);
                    async move {
                        started.fetch_add(1, SeqCst);
                        Ok::<_, ()>(n)
                    }
                });
                let lost = bounded(flow::race(tasks).token(token.clone())).await;
                assert!(
                    matches!(lost, Err(RaceError::Cancelled)),
                    "round {round}: {lost:?}"
                );
                assert_eq!(started.load(SeqCst), 0, "round {round}");
            }
        });
    });
}

#[tokio::test(start_paused = true)]
async fn f_gb3_a_retry_hears_a_cancel_in_the_middle_of_an_attempt() {
    let start = Instant::now();
    let op = || async {
        sleep(ms(200)).await;
        Err::<(), _>("failed")
    };
    let retry = flow::retry(op)
        .attempts(u32::MAX)
        .delays(repeat(Duration::ZERO));
    let error = retry.token(cancelled_after(20)).await.unwrap_err();
    assert!(matches!(error.ended, Ended::Cancelled), "{error:?}");
    assert_eq!((start.elapsed(), error.attempts), (ms(20), 1));
}

/// A retry without pauses that is always ready still lets others run.
#[tokio::test]
async fn f_gb3_a_retry_without_pauses_is_no_hot_loop() {
    let token = CancellationToken::new();
    let other = token.clone();
    tokio::spawn(async move {
        settle().await;
        other.cancel();
    });
    let op = || async { Err::<(), _>(()) };
    let retry = flow::retry(op)
        .attempts(u32::MAX)
        .delays(repeat(Duration::ZERO));
    let error = bounded(retry.token(token)).await.unwrap_err();
    assert!(matches!(error.ended, Ended::Cancelled), "{error:?}");
}

/// The losers' guards are gone when the race is over, and `all` hears a cancel.
#[test]
fn f_gb4_losers_are_joined_and_all_hears_a_cancel() {
    use crate::common::Flag;
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..500 {
                let flag = Flag::new();
                let tasks = (0..4).map(|n| {
                    let guard = flag.guard();
                    async move {
                        let _guard = guard;
                        if n > 0 {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, ()>(n)
                    }
                });
                assert_eq!(bounded(flow::race(tasks)).await.unwrap(), 0);
                assert_eq!(flag.drops(), 4, "round {round}");
            }
            let token = CancellationToken::new();
            let tasks = (0..3).map(|n| {
                let token = token.clone();
                async move {
                    if n == 1 {
                        token.cancel();
                        std::future::pending::<()>().await;
                    }
                }
            });
            let ends = bounded(flow::all(tasks).limit(1).token(token.clone())).await;
            let ends: Vec<_> = ends.iter().map(Result::is_ok).collect();
            assert_eq!(ends, [true, false, false]);
        });
    });
}

/// Typed values, and a limit.
#[tokio::test]
async fn f_gb5_a_limit_holds() {
    use crate::common::Meter;
    for limit in [1, 3, 1000] {
        let meter = Meter::default();
        let tasks = (0..30).map(|_| meter.clone().run());
        assert_eq!(flow::all(tasks).limit(limit).await.len(), 30);
        assert_eq!((meter.all(), meter.most()), (30, limit.min(30)));
    }
}

mod examples {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn example_race() {
        let tasks = timed([(3_000, Ok(1)), (1_000, Err("failed")), (2_000, Ok(3))]);
        assert_eq!(flow::race(tasks).await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn example_all() {
        let tasks = timed([(3_000, Ok(1)), (10, Err("failed")), (2_000, Ok(3))]);
        let ends = flow::all(tasks).await.into_iter();
        let ends: Vec<_> = ends.map(Result::unwrap).collect();
        assert_eq!(ends, [Ok(1), Err("failed"), Ok(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn example_retry_five_times() {
        let op = || async { Err::<(), _>("failed") };
        let error = flow::retry(op)
            .attempts(5)
            .delays(repeat(ms(10)))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "gave up after 5 attempts: failed");
    }
}
