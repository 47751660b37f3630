//! A group belongs to one runtime and is used from any; when that runtime goes, nobody hangs.

use std::future::pending;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use schedgroup::{Group, JobError, JobHandle, JobState, Next, ScheduleError};
use tokio::runtime::{Builder, Handle, Id, Runtime};
use tokio::sync::oneshot;
use tokio::task::coop;
use tokio::time::{Instant, sleep};

use super::{assert_cancelled, assert_deadline_exceeded};
use crate::common::{
    Flag, HOUR, Hold, Log, bounded, counts, ms, multi_thread, paused, runtimes, until, watched,
};

/// The runtime that this code runs in.
fn here() -> Id {
    Handle::current().id()
}

/// A group on that runtime, made by a thread that is in none.
fn group_on(runtime: &Runtime) -> Group {
    Group::builder().runtime(runtime.handle().clone()).build()
}

#[test]
fn jobs_run_on_the_groups_runtime_wherever_they_were_scheduled() {
    watched(|| {
        let (home, away) = (multi_thread(), multi_thread());
        let expected = home.handle().id();
        assert_ne!(expected, away.handle().id());
        let group = group_on(&home);
        let log = Log::new();
        let job = |label| {
            let log = log.clone();
            async move { log.push((label, here())) }
        };
        group.delay(ms(1), job("from no runtime"));
        let handle = group.handle();
        let late = job("from another runtime");
        away.block_on(async { handle.delay(ms(2), late) });
        let (thread, late) = (group.handle(), job("from a thread"));
        std::thread::spawn(move || thread.delay(ms(3), late))
            .join()
            .unwrap();
        away.block_on(bounded(group.wait())).unwrap();
        let mut ran = log.labels();
        ran.sort_unstable_by_key(|(label, _)| *label);
        let labels = ["from a thread", "from another runtime", "from no runtime"];
        assert_eq!(ran, labels.map(|label| (label, expected)));
    });
}

#[test]
fn a_named_runtime_comes_before_the_one_around() {
    watched(|| {
        let (home, around) = (multi_thread(), multi_thread());
        around.block_on(bounded(async {
            let group = group_on(&home);
            let ran_on = group.spawn_after(ms(1), async { here() });
            assert_eq!(ran_on.await.unwrap(), home.handle().id());
            group.wait().await.unwrap();
        }));
    });
}

#[test]
fn a_current_thread_runtime_runs_jobs_while_it_is_driven() {
    watched(|| {
        let home = Builder::new_current_thread().enable_all().build().unwrap();
        let group = group_on(&home);
        let log = Log::new();
        let job = group.delay(Duration::ZERO, log.job(()));
        let away = multi_thread();
        away.block_on(async { sleep(ms(5)).await });
        assert!(job.is_pending(), "nobody drives its runtime");
        home.block_on(bounded(group.wait())).unwrap();
        assert_eq!(log.len(), 1);
    });
}

#[test]
fn cancel_move_and_abort_reach_over_from_another_runtime() {
    watched(|| {
        let (home, away) = (multi_thread(), multi_thread());
        let group = group_on(&home);
        let flag = Flag::new();
        let cancelled = group.delay(HOUR, flag.job());
        let moved = group.delay(HOUR, flag.job());
        let aborted = group.delay(Duration::ZERO, std::future::pending());
        away.block_on(bounded(async {
            assert!(cancelled.cancel());
            assert!(moved.reset_after(Duration::ZERO));
            until("it runs", || aborted.state() == JobState::Running).await;
            aborted.abort();
            group.wait().await.unwrap();
        }));
        let states = [cancelled, moved, aborted].map(|job| job.state());
        let [cancelled, finished] = [JobState::Cancelled, JobState::Finished];
        assert_eq!(states, [cancelled, finished, cancelled]);
        assert_eq!(flag.drops(), 2);
    });
}

/// How a runtime can go.
#[derive(Clone, Copy, Debug)]
enum End {
    Drop,
    Background,
    Timeout,
}

impl End {
    const ALL: [End; 3] = [End::Drop, End::Background, End::Timeout];

    fn end(self, runtime: Runtime) {
        match self {
            End::Drop => drop(runtime),
            End::Background => runtime.shutdown_background(),
            End::Timeout => runtime.shutdown_timeout(ms(100)),
        }
    }
}

/// It has started some of them, and let others have a turn.
#[test]
fn what_a_worker_has_claimed_goes_with_the_runtime() {
    watched(|| {
        let (runtime, flag) = (paused(), Flag::new());
        let (group, stats) = runtime.block_on(async {
            let group = Group::new();
            for _ in 0..32 {
                let guard = flag.guard();
                group.delay(Duration::ZERO, async move {
                    pending::<()>().await;
                    drop(guard);
                });
            }
            while group.stats().running == 0 {
                tokio::task::yield_now().await;
            }
            let stats = group.stats();
            (group, stats)
        });
        assert!(stats.pending > 0, "{stats:?}");
        drop(runtime);
        let stats = group.stats();
        assert_eq!((stats.pending, stats.running, stats.cancelled), (0, 0, 32));
        assert_eq!(flag.drops(), 32);
    });
}

#[test]
fn who_waits_elsewhere_is_told_that_the_runtime_went() {
    watched(|| {
        for how in End::ALL {
            for (flavour, home) in runtimes() {
                let away = multi_thread();
                let group = Arc::new(group_on(&home));
                let (pending, running) = (Flag::new(), Flag::new());
                let value = group.spawn_after(HOUR, {
                    let guard = pending.guard();
                    async move { drop(guard) }
                });
                let (hold, guard) = (Hold::new(), running.guard());
                let held = hold.job();
                let job = group.delay(Duration::ZERO, async move {
                    held.await;
                    drop(guard);
                });
                home.block_on(bounded(hold.started()));
                let (waits, is_waiting) = oneshot::channel();
                let waiting = away.spawn({
                    let group = Arc::clone(&group);
                    async move {
                        let wait = group.wait();
                        waits.send(()).unwrap();
                        wait.await
                    }
                });
                away.block_on(bounded(is_waiting)).unwrap();
                how.end(home);
                let outcome = away.block_on(bounded(waiting)).unwrap();
                assert_cancelled(&outcome);
                let value = away.block_on(bounded(value));
                assert!(matches!(value, Err(JobError::Cancelled)), "{value:?}");
                away.block_on(bounded(until("dropped", || job.is_finished())));
                let drops = (pending.drops(), running.drops());
                assert_eq!(drops, (1, 1), "{how:?} of {flavour}");
                assert_eq!(job.state(), JobState::Cancelled, "{how:?} of {flavour}");
            }
        }
    });
}

/// Nothing has looked at the clock since then.
#[test]
fn a_deadline_that_passed_before_the_runtime_went_is_what_ends_the_group() {
    for (_, home) in runtimes() {
        let builder = Group::builder().runtime(home.handle().clone());
        let group = builder.deadline(Instant::now()).build();
        drop(home);
        let waited = multi_thread().block_on(bounded(group.wait()));
        assert_deadline_exceeded(&waited);
    }
}

#[test]
fn a_shutdown_elsewhere_ends_when_the_runtime_goes_and_adds_up() {
    watched(|| {
        for (flavour, home) in runtimes() {
            let away = multi_thread();
            let group = group_on(&home);
            let hold = Hold::new();
            group.delay(Duration::ZERO, hold.job());
            home.block_on(bounded(hold.started()));
            for _ in 0..3 {
                group.delay(HOUR, async {});
            }
            let shutdown = group.shutdown(HOUR);
            drop(home);
            let report = away.block_on(bounded(shutdown));
            assert_eq!(counts(report), (0, 1, 3), "{flavour}");
        }
    });
}

#[test]
fn scheduling_is_rejected_once_the_runtime_has_gone() {
    watched(|| {
        for how in End::ALL {
            for (flavour, home) in runtimes() {
                let group = group_on(&home);
                how.end(home);
                let away = multi_thread();
                away.block_on(bounded(until("the driver has gone", || {
                    group.token().is_cancelled()
                })));
                let rejected = group.try_delay(ms(1), async {}).unwrap_err();
                assert!(
                    matches!(rejected, ScheduleError::Cancelled(_)),
                    "{how:?} of {flavour}: {rejected:?}"
                );
                let flag = Flag::new();
                let job = group.delay(ms(1), flag.job());
                let seen = (job.state(), flag.drops());
                assert_eq!(seen, (JobState::Cancelled, 1), "{how:?} of {flavour}");
            }
        }
    });
}

#[test]
fn a_series_ends_with_its_runtime() {
    watched(|| {
        for (flavour, home) in runtimes() {
            let group = group_on(&home);
            let flag = Flag::new();
            let guard = flag.guard();
            let (send, ran) = oneshot::channel();
            let mut send = Some(send);
            let job = group.repeat(Instant::now(), move |_| {
                let _held_by_the_series = &guard;
                send.take().map(|send| send.send(()));
                async { Next::After(HOUR) }
            });
            home.block_on(bounded(ran)).unwrap();
            drop(home);
            assert_eq!(job.state(), JobState::Cancelled, "{flavour}");
            assert_eq!(flag.drops(), 1, "{flavour}");
        }
    });
}

#[test]
fn a_group_may_be_dropped_outside_of_any_runtime() {
    watched(|| {
        for (flavour, home) in runtimes() {
            let group = group_on(&home);
            let flag = Flag::new();
            let job = group.delay(HOUR, flag.job());
            drop(group);
            home.block_on(bounded(until("dropped", || flag.drops() == 1)));
            assert!(job.is_finished(), "{flavour}");
        }
    });
}

#[test]
fn two_groups_of_two_runtimes_may_schedule_on_each_other() {
    watched(|| {
        let (one, other) = (multi_thread(), multi_thread());
        let (ping, pong) = (group_on(&one), group_on(&other));
        let (there, log) = (pong.handle(), Log::new());
        for n in 0..100 {
            let (there, answer) = (there.clone(), log.job(n));
            ping.delay(Duration::ZERO, async move {
                there.delay(Duration::ZERO, answer);
            });
        }
        one.block_on(bounded(ping.wait())).unwrap();
        one.block_on(bounded(pong.wait())).unwrap();
        let mut answers = log.labels();
        answers.sort_unstable();
        assert_eq!(answers, (0..100).collect::<Vec<_>>());
    });
}

/// Whichever of its tasks the runtime drops last.
#[test]
fn jobs_that_a_runtime_cuts_short_make_wait_say_cancelled() {
    for (flavour, home) in runtimes() {
        let group = group_on(&home);
        let hold = Hold::new();
        for _ in 0..8 {
            group.delay(Duration::ZERO, hold.job());
        }
        home.block_on(bounded(async {
            for _ in 0..8 {
                hold.started().await;
            }
        }));
        let wait = group.wait();
        drop(home);
        let outcome = multi_thread().block_on(bounded(wait));
        println!("{flavour}");
        assert_cancelled(&outcome);
    }
}

/// Its worker lets others have a turn after each job, in the middle of a batch, and is dropped there: before the
/// driver or after it.
#[test]
fn jobs_that_a_worker_has_claimed_are_dropped_with_its_runtime() {
    const JOBS: u64 = 500;
    watched(|| {
        for round in 0..16 {
            let home = multi_thread();
            let group = group_on(&home);
            // The order in which a runtime drops its tasks depends on their numbers.
            (0..round).for_each(|_| drop(home.spawn(async {})));
            let flag = Flag::new();
            let jobs: Vec<_> = (0..JOBS)
                .map(|_| {
                    let job = flag.job();
                    group.delay(Duration::ZERO, async move {
                        job.await;
                        while coop::has_budget_remaining() {
                            coop::consume_budget().await;
                        }
                        // Some are still to come when the runtime goes.
                        std::thread::sleep(Duration::from_micros(50));
                    })
                })
                .collect();
            while flag.drops() < 40 {
                std::thread::yield_now();
            }
            drop(home);
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0), "{stats:?}");
            assert_eq!(stats.finished + stats.cancelled, JOBS);
            assert!(jobs.iter().all(JobHandle::is_finished));
            assert_eq!(flag.drops() as u64, JOBS);
        }
    });
}

/// It cannot be dropped while it is polled, so it ends with that poll, the first or a later one, by itself or not.
#[test]
fn a_job_that_is_polled_as_its_runtime_goes_ends_with_that_poll() {
    for (awaits, ends) in [(false, false), (true, false), (false, true), (true, true)] {
        watched(move || {
            let home = multi_thread();
            let group = group_on(&home);
            let flag = Flag::new();
            let ((tell, told), (release, released)) = (mpsc::channel(), mpsc::channel());
            let dropped_with_it = flag.job();
            group.delay(Duration::ZERO, async move {
                if awaits {
                    sleep(ms(1)).await;
                }
                tell.send(()).unwrap();
                released.recv().unwrap();
                // Its worker has to yield after it, and does not come back.
                while coop::has_budget_remaining() {
                    coop::consume_budget().await;
                }
                if !ends {
                    pending::<()>().await;
                }
                drop(dropped_with_it);
            });
            told.recv().unwrap();
            home.shutdown_background();
            let handle = group.handle();
            let is_over = || handle.try_delay(Duration::ZERO, async {}).is_err();
            multi_thread().block_on(bounded(async {
                until("the driver is gone", is_over).await;
                assert_eq!(flag.drops(), 0, "awaits: {awaits}, ends: {ends}");
                let report = group.shutdown(Duration::MAX);
                release.send(()).unwrap();
                assert_eq!(report.await.finished, usize::from(ends), "awaits: {awaits}");
                assert_cancelled(&group.wait().await);
                until("it is dropped", || flag.drops() == 1).await;
                assert_eq!(group.stats().running, 0, "awaits: {awaits}, ends: {ends}");
            }));
        });
    }
}
