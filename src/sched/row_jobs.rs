//! The side of a group that a table of rows uses (see `keyed`).

use std::mem::{self, ManuallyDrop};
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::cancels::Cancels;
use super::handle::Handle;
use super::runnable::{RowKey, RowTable, TableId};
use super::shared::Shared;
use super::state::{Caller, Effects, Rejected, State};
use crate::common::time::Timestamp;

/// The jobs of a table's rows. The table calls the methods under its own lock.
///
/// The effects of the transitions, which may call wakers of users, must not be applied under that lock. They are
/// collected, and applied when this is dropped; emptied storage and unused tables are dropped then too. So a caller
/// creates this before it takes the table's lock, and it is dropped after the lock was released, also when user code
/// panics.
pub(crate) struct RowJobs<'a> {
    shared: &'a Arc<Shared>,
    caller: Caller,
    /// Most calls have none. `ManuallyDrop`, since one look at it costs less than the drop of each field.
    effects: ManuallyDrop<Effects>,
    /// There is emptied storage, or an unused table.
    left: bool,
}

impl Handle {
    pub(crate) fn row_jobs(&self) -> RowJobs<'_> {
        RowJobs {
            shared: self.shared(),
            caller: self.submitter().caller,
            effects: ManuallyDrop::default(),
            left: false,
        }
    }

    /// Returns a handle that may schedule while the group drains, as a job may, and that is not counted.
    pub(crate) fn of_jobs(&self) -> Handle {
        Handle::uncounted(Arc::clone(self.shared()), Caller::Job)
    }

    pub(crate) fn register(&self, table: Weak<dyn RowTable>) -> TableId {
        self.shared()
            .with(|state| state.jobs.tables.register(table))
    }

    /// Returns the list in which a registered table of this group notes cancels.
    pub(crate) fn cancels(&self) -> Arc<Cancels> {
        let cancels = self
            .shared()
            .with(|state| state.jobs.tables.cancels().cloned());
        cancels.expect("a table is registered")
    }

    pub(crate) fn unregister(&self, table: TableId) {
        self.shared()
            .with(|state| state.jobs.tables.unregister(table));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared().with(|state| state.lifecycle.is_closed())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared().now()
    }

    pub(crate) fn timestamp(&self, at: Instant) -> Timestamp {
        self.shared().clock.timestamp(at)
    }

    pub(crate) fn after(&self, delay: Duration) -> Timestamp {
        self.now().after(delay)
    }

    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.shared().clock.instant(at)
    }
}

impl RowJobs<'_> {
    fn with<R>(&mut self, transition: impl FnOnce(&mut State, Caller, &mut Effects) -> R) -> R {
        self.insert_with(|state, caller, effects| {
            effects.wake_driver(state.apply_cancels());
            transition(state, caller, effects)
        })
    }

    /// Like [`with`](RowJobs::with), for an insert, which does not apply the noted cancels first.
    fn insert_with<R>(
        &mut self,
        transition: impl FnOnce(&mut State, Caller, &mut Effects) -> R,
    ) -> R {
        let RowJobs {
            shared,
            caller,
            effects,
            left,
        } = self;
        shared.with_table(|state| {
            let result = transition(state, *caller, effects);
            *left |= state.jobs.has_unused();
            result
        })
    }

    /// Fails if the group rejects jobs.
    pub(crate) fn admit(&mut self) -> Result<(), Rejected> {
        let (now, cancelled) = self.shared.end_inputs();
        self.with(|state, caller, _| state.lifecycle.admit(caller, now, cancelled))
    }

    /// Schedules the job of a row, in place of the job in the slot `former`, if that is given. Returns its slot, or
    /// `None` if the group rejects jobs.
    pub(crate) fn insert(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
        former: Option<u32>,
        site: &'static Location<'static>,
    ) -> Option<u32> {
        let (now, cancelled) = self.shared.end_inputs();
        self.insert_with(|state, caller, effects| {
            state.lifecycle.admit(caller, now, cancelled).ok()?;
            Some(state.insert_row(at, key, table, former, site, effects))
        })
    }

    /// Moves the job of a row, as [`reset`](RowJobs::reset) does, but fails if the group rejects jobs.
    pub(crate) fn rearm(
        &mut self,
        slot: u32,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
    ) -> Option<u32> {
        let (now, cancelled) = self.shared.end_inputs();
        self.with(|state, caller, effects| {
            state.lifecycle.admit(caller, now, cancelled).ok()?;
            state.reset_row(slot, at, key, table, false, effects)
        })
    }

    /// Cancels the job of a row, if it has not started.
    pub(crate) fn cancel(&mut self, slot: u32) {
        // The group may drain by this, so its end is noted first, as in `Shared::enter_checked`.
        let (now, cancelled) = self.shared.end_inputs();
        self.with(|state, _, effects| {
            state.check_end(now, cancelled, effects);
            state.cancel_row(slot, effects);
        });
    }

    /// Moves the job of a row, also if a worker is about to start it. Returns its slot, which may be another one, or
    /// `None` if the group has ended.
    pub(crate) fn reset(
        &mut self,
        slot: u32,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
    ) -> Option<u32> {
        let is_over = self.shared.is_over();
        self.with(|state, _, effects| state.reset_row(slot, at, key, table, is_over, effects))
    }

    /// Makes the job of a row due at `now`, unless it is due before. Returns `true` if it may start, and `false` if the
    /// group has ended.
    pub(crate) fn expire(&mut self, slot: u32, now: Timestamp) -> bool {
        let is_over = self.shared.is_over();
        self.with(|state, _, effects| state.expire(slot, now, is_over, effects))
    }

    /// Returns the deadline of the job of a row; `None` if the group has ended and drops it.
    pub(crate) fn deadline(&mut self, slot: u32) -> Option<Timestamp> {
        let is_over = self.shared.is_over();
        let deadline = self.with(|state, _, _| state.row_deadline(slot));
        deadline.filter(|_| !is_over)
    }

    /// Blocks the claimed job of a row, which may not start until it is unblocked. Returns its deadline.
    pub(crate) fn block(&mut self, slot: u32, key: RowKey, table: &Arc<dyn RowTable>) -> Timestamp {
        self.with(|state, _, effects| state.block(slot, key, table, effects))
    }

    /// Lets the blocked job of a row start.
    pub(crate) fn unblock(&mut self, slot: u32) {
        self.with(|state, _, effects| state.unblock(slot, effects));
    }

    /// Stops the run of a row at its next await.
    pub(crate) fn abort(&mut self, slot: u32) {
        let mut pending = None;
        self.with(|state, _, effects| state.abort(slot, &mut pending, effects));
        debug_assert!(pending.is_none(), "it runs");
    }
}

impl Drop for RowJobs<'_> {
    fn drop(&mut self) {
        if !self.effects.is_empty() {
            self.shared.apply(mem::take(&mut *self.effects));
        }
        if self.left {
            self.shared.with(|_| ());
        }
    }
}
