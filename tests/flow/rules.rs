//! What a limit, a cancel and an error mean to each combinator.

use std::future::{Future, pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::TaskError;
use schedgroup::flow::{self, RaceError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, Meter, OnDrop, bounded, cancelled_after, ms, on_both, poll_once, settle, timed,
};

type Outcome = Result<u32, &'static str>;

/// An input that must not be taken to its end.
fn endless() -> impl Iterator<Item = usize> {
    (0..).inspect(|taken| assert!(*taken < 1_000, "taken without an end"))
}

#[tokio::test]
async fn without_a_limit_map_for_each_and_stream_run_as_many_as_there_are_processors() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let started = Arc::new(AtomicUsize::new(0));
    let start = || {
        let started = Arc::clone(&started);
        move |_: usize| {
            started.fetch_add(1, SeqCst);
            pending::<()>()
        }
    };
    let mut stream = flow::stream(endless().map(start()));
    assert!(poll_once(&mut Box::pin(stream.next())).is_pending());
    settle().await;
    assert_eq!(started.swap(0, SeqCst), processors, "stream");

    let mut map = flow::map(endless(), start());
    assert!(poll_once(&mut map).is_pending());
    settle().await;
    assert_eq!(started.swap(0, SeqCst), processors, "map");

    let mut each = flow::for_each(endless(), start());
    assert!(poll_once(&mut each).is_pending());
    settle().await;
    assert_eq!(started.swap(0, SeqCst), processors, "for_each");
}

/// On both runtimes: on several threads the cancel is seen while the task is still running.
#[test]
fn a_value_that_is_there_when_a_cancel_arrives_is_returned() {
    on_both(|| async {
        for round in 0..500 {
            let token = CancellationToken::new();
            let cancelling = || {
                let cancel = token.clone();
                async move {
                    cancel.cancel();
                    Ok::<_, &str>(7)
                }
            };
            // The limit is full, so that the end of the input is not known yet.
            let outcome = flow::try_all([cancelling()]).limit(1).token(token.clone());
            assert_eq!(outcome.await.unwrap(), [7], "round {round}");
        }
    });
}

#[tokio::test]
async fn every_combinator_prefers_its_value_to_a_cancel() {
    async fn cancelling(token: CancellationToken) -> Outcome {
        token.cancel();
        Ok(7)
    }
    let task = |token: &CancellationToken| [cancelling(token.clone())];
    let fresh = CancellationToken::new;

    let token = fresh();
    let ends = flow::all(task(&token)).token(token).await;
    assert!(matches!(ends[..], [Ok(Ok(7))]), "{ends:?}");
    let token = fresh();
    let values = flow::try_all(task(&token)).token(token).await;
    assert_eq!(values.unwrap(), [7]);
    let token = fresh();
    let value = flow::race(task(&token)).token(token).await;
    assert_eq!(value.unwrap(), 7);
    let token = fresh();
    let values = flow::take(1, task(&token)).token(token).await;
    assert_eq!(values.unwrap(), [7]);
    let token = fresh();
    let values = flow::try_take(1, task(&token)).token(token).await;
    assert_eq!(values.unwrap(), [7]);
    let token = fresh();
    let values = flow::last(1, task(&token)).token(token).await;
    assert_eq!(values.unwrap(), [7]);
    let token = fresh();
    let values = flow::map([token.clone()], cancelling).token(token).await;
    assert_eq!(values.unwrap(), [Ok(7)]);
    let token = fresh();
    let each = flow::for_each([token.clone()], |token| async move { token.cancel() });
    each.token(token).await.unwrap();
    let token = fresh();
    let mut stream = flow::stream(task(&token)).token(token);
    assert_eq!(stream.next().await.unwrap().unwrap(), Ok(7));
    assert!(stream.next().await.is_none(), "nothing was cut off");
    let token = fresh();
    let step = |()| cancelling(token.clone());
    let value = flow::waterfall(()).then(step).token(token.clone()).await;
    assert_eq!(value.unwrap(), 7);
    let token = fresh();
    let op = || cancelling(token.clone());
    let value = flow::retry(op).token(token.clone()).await;
    assert_eq!(value.unwrap(), 7);
}

/// What runs where it is awaited: the value and the cancel come between two polls.
#[tokio::test]
async fn a_value_that_came_with_the_cancel_is_looked_for_first() {
    let (token, (send, value)) = (CancellationToken::new(), oneshot::channel());
    let mut steps = flow::waterfall(()).then(|()| value).token(token.clone());
    assert!(poll_once(&mut steps).is_pending());
    send.send(7).unwrap();
    token.cancel();
    assert_eq!(steps.await.unwrap(), 7);

    let (token, (send, value)) = (CancellationToken::new(), oneshot::channel());
    let mut value = Some(value);
    let mut retry = flow::retry(|| value.take().unwrap()).token(token.clone());
    assert!(poll_once(&mut retry).is_pending());
    send.send(7).unwrap();
    token.cancel();
    assert_eq!(retry.await.unwrap(), 7);
}

/// An error is an end as a value is, of the last attempt too.
#[tokio::test]
async fn an_error_that_is_there_when_a_cancel_arrives_is_returned() {
    async fn cancelling(token: CancellationToken) -> Outcome {
        token.cancel();
        Err("failed")
    }
    let token = CancellationToken::new();
    let outcome = flow::try_all([cancelling(token.clone())])
        .token(token)
        .await;
    assert!(
        matches!(
            outcome,
            Err(TaskError::Failed {
                error: "failed",
                ..
            })
        ),
        "{outcome:?}"
    );
    let token = CancellationToken::new();
    let outcome = flow::race([cancelling(token.clone())]).token(token).await;
    assert!(matches!(outcome, Err(RaceError::Failed(_))), "{outcome:?}");
    let token = CancellationToken::new();
    let step = |()| cancelling(token.clone());
    let outcome = flow::waterfall(()).then(step).token(token.clone()).await;
    assert!(
        matches!(
            outcome,
            Err(TaskError::Failed {
                error: "failed",
                ..
            })
        ),
        "{outcome:?}"
    );
}

/// What was aborted may have become the value that is missing.
#[tokio::test]
async fn a_take_that_a_cancel_cut_off_is_cancelled() {
    let token = CancellationToken::new();
    let tasks = (0..3).map(|n| {
        let cancel = token.clone();
        async move {
            match n {
                0 => pending().await,
                1 => cancel.cancel(),
                _ => return Err("failed"),
            }
            Ok(n)
        }
    });
    let outcome = bounded(flow::take(2, tasks).token(token.clone())).await;
    assert!(matches!(outcome, Err(RaceError::Cancelled)), "{outcome:?}");
}

#[tokio::test]
async fn a_cancelled_waterfall_begins_no_further_step() {
    let (token, begun) = (CancellationToken::new(), AtomicUsize::new(0));
    let outcome = flow::waterfall::<_, ()>(())
        .then(|()| {
            token.cancel();
            ready(Ok(()))
        })
        .then(|()| {
            begun.fetch_add(1, SeqCst);
            ready(Ok(()))
        })
        .token(token.clone())
        .await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    assert_eq!(begun.load(SeqCst), 0);
}

/// A cancel cuts the first off; what the others made behind it is not lost.
#[tokio::test]
async fn a_cancelled_stream_hands_out_all_values_that_are_there() {
    let token = CancellationToken::new();
    let tasks = (0..4).map(|n| async move {
        if n % 2 == 0 {
            pending::<()>().await;
        }
        n
    });
    let mut stream = flow::stream(tasks).limit(4).token(token.clone());
    assert!(poll_once(&mut Box::pin(stream.next())).is_pending());
    settle().await;
    token.cancel();
    assert_eq!(bounded(stream.next()).await.unwrap().unwrap(), 1);
    assert_eq!(stream.next().await.unwrap().unwrap(), 3);
    let end = stream.next().await;
    assert!(matches!(end, Some(Err(TaskError::Cancelled))), "{end:?}");
    assert!(stream.next().await.is_none());
}

/// Two in one go, which in one collection would end the process.
#[tokio::test]
async fn values_of_a_dropped_combinator_may_panic_in_their_destructors() {
    async fn poll_and_drop(combinator: impl Future) {
        let mut running = Box::pin(combinator);
        for _ in 0..2 {
            assert!(poll_once(&mut running).is_pending());
            settle().await;
        }
        drop(running);
    }
    let bomb = || OnDrop(|| panic!("in a destructor"));
    let tasks = || {
        (0..3).map(move |n| async move {
            if n == 0 {
                pending::<()>().await;
            }
            Ok::<_, ()>(bomb())
        })
    };
    poll_and_drop(flow::all(tasks())).await;
    poll_and_drop(flow::try_all(tasks())).await;
    poll_and_drop(flow::take(3, tasks())).await;
    poll_and_drop(flow::try_take(3, tasks())).await;
    poll_and_drop(flow::last(3, tasks())).await;
    let mut stream = flow::stream(tasks()).limit(3);
    poll_and_drop(async move { stream.next().await.is_some() }).await;

    let failing = || {
        tasks().map(|task| async {
            let bomb = task.await.unwrap();
            Err::<(), _>(bomb)
        })
    };
    poll_and_drop(flow::try_all(failing())).await;
    poll_and_drop(flow::try_take(3, failing())).await;
    poll_and_drop(flow::last(3, failing())).await;
}

/// Futures of one input: how many were made, and how many of them are there.
#[derive(Clone, Default)]
struct Made {
    all: Arc<AtomicUsize>,
    gone: Flag,
}

impl Made {
    /// The first `ready` end at once, the others never.
    fn tasks(
        &self,
        ready: usize,
    ) -> impl Iterator<Item = impl Future<Output = Outcome> + use<>> + use<> {
        let made = self.clone();
        endless().map(move |n| {
            made.all.fetch_add(1, SeqCst);
            let guard = made.gone.guard();
            async move {
                let _guard = guard;
                if n >= ready {
                    pending::<()>().await;
                }
                Ok(0)
            }
        })
    }

    fn assert(&self, name: &str, all: usize, at_once: usize) {
        let (made, gone) = (self.all.load(SeqCst), self.gone.drops());
        assert_eq!((made, made - gone), (all, at_once), "{name}");
    }
}

/// Over an input without an end: it is taken as far as the limit says, and a cancel takes it no further.
#[tokio::test]
async fn with_a_limit_every_combinator_takes_its_input_lazily() {
    async fn check<F>(name: &str, flow: impl FnOnce(Made, CancellationToken) -> F)
    where
        F: Future + Unpin,
    {
        let (made, token) = (Made::default(), CancellationToken::new());
        let mut running = flow(made.clone(), token.clone());
        for _ in 0..10 {
            assert!(poll_once(&mut running).is_pending(), "{name}");
            settle().await;
        }
        made.assert(name, 10 + 4, 4);
        token.cancel();
        bounded(running).await;
        made.assert(name, 10 + 4, 0);
    }
    check("try_all", |made, token| {
        flow::try_all(made.tasks(10)).limit(4).token(token)
    })
    .await;
    check("race", |made, token| {
        let failing = made
            .tasks(10)
            .map(|task| async move { Err::<(), _>(task.await) });
        flow::race(failing).limit(4).token(token)
    })
    .await;
    check("take", |made, token| {
        flow::take(11, made.tasks(10)).limit(4).token(token)
    })
    .await;
    check("try_take", |made, token| {
        flow::try_take(11, made.tasks(10)).limit(4).token(token)
    })
    .await;
    check("last", |made, token| {
        flow::last(2, made.tasks(10)).limit(4).token(token)
    })
    .await;
    check("map", |made, token| {
        flow::map(made.tasks(10), |task| task).limit(4).token(token)
    })
    .await;
    check("for_each", |made, token| {
        flow::for_each(made.tasks(10), |task| async move {
            task.await.unwrap();
        })
        .limit(4)
        .token(token)
    })
    .await;
    check("stream", |made, token| {
        let mut stream = flow::stream(made.tasks(10)).limit(4).token(token);
        Box::pin(async move { while stream.next().await.is_some() {} })
    })
    .await;
}

/// Only an input that ends can show whether a value is whole.
#[tokio::test]
async fn a_cancel_takes_one_item_more_at_most() {
    let (made, token) = (Made::default(), CancellationToken::new());
    let cancel = token.clone();
    let each = flow::for_each(made.tasks(usize::MAX), move |task| {
        let cancel = cancel.clone();
        async move {
            cancel.cancel();
            task.await.unwrap();
        }
    });
    let outcome = each.limit(1).token(token).await;
    assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
    made.assert("for_each", 2, 0);
}

#[tokio::test(start_paused = true)]
async fn take_skips_errors() {
    let tasks = timed([(1, Err("a")), (2, Ok(2)), (3, Err("c")), (4, Ok(4))]);
    assert_eq!(flow::take(2, tasks).await.unwrap(), [2, 4]);
    let panicking = (0..3).map(|n| async move {
        assert!(n > 0, "boom");
        Ok::<_, &str>(n)
    });
    assert_eq!(flow::take(2, panicking).limit(1).await.unwrap(), [1, 2]);
}

/// As soon as it is certain, and the tasks that run are aborted.
#[tokio::test(start_paused = true)]
async fn take_ends_when_its_values_can_no_longer_be_had() {
    let start = Instant::now();
    let tasks = timed([(1, Ok(1)), (2, Err("b")), (3, Err("c")), (3_600_000, Ok(4))]);
    let error = flow::take(3, tasks).await.unwrap_err();
    assert_eq!(start.elapsed(), ms(3));
    let RaceError::Failed(errors) = error else {
        panic!("{error:?}");
    };
    let indices: Vec<_> = errors.iter().filter_map(TaskError::index).collect();
    assert_eq!(indices, [1, 2], "in order of time");
}

#[tokio::test(start_paused = true)]
async fn take_of_more_than_there_are_starts_nothing() {
    let meter = Meter::default();
    let tasks = || {
        [(); 3].map(|()| {
            let run = meter.clone().run();
            async move {
                run.await;
                Ok::<_, &str>(())
            }
        })
    };
    let outcome = flow::take(4, tasks()).await;
    assert!(matches!(outcome, Err(RaceError::TooFew)), "{outcome:?}");
    assert_eq!(meter.all(), 0);
    assert_eq!(flow::take(3, tasks()).await.unwrap().len(), 3);
    // Without an upper bound it is known at the end of the input, with a limit or without.
    for limit in [usize::MAX, 1] {
        let mut left = timed([(3_600_000, Ok(1)), (1, Ok(2))]).into_iter();
        let unbounded = std::iter::from_fn(move || left.next());
        let start = Instant::now();
        let outcome = flow::take(3, unbounded).limit(limit).await;
        assert!(matches!(outcome, Err(RaceError::TooFew)), "{outcome:?}");
        assert_eq!(start.elapsed().is_zero(), limit > 1, "{limit}");
    }
    let none: [std::future::Ready<Outcome>; 0] = [];
    assert_eq!(flow::take(0, none).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_take_under_a_limit_goes_on_behind_its_errors() {
    let tasks = (0..100).map(|n| async move { if n < 90 { Err(n) } else { Ok(n) } });
    let values = flow::take(10, tasks).limit(3).await.unwrap();
    assert!(values.into_iter().eq(90..100));
}

#[tokio::test(start_paused = true)]
async fn try_take_ends_at_the_first_error() {
    let tasks = || timed([(1, Ok(1)), (2, Err("b")), (3, Ok(3))]);
    let outcome = flow::try_take(2, tasks()).await;
    assert!(
        matches!(
            outcome,
            Err(TaskError::Failed {
                index: 1,
                error: "b"
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(flow::try_take(1, tasks()).await.unwrap(), [1]);
}

/// An end at once, and one after an hour.
fn now_and_late() -> [impl Future<Output = Outcome> + Send + 'static; 2] {
    timed([(0, Ok(1)), (3_600_000, Ok(2))])
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_every_combinator() {
    let start = Instant::now();
    let at = start + ms(5);
    let ends = bounded(flow::all(now_and_late()).deadline(at)).await;
    assert!(
        matches!(ends[..], [Ok(Ok(1)), Err(TaskError::DeadlineExceeded)]),
        "{ends:?}"
    );
    assert_eq!(start.elapsed(), ms(5));

    let soon = || Instant::now() + ms(5);
    let late = |outcome: Result<_, TaskError<&str>>| {
        assert!(
            matches!(outcome, Err(TaskError::DeadlineExceeded)),
            "{outcome:?}"
        );
    };
    late(bounded(flow::try_all(now_and_late()).deadline(soon())).await);
    late(bounded(flow::try_take(2, now_and_late()).deadline(soon())).await);
    late(bounded(flow::last(2, now_and_late()).deadline(soon())).await);
    let map = flow::map([1], |_| pending::<u32>()).deadline(soon());
    assert!(matches!(
        bounded(map).await,
        Err(TaskError::DeadlineExceeded)
    ));
    let each = flow::for_each([1], |_| pending()).deadline(soon());
    assert!(matches!(
        bounded(each).await,
        Err(TaskError::DeadlineExceeded)
    ));
    let take = flow::take(2, now_and_late()).deadline(soon());
    assert!(matches!(
        bounded(take).await,
        Err(RaceError::DeadlineExceeded)
    ));
    let [_, second] = now_and_late();
    let race = flow::race([second]).deadline(soon());
    assert!(matches!(
        bounded(race).await,
        Err(RaceError::DeadlineExceeded)
    ));
    let steps = flow::waterfall(()).then(|()| pending::<Outcome>());
    late(
        bounded(steps.deadline(soon()))
            .await
            .map(|value| vec![value]),
    );
    let mut stream = flow::stream(now_and_late()).limit(2).deadline(soon());
    assert_eq!(stream.next().await.unwrap().unwrap(), Ok(1));
    let end = bounded(stream.next()).await;
    assert!(
        matches!(end, Some(Err(TaskError::DeadlineExceeded))),
        "{end:?}"
    );
    assert!(stream.next().await.is_none());
    assert_eq!(start.elapsed(), 10 * ms(5));
}

/// On several threads, where a task that is started and aborted at once may run.
#[test]
fn a_deadline_that_has_passed_starts_nothing() {
    on_both(|| async {
        for round in 0..500 {
            let started = Arc::new(AtomicUsize::new(0));
            let tasks = || {
                [(); 2].map(|()| {
                    let started = Arc::clone(&started);
                    async move { started.fetch_add(1, SeqCst) }
                })
            };
            let at = Instant::now();
            let ends = flow::all(tasks()).deadline(at).await;
            assert!(
                matches!(ends[..], [Err(TaskError::DeadlineExceeded), Err(_)]),
                "{ends:?}"
            );
            let mut stream = flow::stream(tasks()).deadline(at);
            let end = stream.next().await;
            assert!(
                matches!(end, Some(Err(TaskError::DeadlineExceeded))),
                "{end:?}"
            );
            let step = |()| ready(Ok::<_, ()>(started.fetch_add(1, SeqCst)));
            let outcome = flow::waterfall(()).then(step).deadline(at).await;
            assert!(
                matches!(outcome, Err(TaskError::DeadlineExceeded)),
                "{outcome:?}"
            );
            assert_eq!(started.load(SeqCst), 0, "round {round}");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_there_at_the_deadline_is_returned() {
    let mut values = flow::try_all(timed([(5, Ok(7))])).deadline(Instant::now() + ms(10));
    assert!(poll_once(&mut values).is_pending());
    settle().await;
    tokio::time::advance(ms(20)).await;
    settle().await;
    assert_eq!(values.await.unwrap(), [7], "it is looked at late");
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_to_stop_is_the_one_that_is_returned() {
    for (millis, cancelled) in [(4, true), (6, false)] {
        let each = flow::for_each([1], |_| pending())
            .token(cancelled_after(millis))
            .deadline(Instant::now() + ms(5));
        match bounded(each).await {
            Err(TaskError::Cancelled) => assert!(cancelled),
            Err(TaskError::DeadlineExceeded) => assert!(!cancelled),
            other => panic!("{other:?}"),
        }
    }
}

/// In order of completion, with the limit and the stop of an ordered one.
#[tokio::test(start_paused = true)]
async fn an_unordered_stream_hands_ends_out_as_they_come() {
    let tasks = || timed([(30, Ok(1)), (10, Ok(2)), (20, Err("c"))]);
    let mut stream = flow::stream(tasks()).limit(3).unordered();
    let mut ends = Vec::new();
    while let Some(end) = stream.next().await {
        ends.push(end.unwrap());
    }
    assert_eq!(ends, [Ok(2), Err("c"), Ok(1)]);
    assert!(stream.next().await.is_none(), "and again");

    let mut stream = flow::stream(tasks()).limit(2).unordered();
    assert_eq!(stream.next().await.unwrap().unwrap(), Ok(2));
    // The third started at 10.
    assert_eq!(stream.next().await.unwrap().unwrap(), Ok(1));
    assert_eq!(stream.next().await.unwrap().unwrap(), Err("c"));

    let meter = Meter::default();
    let endless = (0..).map(|_| meter.clone().run());
    let token = CancellationToken::new();
    let mut stream = flow::stream(endless)
        .limit(4)
        .unordered()
        .token(token.clone());
    stream.next().await.unwrap().unwrap();
    settle().await;
    assert_eq!(meter.all(), 5, "a slow taker holds it back");
    token.cancel();
    for _ in 0..4 {
        stream.next().await.unwrap().unwrap();
    }
    let end = stream.next().await;
    assert!(matches!(end, Some(Err(TaskError::Cancelled))), "{end:?}");
    assert!(stream.next().await.is_none());

    let panicking = [0, 1].map(|n| async move {
        assert!(n > 0, "boom");
        n
    });
    let mut stream = flow::stream(panicking).limit(1).unordered();
    let end = stream.next().await;
    assert!(
        matches!(&end, Some(Err(TaskError::Panicked(panic))) if panic.index() == 0),
        "{end:?}"
    );
    assert_eq!(stream.next().await.unwrap().unwrap(), 1);
}

/// Also without a limit, and while the input is being taken: the input itself may take its time.
#[tokio::test]
async fn nothing_starts_after_a_cancel_while_the_input_is_taken() {
    macro_rules! check {
        ($name:expr, $combine:expr) => {
            for most in [10, usize::MAX] {
                let (taken, token) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
                let (taking, cancel) = (Arc::clone(&taken), token.clone());
                let tasks = (0..10).map(move |index| {
                    taking.fetch_add(1, SeqCst);
                    if index == 2 {
                        cancel.cancel();
                    }
                    pending::<Outcome>()
                });
                let is_cancelled = $combine(tasks, most, token).await;
                assert!(is_cancelled, "{} with a limit of {most}", $name);
                let taken = taken.load(SeqCst);
                assert_eq!(taken, 3, "{} with a limit of {most}", $name);
            }
        };
    }
    macro_rules! flow {
        ($name:ident $(, $count:expr)?) => {
            check!(stringify!($name), |tasks, most, token| async move {
                let flow = flow::$name($($count,)? tasks).limit(most).token(token);
                format!("{:?}", flow.await) == "Err(Cancelled)"
            })
        };
    }
    flow!(try_all);
    flow!(race);
    flow!(take, 2);
    flow!(try_take, 2);
    flow!(last, 2);
    check!("map", |tasks, most, token| async move {
        let flow = flow::map(tasks, |task| task).limit(most).token(token);
        matches!(flow.await, Err(TaskError::Cancelled))
    });
    for unordered in [false, true] {
        check!("stream", |tasks, most, token| async move {
            let mut stream = flow::stream(tasks).limit(most).token(token);
            if unordered {
                stream = stream.unordered();
            }
            matches!(stream.next().await, Some(Err(TaskError::Cancelled)))
        });
    }
}

/// To tokio's own sleep the farthest instant is an overflow.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_far_away_is_no_deadline() {
    let seconds = (0..64).rev().map(|bit| Duration::from_secs(1 << bit));
    let nanos = (0..30).rev().map(|bit| Duration::from_nanos(1 << bit));
    let farthest = seconds.chain(nanos).fold(Instant::now(), |at, more| {
        at.checked_add(more).unwrap_or(at)
    });
    let year = Duration::from_secs(365 * 86_400);
    for far in [farthest, Instant::now() + 1_000 * year] {
        let tasks = || timed([(1, Ok(1))]);
        let all = flow::all(tasks()).deadline(far).await;
        assert!(matches!(all[..], [Ok(Ok(1))]), "{all:?}");
        let mut stream = flow::stream(tasks()).deadline(far);
        assert!(matches!(stream.next().await, Some(Ok(Ok(1)))));
        let steps = flow::waterfall(()).then(|()| tasks().into_iter().next().unwrap());
        assert_eq!(steps.deadline(far).await.unwrap(), 1);
        let retry = flow::retry(|| tasks().into_iter().next().unwrap());
        assert_eq!(retry.deadline(far).await, Ok(1));
        let never = flow::all([pending::<()>()]).deadline(far);
        let moved = timeout(200 * year, never).await;
        assert!(moved.is_err(), "it moved a paused clock");
    }
}
