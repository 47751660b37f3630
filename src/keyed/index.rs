//! The index of a table: numbers of rows by the hash of their keys.

/// A hash table of row numbers, with open addressing. A bucket is one line of the cache. It holds twelve rows, and a
/// *tag* for each: eight bits of its hash. So nearly every look-up touches one line, and no user code is called. The
/// whole hashes are not kept here; they are asked for when the table is built anew.
///
/// A look-up compares the tags of all places of a bucket at once, without a branch for each: the processor could not
/// predict such a branch, and would wait for memory after a wrong guess. If a bucket is full, a row goes to the next
/// bucket that has room, and each bucket that it passes over counts it. A search ends at a bucket that no row has
/// passed over.
///
/// The index returns candidates. The caller decides which of them has the key: one in a hundred has another hash, and a
/// few may be vacant by now (see `gone`).
#[derive(Default)]
pub(super) struct Index {
    /// The home bucket of a hash is in proportion to the hash (0 is the first bucket, 2³² behind the last one). So any
    /// number of buckets will do.
    buckets: Vec<Bucket>,
    /// The number of rows, including `gone` ones.
    len: usize,
    /// Rows that are vacant and still in the index, with their hashes. They are taken out before anything is inserted
    /// or the index is built anew, so each number is in the index at most once.
    gone: Vec<(u32, u32)>,
}

/// The position of a row, which is valid until something changes.
pub(super) struct Found {
    pub(super) row: u32,
    at: usize,
    place: usize,
}

/// A line of the cache.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    /// The tags: a byte for each place, or 0 if it is vacant. The upper half of the second word counts the rows that
    /// have passed over the bucket.
    tags: [u64; 2],
    rows: [u32; PLACES],
}

const PLACES: usize = 12;
/// An index of no more buckets than this does not shrink.
const KEPT: usize = 8;
/// This many `gone` rows are taken out together, so that the processor fetches their buckets at the same time.
const TOGETHER: usize = 32;

/// The highest bit of each tag.
const HIGHEST: [u64; 2] = [0x8080_8080_8080_8080, 0x8080_8080];
/// The position of the count of rows that have passed over.
const PASSED: u32 = 32;

/// Returns the tag of a hash, which is never 0. It is of the lower bits, since the upper ones give the home bucket.
fn tag(hash: u32) -> u64 {
    u64::from((hash as u8).max(1))
}

/// A set of places of a bucket, as bits of one word: for the first eight the highest bit of each byte, and for the
/// other four bit 3 of a byte.
struct Places(u64);

impl Places {
    /// Returns the places whose tags are zero, or those whose tags are not.
    fn new(tags: [u64; 2], zero: bool) -> Places {
        let [first, last] = [0, 1].map(|word| {
            let (tags, lower) = (tags[word], !HIGHEST[0]);
            // Sets the highest bit of each byte that is not zero. There is no carry into the next byte.
            let not_zero = ((tags & lower) + lower) | tags;
            HIGHEST[word] & if zero { !not_zero } else { not_zero }
        });
        Places(first | (last >> 4))
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        let place = (self.0 != 0).then_some(bit / 8 + if bit % 8 == 7 { 0 } else { 8 });
        self.0 &= self.0.wrapping_sub(1);
        place
    }
}

impl Bucket {
    /// Returns the places with the tag of that hash.
    fn candidates(&self, hash: u32) -> Places {
        let wanted = tag(hash) * 0x0101_0101_0101_0101;
        Places::new(self.tags.map(|tags| tags ^ wanted), true)
    }

    fn in_use(&self) -> Places {
        Places::new(self.tags, false)
    }

    fn vacant(&self) -> Places {
        Places::new(self.tags, true)
    }

    fn fill(&mut self, place: usize, hash: u32, row: u32) {
        self.tags[place / 8] |= tag(hash) << (8 * (place % 8));
        self.rows[place] = row;
    }

    fn clear(&mut self, place: usize) {
        self.tags[place / 8] &= !(0xff << (8 * (place % 8)));
    }

    fn passed(&self) -> u64 {
        self.tags[1] >> PASSED
    }
}

impl Index {
    /// Returns the bucket at which the search for a hash begins.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }

    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() {
            0
        } else {
            bucket + 1
        }
    }

    /// Like [`find`](Index::find), but returns the position too, for `remove_found`.
    pub(super) fn search(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<Found> {
        if self.len == 0 {
            return None;
        }
        let home = self.home(hash);
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            for place in bucket.candidates(hash) {
                let row = bucket.rows[place];
                if is(row) {
                    return Some(Found { row, at, place });
                }
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.after(at);
            // Every bucket may have been passed over.
            if at == home {
                return None;
            }
        }
    }

    /// Returns the first of the rows that may have that hash for which `is` returns `true`.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.search(hash, is).map(|found| found.row)
    }

    /// Inserts a row that is not in the index. `hash_of` gives the hash of any other row.
    pub(super) fn insert(&mut self, hash: u32, row: u32, hash_of: impl Fn(u32) -> u32) {
        if !self.gone.is_empty() {
            self.remove_gone();
        }
        if (self.len + 1) * 4 > self.buckets.len() * PLACES * 3 {
            self.resize(self.buckets.len() * 3 / 2 + 1, hash_of);
        }
        self.put(hash, row);
        self.len += 1;
    }

    fn put(&mut self, hash: u32, row: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(place) = bucket.vacant().next() {
                bucket.fill(place, hash, row);
                return;
            }
            bucket.tags[1] += 1 << PASSED;
            at = self.after(at);
        }
    }

    /// Takes a vacant row out, at once or later, together with others. Entries start in an order that is random for the
    /// cache, and a miss for each of them would cost more than all the rest of a start.
    pub(super) fn remove_later(&mut self, hash: u32, row: u32, hash_of: impl Fn(u32) -> u32) {
        self.gone.push((hash, row));
        if self.gone.len() == TOGETHER || self.gone.len() == self.len {
            self.remove_gone();
            self.shrink(hash_of);
        }
    }

    fn remove_gone(&mut self) {
        let mut gone = std::mem::take(&mut self.gone);
        let tags = gone
            .iter()
            .map(|&(hash, _)| self.buckets[self.home(hash)].tags[0]);
        // Loads the buckets into the cache. `black_box` keeps the compiler from leaving the reads out.
        std::hint::black_box(tags.fold(0, u64::wrapping_add));
        for (hash, row) in gone.drain(..) {
            self.take_out(hash, row);
        }
        if self.len > 0 {
            self.gone = gone;
        }
    }

    /// Takes a row out, if it is in the index.
    pub(super) fn remove(&mut self, hash: u32, row: u32, hash_of: impl Fn(u32) -> u32) {
        self.take_out(hash, row);
        self.shrink(hash_of);
    }

    /// Takes out a row that was just found.
    pub(super) fn remove_found(&mut self, hash: u32, found: &Found, hash_of: impl Fn(u32) -> u32) {
        self.take_out_found(hash, found);
        self.shrink(hash_of);
    }

    #[inline]
    fn take_out(&mut self, hash: u32, row: u32) {
        if let Some(found) = self.search(hash, |known| known == row) {
            self.take_out_found(hash, &found);
        }
    }

    fn take_out_found(&mut self, hash: u32, &Found { at, place, .. }: &Found) {
        self.buckets[at].clear(place);
        let mut passed = self.home(hash);
        while passed != at {
            self.buckets[passed].tags[1] -= 1 << PASSED;
            passed = self.after(passed);
        }
        self.len -= 1;
    }

    fn shrink(&mut self, hash_of: impl Fn(u32) -> u32) {
        // Fewer than one row per bucket are left.
        if self.buckets.len() > KEPT && self.len < self.buckets.len() {
            self.remove_gone();
            self.resize(self.len * 2 / PLACES + 1, hash_of);
        }
    }

    /// Builds the index anew. There must be no `gone` rows.
    fn resize(&mut self, buckets: usize, hash_of: impl Fn(u32) -> u32) {
        let former = std::mem::replace(&mut self.buckets, vec![Bucket::default(); buckets]);
        for bucket in former {
            // First all hashes of a bucket, which lie far from each other, so that the processor fetches them at the
            // same time.
            let mut hashes = [0; PLACES];
            for place in bucket.in_use() {
                hashes[place] = hash_of(bucket.rows[place]);
            }
            for place in bucket.in_use() {
                self.put(hashes[place], bucket.rows[place]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// All rows that may have a hash.
    fn rows(index: &Index, hash: u32) -> HashSet<u32> {
        let mut rows = HashSet::new();
        index.find(hash, |row| {
            rows.insert(row);
            false
        });
        rows
    }

    /// Hashes at both ends and close together, so that searches run over the end and over each other. A row has one
    /// hash at a time.
    #[test]
    fn random_histories_agree_with_a_map() {
        let hashes = [0, 1, 2, u32::MAX, u32::MAX - 1, 1 << 31];
        for seed in 0..50_u64 {
            let mut random = seed + 1;
            let mut next = move |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let (mut index, mut model) = (Index::default(), HashMap::<u32, u32>::new());
            for step in 0..400 {
                let row = next(60) as u32;
                let known = model.clone();
                let hash_of = |row| known[&row];
                if let Some(hash) = model.remove(&row) {
                    // What has gone may be found until others have gone too.
                    match step % 7 {
                        0 => index.remove_later(hash, row, hash_of),
                        1 => {
                            let found = index.search(hash, |known| known == row);
                            index.remove_found(hash, &found.expect("it is there"), hash_of);
                        }
                        _ => index.remove(hash, row, hash_of),
                    }
                } else {
                    let hash = match next(2) {
                        0 => hashes[next(6) as usize],
                        _ => (next(20) as u32) << 27,
                    };
                    index.insert(hash, row, hash_of);
                    model.insert(row, hash);
                }
                for (row, hash) in &model {
                    assert!(rows(&index, *hash).contains(row), "seed {seed}, row {row}");
                }
                for &(hash, row) in &index.gone {
                    assert!(rows(&index, hash).contains(&row), "seed {seed}, row {row}");
                }
                assert_eq!(index.len, model.len() + index.gone.len());
                assert!(index.gone.len() < TOGETHER, "they are taken out in time");
                let in_use = index.buckets.iter().map(|bucket| bucket.in_use().count());
                assert_eq!(in_use.sum::<usize>(), index.len);
            }
        }
    }

    #[test]
    fn rows_that_have_gone_are_taken_out_some_together_and_with_the_last_one() {
        let mut index = Index::default();
        (0..100).for_each(|row| index.insert(row, row, |row| row));
        for left in (0..100_u32).rev() {
            index.remove_later(left, left, |row| row);
            assert!(index.gone.len() < TOGETHER, "{left} are left");
        }
        assert_eq!(index.find(7, |_| true), None);
        assert_eq!((index.len, index.gone.len()), (0, 0));
    }

    /// The hash of a vacant row is not known any more.
    #[test]
    fn rows_that_have_gone_are_taken_out_before_the_index_is_built_anew() {
        const ROWS: u32 = 1_000;
        for grows in [false, true] {
            let mut index = Index::default();
            let hash = |row: u32| row.wrapping_mul(0x9E37_79B9);
            let hash_of = |row| {
                assert_ne!(row, 0, "it has gone");
                hash(row)
            };
            (0..ROWS).for_each(|row| index.insert(hash(row), row, hash));
            index.remove_later(hash(0), 0, hash_of);
            let buckets = index.buckets.len();
            if grows {
                (ROWS..2 * ROWS).for_each(|row| index.insert(hash(row), row, hash_of));
            } else {
                (1..ROWS).for_each(|row| index.remove(hash(row), row, hash_of));
            }
            assert_ne!(index.buckets.len(), buckets);
            assert_eq!(index.len, if grows { 2 * ROWS as usize - 1 } else { 0 });
        }
    }

    #[test]
    fn what_is_not_there_is_not_taken_out() {
        let mut index = Index::default();
        index.remove(7, 1, |_| 7);
        index.insert(7, 1, |_| 7);
        for (hash, row) in [(7, 2), (8, 1), (u32::MAX, 1)] {
            index.remove(hash, row, |_| 7);
        }
        assert_eq!(rows(&index, 7), HashSet::from([1]));
        index.remove(7, 1, |_| 7);
        assert_eq!(index.len, 0);
    }

    /// Each bucket was passed over by a row that is still there.
    #[test]
    fn a_search_for_what_is_not_there_ends_though_every_bucket_was_passed_over() {
        const LAST: u32 = PLACES as u32;
        let mut index = Index::default();
        // As large as it gets here, and not so large that it shrinks.
        (0..38).for_each(|row| index.insert(1, row, |_| 1));
        (0..38).for_each(|row| index.remove(1, row, |_| 1));
        let buckets = index.buckets.len();
        assert_eq!(buckets, 7);
        let homes: Vec<u32> = (0..7_u64)
            .map(|home| (home << 32).div_ceil(7) as u32)
            .collect();
        let hash_of = |_| unreachable!("it keeps its size");
        for (home, &hash) in homes.iter().enumerate() {
            assert_eq!(index.home(hash), home);
            let first = 100 * home as u32;
            (first..=first + LAST).for_each(|row| index.insert(hash, row, hash_of));
            (first..first + LAST).for_each(|row| index.remove(hash, row, hash_of));
        }
        assert!(index.buckets.iter().all(|bucket| bucket.passed() > 0));
        assert_eq!(index.find(7, |_| false), None);
        index.remove(7, 1, hash_of);
        for (home, &hash) in homes.iter().enumerate() {
            index.remove(hash, 100 * home as u32 + LAST, hash_of);
        }
        assert!(index.buckets.iter().all(|bucket| bucket.tags == [0; 2]));
    }

    #[test]
    fn storage_follows_the_rows() {
        let hash: fn(u32) -> u32 = |row| row.wrapping_mul(0x9E37_79B9);
        let check = |index: &Index| {
            let (len, places) = (index.len, index.buckets.len() * PLACES);
            let most = (13 * len).max(KEPT * PLACES);
            assert!(places <= most, "{places} for {len} rows");
            assert!(3 * places >= 4 * len, "{places} for {len} rows");
        };
        type Remove = fn(&mut Index, u32, fn(u32) -> u32, Found);
        let removals: [Remove; 3] = [
            |index, row, hash, _| index.remove(hash(row), row, hash),
            |index, row, hash, _| index.remove_later(hash(row), row, hash),
            |index, row, hash, found| index.remove_found(hash(row), &found, hash),
        ];
        for remove in removals {
            let mut index = Index::default();
            for row in 0..10_000 {
                index.insert(hash(row), row, hash);
                check(&index);
                let places = index.buckets.len() * PLACES;
                assert!(
                    places <= 2 * (index.len + PLACES),
                    "{places} for {row} rows"
                );
            }
            for row in 0..10_000 {
                let found = index.search(hash(row), |known| known == row);
                remove(&mut index, row, hash, found.expect("it is there"));
                check(&index);
            }
            assert_eq!(index.find(hash(1), |_| true), None);
            assert!(index.buckets.iter().all(|bucket| bucket.tags == [0; 2]));
        }
    }
}
