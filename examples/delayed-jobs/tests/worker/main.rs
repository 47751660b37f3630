//! What a worker promises, on a paused clock and in memory.
#![forbid(unsafe_code)]

mod changes;
#[path = "../support/notes.rs"]
mod notes;
mod recorded;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use delayed_jobs::{
    Change, Failure, Filter, Handling, Job, JobId, Limit, OnDuplicate, Priority, Queue, Record,
    Retry, State, Unique, UniqueWhile, testkit,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use notes::{Log, Note, beside, noting};

const SECOND: Duration = Duration::from_secs(1);

async fn job(queue: &Queue, id: JobId) -> Record {
    queue.job(id).await.expect("an answer").expect("a job")
}

async fn put(queue: &Queue, note: u32, after: Duration) -> JobId {
    queue
        .enqueue(Note(note))
        .after(after)
        .await
        .expect("enqueued")
        .id()
}

#[tokio::test(start_paused = true)]
async fn jobs_start_at_their_times_and_in_their_order() {
    let (queue, log) = (testkit::queue(), Log::new());
    for (note, after) in [(1, 3600), (2, 5), (3, 0), (4, 86_400)] {
        put(&queue, note, after * SECOND).await;
    }
    let worker = noting(&queue, &log);
    let summary = testkit::drain(worker).await.expect("drained");
    let expected = [
        (0, 3, 1),
        (5000, 2, 1),
        (3_600_000, 1, 1),
        (86_400_000, 4, 1),
    ];
    assert_eq!(log.lines(), expected);
    assert_eq!((summary.done, summary.started, summary.max), (4, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_enqueued_while_the_worker_runs_is_not_late() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log);
    let summary = beside(worker, async {
        sleep(Duration::from_millis(1100)).await;
        put(&queue, 1, Duration::ZERO).await;
        put(&queue, 2, Duration::from_millis(333)).await;
        put(&queue, 3, 30 * SECOND).await;
        sleep(40 * SECOND).await;
    });
    assert_eq!(summary.await.max, 0);
    assert_eq!(log.lines(), [(1100, 1, 1), (1433, 2, 1), (31_100, 3, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_comes_back_with_growing_waits_and_is_dead_in_the_end() {
    let (queue, log) = (testkit::queue(), Log::new());
    let id = put(&queue, 1, Duration::ZERO).await;
    let seen = log.clone();
    let retry = Retry::exponential(SECOND, 3 * SECOND)
        .attempts(4)
        .without_jitter();
    let worker =
        queue
            .worker()
            .register_with(Handling::default().retry(retry), move |job: Job<Note>| {
                seen.note(&job);
                async move { Err(Failure::new(format!("no answer to try {}", job.attempt()))) }
            });
    let summary = testkit::drain(worker).await.expect("drained");
    assert_eq!(
        log.lines(),
        [(0, 1, 1), (1000, 1, 2), (3000, 1, 3), (6000, 1, 4)]
    );
    assert_eq!((summary.failed, summary.dead), (3, 1));
    let record = job(&queue, id).await;
    assert_eq!((record.state, record.attempt), (State::Dead, 4));
    assert_eq!(record.error.as_deref(), Some("no answer to try 4"));

    let dead = Filter {
        state: Some(State::Dead),
        ..Filter::default()
    };
    assert_eq!(queue.list(dead).await.expect("a list"), [record]);
    assert_eq!(queue.retry(id).await.expect("granted"), State::Pending);
    let worker = queue.worker().register(|_: Job<Note>| async { Ok(()) });
    testkit::drain(worker).await.expect("drained");
    assert_eq!(job(&queue, id).await.state, State::Done);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_logs_tells_its_job() {
    // While there is one subscriber, tracing asks only the thread that comes to a span first whether it is on, and remembers
    // that. The other tests have no subscriber, so this one has a second one: then tracing asks both.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let (mut logged, log) = std::io::pipe().expect("a pipe");
    let lines = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::sync::Mutex::new(log))
        .with_ansi(false)
        .without_time();
    let subscribed = tracing::subscriber::set_default(lines.finish());
    let queue = testkit::queue();
    let id = put(&queue, 1, Duration::ZERO).await;
    let worker = queue.worker().register(|job: Job<Note>| async move {
        tracing::info!("before");
        sleep(SECOND).await;
        tracing::info!("after");
        match job.attempt() {
            1 => Err(Failure::new("not yet")),
            _ => Ok(()),
        }
    });
    testkit::drain(worker).await.expect("drained");
    drop(subscribed);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut logged, &mut text).expect("lines");
    for attempt in [1, 2] {
        for word in ["before", "after"] {
            let line = format!("job{{job={id} kind=\"note\" attempt={attempt}}}: worker: {word}\n");
            assert!(text.contains(&line), "no {line} in {text}");
        }
    }
    for end in ["failed, and is tried again", "done"] {
        let event = format!(": {end} job={id} ");
        assert_eq!(text.matches(&event).count(), 1, "{end} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_say_when_to_come_back_and_that_there_is_no_hope() {
    let (queue, log) = (testkit::queue(), Log::new());
    put(&queue, 1, Duration::ZERO).await;
    let seen = log.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async move {
            match job.attempt() {
                1 => Err(Failure::after(77 * SECOND, "429 Too Many Requests")),
                _ => Err(Failure::dead("410 Gone")),
            }
        }
    });
    let summary = testkit::drain(worker).await.expect("drained");
    assert_eq!(log.lines(), [(0, 1, 1), (77_000, 1, 2)]);
    assert_eq!((summary.failed, summary.dead), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_says_when_to_come_back_uses_up_its_attempts() {
    let (queue, log) = (testkit::queue(), Log::new());
    put(&queue, 1, Duration::ZERO).await;
    let seen = log.clone();
    let handling = Handling::default().retry(Retry::fixed(SECOND).attempts(3));
    let worker = queue
        .worker()
        .register_with(handling, move |job: Job<Note>| {
            seen.note(&job);
            async { Err(Failure::after(77 * SECOND, "429 Too Many Requests")) }
        });
    let summary = testkit::run_for(worker, 1000 * SECOND).await;
    let summary = summary.expect("a run");
    assert_eq!(log.lines(), [(0, 1, 1), (77_000, 1, 2), (154_000, 1, 3)]);
    assert_eq!((summary.failed, summary.dead), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_timeout_are_failures_that_say_what_happened() {
    let queue = testkit::queue();
    let (panics, hangs) = (
        put(&queue, 1, Duration::ZERO).await,
        put(&queue, 2, Duration::ZERO).await,
    );
    let handling = Handling::default()
        .retry(Retry::never())
        .timeout(7 * SECOND);
    let worker = queue
        .worker()
        .register_with(handling, |job: Job<Note>| async move {
            match job.payload.0 {
                1 => panic!("index {} is out of bounds", job.payload.0),
                _ => std::future::pending().await,
            }
        });
    let begun = Instant::now();
    testkit::drain(worker).await.expect("drained");
    assert_eq!(begun.elapsed(), 7 * SECOND);
    let error = job(&queue, panics).await.error;
    assert_eq!(error.as_deref(), Some("panicked: index 1 is out of bounds"));
    let error = job(&queue, hangs).await.error;
    assert_eq!(error.as_deref(), Some("not done after 7s"));
}

#[tokio::test(start_paused = true)]
async fn the_first_of_replaced_jobs_waits_for_its_maximum_at_most() {
    let queue = testkit::queue();
    for (wait, expected) in [(100, 60), (30, 30)] {
        let rule = Unique::key(format!("{wait}")).or(OnDuplicate::Replace);
        let rule = rule.max_wait(60 * SECOND);
        let new = queue.enqueue(Note(1)).after(wait * SECOND).unique(rule);
        let id = new.attempts(0).await.expect("enqueued").id();
        let seen = job(&queue, id).await;
        assert_eq!(seen.run_at.since(seen.created_at), expected * SECOND);
        assert_eq!(seen.attempts, Some(1), "it runs once at least");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_hope_is_one_at_the_shutdown_too() {
    let queue = testkit::queue();
    for note in [1, 2] {
        put(&queue, note, Duration::ZERO).await;
    }
    let worker = queue.worker().register(|job: Job<Note>| async move {
        job.token().cancelled().await;
        match job.payload.0 {
            1 => Err(Failure::dead("410 Gone")),
            _ => Err(Failure::new("cut off")),
        }
    });
    let summary = beside(worker, sleep(SECOND)).await;
    assert_eq!((summary.dead, summary.released), (1, 1));
}

/// Another task tells the handler that the time is over, so the handler is woken a little after the timeout itself.
#[tokio::test(start_paused = true)]
async fn a_run_that_ends_at_the_moment_of_its_timeout_has_ended() {
    let queue = testkit::queue();
    let mut ids = Vec::new();
    for note in [1, 2] {
        ids.push(put(&queue, note, Duration::ZERO).await);
    }
    let handling = Handling::default()
        .retry(Retry::never())
        .timeout(60 * SECOND);
    let worker = queue.worker().cancel_grace(7 * SECOND);
    let worker = worker.register_with(handling, |job: Job<Note>| async move {
        let mut wait = 60 * SECOND;
        if job.payload.0 == 2 {
            job.token().cancelled().await;
            wait = 7 * SECOND;
        }
        let task = tokio::spawn(sleep(wait));
        task.await.map_err(Failure::new)
    });
    let cancel = async {
        sleep(SECOND).await;
        queue.cancel(ids[1]).await.expect("granted");
        sleep(100 * SECOND).await;
    };
    let summary = beside(worker, cancel).await;
    assert_eq!((summary.done, summary.dead, summary.cancelled), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_is_a_failure_and_gives_its_place_free() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let queue = testkit::queue();
    let (first, second) = (
        put(&queue, 1, Duration::ZERO).await,
        put(&queue, 2, Duration::ZERO).await,
    );
    let handling = Handling::default().retry(Retry::never()).timeout(SECOND);
    let worker = queue.worker().concurrency("default", 1);
    let worker = worker.register_with(handling, |job: Job<Note>| async move {
        if job.payload.0 == 1 {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    testkit::drain(worker).await.expect("drained");
    let error = job(&queue, first).await.error;
    assert_eq!(error.as_deref(), Some("panicked: dropped"));
    assert_eq!(job(&queue, second).await.state, State::Done);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_cannot_read_fails_and_says_why() {
    let queue = testkit::queue();
    let wrong = queue
        .enqueue_json("note", &serde_json::json!("seven"))
        .await
        .expect("enqueued");
    let unknown = queue
        .enqueue_json("memo", &serde_json::json!(7))
        .await
        .expect("enqueued");
    let worker = queue.worker().register_with(
        Handling::default().retry(Retry::never()),
        |_: Job<Note>| async { Ok(()) },
    );
    let summary = testkit::run_for(worker, SECOND / 4).await.expect("a run");
    assert_eq!((summary.dead, summary.failed), (1, 0));
    let error = job(&queue, wrong.id()).await.error.expect("an error");
    assert!(
        error.starts_with("the payload is no `note`: invalid type: string \"seven\""),
        "{error}"
    );
    let record = job(&queue, unknown.id()).await;
    assert_eq!(record.state, State::Pending, "a newer program may know it");
    assert_eq!((record.attempt, record.error), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_queue_runs_as_many_as_it_may_and_the_urgent_ones_first() {
    let (queue, log) = (testkit::queue(), Log::new());
    for note in 0..4 {
        put(&queue, note, Duration::ZERO).await;
    }
    queue
        .enqueue(Note(9))
        .priority(Priority::High)
        .await
        .expect("enqueued");
    queue
        .enqueue(Note(8))
        .priority(Priority::Low)
        .await
        .expect("enqueued");
    queue
        .enqueue(Note(7))
        .queue("other")
        .await
        .expect("enqueued");
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, top) = (log.clone(), Arc::clone(&most));
    let worker = queue
        .worker()
        .concurrency("default", 2)
        .concurrency("other", 1);
    let worker = worker.register(move |job: Job<Note>| {
        seen.note(&job);
        let (running, top) = (Arc::clone(&running), Arc::clone(&top));
        async move {
            top.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            sleep(SECOND).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    testkit::drain(worker).await.expect("drained");
    let of_default: Vec<_> = log.notes().into_iter().filter(|note| *note != 7).collect();
    assert_eq!(of_default, [9, 0, 1, 2, 3, 8]);
    let at: Vec<_> = log.lines().iter().map(|line| line.0).collect();
    assert_eq!(at, [0, 0, 0, 1000, 1000, 2000, 2000]);
    assert_eq!(most.load(Ordering::SeqCst), 3, "two and one");
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_may_have_any_size() {
    let queue = testkit::queue();
    for note in 0..20 {
        put(&queue, note, note * SECOND).await;
    }
    let worker = queue.worker().concurrency("default", usize::MAX);
    let worker = worker.register(|_: Job<Note>| async { Ok(()) });
    let drained = timeout(60 * SECOND, testkit::drain(worker)).await;
    let summary = drained.expect("it ends").expect("drained");
    assert_eq!(summary.done, 20);
}

#[tokio::test(start_paused = true)]
async fn drain_runs_all_jobs_of_a_worker_with_a_schedule_and_ends() {
    let queue = testkit::queue();
    put(&queue, 1, 3 * 86_400 * SECOND).await;
    let worker = queue.worker().every("daily", 86_400 * SECOND, &Note(2));
    let worker = worker.register(|_: Job<Note>| async { Ok(()) });
    let drained = timeout(10 * 86_400 * SECOND, testkit::drain(worker)).await;
    let summary = drained.expect("it ends").expect("drained");
    assert_eq!((summary.done, summary.max), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn each_run_of_some_days_is_on_time() {
    let queue = testkit::queue();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let worker = queue.worker().every("hourly", 3600 * SECOND, &Note(1));
    let worker = worker.register(move |_: Job<Note>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    let summary = testkit::run_for(worker, 3 * 86_400 * SECOND).await;
    let summary = summary.expect("a run");
    // Full hours are rarely full milliseconds of the clock, which began at some time of day.
    assert!(summary.max <= 1000, "{summary:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 72);
}

#[tokio::test(start_paused = true)]
async fn a_pending_job_that_is_cancelled_never_starts() {
    let (queue, log) = (testkit::queue(), Log::new());
    let id = put(&queue, 1, 2 * SECOND).await;
    let worker = noting(&queue, &log);
    beside(worker, async {
        sleep(SECOND).await;
        assert_eq!(queue.cancel(id).await.expect("granted"), State::Cancelled);
        sleep(5 * SECOND).await;
    })
    .await;
    assert_eq!(log.lines(), []);
    let again = queue.cancel(id).await.expect_err("it is over");
    assert_eq!(again.to_string(), format!("job {id} is cancelled"));
    let none = queue.cancel(JobId(77)).await.expect_err("there is none");
    assert_eq!(none.to_string(), "there is no job 77");
}

#[tokio::test(start_paused = true)]
async fn a_running_job_sees_its_cancel_and_is_dropped_if_it_does_not_end() {
    let queue = testkit::queue();
    let (polite, deaf, stubborn) = (
        put(&queue, 1, Duration::ZERO).await,
        put(&queue, 2, Duration::ZERO).await,
        put(&queue, 3, Duration::ZERO).await,
    );
    let worker = queue
        .worker()
        .cancel_grace(2 * SECOND)
        .register(|job: Job<Note>| async move {
            match job.payload.0 {
                1 => {
                    job.token().cancelled().await;
                    Err(Failure::new("stopped half-way"))
                }
                2 => std::future::pending().await,
                _ => {
                    job.token().cancelled().await;
                    Ok(())
                }
            }
        });
    let summary = beside(worker, async {
        sleep(SECOND).await;
        for id in [polite, deaf, stubborn] {
            assert_eq!(queue.cancel(id).await.expect("granted"), State::Running);
        }
        sleep(SECOND).await;
        assert_eq!(job(&queue, polite).await.state, State::Cancelled);
        assert_eq!(job(&queue, deaf).await.state, State::Running);
        assert_eq!(
            job(&queue, stubborn).await.state,
            State::Done,
            "it did its job all the same"
        );
        sleep(Duration::from_millis(1001)).await;
        assert_eq!(job(&queue, deaf).await.state, State::Cancelled);
    });
    let summary = summary.await;
    assert_eq!((summary.cancelled, summary.done), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn only_runs_that_started_are_counted_as_given_back() {
    let queue = testkit::queue();
    for note in 0..30 {
        put(&queue, note, Duration::ZERO).await;
    }
    let worker = queue.worker().concurrency("default", 1).grace(SECOND);
    // The first runs are short, so the next jobs wait in the worker.
    let worker = worker.register(|job: Job<Note>| async move {
        match job.payload.0 {
            0..10 => Ok(()),
            _ => std::future::pending().await,
        }
    });
    let summary = beside(worker, sleep(SECOND)).await;
    let counted = (summary.started, summary.done, summary.released);
    assert_eq!(counted, (11, 10, 1));
    assert_eq!(queue.counts().await.expect("counts").pending, 20);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_finish_what_can_and_gives_back_the_rest_as_it_was() {
    let queue = testkit::queue();
    let (quick, slow, quitter) = (
        put(&queue, 1, Duration::ZERO).await,
        put(&queue, 100, Duration::ZERO).await,
        put(&queue, 0, Duration::ZERO).await,
    );
    let later = put(&queue, 1, 3 * SECOND).await;
    let worker = queue
        .worker()
        .grace(5 * SECOND)
        .register(|job: Job<Note>| async move {
            if job.payload.0 == 0 {
                job.token().cancelled().await;
                return Err(Failure::new("asked to stop"));
            }
            sleep(job.payload.0 * 2 * SECOND).await;
            Ok(())
        });
    let begun = Instant::now();
    let summary = beside(worker, sleep(SECOND)).await;
    assert_eq!(begun.elapsed(), 6 * SECOND);
    assert_eq!((summary.done, summary.released), (1, 2));
    assert_eq!(job(&queue, quick).await.state, State::Done);
    for id in [slow, quitter] {
        let record = job(&queue, id).await;
        assert_eq!(
            (record.state, record.attempt, record.crashes),
            (State::Pending, 0, 0)
        );
    }
    let record = job(&queue, later).await;
    assert_eq!((record.state, record.started_at), (State::Pending, None));
}

/// The handler itself is dropped, but what it has spawned is not.
#[tokio::test(start_paused = true)]
async fn the_token_of_a_job_is_cancelled_when_its_lease_is_lost() {
    let queue = testkit::queue();
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let worker = queue.worker().register(move |job: Job<Note>| {
        let (token, count) = (job.token().clone(), Arc::clone(&count));
        tokio::spawn(async move {
            token.cancelled().await;
            count.fetch_add(1, Ordering::SeqCst);
        });
        std::future::pending()
    });
    put(&queue, 1, Duration::ZERO).await;
    let steal = async {
        sleep(SECOND).await;
        let later = queue.store().clock().now().after(3600 * SECOND);
        let lost = queue.store().reclaim(later, 9).await.expect("an answer");
        assert_eq!(lost.len(), 1);
        queue.pause("default").await.expect("paused");
        sleep(60 * SECOND).await;
        assert_eq!(stopped.load(Ordering::SeqCst), 1);
    };
    let run = testkit::run_for(worker, 120 * SECOND);
    let (summary, ()) = tokio::join!(run, steal);
    assert_eq!(summary.expect("a run").lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_while_the_job_runs_and_taken_from_a_worker_that_vanished() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = || {
        let seen = log.clone();
        queue
            .worker()
            .lease(3 * SECOND)
            .register(move |job: Job<Note>| {
                seen.note(&job);
                async move {
                    sleep(Duration::from_secs(job.payload.0.into())).await;
                    Ok(())
                }
            })
    };
    let id = put(&queue, 20, Duration::ZERO).await;
    // Dropped in the middle of the job, without a shutdown: that is a crash.
    let run = worker().run(CancellationToken::new());
    let gone = tokio::time::timeout(10 * SECOND, run).await;
    assert!(gone.is_err());
    let record = job(&queue, id).await;
    assert_eq!((record.state, record.attempt), (State::Running, 1));

    let summary = testkit::run_for(worker(), 60 * SECOND)
        .await
        .expect("a run");
    assert_eq!((summary.reclaimed, summary.done), (1, 1));
    let starts: Vec<_> = log
        .lines()
        .iter()
        .map(|line| (line.0 / 1000, line.2))
        .collect();
    assert_eq!(
        starts,
        [(0, 1), (12, 1)],
        "renewed at 9 s, so lost at 12 s; the crash cost no try"
    );
    assert_eq!(job(&queue, id).await.crashes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_lease_was_lost_is_stopped_and_ends_nothing() {
    let queue = testkit::queue();
    let id = put(&queue, 1, Duration::ZERO).await;
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Bell(Arc<AtomicUsize>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::clone(&dropped);
    let worker = queue
        .worker()
        .lease(3 * SECOND)
        .register(move |_: Job<Note>| {
            let bell = Bell(Arc::clone(&count));
            async move {
                let _bell = bell;
                std::future::pending().await
            }
        });
    beside(worker, async {
        sleep(Duration::from_millis(500)).await;
        // As another worker would if this one had been cut off for too long; and it pauses the queue.
        queue.pause("default").await.expect("paused");
        let far = queue.store().clock().now().after(100 * SECOND);
        queue.store().reclaim(far, 9).await.expect("reclaimed");
        sleep(2 * SECOND).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(job(&queue, id).await.state, State::Pending);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_lost_and_claimed_again_by_the_same_worker_keeps_its_new_lease() {
    let (queue, log) = (testkit::queue(), Log::new());
    let id = put(&queue, 1, Duration::ZERO).await;
    let seen = log.clone();
    let worker = queue
        .worker()
        .lease(30 * SECOND)
        .register(move |job: Job<Note>| {
            seen.note(&job);
            let is_first = seen.lines().len() == 1;
            async move {
                // Longer than a lease, so that the second run needs its renewals.
                sleep(if is_first { 20 * SECOND } else { 60 * SECOND }).await;
                Ok(())
            }
        });
    beside(worker, async {
        sleep(SECOND).await;
        let far = queue.store().clock().now().after(100 * SECOND);
        queue.store().reclaim(far, 9).await.expect("reclaimed");
        sleep(80 * SECOND).await;
        let record = job(&queue, id).await;
        assert_eq!((record.state, record.crashes), (State::Done, 1));
    })
    .await;
    assert_eq!(log.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_stopped_if_its_job_was_lost_and_claimed_again_by_the_same_worker() {
    let (queue, stopped) = (testkit::queue(), Arc::new(AtomicUsize::new(0)));
    put(&queue, 1, Duration::ZERO).await;
    let count = Arc::clone(&stopped);
    let worker = queue.worker().register(move |job: Job<Note>| {
        let count = Arc::clone(&count);
        async move {
            job.token().cancelled().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    beside(worker, async {
        sleep(SECOND).await;
        let far = queue.store().clock().now().after(100 * SECOND);
        queue.store().reclaim(far, 9).await.expect("reclaimed");
        sleep(SECOND).await;
        assert_eq!(stopped.load(Ordering::SeqCst), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn schedules_make_one_job_for_each_period_with_two_workers() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = || {
        let seen = log.clone();
        let worker = queue.worker().every("tick", 10 * SECOND, &Note(1));
        worker.register(move |job: Job<Note>| {
            assert_eq!(job.run_at().0 % 10_000_000, 0);
            seen.note(&job);
            async { Ok(()) }
        })
    };
    let minute = 60 * SECOND;
    let (one, two) = tokio::join!(
        testkit::run_for(worker(), minute),
        testkit::run_for(worker(), minute)
    );
    let done = one.expect("a run").done + two.expect("a run").done;
    assert_eq!((done, log.lines().len()), (6, 6));

    // Nobody lives for a while: the slot that was filled runs late, the others are left out.
    tokio::time::advance(minute).await;
    let summary = testkit::run_for(worker(), SECOND).await.expect("a run");
    assert!((1..=2).contains(&summary.done), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_waits_and_goes_on_at_once() {
    let (queue, log) = (testkit::queue(), Log::new());
    put(&queue, 1, SECOND).await;
    let worker = noting(&queue, &log);
    beside(worker, async {
        queue.pause("default").await.expect("paused");
        sleep(4321 * Duration::from_millis(1)).await;
        queue.resume("default").await.expect("resumed");
        sleep(SECOND).await;
    })
    .await;
    assert_eq!(log.lines(), [(4321, 1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn old_jobs_are_forgotten_and_dead_ones_only_if_that_is_wished() {
    let queue = testkit::queue();
    let (done, dead) = (
        put(&queue, 0, Duration::ZERO).await,
        put(&queue, 1, Duration::ZERO).await,
    );
    let forgetful = |queue: &Queue| queue.worker().retention(3600 * SECOND);
    let worker = forgetful(&queue).register(|job: Job<Note>| async move {
        match job.payload.0 {
            0 => Ok(()),
            _ => Err(Failure::dead("x")),
        }
    });
    testkit::run_for(worker, 3700 * SECOND)
        .await
        .expect("a run");
    assert!(queue.job(done).await.expect("an answer").is_none());
    assert_eq!(job(&queue, dead).await.state, State::Dead);

    let worker = forgetful(&queue)
        .dead_retention(7200 * SECOND)
        .register(|_: Job<Note>| async { Ok(()) });
    testkit::run_for(worker, 7300 * SECOND)
        .await
        .expect("a run");
    assert!(queue.job(dead).await.expect("an answer").is_none());
}

/// One statement deletes five hundred, and the next deletion would come a minute later.
#[tokio::test(start_paused = true)]
async fn all_old_jobs_are_forgotten_at_once_however_many_there_are() {
    let queue = testkit::queue();
    let jobs = (0..1200).map(|note| queue.enqueue(Note(note)));
    queue.enqueue_all(jobs).await.expect("enqueued");
    let worker = queue.worker().retention(3600 * SECOND);
    let worker = worker.register(|_: Job<Note>| async { Ok(()) });
    let summary = testkit::run_for(worker, 3700 * SECOND).await;
    assert_eq!(summary.expect("a run").done, 1200);
    assert_eq!(queue.counts().await.expect("counts").done, 0);
}

#[tokio::test(start_paused = true)]
async fn progress_is_written_while_the_job_runs() {
    let queue = testkit::queue();
    let id = put(&queue, 1, Duration::ZERO).await;
    let worker = queue.worker().register(|job: Job<Note>| async move {
        for percent in [30, 60, 255] {
            job.progress(percent).await?;
            sleep(SECOND).await;
        }
        Ok(())
    });
    beside(worker, async {
        for expected in [30, 60, 100] {
            sleep(Duration::from_millis(900)).await;
            assert_eq!(job(&queue, id).await.progress, Some(expected));
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "delayed-jobs: there is a handler for `note` already")]
async fn two_handlers_for_a_payload_are_a_mistake() {
    let handler = |_: Job<Note>| async { Ok(()) };
    let _ = testkit::queue()
        .worker()
        .register(handler)
        .register(handler);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "delayed-jobs: a worker without handlers has nothing to do")]
async fn a_queue_without_handlers_is_a_mistake() {
    let worker = testkit::queue().worker().concurrency("default", 1);
    let _ = testkit::run_for(worker, SECOND).await;
}

#[tokio::test]
#[should_panic(expected = "delayed-jobs: a concurrency must be at least 1")]
async fn a_queue_without_places_is_a_mistake() {
    let _ = testkit::queue().worker().concurrency("default", 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_has_its_own_attempts_and_timeout_if_it_was_enqueued_with_them() {
    let queue = testkit::queue();
    let own = queue.enqueue(Note(1)).attempts(2).timeout(3 * SECOND);
    let own = own.await.expect("enqueued").id();
    let usual = put(&queue, 2, Duration::ZERO).await;
    let retry = Retry::fixed(SECOND).attempts(3).without_jitter();
    let handling = Handling::default().retry(retry).timeout(7 * SECOND);
    let hang = |_: Job<Note>| std::future::pending();
    let worker = queue.worker().register_with(handling, hang);
    testkit::drain(worker).await.expect("drained");
    for (id, attempts, words) in [
        (own, 2, "not done after 3s"),
        (usual, 3, "not done after 7s"),
    ] {
        let record = job(&queue, id).await;
        assert_eq!((record.state, record.attempt), (State::Dead, attempts));
        let errors: Vec<_> = record
            .errors
            .iter()
            .map(|error| error.error.as_str())
            .collect();
        assert_eq!(errors, vec![words; attempts as usize]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_output_of_the_run_that_succeeded_is_kept() {
    let queue = testkit::queue();
    let id = put(&queue, 1, Duration::ZERO).await;
    let worker = queue.worker().register(|job: Job<Note>| async move {
        job.output(&job.attempt())?;
        match job.attempt() {
            1 => Err(Failure::new("not yet")),
            _ => Ok(()),
        }
    });
    testkit::drain(worker).await.expect("drained");
    assert_eq!(job(&queue, id).await.output.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn equal_payloads_are_one_job_a_period() {
    let queue = testkit::queue();
    let day = Duration::from_secs(86_400);
    let daily = || Unique::payload().per(day).within(UniqueWhile::Succeeded);
    let at = |days: u32| delayed_jobs::Micros(0).after(days * day + SECOND);
    let mut outcomes = Vec::new();
    for (note, days) in [(1, 1), (1, 1), (2, 1), (1, 2)] {
        let job = queue.enqueue(Note(note)).at(at(days)).unique(daily());
        outcomes.push(job.await.is_ok());
    }
    assert_eq!(outcomes, [true, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn many_dead_jobs_are_retried_by_one_call_and_run_at_once() {
    let queue = testkit::queue();
    let notes = (0..1200).map(|note| queue.enqueue(Note(note)));
    queue.enqueue_all(notes).await.expect("enqueued");
    let worker = queue
        .worker()
        .register(|_: Job<Note>| async { Err(Failure::dead("x")) });
    testkit::drain(worker).await.expect("drained");
    let dead = Filter {
        state: Some(State::Dead),
        limit: usize::MAX,
        ..Filter::default()
    };
    let worker = queue.worker().register(|_: Job<Note>| async { Ok(()) });
    let summary = beside(worker, async {
        let retried = queue.change(Change::Retry, dead).await;
        assert_eq!(retried.expect("retried"), 1200);
        sleep(SECOND).await;
    })
    .await;
    assert_eq!(summary.done, 1200);
    assert!(summary.max < 100_000, "late by {} us", summary.max);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_by_workers_together_and_changed_while_they_run() {
    let (queue, log) = (testkit::queue(), Log::new());
    let second = Limit::default().rate(1, SECOND);
    queue.limit("default", second).await.expect("set");
    for note in 0..30 {
        put(&queue, note, Duration::ZERO).await;
    }
    let worker = || noting(&queue, &log);
    let changed = async {
        sleep(Duration::from_millis(9500)).await;
        assert_eq!(log.lines().len(), 10);
        let faster = Limit::default().rate(4, SECOND);
        queue.limit("default", faster).await.expect("set");
        sleep(2 * SECOND).await;
        let after = log.lines().len();
        assert!((17..=19).contains(&after), "{after} after two seconds more");
        queue.limit("default", Limit::default()).await.expect("set");
        sleep(SECOND).await;
    };
    let (shutdown, other) = (CancellationToken::new(), worker());
    let (first, _) = tokio::join!(
        async {
            let summary = beside(worker(), changed).await;
            shutdown.cancel();
            summary
        },
        other.run(shutdown.clone())
    );
    assert_eq!(log.lines().len(), 30, "without a limit all run: {first:?}");
}

/// A key that is at its rate was asked for again only each 100 ms, so that of 19 starts per second there were 9.
#[tokio::test(start_paused = true)]
async fn a_key_reaches_its_rate() {
    for rate in [7, 12, 19, 35] {
        let (queue, log) = (testkit::queue(), Log::new());
        let limit = Limit::default().key_rate(rate, SECOND);
        queue.limit("default", limit).await.expect("set");
        for note in 0..rate * 6 {
            let job = queue.enqueue(Note(note)).limit_key("ada");
            job.await.expect("enqueued");
        }
        let run = testkit::run_for(noting(&queue, &log), 5 * SECOND);
        run.await.expect("a run");
        let started = log.lines().len() as u32;
        // At the beginning some may start together.
        assert!(
            (5 * rate..=5 * rate + 4).contains(&started),
            "{started} in five seconds at {rate} per second"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_one_key_run_one_after_the_other_and_others_beside_them() {
    let (queue, log) = (testkit::queue(), Log::new());
    let one = Limit::default().key_at_once(1);
    queue.limit("default", one).await.expect("set");
    for (note, key) in [(1, "ada"), (2, "ada"), (3, "bob")] {
        let job = queue.enqueue(Note(note)).limit_key(key);
        job.await.expect("enqueued");
    }
    let seen = log.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(5 * SECOND).await;
            Ok(())
        }
    });
    testkit::drain(worker).await.expect("drained");
    let lines = log.lines();
    let starts: Vec<_> = lines
        .iter()
        .map(|(at, note, _)| (at / 1000, *note))
        .collect();
    assert_eq!(starts, [(0, 1), (0, 3), (5, 2)]);
}

#[tokio::test(start_paused = true)]
async fn jobs_come_after_others_without_delay() {
    let (queue, log) = (testkit::queue(), Log::new());
    let first = put(&queue, 1, 7 * SECOND).await;
    let second = queue.enqueue(Note(2)).after_done([first]);
    let second = second.await.expect("enqueued").id();
    let third = queue.enqueue(Note(3)).after_done([second]).after(SECOND);
    let third = third.await.expect("enqueued").id();
    let callback = queue.enqueue(Note(4)).after_ended([first, third]);
    callback.await.expect("enqueued");
    let seen = log.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async move {
            sleep(SECOND).await;
            match job.payload.0 {
                3 => Err(Failure::dead("x")),
                _ => Ok(()),
            }
        }
    });
    testkit::drain(worker).await.expect("drained");
    let starts: Vec<_> = log
        .lines()
        .iter()
        .map(|(at, note, _)| (*note, at / 100))
        .collect();
    assert_eq!(starts, [(1, 70), (2, 80), (3, 90), (4, 100)]);
    let wrong = queue.enqueue(Note(5)).after_done([first]);
    let wrong = wrong
        .unique(Unique::key("k").or(OnDuplicate::Replace))
        .await;
    assert!(wrong.is_err(), "{wrong:?}");
}
