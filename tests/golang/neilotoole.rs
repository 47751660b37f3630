//! `github.com/neilotoole/errgroup`, `errgroup_test.go`, Copyright Neil O'Toole and The Go Authors,
//! BSD-3-Clause.
//!
//! Not here: `TestEquivalence_GoWaitThenGoAgain`, `TestEquivalence_WaitThenGo` (a group waits once, a second
//! group is made instead; `kratos::misuse_after_wait_is_named`); F-NE7, F-NE8 (no such races or
//! benchmarks here).

use schedgroup::task::{OnError, TaskGroup};
use tokio_util::sync::CancellationToken;

use crate::common::{Meter, bounded, misuse};

#[tokio::test]
async fn test_zero_group() {
    super::xsync::each_list_has_its_first_error(|| {
        TaskGroup::builder()
            .limit(2)
            .queue(2)
            .on_error(OnError::Continue)
            .build()
    })
    .await;
}

#[tokio::test]
async fn test_with_context() {
    super::xsync::each_list_has_its_first_error(|| {
        let token = CancellationToken::new();
        TaskGroup::builder().limit(2).queue(2).token(token).build()
    })
    .await;
}

#[tokio::test]
async fn test_group() {
    for limit in [1, 2, 4, 16] {
        for queue in [0, 1, 4, 16] {
            let group = TaskGroup::<()>::builder().limit(limit).queue(queue).build();
            let meter = Meter::default();
            for _ in 0..50 {
                let meter = meter.clone();
                let task = async {
                    meter.run().await;
                    Ok(())
                };
                bounded(group.submit(task)).await.unwrap();
            }
            bounded(group.wait()).await.unwrap();
            // F-NE3: the limit is reached whatever the queue is.
            assert_eq!(
                (meter.all(), meter.most()),
                (50, limit),
                "({limit}, {queue})"
            );
        }
    }
}

/// F-NE1: a task spawns while the group waits.
#[tokio::test]
async fn a_task_submits_through_its_handle_while_the_group_waits() {
    let group = TaskGroup::<()>::builder().limit(2).build();
    let handle = group.handle();
    group.spawn(async move {
        tokio::task::yield_now().await;
        handle.submit(async { Ok(()) }).await.unwrap();
        Ok(())
    });
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().finished, 2);
}

/// F-NE2, F-NE5: an error ends no worker; later tasks run, or are told to be skipped.
#[tokio::test]
async fn an_error_at_limit_one_blocks_nothing() {
    for round in 0..1_000 {
        let group = TaskGroup::builder().limit(1).queue(1).build();
        let (mut taken, mut rejected) = (0, 0);
        for n in 0..4 {
            let task = async move { if n == 0 { Err(n) } else { Ok(()) } };
            match bounded(group.submit(task)).await {
                Ok(_) => taken += 1,
                Err(_) => rejected += 1,
            }
        }
        assert!(bounded(group.wait()).await.is_err());
        let stats = group.stats();
        let told = stats.finished + stats.failed + stats.skipped;
        assert_eq!(
            (told, taken + rejected),
            (taken, 4),
            "round {round}: {stats:?}"
        );
    }
}

/// F-NE4: absurd sizes fail when the group is built.
#[test]
fn a_limit_of_zero_is_rejected() {
    assert_eq!(
        misuse(|| drop(TaskGroup::<()>::builder().limit(0))),
        "schedgroup: Builder::limit must be at least 1: no task could ever run"
    );
}

#[tokio::test]
async fn continue_runs_all_tasks_after_an_error() {
    let group = TaskGroup::builder()
        .limit(1)
        .on_error(OnError::Continue)
        .build();
    for n in 0..6 {
        group.spawn(async move { if n == 0 { Err(n) } else { Ok(()) } });
    }
    assert!(group.wait().await.is_err());
    assert_eq!((group.stats().finished, group.stats().skipped), (5, 0));
}
