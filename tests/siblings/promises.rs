//! What is promised beyond the systems it comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use schedgroup::errgroup::{ErrGroup, OnError};
use schedgroup::sized::SizedGroup;
use schedgroup::{Cause, SpawnError, TaskError};

use crate::common::{Flag, bounded, misuse, multi_thread, until, watched};

#[test]
fn without_a_runtime_the_remedy_is_named() {
    assert_eq!(
        misuse(|| drop(ErrGroup::<()>::new())),
        "schedgroup: ErrGroup was made outside of a tokio runtime: make it inside of one, or name \
         one with Builder::runtime"
    );
}

#[tokio::test]
async fn after_wait_the_try_forms_give_the_task_back() {
    let group = ErrGroup::<()>::new();
    let handle = group.handle();
    group.wait().await.unwrap();
    let tried = group.try_spawn(async { Ok(()) });
    assert!(matches!(tried, Err(SpawnError::Closed(_))), "{tried:?}");
    let submitted = group.submit(async { Ok(()) }).await;
    assert!(
        matches!(submitted, Err(SpawnError::Closed(_))),
        "{submitted:?}"
    );
    let tried = handle.try_spawn(async { Ok(()) });
    assert!(matches!(tried, Err(SpawnError::Closed(_))), "{tried:?}");
}

#[tokio::test]
async fn a_handle_of_a_dropped_group_says_cancelled() {
    let handle = ErrGroup::<()>::new().handle();
    let tried = handle.try_spawn(async { Ok(()) });
    assert!(matches!(tried, Err(SpawnError::Cancelled(_))), "{tried:?}");
    handle.spawn(async { Ok(()) });
    assert_eq!(handle.stats().skipped, 1);
    assert_eq!(handle.token().cause(), Some(Cause::Cancelled));
}

#[tokio::test]
async fn a_dropped_submit_leaves_the_line() {
    let group = ErrGroup::<()>::builder().limit(1).build();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    group.spawn(async {
        gone.await.unwrap();
        Ok(())
    });
    tokio::select! {
        biased;
        _ = group.submit(async { panic!("it was dropped") }) => panic!("no place was free"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(group.pending(), 0);
    group.spawn(async { Ok(()) });
    go.send(()).unwrap();
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().finished, 2);
}

#[tokio::test]
async fn a_destructor_that_panics_is_its_tasks_panic_alone() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let group = ErrGroup::<()>::builder()
        .limit(1)
        .on_error(OnError::Continue)
        .build();
    let bomb = Bomb;
    group.spawn(async move {
        // Kept over an await, and so dropped with the future or at its end.
        let _bomb = bomb;
        tokio::task::yield_now().await;
        Ok(())
    });
    group.spawn(async { Ok(()) });
    let outcome = bounded(group.wait()).await;
    assert!(
        matches!(outcome, Err(TaskError::Panicked { index: 0, .. })),
        "{outcome:?}"
    );
    assert_eq!(group.stats().finished, 1);
}

/// The destructor of a skipped task spawns in the same group: no lock is held, nothing hangs.
#[tokio::test]
async fn a_skipped_task_may_call_back_into_the_group() {
    struct Calls(schedgroup::errgroup::Handle<()>, Arc<AtomicUsize>);
    impl Drop for Calls {
        fn drop(&mut self) {
            self.0.spawn(async { Ok(()) });
            self.1.fetch_add(1, SeqCst);
        }
    }
    let (group, dropped) = (ErrGroup::<()>::builder().limit(1).build(), Arc::default());
    group.spawn_with(|token| async move {
        token.cancelled().await;
        Ok(())
    });
    for _ in 0..3 {
        let calls = Calls(group.handle(), Arc::clone(&dropped));
        group.spawn(async move {
            let _calls = calls;
            Ok(())
        });
    }
    group.cancel();
    let outcome = bounded(group.wait()).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!((dropped.load(SeqCst), group.stats().skipped), (3, 6));
}

/// On a runtime that is gone each start ends its task at once: the others follow without a stack.
#[test]
fn a_runtime_that_is_gone_ends_a_long_line() {
    watched(|| {
        let runtime = multi_thread();
        let group = ErrGroup::<()>::builder()
            .limit(1)
            .runtime(runtime.handle().clone())
            .build();
        for _ in 0..100_000 {
            group.spawn(std::future::pending());
        }
        runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        let here = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        here.block_on(async { bounded(group.wait()).await })
            .unwrap();
        assert_eq!(group.stats().aborted, 100_000);
    });
}

#[tokio::test]
async fn the_first_error_in_time_has_its_own_index() {
    let group = ErrGroup::builder().on_error(OnError::Continue).build();
    group.spawn(async {
        tokio::task::yield_now().await;
        Err("late")
    });
    group.spawn(async { Err("early") });
    let outcome = group.wait().await;
    assert!(
        matches!(
            outcome,
            Err(TaskError::Failed {
                index: 1,
                error: "early"
            })
        ),
        "{outcome:?}"
    );
}

/// Nobody can ask a sized group for its panics, so it keeps none, however long it lives.
#[tokio::test]
async fn a_sized_group_keeps_no_panics() {
    let (group, flag) = (SizedGroup::new(1), Flag::new());
    for _ in 0..10 {
        let guard = flag.guard();
        group.spawn(async move { std::panic::panic_any(guard) });
    }
    until("all have panicked", || group.stats().panicked == 10).await;
    until("all are gone", || flag.drops() == 10).await;
    assert_eq!(bounded(group.wait()).await.panicked, 10);
}
