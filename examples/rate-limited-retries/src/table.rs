//! Rows by key, in a hash table that never calls the code of a key to hash.

use hashbrown::HashTable;

/// A table of rows, found by a hash that the caller brings and a test that the caller runs.
///
/// Each row keeps its hash, so that growing and shrinking call no user code: a `Hash` that panics could
/// otherwise lose rows that have nothing to do with the call.
pub(crate) struct Table<K, V>(HashTable<Row<K, V>>);

struct Row<K, V> {
    hash: u64,
    key: K,
    value: V,
}

/// Below this capacity storage is not worth giving back.
const KEPT: usize = 64;

impl<K, V> Table<K, V> {
    pub(crate) fn new() -> Table<K, V> {
        Table(HashTable::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The row of that hash which passes the test.
    pub(crate) fn find(&mut self, hash: u64, mut is: impl FnMut(&K, &V) -> bool) -> Option<&mut V> {
        let is = |row: &Row<K, V>| row.hash == hash && is(&row.key, &row.value);
        self.0.find_mut(hash, is).map(|row| &mut row.value)
    }

    /// All rows, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|row| &mut row.value)
    }

    /// Adds the row of a key that has none.
    pub(crate) fn insert(&mut self, hash: u64, key: K, value: V) {
        let row = Row { hash, key, value };
        self.0.insert_unique(hash, row, |row| row.hash);
    }

    /// Takes the row of that hash which passes the test.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        mut is: impl FnMut(&K, &V) -> bool,
    ) -> Option<(K, V)> {
        let is = |row: &Row<K, V>| row.hash == hash && is(&row.key, &row.value);
        let (row, _) = self.0.find_entry(hash, is).ok()?.remove();
        self.give_back();
        Some((row.key, row.value))
    }

    /// Takes out the rows that fail the test, for the caller to drop.
    pub(crate) fn sift(&mut self, mut stays: impl FnMut(&V) -> bool) -> Vec<(K, V)> {
        let gone = self.0.extract_if(|row| !stays(&row.value));
        let gone = gone.map(|row| (row.key, row.value)).collect();
        self.give_back();
        gone
    }

    /// Memory follows the rows: what is three quarters empty is halved.
    fn give_back(&mut self) {
        let (len, capacity) = (self.0.len(), self.0.capacity());
        if capacity > KEPT && len < capacity / 4 {
            self.0.shrink_to(2 * len, |row| row.hash);
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
    fn a_row_of_another_hash_is_not_asked() {
        let mut table = Table::new();
        table.insert(1, 1, 1);
        // Hashes that differ where the table does not look at once.
        for hash in [2, 1 << 40] {
            assert_eq!(table.find(hash, |_, _| panic!("asked")), None);
            assert_eq!(table.remove(hash, |_, _| panic!("asked")), None);
        }
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
            let (len, capacity) = (table.len(), table.0.capacity());
            assert!(capacity <= (8 * len).max(KEPT), "{capacity} for {len} rows");
        }
        for key in 0..100 {
            assert_eq!(table.find(u64::from(key), is(key)), Some(&mut { key }));
        }
        assert_eq!(table.sift(|_| false).len(), 100);
        assert!(table.0.capacity() <= KEPT);
    }
}
