//! Everything that a group knows, under one lock, and every transition of it.
//!
//! It is five parts that do not know the lock: its [`Jobs`], its [`Workers`], its [`Lifecycle`], the
//! [`Inbox`] of its driver, and its [`Waiters`]. A transition brings them together. It never runs user
//! code, drops no user value and wakes nobody. It notes in [`Effects`] what is to be done, and hands out what
//! is to be dropped; [`Shared`](crate::sched::shared::Shared) sees to both when the lock is free again.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;

use crate::common::time::{Clock, Timestamp};
use crate::common::waiters::Waiters;

use super::call_site::JobKind;
use super::counts::{Counts, Ending};
use super::inbox::Inbox;
use super::jobs::{DroppedJob, EndedRun, Jobs, Reset};
use super::lifecycle::{GroupOutcome, Lifecycle, StopReason};
use super::workers::{Registration, WorkerState, Workers};
use crate::sched::awaiting::{AwaitingJob, WokenJobs};
use crate::sched::job::{JobId, JobState};
use crate::sched::local_queue::{Claim, LocalQueue};
use crate::sched::queue::{Entry, Queue};
use crate::sched::runnable::{RowKey, RowTable, Runnable, TableId};
use crate::sched::stats::{JobInfo, Report, Stats};

/// What is to be done once the lock is free.
#[derive(Default)]
#[must_use]
pub(in crate::sched) struct Effects {
    /// Wake the driver.
    pub(in crate::sched) driver: Option<Waker>,
    /// Wake the parked worker.
    pub(in crate::sched) worker: Option<Waker>,
    /// Wake these, who wait for a group that has drained or ended.
    pub(in crate::sched) wake: Vec<Waker>,
    /// Cancel the group's token.
    pub(in crate::sched) cancel: bool,
}

/// What the driver has to do in this turn.
pub(in crate::sched) enum Turn {
    /// The group has drained: go.
    Exit,
    /// Drop the pending jobs that are due at that instant or later, and wake those that are to be aborted.
    Drop(Timestamp),
    /// Bring the series that end with `wait` forward.
    Hurry,
    /// Take in these entries and release what is due by then. If so many are dead that it is worth it, begin
    /// a sweep.
    Work {
        arrived: Vec<Entry>,
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
    /// Jobs that await, were woken, and are to be polled again.
    pub(in crate::sched) woken: Arc<WokenJobs>,
    /// How often the driver has woken.
    wakeups: u64,
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Claimed {
    /// It starts what it has claimed.
    Jobs,
    Parked,
    Leave,
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
            woken: Arc::default(),
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
        let (id, entry) = self.jobs.insert(at, runnable, kind, scheduled_at);
        self.send(entry, effects);
        (id, entry.slot)
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

    /// Cancels a job. True if that prevents its next run; what it held, if it had not started, is for
    /// the caller to drop, who then says [`dropped`](State::dropped).
    pub(in crate::sched) fn cancel(
        &mut self,
        slot: u32,
        effects: &mut Effects,
    ) -> (bool, Option<DroppedJob>) {
        let cancelled = self.jobs.cancel(slot, &self.workers);
        self.call_for_sweep(effects);
        cancelled
    }

    /// Stops a running job at its next await, and cancels one that has not started.
    pub(in crate::sched) fn abort(
        &mut self,
        slot: u32,
        effects: &mut Effects,
    ) -> Option<DroppedJob> {
        let (unstarted, waker) = self.jobs.abort(slot, &self.workers);
        effects.wake.extend(waker);
        self.call_for_sweep(effects);
        unstarted
    }

    /// The values of so many jobs have been dropped.
    pub(in crate::sched) fn dropped(&mut self, count: usize, effects: &mut Effects) {
        self.jobs.dropped(count);
        self.check_drained(effects);
    }

    /// Moves a job. True if the move will be honoured.
    pub(in crate::sched) fn reset(
        &mut self,
        slot: u32,
        at: Timestamp,
        now: impl FnOnce() -> Timestamp,
        effects: &mut Effects,
    ) -> bool {
        // A clock is read only for a group that it can end. It is the driver that ends it: other locks
        // may be held here, as that of a keyed group, and who waits for the end must not be woken under them.
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

    /// Takes an admitted job in that is a row of a table.
    pub(in crate::sched) fn insert_row(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl FnOnce() -> Arc<dyn RowTable>,
        scheduled_at: &'static Location<'static>,
        effects: &mut Effects,
    ) -> u32 {
        let entry = self.jobs.insert_row(at, key, table, scheduled_at);
        self.send(entry, effects);
        entry.slot
    }

    /// Returns whether the job of a row has not started.
    pub(in crate::sched) fn is_pending_row(&mut self, slot: u32) -> bool {
        self.jobs.is_pending_row(slot, &self.workers)
    }

    /// Cancels the job of a row, if it has not started. Its table is the caller's.
    pub(in crate::sched) fn cancel_row(
        &mut self,
        slot: u32,
        table: TableId,
        effects: &mut Effects,
    ) {
        self.jobs.cancel_row(slot, table, &self.workers);
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
            self.jobs.drop_claimed(slot);
            self.check_drained(effects);
        }
    }

    /// A blocked row may start.
    pub(in crate::sched) fn unblock(&mut self, slot: u32, effects: &mut Effects) {
        if let Some(entry) = self.jobs.unblock(slot) {
            self.send(entry, effects);
        }
    }

    // Running.

    /// Books what a worker has done, and claims its next jobs; it parks or leaves if there are none. How many
    /// workers to start beside it. What was cancelled before this does not start.
    pub(in crate::sched) fn claim(
        &mut self,
        worker: &mut Registration,
        now: Timestamp,
        cancelled: bool,
        waker: &Waker,
        effects: &mut Effects,
    ) -> (Claimed, usize) {
        if !self.workers.activate(worker) {
            self.workers.refresh_waker(worker, waker);
            return (Claimed::Parked, 0);
        }
        // What came before the end of the last job is what ended the group.
        self.check_end(now, cancelled, effects);
        self.jobs.record(&worker.local);
        let share = self.workers.share_of(self.woken.len());
        let woken = self.woken.take(share);
        let mut claimed = woken.len();
        worker.local.push_woken(woken);
        if self.lifecycle.may_start() {
            claimed += self.jobs.claim(&worker.local, &self.workers);
        }
        if claimed == 0 {
            claimed = steal(&worker.local, &self.workers);
        }
        if claimed > 0 {
            // The first of them could block, and the others are to be found then.
            if claimed > 1 && self.workers.watch() {
                self.notify(effects);
            }
            return (Claimed::Jobs, self.want_workers(effects));
        }
        worker.local.shrink();
        self.check_drained(effects);
        if self.lifecycle.is_drained() {
            self.workers.exit(worker);
        } else {
            self.workers.park_or_exit(worker, waker);
        }
        let claimed = match worker.state {
            WorkerState::Parked => Claimed::Parked,
            _ => Claimed::Leave,
        };
        (claimed, 0)
    }

    /// A job is at its first await, and will be found at that place. False if it is to be aborted.
    pub(in crate::sched) fn awaits(&mut self, slot: u32, place: &Arc<AwaitingJob>) -> bool {
        let goes_on = !self.jobs.awaits(slot) && !self.lifecycle.is_aborting();
        if goes_on {
            self.jobs.runs_at(slot, Arc::clone(place));
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

    /// A worker gives back a job that it did not start, since the group is over. The driver drops it.
    pub(in crate::sched) fn give_back(&mut self, claim: Claim, effects: &mut Effects) {
        self.jobs.requeue(claim);
        self.notify(effects);
    }

    /// The jobs that may start now.
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
            .want_workers(self.startable() + self.woken.len());
        if let Some(worker) = wanted.wake {
            effects.worker = Some(worker);
        }
        if wanted.watch {
            self.notify(effects);
        }
        wanted.start
    }

    /// A run has ended. A runnable that is not wanted for a further run comes back, and a panic that is not
    /// kept; if there is any, the caller drops it and then says [`dropped`](State::dropped).
    pub(in crate::sched) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        runnable: Option<Box<dyn Runnable>>,
        effects: &mut Effects,
    ) -> Ended {
        let (left, again) = self.jobs.finish(slot, ending, runnable, &self.lifecycle);
        match again {
            Some(entry) => self.send(entry, effects),
            None => self.check_drained(effects),
        }
        Ended {
            left,
            start: self.want_workers(effects),
        }
    }

    // Going down.

    /// Closes it once nothing is held and nothing more will come.
    fn check_drained(&mut self, effects: &mut Effects) {
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

    /// No job starts from here on. The first reason stays; once the group has drained, none is one.
    pub(in crate::sched) fn stop(&mut self, why: StopReason, effects: &mut Effects) {
        effects.cancel = true;
        if self.lifecycle.end(why) {
            self.jobs.recall_all(&self.workers);
            effects.wake.extend(self.waiters.take());
            self.notify(effects);
            self.check_drained(effects);
        }
    }

    /// `wait` was called; false if that is a mistake.
    pub(in crate::sched) fn close_to_wait(&mut self, effects: &mut Effects) -> bool {
        let admitted = self.lifecycle.close_to_wait();
        if self.jobs.has_until_wait() {
            self.notify(effects);
        }
        self.check_drained(effects);
        admitted
    }

    /// `drain` was called: what it has to report on is counted from here.
    pub(in crate::sched) fn drain(&mut self, abort: Timestamp, effects: &mut Effects) -> Counts {
        self.record_all();
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
        self.record_all();
        let before = self.jobs.counts();
        self.lifecycle.shut_down(now, abort, before);
        self.notify(effects);
        self.check_drained(effects);
        before
    }

    /// Books what has ended and is not recorded yet.
    fn record_all(&mut self) {
        let locals = self.workers.locals().iter();
        locals.for_each(|local| self.jobs.record(local));
    }

    /// The group was dropped, or its runtime is gone. How many jobs were pending and running.
    pub(in crate::sched) fn group_dropped(&mut self, effects: &mut Effects) -> (usize, usize) {
        self.lifecycle.group_dropped();
        self.jobs.recall_all(&self.workers);
        let held = (self.jobs.pending(), self.jobs.running());
        self.stop(StopReason::Cancelled, effects);
        effects.cancel = true;
        self.notify(effects);
        self.check_drained(effects);
        held
    }

    /// The runtime is gone, and the driver with it: nothing will be polled any more.
    pub(in crate::sched) fn runtime_gone(&mut self, effects: &mut Effects) {
        self.group_dropped(effects);
        self.lifecycle.abort();
    }

    pub(in crate::sched) fn detach(&mut self, effects: &mut Effects) {
        self.lifecycle.detach();
        self.check_drained(effects);
    }

    pub(in crate::sched) fn handle_dropped(&mut self, effects: &mut Effects) {
        self.lifecycle.handle_dropped();
        self.check_drained(effects);
    }

    /// What `wait` returns, once it is known.
    pub(in crate::sched) fn outcome(&self) -> Option<GroupOutcome<'_>> {
        self.lifecycle
            .outcome(self.jobs.counts(), self.jobs.first_panic())
    }

    /// What `drain` and `shutdown` return, once it is known.
    pub(in crate::sched) fn report_since(&self, before: Counts) -> Option<Report> {
        self.lifecycle.report(self.jobs.counts(), before)
    }

    // The driver.

    /// The driver is up. It gives an empty buffer for what arrives next.
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
        if !self.lifecycle.may_start() {
            self.jobs.recall_all(&self.workers);
        }
        let (pending, counts) = (self.jobs.pending(), self.jobs.counts());
        if let Some(from) = self.lifecycle.drops_from(now, pending, counts) {
            if from == Timestamp::ALWAYS {
                self.jobs.recall_all(&self.workers);
            }
            return Turn::Drop(from);
        }
        if self.lifecycle.hurries() && self.jobs.take_until_wait() {
            return Turn::Hurry;
        }
        Turn::Work {
            arrived: self.inbox.drain(empty),
            due: now,
            dead: self.has_too_many_dead(),
        }
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
    pub(in crate::sched) fn hurry_chunk(
        &mut self,
        chunk: usize,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        for entry in self.jobs.hurry_chunk(chunk, now, &self.workers) {
            self.send(entry, effects);
        }
    }

    /// More entries are dead than speak for a job: one entry does for each that waits for its time.
    fn has_too_many_dead(&self) -> bool {
        self.inbox.has_too_many_for(self.jobs.not_due())
    }

    fn call_for_sweep(&mut self, effects: &mut Effects) {
        if self.has_too_many_dead() {
            self.notify(effects);
        }
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order, and
    /// looks after the workers: how many to start.
    pub(in crate::sched) fn release(
        &mut self,
        batch: &mut Vec<Entry>,
        queue: &mut Queue,
        now: Timestamp,
        effects: &mut Effects,
    ) -> usize {
        self.jobs.release(batch, queue);
        let startable = self.startable() + self.woken.len();
        let wanted = self.workers.want_workers(startable);
        effects.worker = wanted.wake;
        // A watch that begins here needs no notification: the driver is up, and begins it.
        wanted.start + usize::from(self.workers.check(startable, now))
    }

    /// The driver parks until its next deadline; `None` if there is something to do first.
    pub(in crate::sched) fn park(
        &mut self,
        next: Option<Timestamp>,
        waker: &Waker,
    ) -> Option<Timestamp> {
        let next = next.unwrap_or(Timestamp::NEVER);
        let check = self.workers.next_check();
        let until = next.min(check).min(self.lifecycle.next());
        self.inbox.park(until, waker).then_some(until)
    }

    /// Notes the jobs of one chunk that have not ended.
    pub(in crate::sched) fn list_chunk(
        &mut self,
        chunk: usize,
        clock: &Clock,
        jobs: &mut Vec<JobInfo>,
    ) {
        let locals = self.workers.locals().iter();
        let claimed: HashSet<u32> = locals.flat_map(|local| local.unstarted_slots()).collect();
        self.record_all();
        self.jobs.list_chunk(chunk, &claimed, clock, jobs);
    }

    pub(in crate::sched) fn stats(&mut self, clock: &Clock) -> Stats {
        Stats {
            driver_wakeups: self.wakeups,
            ..self.jobs.stats(self.inbox.head(), &self.workers, clock)
        }
    }
}

/// Takes the later half of what another worker has claimed and not started, or of what it has still to poll
/// again. How many.
fn steal(local: &Arc<LocalQueue>, workers: &Workers) -> usize {
    let others = workers.locals().iter();
    let others = others.filter(|other| !Arc::ptr_eq(other, local));
    for other in others {
        let (woken, unstarted) = (other.take_half_of_woken(), other.take_half());
        let count = woken.len() + unstarted.len();
        if count > 0 {
            local.push_woken(woken);
            local.push(unstarted.len(), unstarted);
            return count;
        }
    }
    0
}
