//! Row numbers by hash.

/// A hash table of row numbers that keeps the hash beside the number. So it touches one line of memory for nearly every
/// look-up, grows without a look at rows, and calls no user code.
///
/// A look-up compares all places of a bucket before it decides anything: which of them it is cannot be foreseen, and a
/// processor that guesses wrong waits for memory before it goes on. What a full bucket has no place for lies in the next
/// one that has, and each that was passed over counts it.
///
/// Rows of one hash lie in one bucket after the other; which of them belongs to a key its caller has to see. A few may be
/// vacant by now, or be another key's.
#[derive(Default)]
pub(super) struct Index {
    /// The bucket for a hash is where that lies between 0 and 2³², so any number of them will do.
    buckets: Vec<Bucket>,
    /// How many rows passed over each bucket.
    passed: Vec<u32>,
    len: usize,
    /// Rows that are there no more, with their hashes, and have still to be taken out.
    gone: Vec<(u32, u32)>,
}

/// A line of memory. Each place has a hash and, below it, a row's number plus one; or is 0.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket([u64; PLACES]);

const PLACES: usize = 8;
/// Below this number of buckets storage is not worth giving back.
const KEPT: usize = 8;
/// As many are taken out in one go: a processor waits for their lines of memory at the same time.
const TOGETHER: usize = 32;

fn pack(hash: u32, row: u32) -> u64 {
    (u64::from(hash) << 32) | (u64::from(row) + 1)
}

fn hash_of(place: u64) -> u32 {
    (place >> 32) as u32
}

impl Bucket {
    /// A bit for each place that passes.
    fn places(&self, is: impl Fn(u64) -> bool) -> u32 {
        let bits = self.0.iter().enumerate();
        bits.fold(0, |bits, (at, &place)| bits | (u32::from(is(place)) << at))
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

    /// The first row of that hash which passes the test.
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at];
            let mut found = bucket.places(|place| hash_of(place) == hash && place != 0);
            while found != 0 {
                let row = (bucket.0[found.trailing_zeros() as usize] as u32).wrapping_sub(1);
                if is(row) {
                    return Some(row);
                }
                found &= found - 1;
            }
            if self.passed[at] == 0 {
                return None;
            }
            at = self.after(at);
        }
    }

    pub(super) fn insert(&mut self, hash: u32, row: u32) {
        if (self.len + 1) * 3 > self.buckets.len() * PLACES * 2 {
            self.resize(self.buckets.len() * 3 / 2 + 1);
        }
        self.put(pack(hash, row));
        self.len += 1;
    }

    fn put(&mut self, place: u64) {
        let mut at = self.home(hash_of(place));
        loop {
            let free = self.buckets[at].places(|place| place == 0);
            if free != 0 {
                self.buckets[at].0[free.trailing_zeros() as usize] = place;
                return;
            }
            self.passed[at] += 1;
            at = self.after(at);
        }
    }

    /// Takes a row out that is vacant, not necessarily at once. What is started follows no order that a cache foresees,
    /// and to wait for each line of memory by itself would cost more than all the rest of a start.
    pub(super) fn remove_later(&mut self, hash: u32, row: u32) {
        self.gone.push((hash, row));
        if self.gone.len() == TOGETHER || self.gone.len() == self.len {
            let mut gone = std::mem::take(&mut self.gone);
            let places = gone
                .iter()
                .map(|&(hash, _)| self.buckets[self.home(hash)].0[0]);
            // The compiler cannot know that what is read here is wanted later.
            std::hint::black_box(places.fold(0, u64::wrapping_add));
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
        if self.len == 0 {
            return;
        }
        let (home, wanted) = (self.home(hash), pack(hash, row));
        let mut at = home;
        loop {
            let found = self.buckets[at].places(|place| place == wanted);
            if found != 0 {
                self.buckets[at].0[found.trailing_zeros() as usize] = 0;
                break;
            }
            if self.passed[at] == 0 {
                return;
            }
            at = self.after(at);
        }
        let mut passed = home;
        while passed != at {
            self.passed[passed] -= 1;
            passed = self.after(passed);
        }
        self.len -= 1;
        if self.buckets.len() > KEPT && self.len * 6 < self.buckets.len() * PLACES {
            self.resize(self.len * 2 / PLACES + 1);
        }
    }

    fn resize(&mut self, buckets: usize) {
        self.passed = vec![0; buckets];
        let former = std::mem::replace(&mut self.buckets, vec![Bucket::default(); buckets]);
        let places = former.into_iter().flat_map(|bucket| bucket.0);
        for place in places.filter(|place| *place != 0) {
            self.put(place);
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

    #[test]
    fn storage_follows_the_rows() {
        let mut index = Index::default();
        let hash = |row: u32| row.wrapping_mul(0x9E37_79B9);
        let check = |index: &Index| {
            let (len, places) = (index.len, index.buckets.len() * PLACES);
            let most = (7 * len).max(KEPT * PLACES);
            assert!(places <= most, "{places} for {len} rows");
            assert!(2 * places >= 3 * len, "{places} for {len} rows");
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
        assert!(index.passed.iter().all(|passed| *passed == 0));
    }
}
