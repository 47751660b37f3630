//! Rows by key, in a hash table that never calls the code of a key to hash.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

/// A table of rows, found by a hash that the caller brings and a test that the caller runs.
///
/// The map's own key is the hash, so that growing and shrinking call no user code: a `Hash` that
/// panics could otherwise lose rows that have nothing to do with the call.
pub(crate) struct Table<K, V> {
    rows: HashMap<u64, Row<K, V>, BuildHasherDefault<AsIs>>,
    len: usize,
}

struct Row<K, V> {
    key: K,
    value: V,
    /// Another key of the very same hash.
    next: Option<Box<Row<K, V>>>,
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
            rows: HashMap::default(),
            len: 0,
        }
    }

    /// The row of that hash which passes the test.
    pub(crate) fn find(&mut self, hash: u64, mut is: impl FnMut(&K, &V) -> bool) -> Option<&mut V> {
        let mut row = self.rows.get_mut(&hash)?;
        while !is(&row.key, &row.value) {
            row = row.next.as_mut()?;
        }
        Some(&mut row.value)
    }

    /// Adds the row of a key that has none.
    pub(crate) fn insert(&mut self, hash: u64, key: K, value: V) {
        let row = Row {
            key,
            value,
            next: None,
        };
        self.len += 1;
        match self.rows.entry(hash) {
            Entry::Vacant(place) => {
                place.insert(row);
            }
            Entry::Occupied(mut head) => {
                let row = Box::new(row);
                let next = head.get_mut().next.replace(row);
                if let Some(row) = &mut head.get_mut().next {
                    row.next = next;
                }
            }
        }
    }

    /// Takes the row of that hash which passes the test.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        mut is: impl FnMut(&K, &V) -> bool,
    ) -> Option<(K, V)> {
        let Entry::Occupied(mut place) = self.rows.entry(hash) else {
            return None;
        };
        let head = place.get_mut();
        let row = if !is(&head.key, &head.value) {
            let mut link = &mut head.next;
            while link.as_ref().is_some_and(|row| !is(&row.key, &row.value)) {
                link = &mut link.as_mut()?.next;
            }
            let mut row = link.take()?;
            *link = row.next.take();
            *row
        } else if let Some(next) = head.next.take() {
            std::mem::replace(head, *next)
        } else {
            place.remove()
        };
        self.len -= 1;
        self.give_back();
        Some((row.key, row.value))
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes out the rows that fail the test, for the caller to drop.
    pub(crate) fn sift(&mut self, mut stays: impl FnMut(&V) -> bool) -> Vec<(K, V)> {
        let mut gone = Vec::new();
        let hashes: Vec<u64> = self.rows.keys().copied().collect();
        for hash in hashes {
            while let Some(row) = self.remove(hash, |_, value| !stays(value)) {
                gone.push(row);
            }
        }
        gone
    }

    /// Memory follows the rows: what is three quarters empty is halved.
    fn give_back(&mut self) {
        let capacity = self.rows.capacity();
        if capacity > KEPT && self.rows.len() < capacity / 4 {
            self.rows.shrink_to(self.rows.len() * 2);
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
    fn what_is_sifted_out_comes_back() {
        let mut table = Table::new();
        for key in 0..9 {
            table.insert(u64::from(key % 3), key, key);
        }
        let mut gone = table.sift(|value| value % 2 == 0);
        gone.sort_unstable();
        assert_eq!(gone, [(1, 1), (3, 3), (5, 5), (7, 7)]);
        assert_eq!(table.len(), 5);
        assert_eq!(table.find(1, is(4)), Some(&mut 4));
    }

    #[test]
    fn storage_follows_the_rows() {
        let mut table = Table::new();
        for key in 0..10_000 {
            table.insert(u64::from(key), key, key);
        }
        for key in 100..10_000 {
            assert!(table.remove(u64::from(key), is(key)).is_some());
            let (len, capacity) = (table.rows.len(), table.rows.capacity());
            assert!(capacity <= (8 * len).max(KEPT), "{capacity} for {len} rows");
        }
        for key in 0..100 {
            assert_eq!(table.find(u64::from(key), is(key)), Some(&mut { key }));
        }
    }
}
