//! Whole lives of keyed groups that share a scheduling group: handlers that call anything themselves, beside threads that
//! do too, and then any of the ends. Each value is accounted for.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup, KeyedHandle, OnDuplicate};
use schedgroup::{Group, WaitError};
use shuttle::{future, thread};

use crate::lives::{Gate, is_far, random, when};
use crate::{NEVER, NOW, explore};

const KEYS: usize = 2;
/// There are no more values than this. They are bits of a number.
const VALUES: usize = 60;

type Entries = KeyedHandle<u8, Value>;

#[derive(Default)]
struct World {
    limit: usize,
    is_exclusive: [bool; 2],
    panics: bool,
    /// Runs, by keyed group and key.
    running: [[AtomicUsize; KEYS]; 2],
    made: AtomicUsize,
    /// The values that were handled or have come back, and those that were dropped.
    seen: AtomicU64,
    gone: AtomicU64,
    /// No handler may start or go on any more.
    over: AtomicBool,
    handles: Mutex<Vec<Entries>>,
    gate: Gate,
}

/// A value. Its drop may drop a handle of its group.
struct Value(u64, Arc<World>);

impl Drop for Value {
    fn drop(&mut self) {
        if random(4) == 0 {
            thread::yield_now();
            drop(self.1.pop_handle());
        }
        let before = self.1.gone.fetch_or(self.0, SeqCst);
        assert_eq!(before & self.0, 0);
    }
}

/// A run that goes on, until it is dropped.
struct Run(Arc<World>, usize, u8);

impl Run {
    fn begin(world: &Arc<World>, table: usize, key: u8) -> Run {
        let run = Run(Arc::clone(world), table, key);
        let of_key = run.of_key().fetch_add(1, SeqCst);
        assert!(of_key == 0 || !world.is_exclusive[table], "two of {key}");
        let all = world.running.as_flattened().iter();
        let running = all.map(|count| count.load(SeqCst)).sum::<usize>();
        assert!(running <= world.limit, "{running} run");
        run
    }

    fn of_key(&self) -> &AtomicUsize {
        &self.0.running[self.1][usize::from(self.2)]
    }

    async fn go(self, context: KeyedContext<u8, Value>, value: Value) {
        let world = &self.0;
        world.note(value);
        for _ in 0..random(4) {
            assert!(!world.over.load(SeqCst), "it goes on after the end");
            match random(8) {
                0 | 1 => future::yield_now().await,
                2 => thread::yield_now(),
                3 => world.gate.pass().await,
                4 if world.panics && random(3) == 0 => resume_unwind(Box::new("planned")),
                _ => world.call(&context.handle()),
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.of_key().fetch_sub(1, SeqCst);
    }
}

impl World {
    fn make(self: &Arc<World>) -> Option<Value> {
        let made = |made| (made < VALUES).then_some(made + 1);
        let number = self.made.fetch_update(SeqCst, SeqCst, made).ok()?;
        Some(Value(1 << number, Arc::clone(self)))
    }

    /// All values that were made.
    fn all(&self) -> u64 {
        (1 << self.made.load(SeqCst)) - 1
    }

    fn note(&self, value: Value) {
        let before = self.seen.fetch_or(value.0, SeqCst);
        assert_eq!(before & value.0, 0, "it was seen before");
    }

    fn returned(&self, inserted: Inserted<Value>) {
        match inserted {
            Inserted::New => {}
            Inserted::Replaced(value) | Inserted::Kept(value) | Inserted::Rejected(value) => {
                self.note(value);
            }
            _ => unreachable!("there are no others"),
        }
    }

    fn pop_handle(&self) -> Option<Entries> {
        self.handles.lock().unwrap().pop()
    }

    fn call(self: &Arc<World>, keyed: &Entries) {
        use OnDuplicate::{Keep, KeepEarliest, KeepLatest, Replace};
        // Mostly the first, so that entries meet.
        let key = u8::from(random(4) == 0);
        match random(17) {
            0..=3 => {
                let rule = [Replace, Keep, KeepEarliest, KeepLatest][random(4)];
                if let Some(value) = self.make() {
                    self.returned(keyed.insert_after(key, value, when(), rule));
                }
            }
            4 => {
                if let Some(value) = self.make() {
                    self.returned(keyed.debounce(key, when(), NEVER, value));
                }
            }
            5 => {
                let mut value = self.make();
                if value.is_some() {
                    let make = || value.take().unwrap();
                    keyed.debounce_with(key, when(), NEVER, make, |_| ());
                }
                value.into_iter().for_each(|value| self.note(value));
            }
            6 | 7 => {
                let removed = keyed.remove(&key).into_iter();
                removed.for_each(|value| self.note(value));
            }
            8..=10 => _ = keyed.expire(&key),
            11 => _ = keyed.reset_after(&key, when()),
            12 => _ = (keyed.keys(), keyed.len(), keyed.deadline(&key)),
            13 => self.drain(keyed),
            14 => _ = keyed.abort(&key),
            15 => {
                let clone = keyed.clone();
                self.handles.lock().unwrap().push(clone);
            }
            _ => {
                self.gate.open(false);
                let stats = keyed.stats();
                assert!(stats.waiting <= stats.pending, "{stats:?}");
                assert!(stats.running <= self.limit, "{stats:?}");
            }
        }
    }

    fn drain(&self, keyed: &Entries) {
        let left = keyed.drain_values().into_iter();
        left.for_each(|(_, value)| self.note(value));
    }
}

/// Expires what is due never.
fn hurry(keyed: &Entries) {
    for key in 0..KEYS as u8 {
        if keyed.deadline(&key).is_some_and(is_far) {
            keyed.expire(&key);
        }
    }
}

/// Ends the group. Returns whether each entry was handled, if it was not taken out.
async fn end(group: &Group, kind: usize, grace: Duration) -> bool {
    match kind {
        0 => {
            match group.wait().await {
                Ok(()) => assert_eq!(group.stats().panicked, 0),
                Err(WaitError::Panicked(panic)) => assert_eq!(panic.message(), "planned"),
                Err(error) => panic!("{error}"),
            }
            return true;
        }
        1 => _ = group.drain(grace).await,
        2 => _ = group.shutdown(grace).await,
        _ => {
            group.cancel();
            let waited = group.wait().await;
            assert!(matches!(waited, Err(WaitError::Cancelled)), "{waited:?}");
            group.shutdown(NEVER).await;
        }
    }
    false
}

async fn live(is_exclusive: bool) {
    let world = Arc::new(World {
        limit: [usize::MAX, 1, 2][random(3)],
        is_exclusive: [is_exclusive, is_exclusive && random(2) == 0],
        panics: random(4) == 0,
        ..World::default()
    });
    let mut builder = Group::builder();
    if world.limit < usize::MAX {
        builder = builder.max_running(world.limit);
    }
    let group = builder.build();
    let table = |table: usize| {
        // Values hold the world as well, and are held by the group.
        let of_handler = Arc::downgrade(&world);
        let builder = KeyedGroup::<u8, Value>::builder();
        let builder = match world.is_exclusive[table] {
            true => builder.exclusive(),
            false => builder,
        };
        builder.on_with(&group, move |context, key, value| {
            let world = of_handler.upgrade().expect("it outlives the group");
            assert!(!world.over.load(SeqCst), "it starts after the end");
            Run::begin(&world, table, key).go(context, value)
        })
    };
    let tables: Vec<_> = (0..1 + random(2)).map(table).collect();
    (0..2 + random(5)).for_each(|_| world.call(&tables[random(tables.len())]));
    let threads: Vec<_> = (0..1 + random(2))
        .map(|_| {
            let (world, tables) = (Arc::clone(&world), tables.clone());
            thread::spawn(move || (0..4).for_each(|_| world.call(&tables[random(tables.len())])))
        })
        .collect();
    let (kind, grace) = (random(5), [NOW, NEVER][random(2)]);
    // What waits at the gate then goes on only if it is aborted.
    let aborts = kind == 4 || ((kind == 1 || kind == 2) && grace == NOW);
    let done = Arc::new(AtomicBool::new(false));
    let of_closer = (Arc::clone(&world), tables.clone(), Arc::clone(&done));
    let closer = thread::spawn(move || {
        let (world, tables, done) = of_closer;
        for thread in threads {
            thread.join().unwrap();
        }
        if !aborts {
            world.gate.open(true);
        }
        while !done.load(SeqCst) {
            tables.iter().for_each(hurry);
            thread::yield_now();
        }
    });
    if kind == 4 {
        drop(group);
        done.store(true, SeqCst);
        closer.join().unwrap();
        drop(tables);
        while world.gone.load(SeqCst) != world.all() {
            drop(world.pop_handle());
            thread::yield_now();
        }
        return;
    }
    let are_handled = end(&group, kind, grace).await;
    world.over.store(true, SeqCst);
    done.store(true, SeqCst);
    closer.join().unwrap();
    let seen = world.seen.load(SeqCst);
    assert!(!are_handled || seen == world.all(), "one was not handled");
    tables.iter().for_each(|keyed| world.drain(keyed));
    assert!(tables.iter().all(KeyedHandle::is_empty));
    assert_eq!(world.seen.load(SeqCst), world.all(), "each is seen");
    assert_eq!(world.gone.load(SeqCst), world.all(), "each is dropped");
    let stats = group.stats();
    assert_eq!((stats.pending, stats.running, stats.waiting), (0, 0, 0));
    let handles = std::mem::take(&mut *world.handles.lock().unwrap());
    drop(handles);
}

#[test]
fn keyed_groups_live_and_end_whatever_their_handlers_call() {
    explore(|| future::block_on(live(false)));
}

#[test]
fn exclusive_keyed_groups_live_and_end_whatever_their_handlers_call() {
    explore(|| future::block_on(live(true)));
}
