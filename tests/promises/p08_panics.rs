//! A job's panic ends that job alone; `wait` and the `JoinHandle` report it, with message, payload
//! and the place that scheduled it. A destructor that panics harms no other job.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use schedgroup::{Group, JobError, JobHandle, JobPanic, JobState, Next, WaitError};
use tokio::time::{Instant, sleep};

use super::panic_message;
use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, counts, methods, ms, on_both, poll_with_bomb, settle, until,
};

async fn panic_of_wait(group: &Group) -> JobPanic {
    match group.wait().await {
        Err(WaitError::Panicked(panic)) => panic,
        other => panic!("no panic but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn wait_drains_and_then_returns_the_first_in_time() {
    let group = Group::new();
    let log = Log::new();
    group.delay(ms(20), async { panic!("submitted first") });
    group.delay(ms(10), async { panic!("first in time") });
    group.delay(ms(30), log.job("still runs"));
    group.delay(ms(5), async {
        sleep(ms(100)).await;
        panic!("last in time");
    });
    let outcome = group.wait().await;
    assert_eq!(panic_message(&outcome), "first in time");
    assert_eq!(log.take(), [("still runs", ms(30))]);
    assert_eq!(group.stats().panicked, 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_names_its_job_and_the_line_that_scheduled_it() {
    // One method each, since a group reports its first panic.
    for index in 0..7 {
        let group = Group::new();
        let (now, work) = (Instant::now(), || async { panic!("boom") });
        let mut methods = methods!(group, now, work).into_iter();
        let line = line!() - 1;
        let (method, call) = methods.nth(index).unwrap();
        let job = call();
        let panic = panic_of_wait(&group).await;
        assert_eq!(panic.message(), "boom", "{method}");
        assert_eq!(panic.job(), job.id(), "{method}");
        let place = panic.scheduled_at();
        assert_eq!((place.file(), place.line()), (file!(), line), "{method}");
        assert_eq!(job.state(), JobState::Panicked, "{method}");
    }
    for try_form in ["try_delay", "try_schedule"] {
        let group = Group::new();
        let job = async { panic!("boom") };
        let line = match try_form {
            "try_delay" => {
                group.try_delay(ms(1), job).unwrap();
                line!() - 1
            }
            _ => {
                group.try_schedule(Instant::now(), job).unwrap();
                line!() - 1
            }
        };
        let panic = panic_of_wait(&group).await;
        assert_eq!(panic.scheduled_at().line(), line, "{try_form}");
    }
}

#[tokio::test(start_paused = true)]
async fn any_payload_is_kept() {
    let group = Group::new();
    group.delay(ms(1), async { std::panic::panic_any(7_u8) });
    let panic = panic_of_wait(&group).await;
    assert_eq!(panic.message(), "Box<dyn Any>");
    assert_eq!(*panic.into_payload().downcast::<u8>().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn the_makers_of_jobs_may_panic_too() {
    fn fails() -> std::future::Ready<()> {
        panic!("made no job")
    }
    let group = Group::new();
    let log = Log::new();
    let job = group.delay_with(ms(1), |_| fails());
    group.delay(ms(2), log.job("other"));
    assert_eq!(panic_message(&group.wait().await), "made no job");
    assert_eq!(job.state(), JobState::Panicked);
    assert_eq!(log.labels(), ["other"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_a_series() {
    for in_the_maker in [true, false] {
        let group = Group::new();
        let (log, flag) = (Log::new(), Flag::new());
        let (runs, guard) = (log.clone(), flag.guard());
        let job = group.repeat(Instant::now(), move |context| {
            let _held_by_the_series = &guard;
            let run = context.run();
            runs.push(run);
            assert!(!(in_the_maker && run == 2), "second run");
            async move {
                assert_ne!(run, 2, "second run");
                Next::After(ms(10))
            }
        });
        let outcome = group.wait().await;
        assert!(
            panic_message(&outcome).contains("second run"),
            "{outcome:?}"
        );
        assert_eq!(log.take(), [(1, ms(0)), (2, ms(10))]);
        assert_eq!((job.state(), flag.drops()), (JobState::Panicked, 1));
    }
}

/// A panic after an await ends in another task's poll than the first.
#[test]
fn a_panic_after_an_await_is_reported() {
    on_both(|| async {
        let group = Group::new();
        group.delay(Duration::ZERO, async {
            tokio::task::yield_now().await;
            sleep(ms(1)).await;
            panic!("late");
        });
        assert_eq!(panic_message(&group.wait().await), "late");
    });
}

#[tokio::test(start_paused = true)]
async fn a_spawned_jobs_panic_goes_to_its_handle_and_to_wait() {
    let group = Group::new();
    let panicking = group.spawn_after(ms(1), async {
        std::panic::panic_any(String::from("boom"));
    });
    let line = line!() - 3;
    let other = group.spawn_at(Instant::now() + ms(2), async { 5 });
    let id = panicking.job().id();
    let of_wait = panic_of_wait(&group).await;
    let of_handle = match panicking.await {
        Err(JobError::Panicked(panic)) => panic,
        other => panic!("{other:?}"),
    };
    for panic in [&of_wait, &of_handle] {
        assert_eq!((panic.message(), panic.job()), ("boom", id));
        assert_eq!(panic.scheduled_at().line(), line);
    }
    assert_eq!(other.await.unwrap(), 5);
}

/// The payload of a panic that both report, asked for in this order.
async fn payloads(wait_first: bool) -> [Box<dyn std::any::Any + Send>; 2] {
    let group = Group::new();
    let handle = group.spawn_after(ms(1), async {
        std::panic::panic_any(Payload("the real one"));
    });
    let of_wait = panic_of_wait(&group).await;
    let Err(JobError::Panicked(of_handle)) = handle.await else {
        panic!("it panicked");
    };
    if wait_first {
        [of_wait.into_payload(), of_handle.into_payload()]
    } else {
        [of_handle.into_payload(), of_wait.into_payload()]
    }
}

#[derive(Debug, PartialEq)]
struct Payload(&'static str);

#[tokio::test(start_paused = true)]
async fn the_first_to_ask_gets_the_payload_and_the_second_the_message() {
    for wait_first in [true, false] {
        let [first, second] = payloads(wait_first).await;
        let first = *first.downcast::<Payload>().unwrap();
        assert_eq!(first, Payload("the real one"), "wait first: {wait_first}");
        let second = *second.downcast::<String>().unwrap();
        assert_eq!(second, "Box<dyn Any>", "wait first: {wait_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_panic_share_the_payload() {
    let group = Group::new();
    group.delay(ms(1), async { panic!("boom") });
    let panic = panic_of_wait(&group).await;
    let clone = panic.clone();
    assert_eq!(*panic.into_payload().downcast::<&str>().unwrap(), "boom");
    assert_eq!(clone.message(), "boom");
    assert_eq!(*clone.into_payload().downcast::<String>().unwrap(), "boom");
}

#[tokio::test(start_paused = true)]
async fn a_panic_can_go_on_in_the_waiter() {
    let group = Group::new();
    group.delay(ms(1), async {
        std::panic::panic_any(Payload("carried on"))
    });
    let panic = panic_of_wait(&group).await;
    let resumed = catch_unwind(AssertUnwindSafe(|| panic.resume())).unwrap_err();
    assert_eq!(
        *resumed.downcast::<Payload>().unwrap(),
        Payload("carried on")
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_does_not_take_the_group_with_it() {
    let group = Group::new();
    group.delay(ms(1), async { panic!("boom") });
    sleep(ms(5)).await;
    let log = Log::new();
    group.delay(ms(1), log.job("scheduled after the panic"));
    let value = group.spawn_after(ms(1), async { 5 });
    assert_eq!(panic_message(&group.wait().await), "boom");
    assert_eq!(log.len(), 1);
    assert_eq!(value.await.unwrap(), 5);
}

/// A value whose destructor panics.
fn bomb(flag: &Flag) -> impl Send + use<> {
    let guard = flag.guard();
    OnDrop(move || {
        let _dropped_too = &guard;
        panic!("destructor");
    })
}

/// A job that holds a bomb to its end.
fn bomb_job(flag: &Flag) -> impl Future<Output = ()> + Send + use<> {
    let bomb = bomb(flag);
    async move {
        let _bomb = bomb;
    }
}

#[test]
fn a_destructor_that_panics_at_the_end_of_a_run_harms_no_other_job() {
    on_both(|| async {
        let group = Group::new();
        let (log, flag) = (Log::new(), Flag::new());
        for n in 0..10 {
            group.delay(Duration::ZERO, bomb_job(&flag));
            group.delay(Duration::ZERO, log.job(n));
        }
        let outcome = group.wait().await;
        assert_eq!(panic_message(&outcome), "destructor");
        assert_eq!((log.len(), flag.drops()), (10, 10));
    });
}

/// A future that drops what it holds after its end, and not before.
struct Holds<T, F>(T, F);

impl<T: Unpin, F: Future<Output = ()> + Unpin> Future for Holds<T, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.1).poll(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_after_an_await_is_the_panic_of_its_run() {
    let (group, flag) = (Group::new(), Flag::new());
    let [plain, valued] = [(); 2].map(|()| Holds(Box::new(bomb(&flag)), Box::pin(sleep(ms(2)))));
    let plain = group.delay(ms(1), plain);
    let valued = group.spawn_after(ms(1), valued);
    sleep(ms(3)).await;
    assert_eq!(plain.state(), JobState::Panicked);
    assert!(
        matches!(valued.await, Err(JobError::Panicked(panic)) if panic.message() == "destructor")
    );
    assert_eq!(panic_of_wait(&group).await.message(), "destructor");
    assert_eq!((group.stats().panicked, flag.drops()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn of_a_run_and_its_destructor_the_run_panics_first() {
    let flag = Flag::new();
    let [ended, panicking, stopped, valued] = [(); 4].map(|()| Box::new(bomb(&flag)));
    let group = Group::new();
    group.delay(ms(1), Holds(ended, ready(())));
    sleep(ms(2)).await;
    assert_eq!(group.stats().panicked, 1, "the destructor did");
    let aborted = group.delay(ms(1), Holds(stopped, pending()));
    sleep(ms(2)).await;
    aborted.abort();
    settle().await;
    assert_eq!((aborted.state(), flag.drops()), (JobState::Cancelled, 2));
    assert_eq!(panic_of_wait(&group).await.message(), "destructor");

    let group = Group::new();
    group.delay(ms(1), Holds(panicking, Box::pin(async { panic!("run") })));
    let valued = Holds(valued, Box::pin(async { panic!("run") }));
    let valued = group.spawn_after(ms(1), valued);
    assert_eq!(panic_of_wait(&group).await.message(), "run");
    assert!(matches!(valued.await, Err(JobError::Panicked(panic)) if panic.message() == "run"));
    assert_eq!((group.stats().panicked, flag.drops()), (2, 4));
}

/// Jobs of each kind that hold a bomb until they are aborted.
const BOMBS: [fn(&Group, &Flag) -> JobHandle; 3] = [
    |group, flag| group.delay(ms(1), Holds(Box::new(bomb(flag)), pending())),
    |group, flag| {
        let holds = Holds(Box::new(bomb(flag)), pending());
        group.spawn_after(ms(1), holds).job().clone()
    },
    |group, flag| {
        let flag = flag.clone();
        group.repeat(Instant::now(), move |_| {
            let bomb = bomb(&flag);
            async move {
                let _bomb = bomb;
                pending().await
            }
        })
    },
];

#[tokio::test(start_paused = true)]
async fn the_panic_of_an_aborted_jobs_destructor_is_returned() {
    for schedule in BOMBS {
        let (group, flag) = (Group::new(), Flag::new());
        let job = schedule(&group, &flag);
        sleep(ms(5)).await;
        job.abort();
        let panic = panic_of_wait(&group).await;
        assert_eq!((panic.message(), panic.job()), ("destructor", job.id()));
    }
    let group = Group::new();
    let holds = Holds(Box::new(bomb(&Flag::new())), pending());
    let handle = group.spawn_after(ms(1), holds);
    sleep(ms(5)).await;
    handle.job().abort();
    let Err(JobError::Panicked(panic)) = handle.await else {
        panic!("its destructor panicked");
    };
    assert_eq!(panic.message(), "destructor");
}

/// Otherwise the process would end.
#[tokio::test(start_paused = true)]
async fn what_a_closure_that_panics_holds_is_dropped_after_the_panic() {
    let (group, log, flag) = (Group::new(), Log::new(), Flag::new());
    let bomb = bomb(&flag);
    let job = group.repeat(Instant::now(), move |context| {
        let _held_by_the_series = &bomb;
        assert_ne!(context.run(), 2, "second run");
        async { Next::After(ms(1)) }
    });
    group.delay(ms(5), log.job("other"));
    let panic = panic_of_wait(&group).await;
    assert!(panic.message().contains("second run"), "{panic:?}");
    assert_eq!((job.state(), flag.drops()), (JobState::Panicked, 1));
    assert_eq!(log.labels(), ["other"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_destructor_panics_when_it_is_aborted_counts_as_aborted() {
    for schedule in BOMBS {
        for way in ["abort", "shutdown", "drain"] {
            let (group, flag) = (Group::new(), Flag::new());
            let job = schedule(&group, &flag);
            sleep(ms(5)).await;
            let report = match way {
                "abort" => {
                    let report = group.shutdown(HOUR);
                    job.abort();
                    report.await
                }
                "shutdown" => group.shutdown(ms(1)).await,
                _ => group.drain(ms(1)).await,
            };
            assert_eq!(counts(report), (0, 1, 0), "{way}");
            assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
            let stats = group.stats();
            assert_eq!((stats.cancelled, stats.panicked), (1, 0), "{way}");
        }
    }
}

#[test]
fn a_destructor_that_panics_in_a_cancelled_job_harms_no_other_job() {
    on_both(|| async {
        let group = Group::new();
        let (log, flag) = (Log::new(), Flag::new());
        let cancelled = group.delay(HOUR, bomb_job(&flag));
        let aborted = group.delay(HOUR, bomb_job(&flag));
        group.delay(ms(5), log.job("other"));
        assert!(cancelled.cancel());
        aborted.abort();
        assert_eq!(flag.drops(), 2);
        for job in [cancelled, aborted] {
            assert_eq!(job.state(), JobState::Cancelled);
        }
        group.wait().await.unwrap();
        assert_eq!(log.labels(), ["other"]);
    });
}

#[test]
fn a_destructor_that_panics_when_its_group_ends_harms_no_other_job() {
    on_both(|| async {
        for way in ["cancel", "shutdown", "drop"] {
            let flag = Flag::new();
            let group = Group::new();
            for _ in 0..10 {
                group.delay(HOUR, bomb_job(&flag));
                group.delay(HOUR, flag.job());
            }
            let running = bomb(&flag);
            group.delay(Duration::ZERO, async move {
                let _bomb = running;
                std::future::pending::<()>().await;
            });
            until("it runs", || group.stats().running == 1).await;
            match way {
                "cancel" => {
                    group.cancel();
                    until("all pending dropped", || flag.drops() == 20).await;
                    drop(group);
                }
                "shutdown" => {
                    let report = group.shutdown(Duration::ZERO).await;
                    assert_eq!(report.dropped, 20, "{report:?}");
                }
                _ => drop(group),
            }
            until(way, || flag.drops() == 21).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_in_a_rejected_job_does_not_reach_the_caller() {
    let group = Group::new();
    let flag = Flag::new();
    group.cancel();
    let rejected = group.delay(ms(1), bomb_job(&flag));
    assert_eq!((rejected.state(), flag.drops()), (JobState::Cancelled, 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_nobody_takes_may_panic_when_it_is_dropped() {
    let group = Group::new();
    let (log, flag) = (Log::new(), Flag::new());
    let value = bomb(&flag);
    drop(group.spawn_after(ms(1), async move { value }));
    group.delay(ms(2), log.job("other"));
    sleep(ms(5)).await;
    assert_eq!(flag.drops(), 1);
    assert_eq!(log.labels(), ["other"]);
}

#[tokio::test(start_paused = true)]
async fn a_payload_may_panic_when_it_is_dropped() {
    let group = Group::new();
    let (log, flag) = (Log::new(), Flag::new());
    for _ in 0..2 {
        let payload = bomb(&flag);
        group.delay(ms(1), async move { std::panic::panic_any(payload) });
    }
    group.delay(ms(2), log.job("other"));
    drop(group.wait().await);
    drop(group);
    settle().await;
    assert_eq!(flag.drops(), 2);
    assert_eq!(log.labels(), ["other"]);
}

#[test]
fn a_waker_that_panics_at_the_end_of_a_group_costs_no_other_its_wake_up() {
    on_both(|| async {
        let (group, hold) = (Group::new(), Hold::new());
        group.delay(Duration::ZERO, hold.job());
        hold.started().await;
        let mut wait = Box::pin(group.wait());
        poll_with_bomb(wait.as_mut());
        let shutdown = group.shutdown(HOUR);
        let ((), report) = tokio::join!(async { hold.release() }, shutdown);
        assert_eq!(report.finished, 1);
        wait.await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_when_it_is_replaced_costs_no_answer() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor of a waker");
        }
    }
    async fn answer<F: Future>(future: F) -> F::Output {
        let mut future = Box::pin(future);
        {
            let waker = Arc::new(Bomb).into();
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        future.await
    }
    let group = Group::new();
    group.delay(ms(1), async {});
    let wait = group.wait();
    let (report, end) = tokio::join!(answer(group.drain(HOUR)), answer(wait));
    assert_eq!(report.finished, 1);
    end.unwrap();
}

#[test]
fn a_waker_that_panics_when_the_token_is_cancelled_does_not_hide_the_end() {
    on_both(|| async {
        let (group, hold) = (Group::new(), Hold::new());
        group.delay(Duration::ZERO, hold.job());
        hold.started().await;
        let mut cancelled = Box::pin(group.token().cancelled_owned());
        poll_with_bomb(cancelled.as_mut());
        let mut shutdown = Box::pin(group.shutdown(HOUR));
        poll_with_bomb(shutdown.as_mut());
        group.cancel();
        let end = group.wait().await;
        assert!(matches!(end, Err(WaitError::Cancelled)), "{end:?}");
        hold.release();
        assert_eq!(shutdown.await.finished, 1);
    });
}
