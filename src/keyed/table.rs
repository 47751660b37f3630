//! The table of a keyed group: entries and runs, found by key or by the number of their row.
//!
//! The only user code that is called here is the comparison of keys that the methods are given, and it is called before
//! anything is changed. Nothing of the user's is cloned or dropped.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use super::index::{Found, Index};
use super::key::{SharedKey, TakenKey};
use super::rows::{KeyRun, Row, Rows};
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
    /// When an entry was debounced first, by row; for entries that were.
    first: HashMap<u32, Timestamp, BuildHasherDefault<Spread>>,
    /// The number of pending entries, without expired ones.
    len: usize,
}

/// A hasher for numbers of rows. It spreads them over all bits, since the map uses the bits at both ends.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Storage of no more than this capacity is not given back.
const KEPT: usize = 64;

impl<K, V> Table<K, V> {
    pub(super) fn new() -> Table<K, V> {
        Table {
            index: Index::default(),
            rows: Rows::new(),
            first: HashMap::default(),
            len: 0,
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
    pub(super) fn awaits(&mut self, row: u32, slot: u32) -> bool {
        self.value(row).is_some() && self.slot(row) == Some(slot)
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
        self.set_first(row, None);
        self.len -= 1;
    }

    /// Returns when the entry in a row was debounced first, if it was.
    pub(super) fn first(&self, row: u32) -> Option<Timestamp> {
        self.first.get(&row).copied()
    }

    pub(super) fn set_first(&mut self, row: u32, first: Option<Timestamp>) {
        if let Some(first) = first {
            self.first.insert(row, first);
        } else if !self.first.is_empty() && self.first.remove(&row).is_some() {
            // This does nothing while more than a quarter of the capacity is in use.
            self.first.shrink_to(KEPT.max(2 * self.first.len()));
        }
    }

    /// Takes out the entry in a row: key, value and the slot of its job.
    pub(super) fn take(&mut self, row: u32) -> Option<(TakenKey<K>, V, u32)> {
        self.value(row)?;
        let hash = self.rows.hash(row)?;
        self.take_by(row, |index, rows| {
            index.remove_later(hash, row, rows.hashes());
        })
    }

    /// Takes out the pending entry of a key: key, value and the slot of its job.
    pub(super) fn remove(
        &mut self,
        hash: u32,
        is: impl FnMut(&K) -> bool,
    ) -> Option<(TakenKey<K>, V, u32)> {
        let found = self.search(hash, is)?;
        self.take_by(found.row, |index, rows| {
            index.remove_found(hash, &found, rows.hashes());
        })
    }

    /// Takes out the entry in a row; `unlink` removes a pending one from the index.
    fn take_by(
        &mut self,
        row: u32,
        unlink: impl FnOnce(&mut Index, &Rows<K, V>),
    ) -> Option<(TakenKey<K>, V, u32)> {
        let (key, value, slot, expired) = match self.rows.remove(row)? {
            Row::Own {
                key,
                value,
                slot,
                expired,
            } => (TakenKey::Own(key), value, slot, expired),
            Row::Shared {
                key,
                value,
                slot,
                expired,
            } => (TakenKey::Shared(*key), value, slot, expired),
            Row::Vacant { .. } | Row::Run { .. } => return None,
        };
        if !expired {
            unlink(&mut self.index, &self.rows);
            self.is_pending_no_more(row);
        }
        Some((key, value, slot))
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
            blocked: Vec::new(),
        });
        *place = Row::Run { run, slot };
        self.index.insert(hash, row, self.rows.hashes());
    }

    /// Takes the key and the value of the entry or run that starts in a row, if its job is in `slot`. Returns also
    /// whether it is a run, which stays in the row.
    pub(super) fn start(&mut self, row: u32, slot: u32) -> Option<(TakenKey<K>, V, bool)> {
        let place = self.rows.get_mut(row)?;
        if place.slot().copied() != Some(slot) {
            return None;
        }
        if let Some(run) = place.run() {
            let key = TakenKey::Shared(SharedKey::clone(&run.key));
            return Some((key, run.value.take()?, true));
        }
        let (key, value, _) = self.take(row)?;
        Some((key, value, false))
    }

    /// Notes that the entry in `row` waits for the end of the run in the row `run`.
    pub(super) fn block(&mut self, run: u32, row: u32) {
        let hash = self.rows.hash(run);
        let Some(held) = self.rows.get_mut(run).and_then(Row::run) else {
            return;
        };
        let mut blocked = std::mem::take(&mut held.blocked);
        // Rows whose entries were removed meanwhile are left out, or the list could grow for as long as the run lasts.
        blocked.retain(|&other| {
            other != row && self.value(other).is_some() && self.rows.hash(other) == hash
        });
        blocked.push(row);
        if let Some(held) = self.rows.get_mut(run).and_then(Row::run) {
            held.blocked = blocked;
        }
    }

    /// Takes out a run that has ended.
    pub(super) fn end(&mut self, row: u32) -> Option<Box<KeyRun<K, V>>> {
        let hash = self.rows.hash(row)?;
        match self.rows.remove(row)? {
            Row::Run { run, .. } => {
                self.index.remove(hash, row, self.rows.hashes());
                Some(run)
            }
            _ => None,
        }
    }

    // Walks over all rows.

    /// Returns a number that is larger than that of every row.
    pub(super) fn rows_end(&self) -> u32 {
        self.rows.end()
    }

    /// Shares the keys of the pending entries in some rows, and returns them. `share` makes a shared key of one that is
    /// not.
    pub(super) fn share(
        &mut self,
        rows: Range<u32>,
        mut share: impl FnMut(u32, K) -> SharedKey<K>,
    ) -> Vec<SharedKey<K>> {
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
                } => {
                    let key = share(row, key);
                    keys.push(SharedKey::clone(&key));
                    Row::Shared {
                        key: Box::new(key),
                        value,
                        slot,
                        expired: false,
                    }
                }
                row => {
                    if let Row::Shared {
                        key,
                        expired: false,
                        ..
                    } = &row
                    {
                        keys.push(SharedKey::clone(key));
                    }
                    row
                }
            };
        }
        keys
    }

    /// Makes a shared key the row's own again, if the entry is still there and `restore` can take the key out of the
    /// `Arc`.
    pub(super) fn unshare(
        &mut self,
        row: u32,
        restore: impl FnOnce(SharedKey<K>) -> Result<K, SharedKey<K>>,
    ) {
        let Some(place) = self.rows.get_mut(row) else {
            return;
        };
        *place = match std::mem::replace(place, Row::Vacant { next: 0 }) {
            Row::Shared {
                key,
                value,
                slot,
                expired,
            } => match restore(*key) {
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
            },
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::share;
    use super::*;

    #[test]
    fn a_run_knows_the_rows_that_wait_for_it_each_once_and_no_others() {
        let mut table = Table::<u32, u32>::new();
        let insert = |table: &mut Table<u32, u32>, slot| {
            let row = table.insert(7, 1, 10, slot);
            table.expire(row);
            row
        };
        let run = insert(&mut table, 1);
        assert!(table.awaits(run, 1));
        assert!(!table.awaits(run, 2), "of another job");
        table.begin(run, share);
        assert!(table.start(run, 2).is_none(), "of another job");
        assert!(table.start(run, 1).is_some_and(|(_, _, is_run)| is_run));
        assert!(table.start(run, 1).is_none(), "it has started");
        assert!(!table.awaits(run, 1), "it has started");
        let [one, two, three] = [2, 3, 4].map(|slot| insert(&mut table, slot));
        for row in [one, two, one] {
            table.block(run, row);
        }
        assert!(table.take(two).is_some());
        table.block(run, three);
        assert_eq!(
            table.end(run).map(|run| run.blocked),
            Some(vec![one, three])
        );
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
