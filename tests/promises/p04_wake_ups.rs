//! No wake-up is lost: an earlier job always re-arms the sleep, and `wait` ends when nothing is
//! pending or running. And none is spent on a later job.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use schedgroup::{Group, JobHandle, Next};
use tokio::task::coop;
use tokio::time::{Instant, sleep, timeout};

use crate::common::{
    HOUR, Log, OnDrop, beside, block_until_told, bounded, ms, multi_thread, on_both, poll_once,
    settle, watched,
};

#[tokio::test(start_paused = true)]
async fn each_job_moved_earlier_re_arms_the_sleep() {
    let group = Group::new();
    let log = Log::new();
    let jobs = (1..=100)
        .map(|n| (n, group.delay(HOUR, log.job(n))))
        .collect::<Vec<_>>();
    for (n, job) in jobs.iter().rev() {
        assert!(job.reset_after(ms(*n)));
        settle().await;
    }
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        (1..=100).map(|n| (n, ms(n))).collect::<Vec<_>>()
    );
}

/// What ends the last job of a group, one second into its wait.
async fn wait_ends_with(
    schedule: impl Fn(&Group) -> JobHandle,
    end: impl Fn(&JobHandle),
    also_pending: usize,
) {
    let group = Group::new();
    let start = Instant::now();
    let others = (0..also_pending)
        .map(|_| group.delay(HOUR, async {}))
        .collect::<Vec<_>>();
    let job = schedule(&group);
    let ender = async {
        sleep(ms(1_000)).await;
        others.iter().for_each(|other| assert!(other.cancel()));
        end(&job);
    };
    let waiter = async { (group.wait().await, start.elapsed()) };
    let (outcome, elapsed) = beside(waiter, ender).await;
    outcome.unwrap();
    assert_eq!(elapsed, ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn wait_ends_when_the_last_pending_job_is_cancelled() {
    for others in [0, 1, 5_000] {
        let pending = |group: &Group| group.delay(HOUR, async {});
        wait_ends_with(pending, |job| assert!(job.cancel()), others).await;
        wait_ends_with(pending, |job| job.abort(), others).await;
    }
}

#[tokio::test(start_paused = true)]
async fn wait_ends_when_the_last_running_job_is_aborted() {
    let running = |group: &Group| group.delay(Duration::ZERO, std::future::pending());
    wait_ends_with(running, |job| job.abort(), 0).await;
    wait_ends_with(running, |job| job.abort(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn wait_ends_when_the_last_repeating_job_is_cancelled_between_runs() {
    let repeating = |group: &Group| group.repeat(Instant::now(), |_| async { Next::After(HOUR) });
    wait_ends_with(repeating, |job| assert!(job.cancel()), 0).await;
}

/// The job is moved from an hour ahead to now, and the wait ends with its run.
#[tokio::test(start_paused = true)]
async fn wait_ends_when_the_last_pending_job_is_moved_to_now() {
    let pending = |group: &Group| group.delay(HOUR, async {});
    wait_ends_with(pending, |job| assert!(job.reset_after(Duration::ZERO)), 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_later_job_does_not_wake_the_driver() {
    let group = Group::new();
    group.delay(ms(1_000), async {});
    settle().await;
    let before = group.stats().driver_wakeups;
    for n in 0..10_000 {
        group.delay(ms(1_000 + n), async {});
    }
    settle().await;
    assert_eq!(group.stats().driver_wakeups, before);
}

/// It sets the timer by itself. Of many of which each is earlier than the one before, the second wakes the driver.
#[tokio::test(start_paused = true)]
async fn an_earlier_job_wakes_the_driver_once_and_runs_at_its_time() {
    for (delays, at_once) in [(&[100][..], 0), (&[300, 200, 100], 1)] {
        let group = Group::new();
        group.delay(ms(1_000), async {});
        settle().await;
        let (before, begin) = (group.stats().driver_wakeups, Instant::now());
        let first = delays
            .iter()
            .map(|&delay| group.spawn_after(ms(delay), async { Instant::now() }));
        let first: Vec<_> = first.collect();
        settle().await;
        assert_eq!(group.stats().driver_wakeups, before + at_once, "{delays:?}");
        for (job, &delay) in first.into_iter().zip(delays).rev() {
            assert_eq!(job.await.unwrap(), begin + ms(delay), "{delays:?}");
        }
        assert_eq!(
            group.stats().driver_wakeups,
            before + at_once + delays.len() as u64
        );
    }
}

/// The timer has been set and has rung, or was never set, or is set to a later time or to an earlier one.
#[tokio::test(start_paused = true)]
async fn a_job_runs_at_its_time_whatever_the_timer_was_set_to() {
    for former in [None, Some(10), Some(100), Some(1_000), Some(u64::MAX)] {
        for idle in [0, 1, 10, 50] {
            let group = Group::new();
            if let Some(former) = former {
                let former = group.delay(Duration::from_millis(former), async {});
                settle().await;
                former.cancel();
            }
            sleep(ms(idle)).await;
            let begin = Instant::now();
            let job = group.spawn_after(ms(20), async { Instant::now() });
            let ran = timeout(HOUR, job).await.expect("no wake-up is lost");
            assert_eq!(ran.unwrap(), begin + ms(20), "{former:?}, {idle} ms later");
        }
    }
}

/// Otherwise tokio would not poll the driver's sleep for it before it yields, and it blocks its thread instead.
#[test]
fn a_job_runs_at_its_time_though_its_scheduler_has_used_up_its_budget() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            group.delay_with(Duration::ZERO, |context| async move {
                while coop::has_budget_remaining() {
                    coop::consume_budget().await;
                }
                let (tell, told) = mpsc::channel();
                context.delay(ms(5), async move { tell.send(()).unwrap() });
                let told = told.recv_timeout(Duration::from_secs(10));
                told.expect("the other job should have run by now");
            });
            group.wait().await.unwrap();
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn an_idle_group_does_not_look_around() {
    let group = Group::new();
    group.delay(ms(1), async {});
    sleep(ms(2)).await;
    let before = group.stats().driver_wakeups;
    sleep(ms(60_000)).await;
    assert_eq!(group.stats().driver_wakeups, before);
}

/// A wait that was polled by one task and then another wakes the last one.
#[test]
fn wait_wakes_who_polled_it_last() {
    on_both(|| async {
        let group = Group::new();
        let job = group.delay(HOUR, async {});
        let mut wait = group.wait();
        assert!(poll_once(&mut wait).is_pending());
        let cancelled = async {
            tokio::task::yield_now().await;
            assert!(job.cancel());
        };
        beside(wait, cancelled).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_polled_late_sees_what_happened_before() {
    let group = Group::new();
    group.delay(ms(1), async {});
    let mut wait = group.wait();
    sleep(ms(5)).await;
    let polled = poll_once(&mut wait);
    assert!(matches!(polled, Poll::Ready(Ok(()))), "{polled:?}");
}

/// A worker that is there at once needs nobody to look after it: one wake-up a job, and the first.
#[test]
fn a_lone_job_wakes_the_driver_once() {
    const JOBS: u64 = 20;
    on_both(|| async {
        let group = Group::new();
        for n in 1..=JOBS {
            group.delay(ms(10 * n), async {});
        }
        group.wait().await.unwrap();
        let turns = group.stats().driver_wakeups;
        // The group's first turn, that for the first job, one each, and the last.
        assert!(turns <= JOBS + 3, "{turns} turns for {JOBS} jobs");
    });
}

/// Also when the next ones come near while the driver is up.
#[tokio::test(start_paused = true)]
async fn each_instant_at_which_jobs_fall_due_costs_one_turn() {
    for apart in [1, 5, 10, 20, 100] {
        let (group, log) = (Group::new(), Log::new());
        for n in 1..=20 {
            group.delay(ms(n * apart), log.job(n));
        }
        settle().await;
        let before = group.stats().driver_wakeups;
        sleep(ms(30 * apart)).await;
        let turns = group.stats().driver_wakeups - before;
        assert_eq!((log.len(), turns), (20, 20), "{apart} ms apart");
    }
}

/// As a task's waker does.
#[tokio::test(start_paused = true)]
async fn many_wake_ups_of_a_job_that_awaits_are_one_poll() {
    let group = Group::new();
    let (wakers, polls) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicUsize::new(0)),
    );
    let (gives, counts) = (Arc::clone(&wakers), Arc::clone(&polls));
    let job = group.delay(
        Duration::ZERO,
        std::future::poll_fn(move |cx| {
            counts.fetch_add(1, SeqCst);
            gives
                .lock()
                .unwrap()
                .extend([(); 3].map(|()| cx.waker().clone()));
            Poll::<()>::Pending
        }),
    );
    settle().await;
    for polled in 1..4 {
        assert_eq!(polls.load(SeqCst), polled);
        let given = std::mem::take(&mut *wakers.lock().unwrap());
        given[0].wake_by_ref();
        given.into_iter().for_each(Waker::wake);
        settle().await;
    }
    job.abort();
    group.wait().await.unwrap();
    assert_eq!(polls.load(SeqCst), 4);
}

/// Another thread cancels the job, and drops what it holds.
#[test]
fn wait_is_pending_while_what_a_cancelled_job_held_is_dropped() {
    for closes_before in [true, false] {
        watched(move || {
            multi_thread().block_on(bounded(async {
                let group = Group::new();
                let ((begins, begun), (tell, told)) = (mpsc::channel(), mpsc::channel());
                let held = OnDrop(move || {
                    begins.send(()).unwrap();
                    block_until_told(&told);
                });
                let job = group.delay(HOUR, async move { drop(held) });
                let wait = closes_before.then(|| group.wait());
                let cancels = std::thread::spawn(move || job.cancel());
                begun.recv_timeout(Duration::from_secs(10)).unwrap();
                let mut wait = wait.unwrap_or_else(|| group.wait());
                assert!(poll_once(&mut wait).is_pending(), "{closes_before}");
                tell.send(()).unwrap();
                assert!(wait.await.is_ok(), "{closes_before}");
                assert!(cancels.join().unwrap(), "{closes_before}");
            }));
        });
    }
}
