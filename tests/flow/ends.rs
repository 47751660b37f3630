//! How combinators end: what is dropped and when, how many ends one poll takes, what errors say.

use std::error::Error;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use schedgroup::TaskError;
use schedgroup::flow::{self, RaceError, Verdict};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, Guard, OnDrop, Woken, bounded, multi_thread, poll_once, settle, until, watched,
};

/// A task that blocks keeps what the tasks share; the values of the others go all the same.
#[test]
fn a_combinator_that_is_dropped_keeps_no_value_of_a_task_that_ended() {
    async fn ending(begun: Arc<AtomicUsize>, gone: mpsc::Receiver<()>, value: Guard) -> Guard {
        begun.fetch_add(1, SeqCst);
        gone.recv().expect("it is let go");
        value
    }
    watched(|| {
        // One for each task, and one that serves the timer meanwhile.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (early, late, last) = (Flag::new(), Flag::new(), Flag::new());
            let (first, started) = mpsc::channel();
            let ((go, gone), (end, ended)) = (mpsc::channel(), mpsc::channel());
            let begun = Arc::new(AtomicUsize::new(0));
            let mut all = Box::pin(flow::all([
                ending(Arc::clone(&begun), started, early.guard()),
                ending(Arc::clone(&begun), gone, late.guard()),
                ending(Arc::clone(&begun), ended, last.guard()),
            ]));
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let polled = all.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            // One that is aborted before its first poll would lose its value there and then.
            until("all have begun", || begun.load(SeqCst) == 3).await;
            // Not before: the first poll would take its end, and nobody be woken.
            assert_eq!(woken.times(), 0);
            first.send(()).unwrap();
            until("the first has ended", || woken.times() == 1).await;
            assert_eq!(early.drops(), 0, "it has not been taken");
            drop(all);
            assert_eq!((early.drops(), late.drops()), (1, 0));
            go.send(()).unwrap();
            until("what comes late is dropped", || late.drops() == 1).await;
            assert_eq!(last.drops(), 0);
            end.send(()).unwrap();
            until("and so is the last", || last.drops() == 1).await;
        });
    });
}

/// Many ends that are there at once do not keep others from their turn.
#[tokio::test]
async fn one_poll_takes_so_many_ends_and_no_more() {
    let mut all = Box::pin(flow::all((0..1000).map(ready)));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut polls = 0;
    let ends = loop {
        polls += 1;
        match all.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(ends) => break ends,
            Poll::Pending => settle().await,
        }
        assert_eq!(woken.times(), polls, "it asks for the next poll");
    };
    assert_eq!(ends.len(), 1000);
    // One that starts them, and one for each 128.
    assert_eq!(polls, 1 + 1000_usize.div_ceil(128));
}

/// It had ended before the abort reached it.
#[tokio::test]
async fn a_task_that_cancels_and_ends_has_a_result() {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let tasks = [true, false].map(|first| {
        let cancel = cancel.clone();
        async move {
            if first {
                cancel.cancel();
                return 7;
            }
            pending().await
        }
    });
    let ends = bounded(flow::all(tasks).token(token)).await;
    assert!(
        matches!(ends[..], [Ok(7), Err(TaskError::Cancelled)]),
        "{ends:?}"
    );
}

/// It is the caller's code, and so is its panic; what had started is aborted.
#[test]
fn a_panic_of_the_iterator_is_the_callers_own() {
    watched(|| {
        multi_thread().block_on(async {
            let flag = Flag::new();
            let guards = flag.clone();
            let tasks = (0..5).map(move |n| {
                assert!(n < 3, "boom");
                let guard = guards.guard();
                async move {
                    let _guard = guard;
                    pending::<()>().await;
                }
            });
            let caller = tokio::spawn(async move { drop(flow::all(tasks).await) });
            let panic = bounded(caller).await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref(), Some(&"boom"));
            until("what had started is gone", || flag.drops() == 3).await;
        });
    });
}

/// It panics once, before each item in turn, and the stream is polled again.
#[tokio::test]
async fn a_stream_whose_input_panics_loses_no_end() {
    for (before, limit, unordered) in
        (0..=4).flat_map(|before| [(before, 1, false), (before, 2, false), (before, 2, true)])
    {
        let (mut next, mut panics) = (0, true);
        let tasks = std::iter::from_fn(|| {
            if next == before && std::mem::take(&mut panics) {
                panic!("boom");
            }
            next += 1;
            (next <= 4).then(|| ready(next))
        });
        let mut ends = flow::stream(tasks).limit(limit);
        if unordered {
            ends = ends.unordered();
        }
        let (mut taken, mut panicked) = (Vec::new(), 0);
        loop {
            let mut next = pin!(ends.next());
            let polled = std::future::poll_fn(|cx| {
                match catch_unwind(AssertUnwindSafe(|| next.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(payload) => Poll::Ready(Err(payload)),
                }
            });
            match bounded(polled).await {
                Ok(Some(end)) => taken.push(end.unwrap()),
                Ok(None) => break,
                Err(_) => panicked += 1,
            }
        }
        taken.sort_unstable();
        assert_eq!(
            (taken, panicked),
            (vec![1, 2, 3, 4], 1),
            "before {before}, limit {limit}, {unordered}"
        );
    }
}

#[tokio::test]
async fn a_panic_of_a_retrys_delays_or_verdict_is_the_callers_own() {
    let failing = || ready(Err::<(), _>(()));
    let delays = std::iter::from_fn(|| -> Option<Duration> { panic!("delays") });
    let retry = flow::retry(failing).delays(delays);
    let caller = tokio::spawn(async move { retry.await.is_ok() });
    let panic = bounded(caller).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"delays"));
    let retry = flow::retry(failing).when(|()| panic!("verdict"));
    let caller = tokio::spawn(async move { retry.await.is_ok() });
    let panic = bounded(caller).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"verdict"));
    let retry = flow::retry(failing).notify(|(), _| panic!("notify"));
    let caller = tokio::spawn(async move { retry.await.is_ok() });
    let panic = bounded(caller).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"notify"));
}

/// Whoever holds on to it holds on to nothing of its steps.
#[tokio::test]
async fn a_waterfall_that_is_cancelled_drops_its_steps() {
    let (running, waiting) = (Flag::new(), Flag::new());
    let (in_the_future, in_the_closure) = (running.guard(), waiting.guard());
    let token = CancellationToken::new();
    let mut falling = flow::waterfall::<_, ()>(())
        .then(|()| async move {
            let _held = in_the_future;
            pending::<Result<(), ()>>().await
        })
        .then(move |()| {
            let _held = in_the_closure;
            ready(Ok(()))
        })
        .token(token.clone());
    assert!(poll_once(&mut falling).is_pending());
    token.cancel();
    let ended = (&mut falling).await;
    assert!(matches!(ended, Err(TaskError::Cancelled)));
    assert_eq!((running.drops(), waiting.drops()), (1, 1));
}

/// The text of an error, and of its source.
fn told<E: Error>(error: &E) -> (String, Option<String>) {
    (error.to_string(), error.source().map(ToString::to_string))
}

#[tokio::test]
async fn errors_say_what_happened_and_whose_error_it_was() {
    let error = std::fmt::Error.to_string();
    let text = |text: &str| format!("{text}: {error}");

    let none = [(); 0].map(|()| ready(Err::<(), _>(std::fmt::Error)));
    let none = flow::race(none).await.unwrap_err();
    let words = "fewer tasks than values wanted";
    assert_eq!(told(&none), (words.to_owned(), None));
    let lost = [(); 2].map(|()| ready(Err::<(), _>(std::fmt::Error)));
    let lost = flow::race(lost).limit(1).await.unwrap_err();
    let RaceError::Failed(errors) = &lost else {
        panic!("{lost:?}");
    };
    let indices: Vec<_> = errors.iter().filter_map(TaskError::index).collect();
    assert_eq!(indices, [0, 1]);
    let words = format!("too many tasks failed, the last was {}", errors.last());
    assert_eq!(told(&lost), (words, None));
    let each: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(each, [text("task 0"), text("task 1")]);
    let cancelled: RaceError<std::fmt::Error> = RaceError::Cancelled;
    let words = "cancelled before there were enough values";
    assert_eq!(told(&cancelled), (words.to_owned(), None));

    let late: RaceError<std::fmt::Error> = RaceError::DeadlineExceeded;
    let words = "deadline exceeded before there were enough values";
    assert_eq!(told(&late), (words.to_owned(), None));
    let late: TaskError<std::fmt::Error> = TaskError::DeadlineExceeded;
    let words = "deadline passed before the end";
    assert_eq!(told(&late), (words.to_owned(), None));

    let failing = || ready(Err::<(), _>(std::fmt::Error));
    let gave_up = flow::retry(failing).attempts(1).await.unwrap_err();
    let words = text("gave up after 1 attempt");
    assert_eq!(told(&gave_up), (words, None));
    let slow = || pending::<Result<(), std::fmt::Error>>();
    let slow = flow::retry(slow).attempt_timeout(Duration::ZERO);
    let words = "gave up after 3 attempts: timed out".to_owned();
    assert_eq!(told(&slow.await.unwrap_err()), (words, None));
    let stopped = flow::retry(failing).when(|_| Verdict::Stop);
    let stopped = stopped.await.unwrap_err();
    let words = text("stopped after 1 attempt");
    assert_eq!(told(&stopped), (words, None));
    let late = flow::retry(failing)
        .delays([Duration::MAX])
        .deadline(Instant::now() + Duration::from_secs(60));
    let words = text("deadline exceeded after 1 attempt");
    assert_eq!(told(&late.await.unwrap_err()), (words, None));
    let token = CancellationToken::new();
    token.cancel();
    let cancelled = flow::retry(failing).token(token).await.unwrap_err();
    assert_eq!(
        told(&cancelled),
        ("cancelled after 0 attempts".to_owned(), None)
    );
}

/// The panic of each is an event of its own.
#[tokio::test]
async fn a_task_that_never_started_may_panic_when_it_is_dropped() {
    let token = CancellationToken::new();
    token.cancel();
    let tasks = [(); 2].map(|()| {
        let bomb = OnDrop(|| panic!("in a destructor"));
        async move { drop(bomb) }
    });
    let ends = flow::all(tasks).token(token).await;
    assert!(
        matches!(
            ends[..],
            [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]
        ),
        "{ends:?}"
    );
}

#[tokio::test]
async fn a_cancelled_stream_that_has_ended_does_not_keep_its_input() {
    let (flag, token) = (Flag::new(), CancellationToken::new());
    let guard = flag.guard();
    let tasks = (0..).map(move |_| {
        let _held = &guard;
        pending::<()>()
    });
    let mut stream = flow::stream(tasks).limit(1).token(token.clone());
    assert!(poll_once(&mut pin!(stream.next())).is_pending());
    token.cancel();
    let end = bounded(stream.next()).await;
    assert!(matches!(end, Some(Err(TaskError::Cancelled))), "{end:?}");
    assert_eq!(flag.drops(), 1);
    assert!(bounded(stream.next()).await.is_none());
}

/// Nothing that ends would look at the token again.
#[tokio::test]
async fn an_input_that_cancels_its_own_combinator_ends_it() {
    let token = CancellationToken::new();
    let cancels = token.clone();
    let input = (0..3).map(move |n| {
        if n == 2 {
            cancels.cancel();
        }
        pending::<Result<(), ()>>()
    });
    let ended = bounded(flow::try_all(input).token(token)).await;
    assert!(matches!(ended, Err(TaskError::Cancelled)), "{ended:?}");
}

/// Polls on after each panic.
async fn panics_of<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> (T, usize) {
    let mut panics = 0;
    let end = poll_fn(|cx| {
        while panics < 9 {
            match catch_unwind(AssertUnwindSafe(|| poll(cx))) {
                Ok(poll) => return poll,
                Err(_) => panics += 1,
            }
        }
        panic!("it goes on panicking");
    });
    (end.await, panics)
}

/// It panics once, when it is asked after the cancel whether there is more, and the future is polled again.
#[tokio::test]
async fn an_input_that_panics_after_a_cancel_does_not_hide_the_cancel() {
    let input = |token: &CancellationToken| {
        let (mut next, mut panics, cancel) = (0, true, token.clone());
        std::iter::from_fn(move || {
            if next == 2 && std::mem::take(&mut panics) {
                panic!("boom");
            }
            next += 1;
            let (index, cancel) = (next, cancel.clone());
            let task = async move {
                if index == 2 {
                    cancel.cancel();
                }
                Ok::<_, ()>(index)
            };
            (index <= 4).then_some(task)
        })
    };

    let token = CancellationToken::new();
    let mut all = flow::all(input(&token)).limit(1).token(token);
    let (ends, panics) = panics_of(|cx| Pin::new(&mut all).poll(cx)).await;
    let errors = ends.iter().filter(|end| end.is_err()).count();
    assert_eq!((ends.len(), errors, panics), (4, 2, 1), "{ends:?}");

    let token = CancellationToken::new();
    let mut all = flow::try_all(input(&token)).limit(1).token(token);
    let (end, panics) = panics_of(|cx| Pin::new(&mut all).poll(cx)).await;
    assert!(matches!(end, Err(TaskError::Cancelled)), "{end:?}");
    assert_eq!(panics, 1);

    let token = CancellationToken::new();
    let mut stream = flow::stream(input(&token)).limit(1).token(token);
    for value in [1, 2] {
        let end = stream.next().await;
        assert!(matches!(end, Some(Ok(Ok(there))) if there == value));
    }
    let (end, panics) = panics_of(|cx| pin!(stream.next()).poll(cx)).await;
    assert!(matches!(end, Some(Err(TaskError::Cancelled))), "{end:?}");
    assert_eq!(panics, 1);
}
