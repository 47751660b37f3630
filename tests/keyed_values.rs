//! Values under keys, with one handler: what each verb gives back, and what becomes of values at each end.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use crate::common::{
    Flag, HOUR, Hold, Log, OnDrop, Random, bounded, jump, ms, multi_thread, panic_of, settle,
    twice_panicking, until, watched,
};
use schedgroup::keyed::OnDuplicate::{Keep, KeepEarliest, KeepLatest, Replace};
use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, KeyedHandle};
use schedgroup::{CancellationToken, Group, WaitError};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

/// A keyed group that logs what it handles.
fn logging() -> (KeyedGroup<char, u32>, Log<(char, u32)>) {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(move |_, key, value| handled.job((key, value)));
    (keyed, log)
}

// What the verbs give back.

#[tokio::test(start_paused = true)]
async fn the_rules_give_the_right_value_back() {
    // rule, first at, second at, answer, whose value stays
    let table = [
        (Replace, 10, 5, Inserted::Replaced(1), 2),
        (Replace, 10, 20, Inserted::Replaced(1), 2),
        (Keep, 10, 5, Inserted::Kept(2), 1),
        (Keep, 10, 20, Inserted::Kept(2), 1),
        (KeepEarliest, 10, 5, Inserted::Replaced(1), 2),
        (KeepEarliest, 10, 10, Inserted::Kept(2), 1),
        (KeepEarliest, 10, 20, Inserted::Kept(2), 1),
        (KeepLatest, 10, 5, Inserted::Kept(2), 1),
        (KeepLatest, 10, 10, Inserted::Kept(2), 1),
        (KeepLatest, 10, 20, Inserted::Replaced(1), 2),
    ];
    for (rule, first, second, expected, stays) in table {
        let ((keyed, log), now) = (logging(), Instant::now());
        assert_eq!(keyed.insert_after('k', 1, ms(first), rule), Inserted::New);
        let answer = keyed.insert_after('k', 2, ms(second), rule);
        assert_eq!(answer, expected, "{rule:?} {second}");
        let at = ms(if stays == 1 { first } else { second });
        assert_eq!(keyed.deadline(&'k'), Some(now + at), "{rule:?} {second}");
        keyed.wait().await.unwrap();
        assert_eq!(log.take(), [(('k', stays), at)], "{rule:?} {second}");
    }
}

/// In a debug build a page of such values, on the stack, was more than the two MiB that a test has.
#[tokio::test(start_paused = true)]
async fn large_values_need_little_of_the_stack() {
    const LARGE: usize = 16 * 1024;
    let log = Log::new();
    let handled = log.clone();
    let handler = move |_, key: u8, value: [u8; LARGE]| handled.job((key, value[LARGE - 1]));
    let keyed = KeyedGroup::with_handler(handler);
    for key in 0..40 {
        assert!(matches!(
            keyed.insert_after(key, [key; LARGE], HOUR, Replace),
            Inserted::New
        ));
    }
    assert_eq!(keyed.with(&33, |value| value[0]), Some(33));
    for key in 2..38 {
        let removed = keyed.remove(&key).expect("it is pending");
        assert_eq!(removed[LARGE / 2], key);
    }
    assert!(keyed.expire(&39));
    keyed.insert_after(7, [7; LARGE], ms(5), Replace);
    settle().await;
    sleep(ms(5)).await;
    settle().await;
    assert_eq!(log.take(), [((39, 39), ms(0)), ((7, 7), ms(5))]);
    let mut left: Vec<_> = keyed.drain_values();
    left.sort_by_key(|(key, _)| *key);
    let left = left.iter().map(|(key, value)| (*key, value[0]));
    assert!(left.eq([(0, 0), (1, 1), (38, 38)]));
}

#[tokio::test(start_paused = true)]
async fn after_the_end_every_insert_gives_the_value_back() {
    let (keyed, log) = logging();
    keyed.insert_after('k', 1, ms(5), Replace);
    let wait = keyed.wait();
    for (key, rule) in [
        ('k', Replace),
        ('k', Keep),
        ('k', KeepLatest),
        ('l', Replace),
    ] {
        let rejected = keyed.insert_after(key, 2, ms(1), rule);
        assert_eq!(rejected, Inserted::Rejected(2), "{key} {rule:?}");
        let rejected = keyed.debounce(key, ms(1), ms(1), 2);
        assert_eq!(rejected, Inserted::Rejected(2), "{key}");
        let never = || -> u32 { unreachable!("nothing is made") };
        assert!(!keyed.debounce_with(key, ms(1), ms(1), never, |_| unreachable!("nor changed")));
    }
    assert_eq!(keyed.with(&'k', |value| *value), Some(1));
    wait.await.unwrap();
    assert_eq!(log.take(), [(('k', 1), ms(5))]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_value_is_given_back_once_and_not_handled() {
    let (keyed, log) = logging();
    keyed.insert_after('k', 7, ms(5), Replace);
    assert_eq!((keyed.remove(&'k'), keyed.remove(&'k')), (Some(7), None));
    keyed.wait().await.unwrap();
    assert_eq!(log.len(), 0);
}

/// Most slots of removed entries are freed later, some at a time; nobody sees that.
#[tokio::test(start_paused = true)]
async fn what_was_removed_counts_as_cancelled_at_once_however_many_it_is() {
    let keyed = KeyedGroup::with_handler(|_, _: u32, _: u32| async {});
    for key in 0..100 {
        keyed.insert_after(key, key, HOUR, Replace);
    }
    let group: &schedgroup::Handle = keyed.as_ref();
    for removed in [1, 2, 15, 16, 17, 18, 40, 99, 100] {
        for key in 0..removed {
            keyed.remove(&key);
        }
        let (stats, left) = (keyed.stats(), 100 - removed as usize);
        assert_eq!((stats.pending, stats.cancelled), (left, removed.into()));
        assert_eq!(keyed.len(), left);
    }
    assert!(!group.is_closed());
    keyed.wait().await.unwrap();
    let stats = keyed.stats();
    assert_eq!((stats.finished, stats.cancelled), (0, 100));
}

/// A worker has claimed them by then, and finds out as it is about to start them.
#[tokio::test(start_paused = true)]
async fn what_a_handler_removes_of_what_is_due_with_it_is_cancelled_and_not_handled() {
    for limit in [1, usize::MAX] {
        let log = Log::new();
        let handled = log.clone();
        let keyed = KeyedGroup::builder().max_running(limit).build_with(
            move |context: KeyedContext<u32, u32>, key, value| {
                let removed: Vec<_> = (5..25).filter_map(|key| context.remove(&key)).collect();
                let expected: &[u32] = if key == 0 {
                    &Vec::from_iter(5..25)
                } else {
                    &[]
                };
                assert_eq!(removed, expected, "of {key}");
                handled.job((key, value))
            },
        );
        for key in 0..30 {
            keyed.insert_after(key, key, ms(5), Replace);
        }
        keyed.wait().await.unwrap();
        let stats = keyed.stats();
        assert_eq!((stats.finished, stats.cancelled), (10, 20), "limit {limit}");
        let keys: Vec<u32> = log.take().iter().map(|((key, _), _)| *key).collect();
        assert_eq!(keys, Vec::from_iter((0..5).chain(25..30)), "limit {limit}");
    }
}

/// All of them are in the worker's hands by then, and are taken back from there.
#[tokio::test(start_paused = true)]
async fn what_a_handler_removes_of_what_is_due_with_it_counts_as_cancelled_at_once() {
    let log = Log::new();
    let counts = log.clone();
    let keyed = KeyedGroup::with_handler(move |context: KeyedContext<u32, u32>, key, _| {
        // Of three at once the last is freed by its own removal, the others when the next looks.
        for due in [1, 2, 3].into_iter().filter(|_| key == 0) {
            assert_eq!(context.remove(&due), Some(due));
            let stats = context.handle().stats();
            counts.push((stats.pending, stats.running, stats.cancelled));
        }
        async {}
    });
    for key in 0..4 {
        keyed.insert_after(key, key, ms(5), Replace);
    }
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [(2, 1, 1), (1, 1, 2), (0, 1, 3)]);
}

/// The worker has not started them, so they are moved, and not replaced by others.
#[tokio::test(start_paused = true)]
async fn what_a_handler_moves_of_what_is_due_with_it_does_not_count_as_cancelled() {
    let log = Log::new();
    let runs = log.clone();
    let keyed = KeyedGroup::with_handler(move |context: KeyedContext<u32, u32>, key, _| {
        for due in [1, 2, 3].into_iter().filter(|_| key == 0) {
            assert!(context.reset_after(&due, ms(5)));
            let stats = context.handle().stats();
            assert_eq!((stats.pending, stats.cancelled), (3, 0));
        }
        runs.job(key)
    });
    for key in 0..4 {
        keyed.insert_after(key, key, ms(5), Replace);
    }
    keyed.wait().await.unwrap();
    let later = [1, 2, 3].map(|key| (key, ms(10)));
    assert_eq!(
        (log.take(), keyed.stats().cancelled),
        ([&[(0, ms(5))], &later[..]].concat(), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_job_of_an_entry_is_said_to_be_scheduled_where_the_entry_was_inserted_last() {
    let group = Group::new();
    let keyed = KeyedGroup::builder().on_with(&group, |_, _: char, _: u32| async {});
    let scheduled_at = || group.jobs()[0].scheduled_at.line();
    keyed.insert_after('k', 0, ms(10), Replace);
    let mut line = 0;
    for delay in [20, 5] {
        line = line!() + 1;
        keyed.insert_after('k', 1, ms(delay), Replace);
        assert_eq!(scheduled_at(), line, "{delay}");
    }
    assert!(keyed.reset_after(&'k', ms(1)));
    assert_eq!(scheduled_at(), line, "a move is no insert");
}

/// Each entry of `k` takes over the slot of the former, without an entry of its own in the driver's heap. What the first
/// one left among those that wait for a slot must not speak for the second.
#[tokio::test(start_paused = true)]
async fn what_replaces_an_entry_that_was_moved_while_it_waited_for_a_slot_waits_for_its_own_turn() {
    let log = Log::new();
    let runs = log.clone();
    let keyed = KeyedGroup::builder()
        .max_running(1)
        .build_with(move |_, key, value| {
            runs.push((key, value));
            sleep(ms(100))
        });
    keyed.insert_after('a', 0, Duration::ZERO, Replace);
    keyed.insert_after('k', 1, ms(10), Replace);
    keyed.insert_after('k', 2, ms(20), Replace);
    keyed.insert_after('b', 3, ms(25), Replace);
    sleep(ms(30)).await;
    assert_eq!(keyed.stats().waiting, 2);
    assert!(keyed.reset_after(&'k', ms(20)));
    keyed.insert_after('k', 4, ms(30), Replace);
    keyed.wait().await.unwrap();
    let expected = [(('a', 0), ms(0)), (('b', 3), ms(100)), (('k', 4), ms(200))];
    assert_eq!(log.take(), expected);
}

/// The driver drops what is not due, some thousands a turn, and the values stay. What is removed in between was the last
/// that the group held.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_shut_down_ends_with_the_removal_of_its_last_entries() {
    const ALL: u32 = 50_000;
    let keyed = KeyedGroup::with_handler(|_, _: u32, _: u32| async {});
    for key in 0..ALL {
        keyed.insert_after(key, key, HOUR, Replace);
    }
    let end = keyed.shutdown(HOUR);
    let left = loop {
        tokio::task::yield_now().await;
        let pending = keyed.stats().pending as u32;
        if pending < ALL / 2 {
            break pending;
        }
    };
    assert!(left > 100, "{left}");
    // Those that the driver comes to last.
    for key in ALL - left..ALL {
        assert_eq!(keyed.remove(&key), Some(key));
    }
    let (report, values) = bounded(end).await;
    assert_eq!(report.dropped, ALL as usize);
    assert_eq!(values.len() as u32, ALL - left);
}

/// A slot is the next job's only when nothing is left of the former: not of a noted cancel either.
#[tokio::test(start_paused = true)]
async fn entries_that_come_and_go_in_turn_run_each_at_its_time() {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(move |_, key, value| handled.job((key, value)));
    let open = 100;
    for key in 0..3_000 {
        keyed.insert_after(key, key, HOUR, Replace);
        if key >= open && key % 7 != 0 {
            assert_eq!(keyed.remove(&(key - open)), Some(key - open));
        }
    }
    let left: Vec<u32> = (0..3_000)
        .filter(|key| key + open >= 3_000 || (key + open) % 7 == 0)
        .collect();
    assert_eq!(keyed.stats().pending, left.len());
    keyed.wait().await.unwrap();
    let handled = log.take();
    assert!(handled.iter().all(|(_, at)| *at == HOUR));
    let keys: Vec<u32> = handled.iter().map(|((key, _), _)| *key).collect();
    assert_eq!(keys, left);
}

/// Some take over the slots of those that have gone, and the driver's entries for them.
#[tokio::test(start_paused = true)]
async fn what_comes_while_others_go_expires_in_order_whatever_the_deadlines() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let log = Log::new();
        let handled = log.clone();
        let keyed = KeyedGroup::with_handler(move |_, key, ()| handled.job(key));
        let (start, mut open) = (Instant::now(), Vec::new());
        for key in 0..2_000_u64 {
            let horizon = [4, 40, 4_000][random.below(3) as usize];
            let due = start.elapsed() + ms(random.below(horizon));
            keyed.insert_at(key, (), start + due, Replace);
            open.push((due, key));
            if open.len() > 50 {
                let (_, key) = open.swap_remove(random.below(51) as usize);
                assert!(keyed.remove(&key).is_some());
            }
            if random.below(50) == 0 {
                sleep(ms(random.below(20))).await;
                settle().await;
                let (gone, pending) = open
                    .into_iter()
                    .partition(|(due, _)| *due <= start.elapsed());
                open = pending;
                check(&log, gone);
            }
        }
        keyed.wait().await.unwrap();
        check(&log, open);
    }

    /// What was handled is what has fallen due, in the order of deadlines and inserts.
    fn check(log: &Log<u64>, mut expected: Vec<(Duration, u64)>) {
        expected.sort_unstable();
        let handled: Vec<_> = log.take().into_iter().map(|(key, at)| (at, key)).collect();
        assert_eq!(handled, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_answered_need_no_turn_of_the_driver() {
    let keyed = KeyedGroup::with_handler(|_, _: u64, ()| async {});
    (0..100).for_each(|key| {
        keyed.insert_after(key, (), HOUR, Replace);
    });
    settle().await;
    let before = keyed.stats().driver_wakeups;
    for key in 100..100_000 {
        keyed.insert_after(key, (), HOUR, Replace);
        assert!(keyed.remove(&(key - 100)).is_some());
        if key % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let turns = keyed.stats().driver_wakeups - before;
    assert!(turns <= 1, "{turns} turns");
}

#[tokio::test(start_paused = true)]
async fn a_value_can_be_looked_at_and_changed() {
    let (keyed, log) = logging();
    keyed.insert_after('k', 1, ms(5), Replace);
    let doubled = keyed.with(&'k', |value| {
        *value *= 2;
        *value
    });
    assert_eq!((doubled, keyed.with(&'l', |value| *value)), (Some(2), None));
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [('k', 2)]);
}

#[tokio::test(start_paused = true)]
async fn all_pending_keys_are_listed() {
    let (keyed, _log) = logging();
    for key in 'a'..='z' {
        keyed.insert_after(key, 0, HOUR, Replace);
    }
    keyed.remove(&'c');
    keyed.expire(&'d');
    for _ in 0..2 {
        let mut keys = keyed.keys();
        keys.sort_unstable();
        assert!(
            keys.into_iter()
                .eq(('a'..='z').filter(|key| !"cd".contains(*key)))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn draining_a_living_group_takes_all_that_is_pending() {
    let (keyed, log) = logging();
    for (value, key) in (0..).zip('a'..='c') {
        keyed.insert_after(key, value, ms(5), Replace);
    }
    let mut drained = keyed.drain_values();
    drained.sort_unstable();
    assert_eq!(drained, [('a', 0), ('b', 1), ('c', 2)]);
    assert_eq!((keyed.len(), keyed.stats().pending), (0, 0));
    keyed.insert_after('d', 3, ms(5), Replace);
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [('d', 3)]);
}

// Debouncing, and expiring now.

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

/// The storage of first debounces shrinks when most keys have gone; those that stay keep theirs.
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

// The ends.

#[tokio::test(start_paused = true)]
async fn a_drain_gives_back_what_does_not_expire_within_the_grace() {
    let (keyed, log) = logging();
    for (key, delay) in [('a', ms(5)), ('b', ms(10)), ('c', ms(15)), ('d', HOUR)] {
        keyed.insert_after(key, 0, delay, Replace);
    }
    let (report, mut left) = keyed.drain(ms(12)).await;
    left.sort_unstable();
    assert_eq!((report.finished, report.aborted, report.dropped), (2, 0, 2));
    assert_eq!(left, [('c', 0), ('d', 0)]);
    assert_eq!(log.labels(), [('a', 0), ('b', 0)]);
    assert!(matches!(keyed.wait().await, Err(WaitError::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn what_found_no_slot_is_given_back_also_if_it_was_expired() {
    for expired in [false, true] {
        let hold = Hold::new();
        let busy = hold.clone();
        let keyed = KeyedGroup::builder()
            .max_running(1)
            .build_with(move |_, _: char, _: u32| busy.job());
        keyed.insert_after('b', 0, Duration::ZERO, Replace);
        hold.started().await;
        keyed.insert_after('k', 1, Duration::ZERO, Replace);
        if expired {
            keyed.expire(&'k');
        }
        settle().await;
        let (report, left) = keyed.shutdown(ms(5)).await;
        assert_eq!((report.aborted, report.dropped), (1, 1), "{expired}");
        assert_eq!(left, [('k', 1)], "{expired}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_dropped_future_leaves_the_values() {
    let (keyed, _log) = logging();
    keyed.insert_after('k', 1, HOUR, Replace);
    drop(keyed.drain(ms(5)));
    assert_eq!(keyed.len(), 1, "the grace is not over");
    sleep(ms(10)).await;
    assert_eq!(keyed.drain_values(), [('k', 1)]);
    let (report, left) = keyed.shutdown(ms(5)).await;
    assert_eq!((report.dropped, left.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_keeps_the_values() {
    let (keyed, log) = logging();
    keyed.insert_after('k', 1, ms(5), Replace);
    keyed.insert_after('l', 2, HOUR, Replace);
    keyed.token().cancel();
    assert!(matches!(keyed.wait().await, Err(WaitError::Cancelled)));
    sleep(ms(10)).await;
    assert_eq!((keyed.len(), log.len()), (2, 0));
    assert_eq!(keyed.with(&'k', |value| *value), Some(1));
    assert!(!keyed.expire(&'k') && !keyed.reset_after(&'k', ms(1)));
    assert_eq!(keyed.remove(&'k'), Some(1));
    assert_eq!(keyed.handle().drain_values(), [('l', 2)]);
}

/// Their jobs are gone, so there is nothing to move.
/// Many pages of them, of which some are vacant.
#[tokio::test(start_paused = true)]
async fn thousands_of_keys_are_listed_and_drained() {
    let keyed = KeyedGroup::with_handler(|_, _: u32, _: u32| async {});
    for key in 0..3_000 {
        keyed.insert_after(key, key + 1, HOUR, Replace);
    }
    for key in (0..3_000).filter(|key| key % 3 == 0) {
        assert_eq!(keyed.remove(&key), Some(key + 1));
    }
    let left = || (0..3_000).filter(|key| key % 3 != 0);
    let mut keys = keyed.keys();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(left()));
    let mut drained = keyed.drain_values();
    drained.sort_unstable();
    assert!(drained.into_iter().eq(left().map(|key| (key, key + 1))));
    assert_eq!((keyed.len(), keyed.stats().pending), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handle_and_a_context_tell_the_token_and_the_counts_of_their_group() {
    let seen = Arc::new(Mutex::new(None));
    let tells = Arc::clone(&seen);
    let keyed = KeyedGroup::with_handler(move |context: KeyedContext<char, u32>, _, _| {
        *tells.lock().unwrap() = Some(context.token());
        async {}
    });
    keyed.insert_after('k', 1, ms(5), Replace);
    keyed.insert_after('l', 2, HOUR, Replace);
    let handle = keyed.handle();
    assert_eq!((handle.stats().pending, handle.stats().finished), (2, 0));
    sleep(ms(10)).await;
    assert_eq!((handle.stats().pending, handle.stats().finished), (1, 1));
    let tokens = [handle.token(), seen.lock().unwrap().take().expect("it ran")];
    assert!(tokens.iter().all(|token| !token.is_cancelled()));
    keyed.cancel();
    assert!(tokens.iter().all(|token| token.is_cancelled()));
}

#[tokio::test(start_paused = true)]
async fn what_an_end_has_left_is_neither_moved_nor_expired() {
    let (keyed, log) = logging();
    keyed.insert_after('k', 1, HOUR, Replace);
    drop(keyed.drain(Duration::ZERO));
    settle().await;
    assert!(!keyed.reset_after(&'k', ms(1)) && !keyed.expire(&'k'));
    assert_eq!(keyed.deadline(&'k'), None);
    sleep(2 * HOUR).await;
    assert_eq!((keyed.remove(&'k'), log.len()), (Some(1), 0));
}

/// Though the driver has not taken its turn yet, in which it drops the jobs of these entries.
#[tokio::test(start_paused = true)]
async fn what_an_end_has_left_has_no_deadline_from_the_call_on() {
    type End = fn(&KeyedGroup<char, u32>);
    let ends: [(&str, End); 3] = [
        ("cancel", |keyed| keyed.cancel()),
        ("token", |keyed| keyed.token().cancel()),
        ("shutdown", |keyed| drop(keyed.shutdown(HOUR))),
    ];
    for (name, end) in ends {
        let (keyed, _log) = logging();
        keyed.insert_after('k', 1, HOUR, Replace);
        end(&keyed);
        assert_eq!(keyed.deadline(&'k'), None, "{name}");
        assert!(!keyed.reset_after(&'k', ms(1)) && !keyed.expire(&'k'));
        assert_eq!(keyed.remove(&'k'), Some(1), "{name}");
    }
    let keyed = KeyedGroup::builder()
        .timeout(Duration::ZERO)
        .build_with(|_, _: char, _: u32| async {});
    keyed.insert_after('k', 1, HOUR, Replace);
    assert_eq!(keyed.deadline(&'k'), None, "of a group past its own");
}

/// What is due at the shutdown, and waits for a slot, may still run.
#[tokio::test(start_paused = true)]
async fn what_a_shutdown_lets_run_keeps_its_deadline() {
    let hold = Hold::new();
    let held = hold.clone();
    let keyed = KeyedGroup::builder()
        .max_running(1)
        .build_with(move |_, _: char, _: u32| held.job());
    keyed.insert_after('j', 1, Duration::ZERO, Replace);
    settle().await;
    let at = Instant::now();
    keyed.insert_at('k', 2, at, Replace);
    let shutdown = keyed.shutdown(HOUR);
    assert_eq!(keyed.deadline(&'k'), Some(at));
    hold.release();
    settle().await;
    hold.release();
    let (report, left) = shutdown.await;
    assert_eq!((report.finished, left), (2, vec![]));
}

/// The driver has not seen the end yet.
#[tokio::test(start_paused = true)]
async fn an_end_before_the_removal_of_the_last_entry_is_the_reason() {
    for way in ["token", "deadline"] {
        for all in [false, true] {
            let token = CancellationToken::new();
            let builder = KeyedGroup::<char, u32>::builder().token(token.clone());
            let builder = match way {
                "deadline" => builder.timeout(ms(10)),
                _ => builder,
            };
            let keyed = builder.build_with(|_, _, _| async {});
            keyed.insert_after('k', 1, HOUR, Replace);
            let handle = keyed.handle();
            let wait = keyed.wait();
            settle().await;
            match way {
                "deadline" => jump(ms(10)),
                _ => token.cancel(),
            }
            match all {
                true => assert_eq!(handle.drain_values(), [('k', 1)]),
                false => assert_eq!(handle.remove(&'k'), Some(1)),
            }
            let outcome = wait.await;
            match way {
                "deadline" => assert!(matches!(outcome, Err(WaitError::DeadlineExceeded)), "{all}"),
                _ => assert!(matches!(outcome, Err(WaitError::Cancelled)), "{all}"),
            }
        }
    }
}

/// The driver has not seen the end yet.
#[tokio::test(start_paused = true)]
async fn nothing_is_moved_or_inserted_once_the_clock_has_ended_the_group() {
    for way in ["deadline", "drain"] {
        let builder = KeyedGroup::<char, u32>::builder();
        let builder = match way {
            "deadline" => builder.timeout(ms(10)),
            _ => builder,
        };
        let (contexts, mut context) = tokio::sync::mpsc::unbounded_channel();
        let keyed = builder.build_with(move |context: KeyedContext<char, u32>, _, _| {
            contexts.send(context).unwrap();
            sleep(HOUR)
        });
        keyed.insert_after('r', 0, Duration::ZERO, Replace);
        keyed.insert_after('k', 1, HOUR, Replace);
        let handle = context.recv().await.unwrap().handle();
        if way == "drain" {
            drop(keyed.drain(ms(10)));
        }
        jump(ms(10));
        assert!(!handle.reset_after(&'k', ms(1)), "{way}");
        assert!(!handle.expire(&'k'), "{way}");
        for key in ['k', 'n'] {
            let insert = handle.insert_after(key, 2, ms(1), Replace);
            assert_eq!(insert, Inserted::Rejected(2), "{way}");
            let debounce = handle.debounce(key, ms(1), ms(1), 3);
            assert_eq!(debounce, Inserted::Rejected(3), "{way}");
        }
        assert_eq!(handle.remove(&'k'), Some(1), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn entries_run_though_nobody_holds_their_keys_any_more() {
    let (group, log) = (Group::new(), Log::new());
    let handled = log.clone();
    let saves =
        KeyedGroup::builder().on_with(&group, move |_, k: char, v: u32| handled.job((k, v)));
    saves.insert_after('k', 1, ms(5), Replace);
    drop(saves);
    group.wait().await.unwrap();
    assert_eq!(log.take(), [(('k', 1), ms(5))]);
}

#[tokio::test(start_paused = true)]
async fn one_group_has_entries_of_many_kinds_after_each_other() {
    let (group, log) = (Group::new(), Log::new());
    for round in 0..3 {
        let handled = log.clone();
        let entries = KeyedGroup::builder()
            .on_with(&group, move |_, k: char, v: u32| handled.job((round, k, v)));
        entries.insert_after('k', 1, ms(5), Replace);
        entries.insert_after('l', 2, ms(6), Replace);
        drop(entries);
        sleep(ms(10)).await;
        assert_eq!(log.labels(), [(round, 'k', 1), (round, 'l', 2)]);
        log.take();
    }
    group.wait().await.unwrap();
}

/// Also if the entries of one group take over the slots of what the other one has removed.
#[tokio::test(start_paused = true)]
async fn each_of_two_keyed_groups_in_one_group_lives_as_long_as_its_own_entries() {
    for removed in [1, 10, 16, 17, 18, 40] {
        let (group, log) = (Group::new(), Log::new());
        let flags = [Flag::new(), Flag::new()];
        let [first, second] = [0, 1].map(|number| {
            let (handled, guard) = (log.clone(), flags[number].guard());
            KeyedGroup::builder().on_with(&group, move |_, _: u32, value: u32| {
                let _ = &guard;
                handled.job((number, value))
            })
        });
        // With the last entry all that were removed before would be freed at once.
        first.insert_after(removed, removed, ms(5), Replace);
        for key in 0..removed {
            first.insert_after(key, key, ms(10), Replace);
        }
        for key in 0..removed {
            assert_eq!(first.remove(&key), Some(key));
        }
        for key in 0..removed {
            second.insert_after(key, key, ms(20), Replace);
        }
        drop((first, second));
        for (after, drops) in [(4, [0, 0]), (2, [1, 0]), (15, [1, 1])] {
            sleep(ms(after)).await;
            assert_eq!(flags.each_ref().map(Flag::drops), drops, "{removed}");
        }
        let mut runs = vec![((0, removed), ms(5))];
        runs.extend((0..removed).map(|value| ((1, value), ms(20))));
        assert_eq!(log.take(), runs);
    }
}

/// A value that holds a handle of its own entries would keep them, and itself, for ever.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_dropped_drops_the_values_whoever_holds_them() {
    type Value = (
        Arc<OnceLock<KeyedHandle<char, Looped>>>,
        crate::common::Guard,
    );
    struct Looped(#[allow(dead_code, reason = "it is only dropped")] Value);
    type End = fn(Group);
    let ends: [(&str, End); 4] = [
        ("dropped", drop),
        ("cancelled and dropped", |group| {
            group.cancel();
            drop(group);
        }),
        ("detached and cancelled", |group| {
            let token = group.token();
            group.detach();
            token.cancel();
        }),
        ("shut down and dropped", |group| {
            drop(group.shutdown(Duration::ZERO));
        }),
    ];
    for (end, ending) in ends {
        let (group, flag) = (Group::new(), Flag::new());
        let keyed = KeyedGroup::builder().on_with(&group, |_, _: char, _: Looped| async {});
        let home = Arc::new(OnceLock::new());
        keyed.insert_after(
            'k',
            Looped((Arc::clone(&home), flag.guard())),
            HOUR,
            Replace,
        );
        assert!(home.set(keyed.clone()).is_ok());
        drop((keyed, home));
        settle().await;
        assert_eq!(flag.drops(), 0, "{end}");
        ending(group);
        settle().await;
        assert_eq!(flag.drops(), 1, "{end}");
    }
}

// Handlers.

#[tokio::test(start_paused = true)]
async fn an_entry_inserts_itself_again_while_the_group_drains() {
    for exclusive in [false, true] {
        let log = Log::new();
        let runs = log.clone();
        let handler = move |context: KeyedContext<char, u32>, key: char, left: u32| {
            let runs = runs.clone();
            async move {
                runs.push((left, context.is_draining()));
                if left > 0 {
                    let again = context.insert_after(key, left - 1, ms(10), Keep);
                    assert_eq!(again, Inserted::New);
                }
            }
        };
        let builder = KeyedGroup::builder();
        let keyed = match exclusive {
            true => builder.exclusive().build_with(handler),
            false => builder.build_with(handler),
        };
        keyed.insert_after('k', 2, ms(10), Replace);
        keyed.wait().await.unwrap();
        let runs = [(2, 10), (1, 20), (0, 30)].map(|(left, at)| ((left, true), ms(at)));
        assert_eq!(log.take(), runs, "exclusive: {exclusive}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_covers_what_handlers_insert_and_gives_back_the_rest() {
    let keyed = KeyedGroup::with_handler(
        |context: KeyedContext<char, u32>, key: char, value: u32| async move {
            context.insert_after(key, value + 1, ms(10), Replace);
        },
    );
    keyed.insert_after('k', 0, ms(10), Replace);
    let (report, left) = keyed.drain(ms(35)).await;
    assert_eq!((report.finished, report.dropped), (3, 1));
    assert_eq!(left, [('k', 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_ends_its_run_alone_and_names_the_insert() {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(move |_, key: char, value: u32| {
        assert_ne!(value, 1, "made");
        let handled = handled.clone();
        async move {
            assert_ne!(value, 2, "polled");
            handled.push((key, value));
        }
    });
    let line = line!() + 1;
    keyed.insert_after('a', 1, ms(1), Replace);
    keyed.insert_after('b', 2, ms(2), Replace);
    keyed.insert_after('c', 3, ms(3), Replace);
    let Err(WaitError::Panicked(panic)) = keyed.wait().await else {
        panic!("the panic is lost")
    };
    assert!(panic.message().contains("made"), "{panic}");
    assert_eq!(panic.scheduled_at().line(), line);
    assert!(panic.scheduled_at().file().ends_with("keyed_values.rs"));
    assert_eq!(log.labels(), [('c', 3)]);
    assert_eq!((keyed.stats().panicked, keyed.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_context_has_the_methods_and_the_facts_of_its_run() {
    let (log, start) = (Log::new(), Instant::now());
    let seen = log.clone();
    let keyed = KeyedGroup::with_handler(
        move |context: KeyedContext<char, u32>, key: char, value: u32| {
            let seen = seen.clone();
            async move {
                if key != 'a' {
                    return seen.push((key, value));
                }
                assert_eq!(
                    (context.deadline(), context.lateness()),
                    (start + ms(5), ms(0))
                );
                assert_eq!((context.run(), context.is_draining()), (1, true));
                context.insert_at('b', 1, start + ms(10), Replace);
                assert!(context.debounce_with('b', ms(10), ms(20), || 0, |value| *value += 1));
                assert!(context.reset_after(&'b', ms(1)) && context.contains_key(&'b'));
                assert_eq!(context.handle().deadline(&'b'), Some(start + ms(6)));
                context.insert_after('c', 9, HOUR, Replace);
                assert!(context.expire(&'c') && !context.abort(&'c'));
                assert_eq!((context.keys(), context.len()), (vec!['b'], 1));
                assert_eq!(context.remove(&'b'), Some(2));
                context.insert_after('d', 4, ms(1), Replace);
            }
        },
    );
    keyed.insert_after('a', 0, ms(5), Replace);
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [(('c', 9), ms(5)), (('d', 4), ms(6))]);
}

// Keys that run alone.

/// Each run takes ten milliseconds.
fn alone() -> (KeyedGroup<char, u32>, Log<(char, u32)>) {
    let log = Log::new();
    let runs = log.clone();
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(move |_, key, value| {
            runs.push((key, value));
            sleep(ms(10))
        });
    (keyed, log)
}

#[tokio::test(start_paused = true)]
async fn what_expires_during_its_keys_run_runs_after_it_and_other_keys_beside_it() {
    let (keyed, log) = alone();
    keyed.insert_after('k', 0, Duration::ZERO, Replace);
    settle().await;
    for value in 1..=3 {
        keyed.insert_after('k', value, HOUR, Replace);
        assert!(keyed.expire(&'k'));
    }
    keyed.insert_after('k', 4, ms(5), Replace);
    keyed.insert_after('l', 5, ms(5), Replace);
    sleep(ms(7)).await;
    let stats = keyed.stats();
    assert_eq!(
        (stats.pending, stats.waiting, stats.running),
        (4, 4, 2),
        "{stats:?}"
    );
    assert!(stats.next_deadline <= Some(Instant::now()), "{stats:?}");
    keyed.wait().await.unwrap();
    let mut runs = log.take();
    assert_eq!(runs.remove(1), (('l', 5), ms(5)));
    let expected = [0, 1, 2, 3, 4].map(|value| (('k', value), ms(10 * u64::from(value))));
    assert_eq!(runs, expected);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_run_can_be_moved_replaced_and_removed() {
    let (keyed, log) = alone();
    for key in ['a', 'b', 'c'] {
        keyed.insert_after(key, 0, Duration::ZERO, Replace);
    }
    settle().await;
    for key in ['a', 'b', 'c'] {
        keyed.insert_after(key, 1, Duration::ZERO, Replace);
    }
    settle().await;
    assert!(keyed.reset_after(&'a', ms(30)));
    let replaced = keyed.insert_after('b', 2, ms(5), Replace);
    assert_eq!(replaced, Inserted::Replaced(1));
    assert_eq!(keyed.remove(&'c'), Some(1));
    keyed.wait().await.unwrap();
    assert_eq!(log.take()[3..], [(('b', 2), ms(10)), (('a', 1), ms(30))]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_aborted_by_its_key_and_the_next_one_follows() {
    let (keyed, flag) = (KeyedGroup::builder().exclusive(), Flag::new());
    let log = Log::new();
    let (runs, held) = (log.clone(), flag.clone());
    let keyed = keyed.build_with(move |_, _: char, value: u32| {
        runs.push(value);
        let guard = held.guard();
        async move {
            sleep(ms(10)).await;
            drop(guard);
        }
    });
    assert!(!keyed.abort(&'k'), "it does not run");
    keyed.insert_after('k', 1, Duration::ZERO, Replace);
    settle().await;
    keyed.insert_after('k', 2, Duration::ZERO, Replace);
    settle().await;
    assert!(keyed.abort(&'k') && !keyed.abort(&'l'));
    settle().await;
    assert_eq!((log.labels(), flag.drops()), (vec![1, 2], 1));
    keyed.wait().await.unwrap();
    let stats = keyed.stats();
    assert_eq!((stats.finished, stats.cancelled), (1, 1));
}

/// The time of an `expire` was read before the lock was taken. An entry that came to wait for its key's run in between
/// was moved out of its turn, but stayed in the queue; what waited behind it never started.
#[tokio::test(start_paused = true)]
async fn an_entry_that_falls_due_during_its_expire_keeps_its_turn() {
    static LATE: Barrier = Barrier::new(2);
    const NAME: &str = "expires late";
    #[derive(Clone, PartialEq, Eq)]
    struct Key(char);
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            if thread::current().name() == Some(NAME) {
                LATE.wait();
                LATE.wait();
            }
            self.0.hash(state);
        }
    }
    let (log, holds) = (Log::new(), [(); 5].map(|()| Hold::new()));
    let (runs, held) = (log.clone(), holds.clone());
    let builder = KeyedGroup::builder().exclusive().max_running(2);
    let keyed = Arc::new(builder.build_with(move |_, _: Key, value: usize| {
        runs.push(value);
        held[value].job()
    }));
    let insert = |key, value, after| keyed.insert_after(Key(key), value, after, Replace);
    insert('k', 0, Duration::ZERO);
    settle().await;
    insert('k', 1, Duration::ZERO);
    settle().await;
    assert!(keyed.expire(&Key('k')));
    insert('k', 2, ms(1));
    let (runtime, late) = (Handle::current(), Arc::clone(&keyed));
    let expires = thread::Builder::new().name(NAME.into()).spawn(move || {
        let _paused = runtime.enter();
        late.expire(&Key('k'))
    });
    LATE.wait();
    sleep(ms(2)).await;
    // Both slots are taken, so that what is not queued behind the run waits for one.
    insert('l', 3, Duration::ZERO);
    settle().await;
    assert_eq!(keyed.stats().running, 2);
    LATE.wait();
    assert!(expires.unwrap().join().unwrap());
    settle().await;
    holds[0].release();
    settle().await;
    insert('k', 4, Duration::ZERO);
    for hold in [3, 2, 1, 4] {
        holds[hold].release();
        settle().await;
    }
    let ended = timeout(HOUR, keyed.wait()).await;
    assert!(ended.is_ok(), "{:?}", keyed.stats());
    assert_eq!(log.labels(), [0, 3, 1, 2, 4]);
}

/// Its turn has come, but it waits for a slot, and the others are queued behind it.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_moved_or_taken_out_in_its_turn_passes_it_on() {
    type Keyed = KeyedGroup<char, usize>;
    /// Its name, the call, and what runs in the end.
    type Verb = (&'static str, fn(&Keyed), &'static [usize]);
    let verbs: [Verb; 3] = [
        (
            "remove",
            |keyed| assert_eq!(keyed.remove(&'k'), Some(2)),
            &[1],
        ),
        (
            "reset",
            |keyed| assert!(keyed.reset_after(&'k', ms(500))),
            &[1, 2],
        ),
        (
            "replace",
            |keyed| {
                let replaced = keyed.insert_after('k', 5, ms(500), Replace);
                assert_eq!(replaced, Inserted::Replaced(2));
            },
            &[1, 5],
        ),
    ];
    for (name, verb, last) in verbs {
        let (log, holds) = (Log::new(), [(); 6].map(|()| Hold::new()));
        let (runs, held) = (log.clone(), holds.clone());
        let builder = KeyedGroup::builder().exclusive().max_running(2);
        let keyed: Keyed = builder.build_with(move |_, _, value: usize| {
            runs.push(value);
            held[value].job()
        });
        let early = Instant::now();
        sleep(ms(1)).await;
        keyed.insert_after('k', 0, Duration::ZERO, Replace);
        settle().await;
        keyed.insert_after('k', 1, HOUR, Replace);
        assert!(keyed.expire(&'k'), "{name}");
        keyed.insert_at('k', 2, early, Replace);
        settle().await;
        for (key, value) in [('l', 3), ('m', 4)] {
            keyed.insert_after(key, value, Duration::ZERO, Replace);
            settle().await;
        }
        // Its slot goes to 4, which has waited longer than 2, the next of its key.
        holds[0].release();
        settle().await;
        assert_eq!(log.labels(), [0, 3, 4], "{name}");
        verb(&keyed);
        holds.iter().for_each(Hold::release);
        let ended = timeout(HOUR, keyed.wait()).await;
        assert!(ended.is_ok(), "{name}: {:?}", keyed.stats());
        assert_eq!(log.labels(), last, "{name}");
    }
}

/// The end of a run looks at the next of them only, and not at all.
#[tokio::test(start_paused = true)]
async fn entries_that_were_expired_under_one_key_run_in_turn() {
    static COMPARED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone)]
    struct Key;
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            0.hash(state);
        }
    }
    impl PartialEq for Key {
        fn eq(&self, _: &Key) -> bool {
            COMPARED.fetch_add(1, SeqCst);
            true
        }
    }
    impl Eq for Key {}
    const MANY: u32 = 300;
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(move |_, _: Key, value: u32| {
            let log = handled.clone();
            async move {
                sleep(ms(1)).await;
                log.push(value);
            }
        });
    for value in 0..MANY {
        keyed.insert_after(Key, value, HOUR, Replace);
        assert!(keyed.expire(&Key));
    }
    keyed.insert_after(Key, MANY, ms(MANY.into()), Replace);
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), (0..=MANY).collect::<Vec<_>>());
    let compared = COMPARED.load(SeqCst);
    assert!(compared < 10 * MANY as usize, "{compared}");
}

#[tokio::test(start_paused = true)]
async fn an_end_gives_back_what_waits_for_a_run() {
    for cancels in [false, true] {
        let (keyed, log) = alone();
        keyed.insert_after('k', 1, Duration::ZERO, Replace);
        settle().await;
        keyed.insert_after('k', 2, Duration::ZERO, Replace);
        settle().await;
        let left = if cancels {
            keyed.cancel();
            settle().await;
            keyed.drain_values()
        } else {
            let (report, left) = keyed.shutdown(ms(5)).await;
            assert_eq!((report.aborted, report.dropped), (1, 1));
            left
        };
        assert_eq!((left, log.len()), (vec![('k', 2)], 1));
        assert!(keyed.wait().await.is_err());
    }
}

// The user's own code.

/// A key whose methods do what they are told, by name.
struct Odd {
    name: u8,
    on: Arc<Mutex<Option<Call>>>,
}

type Call = (&'static str, Box<dyn FnMut() + Send>);

impl Odd {
    fn call(&self, method: &str) {
        let mut on = self
            .on
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let call = on.take_if(|(wanted, _)| *wanted == method);
        drop(on);
        if let Some((_, mut call)) = call {
            call();
        }
    }
}

impl Hash for Odd {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call("hash");
        self.name.hash(state);
    }
}

impl PartialEq for Odd {
    fn eq(&self, other: &Odd) -> bool {
        self.call("eq");
        self.name == other.name
    }
}

impl Eq for Odd {}

impl Clone for Odd {
    fn clone(&self) -> Odd {
        self.call("clone");
        Odd {
            name: self.name,
            on: Arc::clone(&self.on),
        }
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.call("drop");
    }
}

/// Each method of a key panics once at each verb, and afterwards the entries are all there and run.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_keys_method_leaves_the_entries_whole() {
    type Verb = fn(&KeyedGroup<Odd, u32>, Odd);
    let verbs: [(&str, Verb); 9] = [
        ("insert", |keyed, key| {
            keyed.insert_after(key, 9, ms(5), Keep);
        }),
        ("debounce", |keyed, key| {
            keyed.debounce(key, HOUR, ms(5), 1);
        }),
        ("debounce_with", |keyed, key| {
            keyed.debounce_with(key, HOUR, ms(5), || 9, |_| {});
        }),
        ("reset", |keyed, key| {
            keyed.reset_after(&key, ms(5));
        }),
        ("with", |keyed, key| {
            keyed.with(&key, |_| ());
        }),
        ("contains", |keyed, key| {
            keyed.contains_key(&key);
        }),
        ("deadline", |keyed, key| {
            keyed.deadline(&key);
        }),
        ("abort", |keyed, key| {
            keyed.abort(&key);
        }),
        ("keys", |keyed, _key| drop(keyed.keys())),
    ];
    for exclusive in [false, true] {
        for method in ["hash", "eq", "clone", "drop"] {
            for (verb, call) in verbs {
                let log = Log::new();
                let handled = log.clone();
                let handler = move |_, key: Odd, value: u32| handled.job((key.name, value));
                let builder = KeyedGroup::builder();
                let keyed = match exclusive {
                    true => builder.exclusive().build_with(handler),
                    false => builder.build_with(handler),
                };
                let on = Arc::new(Mutex::new(None));
                let key = |name| Odd {
                    name,
                    on: Arc::clone(&on),
                };
                keyed.insert_after(key(1), 1, ms(5), Replace);
                keyed.insert_after(key(2), 2, ms(6), Replace);
                let odd = key(1);
                let boom: Call = (method, Box::new(|| panic!("boom")));
                *on.lock().unwrap() = Some(boom);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    call(&keyed, odd);
                }));
                let called = on.lock().unwrap().take().is_none();
                let what = format!("{method} at {verb}, exclusive: {exclusive}");
                let calls = match method {
                    "hash" => verb != "keys",
                    "eq" => !["abort", "keys"].contains(&verb),
                    "clone" => verb == "keys",
                    _ => true,
                };
                // These drop the key themselves, and what they return is true all the same.
                let catches = ["insert", "debounce", "debounce_with"].contains(&verb);
                let panics = calls && !(method == "drop" && catches);
                assert_eq!((called, outcome.is_err()), (calls, panics), "{what}");
                assert_eq!(keyed.len(), 2, "{what}");
                keyed.wait().await.unwrap();
                assert_eq!(log.labels(), [(1, 1), (2, 2)], "{what}");
            }
        }
    }
}

/// A drain takes the keys themselves, and no clones of them.
#[tokio::test(start_paused = true)]
async fn a_list_whose_clone_panics_gives_each_row_its_key_back() {
    #[derive(PartialEq, Eq, Hash)]
    struct Key(u32);
    impl Clone for Key {
        fn clone(&self) -> Key {
            panic!("boom")
        }
    }
    let keyed = KeyedGroup::with_handler(|_, _: Key, _: u32| async {});
    for key in 0..3 {
        keyed.insert_after(Key(key), key, HOUR, Replace);
    }
    assert_eq!(panic_of(|| drop(keyed.keys())).message, "boom");
    let mut left: Vec<_> = keyed.drain_values();
    left.sort_by_key(|&(_, value)| value);
    assert!(left.iter().map(|(key, _)| key.0).eq(0..3));
}

/// The clones that were made before are dropped while the panic unwinds: a second one would end the process.
#[tokio::test(start_paused = true)]
async fn a_list_that_panics_drops_clones_that_panic_too() {
    #[derive(PartialEq, Eq, Hash)]
    struct Key(u32, bool);
    impl Clone for Key {
        fn clone(&self) -> Key {
            assert_eq!(self.0, 0, "boom");
            Key(0, true)
        }
    }
    impl Drop for Key {
        fn drop(&mut self) {
            assert!(!self.1, "in the destructor of a clone");
        }
    }
    let keyed = KeyedGroup::with_handler(|_, _: Key, _: u32| async {});
    for key in 0..2 {
        keyed.insert_after(Key(key, false), key, HOUR, Replace);
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(keyed.keys()))).unwrap_err();
    let message = panic.downcast_ref::<String>().expect("it has a message");
    assert!(message.contains("boom"), "{message}");
    assert_eq!(keyed.drain_values().len(), 2);
}

/// The row of a key that goes while it is listed may be another key's by the end of that, which is listed too: the one
/// gets back its own key, and not the other's.
#[test]
fn lists_of_keys_that_overlap_leave_each_row_its_key() {
    multi_thread().block_on(async {
        let handler = |_, _: Odd, _: u32| async {};
        let keyed = Arc::new(KeyedGroup::with_handler(handler));
        let odd = |name, on: Option<Call>| Odd {
            name,
            on: Arc::new(Mutex::new(on)),
        };
        let (listing, is_listed) = std::sync::mpsc::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        let (group, list) = (Arc::clone(&keyed), Arc::new(Mutex::new(None)));
        let (other, mut waits) = (Arc::clone(&list), Some((listing, is_done)));
        let first = odd(1, None);
        let name = odd(1, None);
        let change = move || {
            assert_eq!(group.remove(&name), Some(1));
            let (listing, is_done) = waits.take().expect("it is called once");
            let wait = move || {
                listing.send(()).expect("the first list waits");
                is_done
                    .recv_timeout(Duration::from_secs(60))
                    .expect("the first list ends");
            };
            group.insert_after(odd(2, Some(("clone", Box::new(wait)))), 2, HOUR, Replace);
            let group = Arc::clone(&group);
            *other.lock().unwrap() = Some(std::thread::spawn(move || group.keys()));
            let waited = is_listed.recv_timeout(Duration::from_secs(60));
            waited.expect("the second list begins");
        };
        *first.on.lock().unwrap() = Some(("clone", Box::new(change)));
        keyed.insert_after(first, 1, HOUR, Replace);
        let names = |keys: &[Odd]| keys.iter().map(|key| key.name).collect::<Vec<_>>();
        assert_eq!(names(&keyed.keys()), [1], "it was there at the beginning");
        done.send(()).expect("the second list waits");
        let second = list.lock().unwrap().take().expect("it began");
        assert_eq!(names(&second.join().unwrap()), [2]);
        assert_eq!(names(&keyed.keys()), [2]);
        assert_eq!(keyed.remove(&odd(2, None)), Some(2));
        assert!(keyed.is_empty());
    });
}

/// The list that ends last gives a row its key back, also if another one has shared the key first.
#[test]
fn lists_of_keys_that_overlap_leave_no_key_shared() {
    multi_thread().block_on(async {
        let handler = |_, _: Odd, _: u32| async {};
        let keyed = Arc::new(KeyedGroup::with_handler(handler));
        let on = Arc::new(Mutex::new(None));
        let key = Odd {
            name: 1,
            on: Arc::clone(&on),
        };
        keyed.insert_after(key, 1, HOUR, Replace);
        let (listing, is_listed) = std::sync::mpsc::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        let wait = move || {
            listing.send(()).expect("the first list waits");
            let waited = is_done.recv_timeout(Duration::from_secs(60));
            waited.expect("the first list ends");
        };
        let (group, list) = (Arc::clone(&keyed), Arc::new(Mutex::new(None)));
        let (of_second, second) = (Arc::clone(&on), Arc::clone(&list));
        let mut wait = Some(wait);
        let begin = move || {
            let wait = wait.take().expect("it is called once");
            *of_second.lock().unwrap() = Some(("clone", Box::new(wait) as _));
            let group = Arc::clone(&group);
            *second.lock().unwrap() = Some(std::thread::spawn(move || group.keys().len()));
            let waited = is_listed.recv_timeout(Duration::from_secs(60));
            waited.expect("the second list begins");
        };
        *on.lock().unwrap() = Some(("clone", Box::new(begin)));
        assert_eq!(keyed.keys().len(), 1);
        done.send(()).expect("the second list waits");
        let second = list.lock().unwrap().take().expect("it began");
        assert_eq!(second.join().unwrap(), 1);
        *on.lock().unwrap() = Some(("clone", Box::new(|| panic!("it was shared"))));
        let left = keyed.drain_values();
        assert!(
            left.iter()
                .map(|(key, value)| (key.name, *value))
                .eq([(1, 1)])
        );
    });
}

/// A drain clones a key that a list clones just now. All that it has taken out by then is left to the next drain.
#[test]
fn a_drain_that_panics_in_a_clone_of_a_listed_key_loses_no_value() {
    watched(|| {
        multi_thread().block_on(async {
            type Drain = fn(&KeyedGroup<Odd, u32>, &tokio::runtime::Handle);
            let drains: [Drain; 3] = [
                |keyed, _| drop(keyed.drain_values()),
                |keyed, runtime| drop(runtime.block_on(keyed.shutdown(Duration::ZERO))),
                |keyed, runtime| drop(runtime.block_on(keyed.drain(Duration::ZERO))),
            ];
            for drain in drains {
                let keyed = Arc::new(KeyedGroup::with_handler(|_, _: Odd, _: u32| async {}));
                let calls: [Arc<Mutex<Option<Call>>>; 3] = Default::default();
                for (name, on) in (0..).zip(calls.iter().map(Arc::clone)) {
                    keyed.insert_after(Odd { name, on }, name.into(), HOUR, Replace);
                }
                let (group, second) = (Arc::clone(&keyed), Arc::clone(&calls[1]));
                let runtime = tokio::runtime::Handle::current();
                // The list clones its last key when it has shared all of them.
                let in_list = move || {
                    let boom = || panic!("boom");
                    *second.lock().unwrap() = Some(("clone", Box::new(boom)));
                    assert_eq!(panic_of(|| drain(&group, &runtime)).message, "boom");
                };
                *calls[2].lock().unwrap() = Some(("clone", Box::new(in_list)));
                let group = Arc::clone(&keyed);
                let list = std::thread::spawn(move || group.keys().len());
                assert_eq!(list.join().unwrap(), 3);
                let mut left: Vec<_> = keyed.drain_values();
                left.sort_by_key(|&(_, value)| value);
                let left = left.iter().map(|(key, value)| (key.name, *value));
                assert_eq!(left.collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 2)]);
                assert!(keyed.is_empty() && keyed.drain_values().is_empty());
            }
        });
    });
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_closure_goes_to_the_caller_and_leaves_the_entries_whole() {
    let (keyed, log) = logging();
    keyed.insert_after('k', 1, ms(5), Replace);
    let boom = |_: &mut u32| -> () { panic!("boom") };
    let make = || -> u32 { panic!("boom") };
    let panics = [
        panic_of(|| keyed.with(&'k', boom)),
        panic_of(|| keyed.debounce_with('k', ms(5), ms(5), || 0, boom)),
        panic_of(|| keyed.debounce_with('l', ms(5), ms(5), make, |_| {})),
    ];
    for panic in panics {
        assert_eq!(panic.message, "boom");
    }
    assert_eq!((keyed.len(), keyed.contains_key(&'l')), (1, false));
    let stats = keyed.stats();
    assert_eq!((stats.pending, stats.cancelled), (1, 1), "of 'l'");
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [(('k', 1), ms(5))]);
}

/// A hasher with a destructor.
struct Armed {
    state: RandomState,
    _bomb: OnDrop<fn()>,
}

impl BuildHasher for Armed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.state.build_hasher()
    }
}

/// Two panics at once would end the process.
#[tokio::test(start_paused = true)]
async fn closures_may_panic_when_they_are_dropped() {
    let bomb = || OnDrop(|| panic!("in a destructor"));
    let (keyed, log) = logging();
    let debounce = |key, boom: bool| {
        let (one, other) = (bomb(), bomb());
        let make = move || {
            std::mem::forget(one);
            assert!(!boom, "boom");
            1
        };
        let update = move |value: &mut u32| {
            std::mem::forget(other);
            *value += 1;
            assert!(!boom, "boom");
        };
        keyed
            .handle()
            .debounce_with(key, ms(5), ms(9), make, update)
    };
    for key in ['k', 'l'] {
        assert!(catch_unwind(AssertUnwindSafe(|| debounce('l', true))).is_err());
        assert!(debounce(key, false));
    }
    let wait = keyed.wait();
    assert!(!debounce('m', false), "it is closed");
    wait.await.unwrap();
    assert_eq!(log.take(), [(('k', 1), ms(5)), (('l', 1), ms(5))]);
    let outside = std::thread::spawn(move || {
        let held = bomb();
        let hasher = Armed {
            state: RandomState::new(),
            _bomb: OnDrop(|| panic!("in a destructor")),
        };
        let builder = KeyedGroup::builder().hasher(hasher);
        drop(builder.build_with(move |_, _: u8, _: u8| {
            let _held = &held;
            async {}
        }));
    });
    let panic = outside.join().unwrap_err();
    let message = panic.downcast_ref::<&str>().expect("it is misuse");
    assert!(message.contains("inside a tokio runtime"), "{message}");
}

/// A key whose `Hash` or `Eq` panics, as `boom` says, and its destructor too.
#[derive(Clone)]
struct Fragile {
    boom: &'static str,
    bomb: bool,
}

impl Fragile {
    const SOUND: Fragile = Fragile {
        boom: "",
        bomb: false,
    };
}

impl Hash for Fragile {
    fn hash<H: Hasher>(&self, _: &mut H) {
        assert_ne!(self.boom, "hash", "boom");
    }
}

impl PartialEq for Fragile {
    fn eq(&self, other: &Fragile) -> bool {
        assert!(self.boom != "eq" && other.boom != "eq", "boom");
        true
    }
}

impl Eq for Fragile {}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.bomb, "in a destructor");
    }
}

/// A value whose destructor panics.
fn fragile_value() -> OnDrop<fn()> {
    OnDrop(|| panic!("in a destructor"))
}

/// Two panics at once would end the process: only that of the key's method or of the closure goes on in the caller.
#[tokio::test(start_paused = true)]
async fn what_a_call_that_panics_was_given_may_panic_when_it_is_dropped() {
    type Verb = fn(&KeyedGroup<Fragile, OnDrop<fn()>>, Fragile);
    let verbs: [(&str, Verb); 5] = [
        ("insert", |keyed, key| {
            keyed.insert_after(key, fragile_value(), ms(5), Replace);
        }),
        ("debounce", |keyed, key| {
            keyed.debounce(key, ms(5), ms(5), fragile_value());
        }),
        ("debounce_with", |keyed, key| {
            keyed.debounce_with(key, ms(5), ms(5), fragile_value, |_| panic!("boom"));
        }),
        ("make", |keyed, key| {
            drop(keyed.drain_values());
            keyed.debounce_with(key, ms(5), ms(5), || panic!("boom"), |_| panic!("boom"));
        }),
        ("with", |keyed, mut key| {
            key.bomb = false;
            let held = fragile_value();
            keyed.with(&key, move |_| {
                std::mem::forget(held);
                panic!("boom");
            });
        }),
    ];
    for (verb, call) in verbs {
        for boom in ["hash", "eq", "closure"] {
            if boom == "closure" && ["insert", "debounce"].contains(&verb) {
                continue;
            }
            let keyed = KeyedGroup::with_handler(|_, _: Fragile, _| async {});
            let value = OnDrop((|| ()) as fn());
            keyed.insert_after(Fragile::SOUND, value, HOUR, Replace);
            let key = Fragile { boom, bomb: true };
            let called = catch_unwind(AssertUnwindSafe(|| call(&keyed, key)));
            let panic = called.expect_err(verb);
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
            let message = message.expect("it has a message");
            assert!(message.contains("boom"), "{boom} at {verb}: {message}");
            assert_eq!(keyed.len(), usize::from(verb != "make"), "{boom} at {verb}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_eq_that_panics_as_an_entry_starts_drops_its_key_and_its_value_one_by_one() {
    let keyed = KeyedGroup::builder().exclusive();
    let keyed = keyed.build_with(|_, _: Fragile, value: OnDrop<fn()>| {
        std::mem::forget(value);
        sleep(ms(10))
    });
    keyed.insert_after(Fragile::SOUND, fragile_value(), Duration::ZERO, Replace);
    settle().await;
    let key = Fragile {
        boom: "eq",
        bomb: true,
    };
    keyed.insert_after(key, fragile_value(), ms(5), Replace);
    let result = keyed.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message().contains("boom")));
    assert_eq!((keyed.stats().finished, keyed.stats().panicked), (1, 1));
}

const INSIDE: &str = "schedgroup: a keyed group was called from inside";

#[test]
fn calling_the_same_keyed_group_under_its_lock_is_a_panic_that_says_so() {
    watched(|| {
        multi_thread().block_on(bounded(async {
            let (keyed, _log) = logging();
            let keyed = Arc::new(keyed);
            keyed.insert_after('k', 1, HOUR, Replace);
            type Verb = fn(&KeyedGroup<char, u32>);
            let verbs: [Verb; 8] = [
                |keyed| _ = keyed.len(),
                |keyed| _ = keyed.remove(&'k'),
                |keyed| _ = keyed.insert_after('k', 2, HOUR, Replace),
                |keyed| _ = keyed.debounce('l', HOUR, HOUR, 2),
                |keyed| _ = keyed.reset_after(&'k', HOUR),
                |keyed| _ = keyed.with(&'k', |_| ()),
                |keyed| _ = keyed.keys(),
                |keyed| _ = keyed.drain_values(),
            ];
            for verb in verbs {
                let (line, panic) = (line!(), panic_of(|| keyed.with(&'k', |_| verb(&keyed))));
                assert!(panic.message.starts_with(INSIDE), "{panic:?}");
                assert!(
                    panic.line < line && panic.file.ends_with("keyed_values.rs"),
                    "{panic:?}"
                );
                let make = || -> u32 {
                    verb(&keyed);
                    0
                };
                let panic = panic_of(|| keyed.debounce_with('m', HOUR, HOUR, make, |_| {}));
                assert!(panic.message.starts_with(INSIDE), "{panic:?}");
            }
            assert_eq!((keyed.len(), keyed.remove(&'k')), (1, Some(1)));
            // Another group may be called, and the same one by another thread meanwhile.
            let (other, _log) = logging();
            keyed.insert_after('k', 1, HOUR, Replace);
            let looked = keyed.with(&'k', |_| {
                other.insert_after('k', 1, HOUR, Replace);
                let keyed = Arc::clone(&keyed);
                std::thread::spawn(move || keyed.len())
            });
            let len = looked.expect("it is pending").join();
            assert_eq!((len.ok(), other.len()), (Some(1), 1));
        }));
    });
}

#[tokio::test(start_paused = true)]
async fn an_eq_that_calls_back_is_a_panic_that_says_so() {
    let keyed = Arc::new(KeyedGroup::with_handler(|_, _: Odd, _: u32| async {}));
    let on = Arc::new(Mutex::new(None));
    let key = || Odd {
        name: 1,
        on: Arc::clone(&on),
    };
    keyed.insert_after(key(), 1, HOUR, Replace);
    let (wanted, back) = (key(), Arc::clone(&keyed));
    let call: Call = ("eq", Box::new(move || _ = back.len()));
    *on.lock().unwrap() = Some(call);
    let panic = panic_of(|| keyed.contains_key(&wanted));
    assert!(panic.message.starts_with(INSIDE), "{panic:?}");
    assert!(keyed.contains_key(&wanted));
}

/// Where the group has the last hold on the entries it drops the handler too, in its driver as in its own drop.
#[tokio::test(start_paused = true)]
async fn a_handler_and_a_hasher_that_panic_when_they_are_dropped_end_no_driver() {
    for end in ["shutdown", "drain", "cancel", "drop"] {
        let group = Group::new();
        let bomb = || OnDrop((|| panic!("bomb")) as fn());
        let (held, hasher) = (
            bomb(),
            Armed {
                state: RandomState::new(),
                _bomb: bomb(),
            },
        );
        let keyed = KeyedGroup::builder().hasher(hasher);
        let keyed = keyed.on_with(&group, move |_, _: u8, _: u8| {
            let _held = &held;
            async {}
        });
        keyed.insert_after(1, 1, HOUR, Replace);
        drop(keyed);
        let running = group.delay(Duration::ZERO, std::future::pending());
        settle().await;
        let handle = group.handle();
        let report = match end {
            "shutdown" => bounded(group.shutdown(ms(5))).await,
            "drain" => bounded(group.drain(ms(5))).await,
            "cancel" => {
                group.cancel();
                bounded(group.shutdown(ms(5))).await
            }
            _ => {
                drop(group);
                Default::default()
            }
        };
        settle().await;
        if end != "drop" {
            assert_eq!((report.aborted, report.dropped), (1, 1), "{end}");
        }
        assert!(running.is_finished(), "{end}");
        assert_eq!(handle.stats().cancelled, 2, "{end}");
    }
}

/// What the closure holds that is not called, which may be a value for the next event.
#[tokio::test(start_paused = true)]
async fn a_closure_that_is_not_called_is_dropped_under_no_lock() {
    let keyed = KeyedGroup::with_handler(|_, _: char, _: u32| async {});
    let dropped = Arc::new(AtomicUsize::new(0));
    let held = || {
        let (keyed, dropped) = (keyed.handle(), Arc::clone(&dropped));
        OnDrop(move || {
            keyed.len();
            dropped.fetch_add(1, SeqCst);
        })
    };
    // The first event, the second, and one after the end.
    for (calls, accepted) in [(1, true), (2, true), (4, false)] {
        let (make, update) = (held(), held());
        let debounced = keyed.debounce_with(
            'a',
            HOUR,
            HOUR,
            || {
                std::mem::forget(make);
                1
            },
            |_| std::mem::forget(update),
        );
        assert_eq!((debounced, dropped.load(SeqCst)), (accepted, calls));
        if calls == 2 {
            keyed.cancel();
        }
    }
    assert_eq!(keyed.with(&'b', |_| drop(held())), None);
}

/// A caller may move its job under a lock of its own. If that call were the one that drops the handler, whose entries were
/// removed by the last run, a destructor that takes the same lock would block for ever.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_moved_or_asked_for_its_state_drops_no_handler() {
    let (group, locked) = (Group::new(), Arc::new(Mutex::new(())));
    // In an `Arc`, since a clone of the handle itself would be the call that drops the handler.
    let job = Arc::new(group.delay(HOUR, async {}));
    for move_job in [true, false] {
        let (job, log) = (Arc::clone(&job), Log::new());
        let (of_handler, dropped) = (Arc::clone(&locked), log.clone());
        let in_handler = Arc::clone(&locked);
        let takes_lock = OnDrop(move || dropped.push(in_handler.try_lock().is_ok()));
        // Twenty entries that are due run in one batch. The last but one removes the one that is not due.
        let handler = move |context: KeyedContext<u64, ()>, key, ()| {
            let (_held, locked, job) = (&takes_lock, Arc::clone(&of_handler), Arc::clone(&job));
            async move {
                if key == 18 {
                    assert!(context.remove(&20).is_some());
                }
                drop(context);
                if key == 19 {
                    let _locked = locked.lock().unwrap();
                    assert!(if move_job {
                        job.reset_after(HOUR)
                    } else {
                        !job.is_finished()
                    });
                }
            }
        };
        let keyed = KeyedGroup::<u64, ()>::builder().on_with(&group, handler);
        for key in 0..=20 {
            let delay = if key < 20 { Duration::ZERO } else { HOUR };
            let _ = keyed.insert_after(key, (), delay, Replace);
        }
        drop(keyed);
        settle().await;
        assert_eq!(log.labels(), [true], "{move_job}: the lock was free");
    }
    group.cancel();
}

/// `Hash`, `Clone` and `Drop` of keys, and destructors of values, at each place where they run.
#[test]
fn hashes_clones_and_destructors_may_call_back() {
    type Verb = fn(&KeyedGroup<Odd, OnDrop<Box<dyn FnMut() + Send>>>, Odd);
    let verbs: [(&str, Verb); 6] = [
        ("insert", |keyed, key| {
            let value = OnDrop(Box::new(|| ()) as Box<dyn FnMut() + Send>);
            drop(keyed.insert_after(key, value, HOUR, Replace));
        }),
        ("keys", |keyed, _| drop(keyed.keys())),
        ("remove", |keyed, key| drop(keyed.remove(&key))),
        ("expire", |keyed, key| _ = keyed.expire(&key)),
        ("drain_values", |keyed, _| drop(keyed.drain_values())),
        ("cancel", |keyed, _| keyed.cancel()),
    ];
    watched(move || {
        for method in ["hash", "clone", "drop", "value"] {
            for (verb, call) in verbs {
                multi_thread().block_on(bounded(async move {
                    let keyed = KeyedGroup::builder()
                        .exclusive()
                        .build_with(|_, _: Odd, _: OnDrop<Box<dyn FnMut() + Send>>| async {});
                    let (handle, called) = (keyed.handle(), Arc::new(AtomicBool::new(false)));
                    let on = Arc::new(Mutex::new(None));
                    let key = |name| Odd {
                        name,
                        on: Arc::clone(&on),
                    };
                    let (of_value, calls) = (handle.clone(), Arc::clone(&called));
                    let value: Box<dyn FnMut() + Send> = Box::new(move || {
                        of_value.len();
                        calls.store(true, SeqCst);
                    });
                    keyed.insert_after(key(1), OnDrop(value), HOUR, Replace);
                    let (wanted, calls) = (key(1), Arc::clone(&called));
                    let back: Call = (
                        method,
                        Box::new(move || {
                            // The row itself may go in the middle of it.
                            handle.drain_values();
                            calls.store(true, SeqCst);
                        }),
                    );
                    *on.lock().unwrap() = Some(back);
                    call(&keyed, wanted);
                    // A run clones its key, and drops what it was given, after it is no longer pending.
                    until("it is still", || {
                        let stats = keyed.stats();
                        stats.pending + stats.running == 0 || verb == "keys" || verb == "insert"
                    })
                    .await;
                    drop(keyed);
                    *on.lock().unwrap() = None;
                    let expected = method != "clone" || ["keys", "expire"].contains(&verb);
                    let called = called.load(SeqCst);
                    assert!(called || !expected, "{method} at {verb} did not call back");
                }));
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_clone_panics_ends_its_own_run_alone() {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(move |_, key: Odd, value: u32| handled.job((key.name, value)));
    let on = Arc::new(Mutex::new(None));
    let key = |name| Odd {
        name,
        on: Arc::clone(&on),
    };
    let boom: Call = ("clone", Box::new(|| panic!("boom")));
    *on.lock().unwrap() = Some(boom);
    keyed.insert_after(key(1), 1, ms(1), Replace);
    keyed.insert_after(key(2), 2, ms(2), Replace);
    sleep(ms(3)).await;
    keyed.insert_after(key(1), 3, ms(1), Replace);
    let result = keyed.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
    assert_eq!(log.labels(), [(2, 2), (1, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_may_panic_again_when_it_is_dropped() {
    for exclusive in [false, true] {
        let builder = KeyedGroup::builder();
        let handler = |_, _: char, _: u32| twice_panicking();
        let keyed = match exclusive {
            true => builder.exclusive().build_with(handler),
            false => builder.build_with(handler),
        };
        for value in [1, 2] {
            keyed.insert_after('k', value, ms(1), Replace);
            sleep(ms(2)).await;
        }
        assert_eq!(keyed.stats().panicked, 2, "exclusive: {exclusive}");
        let result = keyed.wait().await;
        assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
    }
}

/// Two panics at once would end the process.
#[tokio::test(start_paused = true)]
async fn a_value_whose_key_cannot_be_cloned_may_panic_when_it_is_dropped() {
    #[derive(PartialEq, Eq, Hash)]
    struct Key;
    impl Clone for Key {
        fn clone(&self) -> Key {
            panic!("boom")
        }
    }
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(|_, _: Key, _: OnDrop<fn()>| async {});
    keyed.insert_after(Key, OnDrop(|| panic!("bomb")), ms(1), Replace);
    let result = keyed.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
}

/// Also the pending one, and also if a run ends before the worker comes to the next entry.
#[tokio::test(start_paused = true)]
async fn what_waits_for_the_run_of_its_key_starts_in_the_order_of_the_deadlines() {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(move |_, (): (), value: u64| {
            let handled = handled.clone();
            async move {
                handled.push(value);
                if value == 0 {
                    sleep(ms(100)).await;
                }
            }
        });
    keyed.insert_after((), 0, Duration::ZERO, Replace);
    for value in 1..=4 {
        sleep(ms(10)).await;
        keyed.insert_after((), value, Duration::ZERO, Replace);
        assert!(keyed.expire(&()));
    }
    keyed.insert_after((), 5, ms(10), Replace);
    sleep(ms(20)).await;
    keyed.wait().await.unwrap();
    assert_eq!(log.labels(), [0, 1, 2, 3, 4, 5]);
}

/// The pending entry is due before the expired one, since its deadline had passed when it was inserted.
#[tokio::test(start_paused = true)]
async fn what_waits_behind_an_entry_that_is_moved_or_taken_out_starts_without_it() {
    type Keyed = KeyedGroup<(), u64>;
    /// Its name, the call, what has run by 220 ms, and what runs later.
    type Verb = (&'static str, fn(&Keyed), &'static [u64], &'static [u64]);
    let verbs: [Verb; 5] = [
        (
            "expire",
            |keyed| assert!(keyed.expire(&())),
            &[0, 2, 1],
            &[],
        ),
        (
            "reset",
            |keyed| assert!(keyed.reset_after(&(), ms(500))),
            &[0, 1],
            &[2],
        ),
        (
            "replace",
            |keyed| {
                let replaced = keyed.insert_after((), 3, ms(500), Replace);
                assert_eq!(replaced, Inserted::Replaced(2));
            },
            &[0, 1],
            &[3],
        ),
        (
            "debounce",
            |keyed| {
                let replaced = keyed.debounce((), ms(500), Duration::MAX, 3);
                assert_eq!(replaced, Inserted::Replaced(2));
            },
            &[0, 1],
            &[3],
        ),
        (
            "remove",
            |keyed| assert_eq!(keyed.remove(&()), Some(2)),
            &[0, 1],
            &[],
        ),
    ];
    for (name, verb, early, late) in verbs {
        let (log, start) = (Log::new(), Instant::now());
        let handled = log.clone();
        let keyed: Keyed =
            KeyedGroup::builder()
                .exclusive()
                .build_with(move |_, (), value: u64| {
                    handled.push(value);
                    sleep(if value == 0 { ms(100) } else { ms(10) })
                });
        keyed.insert_after((), 0, Duration::ZERO, Replace);
        sleep(ms(10)).await;
        keyed.insert_after((), 1, Duration::ZERO, Replace);
        assert!(keyed.expire(&()), "{name}");
        keyed.insert_at((), 2, start, Replace);
        sleep(ms(10)).await;
        verb(&keyed);
        sleep(ms(200)).await;
        assert_eq!(log.labels(), early, "{name}");
        keyed.wait().await.unwrap();
        assert_eq!(log.labels(), late, "{name}");
    }
}

/// It is compared with the run of another key, whose hash is the same.
#[tokio::test(start_paused = true)]
async fn an_eq_that_panics_for_the_first_of_a_queue_leaves_its_turn_to_the_next() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    #[derive(Clone)]
    struct Key(u8);
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            0.hash(state);
        }
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Key) -> bool {
            assert!(!PANICS.swap(false, SeqCst), "boom");
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    let (group, log) = (Group::new(), Log::new());
    // So that the slots of the jobs are not the numbers of the rows.
    let other = group.delay(HOUR, async {});
    let handled = log.clone();
    let builder = KeyedGroup::builder().exclusive();
    let keyed = builder.on_with(&group, move |_, Key(_), took: u64| {
        handled.push(took);
        sleep(ms(took))
    });
    for (key, took) in [(1, 100), (2, 10), (2, 20), (2, 30), (2, 40)] {
        keyed.insert_after(Key(key), took, HOUR, Replace);
        assert!(keyed.expire(&Key(key)));
    }
    settle().await;
    PANICS.store(true, SeqCst);
    assert!(other.cancel());
    let result = group.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
    assert_eq!(
        log.take(),
        [(100, ms(0)), (10, ms(0)), (30, ms(10)), (40, ms(40))]
    );
}

#[tokio::test(start_paused = true)]
async fn an_eq_that_panics_as_an_entry_starts_ends_that_entry_alone() {
    let (log, flag) = (Log::new(), Flag::new());
    let handled = log.clone();
    let keyed = KeyedGroup::builder().exclusive().build_with(
        move |_, key: Odd, (value, _guard): (u32, crate::common::Guard)| {
            handled.push((key.name, value));
            sleep(ms(10))
        },
    );
    let on = Arc::new(Mutex::new(None));
    let key = || Odd {
        name: 1,
        on: Arc::clone(&on),
    };
    keyed.insert_after(key(), (1, flag.guard()), Duration::ZERO, Replace);
    settle().await;
    keyed.insert_after(key(), (2, flag.guard()), ms(5), Replace);
    let boom: Call = ("eq", Box::new(|| panic!("boom")));
    *on.lock().unwrap() = Some(boom);
    sleep(ms(7)).await;
    assert_eq!((keyed.len(), flag.drops()), (0, 2), "the run's own, too");
    keyed.insert_after(key(), (3, flag.guard()), Duration::ZERO, Replace);
    let result = keyed.wait().await;
    assert!(matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom"));
    let expected = [((1, 1), ms(0)), ((1, 3), ms(10))];
    assert_eq!(log.take(), expected);
}

/// What waits for the group is woken by whoever removes the last entry.
#[test]
fn a_waker_of_wait_may_call_back() {
    struct CallsBack(KeyedHandle<char, u32>, AtomicUsize);
    impl Wake for CallsBack {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(self.0.len() + 1, SeqCst);
        }
    }
    type Verb = fn(&KeyedGroup<char, u32>);
    let verbs: [Verb; 3] = [
        |keyed| _ = keyed.remove(&'k'),
        |keyed| drop(keyed.drain_values()),
        |keyed| keyed.cancel(),
    ];
    watched(move || {
        for verb in verbs {
            multi_thread().block_on(bounded(async move {
                let (keyed, _log) = logging();
                keyed.insert_after('k', 1, HOUR, Replace);
                let calls = Arc::new(CallsBack(keyed.handle(), AtomicUsize::new(0)));
                let waker = Arc::clone(&calls).into();
                let mut wait = pin!(keyed.wait());
                let polled = wait.as_mut().poll(&mut Context::from_waker(&waker));
                assert_eq!(polled.is_pending(), Poll::<()>::Pending.is_pending());
                verb(&keyed);
                until("the waker is called", || calls.1.load(SeqCst) > 0).await;
            }));
        }
    });
}

type Bomb = OnDrop<Box<dyn FnMut() + Send>>;

/// Ten values whose destructors panic, and how many were dropped.
fn bombs(entries: &KeyedHandle<u32, Bomb>) -> Arc<AtomicUsize> {
    let drops = Arc::new(AtomicUsize::new(0));
    for key in 0..10 {
        let drops = Arc::clone(&drops);
        let bomb: Box<dyn FnMut() + Send> = Box::new(move || {
            drops.fetch_add(1, SeqCst);
            panic!("bomb");
        });
        entries.insert_after(key, OnDrop(bomb), HOUR, Replace);
    }
    drops
}

#[tokio::test(start_paused = true)]
async fn values_whose_destructors_panic_are_all_dropped_with_the_group() {
    let keyed = KeyedGroup::with_handler(|_, _: u32, _: Bomb| async {});
    let drops = bombs(&keyed.handle());
    drop(keyed);
    assert_eq!(drops.load(SeqCst), 10);
}

/// After a cancel no job holds the entries, so they go with their last handle.
#[tokio::test(start_paused = true)]
async fn values_whose_destructors_panic_are_all_dropped_with_the_last_handle() {
    let group = Group::new();
    let entries = KeyedGroup::builder().on_with(&group, |_, _: u32, _: Bomb| async {});
    let drops = bombs(&entries);
    group.cancel();
    settle().await;
    assert_eq!((entries.len(), drops.load(SeqCst)), (10, 0));
    drop(entries);
    assert_eq!(drops.load(SeqCst), 10);
}

/// The destructor lasts until the next run of the key has begun, or too long.
#[test]
fn a_destructor_of_a_key_holds_up_no_run_of_that_key() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    static HELD_UP: AtomicBool = AtomicBool::new(false);

    /// All are equal. The first one is in the table; the handlers get clones.
    struct Key(&'static str);

    impl PartialEq for Key {
        fn eq(&self, _: &Key) -> bool {
            true
        }
    }

    impl Eq for Key {}

    impl Hash for Key {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    impl Clone for Key {
        fn clone(&self) -> Key {
            Key("clone")
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            let begun = std::time::Instant::now();
            while self.0 == "first" && RUNS.load(SeqCst) < 2 {
                if begun.elapsed() > Duration::from_secs(5) {
                    return HELD_UP.store(true, SeqCst);
                }
                std::thread::yield_now();
            }
        }
    }

    multi_thread().block_on(bounded(async {
        let hold = Hold::new();
        let held = hold.clone();
        let keyed = KeyedGroup::builder()
            .exclusive()
            .build_with(move |_, _: Key, _: u32| {
                RUNS.fetch_add(1, SeqCst);
                held.job()
            });
        keyed.insert_after(Key("first"), 1, Duration::ZERO, Replace);
        until("it runs", || RUNS.load(SeqCst) == 1).await;
        keyed.insert_after(Key("second"), 2, Duration::ZERO, Replace);
        until("the second waits", || keyed.stats().waiting == 1).await;
        hold.release();
        until("the second runs", || RUNS.load(SeqCst) == 2).await;
        hold.release();
        keyed.wait().await.unwrap();
    }));
    assert!(!HELD_UP.load(SeqCst));
}

/// The destructor lasts until the run has been aborted, or too long.
#[test]
fn a_destructor_of_a_value_holds_up_no_abort_at_the_end_of_a_grace() {
    static HELD_UP: AtomicBool = AtomicBool::new(false);

    /// Says that the run it belongs to was dropped.
    struct Run(std::sync::mpsc::Sender<()>);

    impl Drop for Run {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    struct Value(std::sync::mpsc::Receiver<()>);

    impl Drop for Value {
        fn drop(&mut self) {
            let aborted = self.0.recv_timeout(Duration::from_secs(5));
            HELD_UP.store(aborted.is_err(), SeqCst);
        }
    }

    multi_thread().block_on(bounded(async {
        let (aborted, waits) = std::sync::mpsc::channel();
        let (group, run) = (Group::new(), Run(aborted));
        group.delay(Duration::ZERO, async move {
            let _run = run;
            std::future::pending().await
        });
        until("it runs", || group.stats().running == 1).await;
        let keyed = KeyedGroup::builder().on_with(&group, |_, _: u32, _: Value| async {});
        keyed.insert_after(1, Value(waits), Duration::from_secs(3_600), Replace);
        // The entry alone keeps the table, and its end drops it.
        drop(keyed);
        let report = group.drain(Duration::ZERO).await;
        assert_eq!((report.aborted, report.dropped), (1, 1));
    }));
    assert!(!HELD_UP.load(SeqCst));
}
