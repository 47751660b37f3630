//! Rows by key, in a hash table that never calls the code of a key to hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table of rows, found by a hash that the caller brings and a test that the caller runs.
///
/// The map's own key is the hash, so that growing and shrinking call no user code: a `Hash` that
/// panics could otherwise lose rows that have nothing to do with the call. The rows are in a vector of
/// their own: the map stays small enough for the caches, and rows that were made one after the other are
/// found one beside the other.
pub(crate) struct Table<K, V> {
    /// The first row of each hash.
    index: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    rows: Vec<Row<K, V>>,
}

struct Row<K, V> {
    hash: u64,
    key: K,
    value: V,
    /// Another key of the very same hash.
    next: Option<u32>,
}

/// Hands on a hash that was made before.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Below this capacity storage is not worth giving back.
const KEPT: usize = 64;

impl<K, V> Table<K, V> {
    pub(crate) fn new() -> Table<K, V> {
        Table {
            index: HashMap::default(),
            rows: Vec::new(),
        }
    }

    /// The row of that hash which passes the test.
    pub(crate) fn find(&mut self, hash: u64, is: impl FnMut(&K, &V) -> bool) -> Option<&mut V> {
        let place = self.place(hash, is)?;
        Some(&mut self.rows[place as usize].value)
    }

    fn place(&self, hash: u64, mut is: impl FnMut(&K, &V) -> bool) -> Option<u32> {
        let mut place = *self.index.get(&hash)?;
        loop {
            let row = &self.rows[place as usize];
            if is(&row.key, &row.value) {
                return Some(place);
            }
            place = row.next?;
        }
    }

    /// Adds the row of a key that has none.
    pub(crate) fn insert(&mut self, hash: u64, key: K, value: V) {
        let place = u32::try_from(self.rows.len()).expect("fewer than 2^32 keys are in use");
        let next = self.index.insert(hash, place);
        self.rows.push(Row {
            hash,
            key,
            value,
            next,
        });
    }

    /// Takes the row of that hash which passes the test.
    pub(crate) fn remove(&mut self, hash: u64, is: impl FnMut(&K, &V) -> bool) -> Option<(K, V)> {
        let place = self.place(hash, is)?;
        let next = self.rows[place as usize].next;
        self.redirect(place, next);
        let last = self.rows.len() as u32 - 1;
        if place != last {
            self.redirect(last, Some(place));
        }
        let row = self.rows.swap_remove(place as usize);
        self.give_back();
        Some((row.key, row.value))
    }

    /// Makes the link that leads to the row at `place` lead to `to`.
    fn redirect(&mut self, place: u32, to: Option<u32>) {
        let hash = self.rows[place as usize].hash;
        let mut before = self.index.get(&hash).copied();
        if before == Some(place) {
            match to {
                Some(to) => self.index.insert(hash, to),
                None => self.index.remove(&hash),
            };
            return;
        }
        while let Some(row) = before.map(|before| &mut self.rows[before as usize]) {
            if row.next == Some(place) {
                row.next = to;
                return;
            }
            before = row.next;
        }
    }

    /// Memory follows the rows: what is three quarters empty is halved.
    fn give_back(&mut self) {
        let capacity = self.rows.capacity();
        if capacity > KEPT && self.rows.len() < capacity / 4 {
            self.rows.shrink_to(self.rows.len() * 2);
            self.index.shrink_to(self.rows.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(wanted: u32) -> impl FnMut(&u32, &u32) -> bool {
        move |key, _| *key == wanted
    }

    #[test]
    fn keys_of_one_hash_are_kept_apart() {
        for gone in 0..4 {
            let mut table = Table::new();
            for key in 0..4 {
                table.insert(7, key, 10 * key);
            }
            assert_eq!(table.remove(7, is(gone)), Some((gone, 10 * gone)));
            assert_eq!(table.remove(7, is(gone)), None);
            for key in 0..4 {
                let left = (key != gone).then_some(10 * key);
                assert_eq!(table.find(7, is(key)).copied(), left, "{gone} was removed");
            }
        }
    }

    #[test]
    fn a_hash_without_rows_is_not_found() {
        let mut table = Table::new();
        table.insert(1, 1, 1);
        assert_eq!(table.find(2, |_, _| true), None);
        assert_eq!(table.remove(2, |_, _| true), None);
    }

    #[test]
    fn storage_follows_the_rows() {
        let mut table = Table::new();
        for key in 0..10_000 {
            table.insert(u64::from(key), key, key);
        }
        for key in 100..10_000 {
            assert!(table.remove(u64::from(key), is(key)).is_some());
            let len = table.rows.len();
            let capacity = table.rows.capacity().max(table.index.capacity());
            assert!(capacity <= (8 * len).max(KEPT), "{capacity} for {len} rows");
        }
        for key in 0..100 {
            assert_eq!(table.find(u64::from(key), is(key)), Some(&mut { key }));
        }
    }

    #[test]
    fn storage_goes_back_when_it_is_large_and_three_quarters_empty() {
        for (capacity, left, kept) in [(256, 64, 256), (256, 63, 126), (KEPT, 0, KEPT)] {
            let mut table = Table::new();
            table.rows.reserve_exact(capacity);
            for key in 0..capacity as u32 {
                table.insert(u64::from(key), key, key);
            }
            for key in left as u32..capacity as u32 {
                assert!(table.remove(u64::from(key), is(key)).is_some());
            }
            assert_eq!(table.rows.capacity(), kept);
        }
    }
}
