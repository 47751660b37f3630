//! `github.com/pieterclaerhout/go-waitgroup`, `waitgroup_test.go`, Copyright Pieter Claerhout, MIT.

use schedgroup::task::{OnError, TaskGroup};
use tokio::sync::oneshot;

use crate::common::bounded;

/// Running and waiting.
fn held(group: &TaskGroup<()>) -> (usize, usize) {
    let stats = group.stats();
    (stats.running, stats.pending)
}

/// F-GW1: running and waiting apart, and no race in the middle.
#[tokio::test]
async fn test_wait_group() {
    let group = TaskGroup::<()>::builder().limit(1).build();
    assert_eq!(held(&group), (0, 0));
    let (go, gone) = oneshot::channel::<()>();
    group.spawn(async {
        gone.await.unwrap();
        Ok(())
    });
    group.spawn(async { Ok(()) });
    assert_eq!(held(&group), (1, 1));
    go.send(()).unwrap();
    bounded(group.wait()).await.unwrap();
    assert_eq!(held(&group), (0, 0));
}

#[tokio::test]
async fn test_wait_group_add() {
    let group = TaskGroup::<()>::builder().limit(1).build();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 0..3 {
        let order = order.clone();
        group.spawn(async move {
            order.lock().unwrap().push(n);
            Ok(())
        });
    }
    bounded(group.wait()).await.unwrap();
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn test_error_group_add() {
    let group = TaskGroup::new();
    for outcome in [Ok(()), Err("failed")] {
        group.spawn(async move { outcome });
    }
    assert_eq!(group.wait().await.unwrap_err().into_error(), Some("failed"));
}

/// F-GW2: a member counts down once, however it ends; F-GW3: the rest is cancelled for real.
#[tokio::test]
async fn a_failing_member_cancels_the_tasks() {
    // The task is to hear of it, which under the default policy would be aborted.
    let group = TaskGroup::builder().on_error(OnError::Cancel).build();
    let member = group.member();
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Ok(())
    });
    member.fail("stop");
    drop(member);
    let outcome = bounded(group.wait()).await;
    assert_eq!(outcome.unwrap_err().into_error(), Some("stop"));
    assert_eq!(group.stats().finished, 1);
}
