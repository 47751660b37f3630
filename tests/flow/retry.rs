//! One thing at a time: retries and waterfalls.

use std::future::{Future, pending, poll_fn, ready};
use std::iter::{empty, repeat};
use std::num::ParseIntError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use schedgroup::flow::{self, Ended, RetryHandle, Verdict};
use schedgroup::{Group, JobHandle, JobState, TaskError, WaitError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::{consume_budget, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, beside, bounded, cancelled_after, context_of, counts, jump,
    misuse, ms, multi_thread, on_both, panic_of, paused, poll_once, poll_with_bomb, settle, us,
    waker_with_bomb, watched,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Busy(Duration),
    Broken,
    Flaky,
}

/// What `Retry-After` asks for takes the place of the next delay, and uses it up.
#[tokio::test(start_paused = true)]
async fn an_error_can_choose_the_pause() {
    let (start, mut times) = (Instant::now(), Vec::new());
    let mut faults = [Fault::Flaky, Fault::Busy(ms(500)), Fault::Flaky].into_iter();
    let value = flow::retry(|| {
        times.push(start.elapsed());
        let fault = faults.next();
        async move { fault.map_or(Ok(7), Err) }
    })
    .attempts(u32::MAX)
    .delays([10, 20, 40].map(ms))
    .when(|fault| match fault {
        Fault::Busy(pause) => Verdict::RetryAfter(*pause),
        Fault::Broken => Verdict::Stop,
        Fault::Flaky => Verdict::Retry,
    });
    assert_eq!(value.await.unwrap(), 7);
    assert_eq!(times, [0, 10, 510, 550].map(ms));
}

#[tokio::test]
async fn an_error_can_stop_it() {
    let error = flow::retry(|| ready(Err::<(), _>(Fault::Broken)))
        .delays(repeat(ms(1)))
        .when(|_| Verdict::Stop)
        .await
        .unwrap_err();
    assert_eq!(error.ended, Ended::Stopped);
    assert_eq!((error.last, error.attempts), (Some(Fault::Broken), 1));
}

#[tokio::test]
async fn the_last_attempt_asks_for_no_verdict_and_no_pause() {
    let error = flow::retry(|| ready(Err::<(), _>("boom")))
        .attempts(1)
        .delays(empty())
        .when(|_| unreachable!())
        .notify(|_, _| unreachable!())
        .await
        .unwrap_err();
    assert_eq!(error.ended, Ended::Attempts);
}

#[tokio::test(start_paused = true)]
async fn unless_said_it_makes_three_attempts_without_a_pause() {
    let start = Instant::now();
    let error = flow::retry(|| ready(Err::<(), _>("boom")))
        .await
        .unwrap_err();
    assert_eq!((error.attempts, error.ended), (3, Ended::Attempts));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn no_delays_is_one_attempt() {
    let error = flow::retry(|| ready(Err::<(), _>("boom")))
        .delays(empty())
        .await
        .unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::Delays));
}

#[test]
fn no_attempts_are_rejected() {
    let retry = flow::retry(|| ready(Ok::<_, ()>(())));
    assert_eq!(
        misuse(|| drop(retry.attempts(0))),
        "schedgroup: Retry::attempts must be at least 1: with none it could never succeed"
    );
}

/// Each error that is retried with the pause that follows, and no other.
#[tokio::test(start_paused = true)]
async fn errors_that_are_retried_are_notified_with_their_pauses() {
    let (mut calls, mut seen) = (0, Vec::new());
    let error = flow::retry(|| {
        calls += 1;
        let call = calls;
        async move {
            if call == 2 {
                pending::<()>().await;
            }
            Err::<(), _>(call)
        }
    })
    .attempts(4)
    .delays([10, 20, 30].map(ms))
    .attempt_timeout(ms(5))
    .notify(|error, pause| seen.push((*error, pause)))
    .await
    .unwrap_err();
    assert_eq!(error.attempts, 4);
    assert_eq!(seen, [(1, ms(10)), (3, ms(30))]);
}

/// It is dropped and counts; there is no error to ask about, and that of the attempt before is kept.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_retried() {
    let (flag, start, mut calls) = (Flag::new(), Instant::now(), 0);
    let error = flow::retry(|| {
        calls += 1;
        let (call, guard) = (calls, flag.guard());
        async move {
            let _guard = guard;
            if call > 1 {
                pending::<()>().await;
            }
            Err::<(), _>(call)
        }
    })
    .delays([ms(1), ms(2)])
    .when(|error| {
        assert_eq!(*error, 1);
        Verdict::Retry
    })
    .attempt_timeout(ms(100))
    .await
    .unwrap_err();
    assert_eq!((error.attempts, error.ended), (3, Ended::Attempts));
    assert_eq!(error.last, Some(1));
    assert_eq!(start.elapsed(), ms(1 + 100 + 2 + 100));
    assert_eq!(flag.drops(), 3);
}

/// In an attempt that runs; and a pause that would reach it is not begun.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_attempt_and_spares_a_pause() {
    let start = Instant::now();
    let retry = flow::retry(pending::<Result<(), ()>>).deadline(start + ms(10));
    let error = bounded(retry).await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::DeadlineExceeded));
    assert_eq!(start.elapsed(), ms(10));

    let start = Instant::now();
    let error = flow::retry(|| ready(Err::<(), _>("boom")))
        .delays([ms(9), ms(1)])
        .deadline(start + ms(10))
        .await
        .unwrap_err();
    assert_eq!((error.attempts, error.ended), (2, Ended::DeadlineExceeded));
    assert_eq!((error.last, start.elapsed()), (Some("boom"), ms(9)));

    let error = flow::retry(|| ready(Ok::<_, ()>(())))
        .deadline(Instant::now())
        .await
        .unwrap_err();
    assert_eq!((error.attempts, error.ended), (0, Ended::DeadlineExceeded));
}

/// It runs where it is awaited.
#[tokio::test]
async fn a_panic_of_the_operation_is_the_callers_own() {
    for early in [false, true] {
        let retry = flow::retry(|| {
            assert!(!early, "boom");
            async {
                if true {
                    panic!("boom")
                } else {
                    Ok::<_, ()>(())
                }
            }
        });
        let mut retry = retry;
        assert_eq!(panic_of(|| poll_once(&mut retry)).message, "boom");
    }
}

#[tokio::test(start_paused = true)]
async fn any_pause_can_be_cancelled() {
    let start = Instant::now();
    let retry = flow::retry(|| ready(Err::<(), _>("boom"))).delays([Duration::MAX]);
    let error = retry.token(cancelled_after(1_000)).await.unwrap_err();
    assert_eq!(error.ended, Ended::Cancelled);
    assert_eq!(error.to_string(), "cancelled after 1 attempt: boom");
    assert_eq!(start.elapsed(), ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn it_takes_any_delays_and_may_borrow() {
    let (start, text) = (Instant::now(), String::from("not a number"));
    let pauses = [ms(10), ms(20), ms(40), ms(40)];
    let error = flow::retry(|| async { text.parse::<u32>() })
        .attempts(u32::MAX)
        .delays(pauses.iter().copied())
        .await
        .unwrap_err();
    assert_eq!(error.ended, Ended::Delays);
    let last: Option<ParseIntError> = error.last;
    assert!(last.is_some());
    assert_eq!(
        (error.attempts, start.elapsed()),
        (5, ms(10 + 20 + 40 + 40))
    );
}

/// What the attempt held is gone when its cancel is returned.
/// In the first attempt, and behind a pause.
#[tokio::test(start_paused = true)]
async fn a_value_that_is_there_when_a_cancel_arrives_is_returned() {
    for pauses in 0..2 {
        let (token, (answer, answered)) = (CancellationToken::new(), oneshot::channel());
        let mut answered = Some(answered);
        let mut calls = 0;
        let op = || {
            let asked = answered.take_if(|_| calls == pauses);
            calls += 1;
            async move { asked.ok_or("busy")?.await.map_err(|_| "gone") }
        };
        let retry = flow::retry(op).delays([ms(1)]).token(token.clone());
        let both = async {
            sleep(ms(5)).await;
            answer.send(7).unwrap();
            token.cancel();
        };
        assert_eq!(beside(retry, both).await, Ok(7), "{pauses} pauses");
    }
}

#[tokio::test]
async fn a_cancelled_attempt_is_dropped() {
    let (token, flag) = (CancellationToken::new(), Flag::new());
    let retry = flow::retry(|| {
        let (cancel, guard) = (token.clone(), flag.guard());
        async move {
            let _guard = guard;
            cancel.cancel();
            pending::<Result<(), ()>>().await
        }
    });
    let mut retry = retry.token(token.clone());
    let error = bounded(&mut retry).await.unwrap_err();
    assert_eq!((error.ended, flag.drops()), (Ended::Cancelled, 1));
}

/// Which a group makes: attempts that fail so often, and then have a value.
fn failing(times: u32) -> (Arc<AtomicU32>, impl FnMut() -> Attempt + Send + 'static) {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    (calls, move || {
        let call = count.fetch_add(1, SeqCst) + 1;
        ready(if call > times { Ok(call) } else { Err("busy") })
    })
}

type Attempt = std::future::Ready<Tried>;
type Tried = Result<u32, &'static str>;

/// The pauses are entries of the heap: the job holds no slot then, and `wait` covers all of it.
#[tokio::test(start_paused = true)]
async fn a_group_makes_the_attempts_and_waits_for_them() {
    let (group, start) = (Group::builder().max_running(1).build(), Instant::now());
    let (_, op) = failing(2);
    let handle = flow::retry(op)
        .delays([HOUR, HOUR])
        .spawn_on(group.handle());
    settle().await;
    let stats = group.stats();
    assert_eq!((stats.pending, stats.running), (1, 0), "in its pause");
    assert_eq!(handle.job().state(), JobState::Pending);
    assert_eq!(handle.job().deadline(), start + HOUR);
    let between = group.spawn_after(ms(1), async move { start.elapsed() });
    assert_eq!(between.await.unwrap(), ms(1), "the slot is free");
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), 2 * HOUR);
    assert_eq!(handle.await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_group_can_have_the_next_attempt_at_another_time() {
    let (group, start) = (Group::new(), Instant::now());
    let (_, op) = failing(1);
    let handle = flow::retry(op).delays([HOUR]).spawn_on(group.handle());
    settle().await;
    assert!(handle.job().reset_after(ms(5)));
    assert_eq!(handle.await, Ok(2));
    assert_eq!(start.elapsed(), ms(5));
}

/// In its pause, and in an attempt, which may still have a value.
#[tokio::test(start_paused = true)]
async fn a_cancelled_job_ends_its_retry() {
    let group = Group::new();
    let (calls, op) = failing(9);
    let handle = flow::retry(op).delays([HOUR]).spawn_on(group.handle());
    settle().await;
    assert!(handle.job().cancel());
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
    assert_eq!((error.last, calls.load(SeqCst)), (Some("busy"), 1));

    for outcome in [Ok(7), Err("busy")] {
        let (go, gone) = oneshot::channel();
        let mut gone = Some(gone);
        let retry = flow::retry(move || {
            let gone = gone.take().expect("it is the last attempt");
            async move { gone.await.unwrap() }
        });
        let handle = retry.spawn_on(group.handle());
        settle().await;
        assert!(handle.job().cancel());
        go.send(outcome).unwrap();
        let end = handle.await;
        assert_eq!(end.map_err(|error| error.last), outcome.map_err(Some));
    }
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_aborted_job_drops_its_attempt() {
    let (group, flag) = (Group::new(), Flag::new());
    let guards = flag.clone();
    let handle = flow::retry(move || {
        let guard = guards.guard();
        async move {
            let _guard = guard;
            pending::<Result<(), ()>>().await
        }
    });
    let handle = handle.spawn_on(group.handle());
    settle().await;
    handle.job().abort();
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
    assert_eq!(flag.drops(), 1);
    group.wait().await.unwrap();
}

/// Its only attempt runs when the group is shut down, and has been moved: that makes no difference to one that ends.
#[tokio::test(start_paused = true)]
async fn a_retry_that_a_shutdown_keeps_from_its_next_attempt_counts_as_dropped() {
    for fails in [true, false] {
        let group = Group::new();
        let handle = group.retry(flow::retry(move || async move {
            sleep(ms(10)).await;
            if fails { Err(()) } else { Ok(()) }
        }));
        let job = handle.job().clone();
        sleep(ms(5)).await;
        assert!(job.reset_after(HOUR));
        let report = group.shutdown(HOUR).await;
        let counts = counts(report);
        let (end, waited) = (handle.await, group.wait().await);
        if fails {
            assert_eq!((counts, job.state()), ((0, 0, 1), JobState::Cancelled));
            let error = end.unwrap_err();
            assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
        } else {
            assert_eq!((counts, job.state()), ((1, 0, 0), JobState::Finished));
            assert!(end.is_ok() && waited.is_ok());
        }
    }
}

/// Its waker asks for the state when it is woken.
#[tokio::test(start_paused = true)]
async fn who_hears_from_a_retry_that_was_aborted_or_panicked_finds_its_job_ended() {
    struct Asks(JobHandle, Log<JobState>);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            self.1.push(self.0.state());
        }
    }
    for (panics, state) in [(false, JobState::Cancelled), (true, JobState::Panicked)] {
        let (group, log) = (Group::new(), Log::new());
        let mut handle = group.retry(flow::retry(move || async move {
            sleep(ms(1)).await;
            assert!(!panics, "boom");
            pending::<Result<(), ()>>().await
        }));
        let waker = Arc::new(Asks(handle.job().clone(), log.clone())).into();
        let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        sleep(ms(2)).await;
        handle.job().abort();
        settle().await;
        assert_eq!(log.labels(), [state]);
    }
}

/// No task waits for it in the pause: its job is moved instead.
#[tokio::test(start_paused = true)]
async fn a_token_ends_a_pause_of_a_job() {
    let (group, token, start) = (Group::new(), CancellationToken::new(), Instant::now());
    let (calls, op) = failing(9);
    let handle = flow::retry(op)
        .delays([HOUR])
        .token(token.clone())
        .spawn_on(group.handle());
    settle().await;
    token.cancel();
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
    assert_eq!((error.last, calls.load(SeqCst)), (Some("busy"), 1));
}

/// The token is looked at once more before the pause begins: from then on it moves the job.
#[tokio::test(start_paused = true)]
async fn a_cancel_by_who_is_notified_ends_a_spawned_retry_at_once() {
    let (group, token, start) = (Group::new(), CancellationToken::new(), Instant::now());
    let cancel = token.clone();
    let (_, op) = failing(9);
    let retry = flow::retry(op).delays([HOUR]).token(token);
    let retry = retry.notify(move |_, _| cancel.cancel());
    // Awaited only afterwards, since the handle would cancel the job.
    let handle = retry.spawn_on(&group);
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
}

/// A paused clock moves from timer to timer, and the thread parks before each of them.
#[test]
fn a_job_that_pauses_holds_no_timer_of_its_attempt() {
    let parks_in_a_pause = |setting: &str| {
        let parks = Arc::new(AtomicU32::new(0));
        let parking = Arc::clone(&parks);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || {
                parking.fetch_add(1, SeqCst);
            })
            .build()
            .unwrap();
        runtime.block_on(async {
            let group = Group::new();
            let op = || async {
                yield_now().await;
                Err::<(), _>("busy")
            };
            let retry = flow::retry(op).delays([HOUR / 2]);
            let retry = match setting {
                "timeout" => retry.attempt_timeout(HOUR),
                "deadline" => retry.deadline(Instant::now() + HOUR),
                _ => retry,
            };
            let job = retry.spawn_on(&group).job().clone();
            settle().await;
            assert!(job.reset_after(3 * HOUR));
            let before = parks.load(SeqCst);
            sleep(2 * HOUR).await;
            assert_eq!(job.state(), JobState::Pending, "{setting}");
            parks.load(SeqCst) - before
        })
    };
    let parks = ["none", "timeout", "deadline"].map(parks_in_a_pause);
    assert_eq!(parks, [parks[0]; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_attempt_of_a_job_and_spares_a_pause() {
    let (group, start) = (Group::new(), Instant::now());
    let handle = flow::retry(pending::<Tried>)
        .deadline(start + ms(10))
        .spawn_on(group.handle());
    let error = bounded(handle).await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::DeadlineExceeded));
    assert_eq!(start.elapsed(), ms(10));

    let (_, op) = failing(9);
    let handle = flow::retry(op)
        .delays([ms(9), HOUR])
        .deadline(Instant::now() + ms(10))
        .spawn_on(group.handle());
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (2, Ended::DeadlineExceeded));
    assert_eq!(start.elapsed(), ms(10 + 9));

    // An attempt that was moved behind it is not made.
    let (calls, op) = failing(9);
    let handle = flow::retry(op)
        .delays([ms(1)])
        .deadline(Instant::now() + ms(10))
        .spawn_on(group.handle());
    settle().await;
    assert!(handle.job().reset_after(ms(20)));
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::DeadlineExceeded));
    assert_eq!(calls.load(SeqCst), 1);
}

/// Before its first attempt, and after a pause.
#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_a_slot_ends_at_its_deadline_or_with_its_token() {
    let group = Group::builder().max_running(1).build();
    for (attempts, ended, after) in [
        (0, Ended::DeadlineExceeded, ms(10)),
        (0, Ended::Cancelled, ms(5)),
        (1, Ended::DeadlineExceeded, ms(10)),
        (1, Ended::Cancelled, ms(5)),
    ] {
        let (token, start) = (CancellationToken::new(), Instant::now());
        let (calls, op) = failing(9);
        let retry = flow::retry(op).delays([ms(2)]).token(token.clone());
        let retry = retry.deadline(start + ms(10));
        // It takes the slot before the first attempt, or during the pause.
        let other = group.delay(ms(attempts.into()), pending());
        if attempts == 0 {
            settle().await;
        }
        let handle = retry.spawn_on(&group);
        let job = handle.job().clone();
        let cancel = async {
            sleep(ms(5)).await;
            if ended == Ended::Cancelled {
                token.cancel();
            }
        };
        let error = beside(handle, cancel).await.unwrap_err();
        assert_eq!((error.attempts, error.ended), (attempts, ended));
        assert_eq!((start.elapsed(), calls.load(SeqCst)), (after, attempts));
        assert_eq!(job.state(), JobState::Cancelled);
        other.abort();
        settle().await;
    }
    group.wait().await.unwrap();
}

/// It has looked at the clock for the last time when its handle finds that the deadline has passed. Another job takes
/// the slot.
#[tokio::test(start_paused = true)]
async fn a_job_whose_deadline_passes_as_it_begins_to_pause_waits_for_no_slot() {
    let (group, start) = (Group::builder().max_running(1).build(), Instant::now());
    let (woken, polled) = (Log::new(), Arc::new(Mutex::new(None::<RetryHandle<_, _>>)));
    let (waker, polls) = (waker_of(&woken), Arc::clone(&polled));
    let (calls, op) = failing(9);
    let handle = flow::retry(op)
        .delays([ms(1)])
        .deadline(start + ms(10))
        .notify(move |_, _| {
            jump(ms(10));
            let mut handle = polls.lock().unwrap();
            let handle = Pin::new(handle.as_mut().expect("it is there"));
            assert!(handle.poll(&mut Context::from_waker(&waker)).is_pending());
        })
        .spawn_on(&group);
    group.delay(ms(1), pending());
    let job = handle.job().clone();
    *polled.lock().unwrap() = Some(handle);
    settle().await;
    assert_eq!(woken.labels(), ["woken"]);
    let handle = polled.lock().unwrap().take();
    let error = handle.expect("it is there").await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::DeadlineExceeded));
    assert_eq!((error.last, calls.load(SeqCst)), (Some("busy"), 1));
    assert_eq!(job.state(), JobState::Cancelled);
}

fn waker_of(woken: &Log<&'static str>) -> Waker {
    struct Woken(Log<&'static str>);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.push("woken");
        }
    }
    Arc::new(Woken(woken.clone())).into()
}

/// Whether it has a value by then or not. So has one that was cancelled in its last attempt.
#[tokio::test(start_paused = true)]
async fn a_job_whose_last_attempt_ends_has_finished_though_it_was_to_make_no_other() {
    for (by_token, value, end) in [
        (true, true, Ok(7)),
        (true, false, Err(Ended::Cancelled)),
        (false, true, Ok(7)),
        (false, false, Err(Ended::Attempts)),
    ] {
        let (group, token) = (Group::new(), CancellationToken::new());
        let (go, gone) = oneshot::channel();
        let mut gone = Some(gone);
        let retry = flow::retry(move || {
            let gone = gone.take().expect("it is the last attempt");
            async move { gone.await.unwrap() }
        });
        let retry = retry.attempts(1).token(token.clone());
        let mut handle = retry.spawn_on(&group);
        settle().await;
        if by_token {
            token.cancel();
            assert!(poll_once(&mut handle).is_pending());
        } else {
            assert!(handle.job().cancel());
        }
        if value {
            go.send(Ok(7)).unwrap();
        } else if !by_token {
            go.send(Err("busy")).unwrap();
        }
        let job = handle.job().clone();
        assert_eq!(handle.await.map_err(|error| error.ended), end);
        assert_eq!(job.state(), JobState::Finished, "{end:?}");
        assert_eq!(group.stats().finished, 1, "{end:?}");
    }
}

/// The handle of a retry needs no runtime, also if the retry has a deadline.
#[test]
fn a_retry_with_a_deadline_is_awaited_outside_of_a_runtime() {
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let group = Group::new();
    let (_, op) = failing(1);
    let handle = flow::retry(op)
        .deadline(Instant::now() + HOUR)
        .spawn_on(&group);
    drop(entered);
    assert_eq!(watched(|| await_here(handle)), Ok(2));
}

/// Where it is awaited there is no runtime, or one without a timer, or one that has ended: the timer is the group's.
#[test]
fn a_retry_that_waits_for_a_slot_ends_at_its_deadline_wherever_it_is_awaited() {
    type Awaits = fn(&mut dyn FnMut());
    let ways: [(&str, Awaits); 3] = [
        ("without a timer", |poll| {
            let runtime = Builder::new_current_thread().build().unwrap();
            let _entered = runtime.enter();
            poll();
        }),
        ("in a runtime that has ended", |poll| {
            let runtime = multi_thread();
            let ended = runtime.handle().clone();
            runtime.shutdown_background();
            let _entered = ended.enter();
            poll();
        }),
        ("outside of a runtime", |poll| poll()),
    ];
    for (place, awaits) in ways {
        let runtime = multi_thread();
        let entered = runtime.enter();
        let group = Group::builder().max_running(1).build();
        group.delay(Duration::ZERO, pending());
        let (calls, op) = failing(9);
        let handle = flow::retry(op)
            .deadline(Instant::now() + ms(10))
            .spawn_on(&group);
        drop(entered);
        let ended = watched(move || {
            let (mut handle, mut ended) = (Some(handle), None);
            awaits(&mut || ended = handle.take().map(await_here));
            ended
        });
        let error = ended.expect("it was awaited").unwrap_err();
        assert_eq!(error.ended, Ended::DeadlineExceeded, "{place}");
        assert_eq!(calls.load(SeqCst), 0, "{place}");
    }
}

/// The timer of the group's runtime ends between two looks of a handle that is awaited elsewhere.
#[test]
fn a_retry_with_a_deadline_is_awaited_while_the_runtime_of_its_group_ends() {
    let elsewhere = multi_thread();
    for round in 0..150 {
        let runtime = multi_thread();
        let group = Group::builder().runtime(runtime.handle().clone()).build();
        let handles: Vec<_> = (0..8)
            .map(|number| {
                let (_, op) = failing(u32::MAX);
                let retry = flow::retry(op).attempts(u32::MAX).delays(repeat(us(300)));
                let at = Instant::now() + us(200 + 100 * number);
                elsewhere.spawn(retry.deadline(at).spawn_on(&group))
            })
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < us(10 * round % 900) {
            std::hint::spin_loop();
        }
        drop(runtime);
        for handle in handles {
            let ended = elsewhere.block_on(bounded(handle)).expect("no panic");
            let ended = ended.unwrap_err().ended;
            assert!(
                matches!(ended, Ended::Cancelled | Ended::DeadlineExceeded),
                "{ended:?}"
            );
        }
    }
}

/// Here it ends in the middle of a poll: after the end of the job was looked for, and before the timer is.
#[test]
fn a_poll_in_which_the_runtime_of_its_group_ends_has_the_end_of_a_retry() {
    struct Ends(Arc<Mutex<Option<Runtime>>>);
    impl Wake for Ends {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Ends {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let (runtime, years) = (paused(), 365 * 24 * HOUR);
    let group = Group::builder().runtime(runtime.handle().clone()).build();
    // Its timer is set in the second poll.
    let mut handle = flow::retry(pending::<Tried>)
        .token(CancellationToken::new())
        .deadline(Instant::now() + 200 * years)
        .spawn_on(&group);
    let runtime = Arc::new(Mutex::new(Some(runtime)));
    let waker = Waker::from(Arc::new(Ends(Arc::clone(&runtime))));
    let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    let advance = advance(150 * years);
    runtime.lock().unwrap().as_ref().unwrap().block_on(advance);
    // The last clone of that waker waits for the token.
    let Poll::Ready(Err(error)) = poll_once(&mut handle) else {
        panic!("its job has ended");
    };
    assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
}

/// Its deadline would not be looked at in this poll, so the caller has to know.
#[test]
fn a_panic_of_a_waker_as_a_retrys_handle_is_polled_is_the_callers_own() {
    let runtime = paused();
    let group = Group::builder().runtime(runtime.handle().clone()).build();
    let mut handle = flow::retry(pending::<Tried>)
        .token(CancellationToken::new())
        .spawn_on(&group);
    let waker = waker_with_bomb();
    let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    let panic = panic_of(|| poll_once(&mut handle));
    assert_eq!(panic.message, "in the destructor of a waker");
}

/// Awaits a future on a thread without a runtime.
fn await_here<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(end) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return end;
        }
        thread::park();
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_a_job_that_takes_too_long_is_retried() {
    let (group, start) = (Group::new(), Instant::now());
    let mut calls = 0;
    let handle = flow::retry(move || {
        calls += 1;
        let call = calls;
        async move {
            if call == 1 {
                pending::<()>().await;
            }
            Tried::Ok(call)
        }
    });
    let handle = handle
        .attempt_timeout(ms(100))
        .delays([ms(7)])
        .spawn_on(group.handle());
    assert_eq!(handle.await.unwrap(), 2);
    assert_eq!(start.elapsed(), ms(107));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_spawned_retry_is_its_jobs() {
    let group = Group::new();
    let (mut calls, line) = (0, line!() + 6);
    let handle = flow::retry(move || {
        calls += 1;
        assert!(calls < 2, "boom");
        ready(Err::<(), _>("busy"))
    })
    .spawn_on(group.handle());
    let job = handle.job().clone();
    let error = handle.await.unwrap_err();
    assert_eq!((error.ended, error.last), (Ended::Cancelled, Some("busy")));
    let Err(WaitError::Panicked(panic)) = group.wait().await else {
        panic!("the group tells the panic");
    };
    assert_eq!(job.state(), JobState::Panicked);
    assert_eq!((panic.message(), panic.job()), ("boom", job.id()));
    assert_eq!(panic.scheduled_at().file(), file!());
    assert_eq!(panic.scheduled_at().line(), line);
}

/// A panic of an attempt, and then that of what the operation held: two in one go would end the process.
#[tokio::test(start_paused = true)]
async fn a_spawned_retry_that_panics_drops_what_it_holds_afterwards() {
    let group = Group::new();
    let held = OnDrop(|| panic!("in a destructor"));
    let handle = flow::retry(move || {
        let _held = &held;
        if true {
            panic!("boom")
        } else {
            ready(Ok::<_, ()>(()))
        }
    })
    .spawn_on(group.handle());
    assert_eq!(handle.await.unwrap_err().ended, Ended::Cancelled);
    let Err(WaitError::Panicked(panic)) = group.wait().await else {
        panic!("the group tells the panic");
    };
    assert_eq!(panic.message(), "boom");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_accepts_no_job_makes_no_attempt() {
    let group = Group::new();
    let (calls, op) = failing(0);
    let outside = group.handle();
    let hold = Hold::new();
    let context = context_of(&group, &hold).await;
    let wait = group.wait();
    let handle = flow::retry(op).spawn_on(&outside);
    assert_eq!(handle.job().state(), JobState::Cancelled);
    let error = handle.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (0, Ended::Cancelled));
    assert_eq!(calls.load(SeqCst), 0);
    // From inside it is accepted, and waited for.
    let (_, op) = failing(1);
    let handle = flow::retry(op).delays([HOUR]).spawn_on(context.handle());
    drop(context);
    hold.release();
    wait.await.unwrap();
    assert_eq!(handle.await, Ok(2));
}

/// The group drops what pauses; what runs goes on to its end.
#[tokio::test(start_paused = true)]
async fn a_cancelled_group_ends_its_retries() {
    let group = Group::new();
    let (_, op) = failing(9);
    let pausing = flow::retry(op).delays([HOUR]).spawn_on(group.handle());
    let (go, gone) = oneshot::channel::<()>();
    let mut gone = Some(gone);
    let running = flow::retry(move || {
        let gone = gone.take().expect("it succeeds");
        async move { gone.await.map(|()| 7) }
    })
    .spawn_on(group.handle());
    settle().await;
    group.cancel();
    let error = pausing.await.unwrap_err();
    assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
    go.send(()).unwrap();
    assert_eq!(running.await, Ok(7));
}

/// Its job is then moved once more than it has attempts.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_moved_in_its_last_attempt_makes_no_other_and_has_finished() {
    let (group, calls, start) = (Group::new(), Arc::new(AtomicU32::new(0)), Instant::now());
    let count = Arc::clone(&calls);
    let (go, gone) = oneshot::channel::<()>();
    let mut gone = Some(gone);
    let handle = flow::retry(move || {
        count.fetch_add(1, SeqCst);
        let gone = gone.take().expect("it succeeds");
        async move { gone.await.map(|()| 7) }
    })
    .spawn_on(group.handle());
    settle().await;
    let job = handle.job().clone();
    assert!(job.reset_after(HOUR));
    go.send(()).unwrap();
    assert_eq!(handle.await, Ok(7));
    assert_eq!((calls.load(SeqCst), job.state()), (1, JobState::Finished));
    assert!(!job.cancel(), "it has finished");
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// On several threads: the cancel meets the first attempt, its end, the pause, or the start of the next.
#[test]
fn a_cancel_at_any_moment_ends_a_spawned_retry() {
    on_both(|| async {
        let group = Group::new();
        for round in 0..1_000 {
            let token = CancellationToken::new();
            let handle = flow::retry(|| ready(Err::<(), _>("busy")))
                .attempts(u32::MAX)
                .delays([ms(0)].into_iter().chain(repeat(HOUR)))
                .token(token.clone())
                .spawn_on(group.handle());
            for _ in 0..round % 17 {
                tokio::task::yield_now().await;
            }
            token.cancel();
            let error = bounded(handle).await.unwrap_err();
            assert_eq!(error.ended, Ended::Cancelled, "round {round}");
        }
        bounded(group.wait()).await.unwrap();
    });
}

/// Nothing is left of it: neither in the group, nor in the token that it listened to.
#[tokio::test(start_paused = true)]
async fn a_spawned_retry_that_ended_holds_nothing() {
    let (group, token, flag) = (Group::new(), CancellationToken::new(), Flag::new());
    let guard = flag.guard();
    let handle = flow::retry(move || {
        let _guard = &guard;
        ready(Err::<(), _>("busy"))
    })
    .delays([ms(1)])
    .token(token.clone())
    .spawn_on(group.handle());
    assert_eq!(handle.await.unwrap_err().ended, Ended::Delays);
    group.wait().await.unwrap();
    assert_eq!(flag.drops(), 1);
    token.cancel();
}

#[tokio::test]
async fn a_waterfall_names_the_step_that_failed() {
    for failing in 0..3 {
        let step =
            move |n: usize| async move { if n == failing { Err("boom") } else { Ok(n + 1) } };
        let outcome = flow::waterfall(0).then(step).then(step).then(step).await;
        assert!(
            matches!(outcome, Err(TaskError::Failed { index, error: "boom" }) if index == failing),
            "{failing}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_step_that_panics_is_named_with_its_line() {
    for early in [false, true] {
        let line = line!() + 4;
        let outcome = flow::waterfall::<_, ()>(early)
            .then(|early| async move { Ok(early) })
            // Before its future is made, or in it.
            .then(|early| {
                assert!(!early, "boom");
                async { if true { panic!("boom") } else { Ok(()) } }
            })
            .then(|()| async { unreachable!() });
        let outcome: Result<(), _> = outcome.await;
        let Err(TaskError::Panicked(panic)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(panic.index(), 1);
        assert_eq!((panic.message(), panic.spawned_at().line()), ("boom", line));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waterfall_is_cancelled_in_the_middle_of_a_step() {
    let (token, start) = (cancelled_after(15), Instant::now());
    let step = |n: u32| async move {
        sleep(ms(10)).await;
        Ok::<_, ()>(n + 1)
    };
    let outcome = flow::waterfall(0).then(step).then(step).token(token).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!(start.elapsed(), ms(15));
}

#[tokio::test]
async fn what_a_step_held_is_gone_before_the_next_begins() {
    let flag = Flag::new();
    let (guard, seen) = (flag.guard(), flag.clone());
    let drops = flow::waterfall::<_, ()>(guard)
        .then(|guard| async move {
            let _guard = guard;
            tokio::task::yield_now().await;
            Ok(())
        })
        .then(move |()| async move { Ok(seen.drops()) });
    assert_eq!(drops.await.unwrap(), 1);
}

/// As of a list of closures: each step is of the same type.
#[tokio::test]
async fn a_waterfall_of_very_many_steps_needs_no_more_of_the_stack() {
    const STEPS: usize = 50_000;
    let steps = || {
        (0..STEPS).fold(flow::waterfall::<_, ()>(0), |steps, _| {
            steps.then(|n| ready(Ok(n + 1)))
        })
    };
    assert_eq!(bounded(steps()).await.unwrap(), STEPS);
    drop(steps());
}

#[tokio::test]
async fn a_poll_after_the_end_is_named() {
    let named = "schedgroup: a future was polled after it had ended";
    let mut retry = flow::retry(|| ready(Ok::<_, ()>(1)));
    bounded(&mut retry).await.unwrap();
    assert_eq!(misuse(|| poll_once(&mut retry)), named);
    let mut steps = flow::waterfall(1).then(|n| ready(Ok::<_, ()>(n)));
    bounded(&mut steps).await.unwrap();
    assert_eq!(misuse(|| poll_once(&mut steps)), named);
    let mut all = flow::all([ready(1)]);
    bounded(&mut all).await;
    assert_eq!(misuse(|| poll_once(&mut all)), named);
}

/// As after a `select!` with a time limit.
#[tokio::test(start_paused = true)]
async fn a_retry_that_was_awaited_for_a_while_goes_on_as_a_job() {
    // In its first attempt, and in the pause after it.
    for (awaited, expected) in [(5, [0, 30, 60]), (15, [0, 15, 45])] {
        let (group, log) = (Group::new(), Log::new());
        let of_attempts = log.clone();
        let mut retry = flow::retry(move || {
            of_attempts.push(());
            async {
                sleep(ms(10)).await;
                Err::<(), _>("busy")
            }
        })
        .delays([ms(20), ms(20)]);
        assert!(timeout(ms(awaited), &mut retry).await.is_err());
        let error = retry.spawn_on(&group).await.unwrap_err();
        assert_eq!((error.attempts, error.ended), (3, Ended::Attempts));
        assert_eq!(log.take(), expected.map(|at| ((), ms(at))));
    }
}

/// It would run the operation again.
#[tokio::test]
async fn a_retry_or_a_waterfall_that_has_ended_cannot_go_on() {
    let named = "schedgroup: a future was polled after it had ended";
    let (group, log) = (Group::new(), Log::new());
    let ended = || {
        let log = log.clone();
        let mut retry = flow::retry(move || {
            log.push("attempt");
            ready(Ok::<_, ()>(1))
        });
        assert!(poll_once(&mut retry).is_ready());
        retry
    };
    let retry = ended();
    assert_eq!(misuse(|| drop(retry.spawn_on(&group))), named);
    let retry = ended();
    assert_eq!(misuse(|| drop(group.handle().retry(retry))), named);
    assert_eq!((log.len(), group.stats().pending), (2, 0));
    let ended = || {
        let mut steps = flow::waterfall::<_, ()>(1);
        assert!(poll_once(&mut steps).is_ready());
        steps
    };
    let steps = ended();
    assert_eq!(misuse(|| drop(steps.then(|n| ready(Ok(n))))), named);
    // Two panics at a time would end the process.
    let (steps, bomb) = (ended(), OnDrop(|| panic!("bomb")));
    let next = move |n| {
        let _held = &bomb;
        ready(Ok::<i32, ()>(n))
    };
    let result = catch_unwind(AssertUnwindSafe(|| drop(steps.then(next))));
    assert!(result.is_err());
}

/// As a method it is there for an `Arc<Group>` too, and in the group of a job.
#[tokio::test(start_paused = true)]
async fn a_group_a_handle_and_a_context_retry_as_methods() {
    let group = Arc::new(Group::new());
    let retry = || flow::retry(|| ready(Err::<(), _>("busy"))).delays([ms(5)]);
    let owner = group.retry(retry());
    let other = group.handle().retry(retry());
    let (sender, inner) = oneshot::channel();
    group.delay_with(ms(1), move |job| async move {
        assert!(sender.send(job.retry(retry())).is_ok(), "it is awaited");
    });
    let inner = inner.await.unwrap();
    assert!(group.wait().await.is_ok());
    for retry in [owner, other, inner] {
        assert_eq!(retry.await.unwrap_err().attempts, 2);
    }
    let said = misuse(|| drop(group.retry(retry())));
    assert!(said.contains("after Group::wait was called"), "{said}");
    for rejected in [group.handle().retry(retry()), retry().spawn_on(&*group)] {
        let rejected = rejected.await.unwrap_err();
        assert_eq!((rejected.ended, rejected.attempts), (Ended::Cancelled, 0));
    }
}

/// A handle's methods never panic; and while the misuse of an owner unwinds, a second panic would end the process.
#[tokio::test(start_paused = true)]
async fn a_retry_that_is_rejected_may_panic_when_it_is_dropped() {
    let group = Group::new();
    group.wait().await.unwrap();
    let retry = || {
        let bomb = OnDrop(|| panic!("bomb"));
        flow::retry(move || {
            let _held = &bomb;
            ready(Ok::<_, ()>(1))
        })
    };
    let rejected = group.handle().retry(retry()).await.unwrap_err();
    assert_eq!((rejected.ended, rejected.attempts), (Ended::Cancelled, 0));
    assert!(retry().spawn_on(&group).await.is_err());
    let owner = AssertUnwindSafe(|| drop(group.retry(retry())));
    let payload = catch_unwind(owner).unwrap_err();
    let said = payload.downcast_ref::<String>().unwrap();
    assert!(said.contains("after Group::wait was called"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_or_a_timeout_that_is_far_away_moves_no_paused_clock() {
    let centuries = Duration::from_secs(200 * 365 * 86_400);
    let pausing = flow::retry(|| ready(Err::<(), _>("busy"))).delays([Duration::MAX]);
    assert!(timeout(centuries, pausing).await.is_err());
    let running = flow::retry(pending::<Result<(), ()>>).attempt_timeout(Duration::MAX);
    assert!(timeout(centuries, running).await.is_err());
}

/// tokio's own sleep does not elapse for a task that has used up its budget.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_never_rests_is_ended_by_its_timeout() {
    let polls = AtomicU32::new(0);
    let error = flow::retry(|| {
        poll_fn(|cx| {
            assert!(polls.fetch_add(1, SeqCst) < 100, "it was not ended");
            jump(ms(10));
            while pin!(consume_budget()).poll(cx).is_ready() {}
            Poll::<Result<(), ()>>::Pending
        })
    })
    .attempt_timeout(ms(20))
    .await
    .unwrap_err();
    assert_eq!((error.attempts, error.ended), (3, Ended::Attempts));
    assert_eq!(polls.load(SeqCst), 6);
}

/// On the real clock: a paused one does not move until all others have had a turn.
#[tokio::test]
async fn a_retry_whose_pauses_are_over_at_once_lets_others_have_a_turn() {
    let turn = Arc::new(AtomicU32::new(0));
    let other = Arc::clone(&turn);
    tokio::spawn(async move { other.fetch_add(1, SeqCst) });
    let op = || ready(turn.load(SeqCst).checked_sub(1).ok_or("no turn"));
    let retry = flow::retry(op)
        .attempts(1_000)
        .delays(repeat(Duration::from_nanos(1)));
    bounded(retry).await.unwrap();
}

#[tokio::test]
async fn an_error_that_a_cancel_keeps_from_a_retry_is_not_notified() {
    let group = Group::new();
    for (spawned, pause) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let (token, notified) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let (cancel, notify) = (token.clone(), Arc::clone(&notified));
        let retry = flow::retry(move || {
            cancel.cancel();
            ready(Err::<(), _>("busy"))
        })
        .delays(repeat(ms(pause)))
        .notify(move |_, _| {
            notify.fetch_add(1, SeqCst);
        })
        .token(token);
        let error = if spawned {
            retry.spawn_on(&group).await.unwrap_err()
        } else {
            retry.await.unwrap_err()
        };
        assert_eq!((error.attempts, error.ended), (1, Ended::Cancelled));
        assert_eq!(notified.load(SeqCst), 0, "spawned: {spawned}, {pause} ms");
    }
}

/// Two panics at the same time would end the process: only that of the operation's destructor goes on in the caller.
#[tokio::test(start_paused = true)]
async fn all_that_a_retry_holds_may_panic_when_it_is_dropped() {
    let bomb = || OnDrop(|| panic!("bomb"));
    let retry = || {
        let (operation, delays, verdict, notified) = (bomb(), bomb(), bomb(), bomb());
        let mut calls = 0;
        flow::retry(move || {
            let _held = &operation;
            calls += 1;
            let (fails, bomb) = (calls < 2, bomb());
            async move {
                if fails {
                    return Err::<(), _>(bomb);
                }
                let _held = bomb;
                pending().await
            }
        })
        .delays(std::iter::from_fn(move || {
            let _held = &delays;
            Some(ms(10))
        }))
        .when(move |_| {
            let _held = &verdict;
            Verdict::Retry
        })
        .notify(move |_, _| {
            let _held = &notified;
        })
    };
    let group = Group::new();
    for in_an_attempt in [false, true] {
        let until = ms(if in_an_attempt { 15 } else { 5 });
        let mut here = Box::pin(retry());
        assert!(timeout(until, &mut here).await.is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(here))).is_err());

        let handle = retry().spawn_on(&group);
        sleep(until).await;
        let job = handle.job().clone();
        drop(handle);
        job.abort();
        settle().await;
        assert_eq!(job.state(), JobState::Cancelled, "{in_an_attempt}");
    }
    group.wait().await.unwrap();
}

/// Whatever keeps the waker: the token, the deadline or the pause.
#[tokio::test(start_paused = true)]
async fn an_operation_and_a_waker_may_panic_when_their_retry_is_dropped() {
    let retry = |pauses| {
        let bomb = OnDrop(|| panic!("bomb"));
        flow::retry(move || {
            let _held = &bomb;
            async move {
                if pauses {
                    Err::<(), _>(())
                } else {
                    pending().await
                }
            }
        })
        .delays(repeat(HOUR))
    };
    let in_two_hours = Instant::now() + 2 * HOUR;
    let retries = [
        retry(false).token(CancellationToken::new()),
        retry(false).deadline(in_two_hours),
        retry(true),
    ];
    for retry in retries {
        let mut retry = Box::pin(retry);
        let waker = waker_with_bomb();
        for _ in 0..2 {
            let polled = retry.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(waker);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(retry))).is_err());
    }
}

/// What it returned too: then only the panic of the attempt goes on.
#[tokio::test]
async fn an_attempt_may_panic_when_it_is_dropped_at_its_end() {
    struct Attempt {
        succeeds: bool,
        _held: Bomb,
    }
    type Bomb = OnDrop<fn()>;
    fn bomb() -> Bomb {
        OnDrop(|| panic!("bomb"))
    }
    impl Future for Attempt {
        type Output = Result<Bomb, Bomb>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(if self.succeeds {
                Ok(bomb())
            } else {
                Err(bomb())
            })
        }
    }
    for succeeds in [false, true] {
        let mut retry = flow::retry(|| Attempt {
            succeeds,
            _held: bomb(),
        });
        let attempt = AssertUnwindSafe(|| poll_once(&mut retry).is_ready());
        assert!(catch_unwind(attempt).is_err(), "succeeds: {succeeds}");
    }
}

#[tokio::test]
async fn all_that_a_waterfall_holds_may_panic_when_it_is_dropped() {
    let bomb = || OnDrop(|| panic!("bomb"));
    let steps = |fails| {
        let (second, third) = (bomb(), bomb());
        flow::waterfall(bomb())
            .then(move |value| async move {
                std::mem::forget(value);
                if fails {
                    Err("failed")
                } else {
                    pending().await
                }
            })
            .then(move |()| {
                let _held = &second;
                ready(Ok(()))
            })
            .then(move |()| {
                let _held = &third;
                ready(Ok(()))
            })
    };
    drop(steps(false));
    let mut running = steps(false);
    assert!(poll_once(&mut running).is_pending());
    drop(running);
    assert_eq!(steps(true).await.unwrap_err().index(), Some(0));
}

/// As that of a `JoinHandle`.
#[tokio::test]
async fn a_waker_of_a_retrys_handle_that_panics_is_no_panic_of_its_job() {
    let group = Group::new();
    let hold = Hold::new();
    let attempt = hold.job();
    let mut attempt = Some(attempt);
    let retry = flow::retry(move || {
        let attempt = attempt.take().expect("there is one attempt");
        async move {
            attempt.await;
            Ok::<_, ()>(1)
        }
    });
    let mut handle = Box::pin(retry.spawn_on(&group));
    poll_with_bomb(handle.as_mut());
    hold.release();
    bounded(group.wait()).await.unwrap();
    assert_eq!(handle.job().state(), JobState::Finished);
    assert_eq!(handle.await, Ok(1));
}

/// As those of a job with a `JoinHandle`.
#[tokio::test]
async fn a_result_that_nobody_takes_may_panic_when_it_is_dropped() {
    let group = Group::new();
    for succeeds in [false, true] {
        let bomb = || OnDrop(|| panic!("bomb"));
        let retry = flow::retry(move || ready(if succeeds { Ok(bomb()) } else { Err(bomb()) }));
        let handle = retry.attempts(1).spawn_on(&group);
        let job = handle.job().clone();
        drop(handle);
        settle().await;
        assert_eq!(job.state(), JobState::Finished, "succeeds: {succeeds}");
    }
    group.wait().await.unwrap();
}
