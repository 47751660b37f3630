//! Row numbers by hash.

/// A hash table of row numbers that keeps some bits of the hash beside each. So it touches one line of memory for nearly
/// every look-up, twelve rows lie in a line, and no user code is called. To be built anew it asks for the whole hashes.
///
/// A look-up compares all places of a bucket in a few instructions before it decides anything: which of them it is cannot
/// be foreseen, and a processor that guesses wrong waits for memory before it goes on. What a full bucket has no place
/// for lies in the next one that has, and each that was passed over counts it.
///
/// Which of the rows that are found belongs to a key its caller has to see: one in a hundred has another hash, and a few
/// may be vacant by now.
#[derive(Default)]
pub(super) struct Index {
    /// The bucket for a hash is where that lies between 0 and 2³², so any number of them will do.
    buckets: Vec<Bucket>,
    len: usize,
    /// Rows that are there no more, with their hashes, and have still to be taken out. They are before anything is put
    /// in, or built anew: till then each number is there once.
    gone: Vec<(u32, u32)>,
}

/// Where a row lies, until something changes.
pub(super) struct Found {
    pub(super) row: u32,
    at: usize,
    place: usize,
}

/// A line of memory.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    /// A byte for each place: some bits of its hash, or 0. The upper half of the second word is how many rows passed over
    /// the bucket.
    tags: [u64; 2],
    rows: [u32; PLACES],
}

const PLACES: usize = 12;
/// Below this number of buckets storage is not worth giving back.
const KEPT: usize = 8;
/// As many are taken out in one go: a processor waits for their lines of memory at the same time.
const TOGETHER: usize = 32;

/// The highest bit of each tag.
const HIGHEST: [u64; 2] = [0x8080_8080_8080_8080, 0x8080_8080];
/// The count of rows that passed over begins here.
const PASSED: u32 = 32;

/// The home of a hash depends on its upper bits, so this takes the lower ones. Never 0.
fn tag(hash: u32) -> u64 {
    u64::from((hash as u8).max(1))
}

/// Some places of a bucket: for each of the first eight the highest bit of a byte, and for the others the bit in the
/// middle of one.
struct Places(u64);

impl Places {
    /// Those whose tags are, or are not, zero.
    fn new(tags: [u64; 2], zero: bool) -> Places {
        let [first, last] = [0, 1].map(|word| {
            let (tags, lower) = (tags[word], !HIGHEST[0]);
            // Nothing is carried from one byte to the next.
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
    /// The places in use that may have that hash.
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
    /// Where the search for a hash begins.
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

    /// The same as [`find`](Index::find), for who takes it out next.
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
            // Rows that have stayed may have passed over all of them.
            if at == home {
                return None;
            }
        }
    }

    /// The first row that passes the test among those that may have that hash.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.search(hash, is).map(|found| found.row)
    }

    /// Puts a row in that is not there. `hash_of` is that of another.
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

    /// Takes a row out that is vacant, not necessarily at once. What is started follows no order that a cache foresees,
    /// and to wait for each line of memory by itself would cost more than all the rest of a start.
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
        // The compiler cannot know that what is read here is wanted later.
        std::hint::black_box(tags.fold(0, u64::wrapping_add));
        for (hash, row) in gone.drain(..) {
            self.take_out(hash, row);
        }
        if self.len > 0 {
            self.gone = gone;
        }
    }

    /// Takes a row out that is there.
    pub(super) fn remove(&mut self, hash: u32, row: u32, hash_of: impl Fn(u32) -> u32) {
        self.take_out(hash, row);
        self.shrink(hash_of);
    }

    /// Takes a row out that was found just now.
    pub(super) fn remove_found(&mut self, hash: u32, found: &Found, hash_of: impl Fn(u32) -> u32) {
        self.take_out_found(hash, found);
        self.shrink(hash_of);
    }

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

    fn is_too_large(&self) -> bool {
        self.buckets.len() > KEPT && self.len * 12 < self.buckets.len() * PLACES
    }

    fn shrink(&mut self, hash_of: impl Fn(u32) -> u32) {
        if self.is_too_large() {
            self.remove_gone();
            self.resize(self.len * 2 / PLACES + 1, hash_of);
        }
    }

    /// Builds it anew: nothing in it has gone.
    fn resize(&mut self, buckets: usize, hash_of: impl Fn(u32) -> u32) {
        let former = std::mem::replace(&mut self.buckets, vec![Bucket::default(); buckets]);
        for bucket in former {
            // They lie far from each other: a processor waits for all of a bucket at the same time.
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

    /// Hashes at both ends and close together, so that searches run over the end and over each other. A row has one hash at
    /// a time.
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
                let in_use = index.buckets.iter().map(|bucket| bucket.in_use().count());
                assert_eq!(in_use.sum::<usize>(), index.len);
            }
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
        let mut index = Index::default();
        let hash = |row: u32| row.wrapping_mul(0x9E37_79B9);
        let check = |index: &Index| {
            let (len, places) = (index.len, index.buckets.len() * PLACES);
            let most = (13 * len).max(KEPT * PLACES);
            assert!(places <= most, "{places} for {len} rows");
            assert!(3 * places >= 4 * len, "{places} for {len} rows");
        };
        for row in 0..10_000 {
            index.insert(hash(row), row, hash);
            check(&index);
        }
        for row in 0..10_000 {
            assert_eq!(index.find(hash(row), |known| known == row), Some(row));
            index.remove(hash(row), row, hash);
            check(&index);
        }
        assert_eq!(index.find(hash(1), |_| true), None);
        assert!(index.buckets.iter().all(|bucket| bucket.tags == [0; 2]));
    }
}
