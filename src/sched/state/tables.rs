//! The tables whose rows are jobs of a group.

use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use crate::sched::runnable::{RowTable, TableId};

/// Tables by their numbers.
///
/// A job that waits knows its table by that number: an `Arc` for each would cost it twice the room. So the group
/// holds a table as long as one of its rows waits, and refers to it as long as it is held by others.
#[derive(Default)]
pub(in crate::sched) struct Tables {
    list: Vec<Option<Registered>>,
    vacant: Vec<TableId>,
}

struct Registered {
    table: Weak<dyn RowTable>,
    /// While rows wait.
    held: Option<Arc<dyn RowTable>>,
    /// The number of rows that wait.
    waiting: usize,
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
            waiting: 0,
        });
        if let Some(id) = self.vacant.pop() {
            self.list[id.index()] = registered;
            return id;
        }
        self.list.push(registered);
        let number = u32::try_from(self.list.len())
            .ok()
            .and_then(NonZeroU32::new);
        TableId(number.expect("schedgroup: more than four billion tables in one group"))
    }

    /// A table was dropped: its number may be given to another.
    pub(in crate::sched) fn unregister(&mut self, id: TableId) {
        self.list[id.index()] = None;
        self.vacant.push(id);
    }

    fn get(&mut self, id: TableId) -> &mut Registered {
        let registered = self.list[id.index()].as_mut();
        registered.expect("a table is registered as long as it is there")
    }

    /// A row waits.
    pub(super) fn hold(&mut self, id: TableId, table: impl FnOnce() -> Arc<dyn RowTable>) {
        let registered = self.get(id);
        registered.waiting += 1;
        registered.held.get_or_insert_with(table);
    }

    /// A row no longer waits. Returns its table: if that was all that held it, it must not be dropped under the
    /// group's lock.
    pub(super) fn release(&mut self, id: TableId) -> Arc<dyn RowTable> {
        let registered = self.get(id);
        registered.waiting -= 1;
        let table = match registered.waiting {
            0 => registered.held.take(),
            _ => registered.held.clone(),
        };
        table.expect("a table is held while its rows wait")
    }

    /// The same, for a caller who holds the table.
    pub(super) fn forget(&mut self, id: TableId) {
        let registered = self.get(id);
        registered.waiting -= 1;
        if registered.waiting == 0 {
            registered.held = None;
        }
    }

    /// All that are there, to be cleared.
    pub(in crate::sched) fn all(&self) -> Vec<Arc<dyn RowTable>> {
        let registered = self.list.iter().flatten();
        registered
            .filter_map(|registered| registered.table.upgrade())
            .collect()
    }
}
