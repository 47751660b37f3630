//! Values under keys: what each method gives back.

use std::time::Duration;

use crate::common::{HOUR, Log, Random, bounded, ms, settle};
use schedgroup::Group;
use schedgroup::keyed::OnDuplicate::{Keep, KeepEarliest, KeepLatest, Replace};
use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup};
use tokio::time::{Instant, sleep};

use super::logging;

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
