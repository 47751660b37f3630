//! On a paused clock: lateness, leases and times.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use delayed_jobs::store::{Claim, Ended, Suspects, Verdict};
use delayed_jobs::{
    Change, Enqueued, Failure, Filter, Handling, Limit, Micros, OnDuplicate, Retry, State, Unique,
    testkit,
};
use tokio::time::{advance, sleep, timeout};

use super::wrapped::{When, Wrapped};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_job_that_is_replaced_starts_at_its_new_time() {
    for (first, then) in [
        (3200, 3600),
        (3600, 3200),
        (3_600_000, 1500),
        (1500, 3_600_000),
    ] {
        let (queue, log) = (testkit::queue(), Log::new());
        let worker = noting(&queue, &log);
        beside(worker, async {
            sleep(SECOND).await;
            let job = queue.enqueue(Note(1)).after(first * MILLI).unique("k");
            job.await.expect("enqueued");
            sleep(SECOND / 2).await;
            let job = queue.enqueue(Note(2)).after((then - 500) * MILLI);
            let outcome = job.unique(Unique::key("k").or(OnDuplicate::Replace)).await;
            assert!(matches!(outcome, Ok(Enqueued::Replaced(_))), "{outcome:?}");
            sleep(first.max(then) * MILLI + 60 * SECOND).await;
        })
        .await;
        let due = u64::from(1000 + then);
        assert_eq!(log.lines(), [(due, 2, 1)], "moved from {first} to {then}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_put_off_again_and_again_starts_at_its_latest_time() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log);
    let rule = Unique::key("k").or(OnDuplicate::Replace);
    let rule = rule.max_wait(59_500 * MILLI);
    beside(worker, async {
        for n in 0..33 {
            let job = queue.enqueue(Note(n)).after(5 * SECOND);
            job.unique(rule.clone()).await.expect("enqueued");
            sleep(2 * SECOND).await;
        }
        sleep(60 * SECOND).await;
    })
    .await;
    // The first ones end in one run at their ceiling, and the last ones in one of their own when it is quiet.
    assert_eq!(log.lines(), [(59_500, 29, 1), (69_000, 32, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_job_is_not_late_on_the_testkits_far_clock() {
    let (queue, log) = (testkit::queue(), Log::new());
    let job = queue.enqueue(Note(1)).after(10 * SECOND).unique("k");
    job.await.expect("enqueued");
    let run = testkit::drain(noting(&queue, &log));
    let moving = async {
        sleep(SECOND).await;
        let job = queue.enqueue(Note(2)).after(20 * SECOND);
        job.unique(Unique::key("k").or(OnDuplicate::Replace))
            .await
            .expect("enqueued");
    };
    let (summary, ()) = tokio::join!(run, moving);
    assert_eq!(summary.expect("a run").max, 0);
    assert_eq!(log.lines(), [(21_000, 2, 1)]);
}

/// The worker has no hint for the callback: another process has enqueued it, and it was never due until the other job ended.
#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_one_that_is_cancelled_or_deleted_starts_in_time() {
    for end in ["a cancel", "a cancel of many", "a delete"] {
        let other = testkit::queue();
        let (queue, log) = (Wrapped::deaf(other.store()), Log::new());
        beside(noting(&queue, &log), async {
            // The worker has looked, and looks again in 2.5 s.
            sleep(100 * MILLI).await;
            let job = other.enqueue(Note(1)).after(3600 * SECOND).await;
            let job = job.expect("enqueued").id();
            let callback = other.enqueue(Note(2)).after_ended([job]);
            callback.after(SECOND).await.expect("enqueued");
            let this = Filter {
                id: Some(job),
                ..Filter::default()
            };
            match end {
                "a cancel" => drop(queue.cancel(job).await.expect("granted")),
                "a cancel of many" => drop(queue.change(Change::Cancel, this).await),
                _ => drop(queue.change(Change::Delete, this).await),
            }
            sleep(9 * SECOND).await;
        })
        .await;
        assert_eq!(log.lines(), [(1100, 2, 1)], "after {end}");
    }
}

/// Two workers of one process, which have one slot each and learn of changes only by looking. A worker looks when it starts,
/// and 2.5 s later. The first note ends as `first` says. It takes so long that its worker holds only one job per slot.
async fn second_run_of_two_workers(
    first: impl Fn() -> Result<(), Failure> + Clone + Send + Sync + 'static,
) -> Vec<(u64, u32, u32)> {
    let memory = testkit::queue();
    let (queue, log) = (Wrapped::deaf(memory.store()), Log::new());
    let worker = || {
        let (seen, first) = (log.clone(), first.clone());
        let again = Handling::default().retry(Retry::fixed(SECOND).without_jitter());
        let worker = queue.worker().concurrency("default", 1);
        let worker = worker.register_with(again, move |job: Job<Note>| {
            let is_first = seen.lines().is_empty();
            seen.note(&job);
            let first = first.clone();
            async move {
                sleep(50 * MILLI).await;
                if is_first { first() } else { Ok(()) }
            }
        });
        worker.register(|job: Job<Other>| async move {
            sleep(job.payload.0 * MILLI).await;
            Ok(())
        })
    };
    let other = async |millis| {
        let job = queue.enqueue(Other(millis)).await;
        job.expect("enqueued");
    };
    let work = async {
        sleep(100 * MILLI).await;
        other(500).await;
        sleep(100 * MILLI).await;
        put(&queue, 1).await;
        sleep(100 * MILLI).await;
        other(60_000).await;
        sleep(4 * SECOND).await;
    };
    beside(worker(), async { drop(beside(worker(), work).await) }).await;
    log.lines()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_due_again_soon_starts_in_time_on_another_worker() {
    for verdict in ["a retry", "a snooze"] {
        let lines = second_run_of_two_workers(move || match verdict {
            "a retry" => Err(Failure::new("again")),
            _ => Err(Failure::snooze(SECOND)),
        });
        let times: Vec<_> = lines.await.into_iter().map(|(at, ..)| at).collect();
        assert_eq!(times, [200, 1250], "{verdict}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_given_back_starts_at_once_on_another_worker() {
    let memory = testkit::queue();
    let (queue, log) = (Wrapped::deaf(memory.store()), Log::new());
    let seen = log.clone();
    let endless = queue.worker().grace(Duration::ZERO);
    let endless = endless.register(move |job: Job<Note>| {
        seen.note(&job);
        std::future::pending()
    });
    let first = beside(endless, async {
        put(&queue, 1).await;
        sleep(SECOND).await;
    });
    let second = async {
        sleep(SECOND / 2).await;
        beside(noting(&queue, &log), sleep(4 * SECOND)).await;
    };
    tokio::join!(first, second);
    let times: Vec<_> = log.lines().into_iter().map(|(at, ..)| at).collect();
    // Its next look is at three seconds.
    assert_eq!(times, [0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_due_later_makes_no_earlier_job_late() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log).register(|_: Job<Other>| async { Ok(()) });
    beside(worker, async {
        sleep(100 * MILLI).await;
        let crowd = (0..20_000).map(|n| queue.enqueue(Other(n)).after(9 * SECOND));
        queue.enqueue_all(crowd).await.expect("enqueued");
        queue
            .enqueue(Note(1))
            .after(SECOND)
            .await
            .expect("enqueued");
        sleep(8 * SECOND).await;
    })
    .await;
    assert_eq!(log.lines(), [(1100, 1, 1)]);
}

/// The worker looks when it starts, and 2.5 s later.
#[tokio::test(start_paused = true)]
async fn a_job_whose_claim_fails_once_starts_a_moment_later() {
    let (memory, is_out) = (testkit::queue(), Arc::new(AtomicBool::new(false)));
    let failing = Wrapped::with_outages(memory.store(), &is_out);
    let (queue, log) = (Wrapped::deaf(failing.store()), Log::new());
    let job = queue.enqueue(Note(1)).after(SECOND);
    job.await.expect("enqueued");
    beside(noting(&queue, &log), async {
        sleep(SECOND - 10 * MILLI).await;
        is_out.store(true, Ordering::SeqCst);
        sleep(20 * MILLI).await;
        is_out.store(false, Ordering::SeqCst);
        sleep(9 * SECOND).await;
    })
    .await;
    let started = log.lines()[0].0;
    assert!((1100..1300).contains(&started), "at {started} ms");
}

/// As if another program had locked the row of the schedule, or of the worker, and does not let it go.
#[tokio::test(start_paused = true)]
async fn jobs_start_in_time_though_other_calls_of_the_worker_get_no_answer() {
    for stuck in ["fill_slot", "beat"] {
        let memory = testkit::queue();
        let slow = Wrapped::queue(memory.store(), move |when, call| {
            let is_stuck = when == When::After && call == stuck;
            if is_stuck {
                60 * SECOND
            } else {
                Duration::ZERO
            }
        });
        let (queue, log) = (Wrapped::deaf(slow.store()), Log::new());
        let worker = noting(&queue, &log).register(|_: Job<Other>| async { Ok(()) });
        let worker = worker.every("often", 3600 * SECOND, &Other(1));
        for note in 1..20 {
            let job = memory.enqueue(Note(note)).after(5 * note * SECOND);
            job.await.expect("enqueued");
        }
        beside(worker, sleep(100 * SECOND)).await;
        let late: Vec<_> = (1..)
            .zip(log.lines())
            .map(|(n, line)| line.0 - 5000 * n)
            .collect();
        assert_eq!(late, [0; 19], "{stuck}");
    }
}

/// One look finds ten thousand jobs, so the next one comes before the last of them is due.
#[tokio::test(start_paused = true)]
async fn a_job_after_more_than_one_look_finds_starts_in_time() {
    let memory = testkit::queue();
    let (queue, log) = (Wrapped::deaf(memory.store()), Log::new());
    let crowd = (0..10_000).map(|n| memory.enqueue(Other(n)).after(SECOND));
    memory.enqueue_all(crowd).await.expect("enqueued");
    let job = memory.enqueue(Note(1)).after(1500 * MILLI);
    job.await.expect("enqueued");
    let worker = noting(&queue, &log).register(|_: Job<Other>| async { Ok(()) });
    beside(worker, sleep(9 * SECOND)).await;
    assert_eq!(log.lines(), [(1500, 1, 1)]);
}

/// While there is a backlog, a claim begins where the last one has ended. The other program tells the worker nothing, and
/// the next look comes after 2.5 s.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_due_before_a_backlog_starts_when_that_is_over() {
    let memory = testkit::queue();
    let (queue, log) = (Wrapped::deaf(memory.store()), Log::new());
    let begun = memory.store().clock().now();
    for note in 0..6 {
        sleep(MILLI).await;
        put(&memory, note).await;
    }
    let seen = log.clone();
    let worker = queue.worker().concurrency("default", 1);
    let worker = worker.register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(50 * MILLI).await;
            Ok(())
        }
    });
    beside(worker, async {
        sleep(220 * MILLI).await;
        memory.enqueue(Note(9)).at(begun).await.expect("enqueued");
        sleep(9 * SECOND).await;
    })
    .await;
    assert_eq!(log.lines().last(), Some(&(306, 9, 1)));
}

/// The worker of the testkit looks seldom, so only its heartbeats keep its leases.
#[tokio::test(start_paused = true)]
async fn a_worker_of_the_testkit_keeps_the_lease_of_a_long_run() {
    let (queue, log) = (testkit::queue(), Log::new());
    put(&queue, 1).await;
    let run = || {
        let seen = log.clone();
        let worker = queue.worker().register(move |job: Job<Note>| {
            seen.note(&job);
            async {
                sleep(300 * SECOND).await;
                Ok(())
            }
        });
        testkit::run_for(worker, 900 * SECOND)
    };
    // It looks when the lease of the first one would expire.
    let second = async {
        sleep(SECOND).await;
        run().await
    };
    let (first, second) = tokio::join!(run(), second);
    let done = [first, second].map(|ran| ran.expect("a run").done);
    assert_eq!((done, log.lines().len()), ([1, 0], 1), "{:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_takes_time_is_waited_for_within_the_grace() {
    let memory = testkit::queue();
    let queue = Wrapped::queue(memory.store(), |when, call| match (when, call) {
        (When::After, "finish") => 2 * SECOND,
        _ => Duration::ZERO,
    });
    put(&queue, 1).await;
    let worker = queue.worker().register(|job: Job<Note>| async move {
        job.token().cancelled().await;
        Ok(())
    });
    let summary = beside(worker, sleep(SECOND)).await;
    assert_eq!((summary.done, summary.released), (1, 0), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stood_still_keeps_its_own_jobs() {
    let (queue, log) = (testkit::queue(), Log::new());
    let seen = log.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(200 * SECOND).await;
            Ok(())
        }
    });
    let id = put(&queue, 1).await;
    beside(worker, async {
        for _ in 0..3 {
            sleep(1100 * MILLI).await;
            // A suspended machine, or a runtime that was blocked, for longer than a lease.
            advance(40 * SECOND).await;
            sleep(2 * SECOND).await;
        }
        sleep(400 * SECOND).await;
    })
    .await;
    let job = record(&queue, id).await;
    let seen = (job.state, job.crashes, log.lines().len());
    assert_eq!(
        seen,
        (State::Done, 0, 1),
        "{:?} {:?}",
        job.error,
        log.lines()
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_charged_to_suspects_and_they_run_alone() {
    let (queue, log) = (testkit::queue(), Log::new());
    for note in 0..7 {
        put(&queue, note).await;
    }
    // Note 0 is the one that kills: whenever it runs, its worker is gone 100 ms later.
    for _ in 0..40 {
        let seen = log.clone();
        let killer = CancellationToken::new();
        let bang = killer.clone();
        let worker = queue
            .worker()
            .lease(SECOND)
            .register(move |job: Job<Note>| {
                seen.note(&job);
                let bang = bang.clone();
                async move {
                    if job.payload.0 == 0 {
                        sleep(100 * MILLI).await;
                        bang.cancel();
                        std::future::pending::<()>().await;
                    }
                    sleep(400 * MILLI).await;
                    Ok(())
                }
            });
        tokio::select! {
            ended = worker.run(CancellationToken::new()) => panic!("{ended:?}"),
            () = killer.cancelled() => {}
            () = sleep(60 * SECOND) => {}
        }
        if queue.counts().await.expect("counts").unfinished() == 0 {
            break;
        }
    }
    let counts = queue.counts().await.expect("counts");
    assert_eq!(
        (counts.done, counts.dead),
        (6, 1),
        "{counts:?} {:?}",
        log.lines()
    );
}

/// Enqueues jobs that ran when two workers were lost.
async fn suspects(queue: &Queue, notes: std::ops::Range<u32>) -> Vec<JobId> {
    let mut ids = Vec::new();
    for note in notes {
        ids.push(put(queue, note).await);
    }
    for _ in 0..2 {
        // Its worker is lost long before it ends.
        let worker = queue.worker().lease(SECOND);
        let worker = worker.register(|_: Job<Note>| std::future::pending());
        let run = worker.run(CancellationToken::new());
        let lost = timeout(4 * SECOND, run).await;
        assert!(lost.is_err(), "{lost:?}");
    }
    sleep(2 * SECOND).await;
    let now = queue.store().clock().now();
    queue.store().reclaim(now, 9).await.expect("an answer");
    for id in &ids {
        let job = record(queue, *id).await;
        assert_eq!((job.state, job.crashes), (State::Pending, 2));
    }
    ids
}

/// The worker of the testkit looks when it starts, and then once a day. It is told of no change.
#[tokio::test(start_paused = true)]
async fn a_suspect_starts_when_it_is_due_and_others_when_it_has_ended() {
    let memory = testkit::queue();
    let ids = suspects(&memory, 1..3).await;
    let due = record(&memory, ids[0]).await.run_at;
    assert!(due > memory.store().clock().now());
    let other = memory.enqueue(Other(1)).queue("other");
    let other = other.after(30 * SECOND).await.expect("enqueued").id();
    let queue = Wrapped::deaf(memory.store());
    let worker = queue.worker().register(|_: Job<Note>| async {
        sleep(60 * SECOND).await;
        Ok(())
    });
    let worker = worker.register(|_: Job<Other>| async { Ok(()) });
    let worker = worker.concurrency("other", 1);
    let summary = testkit::run_for(worker, 300 * SECOND).await;
    assert_eq!(summary.expect("a run").done, 3);
    let mut starts = Vec::new();
    for id in [ids[0], other, ids[1]] {
        let started = record(&memory, id).await.started_at.expect("it ran");
        starts.push(started.since(due).as_secs());
    }
    // Others have as much time as the first one took.
    assert_eq!(starts, [0, 60, 120]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_waits_for_the_jobs_of_a_claim_that_is_under_way() {
    let memory = testkit::queue();
    let suspect = suspects(&memory, 1..2).await[0];
    sleep(2 * SECOND).await;
    let other = memory.enqueue(Other(1)).await.expect("enqueued").id();
    let queue = Wrapped::queue(memory.store(), |when, call| match (when, call) {
        (When::After, "claim") => SECOND,
        _ => Duration::ZERO,
    });
    let worker = noting(&queue, &Log::new()).register(|_: Job<Other>| async {
        sleep(60 * SECOND).await;
        Ok(())
    });
    beside(worker, sleep(120 * SECOND)).await;
    let [suspect, other] = [record(&memory, suspect).await, record(&memory, other).await];
    let (started, ended) = (suspect.started_at, other.finished_at);
    assert!(
        ended.is_some() && started >= ended,
        "{started:?}, {ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_never_idle_pauses_for_a_suspect_after_five_minutes() {
    let queue = testkit::queue();
    let suspect = suspects(&queue, 1..2).await[0];
    let begun = queue.store().clock().now();
    // Two of them run at any time.
    let jobs = (0..240).map(|n| queue.enqueue(Other(n)).after(n * 5 * SECOND));
    queue.enqueue_all(jobs).await.expect("enqueued");
    let worker = noting(&queue, &Log::new()).register(|_: Job<Other>| async {
        sleep(10 * SECOND).await;
        Ok(())
    });
    beside(worker, sleep(600 * SECOND)).await;
    let started = record(&queue, suspect).await.started_at.expect("it ran");
    let waited = started.since(begun);
    assert!((300 * SECOND..330 * SECOND).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspect_makes_others_late_seldom() {
    let queue = testkit::queue();
    let id = suspects(&queue, 1..2).await[0];
    let worker = queue.worker().register(|_: Job<Note>| async { Ok(()) });
    let worker = worker.register(|_: Job<Other>| async {
        sleep(60 * SECOND).await;
        Ok(())
    });
    let hours = 6;
    queue.pause("default").await.expect("paused");
    beside(worker.concurrency("busy", 9), async {
        // Three of them run at any time, so the worker is never idle.
        let jobs = (0..hours * 180).map(|n| queue.enqueue(Other(n)).after(n * 20 * SECOND));
        let jobs = jobs.map(|job| job.queue("busy"));
        queue.enqueue_all(jobs).await.expect("enqueued");
        sleep(SECOND).await;
        queue.resume("default").await.expect("resumed");
        sleep(hours * 3600 * SECOND).await;
        let waits = record(&queue, id).await;
        assert_eq!((waits.state, waits.crashes), (State::Pending, 2));
        sleep(7200 * SECOND).await;
        assert_eq!(record(&queue, id).await.state, State::Done);
    })
    .await;
    let all = Filter {
        kind: Some("other".to_owned()),
        limit: usize::MAX,
        ..Filter::default()
    };
    let all = queue.list(all).await.expect("a list");
    let late = |job: &&Record| {
        let started = job.started_at.expect("it ran");
        started.since(job.run_at) > SECOND
    };
    let late = all.iter().filter(late).count();
    assert!(late * 50 < all.len(), "{late} of {} were late", all.len());
}

#[tokio::test(start_paused = true)]
async fn suspects_leave_others_half_of_the_time() {
    let (queue, log) = (testkit::queue(), Log::new());
    suspects(&queue, 0..3).await;
    let seen = log.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(600 * SECOND).await;
            Ok(())
        }
    });
    let worker = worker.register(|_: Job<Other>| async { Ok(()) });
    beside(worker, async {
        let jobs = (0..3600).map(|n| queue.enqueue(Other(n)).after(n * SECOND));
        queue.enqueue_all(jobs).await.expect("enqueued");
        sleep(3700 * SECOND).await;
    })
    .await;
    assert_eq!(log.lines().len(), 3, "all of them ran");
    let all = Filter {
        kind: Some("other".to_owned()),
        limit: usize::MAX,
        ..Filter::default()
    };
    let all = queue.list(all).await.expect("a list");
    let started = |job: &Record| job.started_at.expect("it ran").since(job.run_at);
    let on_time = all.iter().filter(|job| started(job) < SECOND).count();
    assert!(on_time >= all.len() / 2 - 5, "{on_time} of {}", all.len());
    let worst = all.iter().map(started).max().expect("a job");
    assert!(worst <= 601 * SECOND, "late by {worst:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_hangs_stops_its_worker_for_a_while_only() {
    let queue = testkit::queue();
    let id = suspects(&queue, 1..2).await[0];
    for (lost_after, others_wait, state) in [
        (1000, Some(300), State::Pending),
        (1500, Some(600), State::Pending),
        // Within the 1,200 s that it has for itself by now.
        (1100, None, State::Dead),
    ] {
        let worker = queue
            .worker()
            .register(|_: Job<Note>| std::future::pending());
        let worker = worker.register(|_: Job<Other>| async { Ok(()) });
        let run = worker.run(CancellationToken::new());
        let meanwhile = async {
            while record(&queue, id).await.state != State::Running {
                sleep(SECOND).await;
            }
            let other = queue.enqueue(Other(1)).await.expect("enqueued").id();
            sleep((lost_after - 60) * SECOND).await;
            let (other, job) = (record(&queue, other).await, record(&queue, id).await);
            let since = job.started_at.expect("it runs");
            let waited = other.started_at.map(|at| at.since(since).as_secs());
            assert_eq!((waited, job.state), (others_wait, State::Running));
            let _ = queue.cancel(other.id).await;
            std::future::pending::<()>().await;
        };
        let lost = timeout(lost_after * SECOND, async { tokio::join!(run, meanwhile) });
        assert!(lost.await.is_err(), "its worker was to be lost");
        sleep(40 * SECOND).await;
        let now = queue.store().clock().now();
        queue.store().reclaim(now, 3).await.expect("an answer");
        assert_eq!(record(&queue, id).await.state, state);
    }
}

/// If a suspect that cannot be claimed were asked for again and again, the paused clock would never go on. So the test
/// has a thread of its own, and this one does not wait for ever.
#[test]
fn a_suspect_that_may_not_run_yet_is_asked_for_now_and_then() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (queue, log) = (testkit::queue(), Log::new());
            let id = suspects(&queue, 1..2).await[0];
            // Another worker has the only job that may run.
            let limit = Limit::default().at_once(1);
            put(&queue, 2).await;
            let claim = Claim {
                worker: "another".to_owned(),
                queue: "default".to_owned(),
                limit: 1,
                now: queue.store().clock().now(),
                lease_until: Micros::NEVER,
                kinds: vec!["note".to_owned()],
                from: [Micros::EARLIEST; 3],
                suspects: Suspects::Without(1),
                limited: true,
                ageing: None,
            };
            let claimed = queue.store().claim(claim).await.expect("claimed").jobs;
            queue.limit("default", limit).await.expect("limited");
            beside(noting(&queue, &log), async {
                sleep(60 * SECOND).await;
                assert_eq!(record(&queue, id).await.state, State::Pending);
                let ended = Ended {
                    lease: claimed[0].lease,
                    at: queue.store().clock().now(),
                    verdict: Verdict::Done { output: None },
                    relaxed: false,
                };
                assert!(queue.store().finish(ended).await.expect("an answer"));
                sleep(10 * SECOND).await;
                assert_eq!(record(&queue, id).await.state, State::Done);
            })
            .await;
        });
        done.send(()).expect("it is waited for");
    });
    let waited = is_done.recv_timeout(20 * SECOND);
    assert!(waited.is_ok(), "the worker asks without a pause, or failed");
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_an_end_lets_jobs_end() {
    let (queue, log) = (testkit::queue(), Log::new());
    let id = put(&queue, 1).await;
    let worker = noting(&queue, &log).lease(Duration::MAX);
    beside(worker, sleep(600 * SECOND)).await;
    assert_eq!(record(&queue, id).await.state, State::Done);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_though_a_queue_is_paused_or_has_no_worker() {
    let (queue, log) = (testkit::queue(), Log::new());
    put(&queue, 1).await;
    queue
        .enqueue(Note(2))
        .queue("nobody's")
        .await
        .expect("enqueued");
    queue.pause("default").await.expect("paused");
    let drained = testkit::drain(noting(&queue, &log));
    let ended = timeout(30 * 86_400 * SECOND, drained).await;
    assert!(ended.is_ok(), "30 days later it still waits");
    assert_eq!(log.lines(), []);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_when_its_queue_is_paused() {
    let (queue, log) = (testkit::queue(), Log::new());
    let job = queue.enqueue(Note(1)).after(60 * SECOND);
    job.await.expect("enqueued");
    let drained = testkit::drain(noting(&queue, &log));
    let drained = timeout(30 * 86_400 * SECOND, drained);
    let pause = async {
        sleep(SECOND).await;
        queue.pause("default").await.expect("paused");
    };
    let (ended, ()) = tokio::join!(drained, pause);
    assert!(ended.is_ok(), "30 days later it still waits");
    assert_eq!(log.lines(), []);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_when_the_last_job_is_taken_back_and_cancelled() {
    let (queue, log) = (testkit::queue(), Log::new());
    let id = put(&queue, 1).await;
    let worker = queue.worker().lease(60 * SECOND);
    let worker = worker.register(|_: Job<Note>| std::future::pending());
    let lost = timeout(SECOND, worker.run(CancellationToken::new())).await;
    assert!(lost.is_err(), "{lost:?}");
    queue.cancel(id).await.expect("it is to be cancelled");
    let drained = testkit::drain(noting(&queue, &log));
    let ended = timeout(30 * 86_400 * SECOND, drained).await;
    assert!(ended.is_ok(), "30 days later it still waits");
    assert_eq!(record(&queue, id).await.state, State::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_job_after_one_that_is_deleted_is_due_by_the_testkits_clock() {
    let queue = testkit::queue();
    let first = put(&queue, 1).await;
    let job = queue.enqueue(Note(2)).after_ended([first]);
    let freed = job.await.expect("enqueued").id();
    let job = queue.enqueue(Note(3)).after_done([first]);
    let cancelled = job.await.expect("enqueued").id();
    advance(86_400 * SECOND).await;
    let this = Filter {
        id: Some(first),
        ..Filter::default()
    };
    queue.change(Change::Delete, this).await.expect("deleted");
    let now = queue.store().clock().now();
    let recent = now.before(MILLI)..=now;
    let due = record(&queue, freed).await.run_at;
    assert!(recent.contains(&due), "{due} at {now}");
    let ended = record(&queue, cancelled).await.finished_at;
    assert!(ended.is_some_and(|at| recent.contains(&at)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn drain_ends_though_a_job_comes_after_one_that_has_no_worker() {
    let (queue, log) = (testkit::queue(), Log::new());
    let others = queue.enqueue(Other(1)).await.expect("enqueued").id();
    let first = put(&queue, 1).await;
    for (note, after) in [(2, first), (3, others)] {
        let job = queue.enqueue(Note(note)).after_done([after]);
        job.await.expect("enqueued");
    }
    let drained = testkit::drain(noting(&queue, &log));
    let ended = timeout(30 * 86_400 * SECOND, drained).await;
    assert!(ended.is_ok(), "30 days later it still waits");
    assert_eq!(log.notes(), [1, 2]);
}

/// Otherwise a test that lets years pass would take minutes.
#[tokio::test(start_paused = true)]
async fn a_worker_of_the_testkit_does_little_while_nothing_is_due() {
    let memory = testkit::queue();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let queue = Wrapped::queue(memory.store(), move |when, _| {
        count.fetch_add(usize::from(when == When::Before), Ordering::SeqCst);
        Duration::ZERO
    });
    let days = 30;
    let job = queue.enqueue(Note(1)).after(days * 86_400 * SECOND);
    job.await.expect("enqueued");
    let summary = testkit::drain(noting(&queue, &Log::new())).await;
    assert_eq!(summary.expect("drained").done, 1);
    let calls = calls.load(Ordering::SeqCst);
    // A hundred times a day it deletes old jobs, of two states.
    assert!(calls < 250 * days as usize, "{calls} in {days} days");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_with_its_job_is_not_lost() {
    let memory = testkit::queue();
    // A job is done in the store for some seconds before its worker knows, and leases are renewed meanwhile.
    let queue = Wrapped::queue(memory.store(), |when, call| match (when, call) {
        (When::After, "finish") => 5 * SECOND,
        _ => Duration::ZERO,
    });
    let id = put(&queue, 1).await;
    let worker = queue.worker().lease(12 * SECOND);
    let worker = worker.register(|_: Job<Note>| async {
        sleep(SECOND).await;
        Ok(())
    });
    let summary = beside(worker, sleep(60 * SECOND)).await;
    assert_eq!(record(&queue, id).await.state, State::Done);
    assert_eq!((summary.done, summary.lost), (1, 0), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_too_if_that_is_known_only_at_the_end_of_its_job() {
    let memory = testkit::queue();
    let queue = Wrapped::refusing(memory.store(), "renew");
    put(&queue, 1).await;
    let slow = |queue: &Queue| {
        let worker = queue.worker().lease(12 * SECOND);
        worker.register(|_: Job<Note>| async {
            sleep(40 * SECOND).await;
            Ok(())
        })
    };
    let first = beside(slow(&queue), sleep(60 * SECOND));
    let second = async {
        sleep(SECOND).await;
        beside(slow(&memory), sleep(90 * SECOND)).await
    };
    let (first, second) = tokio::join!(first, second);
    let counted = [first, second].map(|of| (of.started, of.done, of.lost));
    assert_eq!(counted, [(1, 0, 1), (1, 1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_in_an_outage_longer_than_its_lease_does_not_run_again() {
    for (lease, outage) in [(30, 100), (8, 12), (4, 6), (2, 4), (1, 3), (1, 60)] {
        let (memory, is_out) = (testkit::queue(), Arc::new(AtomicBool::new(false)));
        let queue = Wrapped::with_outages(memory.store(), &is_out);
        let (id, log) = (put(&queue, 1).await, Log::new());
        let seen = log.clone();
        let worker = queue.worker().lease(lease * SECOND);
        let worker = worker.register(move |job: Job<Note>| {
            seen.note(&job);
            async {
                sleep(3 * SECOND).await;
                Ok(())
            }
        });
        let summary = beside(worker, async {
            sleep(3 * SECOND - 10 * MILLI).await;
            is_out.store(true, Ordering::SeqCst);
            sleep(outage * SECOND).await;
            is_out.store(false, Ordering::SeqCst);
            sleep(100 * SECOND).await;
        })
        .await;
        let job = record(&queue, id).await;
        let seen = (job.state, job.crashes, log.lines().len(), summary.done);
        let expected = (State::Done, 0, 1, 1);
        assert_eq!(
            seen, expected,
            "lease {lease} s, out for {outage} s: {job:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_running_job_is_believed_lost_after_an_outage_longer_than_its_lease() {
    let (memory, is_out) = (testkit::queue(), Arc::new(AtomicBool::new(false)));
    let queue = Wrapped::with_outages(memory.store(), &is_out);
    let log = Log::new();
    for note in 0..3 {
        put(&queue, note).await;
    }
    // The worker of one job dies in the outage.
    let [first, second, third] = [1, 2, 3].map(|_| {
        let seen = log.clone();
        let handler = move |job: Job<Note>| {
            seen.note(&job);
            async {
                sleep(200 * SECOND).await;
                Ok(())
            }
        };
        spawn(queue.worker().concurrency("default", 1).register(handler))
    });
    sleep(2 * SECOND).await;
    assert_eq!(log.lines().len(), 3);
    is_out.store(true, Ordering::SeqCst);
    third.task.abort();
    sleep(100 * SECOND).await;
    is_out.store(false, Ordering::SeqCst);
    sleep(400 * SECOND).await;
    first.end().await;
    second.end().await;
    let all = queue.list(Filter::default()).await.expect("a list");
    let mut crashes: Vec<_> = all.iter().map(|job| (job.state, job.crashes)).collect();
    crashes.sort();
    let done = |crashes| (State::Done, crashes);
    assert_eq!(crashes, [done(0), done(0), done(1)], "{:?}", log.lines());
    assert_eq!(log.lines().len(), 4, "{:?}", log.lines());
}

/// The store does not answer for three quarters of a lease. Then the worker without a job asks it at once, and the other
/// one still waits for the answer to a question of before.
#[tokio::test(start_paused = true)]
async fn no_running_job_is_believed_lost_after_half_a_lease_without_answers() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let queue = Wrapped::with_silences(testkit::queue().store(), &is_silent);
    let (id, log) = (put(&queue, 1).await, Log::new());
    let worker = || {
        let seen = log.clone();
        queue.worker().register(move |job: Job<Note>| {
            seen.note(&job);
            async {
                sleep(100 * SECOND).await;
                Ok(())
            }
        })
    };
    let first = spawn(worker());
    sleep(1400 * MILLI).await;
    let second = spawn(worker());
    sleep(7600 * MILLI).await;
    is_silent.store(true, Ordering::SeqCst);
    sleep(22_500 * MILLI).await;
    is_silent.store(false, Ordering::SeqCst);
    sleep(100 * SECOND).await;
    first.end().await;
    second.end().await;
    let job = record(&queue, id).await;
    let seen = (job.state, job.crashes, log.lines().len());
    assert_eq!(seen, (State::Done, 0, 1), "{:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_worker_seldom_asks_a_store_that_fails_although_others_change_it() {
    let (memory, is_out) = (testkit::queue(), Arc::new(AtomicBool::new(false)));
    let failing = Wrapped::with_outages(memory.store(), &is_out);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let queue = Wrapped::queue(failing.store(), move |when, _| {
        count.fetch_add(usize::from(when == When::Before), Ordering::SeqCst);
        Duration::ZERO
    });
    beside(noting(&queue, &Log::new()), async {
        sleep(SECOND).await;
        is_out.store(true, Ordering::SeqCst);
        calls.store(0, Ordering::SeqCst);
        for note in 0..600 {
            put(&memory, note).await;
            sleep(100 * MILLI).await;
        }
        // A claim and a look, some 250 ms later the next ones, and then every five seconds.
        let calls = calls.load(Ordering::SeqCst);
        assert!(calls < 60, "{calls} calls in a minute");
        is_out.store(false, Ordering::SeqCst);
        sleep(10 * SECOND).await;
        assert_eq!(memory.counts().await.expect("counts").done, 600);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ends_that_cannot_be_written_make_no_job_late() {
    let (memory, log) = (testkit::queue(), Log::new());
    let queue = Wrapped::refusing(memory.store(), "finish");
    for note in 0..20 {
        let job = queue.enqueue(Note(note)).after(note * SECOND);
        job.await.expect("enqueued");
    }
    let worker = spawn(noting(&queue, &log).concurrency("default", 30));
    sleep(20 * SECOND).await;
    let late: Vec<_> = (0..20_u64)
        .zip(log.lines())
        .map(|(second, (at, ..))| at - 1000 * second)
        .collect();
    assert_eq!(late.len(), 20);
    assert!(late.iter().all(|late| *late <= 1), "{late:?} ms");
    worker.task.abort();
}

/// The store answers other calls, some of them seldom.
#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_written_keeps_its_slot_for_a_lease_or_ten_seconds() {
    for (lease, longest) in [(1, 10_000), (30, 30_000)] {
        let (memory, log) = (testkit::queue(), Log::new());
        let queue = Wrapped::refusing(memory.store(), "finish");
        for note in [1, 2] {
            put(&queue, note).await;
        }
        let seen = log.clone();
        let worker = queue.worker().register(move |job: Job<Note>| {
            seen.note(&job);
            async {
                sleep(50 * MILLI).await;
                Ok(())
            }
        });
        let worker = worker.concurrency("default", 1).lease(lease * SECOND);
        let worker = spawn(worker);
        sleep(60 * SECOND).await;
        worker.task.abort();
        let second = log.lines().into_iter().find(|line| line.1 == 2);
        let started = second.expect("it has started").0;
        // The first one has run for 50 ms, and each pause ends at a whole millisecond.
        assert!(
            (longest - 5000..=longest + 100).contains(&started),
            "at {started} ms with a lease of {lease} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_after_an_outage_takes_no_running_job_away() {
    let (memory, is_out) = (testkit::queue(), Arc::new(AtomicBool::new(false)));
    let queue = Wrapped::with_outages(memory.store(), &is_out);
    let log = Log::new();
    put(&queue, 1).await;
    let worker = || {
        let seen = log.clone();
        queue.worker().register(move |job: Job<Note>| {
            seen.note(&job);
            async {
                sleep(200 * SECOND).await;
                Ok(())
            }
        })
    };
    let first = spawn(worker());
    sleep(2 * SECOND).await;
    is_out.store(true, Ordering::SeqCst);
    sleep(100 * SECOND).await;
    is_out.store(false, Ordering::SeqCst);
    let second = spawn(worker());
    sleep(200 * SECOND).await;
    first.end().await;
    second.end().await;
    assert_eq!(log.notes(), [1]);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_claim_without_an_answer_are_given_back() {
    let memory = testkit::queue();
    let claims = AtomicUsize::new(0);
    // The first claim leases the job, and its answer comes too late.
    let queue = Wrapped::queue(memory.store(), move |when, call| match (when, call) {
        (When::After, "claim") if claims.fetch_add(1, Ordering::SeqCst) == 0 => 60 * SECOND,
        _ => Duration::ZERO,
    });
    let log = Log::new();
    let id = put(&queue, 1).await;
    beside(noting(&queue, &log), sleep(25 * SECOND)).await;
    // Long before the lease of 30 s expires.
    let job = record(&queue, id).await;
    let seen = (job.state, job.attempt, job.crashes, log.lines().len());
    assert_eq!(seen, (State::Done, 1, 0, 1), "{job:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_enqueued_is_no_error_though_its_time_cannot_be_read() {
    let memory = testkit::queue();
    let queue = Wrapped::broken(memory.store(), "get");
    let debounced = Unique::key("k")
        .or(OnDuplicate::Replace)
        .max_wait(60 * SECOND);
    for _ in 0..2 {
        let job = queue.enqueue(Note(1)).after(5 * SECOND);
        let enqueued = job.unique(debounced.clone()).await;
        assert!(enqueued.is_ok(), "{enqueued:?}");
    }
    let log = Log::new();
    beside(noting(&queue, &log), sleep(30 * SECOND)).await;
    assert_eq!(log.notes(), [1]);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_though_the_store_fails() {
    let memory = testkit::queue();
    let log = Log::new();
    for broken in ["queues", "set_clock"] {
        let queue = Wrapped::broken(memory.store(), broken);
        put(&queue, 1).await;
        let worker = noting(&queue, &log);
        let ended = timeout(3600 * SECOND, testkit::drain(worker)).await;
        assert!(matches!(ended, Ok(Err(_))), "{broken}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn drain_runs_what_a_job_of_another_kind_enqueues_while_it_looks() {
    // It takes four seconds to look for jobs in one state.
    let queue = Wrapped::queue(testkit::queue().store(), |when, call| {
        match when == When::After && call == "list" {
            true => 4 * SECOND,
            false => Duration::ZERO,
        }
    });
    // The look at 1000 s asks for notes until 1008 s, and then for the others.
    let there = queue.clone();
    let worker = noting(&queue, &Log::new()).register(move |_: Job<Other>| {
        let there = there.clone();
        async move {
            sleep(1010 * SECOND).await;
            there.enqueue(Note(1)).after(3600 * SECOND).await?;
            Ok(())
        }
    });
    queue.enqueue(Other(1)).await.expect("enqueued");
    let change = async {
        sleep(1000 * SECOND).await;
        queue.pause("nobody's").await.expect("paused");
    };
    let (drained, ()) = tokio::join!(testkit::drain(worker), change);
    assert_eq!(drained.expect("drained").done, 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_for_some_time_ends_at_once_if_the_worker_cannot_begin() {
    let queue = Wrapped::broken(testkit::queue().store(), "set_clock");
    let begun = tokio::time::Instant::now();
    let ran = testkit::run_for(noting(&queue, &Log::new()), 3600 * SECOND).await;
    assert!(ran.is_err(), "{ran:?}");
    assert!(begun.elapsed() < SECOND, "after {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_begin_ends_by_its_token() {
    let memory = testkit::queue();
    for slow in ["set_clock", "declare"] {
        let queue = Wrapped::queue(memory.store(), move |when, call| {
            let is_slow = when == When::After && call == slow;
            if is_slow {
                3600 * SECOND
            } else {
                Duration::ZERO
            }
        });
        let worker = noting(&queue, &Log::new()).every("rare", 3600 * SECOND, &Note(1));
        let shutdown = CancellationToken::new();
        let begun = tokio::time::Instant::now();
        let (ended, ()) = tokio::join!(worker.run(shutdown.clone()), async {
            sleep(SECOND).await;
            shutdown.cancel();
        });
        assert_eq!(ended.expect("a run").started, 0);
        let took = begun.elapsed();
        assert!(took < 4 * SECOND, "{slow}: the end took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_is_being_claimed_is_not_given_back() {
    let memory = testkit::queue();
    suspects(&memory, 1..2).await;
    let claims = AtomicUsize::new(0);
    // The first claim gets no answer, so leases are looked for that the worker does not know. The claim of the suspect
    // is answered in the end, but not before that.
    let queue = Wrapped::queue(memory.store(), move |when, call| match (when, call) {
        (When::After, "claim") => match claims.fetch_add(1, Ordering::SeqCst) {
            0 => 60 * SECOND,
            _ => 6 * SECOND,
        },
        _ => Duration::ZERO,
    });
    let log = Log::new();
    beside(noting(&queue, &log), sleep(120 * SECOND)).await;
    assert_eq!(log.notes(), [1], "{:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_came_late_is_counted_as_what_it_is() {
    for seconds in [60, 1] {
        let memory = testkit::queue();
        let ends = AtomicUsize::new(0);
        let late = Wrapped::queue(memory.store(), move |when, call| match (when, call) {
            (When::After, "finish") if ends.fetch_add(1, Ordering::SeqCst) == 0 => 60 * SECOND,
            _ => Duration::ZERO,
        });
        let id = put(&late, 1).await;
        let worker = noting(&late, &Log::new()).grace(SECOND);
        let summary = beside(worker, sleep(seconds * SECOND)).await;
        assert_eq!(record(&memory, id).await.state, State::Done);
        // At the shutdown it is not known what became of it.
        let seen = (summary.done, summary.released);
        let known = u64::from(seconds == 60);
        assert_eq!(seen, (known, 0), "after {seconds} s: {summary:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_job_of_a_claim_without_an_answer_is_given_back_though_the_first_is_not() {
    let memory = testkit::queue();
    let (claims, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let queue = Wrapped::queue(memory.store(), move |when, call| {
        let first = |calls: &AtomicUsize| calls.fetch_add(1, Ordering::SeqCst) == 0;
        let is_late = match (when, call) {
            (When::After, "claim") => first(&claims),
            (When::After, "finish") => first(&ends),
            _ => false,
        };
        if is_late { 60 * SECOND } else { Duration::ZERO }
    });
    let ids = [put(&queue, 1).await, put(&queue, 2).await];
    let log = Log::new();
    beside(noting(&queue, &log), sleep(90 * SECOND)).await;
    for id in ids {
        let job = record(&memory, id).await;
        assert_eq!((job.state, job.crashes), (State::Done, 0), "{job:?}");
    }
    assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_claim_without_an_answer_are_given_back_at_the_shutdown() {
    let memory = testkit::queue();
    let queue = Wrapped::queue(memory.store(), |when, call| match (when, call) {
        (When::After, "claim") => 60 * SECOND,
        _ => Duration::ZERO,
    });
    let id = put(&queue, 1).await;
    // Calls have a timeout of 6.5 s here, and the next look would come at 7.5 s. The second worker ends before that.
    for (after, grace) in [(7 * SECOND, SECOND), (SECOND, 100 * MILLI)] {
        let worker = noting(&queue, &Log::new()).lease(13 * SECOND);
        beside(worker.grace(grace), sleep(after)).await;
        let job = record(&memory, id).await;
        let seen = (job.state, job.attempt, job.crashes);
        assert_eq!(seen, (State::Pending, 0, 0), "after {after:?}: {job:?}");
    }
}
