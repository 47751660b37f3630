//! The table of a keyed group: entries and runs, found by key or by the number of their row.
//!
//! The only user code that is called here is the comparison of keys that the methods are given, and it is called before
//! anything is changed. Nothing of the user's is cloned or dropped.

use std::ops::Range;
use std::sync::Arc;

use super::index::{Found, Index};
use super::key::{SharedKey, TakenKey};
use super::queues::Queues;
use super::rows::{KEPT, KeyRun, Row, RowMap, Rows, Taken};
use crate::common::time::Timestamp;

/// ```text
///   insert ──▶ pending ───────────────────────▶ taken: removed, drained, or started
///                 │ expire                       ▲
///                 ▼                              │
///              expired, found by its row alone ──┤
///                                                │ in an exclusive keyed group `begin` turns
///                                                │ the row into a run instead
///                                                └──▶ run ──▶ started ──▶ ended
/// ```
pub(super) struct Table<K, V> {
    /// Pending entries and runs, by the hash of the key.
    index: Index,
    rows: Rows<K, V>,
    /// When an entry was debounced first; for entries that were.
    first: RowMap<Timestamp>,
    /// The number of pending entries, without expired ones.
    len: usize,
    /// The due entries that wait for the run of their key.
    queues: Queues,
    /// Entries that were taken out by a drain that could not return them, for the next one.
    left: Vec<(TakenKey<K>, V)>,
}

impl<K, V> Table<K, V> {
    pub(super) fn new() -> Table<K, V> {
        Table {
            index: Index::default(),
            rows: Rows::new(),
            first: RowMap::default(),
            len: 0,
            queues: Queues::default(),
            left: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the row of a key's pending entry.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(&K) -> bool) -> Option<u32> {
        self.search(hash, is).map(|found| found.row)
    }

    fn search(&self, hash: u32, mut is: impl FnMut(&K) -> bool) -> Option<Found> {
        self.index.search(hash, |row| {
            // Both are read before either is compared, so that the processor fetches them at the same time. Most calls
            // use both.
            let key = self.rows.get(row).and_then(Row::pending_key);
            self.rows.hash(row) == Some(hash) && key.is_some_and(&mut is)
        })
    }

    /// Returns the row of a key's run.
    pub(super) fn find_run(&self, hash: u32, mut is: impl FnMut(&K) -> bool) -> Option<u32> {
        self.index.find(hash, |row| match self.rows.get(row) {
            Some(Row::Run { run, .. }) => self.rows.hash(row) == Some(hash) && is(run.key.key()),
            _ => false,
        })
    }

    /// Returns the row of the run that has the same key as the entry in `row`.
    pub(super) fn running(&self, row: u32) -> Option<u32>
    where
        K: Eq,
    {
        let (hash, key) = (self.rows.hash(row)?, self.rows.get(row)?.key()?);
        self.find_run(hash, |other| other == key)
    }

    /// Returns the slot of the job of an entry or a run.
    pub(super) fn slot(&mut self, row: u32) -> Option<u32> {
        self.rows.get_mut(row)?.slot().copied()
    }

    /// Notes another slot for an entry or a run.
    pub(super) fn set_slot(&mut self, row: u32, slot: u32) {
        if let Some(known) = self.rows.get_mut(row).and_then(Row::slot) {
            *known = slot;
        }
    }

    /// Returns the value of the entry in a row.
    pub(super) fn value(&mut self, row: u32) -> Option<&mut V> {
        self.rows.get_mut(row)?.value()
    }

    /// Returns whether there is an entry in the row whose job is in `slot`.
    pub(super) fn has_entry_of(&self, row: u32, slot: u32) -> bool {
        self.rows
            .get(row)
            .is_some_and(|entry| entry.is_entry_of(slot))
    }

    /// Returns the row that the next insert uses.
    pub(super) fn next_row(&self) -> u32 {
        self.rows.next()
    }

    /// Inserts the entry of a key that has no pending one.
    pub(super) fn insert(&mut self, hash: u32, key: K, value: V, slot: u32) -> u32 {
        let row = self.rows.insert(
            hash,
            Row::Own {
                key,
                value,
                slot,
                expired: false,
            },
        );
        self.index.insert(hash, row, self.rows.hashes());
        self.len += 1;
        row
    }

    /// Expires the pending entry in a row, if there is one: its key is free for another entry.
    pub(super) fn expire(&mut self, row: u32) {
        let Some(hash) = self.rows.hash(row) else {
            return;
        };
        if self.rows.get_mut(row).is_some_and(Row::expire) {
            self.index.remove(hash, row, self.rows.hashes());
            self.is_pending_no_more(row);
        }
    }

    fn is_pending_no_more(&mut self, row: u32) {
        if !self.first.is_empty() {
            self.set_first(row, None);
        }
        self.len -= 1;
    }

    /// Returns when the entry in a row was debounced first, if it was.
    pub(super) fn first(&self, row: u32) -> Option<Timestamp> {
        self.first.get(&row).copied()
    }

    pub(super) fn set_first(&mut self, row: u32, first: Option<Timestamp>) {
        if let Some(first) = first {
            self.first.insert(row, first);
        } else if self.first.remove(&row).is_some() {
            // This does nothing while more than a quarter of the capacity is in use.
            self.first.shrink_to(KEPT.max(2 * self.first.len()));
        }
    }

    /// Takes out the entry in a row.
    // Inlined for the same reason as `Rows::take`.
    #[inline(always)]
    fn take(&mut self, row: u32) -> Option<Taken<K, V>> {
        let taken = self.rows.take(row)?;
        if let Some(hash) = taken.pending {
            self.index.remove_later(hash, row, self.rows.hashes());
            self.is_pending_no_more(row);
        }
        Some(taken)
    }

    /// Takes out the entry in a row, which does not start. Returns also the row of the entry that may start in its place,
    /// if there is one.
    pub(super) fn take_unstarted(&mut self, row: u32) -> Option<(Taken<K, V>, Option<u32>)> {
        Some((self.take(row)?, self.leave(row)))
    }

    /// Takes out the pending entry of a key. Returns also the row of the entry that may start in its place, if there is
    /// one.
    pub(super) fn remove(
        &mut self,
        hash: u32,
        is: impl FnMut(&K) -> bool,
    ) -> Option<(Taken<K, V>, Option<u32>)> {
        let found = self.search(hash, is)?;
        let taken = self.rows.take(found.row)?;
        self.index.remove_found(hash, &found, self.rows.hashes());
        self.is_pending_no_more(found.row);
        Some((taken, self.leave(found.row)))
    }

    // Runs, in an exclusive keyed group.

    /// Turns the entry in a row into the run of its key. The value stays until the handler takes it (`start`).
    pub(super) fn begin(&mut self, row: u32, share: fn(K) -> SharedKey<K>) {
        self.expire(row);
        let (Some(hash), Some(place)) = (self.rows.hash(row), self.rows.get_mut(row)) else {
            return;
        };
        let (key, value, slot) = match std::mem::replace(place, Row::Vacant { next: 0 }) {
            Row::Own {
                key, value, slot, ..
            } => (share(key), value, slot),
            Row::Shared {
                key, value, slot, ..
            } => (*key, value, slot),
            other => {
                *place = other;
                return;
            }
        };
        let run = Box::new(KeyRun {
            key,
            value: Some(value),
        });
        *place = Row::Run { run, slot };
        self.index.insert(hash, row, self.rows.hashes());
    }

    /// Takes the key and the value of the entry or run that starts in a row, if its job is in `slot`. Returns also
    /// whether it is a run, which stays in the row.
    pub(super) fn start(&mut self, row: u32, slot: u32) -> Option<(Taken<K, V>, bool)> {
        if self.has_entry_of(row, slot) {
            return Some((self.take(row)?, false));
        }
        match self.rows.get_mut(row)? {
            Row::Run { run, slot: own } if *own == slot => {
                let key = TakenKey::Shared(SharedKey::clone(&run.key));
                let value = run.value.take()?;
                let pending = None;
                let taken = Taken {
                    key,
                    value,
                    slot,
                    pending,
                };
                Some((taken, true))
            }
            _ => None,
        }
    }

    /// Notes that the entry in `row`, which became due at `at`, waits for the end of the run in the row `run`.
    pub(super) fn block(&mut self, run: u32, row: u32, at: Timestamp) {
        self.queues.push(run, row, at);
    }

    /// Notes that the entry in a row does not wait any more, since it has been moved, replaced or taken out. Returns the
    /// row of the entry that may start in its place, if there is one.
    pub(super) fn leave(&mut self, row: u32) -> Option<u32> {
        self.queues.leave(row)
    }

    /// Takes out a run that has ended. Returns also the row of the first entry that has waited for it, which may start
    /// now.
    pub(super) fn end(&mut self, row: u32) -> Option<(KeyRun<K, V>, Option<u32>)> {
        let (hash, run) = self.rows.take_run(row)?;
        self.index.remove(hash, row, self.rows.hashes());
        Some((*run, self.queues.pop(row)))
    }

    /// Keeps entries that were taken out, for the next drain.
    pub(super) fn leave_to_next_drain(&mut self, mut entries: Vec<(TakenKey<K>, V)>) {
        self.left.append(&mut entries);
    }

    /// Takes the entries that earlier drains have left.
    pub(super) fn take_left(&mut self) -> Vec<(TakenKey<K>, V)> {
        std::mem::take(&mut self.left)
    }

    // Walks over all rows.

    /// Returns a number that is larger than that of every row.
    pub(super) fn rows_end(&self) -> u32 {
        self.rows.end()
    }

    /// Shares the keys of the pending entries in some rows, and returns them with their rows. The caller passes each to
    /// [`unshare`](Table::unshare).
    pub(super) fn share(
        &mut self,
        rows: Range<u32>,
        share: fn(K) -> SharedKey<K>,
    ) -> Vec<(u32, SharedKey<K>)> {
        let mut keys = Vec::new();
        for row in rows {
            let Some(place) = self.rows.get_mut(row) else {
                continue;
            };
            *place = match std::mem::replace(place, Row::Vacant { next: 0 }) {
                Row::Own {
                    key,
                    value,
                    slot,
                    expired: false,
                } => Row::Shared {
                    key: Box::new(share(key)),
                    value,
                    slot,
                    expired: false,
                },
                row => row,
            };
            if let Row::Shared {
                key,
                expired: false,
                ..
            } = place
            {
                keys.push((row, SharedKey::clone(key)));
            }
        }
        keys
    }

    /// Makes a key that was shared the row's own again. If others have shared it too, the last of them does that.
    /// Returns a key whose row has gone meanwhile.
    pub(super) fn unshare(&mut self, row: u32, key: SharedKey<K>) -> Option<SharedKey<K>> {
        let Some(place) = self.rows.get_mut(row) else {
            return Some(key);
        };
        let (restored, gone) = match std::mem::replace(place, Row::Vacant { next: 0 }) {
            Row::Shared {
                key: known,
                value,
                slot,
                expired,
            } if std::ptr::addr_eq(Arc::as_ptr(&known), Arc::as_ptr(&key)) => {
                // Not the last reference, so no user value is dropped here.
                drop(known);
                let row = match key.into_own() {
                    Ok(key) => Row::Own {
                        key,
                        value,
                        slot,
                        expired,
                    },
                    Err(key) => Row::Shared {
                        key: Box::new(key),
                        value,
                        slot,
                        expired,
                    },
                };
                (row, None)
            }
            other => (other, Some(key)),
        };
        *place = restored;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::share;
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::ALWAYS.after(std::time::Duration::from_millis(millis))
    }

    fn insert(table: &mut Table<u32, u32>, slot: u32) -> u32 {
        table.insert(7, 1, 10, slot)
    }

    fn insert_expired(table: &mut Table<u32, u32>, slot: u32) -> u32 {
        let row = insert(table, slot);
        table.expire(row);
        row
    }

    /// Ends a run. Returns the row of the entry that may start now.
    fn end(table: &mut Table<u32, u32>, run: u32) -> Option<u32> {
        let (_, next) = table.end(run).expect("it is a run");
        next
    }

    #[test]
    fn what_is_due_waits_for_the_run_of_its_key() {
        let mut table = Table::<u32, u32>::new();
        let run = insert_expired(&mut table, 1);
        assert!(table.has_entry_of(run, 1));
        assert!(!table.has_entry_of(run, 2), "of another job");
        table.begin(run, share);
        assert!(table.start(run, 2).is_none(), "of another job");
        assert!(table.start(run, 1).is_some_and(|(_, is_run)| is_run));
        assert!(table.start(run, 1).is_none(), "it has started");
        assert!(!table.has_entry_of(run, 1), "it has started");
        let removed = insert(&mut table, 2);
        table.block(run, removed, at(0));
        assert!(table.take_unstarted(removed).is_some());
        let moved = insert(&mut table, 3);
        table.block(run, moved, at(0));
        assert_eq!(table.leave(moved), None, "while the run lasts");
        table.block(run, moved, at(1));
        assert_eq!(end(&mut table, run), Some(moved));
        assert!(table.end(run).is_none());
    }

    /// The pending entry as well as expired ones, also behind one whose run ends before the others are started.
    #[test]
    fn entries_start_in_the_order_of_their_deadlines() {
        let mut table = Table::<u32, u32>::new();
        let run = insert_expired(&mut table, 1);
        table.begin(run, share);
        let [first, second] = [2, 3].map(|slot| insert_expired(&mut table, slot));
        let pending = insert(&mut table, 4);
        for (row, millis) in [(pending, 3), (second, 2), (first, 1)] {
            table.block(run, row, at(millis));
        }
        assert_eq!(end(&mut table, run), Some(first));
        table.begin(first, share);
        assert_eq!(end(&mut table, first), Some(second));
        assert_eq!(table.leave(second), Some(pending), "it was moved");
        table.begin(pending, share);
        assert_eq!(end(&mut table, pending), None);
    }

    /// Else an entry that is inserted in the same row later would have that time, and come too early when it is
    /// debounced.
    #[test]
    fn when_an_entry_was_debounced_first_is_forgotten_with_it() {
        type End = fn(&mut Table<u32, u32>, u32) -> bool;
        let ends: [End; 4] = [
            |table, _| table.remove(7, |key| *key == 1).is_some(),
            |table, row| table.take_unstarted(row).is_some(),
            |table, row| table.start(row, 1).is_some(),
            |table, row| {
                table.expire(row);
                table.has_entry_of(row, 1)
            },
        ];
        let mut table = Table::<u32, u32>::new();
        for (number, end) in ends.into_iter().enumerate() {
            let row = insert(&mut table, 1);
            assert_eq!(table.first(row), None, "before end {number}");
            table.set_first(row, Some(at(1)));
            assert!(end(&mut table, row));
            assert_eq!(table.first(row), None, "after end {number}");
        }
        assert!(table.first.is_empty());
    }

    /// Or the index would grow for ever.
    #[test]
    fn an_entry_that_was_expired_is_not_in_the_index() {
        let mut table = Table::<u32, u32>::new();
        let [expired, pending] = [1, 2].map(|slot| insert(&mut table, slot));
        table.expire(expired);
        let mut indexed = Vec::new();
        table.index.find(7, |row| {
            indexed.push(row);
            false
        });
        assert_eq!(indexed, [pending]);
    }

    #[test]
    fn an_entry_that_is_taken_out_before_it_could_start_leaves_its_turn_to_the_next() {
        let mut table = Table::<u32, u32>::new();
        let [run, one, two, three] = [1, 2, 3, 4].map(|slot| insert_expired(&mut table, slot));
        table.begin(run, share);
        for row in [one, two, three] {
            table.block(run, row, at(0));
        }
        let next =
            |table: &mut Table<u32, u32>, row| table.take_unstarted(row).map(|(_, next)| next);
        assert_eq!(next(&mut table, two), Some(None), "while the run lasts");
        assert_eq!(next(&mut table, run), None, "it has started");
        assert_eq!(end(&mut table, run), Some(one));
        assert_eq!(next(&mut table, one), Some(Some(three)));
        assert_eq!(next(&mut table, three), Some(None));
    }

    #[test]
    fn storage_of_debounces_is_given_back_and_never_all_that_is_free() {
        let mut table = Table::<(), ()>::new();
        (0..10_000).for_each(|row| table.set_first(row, Some(Timestamp::ALWAYS)));
        let full = table.first.capacity();
        for row in 0..9_990 {
            table.set_first(row, None);
            let (len, capacity) = (table.first.len(), table.first.capacity());
            assert!(
                capacity == full || capacity >= 2 * len,
                "{len} of {capacity}"
            );
        }
        let capacity = table.first.capacity();
        assert!(capacity <= 2 * KEPT, "{capacity} for ten");
        assert!((0..10_000).all(|row| table.first(row).is_some() == (row >= 9_990)));
    }
}
