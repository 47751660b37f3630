//! The jobs of a group: the life of each, from its coming to its end, and the counts that go with it.
//!
//! A change that calls for a new entry of a job hands it out, to be sent to the driver. What is to be
//! dropped is handed out too, and still counts as held until [`dropped`](Jobs::dropped).

use std::collections::HashSet;
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::body::Body;
use super::closing::Closing;
use super::ends::{Ending, FirstPanic, Tally};
use super::error::JobPanic;
use super::job::{JobId, JobState};
use super::local_queue::{Claim, LocalQueue};
use super::origin::{Course, Origins};
use super::queue::{Entry, Queue, Stamp};
use super::ready::Ready;
use super::rt::AbortHandle;
use super::slot::{Emptied, Slot, Slots, Stage};
use super::stats::JobInfo;
use super::workers::Workers;
use crate::ground::timeline::{Tick, Timeline};

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
    ready: Ready,
    /// The number of the last job.
    last: u64,
    /// Jobs with a body in their slot.
    pending: usize,
    /// Jobs that have ended while their values are still being dropped.
    dropping: usize,
    tally: Tally,
    first_panic: FirstPanic,
    max_lateness: Duration,
    /// A series that ends with `wait` came since it was asked last.
    until_wait: bool,
}

impl Jobs {
    pub(super) fn new(limit: usize) -> Jobs {
        Jobs {
            slots: Slots::default(),
            origins: Origins::default(),
            ready: Ready::new(limit),
            last: 0,
            pending: 0,
            dropping: 0,
            tally: Tally::default(),
            first_panic: FirstPanic::default(),
            max_lateness: Duration::ZERO,
            until_wait: false,
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
        self.until_wait |= course == Course::UntilWait;
        (id, Entry { at, stamp, slot })
    }

    /// Returns whether there may be series that end with `wait`, and resets that.
    pub(super) fn take_until_wait(&mut self) -> bool {
        std::mem::take(&mut self.until_wait)
    }

    pub(super) fn has_until_wait(&self) -> bool {
        self.until_wait
    }

    /// Brings forward the series of one chunk that end with `wait` and are not due; their entries are to be sent.
    pub(super) fn hurry_chunk(&mut self, chunk: usize, now: Tick, workers: &Workers) -> Vec<Entry> {
        let mut entries = Vec::new();
        for slot in self.slots.chunk(chunk) {
            let not_due = self.slots.peek_mut(slot).is_some_and(|place| {
                place.stage() == Stage::Waiting
                    && place.origin.ends_with_wait()
                    && place.deadline > now
            });
            if not_due {
                if let Moved::Anew(entry) = self.reset(slot, now, workers) {
                    entries.push(entry);
                }
            }
        }
        entries
    }

    // Handles on one job.

    /// A claimed job that has not started is pending, and stays where it is: to ask changes no order.
    pub(super) fn state(&mut self, slot: u32, workers: &Workers) -> JobState {
        if self.slots.get(slot).stage() == Stage::Claimed {
            if workers.locals().iter().any(|local| local.contains(slot)) {
                return JobState::Pending;
            }
            workers.locals().iter().for_each(|local| self.book(local));
        }
        self.slots.get(slot).state()
    }

    /// Settles how far a claimed job is: it is released again if it has not started, and booked if it has
    /// ended. Else it is at its first poll, and stays claimed.
    fn recall(&mut self, slot: u32, workers: &Workers) {
        if self.slots.get(slot).stage() != Stage::Claimed {
            return;
        }
        for local in workers.locals() {
            if let Some(claim) = local.remove(slot) {
                self.give_back(claim);
                return;
            }
        }
        workers.locals().iter().for_each(|local| self.book(local));
    }

    /// A claimed job has not started, and waits in the ready queue again.
    fn give_back(&mut self, claim: Claim) {
        let slot = self.slots.get_mut(claim.slot);
        slot.give_back(claim.body);
        let entry = Entry {
            at: slot.deadline,
            stamp: slot.stamp,
            slot: claim.slot,
        };
        self.pending += 1;
        self.ready.free_slot();
        self.ready.push(entry);
    }

    /// Books the jobs that have ended at their first poll.
    pub(super) fn book(&mut self, local: &LocalQueue) {
        let lateness = local.book(|slot| {
            self.ready.free_slot();
            drop(self.slots.get_mut(slot).take_control());
            self.tally.finished += 1;
            self.end(slot, JobState::Finished);
        });
        self.max_lateness = self.max_lateness.max(lateness);
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
    pub(super) fn cancel(&mut self, slot: u32, workers: &Workers) -> (bool, Option<Unstarted>) {
        self.recall(slot, workers);
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
    pub(super) fn abort(&mut self, slot: u32, workers: &Workers) -> Option<Unstarted> {
        self.recall(slot, workers);
        if let Some(control) = self.slots.get_mut(slot).control() {
            control.abort = true;
            // Under the lock, since the task is another job's as soon as the end of this one is booked.
            // tokio drops the job later, in the task.
            if let Some(task) = self.slots.task(slot) {
                task.abort();
            }
            return None;
        }
        self.unstart(slot)
    }

    /// Takes the body of a job that has not started, and its entry out of the line.
    fn unstart(&mut self, slot: u32) -> Option<Unstarted> {
        let (unstarted, stage) = self.take_unstarted(slot)?;
        self.leave_line(stage);
        Some(unstarted)
    }

    /// Takes the body of a job that has not started; the stage that it was at comes with it.
    fn take_unstarted(&mut self, slot: u32) -> Option<(Unstarted, Stage)> {
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
        Some((unstarted, stage))
    }

    /// A job that was at `stage` is pending no more, or elsewhere.
    fn leave_line(&mut self, stage: Stage) {
        if stage == Stage::Released && self.ready.withdraw() {
            let slots = &self.slots;
            self.ready.sweep(|entry| slots.is_released(entry));
        }
    }

    /// Moves a job.
    ///
    /// Later costs a store: the entry stays where it is and is sent on when it surfaces. Only earlier
    /// makes a new entry.
    pub(super) fn reset(&mut self, slot: u32, at: Tick, workers: &Workers) -> Moved {
        self.recall(slot, workers);
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
            Stage::Claimed | Stage::Running if place.origin.is_series() => match place.control() {
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
                self.ready.push(entry);
            }
        }
    }

    /// Claims the next jobs in release order for which slots are free, or else the later half of what
    /// another worker has claimed. How many.
    ///
    /// In a group with a limit a worker claims one at a time: so each slot is seen to be free as soon as
    /// its job has ended.
    pub(super) fn claim(&mut self, local: &Arc<LocalQueue>, workers: &Workers) -> usize {
        let startable = self.ready.startable();
        if startable == 0 {
            return steal(local, workers);
        }
        let count = match self.ready.is_limited() {
            true => 1,
            false => workers.share_of(startable),
        };
        let claims = (0..count).map_while(|_| {
            let slots = &self.slots;
            let entry = self.ready.take(|entry| slots.is_released(entry))?;
            let slot = self.slots.get_mut(entry.slot);
            let Some(body) = slot.take_body(Stage::Claimed) else {
                unreachable!("a live entry speaks for a body");
            };
            slot.begin_run(&*body);
            self.pending -= 1;
            Some(Claim {
                slot: entry.slot,
                id: JobId(slot.stamp.job()),
                body,
                deadline: slot.deadline,
                scheduled_at: self.origins.site(slot.origin),
            })
        });
        local.push(count, claims);
        count
    }

    /// Takes the claimed jobs that have not started out of all local queues: none of them starts.
    pub(super) fn recall_all(&mut self, workers: &Workers) {
        for local in workers.locals() {
            for claim in local.take_all() {
                self.give_back(claim);
            }
        }
    }

    /// A worker is dropped with what it has claimed.
    pub(super) fn give_all_back(&mut self, local: &LocalQueue) {
        self.book(local);
        for claim in local.take_all() {
            self.give_back(claim);
        }
    }

    /// A job is at its first await. True if it must stop instead.
    pub(super) fn awaits(&mut self, slot: u32) -> bool {
        let place = self.slots.get_mut(slot);
        place.run_on();
        place.is_aborted()
    }

    /// A job lives in a task from now on.
    pub(super) fn runs_in(&mut self, slot: u32, task: AbortHandle) {
        self.slots.set_task(slot, task);
    }

    /// Tells the running jobs of one chunk to stop at their next await. One that is at its first poll finds
    /// out there.
    pub(super) fn abort_chunk(&mut self, chunk: usize) {
        for slot in self.slots.chunk(chunk) {
            if let Some(task) = self.slots.task(slot) {
                task.abort();
            }
        }
    }

    /// A run has ended. What is left of it comes back, the entry of the further run if there is one, and
    /// its task if that was not told to stop.
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        body: Option<Box<dyn Body>>,
        closing: &Closing,
    ) -> (Finished, Option<Entry>, Option<AbortHandle>) {
        self.ready.free_slot();
        let task = self.slots.take_task(slot);
        let place = self.slots.get_mut(slot);
        let control = place.take_control();
        let control = control.map(|control| *control).unwrap_or_default();
        let task = task.filter(|_| !control.abort && !closing.is_aborting());
        let done = closing.is_draining() && place.origin.ends_with_wait();
        let mut left = Finished { body, panic: None };
        let state = match ending {
            Ending::Ran(next) => {
                let wanted = next.into_iter().chain(control.again).min();
                match (wanted.filter(|_| !done), left.body.take()) {
                    (Some(at), Some(body)) if !control.is_last_run() && closing.lets_go_on() => {
                        let again = self.run_again(slot, at, body);
                        return (left, Some(again), task);
                    }
                    (next, body) => {
                        left.body = body;
                        // A shutdown lets a series end with this run, which was all that was left of it.
                        let cut_short = next.is_some() && !closing.is_shut_down();
                        if control.cancelled || cut_short {
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
        (left, None, task)
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
    pub(super) fn unstart_chunk(&mut self, chunk: usize, from: Tick, jobs: &mut Vec<Unstarted>) {
        for slot in self.slots.chunk(chunk) {
            let due_later = self
                .slots
                .peek_mut(slot)
                .is_some_and(|place| place.deadline >= from);
            if !due_later {
                continue;
            }
            if let Some((unstarted, stage)) = self.take_unstarted(slot) {
                jobs.push(unstarted);
                // All that wait go, and the line with the last of them: it is not worth a sweep.
                if stage == Stage::Released {
                    self.ready.withdraw();
                }
            }
        }
    }

    pub(super) fn chunks(&self) -> usize {
        self.slots.chunks()
    }

    /// Notes the jobs of one chunk that have not ended. `claimed` are the slots of those that are claimed and
    /// have not started.
    pub(super) fn list_chunk(
        &mut self,
        chunk: usize,
        claimed: &HashSet<u32>,
        timeline: &Timeline,
        jobs: &mut Vec<JobInfo>,
    ) {
        for slot in self.slots.chunk(chunk) {
            let Some(place) = self.slots.peek_mut(slot) else {
                continue;
            };
            let state = match place.stage() {
                Stage::Waiting | Stage::Released => JobState::Pending,
                Stage::Claimed if claimed.contains(&slot) => JobState::Pending,
                Stage::Claimed | Stage::Running => JobState::Running,
                Stage::Vacant | Stage::Ended(_) => continue,
            };
            jobs.push(JobInfo {
                id: JobId(place.stamp.job()),
                state,
                deadline: timeline.instant(place.deadline),
                scheduled_at: self.origins.site(place.origin),
                run: place.run(),
            });
        }
    }

    /// An entry for each of these slots whose job waits for its time.
    pub(super) fn entries(&self, slots: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        let slots = slots.into_iter();
        // Nearly all of them are there.
        let mut entries = Vec::with_capacity(slots.size_hint().0);
        entries.extend(slots.filter_map(|slot| self.slots.waiting(slot)));
        entries
    }

    /// The same for a page of slots; `None` behind the last one.
    pub(super) fn page(&self, slots: Range<u32>) -> Option<Vec<Entry>> {
        (slots.start < self.slots.end()).then(|| self.entries(slots))
    }

    /// How many are pending, running or being dropped.
    pub(super) fn held(&self) -> usize {
        self.pending + self.ready.running() + self.dropping
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn running(&self) -> usize {
        self.ready.running()
    }

    pub(super) fn is_aborted(&self, slot: u32) -> bool {
        self.slots.get(slot).is_aborted()
    }

    /// How many due jobs could start now.
    pub(super) fn startable(&self) -> usize {
        self.ready.startable()
    }

    /// How many wait for their time, and need an entry of the driver's for it.
    pub(super) fn not_due(&self) -> usize {
        self.pending - self.ready.waiting()
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn first_panic(&self) -> &FirstPanic {
        &self.first_panic
    }

    pub(super) fn keep_panic(&mut self, panic: JobPanic) -> Option<JobPanic> {
        self.first_panic.keep(panic)
    }

    pub(super) fn stop_hearing(&mut self) -> Option<JobPanic> {
        self.first_panic.stop_hearing()
    }

    pub(super) fn take_emptied(&mut self) -> Option<Emptied> {
        self.slots.take_emptied()
    }

    #[cfg(test)]
    pub(super) fn take_looks(&self) -> usize {
        self.slots.take_looks()
    }

    /// `head` is not later than any entry that the driver has or is sent.
    pub(super) fn snapshot(&mut self, head: Tick, turns: u64, workers: &Workers) -> Snapshot {
        let mut next = head.min(self.ready.earliest().unwrap_or(Tick::NEVER));
        let mut claimed = 0;
        for local in workers.locals() {
            self.book(local);
            let (unstarted, first) = local.unstarted();
            claimed += unstarted;
            next = next.min(first.unwrap_or(Tick::NEVER));
        }
        let pending = self.pending + claimed;
        Snapshot {
            pending,
            waiting: self.ready.waiting() + claimed,
            running: self.ready.running() - claimed,
            tally: self.tally,
            next: (pending > 0).then_some(next),
            max_lateness: self.max_lateness,
            turns,
        }
    }
}

/// Takes the later half of what another worker has claimed. How many.
fn steal(local: &Arc<LocalQueue>, workers: &Workers) -> usize {
    let others = workers.locals().iter();
    let stolen = others
        .filter(|other| !Arc::ptr_eq(other, local))
        .map(|other| other.take_half())
        .find(|half| !half.is_empty())
        .unwrap_or_default();
    let count = stolen.len();
    local.push(count, stolen);
    count
}
