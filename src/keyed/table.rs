//! Keys with what is pending for them: found by key, and by the number of the row.
//!
//! No transition here runs, clones or drops anything of the user's but the test that it is given to find a key,
//! and that runs before anything is changed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use super::key::{SharedKey, TakenKey};
use super::rows::{EXPIRED, Meta, NONE, Row, Rows, Run};
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
    /// The first row of each hash. It knows hashes alone, so that growing calls no user code.
    index: HashMap<u32, u32, Bits>,
    rows: Rows<K, V>,
    /// The first debounce of those that are debounced.
    first: HashMap<u32, Timestamp, Bits>,
    /// How many are pending, without those that have expired.
    len: usize,
}

type Bits = BuildHasherDefault<Spread>;

/// Spreads a number that is a hash, or small, over all bits: the map takes them from both ends.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

/// Below this capacity storage is not worth giving back.
const KEPT: usize = 64;

/// Memory follows what is in a map: what is three quarters empty is halved.
fn give_back<T>(map: &mut HashMap<u32, T, Bits>) {
    let capacity = map.capacity();
    if capacity > KEPT && map.len() < capacity / 4 {
        map.shrink_to(map.len() * 2);
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn new() -> Table<K, V> {
        Table {
            index: HashMap::default(),
            rows: Rows::new(),
            first: HashMap::default(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The row of that hash which passes the test.
    fn search(&self, hash: u32, mut is: impl FnMut(&Row<K, V>) -> bool) -> Option<u32> {
        let mut number = *self.index.get(&hash)?;
        loop {
            let row = self.rows.get(number)?;
            if is(row) {
                return Some(number);
            }
            number = match row {
                Row::Own(.., meta) | Row::Shared(.., meta) | Row::Run(_, meta) => meta.next,
                Row::Vacant(_) => return None,
            };
        }
    }

    /// The row of what is pending for a key.
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(&K) -> bool) -> Option<u32> {
        self.search(hash, |row| row.key().is_some_and(&mut is))
    }

    /// The row of the run of a key, and the slot of its job.
    pub(super) fn find_run(&self, hash: u32, mut is: impl FnMut(&K) -> bool) -> Option<u32> {
        self.search(
            hash,
            |row| matches!(row, Row::Run(run, _) if is(run.key.key())),
        )
    }

    /// The row of the run that keeps the pending or expired `row` waiting.
    pub(super) fn running(&self, row: u32) -> Option<u32>
    where
        K: Eq,
    {
        let (Row::Own(.., meta) | Row::Shared(.., meta)) = self.rows.get(row)? else {
            return None;
        };
        let key = self.rows.get(row)?.key()?;
        self.find_run(meta.hash, |other| other == key)
    }

    /// The slot of the job of a row.
    pub(super) fn slot(&mut self, row: u32) -> Option<u32> {
        Some(self.rows.get_mut(row)?.meta()?.slot)
    }

    pub(super) fn set_slot(&mut self, row: u32, slot: u32) {
        if let Some(meta) = self.rows.get_mut(row).and_then(Row::meta) {
            meta.slot = slot;
        }
    }

    /// What is pending in a row.
    pub(super) fn value(&mut self, row: u32) -> Option<&mut V> {
        match self.rows.get_mut(row)? {
            Row::Own(_, value, _) | Row::Shared(_, value, _) => Some(value),
            Row::Vacant(_) | Row::Run(..) => None,
        }
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
        let next = NONE;
        let row = self
            .rows
            .insert(Row::Own(key, value, Meta { hash, next, slot }));
        self.link(hash, row);
        self.len += 1;
        row
    }

    /// Puts a row before the others of its hash.
    fn link(&mut self, hash: u32, row: u32) {
        let next = self.index.insert(hash, row).unwrap_or(NONE);
        if let Some(meta) = self.rows.get_mut(row).and_then(Row::meta) {
            meta.next = next;
        }
    }

    /// Takes a row out of those of its hash. It is found by its number alone from then on.
    fn unlink(&mut self, row: u32) {
        let Some(meta) = self.rows.get_mut(row).and_then(Row::meta) else {
            return;
        };
        let hash = meta.hash;
        let next = std::mem::replace(&mut meta.next, EXPIRED);
        let Some(first) = self.index.get_mut(&hash) else {
            return;
        };
        if *first != row {
            let mut before = *first;
            while let Some(meta) = self.rows.get_mut(before).and_then(Row::meta) {
                if meta.next == row {
                    meta.next = next;
                    return;
                }
                before = meta.next;
            }
        } else if next != NONE {
            *first = next;
        } else {
            self.index.remove(&hash);
            give_back(&mut self.index);
        }
    }

    /// Lets what is pending in a row go its way: its key is free for another.
    pub(super) fn expire(&mut self, row: u32) {
        let is_pending = self
            .rows
            .get_mut(row)
            .and_then(Row::meta)
            .is_some_and(|meta| meta.next != EXPIRED);
        if is_pending {
            self.unlink(row);
            self.set_first(row, None);
            self.len -= 1;
        }
    }

    /// The first debounce of what is pending in a row, if it is debounced.
    pub(super) fn first(&self, row: u32) -> Option<Timestamp> {
        self.first.get(&row).copied()
    }

    pub(super) fn set_first(&mut self, row: u32, first: Option<Timestamp>) {
        match first {
            Some(first) => drop(self.first.insert(row, first)),
            None if self.first.is_empty() => {}
            None => {
                self.first.remove(&row);
                give_back(&mut self.first);
            }
        }
    }

    /// Takes what is pending or has expired in a row, with the slot of its job.
    pub(super) fn take(&mut self, row: u32) -> Option<(TakenKey<K>, V, u32)> {
        self.value(row)?;
        self.expire(row);
        match self.rows.remove(row) {
            Row::Own(key, value, meta) => Some((TakenKey::Own(key), value, meta.slot)),
            Row::Shared(key, value, meta) => Some((TakenKey::Shared(*key), value, meta.slot)),
            Row::Vacant(_) | Row::Run(..) => None,
        }
    }

    // Keys that run alone.

    /// Turns a row into the run of its key. Its value waits there for the handler.
    pub(super) fn begin(&mut self, row: u32, share: fn(K) -> SharedKey<K>) {
        if self.value(row).is_none() {
            return;
        }
        self.expire(row);
        let Some(place) = self.rows.get_mut(row) else {
            return;
        };
        let (key, value, meta) = match std::mem::replace(place, Row::Vacant(NONE)) {
            Row::Own(key, value, meta) => (share(key), value, meta),
            Row::Shared(key, value, meta) => (*key, value, meta),
            Row::Vacant(_) | Row::Run(..) => unreachable!("it has a value"),
        };
        let run = Run {
            key,
            value: Some(value),
            blocked: Vec::new(),
        };
        *place = Row::Run(Box::new(run), meta);
        self.link(meta.hash, row);
    }

    /// Takes the value of a run that begins, if `slot` is its job, and its key.
    pub(super) fn start_run(&mut self, row: u32, slot: u32) -> Option<(SharedKey<K>, V)> {
        match self.rows.get_mut(row)? {
            Row::Run(run, meta) if meta.slot == slot => {
                Some((SharedKey::clone(&run.key), run.value.take()?))
            }
            _ => None,
        }
    }

    /// Notes that a row waits for the end of a run.
    pub(super) fn block(&mut self, run: u32, row: u32) {
        // Those that were removed meanwhile are forgotten here, or the list could grow as long as the run lasts.
        let Some(Row::Run(here, meta)) = self.rows.get_mut(run) else {
            return;
        };
        let (mut blocked, hash) = (std::mem::take(&mut here.blocked), meta.hash);
        blocked.retain(|&other| {
            let meta = self.rows.get_mut(other).and_then(Row::meta);
            other != row && meta.is_some_and(|meta| meta.hash == hash)
        });
        blocked.push(row);
        if let Some(Row::Run(here, _)) = self.rows.get_mut(run) {
            here.blocked = blocked;
        }
    }

    /// Takes a run out that has ended.
    pub(super) fn end(&mut self, row: u32) -> Option<Box<Run<K, V>>> {
        if !matches!(self.rows.get(row)?, Row::Run(..)) {
            return None;
        }
        self.unlink(row);
        match self.rows.remove(row) {
            Row::Run(run, _) => Some(run),
            _ => None,
        }
    }

    // All of them.

    /// Every row has a smaller number.
    pub(super) fn rows_end(&self) -> u32 {
        self.rows.end()
    }

    /// Shares the keys of these rows that are pending. With each comes its row if nobody shared it before.
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
            *place = match std::mem::replace(place, Row::Vacant(NONE)) {
                Row::Own(key, value, meta) if meta.next != EXPIRED => {
                    let key = share(row, key);
                    keys.push(SharedKey::clone(&key));
                    Row::Shared(Box::new(key), value, meta)
                }
                Row::Shared(key, value, meta) if meta.next != EXPIRED => {
                    keys.push(SharedKey::clone(&key));
                    Row::Shared(key, value, meta)
                }
                other => other,
            };
        }
        keys
    }

    /// Gives a row the key back that was shared, if it is still there: `restore` has it if nobody else does.
    pub(super) fn unshare(
        &mut self,
        row: u32,
        restore: impl FnOnce(SharedKey<K>) -> Result<K, SharedKey<K>>,
    ) {
        let Some(place) = self.rows.get_mut(row) else {
            return;
        };
        *place = match std::mem::replace(place, Row::Vacant(NONE)) {
            Row::Shared(key, value, meta) => match restore(*key) {
                Ok(key) => Row::Own(key, value, meta),
                Err(key) => Row::Shared(Box::new(key), value, meta),
            },
            other => other,
        };
    }
}
