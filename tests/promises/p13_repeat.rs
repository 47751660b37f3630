//! A repeating job never overlaps itself, keeps the group alive until it is done, and loses neither a
//! reset nor a cancel that comes while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use schedgroup::{Group, JobContext, JobHandle, JobState, Next};
use tokio::time::{Instant, sleep};

use crate::common::{Flag, Hold, Log, Random, ms, on_both, settle, us};

/// A series that logs the number of the run at each start, works, and goes on as `next` says.
fn series(
    group: &Group,
    log: &Log<u64>,
    work: Duration,
    next: impl Fn(&JobContext) -> Next + Send + Sync + 'static,
) -> JobHandle {
    let (log, next) = (log.clone(), Arc::new(next));
    group.repeat(Instant::now(), move |context| {
        log.push(context.run());
        let next = Arc::clone(&next);
        async move {
            sleep(work).await;
            next(&context)
        }
    })
}

/// Done at that run.
fn until(last: u64, next: Next) -> impl Fn(&JobContext) -> Next + Send + Sync {
    move |context| {
        if context.run() == last {
            Next::Done
        } else {
            next
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_counts_from_the_end_of_the_run() {
    let (group, log) = (Group::new(), Log::new());
    series(&group, &log, ms(7), until(3, Next::After(ms(10))));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(0)), (2, ms(17)), (3, ms(34))]);
}

#[tokio::test(start_paused = true)]
async fn at_is_an_instant_and_at_once_if_it_has_passed() {
    let (group, log) = (Group::new(), Log::new());
    let start = Instant::now();
    series(&group, &log, ms(7), move |context| match context.run() {
        1 => Next::At(start + ms(50)),
        2 => Next::At(start + ms(1)),
        _ => Next::Done,
    });
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(0)), (2, ms(50)), (3, ms(57))]);
}

#[tokio::test(start_paused = true)]
async fn each_run_is_told_its_own_number_deadline_and_lateness() {
    let (group, log) = (Group::new(), Log::new());
    let (start, runs) = (Instant::now(), log.clone());
    let job = group.repeat(start + ms(5), move |context| {
        let due = context.deadline() - start;
        runs.push((context.id(), context.run(), due, context.lateness()));
        async move {
            sleep(ms(20)).await;
            match context.run() {
                1 => Next::At(start + ms(10)),
                2 => Next::After(ms(5)),
                _ => Next::Done,
            }
        }
    });
    group.wait().await.unwrap();
    let run = |number, due, late| ((job.id(), number, ms(due), ms(late)), ms(due + late));
    assert_eq!(log.take(), [run(1, 5, 0), run(2, 10, 15), run(3, 50, 0)]);
}

#[tokio::test(start_paused = true)]
async fn after_nothing_it_runs_again_at_once_and_starves_nobody() {
    let (group, log) = (Group::new(), Log::new());
    let (runs, other) = (log.clone(), log.clone());
    group.repeat(Instant::now(), move |context| {
        runs.push(context.run());
        async move {
            match context.run() {
                1_000 => Next::Done,
                _ => Next::After(Duration::ZERO),
            }
        }
    });
    group.delay(Duration::ZERO, async move { other.push(0) });
    group.wait().await.unwrap();
    let runs = log.take();
    assert!(runs.iter().all(|(_, at)| at.is_zero()), "{runs:?}");
    let place = runs.iter().position(|(number, _)| *number == 0).unwrap();
    assert!(place <= 2, "the other job was number {place}");
    let numbers = runs.iter().map(|(number, _)| *number).filter(|n| *n > 0);
    assert!(numbers.eq(1..=1_000));
}

#[tokio::test(start_paused = true)]
async fn it_keeps_wait_waiting_until_it_is_done() {
    let (group, log) = (Group::new(), Log::new());
    let start = Instant::now();
    series(&group, &log, ms(2), until(10, Next::After(ms(8))));
    group.wait().await.unwrap();
    assert_eq!((start.elapsed(), log.len()), (ms(92), 10));
}

#[tokio::test(start_paused = true)]
async fn between_two_runs_it_is_pending_for_the_next() {
    let (group, log) = (Group::new(), Log::new());
    let start = Instant::now();
    let job = series(&group, &log, ms(10), until(2, Next::After(ms(20))));
    let seen = || {
        let (stats, due) = (group.stats(), job.deadline() - start);
        (job.state(), due, stats.pending, stats.running)
    };
    assert_eq!(seen(), (JobState::Pending, ms(0), 1, 0));
    sleep(ms(5)).await;
    assert_eq!(seen(), (JobState::Running, ms(0), 0, 1));
    sleep(ms(10)).await;
    assert_eq!(seen(), (JobState::Pending, ms(30), 1, 0));
    assert_eq!(group.stats().next_deadline, Some(start + ms(30)));
    sleep(ms(20)).await;
    assert_eq!(seen(), (JobState::Running, ms(30), 0, 1));
    group.wait().await.unwrap();
    assert_eq!(seen(), (JobState::Finished, ms(30), 0, 0));
    assert_eq!(group.stats().finished, 1, "it is one job");
}

#[tokio::test(start_paused = true)]
async fn a_reset_between_two_runs_moves_the_next() {
    for (moved_to, then) in [(15, 15), (500, 500)] {
        let (group, log) = (Group::new(), Log::new());
        let start = Instant::now();
        let job = series(&group, &log, ms(5), until(2, Next::After(ms(100))));
        sleep(ms(10)).await;
        assert!(job.reset_at(start + ms(moved_to)));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [(1, ms(0)), (2, ms(then))]);
    }
}

/// The first run lasts for ten milliseconds and is reset after five.
#[tokio::test(start_paused = true)]
async fn a_reset_during_a_run_is_honoured_at_the_earlier_instant() {
    let start = Instant::now();
    let far = Next::At(start + Duration::from_secs(3_600));
    for (next, reset_to, again) in [
        (Next::After(ms(100)), 55, 55),
        (Next::After(ms(20)), 55, 30),
        (Next::Done, 55, 55),
        (far, 55, 55),
        (Next::After(ms(100)), 1, 10),
        (Next::Done, 1, 10),
        (Next::After(Duration::MAX), 10, 10),
    ] {
        let (group, log) = (Group::new(), Log::new());
        let start = Instant::now();
        let job = series(&group, &log, ms(10), move |context| {
            if context.run() == 1 { next } else { Next::Done }
        });
        sleep(ms(5)).await;
        assert!(job.reset_at(start + ms(reset_to)), "{next:?}");
        assert_eq!(job.state(), JobState::Running, "{next:?}");
        group.wait().await.unwrap();
        let runs = log.take();
        assert_eq!(runs, [(1, ms(0)), (2, ms(again))], "{next:?}, {reset_to}");
        assert_eq!(job.state(), JobState::Finished, "{next:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_during_a_run_speaks_for_one_further_run_only() {
    let (group, log) = (Group::new(), Log::new());
    let job = series(&group, &log, ms(10), |_| Next::Done);
    sleep(ms(5)).await;
    assert!(job.reset_after(ms(50)));
    sleep(ms(55)).await;
    assert_eq!(job.state(), JobState::Running);
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(0)), (2, ms(55))]);
    assert!(!job.reset_after(ms(1)), "its series is over");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_a_run_makes_it_the_last_one() {
    for next in [Next::After(ms(1)), Next::Done] {
        let (group, flag) = (Group::new(), Flag::new());
        let (log, guard) = (Log::new(), flag.guard());
        let ends = log.clone();
        let job = group.repeat(Instant::now(), move |context| {
            let _held_by_the_series = &guard;
            let ends = ends.clone();
            async move {
                sleep(ms(10)).await;
                ends.push(context.run());
                next
            }
        });
        sleep(ms(5)).await;
        assert!(job.cancel(), "{next:?}");
        assert!(!job.cancel(), "only one call is told so");
        assert!(!job.reset_after(ms(50)), "there is nothing to move");
        assert_eq!((job.state(), flag.drops()), (JobState::Running, 0));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [(1, ms(10))], "{next:?}");
        assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
        let stats = group.stats();
        assert_eq!((stats.cancelled, stats.finished), (1, 0), "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_takes_back_a_reset_of_the_same_run() {
    let (group, log) = (Group::new(), Log::new());
    let job = series(&group, &log, ms(10), |_| Next::Done);
    sleep(ms(5)).await;
    assert!(job.reset_after(ms(50)));
    assert!(job.cancel(), "it prevents that run");
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_between_two_runs_ends_the_series_and_frees_what_it_held() {
    let (group, log, flag) = (Group::new(), Log::new(), Flag::new());
    let (runs, guard) = (log.clone(), flag.guard());
    let job = group.repeat(Instant::now(), move |context| {
        let _held_by_the_series = &guard;
        runs.push(context.run());
        async { Next::After(ms(10)) }
    });
    sleep(ms(15)).await;
    assert!(job.cancel());
    assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(0)), (2, ms(10))]);
}

#[tokio::test(start_paused = true)]
async fn it_may_cancel_and_move_itself() {
    for cancels in [true, false] {
        let (group, log, hold) = (Group::new(), Log::new(), Hold::new());
        let own = Arc::new(std::sync::Mutex::new(None::<JobHandle>));
        let (held, runs, myself) = (hold.clone(), log.clone(), Arc::clone(&own));
        let job = group.repeat(Instant::now(), move |context| {
            let (begun, runs, myself) = (held.job(), runs.clone(), Arc::clone(&myself));
            async move {
                begun.await;
                runs.push(context.run());
                let own = myself.lock().unwrap().clone().unwrap();
                match context.run() {
                    1 if cancels => assert!(own.cancel()),
                    1 => assert!(own.reset_after(ms(5))),
                    _ => return Next::Done,
                }
                Next::After(ms(10))
            }
        });
        *own.lock().unwrap() = Some(job);
        hold.release();
        hold.release();
        group.wait().await.unwrap();
        let runs = log.take();
        if cancels {
            assert_eq!(runs, [(1, ms(0))]);
        } else {
            assert_eq!(runs, [(1, ms(0)), (2, ms(5))]);
        }
        own.lock().unwrap().take();
    }
}

/// Many resets, most of them to now, come in while the job runs and between its runs.
#[test]
fn it_never_overlaps_itself_however_often_it_is_moved() {
    on_both(|| async {
        let group = Group::new();
        let inside = Arc::new(AtomicBool::new(false));
        let (overlaps, runs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (overlapped, ran) = (Arc::clone(&overlaps), Arc::clone(&runs));
        let job = group.repeat(Instant::now(), move |_| {
            let (inside, overlaps) = (Arc::clone(&inside), Arc::clone(&overlapped));
            ran.fetch_add(1, Ordering::SeqCst);
            async move {
                overlaps.fetch_add(
                    u64::from(inside.swap(true, Ordering::SeqCst)),
                    Ordering::SeqCst,
                );
                tokio::task::yield_now().await;
                inside.store(false, Ordering::SeqCst);
                Next::After(us(50))
            }
        });
        let mut random = Random(13);
        for _ in 0..2_000 {
            assert!(job.reset_after(us(random.below(3) * 10)));
            tokio::task::yield_now().await;
        }
        crate::common::until("ten runs", || runs.load(Ordering::SeqCst) >= 10).await;
        assert!(job.cancel());
        group.wait().await.unwrap();
        assert_eq!(overlaps.load(Ordering::SeqCst), 0);
    });
}

#[tokio::test(start_paused = true)]
async fn dropping_its_handle_changes_nothing() {
    let (group, log) = (Group::new(), Log::new());
    drop(series(&group, &log, ms(1), until(3, Next::After(ms(1)))));
    settle().await;
    group.wait().await.unwrap();
    assert_eq!(log.labels(), [1, 2, 3]);
}
