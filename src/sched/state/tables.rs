//! The tables whose rows are jobs of a group.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use crate::common::time::Timestamp;
use crate::sched::cancels::{Cancels, Noted};
use crate::sched::runnable::{RowTable, TableId};

/// The tables of a group, by number.
///
/// A pending row names its table by that number, which takes half the room of an `Arc`. So the group keeps a table
/// alive while rows of it are pending; otherwise it has only a weak reference.
///
/// Boxed, since most groups have no tables, and an idle group is to be small.
#[derive(Default)]
pub(in crate::sched) struct Tables(Option<Box<Inner>>);

struct Inner {
    /// The cancels of rows that were noted without the lock.
    cancels: Arc<Cancels>,
    /// Slots of cancelled rows that were taken out of `cancels` by an insert, for the next inserts to take over.
    spare: Noted,
    list: Vec<Option<Registered>>,
    vacant: BTreeSet<NonZeroU32>,
    /// Tables that have no pending rows any more, to be dropped when the lock is free.
    released: Vec<Arc<dyn RowTable>>,
    /// The number of blocked rows.
    blocked: usize,
    /// Not later than the deadline of any blocked row.
    earliest_blocked: Timestamp,
}

/// For a few times as many tables the storage is kept.
const KEPT: usize = 4;

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            cancels: Arc::new(Cancels::new()),
            spare: Noted::default(),
            list: Vec::new(),
            vacant: BTreeSet::new(),
            released: Vec::new(),
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

impl TableId {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Tables {
    pub(in crate::sched) fn register(&mut self, table: Weak<dyn RowTable>) -> TableId {
        let registered = Some(Registered {
            table,
            held: None,
            pending: 0,
        });
        let inner = self.0.get_or_insert_default();
        // The first, so that those at the end of the list are left, which can then be shorter.
        if let Some(id) = inner.vacant.pop_first().map(TableId) {
            inner.list[id.index()] = registered;
            return id;
        }
        inner.list.push(registered);
        let number = u32::try_from(inner.list.len())
            .ok()
            .and_then(NonZeroU32::new);
        TableId(number.expect("schedgroup: more than four billion tables in one group"))
    }

    /// Removes a table that is being dropped. Its number may be given to another one.
    pub(in crate::sched) fn unregister(&mut self, id: TableId) {
        let Inner { list, vacant, .. } = &mut **self.0.get_or_insert_default();
        list[id.index()] = None;
        if id.index() + 1 < list.len() {
            vacant.insert(id.0);
            return;
        }
        // The vacant places before the last one go with it. So the last place is never vacant, and the storage follows
        // the tables that are there.
        let used = list.iter().rposition(Option::is_some);
        list.truncate(used.map_or(0, |last| last + 1));
        drop(vacant.split_off(&NonZeroU32::MIN.saturating_add(list.len() as u32)));
        if list.capacity() / 4 > list.len().max(KEPT) {
            list.shrink_to(2 * list.len());
        }
    }

    fn get(&mut self, id: TableId) -> &mut Registered {
        let inner = self.0.as_mut();
        let registered = inner.and_then(|inner| inner.list[id.index()].as_mut());
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
    pub(super) fn release(&mut self, id: TableId) -> Arc<dyn RowTable> {
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
            self.0.get_or_insert_default().released.extend(held);
        }
    }

    pub(super) fn has_released(&self) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| !inner.released.is_empty())
    }

    /// Takes the tables that have no pending rows any more, to be dropped after the lock.
    pub(super) fn take_released(&mut self) -> Vec<Arc<dyn RowTable>> {
        let inner = self.0.as_mut();
        inner.map_or_else(Vec::new, |inner| std::mem::take(&mut inner.released))
    }

    /// Returns all tables.
    pub(in crate::sched) fn all(&self) -> Vec<Arc<dyn RowTable>> {
        let registered = self.0.iter().flat_map(|inner| &inner.list).flatten();
        registered
            .filter_map(|registered| registered.table.upgrade())
            .collect()
    }
}

// Those of loom can only be used in a model.
#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::common::panic::Payload;
    use crate::sched::runnable::{JobFuture, Run};

    struct Table;

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
    fn no_two_tables_have_the_same_number_in_whatever_order_they_go() {
        let mut tables = Tables::default();
        let mut registered: Vec<TableId> = Vec::new();
        for step in 0..10_000_usize {
            // More come than go, and then the other way round.
            if step * 7 % 10 < 4 + step / 2_000 && !registered.is_empty() {
                let id = registered.swap_remove(step * 31 % registered.len());
                tables.unregister(id);
            } else {
                let id = tables.register(Weak::<Table>::new());
                assert!(!registered.contains(&id), "{id:?}");
                registered.push(id);
            }
            let last = registered.iter().map(|id| id.index() + 1).max();
            let inner = tables.0.as_ref().unwrap();
            assert_eq!(inner.list.len(), last.unwrap_or(0));
            assert_eq!(inner.list.len(), inner.vacant.len() + registered.len());
        }
    }

    #[test]
    fn the_earliest_that_is_blocked_is_known_until_none_is() {
        let at = |millis| Timestamp::ALWAYS.after(Duration::from_millis(millis));
        let mut tables = Tables::default();
        assert_eq!(
            (tables.blocked(), tables.earliest_blocked()),
            (0, Timestamp::NEVER)
        );
        assert!(!tables.has_released());
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
