//! The tables whose rows are jobs of a group.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use crate::common::time::Timestamp;
use crate::sched::cancels::{Cancels, Noted};
use crate::sched::runnable::{RowTable, TableId};

/// The tables of a group, by number.
///
/// A pending row names its table by that number, which takes four bytes instead of the 16 of an `Arc<dyn RowTable>`. The
/// group itself keeps a table alive while rows of it are pending; otherwise it has only a weak reference.
///
/// Boxed, since most groups have no tables, and an idle group is to be small.
#[derive(Default)]
pub(in crate::sched) struct Tables(Option<Box<Inner>>);

struct Inner {
    /// The cancels of rows that were noted without the lock.
    cancels: Arc<Cancels>,
    /// Slots of cancelled rows that were taken out of `cancels` by an insert, for the next inserts to take over.
    spare: Noted,
    list: BTreeMap<NonZeroU32, Registered>,
    /// The number that the next table gets, unless it is in use.
    next: NonZeroU32,
    /// Tables that have no pending rows any more, to be dropped when the lock is free.
    unheld: Vec<Arc<dyn RowTable>>,
    /// The number of blocked rows.
    blocked: usize,
    /// Not later than the deadline of any blocked row.
    earliest_blocked: Timestamp,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            cancels: Arc::new(Cancels::new()),
            spare: Noted::default(),
            list: BTreeMap::new(),
            next: NonZeroU32::MIN,
            unheld: Vec::new(),
            blocked: 0,
            earliest_blocked: Timestamp::NEVER,
        }
    }
}

struct Registered {
    table: Weak<dyn RowTable>,
    /// `Some` while rows are pending.
    held: Option<Arc<dyn RowTable>>,
    /// The number of pending rows, which includes blocked ones.
    pending: usize,
}

impl Tables {
    pub(in crate::sched) fn register(&mut self, table: Weak<dyn RowTable>) -> TableId {
        let Inner { list, next, .. } = &mut **self.0.get_or_insert_default();
        assert!(
            list.len() < u32::MAX as usize,
            "schedgroup: more than four billion tables in one group"
        );
        loop {
            let id = *next;
            *next = next.checked_add(1).unwrap_or(NonZeroU32::MIN);
            if let Entry::Vacant(place) = list.entry(id) {
                place.insert(Registered {
                    table,
                    held: None,
                    pending: 0,
                });
                return TableId(id);
            }
        }
    }

    /// Removes a table that is being dropped. Its number may be given to another one.
    pub(in crate::sched) fn unregister(&mut self, id: TableId) {
        if let Some(inner) = &mut self.0 {
            inner.list.remove(&id.0);
        }
    }

    fn get(&mut self, id: TableId) -> &mut Registered {
        let inner = self.0.as_mut();
        let registered = inner.and_then(|inner| inner.list.get_mut(&id.0));
        registered.expect("a table is registered as long as it is there")
    }

    /// Returns the list in which tables note the cancels of their rows, if there are tables.
    pub(in crate::sched) fn cancels(&self) -> Option<&Arc<Cancels>> {
        self.0.as_ref().map(|inner| &inner.cancels)
    }

    /// Replaces the slots of cancelled rows that inserts may take over. Returns the former ones.
    pub(super) fn replace_spare(&mut self, spare: Noted) -> Noted {
        let inner = self.0.as_mut();
        inner.map_or_else(Noted::default, |inner| {
            std::mem::replace(&mut inner.spare, spare)
        })
    }

    pub(super) fn take_spare(&mut self) -> Option<u32> {
        self.0.as_mut()?.spare.pop()
    }

    // Blocked rows: they are due, and wait until their table unblocks them.

    pub(super) fn block(&mut self, deadline: Timestamp) {
        let inner = self.0.get_or_insert_default();
        inner.blocked += 1;
        inner.earliest_blocked = inner.earliest_blocked.min(deadline);
    }

    pub(super) fn unblock(&mut self) {
        let inner = self.0.get_or_insert_default();
        inner.blocked -= 1;
        if inner.blocked == 0 {
            inner.earliest_blocked = Timestamp::NEVER;
        }
    }

    pub(super) fn blocked(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.blocked)
    }

    pub(super) fn earliest_blocked(&self) -> Timestamp {
        let inner = self.0.as_ref();
        inner.map_or(Timestamp::NEVER, |inner| inner.earliest_blocked)
    }

    // Pending rows.

    /// Counts a row that is pending from now on. The first one keeps its table alive.
    pub(super) fn hold(&mut self, id: TableId, table: impl FnOnce() -> Arc<dyn RowTable>) {
        let registered = self.get(id);
        registered.pending += 1;
        registered.held.get_or_insert_with(table);
    }

    /// Stops counting a row that is claimed. Returns its table, which the claim keeps alive.
    pub(super) fn claim(&mut self, id: TableId) -> Arc<dyn RowTable> {
        let registered = self.get(id);
        registered.pending -= 1;
        let table = match registered.pending {
            0 => registered.held.take(),
            _ => registered.held.clone(),
        };
        table.expect("a table is held while its rows are pending")
    }

    /// Stops counting a row that was cancelled. If it was the last one, its table is dropped after the lock, since that
    /// may drop values of users.
    pub(super) fn forget(&mut self, id: TableId) {
        let registered = self.get(id);
        registered.pending -= 1;
        if registered.pending == 0 {
            let held = registered.held.take();
            self.0.get_or_insert_default().unheld.extend(held);
        }
    }

    pub(super) fn has_unheld(&self) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| !inner.unheld.is_empty())
    }

    /// Takes the tables that have no pending rows any more, to be dropped after the lock.
    pub(super) fn take_unheld(&mut self) -> Vec<Arc<dyn RowTable>> {
        let inner = self.0.as_mut();
        inner.map_or_else(Vec::new, |inner| std::mem::take(&mut inner.unheld))
    }

    /// Returns all tables.
    pub(in crate::sched) fn all(&self) -> Vec<Arc<dyn RowTable>> {
        let registered = self.0.iter().flat_map(|inner| inner.list.values());
        registered
            .filter_map(|registered| registered.table.upgrade())
            .collect()
    }
}

// Those of loom can only be used in a model.
#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::common::panic::Payload;
    use crate::sched::runnable::{JobFuture, Run};

    /// A table without rows of its own.
    pub(in crate::sched::state) struct Table;

    impl RowTable for Table {
        fn may_start(&self, _: &Arc<dyn RowTable>, _: u32, _: u32) -> Result<bool, Payload> {
            Ok(true)
        }

        fn start(self: Arc<Self>, _: u32, _: u32, _: Run) -> Option<JobFuture> {
            None
        }

        fn clear(&self) {}
    }

    #[test]
    fn no_two_tables_have_the_same_number_though_numbers_are_given_again() {
        let mut tables = Tables::default();
        let kept = tables.register(Weak::<Table>::new());
        tables.0.as_mut().unwrap().next = NonZeroU32::MAX;
        let last = tables.register(Weak::<Table>::new());
        let first = tables.register(Weak::<Table>::new());
        assert_eq!([kept, last, first].map(|id| id.0.get()), [1, u32::MAX, 2]);
        for id in [kept, last, first] {
            tables.unregister(id);
        }
        assert!(tables.0.unwrap().list.is_empty());
    }

    #[test]
    fn the_earliest_that_is_blocked_is_known_until_none_is() {
        let at = |millis| Timestamp::ALWAYS.after(Duration::from_millis(millis));
        let mut tables = Tables::default();
        assert_eq!(
            (tables.blocked(), tables.earliest_blocked()),
            (0, Timestamp::NEVER)
        );
        assert!(!tables.has_unheld());
        tables.block(at(5));
        tables.block(at(3));
        assert_eq!((tables.blocked(), tables.earliest_blocked()), (2, at(3)));
        tables.unblock();
        assert_eq!((tables.blocked(), tables.earliest_blocked()), (1, at(3)));
        tables.unblock();
        assert_eq!(
            (tables.blocked(), tables.earliest_blocked()),
            (0, Timestamp::NEVER)
        );
    }
}
