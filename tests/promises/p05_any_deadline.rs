//! Any deadline is accepted: the farthest one is cancellable, movable and never a panic; so is a
//! process years old.

use std::time::Duration;

use schedgroup::{Group, Next};
use tokio::time::{Instant, sleep};

use crate::common::{Flag, HOUR, Log, methods, ms, settle};

const YEAR: Duration = Duration::from_secs(86_400 * 365);

#[tokio::test(start_paused = true)]
async fn every_method_takes_the_farthest_deadlines() {
    let group = Group::new();
    let flag = Flag::new();
    let start = Instant::now();
    let farthest = [
        group.delay(Duration::MAX, flag.job()),
        group.delay_with(Duration::MAX, {
            let job = flag.job();
            |_| job
        }),
        group.spawn_after(Duration::MAX, flag.job()).job().clone(),
        group.try_delay(Duration::MAX, flag.job()).unwrap(),
    ];
    for far in [300 * YEAR, 1_000 * YEAR, 100_000 * YEAR] {
        let (at, job) = (start + far, || flag.job());
        for (_, call) in methods!(group, at, job) {
            call();
        }
    }
    let next = group.stats().next_deadline;
    assert!(next > Some(start + 100 * YEAR), "{next:?}");
    sleep(30 * YEAR).await;
    assert_eq!((group.stats().pending, flag.drops()), (4 + 3 * 7, 0));
    for job in farthest {
        assert!(job.deadline() > start + 100 * YEAR, "{job:?}");
        assert!(job.cancel(), "{job:?}");
    }
    assert_eq!(flag.drops(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_moved_to_the_farthest_deadline_and_back() {
    let group = Group::new();
    let log = Log::new();
    let job = group.delay(ms(10), log.job("ran"));
    assert!(job.reset_after(Duration::MAX));
    sleep(YEAR).await;
    assert!(job.is_pending(), "{job:?}");
    assert!(job.reset_after(ms(10)));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [("ran", YEAR + ms(10))]);
}

#[tokio::test(start_paused = true)]
async fn a_repeating_job_may_want_to_run_at_the_end_of_time() {
    let group = Group::new();
    let log = Log::new();
    let runs = log.clone();
    let job = group.repeat(Instant::now(), move |context| {
        runs.push(context.run());
        async move {
            match context.run() {
                1 => Next::After(Duration::MAX),
                _ => Next::Done,
            }
        }
    });
    sleep(YEAR).await;
    assert!(job.is_pending(), "{job:?}");
    assert!(job.reset_after(ms(1)));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(1, ms(0)), (2, YEAR + ms(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_group_may_have_all_the_time_of_the_world() {
    let group = Group::builder()
        .timeout(Duration::MAX)
        .deadline(Instant::now() + 1_000 * YEAR)
        .build();
    let log = Log::new();
    group.delay(YEAR, log.job(()));
    group.wait().await.unwrap();
    assert_eq!(log.take(), [((), YEAR)]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_may_have_endless_grace() {
    let group = Group::new();
    group.delay(Duration::ZERO, sleep(10 * HOUR));
    settle().await;
    let start = Instant::now();
    let report = group.shutdown(Duration::MAX).await;
    assert_eq!((report.finished, start.elapsed()), (1, 10 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn a_process_years_old_is_like_a_young_one() {
    let old = Group::new();
    sleep(10 * YEAR).await;
    for group in [old, Group::new()] {
        let log = Log::new();
        group.delay(ms(10), log.job("delay"));
        group.schedule(Instant::now() - 5 * YEAR, log.job("years ago"));
        let moved = group.delay(Duration::MAX, log.job("moved"));
        assert!(moved.reset_after(ms(20)));
        group.wait().await.unwrap();
        assert_eq!(
            log.take(),
            [("years ago", ms(0)), ("delay", ms(10)), ("moved", ms(20))]
        );
    }
}

/// The driver's own sleep is shorter than this deadline, and looks again.
#[tokio::test(start_paused = true)]
async fn a_far_deadline_is_exact_to_the_millisecond() {
    let group = Group::new();
    let log = Log::new();
    for far in [
        24 * HOUR,
        24 * HOUR + ms(1),
        30 * 24 * HOUR - ms(1),
        YEAR + ms(3),
    ] {
        group.delay(far, log.job(far));
    }
    group.wait().await.unwrap();
    for (deadline, fired) in log.take() {
        assert_eq!(fired, deadline);
    }
}

/// However many there are: no timer is armed for them, so no time passes in which nothing else is to do.
#[tokio::test(start_paused = true)]
async fn far_deadlines_arm_no_timer_however_many_there_are() {
    for far in [Duration::MAX, 290 * YEAR, 101 * YEAR] {
        for many in [1, 5_000, 50_000] {
            let group = Group::new();
            for _ in 0..many {
                group.delay(far, async {});
            }
            settle().await;
            let before = group.stats().driver_wakeups;
            sleep(YEAR / 2).await;
            let turns = group.stats().driver_wakeups - before;
            assert_eq!(turns, 0, "{many} jobs {} days away", far.as_secs() / 86_400);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_end_of_the_group_arms_no_timer() {
    let far = Instant::now() + 101 * YEAR;
    let timeout = Group::builder().timeout(200 * YEAR).build();
    let deadline = Group::builder().deadline(far).build();
    let both = [timeout, deadline];
    settle().await;
    let turns = || both.each_ref().map(|group| group.stats().driver_wakeups);
    let before = turns();
    sleep(YEAR / 2).await;
    assert_eq!(turns(), before);
}

/// Near jobs among far ones fire at their times, each in one turn of the driver and without another.
#[tokio::test(start_paused = true)]
async fn near_jobs_fire_among_far_ones_and_nothing_else_wakes_the_driver() {
    let group = Group::new();
    let log = Log::new();
    for job in 0..20_000 {
        let far = [Duration::MAX, 150 * YEAR, 101 * YEAR][job % 3];
        group.delay(far, async {});
    }
    for n in 1..=10 {
        group.delay(n * HOUR, log.job(n * HOUR));
    }
    settle().await;
    let before = group.stats().driver_wakeups;
    sleep(YEAR / 2).await;
    assert_eq!(group.stats().driver_wakeups - before, 10);
    let fired = log.take();
    assert_eq!(fired.len(), 10);
    assert!(fired.iter().all(|(due, at)| due == at), "{fired:?}");
}
