//! A finished job leaves nothing behind, though its group and its handles live on.
//!
//! What that is in bytes, and that a burst gives its storage back, is in `tests/memory.rs`.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use schedgroup::{Group, JobHandle, JobState, Next};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::common::{HOUR, alive_tasks, bounded, methods, ms, settle, until};

/// What a job holds, and who can see whether somebody still does.
fn held() -> (Arc<()>, Weak<()>) {
    let held = Arc::new(());
    let seen = Arc::downgrade(&held);
    (held, seen)
}

/// A job that holds it over an await.
async fn holder(held: Arc<()>, nap: Duration) {
    sleep(nap).await;
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn what_a_job_held_is_gone_with_its_run_whatever_the_method() {
    let group = Group::new();
    let mut handles = Vec::new();
    let shared = Arc::new(());
    let at = Instant::now() + ms(1);
    let job = || holder(Arc::clone(&shared), ms(0));
    for (_, call) in methods!(group, at, job) {
        handles.push(call());
    }
    assert_eq!(Arc::strong_count(&shared), 8);
    sleep(ms(5)).await;
    assert_eq!(Arc::strong_count(&shared), 1, "{handles:?}");
    assert!(handles.iter().all(JobHandle::is_finished));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_await_have_no_task_of_their_own() {
    let group = Group::new();
    sleep(ms(1)).await;
    let before = alive_tasks();
    for _ in 0..300 {
        group.delay(ms(10), async { sleep(ms(5)).await });
    }
    sleep(ms(12)).await;
    assert_eq!(group.stats().running, 300);
    // A worker.
    let alive = alive_tasks();
    assert!(alive <= before + 1, "{alive} beside {before}");
    sleep(ms(10)).await;
    assert_eq!(group.stats().finished, 300);
}

/// Each way to end, and the state it leads to; the handle and the group are kept.
#[tokio::test(start_paused = true)]
async fn what_a_job_held_is_gone_however_it_ended() {
    for (way, nap, state) in [
        ("finished", 0, JobState::Finished),
        ("panicked", 0, JobState::Panicked),
        ("aborted", 1_000, JobState::Cancelled),
        ("cancelled", 0, JobState::Cancelled),
        ("group cancelled", 0, JobState::Cancelled),
        ("group shut down", 1_000, JobState::Cancelled),
    ] {
        let group = Group::new();
        let (held, seen) = held();
        let job = group.delay_with(ms(2), move |_| async move {
            assert_ne!(way, "panicked");
            holder(held, ms(nap)).await;
        });
        match way {
            "cancelled" => assert!(job.cancel()),
            "group cancelled" => group.cancel(),
            _ => sleep(ms(5)).await,
        }
        match way {
            "aborted" => job.abort(),
            "group shut down" => _ = group.shutdown(Duration::ZERO).await,
            _ => {}
        }
        settle().await;
        assert_eq!((job.state(), seen.strong_count()), (state, 0), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_run_of_a_series_held_is_gone_before_the_next() {
    let group = Group::new();
    let mut last = Weak::new();
    let (of_series, seen) = held();
    let job = group.repeat(Instant::now(), move |context| {
        assert_eq!(last.strong_count(), 0, "run {}", context.run());
        let (of_run, seen) = held();
        last = seen;
        let of_series = Arc::clone(&of_series);
        async move {
            holder(of_run, ms(5)).await;
            drop(of_series);
            match context.run() {
                5 => Next::Done,
                _ => Next::After(ms(5)),
            }
        }
    });
    sleep(ms(7)).await;
    assert!(job.is_pending());
    assert_eq!(seen.strong_count(), 1, "the series' own");
    group.wait().await.unwrap();
    assert_eq!((job.state(), seen.strong_count()), (JobState::Finished, 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_kept_for_its_join_handle_alone() {
    let group = Group::new();
    let (held, seen) = held();
    let value = group.spawn_after(ms(1), async move { held });
    let job = value.job().clone();
    group.wait().await.unwrap();
    assert_eq!((job.state(), seen.strong_count()), (JobState::Finished, 1));
    drop(value);
    assert_eq!((job.state(), seen.strong_count()), (JobState::Finished, 0));
}

#[tokio::test(start_paused = true)]
async fn of_many_panics_only_the_first_payload_is_kept() {
    let group = Group::new();
    let all = Arc::new(());
    for n in 1..=10 {
        let payload = Arc::clone(&all);
        group.delay(ms(n), async move { std::panic::panic_any(payload) });
    }
    sleep(ms(20)).await;
    assert_eq!(Arc::strong_count(&all), 2);
    let outcome = group.wait().await;
    assert_eq!(Arc::strong_count(&all), 2, "{outcome:?}");
    drop((outcome, group));
    settle().await;
    assert_eq!(Arc::strong_count(&all), 1);
}

/// Contexts and handles hold the group's state, and pending jobs are in it: dropping the group
/// breaks that ring.
#[tokio::test(start_paused = true)]
async fn a_job_may_hold_its_own_handle_and_a_context_without_a_leak() {
    let (held, seen) = held();
    let group = Group::new();
    let slot = Arc::new(std::sync::Mutex::new(None));
    let (inner, handle) = (Arc::clone(&slot), group.handle());
    let job = group.delay(HOUR, async move {
        drop((inner, handle, held));
    });
    *slot.lock().unwrap() = Some(job);
    drop(slot);
    group.delay_with(Duration::ZERO, |context| async move {
        let another = context.clone();
        context.delay(HOUR, async move { drop(another) });
    });
    settle().await;
    assert_eq!((group.stats().pending, seen.strong_count()), (2, 1));
    drop(group);
    settle().await;
    assert_eq!(seen.strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_carries_its_own_group_is_gone_when_nobody_can_hear_of_it() {
    for detached in [false, true] {
        let (held, seen) = held();
        let group = Group::new();
        let token = group.token();
        let payload = (
            Arc::clone(&held),
            group.handle(),
            group.delay(HOUR, async {}),
        );
        group.delay(ms(1), async move { std::panic::panic_any(payload) });
        // Panics only once the group is gone, and is not the first.
        let late = (held, group.handle());
        group.delay(ms(2), async move { std::panic::panic_any(late) });
        sleep(ms(if detached { 1 } else { 3 })).await;
        if detached {
            group.detach();
        } else {
            drop(group);
        }
        sleep(ms(3)).await;
        assert_eq!(seen.strong_count(), 0, "detached: {detached}");
        token.cancel();
    }
}

/// What has begun comes before what is due, so few jobs of a burst are half done at any time. That is the same for those
/// that wake themselves for ever, which still hold up no other.
#[tokio::test]
async fn of_a_burst_of_jobs_that_are_woken_at_once_few_run_at_a_time() {
    let group = Group::new();
    let at = Instant::now() + ms(1);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let for_ever = |n: usize| n < 100;
    for n in 0..10_000 {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        group.schedule(at, async move {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            for _ in 0..if for_ever(n) { u32::MAX } else { 5 } {
                wakes_itself().await;
            }
            running.fetch_sub(1, SeqCst);
        });
    }
    bounded(until("all others have ended", || {
        group.stats().finished == 9_900
    }))
    .await;
    let most = most.load(SeqCst);
    assert!((100..1_000).contains(&most), "{most} at a time");
    group.shutdown(ms(0)).await;
}

/// Is pending once.
async fn wakes_itself() {
    let mut woken = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A burst of jobs that await, whatever comes with it and after it, leaves the driver and a worker.
#[test]
fn a_burst_of_jobs_that_await_leaves_no_tasks_behind() {
    let one = Builder::new_current_thread().enable_all().build();
    let four = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    for runtime in [one.unwrap(), four.unwrap()] {
        runtime.block_on(bounded(async {
            let before = alive_tasks();
            let group = Group::new();
            for (naps, yields, ready) in [(500, 0, 0), (0, 500, 0), (0, 500, 5_000), (9, 9, 9)] {
                let at = Instant::now() + ms(1);
                for _ in 0..naps {
                    group.schedule(at, sleep(ms(1)));
                }
                for _ in 0..yields {
                    group.schedule(at, yield_now());
                }
                for _ in 0..ready {
                    group.schedule(at, async {});
                }
                let what = format!("{naps} sleep, {yields} yield, {ready} are ready");
                until(&what, || group.stats().pending + group.stats().running == 0).await;
                until(&what, || alive_tasks() <= before + 2).await;
            }
            group.wait().await.unwrap();
            until("no task is left", || alive_tasks() == before).await;
        }));
    }
}

/// A `select!` drops one at each turn, and the group may live on for years.
#[tokio::test]
async fn a_dropped_wait_leaves_no_waker_behind() {
    struct Counted(#[expect(dead_code, reason = "it is seen to be held")] Arc<()>);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    let group = Group::new();
    group.delay(HOUR, async {});
    let (held, seen) = held();
    let mut wait = Box::pin(group.wait());
    let waker = Arc::new(Counted(held)).into();
    let polled = wait.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    assert_eq!(seen.strong_count(), 1, "the wait holds it");
    drop(wait);
    assert_eq!(seen.strong_count(), 0);
}
