//! `github.com/go-kratos/kratos` v1, `pkg/sync/errgroup/errgroup_test.go`, Copyright bilibili, MIT.
//!
//! Not here: the second `GOMAXPROCS` call (the limit is fixed when the group is built), `GoWithArgs`
//! (closures capture).

use schedgroup::TaskError;
use schedgroup::task::Cause;
use schedgroup::task::{OnError, TaskGroup};
use tokio::time::{Instant, sleep};

use crate::common::{Meter, bounded, misuse, ms, multi_thread, watched};

/// Its tasks are told of the first error by their context, and are not stopped as by the default policy.
fn cancelling(limit: usize) -> TaskGroup<&'static str> {
    TaskGroup::builder()
        .limit(limit)
        .on_error(OnError::Cancel)
        .build()
}

#[tokio::test]
async fn test_normal() {
    let (group, meter) = (TaskGroup::<()>::new(), Meter::default());
    for _ in 0..2 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    group.wait().await.unwrap();
    assert_eq!(meter.all(), 2);
}

#[tokio::test(start_paused = true)]
async fn test_gomaxprocs() {
    for (limit, expected) in [(4, ms(1000)), (2, ms(2000))] {
        let (group, start) = (
            TaskGroup::<()>::builder().limit(limit).build(),
            Instant::now(),
        );
        for _ in 0..4 {
            group.spawn(async {
                sleep(ms(1000)).await;
                Ok(())
            });
        }
        group.wait().await.unwrap();
        assert_eq!(start.elapsed(), expected, "limit {limit}");
    }
}

/// Its third part: at limit two a task that fails is told to the other one, which listens.
#[tokio::test]
async fn test_gomaxprocs_with_cancel() {
    let group = cancelling(2);
    group.spawn(async { Err("boom") });
    let (tell, told) = tokio::sync::oneshot::channel();
    let handle = group.handle();
    group.spawn_with(|token| async move {
        token.cancelled().await;
        tell.send(handle.cause()).unwrap();
        Ok(())
    });
    let error = bounded(group.wait()).await.unwrap_err();
    assert_eq!(error.into_error(), Some("boom"));
    assert_eq!(told.await.unwrap(), Some(Cause::Failed { index: 0 }));
}

#[tokio::test]
async fn test_zero_group() {
    super::xsync::each_list_has_its_first_error(|| {
        TaskGroup::builder()
            .on_error(OnError::Continue)
            .limit(2)
            .build()
    })
    .await;
}

/// A panic of the runtime's own making; the original writes into a nil map.
#[tokio::test]
async fn test_recover() {
    let group = TaskGroup::<&str>::new();
    let none: Vec<u8> = Vec::new();
    group.spawn(async move { if none[0] == 0 { Ok(()) } else { Err("no") } });
    let error = group.wait().await.unwrap_err();
    assert!(error.to_string().contains("index out of bounds"), "{error}");
}

#[tokio::test]
async fn test_recover2() {
    let group = TaskGroup::<()>::new();
    group.spawn(async { panic!("2233") });
    let error = group.wait_all().await.unwrap_err();
    let text = error.iter().map(|e| match e {
        TaskError::Panicked(panic) => panic.message().to_owned(),
        other => panic!("{other:?}"),
    });
    assert_eq!(text.collect::<Vec<_>>(), ["2233"]);
}

#[tokio::test(start_paused = true)]
async fn test_with_cancel() {
    let group = cancelling(usize::MAX);
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Err("cancelled")
    });
    group.spawn(async {
        sleep(ms(100)).await;
        Err("boom")
    });
    let outcome = group.wait().await;
    assert!(
        matches!(
            outcome,
            Err(TaskError::Failed {
                index: 1,
                error: "boom"
            })
        ),
        "{outcome:?}"
    );
}

/// F-KR1: a free slot takes the next task at once, nobody waits for it.
#[tokio::test(start_paused = true)]
async fn parked_tasks_run_before_wait() {
    let group = TaskGroup::<()>::builder().limit(2).build();
    for _ in 0..10 {
        group.spawn(async {
            sleep(ms(1)).await;
            Ok(())
        });
    }
    sleep(ms(300)).await;
    assert_eq!(group.stats().finished, 10, "{group:?}");
}

/// F-KR2: the program of the lecture that hangs the original, 10,000 concurrent calls at limit 1.
#[test]
fn ten_thousand_tasks_from_many_threads_are_all_run() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..100 {
                let group = TaskGroup::<()>::builder().limit(1).build();
                let meter = Meter::default();
                let callers: Vec<_> = (0..10)
                    .map(|_| {
                        let (handle, meter) = (group.handle(), meter.clone());
                        tokio::spawn(async move {
                            for _ in 0..1_000 {
                                let meter = meter.clone();
                                handle.spawn(async {
                                    meter.run().await;
                                    Ok(())
                                });
                            }
                        })
                    })
                    .collect();
                for caller in callers {
                    caller.await.unwrap();
                }
                bounded(group.wait()).await.unwrap();
                assert_eq!((meter.all(), meter.most()), (10_000, 1), "round {round}");
            }
        });
    });
}

/// F-KR3: tasks that a task adds while the group waits.
#[tokio::test]
async fn a_task_spawns_while_the_group_waits_at_limit_one() {
    let (group, meter) = (
        TaskGroup::<()>::builder().limit(1).build(),
        Meter::default(),
    );
    let (handle, counted) = (group.handle(), meter.clone());
    group.spawn(async move {
        tokio::task::yield_now().await;
        for _ in 0..4 {
            let counted = counted.clone();
            handle.spawn(async {
                counted.run().await;
                Ok(())
            });
        }
        Ok(())
    });
    bounded(group.wait()).await.unwrap();
    assert_eq!(meter.all(), 4);
}

/// F-KR4: a second wait and a spawn after it are rejected, in words.
#[tokio::test]
async fn misuse_after_wait_is_named() {
    let group = TaskGroup::<()>::new();
    group.wait().await.unwrap();
    let again = misuse(|| drop(group.wait()));
    assert_eq!(again, "schedgroup: multiple calls to TaskGroup::wait");
    let late = misuse(|| group.spawn(async { Ok(()) }));
    assert_eq!(
        late,
        "schedgroup: attempted to spawn a task after TaskGroup::wait was called"
    );
    let late = misuse(|| drop(group.member()));
    assert_eq!(
        late,
        "schedgroup: attempted to add a member after TaskGroup::wait was called"
    );
}

/// F-KR5: a group that nobody waits for leaves no task behind.
#[tokio::test]
async fn a_dropped_group_ends_its_tasks() {
    struct Told(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.take().map(|told| told.send(()));
        }
    }
    let (group, mut ends) = (TaskGroup::<()>::builder().limit(1).build(), Vec::new());
    for _ in 0..2 {
        let (tell, told) = tokio::sync::oneshot::channel();
        let held = Told(Some(tell));
        group.spawn(async move {
            let _held = held;
            std::future::pending::<Result<_, _>>().await
        });
        ends.push(told);
    }
    tokio::task::yield_now().await;
    drop(group);
    for end in ends {
        bounded(end).await.unwrap();
    }
}

/// F-KR6: what is parked does not start after a cancel.
#[tokio::test]
async fn parked_tasks_are_skipped_after_a_cancel() {
    let (group, meter) = (
        TaskGroup::<()>::builder().limit(1).build(),
        Meter::default(),
    );
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Ok(())
    });
    for _ in 0..20 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    group.cancel();
    let outcome = bounded(group.wait()).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!((meter.all(), group.stats().skipped), (0, 20));
}

/// F-KR7, and the level without cancel: a panic keeps its value, and the others go on.
#[tokio::test]
async fn a_panic_with_any_value_is_kept() {
    let group = TaskGroup::<()>::builder()
        .on_error(OnError::Continue)
        .build();
    group.spawn(async { std::panic::panic_any(42_i32) });
    group.spawn(async { Ok(()) });
    let Err(TaskError::Panicked(panic)) = group.wait().await else {
        panic!("expected a panic as a value");
    };
    assert_eq!(*panic.into_payload().downcast::<i32>().unwrap(), 42);
    assert_eq!(group.stats().finished, 1);
}
