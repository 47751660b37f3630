//! Everything that a group knows, under one lock, and every transition of it.
//!
//! It is five parts that do not know the lock: its [`Jobs`], its [`Workers`], its [`Closing`], the
//! [`Intake`] of its driver, and its [`Waiters`]. A transition brings them together. It never runs user
//! code, drops no user value and wakes nobody. It notes in [`Todo`] what is to be done, and hands out what
//! is to be dropped; [`Shared`](super::shared::Shared) sees to both when the lock is free again.

use std::collections::HashSet;
use std::ops::Range;
use std::panic::Location;
use std::task::Waker;

use super::body::Body;
use super::closing::{Closing, Outcome};
use super::ends::{Ending, Tally};
use super::error::JobPanic;
use super::gate::{Caller, End, Refusal};
use super::intake::Intake;
use super::job::{JobId, JobState};
use super::jobs::{Finished, Jobs, Moved, Snapshot, Unstarted};
use super::origin::Course;
use super::queue::{Entry, Queue};
use super::slot::Emptied;
use super::spare::{Spare, TaskParts};
use super::stats::{JobInfo, Report};
use super::workers::{Duty, Registration, Workers};
use crate::ground::timeline::{Tick, Timeline};
use crate::ground::waiters::Waiters;

/// What is to be done once the lock is free.
#[derive(Default)]
#[must_use]
pub(super) struct Todo {
    /// Wake the driver.
    pub(super) driver: Option<Waker>,
    /// Wake the parked worker.
    pub(super) worker: Option<Waker>,
    /// Wake these, who wait for a group that has drained or ended.
    pub(super) wake: Vec<Waker>,
    /// Let these tasks end.
    pub(super) retire: Vec<Spare>,
    /// Cancel the group's token.
    pub(super) cancel: bool,
}

/// What the driver has to do in this turn.
pub(super) enum Turn {
    /// The group has drained: go.
    Exit,
    /// Drop the pending jobs that are due at that instant or later, and wake those that are to be aborted.
    Drop(Tick),
    /// Bring the series that end with `wait` forward.
    Hurry,
    /// Take in these entries and release what is due by then. If so many are dead that it is worth it, begin
    /// a sweep.
    Work {
        arrived: Vec<Entry>,
        due: Tick,
        dead: bool,
    },
}

pub(super) struct State {
    jobs: Jobs,
    workers: Workers,
    intake: Intake,
    closing: Closing,
    waiters: Waiters,
    /// Tasks for jobs that await.
    spares: Vec<Spare>,
    /// Turns of the driver.
    turns: u64,
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It starts what it has claimed.
    Jobs,
    Parked,
    Leave,
}

/// What becomes of the task of a job that has ended.
pub(super) enum Reuse {
    /// It stands ready for the next one.
    Kept,
    /// It ends.
    No,
}

/// What follows from the end of a run.
pub(super) struct Ended {
    pub(super) left: Finished,
    pub(super) reuse: Reuse,
    /// How many workers to start.
    pub(super) start: usize,
}

/// Spare tasks are kept up to here.
const MOST_SPARES: usize = 256;

impl State {
    pub(super) fn new(limit: usize, workers: Workers, deadline: Tick) -> State {
        State {
            jobs: Jobs::new(limit),
            workers,
            intake: Intake::default(),
            closing: Closing::new(deadline),
            waiters: Waiters::default(),
            spares: Vec::new(),
            turns: 0,
        }
    }

    // Coming in.

    pub(super) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Refusal> {
        self.closing.admit(caller, cancelled)
    }

    /// A number for a job, accepted or not.
    pub(super) fn name(&mut self) -> JobId {
        self.jobs.name()
    }

    /// Takes an admitted job in, with one handle on it.
    pub(super) fn insert(
        &mut self,
        at: Tick,
        body: Box<dyn Body>,
        course: Course,
        scheduled_at: &'static Location<'static>,
        todo: &mut Todo,
    ) -> (JobId, u32) {
        let (id, entry) = self.jobs.insert(at, body, course, scheduled_at);
        self.send(entry, todo);
        (id, entry.slot)
    }

    /// Sends an entry to the driver.
    fn send(&mut self, entry: Entry, todo: &mut Todo) {
        if let Some(driver) = self.intake.push(entry) {
            todo.driver = Some(driver);
        }
    }

    fn poke(&mut self, todo: &mut Todo) {
        if let Some(driver) = self.intake.poke() {
            todo.driver = Some(driver);
        }
    }

    // Handles on one job.

    pub(super) fn job_state(&mut self, slot: u32) -> JobState {
        self.jobs.state(slot, &self.workers)
    }

    pub(super) fn job_deadline(&self, slot: u32) -> Tick {
        self.jobs.deadline(slot)
    }

    pub(super) fn hold(&mut self, slot: u32) {
        self.jobs.hold(slot);
    }

    pub(super) fn let_go(&mut self, slot: u32) {
        self.jobs.let_go(slot);
    }

    /// Cancels a job. True if that prevents its next run; what it held, if it had not started, is for
    /// the caller to drop, who then says [`dropped`](State::dropped).
    pub(super) fn cancel(&mut self, slot: u32, todo: &mut Todo) -> (bool, Option<Unstarted>) {
        let cancelled = self.jobs.cancel(slot, &self.workers);
        self.call_for_sweep(todo);
        cancelled
    }

    /// Stops a running job at its next await, and cancels one that has not started.
    pub(super) fn abort(&mut self, slot: u32, todo: &mut Todo) -> Option<Unstarted> {
        let unstarted = self.jobs.abort(slot, &self.workers);
        self.call_for_sweep(todo);
        unstarted
    }

    /// The values of so many jobs have been dropped.
    pub(super) fn dropped(&mut self, count: usize, todo: &mut Todo) {
        self.jobs.dropped(count);
        self.settle(todo);
    }

    /// Moves a job. True if the move will be honoured.
    pub(super) fn reset(
        &mut self,
        slot: u32,
        at: Tick,
        now: impl FnOnce() -> Tick,
        todo: &mut Todo,
    ) -> bool {
        // A clock is read only for a group that it can end. It is the driver that ends it: other locks
        // may be held here, as that of a keyed group, and who waits for the end must not be woken under them.
        if self.closing.has_deadline() && self.closing.reason(now(), false).is_some() {
            self.poke(todo);
            return false;
        }
        if !self.closing.lets_go_on() {
            return false;
        }
        match self.jobs.reset(slot, at, &self.workers) {
            Moved::No => return false,
            Moved::Kept => {}
            Moved::Anew(entry) => {
                self.send(entry, todo);
                self.call_for_sweep(todo);
            }
        }
        true
    }

    // Running.

    /// Books what a worker has done, and claims its next jobs; it parks or leaves if there are none. How many
    /// workers to start beside it. What was cancelled before this does not start.
    pub(super) fn claim(
        &mut self,
        worker: &mut Registration,
        spare: &mut Option<Spare>,
        now: Tick,
        cancelled: bool,
        waker: &Waker,
        todo: &mut Todo,
    ) -> (Claimed, usize) {
        if !self.workers.comes(worker) {
            self.workers.stays_parked(worker, waker);
            return (Claimed::Parked, 0);
        }
        // What came before the end of the last job is what ended the group.
        self.check_end(now, cancelled, todo);
        self.jobs.book(&worker.local);
        let claimed = match self.closing.lets_start() {
            true => self.jobs.claim(&worker.local, &self.workers),
            false => 0,
        };
        if claimed > 0 {
            if !spare.as_ref().is_some_and(Spare::is_spawned) {
                *spare = self.spares.pop().or(spare.take());
            }
            // The first of them could block, and the others are to be found then.
            if claimed > 1 && self.workers.watch() {
                self.poke(todo);
            }
            return (Claimed::Jobs, self.staff(todo));
        }
        worker.local.shrink();
        self.spares
            .extend(spare.take_if(|spare| spare.is_spawned()));
        self.settle(todo);
        self.retire_spares(todo);
        if self.closing.is_drained() {
            self.workers.leaves(worker);
        } else {
            self.workers.rests(worker, waker);
        }
        let claimed = match worker.duty {
            Duty::Parked => Claimed::Parked,
            _ => Claimed::Leave,
        };
        (claimed, 0)
    }

    /// A job is at its first await, and goes on in the spare task of its worker, which gets another if there is
    /// one. `None` if the job is to be aborted.
    pub(super) fn awaits(&mut self, slot: u32, spare: &mut Option<Spare>) -> Option<TaskParts> {
        if self.jobs.awaits(slot) || self.closing.is_aborting() {
            return None;
        }
        let Spare { task, abort } = std::mem::replace(spare, self.spares.pop())?;
        if let Some(abort) = abort {
            self.jobs.runs_in(slot, abort);
        }
        Some(task)
    }

    /// The task that a job runs in is dropped. Only a runtime that goes drops one that was not aborted.
    pub(super) fn task_dropped(&mut self, slot: u32, todo: &mut Todo) {
        if !(self.jobs.is_aborted(slot) || self.closing.is_aborting()) {
            self.abandon(todo);
        }
    }

    /// The task of a worker ends, or is dropped.
    pub(super) fn worker_dropped(
        &mut self,
        worker: &mut Registration,
        spare: Option<Spare>,
        todo: &mut Todo,
    ) {
        self.workers.dropped(worker);
        self.jobs.give_all_back(&worker.local);
        self.spares.extend(spare.filter(Spare::is_spawned));
        self.settle(todo);
        self.retire_spares(todo);
    }

    /// The jobs that may start now.
    fn startable(&self) -> usize {
        if self.closing.lets_start() {
            self.jobs.startable()
        } else {
            0
        }
    }

    /// Sees to it that a slot that is free is taken, whatever the workers do: how many to start. Where
    /// all of them could be stuck the driver watches over them.
    fn staff(&mut self, todo: &mut Todo) -> usize {
        let staffing = self.workers.staff(self.startable());
        if let Some(worker) = staffing.wake {
            todo.worker = Some(worker);
        }
        if staffing.watch {
            self.poke(todo);
        }
        staffing.start
    }

    /// A run has ended. A body that is not wanted for a further run comes back, and a panic that is not
    /// kept; if there is any, the caller drops it and then says [`dropped`](State::dropped).
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        body: Option<Box<dyn Body>>,
        task: Option<TaskParts>,
        todo: &mut Todo,
    ) -> Ended {
        let (left, again, abort) = self.jobs.finish(slot, ending, body, &self.closing);
        match again {
            Some(entry) => self.send(entry, todo),
            None => self.settle(todo),
        }
        self.retire_spares(todo);
        let reuse = match (abort, task) {
            (Some(abort), Some(task)) if self.spares.len() < self.room_for_spares() => {
                let abort = Some(abort);
                self.spares.push(Spare { task, abort });
                Reuse::Kept
            }
            _ => Reuse::No,
        };
        Ended {
            left,
            reuse,
            start: self.staff(todo),
        }
    }

    /// Spare tasks are kept for the jobs that are left, and one more.
    fn room_for_spares(&self) -> usize {
        if self.closing.is_drained() {
            return 0;
        }
        let jobs = self.jobs.pending() + self.jobs.running();
        (1 + jobs).min(MOST_SPARES)
    }

    fn retire_spares(&mut self, todo: &mut Todo) {
        let room = self.room_for_spares();
        if self.spares.len() > room {
            todo.retire.extend(self.spares.drain(room..));
        }
    }

    // Going down.

    /// Closes the book once nothing is held and nothing more will come.
    fn settle(&mut self, todo: &mut Todo) {
        if self.jobs.held() == 0 && self.closing.drain() {
            todo.wake.extend(self.waiters.take());
            todo.wake.extend(self.workers.dismiss());
            self.retire_spares(todo);
            self.poke(todo);
        }
    }

    /// Notices a cancelled token and a passed deadline.
    pub(super) fn check_end(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) {
        if let Some(why) = self.closing.reason(now, cancelled) {
            self.end_all(why, todo);
        }
    }

    /// No job starts from here on. The first reason stays; once the group has drained, none is one.
    pub(super) fn end_all(&mut self, why: End, todo: &mut Todo) {
        todo.cancel = true;
        if self.closing.end(why) {
            self.jobs.recall_all(&self.workers);
            todo.wake.extend(self.waiters.take());
            self.poke(todo);
            self.settle(todo);
        }
    }

    /// `wait` was called; false if that is a mistake.
    pub(super) fn close_to_wait(&mut self, todo: &mut Todo) -> bool {
        let admitted = self.closing.close_to_wait();
        if self.jobs.has_until_wait() {
            self.poke(todo);
        }
        self.settle(todo);
        admitted
    }

    /// What `wait` returned was dropped before it had ended.
    pub(super) fn give_up_wait(&mut self) {
        self.closing.give_up_wait();
    }

    /// `drain` was called: what it has to report on is counted from here.
    pub(super) fn drain(&mut self, abort: Tick, todo: &mut Todo) -> Tally {
        self.book_all();
        self.closing.drain_until(abort);
        self.poke(todo);
        self.settle(todo);
        self.jobs.tally()
    }

    /// `shutdown` was called: what it has to report on is counted from here.
    pub(super) fn shut_down(&mut self, now: Tick, abort: Tick, todo: &mut Todo) -> Tally {
        self.book_all();
        let before = self.jobs.tally();
        self.closing.shut_down(now, abort, before);
        self.poke(todo);
        self.settle(todo);
        before
    }

    /// Books what has ended and is not booked yet.
    fn book_all(&mut self) {
        let locals = self.workers.locals().iter();
        locals.for_each(|local| self.jobs.book(local));
    }

    /// The group was dropped, or its runtime is gone. How many jobs were pending and running.
    pub(super) fn abandon(&mut self, todo: &mut Todo) -> (usize, usize) {
        self.closing.abandon();
        self.jobs.recall_all(&self.workers);
        let held = (self.jobs.pending(), self.jobs.running());
        self.end_all(End::Cancelled, todo);
        todo.cancel = true;
        self.poke(todo);
        self.settle(todo);
        held
    }

    pub(super) fn detach(&mut self, todo: &mut Todo) {
        self.closing.detach();
        self.settle(todo);
    }

    /// A panic that its series survives; it comes back if it is not the first.
    pub(super) fn keep_panic(&mut self, panic: JobPanic) -> Option<JobPanic> {
        self.jobs.keep_panic(panic)
    }

    /// Nobody can wait any more. The first panic comes back to be dropped.
    pub(super) fn stop_hearing(&mut self) -> Option<JobPanic> {
        self.jobs.stop_hearing()
    }

    pub(super) fn handle_made(&mut self) {
        self.closing.handle_made();
    }

    pub(super) fn handle_gone(&mut self, todo: &mut Todo) {
        self.closing.handle_gone();
        self.settle(todo);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.closing.is_draining()
    }

    /// What `wait` returns, once it is known.
    pub(super) fn outcome(&self) -> Option<Outcome<'_>> {
        self.closing
            .outcome(self.jobs.tally(), self.jobs.first_panic())
    }

    /// What `drain` and `shutdown` return, once it is known.
    pub(super) fn report_since(&self, before: Tally) -> Option<Report> {
        self.closing.report(self.jobs.tally(), before)
    }

    /// Who waits for the end.
    pub(super) fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }

    // The driver.

    /// The driver is up. It gives an empty buffer for what arrives next.
    pub(super) fn turn(
        &mut self,
        now: Tick,
        cancelled: bool,
        empty: Vec<Entry>,
        todo: &mut Todo,
    ) -> Turn {
        self.turns += 1;
        self.intake.rise();
        self.check_end(now, cancelled, todo);
        if self.closing.is_drained() {
            return Turn::Exit;
        }
        if !self.closing.lets_start() {
            self.jobs.recall_all(&self.workers);
        }
        let (pending, tally) = (self.jobs.pending(), self.jobs.tally());
        if let Some(from) = self.closing.drops_from(now, pending, tally) {
            if from == Tick::ALWAYS {
                self.jobs.recall_all(&self.workers);
            }
            return Turn::Drop(from);
        }
        if self.closing.hurries() && self.jobs.take_until_wait() {
            return Turn::Hurry;
        }
        Turn::Work {
            arrived: self.intake.drain(empty),
            due: now,
            dead: self.has_too_many_dead(),
        }
    }

    /// Takes the bodies of one chunk's pending jobs that are due at `from` or later, and wakes its running ones
    /// if they are to be aborted.
    pub(super) fn unstart_chunk(
        &mut self,
        chunk: usize,
        from: Tick,
        jobs: &mut Vec<Unstarted>,
        todo: &mut Todo,
    ) {
        self.jobs.unstart_chunk(chunk, from, jobs);
        if self.closing.is_aborting() {
            self.jobs.abort_chunk(chunk);
        }
        self.call_for_sweep(todo);
    }

    /// Brings forward the series of one chunk that end with `wait`.
    pub(super) fn hurry_chunk(&mut self, chunk: usize, now: Tick, todo: &mut Todo) {
        for entry in self.jobs.hurry_chunk(chunk, now, &self.workers) {
            self.send(entry, todo);
        }
    }

    pub(super) fn chunks(&self) -> usize {
        self.jobs.chunks()
    }

    /// Storage that has become empty, to be dropped outside of the lock.
    pub(super) fn take_emptied(&mut self) -> Option<Emptied> {
        self.jobs.take_emptied()
    }

    /// Every entry was forgotten, since no job is pending and none will be. What is left of them is to be
    /// dropped.
    pub(super) fn forget_entries(&mut self) -> Vec<Entry> {
        self.intake.forget()
    }

    /// More entries are dead than speak for a job: one entry does for each that waits for its time.
    fn has_too_many_dead(&self) -> bool {
        self.intake.has_too_many_for(self.jobs.not_due())
    }

    fn call_for_sweep(&mut self, todo: &mut Todo) {
        if self.has_too_many_dead() {
            self.poke(todo);
        }
    }

    /// An entry for each of these slots whose job waits for its time.
    pub(super) fn entries(&self, slots: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        self.jobs.entries(slots)
    }

    /// The same for a page of slots; `None` behind the last one.
    pub(super) fn page(&self, slots: Range<u32>) -> Option<Vec<Entry>> {
        self.jobs.page(slots)
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order, and
    /// looks after the workers: how many to start.
    pub(super) fn release(
        &mut self,
        batch: &mut Vec<Entry>,
        queue: &mut Queue,
        now: Tick,
        todo: &mut Todo,
    ) -> usize {
        self.jobs.release(batch, queue);
        let startable = self.startable();
        let staffing = self.workers.staff(startable);
        todo.worker = staffing.wake;
        // A watch that begins here needs no poke: the driver is up, and begins it.
        staffing.start + usize::from(self.workers.check(startable, now))
    }

    /// What the driver's heap holds now, as a turn begins and when it lies down.
    pub(super) fn told(&mut self, head: Option<Tick>, queued: usize) {
        self.intake.told(head, queued);
    }

    /// The driver lies down until its next deadline; `None` if there is something to do first.
    pub(super) fn lie_down(&mut self, next: Option<Tick>, waker: &Waker) -> Option<Tick> {
        let next = next.unwrap_or(Tick::NEVER);
        let check = self.workers.next_check();
        let until = next.min(check).min(self.closing.next());
        self.intake.lie_down(until, waker).then_some(until)
    }

    /// How often slots were looked at since it was asked last.
    #[cfg(test)]
    pub(super) fn take_looks(&self) -> usize {
        self.jobs.take_looks()
    }

    /// Notes the jobs of one chunk that have not ended.
    pub(super) fn list_chunk(
        &mut self,
        chunk: usize,
        timeline: &Timeline,
        jobs: &mut Vec<JobInfo>,
    ) {
        let locals = self.workers.locals().iter();
        let claimed: HashSet<u32> = locals.flat_map(|local| local.unstarted_slots()).collect();
        self.book_all();
        self.jobs.list_chunk(chunk, &claimed, timeline, jobs);
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let head = self.intake.head();
        self.jobs.snapshot(head, self.turns, &self.workers)
    }
}
