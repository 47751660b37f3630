//! Debouncing, and expiring now.

use std::time::Duration;

use crate::common::{HOUR, Hold, Log, ms, settle};
use schedgroup::keyed::OnDuplicate::{Keep, Replace};
use schedgroup::keyed::{BoxedJob, Inserted, KeyedGroup};
use tokio::time::{Instant, sleep};

use super::logging;

#[tokio::test(start_paused = true)]
async fn a_debounced_value_gathers_the_events() {
    let log = Log::new();
    let shipped = log.clone();
    let batches = KeyedGroup::with_handler(move |_, _: char, lines: Vec<u32>| shipped.job(lines));
    for line in 0..7 {
        assert!(batches.debounce_with(
            'k',
            ms(100),
            ms(260),
            || vec![line],
            |lines| lines.push(line)
        ));
        sleep(ms(50)).await;
    }
    batches.wait().await.unwrap();
    let expected = [((0..6).collect(), ms(260)), (vec![6], ms(400))];
    assert_eq!(log.take(), expected);
}

/// The compiler knows what `into` and the like have to make, as it does for an insert.
#[tokio::test(start_paused = true)]
async fn a_debounced_value_is_inferred_as_that_of_an_insert_is() {
    let log = Log::new();
    let saved = log.clone();
    let saves = KeyedGroup::with_handler(move |_, _: u8, text: String| saved.job(text));
    saves.insert_after(1, "inserted".into(), ms(1), Replace);
    saves.debounce(2, ms(2), ms(2), "into".into());
    saves.debounce(3, ms(3), ms(3), ["col", "lected"].into_iter().collect());
    saves.debounce(4, ms(4), ms(4), "parsed".parse().unwrap());
    saves.debounce(5, ms(5), ms(5), Default::default());
    saves.wait().await.unwrap();
    let expected = ["inserted", "into", "collected", "parsed", ""];
    assert_eq!(log.labels(), expected);
    let calls =
        KeyedGroup::with_handler(|_, _: u8, call: Box<dyn FnOnce() + Send>| async { call() });
    let called = log.clone();
    calls.debounce(
        1,
        ms(1),
        ms(1),
        Box::new(move || called.push("boxed".into())),
    );
    calls.wait().await.unwrap();
    assert_eq!(log.labels(), ["boxed"]);
    // Also where the values are jobs, and where the caller does not know what they are.
    fn of_any<V: Send + 'static>(keyed: &KeyedGroup<u8, V>, value: V) {
        assert!(matches!(
            keyed.debounce(1, ms(1), ms(1), value),
            Inserted::New
        ));
    }
    let (numbers, jobs) = (
        KeyedGroup::with_handler(|_, _: u8, _: u64| async {}),
        KeyedGroup::new(),
    );
    of_any(&numbers, 7);
    of_any(&jobs, BoxedJob::new(log.job("boxed".to_owned())));
    jobs.debounce(2, ms(2), ms(2), Box::pin(log.job("pinned".to_owned())));
    jobs.wait().await.unwrap();
    assert_eq!(log.labels(), ["boxed", "pinned"]);
}

/// The group accepts the entry, and ends before it has a value.
#[tokio::test(start_paused = true)]
async fn what_a_debounce_makes_as_the_group_ends_is_not_lost() {
    let debounce = |keyed: &KeyedGroup<char, u32>, end: &mut dyn FnMut()| {
        let make = || {
            end();
            7
        };
        keyed.debounce_with('k', ms(5), ms(5), make, |_| {})
    };
    let (keyed, log) = logging();
    assert!(debounce(&keyed, &mut || keyed.cancel()));
    assert!(keyed.wait().await.is_err());
    assert_eq!((keyed.drain_values(), log.take()), (vec![('k', 7)], vec![]));

    let (keyed, log) = logging();
    let mut end = None;
    assert!(debounce(&keyed, &mut || end = Some(keyed.shutdown(ms(9)))));
    let (report, left) = end.unwrap().await;
    assert_eq!((report.dropped, left), (1, vec![('k', 7)]));
    assert!(log.take().is_empty());

    let (keyed, log) = logging();
    let mut end = None;
    assert!(debounce(&keyed, &mut || end = Some(keyed.wait())));
    end.unwrap().await.unwrap();
    assert_eq!(log.take(), [(('k', 7), ms(5))]);
}

/// The storage of first debounces shrinks when most keys have gone; those that stay keep theirs.
#[tokio::test(start_paused = true)]
async fn ceilings_hold_though_most_of_the_keys_have_gone() {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(move |_, key: u32, value: u32| handled.job((key, value)));
    let (quiet, ceiling) = (ms(100), ms(150));
    for key in 0..1_000 {
        keyed.debounce(key, quiet, ceiling, key);
    }
    sleep(ms(50)).await;
    for key in 10..1_000 {
        assert_eq!(keyed.remove(&key), Some(key));
    }
    sleep(ms(40)).await;
    for key in 0..10 {
        assert_eq!(
            keyed.debounce(key, quiet, ceiling, 1_000 + key),
            Inserted::Replaced(key)
        );
    }
    keyed.wait().await.unwrap();
    let mut ran = log.take();
    ran.sort_unstable();
    let expected: Vec<_> = (0..10).map(|key| ((key, 1_000 + key), ceiling)).collect();
    assert_eq!(ran, expected);
}

#[tokio::test(start_paused = true)]
async fn a_debounce_after_an_insert_starts_a_new_quiet_time() {
    let (keyed, log) = logging();
    keyed.debounce('k', ms(100), ms(150), 1);
    sleep(ms(90)).await;
    keyed.insert_after('k', 2, HOUR, Replace);
    let replaced = keyed.debounce('k', ms(100), ms(150), 3);
    assert_eq!(replaced, Inserted::Replaced(2));
    sleep(ms(90)).await;
    keyed.debounce('k', ms(100), ms(150), 4);
    keyed.wait().await.unwrap();
    assert_eq!(
        log.take(),
        [(('k', 4), ms(240))],
        "150 after the debounce at 90"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_expired_is_final_and_its_key_is_free() {
    let log = Log::new();
    let (handled, hold) = (log.clone(), Hold::new());
    let busy = hold.clone();
    let keyed = KeyedGroup::builder()
        .max_running(1)
        .build_with(move |_, key: char, value: u32| {
            let (job, busy) = (handled.job((key, value)), busy.clone());
            async move {
                if key == 'b' {
                    busy.job().await;
                }
                job.await;
            }
        });
    keyed.insert_after('b', 0, Duration::ZERO, Replace);
    hold.started().await;
    // It is due now, and waits for the slot.
    keyed.insert_after('k', 1, HOUR, Replace);
    assert!(keyed.expire(&'k'));
    assert_eq!((keyed.len(), keyed.contains_key(&'k')), (0, false));
    assert!(!keyed.reset_after(&'k', HOUR) && !keyed.expire(&'k'));
    assert_eq!((keyed.remove(&'k'), keyed.deadline(&'k')), (None, None));
    // A debounce is a new entry, and so is an insert.
    assert_eq!(keyed.debounce('k', ms(10), ms(10), 2), Inserted::New);
    assert!(keyed.expire(&'k'));
    assert_eq!(keyed.insert_after('k', 3, ms(20), Keep), Inserted::New);
    assert_eq!(keyed.stats().pending, 3);
    hold.release();
    keyed.wait().await.unwrap();
    let expected = [('b', 0), ('k', 1), ('k', 2), ('k', 3)];
    assert_eq!(log.labels(), expected);
}

/// It waits for the run of its key, or for a slot. What is not due at the shutdown is dropped, so it cannot expire.
#[tokio::test(start_paused = true)]
async fn what_is_due_can_be_expired_within_the_grace_of_a_shutdown() {
    for exclusive in [false, true] {
        let (log, hold) = (Log::new(), Hold::new());
        let (handled, busy) = (log.clone(), hold.clone());
        let builder = match exclusive {
            true => KeyedGroup::builder().exclusive(),
            false => KeyedGroup::builder().max_running(1),
        };
        let keyed = builder.build_with(move |_, key: char, value: u32| {
            let (job, busy) = (handled.job((key, value)), busy.clone());
            async move {
                if value == 0 {
                    busy.job().await;
                }
                job.await;
            }
        });
        keyed.insert_after('k', 0, Duration::ZERO, Replace);
        hold.started().await;
        keyed.insert_after('k', 1, Duration::ZERO, Replace);
        keyed.insert_after('l', 2, HOUR, Replace);
        settle().await;
        let shutdown = keyed.shutdown(HOUR);
        settle().await;
        assert!(!keyed.reset_after(&'k', ms(1)), "{exclusive}");
        let expired = (keyed.expire(&'k'), keyed.expire(&'l'));
        assert_eq!(expired, (true, false), "{exclusive}");
        assert!(
            !keyed.expire(&'k') && !keyed.contains_key(&'k'),
            "{exclusive}"
        );
        hold.release();
        let (report, left) = shutdown.await;
        assert_eq!((report.finished, report.dropped), (2, 1), "{exclusive}");
        assert_eq!(left, [('l', 2)], "{exclusive}");
        assert_eq!(log.labels(), [('k', 0), ('k', 1)], "{exclusive}");
        assert!(!keyed.expire(&'l'), "{exclusive}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_overdue_expires_in_its_turn() {
    let (keyed, log) = logging();
    for (key, ago) in [('k', 3 * HOUR), ('l', HOUR), ('m', 2 * HOUR)] {
        keyed.insert_at(key, 1, Instant::now() - ago, Replace);
    }
    assert!(keyed.expire(&'k'));
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [('k', 1), ('m', 1), ('l', 1)]);
}
