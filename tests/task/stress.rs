//! Races on two workers, each round under a bounded wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use schedgroup::task::{OnError, TaskGroup, TaskStats};

use crate::common::{Flag, Hold, bounded, multi_thread, sized, until, watched};

/// A spawn that races with `wait` is covered or rejected.
#[test]
fn a_task_beside_a_starting_wait_runs_or_comes_back() {
    const ROUNDS: usize = 3_000;
    watched(|| {
        multi_thread().block_on(async {
            let mut accepted = 0;
            for round in 0..ROUNDS {
                let group = TaskGroup::<()>::builder().limit(1).build();
                let (handle, ran) = (group.handle(), Arc::new(AtomicUsize::new(0)));
                let counted = ran.clone();
                let rival = tokio::spawn(async move {
                    let task = async move {
                        counted.fetch_add(1, SeqCst);
                        Ok(())
                    };
                    usize::from(handle.try_spawn(task).is_ok())
                });
                tokio::task::yield_now().await;
                // On a busy machine it may come too late in every round: so in each other one the task is in.
                if round % 2 == 0 {
                    until("it is in", || group.stats() != TaskStats::default()).await;
                }
                bounded(group.wait()).await.unwrap();
                let ran = ran.load(SeqCst);
                let taken = bounded(rival).await.unwrap();
                assert_eq!(ran, taken, "round {round}");
                accepted += taken;
            }
            assert!(accepted >= ROUNDS / 2, "{accepted} accepted: no race");
        });
    });
}

/// A wait that is dropped in the very moment in which the group drains leaves the end to the next.
#[test]
fn waits_that_are_dropped_beside_the_last_end_lose_nothing() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..3_000 {
                let group = TaskGroup::new();
                group.spawn(async move {
                    for _ in 0..round % 16 {
                        tokio::task::yield_now().await;
                    }
                    Err(round)
                });
                let ended = bounded(async {
                    loop {
                        tokio::select! {
                            biased;
                            () = tokio::task::yield_now() => {}
                            ended = group.wait() => break ended,
                        }
                    }
                });
                assert_eq!(ended.await.unwrap_err().into_error(), Some(round));
            }
        });
    });
}

/// One worker starts what the other one runs, so that a turn of starting may be long and is handed over.
#[test]
fn a_long_queue_behind_one_slot_runs_in_order() {
    const TASKS: usize = 50_000;
    watched(|| {
        multi_thread().block_on(async {
            let group = sized(1);
            let hold = Hold::new();
            group.spawn(hold.job());
            let ran = Arc::new(AtomicUsize::new(0));
            for place in 0..TASKS {
                let ran = ran.clone();
                group.spawn(async move { assert_eq!(ran.fetch_add(1, SeqCst), place) });
            }
            hold.release();
            let stats = bounded(group.wait()).await.unwrap();
            assert_eq!((stats.finished, stats.panicked), (TASKS as u64 + 1, 0));
        });
    });
}

/// Submits that are dropped, cancelled and taken in at the same moment lose neither slot nor task.
#[test]
fn every_task_is_told_whatever_races() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..500 {
                let group = TaskGroup::builder().limit(2).queue(round % 3).build();
                let (flag, mut callers) = (Flag::new(), Vec::new());
                for n in 0..12 {
                    let (handle, guard) = (group.handle(), flag.guard());
                    callers.push(tokio::spawn(async move {
                        let task = async move {
                            let _guard = guard;
                            tokio::task::yield_now().await;
                            if n == round % 24 { Err(n) } else { Ok(()) }
                        };
                        // How many of these tasks the group has taken in, at least and at most.
                        match n % 3 {
                            0 => {
                                handle.spawn(task);
                                (1, 1)
                            }
                            1 => {
                                let taken = handle.submit(task).await.map_or(0, |_| 1);
                                (taken, taken)
                            }
                            _ => tokio::select! {
                                biased;
                                submitted = handle.submit(task) => {
                                    let taken = submitted.map_or(0, |_| 1);
                                    (taken, taken)
                                }
                                () = tokio::task::yield_now() => (0, 1),
                            },
                        }
                    }));
                }
                let (mut least, mut most) = (0, 0);
                for caller in callers {
                    let taken = bounded(caller).await.unwrap();
                    (least, most) = (least + taken.0, most + taken.1);
                }
                // Whatever was taken in ends.
                drop(bounded(group.wait()).await);
                let stats = group.stats();
                assert_eq!(
                    (stats.running, stats.pending, flag.drops()),
                    (0, 0, 12),
                    "round {round}: {stats:?}"
                );
                let told = stats.finished + stats.failed + stats.skipped + stats.aborted;
                assert!(
                    (least..=most).contains(&told),
                    "round {round}: {told} of {least} to {most}, {stats:?}"
                );
            }
        });
    });
}

/// Errors from two workers at once: one is first, and cause, index and list agree.
#[test]
fn two_errors_at_once_agree_on_the_first() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..1_000 {
                let group = TaskGroup::builder().on_error(OnError::Cancel).build();
                for n in 0..4 {
                    group.spawn(async move { Err::<(), usize>(n) });
                }
                let first = bounded(group.wait()).await.unwrap_err().index().unwrap();
                let cause = group.cause();
                let expected = Some(schedgroup::task::Cause::Failed { index: first });
                assert_eq!(cause, expected, "round {round}");
            }
        });
    });
}

/// A task that starts beside the abort is aborted too: none is left for `wait` to wait for.
#[test]
fn an_abort_reaches_tasks_that_are_just_starting() {
    watched(|| {
        multi_thread().block_on(async {
            for round in 0..1_000 {
                let group = TaskGroup::builder().on_error(OnError::Abort).build();
                group.spawn(async move { Err(round) });
                for _ in 0..20 {
                    group.spawn(std::future::pending::<Result<(), _>>());
                }
                let error = bounded(group.wait()).await.unwrap_err();
                assert_eq!(error.into_error(), Some(round));
                let stats = group.stats();
                assert_eq!(
                    stats.aborted + stats.skipped,
                    20,
                    "round {round}: {stats:?}"
                );
            }
        });
    });
}
