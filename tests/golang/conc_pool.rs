//! `github.com/sourcegraph/conc`, `pool/pool_test.go`, `pool/error_pool_test.go` and
//! `pool/context_pool_test.go`, Copyright (c) 2023 Sourcegraph, MIT.
//!
//! Not here: "panics on configuration after init" and "cannot be reconfigured" (a builder ends where
//! the group begins); "is reusable", "reuse resets errors" and F-CO6 (a group waits once, the next one is
//! a new one); `MaxGoroutines` (whoever built the group knows its limit).

use schedgroup::TaskError;
use schedgroup::task::Cause;
use schedgroup::task::{OnError, TaskGroup, TaskHandle};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::common::{Meter, bounded, cancelled_after, continuing, misuse, ms, sized};

/// Its `WithCancelOnError` tells the other tasks, and does not stop them as the default policy does.
fn cancelling<E: Send + 'static>() -> TaskGroup<E> {
    TaskGroup::builder().on_error(OnError::Cancel).build()
}

mod pool_test {
    use super::*;

    #[tokio::test]
    async fn basic() {
        let (group, meter) = (sized(100), Meter::default());
        for _ in 0..100 {
            group.spawn(meter.clone().run());
        }
        assert_eq!(bounded(group.wait()).await.unwrap().finished, 100);
        assert_eq!(meter.all(), 100);
    }

    #[tokio::test]
    async fn limit() {
        for limit in [1, 10, 100] {
            let (group, meter) = (sized(limit), Meter::default());
            for _ in 0..limit * 5 {
                group.spawn(meter.clone().run());
            }
            bounded(group.wait()).await.unwrap();
            assert_eq!((meter.all(), meter.most()), (limit * 5, limit));
        }
    }

    /// Ten panics at limit two do not use the slots up.
    #[tokio::test]
    async fn panics_do_not_exhaust_goroutines() {
        let group = TaskGroup::<()>::builder()
            .limit(2)
            .on_error(OnError::Continue)
            .build();
        for n in 0..10 {
            group.spawn(async move { panic!("{n}") });
        }
        assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 10);
    }

    #[test]
    fn panics_on_invalid_limit() {
        let rejected = misuse(|| drop(TaskGroup::<()>::builder().limit(0)));
        assert!(rejected.starts_with("schedgroup: "), "{rejected}");
    }
}

mod error_pool_test {
    use super::*;

    #[tokio::test]
    async fn wait_returns_no_error() {
        let group = continuing::<()>();
        for _ in 0..100 {
            group.spawn(async { Ok(()) });
        }
        assert!(bounded(group.wait_all()).await.is_ok());
    }

    #[tokio::test]
    async fn wait_returns_an_error() {
        let group = continuing();
        for outcome in [Ok(()), Err("1"), Ok(())] {
            group.spawn(async move { outcome });
        }
        assert_eq!(group.wait().await.unwrap_err().into_error(), Some("1"));
    }

    #[tokio::test]
    async fn all_errors_are_returned() {
        let group = continuing();
        for outcome in [Err("1"), Ok(()), Err("2")] {
            group.spawn(async move { outcome });
        }
        assert_eq!(group.wait_all().await.unwrap_err().len(), 2);
    }

    #[tokio::test]
    async fn propagate_panics() {
        let group = continuing::<()>();
        for n in 0..10 {
            group.spawn(async move { if n == 5 { panic!("{n}") } else { Ok(()) } });
        }
        let outcome = bounded(group.wait()).await;
        assert!(
            matches!(&outcome, Err(TaskError::Panicked(panic)) if panic.index() == 5),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn limit() {
        for limit in [1, 10, 100] {
            let group = TaskGroup::<()>::builder().limit(limit).build();
            let meter = Meter::default();
            for _ in 0..limit * 3 {
                let meter = meter.clone();
                group.spawn(async {
                    meter.run().await;
                    Ok(())
                });
            }
            bounded(group.wait()).await.unwrap();
            assert_eq!((meter.all(), meter.most()), (limit * 3, limit));
        }
    }
}

mod context_pool_test {
    use super::*;

    /// A group whose task ends with its token, and that token's parent.
    fn listening() -> (TaskGroup<&'static str>, CancellationToken) {
        let parent = CancellationToken::new();
        let group = TaskGroup::with_token(parent.clone());
        group.spawn_with(|token| async move {
            token.cancelled().await;
            Err("cancelled")
        });
        (group, parent)
    }

    #[tokio::test]
    async fn context_canceled() {
        let (group, parent) = listening();
        parent.cancel();
        let error = bounded(group.wait()).await.unwrap_err();
        assert_eq!(error.into_error(), Some("cancelled"));
    }

    #[tokio::test(start_paused = true)]
    async fn context_timed_out_and_in_time() {
        for (timeout, expected) in [(10, Some("cancelled")), (30, None)] {
            let group = TaskGroup::with_token(cancelled_after(timeout));
            group.spawn_with(|token| async move {
                tokio::select! {
                    () = token.cancelled() => Err("cancelled"),
                    () = sleep(ms(20)) => Ok(()),
                }
            });
            let error = group.wait().await.err().and_then(TaskError::into_error);
            assert_eq!(error, expected);
        }
    }

    #[tokio::test]
    async fn cancel_on_error_and_panic() {
        for panics in [false, true] {
            let group = cancelling();
            for _ in 0..2 {
                let handle = group.handle();
                group.spawn_with(|token| async move {
                    token.cancelled().await;
                    match handle.cause() {
                        Some(Cause::Failed { index: 2 } | Cause::Panicked { index: 2 }) => Ok(()),
                        other => panic!("{other:?}"),
                    }
                });
            }
            group.spawn(async move { if panics { panic!("boom") } else { Err("boom") } });
            let error = bounded(group.wait_all()).await.unwrap_err();
            assert_eq!((error.len(), group.stats().finished), (1, 2), "{error:?}");
        }
    }

    #[tokio::test]
    async fn no_cancel_on_error() {
        let group = continuing();
        group.spawn(async { Err("boom") });
        group.spawn_with(|token| async move {
            tokio::task::yield_now().await;
            assert!(!token.is_cancelled());
            Ok(())
        });
        let outcome = group.wait().await;
        assert!(
            matches!(outcome, Err(TaskError::Failed { index: 0, .. })),
            "{outcome:?}"
        );
        assert_eq!(
            (group.stats().finished, group.cause()),
            (1, Some(Cause::Finished))
        );
    }

    /// The failure is there before the cancel is seen, so the errors that follow from it are not first.
    #[tokio::test]
    async fn with_first_error_and_fail_fast() {
        let group = cancelling();
        for _ in 0..2 {
            group.spawn_with(|token| async move {
                token.cancelled().await;
                Err("follows")
            });
        }
        group.spawn(async { Err("first") });
        assert_eq!(
            bounded(group.wait()).await.unwrap_err().into_error(),
            Some("first")
        );
    }
}

/// A task spawns the next one while the group waits, a thousand times, at limit one.
#[tokio::test]
async fn f_co4_tasks_spawn_tasks_while_the_group_waits() {
    fn chain(handle: TaskHandle<()>, left: u32) {
        let next = handle.clone();
        handle.spawn(async move {
            if left > 0 {
                chain(next, left - 1);
            }
            Ok(())
        });
    }
    let group = TaskGroup::builder().limit(1).build();
    chain(group.handle(), 1_000);
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().finished, 1_001);
}
