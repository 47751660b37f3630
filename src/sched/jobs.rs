//! The jobs of a group: the life of each, from its coming to its end, and the counts that go with it.
//!
//! A change that calls for a new entry of a job hands it out, to be sent to the driver. What is to be
//! dropped is handed out too, and still counts as held until [`dropped`](Jobs::dropped).

use std::ops::Range;
use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

use super::body::Body;
use super::closing::Closing;
use super::ends::{Ending, FirstPanic, Tally};
use super::error::JobPanic;
use super::job::{JobId, JobState};
use super::origin::{Course, Origins};
use super::places::Places;
use super::queue::{Entry, Queue, Stamp};
use super::slot::{Slot, Slots, Stage};
use super::until_wait::UntilWait;
use crate::ground::timeline::Tick;

/// A job for a runner to start.
pub(super) struct Started {
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) body: Box<dyn Body>,
    pub(super) deadline: Tick,
    pub(super) lateness: Duration,
    pub(super) scheduled_at: &'static Location<'static>,
}

/// A job that lost its body before it started.
pub(super) struct Unstarted {
    pub(super) body: Box<dyn Body>,
    pub(super) id: JobId,
    pub(super) scheduled_at: &'static Location<'static>,
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

/// Whether a job is moved.
pub(super) enum Moved {
    No,
    /// The entry that it has will do.
    Kept,
    /// This entry speaks for it from now on.
    Anew(Entry),
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

pub(super) struct Jobs {
    slots: Slots,
    origins: Origins,
    places: Places,
    /// The number of the last job.
    last: u64,
    /// Jobs with a body in their slot.
    pending: usize,
    /// Jobs that have ended while their values are still being dropped.
    dropping: usize,
    tally: Tally,
    first_panic: FirstPanic,
    max_lateness: Duration,
    until_wait: UntilWait,
}

impl Jobs {
    pub(super) fn new(limit: usize, workers: usize) -> Jobs {
        Jobs {
            slots: Slots::default(),
            origins: Origins::default(),
            places: Places::new(limit, workers),
            last: 0,
            pending: 0,
            dropping: 0,
            tally: Tally::default(),
            first_panic: FirstPanic::default(),
            max_lateness: Duration::ZERO,
            until_wait: UntilWait::default(),
        }
    }

    // Coming in.

    /// A number for a job, accepted or not.
    pub(super) fn name(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// Takes a job in, with one handle on it; its entry is to be sent.
    pub(super) fn insert(
        &mut self,
        at: Tick,
        body: Box<dyn Body>,
        course: Course,
        scheduled_at: &'static Location<'static>,
    ) -> (JobId, Entry) {
        let id = self.name();
        let stamp = Stamp::first(id.0);
        let origin = self.origins.origin(scheduled_at, course);
        let slot = self.slots.insert(Slot::new(body, at, stamp, origin));
        self.pending += 1;
        if course == Course::UntilWait {
            self.until_wait.note(slot, id, &self.slots);
        }
        (id, Entry { at, stamp, slot })
    }

    /// The pending series that end with `wait`; once.
    pub(super) fn take_until_wait(&mut self) -> Vec<u32> {
        self.until_wait.take(&self.slots)
    }

    // Handles on one job.

    pub(super) fn state(&self, slot: u32) -> JobState {
        self.slots.get(slot).state()
    }

    pub(super) fn deadline(&self, slot: u32) -> Tick {
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

    /// Cancels a job. True if that prevents its next run; what it held comes back if it had not started.
    pub(super) fn cancel(&mut self, slot: u32) -> (bool, Option<Unstarted>) {
        if let Some(unstarted) = self.unstart(slot) {
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
    pub(super) fn abort(&mut self, slot: u32, wake: &mut Vec<Waker>) -> Option<Unstarted> {
        if let Some(control) = self.slots.get_mut(slot).control() {
            control.abort = true;
            wake.extend(control.waker.take());
            return None;
        }
        self.unstart(slot)
    }

    /// Takes the body of a job that has not started.
    fn unstart(&mut self, slot: u32) -> Option<Unstarted> {
        let place = self.slots.get_mut(slot);
        let stage = place.stage();
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
        self.leave_line(stage);
        Some(unstarted)
    }

    /// A job that was at `stage` is pending no more, or elsewhere.
    fn leave_line(&mut self, stage: Stage) {
        if stage == Stage::Released && self.places.withdraw() {
            let slots = &self.slots;
            self.places.sweep(|entry| slots.is_released(entry));
        }
    }

    /// Moves a job.
    ///
    /// Later costs a store: the entry stays where it is and is sent on when it surfaces. Only earlier
    /// makes a new entry.
    pub(super) fn reset(&mut self, slot: u32, at: Tick) -> Moved {
        let place = self.slots.get_mut(slot);
        match place.stage() {
            Stage::Waiting if at >= place.deadline => {
                place.deadline = at;
                Moved::Kept
            }
            stage @ (Stage::Waiting | Stage::Released) => {
                place.deadline = at;
                place.wait_anew();
                let stamp = place.stamp;
                self.leave_line(stage);
                Moved::Anew(Entry { at, stamp, slot })
            }
            Stage::Running if place.origin.is_series() => match place.control() {
                Some(control) if !control.is_last_run() => {
                    control.again = Some(at);
                    Moved::Kept
                }
                _ => Moved::No,
            },
            _ => Moved::No,
        }
    }

    // Running.

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order.
    ///
    /// An entry whose job was moved later goes back, unless its new deadline falls within the batch:
    /// everything left in the heap is due later than the batch's last, so the batch can be put in
    /// order by itself.
    pub(super) fn release(&mut self, batch: &mut Vec<Entry>, queue: &mut Queue) {
        let Some(last) = batch.last().map(|entry| entry.at) else {
            return;
        };
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

    /// The crew that serves the due jobs.
    pub(super) fn places(&mut self) -> &mut Places {
        &mut self.places
    }

    /// The next job in release order, if there is a place for it.
    pub(super) fn take(&mut self, now: Tick) -> Option<Started> {
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
        let Some(control) = self.slots.get_mut(slot).control() else {
            unreachable!("a run that has not ended is running");
        };
        control.waker = Some(waker.clone());
        control.abort
    }

    /// A run goes on after an await. True if it must stop instead.
    pub(super) fn must_stop(&mut self, slot: u32) -> bool {
        self.slots
            .get_mut(slot)
            .control()
            .is_some_and(|control| control.abort)
    }

    /// Tells every running job to stop. One that is before its first await finds out there.
    pub(super) fn abort_running(&mut self, wake: &mut Vec<Waker>) {
        for chunk in 0..self.slots.chunks() {
            for slot in self.slots.chunk(chunk) {
                if let Some(control) = self.slots.get_mut(slot).control() {
                    control.abort = true;
                    wake.extend(control.waker.take());
                }
            }
        }
    }

    /// A run has ended. What is left of it comes back, and the entry of the further run if there is one.
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        body: Option<Box<dyn Body>>,
        closing: &Closing,
    ) -> (Finished, Option<Entry>) {
        self.places.vacate();
        let place = self.slots.get_mut(slot);
        let control = place.take_control();
        let control = control.map(|control| *control).unwrap_or_default();
        let done = closing.is_draining() && place.origin.ends_with_wait();
        let mut left = Finished { body, panic: None };
        let state = match ending {
            Ending::Ran(next) => {
                let wanted = next.into_iter().chain(control.again).min();
                match (wanted.filter(|_| !done), left.body.take()) {
                    (Some(at), Some(body)) if !control.is_last_run() && closing.lets_go_on() => {
                        let again = self.run_again(slot, at, body);
                        return (left, Some(again));
                    }
                    (next, body) => {
                        left.body = body;
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
                left.panic = self.first_panic.keep(panic);
                JobState::Panicked
            }
            Ending::Aborted => {
                self.tally.aborted += 1;
                JobState::Cancelled
            }
        };
        self.end(slot, state);
        self.dropping += usize::from(!left.is_empty());
        (left, None)
    }

    fn run_again(&mut self, slot: u32, at: Tick, body: Box<dyn Body>) -> Entry {
        self.pending += 1;
        let place = self.slots.get_mut(slot);
        place.put_body(body, at);
        Entry {
            at,
            stamp: place.stamp,
            slot,
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

    /// The values of so many jobs have been dropped.
    pub(super) fn dropped(&mut self, count: usize) {
        self.dropping -= count;
    }

    // All of them.

    /// Takes the bodies of one chunk's pending jobs that are due at `from` or later.
    pub(super) fn unstart_chunk(&mut self, chunk: usize, from: Tick) -> Vec<Unstarted> {
        let mut bodies = Vec::new();
        for slot in self.slots.chunk(chunk) {
            let due_later = self
                .slots
                .peek_mut(slot)
                .is_some_and(|place| place.deadline >= from);
            if due_later {
                bodies.extend(self.unstart(slot));
            }
        }
        bodies
    }

    pub(super) fn chunks(&self) -> usize {
        self.slots.chunks()
    }

    /// An entry for each of these slots whose job waits for its time.
    pub(super) fn entries(&self, slots: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        let waiting = |slot| self.slots.waiting(slot);
        slots.into_iter().filter_map(waiting).collect()
    }

    /// The same for a page of slots; `None` behind the last one.
    pub(super) fn page(&self, slots: Range<u32>) -> Option<Vec<Entry>> {
        (slots.start < self.slots.end()).then(|| self.entries(slots))
    }

    /// Nothing is pending, running or being dropped.
    pub(super) fn are_gone(&self) -> bool {
        self.pending + self.places.running() + self.dropping == 0
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn running(&self) -> usize {
        self.places.running()
    }

    /// How many wait for their time, and need an entry of the driver's for it.
    pub(super) fn not_due(&self) -> usize {
        self.pending - self.places.waiting()
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn first_panic(&self) -> &FirstPanic {
        &self.first_panic
    }

    pub(super) fn stop_hearing(&mut self) -> Option<JobPanic> {
        self.first_panic.stop_hearing()
    }

    /// `head` is not later than any entry that the driver has or is sent.
    pub(super) fn snapshot(&self, head: Tick, turns: u64) -> Snapshot {
        let next = head.min(self.places.earliest().unwrap_or(Tick::NEVER));
        Snapshot {
            pending: self.pending,
            waiting: self.places.waiting(),
            running: self.places.running(),
            tally: self.tally,
            next: (self.pending > 0).then_some(next),
            max_lateness: self.max_lateness,
            turns,
        }
    }
}
