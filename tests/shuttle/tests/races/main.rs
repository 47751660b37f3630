//! The whole group in orders of its threads and tasks that shuttle chooses.
//!
//! Each race runs under two schedulers: one chooses at random, the other (PCT) by priorities that it changes
//! at a few places, which finds orders that need long stretches of one thread. A hang is reported as a
//! deadlock, with a schedule that plays it again. shuttle has no clock: jobs here are due at once or never.
//!
//! `SHUTTLE_SCHEDULES` sets how many orders each scheduler tries.
#![forbid(unsafe_code)]

mod flow_lives;
mod keyed;
mod keyed_lives;
mod lives;
mod random;
mod task_lives;
mod tasks;
mod timed_lives;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use schedgroup::{Group, Handle, JobState, Next, ScheduleError, WaitError};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, future, thread};

const NOW: Duration = Duration::ZERO;
const NEVER: Duration = Duration::MAX;
/// Places where PCT changes the priorities, of one order.
const DEPTH: usize = 3;

fn explore(race: impl Fn() + Clone + Send + Sync + 'static) {
    let orders = std::env::var("SHUTTLE_SCHEDULES").map_or(2_000, |orders| {
        orders.parse().expect("SHUTTLE_SCHEDULES is a number")
    });
    let mut config = Config::new();
    config.stack_size = 0x20000;
    Runner::new(RandomScheduler::new(orders), config.clone()).run(race.clone());
    Runner::new(PctScheduler::new(DEPTH, orders), config).run(race);
}

/// What became of the jobs that were accepted.
#[derive(Clone, Debug, Default)]
struct Ledger {
    accepted: Arc<AtomicUsize>,
    ran: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

struct Entry(Ledger);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, SeqCst);
    }
}

impl Ledger {
    /// A job that counts its run, and its end whichever way.
    fn job(&self) -> impl Future<Output = ()> + Send + use<> {
        let entry = Entry(self.clone());
        async move {
            entry.0.ran.fetch_add(1, SeqCst);
        }
    }

    /// Jobs until one is rejected, `most` of them.
    fn produce(&self, handle: &Handle, most: usize) {
        for _ in 0..most {
            match handle.try_delay(NOW, self.job()) {
                Ok(_) => self.accepted.fetch_add(1, SeqCst),
                Err(ScheduleError::Closed(job) | ScheduleError::Cancelled(job)) => {
                    drop(job);
                    self.gone.fetch_sub(1, SeqCst);
                    return;
                }
                Err(error) => panic!("{error:?} is new"),
            };
        }
    }

    fn counts(&self) -> (usize, usize, usize) {
        (
            self.accepted.load(SeqCst),
            self.ran.load(SeqCst),
            self.gone.load(SeqCst),
        )
    }
}

fn producers(group: &Group, ledger: &Ledger) -> [thread::JoinHandle<()>; 2] {
    [2, 1].map(|most| {
        let (handle, ledger) = (group.handle(), ledger.clone());
        thread::spawn(move || ledger.produce(&handle, most))
    })
}

#[test]
fn every_job_beside_a_starting_wait_has_run_or_was_rejected() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            let producers = producers(&group, &ledger);
            group.wait().await.expect("no job panics");
            let ran = ledger.counts().1;
            for producer in producers {
                producer.join().unwrap();
            }
            assert_eq!(ledger.counts(), (ran, ran, ran), "accepted, ran, gone");
        });
    });
}

#[test]
fn every_job_beside_a_cancel_is_run_or_dropped() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            let producers = producers(&group, &ledger);
            group.cancel();
            let waited = group.wait().await;
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
            for producer in producers {
                producer.join().unwrap();
            }
            group.shutdown(NEVER).await;
            let (accepted, ran, gone) = ledger.counts();
            assert!(ran <= accepted && gone == accepted, "{ledger:?}");
            let stats = group.stats();
            assert_eq!((stats.finished, stats.pending), (ran as u64, 0));
            assert_eq!(stats.cancelled, (accepted - ran) as u64);
        });
    });
}

#[test]
fn every_job_beside_the_drop_of_its_group_is_run_or_dropped() {
    explore(|| {
        let ledger = Ledger::default();
        let producers = future::block_on(async {
            let group = Group::new();
            producers(&group, &ledger)
        });
        for producer in producers {
            producer.join().unwrap();
        }
        // The driver drops what was pending in a turn of its own.
        let is_even = || matches!(ledger.counts(), (accepted, _, gone) if accepted == gone);
        while !is_even() {
            thread::yield_now();
        }
    });
}

#[test]
fn every_job_beside_a_shutdown_is_in_its_report_or_was_rejected() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            group.delay(NEVER, ledger.job());
            let producers = producers(&group, &ledger);
            let report = group.shutdown(NEVER).await;
            for producer in producers {
                producer.join().unwrap();
            }
            // What was submitted in the instant of the call may be due later than it, and is dropped.
            let (accepted, ran, gone) = ledger.counts();
            assert_eq!(gone, accepted + 1, "the far one too: {ledger:?}");
            assert_eq!(ran + report.dropped, gone, "{report:?}");
            assert!(report.aborted == 0 && report.finished <= ran, "{report:?}");
        });
    });
}

#[test]
fn an_earlier_job_wakes_the_driver_that_lies_down() {
    explore(|| {
        future::block_on(async {
            let group = Group::new();
            let far = group.delay(NEVER, async {});
            let handle = group.handle();
            let value = thread::spawn(move || handle.spawn_after(NOW, async { 7 }));
            assert!(matches!(value.join().unwrap().await, Ok(7)));
            assert!(far.reset_after(NOW));
            group.wait().await.expect("no job panics");
            assert_eq!(far.state(), JobState::Finished);
        });
    });
}

#[test]
fn a_cancel_beside_the_start_has_one_winner() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            let job = group.delay(NOW, ledger.job());
            let cancels = [(); 2].map(|()| {
                let (job, ledger) = (job.clone(), ledger.clone());
                thread::spawn(move || {
                    let prevented = job.cancel();
                    let gone = ledger.counts().2;
                    assert!(!prevented || gone == 1, "dropped before cancel returns");
                    usize::from(prevented)
                })
            });
            group.wait().await.expect("no job panics");
            let prevented: usize = cancels.map(|cancel| cancel.join().unwrap()).iter().sum();
            assert_eq!((prevented + ledger.counts().1, ledger.counts().2), (1, 1));
        });
    });
}

#[test]
fn a_limit_is_kept_and_each_freed_slot_is_taken() {
    explore(|| {
        future::block_on(async {
            let group = Group::builder().max_running(1).build();
            let (running, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            for _ in 0..3 {
                let (running, ran) = (Arc::clone(&running), Arc::clone(&ran));
                group.delay(NOW, async move {
                    assert_eq!(running.fetch_add(1, SeqCst), 0, "two at once");
                    future::yield_now().await;
                    running.fetch_sub(1, SeqCst);
                    ran.fetch_add(1, SeqCst);
                });
            }
            group.wait().await.expect("no job panics");
            assert_eq!(ran.load(SeqCst), 3);
        });
    });
}

#[test]
fn an_aborted_job_gives_its_slot_to_the_next() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::builder().max_running(1).build(), Ledger::default());
            let entry = Entry(ledger.clone());
            let stuck = group.delay(NOW, async move {
                std::future::pending::<()>().await;
                drop(entry);
            });
            let next = group.delay(NOW, ledger.job());
            let abort = thread::spawn(move || stuck.abort());
            group.wait().await.expect("an abort is no error");
            abort.join().unwrap();
            assert_eq!((ledger.counts().1, ledger.counts().2), (1, 2));
            assert_eq!(next.state(), JobState::Finished);
        });
    });
}

/// Workers claim and steal due jobs while others cancel, move, ask and abort them: each job is run or dropped, as
/// was answered.
#[test]
fn claimed_and_stolen_jobs_are_cancelled_or_run_once() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            let jobs: Vec<_> = (0..5)
                .map(|_| {
                    let job = ledger.job();
                    group.delay(NOW, async move {
                        // The others have time to steal what this worker has claimed.
                        thread::yield_now();
                        job.await;
                    })
                })
                .collect();
            let callers = [[1, 3], [3, 2]].map(|slots| {
                let jobs = slots.map(|slot| jobs[slot].clone());
                thread::spawn(move || {
                    let [first, second] = &jobs;
                    second.reset_after(NOW);
                    second.state();
                    usize::from(first.cancel())
                })
            });
            let abort = {
                let job = jobs[4].clone();
                thread::spawn(move || job.abort())
            };
            group.wait().await.expect("no job panics");
            abort.join().unwrap();
            let prevented: usize = callers.map(|caller| caller.join().unwrap()).iter().sum();
            let aborted = usize::from(jobs[4].state() == JobState::Cancelled);
            let (_, ran, gone) = ledger.counts();
            assert_eq!((ran + prevented + aborted, gone), (5, 5));
            let stats = group.stats();
            assert_eq!(stats.finished, ran as u64);
            assert_eq!(stats.cancelled, (prevented + aborted) as u64);
        });
    });
}

/// The end of a group beside the jobs that its workers have claimed: all of them are gone, and the counts say how. None
/// of those that were pending just after it starts.
fn end_beside_claimed_jobs(end: impl AsyncFn(&Group) + Clone + Send + Sync + 'static) {
    explore(move || {
        let end = end.clone();
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            for _ in 0..4 {
                group.delay(NOW, ledger.job());
            }
            let value = group.spawn_after(NOW, async {});
            thread::yield_now();
            end(&group).await;
            let started = ledger.counts().1 + group.stats().running;
            group.shutdown(NOW).await;
            let (_, ran, gone) = ledger.counts();
            assert_eq!(gone, 4);
            assert!(ran <= started, "{ran} ran of {started}");
            let stats = group.stats();
            let joined = usize::from(value.await.is_ok());
            assert_eq!(stats.finished, (ran + joined) as u64);
            assert_eq!(stats.finished + stats.cancelled, 5);
            assert_eq!((stats.pending, stats.running), (0, 0));
        });
    });
}

#[test]
fn a_cancel_of_the_group_beside_claimed_jobs_loses_none() {
    end_beside_claimed_jobs(async |group: &Group| group.cancel());
}

#[test]
fn a_cancelled_token_beside_claimed_jobs_loses_none() {
    end_beside_claimed_jobs(async |group: &Group| group.token().cancel());
}

#[test]
fn a_shutdown_without_grace_beside_claimed_jobs_loses_none() {
    end_beside_claimed_jobs(async |group: &Group| {
        group.shutdown(NOW).await;
    });
}

/// A drain without a grace beside a job that schedules, one that is cancelled, and one that runs until it is aborted.
#[test]
fn what_jobs_schedule_beside_the_end_of_a_drain_is_in_its_report_or_was_rejected() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            group.delay(NOW, std::future::pending());
            let (inner, outer) = (ledger.clone(), ledger.job());
            group.delay_with(NOW, move |context| async move {
                outer.await;
                inner.produce(&context.handle(), 2);
            });
            let job = group.delay(NOW, ledger.job());
            let cancel = thread::spawn(move || usize::from(job.cancel()));
            let report = group.drain(NOW).await;
            let prevented = cancel.join().unwrap();
            let (accepted, ran, gone) = ledger.counts();
            assert_eq!(gone, 2 + accepted, "{ledger:?}");
            assert!(
                ran + prevented <= gone,
                "{ledger:?}, prevented: {prevented}"
            );
            let stats = group.stats();
            assert_eq!((stats.pending, stats.running), (0, 0));
            let ended = stats.finished + stats.cancelled;
            assert_eq!(ended, 3 + accepted as u64, "{stats:?}");
            let reported = report.finished + report.aborted + report.dropped;
            assert!(reported <= 3 + accepted, "{report:?}");
            assert!(
                reported + prevented + ran >= 3 + accepted,
                "{report:?}, {ledger:?}"
            );
        });
    });
}

/// A job's wake-up against its abort, in a task that the job before has used: it ends by itself or is stopped, and the
/// job after it, which lives in the same task, is not hit.
#[test]
fn a_wake_up_beside_an_abort_has_one_winner_and_no_other_job_is_hit() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::builder().max_running(1).build(), Ledger::default());
            let yields = |job: Pin<Box<dyn Future<Output = ()> + Send>>| async move {
                future::yield_now().await;
                job.await;
            };
            group.delay(NOW, yields(Box::pin(ledger.job())));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let job = ledger.job();
            let waits = group.delay(NOW, async move {
                receiver.await.expect("it is sent");
                job.await;
            });
            let next: Vec<_> = (0..2)
                .map(|_| group.delay(NOW, yields(Box::pin(ledger.job()))))
                .collect();
            let wake = thread::spawn(move || sender.send(()).is_ok());
            let aborted = waits.clone();
            let abort = thread::spawn(move || aborted.abort());
            group.wait().await.expect("an abort is no error");
            wake.join().unwrap();
            abort.join().unwrap();
            let lost = usize::from(waits.state() == JobState::Cancelled);
            assert_eq!((ledger.counts().1 + lost, ledger.counts().2), (4, 4));
            assert!(next.iter().all(|job| job.state() == JobState::Finished));
            assert_eq!(group.stats().finished, 4 - lost as u64);
        });
    });
}

/// Runs of a series find other tasks each time; an abort beside their ends is for the present one.
#[test]
fn an_abort_beside_the_runs_of_a_series_stops_it() {
    explore(|| {
        future::block_on(async {
            let group = Group::new();
            let series = group.repeat(tokio::time::Instant::now(), |context| async move {
                match context.run() {
                    1 | 2 => future::yield_now().await,
                    _ => std::future::pending().await,
                }
                Next::After(NOW)
            });
            let other = group.delay(NOW, future::yield_now());
            let aborted = series.clone();
            let abort = thread::spawn(move || aborted.abort());
            group.wait().await.expect("an abort is no error");
            abort.join().unwrap();
            assert_eq!(series.state(), JobState::Cancelled);
            assert_eq!(other.state(), JobState::Finished);
        });
    });
}

#[test]
fn a_move_beside_a_run_of_a_series_is_not_lost() {
    explore(|| {
        future::block_on(async {
            let group = Group::new();
            let runs = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&runs);
            let series = group.repeat(tokio::time::Instant::now(), move |_| {
                let counter = Arc::clone(&counter);
                async move {
                    counter.fetch_add(1, SeqCst);
                    future::yield_now().await;
                    Next::Done
                }
            });
            let mover = thread::spawn(move || series.reset_after(NOW));
            group.wait().await.expect("no job panics");
            let moved = mover.join().unwrap();
            let runs = runs.load(SeqCst);
            // A move before the first run is honoured by it, one in the run by another.
            assert!(
                runs == 1 || (moved && runs == 2),
                "{runs} runs, moved: {moved}"
            );
        });
    });
}

#[test]
fn what_running_jobs_schedule_is_covered_by_a_wait_beside_them() {
    explore(|| {
        future::block_on(async {
            let (group, ledger) = (Group::new(), Ledger::default());
            let inner = ledger.clone();
            group.delay_with(NOW, |context| async move {
                context.delay(NOW, inner.job());
                future::yield_now().await;
                context.delay(NOW, inner.job());
            });
            group.wait().await.expect("no job panics");
            assert_eq!((ledger.counts().1, ledger.counts().2), (2, 2));
        });
    });
}

#[test]
fn a_detached_group_goes_on_for_its_handles() {
    explore(|| {
        let ledger = Ledger::default();
        future::block_on(async {
            let group = Group::new();
            let (handle, ledger) = (group.handle(), ledger.clone());
            group.detach();
            let value = handle.spawn_after(NOW, async { 1 });
            thread::spawn(move || ledger.produce(&handle, 2));
            assert!(matches!(value.await, Ok(1)));
        });
        while ledger.counts() != (2, 2, 2) {
            thread::yield_now();
        }
    });
}
