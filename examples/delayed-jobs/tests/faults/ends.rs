//! On a paused clock: how runs end.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use delayed_jobs::{Failure, Filter, Handling, Limit, Retry, State, testkit};
use tokio::time::sleep;

use super::*;

/// An error whose message cannot be had.
#[derive(Debug)]
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl Error for Mute {}

/// An error, or a panic's payload, that panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bomb")
    }
}

impl Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped")
    }
}

#[derive(Debug)]
struct Outer(Inner);

#[derive(Debug)]
struct Inner;

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mail was not sent")
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no route to host")
    }
}

impl Error for Inner {}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_printed_is_a_failure_like_others() {
    let queue = testkit::queue();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let twice = Handling::default().retry(Retry::fixed(SECOND).attempts(2));
    let worker = queue.worker().concurrency("default", 1);
    let worker = worker
        .register_with(twice, move |_: Job<Note>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err(Failure::from(Mute)) }
        })
        .register(|_: Job<Other>| async { Ok(()) });
    let id = put(&queue, 1).await;
    let other = queue
        .enqueue(Other(1))
        .after(5 * SECOND)
        .await
        .expect("enqueued")
        .id();
    beside(worker, sleep(600 * SECOND)).await;
    let (job, other) = (record(&queue, id).await, record(&queue, other).await);
    let seen = (job.state, runs.load(Ordering::SeqCst), other.state);
    assert_eq!(seen, (State::Dead, 2, State::Done), "{job:?}");
}

#[tokio::test(start_paused = true)]
async fn destructors_of_errors_and_of_panics_harm_nobody() {
    for by_panic in [false, true] {
        let queue = testkit::queue();
        let never = Handling::default().retry(Retry::never());
        let worker = queue.worker().concurrency("default", 1);
        let worker = worker
            .register_with(never, move |_: Job<Note>| async move {
                if by_panic {
                    std::panic::panic_any(Bomb)
                }
                Err(Failure::new(Bomb))
            })
            .register(|_: Job<Other>| async { Ok(()) });
        let first = put(&queue, 1).await;
        let second = queue.enqueue(Other(1)).await.expect("enqueued").id();
        beside(worker, sleep(100 * SECOND)).await;
        let (first, second) = (record(&queue, first).await, record(&queue, second).await);
        let seen = (first.state, second.state);
        assert_eq!(
            seen,
            (State::Dead, State::Done),
            "by panic {by_panic}: {first:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_kept_with_its_sources_cleaned_and_cut() {
    let queue = testkit::queue();
    let never = Handling::default().retry(Retry::never());
    let worker = queue
        .worker()
        .register_with(never, |job: Job<Note>| async move {
            match job.payload.0 {
                0 => Err(Failure::from(Outer(Inner))),
                1 => Err(Failure::new("bad bytes: a\0b\x1b[2J")),
                _ => Err(Failure::new("雪".repeat(5_000_000))),
            }
        });
    let (chain, bytes, long) = (
        put(&queue, 0).await,
        put(&queue, 1).await,
        put(&queue, 2).await,
    );
    beside(worker, sleep(SECOND)).await;
    let error = async |id| record(&queue, id).await.error.expect("an error");
    assert_eq!(
        error(chain).await,
        "the mail was not sent: no route to host"
    );
    let bytes = error(bytes).await;
    assert!(
        !bytes.contains('\0') && bytes.starts_with("bad bytes: a"),
        "{bytes:?}"
    );
    let long = error(long).await.len();
    assert!(long <= 20_000, "{long} bytes are kept");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_exactly_its_time_is_done_each_time() {
    let queue = testkit::queue();
    let handling = Handling::default().timeout(SECOND).retry(Retry::never());
    let worker = queue.worker().concurrency("default", 200);
    let worker = worker.register_with(handling, |_: Job<Note>| async {
        sleep(SECOND).await;
        Ok(())
    });
    for n in 0..200 {
        put(&queue, n).await;
    }
    let summary = testkit::drain(worker).await.expect("a run");
    assert_eq!((summary.done, summary.dead), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_that_ends_well_at_the_end_of_its_grace_is_done() {
    let queue = testkit::queue();
    let worker = queue
        .worker()
        .concurrency("default", 200)
        .cancel_grace(SECOND);
    let worker = worker.register(|job: Job<Note>| async move {
        job.token().cancelled().await;
        sleep(SECOND).await;
        Ok(())
    });
    for n in 0..200 {
        put(&queue, n).await;
    }
    beside(worker, async {
        sleep(SECOND).await;
        for job in queue
            .list(Filter {
                limit: 300,
                ..Filter::default()
            })
            .await
            .expect("a list")
        {
            queue.cancel(job.id).await.expect("granted");
        }
        sleep(10 * SECOND).await;
    })
    .await;
    let counts = queue.counts().await.expect("counts");
    assert_eq!((counts.done, counts.cancelled), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_worker_claims_only_the_kinds_that_it_knows() {
    let (queue, log) = (testkit::queue(), Log::new());
    let unknown = queue.enqueue(Other(1)).await.expect("enqueued").id();
    for n in 0..40 {
        put(&queue, n).await;
    }
    beside(noting(&queue, &log), sleep(60 * SECOND)).await;
    let job = record(&queue, unknown).await;
    assert_eq!(
        (job.state, job.attempt),
        (State::Pending, 0),
        "{:?}",
        job.error
    );
    assert_eq!(log.lines().len(), 40);
}

#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    x: f64,
}

impl Payload for Reading {
    const KIND: &'static str = "reading";
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_cannot_be_read_back_is_refused_when_it_is_enqueued() {
    let queue = testkit::queue();
    let outcome = queue.enqueue(Reading { x: f64::NAN }).await;
    assert!(outcome.is_err(), "taken in: {outcome:?}");
    let outcome = queue.enqueue(Reading { x: 1.5 }).await;
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn texts_that_a_database_cannot_keep_are_refused_by_all_stores() {
    let queue = testkit::queue();
    let long = queue.enqueue(Note(1)).unique("k".repeat(3000)).await;
    let zero = queue.enqueue(Note(1)).unique("k\0").await;
    let name = queue.enqueue(Note(1)).queue("").await;
    assert!(
        long.is_err() && zero.is_err() && name.is_err(),
        "{long:?} {zero:?} {name:?}"
    );
    let answers = [
        queue.pause("a\0").await.is_err(),
        queue.resume("a\0").await.is_err(),
        queue.limit("a\0", Limit::default()).await.is_err(),
        queue.pause_schedule("a\0").await.is_err(),
        queue.resume_schedule("a\0").await.is_err(),
        queue.run_schedule("a\0").await.is_err(),
    ];
    assert_eq!(answers, [true; 6]);
    assert!(queue.queues().await.expect("queues").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_keeps_no_other_job_at_the_shutdown() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let worker = queue.worker().lease(SECOND).grace(200 * MILLI);
    let log = Log::new();
    let seen = log.clone();
    let worker = worker.register(move |job: Job<Note>| {
        seen.note(&job);
        async move {
            match job.payload.0 {
                // For longer than its lease, and than the two seconds in which the other is to be given back.
                0 => std::thread::sleep(4 * SECOND),
                _ => sleep(60 * SECOND).await,
            }
            Ok(())
        }
    });
    let [blocks, waits] = [put(&queue, 0).await, put(&queue, 1).await];
    let running = spawn(worker);
    // In the store they run as soon as they are claimed, and a worker that stops starts none that it has claimed.
    support::until("both run", || async { log.lines().len() == 2 }).await;
    let begun = std::time::Instant::now();
    running.shutdown.cancel();
    let back = || async { record(&queue, waits).await.state == State::Pending };
    support::until("the other is given back", back).await;
    let took = begun.elapsed();
    assert!(took < 2 * SECOND, "it was given back after {took:?}");
    let summary = running.task.await.expect("no panic").expect("a run");
    assert_eq!((summary.done, summary.released, summary.lost), (1, 1, 0));
    let [blocks, waits] = [record(&queue, blocks).await, record(&queue, waits).await];
    assert_eq!((blocks.state, waits.state), (State::Done, State::Pending));
    assert_eq!((blocks.crashes, waits.crashes, waits.attempt), (0, 0, 0));
}
