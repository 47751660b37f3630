//! `golang.org/x/sync/errgroup`, `errgroup_test.go`, Copyright 2016 The Go Authors, BSD-3-Clause.
//!
//! Not here: `TestGoexit` (a task has no way out but its end); `SetLimit(0)` and changes of the limit
//! while tasks run (F-XS1, F-XS2: the limit is fixed when the group is built, and zero is rejected);
//! a second `Wait` on one group (rejected; each list below has a group of its own).

use schedgroup::task::{Cause, TaskStats};
use schedgroup::task::{OnError, TaskGroup};
use schedgroup::{ScheduleError, TaskError};
use tokio_util::sync::CancellationToken;

use crate::common::{HOUR, Meter, beside, bounded, ms};

type Outcome = Result<(), &'static str>;

/// What the tasks return, and the index and error of the first in time.
type List = (&'static [Outcome], Option<(usize, &'static str)>);

const LISTS: [List; 5] = [
    (&[], None),
    (&[Ok(())], None),
    (&[Err("one")], Some((0, "one"))),
    (&[Err("one"), Ok(())], Some((0, "one"))),
    (&[Ok(()), Err("one"), Err("two")], Some((1, "one"))),
];

fn first(outcome: Result<TaskStats, TaskError<&'static str>>) -> Option<(usize, &'static str)> {
    match outcome {
        Ok(_) => None,
        Err(TaskError::Failed { index, error }) => Some((index, error)),
        Err(other) => panic!("{other:?}"),
    }
}

/// The first error of each list, in a group of any make, whose token is cancelled in the end. Other
/// systems have the same test.
pub(crate) async fn each_list_has_its_first_error(group: fn() -> TaskGroup<&'static str>) {
    for (list, expected) in LISTS {
        let group = group();
        for outcome in list {
            group.spawn(async move { *outcome });
        }
        let token = group.token();
        assert_eq!(first(group.wait().await), expected, "{list:?}");
        assert!(token.is_cancelled(), "{list:?}");
    }
}

#[tokio::test]
async fn test_zero_group() {
    each_list_has_its_first_error(|| TaskGroup::builder().on_error(OnError::Continue).build())
        .await;
}

#[tokio::test]
async fn test_with_context() {
    each_list_has_its_first_error(|| TaskGroup::with_token(CancellationToken::new())).await;
}

#[tokio::test]
async fn test_try_go() {
    let group = TaskGroup::<()>::builder().limit(42).build();
    for n in 0..42 {
        let spawned = group.try_spawn(std::future::pending::<Result<_, _>>());
        assert!(spawned.is_ok(), "{n}: {spawned:?}");
    }
    let full = group.try_spawn(async { Ok(()) });
    assert!(matches!(full, Err(ScheduleError::Full(_))), "{full:?}");
    assert_eq!(full.unwrap_err().into_inner().await, Ok(()));
    assert_eq!(group.stats().discarded, 1);

    let group = TaskGroup::<()>::builder().limit(1).build();
    assert!(group.try_spawn(async { Ok(()) }).is_ok());
    assert!(group.try_spawn(async { Ok(()) }).is_err());
    bounded(group.wait()).await.unwrap();
}

/// F-XS1, F-XS2: the limit is fixed before there are tasks, so none is counted against another one.
#[tokio::test]
async fn f_xs1_every_task_runs_under_the_one_limit() {
    let meter = Meter::default();
    let builder = TaskGroup::<()>::builder().limit(9).limit(2);
    let group = builder.build();
    for _ in 0..20 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    bounded(group.wait()).await.unwrap();
    assert_eq!((meter.all(), meter.most()), (20, 2));
}

#[tokio::test]
async fn test_go_limit() {
    let (group, meter) = (
        TaskGroup::<()>::builder().limit(10).build(),
        Meter::default(),
    );
    for _ in 0..1025 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    bounded(group.wait()).await.unwrap();
    assert_eq!((meter.most(), meter.all()), (10, 1025));
}

#[tokio::test]
async fn test_cancel_cause() {
    for (list, expected) in LISTS {
        let group = TaskGroup::new();
        for outcome in list {
            group.try_spawn(async move { *outcome }).unwrap();
        }
        assert_eq!(group.cause(), None);
        let outcome = first(group.wait().await);
        assert_eq!(outcome, expected, "{list:?}");
        let cause = expected.map_or(Cause::Finished, |(index, _)| Cause::Failed { index });
        assert_eq!(group.cause(), Some(cause), "{list:?}");
    }
}

/// Versions 0.14 and 0.15: the error and the other value.
#[tokio::test]
async fn test_panic() {
    let group = TaskGroup::<()>::new();
    let line = line!() + 1;
    group.spawn(async { std::panic::panic_any(String::from("text")) });
    let Err(TaskError::Panicked(panic)) = group.wait().await else {
        panic!("expected a panic as a value");
    };
    assert_eq!((panic.index(), panic.message()), (0, "text"));
    assert_eq!(panic.spawned_at().line(), line);
    assert_eq!(panic.spawned_at().file(), file!());
    let resumed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic.resume()));
    assert_eq!(*resumed.unwrap_err().downcast::<String>().unwrap(), "text");

    let group = TaskGroup::<()>::new();
    group.spawn(async { std::panic::panic_any(42_u8) });
    let Err(TaskError::Panicked(panic)) = group.wait().await else {
        panic!("expected a panic as a value");
    };
    assert_eq!(*panic.into_payload().downcast::<u8>().unwrap(), 42);
}

/// F-XS3: waiting for a slot ends on a cancel, with the task.
#[tokio::test]
async fn a_submit_at_the_limit_hears_the_cancel() {
    let parent = CancellationToken::new();
    let group = TaskGroup::<()>::builder()
        .limit(1)
        .token(parent.clone())
        .build();
    group.spawn(std::future::pending::<Result<_, _>>());
    let submit = group.submit(async { Ok(()) });
    let submitted = beside(submit, async { parent.cancel() }).await;
    assert!(
        matches!(submitted, Err(ScheduleError::Cancelled(_))),
        "{submitted:?}"
    );
    assert_eq!(submitted.unwrap_err().into_inner().await, Ok(()));
}

/// F-XS3: what is queued or comes after the first error does not start, and is counted.
#[tokio::test]
async fn tasks_after_the_first_error_are_skipped_and_counted() {
    let (group, meter) = (TaskGroup::builder().limit(1).build(), Meter::default());
    group.spawn(async { Err("first") });
    for _ in 0..10 {
        let meter = meter.clone();
        group.spawn(async {
            meter.run().await;
            Ok(())
        });
    }
    assert!(group.wait().await.is_err());
    assert_eq!((meter.all(), group.stats().skipped), (0, 10));
}

/// F-XS4: the process lives, and the policy holds for panics too.
#[tokio::test]
async fn a_panic_cancels_the_others_like_an_error() {
    // The other task is to hear of it, which under the default policy would be aborted.
    let group = TaskGroup::<()>::builder().on_error(OnError::Cancel).build();
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Ok(())
    });
    group.spawn(async { panic!("boom") });
    let outcome = bounded(group.wait()).await;
    assert!(
        matches!(&outcome, Err(TaskError::Panicked(panic)) if panic.index() == 1),
        "{outcome:?}"
    );
    assert_eq!(group.cause(), Some(Cause::Panicked { index: 1 }));
}

/// F-XS6: all errors, in order of tasks and not of time.
#[tokio::test(start_paused = true)]
async fn wait_all_has_every_error_in_order_of_tasks() {
    let group = TaskGroup::builder().on_error(OnError::Continue).build();
    for n in 0..3 {
        group.spawn(async move {
            tokio::time::sleep(ms(10) * (3 - n)).await;
            Err(n)
        });
    }
    let errors = group.wait_all().await.unwrap_err();
    let list: Vec<_> = errors
        .into_iter()
        .map(|e| (e.index(), e.into_error()))
        .collect();
    assert_eq!(list, [0, 1, 2].map(|n| (Some(n as usize), Some(n))));
}

/// F-XS7: a task that does not listen is aborted by the policy.
#[tokio::test(start_paused = true)]
async fn abort_ends_tasks_that_do_not_listen() {
    let group = TaskGroup::builder().on_error(OnError::Abort).build();
    group.spawn(async {
        tokio::time::sleep(HOUR).await;
        Ok(())
    });
    group.spawn(async { Err("first") });
    let start = tokio::time::Instant::now();
    assert_eq!(first(group.wait().await), Some((1, "first")));
    assert_eq!((start.elapsed(), group.stats().aborted), (ms(0), 1));
}
