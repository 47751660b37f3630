//! On a paused clock: schedules.

use std::sync::atomic::{AtomicUsize, Ordering};

use delayed_jobs::{Every, Filter, MissedRuns, Recurring, State, testkit};
use tokio::time::sleep;

use super::wrapped::{When, Wrapped};
use super::*;

#[tokio::test(start_paused = true)]
async fn after_a_gap_one_run_makes_up_for_the_missed_ones() {
    let mut counts = Vec::new();
    for period in [1000, 100, 10] {
        let (queue, log) = (testkit::queue(), Log::new());
        let worker = || {
            let worker = noting(&queue, &log).every("tick", period * MILLI, &Note(7));
            worker.concurrency("default", 10_000)
        };
        testkit::run_for(worker(), 5 * SECOND).await.expect("a run");
        sleep(600 * SECOND).await;
        let worker = worker();
        let metrics = worker.metrics();
        testkit::run_for(worker, 5 * MILLI).await.expect("a run");
        counts.push((period, metrics.snapshot().overdue));
    }
    assert!(
        counts.iter().all(|(_, runs)| *runs <= 1),
        "(period in ms, runs at once): {counts:?}"
    );
}

/// Sleeps until ten seconds after the next time that is a multiple of a hundred seconds.
async fn ten_seconds_after_a_hundred(queue: &Queue) {
    let now = queue.store().clock().now().0;
    let until_next = 100_000_000 - now.rem_euclid(100_000_000);
    sleep(Duration::from_micros(until_next as u64) + 10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_no_more_than_the_last_runs_that_were_missed_are_made_up_for() {
    for most in [0, 1, 3, 10] {
        let (queue, log) = (testkit::queue(), Log::new());
        let worker = || {
            let rule = Recurring::default().missed(MissedRuns::Last(most));
            noting(&queue, &log).every_with(rule, "tick", 100 * SECOND, &Note(7))
        };
        ten_seconds_after_a_hundred(&queue).await;
        // It enqueues the run at 100 s, which is missed, as are the four after it.
        testkit::run_for(worker(), 30 * SECOND)
            .await
            .expect("a run");
        sleep(510 * SECOND).await;
        testkit::run_for(worker(), 20 * SECOND)
            .await
            .expect("a run");
        assert_eq!(log.lines().len() as u32, most.min(5), "of the last {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missed_run_that_is_to_be_skipped_runs_only_if_the_next_one_is_not_due() {
    for (gap, runs) in [(100, 1), (200, 0), (500, 0)] {
        let (queue, log) = (testkit::queue(), Log::new());
        let worker = || {
            let rule = Recurring::default().missed(MissedRuns::Skip);
            noting(&queue, &log).every_with(rule, "tick", 100 * SECOND, &Note(7))
        };
        ten_seconds_after_a_hundred(&queue).await;
        testkit::run_for(worker(), 30 * SECOND)
            .await
            .expect("a run");
        sleep(gap * SECOND).await;
        testkit::run_for(worker(), 20 * SECOND)
            .await
            .expect("a run");
        assert_eq!(log.lines().len(), runs, "after {gap} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_does_not_collect_the_runs_of_a_schedule() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log).every("tick", 10 * SECOND, &Note(7));
    let mut at_once = 0;
    beside(worker, async {
        sleep(15 * SECOND).await;
        queue.pause("default").await.expect("paused");
        sleep(3600 * SECOND).await;
        let before = log.lines().len();
        queue.resume("default").await.expect("resumed");
        sleep(100 * MILLI).await;
        at_once = log.lines().len() - before;
        sleep(60 * SECOND).await;
    })
    .await;
    assert!(at_once <= 1, "{at_once} runs at once");
    let after = log.lines().iter().filter(|line| line.0 > 3_616_000).count();
    assert!(
        (5..=7).contains(&after),
        "{after} runs in the minute after that"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_cancelled_does_not_come_back() {
    let queue = testkit::queue();
    let week = 7 * 86_400 * SECOND;
    let worker = || {
        let worker = queue.worker().retention(3600 * SECOND);
        let worker = worker.every("weekly", week, &Note(1));
        worker.register(|_: Job<Note>| async { Ok(()) })
    };
    let pending = async || {
        let jobs = queue.list(Filter::default()).await.expect("a list");
        jobs.into_iter()
            .filter(|job| job.state == State::Pending)
            .collect::<Vec<_>>()
    };
    beside(worker(), sleep(5 * SECOND)).await;
    let mut next = pending().await;
    let left = next[0].run_at.since(queue.store().clock().now());
    if left < 3 * 86_400 * SECOND {
        // Near the end of a week: take the one after it.
        sleep(left).await;
        beside(worker(), sleep(5 * SECOND)).await;
        next = pending().await;
    }
    assert_eq!(
        queue.cancel(next[0].id).await.expect("granted"),
        State::Cancelled
    );
    // It is forgotten an hour after it ended, and the program is started anew.
    beside(worker(), sleep(2 * 3600 * SECOND)).await;
    let known = queue.job(next[0].id).await.expect("an answer");
    assert!(known.is_none(), "{known:?}");
    beside(worker(), sleep(5 * SECOND)).await;
    let again = pending().await;
    assert!(
        again.iter().all(|job| job.run_at != next[0].run_at),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_still_going_is_not_joined_by_the_next() {
    let (queue, log) = (testkit::queue(), Log::new());
    let seen = log.clone();
    let worker = queue.worker().every("tick", 10 * SECOND, &Note(7));
    let worker = worker.register(move |job: Job<Note>| {
        seen.note(&job);
        async {
            sleep(35 * SECOND).await;
            Ok(())
        }
    });
    beside(worker, sleep(200 * SECOND)).await;
    let lines = log.lines();
    for pair in lines.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 35_000, "two at once: {lines:?}");
    }
    assert!(lines.len() >= 4, "{lines:?}");
}

#[derive(Serialize, Deserialize)]
struct Elsewhere;

impl Payload for Elsewhere {
    const KIND: &'static str = "elsewhere";
    const QUEUE: &'static str = "elsewhere";
}

/// So it is in a SQLite file: a program is told only of the changes by others. By itself a worker looks for the next runs
/// once a second at most.
#[tokio::test(start_paused = true)]
async fn the_end_of_each_run_lets_the_next_one_start_in_time() {
    let queue = Wrapped::deaf(testkit::queue().store());
    let run = || async {
        sleep(100 * MILLI).await;
        Ok(())
    };
    let worker = queue.worker().register(move |_: Job<Note>| run());
    let worker = worker.register(move |_: Job<Elsewhere>| run());
    let worker = worker.every("here", 600 * MILLI, &Note(1));
    let worker = worker.every("there", 600 * MILLI, &Elsewhere);
    let summary = beside(worker, sleep(60 * SECOND)).await;
    let seen = (summary.done, summary.max);
    // One of each may be missing at the first moment and at the last one.
    assert!((196..=200).contains(&seen.0) && seen.1 <= 1000, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_runs_with_its_new_payload_at_its_new_times() {
    let (queue, log) = (testkit::queue(), Log::new());
    let minute = 60 * SECOND;
    testkit::run_for(
        noting(&queue, &log).every("tick", 24 * minute, &Note(1)),
        SECOND,
    )
    .await
    .expect("a run");
    testkit::run_for(
        noting(&queue, &log).every("tick", minute, &Note(2)),
        49 * minute,
    )
    .await
    .expect("a run");
    let old = log.lines().iter().filter(|line| line.1 == 1).count();
    let new = log.lines().iter().filter(|line| line.1 == 2).count();
    assert_eq!((old, new), (0, 49));
}

#[tokio::test]
#[should_panic(expected = "delayed-jobs: there is a schedule `tick` already")]
async fn two_schedules_of_one_name_are_a_mistake() {
    let queue = testkit::queue();
    let worker = queue.worker().every("tick", 10 * SECOND, &Note(1));
    let _ = worker.every("tick", 20 * SECOND, &Note(2));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "delayed-jobs: the schedule `x` has no handler for `other`")]
async fn a_schedule_without_a_handler_is_a_mistake() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log).every("x", 10 * SECOND, &Other(1));
    let _ = testkit::run_for(worker, SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_expression_runs_at_the_times_of_its_zone() {
    let (queue, log) = (testkit::queue(), Log::new());
    let every = Every::cron("*/15 * * * *", "Asia/Kathmandu").expect("an expression");
    let worker = noting(&queue, &log).every("quarters", every, &Note(1));
    let now = queue.store().clock().now();
    let quarter = 900_000_000;
    let first = (quarter - now.0.rem_euclid(quarter)) as u64 / 1000;
    beside(worker, tokio::time::sleep(3600 * SECOND)).await;
    let late: Vec<_> = (0..4)
        .zip(log.lines())
        .map(|(n, (at, _, _))| at - (first + n * 900_000))
        .collect();
    assert_eq!(log.lines().len(), 4);
    assert!(late.iter().all(|late| *late <= 1), "{late:?} ms");
}

#[tokio::test(start_paused = true)]
async fn an_end_asks_only_for_the_next_runs_of_its_kind() {
    let calls = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let seen = Arc::clone(&calls);
    let queue = Wrapped::queue(testkit::queue().store(), move |when, name| {
        let names = ["limits", "fill_slot"];
        let called = names.iter().position(|known| *known == name);
        if let Some(at) = called.filter(|_| when == When::Before) {
            seen[at].fetch_add(1, Ordering::SeqCst);
        }
        Duration::ZERO
    });
    let year = 365 * 86_400 * SECOND;
    let worker = noting(&queue, &Log::new()).register(|_: Job<Other>| async { Ok(()) });
    let worker = worker.every("note", year, &Note(1));
    let worker = (0..3).fold(worker, |worker, n| {
        worker.every(format!("other {n}"), year, &Other(n))
    });
    for note in 0..10 {
        let job = queue.enqueue(Note(note)).after(note * SECOND);
        job.await.expect("enqueued");
    }
    beside(worker, sleep(60 * SECOND)).await;
    let [looks, fills] = [0, 1].map(|at| calls[at].load(Ordering::SeqCst));
    // Each look asks for the next runs of all schedules, and each end for that of one.
    assert_eq!(fills, 4 * looks + 10, "in {looks} looks");
}
