//! At most `max_running` jobs run; due ones wait in release order and take a free place at once; what
//! does not run holds none.
//!
//! That the limit is kept and used to the full is in `tests/faults.rs`.

use std::time::Duration;

use schedgroup::{Group, Next};
use tokio::time::{Instant, sleep, sleep_until};

use crate::common::{HOUR, Hold, Log, ms, settle};

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

/// The one place gets free at ten milliseconds, in every way that a run can end.
#[tokio::test(start_paused = true)]
async fn a_free_place_is_taken_at_once_however_it_got_free() {
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
async fn a_pending_job_holds_no_place() {
    let (group, log) = (of_one(), Log::new());
    let far = group.delay(HOUR, async {});
    group.delay(ms(1), log.job(()));
    sleep(ms(2)).await;
    assert_eq!(log.take(), [((), ms(1))]);
    assert!(far.is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_and_is_cancelled_or_moved_holds_no_place() {
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

#[tokio::test(start_paused = true)]
async fn a_series_holds_no_place_between_its_runs() {
    let (group, log) = (of_one(), Log::new());
    let runs = log.clone();
    group.repeat(Instant::now(), move |context| {
        runs.push("series");
        async move {
            sleep(ms(10)).await;
            match context.attempt() {
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
            match context.attempt() {
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

/// A job keeps its place while it sleeps: it runs.
#[tokio::test(start_paused = true)]
async fn a_running_job_holds_its_place_over_its_awaits() {
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
async fn two_groups_share_no_places() {
    let (busy, free, log) = (of_one(), of_one(), Log::new());
    busy.delay(Duration::ZERO, sleep(HOUR));
    settle().await;
    free.delay(ms(1), log.job(()));
    free.wait().await.unwrap();
    assert_eq!(log.take(), [((), ms(1))]);
}
