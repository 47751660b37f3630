//! Keyed groups: what becomes of each value where two calls for one key, or a call and the start, the run or the end,
//! come at once.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use schedgroup::keyed::{Builder, Inserted, KeyedContext, KeyedGroup, KeyedHandle, OnDuplicate};
use schedgroup::{Group, Report, WaitError};
use shuttle::{future, thread};

use crate::{Entry, Ledger, NEVER, NOW, explore};

/// Values are bits, so that a set of them is a number.
type Keyed = KeyedGroup<u8, usize>;
type Context = KeyedContext<u8, usize>;

const KEY: u8 = 7;
const REPLACE: OnDuplicate = OnDuplicate::Replace;

/// The values that were handled, each of them once.
#[derive(Clone, Debug, Default)]
struct Handled(Arc<AtomicUsize>);

impl Handled {
    fn note(&self, value: usize) {
        let before = self.0.fetch_or(value, SeqCst);
        assert_eq!(before & value, 0, "{value} is handled twice");
    }

    fn all(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A group that notes what it handles.
fn logging() -> (Keyed, Handled) {
    let handled = Handled::default();
    let log = handled.clone();
    let keyed = KeyedGroup::with_handler(move |_, _, value| {
        log.note(value);
        async {}
    });
    (keyed, handled)
}

/// The same, with runs that take a while and never overlap.
fn alone(builder: Builder<u8, usize>) -> (Keyed, Handled) {
    let (handled, running) = (Handled::default(), Arc::new(AtomicUsize::new(0)));
    let log = handled.clone();
    let keyed = builder.exclusive().build_with(move |_, _, value| {
        let guard = Alone::begin(&running);
        log.note(value);
        async move {
            future::yield_now().await;
            drop(guard);
        }
    });
    (keyed, handled)
}

/// A run that goes on, until it is dropped.
struct Alone(Arc<AtomicUsize>);

impl Alone {
    fn begin(running: &Arc<AtomicUsize>) -> Alone {
        assert_eq!(running.fetch_add(1, SeqCst), 0, "two at once");
        Alone(Arc::clone(running))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// What an insert took out, or did not let in.
fn returned(inserted: Inserted<usize>) -> usize {
    match inserted {
        Inserted::New => 0,
        Inserted::Replaced(value) | Inserted::Kept(value) | Inserted::Rejected(value) => value,
        other => panic!("{other:?} is new"),
    }
}

/// Calls from a thread of their own.
fn beside<T: Send + 'static>(
    keyed: &Keyed,
    call: impl FnOnce(KeyedHandle<u8, usize>) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let handle = keyed.handle();
    thread::spawn(move || call(handle))
}

#[test]
fn an_insert_beside_an_expire_replaces_the_value_or_follows_it() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NEVER, REPLACE);
            let insert = beside(&keyed, |keyed| keyed.insert_after(KEY, 2, NOW, REPLACE));
            let expired = keyed.expire(&KEY);
            let inserted = insert.join().unwrap();
            keyed.wait().await.expect("no handler panics");
            match inserted {
                Inserted::New => assert!(expired && handled.all() == 3, "{handled:?}"),
                Inserted::Replaced(1) => assert_eq!(handled.all(), 2),
                other => panic!("{other:?}, expired: {expired}"),
            }
        });
    });
}

/// Neither does the new value run at the deadline of the one that it replaces, nor is it lost with that one's job.
#[test]
fn what_replaces_a_value_beside_its_start_keeps_its_own_deadline() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let inserts = [(2, NEVER), (4, NOW)].map(|(value, due)| {
                beside(&keyed, move |keyed| {
                    returned(keyed.insert_after(KEY, value, due, REPLACE))
                })
            });
            let back: usize = inserts.map(|insert| insert.join().unwrap()).iter().sum();
            let left = match back & 2 {
                // A far one that was not replaced is there.
                0 => keyed.remove(&KEY),
                _ => Some(2),
            };
            keyed.wait().await.expect("no handler panics");
            let back = back & !2;
            assert_eq!(handled.all() & 2, 0, "early");
            assert_eq!((left, handled.all() ^ back), (Some(2), 5));
        });
    });
}

/// An entry that is moved as it is about to start does not start.
#[test]
fn a_debounce_beside_the_start_holds() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let debounce = beside(&keyed, |keyed| keyed.debounce(KEY, NEVER, NEVER, 2));
            let back = returned(debounce.join().unwrap());
            assert_eq!(keyed.remove(&KEY), Some(2));
            keyed.wait().await.expect("no handler panics");
            assert_eq!(handled.all() + back, 1);
        });
    });
}

/// After a `true` the entry is there and does not start; after a `false` it is gone.
#[test]
fn a_reset_beside_the_start_tells_whether_the_entry_is_there() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let reset = beside(&keyed, |keyed| {
                let moved = keyed.reset_after(&KEY, NEVER);
                (moved, keyed.contains_key(&KEY))
            });
            let (moved, there) = reset.join().unwrap();
            assert_eq!(there, moved);
            let left = keyed.remove(&KEY);
            assert_eq!(left, moved.then_some(1));
            keyed.wait().await.expect("no handler panics");
            assert_eq!(handled.all(), 1 - left.unwrap_or(0));
        });
    });
}

/// Whatever it answers, the entry is handled and its key is free.
#[test]
fn an_expire_beside_the_start_frees_the_key() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let expire = beside(&keyed, |keyed| {
                keyed.expire(&KEY);
                keyed.insert_after(KEY, 2, NEVER, OnDuplicate::Keep)
            });
            assert_eq!(expire.join().unwrap(), Inserted::New);
            assert_eq!(keyed.remove(&KEY), Some(2));
            keyed.wait().await.expect("no handler panics");
            assert_eq!(handled.all(), 1);
        });
    });
}

#[test]
fn of_two_inserts_of_a_key_each_value_is_handled_or_comes_back() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            let inserts = [
                (1, REPLACE),
                (2, OnDuplicate::Keep),
                (4, OnDuplicate::KeepLatest),
            ]
            .map(|(value, rule)| {
                beside(&keyed, move |keyed| {
                    keyed.insert_after(KEY, value, NOW, rule)
                })
            });
            let returned: usize = inserts
                .map(|insert| returned(insert.join().unwrap()))
                .iter()
                .sum();
            keyed.wait().await.expect("no handler panics");
            assert_eq!(handled.all() ^ returned, 7, "{handled:?}, back: {returned}");
            assert!(keyed.is_empty());
        });
    });
}

#[test]
fn a_remove_beside_the_start_has_one_winner() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let removes = [(); 2].map(|()| {
                let handled = handled.clone();
                beside(&keyed, move |keyed| {
                    let removed = keyed.remove(&KEY);
                    assert!(removed.is_none() || handled.all() == 0, "both");
                    removed.unwrap_or(0)
                })
            });
            keyed.wait().await.expect("no handler panics");
            let removed: usize = removes.map(|remove| remove.join().unwrap()).iter().sum();
            assert_eq!(handled.all() + removed, 1);
            let stats = keyed.stats();
            assert_eq!((stats.finished + stats.cancelled, stats.pending), (1, 0));
        });
    });
}

/// What was expired is final: no reset moves it away, and it runs though it was due never.
#[test]
fn a_reset_beside_an_expire_does_not_undo_it() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NEVER, REPLACE);
            let reset = beside(&keyed, |keyed| {
                keyed.reset_after(&KEY, NEVER);
                keyed.reset_after(&KEY, NEVER)
            });
            assert!(keyed.expire(&KEY));
            keyed.wait().await.expect("no handler panics");
            reset.join().unwrap();
            assert_eq!(handled.all(), 1);
            assert!(!keyed.reset_after(&KEY, NOW));
        });
    });
}

/// An entry that is due, and one that a reset makes due, beside moves to never: it is handled, or still there.
#[test]
fn a_reset_that_is_honoured_beside_the_start_holds() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let reset = beside(&keyed, |keyed| keyed.reset_after(&KEY, NEVER));
            let moved = reset.join().unwrap();
            let left = match moved {
                true => keyed.remove(&KEY).unwrap_or(0),
                false => 0,
            };
            keyed.wait().await.expect("no handler panics");
            assert_eq!((left, handled.all()), if moved { (1, 0) } else { (0, 1) });
        });
    });
}

#[test]
fn what_is_changed_beside_an_expire_is_handled_as_changed() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NEVER, REPLACE);
            let change = beside(&keyed, |keyed| keyed.with(&KEY, |value| *value |= 2));
            assert!(keyed.expire(&KEY));
            keyed.wait().await.expect("no handler panics");
            let changed = change.join().unwrap().is_some();
            assert_eq!(handled.all(), if changed { 3 } else { 1 });
        });
    });
}

/// Events that are gathered beside the expiry of their value are in that value or in the next one.
#[test]
fn every_event_beside_an_expiry_is_in_one_value() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            let event = |keyed: KeyedHandle<u8, usize>, event: usize| {
                keyed.debounce_with(KEY, NOW, NEVER, || event, |known| *known |= event)
            };
            let events = [1, 2].map(|bit| beside(&keyed, move |keyed| event(keyed, bit)));
            assert!(event(keyed.handle(), 4));
            keyed.expire(&KEY);
            assert!(
                events
                    .map(|event| event.join().unwrap())
                    .iter()
                    .all(|in_| *in_)
            );
            keyed.wait().await.expect("no handler panics");
            assert_eq!(handled.all(), 7);
        });
    });
}

#[test]
fn what_a_handler_inserts_beside_other_calls_for_its_key_is_handled_or_comes_back() {
    explore(|| {
        future::block_on(async {
            let (handled, back) = (Handled::default(), Handled::default());
            let (log, rejected) = (handled.clone(), back.clone());
            let keyed = KeyedGroup::with_handler(move |context: Context, key, value| {
                log.note(value);
                let rejected = rejected.clone();
                async move {
                    if value == 1 {
                        let kept = context.insert_after(key, 2, NOW, OnDuplicate::Keep);
                        rejected.note(returned(kept));
                        future::yield_now().await;
                        rejected.note(returned(context.insert_after(key, 4, NOW, REPLACE)));
                    }
                }
            });
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let insert = beside(&keyed, |keyed| keyed.insert_after(KEY, 8, NOW, REPLACE));
            let remove = beside(&keyed, |keyed| keyed.remove(&KEY).unwrap_or(0));
            back.note(returned(insert.join().unwrap()));
            back.note(remove.join().unwrap());
            keyed.wait().await.expect("no handler panics");
            let (handled, back) = (handled.all(), back.all());
            let inserted = if handled & 1 == 1 { 15 } else { 9 };
            assert_eq!((handled & back, handled | back), (0, inserted));
        });
    });
}

#[test]
fn every_value_beside_a_starting_wait_is_handled_or_rejected() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            let inserts = [(KEY, 1), (8, 2)].map(|(key, value)| {
                beside(&keyed, move |keyed| {
                    match keyed.insert_after(key, value, NOW, REPLACE) {
                        Inserted::New => value,
                        Inserted::Rejected(rejected) if rejected == value => 0,
                        other => panic!("{other:?}"),
                    }
                })
            });
            keyed.wait().await.expect("no handler panics");
            let covered = handled.all();
            let accepted: usize = inserts.map(|insert| insert.join().unwrap()).iter().sum();
            assert_eq!((covered, handled.all()), (accepted, accepted));
        });
    });
}

/// The end of a group beside inserts, due and far ones, and a debounce: what was accepted or made is handled or left,
/// and is counted.
fn end_beside_inserts(
    end: impl AsyncFn(&Keyed) -> (Option<Report>, Vec<(u8, usize)>) + Clone + Send + Sync + 'static,
) {
    explore(move || {
        let end = end.clone();
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(1, 1, NEVER, REPLACE);
            let inserts = [(2, 2, NOW), (3, 4, NEVER)].map(|(key, value, due)| {
                beside(&keyed, move |keyed| {
                    value - returned(keyed.insert_after(key, value, due, REPLACE))
                })
            });
            let debounce = beside(&keyed, |keyed| {
                let mut made = 0;
                let make = || {
                    made = 8;
                    made
                };
                keyed.debounce_with(4, NOW, NEVER, make, |_| {});
                made
            });
            let (report, mut left) = end(&keyed).await;
            let inserted: usize = inserts.map(|insert| insert.join().unwrap()).iter().sum();
            let accepted = inserted + debounce.join().unwrap();
            if let Some(report) = report {
                assert_eq!(report.dropped, left.len(), "{report:?}, {left:?}");
                assert!(keyed.is_empty());
            }
            left.extend(keyed.drain_values());
            keyed.shutdown(NOW).await;
            let left: usize = left.iter().map(|(_, value)| value).sum();
            let handled = handled.all();
            assert_eq!((handled & left, handled | left), (0, 1 | accepted));
            let stats = keyed.stats();
            let ended = u64::from(accepted.count_ones()) + 1;
            assert_eq!(
                (stats.finished + stats.cancelled, stats.pending),
                (ended, 0)
            );
        });
    });
}

#[test]
fn every_value_beside_a_drain_is_handled_or_given_back() {
    end_beside_inserts(async |keyed| {
        let (report, left) = keyed.drain(NOW).await;
        (Some(report), left)
    });
}

#[test]
fn every_value_beside_a_shutdown_is_handled_or_given_back() {
    end_beside_inserts(async |keyed| {
        let (report, left) = keyed.shutdown(NEVER).await;
        (Some(report), left)
    });
}

#[test]
fn every_value_beside_a_cancel_is_handled_or_left() {
    end_beside_inserts(async |keyed| {
        keyed.cancel();
        let waited = keyed.wait().await;
        assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
        (None, Vec::new())
    });
}

/// What is taken out takes its job with it: nothing is pending then.
#[test]
fn every_value_beside_drained_values_is_handled_or_given_back() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(1, 1, NEVER, REPLACE);
            let inserts = [(2, 2, NOW), (3, 4, NEVER)].map(|(key, value, due)| {
                beside(&keyed, move |keyed| {
                    let inserted = keyed.insert_after(key, value, due, REPLACE);
                    assert_eq!(inserted, Inserted::New);
                })
            });
            let mut left = keyed.drain_values();
            for insert in inserts {
                insert.join().unwrap();
            }
            left.extend(keyed.drain_values());
            keyed
                .wait()
                .await
                .expect("nothing is left, and no handler panics");
            let left: usize = left.iter().map(|(_, value)| value).sum();
            assert_eq!((handled.all() & left, handled.all() | left), (0, 7));
        });
    });
}

/// Handles stay, so nothing but the end of the group drops what is left in the table.
#[test]
fn every_value_beside_the_drop_of_its_group_is_dropped() {
    explore(|| {
        let ledger = Ledger::default();
        let value = |ledger: &Ledger| {
            ledger.accepted.fetch_add(1, SeqCst);
            Entry(ledger.clone())
        };
        let (kept, insert) = future::block_on(async {
            let log = ledger.clone();
            let keyed = KeyedGroup::with_handler(
                move |context: KeyedContext<u8, Entry>, key, entry: Entry| {
                    let log = log.clone();
                    async move {
                        future::yield_now().await;
                        if log.ran.fetch_add(1, SeqCst) < 2 {
                            let _ = context.insert_after(key, value(&log), NEVER, REPLACE);
                        }
                        drop(entry);
                    }
                },
            );
            keyed.insert_after(1, value(&ledger), NEVER, REPLACE);
            keyed.insert_after(2, value(&ledger), NOW, REPLACE);
            let (handle, log) = (keyed.handle(), ledger.clone());
            let insert = thread::spawn(move || {
                let _ = handle.insert_after(3, value(&log), NOW, REPLACE);
                let _ = handle.insert_after(4, value(&log), NEVER, REPLACE);
            });
            (keyed.handle(), insert)
        });
        insert.join().unwrap();
        // The driver drops what was pending in a turn of its own, and stops the handlers.
        let is_even = || matches!(ledger.counts(), (accepted, _, gone) if accepted == gone);
        while !(is_even() && kept.is_empty()) {
            thread::yield_now();
        }
    });
}

/// What calls its group when it is dropped: under a lock of either kind that is a panic or a deadlock.
#[derive(Clone)]
struct Calls {
    keyed: Arc<OnceLock<KeyedHandle<Key, Calls>>>,
    failed: Arc<AtomicUsize>,
    /// Counts it, once for all clones.
    _entry: Arc<Entry>,
}

impl Drop for Calls {
    fn drop(&mut self) {
        let called = catch_unwind(AssertUnwindSafe(|| {
            let keyed = self.keyed.get().expect("it is set at the beginning");
            keyed.len() + keyed.stats().pending
        }));
        self.failed.fetch_add(usize::from(called.is_err()), SeqCst);
    }
}

#[derive(Clone)]
struct Key {
    name: u8,
    _calls: Calls,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.name.hash(hasher);
    }
}

impl Borrow<u8> for Key {
    fn borrow(&self) -> &u8 {
        &self.name
    }
}

#[test]
fn keys_and_values_are_dropped_under_no_lock() {
    explore(|| {
        future::block_on(async {
            let (ledger, handle) = (Ledger::default(), Arc::new(OnceLock::new()));
            let failed = Arc::new(AtomicUsize::new(0));
            let keyed = KeyedGroup::builder().exclusive().build_with(
                |_, key: Key, value: Calls| async move {
                    future::yield_now().await;
                    drop((key, value));
                },
            );
            let value = || Calls {
                keyed: Arc::clone(&handle),
                failed: Arc::clone(&failed),
                _entry: Arc::new(Entry(ledger.clone())),
            };
            let key = |name| Key {
                name,
                _calls: value(),
            };
            handle.set(keyed.handle()).ok();
            keyed.insert_after(key(1), value(), NEVER, REPLACE);
            keyed.insert_after(key(KEY), value(), NOW, REPLACE);
            let (replaces, removes) = (keyed.handle(), keyed.handle());
            let [one, other] = [(); 2].map(|()| (key(KEY), value()));
            let replace = thread::spawn(move || {
                drop(replaces.insert_after(one.0, one.1, NOW, REPLACE));
                drop(replaces.debounce(other.0, NOW, NOW, other.1));
            });
            let remove = thread::spawn(move || drop(removes.remove(&KEY)));
            future::yield_now().await;
            drop(keyed);
            replace.join().unwrap();
            remove.join().unwrap();
            while ledger.counts().2 < 8 {
                thread::yield_now();
            }
            assert_eq!(failed.load(SeqCst), 0, "under a lock");
        });
    });
}

#[test]
fn an_entry_that_expires_beside_its_keys_run_runs_after_it() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = alone(KeyedGroup::builder());
            keyed.insert_after(KEY, 1, NOW, REPLACE);
            let insert = beside(&keyed, |keyed| {
                let inserted = keyed.insert_after(KEY, 2, NEVER, REPLACE);
                keyed.expire(&KEY);
                returned(inserted) + returned(keyed.insert_after(KEY, 4, NOW, REPLACE))
            });
            let returned = insert.join().unwrap();
            keyed.wait().await.expect("no two runs overlap");
            assert_eq!((handled.all() & returned, handled.all() | returned), (0, 7));
        });
    });
}

/// Blocked entries are due, and a slot is not theirs: with one slot they let others by.
#[test]
fn entries_that_wait_for_a_run_are_moved_and_removed_beside_its_end() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = alone(KeyedGroup::builder().max_running(1));
            for value in [1, 2, 4] {
                keyed.insert_after(KEY, value, NEVER, REPLACE);
                assert!(keyed.expire(&KEY));
            }
            keyed.insert_after(KEY, 8, NOW, REPLACE);
            let reset = beside(&keyed, |keyed| keyed.reset_after(&KEY, NOW));
            let remove = beside(&keyed, |keyed| keyed.remove(&KEY).unwrap_or(0));
            keyed.wait().await.expect("no two runs overlap");
            reset.join().unwrap();
            let removed = remove.join().unwrap();
            assert_eq!((handled.all() & removed, handled.all() | removed), (0, 15));
        });
    });
}

#[test]
fn an_abort_beside_the_end_of_a_keys_run_hits_it_alone() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = alone(KeyedGroup::builder());
            for value in [1, 2] {
                keyed.insert_after(KEY, value, NEVER, REPLACE);
                assert!(keyed.expire(&KEY));
            }
            let abort = beside(&keyed, |keyed| u64::from(keyed.abort(&KEY)));
            keyed.wait().await.expect("an abort is no error");
            let aborted = abort.join().unwrap();
            let stats = keyed.stats();
            assert!(stats.cancelled <= aborted, "{stats:?}, aborted: {aborted}");
            assert_eq!((handled.all(), stats.finished + stats.cancelled), (3, 2));
            assert!(!keyed.abort(&KEY), "no run is left");
        });
    });
}

/// What waits for a run in a group that is cancelled beside its end is left, and the group ends.
#[test]
fn a_cancel_beside_entries_that_wait_for_a_run_loses_none() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = alone(KeyedGroup::builder());
            for value in [1, 2, 4] {
                keyed.insert_after(KEY, value, NEVER, REPLACE);
                assert!(keyed.expire(&KEY));
            }
            let cancel = beside(&keyed, |keyed| {
                thread::yield_now();
                keyed.token().cancel();
            });
            // It may have ended by itself before.
            let waited = keyed.wait().await;
            cancel.join().unwrap();
            let (_, left) = keyed.shutdown(NOW).await;
            let left: usize = left.iter().map(|(_, value)| value).sum();
            let handled = handled.all();
            assert_eq!((handled & left, handled | left), (0, 7), "{waited:?}");
            assert!(waited.is_err() || left == 0, "{waited:?}, left: {left}");
        });
    });
}

/// Three expired entries of one key and a pending one, which wait for each other's runs beside `calls`; the values that
/// these took out.
fn queue_beside<const N: usize>(calls: [fn(KeyedHandle<u8, usize>) -> usize; N]) {
    explore(move || {
        future::block_on(async {
            let (keyed, handled) = alone(KeyedGroup::builder());
            for value in [1, 2, 4] {
                keyed.insert_after(KEY, value, NEVER, REPLACE);
                assert!(keyed.expire(&KEY));
            }
            keyed.insert_after(KEY, 8, NOW, REPLACE);
            let calls = calls.map(|call| beside(&keyed, call));
            let out: usize = calls.map(|call| call.join().unwrap()).iter().sum();
            keyed.wait().await.expect("an abort is no error");
            assert_eq!((handled.all() & out, handled.all() | out), (0, 15));
            assert_eq!((keyed.len(), keyed.stats().pending), (0, 0));
        });
    });
}

fn take_all(keyed: KeyedHandle<u8, usize>) -> usize {
    keyed
        .drain_values()
        .into_iter()
        .map(|(_, value)| value)
        .sum()
}

fn remove(keyed: KeyedHandle<u8, usize>) -> usize {
    keyed.remove(&KEY).unwrap_or(0)
}

fn abort(keyed: KeyedHandle<u8, usize>) -> usize {
    keyed.abort(&KEY);
    0
}

#[test]
fn values_that_are_taken_out_beside_a_keys_runs_leave_their_turns_to_the_others() {
    queue_beside([take_all]);
}

#[test]
fn a_remove_of_the_pending_entry_beside_an_abort_leaves_the_queue_whole() {
    queue_beside([remove, abort]);
}

#[test]
fn values_that_are_taken_out_beside_an_abort_leave_their_turns_to_the_others() {
    queue_beside([take_all, abort]);
}

/// Their rows are used again, also by another key, while the queue still has the former entries.
#[test]
fn entries_that_come_after_a_queue_was_taken_out_have_their_own_turns() {
    explore(|| {
        future::block_on(async {
            let (handled, running) = (Handled::default(), [(); 2].map(|()| Arc::default()));
            let log = handled.clone();
            let keyed: Keyed =
                KeyedGroup::builder()
                    .exclusive()
                    .build_with(move |_, key: u8, value| {
                        let guard = Alone::begin(&running[usize::from(key - KEY)]);
                        log.note(value);
                        async move {
                            future::yield_now().await;
                            drop(guard);
                        }
                    });
            for value in [1, 2, 4] {
                keyed.insert_after(KEY, value, NEVER, REPLACE);
                assert!(keyed.expire(&KEY));
            }
            let out = beside(&keyed, |keyed| {
                let out = take_all(keyed.clone());
                for (key, value) in [(KEY, 8), (KEY + 1, 16), (KEY, 32), (KEY + 1, 64)] {
                    keyed.insert_after(key, value, NEVER, REPLACE);
                    assert!(keyed.expire(&key));
                }
                out
            });
            let out = out.join().unwrap();
            keyed.wait().await.expect("no two runs of a key overlap");
            assert_eq!((handled.all() & out, handled.all() | out), (0, 127));
        });
    });
}

/// Nothing but the end of the group drops what waits for a run.
#[test]
fn entries_that_wait_for_a_run_are_dropped_with_their_group() {
    explore(|| {
        let (ledger, kept) = (Ledger::default(), Arc::new(OnceLock::new()));
        let handle = Arc::clone(&kept);
        let entries = ledger.clone();
        future::block_on(async move {
            let log = entries.clone();
            let builder = KeyedGroup::builder().exclusive();
            let keyed = builder.build_with(move |_, _: u8, entry: Entry| {
                log.ran.fetch_add(1, SeqCst);
                async move {
                    future::yield_now().await;
                    drop(entry);
                }
            });
            for _ in 0..3 {
                entries.accepted.fetch_add(1, SeqCst);
                keyed.insert_after(KEY, Entry(entries.clone()), NEVER, REPLACE);
                assert!(keyed.expire(&KEY));
            }
            handle.set(keyed.handle()).ok();
            future::yield_now().await;
        });
        // The driver drops what was pending in a turn of its own, and stops the run.
        while ledger.counts().2 < 3 {
            thread::yield_now();
        }
        assert!(kept.get().is_some_and(KeyedHandle::is_empty));
    });
}

/// The last entry is removed beside a cancel: whichever comes first ends the group, and `wait` tells which.
#[test]
fn a_remove_of_the_last_entry_beside_a_cancelled_token_is_seen_by_the_wait_in_order() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(KEY, 1, NEVER, REPLACE);
            let token = keyed.token();
            let cancelled = Arc::new(AtomicUsize::new(0));
            let cancels = {
                let cancelled = Arc::clone(&cancelled);
                thread::spawn(move || {
                    token.cancel();
                    cancelled.store(1, SeqCst);
                })
            };
            let removes = beside(&keyed, move |keyed| {
                let was_cancelled = cancelled.load(SeqCst) == 1;
                (was_cancelled, keyed.remove(&KEY))
            });
            let waited = keyed.wait().await;
            cancels.join().unwrap();
            let (was_cancelled, removed) = removes.join().unwrap();
            assert!(!was_cancelled || waited.is_err(), "{waited:?}");
            assert_eq!((handled.all(), removed), (0, Some(1)), "{waited:?}");
            let stats = keyed.stats();
            assert_eq!((stats.cancelled, stats.finished, stats.pending), (1, 0, 0));
        });
    });
}

/// The keys are cloned under no lock while their rows go, and others come into the same rows.
#[test]
fn lists_of_keys_beside_changes_leave_the_entries_whole() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = logging();
            keyed.insert_after(1, 1, NEVER, REPLACE);
            keyed.insert_after(2, 2, NEVER, REPLACE);
            let change = beside(&keyed, |keyed| {
                assert_eq!(keyed.remove(&1), Some(1));
                assert_eq!(keyed.insert_after(3, 4, NEVER, REPLACE), Inserted::New);
            });
            let list = beside(&keyed, |keyed| keyed.keys());
            assert!(keyed.keys().contains(&2));
            assert!(list.join().unwrap().contains(&2));
            change.join().unwrap();
            let mut keys = keyed.keys();
            keys.sort_unstable();
            assert_eq!(keys, [2, 3]);
            assert!(keyed.expire(&2) && keyed.expire(&3));
            keyed.wait().await.expect("no handler panics");
            assert_eq!((handled.all(), keyed.len()), (6, 0));
        });
    });
}

/// Entries in a group of somebody else, whose handles go beside their starts: those that wait keep their table, and
/// none keeps it any longer. Another one gets its number afterwards.
#[test]
fn entries_run_though_their_last_handle_goes() {
    explore(|| {
        future::block_on(async {
            let (group, handled, ledger) = (Group::new(), Handled::default(), Ledger::default());
            let tables = [(1, false), (2, false), (4, true)].map(|(value, removes)| {
                let (handle, log, entry) = (group.handle(), handled.clone(), Entry(ledger.clone()));
                thread::spawn(move || {
                    let entries = KeyedGroup::builder().on_with(&handle, move |_, _, value| {
                        let _ = &entry;
                        log.note(value);
                        async {}
                    });
                    let due = if removes { NEVER } else { NOW };
                    assert_eq!(
                        entries.insert_after(KEY, value, due, REPLACE),
                        Inserted::New
                    );
                    assert!(!removes || entries.remove(&KEY) == Some(value));
                })
            });
            for table in tables {
                table.join().unwrap();
            }
            group.wait().await.expect("no handler panics");
            assert_eq!(handled.all(), 3);
            // A worker may be about to let go of its table.
            while ledger.counts().2 < 3 {
                thread::yield_now();
            }
        });
    });
}

/// It may fall due just after the shutdown, which then drops it. What was due before it still has its turn.
#[test]
fn an_entry_that_falls_due_beside_a_shutdown_holds_up_none_that_waits_for_the_same_run() {
    explore(|| {
        future::block_on(async {
            let (keyed, handled) = alone(KeyedGroup::builder());
            for value in [1, 2] {
                keyed.insert_after(KEY, value, NOW, REPLACE);
                // An expired one is not replaced.
                keyed.expire(&KEY);
            }
            let insert = beside(&keyed, |keyed| {
                returned(keyed.insert_after(KEY, 4, NOW, REPLACE))
            });
            let (_, left) = keyed.shutdown(NEVER).await;
            let back = insert.join().unwrap();
            let left: usize = left.into_iter().map(|(_, value)| value).sum();
            assert_eq!(handled.all() + left + back, 7, "{handled:?}");
            assert_eq!(handled.all() & 3, 3, "they were due");
        });
    });
}
