//! `github.com/AaronJan/Hunch`, `hunch_test.go` and `example_test.go`, Copyright (c) 2019 AaronJan, MIT.
//!
//! Not here: `TestMin` (`usize::min`); F-HU2's negative counts (a count is a `usize`).

use std::future::{Ready, pending};
use std::iter::repeat;

use schedgroup::TaskError;
use schedgroup::flow::{self, Ended};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, HOUR, bounded, cancelled_after, ms, multi_thread, on_both, timed, watched,
};

type Outcome = Result<u32, &'static str>;

const THREE: [(u64, Outcome); 3] = [(200, Ok(1)), (100, Ok(2)), (300, Ok(3))];

mod take {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn should_works_as_expected() {
        assert_eq!(flow::try_take(3, timed(THREE)).await.unwrap(), [2, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn should_just_take_all() {
        assert_eq!(flow::try_take(100, timed(THREE)).await.unwrap(), [2, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn should_limit_results() {
        let start = Instant::now();
        assert_eq!(flow::try_take(2, timed(THREE)).await.unwrap(), [2, 1]);
        assert_eq!(start.elapsed(), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn should_cancel_when_one_executable_returned_error() {
        let tasks = timed([(200, Err("boom")), (100, Ok(2)), (300, Ok(3))]);
        let outcome = flow::try_take(3, tasks).await;
        assert!(
            matches!(
                outcome,
                Err(TaskError::Failed {
                    index: 0,
                    error: "boom"
                })
            ),
            "{outcome:?}"
        );
        // After the last value that counts an error is nobody's business.
        let tasks = timed([(200, Err("boom")), (100, Ok(2)), (300, Ok(3))]);
        assert_eq!(flow::try_take(1, tasks).await.unwrap(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn should_cancel_when_root_canceled() {
        let start = Instant::now();
        let outcome = flow::try_take(3, timed(THREE))
            .token(cancelled_after(150))
            .await;
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
        assert_eq!(start.elapsed(), ms(150));
    }
}

mod all {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn should_works_as_expected() {
        let tasks = timed([(100, Ok(1)), (200, Ok(2)), (300, Ok(3))]);
        assert_eq!(flow::try_all(tasks).await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_out_of_order() {
        assert_eq!(flow::try_all(timed(THREE)).await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_root_ctx_canceled() {
        let outcome = flow::try_all(timed(THREE))
            .token(cancelled_after(150))
            .await;
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn when_any_sub_function_failed() {
        let tasks = timed([(200, Ok(1)), (100, Err("boom")), (300, Ok(3))]);
        let error = flow::try_all(tasks).await.unwrap_err();
        assert_eq!(error.to_string(), "task 1: boom");
    }
}

mod retry {
    use super::*;

    /// Counts the calls of an op that fails until its `success`th call.
    async fn run(
        attempts: u32,
        success: u32,
        token: Option<CancellationToken>,
    ) -> (Result<u32, flow::RetryError<&'static str>>, u32) {
        let mut calls = 0;
        let op = || {
            calls += 1;
            let call = calls;
            async move {
                sleep(ms(10)).await;
                if call == success {
                    Ok(call)
                } else {
                    Err("boom")
                }
            }
        };
        let retry = flow::retry(op).attempts(attempts).delays(repeat(ms(10)));
        let outcome = match token {
            Some(token) => retry.token(token).await,
            None => retry.await,
        };
        (outcome, calls)
    }

    #[tokio::test(start_paused = true)]
    async fn with_no_failure() {
        let (outcome, calls) = run(3, 1, None).await;
        assert_eq!((outcome.unwrap(), calls), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn should_returns_on_success() {
        let (outcome, calls) = run(u32::MAX, 1, None).await;
        assert_eq!((outcome.unwrap(), calls), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn should_returns_after_failing_several_times() {
        let (outcome, calls) = run(3, 2, None).await;
        assert_eq!((outcome.unwrap(), calls), (2, 2));
    }

    /// F-HU3: the cause is kept, and the text is one line.
    #[tokio::test(start_paused = true)]
    async fn should_keep_retrying() {
        let (outcome, calls) = run(3, 9, None).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error.ended, Ended::Attempts), "{error:?}");
        assert_eq!((error.last, error.attempts, calls), (Some("boom"), 3, 3));
        assert_eq!(error.to_string(), "gave up after 3 attempts: boom");
    }

    #[tokio::test(start_paused = true)]
    async fn when_root_ctx_canceled() {
        // 10 for the attempt, 10 for the pause: in the middle of either.
        for (millis, attempts) in [(25, 2), (35, 2)] {
            let start = Instant::now();
            let (outcome, calls) = run(3, 9, Some(cancelled_after(millis))).await;
            let error = outcome.unwrap_err();
            assert!(matches!(error.ended, Ended::Cancelled), "{error:?}");
            assert_eq!((error.last, calls), (Some("boom"), attempts));
            assert_eq!(start.elapsed(), ms(millis));
        }
    }
}

mod last {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn should_works_as_expected() {
        assert_eq!(flow::last(2, timed(THREE)).await.unwrap(), [1, 3]);
        assert_eq!(flow::last(9, timed(THREE)).await.unwrap(), [2, 1, 3]);
    }
}

mod waterfall {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn should_works_as_expected() {
        let sum = flow::waterfall::<_, &str>(0)
            .then(|n| async move { Ok(n + 1) })
            .then(|n| async move {
                sleep(ms(10)).await;
                Ok(n + 1)
            })
            .then(|n| async move { Ok(n + 1) });
        assert_eq!(sum.await.unwrap(), 3);
    }
}

#[tokio::test]
async fn f_hu1_no_tasks_end_at_once() {
    let none = || -> [Ready<Outcome>; 0] { [] };
    assert_eq!(bounded(flow::try_all(none())).await.unwrap(), []);
    assert_eq!(bounded(flow::try_take(1, none())).await.unwrap(), []);
    assert_eq!(bounded(flow::last(1, none())).await.unwrap(), []);
    assert_eq!(bounded(flow::waterfall::<_, &str>(1)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn f_hu2_a_count_of_zero_is_no_values() {
    let start = Instant::now();
    assert_eq!(flow::try_take(0, timed(THREE)).await.unwrap(), []);
    assert_eq!(start.elapsed(), ms(0), "nothing has started");
    assert_eq!(flow::last(0, timed(THREE)).await.unwrap(), []);
    assert_eq!(start.elapsed(), ms(300), "all of them have run");
    let outcome = flow::last(0, timed([(1, Err("boom"))])).await;
    assert!(
        matches!(outcome, Err(TaskError::Failed { index: 0, .. })),
        "{outcome:?}"
    );
}

/// Pauses between the attempts, of any iterator.
#[tokio::test(start_paused = true)]
async fn f_hu3_a_retry_pauses_as_its_delays_say() {
    let mut times = Vec::new();
    let start = Instant::now();
    let op = || {
        times.push(start.elapsed());
        async { Err::<(), _>("boom") }
    };
    let error = flow::retry(op)
        .attempts(9)
        .delays([10, 20, 40].map(ms))
        .await
        .unwrap_err();
    assert!(matches!(error.ended, Ended::Delays), "{error:?}");
    assert_eq!(times, [0, 10, 30, 70].map(ms));
}

#[test]
fn f_hu4_losers_are_aborted_and_joined() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..100 {
                let flag = Flag::new();
                let tasks = (0..3).map(|n| {
                    let guard = flag.guard();
                    async move {
                        let _guard = guard;
                        // Deaf to any token.
                        if n > 0 {
                            sleep(HOUR).await;
                        }
                        Ok::<_, ()>(n)
                    }
                });
                assert_eq!(bounded(flow::try_take(1, tasks)).await.unwrap(), [0]);
                assert_eq!(flag.drops(), 3, "round {round}");
            }
        });
    });
}

#[tokio::test]
async fn f_hu5_a_cancelled_token_starts_nothing() {
    let token = CancellationToken::new();
    token.cancel();
    async fn started() -> Outcome {
        panic!("it was started")
    }
    let panics = || [started()];
    let outcome = flow::try_all(panics()).token(token.clone()).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    let outcome = flow::try_take(1, panics()).token(token.clone()).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    let outcome = flow::last(1, panics()).token(token.clone()).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    let ends = flow::all(panics()).token(token.clone()).await;
    assert!(matches!(ends[..], [Err(TaskError::Cancelled)]), "{ends:?}");
    let error = flow::retry(started).token(token.clone()).await.unwrap_err();
    assert_eq!((error.attempts, error.last), (0, None));
    let outcome = flow::waterfall(()).then(|()| started()).token(token).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
}

/// A task that cancels, and then has a value: the value, every time.
#[test]
fn f_hu6_a_value_beats_a_cancel_that_is_there_too() {
    on_both(|| async {
        for round in 0..2_000 {
            let token = CancellationToken::new();
            let own = token.clone();
            let task = async move {
                own.cancel();
                Ok::<_, ()>(1)
            };
            let outcome = flow::try_take(1, [task]).token(token).await;
            assert!(
                matches!(outcome.as_deref(), Ok([1])),
                "round {round}: {outcome:?}"
            );
        }
    });
}

/// Named in the package's documentation, and not there.
#[tokio::test(start_paused = true)]
async fn first_is_take_of_one_or_a_race() {
    assert_eq!(flow::try_take(1, timed(THREE)).await.unwrap(), [2]);
    // They differ when an error comes first.
    let tasks = || timed([(1, Err("boom")), (2, Ok(2))]);
    assert!(flow::try_take(1, tasks()).await.is_err());
    assert_eq!(flow::take(1, tasks()).await.unwrap(), [2]);
    assert_eq!(flow::race(tasks()).await.unwrap(), 2);
}

mod examples {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_of_three() {
        let tasks = timed([(300, Ok(1)), (200, Ok(2)), (100, Ok(3))]);
        assert_eq!(flow::try_all(tasks).await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn take_two_and_the_last_two() {
        let tasks = || timed([(300, Ok(1)), (200, Ok(2)), (100, Ok(3))]);
        assert_eq!(flow::try_take(2, tasks()).await.unwrap(), [3, 2]);
        assert_eq!(flow::last(2, tasks()).await.unwrap(), [2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_that_succeeds_at_the_sixth_call() {
        let mut failures = 0;
        let value = flow::retry(|| {
            let done = failures == 5;
            failures += u32::from(!done);
            async move { if done { Ok(1) } else { Err("failed") } }
        })
        .attempts(10)
        .delays(repeat(ms(1)))
        .await;
        assert_eq!((value.unwrap(), failures), (1, 5));
    }

    /// A step may wait for other tasks; the pending one shows that nothing else is waited for.
    #[tokio::test(start_paused = true)]
    async fn waterfall_over_a_race() {
        let sum = flow::waterfall(1)
            .then(|n| async move {
                flow::race([0, 1].map(|slow| async move {
                    if slow == 1 {
                        pending::<()>().await;
                    }
                    Ok::<_, &str>(n + 1)
                }))
                .await
            })
            .then(|n| async move { Ok(n + 1) });
        assert_eq!(sum.await.unwrap(), 3);
    }
}
