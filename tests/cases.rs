//! The cases that every timer group is asked: order, past and far deadlines, cancel, wait, misuse,
//! panics, chains, drops, clocks, producers and runtimes.
//!
//! What depends on time runs on a paused clock and is exact. What depends on threads runs on both
//! flavours of runtime, under a bounded wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schedgroup::{Group, Handle, JobHandle, JobState, WaitError};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::common::{
    Flag, HOUR, Hold, Log, Misuse, Random, alive_tasks, beside, bounded, ms, multi_thread, on_both,
    panic_of, runtimes, settle, until, us, watched,
};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(86_400 * 365);

fn past() -> Instant {
    Instant::now() - ms(1_000)
}

fn assert_cancelled(outcome: &Result<(), WaitError>) {
    assert!(matches!(outcome, Err(WaitError::Cancelled)), "{outcome:?}");
}

// Order.

#[tokio::test(start_paused = true)]
async fn order_five() {
    let group = Group::new();
    let log = Log::new();
    for n in [3, 1, 2, 5, 4] {
        group.delay(ms(100 * n), log.job(n));
    }
    group.wait().await.unwrap();
    assert_eq!(log.take(), [1, 2, 3, 4, 5].map(|n| (n, ms(100 * n))));
}

#[tokio::test(start_paused = true)]
async fn later_then_earlier() {
    let group = Group::new();
    let log = Log::new();
    group.delay(ms(10_000), log.job("later"));
    settle().await;
    group.delay(ms(600), log.job("earlier"));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("earlier", ms(600)), ("later", ms(10_000))]);
}

#[tokio::test(start_paused = true)]
async fn insert_after_fire() {
    let group = Group::new();
    let log = Log::new();
    group.delay(ms(10), log.job("first"));
    let (inner, outer) = (log.job("inserted"), log.clone());
    group.delay_with(ms(10), move |context| async move {
        outer.push("second");
        context.delay(ms(500), inner);
    });
    group.delay(ms(10), log.job("third"));
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [
            ("first", ms(10)),
            ("second", ms(10)),
            ("third", ms(10)),
            ("inserted", ms(510))
        ]
    );
}

// Past and immediate deadlines.

#[tokio::test(start_paused = true)]
async fn past_instant() {
    let group = Group::new();
    let log = Log::new();
    group.schedule(past(), log.job(()));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [((), ms(0))]);
}

#[tokio::test(start_paused = true)]
async fn past_while_asleep() {
    let group = Group::new();
    let log = Log::new();
    group.delay(ms(500), log.job("far"));
    settle().await;
    group.schedule(past(), log.job("past"));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("past", ms(0)), ("far", ms(500))]);
}

#[tokio::test(start_paused = true)]
async fn zero_delay() {
    let group = Group::new();
    let log = Log::new();
    for n in 0..1_000 {
        group.delay(Duration::ZERO, log.job(n));
    }
    group.wait().await.unwrap();
    let at_once = (0..1_000).map(|n| (n, ms(0))).collect::<Vec<_>>();
    assert_eq!(log.take(), at_once);
}

#[tokio::test(start_paused = true)]
async fn sub_ms() {
    let group = Group::new();
    let log = Log::new();
    for micros in [1, 999, 1_001] {
        group.delay(us(micros), log.job(micros));
    }
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(1)), (999, ms(1)), (1_001, ms(2))]);
}

// Far deadlines.

#[tokio::test(start_paused = true)]
async fn delay_max() {
    let group = Group::new();
    let (log, flag) = (Log::new(), Flag::new());
    let far = group.delay(Duration::MAX, flag.job());
    group.delay(ms(10), log.job("neighbour"));
    sleep(ms(20)).await;
    assert_eq!(log.take(), [("neighbour", ms(10))]);
    assert!(far.is_pending(), "{:?}", far.state());
    assert!(far.cancel());
    assert_eq!(flag.drops(), 1);
    group.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ten_years() {
    let group = Group::new();
    let log = Log::new();
    group.delay(10 * YEAR, log.job(()));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [((), 10 * YEAR)]);
}

#[tokio::test(start_paused = true)]
async fn uptime_40_days() {
    let group = Group::new();
    let log = Log::new();
    let year = group.delay(YEAR, async { panic!("cancelled long before") });
    chain(&group.handle(), HOUR, 960, "hour", log.clone());
    sleep(40 * DAY + ms(1)).await;
    assert!(year.cancel());
    group.wait().await.unwrap();
    let hourly = (1..=960).map(|n| ("hour", HOUR * n)).collect::<Vec<_>>();
    assert_eq!(log.take(), hourly);
}

// Cancel.

#[tokio::test(start_paused = true)]
async fn cancel_before_new() {
    let token = CancellationToken::new();
    token.cancel();
    let group = Group::with_token(token);
    let (log, flag) = (Log::new(), Flag::new());
    for _ in 0..5 {
        let (log, guard) = (log.clone(), flag.guard());
        group.delay(Duration::ZERO, async move {
            log.push(guard);
        });
    }
    assert_cancelled(&group.wait().await);
    assert_eq!((log.len(), flag.drops()), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn cancel_halfway() {
    let group = Group::new();
    let log = Log::new();
    for n in 1..=10 {
        group.delay(ms(10 * n), log.job(n));
    }
    sleep(ms(55)).await;
    group.cancel();
    sleep(ms(100)).await;
    assert_eq!(log.take(), [1, 2, 3, 4, 5].map(|n| (n, ms(10 * n))));
    assert_cancelled(&group.wait().await);
}

/// Which of the two the runtime polls first is its affair; what follows from it is ours.
#[tokio::test(start_paused = true)]
async fn cancel_at_deadline_tick() {
    let token = CancellationToken::new();
    let at = Instant::now() + ms(10);
    for canceller_first in [true, false] {
        let group = Group::with_token(token.child_token());
        let canceller = || {
            let token = group.token();
            tokio::spawn(async move {
                sleep_until(at).await;
                token.cancel();
            })
        };
        let early = canceller_first.then(canceller);
        let (log, flag) = (Log::new(), Flag::new());
        let (ran, guard) = (log.clone(), flag.guard());
        group.schedule(at, async move {
            ran.push(());
            drop(guard);
        });
        let canceller = early.unwrap_or_else(canceller);
        assert_cancelled(&group.wait().await);
        canceller.await.unwrap();
        sleep(ms(1)).await;
        assert!(log.len() <= 1, "{log:?}");
        assert_eq!(flag.drops(), 1, "{log:?}");
    }
}

#[test]
fn cancel_from_job() {
    on_both(|| async {
        // One after another, so that the rest has no slot yet when the third cancels.
        let group = Arc::new(Group::builder().max_running(1).build());
        let log = Log::new();
        let at = Instant::now() + ms(5);
        let jobs = (1..=10).map(|n| {
            let (weak, log) = (Arc::downgrade(&group), log.clone());
            group.schedule(at, async move {
                log.push(n);
                if n == 3 {
                    weak.upgrade().unwrap().cancel();
                }
            })
        });
        let jobs = jobs.collect::<Vec<_>>();
        assert_cancelled(&group.wait().await);
        until("all jobs ended", || {
            jobs.iter().all(|job| job.is_finished())
        })
        .await;
        assert_eq!(log.labels(), [1, 2, 3]);
    });
}

#[test]
fn parent_and_child_token() {
    on_both(|| async {
        let parent = CancellationToken::new();
        let group = Group::with_token(parent.clone());
        group.token().cancel();
        assert!(!parent.is_cancelled(), "the caller's token is the caller's");
        assert_cancelled(&group.wait().await);

        let group = Group::with_token(parent.clone());
        let job = group.delay(HOUR, async {});
        parent.cancel();
        assert_cancelled(&group.wait().await);
        until("the job was dropped", || job.is_finished()).await;
        assert_eq!(job.state(), JobState::Cancelled);
    });
}

// Wait.

#[test]
fn wait_empty() {
    on_both(|| async {
        for _ in 0..10_000 {
            Group::new().wait().await.unwrap();
        }
    });
}

#[test]
fn wait_pending() {
    on_both(|| async {
        let group = Group::new();
        let log = Log::new();
        group.delay(ms(20), log.job(()));
        group.wait().await.unwrap();
        assert_eq!(log.len(), 1);
    });
}

#[test]
fn wait_running() {
    on_both(|| async {
        let group = Group::new();
        let hold = Hold::new();
        let job = group.delay(Duration::ZERO, hold.job());
        hold.started().await;
        let mut wait = std::pin::pin!(group.wait());
        let early = tokio::time::timeout(ms(20), &mut wait).await;
        assert!(
            early.is_err(),
            "{early:?} while the job was {:?}",
            job.state()
        );
        hold.release();
        wait.await.unwrap();
        assert_eq!(job.state(), JobState::Finished);
    });
}

#[test]
fn wait_all_done() {
    on_both(|| async {
        let group = Group::new();
        let job = group.delay(Duration::ZERO, async {});
        until("the job ended", || job.is_finished()).await;
        sleep(ms(20)).await;
        group.wait().await.unwrap();
    });
}

#[test]
fn wait_cancelled_before() {
    on_both(|| async {
        let group = Group::new();
        group.cancel();
        assert_cancelled(&group.wait().await);
    });
}

#[tokio::test(start_paused = true)]
async fn wait_then_cancel() {
    let group = Group::new();
    let start = Instant::now();
    group.delay(HOUR, async {});
    let canceller = async {
        sleep(ms(1_000)).await;
        group.cancel();
    };
    let waiter = async { (group.wait().await, start.elapsed()) };
    let (outcome, elapsed) = beside(waiter, canceller).await;
    assert_cancelled(&outcome);
    assert_eq!(elapsed, ms(1_000));
}

#[test]
fn wait_deadline_kind() {
    on_both(|| async {
        let group = Group::builder().timeout(ms(20)).build();
        group.delay(HOUR, async {});
        let outcome = group.wait().await;
        assert!(
            matches!(outcome, Err(WaitError::DeadlineExceeded)),
            "{outcome:?}"
        );
    });
}

// Misuse. The lines are those of the calls.

fn misused(line: u32, message: &str) -> Misuse {
    Misuse {
        message: message.to_owned(),
        file: file!().to_owned(),
        line,
    }
}

#[test]
fn panic_location_is_callers() {
    on_both(|| async {
        let group = Group::new();
        group.wait().await.unwrap();
        let scheduled = panic_of(|| group.delay(ms(1), async {}));
        let text = "schedgroup: attempted to schedule job after Group::wait was called";
        assert_eq!(scheduled, misused(line!() - 2, text));
        let waited = panic_of(|| drop(group.wait()));
        let text = "schedgroup: multiple calls to Group::wait";
        assert_eq!(waited, misused(line!() - 2, text));
    });
}

// Panics of jobs.

#[test]
fn panic_payload_preserved() {
    on_both(|| async {
        let group = Group::new();
        group.delay(Duration::ZERO, async {
            std::panic::panic_any(String::from("a payload"))
        });
        let Err(WaitError::Panicked(panic)) = group.wait().await else {
            panic!("it panicked");
        };
        let payload = panic.into_payload().downcast::<String>().unwrap();
        assert_eq!(*payload, "a payload");
    });
}

// Jobs that schedule jobs.

/// Schedules a job that records itself and schedules the next, `left` in all.
fn chain(handle: &Handle, step: Duration, left: u32, label: &'static str, log: Log<&'static str>) {
    if left > 0 {
        handle.delay_with(step, move |context| async move {
            log.push(label);
            chain(&context.handle(), step, left - 1, label, log);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn two_chains_interleave() {
    let group = Group::new();
    let log = Log::new();
    chain(&group.handle(), ms(3), 100, "three", log.clone());
    chain(&group.handle(), ms(5), 60, "five", log.clone());
    group.wait().await.unwrap();

    let threes = (1..=100).map(|n| (3 * n, 3 * n - 3, "three"));
    let fives = (1..=60).map(|n| (5 * n, 5 * n - 5, "five"));
    let mut expected = threes.chain(fives).collect::<Vec<_>>();
    // A link is submitted when its forerunner fires, and the earlier submitted wins a tie.
    expected.sort_unstable();
    let expected = expected
        .into_iter()
        .map(|(at, _, label)| (label, ms(at)))
        .collect::<Vec<_>>();
    assert_eq!(log.take(), expected);
}

// Drops.

#[test]
fn drop_last_handle_pending() {
    on_both(|| async {
        // On a machine that is too busy to drop the group before its jobs are due, again with more time.
        for delay in [ms(20), ms(200), ms(2_000), ms(20_000)] {
            let (log, flag) = (Log::<()>::new(), Flag::new());
            let (group, due) = (Group::new(), Instant::now() + delay);
            for _ in 0..100 {
                let (log, guard) = (log.clone(), flag.guard());
                group.schedule(due, async move {
                    drop(guard);
                    log.push(());
                });
            }
            drop(group);
            let in_time = Instant::now() < due;
            until("captures released", || flag.drops() == 100).await;
            if in_time {
                sleep_until(due + ms(20)).await;
                assert_eq!(log.len(), 0, "a dropped group runs nothing");
                return;
            }
        }
        panic!("100 jobs take longer than 20 seconds to schedule");
    });
}

#[test]
fn drop_one_of_two_handles() {
    on_both(|| async {
        let group = Group::new();
        let log = Log::new();
        let (one, two) = (group.handle(), group.handle());
        let job = one.delay(ms(10), log.job("one"));
        drop(one);
        drop(job.clone());
        drop(job);
        two.delay(ms(20), log.job("two"));
        group.wait().await.unwrap();
        assert_eq!(log.labels(), ["one", "two"]);
    });
}

#[tokio::test(start_paused = true)]
async fn drop_group_inside_job() {
    let owner = Arc::new(Mutex::new(None::<Group>));
    let group = Group::new();
    let (log, flag) = (Log::new(), Flag::new());
    let (inner, guard, ran) = (Arc::clone(&owner), flag.guard(), log.clone());
    let job = group.delay(ms(10), async move {
        drop(inner.lock().unwrap().take());
        ran.push("up to its next await");
        sleep(ms(1)).await;
        ran.push("beyond it");
        drop(guard);
    });
    let pending = group.delay(ms(20), flag.job());
    *owner.lock().unwrap() = Some(group);
    sleep(ms(30)).await;
    assert_eq!(log.take(), [("up to its next await", ms(10))]);
    assert_eq!(flag.drops(), 2);
    for job in [job, pending] {
        assert_eq!(job.state(), JobState::Cancelled, "{job:?}");
    }
}

#[test]
fn capture_dropped_once_after_run() {
    on_both(|| async {
        let group = Group::new();
        let flag = Flag::new();
        let (guard, counted) = (flag.guard(), flag.clone());
        let during = Arc::new(AtomicUsize::new(usize::MAX));
        let seen = Arc::clone(&during);
        let job = group.delay(ms(1), async move {
            seen.store(counted.drops(), Ordering::SeqCst);
            let _held_to_the_end = guard;
        });
        group.wait().await.unwrap();
        assert_eq!(during.load(Ordering::SeqCst), 0, "while it ran");
        assert_eq!(flag.drops(), 1, "when wait returned");
        drop(job);
        drop(group);
        assert_eq!(flag.drops(), 1);
    });
}

#[test]
fn capture_dropped_on_cancel() {
    on_both(|| async {
        let group = Group::new();
        let flag = Flag::new();
        for _ in 0..1_000 {
            group.delay(HOUR, flag.job());
        }
        group.cancel();
        until("captures released", || flag.drops() == 1_000).await;
        assert_cancelled(&group.wait().await);
    });
}

// Clocks.

#[tokio::test(start_paused = true)]
async fn pause_idle_group_does_not_hold_clock() {
    let group = Group::new();
    let (real, virtually) = (std::time::Instant::now(), Instant::now());
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(virtually.elapsed(), HOUR);
    let real = real.elapsed();
    assert!(real < Duration::from_secs(10), "an hour took {real:?}");
    drop(group);
}

#[test]
fn same_seed_same_trace() {
    fn trace(seed: u64) -> Vec<(usize, Duration)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut random = Random(seed);
            let group = Group::new();
            let log = Log::new();
            for n in 0..1_000 {
                group.delay(us(random.below(50_000)), log.job(n));
            }
            group.wait().await.unwrap();
            log.take()
        })
    }
    let first = trace(7);
    assert_eq!(first.len(), 1_000);
    assert_eq!(first, trace(7));
    assert_ne!(first, trace(8));
}

// Producers.

#[test]
fn producers_8x1000() {
    on_both(|| async {
        let group = Arc::new(Group::new());
        let runs = Arc::new(Mutex::new(vec![0_u32; 8_000]));
        let early = Arc::new(AtomicUsize::new(0));
        let threads = (0..8).map(|producer| {
            let (group, runs, early) = (Arc::clone(&group), Arc::clone(&runs), Arc::clone(&early));
            std::thread::spawn(move || {
                let mut random = Random(producer);
                for n in 0..1_000 {
                    let (runs, early) = (Arc::clone(&runs), Arc::clone(&early));
                    let at = Instant::now() + us(random.below(20_000));
                    group.schedule(at, async move {
                        early.fetch_add(usize::from(Instant::now() < at), Ordering::SeqCst);
                        runs.lock().unwrap()[(producer * 1_000 + n) as usize] += 1;
                    });
                }
            })
        });
        let threads = threads.collect::<Vec<_>>();
        let joined = tokio::task::spawn_blocking(|| {
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
        joined.await.unwrap();
        group.wait().await.unwrap();
        let runs = runs.lock().unwrap();
        let not_once = runs.iter().filter(|&&times| times != 1).count();
        assert_eq!((not_once, early.load(Ordering::SeqCst)), (0, 0));
    });
}

#[test]
fn std_thread_producer() {
    on_both(|| async {
        let group = Group::new();
        let log = Log::new();
        let (handle, job) = (group.handle(), log.job("from a thread without a runtime"));
        let thread = std::thread::spawn(move || handle.delay(ms(1), job).id());
        until("the thread is done", || thread.is_finished()).await;
        thread.join().unwrap();
        group.wait().await.unwrap();
        assert_eq!(log.len(), 1);
    });
}

#[test]
fn spawn_blocking_producer() {
    on_both(|| async {
        let group = Group::new();
        let log = Log::new();
        let producers = (0..10).map(|n| {
            let (handle, job) = (group.handle(), log.job(n));
            tokio::task::spawn_blocking(move || handle.delay(ms(1), job).id())
        });
        for producer in producers.collect::<Vec<_>>() {
            producer.await.unwrap();
        }
        group.wait().await.unwrap();
        let mut ran = log.labels();
        ran.sort_unstable();
        assert_eq!(ran, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });
}

// Runtimes.

#[test]
fn local_set() {
    on_both(|| async {
        let local = tokio::task::LocalSet::new();
        let ran = local.run_until(async {
            let group = Group::new();
            let log = Log::new();
            group.delay(ms(5), log.job(()));
            group.wait().await.unwrap();
            log.len()
        });
        assert_eq!(ran.await, 1);
    });
}

#[test]
fn new_inside_enter_guard() {
    watched(|| {
        for (flavour, runtime) in runtimes() {
            let group = {
                let _inside = runtime.enter();
                Group::new()
            };
            let log = Log::new();
            group.delay(ms(1), log.job(flavour));
            runtime.block_on(bounded(group.wait())).unwrap();
            assert_eq!(log.labels(), [flavour]);
        }
    });
}

#[test]
fn runtime_dropped_then_use() {
    watched(|| {
        for (flavour, runtime) in runtimes() {
            let flag = Flag::new();
            let group = {
                let _inside = runtime.enter();
                Group::new()
            };
            let pending = group.delay(HOUR, flag.job());
            drop(runtime);
            assert_eq!(flag.drops(), 1, "{flavour}");
            assert_eq!(pending.state(), JobState::Cancelled, "{flavour}");
            let late = group.delay(ms(1), flag.job());
            assert_eq!(late.state(), JobState::Cancelled, "{flavour}");
            assert_eq!(flag.drops(), 2, "{flavour}");
            let elsewhere = multi_thread();
            assert_cancelled(&elsewhere.block_on(bounded(group.wait())));
        }
    });
}

#[test]
fn block_in_place_in_job() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::new();
            let (unblock, blocking) = std::sync::mpsc::channel();
            let (started, has_started) = oneshot::channel();
            group.delay(Duration::ZERO, async move {
                tokio::task::block_in_place(|| {
                    started.send(()).unwrap();
                    // Ends when the other job has run, and so proves that it could.
                    blocking.recv().unwrap();
                });
            });
            has_started.await.unwrap();
            group.delay(ms(10), async move { unblock.send(()).unwrap() });
            group.wait().await.unwrap();
        }));
    });
}

#[test]
fn tasks_gone() {
    on_both(|| async {
        let before = alive_tasks();
        let busy = || {
            let group = Group::new();
            group.delay(Duration::ZERO, std::future::pending());
            group.delay(HOUR, async {});
            group
        };
        let waited = Group::new();
        waited.delay(ms(1), async {});
        waited.wait().await.unwrap();
        until("none after wait", || alive_tasks() == before).await;

        drop(busy());
        until("none after drop", || alive_tasks() == before).await;

        // A job that runs goes on after a cancel: here it heeds it.
        let cancelled = Group::new();
        cancelled.delay_with(Duration::ZERO, |context| async move {
            context.token().cancelled().await;
        });
        cancelled.delay(HOUR, async {});
        cancelled.cancel();
        until("none after cancel", || alive_tasks() == before).await;

        let shut = busy();
        shut.shutdown(Duration::ZERO).await;
        until("none after shutdown", || alive_tasks() == before).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_place_in_memory_that_is_used_again_runs_its_job_once() {
    // Nobody keeps a handle, so each job takes over the storage of the one cancelled before it, whose
    // entry is still among the deadlines.
    for (first, second) in [(100, 100), (100, 99), (99, 100), (5_000, 100), (100, 5_000)] {
        let (group, log) = (Group::new(), Log::new());
        for _ in 0..3 {
            settle().await;
            group.delay(ms(first), log.job("cancelled")).cancel();
            settle().await;
            let moved = group.delay(HOUR, log.job("ran"));
            assert!(moved.reset_after(ms(second)));
        }
        sleep(ms(10_000)).await;
        let stats = group.stats();
        assert_eq!(log.take(), [("ran", ms(second)); 3], "{first}, {second}");
        assert_eq!((stats.pending, stats.waiting, stats.finished), (0, 0, 3));
    }
}

// Turns.

/// So many entries the driver takes in, or moves into its heap, before others have a turn.
const PIECE: u64 = 4_096;

/// So many short jobs run before others have a turn.
const RUNS: u64 = 512;

/// How often others have a turn until `holds`.
async fn turns_until(holds: impl Fn() -> bool) -> u64 {
    let mut turns = 0;
    while !holds() {
        tokio::task::yield_now().await;
        turns += 1;
    }
    turns
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_new_jobs_leaves_others_their_turns() {
    let (group, log) = (Group::new(), Log::new());
    group.delay(Duration::ZERO, log.job(0));
    for _ in 1..20 * PIECE {
        group.delay(HOUR, async {});
    }
    let turns = bounded(turns_until(|| log.len() == 1)).await;
    assert!(turns >= 20, "{turns} turns");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_due_jobs_leaves_others_their_turns() {
    let (group, log) = (Group::new(), Log::new());
    for job in 0..20 * PIECE {
        group.delay(HOUR, log.job(job));
    }
    settle().await;
    // All at once, as after a sleep of the machine.
    advance(HOUR).await;
    let turns = bounded(turns_until(|| log.len() > 0)).await;
    assert!(turns >= 20, "{turns} turns");
    let turns = bounded(turns_until(|| log.len() as u64 == 20 * PIECE)).await;
    let polls = 20 * PIECE / RUNS - 1;
    assert!(turns >= polls, "{turns} turns");
}

/// Of many pending jobs most are cancelled, and the heap is swept; jobs that fall due meanwhile are as
/// prompt as ever.
#[tokio::test(start_paused = true)]
async fn a_sweep_of_dead_entries_holds_up_no_due_job() {
    const PAGE: u64 = 512;
    let (group, log) = (Group::new(), Log::new());
    let mut jobs: Vec<_> = (0..200 * PAGE)
        .map(|job| group.delay(HOUR, log.job(job)))
        .collect();
    settle().await;
    let before = group.stats().driver_wakeups;
    let kept = jobs.split_off(150 * PAGE as usize);
    assert!(jobs.iter().all(JobHandle::cancel));
    for job in 0..100 {
        group.delay(Duration::ZERO, log.job(job));
        let turns = bounded(turns_until(|| log.len() as u64 == job + 1)).await;
        assert!(turns <= 4, "job {job} after {turns} turns");
    }
    for _ in 0..200 {
        settle().await;
    }
    let turns = group.stats().driver_wakeups - before;
    assert!(turns >= 200, "{turns} turns for 200 pages");
    log.take();
    group.wait().await.unwrap();
    let ran = log.take();
    assert_eq!(ran.len(), kept.len());
    assert!(ran.is_sorted(), "in the order of submission");
    assert!(ran.iter().all(|(_, at)| *at == HOUR), "at their time");
}
