//! Keys whose runs never overlap.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::{Flag, HOUR, Hold, Log, ms, settle};
use schedgroup::keyed::OnDuplicate::Replace;
use schedgroup::keyed::{Inserted, KeyedGroup};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::alone;

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

/// It has waited for the run of its key, and the others for a slot.
#[tokio::test(start_paused = true)]
async fn an_entry_that_waits_for_its_key_starts_before_those_that_are_due_later() {
    for later in ['k', 'm'] {
        let (log, holds) = (Log::new(), [(); 4].map(|()| Hold::new()));
        let (runs, held) = (log.clone(), holds.clone());
        let builder = KeyedGroup::builder().exclusive().max_running(2);
        let keyed = builder.build_with(move |_, _, value: usize| {
            runs.push(value);
            held[value].job()
        });
        keyed.insert_after('k', 0, Duration::ZERO, Replace);
        settle().await;
        keyed.insert_after('k', 1, Duration::ZERO, Replace);
        assert!(keyed.expire(&'k'));
        settle().await;
        keyed.insert_after('l', 2, ms(1), Replace);
        keyed.insert_after(later, 3, ms(2), Replace);
        sleep(ms(3)).await;
        settle().await;
        holds[0].release();
        settle().await;
        assert_eq!(log.labels(), [0, 2, 1], "{later}");
    }
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
        let [earlier, early] = [Instant::now(), Instant::now() + ms(1)];
        sleep(ms(2)).await;
        keyed.insert_after('k', 0, Duration::ZERO, Replace);
        settle().await;
        keyed.insert_after('k', 1, HOUR, Replace);
        assert!(keyed.expire(&'k'), "{name}");
        keyed.insert_at('k', 2, early, Replace);
        settle().await;
        for (key, value) in [('l', 3), ('m', 4)] {
            keyed.insert_at(key, value, earlier, Replace);
            settle().await;
        }
        // Its slot goes to 4, which is due before 2, the next of its key.
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
