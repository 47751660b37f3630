//! Row numbers by hash.

/// A hash table of row numbers, open and probed one place after the other, which keeps the hash beside the number. So it
/// touches one line of memory for most look-ups, grows without a look at rows, and calls no user code.
///
/// Rows of one hash lie one after another; which of them belongs to a key its caller has to see. A few may be vacant by
/// now, or be another key's.
#[derive(Default)]
pub(super) struct Index {
    /// A hash and, below it, a row's number plus one; 0 for a free place.
    ///
    /// The place for a hash is where it lies between 0 and 2³², so the order of places is that of hashes, and any
    /// length will do.
    places: Vec<u64>,
    len: usize,
    /// Rows that are there no more, with their hashes, and have still to be taken out.
    gone: Vec<(u32, u32)>,
}

/// Below this length storage is not worth giving back.
const KEPT: usize = 64;
/// As many are taken out in one go: a processor waits for their lines of memory at the same time.
const TOGETHER: usize = 32;

fn pack(hash: u32, row: u32) -> u64 {
    (u64::from(hash) << 32) | (u64::from(row) + 1)
}

fn hash_of(place: u64) -> u32 {
    (place >> 32) as u32
}

impl Index {
    /// Where the search for a hash begins.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.places.len() {
            0
        } else {
            at + 1
        }
    }

    /// The first row of that hash which passes the test.
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let place = self.places[at];
            if place == 0 {
                return None;
            }
            if hash_of(place) == hash {
                let row = (place as u32).wrapping_sub(1);
                if is(row) {
                    return Some(row);
                }
            }
            at = self.after(at);
        }
    }

    pub(super) fn insert(&mut self, hash: u32, row: u32) {
        if (self.len + 1) * 3 > self.places.len() * 2 {
            self.resize(self.places.len() * 3 / 2 + 8);
        }
        self.put(pack(hash, row));
        self.len += 1;
    }

    fn put(&mut self, place: u64) {
        let mut at = self.home(hash_of(place));
        while self.places[at] != 0 {
            at = self.after(at);
        }
        self.places[at] = place;
    }

    /// Takes a row out that is vacant, not necessarily at once. What is started follows no order that a cache foresees,
    /// and to wait for each line of memory by itself would cost more than all the rest of a start.
    pub(super) fn remove_later(&mut self, hash: u32, row: u32) {
        self.gone.push((hash, row));
        if self.gone.len() == TOGETHER || self.gone.len() == self.len {
            let mut gone = std::mem::take(&mut self.gone);
            let places = gone.iter().map(|&(hash, _)| self.places[self.home(hash)]);
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
        let (mut free, wanted) = (self.home(hash), pack(hash, row));
        while self.places[free] != wanted {
            if self.places[free] == 0 {
                return;
            }
            free = self.after(free);
        }
        // What was put farther from its home than here moves up, so that no search ends too early.
        let mut at = free;
        loop {
            at = self.after(at);
            let place = self.places[at];
            if place == 0 {
                break;
            }
            // How far it is to here, over the end if need be.
            let way = |from: usize| match at.checked_sub(from) {
                Some(way) => way,
                None => at + self.places.len() - from,
            };
            if way(self.home(hash_of(place))) >= way(free) {
                self.places[free] = place;
                free = at;
            }
        }
        self.places[free] = 0;
        self.len -= 1;
        if self.places.len() > KEPT && self.len * 6 < self.places.len() {
            self.resize(self.len * 2 + 8);
        }
    }

    fn resize(&mut self, len: usize) {
        let former = std::mem::replace(&mut self.places, vec![0; len]);
        for place in former.into_iter().filter(|place| *place != 0) {
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
    fn storage_follows_the_rows() {
        let mut index = Index::default();
        let hash = |row: u32| row.wrapping_mul(0x9E37_79B9);
        let check = |index: &Index| {
            let (len, places) = (index.len, index.places.len());
            assert!(places <= (7 * len).max(KEPT), "{places} for {len} rows");
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
    }
}
