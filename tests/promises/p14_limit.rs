//! At most `max_running` jobs run. Due jobs wait for a slot in release order, and take a free slot at once. A job that
//! does not run holds no slot.
//!
//! That the limit is kept and used to the full is in `tests/faults.rs`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::task::Poll;
use std::time::Duration;

use schedgroup::{Group, JobHandle, Next, flow};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::task::{block_in_place, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

use crate::common::{
    HOUR, Hold, Log, OnDrop, alive_tasks, block_until_told, bounded, ms, settle, until, watched,
};

fn of_one() -> Group {
    Group::builder().max_running(1).build()
}

#[tokio::test(start_paused = true)]
async fn due_jobs_wait_in_the_order_of_their_deadlines() {
    let (group, log) = (of_one(), Log::new());
    group.delay(Duration::ZERO, sleep(ms(50)));
    for (due, label) in [(30, "d"), (10, "a"), (20, "b"), (20, "c"), (30, "e")] {
        group.delay(ms(due), log.job(label));
    }
    group.wait().await.unwrap();
    let at_once = ["a", "b", "c", "d", "e"].map(|label| (label, ms(50)));
    assert_eq!(log.take(), at_once);
}

/// The one slot gets free at ten milliseconds, in every way that a run can end.
#[tokio::test(start_paused = true)]
async fn a_free_slot_is_taken_at_once_however_it_got_free() {
    for way in ["end", "panic", "abort", "cancelled series"] {
        let (group, log) = (of_one(), Log::new());
        let holder = match way {
            "panic" => group.delay(Duration::ZERO, async {
                sleep(ms(10)).await;
                panic!("boom");
            }),
            "abort" => group.delay(Duration::ZERO, sleep(HOUR)),
            "cancelled series" => group.repeat(Instant::now(), |_| async {
                sleep(ms(10)).await;
                Next::After(Duration::ZERO)
            }),
            _ => group.delay(Duration::ZERO, sleep(ms(10))),
        };
        let start = Instant::now();
        settle().await;
        group.delay(ms(1), log.job("first"));
        group.delay(ms(2), log.job("second"));
        sleep_until(start + ms(5)).await;
        assert_eq!(group.stats().waiting, 2, "{way}");
        match way {
            "cancelled series" => assert!(holder.cancel()),
            "abort" => {
                sleep_until(start + ms(10)).await;
                holder.abort();
            }
            _ => {}
        }
        let outcome = group.wait().await;
        assert_eq!(outcome.is_err(), way == "panic", "{way}: {outcome:?}");
        let ran = log.take();
        assert_eq!(ran, [("first", ms(10)), ("second", ms(10))], "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_job_holds_no_slot() {
    let (group, log) = (of_one(), Log::new());
    let far = group.delay(HOUR, async {});
    group.delay(ms(1), log.job(()));
    sleep(ms(2)).await;
    assert_eq!(log.take(), [((), ms(1))]);
    assert!(far.is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_and_is_cancelled_or_moved_holds_no_slot() {
    for cancels in [true, false] {
        let (group, log, hold) = (of_one(), Log::new(), Hold::new());
        group.delay(Duration::ZERO, hold.job());
        let leaves = group.delay(ms(1), log.job("left"));
        group.delay(ms(2), log.job("stays"));
        sleep(ms(5)).await;
        assert!(if cancels {
            leaves.cancel()
        } else {
            leaves.reset_after(ms(10))
        });
        hold.release();
        group.wait().await.unwrap();
        let moved = (!cancels).then_some(("left", ms(15)));
        let expected = [Some(("stays", ms(5))), moved];
        let expected = expected.into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(log.take(), expected);
    }
}

/// They wait in a queue, from which the dead are swept out when they are many.
#[tokio::test(start_paused = true)]
async fn of_thousands_that_wait_for_a_slot_those_that_are_not_cancelled_run_in_order() {
    let (group, log, hold) = (of_one(), Log::new(), Hold::new());
    group.delay(ms(0), hold.job());
    settle().await;
    let jobs: Vec<_> = (0..5_000)
        .map(|label| group.delay(ms(1), log.job(label)))
        .collect();
    sleep(ms(2)).await;
    assert_eq!(group.stats().waiting, 5_000);
    for (label, job) in jobs.iter().enumerate() {
        assert!(label % 100 == 0 || job.cancel(), "{label}");
    }
    assert_eq!(group.stats().waiting, 50);
    hold.release();
    group.wait().await.unwrap();
    let expected: Vec<_> = (0..50).map(|label| 100 * label).collect();
    assert_eq!(log.labels(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_series_holds_no_slot_between_its_runs() {
    let (group, log) = (of_one(), Log::new());
    let runs = log.clone();
    group.repeat(Instant::now(), move |context| {
        runs.push("series");
        async move {
            sleep(ms(10)).await;
            match context.run() {
                3 => Next::Done,
                _ => Next::After(ms(90)),
            }
        }
    });
    for due in [5, 50] {
        group.delay(ms(due), log.job("other"));
    }
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [
            ("series", ms(0)),
            ("other", ms(10)),
            ("other", ms(50)),
            ("series", ms(100)),
            ("series", ms(200)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_series_that_goes_on_at_once_lines_up_behind_what_was_due_before() {
    let (group, log) = (of_one(), Log::new());
    let runs = log.clone();
    group.repeat(Instant::now(), move |context| {
        runs.push("series");
        async move {
            sleep(ms(10)).await;
            match context.run() {
                2 => Next::Done,
                _ => Next::After(Duration::ZERO),
            }
        }
    });
    group.delay(ms(1), log.job("other"));
    group.delay(ms(2), log.job("other"));
    group.wait().await.unwrap();
    assert_eq!(log.labels(), ["series", "other", "other", "series"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_scheduled_by_the_one_that_runs_starts_when_it_ends() {
    let (group, log) = (of_one(), Log::new());
    let inner = log.job("inner");
    group.delay_with(Duration::ZERO, |context| async move {
        context.delay(Duration::ZERO, inner);
        sleep(ms(10)).await;
    });
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("inner", ms(10))]);
}

/// A job keeps its slot while it sleeps: it runs.
#[tokio::test(start_paused = true)]
async fn a_running_job_holds_its_slot_over_its_awaits() {
    let (group, log) = (Group::builder().max_running(2).build(), Log::new());
    for (label, naps) in [("a", 3), ("b", 1), ("c", 1)] {
        let log = log.clone();
        group.delay(Duration::ZERO, async move {
            log.push(label);
            for _ in 0..naps {
                sleep(ms(10)).await;
            }
        });
    }
    sleep(ms(5)).await;
    let stats = group.stats();
    assert_eq!((stats.running, stats.waiting), (2, 1), "{stats:?}");
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("a", ms(0)), ("b", ms(0)), ("c", ms(10))]);
}

#[tokio::test(start_paused = true)]
async fn two_groups_share_no_slots() {
    let (busy, free, log) = (of_one(), of_one(), Log::new());
    busy.delay(Duration::ZERO, sleep(HOUR));
    settle().await;
    free.delay(ms(1), log.job(()));
    free.wait().await.unwrap();
    assert_eq!(log.take(), [((), ms(1))]);
}

// A free slot is taken whatever the other jobs do, also when they block their threads. Each of these jobs
// blocks until another one has run, and panics if that does not happen.

fn of_threads(threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// One more job waits for a slot, and the driver has looked after it for the last time.
async fn one_waits(group: &Group) {
    until("it waits for a slot", || group.stats().waiting == 1).await;
    sleep(ms(50)).await;
}

/// As many jobs as there are threads block theirs, beside one that awaits. When that one ends, its slot
/// goes to the job that waits for it, in a group that is waited for and in one that is shut down.
#[test]
fn a_slot_that_gets_free_is_taken_while_every_worker_is_blocked() {
    for (threads, shuts_down) in [1, 2, 4].map(|n| [(n, false), (n, true)]).concat() {
        watched(move || {
            of_threads(threads).block_on(bounded(async {
                let group = Group::builder().max_running(threads + 1).build();
                let (release, released) = oneshot::channel();
                group.delay(Duration::ZERO, async move { released.await.unwrap() });
                until("it awaits", || group.stats().running == 1).await;
                let (starts, started) = mpsc::channel();
                let tell = (0..threads).map(|_| {
                    let (tell, told) = mpsc::channel();
                    let starts = starts.clone();
                    group.delay(Duration::ZERO, async move {
                        starts.send(()).unwrap();
                        block_in_place(|| block_until_told(&told));
                    });
                    tell
                });
                let tell = tell.collect::<Vec<_>>();
                (0..threads).for_each(|_| started.recv().unwrap());
                group.delay(Duration::ZERO, async move {
                    tell.iter().for_each(|tell| tell.send(()).unwrap());
                });
                one_waits(&group).await;
                let shutdown = shuts_down.then(|| group.shutdown(HOUR));
                release.send(()).unwrap();
                match shutdown {
                    Some(shutdown) => {
                        let report = shutdown.await;
                        assert_eq!(report.finished, threads + 2, "{threads}: {report:?}");
                    }
                    None => group.wait().await.unwrap(),
                }
                assert_eq!(group.stats().panicked, 0, "{threads}: not in time");
            }));
        });
    }
}

/// The slot is free when the job's own code has ended. The value that it returned is dropped after that,
/// by a destructor that blocks here.
#[test]
fn a_slot_is_taken_while_the_value_of_its_last_job_is_dropped() {
    struct Blocks(Receiver<()>);
    impl Drop for Blocks {
        fn drop(&mut self) {
            block_in_place(|| block_until_told(&self.0));
        }
    }
    for (threads, awaits) in [1, 2].map(|n| [(n, false), (n, true)]).concat() {
        watched(move || {
            of_threads(threads).block_on(bounded(async {
                let group = of_one();
                let (tell, told) = mpsc::channel();
                let (release, released) = oneshot::channel();
                // Without its handle the value goes with the job.
                drop(group.spawn_after(Duration::ZERO, async move {
                    if awaits {
                        released.await.unwrap();
                    } else {
                        block_in_place(|| released.blocking_recv().unwrap());
                    }
                    Blocks(told)
                }));
                until("it runs", || group.stats().running == 1).await;
                // Fails if the other one's destructor has given up.
                group.delay(Duration::ZERO, async move { tell.send(()).unwrap() });
                one_waits(&group).await;
                release.send(()).unwrap();
                group.wait().await.unwrap();
            }));
        });
    }
}

/// Jobs of each kind that are aborted while they hold something. Its destructor looks how many run.
#[tokio::test(start_paused = true)]
async fn an_aborted_job_holds_its_slot_until_what_its_run_held_is_dropped() {
    type Work = Pin<Box<dyn Future<Output = Next> + Send>>;
    let kinds: [fn(&Group, Work) -> JobHandle; 4] = [
        |group, work| group.delay(Duration::ZERO, async { _ = work.await }),
        |group, work| group.spawn_after(Duration::ZERO, work).job().clone(),
        |group, work| {
            let mut work = Some(work);
            group.repeat(Instant::now(), move |_| work.take().expect("it runs once"))
        },
        |group, work| {
            let mut work = Some(work);
            let retry = flow::retry(move || {
                let work = work.take().expect("it runs once");
                async { Ok::<Next, ()>(work.await) }
            });
            group.retry(retry).job().clone()
        },
    ];
    for schedule in kinds {
        let (group, log) = (of_one(), Log::new());
        let (handle, found) = (group.handle(), log.clone());
        let held = OnDrop(move || found.push(handle.stats().running));
        let job = schedule(
            &group,
            Box::pin(async move {
                let _held = held;
                std::future::pending().await
            }),
        );
        sleep(ms(1)).await;
        job.abort();
        group.wait().await.unwrap();
        assert_eq!(log.labels(), [1]);
    }
}

/// One of 2,000 jobs that are due at once blocks its thread until all others have run: those that stand
/// before it in the first batch of the driver, and those in the last. So also if each of them has slept before.
#[test]
fn one_job_of_a_burst_that_blocks_its_thread_holds_up_no_other() {
    const JOBS: usize = 2_000;
    for (round, awaits) in [[false; 20], [true; 20]].concat().into_iter().enumerate() {
        for blocking in [0, 100, 600] {
            watched(move || {
                of_threads(2).block_on(bounded(async {
                    let group = Group::new();
                    let others = Arc::new(AtomicUsize::new(0));
                    let (tell, told) = mpsc::channel();
                    let mut blocks = Some(told);
                    let at = Instant::now() + ms(5);
                    let nap = move || async move {
                        if awaits {
                            sleep(ms(1)).await;
                        }
                    };
                    for job in 0..JOBS {
                        if job == blocking {
                            let told = blocks.take().unwrap();
                            group.schedule(at, async move {
                                nap().await;
                                block_until_told(&told);
                            });
                            continue;
                        }
                        let (others, tell) = (Arc::clone(&others), tell.clone());
                        group.schedule(at, async move {
                            nap().await;
                            if others.fetch_add(1, Ordering::SeqCst) == JOBS - 2 {
                                tell.send(()).unwrap();
                            }
                        });
                    }
                    let outcome = group.wait().await;
                    let ran = others.load(Ordering::SeqCst);
                    assert!(
                        outcome.is_ok(),
                        "job {blocking}, awaits: {awaits}, round {round}: {ran} ran"
                    );
                }));
            });
        }
    }
}

/// The one blocks its thread until the others have run, of which its worker has claimed some. Another worker, which never
/// runs out of jobs, takes them from there: it polls one that wakes itself.
#[test]
fn a_job_that_blocks_holds_up_none_while_another_worker_is_busy() {
    for round in 0..20 {
        watched(move || {
            of_threads(2).block_on(bounded(async {
                let group = Group::new();
                let done = Arc::new(AtomicUsize::new(0));
                let all_done = Arc::clone(&done);
                group.delay(
                    ms(0),
                    poll_fn(move |cx| {
                        if all_done.load(Ordering::SeqCst) == 8 {
                            return Poll::Ready(());
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }),
                );
                let (tell, told) = mpsc::channel();
                let at = Instant::now() + ms(5);
                let of_blocking = Arc::clone(&done);
                group.schedule(at, async move {
                    for _ in 0..7 {
                        block_in_place(|| told.recv().unwrap());
                    }
                    of_blocking.fetch_add(1, Ordering::SeqCst);
                });
                for _ in 0..7 {
                    let (done, tell) = (Arc::clone(&done), tell.clone());
                    group.schedule(at, async move {
                        done.fetch_add(1, Ordering::SeqCst);
                        tell.send(()).unwrap();
                    });
                }
                let outcome = group.wait().await;
                let ran = done.load(Ordering::SeqCst);
                assert!(outcome.is_ok(), "round {round}: {ran} of 8");
            }));
        });
    }
}

/// Each of them blocks its thread until all have been polled.
#[test]
fn jobs_that_are_woken_together_are_polled_on_all_threads() {
    for threads in [2, 3, 4] {
        watched(move || {
            of_threads(threads).block_on(bounded(async {
                let (group, gate) = (Group::new(), Arc::new(Notify::new()));
                let (tell, told): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel()).unzip();
                for told in told {
                    let (tell, gate) = (tell.clone(), Arc::clone(&gate));
                    group.delay(ms(0), async move {
                        gate.notified().await;
                        tell.iter().for_each(|tell| tell.send(()).unwrap());
                        tell.iter().for_each(|_| block_until_told(&told));
                    });
                }
                until("all await", || group.stats().running == threads).await;
                // The driver is the other task. So all workers but one are started anew.
                until("one worker is left", || alive_tasks() == 2).await;
                gate.notify_waiters();
                group.wait().await.unwrap();
            }));
        });
    }
}

#[test]
fn a_group_works_though_the_task_that_created_it_blocks_its_thread() {
    watched(|| {
        let runtime = of_threads(2);
        let created = runtime.spawn(async {
            let (group, (tell, told)) = (Group::new(), mpsc::channel());
            group.delay(ms(0), async move { tell.send(()).unwrap() });
            block_until_told(&told);
        });
        runtime.block_on(bounded(created)).unwrap();
    });
}

/// Both hold a slot and are woken together. The first ends, and the second blocks its thread until the third has run in
/// the slot of the first.
#[test]
fn the_slot_of_a_job_that_has_awaited_is_free_at_its_end_and_not_later() {
    for _ in 0..20 {
        watched(|| {
            of_threads(1).block_on(bounded(async {
                let group = Group::builder().max_running(2).build();
                let gate = Arc::new(Notify::new());
                let (tell, told) = mpsc::channel();
                let of_first = Arc::clone(&gate);
                group.delay(ms(0), async move { of_first.notified().await });
                let of_second = Arc::clone(&gate);
                group.delay(ms(0), async move {
                    of_second.notified().await;
                    block_in_place(|| told.recv().unwrap());
                });
                until("both run", || group.stats().running == 2).await;
                group.delay(ms(0), async move { tell.send(()).unwrap() });
                one_waits(&group).await;
                gate.notify_waiters();
                group.wait().await.unwrap();
            }));
        });
    }
}

/// Its worker has claimed it together with one that was woken and blocks its thread until a third has run in its slot.
/// A fourth blocks the only other worker until then, so that the two are claimed together.
#[test]
fn the_slot_of_a_job_that_never_awaits_is_free_at_its_end_and_not_later() {
    for _ in 0..5 {
        watched(|| {
            of_threads(1).block_on(bounded(async {
                let group = Group::builder().max_running(3).build();
                let (wake, woken) = oneshot::channel();
                let [(tell, told), (tell_other, told_other)] = [(); 2].map(|()| mpsc::channel());
                group.delay(ms(0), async move {
                    woken.await.unwrap();
                    block_in_place(|| block_until_told(&told));
                });
                until("it awaits", || group.stats().running == 1).await;
                group.delay_with(ms(0), move |context| async move {
                    wake.send(()).unwrap();
                    context.delay(ms(0), async {});
                    context.delay(ms(0), async move {
                        [tell, tell_other]
                            .iter()
                            .for_each(|tell| tell.send(()).unwrap());
                    });
                    block_in_place(|| block_until_told(&told_other));
                });
                group.wait().await.unwrap();
            }));
        });
    }
}

/// Those that run wake themselves again and again.
#[tokio::test]
async fn free_slots_are_taken_though_others_never_rest() {
    const RESTLESS: usize = 900;
    let group = Group::builder().max_running(1_000).build();
    let polls = Arc::new(AtomicUsize::new(0));
    for _ in 0..RESTLESS {
        let polls = Arc::clone(&polls);
        group.delay(
            ms(0),
            poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }),
        );
    }
    bounded(until("all run", || group.stats().running == RESTLESS)).await;
    let last = Arc::new(AtomicUsize::new(0));
    let at = Instant::now();
    for _ in 0..100 {
        let (polls, last) = (Arc::clone(&polls), Arc::clone(&last));
        group.schedule(at, async move {
            last.store(polls.load(Ordering::SeqCst), Ordering::SeqCst);
        });
    }
    let before = polls.load(Ordering::SeqCst);
    bounded(until("all have started", || group.stats().finished == 100)).await;
    let between = last.load(Ordering::SeqCst) - before;
    // Some turns pass until the driver has released them.
    assert!(between < 5_000, "{between} polls of others");
    group.shutdown(ms(0)).await;
}

/// The driver is woken by the job that blocks, and must not have to wait for it.
#[test]
fn a_job_that_schedules_and_then_blocks_holds_up_no_timer() {
    for (awaits, round) in [[false; 20], [true; 20]].concat().into_iter().zip(0..) {
        watched(move || {
            of_threads(2).block_on(bounded(async {
                let group = Group::new();
                let (tell, told) = mpsc::channel();
                group.delay_with(ms(1), move |context| async move {
                    if awaits {
                        yield_now().await;
                    }
                    context.delay(ms(1), async move { tell.send(()).unwrap() });
                    block_until_told(&told);
                });
                let outcome = group.wait().await;
                assert!(
                    outcome.is_ok(),
                    "awaits: {awaits}, round {round}: {outcome:?}"
                );
            }));
        });
    }
}

/// The one that it waits for is polled by another worker, though none was free to be called.
#[test]
fn a_job_may_wake_another_and_block_its_thread_until_that_has_answered() {
    for threads in [1, 2] {
        watched(move || {
            of_threads(threads).block_on(bounded(async {
                let group = Group::new();
                let ((ask, asked), (answer, answered)) = (oneshot::channel(), mpsc::channel());
                group.delay(ms(0), async move {
                    asked.await.unwrap();
                    answer.send(()).unwrap();
                });
                group.delay(ms(5), async move {
                    ask.send(()).unwrap();
                    block_in_place(|| answered.recv().unwrap());
                });
                group.wait().await.unwrap();
            }));
        });
    }
}
