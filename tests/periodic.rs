//! Regular ticks against a list of intended times, and jobs at times of a wall clock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, Random, context_of, counts, jump, ms, on_both, panic_of, settle,
};
use schedgroup::periodic::{MissedTicks, OnPanic, Tick, TimedHandle, WallClock};
use schedgroup::{Group, Job, JobContext, JobState, WaitError, periodic};
use tokio::time::{Instant, sleep};

/// The starts of runs that take so long each: what the policies mean, written down once more.
fn intended(missed: MissedTicks, period: u64, lengths: &[u64]) -> Vec<(u64, Duration)> {
    let (mut now, mut tick, mut put_off) = (0, 0, 0);
    let mut starts = Vec::new();
    for length in lengths {
        now = now.max(tick * period + put_off);
        starts.push((tick, ms(now)));
        now += length;
        tick += 1;
        match missed {
            MissedTicks::Skip => {
                while tick * period < now {
                    tick += 1;
                }
            }
            MissedTicks::Delay => put_off = put_off.max(now.saturating_sub(tick * period)),
            MissedTicks::Burst(max) => {
                // So many are missed: those whose time is before now.
                while now.saturating_sub(tick * period).div_ceil(period) > max {
                    tick += 1;
                }
            }
            _ => unreachable!(),
        }
    }
    starts
}

#[tokio::test(start_paused = true)]
async fn runs_start_at_the_intended_times() {
    let rules = [
        MissedTicks::Skip,
        MissedTicks::Delay,
        MissedTicks::Burst(u64::MAX),
        MissedTicks::Burst(0),
        MissedTicks::Burst(1),
        MissedTicks::Burst(3),
    ];
    for seed in 0..60 {
        let mut random = Random(seed);
        let missed = rules[seed as usize % rules.len()];
        let period = 1 + random.below(50);
        let lengths: Vec<u64> = (0..40).map(|_| random.below(3 * period)).collect();
        let (group, log) = (Group::new(), Log::new());
        let (of_series, mut left) = (log.clone(), lengths.clone().into_iter());
        group.every(ms(period)).missed(missed).run(move |tick| {
            let length = left.next();
            if length.is_some() {
                of_series.push(tick.number());
            }
            async move { sleep(length.map_or(HOUR, ms)).await }
        });
        sleep(ms(40 * 3 * period)).await;
        let expected = intended(missed, period, &lengths);
        assert_eq!(
            log.take(),
            expected,
            "seed {seed}, {missed:?}, period {period}"
        );
    }
}

/// The clock goes on while the series is being made.
#[test]
fn a_series_without_a_start_begins_with_tick_0_on_a_real_clock() {
    on_both(|| async {
        let group = Group::new();
        let (send, mut first) = tokio::sync::mpsc::unbounded_channel();
        group.every(ms(500)).run(move |tick| {
            let sent = send.send(tick.number());
            async move { sent.unwrap() }
        });
        assert_eq!(first.recv().await, Some(0));
    });
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_past_aligns_the_series() {
    let (group, log) = (Group::new(), Log::new());
    let of_series = log.clone();
    let start = Instant::now() - ms(25);
    group.every(ms(10)).starting_at(start).run(move |tick| {
        of_series.push(tick.number());
        async {}
    });
    sleep(ms(20)).await;
    assert_eq!(log.take(), [(3, ms(5)), (4, ms(15))]);
}

#[tokio::test(start_paused = true)]
async fn a_start_centuries_ago_aligns_the_series_without_a_busy_loop() {
    // Not on every system is there such an instant.
    let Some(start) = Instant::now().checked_sub(400 * 365 * 24 * HOUR) else {
        return;
    };
    let (group, log) = (Group::new(), Log::new());
    let of_series = log.clone();
    group.every(ms(10)).starting_at(start).run(move |tick| {
        of_series.push(tick.lateness());
        async {}
    });
    settle().await;
    // It lay centuries ago, and the series looked again and again.
    assert_eq!(group.jobs()[0].deadline, Instant::now() + ms(10));
    sleep(ms(25)).await;
    assert_eq!(log.take(), [0, 10, 20].map(|at| (ms(0), ms(at))));
}

/// More periods have passed since the start than a tick's number can count.
#[tokio::test(start_paused = true)]
async fn ticks_behind_the_last_number_never_run() {
    let farthest = |step: fn(&SystemTime, Duration) -> Option<SystemTime>| {
        let steps = (0..64).rev().map(|bit| Duration::new(1 << bit, 0));
        let last = steps.chain([Duration::new(0, 999_999_999)]);
        last.fold(SystemTime::UNIX_EPOCH, |at, by| step(&at, by).unwrap_or(at))
    };
    let first = farthest(SystemTime::checked_sub);
    let (now, last) = (SystemTime::UNIX_EPOCH, farthest(SystemTime::checked_add));
    for (start, now) in [(first, now), (now, last), (first, last)] {
        let (group, runs) = (Group::new(), Arc::new(AtomicUsize::new(0)));
        for missed in [MissedTicks::Skip, MissedTicks::Delay, MissedTicks::Burst(2)] {
            let (runs, clock) = (Arc::clone(&runs), WallClock::new(move || now));
            let ticks = group.every(Duration::from_nanos(1)).missed(missed);
            ticks.on_wall_clock(&clock, start).run(move |_| {
                assert!(runs.fetch_add(1, Relaxed) < 100, "it does not rest");
                async {}
            });
        }
        sleep(ms(5000)).await;
        assert_eq!(runs.load(Relaxed), 0, "{start:?} {now:?}");
        group.wait().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn wait_lets_a_run_finish_and_starts_no_further_tick() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let (of_series, held) = (log.clone(), hold.clone());
    let series = group.every(ms(10)).run(move |_| {
        let (log, held) = (of_series.clone(), held.job());
        async move {
            held.await;
            log.push("finished");
        }
    });
    hold.started().await;
    let wait = group.wait();
    hold.release();
    wait.await.unwrap();
    assert_eq!(log.take(), [("finished", ms(0))]);
    assert_eq!(series.state(), JobState::Finished);
}

#[tokio::test(start_paused = true)]
async fn wait_between_two_far_ticks_ends_at_once() {
    let (group, start, log) = (Group::new(), Instant::now(), Log::new());
    let of_series = log.clone();
    let series = group.every(HOUR).run(move |_| of_series.job(()));
    sleep(ms(300)).await;
    group.wait().await.unwrap();
    assert_eq!((start.elapsed(), log.len()), (ms(300), 1));
    assert_eq!(series.state(), JobState::Finished);
}

#[tokio::test(start_paused = true)]
async fn wait_ends_every_series_also_those_that_were_made_beside_ended_ones() {
    let (group, start) = (Group::new(), Instant::now());
    for _ in 0..20 {
        group.every(HOUR).run(|_| async {}).cancel();
        group.every(HOUR).run(|_| async {});
    }
    sleep(ms(300)).await;
    assert_eq!(group.stats().pending, 20);
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), ms(300));
}

/// The end of a series is found by its number; another job may have its place by then.
#[tokio::test(start_paused = true)]
async fn a_job_in_the_place_of_an_ended_series_is_not_early_when_the_group_is_waited_for() {
    let (group, start, log) = (Group::new(), Instant::now(), Log::new());
    for _ in 0..20 {
        assert!(group.every(HOUR).run(|_| async {}).cancel());
    }
    for n in 0..20 {
        drop(group.delay(HOUR, log.job(n)));
    }
    group.wait().await.unwrap();
    assert_eq!(start.elapsed(), HOUR);
    assert!(
        log.take().iter().all(|&(_, at)| at == HOUR),
        "none is early"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_series_ends_and_says_so_once() {
    let (group, log) = (Group::new(), Log::new());
    let of_series = log.clone();
    let series = group.every(ms(10)).run(move |_| of_series.job(()));
    sleep(ms(15)).await;
    assert!(!series.is_finished());
    assert_eq!((series.cancel(), series.cancel()), (true, false));
    sleep(ms(50)).await;
    assert_eq!((log.len(), series.is_finished()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn a_series_begins_at_its_start_and_its_ticks_tell_how_late_they_are() {
    let (group, log) = (Group::new(), Log::new());
    let of_series = log.clone();
    group
        .every(ms(10))
        .starting_at(Instant::now() + ms(5))
        .missed(MissedTicks::Burst(u64::MAX))
        .run(move |tick| {
            of_series.push((tick.number(), tick.lateness()));
            sleep(ms(if tick.number() == 0 { 25 } else { 1 }))
        });
    sleep(ms(40)).await;
    let expected = [((0, 0), 5), ((1, 15), 30), ((2, 6), 31), ((3, 0), 35)];
    let expected = expected.map(|((number, late), at)| ((number, ms(late)), ms(at)));
    assert_eq!(log.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_ends_its_series_and_is_the_groups_to_tell() {
    let (group, log) = (Group::new(), Log::new());
    let of_series = log.clone();
    let series = group.every(ms(10)).run(move |tick| {
        of_series.push(tick.number());
        async move { assert_ne!(tick.number(), 1, "the second one") }
    });
    sleep(ms(100)).await;
    assert_eq!(
        (log.labels(), series.state()),
        (vec![0, 1], JobState::Panicked)
    );
    let ended = group.wait().await;
    assert!(matches!(ended, Err(WaitError::Panicked(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_in_progress_is_the_last_after_a_cancel_and_is_stopped_by_an_abort() {
    let ends: [(fn(&TimedHandle), _); 2] = [
        (|series| assert!(series.cancel()), 1),
        (|series| series.abort(), 0),
    ];
    for (end, finished) in ends {
        let (group, log) = (Group::new(), Log::new());
        let of_series = log.clone();
        let series = group.every(ms(10)).run(move |_| {
            let log = of_series.clone();
            async move {
                sleep(ms(5)).await;
                log.push(());
            }
        });
        sleep(ms(2)).await;
        end(&series);
        sleep(ms(100)).await;
        assert_eq!((log.len(), series.is_finished()), (finished, true));
    }
}

#[tokio::test(start_paused = true)]
async fn begun_through_a_handle_after_the_end_they_are_finished_handles() {
    let ends: [fn(&Group); 2] = [
        |group| drop(group.wait()),
        |group| drop(group.shutdown(HOUR)),
    ];
    for end in ends {
        let (group, clock, flag) = (Group::new(), WallClock::system(), Flag::new());
        let handle = group.handle();
        end(&group);
        let guard = flag.guard();
        let series = handle.every(HOUR).run(move |_| {
            let _held = &guard;
            async {}
        });
        let job = clock.schedule(&handle, SystemTime::now(), only(flag.job()));
        for begun in [series, job] {
            assert_eq!(begun.state(), JobState::Cancelled);
            assert!(!begun.cancel());
        }
        assert_eq!(flag.drops(), 2);
    }
}

/// It would keep `wait` waiting until its first tick, which never comes.
#[tokio::test(start_paused = true)]
async fn a_series_begun_through_a_context_while_the_group_drains_is_a_finished_handle() {
    let (group, hold, log) = (Group::new(), Hold::new(), Log::new());
    let context = context_of(&group, &hold).await;
    let (wait, begun) = (group.wait(), Instant::now());
    for starts_in in [Duration::ZERO, HOUR] {
        let ticks = context.every(HOUR).starting_at(begun + starts_in);
        let of_series = log.clone();
        let series = ticks.run(move |_| of_series.job("tick"));
        assert_eq!(series.state(), JobState::Cancelled, "{starts_in:?}");
    }
    hold.release();
    wait.await.unwrap();
    assert_eq!((begun.elapsed(), log.len()), (ms(0), 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_goes_down_ends_its_series() {
    let ends: [fn(Group); 3] = [
        |group| group.cancel(),
        drop,
        |group| drop(group.shutdown(Duration::ZERO)),
    ];
    for end in ends {
        let (group, log, flag) = (Group::new(), Log::new(), Flag::new());
        let (of_series, guard) = (log.clone(), flag.guard());
        let series = group.every(ms(10)).run(move |_| {
            let _held = &guard;
            of_series.job(())
        });
        sleep(ms(15)).await;
        end(group);
        sleep(ms(50)).await;
        assert_eq!((log.len(), flag.drops()), (2, 1));
        assert_eq!(series.state(), JobState::Cancelled);
    }
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_misuse_at_its_line() {
    let group = Group::new();
    let (line, misuse) = (line!(), panic_of(|| group.every(Duration::ZERO)));
    let says = "schedgroup: every was called with a period of zero";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));
    let clock = WallClock::system();
    let (line, misuse) = (line!(), panic_of(|| clock.look_every(Duration::ZERO)));
    let says = "schedgroup: WallClock::look_every was called with zero";
    assert_eq!((misuse.message.as_str(), misuse.line), (says, line));
}

/// A job that has no use for its context.
fn only<J: Job>(job: J) -> impl FnOnce(JobContext) -> J + Send {
    |_| job
}

/// A wall clock that goes with tokio's, and can be stepped.
#[derive(Clone)]
struct Stepped(Instant, Arc<Mutex<SystemTime>>);

impl Stepped {
    fn new() -> (Stepped, WallClock) {
        let begun = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        let stepped = Stepped(Instant::now(), Arc::new(Mutex::new(begun)));
        let read = stepped.clone();
        let clock = WallClock::new(move || read.now()).look_every(ms(100));
        (stepped, clock)
    }

    fn now(&self) -> SystemTime {
        *self.1.lock().unwrap() + self.0.elapsed()
    }

    fn step(&self, change: impl FnOnce(SystemTime) -> SystemTime) {
        let mut begun = self.1.lock().unwrap();
        *begun = change(*begun);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_job_runs_at_its_time_on_a_steady_clock() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let at = wall.now() + ms(1234);
    clock.schedule(&group, at, only(log.job("due")));
    clock.schedule(&group, wall.now() - HOUR, only(log.job("past")));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("past", ms(0)), ("due", ms(1234))]);
}

#[tokio::test(start_paused = true)]
async fn a_wall_job_survives_steps_both_ways() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    clock.schedule(&group, wall.now() + HOUR, only(log.job("forward")));
    sleep(ms(250)).await;
    wall.step(|begun| begun + HOUR);
    sleep(ms(100)).await;
    assert_eq!(log.take(), [("forward", ms(300))], "seen at the next look");
    clock.schedule(&group, wall.now() + ms(500), only(log.job("back")));
    wall.step(|begun| begun - ms(1000));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("back", ms(350 + 1500))]);
}

/// A look at the clock is no run of the job, though the shutdown lets it end.
#[tokio::test(start_paused = true)]
async fn a_wall_job_whose_time_has_not_come_is_dropped_by_a_shutdown_at_a_look() {
    let (group, flag, (wall, clock)) = (Group::new(), Flag::new(), Stepped::new());
    let job = clock.schedule(&group, wall.now() + HOUR, only(flag.job()));
    sleep(ms(100)).await;
    let report = group.shutdown(HOUR).await;
    assert_eq!((report.finished, report.dropped), (0, 1));
    assert_eq!((job.state(), flag.drops()), (JobState::Cancelled, 1));
    assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
}

/// Its last look at the clock waits for a slot, and comes when its time has come too.
#[tokio::test(start_paused = true)]
async fn a_wall_job_whose_time_comes_after_a_shutdown_does_not_run() {
    let group = Group::builder().max_running(1).build();
    let (log, (wall, clock)) = (Log::new(), Stepped::new());
    let begun = wall.now();
    group.delay(ms(0), sleep(ms(5_000)));
    let due = clock.schedule(&group, begun + ms(2_000), only(log.job("due")));
    let late = clock.schedule(&group, begun + ms(2_001), only(log.job("late")));
    sleep(ms(2_000)).await;
    let report = group.shutdown(HOUR).await;
    assert_eq!(log.take(), [("due", ms(5_000))]);
    assert_eq!((report.finished, report.dropped), (2, 1));
    let states = (due.state(), late.state());
    assert_eq!(states, (JobState::Finished, JobState::Cancelled));
    assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
}

/// Neither a tick that is due and may not start any more nor a look at the clock is a run of the series.
#[tokio::test(start_paused = true)]
async fn a_series_whose_tick_is_due_at_a_shutdown_and_does_not_start_is_dropped() {
    type Begin = fn(&Group, &Stepped, &WallClock, Log<()>) -> TimedHandle;
    let series: [(&str, Begin); 5] = [
        ("every", |group, _, _, log| {
            group.every(ms(100)).run(move |_| log.job(()))
        }),
        ("by a wall clock", |group, wall, clock, log| {
            let every = group.every(ms(100)).on_wall_clock(clock, wall.now());
            every.run(move |_| log.job(()))
        }),
        ("at a look", |group, wall, clock, log| {
            let every = group.every(HOUR).on_wall_clock(clock, wall.now());
            every.run(move |_| log.job(()))
        }),
        ("calendar", |group, _, clock, log| {
            let at = periodic::at(|now| Some(now + ms(100))).on_wall_clock(clock);
            at.run(group, move |_| log.job(()))
        }),
        ("calendar at a look", |group, _, clock, log| {
            let at = periodic::at(|now| Some(now + HOUR)).on_wall_clock(clock);
            at.run(group, move |_| log.job(()))
        }),
    ];
    for (kind, begin) in series {
        for the_driver_has_seen_it in [false, true] {
            let group = Group::builder().max_running(1).build();
            let (hold, log, (wall, clock)) = (Hold::new(), Log::new(), Stepped::new());
            let series = begin(&group, &wall, &clock, log.clone());
            sleep(ms(50)).await;
            group.delay(Duration::ZERO, hold.job());
            hold.started().await;
            jump(ms(50));
            if the_driver_has_seen_it {
                settle().await;
            }
            let (ticks, shutdown) = (log.len(), group.shutdown(HOUR));
            hold.release();
            assert_eq!(counts(shutdown.await), (1, 0, 1), "{kind}");
            assert_eq!(series.state(), JobState::Cancelled, "{kind}");
            assert_eq!(log.len(), ticks, "{kind}");
            let wait = group.wait().await;
            assert!(matches!(wait, Err(WaitError::Cancelled)), "{kind}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_series_that_looks_at_its_clock_as_the_group_is_shut_down_is_dropped() {
    for calendar in [false, true] {
        let group = Arc::new(Group::new());
        let (closes, (wall, _)) = (Arc::downgrade(&group), Stepped::new());
        let (shuts_down, now) = (Arc::new(Mutex::new(false)), wall.clone());
        let shuts = Arc::clone(&shuts_down);
        let clock = WallClock::new(move || {
            if std::mem::take(&mut *shuts.lock().unwrap()) {
                drop(closes.upgrade().unwrap().shutdown(HOUR));
            }
            now.now()
        });
        let series = if calendar {
            let at = periodic::at(|now| Some(now + HOUR)).on_wall_clock(&clock);
            at.run(&*group, |_| async {})
        } else {
            let every = group.every(HOUR).on_wall_clock(&clock, wall.now() + HOUR);
            every.run(|_| async {})
        };
        *shuts_down.lock().unwrap() = true;
        sleep(ms(2_000)).await;
        assert!(matches!(group.wait().await, Err(WaitError::Cancelled)));
        assert_eq!(series.state(), JobState::Cancelled, "calendar: {calendar}");
    }
}

/// The look that is under way when a group is shut down starts the job if its time has come, and is the last one if not.
#[tokio::test(start_paused = true)]
async fn a_cancel_in_the_last_look_before_the_end_says_whether_it_prevented_the_run() {
    for (at, comes) in [(ms(50), true), (HOUR, false)] {
        let (group, flag, (wall, _)) = (Arc::new(Group::new()), Flag::new(), Stepped::new());
        let (of_clock, cancelled) = (Arc::new(Mutex::new(None::<TimedHandle>)), Flag::new());
        let (job, count, now) = (Arc::clone(&of_clock), cancelled.clone(), wall.clone());
        let closes = Arc::downgrade(&group);
        let clock = WallClock::new(move || {
            if let Some(job) = job.lock().unwrap().take() {
                drop(closes.upgrade().unwrap().shutdown(HOUR));
                if job.cancel() {
                    drop(count.guard());
                }
            }
            now.now()
        });
        let job = clock.schedule(&*group, wall.now() + at, only(flag.job()));
        *of_clock.lock().unwrap() = Some(job.clone());
        assert!(matches!(group.wait().await, Err(WaitError::Cancelled)) != comes);
        let prevented = cancelled.drops() == 1;
        assert_eq!(
            job.state() == JobState::Finished,
            comes && !prevented,
            "{at:?}"
        );
        assert!(comes || !prevented, "the shutdown drops it");
        assert!(!job.cancel());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_series_from_long_ago_keeps_to_its_hours() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    wall.step(|begun| begun + HOUR / 4);
    let of_series = log.clone();
    group
        .every(HOUR)
        .on_wall_clock(&clock, SystemTime::UNIX_EPOCH)
        .run(move |tick| of_series.job(tick.number()));
    sleep(2 * HOUR).await;
    assert_eq!(log.take(), [(1001, 3 * HOUR / 4), (1002, 7 * HOUR / 4)]);
}

#[tokio::test(start_paused = true)]
async fn no_tick_of_a_wall_series_runs_twice() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let of_series = log.clone();
    let ticks = group.every(ms(1000)).on_wall_clock(&clock, wall.now());
    ticks.run(move |tick| of_series.job(tick.number()));
    sleep(ms(1500)).await;
    wall.step(|begun| begun - ms(1000));
    sleep(ms(2000)).await;
    wall.step(|begun| begun + ms(3000));
    sleep(ms(1600)).await;
    // Back: tick 2 is a second later. Forward over 3, 4 and 5: 3 runs when it is seen, then 6.
    let expected = [
        (0, 0),
        (1, 1000),
        (2, 3000),
        (3, 3500),
        (6, 4000),
        (7, 5000),
    ];
    assert_eq!(log.take(), expected.map(|(tick, at)| (tick, ms(at))));
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A second of wall time between ticks, on a clock that is looked at ten times as often.
fn by_seconds(missed: MissedTicks) -> (Group, Stepped, Log<u64>) {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let of_series = log.clone();
    group
        .every(ms(1000))
        .on_wall_clock(&clock, wall.now())
        .missed(missed)
        .run(move |tick| of_series.job(tick.number()));
    (group, wall, log)
}

/// None of the steps is longer than a period. They count together, but only up to the next tick.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_comes_back_in_several_steps_does_not_silence_a_series() {
    let (_group, wall, log) = by_seconds(MissedTicks::Skip);
    sleep(ms(1500)).await;
    wall.step(|begun| begun + ms(60_000));
    sleep(ms(200)).await;
    for _ in 0..60 {
        wall.step(|begun| begun - ms(1000));
        sleep(ms(100)).await;
    }
    log.take();
    sleep(ms(3000)).await;
    let expected = [(8, 8000), (9, 9000), (10, 10_000)];
    assert_eq!(log.take(), expected.map(|(tick, at)| (tick, ms(at))));
    for _ in 0..3 {
        wall.step(|begun| begun - ms(900));
        sleep(ms(2000)).await;
    }
    let numbers = log.labels();
    assert!(
        numbers.is_sorted_by(|one, next| one < next) && numbers.first() == Some(&11),
        "{numbers:?}"
    );
}

/// It waits for its slot, or the clock jumps.
#[tokio::test(start_paused = true)]
async fn a_series_with_delay_keeps_its_period_after_a_tick_that_starts_late() {
    for jumps in [false, true] {
        let group = Group::builder().max_running(1).build();
        let log = Log::new();
        let of_series = log.clone();
        let ticks = group.every(ms(10)).missed(MissedTicks::Delay);
        ticks.run(move |tick| of_series.job((tick.number(), tick.lateness())));
        sleep(ms(5)).await;
        if jumps {
            tokio::time::advance(ms(40)).await;
        } else {
            group.delay(Duration::ZERO, sleep(ms(40)));
        }
        sleep(ms(65)).await;
        let ticks = log.take().into_iter().take(4).collect::<Vec<_>>();
        let expected = [(0, 0, 0), (1, 35, 45), (2, 0, 55), (3, 0, 65)];
        let expected = expected.map(|(tick, late, at)| ((tick, ms(late)), ms(at)));
        assert_eq!(ticks, expected, "the clock jumps: {jumps}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_was_ahead_for_a_moment_does_not_silence_a_series() {
    let rules = [MissedTicks::Skip, MissedTicks::Delay, MissedTicks::Burst(2)];
    for missed in rules {
        let (_group, wall, log) = by_seconds(missed);
        sleep(ms(1500)).await;
        wall.step(|begun| begun + YEAR);
        sleep(ms(2000)).await;
        wall.step(|begun| begun - YEAR);
        log.take();
        sleep(ms(3000)).await;
        let expected = [(4, 4000), (5, 5000), (6, 6000)];
        assert_eq!(
            log.take(),
            expected.map(|(tick, at)| (tick, ms(at))),
            "{missed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_was_ahead_during_a_run_does_not_silence_a_series() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let (of_series, of_run, hold) = (log.clone(), wall.clone(), Hold::new());
    let held = hold.clone();
    group
        .every(ms(1000))
        .on_wall_clock(&clock, wall.now())
        .run(move |tick| {
            of_series.push(tick.number());
            let (wall, hold) = (of_run.clone(), held.job());
            async move {
                if tick.number() == 1 {
                    wall.step(|begun| begun + YEAR);
                    hold.await;
                }
            }
        });
    sleep(ms(1500)).await;
    hold.release();
    settle().await;
    wall.step(|begun| begun - YEAR);
    sleep(ms(2000)).await;
    let expected = [(0, 0), (1, 1000), (2, 2000), (3, 3000)];
    assert_eq!(log.take(), expected.map(|(tick, at)| (tick, ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_wall_series_that_is_late_for_a_start_far_ahead_begins_with_its_first_tick() {
    let group = Group::builder().max_running(1).build();
    let (log, hold, (wall, clock)) = (Log::new(), Hold::new(), Stepped::new());
    let of_series = log.clone();
    group
        .every(ms(100))
        .on_wall_clock(&clock.look_every(HOUR), wall.now() + ms(1000))
        .run(move |tick| of_series.job(tick.number()));
    sleep(ms(990)).await;
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    sleep(ms(20)).await;
    hold.release();
    sleep(ms(100)).await;
    assert_eq!(log.take(), [(0, ms(1010)), (1, ms(1100))]);
}

/// The times that come again have their ticks again.
#[tokio::test(start_paused = true)]
async fn a_wall_series_is_anchored_anew_after_a_step_back_of_more_than_a_period() {
    for (back, expected) in [
        (1000, [(4, 5000), (5, 6000)]),
        (1001, [(3, 4001), (4, 5001)]),
        (2000, [(2, 4000), (3, 5000)]),
    ] {
        let (_group, wall, log) = by_seconds(MissedTicks::Skip);
        sleep(ms(3500)).await;
        log.take();
        wall.step(|begun| begun - ms(back));
        sleep(ms(2600)).await;
        let expected = expected.map(|(tick, at)| (tick, ms(at)));
        assert_eq!(log.take()[..2], expected, "{back} ms back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_series_is_anchored_anew_after_a_step_back_during_a_run() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let (of_series, of_run) = (log.clone(), wall.clone());
    group
        .every(ms(1000))
        .on_wall_clock(&clock, wall.now())
        .run(move |tick| {
            of_series.push(tick.number());
            if tick.number() == 3 {
                of_run.step(|begun| begun - ms(1500));
            }
            async {}
        });
    sleep(ms(4600)).await;
    let expected = [
        (0, 0),
        (1, 1000),
        (2, 2000),
        (3, 3000),
        (2, 3500),
        (3, 4500),
    ];
    assert_eq!(log.take(), expected.map(|(tick, at)| (tick, ms(at))));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_back_to_before_the_start_waits_for_it_again() {
    let (_group, wall, log) = by_seconds(MissedTicks::Skip);
    sleep(ms(2500)).await;
    log.take();
    wall.step(|begun| begun - ms(5000));
    sleep(ms(4000)).await;
    assert_eq!(log.take(), [(0, ms(5000)), (1, ms(6000))]);
}

#[tokio::test(start_paused = true)]
async fn after_a_step_of_a_day_a_burst_runs_the_last_missed_ticks() {
    // The step is seen at 1600, and tick 86402 is meant for 2000.
    let day = Duration::from_secs(86_400);
    for (max, first) in [(1, 86_401), (3, 86_399), (500, 85_902)] {
        let (_group, wall, log) = by_seconds(MissedTicks::Burst(max));
        sleep(ms(1550)).await;
        log.take();
        wall.step(|begun| begun + day);
        sleep(ms(550)).await;
        let mut ran = log.take();
        assert_eq!(ran.pop(), Some((86_402, ms(2000))), "at most {max}");
        let late = ran.iter().filter(|&&(_, at)| at == ms(1600)).count() as u64;
        assert_eq!((late, ran.len() as u64), (max, max), "at most {max}");
        assert_eq!(ran.first().map(|run| run.0), Some(first), "at most {max}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wall_job_is_dropped_at_once() {
    let (group, flag, (wall, clock)) = (Group::new(), Flag::new(), Stepped::new());
    let job = clock.schedule(&group, wall.now() + HOUR, only(flag.job()));
    assert_eq!((job.cancel(), job.cancel(), flag.drops()), (true, false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_running_wall_job_cannot_be_cancelled() {
    let (group, hold, (wall, clock)) = (Group::new(), Hold::new(), Stepped::new());
    let job = clock.schedule(&group, wall.now(), only(hold.job()));
    hold.started().await;
    assert!(!job.cancel());
    hold.release();
    group.wait().await.unwrap();
    assert_eq!(job.state(), JobState::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_is_looked_at_each_second_unless_told_otherwise() {
    let (group, log, (wall, _)) = (Group::new(), Log::new(), Stepped::new());
    let read = wall.clone();
    let clock = WallClock::new(move || read.now());
    clock.schedule(&group, wall.now() + HOUR, only(log.job("forward")));
    sleep(ms(2100)).await;
    wall.step(|begun| begun + HOUR);
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("forward", ms(3000))]);
}

#[tokio::test(start_paused = true)]
async fn a_tick_tells_how_late_it_starts() {
    let (group, log, hold) = (
        Group::builder().max_running(1).build(),
        Log::new(),
        Hold::new(),
    );
    let of_series = log.clone();
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    let (wall, clock) = Stepped::new();
    let by_wall = of_series.clone();
    group
        .every(HOUR)
        .run(move |tick| of_series.job(tick.lateness()));
    group
        .every(HOUR)
        .on_wall_clock(&clock, wall.now())
        .run(move |tick| by_wall.job(tick.lateness()));
    sleep(ms(30)).await;
    hold.release();
    sleep(ms(10)).await;
    assert_eq!(log.take(), [(ms(30), ms(30)), (ms(30), ms(30))]);
}

/// `wait` and the others end a series after its present run, so no cancel prevents a further one.
#[tokio::test(start_paused = true)]
async fn a_cancel_after_wait_prevents_no_tick() {
    for way in ["wait", "drain", "shutdown"] {
        for (phase, the_driver_has_seen_it) in [
            ("pending", false),
            ("waits", false),
            ("runs", false),
            ("pending", true),
            ("waits", true),
            ("runs", true),
        ] {
            let (group, hold, log) = (
                Group::builder().max_running(1).build(),
                Hold::new(),
                Log::new(),
            );
            let ticks = log.clone();
            let series = group.every(HOUR).run(move |_| {
                ticks.push("tick");
                sleep(ms(10))
            });
            sleep(ms(5)).await;
            if phase != "runs" {
                sleep(ms(5)).await;
                group.delay(Duration::ZERO, hold.job());
                hold.started().await;
                sleep(if phase == "waits" { HOUR } else { ms(0) }).await;
            }
            let before = (log.len(), group.stats().waiting);
            assert_eq!(before, (1, usize::from(phase == "waits")), "{phase}");
            match way {
                "wait" => drop(group.wait()),
                "drain" => drop(group.drain(HOUR)),
                _ => drop(group.shutdown(HOUR)),
            }
            if the_driver_has_seen_it {
                settle().await;
            }
            assert!(!series.cancel(), "{way}, {phase}: {series:?}");
            hold.release();
            sleep(ms(10)).await;
            assert_eq!(log.len(), 1, "{way}, {phase}");
            let ran_to_its_end = phase == "runs" && series.state() == JobState::Finished;
            assert!(ran_to_its_end || phase != "runs", "{way}: {series:?}");
            assert!(series.is_finished(), "{way}, {phase}: {series:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_job_that_went_down_with_its_group_cannot_be_cancelled() {
    for the_driver_has_seen_it in [true, false] {
        let (group, flag, (wall, clock)) = (Group::new(), Flag::new(), Stepped::new());
        let job = clock.schedule(&group, wall.now() + HOUR, only(flag.job()));
        settle().await;
        drop(group);
        if the_driver_has_seen_it {
            settle().await;
            assert_eq!(flag.drops(), 1);
        }
        assert_eq!((job.cancel(), flag.drops()), (false, 1));
    }
}

/// They are verbs of the owner's; through a handle they are not.
#[tokio::test(start_paused = true)]
async fn begun_by_the_owner_of_a_closed_group_they_panic_at_their_line() {
    type End = fn(&Group);
    let ends: [(&str, End); 3] = [
        ("wait", |group| drop(group.wait())),
        ("drain", |group| drop(group.drain(HOUR))),
        ("shutdown", |group| drop(group.shutdown(HOUR))),
    ];
    for (verb, end) in ends {
        let (group, clock, now) = (Group::new(), WallClock::system(), SystemTime::now());
        end(&group);
        let says = format!("schedgroup: attempted to schedule job after Group::{verb} was called");
        let series = group.every(HOUR);
        let misuse = panic_of(|| series.run(|_| async {}));
        assert_eq!((misuse.message, misuse.line), (says.clone(), line!() - 1));
        let misuse = panic_of(|| group.at_wall(&clock, now, |_| async {}));
        assert_eq!((misuse.message, misuse.line), (says, line!() - 1));
        let lent = clock.schedule(&group, now, |_| async {});
        let handle = group.handle().at_wall(&clock, now, |_| async {});
        let calendar = periodic::at(Some).run(&group, |_| async {});
        for begun in [lent, handle, calendar] {
            assert_eq!(begun.state(), JobState::Cancelled, "{verb}");
        }
    }
}

/// The future of a run, and the closure that makes it.
#[tokio::test(start_paused = true)]
async fn a_series_may_go_on_after_a_panic_which_wait_returns_all_the_same() {
    for panics_early in [true, false] {
        let (group, log) = (Group::new(), Log::new());
        let of_series = log.clone();
        let ticks = group.every(ms(10)).on_panic(OnPanic::Continue);
        let series = ticks.run(move |tick| {
            let number = tick.number();
            of_series.push(number);
            assert!(!panics_early || number % 2 == 0, "tick {number}");
            async move { assert_eq!(number % 2, 0, "tick {number}") }
        });
        sleep(ms(45)).await;
        assert_eq!(log.labels(), [0, 1, 2, 3, 4]);
        assert_eq!(series.state(), JobState::Pending);
        let Err(WaitError::Panicked(panic)) = group.wait().await else {
            panic!("it has panicked");
        };
        assert!(panic.message().contains("tick 1"), "{panic}");
        assert_eq!(
            (panic.job(), panic.scheduled_at().file()),
            (series.id(), file!())
        );
        let stats = group.stats();
        assert_eq!((stats.finished, stats.panicked), (1, 0), "{stats:?}");
        assert_eq!(series.state(), JobState::Finished);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_tells_for_when_it_was_meant_by_either_clock() {
    let (group, (wall, clock)) = (Group::builder().max_running(1).build(), Stepped::new());
    let (log, hold, start, begun) = (Log::new(), Hold::new(), Instant::now(), wall.now());
    let see = |tick: Tick| {
        (
            tick.number(),
            tick.intended(),
            tick.wall_time(),
            tick.context().run(),
        )
    };
    let (by_tokio, by_wall) = (log.clone(), log.clone());
    group
        .every(ms(100))
        .starting_at(start)
        .run(move |tick| by_tokio.job(see(tick)));
    let ticks = group.every(ms(100)).on_wall_clock(&clock, begun - ms(250));
    ticks.run(move |tick| by_wall.job(see(tick)));
    sleep(ms(10)).await;
    group.delay(Duration::ZERO, hold.job());
    hold.started().await;
    sleep(ms(130)).await;
    hold.release();
    settle().await;
    // Both run late by the time that the only slot was taken.
    let expected = [
        (0, start, None, 1),
        (3, start + ms(50), Some(begun + ms(50)), 1),
        (1, start + ms(100), None, 2),
    ];
    assert_eq!(log.labels(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_job_at_a_time_of_the_wall_clock_has_its_context() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let of_job = log.clone();
    clock.schedule(
        &group,
        wall.now() + ms(1000),
        |context: JobContext| async move {
            of_job.push(context.run());
            assert!(context.is_draining());
            context.delay(ms(1), of_job.job(2));
        },
    );
    group.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [(1, ms(1000)), (2, ms(1001))],
        "looks are no runs"
    );
}

/// A calendar of these times after the beginning, in milliseconds, that counts how often it is asked.
fn calendar(
    begun: SystemTime,
    times: impl IntoIterator<Item = u64>,
) -> (
    Arc<Mutex<u64>>,
    impl FnMut(SystemTime) -> Option<SystemTime> + Send + 'static,
) {
    let times: Vec<_> = times.into_iter().map(|at| begun + ms(at)).collect();
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let next = move |now| {
        *count.lock().unwrap() += 1;
        times.iter().copied().find(|&at| at > now)
    };
    (asked, next)
}

#[tokio::test(start_paused = true)]
async fn a_calendar_is_asked_once_a_tick_and_ends_its_series() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let (of_series, begun) = (log.clone(), wall.now());
    let (asked, next) = calendar(begun, [5, 1000, 1500, 7777]);
    let series = periodic::at(next)
        .on_wall_clock(&clock)
        .run(&group, move |tick| {
            let since = tick.wall_time().map(|at| at.duration_since(begun).unwrap());
            of_series.job((tick.number(), since, tick.context().run(), tick.lateness()))
        });
    sleep(ms(10_000)).await;
    let expected = [(0, 5), (1, 1000), (2, 1500), (3, 7777)];
    let expected = expected.map(|(tick, at)| ((tick, Some(ms(at)), tick + 1, ms(0)), ms(at)));
    assert_eq!(log.take(), expected);
    assert_eq!(
        (*asked.lock().unwrap(), series.state()),
        (5, JobState::Finished)
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_of_a_calendar_that_passes_during_a_run_is_left_out() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let of_series = log.clone();
    let (_, next) = calendar(wall.now(), (1..100).map(|n| 100 * n));
    let ticks = periodic::at(next).on_wall_clock(&clock);
    ticks.run(&group, move |tick| {
        of_series.push(tick.number());
        sleep(ms(if tick.number() == 1 { 250 } else { 10 }))
    });
    sleep(ms(620)).await;
    let expected = [(0, 100), (1, 200), (2, 500), (3, 600)];
    assert_eq!(log.take(), expected.map(|(tick, at)| (tick, ms(at))));
}

/// The tick of a time that the clock was set forward over runs when the step is seen, and no tick is early.
#[tokio::test(start_paused = true)]
async fn a_calendar_is_asked_again_after_a_step_of_its_clock() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let (of_series, begun) = (log.clone(), wall.now());
    let (asked, next) = calendar(begun, [1000, 3000, 5000, 9000]);
    periodic::at(next)
        .on_wall_clock(&clock)
        .run(&group, move |tick| {
            let since = tick.wall_time().map(|at| at.duration_since(begun).unwrap());
            of_series.job(since.unwrap())
        });
    sleep(ms(1550)).await;
    assert_eq!(
        (log.take(), *asked.lock().unwrap()),
        (vec![(ms(1000), ms(1000))], 2)
    );
    wall.step(|begun| begun + ms(4000));
    sleep(ms(150)).await;
    assert_eq!(
        log.take(),
        [(ms(3000), ms(1600))],
        "5000 has passed as well"
    );
    // The clock reads 5700, and 9000 is next; it is set back to 700, and 1000 comes again.
    wall.step(|begun| begun - ms(5000));
    sleep(ms(1000)).await;
    assert_eq!(log.take(), [(ms(1000), ms(2000))]);
    let before = *asked.lock().unwrap();
    for (change, again) in [(90, 0), (100, 0), (101, 1)] {
        wall.step(|begun| begun + ms(change));
        sleep(ms(300)).await;
        let asked = *asked.lock().unwrap();
        assert_eq!(
            asked,
            before + again,
            "more than a look is a step, {change}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_of_a_calendar_to_which_its_clock_is_set_has_its_tick() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let of_series = log.clone();
    let (_, next) = calendar(wall.now(), [1000, 3000]);
    let ticks = periodic::at(next).on_wall_clock(&clock);
    ticks.run(&group, move |tick| of_series.job(tick.number()));
    sleep(ms(1550)).await;
    // The next look is at 1600.
    wall.step(|begun| begun + ms(1400));
    sleep(ms(100)).await;
    assert_eq!(log.take(), [(0, ms(1000)), (1, ms(1600))]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_a_year_ahead_does_not_silence_a_calendar() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let of_series = log.clone();
    let hourly = |now: SystemTime| {
        let hours = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            / 3600;
        Some(SystemTime::UNIX_EPOCH + (hours as u32 + 1) * HOUR)
    };
    let series = periodic::at(hourly).on_wall_clock(&clock);
    series.run(&group, move |tick| of_series.job(tick.number()));
    sleep(ms(500)).await;
    wall.step(|begun| begun + YEAR);
    sleep(ms(2000)).await;
    assert_eq!(log.take().len(), 1, "that of the hour that it was set over");
    wall.step(|begun| begun - YEAR);
    sleep(HOUR).await;
    assert_eq!(log.take(), [(1, HOUR)]);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_not_later_than_the_last_is_taken_at_the_next_look() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let (of_series, past) = (log.clone(), wall.now() - HOUR);
    let ticks = periodic::at(move |_| Some(past)).on_wall_clock(&clock);
    ticks.run(&group, move |tick| of_series.job(tick.number()));
    sleep(ms(250)).await;
    assert_eq!(log.take(), [(0, ms(0)), (1, ms(100)), (2, ms(200))]);
}

/// A calendar is not told of its last tick: when the clock was set back just after it, its time comes again.
#[tokio::test(start_paused = true)]
async fn a_tick_of_a_calendar_runs_again_when_its_clock_is_set_back_just_after_it() {
    // Set back by so much while the first tick runs: when does it run again?
    for (back, again) in [
        (1, 1100),
        (99, 1100),
        (100, 1100),
        (150, 1150),
        (5000, 6000),
    ] {
        let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
        let (of_series, begun) = (log.clone(), wall.now());
        let (asked, next) = calendar(begun, [1000, 100_000]);
        let mut is_first = true;
        periodic::at(next)
            .on_wall_clock(&clock)
            .run(&group, move |tick| {
                if std::mem::take(&mut is_first) {
                    wall.step(|begun| begun - ms(back));
                }
                let since = tick.wall_time().map(|at| at.duration_since(begun).unwrap());
                of_series.job((since.unwrap(), tick.lateness()))
            });
        sleep(ms(50_000)).await;
        let late = ms(again - 1000 - back);
        let ticks = [((ms(1000), ms(0)), ms(1000)), ((ms(1000), late), ms(again))];
        assert_eq!(log.take(), ticks, "{back} ms back");
        assert_eq!(*asked.lock().unwrap(), 3, "{back} ms back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_calendar_ends_with_its_group_and_by_its_handle() {
    type End = fn(&Group, &TimedHandle);
    let ends: [(End, JobState); 4] = [
        (|group, _| drop(group.wait()), JobState::Finished),
        (|group, _| drop(group.drain(2 * HOUR)), JobState::Finished),
        (|group, _| group.cancel(), JobState::Cancelled),
        (|_, series| assert!(series.cancel()), JobState::Cancelled),
    ];
    for (end, state) in ends {
        let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
        let (of_series, (asked, next)) = (log.clone(), calendar(wall.now(), [100, 3_600_000]));
        let series = periodic::at(next)
            .on_wall_clock(&clock)
            .run(&group, move |_| of_series.job(()));
        sleep(ms(250)).await;
        end(&group, &series);
        sleep(HOUR).await;
        assert_eq!(
            (log.len(), *asked.lock().unwrap(), series.state()),
            (1, 2, state)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_run_need_not_end_a_calendar_and_one_of_the_calendar_does() {
    let (group, log, (wall, clock)) = (Group::new(), Log::new(), Stepped::new());
    let (of_series, (asked, mut next)) = (log.clone(), calendar(wall.now(), [100, 200, 300]));
    let next = move |now| {
        assert_ne!(*asked.lock().unwrap(), 2, "in the calendar");
        next(now)
    };
    let ticks = periodic::at(next)
        .on_wall_clock(&clock)
        .on_panic(OnPanic::Continue);
    let series = ticks.run(&group, move |tick| {
        of_series.push(tick.number());
        async { panic!("in a run") }
    });
    sleep(HOUR).await;
    assert_eq!(
        (log.labels(), series.state()),
        (vec![0, 1], JobState::Panicked)
    );
    let Err(WaitError::Panicked(first)) = group.wait().await else {
        panic!("it has panicked");
    };
    assert_eq!(first.message(), "in a run");
}

/// A clock is read as a series or a job begins, in the caller.
#[tokio::test(start_paused = true)]
async fn what_is_begun_by_a_clock_that_panics_may_panic_when_it_is_dropped() {
    let group = Group::new();
    let clock = WallClock::new(|| panic!("boom"));
    let bomb = || OnDrop(|| panic!("in a destructor"));
    let (work, job) = (bomb(), bomb());
    let begins: [Box<dyn FnOnce() -> TimedHandle + '_>; 2] = [
        Box::new(|| {
            let every = group.every(ms(1_000));
            let every = every.on_wall_clock(&clock, SystemTime::UNIX_EPOCH);
            every.run(move |_| {
                let _held = &work;
                async {}
            })
        }),
        Box::new(|| {
            let at = SystemTime::UNIX_EPOCH;
            group.at_wall(&clock, at, move |_| async move { drop(job) })
        }),
    ];
    for begin in begins {
        let panic = catch_unwind(AssertUnwindSafe(begin)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"boom"));
    }
    group.wait().await.unwrap();
}

/// The closure of the series, its calendar and its clock, of which one panics first, and all when they are dropped.
#[tokio::test(start_paused = true)]
async fn all_that_a_series_holds_may_panic_when_it_is_dropped() {
    for panics in ["clock", "calendar", "work", "none"] {
        let (group, flag) = (Group::new(), Flag::new());
        let bomb = || {
            let guard = flag.guard();
            OnDrop(move || {
                let _dropped_too = &guard;
                panic!("in the destructor of a closure");
            })
        };
        let begun = Instant::now();
        let clock = || {
            let bomb = bomb();
            WallClock::new(move || {
                let (_held, passed) = (&bomb, begun.elapsed());
                assert!(panics != "clock" || passed < ms(2_000), "{panics}");
                SystemTime::UNIX_EPOCH + passed
            })
        };
        let work = || {
            let bomb = bomb();
            move |_: Tick| {
                let _held = &bomb;
                assert!(panics != "work" || begun.elapsed() < ms(2_000), "{panics}");
                async {}
            }
        };
        let of_calendar = bomb();
        let next = move |now: SystemTime| {
            let _held = &of_calendar;
            assert_ne!(panics, "calendar");
            Some(now + ms(1_000))
        };
        let calendar = periodic::at(next).on_wall_clock(&clock());
        let calendar = calendar.run(&group, work());
        let every = group.every(ms(1_000));
        let every = every.on_wall_clock(&clock(), SystemTime::UNIX_EPOCH);
        let every = every.run(work());
        let held = bomb();
        let once = SystemTime::UNIX_EPOCH + ms(60_000);
        let once = group.at_wall(&clock(), once, move |_| async move { drop(held) });
        sleep(ms(5_000)).await;
        [calendar, every, once].iter().for_each(TimedHandle::abort);
        assert_eq!(group.wait().await.is_err(), panics != "none", "{panics}");
        assert_eq!(flag.drops(), 7, "{panics}");
    }
}
