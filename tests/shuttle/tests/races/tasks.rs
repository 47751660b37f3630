//! Groups of tasks: what is spawned, submitted and joined beside the ways in which a group ends.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use schedgroup::ScheduleError;
use schedgroup::task::{Cause, OnError, TaskGroup, TaskHandle};
use shuttle::{future, thread};

use crate::{Entry, Ledger, NEVER, NOW, explore};

/// The wait is woken beside its drop: the next one still sees the end, and the error.
#[test]
fn a_wait_of_tasks_that_was_dropped_leaves_the_end_to_the_next() {
    explore(|| {
        future::block_on(async {
            let group = TaskGroup::builder().limit(1).build();
            let handle = group.handle();
            group.spawn(async move {
                future::yield_now().await;
                handle.spawn(async { Err(7) });
                Ok(())
            });
            let polled = {
                let mut wait = std::pin::pin!(group.wait());
                std::future::poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await
            };
            let ended = match polled {
                Poll::Ready(ended) => ended,
                Poll::Pending => group.wait().await,
            };
            assert_eq!(ended.unwrap_err().into_error(), Some(7));
            assert_eq!(group.stats().finished, 1);
        });
    });
}

/// A spawn through a handle beside the end runs, or is skipped; what wait says agrees with what it covered.
#[test]
fn a_spawn_beside_the_end_of_its_group_runs_or_is_skipped() {
    explore(|| {
        future::block_on(async {
            let group = TaskGroup::<()>::new();
            let (handle, ran) = (group.handle(), Arc::new(AtomicUsize::new(0)));
            let counter = Arc::clone(&ran);
            let spawner = thread::spawn(move || {
                handle.spawn(async move {
                    counter.fetch_add(1, SeqCst);
                    Ok(())
                });
            });
            group.spawn(async { Ok(()) });
            group.wait().await.expect("no task that it covers is lost");
            let covered = ran.load(SeqCst);
            spawner.join().unwrap();
            let stats = group.stats();
            assert_eq!(
                (ran.load(SeqCst), stats.skipped),
                (covered, 1 - covered as u64)
            );
        });
    });
}

/// A shutdown beside spawns through handles: what it held is in its report, what came too late is skipped.
#[test]
fn every_task_beside_a_shutdown_is_in_its_report_or_is_skipped() {
    explore(|| {
        future::block_on(async {
            let group = TaskGroup::builder().limit(1).build();
            let (handle, ledger) = (group.handle(), Ledger::default());
            group.spawn(ledger.job());
            let spawned = ledger.clone();
            let spawner = thread::spawn(move || {
                for _ in 0..2 {
                    handle.spawn(spawned.job());
                }
            });
            let report = group.shutdown(NEVER).await;
            spawner.join().unwrap();
            let (_, ran, gone) = ledger.counts();
            let stats = group.stats();
            assert_eq!(
                (report.aborted, report.dropped, gone),
                (0, 0, 3),
                "{report:?}"
            );
            // What ended before the call is not in the report.
            assert!(report.finished <= ran, "{report:?} {ledger:?}");
            assert_eq!(
                (stats.finished, stats.skipped),
                (ran as u64, 3 - ran as u64)
            );
        });
    });
}

/// The grace is over beside the end of a task, a member that leaves, and one who waits.
#[test]
fn an_end_of_grace_beside_the_last_end_wakes_all_who_wait() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (TaskGroup::builder().limit(1).build(), Ledger::default());
            for _ in 0..2 {
                group.spawn(ledger.job());
            }
            let member = group.member();
            let leaver = thread::spawn(move || drop(member));
            let drain = group.drain(NEVER);
            let now = group.shutdown(NOW).await;
            let all = drain.await;
            leaver.join().unwrap();
            let (_, ran, gone) = ledger.counts();
            assert_eq!(
                (gone, all.finished + all.aborted + all.dropped <= 3),
                (2, true)
            );
            assert!(now.finished <= all.finished, "{now:?} {all:?}");
            assert_eq!(group.wait().await.is_ok(), all.aborted + all.dropped == 0);
            assert_eq!(group.stats().finished, ran as u64);
        });
    });
}

/// A task that never ends by itself, and counts when it is gone.
fn endless(ledger: &Ledger) -> impl Future<Output = ()> + Send + use<> {
    let entry = Entry(ledger.clone());
    async move {
        pending::<()>().await;
        drop(entry);
    }
}

/// Submits a task, and says whether it was accepted. One that comes back is whole.
async fn submit(handle: &TaskHandle, ledger: &Ledger) -> bool {
    match handle.submit(ledger.job()).await {
        Ok(_) => true,
        Err(ScheduleError::Cancelled(task) | ScheduleError::Closed(task)) => {
            let gone = ledger.counts().2;
            drop(task);
            assert!(ledger.counts().2 > gone, "it was there");
            false
        }
        Err(error) => panic!("{error:?} is new"),
    }
}

/// Whatever is first, a submitted task has run, was skipped, or came back.
fn submits_beside(capacity: usize, end: impl Fn(&TaskHandle) + Clone + Send + Sync + 'static) {
    explore(move || {
        let end = end.clone();
        future::block_on(async {
            let group = TaskGroup::builder().limit(1).queue(capacity).build();
            let ledger = Ledger::default();
            group.spawn(ledger.job());
            let submits = [(); 2].map(|()| {
                let (handle, ledger) = (group.handle(), ledger.clone());
                thread::spawn(move || future::block_on(submit(&handle, &ledger)))
            });
            let handle = group.handle();
            let ends = thread::spawn(move || end(&handle));
            let accepted = submits.map(|submit| usize::from(submit.join().unwrap()));
            ends.join().unwrap();
            // What is skipped makes it an error.
            let waited = group.wait().await;
            let stats = group.stats();
            let (_, ran, gone) = ledger.counts();
            assert_eq!(gone, 3, "{stats:?}");
            assert_eq!(stats.finished, ran as u64);
            let lost = stats.skipped + stats.aborted;
            let held = 1 + accepted.iter().sum::<usize>();
            assert_eq!(stats.finished + lost, held as u64, "{stats:?}");
            assert_eq!(waited.is_err(), lost > 0, "{stats:?}");
        });
    });
}

#[test]
fn a_submit_beside_a_cancel_runs_is_skipped_or_comes_back() {
    submits_beside(0, TaskHandle::cancel);
}

#[test]
fn a_submit_with_capacity_beside_a_cancelled_token_runs_is_skipped_or_comes_back() {
    submits_beside(1, |handle| handle.token().cancel());
}

#[test]
fn a_submit_beside_an_abort_runs_is_stopped_or_comes_back() {
    submits_beside(1, TaskHandle::abort);
}

/// A submit that is dropped beside the end of the task before it takes no slot along.
#[test]
fn a_submit_that_is_dropped_beside_a_free_slot_loses_none() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (TaskGroup::builder().limit(1).build(), Ledger::default());
            group.spawn(ledger.job());
            let (handle, dropped) = (group.handle(), ledger.clone());
            let dropper = thread::spawn(move || {
                let mut submit = pin!(handle.submit(dropped.job()));
                let mut cx = Context::from_waker(Waker::noop());
                let polled = submit.as_mut().poll(&mut cx);
                thread::yield_now();
                matches!(polled, Poll::Ready(Ok(_)))
            });
            assert!(submit(&group.handle(), &ledger).await);
            let accepted = dropper.join().unwrap();
            group.wait().await.expect("nothing is skipped");
            let (_, ran, gone) = ledger.counts();
            assert_eq!(gone, 3);
            // It may have been accepted between its poll and its drop.
            assert!(ran == 3 || (ran == 2 && !accepted), "{ran} ran");
            assert_eq!(group.stats().finished, ran as u64);
        });
    });
}

/// A slot that is free is for the first in the queue, whoever comes beside it.
#[test]
fn a_spawn_beside_a_free_slot_does_not_overtake_the_queue() {
    explore(|| {
        future::block_on(async {
            let group = TaskGroup::builder().limit(1).build();
            let order = Arc::new(Mutex::new(Vec::new()));
            let task = |number| {
                let order = Arc::clone(&order);
                async move { order.lock().unwrap().push(number) }
            };
            group.spawn(task(0));
            group.spawn(task(1));
            let (handle, late) = (group.handle(), task(2));
            let spawner = thread::spawn(move || handle.spawn(late));
            assert_eq!(spawner.join().unwrap(), 2);
            group.wait().await.expect("nothing is skipped");
            assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        });
    });
}

/// A member that joins beside the end is waited for, or is rejected: its error is in the result, or nowhere.
#[test]
fn a_member_beside_a_starting_wait_is_waited_for_or_rejected() {
    explore(|| {
        future::block_on(async {
            let group = TaskGroup::<u32>::builder()
                .on_error(OnError::Continue)
                .build();
            let handle = group.handle();
            let joins = thread::spawn(move || {
                let member = handle.member();
                thread::yield_now();
                member.fail(7);
            });
            let waited = group.wait().await;
            joins.join().unwrap();
            let failed = group.stats().failed;
            assert_eq!(waited.is_err(), failed == 1, "{waited:?}, {failed} failed");
        });
    });
}

/// What a member does before it leaves has happened when the wait is over.
#[test]
fn a_member_that_leaves_beside_the_last_task_ends_the_wait() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (TaskGroup::new(), Ledger::default());
            let (member, other, entry) = (group.member(), group.member(), Entry(ledger.clone()));
            group.spawn(async { drop(other) });
            let leaves = thread::spawn(move || {
                drop(entry);
                drop(member);
            });
            group.spawn(ledger.job());
            let stats = group.wait().await.expect("nothing is skipped");
            assert_eq!((stats.finished, ledger.counts().2), (2, 2));
            leaves.join().unwrap();
        });
    });
}

/// What tasks spawn, submit and join while their group waits is covered, at any limit.
#[test]
fn what_tasks_spawn_while_their_group_waits_is_covered() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (TaskGroup::builder().limit(1).build(), Ledger::default());
            for _ in 0..2 {
                let (handle, ledger) = (group.handle(), ledger.clone());
                group.spawn(async move {
                    let (inner, job) = (handle.clone(), ledger.job());
                    handle.spawn(async move {
                        inner.spawn(job);
                    });
                    future::yield_now().await;
                    handle.spawn(ledger.job());
                });
            }
            let stats = group.wait().await.expect("nothing is skipped");
            assert_eq!((stats.finished, ledger.counts().1), (8, 4));
            assert_eq!(group.cause(), Some(Cause::Finished));
        });
    });
}

/// Tasks that start beside an abort are stopped too, and gone when the wait is over.
#[test]
fn a_spawn_beside_an_abort_is_stopped_or_skipped() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (TaskGroup::new(), Ledger::default());
            group.spawn(endless(&ledger));
            let (handle, late) = (group.handle(), ledger.clone());
            let spawner = thread::spawn(move || {
                for _ in 0..2 {
                    handle.spawn(endless(&late));
                }
            });
            let handle = group.handle();
            let aborts = thread::spawn(move || handle.abort());
            spawner.join().unwrap();
            let waited = group.wait().await;
            assert!(waited.is_err(), "{waited:?}");
            assert_eq!(ledger.counts().2, 3, "gone when the wait is over");
            aborts.join().unwrap();
            let stats = group.stats();
            assert_eq!(stats.aborted + stats.skipped, 3, "{stats:?}");
        });
    });
}

/// Beside a shutdown without a grace: what it held is in its report, and the rest is skipped or comes back.
#[test]
fn a_shutdown_without_grace_counts_what_it_held() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (TaskGroup::builder().limit(1).build(), Ledger::default());
            group.spawn(endless(&ledger));
            let (handle, late) = (group.handle(), ledger.clone());
            let spawner = thread::spawn(move || {
                handle.spawn(late.job());
                future::block_on(submit(&handle, &late))
            });
            thread::yield_now();
            let report = group.shutdown(NOW).await;
            let accepted = spawner.join().unwrap();
            let stats = group.stats();
            assert_eq!(ledger.counts().2, 3, "{stats:?}");
            assert!(!accepted, "no slot was ever free");
            assert_eq!((report.finished, report.aborted), (0, 1), "{report:?}");
            assert!(
                report.dropped as u64 <= stats.skipped,
                "{report:?} {stats:?}"
            );
            assert_eq!((stats.aborted, stats.skipped), (1, 1), "{stats:?}");
        });
    });
}

/// Two errors and a member's at once: one is first, for all that tell it.
#[test]
fn errors_at_once_agree_on_the_first() {
    explore(|| {
        future::block_on(async {
            let group = TaskGroup::<usize>::builder()
                .on_error(OnError::Cancel)
                .build();
            let member = group.member();
            for number in 1..3 {
                group.spawn(async move { Err(number) });
            }
            let fails = thread::spawn(move || member.fail(0));
            let first = group.wait().await.unwrap_err().index();
            fails.join().unwrap();
            let cause = first.map(|index| Cause::Failed { index });
            assert_eq!(group.cause(), cause);
            let stats = group.stats();
            assert_eq!(stats.failed + stats.skipped, 3, "{stats:?}");
        });
    });
}
