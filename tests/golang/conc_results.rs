//! `github.com/sourcegraph/conc`, `pool/result_pool_test.go`, `pool/result_error_pool_test.go` and
//! `pool/result_context_pool_test.go`, Copyright (c) 2023 Sourcegraph, MIT.
//!
//! A pool with results is a set of tasks here: `flow::map`, `flow::all`, `flow::try_all`. Not here:
//! reconfiguring and reuse, as in `conc_pool`.

use schedgroup::TaskError;
use schedgroup::flow;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::common::{Meter, Random, bounded, ms};

/// `all`'s values and errors, apart.
fn apart<T, E>(ends: Vec<Result<Result<T, E>, TaskError>>) -> (Vec<T>, Vec<E>) {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for end in ends {
        match end.unwrap() {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    (values, errors)
}

mod result_group_test {
    use super::*;

    #[tokio::test]
    async fn basic() {
        let values = flow::map(0..100, |n| async move { n }).await.unwrap();
        assert!(values.into_iter().eq(0..100));
    }

    #[tokio::test(start_paused = true)]
    async fn deterministic_order() {
        let mut random = Random(7);
        let tasks = (0..100).map(|n| {
            let time = ms(random.below(100));
            async move {
                sleep(time).await;
                Ok::<_, ()>(n)
            }
        });
        let values = flow::try_all(tasks).await.unwrap();
        assert!(values.into_iter().eq(0..100));
    }

    #[tokio::test]
    async fn limit() {
        for limit in [1, 10, 100] {
            let meter = Meter::default();
            let tasks = (0..limit * 3).map(|_| meter.clone().run());
            assert_eq!(flow::all(tasks).limit(limit).await.len(), limit * 3);
            assert_eq!((meter.all(), meter.most()), (limit * 3, limit));
        }
    }
}

mod result_error_pool_test {
    use super::*;

    fn tasks(
        ends: &'static [Result<u32, &'static str>],
    ) -> impl Iterator<Item = std::future::Ready<Result<u32, &'static str>>> {
        ends.iter().map(|end| std::future::ready(*end))
    }

    #[tokio::test]
    async fn ok() {
        let (values, errors) = apart(flow::all(tasks(&[Ok(1), Ok(2)])).await);
        assert_eq!((values, errors), (vec![1, 2], vec![]));
    }

    #[tokio::test]
    async fn errored_ones_are_told_from_values() {
        let (values, errors) = apart(flow::all(tasks(&[Ok(1), Err("a"), Err("b")])).await);
        assert_eq!((values, errors), (vec![1], vec!["a", "b"]));
    }

    #[tokio::test]
    async fn with_first_error() {
        let error = flow::try_all(tasks(&[Ok(1), Err("a"), Err("b")])).await;
        assert!(
            matches!(
                error,
                Err(TaskError::Failed {
                    index: 1,
                    error: "a"
                })
            ),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn f_co1_values_after_the_last_failure_are_kept() {
        let (values, errors) = apart(flow::all(tasks(&[Ok(1), Err("boom"), Ok(3)])).await);
        assert_eq!((values, errors), (vec![1, 3], vec!["boom"]));
    }
}

mod result_context_pool_test {
    use super::*;

    #[tokio::test]
    async fn cancel_propagates() {
        let parent = CancellationToken::new();
        let cancel = parent.clone();
        let tasks = [0, 1].map(|n| {
            let token = cancel.clone();
            async move {
                if n == 1 {
                    token.cancel();
                }
                token.cancelled().await;
            }
        });
        let ends = bounded(flow::all(tasks).token(parent)).await;
        assert_eq!(ends.len(), 2, "{ends:?}");
    }

    /// `WithFailFast`: the first error aborts the others, and what they spawned hears of it by their guards.
    #[tokio::test]
    async fn with_cancel_on_error_and_fail_fast() {
        let (tell, told) = std::sync::mpsc::channel();
        let tasks = [0, 1].map(|n| {
            let tell = tell.clone();
            async move {
                if n == 1 {
                    return Err::<(), _>("boom");
                }
                let token = CancellationToken::new();
                let _guard = token.clone().drop_guard();
                // A task of its own outlives the abort.
                tokio::spawn(async move {
                    token.cancelled().await;
                    tell.send(()).unwrap();
                });
                std::future::pending().await
            }
        });
        drop(tell);
        let error = bounded(flow::try_all(tasks)).await;
        assert!(
            matches!(
                error,
                Err(TaskError::<_>::Failed {
                    index: 1,
                    error: "boom"
                })
            ),
            "{error:?}"
        );
        tokio::task::yield_now().await;
        assert_eq!(told.try_recv(), Ok(()));
    }

    /// All values and all errors, in whatever order the settings are made.
    #[tokio::test]
    async fn f_co2_no_setting_takes_another_one_back() {
        let meter = Meter::default();
        let tasks = |meter: &Meter| {
            let meter = meter.clone();
            [Ok(1), Err("boom"), Ok(3)].map(move |end| {
                let meter = meter.clone();
                async move {
                    meter.run().await;
                    end
                }
            })
        };
        let token = CancellationToken::new();
        let one = flow::all(tasks(&meter)).limit(2).token(token.clone()).await;
        let other = flow::all(tasks(&meter)).token(token).limit(2).await;
        for ends in [one, other] {
            assert_eq!(apart(ends), (vec![1, 3], vec!["boom"]));
        }
        assert_eq!((meter.all(), meter.most()), (6, 2));
    }

    /// A slot says that its task panicked; it is neither empty nor missing.
    #[tokio::test]
    async fn f_co7_a_panicked_task_leaves_no_empty_value() {
        let tasks = (0..3).map(|n| async move { if n == 2 { panic!("boom") } else { n } });
        let ends = flow::all(tasks).await;
        assert!(
            matches!(
                &ends[..],
                [Ok(0), Ok(1), Err(TaskError::Panicked(panic))] if panic.index() == 2
            ),
            "{ends:?}"
        );
    }
}
