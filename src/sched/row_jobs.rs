//! The part of a group that a table uses whose rows are jobs.

use std::mem::{self, ManuallyDrop};
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::cancels::Cancels;
use super::error::ScheduleError;
use super::handle::Handle;
use super::runnable::{RowKey, RowTable, TableId};
use super::schedule::hand_back;
use super::shared::Shared;
use super::state::{Caller, Effects, State};
use crate::common::time::Timestamp;

/// Jobs that are rows of a table, as the table sees them. It calls under its own lock.
///
/// The effects of the group's transitions, as to wake the tasks that wait for its end, are applied when this is
/// dropped, and so are storage and other tables that they leave behind. So it is made before the table's lock is taken,
/// and dropped after that is free again, also when user code panics.
pub(crate) struct RowJobs<'a> {
    shared: &'a Arc<Shared>,
    caller: Caller,
    /// Most calls have none, and to look at it once costs less than the drop of each field.
    effects: ManuallyDrop<Effects>,
    /// Something is to be dropped.
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

    /// Returns a handle that is admitted while the group drains, and that is not counted.
    pub(crate) fn of_jobs(&self) -> Handle {
        Handle::lent(Arc::clone(self.shared()), Caller::Job)
    }

    pub(crate) fn register(&self, table: Weak<dyn RowTable>) -> TableId {
        self.shared().with(|state| state.register(table))
    }

    /// Where a table of this group notes cancels.
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
        self.shared().with(|state| state.lifecycle.is_draining())
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

    /// The same for an insert, before which not all that is noted has to be done.
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
    pub(crate) fn admit(&mut self) -> Result<(), ScheduleError<()>> {
        let cancelled = self.shared.is_cancelled();
        let admitted = self.with(|state, caller, _| state.lifecycle.admit(caller, cancelled));
        admitted.map_err(|rejected| hand_back((rejected, ())))
    }

    /// Schedules the job of a row, in place of the one in `former`. Returns its slot, unless the group rejects jobs.
    pub(crate) fn insert(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
        former: Option<u32>,
        site: &'static Location<'static>,
    ) -> Option<u32> {
        let cancelled = self.shared.is_cancelled();
        self.insert_with(|state, caller, effects| {
            state.lifecycle.admit(caller, cancelled).ok()?;
            Some(state.insert_row(at, key, table, former, site, effects))
        })
    }

    /// Moves the job of a row, or schedules it anew if it is just being started. Returns its slot, unless the
    /// group rejects jobs.
    pub(crate) fn rearm(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
        slot: u32,
        site: &'static Location<'static>,
    ) -> Option<u32> {
        let shared = self.shared;
        let cancelled = shared.is_cancelled();
        self.with(|state, caller, effects| {
            state.lifecycle.admit(caller, cancelled).ok()?;
            if !state.is_pending_row(slot) {
                return Some(state.insert_row(at, key, table, None, site, effects));
            }
            // False only in a group that is past its own deadline.
            let honoured = state.reset(slot, at, || shared.now(), effects);
            honoured.then_some(slot)
        })
    }

    /// Cancels the job of a row, if it has not started, and takes the group's lock for it.
    pub(crate) fn cancel(&mut self, slot: u32) {
        self.with(|state, _, effects| state.cancel_row(slot, effects));
    }

    /// Moves the job of a row. Returns `true` if the move will be honoured; otherwise it is just being started, or
    /// the group has ended.
    pub(crate) fn reset(&mut self, slot: u32, at: impl FnOnce(Timestamp) -> Timestamp) -> bool {
        let shared = self.shared;
        !shared.is_cancelled()
            && self.with(|state, _, effects| {
                state.is_pending_row(slot) && {
                    let at = at(state.jobs.deadline(slot));
                    state.reset(slot, at, || shared.now(), effects)
                }
            })
    }

    /// Returns the instant at which the job of a row is due, if it has one.
    pub(crate) fn deadline(&mut self, slot: u32) -> Option<Timestamp> {
        self.with(|state, _, _| state.jobs.row_deadline(slot))
    }

    /// Gives the job of a row back that may not start before it is unblocked.
    pub(crate) fn block(&mut self, slot: u32, key: RowKey, table: &Arc<dyn RowTable>) {
        self.with(|state, _, effects| state.block(slot, key, table, effects));
    }

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
