//! `github.com/sourcegraph/conc`, `stream/stream_test.go`, Copyright (c) 2023 Sourcegraph, MIT.
//!
//! A stream's callbacks are what the loop over `next` does. Not here: "nil callback" (there is none to be
//! nil).

use schedgroup::TaskError;
use schedgroup::flow;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{Flag, Meter, bounded, ms};

#[tokio::test(start_paused = true)]
async fn simple() {
    // The first are the slowest.
    let tasks = (0..5).map(|n| async move {
        sleep(ms(50 - 10 * n)).await;
        2 * n
    });
    let mut stream = flow::stream(tasks);
    let mut values = Vec::new();
    while let Some(end) = stream.next().await {
        values.push(end.unwrap());
    }
    assert_eq!(values, [0, 2, 4, 6, 8]);
    assert!(stream.next().await.is_none(), "and again");
}

#[tokio::test]
async fn max_goroutines() {
    let meter = Meter::default();
    let tasks = (0..100).map(|_| meter.clone().run());
    let mut stream = flow::stream(tasks).limit(5);
    let mut taken = 0;
    while let Some(end) = bounded(stream.next()).await {
        end.unwrap();
        taken += 1;
    }
    assert_eq!((taken, meter.all(), meter.most()), (100, 100, 5));
}

#[tokio::test]
async fn panic_in_task() {
    let tasks = (0..10).map(|n| async move { if n == 5 { panic!("something awful") } else { n } });
    let mut stream = flow::stream(tasks).limit(2);
    for n in 0..10 {
        match bounded(stream.next()).await.unwrap() {
            Ok(value) => assert_eq!(value, n),
            Err(TaskError::Panicked(panic)) => {
                assert_eq!(
                    (panic.index(), n, panic.message()),
                    (5, 5, "something awful")
                );
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(stream.next().await.is_none());
}

/// A panic in the loop is the caller's own; the stream is dropped by it and leaves no task.
#[tokio::test]
async fn panic_in_callback() {
    let flag = Flag::new();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let guard = flag.guard();
            async move { drop(guard) }
        })
        .collect();
    let taker = tokio::spawn(async move {
        let mut stream = flow::stream(tasks).limit(3);
        stream.next().await.unwrap().unwrap();
        panic!("something awful");
    });
    assert!(bounded(taker).await.unwrap_err().is_panic());
    crate::common::until("all tasks are gone", || flag.drops() == 100).await;
}

/// Without a limit as many run as there are processors; all of them with a limit that large.
#[tokio::test(start_paused = true)]
async fn f_co3_unlimited_is_parallel() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let tasks = || (0..3 * processors).map(|_| sleep(ms(50)));
    let start = Instant::now();
    let mut stream = flow::stream(tasks());
    while stream.next().await.is_some() {}
    assert_eq!(start.elapsed(), 3 * ms(50));
    let mut stream = flow::stream(tasks()).limit(3 * processors);
    while stream.next().await.is_some() {}
    assert_eq!(start.elapsed(), 4 * ms(50));
}

/// A stream that has ended says so as often as it is asked.
#[tokio::test]
async fn f_co5_an_ended_stream_can_be_asked_again() {
    let mut stream = flow::stream([async { 1 }]);
    assert_eq!(stream.next().await.unwrap().unwrap(), 1);
    for _ in 0..3 {
        assert!(stream.next().await.is_none());
    }
}

/// The wish of conc's users: a stream with a context.
#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let (flag, start) = (Flag::new(), Instant::now());
    let guards = flag.clone();
    let tasks = (0_u64..).map(move |n| {
        let (cancel, guard) = (cancel.clone(), guards.guard());
        async move {
            let _guard = guard;
            sleep(ms(10 * n)).await;
            if n == 3 {
                cancel.cancel();
            }
            n
        }
    });
    let mut stream = flow::stream(tasks).limit(4).token(token);
    for n in 0..3 {
        assert_eq!(stream.next().await.unwrap().unwrap(), n);
    }
    // The fourth may have ended or not when the cancel is seen, but none comes after it.
    let mut rest = Vec::new();
    while let Some(end) = stream.next().await {
        rest.push(end);
    }
    assert!(
        matches!(
            rest[..],
            [Ok(3), Err(TaskError::Cancelled)] | [Err(TaskError::Cancelled)]
        ),
        "{rest:?}"
    );
    assert_eq!(start.elapsed(), ms(30));
    assert_eq!(
        flag.drops(),
        7,
        "4 ended or were aborted, 3 more had started behind them"
    );
}
