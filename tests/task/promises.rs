//! What is promised beyond the systems it comes from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use schedgroup::task::Cause;
use schedgroup::task::{OnError, TaskGroup, TaskHandle};
use schedgroup::{CancellationToken, ScheduleError, TaskError};

use crate::common::{
    Flag, HOUR, Hold, OnDrop, Woken, bounded, counts, misuse, multi_thread, panic_of, paused,
    poll_once, poll_with_bomb, settle, sized, until, waker_with_bomb, watched,
};

#[test]
fn without_a_runtime_the_remedy_is_named() {
    assert_eq!(
        misuse(|| drop(TaskGroup::<()>::new())),
        "schedgroup: a group must be created inside a tokio runtime; enter one, or name one with `builder().runtime(handle)`"
    );
}

#[tokio::test]
async fn after_wait_the_try_forms_give_the_task_back() {
    let group = TaskGroup::<()>::new();
    let handle = group.handle();
    group.wait().await.unwrap();
    let tried = group.try_spawn(async { Ok(()) });
    assert!(matches!(tried, Err(ScheduleError::Closed(_))), "{tried:?}");
    let submitted = group.submit(async { Ok(()) }).await;
    assert!(
        matches!(submitted, Err(ScheduleError::Closed(_))),
        "{submitted:?}"
    );
    let tried = handle.try_spawn(async { Ok(()) });
    assert!(matches!(tried, Err(ScheduleError::Closed(_))), "{tried:?}");
}

#[tokio::test]
async fn a_handle_of_a_dropped_group_says_cancelled() {
    let handle = TaskGroup::<()>::new().handle();
    let tried = handle.try_spawn(async { Ok(()) });
    assert!(
        matches!(tried, Err(ScheduleError::Cancelled(_))),
        "{tried:?}"
    );
    handle.spawn(async { Ok(()) });
    assert_eq!(handle.stats().skipped, 1);
    assert_eq!(handle.cause(), Some(Cause::Cancelled));
}

#[tokio::test]
async fn a_sized_group_that_is_cancelled_skips_what_has_not_started() {
    let (group, parked) = (sized(1), Flag::new());
    let token = group.token();
    group.spawn(async move { token.cancelled().await });
    for _ in 0..3 {
        group.spawn(parked.job());
    }
    group.cancel();
    let outcome = bounded(group.wait()).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!((group.stats().finished, group.stats().skipped), (1, 3));
    assert_eq!((parked.drops(), group.cause()), (3, Some(Cause::Cancelled)));
}

#[tokio::test]
async fn a_sized_group_that_is_dropped_aborts_its_tasks() {
    let (group, flag) = (sized(1), Flag::new());
    for _ in 0..3 {
        let guard = flag.guard();
        group.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await
        });
    }
    drop(group);
    until("all are dropped", || flag.drops() == 3).await;
}

#[tokio::test]
async fn a_member_is_counted_with_the_tasks() {
    let group = TaskGroup::<()>::new();
    group.spawn(async { Ok(()) });
    let members = [group.member(), group.member()];
    assert_eq!(members.each_ref().map(|member| member.index()), [1, 2]);
    members[1].fail(());
    drop(members);
    let failed = bounded(group.wait()).await.unwrap_err();
    assert!(
        matches!(
            failed,
            TaskError::Failed {
                index: 2,
                error: ()
            }
        ),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_dropped_submit_leaves_the_line() {
    let group = TaskGroup::<()>::builder().limit(1).build();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    group.spawn(async {
        gone.await.unwrap();
        Ok(())
    });
    tokio::select! {
        biased;
        _ = group.submit(async { panic!("it was dropped") }) => panic!("no slot was free"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(group.stats().pending, 0);
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
    let group = TaskGroup::<()>::builder()
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
        matches!(&outcome, Err(TaskError::Panicked(panic)) if panic.index() == 0),
        "{outcome:?}"
    );
    assert_eq!(group.stats().finished, 1);
}

/// A task that does not end, and panics when it is dropped.
fn pending_bomb() -> impl Future<Output = Result<(), ()>> + Send {
    let bomb = OnDrop(|| panic!("in a destructor"));
    async move {
        let _bomb = bomb;
        std::future::pending().await
    }
}

async fn of_bombs(policy: OnError, is_polled: bool) -> TaskGroup<()> {
    let group = TaskGroup::builder().on_error(policy).build();
    for _ in 0..2 {
        group.spawn(pending_bomb());
    }
    if is_polled {
        settle().await;
    }
    group
}

/// Whether it was polled before the abort or not, and whatever aborts it.
#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_in_an_abort_is_its_tasks_panic() {
    type End = fn(&TaskGroup<()>);
    let ends: [End; 3] = [
        |group| group.abort(),
        |group| drop(group.drain(Duration::ZERO)),
        |group| drop(group.shutdown(Duration::ZERO)),
    ];
    for policy in [OnError::Abort, OnError::Cancel, OnError::Continue] {
        for (end, is_polled) in ends.into_iter().flat_map(|end| [(end, false), (end, true)]) {
            let group = of_bombs(policy, is_polled).await;
            end(&group);
            let errors = bounded(group.wait_all()).await.unwrap_err();
            assert!(
                errors
                    .iter()
                    .all(|error| matches!(error, TaskError::Panicked(_))),
                "{policy:?}: {errors:?}"
            );
            let stats = group.stats();
            assert_eq!(
                (errors.len(), stats.panicked, stats.aborted),
                (2, 2, 0),
                "{policy:?}"
            );
        }
    }
}

/// As a job of a scheduling group does. The stats count each task once, by its panic.
#[tokio::test(start_paused = true)]
async fn a_task_whose_destructor_panics_in_an_abort_counts_as_aborted_in_a_report() {
    for policy in [OnError::Abort, OnError::Cancel, OnError::Continue] {
        for (is_polled, shuts_down) in [(false, false), (false, true), (true, false), (true, true)]
        {
            let group = of_bombs(policy, is_polled).await;
            let report = match shuts_down {
                false => bounded(group.drain(Duration::ZERO)).await,
                true => bounded(group.shutdown(Duration::ZERO)).await,
            };
            assert_eq!(
                counts(report),
                (0, 2, 0),
                "{policy:?}, polled: {is_polled}, shutdown: {shuts_down}"
            );
        }
    }
}

/// It is no error of the policy, and still the group is not left as it was.
#[test]
fn a_task_whose_destructor_panics_with_its_runtime_cancels_its_group() {
    let home = multi_thread();
    let builder = TaskGroup::<()>::builder().runtime(home.handle().clone());
    let group = builder.on_error(OnError::Continue).build();
    group.spawn(pending_bomb());
    drop(home);
    assert_eq!(group.cause(), Some(Cause::Cancelled));
}

/// Two panics at the same time would end the process: only that of the task's destructor goes on in the caller.
#[tokio::test]
async fn a_submit_that_is_dropped_may_panic_in_its_task_and_in_its_waker() {
    let group = TaskGroup::<()>::builder().limit(1).build();
    group.spawn(std::future::pending::<Result<_, _>>());
    let bomb = OnDrop(|| panic!("in a destructor"));
    let mut submit = Box::pin(group.submit(async move {
        let _bomb = bomb;
        Ok(())
    }));
    let waker = waker_with_bomb();
    let polled = submit.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(submit))).is_err());
}

/// The destructor of a skipped task spawns in the same group: no lock is held, nothing hangs.
#[tokio::test]
async fn a_skipped_task_may_call_back_into_the_group() {
    struct Calls(schedgroup::task::TaskHandle<()>, Arc<AtomicUsize>);
    impl Drop for Calls {
        fn drop(&mut self) {
            self.0.spawn(async { Ok(()) });
            self.1.fetch_add(1, SeqCst);
        }
    }
    let (group, dropped) = (TaskGroup::<()>::builder().limit(1).build(), Arc::default());
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

#[test]
fn a_rejected_task_may_call_back_into_the_group() {
    watched(|| {
        let runtime = multi_thread();
        let group = TaskGroup::<()>::builder()
            .runtime(runtime.handle().clone())
            .build();
        runtime.block_on(group.wait()).unwrap();
        let (handle, dropped) = (group.handle(), Arc::<AtomicUsize>::default());
        let task = || {
            let (handle, dropped) = (handle.clone(), Arc::clone(&dropped));
            let calls = OnDrop(move || {
                handle.spawn(async { Ok(()) });
                dropped.fetch_add(1, SeqCst);
            });
            async move {
                let _calls = calls;
                Ok(())
            }
        };
        handle.spawn(task());
        panic_of(|| group.spawn(task()));
        assert_eq!(dropped.load(SeqCst), 2);
    });
}

/// Where the group ends as it is closed, as its last member leaves, and as its queue is skipped.
#[test]
fn who_hears_of_the_end_may_call_the_group() {
    struct Calls(TaskHandle, AtomicUsize);
    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.stats();
            self.1.fetch_add(1, SeqCst);
        }
    }
    watched(|| {
        paused().block_on(async {
            for way in ["closed", "left", "skipped"] {
                let (parent, hold) = (CancellationToken::new(), Hold::new());
                let builder = TaskGroup::builder().limit(1).token(parent.clone());
                let group: TaskGroup = builder.build();
                let (token, member) = (group.token(), group.member());
                let calls = Arc::new(Calls(group.handle(), AtomicUsize::new(0)));
                let waker = Arc::clone(&calls).into();
                let mut cx = Context::from_waker(&waker);
                let mut cancelled = pin!(token.cancelled());
                assert!(cancelled.as_mut().poll(&mut cx).is_pending());
                if way == "closed" {
                    drop(member);
                    drop(group.wait());
                    assert_eq!(calls.1.load(SeqCst), 1, "by the token");
                    continue;
                }
                if way == "skipped" {
                    group.spawn(hold.job());
                    group.spawn(async {});
                }
                let mut wait = pin!(group.wait());
                assert!(wait.as_mut().poll(&mut cx).is_pending());
                drop(member);
                if way == "skipped" {
                    hold.started().await;
                    // The running task ends before the group has skipped the other.
                    hold.release();
                    parent.cancel();
                    settle().await;
                }
                assert_eq!(calls.1.load(SeqCst), 2, "{way}");
            }
        });
    });
}

#[tokio::test]
async fn a_member_that_fails_has_skipped_what_is_queued() {
    for policy in [OnError::Abort, OnError::Cancel] {
        let builder = TaskGroup::<()>::builder().limit(1).on_error(policy);
        let group = builder.build();
        group.spawn(std::future::pending::<Result<_, _>>());
        group.spawn(async { Ok(()) });
        group.member().fail(());
        let stats = group.stats();
        assert_eq!((stats.pending, stats.skipped), (0, 1), "{policy:?}");
    }
}

/// The group itself would skip it, but only in a task of its runtime.
#[test]
fn a_submit_has_its_task_back_after_a_cancel_though_the_runtime_of_the_group_is_busy() {
    let busy = paused();
    let (parent, woken) = (CancellationToken::new(), Arc::new(Woken::default()));
    let builder = TaskGroup::<()>::builder().runtime(busy.handle().clone());
    let group = builder.limit(1).token(parent.clone()).build();
    group.spawn(std::future::pending::<Result<_, _>>());
    let mut submit = pin!(group.submit(async { Ok(()) }));
    let waker = Arc::clone(&woken).into();
    let mut cx = Context::from_waker(&waker);
    assert!(submit.as_mut().poll(&mut cx).is_pending());
    parent.cancel();
    assert_eq!(woken.times(), 1);
    let polled = submit.as_mut().poll(&mut cx);
    assert!(matches!(
        polled,
        Poll::Ready(Err(ScheduleError::Cancelled(_)))
    ));
}

/// On a runtime that is gone each start ends its task at once: the others follow without a stack.
#[test]
fn a_runtime_that_is_gone_ends_a_long_line() {
    watched(|| {
        let runtime = multi_thread();
        let group = TaskGroup::<()>::builder()
            .limit(1)
            .runtime(runtime.handle().clone())
            .build();
        for _ in 0..100_000 {
            group.spawn(std::future::pending::<Result<_, _>>());
        }
        runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        let here = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome = here.block_on(async { bounded(group.wait()).await });
        // None has failed, but none has run to its end either.
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
        let stats = group.stats();
        assert_eq!((stats.aborted, stats.skipped), (1, 99_999));
    });
}

/// Nobody calls `cancel`, but whoever listens, or spawns more, is told.
#[test]
fn a_runtime_that_is_gone_cancels_its_groups_and_rejects_more() {
    for running in [false, true] {
        let runtime = multi_thread();
        let builder = TaskGroup::<()>::builder().on_error(OnError::Continue);
        let group = builder.runtime(runtime.handle().clone()).build();
        if running {
            group.spawn(std::future::pending::<Result<_, _>>());
        }
        let handle = group.handle();
        runtime.shutdown_timeout(Duration::from_secs(10));
        if !running {
            // Only its end says that the runtime is gone.
            handle.spawn(async { Ok(()) });
        }
        assert_eq!(handle.cause(), Some(Cause::Cancelled), "{running}");
        let late = handle.try_spawn(async { Ok(()) });
        assert!(matches!(late, Err(ScheduleError::Cancelled(_))), "{late:?}");
        assert_eq!(handle.stats().aborted, 1, "{running}");
    }
}

#[tokio::test]
async fn the_first_error_in_time_has_its_own_index() {
    let group = TaskGroup::builder().on_error(OnError::Continue).build();
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

/// A panic's payload is kept for `wait` to return, and one of a group that nobody waits for goes with it.
#[tokio::test]
async fn panics_are_kept_until_they_are_returned_or_the_group_is_dropped() {
    let (group, flag) = (sized(1), Flag::new());
    for _ in 0..10 {
        let guard = flag.guard();
        group.spawn(async move { std::panic::panic_any(guard) });
    }
    until("all have panicked", || group.stats().panicked == 10).await;
    assert_eq!(flag.drops(), 0);
    let first = bounded(group.wait()).await.unwrap_err();
    assert_eq!((first.index(), flag.drops()), (Some(0), 9));
    drop(first);
    assert_eq!(flag.drops(), 10);

    let group = sized(1);
    let guard = flag.guard();
    group.spawn(async move { std::panic::panic_any(guard) });
    until("it has panicked", || group.stats().panicked == 1).await;
    drop(group);
    until("its payload is gone", || flag.drops() == 11).await;
}

/// No `wait` can return them. A handle or a member that lives on does not keep them.
#[tokio::test]
async fn errors_are_dropped_with_their_group_and_later_ones_as_they_come() {
    let (flag, hold) = (Flag::new(), Hold::new());
    let builder = TaskGroup::builder().on_error(OnError::Continue);
    let group = builder.build();
    let failed = flag.guard();
    group.spawn(async move { Err(failed) });
    until("it has failed", || group.stats().failed == 1).await;
    let (handle, member, running) = (group.handle(), group.member(), hold.job());
    // The error of its destructor comes after the drop of the group.
    let late = OnDrop({
        let guard = flag.guard();
        let mut guard = Some(guard);
        move || std::panic::panic_any(guard.take())
    });
    group.spawn(async move {
        let _late = late;
        running.await;
        Ok(())
    });
    hold.started().await;
    drop(group);
    assert_eq!(flag.drops(), 1);
    member.fail(flag.guard());
    handle.member().fail(flag.guard());
    assert_eq!(flag.drops(), 3);
    until("its payload is gone", || flag.drops() == 4).await;
    assert_eq!((handle.stats().failed, handle.stats().panicked), (1, 1));
}

/// A task that was taken in is the group's, though its `submit` has not heard of it yet.
#[tokio::test]
async fn a_skipped_task_does_not_wait_for_its_submit() {
    let group = TaskGroup::<()>::builder().limit(1).queue(1).build();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    group.spawn(async {
        gone.await.unwrap();
        Ok(())
    });
    group.spawn(std::future::pending::<Result<_, _>>());
    let flag = Flag::new();
    let guard = flag.guard();
    let mut submit = group.submit(async move {
        let _guard = guard;
        Ok(())
    });
    assert!(poll_once(&mut submit).is_pending());
    go.send(()).unwrap();
    until("the first has ended", || group.stats().finished == 1).await;
    group.cancel();
    assert_eq!((flag.drops(), group.stats().skipped), (1, 1));
    assert_eq!(bounded(submit).await.unwrap(), 2);
}

#[tokio::test]
async fn a_rejected_task_may_panic_in_its_destructor() {
    let group = TaskGroup::<()>::new();
    group.wait().await.unwrap();
    let bomb = OnDrop(|| panic!("in a destructor"));
    let task = async move {
        let _bomb = bomb;
        Ok(())
    };
    // Two panics, one after the other: the process lives, and the caller gets the one that is his.
    let rejected = catch_unwind(AssertUnwindSafe(|| group.spawn(task))).unwrap_err();
    assert_eq!(
        rejected.downcast_ref::<String>().unwrap(),
        "schedgroup: attempted to spawn a task after TaskGroup::wait was called"
    );
}

#[tokio::test]
async fn errors_that_panic_in_their_destructors_do_not_hide_the_first() {
    let group = TaskGroup::builder().on_error(OnError::Continue).build();
    for bad in [false, true, true] {
        group.spawn(async move { Err(OnDrop(move || assert!(!bad, "in a destructor"))) });
    }
    let first = bounded(group.wait()).await.unwrap_err();
    assert_eq!(first.index(), Some(0));
}

#[tokio::test]
async fn a_waker_that_panics_leaves_the_line_its_turns() {
    let group = sized(1);
    let (hold, flag) = (Hold::new(), Flag::new());
    group.spawn(hold.job());
    let mut submits = [(); 2].map(|()| Box::pin(group.submit(flag.job())));
    for submit in &mut submits {
        poll_with_bomb(submit.as_mut());
    }
    group.spawn(flag.job());
    hold.release();
    let stats = bounded(group.wait()).await.unwrap();
    assert_eq!((stats.finished, flag.drops()), (4, 3));
    for submit in submits {
        bounded(submit).await.unwrap();
    }
}

#[tokio::test]
async fn a_waker_that_panics_when_another_takes_its_place_is_no_panic_of_who_waits() {
    let group = sized(1);
    let hold = Hold::new();
    group.spawn(hold.job());
    let (mut drain, mut wait) = (Box::pin(group.drain(HOUR)), Box::pin(group.wait()));
    let waker = waker_with_bomb();
    assert!(
        drain
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    assert!(poll_once(&mut drain).is_pending());
    let waker = waker_with_bomb();
    assert!(
        wait.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    assert!(poll_once(&mut wait).is_pending());
    hold.release();
    assert_eq!(counts(bounded(drain).await), (1, 0, 0));
    assert_eq!(bounded(wait).await.unwrap().finished, 1);
}

#[tokio::test]
async fn a_waker_that_panics_when_the_token_is_cancelled_does_not_keep_a_slot() {
    let group = TaskGroup::builder().limit(1).build();
    let (token, hold) = (group.token(), Hold::new());
    let mut cancelled = Box::pin(token.cancelled());
    poll_with_bomb(cancelled.as_mut());
    let held = hold.job();
    group.spawn(async {
        held.await;
        Err("the first")
    });
    hold.release();
    let failed = bounded(group.wait()).await.unwrap_err();
    assert_eq!(failed.into_error(), Some("the first"));
}
