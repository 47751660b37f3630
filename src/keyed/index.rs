//! Row numbers by hash.

/// A hash table of row numbers that keeps the hash beside the number. So it touches one line of memory for nearly every
/// look-up, grows without a look at rows, and calls no user code.
///
/// A look-up compares all places of a bucket in a few instructions before it decides anything: which of them it is cannot
/// be foreseen, and a processor that guesses wrong waits for memory before it goes on. What a full bucket has no place
/// for lies in the next one that has, and each that was passed over counts it.
///
/// Rows of one hash lie in one bucket after the other; which of them belongs to a key its caller has to see. A few may be
/// vacant by now, or be another key's.
#[derive(Default)]
pub(super) struct Index {
    /// The bucket for a hash is where that lies between 0 and 2³², so any number of them will do.
    buckets: Vec<Bucket>,
    len: usize,
    /// Rows that are there no more, with their hashes, and have still to be taken out.
    gone: Vec<(u32, u32)>,
}

/// A line of memory.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    /// A byte for each place: some bits of its hash, and the highest one; or 0. The last byte is how many rows passed
    /// over the bucket. If they were ever as many as it can count, that is not known any more, and it stays so.
    tags: u64,
    /// Hashes and, below them, the numbers of the rows.
    places: [u64; PLACES],
}

const PLACES: usize = 7;
/// Below this number of buckets storage is not worth giving back.
const KEPT: usize = 8;
/// As many are taken out in one go: a processor waits for their lines of memory at the same time.
const TOGETHER: usize = 32;

/// The lowest bit of each place's tag.
const LOWEST: u64 = 0x0001_0101_0101_0101;
/// The highest one, which is set for a place in use.
const IN_USE: u64 = LOWEST << 7;
const PASSED: u32 = 56;

fn pack(hash: u32, row: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(row)
}

fn hash_of(place: u64) -> u32 {
    (place >> 32) as u32
}

fn tag(hash: u32) -> u64 {
    u64::from(hash & 0x7f | 0x80)
}

/// Numbers of places, of which each is the highest bit of a tag.
struct Places(u64);

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8);
        self.0 &= self.0.wrapping_sub(1);
        place
    }
}

impl Bucket {
    /// The places in use that may have that hash.
    fn candidates(&self, hash: u32) -> Places {
        let differences = self.tags ^ (tag(hash) * LOWEST);
        // A difference of zero sets its highest bit by this, and so may one that lies above such a one.
        Places(differences.wrapping_sub(LOWEST) & !differences & IN_USE)
    }

    fn vacant(&self) -> Option<usize> {
        Places(!self.tags & IN_USE).next()
    }

    fn fill(&mut self, at: usize, place: u64) {
        self.tags |= tag(hash_of(place)) << (8 * at);
        self.places[at] = place;
    }

    fn clear(&mut self, at: usize) {
        self.tags &= !(0xff << (8 * at));
    }

    fn passed(&self) -> u64 {
        self.tags >> PASSED
    }

    fn pass(&mut self) {
        if self.passed() < 0xff {
            self.tags += 1 << PASSED;
        }
    }

    fn unpass(&mut self) {
        if self.passed() < 0xff {
            self.tags -= 1 << PASSED;
        }
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

    /// The first place of that hash whose row passes the test.
    fn search(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<(usize, usize)> {
        if self.len == 0 {
            return None;
        }
        let home = self.home(hash);
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            for candidate in bucket.candidates(hash) {
                let place = bucket.places[candidate];
                if hash_of(place) == hash && is(place as u32) {
                    return Some((at, candidate));
                }
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.after(at);
            if at == home {
                return None;
            }
        }
    }

    /// The first row of that hash which passes the test.
    pub(super) fn find(&self, hash: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        let (at, place) = self.search(hash, is)?;
        Some(self.buckets[at].places[place] as u32)
    }

    pub(super) fn insert(&mut self, hash: u32, row: u32) {
        if (self.len + 1) * 4 > self.buckets.len() * PLACES * 3 {
            self.resize(self.buckets.len() * 3 / 2 + 1);
        }
        self.put(pack(hash, row));
        self.len += 1;
    }

    fn put(&mut self, place: u64) {
        let mut at = self.home(hash_of(place));
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(vacant) = bucket.vacant() {
                bucket.fill(vacant, place);
                return;
            }
            bucket.pass();
            at = self.after(at);
        }
    }

    /// Takes a row out that is vacant, not necessarily at once. What is started follows no order that a cache foresees,
    /// and to wait for each line of memory by itself would cost more than all the rest of a start.
    pub(super) fn remove_later(&mut self, hash: u32, row: u32) {
        self.gone.push((hash, row));
        if self.gone.len() == TOGETHER || self.gone.len() == self.len {
            let mut gone = std::mem::take(&mut self.gone);
            let tags = gone.iter().map(|&(hash, _)| self.buckets[self.home(hash)].tags);
            // The compiler cannot know that what is read here is wanted later.
            std::hint::black_box(tags.fold(0, u64::wrapping_add));
            for (hash, row) in gone.drain(..) {
                self.remove(hash, row);
            }
            if self.len > 0 {
                self.gone = gone;
            }
        }
    }

    /// Takes a row out that is there.
    pub(super) fn remove(&mut self, hash: u32, row: u32) {
        let Some((at, place)) = self.search(hash, |known| known == row) else {
            return;
        };
        self.buckets[at].clear(place);
        let mut passed = self.home(hash);
        while passed != at {
            self.buckets[passed].unpass();
            passed = self.after(passed);
        }
        self.len -= 1;
        if self.buckets.len() > KEPT && self.len * 6 < self.buckets.len() * PLACES {
            self.resize(self.len * 2 / PLACES + 1);
        }
    }

    fn resize(&mut self, buckets: usize) {
        let former = std::mem::replace(&mut self.buckets, vec![Bucket::default(); buckets]);
        for bucket in former {
            for place in Places(bucket.tags & IN_USE) {
                self.put(bucket.places[place]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// All rows of a hash.
    fn rows(index: &Index, hash: u32) -> HashSet<u32> {
        let mut rows = HashSet::new();
        index.find(hash, |row| {
            rows.insert(row);
            false
        });
        rows
    }

    /// Hashes at both ends and close together, so that searches run over the end and over each other.
    #[test]
    fn random_histories_agree_with_a_set() {
        let hashes = [0, 1, 2, u32::MAX, u32::MAX - 1, 1 << 31];
        for seed in 0..50_u64 {
            let mut random = seed + 1;
            let mut next = move |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let (mut index, mut model) = (Index::default(), HashSet::<(u32, u32)>::new());
            for step in 0..400 {
                let hash = match next(2) {
                    0 => hashes[next(6) as usize],
                    _ => (next(20) as u32) << 27,
                };
                let row = next(30) as u32;
                if model.remove(&(hash, row)) {
                    index.remove(hash, row);
                } else if step % 7 == 0 && index.len > 2 {
                    // What has gone may be found until others have gone too.
                    let gone = *model.iter().min().expect("there are some");
                    model.remove(&gone);
                    index.remove_later(gone.0, gone.1);
                } else {
                    model.insert((hash, row));
                    index.insert(hash, row);
                }
                let expected = model.iter().filter(|known| known.0 == hash);
                let expected: HashSet<u32> = expected.map(|known| known.1).collect();
                let gone = index.gone.iter().filter(|gone| gone.0 == hash);
                let gone: HashSet<u32> = gone.map(|gone| gone.1).collect();
                let mut found = rows(&index, hash);
                assert!(found.is_superset(&gone), "seed {seed}, hash {hash}");
                found.retain(|row| !gone.contains(row) || expected.contains(row));
                assert_eq!(found, expected, "seed {seed}, hash {hash}");
                assert_eq!(index.len, model.len() + index.gone.len());
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_taken_out() {
        let mut index = Index::default();
        index.remove(7, 1);
        index.insert(7, 1);
        for (hash, row) in [(7, 2), (8, 1), (u32::MAX, 1)] {
            index.remove(hash, row);
        }
        assert_eq!(rows(&index, 7), HashSet::from([1]));
        index.remove(7, 1);
        assert_eq!(index.len, 0);
    }

    /// The hash of a bucket's beginning, among `buckets`.
    fn beginning(bucket: u64, buckets: u64) -> u32 {
        ((bucket << 32).div_ceil(buckets)) as u32
    }

    /// Each bucket was passed over by a row that is still there.
    #[test]
    fn a_search_for_what_is_not_there_ends_though_every_bucket_was_passed_over() {
        let mut index = Index::default();
        // As large as it gets in this test, and large enough not to shrink.
        (0..26).for_each(|row| index.insert(u32::MAX, row));
        let buckets = index.buckets.len();
        (0..26).for_each(|row| index.remove(u32::MAX, row));
        assert_eq!((index.len, index.buckets.len()), (0, buckets));
        for home in 0..buckets {
            let hash = beginning(home as u64, buckets as u64);
            (0..=PLACES as u32).for_each(|row| index.insert(hash, 100 + row));
            (0..PLACES as u32).for_each(|row| index.remove(hash, 100 + row));
        }
        assert_eq!(index.buckets.len(), buckets);
        assert!(index.buckets.iter().all(|bucket| bucket.passed() > 0));
        assert_eq!(index.find(7, |_| true), None);
        index.remove(7, 1);
        for home in 0..buckets {
            let hash = beginning(home as u64, buckets as u64);
            index.remove(hash, 100 + PLACES as u32);
        }
        assert!(index.buckets.iter().all(|bucket| bucket.tags == 0));
    }

    /// More than a bucket can count passed over it.
    #[test]
    fn any_number_of_rows_of_one_hash_is_found() {
        let mut index = Index::default();
        for row in 0..3_000 {
            index.insert(7, row);
        }
        assert_eq!(rows(&index, 7).len(), 3_000);
        for row in (1..3_000).rev() {
            index.remove(7, row);
            assert_eq!(index.find(7, |known| known == row), None);
        }
        assert_eq!(rows(&index, 7), HashSet::from([0]));
    }

    #[test]
    fn storage_follows_the_rows() {
        let mut index = Index::default();
        let hash = |row: u32| row.wrapping_mul(0x9E37_79B9);
        let check = |index: &Index| {
            let (len, places) = (index.len, index.buckets.len() * PLACES);
            let most = (7 * len).max(KEPT * PLACES);
            assert!(places <= most, "{places} for {len} rows");
            assert!(3 * places >= 4 * len, "{places} for {len} rows");
        };
        for row in 0..10_000 {
            index.insert(hash(row), row);
            check(&index);
        }
        for row in 0..10_000 {
            assert_eq!(index.find(hash(row), |known| known == row), Some(row));
            index.remove(hash(row), row);
            check(&index);
        }
        assert_eq!(index.find(hash(1), |_| true), None);
        assert!(index.buckets.iter().all(|bucket| bucket.tags == 0));
    }
}
