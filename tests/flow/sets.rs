//! Sets of tasks: what holds for all of them.

use std::future::{Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

use schedgroup::TaskError;
use schedgroup::flow::{self, RaceError};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, HOUR, Meter, OnDrop, Random, beside, bounded, misuse, ms, multi_thread, poll_once,
    settle, twice_panicking, until, watched,
};

type Outcome = Result<u32, &'static str>;

/// One that panics at once, one that would never end.
fn panicking() -> [impl Future<Output = Outcome> + Send + 'static; 2] {
    [true, false].map(|panics| async move {
        if panics {
            panic!("boom");
        }
        pending().await
    })
}

#[track_caller]
fn assert_panicked<T: std::fmt::Debug, E: std::fmt::Debug>(outcome: Result<T, TaskError<E>>) {
    let Err(TaskError::Panicked(panic)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(panic.index(), 0);
    assert_eq!(panic.message(), "boom");
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_task() {
    assert_panicked(bounded(flow::try_all(panicking())).await);
    assert_panicked(bounded(flow::try_take(1, panicking())).await);
    assert_panicked(bounded(flow::last(1, panicking())).await);
    assert_panicked(
        flow::map([1], |_| async { panic!("boom") })
            .await
            .map(|values: Vec<u8>| values),
    );
    assert_panicked(flow::for_each([1], |_| async { panic!("boom") }).await);
    let [first, _] = panicking();
    let mut ends = flow::all([first]).await;
    assert_panicked(ends.pop().unwrap());
    let mut stream = flow::stream(panicking());
    assert_panicked(bounded(stream.next()).await.unwrap());
    let [first, _] = panicking();
    let Err(RaceError::Failed(errors)) = flow::race([first]).await else {
        panic!("a panic is no winner");
    };
    assert_panicked(Err::<(), _>(errors.last().clone()));
    // One of the two that are wanted.
    let Err(RaceError::Failed(errors)) = bounded(flow::take(2, panicking())).await else {
        panic!("a panic is no value");
    };
    assert_panicked(Err::<(), _>(errors.last().clone()));
}

/// Another task may still win after a panic.
#[tokio::test]
async fn a_panic_loses_a_race() {
    let tasks = [true, false].map(|panics| async move {
        if panics {
            panic!("boom");
        }
        Ok::<_, ()>(7)
    });
    assert_eq!(flow::race(tasks).await.unwrap(), 7);
}

#[tokio::test]
async fn a_panic_names_the_line_of_the_call() {
    let line = line!() + 1;
    let mut ends = flow::all([async { panic!("boom") }]).await;
    let Some(Err(TaskError::Panicked(panic))) = ends.pop() else {
        panic!("expected a panic as a value");
    };
    assert_eq!(
        (panic.spawned_at().line(), panic.spawned_at().file()),
        (line, file!())
    );
}

/// The closure itself is called by the task.
#[tokio::test]
async fn a_closure_that_panics_is_its_tasks_panic() {
    let values = flow::map([true], |panics| {
        assert!(!panics, "boom");
        async { 7 }
    });
    assert_panicked(values.await);
}

#[tokio::test]
async fn a_limit_holds_for_each() {
    async fn ok(meter: Meter) -> Result<u32, ()> {
        meter.run().await;
        Ok(1)
    }
    async fn failing(meter: Meter) -> Result<u32, ()> {
        meter.run().await;
        Err(())
    }
    let meters: [Meter; 6] = Default::default();
    let [all, try_all, race, take, last, each] = &meters;
    flow::all((0..20).map(|_| ok(all.clone()))).limit(3).await;
    let values = flow::try_all((0..20).map(|_| ok(try_all.clone())));
    assert_eq!(values.limit(3).await.unwrap().len(), 20);
    let lost = flow::race((0..20).map(|_| failing(race.clone())));
    assert!(lost.limit(3).await.is_err());
    let values = flow::take(20, (0..20).map(|_| ok(take.clone())));
    assert_eq!(values.limit(3).await.unwrap().len(), 20);
    let values = flow::last(2, (0..20).map(|_| ok(last.clone())));
    assert_eq!(values.limit(3).await.unwrap().len(), 2);
    let running = each.clone();
    flow::for_each(0..20, move |_| running.clone().run())
        .limit(3)
        .await
        .unwrap();
    for meter in &meters {
        assert_eq!((meter.all(), meter.most()), (20, 3));
    }
}

/// Two tasks that wait for one another on two threads, and the closures of `map` likewise.
#[test]
fn tasks_run_in_parallel() {
    watched(|| {
        multi_thread().block_on(async {
            // tokio does not wake a thread for what another one takes out of the queue for all threads and leaves in its
            // own, if the first is just going to sleep. So one of the two would wait for the other for ever.
            tokio::spawn(async {
                loop {
                    sleep(ms(1)).await;
                }
            });
            let both = Arc::new(Barrier::new(2));
            let tasks = (0..2).map(|_| {
                let both = Arc::clone(&both);
                async move { both.wait().is_leader() }
            });
            let ends = flow::all(tasks).await;
            assert_eq!(ends.iter().filter(|end| matches!(end, Ok(true))).count(), 1);
            let map = flow::map(0..2, move |_| std::future::ready(both.wait().is_leader()));
            assert_eq!(map.limit(2).await.unwrap().len(), 2);
        });
    });
}

#[tokio::test]
async fn nothing_runs_until_it_is_awaited() {
    let flag = Flag::new();
    let guard = flag.guard();
    drop(flow::all([async move { drop(guard) }]));
    settle().await;
    assert_eq!(flag.drops(), 1, "dropped with what it was in");
    let meter = Meter::default();
    let flow = flow::all([meter.clone().run()]);
    settle().await;
    assert_eq!(meter.all(), 0);
    flow.await;
    assert_eq!(meter.all(), 1);
}

#[test]
fn dropping_it_aborts_what_it_started() {
    watched(|| {
        multi_thread().block_on(async {
            let flag = Flag::new();
            let tasks = |count: usize| {
                let flag = flag.clone();
                (0..count).map(move |_| {
                    let guard = flag.guard();
                    async move {
                        let _guard = guard;
                        pending::<Outcome>().await
                    }
                })
            };
            let late = tokio::time::timeout(ms(2), flow::all(tasks(5))).await;
            assert!(late.is_err());
            let late = tokio::time::timeout(ms(2), flow::race(tasks(5)).limit(3));
            assert!(late.await.is_err());
            let mut stream = flow::stream(tasks(5)).limit(3);
            assert!(poll_once(&mut Box::pin(stream.next())).is_pending());
            drop(stream);
            until("all that had started are gone", || {
                flag.drops() == 5 + 3 + 3
            })
            .await;
        });
    });
}

/// Tasks are taken out of the iterator as slots are free.
#[tokio::test]
async fn an_endless_iterator_is_taken_as_far_as_needed() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let tasks = || {
        let count = Arc::clone(&count);
        (0..).map(move |n| {
            count.fetch_add(1, SeqCst);
            async move { Ok::<_, ()>(n) }
        })
    };
    assert_eq!(flow::take(10, tasks()).limit(4).await.unwrap().len(), 10);
    let taken = made.swap(0, SeqCst);
    assert!((10..=14).contains(&taken), "{taken}");
    assert_eq!(flow::race(tasks()).limit(4).await.unwrap(), 0);
    assert_eq!(made.swap(0, SeqCst), 4);
    let token = CancellationToken::new();
    let cancel = token.clone();
    let each = flow::for_each(0_u64.., move |n| {
        let cancel = cancel.clone();
        async move {
            if n == 100 {
                cancel.cancel();
            }
        }
    });
    let outcome = bounded(each.limit(4).token(token)).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
}

/// Ends that never run out do not keep the one who waits for them from looking at anything else.
#[test]
fn an_endless_iterator_of_ready_tasks_lets_others_have_a_turn() {
    watched(|| {
        multi_thread().block_on(async {
            let each = flow::for_each(0_u64.., |_| std::future::ready(()));
            let late = tokio::time::timeout(ms(50), each.limit(64)).await;
            assert!(late.is_err());
        });
    });
}

/// `all` has a slot for each task, also for those that a cancel keeps from starting.
#[tokio::test(start_paused = true)]
async fn all_keeps_what_had_ended_before_a_cancel() {
    let (token, start) = (CancellationToken::new(), Instant::now());
    let cancel = token.clone();
    let tasks = (0..100).map(|n: u64| {
        let cancel = cancel.clone();
        async move {
            sleep(ms(n)).await;
            if n == 20 {
                cancel.cancel();
            }
            n
        }
    });
    let ends = flow::all(tasks).limit(10).token(token).await;
    assert_eq!(ends.len(), 100);
    for (n, end) in ends.iter().enumerate().take(10) {
        assert!(
            matches!(end, Ok(value) if *value == n as u64),
            "{n}: {end:?}"
        );
    }
    assert!(
        matches!(ends[99], Err(TaskError::Cancelled)),
        "{:?}",
        ends[99]
    );
    assert!(start.elapsed() < ms(100));
}

/// A task can end all of it by the token that it captured.
#[tokio::test]
async fn a_task_may_cancel_the_whole() {
    let token = CancellationToken::new();
    let own = token.clone();
    let task = async move {
        own.cancel();
        pending::<Outcome>().await
    };
    let outcome = bounded(flow::try_all([task]).token(token)).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
}

/// At most so many ends wait to be taken, or are on their way.
#[tokio::test]
async fn a_slow_taker_holds_a_stream_back() {
    let meter = Meter::default();
    let tasks = (0..100).map(|_| meter.clone().run());
    let mut stream = flow::stream(tasks).limit(4);
    settle().await;
    assert_eq!(meter.all(), 0, "nothing runs before the first poll");
    assert!(poll_once(&mut Box::pin(stream.next())).is_pending());
    settle().await;
    assert_eq!(meter.all(), 4);
    stream.next().await.unwrap().unwrap();
    settle().await;
    assert_eq!(meter.all(), 5, "one was taken, and one has started");
}

#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_loses_no_end() {
    let tasks = (0..3).map(|n: u64| async move {
        sleep(ms(30 - 10 * n)).await;
        n
    });
    let mut stream = flow::stream(tasks);
    let mut values = Vec::new();
    loop {
        match tokio::time::timeout(ms(7), stream.next()).await {
            Err(_) => {}
            Ok(Some(end)) => values.push(end.unwrap()),
            Ok(None) => break,
        }
    }
    assert_eq!(values, [0, 1, 2]);
}

/// A destructor that panics ends neither the combinator nor the process.
#[tokio::test]
async fn destructors_that_panic_harm_nobody() {
    let tasks = (0..10).map(|n| {
        // One only of those that are dropped in one go: a second panic on the way ends the process.
        let bomb = OnDrop(move || assert!(n == 0 || (4..9).contains(&n), "in a destructor"));
        async move {
            let _bomb = bomb;
            if n > 0 {
                pending::<()>().await;
            }
            Ok::<_, ()>(n)
        }
    });
    // Some are aborted, and some are dropped before they started.
    let tasks: Vec<_> = tasks.collect();
    assert_eq!(bounded(flow::race(tasks).limit(4)).await.unwrap(), 0);
    // A value that nobody wants.
    let values = (0..3).map(|_| async { Ok::<_, ()>(OnDrop(|| ())) });
    assert!(flow::race(values).await.is_ok());
}

/// Two in one go, which in one collection would end the process.
#[tokio::test]
async fn values_that_panic_in_their_destructors_do_not_hide_the_error() {
    let tasks = || {
        (0..3).map(|n| async move {
            let bomb = OnDrop(|| panic!("in a destructor"));
            if n < 2 {
                return Ok(bomb);
            }
            std::mem::forget(bomb);
            Err("the third")
        })
    };
    let third = |error| matches!(error, Some(TaskError::Failed { index: 2, .. }));
    assert!(third(bounded(flow::try_all(tasks()).limit(1)).await.err()));
    assert!(third(
        bounded(flow::try_take(3, tasks()).limit(1)).await.err()
    ));
    let taken = bounded(flow::take(3, tasks()).limit(1)).await.err();
    assert!(third(taken.and_then(|error| error.last().cloned())));
    assert!(third(bounded(flow::last(1, tasks()).limit(1)).await.err()));
    // Ends that wait to be taken when the stream is dropped, and those behind a cancel.
    let mut stream = flow::stream(tasks().take(2)).limit(2);
    std::mem::forget(stream.next().await);
    settle().await;
    drop(stream);
}

/// Two panics at once would end the process.
#[tokio::test]
async fn an_input_and_a_closure_may_panic_when_they_are_dropped() {
    let bomb = || OnDrop(|| panic!("in a destructor"));
    let items = || {
        let bomb = bomb();
        (0..2).inspect(move |_| _ = &bomb)
    };
    let closure = |panics: bool| {
        let bomb = bomb();
        move |_| {
            let _held = &bomb;
            assert!(!panics, "boom");
            ready(())
        }
    };
    drop(flow::map(items(), closure(false)));
    drop(flow::for_each(items(), closure(false)));
    assert_panicked(flow::map(0..1, closure(true)).await);
    assert_panicked(flow::for_each(0..1, closure(true)).await);
    assert_eq!(flow::map(0..2, closure(false)).await.unwrap(), [(); 2]);

    let tasks = || items().map(|_| async {});
    let misused = |misuse: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(misuse)).unwrap_err();
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| Some(panic.downcast_ref::<String>()?));
        assert!(message.is_some_and(|message| message.starts_with("schedgroup: ")));
    };
    misused(&|| drop(flow::all(tasks()).limit(0)));
    misused(&|| drop(flow::stream(tasks()).limit(0)));
    misused(&|| {
        let held = bomb();
        let operation = move || {
            let _held = &held;
            ready(Ok::<(), ()>(()))
        };
        drop(flow::retry(operation).attempts(0));
    });
    // Also where the panic is the input's own.
    let held = bomb();
    let tasks = (0..2).map(move |n| {
        let _held = &held;
        assert!(n < 1, "boom");
        async {}
    });
    let caller = tokio::spawn(async move { drop(flow::all(tasks).await) });
    let panic = bounded(caller).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"boom"));
}

/// A destructor that panics is the panic of its task, though the task has a value.
#[tokio::test]
async fn a_destructor_of_a_task_is_part_of_it() {
    let bomb = OnDrop(|| panic!("boom"));
    let task = async move {
        let _bomb = bomb;
        tokio::task::yield_now().await;
        Ok::<_, ()>(1)
    };
    assert_panicked(flow::try_all([task]).await);
}

/// Also where a closure makes it. Two panics at once would end the process.
#[tokio::test]
async fn a_task_that_panics_may_panic_again_when_it_is_dropped() {
    let tasks = || [twice_panicking::<Result<(), ()>>()];
    assert_panicked(flow::try_all(tasks()).await);
    assert_panicked(flow::map([()], |()| twice_panicking::<()>()).await);
    assert_panicked(flow::for_each([()], |()| twice_panicking()).await);
}

#[test]
fn a_runtime_that_is_gone_is_a_cancel() {
    watched(|| {
        let runtime = multi_thread();
        let mut all = flow::all((0..3).map(|_| pending::<()>()));
        let mut stream = flow::stream((0..3).map(|_| pending::<()>())).limit(2);
        {
            let _inside = runtime.enter();
            assert!(poll_once(&mut all).is_pending());
            assert!(poll_once(&mut Box::pin(stream.next())).is_pending());
        }
        runtime.shutdown_timeout(ms(10_000));
        multi_thread().block_on(async {
            let ends = bounded(all).await;
            assert_eq!(ends.len(), 3);
            assert!(
                ends.iter()
                    .all(|end| matches!(end, Err(TaskError::Cancelled))),
                "{ends:?}"
            );
            let end = bounded(stream.next()).await;
            assert!(matches!(end, Some(Err(TaskError::Cancelled))), "{end:?}");
            assert!(stream.next().await.is_none());
        });
    });
}

#[test]
fn misuse_of_a_flow_is_named() {
    let none = || -> [Ready<Outcome>; 0] { [] };
    let no_task = "must be at least 1: no task could ever run";
    assert_eq!(
        misuse(|| drop(flow::race(none()).limit(0))),
        format!("schedgroup: Flow::limit {no_task}")
    );
    assert_eq!(
        misuse(|| drop(flow::stream(none()).limit(0))),
        format!("schedgroup: Stream::limit {no_task}")
    );
    let outside = "was run outside of a tokio runtime: its tasks need one";
    let race = flow::race(none());
    let awaited = misuse(|| poll_once(&mut Box::pin(async { race.await.is_ok() })));
    assert_eq!(awaited, format!("schedgroup: flow::race {outside}"));
    let mut stream = flow::stream(none());
    let awaited = misuse(|| poll_once(&mut Box::pin(async { stream.next().await.is_some() })));
    assert_eq!(awaited, format!("schedgroup: flow::stream {outside}"));
}

/// tokio's text says how to enable it.
#[test]
fn a_deadline_or_a_pause_without_a_timer_is_misuse_at_the_line_of_the_await() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let at = Instant::now() + HOUR;
    let race = flow::race([pending::<Outcome>()]).deadline(at);
    let mut stream = flow::stream([pending::<()>()]).deadline(at);
    let steps = flow::waterfall::<_, ()>(()).then(|()| pending::<Result<(), ()>>());
    let steps = steps.deadline(at);
    let ends = flow::retry(pending::<Outcome>).deadline(at);
    let times_out = flow::retry(pending::<Outcome>).attempt_timeout(HOUR);
    let mut pauses = flow::retry(|| ready(Err::<(), _>(()))).delays([HOUR]);
    assert!(poll_once(&mut pauses).is_pending());
    let texts = [
        misuse(|| poll_once(&mut Box::pin(async { race.await.is_ok() }))),
        misuse(|| poll_once(&mut Box::pin(async { stream.next().await.is_some() }))),
        misuse(|| poll_once(&mut Box::pin(async { steps.await.is_ok() }))),
        misuse(|| poll_once(&mut Box::pin(async { ends.await.is_ok() }))),
        misuse(|| poll_once(&mut Box::pin(async { times_out.await.is_ok() }))),
        misuse(|| poll_once(&mut Box::pin(async { pauses.await.is_ok() }))),
    ];
    for text in texts {
        assert!(text.contains("timers are disabled"), "{text}");
    }
}

#[tokio::test]
async fn the_order_of_a_stream_is_settled_by_its_first_poll() {
    let mut stream = flow::stream([pending::<()>()]);
    assert!(poll_once(&mut Box::pin(stream.next())).is_pending());
    assert_eq!(
        misuse(|| drop(stream.unordered())),
        "schedgroup: Stream::unordered was called after the first poll"
    );
}

/// What else it is set to holds from then on.
#[tokio::test]
async fn a_flow_that_runs_can_still_be_given_a_limit_and_a_token() {
    let (meter, token) = (Meter::default(), CancellationToken::new());
    let endless = (0..).map(|_| meter.clone().run());
    let mut stream = flow::stream(endless).limit(2);
    stream.next().await.unwrap().unwrap();
    let mut stream = stream.limit(5).token(token.clone());
    stream.next().await.unwrap().unwrap();
    settle().await;
    assert_eq!(meter.all(), 2 + 5, "two were taken");
    token.cancel();
    let mut last = None;
    while let Some(end) = bounded(stream.next()).await {
        last = Some(end);
    }
    assert!(matches!(last, Some(Err(TaskError::Cancelled))), "{last:?}");
}

#[tokio::test]
async fn a_flow_that_runs_can_be_given_another_token() {
    let [first, second] = [(); 2].map(|()| CancellationToken::new());
    // The limit is full, so only a wake-up tells it of the token.
    let mut all = flow::all([pending::<()>()]).limit(1).token(first);
    assert!(poll_once(&mut all).is_pending());
    let all = all.token(second.clone());
    let ends = beside(all, async { second.cancel() }).await;
    assert!(matches!(ends[..], [Err(TaskError::Cancelled)]), "{ends:?}");
}

/// Ends, cancels and drops at the same moment, on two workers: every task is gone in the end, each
/// combinator ends, and what has ended is joined.
#[test]
fn whatever_races_no_task_is_left() {
    watched(|| {
        multi_thread().block_on(async {
            let mut random = Random(2026);
            for round in 0..1_500 {
                let (flag, token) = (Flag::new(), CancellationToken::new());
                let count = random.below(12) as usize;
                let limit = 1 + random.below(6) as usize;
                let choice = random.below(5);
                let tasks: Vec<_> = (0..count)
                    .map(|_| {
                        let (guard, kind) = (flag.guard(), random.below(6));
                        let token = token.clone();
                        async move {
                            let _guard = guard;
                            tokio::task::yield_now().await;
                            match kind {
                                0 => Err("failed"),
                                1 => {
                                    token.cancel();
                                    Ok(1)
                                }
                                2 => {
                                    sleep(HOUR).await;
                                    Ok(2)
                                }
                                _ => Ok(kind),
                            }
                        }
                    })
                    .collect();
                let cancel = token.clone();
                let rival = tokio::spawn(async move {
                    for _ in 0..round % 7 {
                        tokio::task::yield_now().await;
                    }
                    cancel.cancel();
                });
                bounded(async {
                    match choice {
                        0 => drop(flow::all(tasks).limit(limit).token(token).await),
                        1 => drop(flow::try_all(tasks).limit(limit).token(token).await),
                        2 => drop(flow::race(tasks).limit(limit).token(token).await),
                        3 => drop(flow::take(3, tasks).limit(limit).token(token).await),
                        _ => {
                            let mut stream = flow::stream(tasks).limit(limit).token(token);
                            while stream.next().await.is_some() {}
                        }
                    }
                })
                .await;
                assert_eq!(flag.drops(), count, "round {round}, choice {choice}");
                rival.await.unwrap();
            }
        });
    });
}

#[test]
fn they_can_be_sent_where_their_parts_can() {
    fn send<T: Send>(_: &T) {}
    let tasks = || [async { Ok::<_, ()>(1) }];
    send(&flow::all(tasks()));
    send(&flow::map([1], |n| async move { n }));
    let mut stream = flow::stream(tasks());
    send(&stream.next());
    send(&stream);
    send(&flow::waterfall::<_, ()>(1).then(|n| async move { Ok(n) }));
    send(&flow::retry(|| async { Ok::<_, ()>(1) }).delays([HOUR]));
}

/// A retry is made where it is awaited, so it takes also what must stay on its thread.
#[tokio::test]
async fn a_retry_takes_what_cannot_be_sent() {
    use std::rc::Rc;

    let calls = Rc::new(AtomicUsize::new(0));
    let retry = flow::retry(|| {
        let calls = Rc::clone(&calls);
        async move {
            tokio::task::yield_now().await;
            let call = calls.fetch_add(1, SeqCst);
            if call == 2 {
                Ok(call)
            } else {
                Err(Box::<dyn std::error::Error>::from("failed"))
            }
        }
    });
    assert_eq!(retry.await.unwrap(), 2);
}

/// By its type, with what the input borrows.
#[tokio::test]
async fn each_can_be_named_and_stored() {
    struct Parts<'a> {
        flow: flow::Flow<'a, Result<Vec<usize>, TaskError<()>>>,
        stream: flow::Stream<'a, usize>,
        steps: flow::Waterfall<'a, usize, ()>,
    }
    let words = [String::from("a"), String::from("bc")];
    let lengths = || {
        words.iter().map(|word| {
            let length = word.len();
            async move { length }
        })
    };
    let mut parts = Parts {
        flow: flow::try_all(lengths().map(|length| async move { Ok(length.await) })),
        stream: flow::stream(lengths()),
        steps: flow::waterfall(&words[1]).then(|word| async move { Ok(word.len()) }),
    };
    assert_eq!(parts.flow.await.unwrap(), [1, 2]);
    assert_eq!(parts.stream.next().await.unwrap().unwrap(), 1);
    assert_eq!(parts.steps.await.unwrap(), 2);
}
