//! `github.com/sourcegraph/conc`, `pool/error_pool_test.go` and `pool/context_pool_test.go`,
//! Copyright (c) 2023 Sourcegraph, MIT.
//!
//! Not here: "panics on configuration after init" and "cannot be reconfigured" (a builder ends where
//! the group begins), reuse (a group waits once; F-CO6), the pools with results and `Stream`.

use schedgroup::errgroup::{ErrGroup, OnError};
use schedgroup::{Cause, TaskError};

use super::Meter;
use crate::common::bounded;

#[tokio::test]
async fn error_pool_all_errors_are_returned() {
    let group = ErrGroup::builder().on_error(OnError::Continue).build();
    for outcome in [Err("1"), Ok(()), Err("2")] {
        group.spawn(async move { outcome });
    }
    assert_eq!(group.wait_all().await.unwrap_err().len(), 2);
}

#[tokio::test]
async fn error_pool_limits() {
    for limit in [1, 10, 100] {
        let (group, meter) = (
            ErrGroup::<()>::builder().limit(limit).build(),
            Meter::default(),
        );
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

/// Ten panics at limit two do not use the places up.
#[tokio::test]
async fn panics_do_not_exhaust_the_pool() {
    let group = ErrGroup::<()>::builder()
        .limit(2)
        .on_error(OnError::Continue)
        .build();
    for n in 0..10 {
        group.spawn(async move { panic!("{n}") });
    }
    assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 10);
}

#[tokio::test]
async fn context_pool_cancel_on_error_and_panic() {
    for panics in [false, true] {
        let group = ErrGroup::new();
        for _ in 0..2 {
            group.spawn_with(|token| async move {
                token.cancelled().await;
                match token.cause() {
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
async fn context_pool_without_cancel_on_error() {
    let group = ErrGroup::builder().on_error(OnError::Continue).build();
    let token = group.token();
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
        (group.stats().finished, token.cause()),
        (1, Some(Cause::Finished))
    );
}

/// F-CO4, F-CO5: see `kratos::a_task_spawns_while_the_group_waits_at_limit_one` and
/// `kratos::misuse_after_wait_is_named`; here for many levels.
#[tokio::test]
async fn tasks_spawn_tasks_down_a_chain() {
    fn chain(handle: schedgroup::errgroup::Handle<()>, left: u32) {
        let next = handle.clone();
        handle.spawn(async move {
            if left > 0 {
                chain(next, left - 1);
            }
            Ok(())
        });
    }
    let group = ErrGroup::builder().limit(1).build();
    chain(group.handle(), 1_000);
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().finished, 1_001);
}
