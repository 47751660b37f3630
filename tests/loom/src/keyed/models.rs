//! What may not go wrong between two takings of the table's lock, or of that and the group's.
//!
//! Values are bits, so that a set of them is a number.

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::handle::KeyedContext;
use super::key::share;
use super::rule::{Inserted, OnDuplicate};
use super::shared::{Entries, Keys};
use crate::common::time::Timestamp;
use crate::sched::Handle;
use crate::sched::models::{Group, NOW, check, check_large, join};

const KEY: u8 = 7;
const OTHER: u8 = 8;
const NEVER: Timestamp = Timestamp::NEVER;
const REPLACE: OnDuplicate = OnDuplicate::Replace;

type Hasher = BuildHasherDefault<DefaultHasher>;
type Context = KeyedContext<u8, usize, Hasher>;

/// Entries, as one of several callers has them.
#[derive(Clone)]
struct Keyed {
    keys: Arc<Keys<u8, usize, Hasher>>,
    group: Handle,
    handled: Handled,
}

/// The values that were handled, each of them once, and how many runs go on.
#[derive(Clone, Default)]
struct Handled(Arc<[AtomicUsize; 2]>);

impl Handled {
    fn note(&self, value: usize) {
        let before = self.0[0].fetch_or(value, SeqCst);
        assert_eq!(before & value, 0, "{value} is handled twice");
    }

    fn all(&self) -> usize {
        self.0[0].load(SeqCst)
    }
}

/// A run that goes on until this is dropped, and that has to be alone.
struct Alone(Handled);

impl Alone {
    fn begin(handled: &Handled) -> Alone {
        assert_eq!(handled.0[1].fetch_add(1, SeqCst), 0, "two at once");
        Alone(handled.clone())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.0[1].fetch_sub(1, SeqCst);
    }
}

impl Keyed {
    /// `then` is what a handler does beside noting its value.
    fn new(group: &Group, then: fn(&Context, usize)) -> Keyed {
        Keyed::build(group, false, then)
    }

    fn build(group: &Group, exclusive: bool, then: fn(&Context, usize)) -> Keyed {
        let (group, handled) = (group.handle(), Handled::default());
        let log = handled.clone();
        let keys = Keys::new(
            &group,
            Hasher::default(),
            exclusive.then_some(share as fn(u8) -> _),
            Box::new(move |context, _, value, guard| {
                let log = log.clone();
                let alone = exclusive.then(|| Alone::begin(&log));
                log.note(value);
                Box::pin(async move {
                    then(&context, value);
                    drop(alone);
                    drop(guard);
                })
            }),
        );
        Keyed {
            keys,
            group,
            handled,
        }
    }

    fn entries(&self) -> Entries<'_, u8, usize, Hasher> {
        Entries {
            keys: &self.keys,
            group: &self.group,
        }
    }

    fn insert(&self, value: usize, at: Timestamp) -> usize {
        returned(self.entries().insert(KEY, value, at, REPLACE))
    }

    fn remove(&self) -> usize {
        self.entries().remove(&KEY).unwrap_or(0)
    }

    /// Another key.
    fn insert_other(&self, value: usize, at: Timestamp) -> usize {
        returned(self.entries().insert(OTHER, value, at, REPLACE))
    }
}

/// What an insert took out, or did not let in.
fn returned(inserted: Inserted<usize>) -> usize {
    match inserted {
        Inserted::New => 0,
        Inserted::Replaced(value) | Inserted::Kept(value) | Inserted::Rejected(value) => value,
    }
}

fn nothing(_: &Context, _: usize) {}

#[test]
fn an_insert_beside_the_start_replaces_the_value_or_follows_it() {
    check(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NOW);
        let thread = group.thread();
        let other = keyed.clone();
        let insert = group.beside(move |_| other.insert(2, NOW));
        assert!(group.wait());
        let back = insert.join().unwrap();
        join([thread]);
        assert_eq!(keyed.handled.all() ^ back, 3, "{back} came back");
        assert_eq!(keyed.keys.len(), 0);
    });
}

#[test]
fn a_remove_beside_the_start_has_one_winner() {
    check(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NOW);
        let thread = group.thread();
        let other = keyed.clone();
        let remove = group.beside(move |_| other.remove());
        assert!(group.wait());
        let removed = remove.join().unwrap();
        join([thread]);
        assert_eq!(keyed.handled.all() + removed, 1);
    });
}

/// The cancel of an entry that is not the last is noted, and who takes the group's lock next carries it out: the wait
/// that closes the group, the worker, or the caller himself.
#[test]
fn a_removed_entry_does_not_hold_up_the_wait() {
    check_large(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NEVER);
        keyed.insert_other(2, NOW);
        let thread = group.thread();
        let other = keyed.clone();
        let remove = group.beside(move |_| other.remove());
        assert!(group.wait());
        assert_eq!(remove.join().unwrap(), 1);
        join([thread]);
        assert_eq!(keyed.handled.all(), 2);
    });
}

/// The removed one is claimed by then, or runs.
#[test]
fn a_remove_beside_the_start_has_one_winner_also_if_another_is_left() {
    check_large(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NOW);
        keyed.insert_other(2, NOW);
        let thread = group.thread();
        let other = keyed.clone();
        let remove = group.beside(move |_| other.remove());
        assert!(group.wait());
        let removed = remove.join().unwrap();
        join([thread]);
        assert_eq!(keyed.handled.all() + removed, 3);
    });
}

/// The insert takes over the slot of the removed one, if that has not been released, with the entry that the driver may
/// have in hand.
#[test]
fn what_is_inserted_after_a_remove_beside_the_start_is_handled_or_comes_back() {
    check_large(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NOW);
        keyed.insert_other(2, NOW);
        let thread = group.thread();
        let other = keyed.clone();
        let changed = group.beside(move |_| other.remove() ^ other.insert(4, NOW));
        assert!(group.wait());
        let back = changed.join().unwrap();
        join([thread]);
        assert_eq!(keyed.handled.all() ^ back, 7, "{back} came back");
        assert_eq!(keyed.keys.len(), 0);
    });
}

/// What was expired is final: it runs, though the other call moves it to never.
#[test]
fn a_reset_beside_an_expire_does_not_undo_it() {
    check(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NEVER);
        let thread = group.thread();
        let other = keyed.clone();
        let reset = group.beside(move |_| other.entries().reset(&KEY, NEVER));
        assert!(keyed.entries().expire(&KEY));
        assert!(group.wait());
        reset.join().unwrap();
        join([thread]);
        assert_eq!(keyed.handled.all(), 1);
    });
}

#[test]
fn what_a_handler_inserts_beside_a_remove_is_handled_or_comes_back() {
    check(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, |context, value| {
            if value == 1 {
                let again = context.entries().insert(KEY, 2, NOW, OnDuplicate::Keep);
                assert!(matches!(again, Inserted::New), "{again:?}");
            }
        });
        group.drive();
        keyed.insert(1, NOW);
        let thread = group.thread();
        let other = keyed.clone();
        let remove = group.beside(move |_| other.remove());
        assert!(group.wait());
        let removed = remove.join().unwrap();
        join([thread]);
        let inserted = if removed == 1 { 1 } else { 3 };
        assert_eq!(keyed.handled.all() ^ removed, inserted);
    });
}

/// Two entries of one key are due, and two workers claim them: the second runs after the first, and is not left behind.
#[test]
fn an_entry_that_expires_beside_the_run_of_its_key_is_handed_back_and_runs_after_it() {
    check_large(|| {
        let group = Group::new(9, 2);
        let keyed = Keyed::build(&group, true, nothing);
        group.drive();
        keyed.insert(1, NEVER);
        assert!(keyed.entries().expire(&KEY));
        keyed.insert(2, NOW);
        let threads = group.threads();
        assert!(group.wait());
        join(threads);
        assert_eq!(keyed.handled.all(), 3);
    });
}

/// Whether one of them runs, is blocked or is about to start: what is not taken out runs, and not beside another.
#[test]
fn entries_of_one_key_are_handled_or_taken_out_beside_its_runs() {
    check_large(|| {
        let group = Group::new(9, 2);
        let keyed = Keyed::build(&group, true, nothing);
        group.drive();
        for value in [1, 2] {
            keyed.insert(value, NEVER);
            assert!(keyed.entries().expire(&KEY));
        }
        let threads = group.threads();
        let drained = keyed
            .keys
            .drain()
            .into_iter()
            .map(|(_, value)| value)
            .sum::<usize>();
        assert!(group.wait());
        join(threads);
        assert_eq!(keyed.handled.all() ^ drained, 3, "{drained} came back");
        assert_eq!(keyed.keys.len(), 0);
    });
}

/// The table lives as long as its row waits, and goes with the last that holds it.
#[test]
fn an_entry_runs_though_the_last_handle_goes_beside_its_start() {
    check(|| {
        let group = Group::new(9, 1);
        let keyed = Keyed::new(&group, nothing);
        group.drive();
        keyed.insert(1, NOW);
        let (handled, keys) = (keyed.handled.clone(), Arc::downgrade(&keyed.keys));
        let thread = group.thread();
        drop(keyed);
        assert!(group.wait());
        join([thread]);
        assert_eq!((handled.all(), keys.strong_count()), (1, 0));
    });
}
