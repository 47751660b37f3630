//! Keys with what is pending for them: found by key, and by the number of the row.
//!
//! No transition here runs, clones or drops anything of the user's but the test that it is given to find a key,
//! and that runs before anything is changed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use super::index::{Found, Index};
use super::key::{SharedKey, TakenKey};
use super::rows::{KeyRun, Row, Rows};
use crate::common::time::Timestamp;

/// ```text
///   insert ──▶ pending ──────────────────▶ taken: removed, drained, or started
///                 │ expire                   ▲
///                 ▼                          │
///              expired: found by its number alone
///                 │
///                 │ with `exclusive`, pending or expired: begins        ends
///                 └────────────────────────────────────────▶ run ───────────▶
/// ```
pub(super) struct Table<K, V> {
    /// Of what is pending, and of runs.
    index: Index,
    rows: Rows<K, V>,
    /// The first debounce of those that are debounced.
    first: HashMap<u32, Timestamp, BuildHasherDefault<Spread>>,
    /// How many are pending, without those that have expired.
    len: usize,
}

/// Spreads a number of a row over all bits: the map takes them from both ends.
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

/// Below this capacity storage is not worth giving back.
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

    /// The row of what is pending for a key.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(&K) -> bool) -> Option<u32> {
        self.search(hash, is).map(|found| found.row)
    }

    fn search(&self, hash: u32, mut is: impl FnMut(&K) -> bool) -> Option<Found> {
        self.index.search(hash, |row| {
            // A processor reads hash and key at the same time; and the next insert, which gets this row if it is taken
            // out, writes both.
            let key = self.rows.get(row).and_then(Row::pending_key);
            self.rows.hash(row) == Some(hash) && key.is_some_and(&mut is)
        })
    }

    /// The row of the run of a key.
    pub(super) fn find_run(&self, hash: u32, mut is: impl FnMut(&K) -> bool) -> Option<u32> {
        self.index.find(hash, |row| match self.rows.get(row) {
            Some(Row::Run { run, .. }) => self.rows.hash(row) == Some(hash) && is(run.key.key()),
            _ => false,
        })
    }

    /// The row of the run that keeps the pending or expired `row` waiting.
    pub(super) fn running(&self, row: u32) -> Option<u32>
    where
        K: Eq,
    {
        let (hash, key) = (self.rows.hash(row)?, self.rows.get(row)?.key()?);
        self.find_run(hash, |other| other == key)
    }

    /// The slot of the job of a row.
    pub(super) fn slot(&mut self, row: u32) -> Option<u32> {
        self.rows.get_mut(row)?.slot().copied()
    }

    /// Notes another job for a row, if there is such a row.
    pub(super) fn set_slot(&mut self, row: u32, slot: u32) {
        if let Some(known) = self.rows.get_mut(row).and_then(Row::slot) {
            *known = slot;
        }
    }

    /// What is pending or has expired in a row.
    pub(super) fn value(&mut self, row: u32) -> Option<&mut V> {
        self.rows.get_mut(row)?.value()
    }

    /// Returns whether something is pending or has expired in a row, and `slot` is its job.
    pub(super) fn awaits(&mut self, row: u32, slot: u32) -> bool {
        self.value(row).is_some() && self.slot(row) == Some(slot)
    }

    /// The row that the next key gets.
    pub(super) fn next_row(&self) -> u32 {
        self.rows.next()
    }

    /// Adds the row of a key that has nothing pending.
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

    /// Lets what is pending in a row go its way, if there is such a row: its key is free for another.
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

    /// The first debounce of what is pending in a row, if it is debounced.
    pub(super) fn first(&self, row: u32) -> Option<Timestamp> {
        self.first.get(&row).copied()
    }

    pub(super) fn set_first(&mut self, row: u32, first: Option<Timestamp>) {
        if let Some(first) = first {
            self.first.insert(row, first);
        } else if !self.first.is_empty() && self.first.remove(&row).is_some() {
            // It does nothing as long as more than a quarter is in use.
            self.first.shrink_to(KEPT.max(2 * self.first.len()));
        }
    }

    /// Takes what is pending or has expired in a row, with the slot of its job.
    pub(super) fn take(&mut self, row: u32) -> Option<(TakenKey<K>, V, u32)> {
        self.value(row)?;
        let hash = self.rows.hash(row)?;
        self.take_by(row, |index, rows| {
            index.remove_later(hash, row, rows.hashes());
        })
    }

    /// Takes what is pending for a key, with the slot of its job.
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

    // Keys that run alone.

    /// Turns a row into the run of its key, if something is pending or has expired there. Its value waits for the
    /// handler.
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

    /// Takes the key and the value of what starts in a row, if `slot` is its job. Returns also whether it is a run,
    /// which stays there.
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

    /// Notes that a row waits for the end of a run, if that is there.
    pub(super) fn block(&mut self, run: u32, row: u32) {
        let hash = self.rows.hash(run);
        let Some(held) = self.rows.get_mut(run).and_then(Row::run) else {
            return;
        };
        let mut blocked = std::mem::take(&mut held.blocked);
        // Those that were removed meanwhile are forgotten here, or the list could grow as long as the run lasts.
        blocked.retain(|&other| {
            other != row && self.value(other).is_some() && self.rows.hash(other) == hash
        });
        blocked.push(row);
        if let Some(held) = self.rows.get_mut(run).and_then(Row::run) {
            held.blocked = blocked;
        }
    }

    /// Takes a run out that has ended.
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

    // All of them.

    /// Every row has a smaller number.
    pub(super) fn rows_end(&self) -> u32 {
        self.rows.end()
    }

    /// Shares the keys of these rows that are pending: `share` does so for those that are not shared yet.
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

    /// Gives a row the key back that was shared, if it is still there: `restore` has it if it holds the last reference.
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
