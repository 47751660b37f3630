//! What a limit, a cancel and an error mean to each combinator.

use std::future::{Future, IntoFuture, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};

use schedgroup::TaskError;
use schedgroup::flow::{self, RaceError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{Flag, HOUR, Meter, OnDrop, bounded, ms, on_both, settle};

type Outcome = Result<u32, &'static str>;

/// An input that must not be taken to its end.
fn endless() -> impl Iterator<Item = usize> {
    (0..).inspect(|taken| assert!(*taken < 1_000, "taken without an end"))
}

/// Tasks that end after so many milliseconds.
fn timed<const N: usize>(
    tasks: [(u64, Outcome); N],
) -> [impl Future<Output = Outcome> + Send + 'static; N] {
    tasks.map(|(millis, outcome)| async move {
        sleep(ms(millis)).await;
        outcome
    })
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
    let mut cx = Context::from_waker(Waker::noop());

    let mut stream = flow::stream(endless().map(start())).start();
    assert!(stream.poll_next(&mut cx).is_pending());
    assert_eq!(started.swap(0, SeqCst), processors, "stream");

    let mut map = flow::map(endless(), start()).into_future();
    assert!(Pin::new(&mut map).poll(&mut cx).is_pending());
    settle().await;
    assert_eq!(started.swap(0, SeqCst), processors, "map");

    let mut each = flow::for_each(endless(), start()).into_future();
    assert!(Pin::new(&mut each).poll(&mut cx).is_pending());
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
    let mut stream = flow::stream(task(&token)).token(token).start();
    assert_eq!(stream.next().await.unwrap().unwrap(), Ok(7));
    assert!(stream.next().await.is_none(), "nothing was cut off");
    let token = fresh();
    let step = |()| cancelling(token.clone());
    let value = flow::waterfall(()).then(step).token(token.clone()).await;
    assert_eq!(value.unwrap(), 7);
    let token = fresh();
    let op = || cancelling(token.clone());
    let value = flow::retry(1, [], op).token(token.clone()).await;
    assert_eq!(value.unwrap(), 7);
}

/// What runs where it is awaited: the value and the cancel come between two polls.
#[tokio::test]
async fn a_value_that_came_with_the_cancel_is_looked_for_first() {
    let mut cx = Context::from_waker(Waker::noop());
    let (token, (send, value)) = (CancellationToken::new(), oneshot::channel());
    let mut steps = flow::waterfall(())
        .then(|()| value)
        .token(token.clone())
        .into_future();
    assert!(Pin::new(&mut steps).poll(&mut cx).is_pending());
    send.send(7).unwrap();
    token.cancel();
    assert_eq!(steps.await.unwrap(), 7);

    let (token, (send, value)) = (CancellationToken::new(), oneshot::channel());
    let mut value = Some(value);
    let mut retry = flow::retry(1, [], || value.take().unwrap())
        .token(token.clone())
        .into_future();
    assert!(Pin::new(&mut retry).poll(&mut cx).is_pending());
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
    let mut stream = flow::stream(tasks).limit(4).token(token.clone()).start();
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
    async fn poll_and_drop(combinator: impl IntoFuture) {
        let mut running = Box::pin(combinator.into_future());
        for _ in 0..2 {
            let polled = running
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            settle().await;
        }
        drop(running);
    }
    let tasks = || {
        (0..3).map(|n| async move {
            if n == 0 {
                pending::<()>().await;
            }
            Ok::<_, ()>(OnDrop(|| panic!("in a destructor")))
        })
    };
    poll_and_drop(flow::all(tasks())).await;
    poll_and_drop(flow::try_all(tasks())).await;
    poll_and_drop(flow::take(3, tasks())).await;
    poll_and_drop(flow::try_take(3, tasks())).await;
    poll_and_drop(flow::last(3, tasks())).await;
    let mut stream = flow::stream(tasks()).limit(3).start();
    poll_and_drop(async move { stream.next().await.is_some() }).await;
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
        F: IntoFuture<IntoFuture: Unpin>,
    {
        let (made, token) = (Made::default(), CancellationToken::new());
        let mut running = flow(made.clone(), token.clone()).into_future();
        for _ in 0..10 {
            let polled = Pin::new(&mut running).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "{name}");
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
        let mut stream = flow::stream(made.tasks(10)).limit(4).token(token).start();
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
        assert_eq!(start.elapsed() < HOUR, limit > 1, "{limit}");
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
