//! The faults of the Go original, each with a test that it would fail, and the cases that its port adds.
//!
//! `f_sg…` are the faults of `mdlayher/schedgroup` by their numbers; the loops in them are the shapes that
//! made the original hang or lose jobs. `n_…` are cases of our own. What is timed exactly runs on a paused
//! clock; what needs two cores runs on two workers under a bounded wait.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::common::{
    Flag, HOUR, Log, Random, alive_tasks, bounded, counts, ms, multi_thread, on_both, runtimes,
    until, us, watched,
};
use schedgroup::{Builder, Group, Handle, JobState, Next, ScheduleError, Stats, WaitError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Far longer than any round takes: what is not back by then hangs.
const HANG: Duration = Duration::from_secs(60);

/// Plays rounds on two workers, `lanes` of them at a time: a round that waits for a timer takes a
/// millisecond at least, which they share.
fn rounds<F, Fut>(count: u64, lanes: u64, round: F)
where
    F: Fn(Random) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    watched(move || {
        multi_thread().block_on(bounded(async move {
            let mut all = JoinSet::new();
            for lane in 0..lanes {
                let round = round.clone();
                all.spawn(async move {
                    for seed in (lane..count).step_by(lanes as usize) {
                        round(Random(seed)).await;
                    }
                });
            }
            all.join_all().await;
        }));
    });
}

/// Some hundred nanoseconds to some ten microseconds that no timer is asked for.
fn spin(random: &mut Random, most: u64) {
    for _ in 0..random.below(most) {
        std::hint::spin_loop();
    }
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(HANG, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {HANG:?}"))
}

/// Counts the jobs that ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn job(&self) -> impl Future<Output = ()> + Send + use<> {
        let Runs(count) = self.clone();
        async move {
            count.fetch_add(1, SeqCst);
        }
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A group whose driver is sure to sleep, on a job that is an hour away.
async fn armed() -> Group {
    let group = Group::new();
    group.delay(HOUR, async {});
    group.spawn_after(ms(1), async {}).await.unwrap();
    group
}

// Wake-ups.

#[test]
fn f_sg01_a_job_that_meets_the_starting_driver_runs() {
    // Shape E1: nobody waits, so nothing but the schedule itself can wake the driver.
    rounds(4_000, 2, |mut random| async move {
        let group = Group::new();
        spin(&mut random, 2_000);
        let (done, ran) = oneshot::channel();
        group.delay(Duration::ZERO, async move {
            let _ = done.send(());
        });
        within("a due job on a group just made", ran).await.unwrap();
    });
}

#[test]
fn f_sg01_a_wait_beside_the_starting_driver_ends() {
    // Shape E1w.
    rounds(4_000, 2, |mut random| async move {
        let (group, runs) = (Group::new(), Runs::default());
        spin(&mut random, 2_000);
        group.delay(Duration::ZERO, runs.job());
        let waiter = tokio::spawn(async move { group.wait().await });
        within("wait in a task", waiter).await.unwrap().unwrap();
        assert_eq!(runs.count(), 1);
    });
}

#[test]
fn f_sg02_an_earlier_job_wakes_the_driver_that_sleeps() {
    // Shape E2c. If the wake-up were lost, the next would come in an hour.
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = armed().await;
            let mut random = Random(1);
            for round in 0..5_000 {
                spin(&mut random, 500);
                let job = group.spawn_after(Duration::ZERO, async {});
                within(&format!("round {round}"), job).await.unwrap();
            }
        }));
    });
}

#[test]
fn f_sg02_an_earlier_job_is_not_lost_between_later_ones() {
    // Shape E2: the driver may be on its way to sleep, for one later job or for the first of twenty.
    rounds(3_000, 32, |mut random| async move {
        let group = Group::new();
        for _ in 0..[1, 20][random.below(2) as usize] {
            group.delay(HOUR, async {});
        }
        spin(&mut random, 1_000);
        let delay = us([0, 500][random.below(2) as usize]);
        within("the earlier job", group.spawn_after(delay, async {}))
            .await
            .unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn n_earlier_than_armed_is_on_time_at_every_step_down() {
    let (group, log) = (Group::new(), Log::new());
    for delay in (1..=1_000).rev() {
        group.delay(ms(delay), log.job(delay));
        // The driver goes to sleep on this one before the next comes.
        tokio::task::yield_now().await;
    }
    group.wait().await.unwrap();
    let expected: Vec<_> = (1..=1_000).map(|delay| (delay, ms(delay))).collect();
    assert_eq!(log.take(), expected);
}

#[test]
fn f_sg03_wait_never_misses_the_last_job() {
    // Shape E3.
    rounds(6_000, 64, |mut random| async move {
        let (group, runs) = (Group::new(), Runs::default());
        group.delay(us(random.below(50)), runs.job());
        within("wait", group.wait()).await.unwrap();
        assert_eq!(runs.count(), 1);
    });
}

#[test]
fn f_sg03_wait_ends_at_every_distance_from_the_last_job() {
    // Shape E3b: the group has a deadline of its own, as the original had a context.
    for (delay, count, lanes) in [
        (0, 6_000, 2),
        (5, 3_000, 64),
        (20, 3_000, 64),
        (100, 3_000, 64),
        (1_000, 2_000, 64),
    ] {
        rounds(count, lanes, move |_| async move {
            let group = Group::builder().timeout(HANG).build();
            let runs = Runs::default();
            group.delay(us(delay), runs.job());
            within("wait", group.wait()).await.unwrap();
            assert_eq!(runs.count(), 1, "delay {delay} µs");
        });
    }
}

#[test]
fn f_sg03_wait_ends_after_many_jobs_in_quick_succession() {
    // Shape E4: so many jobs, so many microseconds apart, from then on.
    for (jobs, apart, from, count) in [
        (2, 2, 200, 1_000),
        (3, 5, 1_000, 1_000),
        (200, 5, 1_000, 40),
        (200, 10, 1_000, 40),
        (200, 20, 1_000, 40),
        (200, 50, 1_000, 40),
        (1_000, 10, 5_000, 10),
    ] {
        rounds(count, 16, move |_| async move {
            let (group, runs) = (Group::new(), Runs::default());
            let start = Instant::now() + us(from);
            for job in 0..jobs {
                group.schedule(start + us(job * apart), runs.job());
            }
            within("wait", group.wait()).await.unwrap();
            assert_eq!(runs.count() as u64, jobs, "{apart} µs apart");
        });
    }
}

#[test]
fn n_startup_a_group_just_made_takes_jobs_of_every_kind() {
    rounds(3_000, 16, |mut random| async move {
        let group = Group::new();
        spin(&mut random, 300);
        let handle = group.handle();
        let joined = match random.below(3) {
            0 => handle.spawn_at(Instant::now(), async { 1 }),
            1 => group.spawn_after(us(random.below(1_500)), async { 1 }),
            _ => group.spawn_after(Duration::ZERO, async { 1 }),
        };
        within("wait", group.wait()).await.unwrap();
        assert_eq!(joined.await.unwrap(), 1);
    });
}

#[tokio::test(start_paused = true)]
async fn f_sg12_later_jobs_do_not_wake_the_driver() {
    let group = Group::new();
    group.delay(HOUR, async {});
    sleep(ms(1)).await;
    let before = group.stats().driver_wakeups;
    for later in 1..=10_000 {
        group.delay(HOUR + us(later), async {});
        if later % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    sleep(ms(1)).await;
    let Stats {
        pending,
        driver_wakeups,
        ..
    } = group.stats();
    assert_eq!((pending, driver_wakeups - before), (10_001, 0));
}

#[tokio::test(start_paused = true)]
async fn n_wakeups_are_as_many_as_the_instants_at_which_jobs_fall_due() {
    let (group, runs) = (Group::new(), Runs::default());
    // All from the same start, so that the hundred jobs of one millisecond are one wake-up.
    let start = Instant::now();
    sleep(ms(1)).await;
    let before = group.stats().driver_wakeups;
    for job in 0..1_000 {
        group.schedule(start + HOUR + ms(job / 100), runs.job());
    }
    sleep_until(start + HOUR + HOUR).await;
    let turns = group.stats().driver_wakeups - before;
    assert_eq!(runs.count(), 1_000);
    // One to take in the first, one for each of the ten milliseconds.
    assert!(turns <= 1 + 10, "{turns} turns");
}

// Admission.

/// What became of the jobs of a race.
#[derive(Debug, Default)]
struct Ledger {
    accepted: AtomicU64,
    rejected: AtomicU64,
    ran: AtomicU64,
    /// Dropped without having run.
    dropped: AtomicU64,
}

/// One job in the ledger: it is counted in its `Drop`, and so exactly once.
struct Item {
    ledger: Arc<Ledger>,
    ran: bool,
}

impl Item {
    fn run(&mut self) {
        self.ran = true;
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        let count = if self.ran {
            &self.ledger.ran
        } else {
            &self.ledger.dropped
        };
        count.fetch_add(1, SeqCst);
    }
}

impl Ledger {
    fn item(self: &Arc<Ledger>) -> impl Future<Output = ()> + Send + use<> {
        let mut item = Item {
            ledger: Arc::clone(self),
            ran: false,
        };
        // By a method, so that the whole item moves into the job and not a copy of its `bool`.
        async move { item.run() }
    }

    fn ran(&self) -> u64 {
        self.ran.load(SeqCst)
    }

    /// Jobs that were accepted and are neither run nor dropped.
    fn owing(&self) -> i64 {
        let sum = |counts: [&AtomicU64; 2]| counts.map(|count| count.load(SeqCst) as i64);
        let came: i64 = sum([&self.accepted, &self.rejected]).iter().sum();
        let went: i64 = sum([&self.ran, &self.dropped]).iter().sum();
        came - went
    }
}

/// Two threads schedule until they are rejected, some jobs due at once and some later; `end` ends the group
/// meanwhile.
fn race<R>(handle: &Handle, ledger: &Arc<Ledger>, end: impl FnOnce() -> R) -> R {
    std::thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || {
                let mut random = Random(seed);
                // More than fit into a race on an idle machine. On a busy one the end may be late: it is
                // waited for, for ten seconds, since a group that never ended would fill the memory.
                for count in 0..110_000 {
                    if count >= 100_000 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let delay = us([0, 0, 100, 2_000][random.below(4) as usize]);
                    match handle.try_delay(delay, ledger.item()) {
                        Ok(_) => ledger.accepted.fetch_add(1, SeqCst),
                        Err(rejected) => {
                            ledger.rejected.fetch_add(1, SeqCst);
                            drop(rejected.into_inner());
                            return;
                        }
                    };
                }
                panic!("never rejected");
            });
        }
        end()
    })
}

const RACES: u64 = 150;

#[test]
fn f_sg04_a_job_accepted_beside_a_starting_wait_runs() {
    watched(|| {
        let runtime = multi_thread();
        let mut accepted = 0;
        for round in 0..RACES {
            let group = Group::builder().runtime(runtime.handle().clone()).build();
            let ledger = Arc::default();
            let at_return = race(&group.handle(), &ledger, || {
                // On a busy machine both threads may come too late in every round: so in each other one a job is in.
                while round % 2 == 0 && ledger.accepted.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                spin(&mut Random(round), 20_000);
                runtime.block_on(within("wait", group.wait())).unwrap();
                ledger.ran()
            });
            assert_eq!(
                (at_return, ledger.owing()),
                (ledger.accepted.load(SeqCst), 0),
                "round {round}: ran when wait returned, against accepted; {ledger:?}"
            );
            accepted += at_return;
        }
        assert!(accepted >= RACES / 2, "{accepted} accepted: no race at all");
    });
}

#[test]
fn f_sg04_one_job_races_one_wait_on_an_empty_group() {
    // Shape E5: covered, or rejected; the original had a third way.
    rounds(4_000, 2, |mut random| async move {
        let group = Group::new();
        let (handle, runs) = (group.handle(), Runs::default());
        let job = runs.job();
        let turns = random.below(300);
        let producer = tokio::spawn(async move {
            spin(&mut Random(turns), 300);
            handle.try_delay(Duration::ZERO, job).is_ok()
        });
        spin(&mut random, 300);
        within("wait", group.wait()).await.unwrap();
        let ran = runs.count();
        let accepted = producer.await.unwrap();
        assert_eq!(ran, usize::from(accepted), "run when wait returned");
    });
}

#[test]
fn n_race_schedule_runtime_shutdown_drops_what_did_not_run() {
    watched(|| {
        for round in 0..RACES {
            let runtime = multi_thread();
            let group = Group::builder().runtime(runtime.handle().clone()).build();
            let ledger = Arc::default();
            race(&group.handle(), &ledger, || {
                spin(&mut Random(round), 20_000);
                drop(runtime);
            });
            assert_eq!(ledger.owing(), 0, "round {round}: {ledger:?}");
            let waited = multi_thread().block_on(within("wait elsewhere", group.wait()));
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
        }
    });
}

#[test]
fn n_try_after_wait_hands_the_job_back() {
    on_both(|| async {
        let (group, flag) = (Group::new(), Flag::new());
        group.wait().await.unwrap();
        let rejected = group.try_delay(Duration::ZERO, flag.job()).unwrap_err();
        assert!(matches!(rejected, ScheduleError::Closed(_)), "{rejected:?}");
        assert_eq!(flag.drops(), 0, "the job is still whole");
        rejected.into_inner().await;
        assert_eq!(flag.drops(), 1);
    });
}

#[tokio::test(start_paused = true)]
async fn f_sg14_scheduling_after_a_cancel_is_told() {
    let (group, flag) = (Group::new(), Flag::new());
    group.cancel();
    let job = group.delay(Duration::ZERO, flag.job());
    assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
    let rejected = group.try_delay(Duration::ZERO, flag.job()).unwrap_err();
    assert!(
        matches!(rejected, ScheduleError::Cancelled(_)),
        "{rejected:?}"
    );
    assert!(group.spawn_after(ms(1), async { 1 }).await.is_err());
    let waited = group.wait().await;
    assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn n_schedule_after_cancel_is_rejected_before_the_driver_has_noticed() {
    let (group, runs) = (Group::new(), Runs::default());
    let before = group.delay(Duration::ZERO, runs.job());
    group.token().cancel();
    let after = group.delay(Duration::ZERO, runs.job());
    assert_eq!(after.state(), JobState::Cancelled);
    sleep(ms(1)).await;
    assert_eq!((before.state(), runs.count()), (JobState::Cancelled, 0));
}

// Time.

#[tokio::test(start_paused = true)]
async fn f_sg05_what_comes_after_a_burst_is_not_late_by_the_burst() {
    let (group, log) = (Group::new(), Log::new());
    let start = Instant::now();
    // A burst that takes 50 ms: its first job lets them pass before the others start.
    group.delay(ms(10), async { tokio::time::advance(ms(50)).await });
    for _ in 0..1_000 {
        group.delay(ms(10), async {});
    }
    group.schedule(start + ms(100), log.job("marker"));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("marker", ms(100))]);
}

// Order.

#[test]
fn f_sg13_jobs_that_are_due_together_start_in_order() {
    // Five a microsecond apart, on the real clock: the original ran them in order 0 of 200 times.
    let (_, runtime) = runtimes().into_iter().next().unwrap();
    watched(move || {
        runtime.block_on(bounded(async {
            for round in 0..200 {
                let (group, log) = (Group::new(), Log::new());
                let start = Instant::now();
                for job in 0..5 {
                    group.schedule(start + us(job), log.job(job));
                }
                group.wait().await.unwrap();
                assert_eq!(log.labels(), [0, 1, 2, 3, 4], "round {round}");
            }
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn f_sg13_equal_deadlines_are_first_come_first_served() {
    let (group, log) = (Group::new(), Log::new());
    let at = Instant::now() + ms(5);
    for job in 0..1_000 {
        group.schedule(at, log.job(job));
    }
    group.wait().await.unwrap();
    let expected: Vec<_> = (0..1_000).map(|job| (job, ms(5))).collect();
    assert_eq!(log.take(), expected);
}

#[test]
fn n_limit_order_holds_on_two_workers() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let group = Group::builder().max_running(1).build();
            let log = Log::new();
            // All are submitted before the first is due, also where everything is slow.
            let start = Instant::now() + ms(300);
            let mut random = Random(3);
            let mut expected = Vec::new();
            for job in 0..2_000 {
                let at = start + us(random.below(200) * 100);
                expected.push((at, job));
                group.schedule(at, log.job((at, job)));
            }
            group.wait().await.unwrap();
            expected.sort();
            assert_eq!(log.labels(), expected);
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn n_limit_is_kept_and_used_to_the_full() {
    for limit in [1, 4, 100] {
        let group = Group::builder().max_running(limit).build();
        let most = Arc::new(AtomicUsize::new(0));
        let running = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 * limit {
            let (most, running) = (Arc::clone(&most), Arc::clone(&running));
            group.delay(Duration::ZERO, async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(ms(10)).await;
                running.fetch_sub(1, SeqCst);
            });
        }
        let start = Instant::now();
        group.wait().await.unwrap();
        assert_eq!(
            (most.load(SeqCst), start.elapsed()),
            (limit, ms(30)),
            "limit {limit}"
        );
    }
}

#[test]
fn n_limit_is_kept_on_two_workers_by_jobs_that_panic_and_are_aborted() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            const LIMIT: usize = 3;
            let group = Group::builder().max_running(LIMIT).build();
            let most = Arc::new(AtomicUsize::new(0));
            let running = Arc::new(AtomicUsize::new(0));
            let jobs: Vec<_> = (0..300)
                .map(|job| {
                    let (most, running) = (Arc::clone(&most), Arc::clone(&running));
                    group.delay(us(job * 10), async move {
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        let leave = crate::common::OnDrop(move || {
                            running.fetch_sub(1, SeqCst);
                        });
                        if job % 3 == 0 {
                            std::panic::resume_unwind(Box::new("one of three"));
                        }
                        sleep(us(100)).await;
                        drop(leave);
                    })
                })
                .collect();
            for job in jobs.iter().step_by(7) {
                job.abort();
                tokio::task::yield_now().await;
            }
            let waited = group.wait().await;
            assert!(matches!(waited, Err(WaitError::Panicked(_))), "{waited:?}");
            let most = most.load(SeqCst);
            assert!((1..=LIMIT).contains(&most), "{most} ran at once");
            let stats = group.stats();
            assert_eq!(
                stats.finished + stats.cancelled + stats.panicked,
                300,
                "{stats:?}"
            );
        }));
    });
}

// Panics.

#[test]
fn f_sg06_a_panicking_job_harms_no_other_and_is_reported() {
    on_both(|| async {
        let (group, runs) = (Group::new(), Runs::default());
        for job in 0..10 {
            let run = runs.job();
            group.delay(us(job * 100), async move {
                if job == 0 {
                    std::panic::resume_unwind(Box::new(String::from("boom")));
                }
                run.await;
            });
        }
        match group.wait().await {
            Err(WaitError::Panicked(panic)) => assert_eq!(panic.message(), "boom"),
            other => panic!("{other:?}"),
        }
        assert_eq!(runs.count(), 9);
    });
}

#[tokio::test(start_paused = true)]
async fn n_job_panic_is_the_first_in_time_and_keeps_its_payload() {
    let group = Group::new();
    group.delay(ms(2), async { std::panic::resume_unwind(Box::new(2_u32)) });
    let first = group.delay(ms(1), async { std::panic::resume_unwind(Box::new(1_u32)) });
    let line = line!() - 1;
    let Err(WaitError::Panicked(panic)) = group.wait().await else {
        panic!("no panic was reported");
    };
    assert_eq!(panic.job(), first.id());
    let place = panic.scheduled_at();
    assert_eq!((place.file(), place.line()), (file!(), line));
    assert_eq!(*panic.into_payload().downcast::<u32>().unwrap(), 1);
    assert_eq!(group.stats().panicked, 2);
}

#[test]
fn n_panic_then_others_start_and_finish_on_every_slot() {
    // As many panics as would use up every slot, if one kept its own.
    on_both(|| async {
        let group = Group::builder().max_running(2).build();
        let runs = Runs::default();
        for _ in 0..10 {
            group.delay(Duration::ZERO, async {
                std::panic::resume_unwind(Box::new("boom"))
            });
        }
        for _ in 0..10 {
            group.delay(us(1), runs.job());
        }
        assert!(group.wait().await.is_err());
        assert_eq!(runs.count(), 10);
    });
}

// Jobs that schedule jobs.

#[tokio::test(start_paused = true)]
async fn n_repeat_until_cancel_runs_until_then() {
    let (group, log) = (Group::new(), Log::new());
    let beats = log.clone();
    group.repeat(Instant::now(), move |context| {
        let beats = beats.clone();
        async move {
            beats.push(context.run());
            Next::After(ms(10))
        }
    });
    let token = group.token();
    tokio::spawn(async move {
        sleep(ms(55)).await;
        token.cancel();
    });
    let start = Instant::now();
    let waited = group.wait().await;
    assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
    assert_eq!(start.elapsed(), ms(55));
    sleep(HOUR).await;
    let expected: Vec<_> = (1..=6).map(|beat| (beat, ms(10 * (beat - 1)))).collect();
    assert_eq!(log.take(), expected);
}

// Cancel, and running jobs.

#[tokio::test(start_paused = true)]
async fn f_sg08_running_jobs_are_told_of_a_cancel() {
    let (group, log) = (Group::new(), Log::new());
    let told = log.clone();
    group.delay_with(ms(1), |context| async move {
        context.token().cancelled().await;
        told.push("told");
    });
    sleep(ms(10)).await;
    group.cancel();
    // Until everything that the cancel set off is over, a shutdown waits.
    let report = group.shutdown(HOUR).await;
    assert_eq!(log.take(), [("told", ms(10))]);
    assert_eq!(counts(report), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn n_cancel_joins_running_jobs_with_a_grace() {
    let (group, log) = (Group::new(), Log::new());
    let ended = log.clone();
    group.delay(ms(1), async move {
        sleep(ms(400)).await;
        ended.push("ended");
    });
    group.delay(ms(100), log.job("never"));
    sleep(ms(50)).await;
    group.cancel();
    let waited = group.wait().await;
    assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
    assert_eq!(log.len(), 0, "wait does not join the running job");
    let report = group.shutdown(Duration::MAX).await;
    assert_eq!(log.take(), [("ended", ms(401))]);
    // The one that was pending may have been dropped before the shutdown was called, or by it.
    assert_eq!((report.finished, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn n_cancel_aborts_running_jobs_without_a_grace() {
    let (group, flag, start) = (Group::new(), Flag::new(), Instant::now());
    let guard = flag.guard();
    let job = group.delay(ms(1), async move {
        sleep(HOUR).await;
        drop(guard);
    });
    sleep(ms(50)).await;
    group.cancel();
    let report = group.shutdown(Duration::ZERO).await;
    assert_eq!(counts(report), (0, 1, 0));
    assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
    assert_eq!(start.elapsed(), ms(50));
}

#[tokio::test(start_paused = true)]
async fn f_sg09_a_cancel_while_wait_drains_running_jobs_is_seen_at_once() {
    // As the original did it: a 400 ms job runs, the heap is empty, the cancel comes at 50 ms.
    let builders: [fn() -> Builder; 2] = [Group::builder, || Group::builder().timeout(ms(50))];
    for (builder, deadline) in builders.into_iter().zip([false, true]) {
        let group = builder().build();
        group.delay(Duration::ZERO, async { sleep(ms(400)).await });
        let token = group.token();
        tokio::spawn(async move {
            sleep(if deadline { HOUR } else { ms(50) }).await;
            token.cancel();
        });
        let start = Instant::now();
        let waited = group.wait().await;
        match waited {
            Err(WaitError::DeadlineExceeded) if deadline => {}
            Err(WaitError::Cancelled) if !deadline => {}
            other => panic!("deadline {deadline}: {other:?}"),
        }
        assert_eq!(start.elapsed(), ms(50), "deadline {deadline}");
    }
}

#[test]
fn n_cancel_in_drain_is_seen_on_two_workers_whenever_it_comes() {
    rounds(2_000, 16, |mut random| async move {
        let group = Group::new();
        let (running, started) = oneshot::channel();
        group.delay(Duration::ZERO, async move {
            let _ = running.send(());
            sleep(HOUR).await;
        });
        let token = group.token();
        let early = random.below(2) == 0;
        if early {
            started.await.unwrap();
        }
        tokio::spawn(async move {
            spin(&mut random, 2_000);
            token.cancel();
        });
        let waited = within("wait", group.wait()).await;
        assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
    });
}

// What is left.

#[test]
fn f_sg10_a_job_that_has_run_is_freed_while_the_group_lives() {
    on_both(|| async {
        let group = Group::new();
        let held: Vec<Weak<Vec<u8>>> = (0..8)
            .map(|job| {
                let payload = Arc::new(vec![0_u8; 1 << 20]);
                let held = Arc::downgrade(&payload);
                group.delay(us(job * 100), async move { drop(payload) });
                held
            })
            .collect();
        let far = group.delay(HOUR, async {});
        until("all eight are freed", || {
            held.iter().all(|held| held.strong_count() == 0)
        })
        .await;
        assert!(far.is_pending());
    });
}

#[test]
fn f_sg11_groups_that_nobody_waits_for_leave_no_task() {
    on_both(|| async {
        let flag = Flag::new();
        let before = alive_tasks();
        for _ in 0..100 {
            let group = Group::new();
            group.delay(HOUR, flag.job());
            let (running, started) = oneshot::channel();
            let guard = flag.guard();
            group.delay(Duration::ZERO, async move {
                let _ = running.send(());
                sleep(HOUR).await;
                drop(guard);
            });
            started.await.unwrap();
        }
        until("no task is left", || alive_tasks() == before).await;
        assert_eq!(flag.drops(), 200);
    });
}

// Handles, values, counts.

#[tokio::test(start_paused = true)]
async fn n_handle_cancel_frees_the_job_and_lets_wait_end() {
    let (group, flag) = (Group::new(), Flag::new());
    let job = group.delay(HOUR, flag.job());
    let other = job.clone();
    assert!(job.cancel());
    assert_eq!(flag.drops(), 1);
    assert!(!other.cancel());
    assert_eq!(other.state(), JobState::Cancelled);
    let start = Instant::now();
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn n_handle_result_is_there_for_errors_and_values() {
    // The original's `errors` example: of three the second fails, and all three run.
    let group = Group::new();
    let jobs = [1, 2, 3].map(|job| {
        group.spawn_after(ms(100 * job), async move {
            if job == 2 { Err("bad") } else { Ok(job) }
        })
    });
    group.wait().await.unwrap();
    let mut results = Vec::new();
    for job in jobs {
        results.push(job.await.unwrap());
    }
    assert_eq!(results, [Ok(1), Err("bad"), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn n_len_counts_pending_waiting_and_running() {
    let group = Group::builder().max_running(2).build();
    for _ in 0..5 {
        group.delay(ms(1), async { sleep(ms(10)).await });
    }
    group.delay(HOUR, async {});
    let seen = || {
        let stats = group.stats();
        let ended = stats.finished + stats.cancelled + stats.panicked;
        (stats.pending, stats.waiting, stats.running, ended)
    };
    assert_eq!(seen(), (6, 0, 0, 0));
    let start = Instant::now();
    for (at, expected) in [
        (2, (4, 3, 2, 0)),
        (12, (2, 1, 2, 2)),
        (22, (1, 0, 1, 4)),
        (32, (1, 0, 0, 5)),
    ] {
        sleep_until(start + ms(at)).await;
        assert_eq!(seen(), expected, "after {at} ms");
    }
}
