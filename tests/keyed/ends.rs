//! What becomes of values at each end of a group.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::common::{Flag, HOUR, Hold, Log, jump, ms, settle};
use schedgroup::keyed::OnDuplicate::Replace;
use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, KeyedHandle};
use schedgroup::{CancellationToken, Group, WaitError};
use tokio::time::{Instant, sleep};

use super::logging;

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

/// Inserts a value that holds a handle of its own entries: it would keep them, and itself, for ever. Returns the flag of
/// its drop.
fn looped(group: &Group) -> Flag {
    type Value = (
        Arc<OnceLock<KeyedHandle<char, Looped>>>,
        crate::common::Guard,
    );
    struct Looped(#[allow(dead_code, reason = "it is only dropped")] Value);
    let flag = Flag::new();
    let keyed = KeyedGroup::builder().on_with(group, |_, _: char, _: Looped| async {});
    let home = Arc::new(OnceLock::new());
    keyed.insert_after(
        'k',
        Looped((Arc::clone(&home), flag.guard())),
        HOUR,
        Replace,
    );
    assert!(home.set(keyed).is_ok());
    flag
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_dropped_drops_the_values_whoever_holds_them() {
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
        let group = Group::new();
        let flag = looped(&group);
        settle().await;
        assert_eq!(flag.drops(), 0, "{end}");
        ending(group);
        settle().await;
        assert_eq!(flag.drops(), 1, "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_detached_after_its_end_drops_the_values_too() {
    let group = Group::new();
    let flag = looped(&group);
    group.cancel();
    settle().await;
    assert_eq!(flag.drops(), 0, "its owner may still ask for it");
    group.detach();
    assert_eq!(flag.drops(), 1);
}

#[test]
fn a_detached_group_drops_the_values_with_its_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let group = Group::builder().runtime(runtime.handle().clone()).build();
    let flag = looped(&group);
    group.detach();
    assert_eq!(flag.drops(), 0);
    drop(runtime);
    assert_eq!(flag.drops(), 1);
}
