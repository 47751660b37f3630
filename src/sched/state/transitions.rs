//! Everything that a group knows, under one lock, and every transition of it.
//!
//! It is five parts that do not know the lock: its [`Jobs`], its [`Workers`], its [`Lifecycle`], the
//! [`Inbox`] of its driver, and its [`Waiters`]. A transition brings them together. It never runs user
//! code, drops no user value and wakes no task. It notes in [`Effects`] what is to be done, and returns what
//! is to be dropped; [`Shared`](crate::sched::shared::Shared) does both after the lock.

use std::collections::{HashSet, VecDeque};
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::common::time::{Clock, Timestamp};
use crate::common::waiters::Waiters;

use super::call_site::JobKind;
use super::counts::{Counts, Ending};
use super::inbox::{Inbox, WakeDriver};
use super::jobs::{DroppedJob, EndedRun, Jobs, Reset};
use super::lifecycle::{GroupOutcome, Lifecycle, StopReason};
use super::workers::{Registration, WorkerState, Workers};
use crate::sched::awaiting::AwaitingJob;
use crate::sched::cancels::Noted;
use crate::sched::job::{JobId, JobState};
use crate::sched::local_queue::{Claim, LocalQueue};
use crate::sched::queue::{Entry, Queue};
use crate::sched::runnable::{RowKey, RowTable, Runnable, TableId};
use crate::sched::stats::{JobInfo, Report, Stats};
use crate::sched::woken::WokenJobs;

/// The effects of a transition that are applied after the lock.
#[derive(Default)]
#[must_use]
pub(in crate::sched) struct Effects {
    /// Wake the driver.
    pub(in crate::sched) driver: Option<WakeDriver>,
    /// Wake the parked worker.
    pub(in crate::sched) worker: Option<Waker>,
    /// Wake these, who wait for a group that has drained or ended.
    pub(in crate::sched) wake: Vec<Waker>,
    /// Cancel the group's token.
    pub(in crate::sched) cancel: bool,
}

impl Effects {
    /// Returns whether there is nothing to be done, nor to be freed.
    pub(in crate::sched) fn is_empty(&self) -> bool {
        let wakes = self.driver.is_some() || self.worker.is_some() || self.wake.capacity() > 0;
        !wakes && !self.cancel
    }
}

/// The work of the driver in one turn.
pub(in crate::sched) enum Turn {
    /// The group has drained: the driver ends.
    Exit,
    /// Drop the pending jobs that are due at that instant or later, and wake those that are to be aborted.
    Drop(Timestamp),
    /// Bring the series that end with `wait` forward.
    Expedite,
    /// Take in these entries, and release what is due by then. If enough of all entries are dead, begin a sweep.
    Work {
        arrived: Vec<Entry>,
        /// The earliest deadline among them.
        earliest: Timestamp,
        due: Timestamp,
        dead: bool,
    },
}

pub(in crate::sched) struct State {
    pub(in crate::sched) jobs: Jobs,
    workers: Workers,
    pub(in crate::sched) inbox: Inbox,
    pub(in crate::sched) lifecycle: Lifecycle,
    pub(in crate::sched) waiters: Waiters,
    /// The jobs that were woken. There is no queue before the first claim: most groups are idle, and small.
    woken: Option<Arc<WokenJobs>>,
    /// How often the driver has woken.
    wakeups: u64,
}

/// A worker claims at most this many due jobs at a time.
const MOST_CLAIMED: usize = 32;
/// The same, while more jobs are woken than it can take.
const FEW_CLAIMED: usize = 4;
/// A worker takes at most this many woken jobs at a time.
const MOST_WOKEN: usize = 128;
/// The same, beside the one due job that it claims in a group with a limit.
const FEW_WOKEN: usize = 4;

/// The next step of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum ClaimResult {
    /// It starts what it has claimed.
    Jobs,
    Parked,
    Exit,
}

/// What follows from the end of a run.
pub(in crate::sched) struct Ended {
    pub(in crate::sched) left: EndedRun,
    /// How many workers to start.
    pub(in crate::sched) start: usize,
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

    /// Takes an admitted job in, with one handle on it.
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

    /// Sends an entry to the driver.
    fn send(&mut self, entry: Entry, effects: &mut Effects) {
        if let Some(driver) = self.inbox.push(entry) {
            effects.driver = Some(driver);
        }
    }

    fn notify(&mut self, effects: &mut Effects) {
        if let Some(driver) = self.inbox.notify() {
            effects.driver = Some(driver);
        }
    }

    // Handles on one job.

    pub(in crate::sched) fn job_state(&mut self, slot: u32) -> JobState {
        self.jobs.state(slot, &self.workers)
    }

    /// Cancels a job. Returns whether that prevents its next run, which the end of the group may have done before. What it
    /// held, if it had not started, is in `dropped`: the caller drops it, and then calls [`dropped`](State::dropped).
    pub(in crate::sched) fn cancel(
        &mut self,
        slot: u32,
        dropped: &mut Option<DroppedJob>,
        effects: &mut Effects,
    ) -> bool {
        let (at, runs_again) = (self.jobs.deadline(slot), self.lifecycle.may_reschedule());
        let prevented = self.jobs.cancel(slot, runs_again, &self.workers, dropped);
        self.call_for_sweep(effects);
        // A group that ends drops what is pending in later turns of its driver: no caller is to see how far that is.
        prevented && (dropped.is_none() || self.lifecycle.may_start_at(at))
    }

    /// Stops a running job at its next await, and cancels one that has not started.
    pub(in crate::sched) fn abort(
        &mut self,
        slot: u32,
        dropped: &mut Option<DroppedJob>,
        effects: &mut Effects,
    ) {
        let waker = self.jobs.abort(slot, &self.workers, dropped);
        effects.wake.extend(waker);
        self.call_for_sweep(effects);
    }

    /// The values of `count` jobs have been dropped.
    pub(in crate::sched) fn dropped(&mut self, count: usize, effects: &mut Effects) {
        self.jobs.dropped(count);
        self.check_drained(effects);
    }

    /// Moves a job. Returns `true` if the move will be honoured.
    pub(in crate::sched) fn reset(
        &mut self,
        slot: u32,
        at: Timestamp,
        now: impl FnOnce() -> Timestamp,
        effects: &mut Effects,
    ) -> bool {
        // A clock is read only for a group that it can end. The driver ends it, not this call: locks may be held here,
        // as that of a keyed group's table, and the tasks that wait for the end, whose wakers may be users', are not to
        // be woken by a reset.
        if self.lifecycle.has_deadline() && self.lifecycle.reason(now(), false).is_some() {
            self.notify(effects);
            return false;
        }
        if !self.lifecycle.may_reschedule() {
            return false;
        }
        match self.jobs.reset(slot, at, &self.workers) {
            Reset::Rejected => return false,
            Reset::InPlace => {}
            Reset::Requeued(entry) => {
                self.send(entry, effects);
                self.call_for_sweep(effects);
            }
        }
        true
    }

    // Rows of tables.

    pub(in crate::sched) fn register(&mut self, table: Weak<dyn RowTable>) -> TableId {
        let id = self.jobs.tables.register(table);
        self.close_cancels();
        id
    }

    /// Frees the slots of the cancels that tables have noted. It comes first in each step but an insert.
    ///
    /// Returns the driver's waker if it must be woken to sweep.
    pub(in crate::sched) fn apply_cancels(&mut self) -> Option<WakeDriver> {
        let noted = self.jobs.tables.cancels()?.take();
        self.cancel_noted(noted)
    }

    /// The last cancel drains a group that is to end, in the same step: so no cancel is noted from here on.
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
        let sweep = self.has_too_many_dead();
        sweep.then(|| self.inbox.notify()).flatten()
    }

    /// Takes an admitted job in that is a row of a table, in place of the one in `former`, if there is one.
    ///
    /// It takes over the slot of that, or of another one that was cancelled, with the entry that the driver has for it.
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

    /// Takes one of the slots of cancelled rows that inserts may take over.
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

    /// Returns whether the job of a row has not started.
    pub(in crate::sched) fn is_pending_row(&mut self, slot: u32) -> bool {
        self.jobs.is_pending_row(slot, &self.workers)
    }

    /// Cancels the job of a row, if it has not started. Its table is the caller's.
    pub(in crate::sched) fn cancel_row(&mut self, slot: u32, effects: &mut Effects) {
        self.jobs.cancel_row(slot, &self.workers);
        self.call_for_sweep(effects);
        self.check_drained(effects);
    }

    /// A claimed row may not start yet. In a group that has ended meanwhile it never will.
    pub(in crate::sched) fn block(
        &mut self,
        slot: u32,
        key: RowKey,
        table: &Arc<dyn RowTable>,
        effects: &mut Effects,
    ) {
        if self.lifecycle.may_start() {
            self.jobs.block(slot, key, table);
        } else {
            self.drop_claimed(slot, effects);
        }
    }

    /// A claimed row never starts.
    pub(in crate::sched) fn drop_claimed(&mut self, slot: u32, effects: &mut Effects) {
        self.jobs.drop_claimed(slot);
        self.check_drained(effects);
    }

    /// A blocked row may start.
    pub(in crate::sched) fn unblock(&mut self, slot: u32, effects: &mut Effects) {
        if let Some(entry) = self.jobs.unblock(slot) {
            self.send(entry, effects);
        }
    }

    // Running.

    /// Records what a worker has done, and claims its next jobs; it parks or exits if there are none. Returns also how
    /// many workers to start beside it. What was cancelled before this does not start.
    pub(in crate::sched) fn claim(
        &mut self,
        worker: &mut Registration,
        now: Timestamp,
        cancelled: bool,
        waker: &Waker,
        effects: &mut Effects,
    ) -> (ClaimResult, usize) {
        if !self.workers.activate(worker) {
            self.workers.refresh_waker(worker, waker);
            return (ClaimResult::Parked, 0);
        }
        // Before the ends are recorded: a cancel that came before the end of the last job is what ended the group.
        self.check_end(now, cancelled, effects);
        self.jobs.record(&worker.local);
        let mut claimed = match self.workers.is_to_help() {
            true => steal(&worker.local, &self.workers),
            false => 0,
        };
        claimed += self.claim_woken(&worker.local);
        if self.lifecycle.may_start() {
            // What has begun comes first: else ever more jobs would be half done, and their memory in no cache. But
            // jobs that wake themselves again and again do not hold up the others.
            let most = match self.woken_jobs() {
                0 => MOST_CLAIMED,
                _ => FEW_CLAIMED,
            };
            claimed += self.jobs.claim(&worker.local, &self.workers, most);
        }
        if claimed == 0 {
            claimed = steal(&worker.local, &self.workers);
        }
        if claimed > 0 {
            // The first of them could block, and then only a watch finds the others: `startable` does not count what
            // is claimed.
            if claimed > 1 {
                self.watch(effects);
            }
            // For what is left, and for the slots that the record has freed.
            let woken = self.woken.get_or_insert_default();
            worker.woken.get_or_insert_with(|| Arc::clone(woken));
            return (ClaimResult::Jobs, self.want_workers(effects));
        }
        worker.local.shrink();
        self.check_drained(effects);
        // After `check_drained`: this worker may have recorded the last end, and would park in a group that has
        // drained with no wake-up to come.
        if self.lifecycle.is_drained() {
            self.workers.exit(worker);
        } else {
            self.workers.park_or_exit(worker, waker);
        }
        let claimed = match worker.state {
            WorkerState::Parked => ClaimResult::Parked,
            _ => ClaimResult::Exit,
        };
        (claimed, 0)
    }

    fn woken_jobs(&self) -> usize {
        self.woken.as_ref().map_or(0, |woken| woken.len())
    }

    /// Claims a worker's part of the jobs that were woken, so that the others find some too. How many.
    fn claim_woken(&mut self, local: &LocalQueue) -> usize {
        let Some(woken) = self.woken.as_ref().filter(|woken| woken.len() > 0) else {
            return 0;
        };
        // With a limit one job is claimed at a time: it does not wait for many others while it could run.
        let others_start = self.jobs.is_limited() && self.startable() > 0;
        let most = if others_start { FEW_WOKEN } else { MOST_WOKEN };
        local.claim_woken(woken, self.workers.share_of(woken.len(), most))
    }

    /// A job is at its first await, and will be found at that place. False if it is to be aborted.
    pub(in crate::sched) fn awaits(&mut self, slot: u32, place: &Arc<AwaitingJob>) -> bool {
        // What stops it is looked at in the step that records its place: an abort, or the walk that aborts all, comes
        // before this step and is seen here, or after it and finds the place.
        let goes_on = !self.jobs.set_running(slot) && !self.lifecycle.is_aborting();
        if goes_on {
            self.jobs.set_place(slot, Arc::clone(place));
        }
        goes_on
    }

    /// The task of a worker ends, or is dropped.
    pub(in crate::sched) fn worker_dropped(
        &mut self,
        worker: &mut Registration,
        effects: &mut Effects,
    ) {
        self.workers.worker_dropped(worker);
        self.jobs.requeue_all(&worker.local);
        self.check_drained(effects);
    }

    /// A worker gives back a job that it did not start, since the group is over. The driver drops it, or the caller if
    /// the driver may have done so with all others.
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

    /// Returns how many jobs may start now.
    fn startable(&self) -> usize {
        if self.lifecycle.may_start() {
            self.jobs.startable()
        } else {
            0
        }
    }

    /// Sees to it that a slot that is free is taken, whatever the workers do: how many to start. Where
    /// all of them could be stuck the driver watches over them.
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

    /// Lets the driver watch whether what waits gets its turn.
    pub(in crate::sched) fn watch(&mut self, effects: &mut Effects) {
        if self.workers.watch() {
            self.notify(effects);
        }
    }

    /// Ends a run. Returns a runnable that does not run again, and a panic that is not kept; if there is any, the
    /// caller drops it and then calls [`dropped`](State::dropped).
    pub(in crate::sched) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        runnable: Option<Box<dyn Runnable>>,
        effects: &mut Effects,
    ) -> Ended {
        let (left, again) = self.jobs.finish(slot, ending, runnable, &self.lifecycle);
        match again {
            // The group still holds the job: a further run is pending.
            Some(entry) => self.send(entry, effects),
            None => self.check_drained(effects),
        }
        Ended {
            left,
            start: self.want_workers(effects),
        }
    }

    // Going down.

    /// Ends the group once no job is held and none will come.
    fn check_drained(&mut self, effects: &mut Effects) {
        // Called in each step that may be the last one: where a count goes down, and where the group is closed.
        // Since it is the same step, the last end and a `wait` that closes the group cannot miss each other. A mere
        // look that records an end leaves this to the worker of that job, whose next claim comes here.
        if !self.lifecycle.is_closing() {
            return;
        }
        if let Some(driver) = self.close_cancels() {
            effects.driver = Some(driver);
        }
        if self.jobs.held() == 0 && self.lifecycle.drain() {
            effects.wake.extend(self.waiters.take());
            effects.wake.extend(self.workers.take_last_parked());
            self.notify(effects);
        }
    }

    /// Notices a cancelled token and a passed deadline.
    pub(in crate::sched) fn check_end(
        &mut self,
        now: Timestamp,
        cancelled: bool,
        effects: &mut Effects,
    ) {
        if let Some(why) = self.lifecycle.reason(now, cancelled) {
            self.stop(why, effects);
        }
    }

    /// Stops the group: no job starts from here on. The first reason stays; a group that has drained gets none.
    pub(in crate::sched) fn stop(&mut self, why: StopReason, effects: &mut Effects) {
        effects.cancel = true;
        if self.lifecycle.end(why) {
            // In the step that makes the reason visible. This is the start check for what ends the group from
            // within: a caller that has seen the end does not see a claimed job start afterwards.
            self.jobs.recall_all(&self.workers);
            effects.wake.extend(self.waiters.take());
            self.notify(effects);
            self.check_drained(effects);
        }
    }

    /// Closes the group for `wait`. Returns `false` if that is misuse.
    pub(in crate::sched) fn close_to_wait(&mut self, effects: &mut Effects) -> bool {
        let admitted = self.lifecycle.close_to_wait();
        if self.jobs.has_to_expedite() {
            self.notify(effects);
        }
        self.check_drained(effects);
        admitted
    }

    /// `drain` was called: what it has to report on is counted from here.
    pub(in crate::sched) fn drain(&mut self, abort: Timestamp, effects: &mut Effects) -> Counts {
        self.jobs.record_all(&self.workers);
        self.lifecycle.drain_until(abort);
        self.notify(effects);
        self.check_drained(effects);
        self.jobs.counts()
    }

    /// `shutdown` was called: what it has to report on is counted from here.
    pub(in crate::sched) fn shut_down(
        &mut self,
        now: Timestamp,
        abort: Timestamp,
        effects: &mut Effects,
    ) -> Counts {
        self.jobs.record_all(&self.workers);
        let before = self.jobs.counts();
        self.lifecycle.shut_down(now, abort, before);
        self.notify(effects);
        self.check_drained(effects);
        before
    }

    /// The group was dropped, or its runtime was shut down. Returns how many jobs were pending and running.
    pub(in crate::sched) fn group_dropped(&mut self, effects: &mut Effects) -> (usize, usize) {
        // Recalled before the counts, so that claimed jobs that have not started count as pending.
        self.lifecycle.group_dropped();
        self.jobs.recall_all(&self.workers);
        let held = (self.jobs.pending(), self.jobs.running());
        self.stop(StopReason::Cancelled, effects);
        effects.cancel = true;
        self.notify(effects);
        self.check_drained(effects);
        held
    }

    /// The runtime is gone, and the driver with it: nothing will be polled any more. Returns what had been woken.
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
            .outcome(self.jobs.counts(), self.jobs.first_panic())
    }

    /// Returns the report for `drain` and `shutdown`, once it is known.
    pub(in crate::sched) fn report_since(&self, before: Counts) -> Option<Report> {
        self.lifecycle.report(self.jobs.counts(), before)
    }

    // The driver.

    /// The driver is awake. It gives an empty buffer for what arrives next.
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
        // `pending` must count what is still in local queues, or `drops_from` would not let the driver drop it.
        if !self.lifecycle.may_start() {
            self.jobs.recall_all(&self.workers);
        }
        let (pending, counts) = (self.jobs.pending(), self.jobs.counts());
        if let Some(from) = self.lifecycle.drops_from(now, pending, counts) {
            // `drops_from` may have set `aborting` just now, from which on nothing starts.
            if from == Timestamp::ALWAYS {
                self.jobs.recall_all(&self.workers);
            }
            return Turn::Drop(from);
        }
        if self.lifecycle.must_expedite() && self.jobs.take_to_expedite() {
            return Turn::Expedite;
        }
        Turn::Work {
            earliest: self.inbox.earliest(),
            arrived: self.drain_inbox(empty),
            due: now,
            dead: self.has_too_many_dead(),
        }
    }

    fn drain_inbox(&mut self, empty: Vec<Entry>) -> Vec<Entry> {
        self.jobs.set_seen();
        self.inbox.drain(empty)
    }

    /// Takes the runnables of one chunk's pending jobs that are due at `from` or later, and wakes its running ones
    /// if they are to be aborted.
    pub(in crate::sched) fn take_pending_chunk(
        &mut self,
        chunk: usize,
        from: Timestamp,
        jobs: &mut Vec<DroppedJob>,
        effects: &mut Effects,
    ) {
        self.jobs.take_pending_chunk(chunk, from, jobs);
        if self.lifecycle.is_aborting() {
            effects.wake.extend(self.jobs.abort_chunk(chunk));
        }
        self.call_for_sweep(effects);
    }

    /// Brings forward the series of one chunk that end with `wait`.
    pub(in crate::sched) fn expedite_chunk(
        &mut self,
        chunk: usize,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        for entry in self.jobs.expedite_chunk(chunk, now, &self.workers) {
            self.send(entry, effects);
        }
    }

    /// Returns whether more entries are dead than speak for a job: one entry does for each that waits for its time.
    fn has_too_many_dead(&self) -> bool {
        self.inbox.has_too_many_for(self.jobs.not_due())
    }

    fn call_for_sweep(&mut self, effects: &mut Effects) {
        if self.has_too_many_dead() {
            self.notify(effects);
        }
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order. Returns how many
    /// workers to start.
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
        // A watch that begins here needs no notification: the driver is awake, and takes its first look right here.
        wanted.start + usize::from(self.workers.check(startable, now))
    }

    /// The driver parks until its next deadline; `None` if there is something to do first.
    pub(in crate::sched) fn park(
        &mut self,
        next: Option<Timestamp>,
        waker: &Waker,
    ) -> Option<Timestamp> {
        let next = next.unwrap_or(Timestamp::NEVER);
        // All that the clock can change has to be in here, since the driver has one timer.
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
        // The set comes before the record: a job that starts in between is listed as pending, and one that has ended
        // is not listed as running.
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

/// Takes the later half of what another worker has claimed and not started, and of what it has still to poll again.
/// Returns how many. A stolen job has its slot already, so the limit does not matter here.
fn steal(local: &Arc<LocalQueue>, workers: &Workers) -> usize {
    for other in workers.others(local) {
        let (woken, unstarted) = (other.take_half_of_woken(), other.take_half());
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

    use super::*;
    use crate::common::panic::Payload;
    use crate::sched::local_queue::Task;
    use crate::sched::local_queue::tests::claim;
    use crate::sched::runnable::{JobFuture, Run};

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
            assert_eq!(steal(&all[0].local, &workers), 2, "from {has}");
            for worker in &all {
                while worker.local.next(None, |_| Timestamp::ALWAYS).is_some() {}
            }
        }
        assert_eq!(steal(&all[0].local, &workers), 0);
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
        assert!(!state.jobs.has_to_expedite(), "it is no series");
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
        let Some(Task::Start(claim)) = worker.local.next(None, |_| now) else {
            panic!("one is claimed");
        };
        (state, worker, claim)
    }

    /// The runtime goes between the worker's look at its queue and its start check. The driver has walked over all that
    /// was pending, and does not come back.
    #[test]
    fn a_claim_that_is_given_back_after_the_end_of_the_driver_is_dropped() {
        let mut effects = Effects::default();
        let (mut state, _worker, claim) = claimed(&mut effects);
        state.runtime_gone(&mut effects);
        let mut dropped = Vec::new();
        state.take_pending_chunk(0, Timestamp::ALWAYS, &mut dropped, &mut effects);
        assert!(dropped.is_empty(), "it is on its way to start");
        let mut given_back = None;
        state.give_back(claim, &mut given_back, &mut effects);
        assert!(given_back.is_some());
        assert_eq!(state.jobs.pending(), 0);
        state.dropped(1, &mut effects);
        assert_eq!(state.jobs.held(), 0);
    }

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

    /// The driver has the entry of the former row in hand by then. What was submitted before the row is in the inbox.
    #[test]
    fn a_row_that_takes_over_a_slot_overtakes_nothing_that_came_before_it() {
        let at = |nanos| Timestamp::ALWAYS.after(Duration::from_nanos(nanos));
        let now = at(100);
        let workers = Workers::new(1, true);
        let mut state = State::new(usize::MAX, workers, Timestamp::NEVER);
        let table: Arc<dyn RowTable> = Arc::new(Table);
        let id = state.register(Arc::downgrade(&table));
        let insert = |state: &mut State, nanos, former| {
            let key = RowKey { table: id, row: 0 };
            let (site, effects) = (Location::caller(), &mut Effects::default());
            state.insert_row(at(nanos), key, || Arc::clone(&table), former, site, effects)
        };
        let (mut queue, mut worker) = (Queue::new(now), Registration::new());
        let first = insert(&mut state, 10, None);
        insert(&mut state, 60, None);
        let deadlines = turn(&mut state, &mut queue, &mut worker, now, |state| {
            insert(state, 30, None);
            assert_eq!(insert(state, 40, Some(first)), first);
        });
        assert_eq!(deadlines, [at(60)]);
        let deadlines = turn(&mut state, &mut queue, &mut worker, now, |_| ());
        assert_eq!(deadlines, [at(30), at(40)]);
        assert_eq!(state.jobs.counts().dropped, 1);
    }

    /// A turn of the driver, with something in the middle of it. Returns the deadlines of what is released.
    fn turn(
        state: &mut State,
        queue: &mut Queue,
        worker: &mut Registration,
        now: Timestamp,
        between: impl FnOnce(&mut State),
    ) -> Vec<Timestamp> {
        let mut effects = Effects::default();
        let Turn::Work { arrived, .. } = state.turn(now, false, Vec::new(), &mut effects) else {
            panic!("the group is open");
        };
        queue.extend(arrived);
        let mut batch = Vec::new();
        queue.pop_due(now, &mut batch, usize::MAX);
        between(state);
        state.release(&mut batch, queue, now, &mut effects);
        state.claim(worker, now, false, Waker::noop(), &mut effects);
        let claims = std::iter::from_fn(|| worker.local.next(None, |_| now));
        let started = claims.map(|task| match task {
            Task::Start(claim) => claim.deadline,
            Task::Resume(_) => unreachable!("none was woken"),
        });
        started.collect()
    }

    /// No entry of the driver's speaks for them, so those that are there are dead ones.
    #[test]
    fn rows_that_are_blocked_put_off_no_sweep() {
        let (now, far) = (Timestamp::ALWAYS, Timestamp::NEVER);
        let mut state = State::new(usize::MAX, Workers::new(1, false), Timestamp::NEVER);
        let table: Arc<dyn RowTable> = Arc::new(Table);
        let id = state.register(Arc::downgrade(&table));
        let key = RowKey { table: id, row: 0 };
        let insert = |state: &mut State, at| {
            let (site, effects) = (Location::caller(), &mut Effects::default());
            state.insert_row(at, key, || Arc::clone(&table), None, site, effects)
        };
        let due: Vec<_> = (0..600).map(|_| insert(&mut state, now)).collect();
        let (mut queue, mut worker) = (Queue::new(now), Registration::new());
        while !turn(&mut state, &mut queue, &mut worker, now, |_| ()).is_empty() {}
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
    fn what_is_claimed_as_the_grace_of_a_drain_ends_does_not_start() {
        let mut effects = Effects::default();
        let (mut state, worker, claim) = claimed(&mut effects);
        worker.local.fill(1, |claims| claims.push_back(claim));
        let ends = Timestamp::ALWAYS.after(Duration::from_secs(1));
        state.drain(ends, &mut effects);
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
    }
}
