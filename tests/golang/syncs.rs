//! `github.com/go-pkgz/syncs`, `sizedgroup_test.go`, `errsizedgroup_test.go` and `semaphore_test.go`,
//! Copyright (c) 2018 Umputun, MIT.
//!
//! Not here: the counts of goroutines (a parked task is data); F-SY5 (a data race does not compile). The
//! semaphore is the slots of a group with a limit: there is nothing to unlock that was not locked.

use schedgroup::task::{OnError, TaskGroup};
use schedgroup::{ScheduleError, TaskError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::common::{Hold, Meter, bounded, misuse, ms, poll_once, settle, sized};

#[tokio::test]
async fn test_sized_group() {
    let (group, meter) = (sized(10), Meter::default());
    for _ in 0..1000 {
        group.spawn(meter.clone().run());
    }
    assert_eq!((group.stats().running, group.stats().pending), (10, 990));
    assert_eq!(bounded(group.wait()).await.unwrap().finished, 1000);
    assert_eq!((meter.all(), meter.most()), (1000, 10));
}

#[tokio::test]
async fn test_sized_group_preemptive() {
    let (group, meter) = (sized(10), Meter::default());
    for _ in 0..100 {
        bounded(group.submit(meter.clone().run())).await.unwrap();
        assert_eq!(group.stats().pending, 0);
    }
    assert_eq!(bounded(group.wait()).await.unwrap().finished, 100);
    assert_eq!(meter.most(), 10);
}

/// F-SY8: what is discarded comes back and is counted.
#[tokio::test]
async fn test_sized_group_discard() {
    let (group, meter) = (sized(10), Meter::default());
    for n in 0..100 {
        let spawned = group.try_spawn(meter.clone().run());
        assert_eq!(spawned.is_ok(), n < 10, "{n}: {spawned:?}");
    }
    let stats = bounded(group.wait()).await.unwrap();
    assert_eq!((meter.all(), stats.finished, stats.discarded), (10, 10, 90));
}

/// F-SY3: a cancel stops what is parked.
#[tokio::test(start_paused = true)]
async fn test_sized_group_canceled() {
    let parent = CancellationToken::new();
    let group = TaskGroup::builder()
        .limit(10)
        .on_error(OnError::Continue)
        .token(parent.clone())
        .build();
    for _ in 0..100 {
        group.spawn(sleep(ms(100)));
    }
    sleep(ms(10)).await;
    parent.cancel();
    let outcome = group.wait().await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!((group.stats().finished, group.stats().skipped), (10, 90));
}

/// F-SY1: size 1, four producers at the cancel, all four come back and the slot is not lost.
#[tokio::test]
async fn a_cancelled_submit_loses_no_slot() {
    let parent = CancellationToken::new();
    let group = std::sync::Arc::new(
        TaskGroup::builder()
            .limit(1)
            .on_error(OnError::Continue)
            .token(parent.clone())
            .build(),
    );
    group.spawn_with(|token| async move { token.cancelled().await });
    let producers: Vec<_> = (0..4)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { group.submit(async {}).await.map_err(|_| ()) })
        })
        .collect();
    tokio::task::yield_now().await;
    parent.cancel();
    for producer in producers {
        assert_eq!(bounded(producer).await.unwrap(), Err(()));
    }
    let stats = bounded(group.wait()).await.unwrap();
    assert_eq!((stats.running, stats.pending, stats.finished), (0, 0, 1));
}

/// F-SY6: the slot is free again after a panic.
#[tokio::test]
async fn a_panic_gives_its_slot_back() {
    let group = sized(1);
    group.spawn(async { panic!("boom") });
    group.spawn(async {});
    assert!(
        bounded(group.wait()).await.is_err(),
        "a panic is an error of its task"
    );
    let stats = group.stats();
    assert_eq!((stats.panicked, stats.finished), (1, 1));
}

/// F-SY9: a submit that is in line when `wait` is called is covered.
#[tokio::test]
async fn wait_covers_a_submit_in_line() {
    let group = sized(1);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    group.spawn(async { gone.await.unwrap() });
    let mut submit = group.submit(async {});
    assert!(poll_once(&mut submit).is_pending());
    let wait = group.wait();
    go.send(()).unwrap();
    let (stats, submitted) = bounded(async { tokio::join!(wait, submit) }).await;
    assert_eq!((stats.unwrap().finished, submitted.ok()), (2, Some(1)));
}

#[tokio::test]
async fn test_error_sized_group() {
    let group = TaskGroup::builder()
        .limit(10)
        .on_error(OnError::Continue)
        .build();
    for n in 0..1000 {
        group.spawn(async move { if n == 7 || n == 900 { Err(n) } else { Ok(()) } });
    }
    let errors = bounded(group.wait_all()).await.unwrap_err();
    assert!(errors.to_string().starts_with("2 errors: "), "{errors}");
    assert_eq!(group.stats().finished, 998);
}

#[tokio::test]
async fn test_error_sized_group_preemptive() {
    let group = TaskGroup::builder()
        .limit(10)
        .on_error(OnError::Continue)
        .build();
    for n in 0..1000 {
        let task = async move { if n == 7 || n == 900 { Err(n) } else { Ok(()) } };
        bounded(group.submit(task)).await.unwrap();
        assert_eq!(group.stats().pending, 0);
    }
    assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 2);
}

#[tokio::test]
async fn test_error_sized_group_no_error() {
    let group = TaskGroup::<()>::builder().limit(10).build();
    for _ in 0..1000 {
        group.spawn(async { Ok(()) });
    }
    assert!(bounded(group.wait_all()).await.is_ok());
    assert_eq!(group.stats().finished, 1000);
}

#[tokio::test]
async fn test_error_sized_group_wait_without_go() {
    let group = TaskGroup::<()>::builder().limit(10).build();
    assert!(bounded(group.wait_all()).await.is_ok());
}

#[tokio::test]
async fn test_error_sized_group_discard() {
    let group = TaskGroup::<()>::builder().limit(10).build();
    let taken = (0..1000).filter(|_| group.try_spawn(async { Ok(()) }).is_ok());
    assert_eq!(taken.count(), 10);
    assert!(bounded(group.wait_all()).await.is_ok());
    assert_eq!(group.stats().discarded, 990);
}

/// F-SY2: one failing, 1,000 queued at size 1, none runs.
#[tokio::test]
async fn test_error_sized_group_term() {
    let (group, meter) = (TaskGroup::builder().limit(1).build(), Meter::default());
    group.spawn(async { Err("term") });
    for _ in 0..1000 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 1);
    assert_eq!((meter.all(), group.stats().skipped), (0, 1000));
}

/// At limit ten the hundredth task fails: no more than those beside it run after it.
#[tokio::test]
async fn test_error_sized_group_term_on_err() {
    // Those beside it run to their end there; the default policy would abort them.
    let builder = TaskGroup::builder().limit(10).on_error(OnError::Cancel);
    let (group, meter) = (builder.build(), Meter::default());
    for n in 0..1000 {
        let meter = meter.clone();
        group.spawn(async move {
            if n == 100 {
                return Err(n);
            }
            meter.run().await;
            Ok(())
        });
    }
    assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 1);
    assert!(meter.all() < 100 + 10, "{} ran", meter.all());
    assert_eq!(meter.all() as u64 + 1 + group.stats().skipped, 1000);
}

#[tokio::test]
async fn test_error_sized_group_term_and_preemptive() {
    let group = TaskGroup::builder().limit(2).build();
    let mut taken = 0;
    for n in 0..1000 {
        let task = async move { if n == 100 { Err(n) } else { Ok(()) } };
        taken += usize::from(bounded(group.submit(task)).await.is_ok());
    }
    assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 1);
    assert!((101..1000).contains(&taken), "{taken}");
}

#[tokio::test]
async fn test_error_sized_group_concurrency_limit() {
    let (group, meter) = (
        TaskGroup::<()>::builder().limit(5).build(),
        Meter::default(),
    );
    for _ in 0..100 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    bounded(group.wait()).await.unwrap();
    assert_eq!(meter.most(), 5);
}

/// F-SY7: all of them can be had, not only read.
#[tokio::test]
async fn test_error_sized_group_multi_error() {
    let group = TaskGroup::builder()
        .limit(3)
        .on_error(OnError::Continue)
        .build();
    for n in 0..10 {
        group.spawn(async move { Err::<(), _>(n) });
    }
    let errors = bounded(group.wait_all()).await.unwrap_err();
    let all: Vec<_> = errors
        .into_iter()
        .filter_map(TaskError::into_error)
        .collect();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
}

/// F-SY4: a cancel after the last spawn is told by `wait`.
#[tokio::test]
async fn test_error_sized_group_cancel() {
    let parent = CancellationToken::new();
    let group = TaskGroup::<()>::builder()
        .limit(1)
        .token(parent.clone())
        .build();
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Ok(())
    });
    group.spawn(async { Ok(()) });
    parent.cancel();
    let errors = bounded(group.wait_all()).await.unwrap_err();
    let list: Vec<_> = errors.iter().collect();
    assert!(matches!(list[..], [TaskError::Cancelled]), "{list:?}");
    assert_eq!(group.stats().skipped, 1);
}

/// There `Wait` tells the cancel, because `Go` has swallowed the tasks; here their callers have them back, and
/// what the group took in has run.
#[tokio::test]
async fn test_error_sized_group_cancel_with_preemptive() {
    let parent = CancellationToken::new();
    let group = TaskGroup::<()>::builder()
        .limit(10)
        .token(parent.clone())
        .build();
    let (mut taken, mut told) = (0, 0);
    for n in 0..1000 {
        if n == 100 {
            parent.cancel();
        }
        match bounded(group.submit(async { Ok(()) })).await {
            Ok(_) => taken += 1,
            Err(ScheduleError::Cancelled(_)) => told += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, told), (100, 900));
    bounded(group.wait_all()).await.unwrap();
    assert_eq!((group.stats().finished, group.stats().skipped), (100, 0));
}

/// A cancel while tasks record their errors loses none of them.
#[tokio::test]
async fn test_error_sized_group_cancel_with_active_errors() {
    let parent = CancellationToken::new();
    let group = TaskGroup::builder()
        .on_error(OnError::Continue)
        .token(parent.clone())
        .build();
    for n in 0..10 {
        group.spawn_with(move |token| async move {
            token.cancelled().await;
            Err::<(), _>(n)
        });
    }
    parent.cancel();
    let late = group.try_spawn(async { Ok(()) });
    assert!(matches!(late, Err(ScheduleError::Cancelled(_))), "{late:?}");
    assert_eq!(bounded(group.wait_all()).await.unwrap_err().len(), 10);
}

/// Capacities one and two, and one more than that; a slot that is given back can be taken again.
#[tokio::test]
async fn test_semaphore() {
    for capacity in [1, 2] {
        let (group, hold) = (sized(capacity), Hold::new());
        for _ in 0..capacity {
            bounded(group.submit(hold.job())).await.unwrap();
        }
        let mut more = group.submit(hold.job());
        assert!(poll_once(&mut more).is_pending(), "{capacity}");
        hold.release();
        bounded(more).await.unwrap();
        (0..capacity).for_each(|_| hold.release());
        bounded(group.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn test_semaphore_try_lock() {
    for capacity in [1, 2] {
        let (group, hold) = (sized(capacity), Hold::new());
        for _ in 0..capacity {
            group.try_spawn(hold.job()).unwrap();
        }
        assert!(group.try_spawn(hold.job()).is_err(), "{capacity}");
        hold.release();
        settle().await;
        assert!(group.try_spawn(hold.job()).is_ok(), "{capacity}");
        (0..capacity).for_each(|_| hold.release());
        bounded(group.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn test_sized_group_waiters() {
    let group = TaskGroup::builder()
        .limit(1)
        .on_error(OnError::Continue)
        .queue(2)
        .build();
    let taken = (0..5).filter(|_| group.try_spawn(async {}).is_ok());
    assert_eq!(taken.count(), 3);
    let full = group.try_spawn(async {});
    assert!(matches!(full, Err(ScheduleError::Full(_))), "{full:?}");
    assert_eq!(bounded(group.wait()).await.unwrap().finished, 3);
}

#[test]
fn misuse_of_a_sized_group_is_named() {
    assert_eq!(
        misuse(|| drop(TaskGroup::<()>::builder().limit(0))),
        "schedgroup: Builder::limit must be at least 1: no task could ever run"
    );
    assert_eq!(
        misuse(|| drop(sized(1))),
        "schedgroup: a group must be created inside a tokio runtime; enter one, or name one with `builder().runtime(handle)`"
    );
}
