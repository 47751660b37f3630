//! Code of the user that panics or calls back: methods of keys, destructors, closures, hashers and wakers.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use crate::common::{
    Flag, HOUR, Hold, Key, Log, OnDrop, Woken, bounded, ms, multi_thread, panic_of, settle,
    twice_panicking, until, watched,
};
use schedgroup::keyed::OnDuplicate::{Keep, Replace};
use schedgroup::keyed::{KeyedContext, KeyedGroup, KeyedHandle};
use schedgroup::{Group, WaitError};
use tokio::time::{Instant, sleep};

use super::logging;

/// A key whose methods do what they are told, by name.
struct Odd {
    name: u32,
    on: Arc<Mutex<Option<Call>>>,
}

type Call = (&'static str, Box<dyn FnMut() + Send>);

impl Odd {
    /// One that does nothing else.
    fn quiet(name: u32) -> Odd {
        Odd::on(name, &Arc::default())
    }

    fn on(name: u32, on: &Arc<Mutex<Option<Call>>>) -> Odd {
        let on = Arc::clone(on);
        Odd { name, on }
    }

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
                    keyed.insert_after(Odd { name, on }, name, HOUR, Replace);
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
                    panic.line < line && panic.file.ends_with("user_code.rs"),
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

/// The closures and `Eq` run under the lock that is needed to drop the entries.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_dropped_under_the_lock_drops_its_entries_after_it() {
    type Entries = KeyedHandle<Odd, Arc<()>>;
    type End = Box<dyn FnMut() + Send>;
    type Caller = fn(&Entries, Odd, End);
    let callers: [(&str, Caller); 6] = [
        ("with", |entries, key, mut end| {
            _ = entries.with(&key, |_| end())
        }),
        ("with that panics", |entries, key, mut end| {
            let look = |_: &mut Arc<()>| {
                end();
                panic!("looked");
            };
            assert_eq!(panic_of(|| entries.with(&key, look)).message, "looked");
        }),
        ("update", |entries, key, mut end| {
            assert!(entries.debounce_with(key, HOUR, HOUR, || panic!("make"), |_| end()));
        }),
        ("make", |entries, mut key, mut end| {
            key.name = 2;
            let make = || {
                end();
                Arc::new(())
            };
            assert!(entries.debounce_with(key, HOUR, HOUR, make, |_| panic!("update")));
        }),
        ("make that panics", |entries, mut key, mut end| {
            key.name = 2;
            let make = || {
                end();
                panic!("made");
            };
            let panic = panic_of(|| entries.debounce_with(key, HOUR, HOUR, make, |_| {}));
            assert_eq!(panic.message, "made");
        }),
        ("eq", |entries, key, end| {
            *key.on.lock().unwrap() = Some(("eq", end));
            assert!(entries.contains_key(&key));
        }),
    ];
    for (caller, call) in callers {
        let keyed = KeyedGroup::with_handler(|_, _: Odd, _: Arc<()>| async {});
        let (entries, value, on) = (keyed.handle(), Arc::new(()), Arc::default());
        keyed.insert_after(Odd::on(1, &on), Arc::clone(&value), HOUR, Replace);
        let mut keyed = Some(keyed);
        call(
            &entries,
            Odd::on(1, &on),
            Box::new(move || drop(keyed.take())),
        );
        let (len, held) = (entries.len(), Arc::strong_count(&value) - 1);
        assert_eq!((len, held), (0, 0), "{caller}");
        assert!(entries.drain_values().is_empty(), "{caller}");
    }
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

/// A removed key, that of a run, and those that go with the group.
#[tokio::test(start_paused = true)]
async fn a_key_may_panic_wherever_it_is_dropped() {
    for exclusive in [false, true] {
        let builder = KeyedGroup::builder();
        let handler = |_, key: Key, _: u64| {
            std::mem::forget(key);
            async {}
        };
        let keyed = match exclusive {
            true => builder.exclusive().build_with(handler),
            false => builder.build_with(handler),
        };
        for value in 0..4 {
            keyed.insert_after(Key(value, true), value, (value as u32) * ms(5), Replace);
        }
        let wanted = ManuallyDrop::new(Key(0, true));
        assert_eq!(keyed.remove(&*wanted), Some(0), "exclusive: {exclusive}");
        sleep(ms(7)).await;
        let stats = keyed.stats();
        assert_eq!(
            (stats.finished, stats.panicked),
            (1, 0),
            "exclusive: {exclusive}"
        );
        drop(keyed);
    }
}

/// The list shares them, so it has them last.
#[tokio::test(start_paused = true)]
async fn keys_that_are_removed_while_they_are_listed_may_call_back_and_panic_when_they_are_dropped()
{
    let keyed = Arc::new(KeyedGroup::with_handler(|_, _: Odd, _: u32| async {}));
    let calls: [Arc<Mutex<Option<Call>>>; 2] = Default::default();
    for (name, on) in (0..).zip(calls.iter().map(Arc::clone)) {
        keyed.insert_after(Odd { name, on }, name, HOUR, Replace);
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let (of_keys, group, drops) = (calls.clone(), Arc::clone(&keyed), Arc::clone(&dropped));
    let remove = move || {
        for (name, on) in (0..).zip(of_keys.iter().map(Arc::clone)) {
            assert_eq!(group.remove(&Odd::quiet(name)), Some(name));
            let (group, drops) = (Arc::clone(&group), Arc::clone(&drops));
            let boom = move || {
                drops.fetch_add(1 + group.len(), SeqCst);
                panic!("in a destructor");
            };
            *on.lock().unwrap() = Some(("drop", Box::new(boom)));
        }
    };
    *calls[1].lock().unwrap() = Some(("clone", Box::new(remove)));
    assert_eq!(keyed.keys().len(), 2);
    assert_eq!(dropped.load(SeqCst), 2);
}

/// A list has the key too, and has let go of it when the clone is there.
#[test]
fn a_key_that_is_cloned_beside_a_list_may_panic_when_it_is_dropped() {
    const PATIENCE: Duration = Duration::from_secs(60);
    for clone_panics in [false, true] {
        multi_thread().block_on(bounded(async {
            let keyed = Arc::new(KeyedGroup::with_handler(|_, _: Odd, _: u8| async {}));
            let on = Arc::new(Mutex::new(None));
            keyed.insert_after(Odd::on(1, &on), 1, HOUR, Replace);
            let (listing, is_listed) = std::sync::mpsc::channel();
            let (done, is_done) = std::sync::mpsc::channel();
            let in_list = move || {
                listing.send(()).expect("the test waits");
                let waited = is_done.recv_timeout(PATIENCE);
                waited.expect("the key is cloned once more");
            };
            *on.lock().unwrap() = Some(("clone", Box::new(in_list) as _));
            let group = Arc::clone(&keyed);
            let mut list = Some(std::thread::spawn(move || group.keys().len()));
            let listed = is_listed.recv_timeout(PATIENCE);
            listed.expect("the list clones the key");
            let (dropped, drops) = (Arc::new(AtomicBool::new(false)), Arc::clone(&on));
            let was_dropped = Arc::clone(&dropped);
            let let_go = move || {
                done.send(()).expect("the list waits");
                let list = list.take().expect("it is called once");
                assert_eq!(list.join().expect("it ends"), 1);
                let dropped = Arc::clone(&dropped);
                let bomb = move || -> () {
                    dropped.store(true, SeqCst);
                    panic!("in a destructor")
                };
                *drops.lock().unwrap() = Some(("drop", Box::new(bomb) as _));
                assert!(!clone_panics, "boom");
            };
            *on.lock().unwrap() = Some(("clone", Box::new(let_go)));
            if clone_panics {
                assert!(keyed.expire(&Odd::quiet(1)));
                let result = keyed.wait().await;
                assert!(
                    matches!(&result, Err(WaitError::Panicked(panic)) if panic.message() == "boom")
                );
            } else {
                let left = keyed.drain_values();
                assert!(
                    left.iter()
                        .map(|(key, value)| (key.name, *value))
                        .eq([(1, 1)])
                );
            }
            assert!(was_dropped.load(SeqCst), "clone panics: {clone_panics}");
        }));
    }
}

/// What it wakes is woken before the key is dropped.
#[tokio::test(start_paused = true)]
async fn a_destructor_of_a_key_that_is_removed_holds_up_no_wait() {
    let keyed = KeyedGroup::with_handler(|_, _: Odd, _: u8| async {});
    let (woken, on) = (Arc::new(Woken::default()), Arc::new(Mutex::new(None)));
    keyed.insert_after(Odd::on(1, &on), 1, HOUR, Replace);
    let mut wait = pin!(keyed.wait());
    let waker = Arc::clone(&woken).into();
    assert!(
        wait.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let times = Arc::new(AtomicUsize::new(0));
    let (seen, waker) = (Arc::clone(&times), Arc::clone(&woken));
    let look = move || seen.store(waker.times(), SeqCst);
    *on.lock().unwrap() = Some(("drop", Box::new(look)));
    assert_eq!(keyed.remove(&Odd::quiet(1)), Some(1));
    assert_eq!((times.load(SeqCst), woken.times()), (1, 1));
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

#[tokio::test(start_paused = true)]
async fn a_value_whose_eq_panics_as_it_starts_may_call_back_when_it_is_dropped() {
    let builder = KeyedGroup::builder().exclusive();
    let keyed = builder.build_with(|_, _: Odd, _: Bomb| sleep(ms(10)));
    let (on, pending) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let value = OnDrop(Box::new(|| ()) as Box<dyn FnMut() + Send>);
    keyed.insert_after(Odd::on(1, &on), value, Duration::ZERO, Replace);
    settle().await;
    let (entries, seen) = (keyed.handle(), Arc::clone(&pending));
    let look = move || {
        let len = entries.len();
        *seen.lock().unwrap() = Some(len);
    };
    keyed.insert_after(Odd::on(1, &on), OnDrop(Box::new(look)), ms(5), Replace);
    *on.lock().unwrap() = Some(("eq", Box::new(|| panic!("boom"))));
    sleep(ms(7)).await;
    assert_eq!(*pending.lock().unwrap(), Some(0));
}

/// A drain takes the entries out in steps. Here one that may start is taken out by the last step. Behind it waits one that
/// was inserted meanwhile, in a row that an earlier step has passed.
#[test]
fn an_entry_that_is_inserted_during_a_drain_starts_though_the_one_before_it_is_taken_out() {
    watched(|| {
        let (runtime, begun) = (multi_thread(), Instant::now());
        let _inside = runtime.enter();
        let (run, jobs, log) = (Hold::new(), [(); 2].map(|()| Hold::new()), Log::new());
        let (held, handled) = (run.clone(), log.clone());
        let builder = KeyedGroup::builder().exclusive().max_running(2);
        let keyed = Arc::new(builder.build_with(move |_, _: Odd, value: u32| {
            handled.push(value);
            let run = (value == 1).then(|| held.job());
            async move {
                if let Some(run) = run {
                    run.await;
                }
            }
        }));
        let expire = |keyed: &KeyedGroup<Odd, u32>, value| {
            keyed.insert_after(Odd::quiet(1), value, HOUR, Replace);
            assert!(keyed.expire(&Odd::quiet(1)));
        };
        expire(&keyed, 1);
        runtime.block_on(bounded(run.started()));
        let on = Arc::new(Mutex::new(None));
        keyed.insert_after(Odd::on(0, &on), 0, HOUR, Replace);
        for name in 2..=512 {
            keyed.insert_after(Odd::quiet(name), 0, HOUR, Replace);
        }
        expire(&keyed, 2);
        runtime.block_on(until("it waits", || keyed.stats().waiting == 1));
        let (group, of_jobs, inside) = (Arc::clone(&keyed), jobs.clone(), runtime.handle().clone());
        let insert = move || {
            expire(&group, 3);
            let handle: &schedgroup::Handle = (*group).as_ref();
            // It has the other slot, so the entry has been found to wait for the run.
            handle.delay(Duration::ZERO, of_jobs[0].job());
            inside.block_on(bounded(of_jobs[0].started()));
            // It was due before both, so it gets the slot of the run.
            handle.schedule(begun, of_jobs[1].job());
            inside.block_on(until("all wait", || group.stats().waiting == 3));
            run.release();
            inside.block_on(bounded(of_jobs[1].started()));
        };
        // The drain clones the first key, since a list has it.
        let (group, of_key, left) = (
            Arc::clone(&keyed),
            Arc::clone(&on),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (drained, mut insert) = (Arc::clone(&left), Some(insert));
        let drain = move || {
            let insert = insert.take().expect("it is called once");
            *of_key.lock().unwrap() = Some(("clone", Box::new(insert)));
            *drained.lock().unwrap() = group.drain_values();
        };
        *on.lock().unwrap() = Some(("clone", Box::new(drain)));
        assert_eq!(
            keyed.keys().len(),
            511,
            "of the first step, without the run"
        );
        let values: u32 = left.lock().unwrap().iter().map(|(_, value)| value).sum();
        assert_eq!((left.lock().unwrap().len(), values), (513, 2));
        jobs.iter().for_each(Hold::release);
        runtime.block_on(until("it runs", || log.len() == 2));
        assert_eq!(log.labels(), [1, 3]);
    });
}
