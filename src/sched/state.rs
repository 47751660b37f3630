//! Everything that a group knows, under one lock, and every transition of it.
//!
//! It is four parts that do not know the lock: its [`Jobs`], its [`Closing`], the [`Intake`] of its
//! driver, and its [`Waiters`]. A transition brings them together. It never runs user code, drops no user
//! value and wakes nobody. It notes in [`Todo`] what is to be done, and hands out what is to be dropped;
//! [`Shared`](super::shared::Shared) sees to both when the lock is free again.

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
use super::jobs::{Finished, Jobs, Moved, Snapshot, Started, Unstarted};
use super::origin::Course;
use super::places::Places;
use super::queue::{Entry, Queue};
use super::stats::Report;
use super::waiters::Waiters;
use crate::ground::timeline::Tick;

/// What is to be done once the lock is free.
#[derive(Default)]
#[must_use]
pub(super) struct Todo {
    /// Wake the driver.
    pub(super) driver: Option<Waker>,
    /// Wake these: running jobs that have been aborted, and who waits for a group that has drained or ended.
    pub(super) wake: Vec<Waker>,
    /// Cancel the group's token.
    pub(super) cancel: bool,
}

/// What the driver has to do in this turn.
pub(super) enum Turn {
    /// The group has drained: go.
    Exit,
    /// Drop the pending jobs that are due later than this.
    Drop(Tick),
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
    intake: Intake,
    closing: Closing,
    waiters: Waiters,
    /// Turns of the driver.
    turns: u64,
}

impl State {
    pub(super) fn new(limit: usize, workers: usize, deadline: Tick) -> State {
        State {
            jobs: Jobs::new(limit, workers),
            intake: Intake::default(),
            closing: Closing::new(deadline),
            waiters: Waiters::default(),
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

    pub(super) fn job_state(&self, slot: u32) -> JobState {
        self.jobs.state(slot)
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
        let cancelled = self.jobs.cancel(slot);
        self.call_for_sweep(todo);
        cancelled
    }

    /// Stops a running job at its next await, and cancels one that has not started.
    pub(super) fn abort(&mut self, slot: u32, todo: &mut Todo) -> Option<Unstarted> {
        let unstarted = self.jobs.abort(slot, &mut todo.wake);
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
        // A clock is read only for a group that it can end.
        if self.closing.has_deadline() {
            self.check_end(now(), false, todo);
        }
        if !self.closing.lets_go_on() {
            return false;
        }
        match self.jobs.reset(slot, at) {
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

    /// The next job in release order, if one may start. This is the start check: what was cancelled
    /// before it does not start.
    pub(super) fn take(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) -> Option<Started> {
        self.check_end(now, cancelled, todo);
        if !self.closing.lets_start() {
            return None;
        }
        self.jobs.take(now)
    }

    /// A run is at its first await and keeps its task. True if it must stop instead.
    pub(super) fn park(&mut self, slot: u32, waker: &Waker) -> bool {
        self.jobs.park(slot, waker) || self.closing.is_aborting()
    }

    /// A run goes on after an await. True if it must stop instead.
    pub(super) fn must_stop(&mut self, slot: u32) -> bool {
        self.jobs.must_stop(slot)
    }

    /// A run has ended. A body that is not wanted for a further run comes back, and a panic that is not
    /// kept; if there is any, the caller drops it and then says [`dropped`](State::dropped).
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        body: Option<Box<dyn Body>>,
        todo: &mut Todo,
    ) -> Finished {
        let (left, again) = self.jobs.finish(slot, ending, body, &self.closing);
        match again {
            Some(entry) => self.send(entry, todo),
            None => self.settle(todo),
        }
        left
    }

    /// The crew that serves the due jobs.
    pub(super) fn places(&mut self) -> &mut Places {
        self.jobs.places()
    }

    // Going down.

    /// Closes the book once nothing is held and nothing more will come.
    fn settle(&mut self, todo: &mut Todo) {
        if self.jobs.are_gone() && self.closing.drain() {
            todo.wake.extend(self.waiters.take());
            self.poke(todo);
        }
    }

    /// Notices a cancelled token and a passed deadline.
    pub(super) fn check_end(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) {
        if let Some(why) = self.closing.reason(now, cancelled) {
            self.end_all(why, todo);
        }
    }

    /// No job starts from here on. The first reason stays.
    pub(super) fn end_all(&mut self, why: End, todo: &mut Todo) {
        if self.closing.end(why) {
            todo.wake.extend(self.waiters.take());
            todo.cancel = true;
            self.poke(todo);
            self.settle(todo);
        }
    }

    /// `wait` was called; false if it had been before.
    pub(super) fn close_to_wait(&mut self, now: Tick, todo: &mut Todo) -> bool {
        let first = self.closing.close_to_wait();
        for series in self.jobs.take_until_wait() {
            self.reset(series, now, || now, todo);
        }
        self.settle(todo);
        first
    }

    /// `shutdown` was called: what it has to report on is counted from here.
    pub(super) fn shut_down(&mut self, now: Tick, abort: Tick, todo: &mut Todo) -> Tally {
        let before = self.jobs.tally();
        self.closing.shut_down(now, abort, before);
        self.poke(todo);
        self.settle(todo);
        before
    }

    /// The group was dropped, or its runtime is gone. How many jobs were pending and running.
    pub(super) fn abandon(&mut self, todo: &mut Todo) -> (usize, usize) {
        let held = (self.jobs.pending(), self.jobs.running());
        self.closing.abandon();
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

    /// What `shutdown` returns, once it is known.
    pub(super) fn report_since(&self, before: Tally) -> Option<Report> {
        self.closing.report(self.jobs.tally(), before)
    }

    /// Who waits for the end.
    pub(super) fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }

    // The driver.

    /// The driver is up.
    pub(super) fn turn(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) -> Turn {
        self.turns += 1;
        self.intake.rise();
        self.check_end(now, cancelled, todo);
        if self.closing.is_drained() {
            return Turn::Exit;
        }
        if self.closing.begins_to_abort(now) {
            self.jobs.abort_running(&mut todo.wake);
        }
        if let Some(from) = self.closing.drops_from(self.jobs.pending()) {
            return Turn::Drop(from);
        }
        Turn::Work {
            arrived: self.intake.drain(),
            due: now,
            dead: self.has_too_many_dead(),
        }
    }

    /// Takes the bodies of one chunk's pending jobs that are due at `from` or later.
    pub(super) fn unstart_chunk(
        &mut self,
        chunk: usize,
        from: Tick,
        todo: &mut Todo,
    ) -> Vec<Unstarted> {
        let unstarted = self.jobs.unstart_chunk(chunk, from);
        self.call_for_sweep(todo);
        unstarted
    }

    pub(super) fn chunks(&self) -> usize {
        self.jobs.chunks()
    }

    /// Every entry was forgotten, since no job is pending and none will be.
    pub(super) fn forget_entries(&mut self) {
        self.intake.forget();
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

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order.
    pub(super) fn release(&mut self, batch: &mut Vec<Entry>, queue: &mut Queue) {
        self.jobs.release(batch, queue);
    }

    /// What the driver's heap holds now, as a turn begins and when it lies down.
    pub(super) fn told(&mut self, head: Option<Tick>, queued: usize) {
        self.intake.told(head, queued);
    }

    /// The driver lies down until its next deadline; `None` if there is something to do first.
    ///
    /// `tend` is when it should look after jobs that wait for a runner.
    pub(super) fn lie_down(
        &mut self,
        next: Option<Tick>,
        tend: Tick,
        waker: &Waker,
    ) -> Option<Tick> {
        let next = next.unwrap_or(Tick::NEVER);
        let until = next.min(tend).min(self.closing.next());
        self.intake.lie_down(until, waker).then_some(until)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.jobs.snapshot(self.intake.head(), self.turns)
    }
}
