//! Everything that a group knows, under one lock, and every transition of it.
//!
//! A transition never runs user code, drops no user value and wakes nobody. It notes in [`Todo`] what
//! is to be done, and hands out what is to be dropped; [`Shared`](super::shared::Shared) sees to both
//! when the lock is free again.
//!
//! The driver owns the heap, so what is known here of its entries (`head`, `queued`) is told by the
//! driver whenever it holds the lock.

use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

use super::body::Body;
use super::error::JobPanic;
use super::gate::{Caller, Door, End, Gate, Refusal};
use super::intake::Intake;
use super::job::{JobId, JobState};
use super::origin::{Course, Origins};
use super::places::Places;
use super::queue::{Entry, Queue, Stamp};
use super::slot::{Slot, Slots, Stage};
use super::stats::Report;
use crate::ground::timeline::Tick;

/// What is to be done once the lock is free.
#[derive(Default)]
#[must_use]
pub(super) struct Todo {
    /// Wake the driver.
    pub(super) driver: Option<Waker>,
    /// Wake these running jobs: each has been aborted.
    pub(super) jobs: Vec<Waker>,
    /// Cancel the group's token.
    pub(super) cancel: bool,
    /// Wake whoever waits for the group: it has drained or ended.
    pub(super) ring: bool,
}

/// How jobs ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) finished: u64,
    pub(super) panicked: u64,
    pub(super) aborted: u64,
    pub(super) dropped: u64,
}

impl Tally {
    /// What became of jobs since then.
    fn report_since(self, then: Tally) -> Report {
        let count = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
        Report {
            finished: count(self.finished + self.panicked, then.finished + then.panicked),
            aborted: count(self.aborted, then.aborted),
            dropped: count(self.dropped, then.dropped),
        }
    }
}

/// A shutdown on its way.
struct Shutdown {
    /// What is due later than this is dropped.
    due: Tick,
    /// When the grace is over.
    abort: Tick,
    /// The driver has dropped what was not due.
    swept: bool,
    before: Tally,
}

/// How a run ended.
pub(super) enum Ending {
    /// By itself; when it wants to run again, if at all.
    Ran(Option<Tick>),
    Panicked(JobPanic),
    Aborted,
}

/// A job for a runner to start.
pub(super) struct Started {
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) body: Box<dyn Body>,
    pub(super) deadline: Tick,
    pub(super) lateness: Duration,
    pub(super) scheduled_at: &'static Location<'static>,
}

/// What the driver has to do in this turn.
pub(super) enum Turn {
    /// The group has drained: go.
    Exit,
    /// Drop the pending jobs that are due later than this.
    Drop(Tick),
    /// Take in these entries and release what is due by then.
    Work { arrived: Vec<Entry>, due: Tick },
}

/// A job that lost its body before it started.
pub(super) struct Unstarted {
    pub(super) body: Box<dyn Body>,
    pub(super) id: JobId,
    pub(super) scheduled_at: &'static Location<'static>,
}

/// Counts and moments, all of one moment.
pub(super) struct Snapshot {
    pub(super) pending: usize,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) tally: Tally,
    pub(super) next: Option<Tick>,
    pub(super) max_lateness: Duration,
    pub(super) turns: u64,
}

pub(super) struct State {
    slots: Slots,
    origins: Origins,
    intake: Intake,
    places: Places,
    gate: Gate,
    /// The number of the last job.
    jobs: u64,
    /// Jobs with a body in their slot.
    pending: usize,
    /// Jobs that have ended while their values are still being dropped.
    dropping: usize,
    /// Not later than any live entry in the driver's heap.
    head: Tick,
    /// How many entries the driver holds.
    queued: usize,
    tally: Tally,
    max_lateness: Duration,
    turns: u64,
    first_panic: Option<JobPanic>,
    /// The group's own deadline.
    deadline: Tick,
    /// Series that end with `wait`.
    until_wait: Vec<(u32, JobId)>,
    shutdown: Option<Shutdown>,
    /// The group was dropped: running jobs are to be aborted.
    abandoned: bool,
    /// Running jobs have been told to stop, and any that still reaches an await will be.
    aborting: bool,
    /// The `Group` was detached.
    detached: bool,
    /// The `Group` is there, and can be asked for the first panic.
    heard: bool,
    /// How many `Handle`s there are.
    handles: usize,
}

/// Dead entries beyond the live ones up to here are not worth a sweep.
const KEPT_DEAD: usize = 1024;

impl State {
    pub(super) fn new(limit: usize, workers: usize, deadline: Tick) -> State {
        State {
            slots: Slots::default(),
            origins: Origins::default(),
            intake: Intake::default(),
            places: Places::new(limit, workers),
            gate: Gate::new(),
            jobs: 0,
            pending: 0,
            dropping: 0,
            head: Tick::NEVER,
            queued: 0,
            tally: Tally::default(),
            max_lateness: Duration::ZERO,
            turns: 0,
            first_panic: None,
            deadline,
            until_wait: Vec::new(),
            shutdown: None,
            abandoned: false,
            aborting: false,
            detached: false,
            heard: true,
            handles: 0,
        }
    }

    // Coming in.

    pub(super) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Refusal> {
        self.gate.admit(caller, cancelled)
    }

    /// A number for a job, accepted or not.
    pub(super) fn name(&mut self) -> JobId {
        self.jobs += 1;
        JobId(self.jobs)
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
        let id = self.name();
        let stamp = Stamp::first(id.0);
        let origin = self.origins.origin(scheduled_at, course);
        let slot = self.slots.insert(Slot::new(body, at, stamp, origin));
        self.pending += 1;
        self.send(Entry { at, stamp, slot }, todo);
        if course == Course::UntilWait {
            self.heed_wait(slot, id);
        }
        (id, slot)
    }

    /// Notes a series that ends with `wait`. When the list is full, those that have ended are forgotten
    /// and room is made for as many as are left: it stays as long as they are many, and looking through
    /// it is paid for by as many series.
    fn heed_wait(&mut self, slot: u32, id: JobId) {
        if self.until_wait.len() == self.until_wait.capacity() {
            let slots = &self.slots;
            self.until_wait
                .retain(|&(slot, id)| slots.is_held_by(slot, id));
            self.until_wait.reserve(self.until_wait.len());
        }
        self.until_wait.push((slot, id));
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
        self.slots.get(slot).state()
    }

    pub(super) fn job_deadline(&self, slot: u32) -> Tick {
        self.slots.get(slot).deadline
    }

    pub(super) fn hold(&mut self, slot: u32) {
        let handles = &mut self.slots.get_mut(slot).handles;
        *handles = handles
            .checked_add(1)
            .expect("schedgroup: more than four billion handles on one job");
    }

    pub(super) fn let_go(&mut self, slot: u32) {
        let place = self.slots.get_mut(slot);
        place.handles -= 1;
        if place.handles == 0 && matches!(place.stage(), Stage::Ended(_)) {
            self.slots.remove(slot);
        }
    }

    /// Ends a job that runs; its slot goes with its last handle.
    fn end(&mut self, slot: u32, state: JobState) {
        let place = self.slots.get_mut(slot);
        place.end(state);
        if place.handles == 0 {
            self.slots.remove(slot);
        }
    }

    /// Cancels a job. True if that prevents its next run; what it held, if it had not started, is for
    /// the caller to drop, who then says [`dropped`](State::dropped).
    pub(super) fn cancel(&mut self, slot: u32, todo: &mut Todo) -> (bool, Option<Unstarted>) {
        if let Some(unstarted) = self.unstart(slot, todo) {
            return (true, Some(unstarted));
        }
        let place = self.slots.get_mut(slot);
        let series = place.origin.is_series();
        match place.control() {
            Some(control) if series && !control.is_last_run() => {
                control.cancelled = true;
                (true, None)
            }
            _ => (false, None),
        }
    }

    /// Stops a running job at its next await, and cancels one that has not started.
    pub(super) fn abort(&mut self, slot: u32, todo: &mut Todo) -> Option<Unstarted> {
        if let Some(control) = self.slots.get_mut(slot).control() {
            control.abort = true;
            todo.jobs.extend(control.waker.take());
            return None;
        }
        self.unstart(slot, todo)
    }

    /// Takes the body of a job that has not started.
    fn unstart(&mut self, slot: u32, todo: &mut Todo) -> Option<Unstarted> {
        let place = self.slots.get_mut(slot);
        let released = place.stage() == Stage::Released;
        let body = place.take_body(Stage::Ended(JobState::Cancelled))?;
        let unstarted = Unstarted {
            body,
            id: JobId(place.stamp.job()),
            scheduled_at: self.origins.site(place.origin),
        };
        if place.handles == 0 {
            self.slots.remove(slot);
        }
        self.pending -= 1;
        self.dropping += 1;
        self.tally.dropped += 1;
        self.disown(released, todo);
        Some(unstarted)
    }

    /// The entry of a job that is pending no more, or elsewhere, is dead.
    fn disown(&mut self, released: bool, todo: &mut Todo) {
        if released {
            if self.places.withdraw() {
                let slots = &self.slots;
                self.places.sweep(|entry| slots.is_released(entry));
            }
        } else if self.has_too_many_dead() {
            self.poke(todo);
        }
    }

    /// The values of so many jobs have been dropped.
    pub(super) fn dropped(&mut self, count: usize, todo: &mut Todo) {
        self.dropping -= count;
        self.settle(todo);
    }

    /// Moves a job. True if the move will be honoured.
    ///
    /// Later costs a store: the entry stays where it is and is sent on when it surfaces. Only earlier
    /// makes a new entry.
    pub(super) fn reset(
        &mut self,
        slot: u32,
        at: Tick,
        now: impl FnOnce() -> Tick,
        todo: &mut Todo,
    ) -> bool {
        // A clock is read only for a group that it can end.
        if self.deadline < Tick::NEVER {
            self.check_end(now(), false, todo);
        }
        if self.gate.ended.is_some() || self.shutdown.is_some() || self.abandoned {
            return false;
        }
        let place = self.slots.get_mut(slot);
        match place.stage() {
            Stage::Waiting if at >= place.deadline => {
                place.deadline = at;
                true
            }
            stage @ (Stage::Waiting | Stage::Released) => {
                place.deadline = at;
                place.wait_anew();
                let entry = Entry {
                    at,
                    stamp: place.stamp,
                    slot,
                };
                self.disown(stage == Stage::Released, todo);
                self.send(entry, todo);
                true
            }
            Stage::Running if place.origin.is_series() => place.control().is_some_and(|control| {
                let moves = !control.is_last_run();
                if moves {
                    control.again = Some(at);
                }
                moves
            }),
            _ => false,
        }
    }

    // Running.

    /// The next job in release order, if one may start. This is the start check: what was cancelled
    /// before it does not start.
    pub(super) fn take(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) -> Option<Started> {
        self.check_end(now, cancelled, todo);
        if self.gate.ended.is_some() || self.aborting || self.abandoned {
            return None;
        }
        let slots = &self.slots;
        let entry = self.places.take(|entry| slots.is_released(entry))?;
        let place = self.slots.get_mut(entry.slot);
        let Some(body) = place.take_body(Stage::Running) else {
            unreachable!("a live entry speaks for a body");
        };
        self.pending -= 1;
        let lateness = now.since(place.deadline);
        self.max_lateness = self.max_lateness.max(lateness);
        Some(Started {
            slot: entry.slot,
            id: JobId(place.stamp.job()),
            body,
            deadline: place.deadline,
            lateness,
            scheduled_at: self.origins.site(place.origin),
        })
    }

    /// A run is at its first await and keeps its task. True if it must stop instead.
    pub(super) fn park(&mut self, slot: u32, waker: &Waker) -> bool {
        let aborting = self.aborting;
        let Some(control) = self.slots.get_mut(slot).control() else {
            unreachable!("a run that has not ended is running");
        };
        control.waker = Some(waker.clone());
        control.abort || aborting
    }

    /// A run goes on after an await. True if it must stop instead.
    pub(super) fn must_stop(&mut self, slot: u32) -> bool {
        self.slots
            .get_mut(slot)
            .control()
            .is_some_and(|control| control.abort)
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
        self.places.vacate();
        let going_down =
            self.gate.ended.is_some() || self.shutdown.is_some() || self.abandoned || self.aborting;
        let waited = self.gate.door != Door::Open;
        let place = self.slots.get_mut(slot);
        let control = place.take_control();
        let control = control.map(|control| *control).unwrap_or_default();
        let done = waited && place.origin.ends_with_wait();
        let mut leftover = Finished { body, panic: None };
        let state = match ending {
            Ending::Ran(next) => {
                let wanted = next.into_iter().chain(control.again).min();
                match (wanted.filter(|_| !done), leftover.body.take()) {
                    (Some(at), Some(body)) if !control.is_last_run() && !going_down => {
                        self.run_again(slot, at, body, todo);
                        return leftover;
                    }
                    (next, body) => {
                        leftover.body = body;
                        if control.cancelled || next.is_some() {
                            self.tally.dropped += 1;
                            JobState::Cancelled
                        } else {
                            self.tally.finished += 1;
                            JobState::Finished
                        }
                    }
                }
            }
            Ending::Panicked(panic) => {
                self.tally.panicked += 1;
                if self.heard && self.first_panic.is_none() {
                    self.first_panic = Some(panic);
                } else {
                    leftover.panic = Some(panic);
                }
                JobState::Panicked
            }
            Ending::Aborted => {
                self.tally.aborted += 1;
                JobState::Cancelled
            }
        };
        self.end(slot, state);
        if !leftover.is_empty() {
            self.dropping += 1;
        }
        self.settle(todo);
        leftover
    }

    fn run_again(&mut self, slot: u32, at: Tick, body: Box<dyn Body>, todo: &mut Todo) {
        let place = self.slots.get_mut(slot);
        place.put_body(body, at);
        let entry = Entry {
            at,
            stamp: place.stamp,
            slot,
        };
        self.pending += 1;
        self.send(entry, todo);
    }

    /// The crew that serves the due jobs.
    pub(super) fn places(&mut self) -> &mut Places {
        &mut self.places
    }

    // Going down.

    fn held(&self) -> usize {
        self.pending + self.places.running() + self.dropping
    }

    /// Closes the book once nothing is held and nothing more will come.
    fn settle(&mut self, todo: &mut Todo) {
        let closing = self.gate.ended.is_some()
            || self.gate.door != Door::Open
            || self.abandoned
            || (self.detached && self.handles == 0);
        if closing && self.held() == 0 && !self.gate.drained {
            self.gate.drained = true;
            todo.ring = true;
            self.poke(todo);
        }
    }

    /// Notices a cancelled token and a passed deadline.
    pub(super) fn check_end(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) {
        if self.gate.ended.is_some() {
            return;
        }
        if cancelled {
            self.end_all(End::Cancelled, todo);
        } else if now >= self.deadline && !self.gate.drained {
            self.end_all(End::DeadlineExceeded, todo);
        }
    }

    /// No job starts from here on. The first reason stays.
    pub(super) fn end_all(&mut self, why: End, todo: &mut Todo) {
        if self.gate.ended.is_none() {
            self.gate.ended = Some(why);
            todo.ring = true;
            todo.cancel = true;
            self.poke(todo);
            self.settle(todo);
        }
    }

    /// `wait` was called; false if it had been before.
    pub(super) fn close_to_wait(&mut self, now: Tick, todo: &mut Todo) -> bool {
        let first = !std::mem::replace(&mut self.gate.waited, true);
        if self.gate.door == Door::Open {
            self.gate.door = Door::Waited;
        }
        for (slot, id) in std::mem::take(&mut self.until_wait) {
            if self.slots.is_held_by(slot, id) && self.slots.get(slot).is_pending() {
                self.reset(slot, now, || now, todo);
            }
        }
        self.settle(todo);
        first
    }

    /// `shutdown` was called: what it has to report on is counted from here.
    ///
    /// The earliest end of grace among several calls holds.
    pub(super) fn shut_down(&mut self, now: Tick, abort: Tick, todo: &mut Todo) -> Tally {
        self.gate.door = Door::ShutDown;
        let before = self.tally;
        match &mut self.shutdown {
            Some(shutdown) => shutdown.abort = shutdown.abort.min(abort),
            None => {
                self.shutdown = Some(Shutdown {
                    due: now,
                    abort,
                    swept: false,
                    before,
                });
            }
        }
        self.poke(todo);
        self.settle(todo);
        before
    }

    /// The group was dropped, or its runtime is gone. How many jobs were pending and running.
    pub(super) fn abandon(&mut self, todo: &mut Todo) -> (usize, usize) {
        let held = (self.pending, self.places.running());
        self.abandoned = true;
        self.end_all(End::Cancelled, todo);
        todo.cancel = true;
        self.poke(todo);
        self.settle(todo);
        held
    }

    pub(super) fn detach(&mut self, todo: &mut Todo) {
        self.detached = true;
        self.settle(todo);
    }

    /// Nobody can wait any more. The first panic comes back to be dropped: what it carries may hold a
    /// handle of this very group, and would keep it for ever.
    pub(super) fn stop_hearing(&mut self) -> Option<JobPanic> {
        self.heard = false;
        self.first_panic.take()
    }

    pub(super) fn handle_made(&mut self) {
        self.handles += 1;
    }

    pub(super) fn handle_gone(&mut self, todo: &mut Todo) {
        self.handles -= 1;
        self.settle(todo);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.gate.door != Door::Open
    }

    /// What `wait` returns, once it is known.
    pub(super) fn outcome(&self) -> Option<Outcome<'_>> {
        if let Some(end) = self.gate.ended {
            return Some(Outcome::Ended(end));
        }
        if !self.gate.drained {
            return None;
        }
        let left_over = self.shutdown.as_ref().is_some_and(|shutdown| {
            let report = self.tally.report_since(shutdown.before);
            report.aborted + report.dropped > 0
        });
        Some(match &self.first_panic {
            _ if left_over => Outcome::Ended(End::Cancelled),
            Some(panic) => Outcome::Panicked(panic),
            None => Outcome::Done,
        })
    }

    /// What `shutdown` returns, once it is known.
    pub(super) fn report_since(&self, before: Tally) -> Option<Report> {
        self.gate.drained.then(|| self.tally.report_since(before))
    }

    // The driver.

    /// The driver is up.
    pub(super) fn turn(&mut self, now: Tick, cancelled: bool, todo: &mut Todo) -> Turn {
        self.turns += 1;
        self.intake.rise();
        self.check_end(now, cancelled, todo);
        if self.gate.drained {
            return Turn::Exit;
        }
        if !self.aborting && (self.abandoned || self.grace_ends() <= now) {
            self.abort_running(todo);
        }
        if self.pending > 0 && (self.gate.ended.is_some() || self.aborting) {
            return Turn::Drop(Tick::ALWAYS);
        }
        if let Some(shutdown) = self.shutdown.as_mut().filter(|shutdown| !shutdown.swept) {
            shutdown.swept = true;
            return Turn::Drop(shutdown.due.after(Duration::from_nanos(1)));
        }
        self.head = self.head.min(self.intake.earliest());
        let arrived = self.intake.drain();
        self.queued += arrived.len();
        Turn::Work { arrived, due: now }
    }

    fn grace_ends(&self) -> Tick {
        self.shutdown
            .as_ref()
            .map_or(Tick::NEVER, |shutdown| shutdown.abort)
    }

    /// Tells every running job to stop. One that is before its first await finds out there.
    fn abort_running(&mut self, todo: &mut Todo) {
        self.aborting = true;
        for chunk in 0..self.slots.chunks() {
            for slot in self.slots.chunk(chunk) {
                if let Some(control) = self.slots.get_mut(slot).control() {
                    control.abort = true;
                    todo.jobs.extend(control.waker.take());
                }
            }
        }
    }

    /// Takes the bodies of one chunk's pending jobs that are due at `from` or later.
    pub(super) fn unstart_chunk(
        &mut self,
        chunk: usize,
        from: Tick,
        todo: &mut Todo,
    ) -> Vec<Unstarted> {
        let mut bodies = Vec::new();
        for slot in self.slots.chunk(chunk) {
            let due_later = self
                .slots
                .peek_mut(slot)
                .is_some_and(|place| place.deadline >= from);
            if due_later {
                bodies.extend(self.unstart(slot, todo));
            }
        }
        bodies
    }

    pub(super) fn chunks(&self) -> usize {
        self.slots.chunks()
    }

    /// Every entry was forgotten, since no job is pending and none will be.
    pub(super) fn forget_entries(&mut self) {
        drop(self.intake.drain());
        self.head = Tick::NEVER;
        self.queued = 0;
    }

    /// More entries are dead than speak for a job: one entry does for each that waits for its time.
    pub(super) fn has_too_many_dead(&self) -> bool {
        let live = self.pending - self.places.waiting();
        self.queued + self.intake.len() > 2 * live + KEPT_DEAD
    }

    /// An entry for each of these slots whose job waits for its time.
    pub(super) fn entries(&self, slots: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        let waiting = |slot| self.slots.waiting(slot);
        slots.into_iter().filter_map(waiting).collect()
    }

    /// The same for a whole chunk.
    pub(super) fn chunk_entries(&self, chunk: usize) -> Vec<Entry> {
        self.entries(self.slots.chunk(chunk))
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order.
    ///
    /// An entry whose job was moved later goes back, unless its new deadline falls within the batch:
    /// everything left in the heap is due later than the batch's last, so the batch can be put in
    /// order by itself.
    pub(super) fn release(&mut self, batch: &mut Vec<Entry>, queue: &mut Queue) {
        if let Some(last) = batch.last().map(|entry| entry.at) {
            let mut moved = false;
            batch.retain_mut(|entry| {
                let Some(slot) = self.slots.waiting_mut(entry) else {
                    return false;
                };
                if slot.deadline == entry.at {
                    return true;
                }
                entry.at = slot.deadline;
                if entry.at > last {
                    queue.push(*entry);
                    return false;
                }
                moved = true;
                true
            });
            if moved {
                batch.sort_unstable();
            }
            for entry in batch.drain(..) {
                // Two entries may say the same: a bucket knows only slots, and a slot is used again.
                if let Some(slot) = self.slots.waiting_mut(&entry) {
                    slot.release();
                    self.places.offer(entry);
                }
            }
        }
        self.head = queue.next().unwrap_or(Tick::NEVER);
        self.queued = queue.len();
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
        let mut until = next.unwrap_or(Tick::NEVER).min(tend);
        if self.gate.ended.is_none() {
            until = until.min(self.deadline);
        }
        if !self.aborting {
            until = until.min(self.grace_ends());
        }
        self.intake.lie_down(until, waker).then_some(until)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let next = self
            .head
            .min(self.intake.earliest())
            .min(self.places.earliest().unwrap_or(Tick::NEVER));
        Snapshot {
            pending: self.pending,
            waiting: self.places.waiting(),
            running: self.places.running(),
            tally: self.tally,
            next: (self.pending > 0).then_some(next),
            max_lateness: self.max_lateness,
            turns: self.turns,
        }
    }
}

/// What is left of a finished run.
pub(super) struct Finished {
    pub(super) body: Option<Box<dyn Body>>,
    /// A panic that is not the group's first, or that nobody can hear of.
    pub(super) panic: Option<JobPanic>,
}

impl Finished {
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_none() && self.panic.is_none()
    }
}

/// How the group ended.
pub(super) enum Outcome<'a> {
    Done,
    Ended(End),
    Panicked(&'a JobPanic),
}
