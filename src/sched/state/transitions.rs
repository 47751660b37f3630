//! The state of a group, which one lock guards, and its transitions.
//!
//! The state has five parts, none of which knows the lock: the [`Jobs`], the [`Workers`], the [`Lifecycle`], the
//! [`Inbox`] of the driver, and the [`Waiters`]. A transition brings them together. It runs no user code, drops no user
//! value and wakes no task: it adds wake-ups to [`Effects`] and returns values that are to be dropped, and
//! [`Shared`](crate::sched::shared::Shared) deals with both when the lock is free again.

use std::collections::{HashSet, VecDeque};
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;

use crate::common::closing::{Closing, Report, StopReason};
use crate::common::time::{Clock, Timestamp};
use crate::common::waiters::Waiters;

use super::call_site::JobKind;
use super::counts::{Counts, Ending};
use super::dropped::{DroppedChunk, DroppedJob};
use super::inbox::{Inbox, WakeDriver};
use super::jobs::{EndedRun, Jobs, Reset, Unused};
use super::lifecycle::{GroupOutcome, Lifecycle};
use super::workers::{Registration, WorkerState, Workers};
use crate::sched::awaiting::AwaitingJob;
use crate::sched::cancels::Noted;
use crate::sched::job::{JobId, JobState};
use crate::sched::local_queue::{Claim, LocalQueue};
use crate::sched::queue::{Entry, Queue};
use crate::sched::runnable::{RowKey, RowTable, Runnable};
use crate::sched::stats::{JobInfo, Stats};
use crate::sched::woken::WokenJobs;

/// The effects of a transition, to be applied when the lock is free again.
#[derive(Default)]
#[must_use]
pub(in crate::sched) struct Effects {
    /// Wake the driver.
    pub(in crate::sched) driver: Option<WakeDriver>,
    /// Wake the parked worker.
    pub(in crate::sched) worker: Option<Waker>,
    /// Wake these tasks: they wait for the end of the group, are running jobs that are to stop, or are the worker that
    /// is parked when the group has drained.
    pub(in crate::sched) wake: Vec<Waker>,
    /// Cancel the group's token.
    pub(in crate::sched) cancel: bool,
    /// Drop this, after all wake-ups.
    pub(in crate::sched) unused: Option<Box<Unused>>,
}

impl Effects {
    /// Returns whether there is nothing to apply, and no storage to free.
    pub(in crate::sched) fn is_empty(&self) -> bool {
        let wakes = self.driver.is_some() || self.worker.is_some() || self.wake.capacity() > 0;
        !wakes && !self.cancel && self.unused.is_none()
    }

    /// Takes what has become unused, at the end of a step.
    #[inline]
    pub(in crate::sched) fn take_unused(&mut self, jobs: &mut Jobs) {
        if jobs.has_unused() {
            self.unused = Some(jobs.take_unused());
        }
    }

    /// Adds a wake-up of the driver, if there is one.
    #[inline]
    pub(in crate::sched) fn wake_driver(&mut self, driver: Option<WakeDriver>) {
        if driver.is_some() {
            self.driver = driver;
        }
    }
}

/// The work of the driver in one turn, in the order of precedence.
pub(in crate::sched) enum Turn {
    /// The group has drained: the driver ends.
    Exit,
    /// Drop the pending jobs that are due at that instant or later, and wake the running ones that are to be aborted.
    Drop(Timestamp),
    /// Make the series that end with `wait` due now.
    Expedite,
    /// Move the entries that have arrived into the heap, and release the jobs that are due.
    Work {
        arrived: Vec<Entry>,
        /// The earliest deadline in `arrived`.
        earliest: Timestamp,
        /// Jobs with a deadline up to this instant are due.
        due: Timestamp,
        /// Enough entries are dead for a sweep to be worth it.
        dead: bool,
    },
}

pub(in crate::sched) struct State {
    pub(in crate::sched) jobs: Jobs,
    workers: Workers,
    pub(in crate::sched) inbox: Inbox,
    pub(in crate::sched) lifecycle: Lifecycle,
    pub(in crate::sched) waiters: Waiters,
    /// The queue of the jobs that were woken. It is made by the first claim, since an idle group is to be small.
    woken: Option<Arc<WokenJobs>>,
    /// How many turns the driver has had.
    wakeups: u64,
}

/// The most due jobs that a worker claims in one step.
const MOST_CLAIMED: usize = 32;
/// The same, if woken jobs are left over after the worker has taken its share of them.
const FEW_CLAIMED: usize = 4;
/// The most woken jobs that a worker takes in one step.
const MOST_WOKEN: usize = 128;
/// The same, if the group has a limit and the worker claims a due job besides.
const FEW_WOKEN: usize = 4;

/// The next step of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum ClaimResult {
    /// There are jobs in its local queue.
    Jobs,
    Parked,
    Exit,
}

impl State {
    pub(in crate::sched) fn new(limit: usize, workers: Workers, deadline: Timestamp) -> State {
        State {
            jobs: Jobs::new(limit),
            workers,
            inbox: Inbox::default(),
            lifecycle: Lifecycle::new(deadline),
            waiters: Waiters::default(),
            woken: None,
            wakeups: 0,
        }
    }

    // Admission.

    /// Inserts a job that was admitted in the same step. It begins with one handle.
    pub(in crate::sched) fn insert(
        &mut self,
        at: Timestamp,
        runnable: Box<dyn Runnable>,
        kind: JobKind,
        scheduled_at: &'static Location<'static>,
        effects: &mut Effects,
    ) -> (JobId, u32) {
        let (id, slot) = self.jobs.insert(at, runnable, kind, scheduled_at);
        self.send(Entry::first(at, id.0, slot), effects);
        (id, slot)
    }

    /// Sends an entry to the driver, and wakes it if the entry is early.
    fn send(&mut self, entry: Entry, effects: &mut Effects) {
        effects.wake_driver(self.inbox.push(entry));
    }

    /// Makes the driver take a turn.
    fn notify(&mut self, effects: &mut Effects) {
        effects.wake_driver(self.inbox.notify());
    }

    // Handles on one job.

    pub(in crate::sched) fn job_state(&mut self, slot: u32) -> JobState {
        self.jobs.state(slot, &self.workers)
    }

    /// Cancels a job. Returns whether that prevents its next run; `false` if the end of the group has prevented it
    /// before. A job that had not started is moved to `dropped`: the caller drops it, and then counts it in
    /// [`EndedDrops`](crate::sched::ended_drops::EndedDrops).
    pub(in crate::sched) fn cancel(
        &mut self,
        slot: u32,
        dropped: &mut Option<DroppedJob>,
        effects: &mut Effects,
    ) -> bool {
        // A group that ends drops its pending jobs in later turns of the driver. The answer must not depend on how far
        // the driver is with that. The same is true of a series that ends with `wait`.
        let lifecycle = &self.lifecycle;
        let has_ended = lifecycle.is_closed() && self.jobs.ends_with_wait(slot);
        let runs_again = !has_ended && lifecycle.may_reschedule();
        let may_start =
            runs_again || (!has_ended && lifecycle.may_start_at(self.jobs.deadline(slot)));
        let prevented = self.jobs.cancel(slot, runs_again, &self.workers, dropped);
        self.job_left(effects);
        prevented && (dropped.is_none() || may_start)
    }

    /// Aborts a job: a running one stops at its next await, and one that has not started is moved to `dropped` as by
    /// [`cancel`](State::cancel).
    pub(in crate::sched) fn abort(
        &mut self,
        slot: u32,
        dropped: &mut Option<DroppedJob>,
        effects: &mut Effects,
    ) {
        let waker = self.jobs.abort(slot, &self.workers, dropped);
        effects.wake.extend(waker);
        self.job_left(effects);
    }

    /// Moves a job. Returns `true` if the move will be honoured; `false` if the group has ended, also if the group only
    /// `is_over` (see `Shared::is_over`).
    pub(in crate::sched) fn reset(
        &mut self,
        slot: u32,
        at: Timestamp,
        is_over: bool,
        effects: &mut Effects,
    ) -> bool {
        // The driver notes such an end, not this call: the end wakes the tasks that wait for it, with wakers that may
        // be users', and a reset must not do that.
        if is_over || !self.lifecycle.may_reschedule() {
            return false;
        }
        match self.jobs.reset(slot, at, &self.workers) {
            Reset::Rejected => return false,
            Reset::InPlace => {}
            Reset::Requeued(entry) => {
                self.send(entry, effects);
                self.job_left(effects);
            }
        }
        true
    }

    // Rows of tables.

    /// Cancels the rows whose cancels were noted without the lock (see `cancels.rs`, which has the exceptions). Each
    /// step under the lock begins with this.
    ///
    /// Returns the driver's waker if the driver must be woken for what [`job_left`](State::job_left) tells of.
    pub(in crate::sched) fn apply_cancels(&mut self) -> Option<WakeDriver> {
        let noted = self.jobs.tables.cancels()?.take();
        self.cancel_noted(noted)
    }

    /// Applies the noted cancels of a group that is to drain, and lets no more be noted: in such a group the last
    /// cancel ends it, in the step of the cancel itself.
    fn close_cancels(&mut self) -> Option<WakeDriver> {
        let cancels = self.jobs.tables.cancels()?;
        let noted = self.lifecycle.is_closing().then(|| cancels.close())?;
        self.cancel_noted(noted)
    }

    fn cancel_noted(&mut self, noted: Noted) -> Option<WakeDriver> {
        let spare = self.jobs.tables.replace_spare(Noted::default());
        if noted.slots().is_empty() && spare.slots().is_empty() {
            return None;
        }
        self.jobs.cancel_rows(spare.slots(), &self.workers);
        self.jobs.cancel_rows(noted.slots(), &self.workers);
        let wakes = self.has_too_many_dead() || self.lacks_workers();
        wakes.then(|| self.inbox.notify()).flatten()
    }

    /// Inserts the job of a row, which was admitted in the same step. It replaces the job in the slot `former`, if that
    /// is given: the former job is cancelled.
    ///
    /// If possible, the new job takes over a slot instead of getting a new one: that of `former`, or that of a row
    /// whose cancel is noted and not applied yet. It inherits the entry that the driver has for the slot, so nothing is
    /// sent to the driver, and no slot is freed and taken anew.
    pub(in crate::sched) fn insert_row(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
        former: Option<u32>,
        scheduled_at: &'static Location<'static>,
        effects: &mut Effects,
    ) -> u32 {
        let former = former.or_else(|| self.spare_slot());
        if let Some(former) = former {
            if self.jobs.take_over(former, at, key, &table, scheduled_at) {
                return former;
            }
        }
        let (id, slot) = self.jobs.insert_row(at, key, table, scheduled_at);
        self.send(Entry::first(at, id.0, slot), effects);
        if let Some(former) = former {
            self.cancel_row(former, effects);
        }
        slot
    }

    /// Returns a slot of a cancelled row for an insert to take over. When many cancels are noted, they become the
    /// `spare` slots for this and the next inserts.
    fn spare_slot(&mut self) -> Option<u32> {
        let spare = self.jobs.tables.take_spare();
        spare.or_else(|| {
            let cancels = self.jobs.tables.cancels()?;
            let noted = cancels.are_many().then(|| cancels.take())?;
            self.jobs.touch(noted.slots());
            self.jobs.tables.replace_spare(noted);
            self.jobs.tables.take_spare()
        })
    }

    /// Moves the job of a row, also if a worker is about to start it. Returns its slot; `None` if the group has ended,
    /// also if the group only `is_over`.
    pub(in crate::sched) fn reset_row(
        &mut self,
        slot: u32,
        at: Timestamp,
        key: RowKey,
        table: impl Fn() -> Arc<dyn RowTable>,
        is_over: bool,
        effects: &mut Effects,
    ) -> Option<u32> {
        if is_over || !self.lifecycle.may_reschedule() {
            return None;
        }
        if self.jobs.is_pending_row(slot, &self.workers) {
            return self.reset(slot, at, is_over, effects).then_some(slot);
        }
        // A worker has taken the job out of its local queue. The table gets another job for the row, and the worker
        // finds that its own does not belong to the row any more.
        let site = self.jobs.scheduled_at(slot)?;
        Some(self.insert_row(at, key, table, None, site, effects))
    }

    /// Returns the deadline of a row's job that is pending or just being started; `None` if the end of the group
    /// prevents its run, however far the driver is with dropping it.
    pub(in crate::sched) fn row_deadline(&self, slot: u32) -> Option<Timestamp> {
        let deadline = self.jobs.row_deadline(slot)?;
        self.lifecycle.may_start_at(deadline).then_some(deadline)
    }

    /// Makes the job of a row due at `now`, unless it is due before. Returns whether it may start: one that was due at a
    /// shutdown may, though it cannot be moved any more.
    pub(in crate::sched) fn expire(
        &mut self,
        slot: u32,
        now: Timestamp,
        is_over: bool,
        effects: &mut Effects,
    ) -> bool {
        let Some(deadline) = self.jobs.row_deadline(slot) else {
            return false;
        };
        // One that is due stays where it is: its place among those that wait for their key's run is that of its deadline.
        // So does one that a worker is about to start, and one that may not be moved any more.
        if deadline <= now
            || !self.lifecycle.may_reschedule()
            || !self.jobs.is_pending_row(slot, &self.workers)
        {
            return !is_over && self.lifecycle.may_start_at(deadline);
        }
        self.reset(slot, now, is_over, effects)
    }

    /// Cancels the job of a row, if it has not started. The caller holds the lock of its table.
    pub(in crate::sched) fn cancel_row(&mut self, slot: u32, effects: &mut Effects) {
        self.jobs.cancel_row(slot, &self.workers);
        self.job_left(effects);
        self.check_drained(effects);
    }

    /// Blocks a claimed row until its table unblocks it; drops it if the group has ended meanwhile. Returns its deadline.
    pub(in crate::sched) fn block(
        &mut self,
        slot: u32,
        key: RowKey,
        table: &Arc<dyn RowTable>,
        effects: &mut Effects,
    ) -> Timestamp {
        let deadline = self.jobs.deadline(slot);
        if self.lifecycle.may_start() {
            self.jobs.block(slot, key, table);
            self.job_left(effects);
        } else {
            self.drop_claimed(slot, effects);
        }
        deadline
    }

    /// Drops the job of a claimed row that was removed just before its start.
    pub(in crate::sched) fn drop_claimed(&mut self, slot: u32, effects: &mut Effects) {
        self.jobs.drop_claimed(slot);
        self.job_left(effects);
        self.check_drained(effects);
    }

    /// Lets a blocked row start: it is pending again, and due.
    pub(in crate::sched) fn unblock(&mut self, slot: u32, effects: &mut Effects) {
        if self.jobs.unblock(slot) {
            self.notify(effects);
        }
    }

    // Running.

    /// Records the jobs that a worker has ended, and claims its next ones. If there are none, the worker parks or
    /// exits. Returns also how many other workers to start.
    ///
    /// If `cancelled`, the token was cancelled before this step, and no job starts.
    pub(in crate::sched) fn claim(
        &mut self,
        worker: &mut Registration,
        now: Timestamp,
        cancelled: bool,
        waker: &Waker,
        effects: &mut Effects,
    ) -> (ClaimResult, usize) {
        let has_run = worker.state == WorkerState::Busy;
        if !self.workers.activate(worker) {
            self.workers.refresh_waker(worker, waker);
            return (ClaimResult::Parked, 0);
        }
        // Before the ends are recorded, since the group may drain by the last of them: then an earlier cancel would not
        // be what ended it.
        self.check_end(now, cancelled, effects);
        if has_run {
            self.record(worker);
        }
        // In a group with a limit only woken jobs: with a due one it would hold two slots, and could block its thread
        // in the first of the two.
        let mut claimed = match self.workers.is_to_help() {
            true => steal(&worker.local, &self.workers, !self.jobs.is_limited()),
            false => 0,
        };
        claimed += self.claim_woken(&worker.local);
        if self.lifecycle.may_start() {
            // Few new jobs are claimed while woken ones are left: else more and more jobs would be half done, and their
            // memory would have left the caches. But some start in any case, so that jobs which wake themselves again
            // and again cannot hold up the others.
            let most = match self.woken_jobs() {
                0 => MOST_CLAIMED,
                _ => FEW_CLAIMED,
            };
            claimed += self.jobs.claim(&worker.local, &self.workers, most);
        }
        if claimed == 0 && self.workers.locals().len() > 1 {
            claimed = steal(&worker.local, &self.workers, true);
        }
        worker.claimed(claimed);
        if claimed > 0 {
            // The first of them may block its thread. Then only the watch finds the others, since `startable` does not
            // count claimed jobs.
            if claimed > 1 {
                self.watch(effects);
            }
            // So may the one that is polled after a job has ended, while a third waits for the slot of that job.
            worker.records_each = claimed > 1 && self.jobs.is_limited();
            // `want_workers` below is for the jobs that are left, and for the slots that `record` has freed.
            let woken = self.woken.get_or_insert_default();
            worker.woken.get_or_insert_with(|| Arc::clone(woken));
            return (ClaimResult::Jobs, self.want_workers(effects));
        }
        (self.park_or_exit(worker, waker, effects), 0)
    }

    /// Records the jobs that a worker has ended.
    fn record(&mut self, worker: &mut Registration) {
        self.jobs.record(&worker.local);
        if let Some(slot) = worker.ended.take() {
            self.jobs.record_end(slot);
        }
    }

    /// Parks a worker that has found nothing to run, or lets it exit.
    fn park_or_exit(
        &mut self,
        worker: &mut Registration,
        waker: &Waker,
        effects: &mut Effects,
    ) -> ClaimResult {
        worker.shrink();
        self.check_drained(effects);
        // After `check_drained`: if this worker has just recorded the last end, the group has drained, and no wake-up
        // would ever come for a parked worker.
        if self.lifecycle.is_drained() {
            return ClaimResult::Exit;
        }
        self.workers.park_or_exit(worker, waker);
        match worker.state {
            WorkerState::Parked => ClaimResult::Parked,
            _ => ClaimResult::Exit,
        }
    }

    fn woken_jobs(&self) -> usize {
        self.woken.as_ref().map_or(0, |woken| woken.len())
    }

    /// Moves the worker's share of the woken jobs to its local queue. Returns how many.
    fn claim_woken(&mut self, local: &LocalQueue) -> usize {
        let Some(woken) = self.woken.as_ref().filter(|woken| woken.len() > 0) else {
            return 0;
        };
        // In a group with a limit a worker claims one due job at a time, and starts it before the woken ones. The due job
        // after it waits for the next claim, and must not wait behind many woken ones.
        let others_start = self.jobs.is_limited() && self.startable() > 0;
        let most = if others_start { FEW_WOKEN } else { MOST_WOKEN };
        local.claim_woken(woken, self.workers.share_of(woken.len(), most))
    }

    /// Records that a job has to await, and its place. Returns the place if the caller goes on to own the job, and has to
    /// put it back: it was woken meanwhile, or is to be aborted.
    pub(in crate::sched) fn awaits(
        &mut self,
        slot: u32,
        place: Arc<AwaitingJob>,
    ) -> Option<Arc<AwaitingJob>> {
        // An abort may come at any time, and stops the job exactly once. The check for it and the record of the place
        // are one step. An abort of this job or of all jobs either comes before it, and is seen here, or comes after it,
        // finds the place, and marks and wakes it: whoever owns the job after that sees the mark.
        if self.jobs.set_running(slot) || self.lifecycle.is_aborting() {
            place.abort();
            return Some(place);
        }
        if place.let_go() {
            // The common case: no reference is counted.
            self.jobs.set_place(slot, place);
            return None;
        }
        self.jobs.set_place(slot, Arc::clone(&place));
        Some(place)
    }

    /// Removes a worker that has ended, or whose task was dropped with the runtime. What it had claimed is due again.
    pub(in crate::sched) fn worker_dropped(
        &mut self,
        worker: &mut Registration,
        effects: &mut Effects,
    ) {
        self.workers.worker_dropped(worker);
        self.record(worker);
        self.jobs.requeue_all(&worker.local);
        self.check_drained(effects);
    }

    /// Takes back a claimed job that the worker did not start, because the group is over.
    ///
    /// The driver drops it with the other pending jobs. If the driver may have been through with them already, the job
    /// is moved to `dropped` for the caller to drop.
    pub(in crate::sched) fn give_back(
        &mut self,
        claim: Claim,
        dropped: &mut Option<DroppedJob>,
        effects: &mut Effects,
    ) {
        let slot = claim.slot;
        self.jobs.requeue(claim);
        if self.lifecycle.is_aborting() {
            self.jobs.take_pending(slot, dropped);
        } else {
            self.notify(effects);
        }
    }

    /// Returns how many due jobs may start now.
    fn startable(&self) -> usize {
        if self.lifecycle.may_start() {
            self.jobs.startable()
        } else {
            0
        }
    }

    /// Calls workers for the jobs that could run now. Returns how many to start; a parked one is woken. If there are
    /// already as many active workers as threads, the driver watches whether they are stuck.
    pub(in crate::sched) fn want_workers(&mut self, effects: &mut Effects) -> usize {
        let wanted = self
            .workers
            .want_workers(self.startable() + self.woken_jobs());
        if let Some(worker) = wanted.wake {
            effects.worker = Some(worker);
        }
        if wanted.watch {
            self.notify(effects);
        }
        wanted.start
    }

    /// Returns whether a due job could start for which no worker is called, in a group with a limit.
    ///
    /// A step that may have freed a slot in another way than by the end of a run asks this, and lets the driver take a
    /// turn, in which it calls a worker. That is rare: the slot was that of a job that a worker had claimed and not
    /// started. Without a limit no job waits for a slot.
    fn lacks_workers(&self) -> bool {
        self.jobs.is_limited() && self.workers.are_needed(self.startable())
    }

    /// Lets the driver watch whether the workers are stuck.
    pub(in crate::sched) fn watch(&mut self, effects: &mut Effects) {
        if self.workers.watch() {
            self.notify(effects);
        }
    }

    /// Ends a run. Returns the values that are left of it, and how many workers to start for the slot that is free now.
    /// If any value is left, the caller drops it and then counts that, as after a [`cancel`](State::cancel).
    pub(in crate::sched) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        runnable: Option<Box<dyn Runnable>>,
        effects: &mut Effects,
    ) -> (EndedRun, usize) {
        let head = self.inbox.head();
        let (left, again) = self
            .jobs
            .finish(slot, ending, runnable, &self.lifecycle, head);
        match again {
            // A further run is pending, so the group cannot drain here.
            Some(entry) => self.send(entry, effects),
            None => self.check_drained(effects),
        }
        (left, self.want_workers(effects))
    }

    // The end of the group.

    /// Drains the group if it is closing and no job is held.
    pub(in crate::sched) fn check_drained(&mut self, effects: &mut Effects) {
        // Called in each step after which this may be so: wherever a count goes down, and wherever the group is closed.
        // It is part of the same step, so the end of the last job and a `wait` that closes the group cannot miss each
        // other. A query that records the end of a job does not call this; the worker of that job does, at its next
        // claim.
        if !self.lifecycle.is_closing() {
            return;
        }
        effects.wake_driver(self.close_cancels());
        self.jobs.ended_drops.close();
        if self.jobs.held() == 0 && self.lifecycle.note_empty() {
            effects.wake.extend(self.waiters.take());
            effects.wake.extend(self.workers.take_last_parked());
            self.notify(effects);
        }
    }

    /// Stops the group if its token was cancelled or its deadline has passed, and notes the end of the grace of a drain
    /// or a shutdown: no job starts from here on, and the driver drops what is pending and aborts what runs.
    pub(in crate::sched) fn check_end(
        &mut self,
        now: Timestamp,
        cancelled: bool,
        effects: &mut Effects,
    ) {
        if let Some(why) = self.lifecycle.reason(now, cancelled) {
            self.stop(why, effects);
        }
        if self.lifecycle.outlasts_grace(now) {
            self.lifecycle.end_grace(now, self.jobs.counts());
            self.jobs.recall_all(&self.workers);
            self.notify(effects);
        }
    }

    /// Stops the group: no job starts from here on. The first reason stays; a group that has drained gets none.
    pub(in crate::sched) fn stop(&mut self, why: StopReason, effects: &mut Effects) {
        effects.cancel = true;
        if self.lifecycle.stop(why) {
            // In the step that makes the reason visible, so that no job starts after a caller has seen the group
            // stopped. A claimed job that has left its local queue by now counts as started, or is given back by the
            // start check.
            self.jobs.recall_all(&self.workers);
            effects.wake.extend(self.waiters.take());
            self.notify(effects);
            self.check_drained(effects);
        }
    }

    /// Closes the group for `wait`. Returns `false` if that is misuse.
    pub(in crate::sched) fn close_to_wait(&mut self, effects: &mut Effects) -> bool {
        let admitted = self.lifecycle.close_to_wait();
        if self.jobs.to_expedite {
            self.notify(effects);
        }
        self.check_drained(effects);
        admitted
    }

    /// Closes the group for `drain` or `shutdown`. Returns the counts that its report begins with.
    pub(in crate::sched) fn close_until(
        &mut self,
        closing: Closing,
        now: Timestamp,
        abort: Timestamp,
        effects: &mut Effects,
    ) -> Counts {
        self.jobs.record_all(&self.workers);
        let before = self.jobs.counts();
        self.lifecycle.close_until(closing, now, abort, before);
        // A grace of zero is over now. This is noted by the next step that depends on it, at the latest by the driver.
        self.notify(effects);
        self.check_drained(effects);
        before
    }

    /// Stops the group because the `Group` was dropped, or its runtime was shut down. Returns how many jobs were
    /// pending and running.
    pub(in crate::sched) fn group_dropped(&mut self, effects: &mut Effects) -> (usize, usize) {
        self.lifecycle.group_dropped();
        // Before the counts are read, so that claimed jobs that have not started count as pending.
        self.jobs.recall_all(&self.workers);
        let held = (self.jobs.pending(), self.jobs.running());
        self.stop(StopReason::Cancelled, effects);
        // Also if the group was stopped before: its running jobs are to be aborted now.
        self.notify(effects);
        held
    }

    /// Ends the group whose runtime was shut down, and whose driver is being dropped: no task will be polled any more.
    /// Returns the queue of woken jobs, to be dropped.
    pub(in crate::sched) fn runtime_gone(
        &mut self,
        effects: &mut Effects,
    ) -> Option<VecDeque<Arc<AwaitingJob>>> {
        self.group_dropped(effects);
        self.lifecycle.abort();
        self.woken.as_ref().map(|woken| woken.close())
    }

    pub(in crate::sched) fn detach(&mut self, effects: &mut Effects) {
        self.lifecycle.detach();
        self.check_drained(effects);
    }

    pub(in crate::sched) fn handle_dropped(&mut self, effects: &mut Effects) {
        self.lifecycle.handle_dropped();
        self.check_drained(effects);
    }

    /// Returns the outcome for `wait`, once it is known.
    pub(in crate::sched) fn outcome(&self) -> Option<GroupOutcome<'_>> {
        self.lifecycle
            .outcome(self.jobs.counts(), &self.jobs.first_panic)
    }

    /// Returns the report for `drain` and `shutdown`, once it is known.
    pub(in crate::sched) fn report_since(&self, before: Counts) -> Option<Report> {
        self.lifecycle.report(self.jobs.counts(), before)
    }

    // The driver.

    /// Begins a turn of the driver. `empty` is the buffer for the entries that arrive next.
    pub(in crate::sched) fn turn(
        &mut self,
        now: Timestamp,
        cancelled: bool,
        empty: Vec<Entry>,
        effects: &mut Effects,
    ) -> Turn {
        self.wakeups += 1;
        self.inbox.on_wake();
        self.check_end(now, cancelled, effects);
        if self.lifecycle.is_drained() {
            return Turn::Exit;
        }
        if let Some(from) = self.lifecycle.drops_from(self.jobs.pending()) {
            return Turn::Drop(from);
        }
        if self.lifecycle.must_expedite() && std::mem::take(&mut self.jobs.to_expedite) {
            return Turn::Expedite;
        }
        self.jobs.set_seen();
        Turn::Work {
            earliest: self.inbox.earliest(),
            arrived: self.inbox.drain(empty),
            due: now,
            dead: self.has_too_many_dead(),
        }
    }

    /// Moves the pending jobs of one chunk that are due at `from` or later to `jobs`. If the group aborts its running
    /// jobs, those of the chunk are told to stop and woken.
    pub(in crate::sched) fn take_pending_chunk(
        &mut self,
        chunk: usize,
        from: Timestamp,
        dropped: &mut DroppedChunk,
        effects: &mut Effects,
    ) {
        self.jobs.take_pending_chunk(chunk, from, dropped);
        if self.lifecycle.is_aborting() {
            effects.wake.extend(self.jobs.abort_chunk(chunk));
        }
    }

    /// Makes the series of one chunk that end with `wait` due now.
    pub(in crate::sched) fn expedite_chunk(
        &mut self,
        chunk: usize,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        // Since the walk began, the group may have been shut down, which drops what was not due then.
        if !self.lifecycle.must_expedite() {
            return;
        }
        for entry in self.jobs.expedite_chunk(chunk, now, &self.workers) {
            self.send(entry, effects);
        }
    }

    /// Returns whether enough entries are dead for a sweep to be worth it. Each job that is not due has one live entry.
    pub(in crate::sched) fn has_too_many_dead(&self) -> bool {
        self.inbox.has_too_many_for(self.jobs.not_due())
    }

    /// Wakes the driver if it has work after a job was taken out of its place, by a cancel, an abort or a move: if a
    /// sweep is worth it; or if the job was claimed, so that a slot is free, and a due job waits for one.
    fn job_left(&mut self, effects: &mut Effects) {
        if self.has_too_many_dead() || self.lacks_workers() {
            self.notify(effects);
        }
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap. Returns how many workers to
    /// start.
    pub(in crate::sched) fn release(
        &mut self,
        batch: &mut Vec<Entry>,
        queue: &mut Queue,
        now: Timestamp,
        effects: &mut Effects,
    ) -> usize {
        self.jobs.release(batch, queue);
        let startable = self.startable() + self.woken_jobs();
        let wanted = self.workers.want_workers(startable);
        effects.worker = wanted.wake;
        // If a watch begins here, the driver need not be notified: the first check is the next line.
        wanted.start + usize::from(self.workers.check(startable, now))
    }

    /// Parks the driver. Returns the instant to sleep until, or `None` if there is something to do first.
    pub(in crate::sched) fn park(&mut self, next: Timestamp, waker: &Waker) -> Option<Timestamp> {
        // The driver has one timer, so this is the minimum of everything that depends on the clock.
        let check = self.workers.next_check();
        let until = next.min(check).min(self.lifecycle.next());
        self.inbox.park(until, waker).then_some(until)
    }

    /// Lists the jobs of one chunk that have not ended.
    pub(in crate::sched) fn list_chunk(
        &mut self,
        chunk: usize,
        clock: &Clock,
        jobs: &mut Vec<JobInfo>,
    ) {
        let locals = self.workers.locals().iter();
        // Workers go on meanwhile. `claimed` is read before the ends are recorded: so a job that starts in between is
        // listed as pending, and one that has also ended is not listed at all.
        let claimed: HashSet<u32> = locals.flat_map(|local| local.unstarted_slots()).collect();
        self.jobs.record_all(&self.workers);
        self.jobs.list_chunk(chunk, &claimed, clock, jobs);
    }

    pub(in crate::sched) fn stats(&mut self, clock: &Clock) -> Stats {
        Stats {
            driver_wakeups: self.wakeups,
            ..self.jobs.stats(self.inbox.head(), &self.workers, clock)
        }
    }
}

/// Moves the later half of the local queue of another worker to `local`: of woken jobs and, if `takes_claims`, of claimed
/// ones. Returns how many. A claimed job holds its slot already, so the limit of running jobs does not matter here.
fn steal(local: &Arc<LocalQueue>, workers: &Workers, takes_claims: bool) -> usize {
    for other in workers.others(local) {
        let woken = other.take_half_of_woken();
        let unstarted = match takes_claims {
            true => other.take_half(),
            false => VecDeque::new(),
        };
        let count = woken.len() + unstarted.len();
        if count > 0 {
            local.push_woken(woken);
            local.fill(unstarted.len(), |claims| claims.extend(unstarted));
            return count;
        }
    }
    0
}

// The locks of loom can only be taken in a model.
#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::super::tables::tests::Table;
    use super::*;
    use crate::sched::local_queue::NextJob;
    use crate::sched::local_queue::tests::{claim, locks, next, room};

    #[test]
    fn a_worker_takes_from_the_first_that_has_something() {
        let mut workers = Workers::new(4, true);
        let mut all: Vec<_> = (0..4).map(|_| Registration::new()).collect();
        assert_eq!(workers.want_workers(4).start, 4);
        for worker in &mut all {
            assert!(workers.activate(worker));
        }
        for has in 1..4 {
            all[has]
                .local
                .fill(4, |claims| claims.extend((0..4).map(claim)));
            assert_eq!(steal(&all[0].local, &workers, true), 2, "from {has}");
            for worker in &all {
                while next(&worker.local, None, Timestamp::ALWAYS).is_some() {}
            }
        }
        assert_eq!(steal(&all[0].local, &workers, true), 0);
    }

    /// A job that was due, and that a worker has taken out of its queue to start it.
    fn claimed(effects: &mut Effects) -> (State, Registration, Claim) {
        let now = Timestamp::ALWAYS;
        let workers = Workers::new(1, true);
        let mut state = State::new(usize::MAX, workers, Timestamp::NEVER);
        let job = Box::new(async {});
        state.insert(now, job, JobKind::Once, Location::caller(), effects);
        let counts = |state: &State| (state.jobs.pending(), state.jobs.not_due());
        assert_eq!(counts(&state), (1, 1));
        assert!(!state.jobs.to_expedite, "it is no series");
        let Turn::Work { mut arrived, .. } = state.turn(now, false, Vec::new(), effects) else {
            panic!("the group is open");
        };
        let mut queue = Queue::new(now);
        assert_eq!(state.release(&mut arrived, &mut queue, now, effects), 1);
        assert_eq!(counts(&state), (1, 0));
        let mut worker = Registration::new();
        let (claimed, _) = state.claim(&mut worker, now, false, Waker::noop(), effects);
        assert_eq!(claimed, ClaimResult::Jobs);
        assert_eq!(counts(&state), (0, 0));
        let claim = next(&worker.local, None, now).expect("one is claimed");
        (state, worker, claim)
    }

    /// The runtime goes between the worker's look at its queue and its start check. The driver has walked over all that
    /// was pending, and does not come back.
    #[test]
    fn a_claim_that_is_given_back_after_the_end_of_the_driver_is_dropped() {
        let mut effects = Effects::default();
        let (mut state, _worker, claim) = claimed(&mut effects);
        state.runtime_gone(&mut effects);
        let mut dropped = DroppedChunk::new();
        state.take_pending_chunk(0, Timestamp::ALWAYS, &mut dropped, &mut effects);
        assert_eq!(dropped.drain().count(), 0, "it is on its way to start");
        let mut given_back = None;
        state.give_back(claim, &mut given_back, &mut effects);
        assert!(given_back.is_some());
        assert_eq!(state.jobs.pending(), 0);
        assert!(state.jobs.ended_drops.add(1));
        assert_eq!(state.jobs.held(), 0);
    }

    /// A worker takes the job out of its queue, the group is stopped, the driver finds nothing to drop, and then the start
    /// check gives the job back.
    #[test]
    fn a_claim_that_is_given_back_to_a_driver_that_sleeps_wakes_it() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let (mut state, _worker, claim) = claimed(&mut effects);
        state.stop(StopReason::Cancelled, &mut effects);
        let turn = state.turn(now, true, Vec::new(), &mut effects);
        assert!(matches!(turn, Turn::Work { .. }));
        assert!(state.park(Timestamp::NEVER, Waker::noop()).is_some());
        let (mut dropped, mut effects) = (None, Effects::default());
        state.give_back(claim, &mut dropped, &mut effects);
        assert!(dropped.is_none() && matches!(effects.driver, Some(WakeDriver::Now(_))));
        let turn = state.turn(now, true, Vec::new(), &mut effects);
        assert!(matches!(turn, Turn::Drop(from) if from == now));
    }

    #[test]
    fn what_ends_before_a_shutdown_is_not_in_its_report_though_no_claim_has_recorded_it() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let (mut state, worker, claim) = claimed(&mut effects);
        worker.local.ended(Some(claim.slot));
        let before = state.close_until(Closing::ShutDown, now, now, &mut effects);
        let report = state.report_since(before).expect("no job is left");
        assert_eq!(report, Report::default());
    }

    /// What was submitted before the row is in the inbox by then. The driver has the entry of the former row in hand, or
    /// finds that of the new one, if it looks up the slot of a bucket only now.
    #[test]
    fn a_row_that_takes_over_a_slot_overtakes_nothing_that_came_before_it() {
        let at = |nanos| Timestamp::ALWAYS.after(Duration::from_nanos(nanos));
        let now = at(100);
        for is_looked_up_now in [false, true] {
            let workers = Workers::new(1, true);
            let mut state = State::new(usize::MAX, workers, Timestamp::NEVER);
            let table: Arc<dyn RowTable> = Arc::new(Table);
            let id = state.jobs.tables.register(Arc::downgrade(&table));
            let insert = |state: &mut State, nanos, former| {
                let key = RowKey { table: id, row: 0 };
                let (site, effects) = (Location::caller(), &mut Effects::default());
                state.insert_row(at(nanos), key, || Arc::clone(&table), former, site, effects)
            };
            let (mut queue, mut worker) = (Queue::new(now), Registration::new());
            let first = insert(&mut state, 10, None);
            insert(&mut state, 60, None);
            let deadlines = turn(&mut state, &mut queue, &mut worker, now, |state, batch| {
                insert(state, 30, None);
                assert_eq!(insert(state, 40, Some(first)), first);
                if is_looked_up_now {
                    *batch = state.jobs.entries(batch.iter().map(|entry| entry.slot));
                }
            });
            assert_eq!(deadlines, [at(60)], "{is_looked_up_now}");
            let deadlines = turn(&mut state, &mut queue, &mut worker, now, |_, _| ());
            assert_eq!(deadlines, [at(30), at(40)], "{is_looked_up_now}");
            assert_eq!(state.jobs.counts().dropped, 1);
        }
    }

    /// A row that was due at `at`, and that a worker has taken out of its queue to start it at `now`. Returns its slot.
    fn about_to_start(
        at: Timestamp,
        now: Timestamp,
    ) -> (State, Registration, Arc<dyn RowTable>, RowKey, u32) {
        let mut state = State::new(usize::MAX, Workers::new(1, true), Timestamp::NEVER);
        let table: Arc<dyn RowTable> = Arc::new(Table);
        let key = RowKey {
            table: state.jobs.tables.register(Arc::downgrade(&table)),
            row: 0,
        };
        let (site, effects) = (Location::caller(), &mut Effects::default());
        let slot = state.insert_row(at, key, || Arc::clone(&table), None, site, effects);
        let (mut queue, mut worker) = (Queue::new(now), Registration::new());
        let started = turn(&mut state, &mut queue, &mut worker, now, |_, _| ());
        assert_eq!(started, [at]);
        (state, worker, table, key, slot)
    }

    /// The caller has read the clock before the driver did.
    #[test]
    fn a_row_that_is_about_to_start_expires_though_the_caller_read_an_earlier_clock() {
        let at = |nanos| Timestamp::ALWAYS.after(Duration::from_nanos(nanos));
        let (mut state, _worker, _table, _key, slot) = about_to_start(at(60), at(100));
        let mut effects = Effects::default();
        assert!(state.expire(slot, at(50), false, &mut effects));
        assert!(
            !state.expire(slot, at(50), true, &mut effects),
            "it is over"
        );
        state.stop(StopReason::Cancelled, &mut effects);
        assert!(
            !state.expire(slot, at(50), false, &mut effects),
            "it is over"
        );
    }

    /// As before, and the group was shut down meanwhile. It was due then.
    #[test]
    fn a_row_that_a_worker_has_claimed_stays_there_if_it_may_not_be_moved_any_more() {
        let at = |nanos| Timestamp::ALWAYS.after(Duration::from_nanos(nanos));
        let (now, mut effects) = (at(100), Effects::default());
        let mut state = State::new(usize::MAX, Workers::new(1, true), Timestamp::NEVER);
        let table: Arc<dyn RowTable> = Arc::new(Table);
        let key = RowKey {
            table: state.jobs.tables.register(Arc::downgrade(&table)),
            row: 0,
        };
        let (of, site) = (|| Arc::clone(&table), Location::caller());
        let slot = state.insert_row(at(60), key, of, None, site, &mut effects);
        release(&mut state, &mut Queue::new(now), now, &mut effects);
        let mut worker = Registration::new();
        state.claim(&mut worker, now, false, Waker::noop(), &mut effects);
        state.close_until(Closing::ShutDown, now, Timestamp::NEVER, &mut effects);
        let moved = state.reset_row(slot, at(50), key, of, false, &mut effects);
        assert_eq!((moved, worker.local.len()), (None, 1));
        assert!(state.expire(slot, at(50), false, &mut effects));
        assert_eq!(worker.local.len(), 1);
    }

    #[test]
    fn a_row_that_is_moved_as_it_is_about_to_start_gets_another_job() {
        let at = |nanos| Timestamp::ALWAYS.after(Duration::from_nanos(nanos));
        let (mut state, _worker, table, key, slot) = about_to_start(at(60), at(100));
        let mut effects = Effects::default();
        let mut reset = |state: &mut State, is_over| {
            let table = || Arc::clone(&table);
            state.reset_row(slot, at(200), key, table, is_over, &mut effects)
        };
        assert_eq!(reset(&mut state, true), None, "it is over");
        let moved = reset(&mut state, false).expect("the group is open");
        assert_ne!(moved, slot);
        assert_eq!(state.row_deadline(moved), Some(at(200)));
        assert_eq!((state.jobs.pending(), state.jobs.running()), (1, 1));
    }

    /// The run of its key ends after the group.
    #[test]
    fn a_blocked_row_that_was_dropped_is_not_unblocked() {
        let now = Timestamp::ALWAYS;
        let (mut state, _worker, table, key, slot) = about_to_start(now, now);
        let (mut effects, mut dropped) = (Effects::default(), DroppedChunk::new());
        // Its handle keeps the storage of both.
        let (job, site) = (Box::new(async {}), Location::caller());
        state.insert(now, job, JobKind::Once, site, &mut effects);
        state.block(slot, key, &table, &mut effects);
        state.stop(StopReason::Cancelled, &mut effects);
        state.take_pending_chunk(0, now, &mut dropped, &mut effects);
        state.unblock(slot, &mut effects);
        assert_eq!((state.jobs.pending(), state.jobs.not_due()), (0, 0));
        assert!(state.jobs.entries(std::iter::once(slot)).is_empty());
    }

    /// The group ends between the start check and the look at the key.
    #[test]
    fn a_row_that_is_to_be_blocked_after_the_end_of_the_group_is_dropped_and_drains_it() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let (mut state, _worker, table, key, slot) = about_to_start(now, now);
        state.stop(StopReason::Cancelled, &mut effects);
        assert!(!state.lifecycle.is_drained());
        state.block(slot, key, &table, &mut effects);
        assert!(state.lifecycle.is_drained());
        assert_eq!(state.jobs.counts().dropped, 1);
    }

    #[test]
    fn a_claimed_job_that_has_not_started_counts_as_pending_when_the_group_is_dropped() {
        let mut effects = Effects::default();
        let (mut state, worker, claim) = claimed(&mut effects);
        worker.local.fill(1, |claims| claims.push_back(claim));
        assert_eq!((state.jobs.pending(), state.jobs.running()), (0, 1));
        assert_eq!(state.group_dropped(&mut effects), (1, 0));
    }

    /// The claim that adds the job, the job itself, and the claim that records its lateness.
    #[test]
    fn a_lone_job_takes_the_lock_of_its_local_queue_three_times() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let mut state = State::new(usize::MAX, Workers::new(2, true), Timestamp::NEVER);
        let (mut queue, mut worker) = (Queue::new(now), Registration::new());
        for round in 0..3 {
            let before = locks(&worker.local);
            let (job, site) = (Box::new(async {}), Location::caller());
            state.insert(now, job, JobKind::Once, site, &mut effects);
            let _ = release(&mut state, &mut queue, now, &mut effects);
            state.claim(&mut worker, now, false, Waker::noop(), &mut effects);
            let Some((NextJob::Start(last), true)) = worker.local.next(None, |_| now) else {
                panic!("it is the only one");
            };
            worker.ended = Some(last.slot);
            state.claim(&mut worker, now, false, Waker::noop(), &mut effects);
            assert_eq!(locks(&worker.local) - before, 3, "round {round}");
        }
    }

    #[test]
    fn a_worker_that_parks_keeps_little_storage_however_many_jobs_it_has_claimed() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let mut state = State::new(usize::MAX, Workers::new(1, true), Timestamp::NEVER);
        let (mut queue, mut worker) = (Queue::new(now), Registration::new());
        for jobs in [MOST_CLAIMED, 1] {
            for _ in 0..jobs {
                let (job, site) = (Box::new(async {}), Location::caller());
                state.insert(now, job, JobKind::Once, site, &mut effects);
            }
            let _ = release(&mut state, &mut queue, now, &mut effects);
            let mut claim = |worker: &mut Registration| {
                let claimed = state.claim(worker, now, false, Waker::noop(), &mut effects);
                claimed.0
            };
            assert_eq!(claim(&mut worker), ClaimResult::Jobs);
            assert!(room(&worker.local) >= jobs);
            while let Some(claim) = next(&worker.local, worker.ended.take(), now) {
                worker.ended = Some(claim.slot);
            }
            assert_eq!(claim(&mut worker), ClaimResult::Parked);
            assert!(room(&worker.local) <= LocalQueue::KEPT);
        }
        assert_eq!(state.jobs.counts().finished, MOST_CLAIMED as u64 + 1);
    }

    /// The due job starts first, and may block its thread. The woken one behind it calls no other worker any more.
    #[tokio::test]
    async fn a_worker_that_has_claimed_a_due_job_and_a_woken_one_is_watched() {
        let (group, now) = (crate::Group::new(), Timestamp::ALWAYS);
        for (has_woken, check) in [(false, Timestamp::NEVER), (true, Timestamp::ALWAYS)] {
            let mut effects = Effects::default();
            let mut state = State::new(usize::MAX, Workers::new(2, true), Timestamp::NEVER);
            let (mut queue, mut worker) = (Queue::new(now), Registration::new());
            let (job, site) = (Box::new(async {}), Location::caller());
            state.insert(now, job, JobKind::Once, site, &mut effects);
            assert_eq!(release(&mut state, &mut queue, now, &mut effects), 1);
            if has_woken {
                let woken = Arc::clone(state.woken.get_or_insert_default());
                let place = AwaitingJob::vacant(group.shared(), &woken).place;
                let _ = woken.push(place, || false);
            }
            state.claim(&mut worker, now, false, Waker::noop(), &mut effects);
            assert_eq!(worker.local.len(), 1 + usize::from(has_woken));
            assert_eq!(state.workers.next_check(), check, "{has_woken}");
        }
    }

    /// Its stage tells that it is in none.
    #[tokio::test]
    async fn a_job_that_has_awaited_is_searched_for_in_no_local_queue() {
        let (group, mut effects) = (crate::Group::new(), Effects::default());
        let (mut state, worker, Claim { slot, .. }) = claimed(&mut effects);
        let place = AwaitingJob::vacant(group.shared(), &Arc::default()).place;
        assert!(state.awaits(slot, place).is_none());
        let before = locks(&worker.local);
        assert!(!state.cancel(slot, &mut None, &mut effects));
        assert!(!state.reset(slot, Timestamp::ALWAYS, false, &mut effects));
        state.abort(slot, &mut None, &mut effects);
        assert_eq!(locks(&worker.local), before);
    }

    /// With its waker the task of the worker would stay, for as long as there is a handle of a job.
    #[test]
    fn a_parked_worker_leaves_the_waker_of_its_last_poll_and_none_when_it_is_dropped() {
        struct Counted;
        impl std::task::Wake for Counted {
            fn wake(self: Arc<Self>) {}
        }
        let mut effects = Effects::default();
        let (mut state, mut worker, claim) = claimed(&mut effects);
        worker.ended = Some(claim.slot);
        let polls = [(); 2].map(|()| Arc::new(Counted));
        for poll in &polls {
            let (now, waker) = (Timestamp::ALWAYS, Waker::from(Arc::clone(poll)));
            let (claimed, _) = state.claim(&mut worker, now, false, &waker, &mut effects);
            assert_eq!(claimed, ClaimResult::Parked);
        }
        let left = || polls.each_ref().map(|poll| Arc::strong_count(poll) - 1);
        assert_eq!(left(), [0, 1]);
        state.worker_dropped(&mut worker, &mut effects);
        assert_eq!((left(), state.workers.locals().len()), ([0, 0], 0));
    }

    /// So no slot is held by a job that waits behind another one of its worker.
    /// There are as many live entries behind them, so no sweep is worth it.
    #[test]
    fn a_claim_passes_over_few_dead_entries_also_if_each_live_one_lies_behind_many() {
        const DEAD: usize = 300;
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let mut state = State::new(usize::MAX, Workers::new(1, true), Timestamp::NEVER);
        let mut insert = || {
            let (job, site) = (Box::new(async {}), Location::caller());
            state.insert(now, job, JobKind::Once, site, &mut effects).1
        };
        let slots: Vec<_> = (0..2 * MOST_CLAIMED * DEAD).map(|_| insert()).collect();
        release(&mut state, &mut Queue::new(now), now, &mut effects);
        let (first_half, _) = slots.split_at(MOST_CLAIMED * DEAD);
        for dead in first_half.chunks(DEAD).flat_map(|part| &part[1..]) {
            assert!(state.cancel(*dead, &mut None, &mut effects));
        }
        let mut worker = Registration::new();
        state.jobs.take_looks();
        state.claim(&mut worker, now, false, Waker::noop(), &mut effects);
        assert_eq!((worker.local.len(), state.jobs.take_looks()), (2, 512));
    }

    #[test]
    fn in_a_group_with_a_limit_a_worker_claims_one_job_at_a_time() {
        let now = Timestamp::ALWAYS;
        let mut state = State::new(2, Workers::new(1, true), Timestamp::NEVER);
        let mut effects = Effects::default();
        for _ in 0..2 {
            let (job, site) = (Box::new(async {}), Location::caller());
            state.insert(now, job, JobKind::Once, site, &mut effects);
        }
        let mut worker = Registration::new();
        let deadlines = turn(
            &mut state,
            &mut Queue::new(now),
            &mut worker,
            now,
            |_, _| (),
        );
        assert_eq!(deadlines, [now]);
        assert_eq!((state.jobs.running(), state.startable()), (1, 1));
    }

    /// What it has stolen and what it claims would be two of them.
    #[test]
    fn in_a_group_with_a_limit_a_worker_that_helps_takes_no_second_due_job() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let mut state = State::new(3, Workers::new(2, true), Timestamp::NEVER);
        for _ in 0..3 {
            let (job, site) = (Box::new(async {}), Location::caller());
            state.insert(now, job, JobKind::Once, site, &mut effects);
        }
        release(&mut state, &mut Queue::new(now), now, &mut effects);
        let (mut other, mut helper) = (Registration::new(), Registration::new());
        state.claim(&mut other, now, false, Waker::noop(), &mut effects);
        // The next claim is the sixty-fourth.
        assert!((2..64).all(|_| !state.workers.is_to_help()));
        state.claim(&mut helper, now, false, Waker::noop(), &mut effects);
        assert_eq!((other.local.len(), helper.local.len()), (1, 1));
    }

    /// The worker that had claimed the job may be about to poll another one, which blocks its thread.
    #[test]
    fn a_slot_that_is_free_without_the_end_of_a_run_has_the_driver_call_a_worker() {
        type Step = fn(&mut State, &Registration, u32, RowKey, &Arc<dyn RowTable>, &mut Effects);
        let steps: [(&str, Step); 8] = [
            ("cancel", |state, _, slot, _, _, effects| {
                assert!(state.cancel(slot, &mut None, effects));
            }),
            ("abort", |state, _, slot, _, _, effects| {
                state.abort(slot, &mut None, effects);
            }),
            ("move", |state, _, slot, _, _, effects| {
                assert!(state.reset(slot, Timestamp::NEVER, false, effects));
            }),
            ("move of a row", |state, _, slot, key, table, effects| {
                let table = || Arc::clone(table);
                let moved = state.reset_row(slot, Timestamp::NEVER, key, table, false, effects);
                assert_eq!(moved, Some(slot));
            }),
            ("cancel of a row", |state, _, slot, _, _, effects| {
                state.cancel_row(slot, effects);
            }),
            ("noted cancel", |state, _, slot, _, _, effects| {
                assert!(state.jobs.tables.cancels().unwrap().note(slot));
                effects.wake_driver(state.apply_cancels());
            }),
            ("block", |state, worker, slot, key, table, effects| {
                assert!(next(&worker.local, None, Timestamp::ALWAYS).is_some());
                state.block(slot, key, table, effects);
            }),
            ("removal", |state, worker, slot, _, _, effects| {
                assert!(next(&worker.local, None, Timestamp::ALWAYS).is_some());
                state.drop_claimed(slot, effects);
            }),
        ];
        for (what, step) in steps {
            let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
            let mut state = State::new(1, Workers::new(2, true), Timestamp::NEVER);
            let table: Arc<dyn RowTable> = Arc::new(Table);
            let key = RowKey {
                table: state.jobs.tables.register(Arc::downgrade(&table)),
                row: 0,
            };
            let (mut queue, site) = (Queue::new(now), Location::caller());
            let insert = |state: &mut State, effects: &mut Effects| {
                state.insert_row(now, key, || Arc::clone(&table), None, site, effects)
            };
            let slot = insert(&mut state, &mut effects);
            insert(&mut state, &mut effects);
            assert_eq!(release(&mut state, &mut queue, now, &mut effects), 1);
            let mut worker = Registration::new();
            state.claim(&mut worker, now, false, Waker::noop(), &mut effects);
            assert!(state.park(Timestamp::NEVER, Waker::noop()).is_some());
            let mut effects = Effects::default();
            step(&mut state, &worker, slot, key, &table, &mut effects);
            let driver = effects.driver.take();
            assert!(matches!(driver, Some(WakeDriver::Now(_))), "{what}");
            let started = release(&mut state, &mut queue, now, &mut effects);
            assert_eq!(started, 1, "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_max_lateness_is_that_of_all_workers() {
        let at = |millis| Timestamp::ALWAYS.after(Duration::from_millis(millis));
        for late in [0, 1] {
            let mut state = State::new(usize::MAX, Workers::new(2, true), Timestamp::NEVER);
            let mut effects = Effects::default();
            for _ in 0..2 {
                let job = Box::new(async {});
                state.insert(at(0), job, JobKind::Once, Location::caller(), &mut effects);
            }
            let mut queue = Queue::new(at(0));
            let Turn::Work { mut arrived, .. } = state.turn(at(0), false, Vec::new(), &mut effects)
            else {
                panic!("the group is open");
            };
            assert_eq!(
                state.release(&mut arrived, &mut queue, at(0), &mut effects),
                2
            );
            let mut workers = [Registration::new(), Registration::new()];
            for (number, worker) in workers.iter_mut().enumerate() {
                state.claim(worker, at(0), false, Waker::noop(), &mut effects);
                let now = if number == late { at(7) } else { at(0) };
                assert!(next(&worker.local, None, now).is_some());
            }
            let stats = state.stats(&Clock::new(tokio::time::Instant::now()));
            assert_eq!(stats.max_lateness, Duration::from_millis(7), "of {late}");
        }
    }

    /// A turn of the driver. Returns how many workers it starts.
    fn release(
        state: &mut State,
        queue: &mut Queue,
        now: Timestamp,
        effects: &mut Effects,
    ) -> usize {
        let Turn::Work { arrived, .. } = state.turn(now, false, Vec::new(), effects) else {
            panic!("the group is open");
        };
        queue.extend(arrived);
        let mut batch = Vec::new();
        queue.pop_due(now, &mut batch, usize::MAX);
        state.release(&mut batch, queue, now, effects)
    }

    /// A turn of the driver, with something in the middle of it. Returns the deadlines of what is released.
    fn turn(
        state: &mut State,
        queue: &mut Queue,
        worker: &mut Registration,
        now: Timestamp,
        between: impl FnOnce(&mut State, &mut Vec<Entry>),
    ) -> Vec<Timestamp> {
        let mut effects = Effects::default();
        let Turn::Work { arrived, .. } = state.turn(now, false, Vec::new(), &mut effects) else {
            panic!("the group is open");
        };
        queue.extend(arrived);
        let mut batch = Vec::new();
        queue.pop_due(now, &mut batch, usize::MAX);
        between(state, &mut batch);
        state.release(&mut batch, queue, now, &mut effects);
        state.claim(worker, now, false, Waker::noop(), &mut effects);
        let claims = std::iter::from_fn(|| next(&worker.local, None, now));
        claims.map(|claim| claim.deadline).collect()
    }

    #[test]
    fn a_group_that_drops_the_last_row_of_a_table_lets_go_of_the_table() {
        let mut state = State::new(usize::MAX, Workers::new(1, true), Timestamp::NEVER);
        let table: Arc<dyn RowTable> = Arc::new(Table);
        let key = RowKey {
            table: state.jobs.tables.register(Arc::downgrade(&table)),
            row: 0,
        };
        let (at, site, effects) = (
            Timestamp::NEVER,
            Location::caller(),
            &mut Effects::default(),
        );
        state.insert_row(at, key, || Arc::clone(&table), None, site, effects);
        assert_eq!(Arc::strong_count(&table), 2);
        state.stop(StopReason::Cancelled, effects);
        state.take_pending_chunk(0, Timestamp::ALWAYS, &mut DroppedChunk::new(), effects);
        drop(state.jobs.take_unused());
        assert_eq!(Arc::strong_count(&table), 1);
    }

    /// They have no live entries, so all entries that there are count as dead.
    #[test]
    fn rows_that_are_blocked_put_off_no_sweep() {
        let (now, far) = (Timestamp::ALWAYS, Timestamp::NEVER);
        let mut state = State::new(usize::MAX, Workers::new(1, false), Timestamp::NEVER);
        let table: Arc<dyn RowTable> = Arc::new(Table);
        let id = state.jobs.tables.register(Arc::downgrade(&table));
        let key = RowKey { table: id, row: 0 };
        let insert = |state: &mut State, at| {
            let (site, effects) = (Location::caller(), &mut Effects::default());
            state.insert_row(at, key, || Arc::clone(&table), None, site, effects)
        };
        let due: Vec<_> = (0..600).map(|_| insert(&mut state, now)).collect();
        let (mut queue, mut worker) = (Queue::new(now), Registration::new());
        while !turn(&mut state, &mut queue, &mut worker, now, |_, _| ()).is_empty() {}
        let mut effects = Effects::default();
        for slot in due {
            state.block(slot, key, &table, &mut effects);
        }
        state.inbox.set_queue_stats(queue.next(), queue.len());
        assert_eq!((state.jobs.pending(), state.jobs.not_due()), (600, 0));
        for slot in (0..1_100)
            .map(|_| insert(&mut state, far))
            .collect::<Vec<_>>()
        {
            state.cancel_row(slot, &mut effects);
        }
        let turn = state.turn(now, false, Vec::new(), &mut effects);
        assert!(matches!(turn, Turn::Work { dead: true, .. }));
    }

    #[test]
    fn what_is_claimed_at_a_cancel_is_dropped_by_the_next_turn() {
        let (now, mut effects) = (Timestamp::ALWAYS, Effects::default());
        let (mut state, worker, claim) = claimed(&mut effects);
        worker.local.fill(1, |claims| claims.push_back(claim));
        state.stop(StopReason::Cancelled, &mut effects);
        assert_eq!((worker.local.len(), state.jobs.pending()), (0, 1));
        let turn = state.turn(now, true, Vec::new(), &mut effects);
        assert!(matches!(turn, Turn::Drop(from) if from == now));
    }

    #[test]
    fn what_is_claimed_as_the_grace_of_a_drain_ends_does_not_start() {
        let mut effects = Effects::default();
        let (mut state, worker, claim) = claimed(&mut effects);
        worker.local.fill(1, |claims| claims.push_back(claim));
        let ends = Timestamp::ALWAYS.after(Duration::from_secs(1));
        state.close_until(Closing::Drain, Timestamp::ALWAYS, ends, &mut effects);
        let turn = state.turn(ends, false, Vec::new(), &mut effects);
        assert!(matches!(turn, Turn::Drop(from) if from == Timestamp::ALWAYS));
        assert_eq!((worker.local.len(), state.jobs.pending()), (0, 1));
    }

    #[test]
    fn a_claimed_row_that_never_starts_frees_its_slot_and_counts_as_dropped() {
        let (mut state, _worker, claim) = claimed(&mut Effects::default());
        assert_eq!((state.jobs.held(), state.jobs.counts().dropped), (1, 0));
        state.jobs.drop_claimed(claim.slot);
        assert_eq!((state.jobs.held(), state.jobs.counts().dropped), (0, 1));
        assert_eq!(state.job_state(claim.slot), JobState::Cancelled);
    }
}
