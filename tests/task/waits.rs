//! The end of a group of tasks: what `wait` says, how often it may be called, and what comes too late.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use schedgroup::task::{OnError, TaskGroup, TaskHandle};
use schedgroup::{Group, ScheduleError, TaskError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, HOUR, Hold, OnDrop, bounded, misuse, ms, panic_of, poll_once, settle, sized, until,
};

/// A waker with a destructor.
struct Fragile<F: FnMut()>(OnDrop<F>);

impl<F: FnMut() + Send + Sync + 'static> Wake for Fragile<F> {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn a_cancel_after_the_last_end_changes_nothing_that_wait_says() {
    for all in [false, true] {
        let parent = CancellationToken::new();
        let group = TaskGroup::<()>::with_token(parent.clone());
        group.spawn(async { Ok(()) });
        until("the task has ended", || group.stats().finished == 1).await;
        parent.cancel();
        let well = if all {
            bounded(group.wait_all()).await.is_ok()
        } else {
            bounded(group.wait()).await.is_ok()
        };
        assert!(well, "all: {all}");
    }
}

#[tokio::test]
async fn tasks_that_heard_the_cancel_and_ended_well_are_no_error() {
    let group = TaskGroup::<()>::new();
    for _ in 0..3 {
        group.spawn_with(|token| async move {
            token.cancelled().await;
            Ok(())
        });
    }
    group.cancel();
    bounded(group.wait()).await.unwrap();
    assert_eq!(group.stats().finished, 3);
}

#[tokio::test]
async fn wait_says_cancelled_if_a_task_was_skipped_or_aborted() {
    let aborted = TaskGroup::<()>::new();
    aborted.spawn(std::future::pending::<Result<_, _>>());
    aborted.abort();
    let skipped = TaskGroup::<()>::new();
    skipped.cancel();
    skipped.spawn(async { Ok(()) });
    for (group, counts) in [(aborted, (1, 0)), (skipped, (0, 1))] {
        let outcome = bounded(group.wait()).await;
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
        let stats = group.stats();
        assert_eq!((stats.aborted, stats.skipped), counts);
    }
}

/// The outcome is settled in the step that drains the group, not in the poll that reads it.
#[tokio::test]
async fn what_comes_after_the_last_end_changes_nothing_that_wait_says() {
    let (group, hold) = (TaskGroup::<()>::new(), Hold::new());
    let (handle, held) = (group.handle(), hold.job());
    group.spawn(async {
        held.await;
        Ok(())
    });
    let mut wait = group.wait();
    assert!(poll_once(&mut wait).is_pending());
    hold.release();
    settle().await;
    handle.spawn(async { Ok(()) });
    handle.cancel();
    assert_eq!(handle.stats().skipped, 1);
    bounded(wait).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_a_select_loop_goes_on_in_its_next_turn() {
    let (group, all, limited) = (TaskGroup::<()>::new(), TaskGroup::<()>::new(), sized(1));
    let task = async || {
        sleep(ms(35)).await;
        Ok(())
    };
    let mut turns = [0; 3];
    group.spawn(task());
    loop {
        tokio::select! {
            outcome = group.wait() => break assert_eq!(outcome.unwrap().finished, 1),
            () = sleep(ms(10)) => turns[0] += 1,
        }
    }
    all.spawn(task());
    loop {
        tokio::select! {
            outcome = all.wait_all() => break assert_eq!(outcome.unwrap().finished, 1),
            () = sleep(ms(10)) => turns[1] += 1,
        }
    }
    limited.spawn(sleep(ms(35)));
    loop {
        tokio::select! {
            outcome = limited.wait() => break assert_eq!(outcome.unwrap().finished, 1),
            () = sleep(ms(10)) => turns[2] += 1,
        }
    }
    assert_eq!(turns, [3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn after_a_wait_that_ran_out_of_time_the_group_can_be_aborted_and_waited_for() {
    let group = TaskGroup::<()>::new();
    group.spawn(async {
        sleep(HOUR).await;
        Ok(())
    });
    assert!(timeout(ms(10), group.wait()).await.is_err());
    assert!(timeout(ms(10), group.wait_all()).await.is_err());
    group.abort();
    let outcome = group.wait().await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
}

#[tokio::test]
async fn a_dropped_wait_loses_no_failure() {
    let (group, hold) = (TaskGroup::new(), Hold::new());
    let held = hold.job();
    group.spawn(async {
        held.await;
        Err("the first")
    });
    let mut wait = group.wait();
    assert!(poll_once(&mut wait).is_pending());
    hold.release();
    settle().await;
    // It was woken, and never asked.
    drop(wait);
    let failed = bounded(group.wait()).await.unwrap_err();
    assert_eq!(failed.into_error(), Some("the first"));
}

#[tokio::test]
async fn a_dropped_wait_leaves_its_group_closed() {
    let (group, limited) = (TaskGroup::<()>::new(), sized(1));
    let handle = group.handle();
    group.spawn(std::future::pending::<Result<_, _>>());
    drop(group.wait());
    drop(limited.wait());
    let late = "schedgroup: attempted to spawn a task after TaskGroup::wait was called";
    assert_eq!(misuse(|| group.spawn(async { Ok(()) })), late);
    assert_eq!(misuse(|| group.spawn_with(|_| async { Ok(()) })), late);
    assert_eq!(
        misuse(|| drop(group.member())),
        "schedgroup: attempted to add a member after TaskGroup::wait was called"
    );
    assert_eq!(misuse(|| limited.spawn(async {})), late);
    let tried = group.try_spawn(async { Ok(()) });
    assert!(matches!(tried, Err(ScheduleError::Closed(_))), "{tried:?}");
    handle.try_spawn(async { Ok(()) }).unwrap();
}

#[tokio::test]
async fn a_wait_beside_a_live_one_or_after_a_completed_one_is_misuse_at_its_line() {
    let group = TaskGroup::<()>::new();
    let assert_either_is_misuse = || {
        let again = "schedgroup: multiple calls to TaskGroup::wait";
        assert_eq!(misuse(|| drop(group.wait())), again);
        let again = "schedgroup: multiple calls to TaskGroup::wait_all";
        assert_eq!(misuse(|| drop(group.wait_all())), again);
    };
    let first = group.wait();
    assert_either_is_misuse();
    drop(first);
    let second = group.wait_all();
    assert_either_is_misuse();
    bounded(second).await.unwrap();
    assert_either_is_misuse();
}

#[tokio::test]
async fn a_wait_that_has_ended_is_not_polled_again() {
    let group = TaskGroup::<()>::new();
    let mut wait = group.wait();
    bounded(&mut wait).await.unwrap();
    assert_eq!(
        panic_of(|| poll_once(&mut wait)).message,
        "schedgroup: a future was polled after it had ended"
    );
}

#[tokio::test]
async fn a_dropped_wait_leaves_no_waker_behind() {
    struct Counted(#[expect(dead_code, reason = "it counts its drop")] crate::common::Guard);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    let (group, flag) = (TaskGroup::<()>::new(), Flag::new());
    group.spawn(std::future::pending::<Result<_, _>>());
    let mut wait = Box::pin(group.wait());
    let waker = Arc::new(Counted(flag.guard())).into();
    assert!(
        wait.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    assert_eq!(flag.drops(), 0, "the wait holds it");
    drop(wait);
    assert_eq!(flag.drops(), 1);
}

/// Two panics at once would end the process.
#[tokio::test]
async fn a_wait_is_dropped_in_a_panic_though_its_waker_panics_too() {
    let (tasks, group) = (TaskGroup::<()>::new(), Group::new());
    tasks.spawn(std::future::pending::<Result<_, _>>());
    group.delay(Duration::ZERO, std::future::pending());
    until("it runs", || group.stats().running == 1).await;
    group.cancel(); // after that only the group has the waker, and not its token
    let wait: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async { drop(tasks.wait().await) });
    let drain: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        group.drain(HOUR).await;
    });
    for mut ends in [wait, drain] {
        let waker = Arc::new(Fragile(OnDrop(|| panic!("in a waker")))).into();
        let mut cx = Context::from_waker(&waker);
        assert!(ends.as_mut().poll(&mut cx).is_pending());
        drop(waker);
        let panic = catch_unwind(AssertUnwindSafe(move || {
            let _ends = ends;
            panic!("the first")
        }));
        assert!(panic.is_err());
    }
}

/// A handle lives in other tasks, where the end of its group is no mistake.
#[tokio::test]
async fn a_spawn_through_a_handle_after_the_end_is_skipped_and_never_panics() {
    let (group, flag) = (TaskGroup::<()>::new(), Flag::new());
    let handle = group.handle();
    group.wait().await.unwrap();
    let guard = flag.guard();
    handle.spawn(async move {
        drop(guard);
        Ok(())
    });
    let guard = flag.guard();
    handle.spawn_with(|_| async move {
        drop(guard);
        Ok(())
    });
    let bomb = OnDrop(|| panic!("in a destructor"));
    handle.spawn(async move {
        let _bomb = bomb;
        Ok(())
    });
    assert_eq!((flag.drops(), handle.stats().skipped), (2, 3));
}

/// A chain of tasks, each of which spawns the next through a handle, at size one.
#[tokio::test]
async fn a_sized_groups_tasks_spawn_while_it_waits() {
    fn chain(handle: TaskHandle, left: u32) {
        let next = handle.clone();
        handle.spawn(async move {
            if left > 0 {
                chain(next, left - 1);
            }
        });
    }
    let group = sized(1);
    chain(group.handle(), 100);
    let handle = group.handle();
    group.spawn(async move {
        handle
            .try_spawn(async {})
            .map(drop)
            .unwrap_err()
            .into_inner()
            .await
    });
    let stats = bounded(group.wait()).await.unwrap();
    assert_eq!((stats.finished, stats.panicked), (102, 0), "{stats:?}");

    let group = sized(2);
    let handle = group.handle();
    group.spawn_with(|_| async move {
        handle.submit(async {}).await.unwrap();
    });
    assert_eq!(bounded(group.wait()).await.unwrap().finished, 2);
    let late = group.handle();
    late.spawn(async {});
    late.spawn_with(|_| async {});
    assert_eq!(late.stats().skipped, 2);
}

#[tokio::test]
async fn a_rejected_task_that_panics_in_its_destructor_does_not_replace_the_panic_of_misuse() {
    let (group, limited) = (TaskGroup::<()>::new(), sized(1));
    group.wait().await.unwrap();
    limited.wait().await.unwrap();
    let bomb = || OnDrop(|| panic!("in a destructor"));
    let (first, second) = (bomb(), bomb());
    let rejected = [
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            group.spawn_with(|_| async move {
                let _bomb = first;
                Ok(())
            })
        })),
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            limited.spawn(async move {
                let _bomb = second;
            })
        })),
    ];
    for rejected in rejected {
        let payload = rejected.unwrap_err();
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(text.starts_with("schedgroup: attempted"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_the_first_failure_aborts_tasks_that_do_not_listen() {
    for how in ["error", "panic", "member"] {
        let group = TaskGroup::builder().limit(2).build();
        group.spawn(async {
            sleep(HOUR).await;
            Ok(())
        });
        let member = group.member();
        match how {
            "error" => {
                group.spawn(async move { Err(how) });
            }
            "panic" => {
                group.spawn(async { panic!("boom") });
            }
            _ => {
                group.spawn(std::future::pending::<Result<_, _>>());
                member.fail(how);
            }
        }
        for _ in 0..3 {
            group.spawn(async { Ok(()) });
        }
        drop(member);
        let start = tokio::time::Instant::now();
        let failed = group.wait().await.unwrap_err();
        assert!(failed.index().is_some(), "{how}: {failed:?}");
        assert_eq!(start.elapsed(), ms(0), "{how}");
        let stats = group.stats();
        let aborted = if how == "member" { 2 } else { 1 };
        assert_eq!((stats.aborted, stats.skipped), (aborted, 3), "{how}");
    }
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_task_in_every_policy() {
    for policy in [OnError::Abort, OnError::Cancel, OnError::Continue] {
        for all in [false, true] {
            let group = TaskGroup::<()>::builder().on_error(policy).build();
            group.spawn(async { Ok(()) });
            group.spawn(async { panic!("boom") });
            let failed = if all {
                bounded(group.wait_all()).await.unwrap_err().last().clone()
            } else {
                bounded(group.wait()).await.unwrap_err()
            };
            let TaskError::Panicked(panic) = failed else {
                panic!("{policy:?}: {failed:?}");
            };
            assert_eq!((panic.index(), panic.message()), (1, "boom"), "{policy:?}");
            assert_eq!(group.stats().panicked, 1, "{policy:?}");
        }
    }
}

#[tokio::test]
async fn a_submit_in_the_queue_is_covered_by_a_wait_also_by_the_second() {
    let (group, hold) = (TaskGroup::<()>::builder().limit(1).build(), Hold::new());
    let held = hold.job();
    group.spawn(async {
        held.await;
        Ok(())
    });
    let mut submit = group.submit(async { Ok(()) });
    assert!(poll_once(&mut submit).is_pending());
    assert!(poll_once(&mut group.wait()).is_pending());
    hold.release();
    let (waited, submitted) = bounded(async { tokio::join!(group.wait(), submit) }).await;
    waited.unwrap();
    assert_eq!((submitted.unwrap(), group.stats().finished), (1, 2));
}

/// The lock is held for one page of the line, so that a long line keeps no other caller waiting.
#[tokio::test]
async fn a_long_line_is_skipped_page_by_page() {
    const LINE: usize = 5_000;
    for queue in [0, LINE] {
        let builder = TaskGroup::<()>::builder().limit(1).queue(queue);
        let (group, left) = (builder.build(), Arc::new(AtomicUsize::new(usize::MAX)));
        group.spawn(std::future::pending::<Result<_, _>>());
        for _ in 0..LINE {
            let (handle, left) = (group.handle(), Arc::clone(&left));
            let first = OnDrop(move || {
                let pending = handle.stats().pending;
                // Only the first destructor writes.
                let _ = left.compare_exchange(usize::MAX, pending, SeqCst, SeqCst);
            });
            group.spawn(async move {
                let _first = first;
                Ok(())
            });
        }
        group.cancel();
        assert_eq!(left.load(SeqCst), LINE - 512, "queue {queue}");
        assert_eq!(group.stats().skipped, LINE as u64, "queue {queue}");
    }
}

/// It is the group's from then on, whether or not its `submit` has been told.
#[tokio::test]
async fn a_submit_that_is_dropped_after_its_task_was_accepted_runs_it() {
    let (group, hold, flag) = (sized(1), Hold::new(), Flag::new());
    group.spawn(hold.job());
    let mut submit = group.submit(flag.job());
    assert!(format!("{submit:?}").contains("\"new\""), "{submit:?}");
    assert!(poll_once(&mut submit).is_pending());
    assert!(format!("{submit:?}").contains("\"queued\""), "{submit:?}");
    hold.release();
    settle().await;
    drop(submit);
    assert_eq!(flag.drops(), 1);
    assert_eq!(group.wait().await.unwrap().finished, 2);
}

#[tokio::test]
async fn a_submit_that_has_ended_is_not_polled_again() {
    let group = sized(1);
    for waits in [false, true] {
        let hold = Hold::new();
        if waits {
            group.spawn(hold.job());
        }
        let mut submit = group.submit(async {});
        assert_eq!(poll_once(&mut submit).is_pending(), waits);
        if waits {
            hold.release();
            bounded(&mut submit).await.unwrap();
        }
        assert!(format!("{submit:?}").contains("\"done\""), "{submit:?}");
        let again = panic_of(|| poll_once(&mut submit));
        assert_eq!(
            again.message,
            "schedgroup: a future was polled after it had ended"
        );
        settle().await;
    }
    group.wait().await.unwrap();
}

/// A future that is no async block: it is dropped behind its end.
struct Bomb {
    panics: bool,
}

impl Future for Bomb {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        assert!(!self.panics, "in the poll");
        Poll::Ready(())
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the destructor");
    }
}

#[tokio::test]
async fn a_panic_of_a_tasks_destructor_is_its_tasks_and_the_first_one_counts() {
    for (panics, expected) in [(false, "in the destructor"), (true, "in the poll")] {
        let group = sized(1);
        group.spawn(Bomb { panics });
        let error = group.wait().await.unwrap_err();
        let TaskError::Panicked(panic) = error else {
            panic!("{error:?}");
        };
        assert_eq!(panic.message(), expected);
        assert_eq!(group.stats().panicked, 1);
    }
}

/// Likewise where it was accepted into the queue, and has not started yet.
#[tokio::test]
async fn a_submit_that_is_dropped_after_it_was_accepted_into_the_queue_runs_its_task() {
    let group = TaskGroup::builder().limit(1).queue(1).build();
    let (hold, flag) = (Hold::new(), Flag::new());
    for _ in 0..2 {
        group.spawn(hold.job());
    }
    let mut submit = group.submit(flag.job());
    assert!(poll_once(&mut submit).is_pending());
    // The second one starts, and leaves its part of the queue to the third.
    hold.release();
    settle().await;
    drop(submit);
    assert_eq!((group.stats().pending, flag.drops()), (1, 0));
    hold.release();
    assert_eq!(bounded(group.wait()).await.unwrap().finished, 3);
    assert_eq!(flag.drops(), 1);
}

/// While its failure stops the others, a task still has its slot.
#[tokio::test]
async fn a_task_that_stops_the_others_is_counted_once() {
    struct Look(TaskHandle<()>, Mutex<Vec<(usize, u64)>>);
    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            let stats = self.0.stats();
            self.1.lock().unwrap().push((stats.running, stats.failed));
        }
    }
    for policy in [OnError::Abort, OnError::Cancel] {
        let group = TaskGroup::builder().on_error(policy).build();
        let look = Arc::new(Look(group.handle(), Mutex::default()));
        let token = group.token();
        let mut cancelled = pin!(token.cancelled());
        let waker = look.clone().into();
        let polled = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        group.spawn(async { Err(()) });
        bounded(group.wait()).await.unwrap_err();
        assert_eq!(*look.1.lock().unwrap(), [(0, 1)], "{policy:?}");
    }
}
