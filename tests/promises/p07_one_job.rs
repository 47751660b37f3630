//! Cancel and move of one job: the payload is dropped before `cancel` returns, the answers are true,
//! a race with firing has one winner, and a move to later costs nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schedgroup::{Group, JobHandle, JobState, Next};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::common::{
    Flag, HOUR, Hold, Log, Random, beside, bounded, context_of, methods, ms, multi_thread, on_both,
    settle, us, watched,
};

mod cancel {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drops_the_payload_before_it_returns_whatever_the_method() {
        let group = Group::new();
        let hold = Hold::new();
        let context = context_of(&group, &hold).await;
        let flag = Flag::new();
        let (at, job) = (Instant::now() + HOUR, || flag.job());
        for driver_has_seen_it in [false, true] {
            let of_group = methods!(group, at, job);
            let of_context = methods!(context, at, job);
            for (method, call) in of_group.into_iter().chain(of_context) {
                let job = call();
                if driver_has_seen_it {
                    settle().await;
                }
                let before = flag.drops();
                assert!(job.cancel(), "{method}");
                assert_eq!(flag.drops(), before + 1, "{method}");
                assert_eq!(job.state(), JobState::Cancelled, "{method}");
            }
        }
        hold.release();
        group.wait().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn answers_true_once_among_all_handles() {
        let group = Group::new();
        let job = group.delay(HOUR, async {});
        let clones = [job.clone(), job.clone(), job];
        assert_eq!(clones.map(|job| job.cancel()), [true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_false_while_a_single_run_runs_and_after_it() {
        let group = Group::new();
        let log = Log::new();
        let ran = log.clone();
        let job = group.delay(ms(1), async move {
            sleep(ms(10)).await;
            ran.push("to its end");
        });
        sleep(ms(5)).await;
        assert_eq!(job.state(), JobState::Running);
        assert!(!job.cancel());
        sleep(ms(10)).await;
        assert!(!job.cancel());
        assert_eq!(job.state(), JobState::Finished);
        assert_eq!(log.take(), [("to its end", ms(11))]);
    }

    #[tokio::test(start_paused = true)]
    async fn reaches_a_due_job_that_waits_for_a_slot() {
        let group = Group::builder().max_running(1).build();
        let (hold, flag) = (Hold::new(), Flag::new());
        group.delay(Duration::ZERO, hold.job());
        let waiting = group.delay(Duration::ZERO, flag.job());
        hold.started().await;
        settle().await;
        assert_eq!(group.stats().waiting, 1);
        assert!(waiting.is_pending());
        assert!(waiting.cancel());
        assert_eq!((flag.drops(), group.stats().waiting), (1, 0));
        hold.release();
        group.wait().await.unwrap();
        assert_eq!(group.stats().finished, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_one_job_leaves_its_neighbours_alone() {
        let group = Group::new();
        let log = Log::new();
        let at = Instant::now() + ms(10);
        let jobs = [1, 2, 3].map(|n| group.schedule(at, log.job(n)));
        assert!(jobs[1].cancel());
        group.wait().await.unwrap();
        assert_eq!(log.labels(), [1, 3]);
    }

    #[test]
    fn and_the_start_of_the_job_have_one_winner() {
        watched(|| {
            multi_thread().block_on(bounded(async {
                let group = Arc::new(Group::new());
                let (runs, flag) = (Arc::new(AtomicUsize::new(0)), Flag::new());
                let at = Instant::now() + ms(5);
                let jobs = (0..2_000).map(|n| {
                    let (runs, guard) = (Arc::clone(&runs), flag.guard());
                    group.schedule(at + us(n), async move {
                        runs.fetch_add(1, Ordering::SeqCst);
                        drop(guard);
                    })
                });
                let jobs = Arc::new(jobs.collect::<Vec<_>>());
                let cancellers = [(); 2].map(|()| {
                    let jobs = Arc::clone(&jobs);
                    tokio::task::spawn_blocking(move || {
                        let mut won = 0;
                        for job in jobs.iter() {
                            while Instant::now() < job.deadline() {
                                std::hint::spin_loop();
                            }
                            won += usize::from(job.cancel());
                        }
                        won
                    })
                });
                let mut won = 0;
                for canceller in cancellers {
                    won += canceller.await.unwrap();
                }
                group.wait().await.unwrap();
                assert_eq!(runs.load(Ordering::SeqCst) + won, 2_000, "{won} cancelled");
                assert_eq!(flag.drops(), 2_000);
                let cancelled = jobs.iter().filter(|job| job.state() == JobState::Cancelled);
                assert_eq!(cancelled.count(), won);
            }));
        });
    }
}

mod reset {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moves_a_job_to_later_and_to_earlier() {
        let group = Group::new();
        let log = Log::new();
        let start = Instant::now();
        let later = group.delay(ms(10), log.job("later"));
        let earlier = group.delay(ms(100), log.job("earlier"));
        settle().await;
        assert!(later.reset_after(ms(70)));
        assert!(earlier.reset_at(start + ms(20)));
        assert_eq!(later.deadline() - start, ms(70));
        assert_eq!(earlier.deadline() - start, ms(20));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("earlier", ms(20)), ("later", ms(70))]);
    }

    #[tokio::test(start_paused = true)]
    async fn is_honoured_as_often_as_it_is_called() {
        let group = Group::new();
        let log = Log::new();
        let job = group.delay(ms(10), log.job("ran"));
        for (after, passing) in [(100, 5), (20, 5), (50, 40), (1, 0), (300, 2), (7, 0)] {
            assert!(job.reset_after(ms(after)));
            sleep(ms(passing)).await;
        }
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("ran", ms(5 + 5 + 40 + 2 + 7))]);
    }

    /// More moves to earlier than the entries of one job can tell apart.
    #[tokio::test(start_paused = true)]
    async fn is_honoured_a_thousand_times() {
        let group = Group::new();
        let log = Log::new();
        let start = Instant::now();
        let job = group.delay(ms(5_000), log.job("ran"));
        for n in (1_000..2_000).rev() {
            assert!(job.reset_at(start + ms(n)));
        }
        assert!(job.reset_at(start + ms(1_500)));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("ran", ms(1_500))]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_first_job_lets_the_second_fire_at_its_time() {
        let group = Group::new();
        let log = Log::new();
        let first = group.delay(ms(10), log.job("first"));
        group.delay(ms(20), log.job("second"));
        settle().await;
        assert!(first.reset_after(ms(500)));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("second", ms(20)), ("first", ms(500))]);
    }

    #[tokio::test(start_paused = true)]
    async fn to_the_past_fires_at_once() {
        let group = Group::new();
        let log = Log::new();
        let job = group.delay(HOUR, log.job("ran"));
        sleep(ms(5)).await;
        assert!(job.reset_at(Instant::now() - ms(3)));
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("ran", ms(5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn moves_a_due_job_that_waits_for_a_slot() {
        let group = Group::builder().max_running(1).build();
        let (log, hold) = (Log::new(), Hold::new());
        group.delay(Duration::ZERO, hold.job());
        hold.started().await;
        let waiting = group.delay(Duration::ZERO, log.job("moved"));
        settle().await;
        assert_eq!(group.stats().waiting, 1);
        assert!(waiting.reset_after(ms(30)));
        assert_eq!((group.stats().waiting, group.stats().pending), (0, 1));
        hold.release();
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("moved", ms(30))]);
    }

    /// Moved within the past, it goes to its new place in the order of those that wait.
    #[tokio::test(start_paused = true)]
    async fn moves_a_due_job_to_a_place_behind_the_others() {
        let group = Group::builder().max_running(1).build();
        let (log, hold) = (Log::new(), Hold::new());
        let start = Instant::now();
        group.schedule(start, hold.job());
        hold.started().await;
        let moved = group.schedule(start + ms(1), log.job("moved"));
        group.schedule(start + ms(2), log.job("other"));
        sleep(ms(5)).await;
        assert_eq!(group.stats().waiting, 2);
        assert!(moved.reset_at(start + ms(3)));
        settle().await;
        hold.release();
        group.wait().await.unwrap();
        assert_eq!(log.labels(), ["other", "moved"]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_false_when_the_move_will_not_be_honoured() {
        let group = Group::new();
        let log = Log::new();
        let ran = log.clone();
        let once = group.delay(ms(1), async move {
            ran.push(());
            sleep(ms(10)).await;
        });
        let cancelled = group.delay(HOUR, async {});
        assert!(cancelled.cancel());
        assert!(!cancelled.reset_after(ms(1)), "it was cancelled");
        sleep(ms(5)).await;
        assert!(!once.reset_after(ms(1)), "it runs, and only once");
        sleep(ms(10)).await;
        assert!(!once.reset_after(ms(1)), "it has ended");
        group.wait().await.unwrap();
        assert_eq!(log.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_false_in_a_group_that_ends() {
        let cancelled = Group::new();
        let job = cancelled.delay(HOUR, async {});
        cancelled.cancel();
        assert!(!job.reset_after(ms(1)), "cancelled");

        let by_token = Group::new();
        let job = by_token.delay(HOUR, async {});
        by_token.token().cancel();
        assert!(!job.reset_after(ms(1)), "by its token");

        let passed = Group::builder().timeout(ms(1)).build();
        let job = passed.delay(HOUR, async {});
        sleep(ms(1)).await;
        assert!(!job.reset_after(ms(1)), "its deadline has passed");

        let shut = Group::new();
        let job = shut.delay(HOUR, async {});
        drop(shut.shutdown(HOUR));
        assert!(!job.reset_after(ms(1)), "shut down");

        let dropped = Group::new();
        let job = dropped.delay(HOUR, async {});
        drop(dropped);
        assert!(!job.reset_after(ms(1)), "dropped");
    }

    /// The wait is for the jobs, wherever they are moved.
    #[tokio::test(start_paused = true)]
    async fn is_honoured_while_the_group_drains() {
        let group = Group::new();
        let log = Log::new();
        let job = group.delay(ms(10), log.job("ran"));
        let mover = async {
            sleep(ms(5)).await;
            assert!(job.reset_after(ms(100)));
        };
        beside(group.wait(), mover).await.unwrap();
        assert_eq!(log.take(), [("ran", ms(105))]);
    }

    #[test]
    fn and_the_start_of_the_job_have_one_winner() {
        on_both(|| async {
            let group = Group::new();
            let log = Log::new();
            let at = Instant::now() + ms(2);
            let jobs = (0..500)
                .map(|n| (n, group.schedule(at, log.job(n))))
                .collect::<Vec<_>>();
            tokio::time::sleep_until(at).await;
            let moved_to = Instant::now() + ms(40);
            let moved = jobs
                .iter()
                .map(|(_, job)| job.reset_at(moved_to))
                .collect::<Vec<_>>();
            let before = log.take().into_iter().map(|(n, _)| n).collect::<Vec<_>>();
            assert!(Instant::now() < moved_to, "the machine was away too long");
            group.wait().await.unwrap();
            let mut after = log.labels();
            after.retain(|n| moved[*n as usize]);
            after.sort_unstable();
            let honoured = (0..500).filter(|n| moved[*n as usize]).collect::<Vec<_>>();
            assert_eq!(after, honoured, "moved jobs run after the move");
            assert!(before.iter().all(|n| !moved[*n as usize]), "and not before");
        });
    }

    #[tokio::test(start_paused = true)]
    async fn to_later_does_not_wake_the_driver() {
        let group = Group::new();
        let log = Log::new();
        let job = group.delay(ms(1_000), log.job("ran"));
        settle().await;
        let before = group.stats().driver_wakeups;
        for n in 1..=10_000 {
            assert!(job.reset_after(ms(1_000 + n)));
        }
        sleep(ms(999)).await;
        assert_eq!(group.stats().driver_wakeups, before);
        group.wait().await.unwrap();
        assert_eq!(log.take(), [("ran", ms(11_000))]);
        // It looked at the old deadline, at the new one, and when all was done.
        let turns = group.stats().driver_wakeups - before;
        assert!(turns <= 4, "{turns} turns for one job moved 10,000 times");
    }
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_handle_speak_for_the_same_job() {
    let group = Group::new();
    let log = Log::new();
    let job = group.delay(ms(10), log.job(()));
    let clone = job.clone();
    assert_eq!(job.id(), clone.id());
    drop(job);
    assert!(clone.reset_after(ms(30)));
    assert_eq!(clone.clone().deadline(), Instant::now() + ms(30));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [((), ms(30))]);
    assert_eq!(clone.state(), JobState::Finished);
}

/// A slot is used again; a handle of its former job must not speak for the new one.
#[tokio::test(start_paused = true)]
async fn a_handle_of_an_ended_job_does_not_reach_a_later_one() {
    let group = Group::new();
    let log = Log::new();
    let mut ended = Vec::new();
    for n in 0..100 {
        let old = group.delay(Duration::ZERO, async {});
        settle().await;
        let new = group.delay(ms(10), log.job(n));
        assert!(!old.cancel() && !old.reset_after(HOUR));
        old.abort();
        assert!(new.is_pending(), "{n}");
        ended.push(old);
    }
    group.wait().await.unwrap();
    assert_eq!(log.len(), 100);
    assert!(ended.iter().all(|job| job.state() == JobState::Finished));
}

#[tokio::test(start_paused = true)]
async fn a_job_may_cancel_and_move_others_and_itself() {
    let group = Group::new();
    let log = Log::new();
    let cancelled = group.delay(ms(20), log.job("cancelled"));
    let moved = group.delay(ms(30), log.job("moved"));
    let (send, own) = tokio::sync::oneshot::channel::<schedgroup::JobHandle>();
    let itself = log.clone();
    let job = group.delay(ms(10), async move {
        assert!(cancelled.cancel());
        assert!(moved.reset_after(ms(1)));
        let own = own.await.unwrap();
        assert!(!own.cancel() && !own.reset_after(ms(1)));
        itself.push("itself");
    });
    assert!(send.send(job).is_ok());
    let repeating = log.clone();
    group.repeat(Instant::now() + ms(50), move |_| {
        repeating.push("repeating");
        async { Next::Done }
    });
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [("itself", ms(10)), ("moved", ms(11)), ("repeating", ms(50))]
    );
}

/// They are due with it, so its worker has claimed them already.
#[tokio::test(start_paused = true)]
async fn a_job_may_cancel_abort_and_move_those_that_are_due_after_it() {
    let group = Group::new();
    let (log, flag) = (Log::new(), Flag::new());
    let due = Instant::now() + ms(10);
    let (send, others) = tokio::sync::oneshot::channel::<[schedgroup::JobHandle; 3]>();
    let (first, gone) = (log.clone(), flag.clone());
    group.schedule(due, async move {
        let [cancelled, aborted, moved] = others.await.unwrap();
        assert!(cancelled.is_pending() && aborted.is_pending() && moved.is_pending());
        assert!(cancelled.cancel());
        assert!(!cancelled.cancel());
        assert_eq!((gone.drops(), cancelled.state()), (1, JobState::Cancelled));
        aborted.abort();
        assert_eq!((gone.drops(), aborted.state()), (2, JobState::Cancelled));
        assert!(moved.reset_after(ms(5)));
        assert!(moved.is_pending());
        first.push("first");
    });
    let others = [
        group.schedule(due, flag.job()),
        group.schedule(due, flag.job()),
        group.schedule(due, log.job("moved")),
    ];
    group.schedule(due, log.job("last"));
    assert!(send.send(others).is_ok());
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [("first", ms(10)), ("last", ms(10)), ("moved", ms(15))]
    );
    let stats = group.stats();
    assert_eq!((stats.finished, stats.cancelled), (3, 2));
}

/// Cancelled jobs leave dead entries, which are swept while jobs are made, cancelled, moved and due: each runs
/// once, in its millisecond.
#[tokio::test(start_paused = true)]
async fn jobs_keep_their_deadlines_beside_a_sweep_of_dead_entries() {
    for seed in 1..=4 {
        let (group, log, mut random) = (Group::new(), Log::new(), Random(seed));
        let (start, mut jobs) = (Instant::now(), Vec::<(JobHandle, _)>::new());
        for _ in 0..8 {
            let doomed: Vec<_> = (0..10_000).map(|_| group.delay(HOUR, async {})).collect();
            settle().await;
            assert!(doomed.iter().all(|job| job.cancel()));
            drop(doomed);
            for _ in 0..25 {
                for _ in 0..20 {
                    let now = start.elapsed();
                    let most = [5, 50, 5_000][random.below(3) as usize];
                    let delay = ms(1 + random.below(most));
                    let other = random.below(1 + jobs.len() as u64) as usize;
                    match jobs.get_mut(other) {
                        Some((job, at)) if *at > Some(now) && random.below(2) == 0 => {
                            if random.below(4) == 0 {
                                assert!(job.cancel(), "seed {seed}: {job:?}");
                                *at = None;
                            } else {
                                assert!(job.reset_after(delay), "seed {seed}: {job:?}");
                                *at = Some(now + delay);
                            }
                        }
                        _ => {
                            let job = group.delay(delay, log.job(jobs.len()));
                            jobs.push((job, Some(now + delay)));
                        }
                    }
                }
                tokio::time::advance(ms(1)).await;
                // A turn of the driver, a turn of its worker, and one for each of their wake-ups.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
        }
        group.wait().await.unwrap();
        let mut ran = log.take();
        ran.sort_unstable();
        let due = jobs.iter().map(|(_, due)| *due).enumerate();
        let expected: Vec<_> = due.filter_map(|(job, due)| Some((job, due?))).collect();
        assert_eq!(ran.len(), expected.len(), "seed {seed}");
        for (ran, expected) in ran.into_iter().zip(expected) {
            assert_eq!(ran, expected, "seed {seed}");
        }
    }
}

/// Jobs that are woken together end one after another, and each sees the ends of those before it.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_that_has_awaited_is_seen_at_once() {
    const JOBS: usize = 100;
    for limit in [JOBS, usize::MAX] {
        let builder = Group::builder();
        let group = match limit {
            usize::MAX => builder.build(),
            limit => builder.max_running(limit).build(),
        };
        let (gate, jobs) = (
            Arc::new(Notify::new()),
            Arc::new(OnceLock::<Vec<JobHandle>>::new()),
        );
        let all = (0..JOBS).map(|n| {
            let (gate, jobs, handle) = (Arc::clone(&gate), Arc::clone(&jobs), group.handle());
            group.delay(ms(1), async move {
                gate.notified().await;
                let jobs = jobs.get().unwrap();
                assert!(
                    jobs[..n]
                        .iter()
                        .all(|job| job.state() == JobState::Finished)
                );
                // It has ended: this is for nobody.
                jobs[..n].iter().for_each(JobHandle::abort);
                assert_eq!(jobs[n].state(), JobState::Running);
                let stats = handle.stats();
                assert_eq!((stats.finished, stats.running), (n as u64, JOBS - n));
            })
        });
        jobs.set(all.collect()).unwrap();
        sleep(ms(2)).await;
        gate.notify_waiters();
        group.wait().await.unwrap();
        assert!(
            jobs.get()
                .unwrap()
                .iter()
                .all(|job| job.state() == JobState::Finished)
        );
    }
}
