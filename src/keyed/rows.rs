//! Numbered rows, in pages that are freed when they are empty. A row never moves.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::key::{SharedKey, TakenKey};

/// One key with its entry, or with its run; `slot` is that of its job in the scheduling group.
///
/// An entry that has `expired` is about to be handled: it is not found by its key any more, only by the number of its
/// row, and the key is free for another entry. The fields lie in the variants and not in a struct of their own, so that
/// a row is only eight bytes larger than its key and value.
pub(super) enum Row<K, V> {
    Vacant {
        /// The next vacant row of the page (an intrusive free list).
        next: u32,
    },
    Own {
        key: K,
        value: V,
        slot: u32,
        expired: bool,
    },
    /// The same, while another thread clones the key without the lock. It is rare, and its box keeps every row small.
    Shared {
        key: Box<SharedKey<K>>,
        value: V,
        slot: u32,
        expired: bool,
    },
    /// A run in a keyed group that is exclusive.
    Run { run: Box<KeyRun<K, V>>, slot: u32 },
}

/// An entry that was taken out.
pub(super) struct Taken<K, V> {
    pub(super) key: TakenKey<K>,
    pub(super) value: V,
    /// The slot of its job.
    pub(super) slot: u32,
    /// The hash of the key, if the entry was pending: the index still has its row.
    pub(super) pending: Option<u32>,
}

/// The run of a key, beside which no other of the same key may run.
pub(super) struct KeyRun<K, V> {
    pub(super) key: SharedKey<K>,
    /// `None` once the handler has it.
    pub(super) value: Option<V>,
}

impl<K, V> Row<K, V> {
    /// The key of an entry, pending or expired.
    pub(super) fn key(&self) -> Option<&K> {
        match self {
            Row::Own { key, .. } => Some(key),
            Row::Shared { key, .. } => Some(key.key()),
            Row::Vacant { .. } | Row::Run { .. } => None,
        }
    }

    /// The key of a pending entry.
    pub(super) fn pending_key(&self) -> Option<&K> {
        match self {
            Row::Own { expired: true, .. } | Row::Shared { expired: true, .. } => None,
            row => row.key(),
        }
    }

    /// The slot of the job of an entry or a run.
    pub(super) fn slot(&mut self) -> Option<&mut u32> {
        match self {
            Row::Own { slot, .. } | Row::Shared { slot, .. } | Row::Run { slot, .. } => Some(slot),
            Row::Vacant { .. } => None,
        }
    }

    /// Returns whether this is an entry, pending or expired, whose job is in `slot`.
    pub(super) fn is_entry_of(&self, slot: u32) -> bool {
        match self {
            Row::Own { slot: own, .. } | Row::Shared { slot: own, .. } => *own == slot,
            Row::Vacant { .. } | Row::Run { .. } => false,
        }
    }

    /// The value of an entry, pending or expired.
    pub(super) fn value(&mut self) -> Option<&mut V> {
        match self {
            Row::Own { value, .. } | Row::Shared { value, .. } => Some(value),
            Row::Vacant { .. } | Row::Run { .. } => None,
        }
    }

    /// Marks a pending entry as expired. Returns `false` if there is none.
    pub(super) fn expire(&mut self) -> bool {
        match self {
            Row::Own { expired, .. } | Row::Shared { expired, .. } => {
                !std::mem::replace(expired, true)
            }
            Row::Vacant { .. } | Row::Run { .. } => false,
        }
    }
}

/// Rows in a page.
const PAGE: u32 = 32;
/// No page.
const NONE: u32 = u32::MAX;

/// Numbered rows. A vacant one is found without a search: the pages with room form a linked stack, and the vacant rows
/// of a page an intrusive free list.
pub(super) struct Rows<K, V> {
    pages: Vec<Page<K, V>>,
    /// The top of the stack of pages with room, or `NONE`.
    roomy: u32,
    used: usize,
}

struct Page<K, V> {
    room: Storage<K, V>,
    /// The first vacant row.
    vacant: u32,
    used: u32,
    /// The next page in the stack of pages with room.
    below: u32,
}

/// The place of a row that is about to be taken out.
struct Place<'a, K, V> {
    row: &'a mut Row<K, V>,
    /// The hash of its key.
    hash: u32,
    /// What the place holds then.
    vacant: Row<K, V>,
}

/// The rows of a page.
type PageRows<K, V> = [Row<K, V>; PAGE as usize];
/// The hashes of their keys. They lie apart from the rows, so that a row keeps its 32 bytes.
type PageHashes = [u32; PAGE as usize];

/// The storage of a page; there is none while the page is empty. Which of the two it is depends on the type of the row
/// alone, so no call asks for it.
struct Storage<K, V> {
    small: Option<Box<Room<K, V>>>,
    large: Option<Box<LargeRoom<K, V>>>,
}

/// It is aligned to a line of the cache, so that no row of 32 bytes lies in two lines.
#[repr(align(64))]
struct Room<K, V> {
    rows: PageRows<K, V>,
    hashes: PageHashes,
}

/// The same with rows that are made in the heap, one by one: an array is made on the stack and then moved, and a few
/// copies of large ones are more than a stack has.
struct LargeRoom<K, V> {
    rows: Box<PageRows<K, V>>,
    hashes: PageHashes,
}

impl<K, V> Storage<K, V> {
    const IS_LARGE: bool = size_of::<Row<K, V>>() > 256;

    const NONE: Storage<K, V> = Storage {
        small: None,
        large: None,
    };

    #[inline]
    fn get(&self) -> Option<(&PageRows<K, V>, &PageHashes)> {
        if Self::IS_LARGE {
            let LargeRoom { rows, hashes } = self.large.as_deref()?;
            return Some((rows, hashes));
        }
        let Room { rows, hashes } = self.small.as_deref()?;
        Some((rows, hashes))
    }

    #[inline]
    fn get_mut(&mut self) -> Option<(&mut PageRows<K, V>, &mut PageHashes)> {
        if Self::IS_LARGE {
            let LargeRoom { rows, hashes } = self.large.as_deref_mut()?;
            return Some((rows, hashes));
        }
        let Room { rows, hashes } = self.small.as_deref_mut()?;
        Some((rows, hashes))
    }

    /// Allocates the storage, unless it is there.
    #[inline]
    fn allocate(&mut self) {
        let vacant = |row: usize| Row::Vacant {
            next: row as u32 + 1,
        };
        let hashes = [0; PAGE as usize];
        if !Self::IS_LARGE {
            self.small.get_or_insert_with(|| {
                let rows = std::array::from_fn(vacant);
                Box::new(Room { rows, hashes })
            });
        } else if self.large.is_none() {
            let rows: Box<[_]> = (0..PAGE as usize).map(vacant).collect();
            let Ok(rows) = rows.try_into() else {
                unreachable!("it has the length of a page");
            };
            self.large = Some(Box::new(LargeRoom { rows, hashes }));
        }
    }
}

impl<K, V> Rows<K, V> {
    pub(super) fn new() -> Rows<K, V> {
        Rows {
            pages: Vec::new(),
            roomy: NONE,
            used: 0,
        }
    }

    /// Returns the number that the next inserted row gets.
    pub(super) fn next(&self) -> u32 {
        let (page, row) = match self.pages.get(self.roomy as usize) {
            Some(page) => (self.roomy, page.vacant),
            None => (self.pages.len() as u32, 0),
        };
        let number = page
            .checked_mul(PAGE)
            .and_then(|first| first.checked_add(row));
        number
            .filter(|number| *number < NONE)
            .expect("schedgroup: more than four billion keys at once")
    }

    pub(super) fn insert(&mut self, hash: u32, row: Row<K, V>) -> u32 {
        let number = self.next();
        if number / PAGE == self.pages.len() as u32 {
            self.roomy = number / PAGE;
            self.pages.push(Page {
                room: Storage::NONE,
                vacant: 0,
                used: 0,
                below: NONE,
            });
        }
        let page = &mut self.pages[(number / PAGE) as usize];
        page.room.allocate();
        let at = (number % PAGE) as usize;
        if let Some((rows, hashes)) = page.room.get_mut() {
            if let Row::Vacant { next } = std::mem::replace(&mut rows[at], row) {
                page.vacant = next;
            }
            hashes[at] = hash;
        }
        page.used += 1;
        if page.used == PAGE {
            self.roomy = page.below;
        }
        self.used += 1;
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Row<K, V>> {
        let (rows, _) = self.pages.get((number / PAGE) as usize)?.room.get()?;
        Some(&rows[(number % PAGE) as usize])
    }

    pub(super) fn hash(&self, number: u32) -> Option<u32> {
        let (_, hashes) = self.pages.get((number / PAGE) as usize)?.room.get()?;
        Some(hashes[(number % PAGE) as usize])
    }

    /// Returns a function that gives the hash of a row.
    pub(super) fn hashes(&self) -> impl Fn(u32) -> u32 + '_ {
        |row| self.hash(row).expect("what is in the index has a row")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Row<K, V>> {
        let page = self.pages.get_mut((number / PAGE) as usize)?;
        let (rows, _) = page.room.get_mut()?;
        Some(&mut rows[(number % PAGE) as usize])
    }

    fn place(&mut self, number: u32) -> Option<Place<'_, K, V>> {
        let page = self.pages.get_mut((number / PAGE) as usize)?;
        let ((rows, hashes), at) = (page.room.get_mut()?, (number % PAGE) as usize);
        Some(Place {
            row: &mut rows[at],
            hash: hashes[at],
            vacant: Row::Vacant { next: page.vacant },
        })
    }

    /// Notes that the row has been taken out.
    #[inline]
    fn vacated(&mut self, number: u32) {
        let page = &mut self.pages[(number / PAGE) as usize];
        page.vacant = number % PAGE;
        if page.used == PAGE {
            page.below = std::mem::replace(&mut self.roomy, number / PAGE);
        }
        page.used -= 1;
        self.used -= 1;
        if page.used == 0 {
            self.page_emptied(number / PAGE);
        }
    }

    /// Frees the storage of an empty page; or all storage, if there is no row any more.
    #[inline(never)]
    fn page_emptied(&mut self, page: u32) {
        // Only vacant rows are dropped here.
        let page = &mut self.pages[page as usize];
        page.room = Storage::NONE;
        page.vacant = 0;
        if self.used == 0 {
            *self = Rows::new();
        }
    }

    /// Takes an entry out of its row.
    // Inlined with its callers, so that key and value are moved once. To move what was just written is slow (store
    // forwarding), and an entry that starts would be moved four times.
    #[inline(always)]
    pub(super) fn take(&mut self, number: u32) -> Option<Taken<K, V>> {
        let Place { row, hash, vacant } = self.place(number)?;
        let taken = match std::mem::replace(row, vacant) {
            Row::Own {
                key,
                value,
                slot,
                expired,
            } => Taken {
                key: TakenKey::Own(key),
                value,
                slot,
                pending: (!expired).then_some(hash),
            },
            Row::Shared {
                key,
                value,
                slot,
                expired,
            } => Taken {
                key: TakenKey::Shared(*key),
                value,
                slot,
                pending: (!expired).then_some(hash),
            },
            other => {
                *row = other;
                return None;
            }
        };
        self.vacated(number);
        Some(taken)
    }

    /// Takes a run out of its row, with the hash of its key.
    pub(super) fn take_run(&mut self, number: u32) -> Option<(u32, Box<KeyRun<K, V>>)> {
        let Place { row, hash, vacant } = self.place(number)?;
        match std::mem::replace(row, vacant) {
            Row::Run { run, .. } => {
                self.vacated(number);
                Some((hash, run))
            }
            other => {
                *row = other;
                None
            }
        }
    }

    /// Returns a number that is larger than that of every row.
    pub(super) fn end(&self) -> u32 {
        self.pages.len() as u32 * PAGE
    }
}

/// Values by the number of a row, for a few of the rows.
pub(super) type RowMap<T> = HashMap<u32, T, BuildHasherDefault<Spread>>;

/// Storage of no more than this capacity is not given back.
pub(super) const KEPT: usize = 64;

/// A hasher for numbers of rows. It spreads them over all bits, since the map uses the bits at both ends.
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(slot: u32) -> Row<u64, [u64; 2]> {
        Row::Own {
            key: 0,
            value: [0; 2],
            slot,
            expired: false,
        }
    }

    fn slot_of(rows: &mut Rows<u64, [u64; 2]>, number: u32) -> Option<u32> {
        rows.get_mut(number)?.slot().copied()
    }

    #[test]
    fn a_row_is_eight_bytes_more_than_key_and_value() {
        assert_eq!(size_of::<Row<u64, [u64; 2]>>(), 24 + 8);
        assert_eq!(size_of::<Row<&str, Box<dyn Send>>>(), 32 + 8);
    }

    #[test]
    fn numbers_are_known_before_and_name_their_rows() {
        let mut rows = Rows::new();
        for slot in 0..3 * PAGE + 1 {
            let told = rows.next();
            assert_eq!(rows.insert(7 * slot, row(slot)), told);
        }
        for number in 0..3 * PAGE + 1 {
            assert_eq!(slot_of(&mut rows, number), Some(number));
            assert_eq!(rows.hash(number), Some(7 * number));
        }
        assert!(rows.get(100 * PAGE).is_none());
        assert!(rows.take(1).is_some());
        assert!(rows.take(1).is_none());
    }

    /// Whatever was freed in whatever order, all of it is used again before anything new is made.
    #[test]
    fn all_room_is_found_again() {
        let mut rows = Rows::new();
        let all = 10 * PAGE;
        for slot in 0..all {
            rows.insert(0, row(slot));
        }
        let mut freed: Vec<u32> = (0..all)
            .map(|at| at * 7919 % all)
            .filter(|number| number % 3 != 0 || number / PAGE == 4)
            .collect();
        freed.iter().for_each(|&number| drop(rows.take(number)));
        let mut again: Vec<u32> = freed.iter().map(|_| rows.insert(0, row(0))).collect();
        freed.sort_unstable();
        again.sort_unstable();
        assert_eq!(again, freed);
        assert_eq!(rows.insert(0, row(0)), all, "it was full");
    }

    #[test]
    fn an_entry_and_a_run_are_taken_out_each_as_what_it_is() {
        let mut rows = Rows::new();
        let entry = rows.insert(7, row(1));
        let run = Box::new(KeyRun {
            key: crate::keyed::key::share(0),
            value: None,
        });
        let run = rows.insert(8, Row::Run { run, slot: 2 });
        assert!(rows.take(run).is_none() && rows.take_run(entry).is_none());
        assert_eq!(rows.take_run(run).map(|(hash, _)| hash), Some(8));
        assert_eq!(rows.next(), run, "its row is vacant");
        assert_eq!(rows.take(entry).map(|taken| taken.slot), Some(1));
        assert_eq!(rows.pages.capacity(), 0, "nothing is left");
    }

    #[test]
    fn an_empty_page_has_no_storage_and_the_last_row_leaves_nothing() {
        let mut rows = Rows::new();
        for slot in 0..10 * PAGE {
            rows.insert(0, row(slot));
        }
        (1..10 * PAGE).for_each(|number| drop(rows.take(number)));
        let there = rows.pages.iter().filter(|page| page.room.get().is_some());
        assert_eq!(there.count(), 1);
        drop(rows.take(0));
        assert_eq!(rows.pages.capacity(), 0);
        assert_eq!(rows.insert(0, row(0)), 0);
    }
}
