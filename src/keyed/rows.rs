//! Rows by number, in pages that give their storage back. A row never moves.

use super::key::SharedKey;

/// One key with what is pending for it, or with its run.
pub(super) enum Row<K, V> {
    /// The next vacant row of the page.
    Vacant(u32),
    Own(K, V, Meta),
    /// The same, while somebody else reads the key. It is rare, and must not make each row larger.
    Shared(Box<SharedKey<K>>, V, Meta),
    /// The run of a key that runs alone.
    Run(Box<Run<K, V>>, Meta),
}

/// Where a row is found, and its job.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) hash: u32,
    /// Of the row's job in the group.
    pub(super) slot: u32,
    /// It is on its way, and found by its number alone: its key is free for another.
    pub(super) expired: bool,
}

pub(super) struct Run<K, V> {
    pub(super) key: SharedKey<K>,
    /// Until the handler has it.
    pub(super) value: Option<V>,
    /// Rows that wait for the end of this run.
    pub(super) blocked: Vec<u32>,
}

/// No page.
const NONE: u32 = u32::MAX;

impl<K, V> Row<K, V> {
    pub(super) fn meta(&mut self) -> Option<&mut Meta> {
        match self {
            Row::Vacant(_) => None,
            Row::Own(.., meta) | Row::Shared(.., meta) | Row::Run(_, meta) => Some(meta),
        }
    }

    /// The key of something pending.
    pub(super) fn key(&self) -> Option<&K> {
        match self {
            Row::Own(key, ..) => Some(key),
            Row::Shared(key, ..) => Some(key.key()),
            Row::Vacant(_) | Row::Run(..) => None,
        }
    }
}

/// Rows in a page, the unit in which storage is given back.
const PAGE: u32 = 32;

/// Numbered rows. Those with room are found at once; what is empty is given back.
pub(super) struct Rows<K, V> {
    pages: Vec<Page<K, V>>,
    /// The top of a stack of pages with room. It is linked, so that to free a row allocates nothing.
    roomy: u32,
    used: usize,
}

enum Page<K, V> {
    /// Empty, and without storage; in the stack, with the page below it there.
    Gone(u32),
    There(Box<Room<K, V>>),
}

struct Room<K, V> {
    rows: [Row<K, V>; PAGE as usize],
    /// The first vacant row.
    vacant: u32,
    used: u32,
    /// The page below it in the stack, if it is in there.
    below: u32,
}

impl<K, V> Room<K, V> {
    fn new(below: u32) -> Room<K, V> {
        Room {
            rows: std::array::from_fn(|row| Row::Vacant(row as u32 + 1)),
            vacant: 0,
            used: 0,
            below,
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

    /// The number that the next row gets.
    pub(super) fn next(&self) -> u32 {
        let (page, row) = match self.pages.get(self.roomy as usize) {
            Some(Page::There(room)) => (self.roomy, room.vacant),
            Some(Page::Gone(_)) => (self.roomy, 0),
            None => (self.pages.len() as u32, 0),
        };
        let number = page
            .checked_mul(PAGE)
            .and_then(|first| first.checked_add(row));
        number
            .filter(|number| *number < NONE)
            .expect("schedgroup: more than four billion keys at once")
    }

    pub(super) fn insert(&mut self, row: Row<K, V>) -> u32 {
        let number = self.next();
        let page = number / PAGE;
        if page as usize == self.pages.len() {
            self.pages.push(Page::Gone(NONE));
            self.roomy = page;
        }
        let place = &mut self.pages[page as usize];
        if let Page::Gone(below) = *place {
            *place = Page::There(Box::new(Room::new(below)));
        }
        let Page::There(room) = place else {
            unreachable!("it was made just now");
        };
        let vacant = &mut room.rows[(number % PAGE) as usize];
        if let Row::Vacant(next) = *vacant {
            room.vacant = next;
        }
        *vacant = row;
        room.used += 1;
        if room.used == PAGE {
            self.roomy = room.below;
        }
        self.used += 1;
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Row<K, V>> {
        match self.pages.get((number / PAGE) as usize)? {
            Page::There(room) => Some(&room.rows[(number % PAGE) as usize]),
            Page::Gone(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Row<K, V>> {
        match self.pages.get_mut((number / PAGE) as usize)? {
            Page::There(room) => Some(&mut room.rows[(number % PAGE) as usize]),
            Page::Gone(_) => None,
        }
    }

    /// Takes a row out, which must be there.
    pub(super) fn remove(&mut self, number: u32) -> Row<K, V> {
        let page = number / PAGE;
        let place = &mut self.pages[page as usize];
        let Page::There(room) = place else {
            unreachable!("the row is there");
        };
        let vacant = Row::Vacant(room.vacant);
        let row = std::mem::replace(&mut room.rows[(number % PAGE) as usize], vacant);
        room.vacant = number % PAGE;
        if room.used == PAGE {
            room.below = std::mem::replace(&mut self.roomy, page);
        }
        room.used -= 1;
        if room.used == 0 {
            // Only vacant rows are dropped here.
            *place = Page::Gone(room.below);
        }
        self.used -= 1;
        if self.used == 0 {
            *self = Rows::new();
        }
        row
    }

    /// Every row has a smaller number.
    pub(super) fn end(&self) -> u32 {
        self.pages.len() as u32 * PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(slot: u32) -> Row<u64, [u64; 2]> {
        let meta = Meta {
            hash: 0,
            slot,
            expired: false,
        };
        Row::Own(0, [0; 2], meta)
    }

    fn slot_of(rows: &mut Rows<u64, [u64; 2]>, number: u32) -> u32 {
        let meta = rows.get_mut(number).and_then(Row::meta);
        meta.expect("it is there").slot
    }

    #[test]
    fn a_row_is_sixteen_bytes_more_than_key_and_value() {
        assert_eq!(size_of::<Row<u64, [u64; 2]>>(), 24 + 16);
        assert_eq!(size_of::<Row<&str, Box<dyn Send>>>(), 32 + 16);
    }

    #[test]
    fn numbers_are_told_before_and_name_their_rows() {
        let mut rows = Rows::new();
        for slot in 0..3 * PAGE + 1 {
            let told = rows.next();
            assert_eq!(rows.insert(row(slot)), told);
        }
        for number in 0..3 * PAGE + 1 {
            assert_eq!(slot_of(&mut rows, number), number);
        }
        assert!(rows.get(100 * PAGE).is_none());
    }

    /// Whatever was freed in whatever order, all of it is used again before anything new is made.
    #[test]
    fn all_room_is_found_again() {
        let mut rows = Rows::new();
        let all = 10 * PAGE;
        for slot in 0..all {
            rows.insert(row(slot));
        }
        let mut freed: Vec<u32> = (0..all)
            .map(|at| at * 7919 % all)
            .filter(|number| number % 3 != 0 || number / PAGE == 4)
            .collect();
        freed.iter().for_each(|&number| drop(rows.remove(number)));
        let mut again: Vec<u32> = freed.iter().map(|_| rows.insert(row(0))).collect();
        freed.sort_unstable();
        again.sort_unstable();
        assert_eq!(again, freed);
        assert_eq!(rows.insert(row(0)), all, "it was full");
    }

    #[test]
    fn an_empty_page_has_no_storage_and_the_last_row_leaves_nothing() {
        let mut rows = Rows::new();
        for slot in 0..10 * PAGE {
            rows.insert(row(slot));
        }
        (1..10 * PAGE).for_each(|number| drop(rows.remove(number)));
        let there = |page: &&Page<_, _>| matches!(page, Page::There(_));
        assert_eq!(rows.pages.iter().filter(there).count(), 1);
        drop(rows.remove(0));
        assert_eq!(rows.pages.capacity(), 0);
        assert_eq!(rows.insert(row(0)), 0);
    }
}
