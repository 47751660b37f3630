//! The jobs of a group: the life of each, from its admission to its end, and the counts that go with it.
//!
//! A change that calls for a new entry of a job returns it, to be sent to the driver. What is to be
//! dropped is returned too, and still counts as held until [`dropped`](Jobs::dropped).

use std::collections::HashSet;
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::call_site::{CallSites, JobKind};
use super::counts::{Counts, Ending, FirstPanic};
use super::lifecycle::Lifecycle;
use super::ready::ReadyQueue;
use super::slab::{Contents, Emptied, Slab, Slot, Stage};
use super::tables::Tables;
use super::workers::Workers;
use crate::common::time::{Clock, Timestamp};
use crate::sched::awaiting::AwaitingJob;
use crate::sched::error::JobPanic;
use crate::sched::job::{JobId, JobState};
use crate::sched::local_queue::{Claim, Left, LocalQueue};
use crate::sched::queue::{Entry, Queue, Sequence};
use crate::sched::runnable::{Row, RowKey, RowTable, Runnable, Work};
use crate::sched::stats::{JobInfo, Stats};

/// What is left of a job that will not start.
pub(in crate::sched) struct DroppedJob {
    /// None for the row of a table, whose values lie there.
    pub(in crate::sched) runnable: Option<Box<dyn Runnable>>,
    pub(in crate::sched) id: JobId,
    pub(in crate::sched) scheduled_at: &'static Location<'static>,
}

/// The values that are left of a run that has ended.
pub(in crate::sched) struct EndedRun {
    pub(in crate::sched) runnable: Option<Box<dyn Runnable>>,
    /// A panic that is not the group's first, or that no `wait` can return any more.
    pub(in crate::sched) panic: Option<JobPanic>,
}

impl EndedRun {
    pub(in crate::sched) fn is_empty(&self) -> bool {
        self.runnable.is_none() && self.panic.is_none()
    }
}

/// Storage, and tables that no row holds.
pub(in crate::sched) type Unused = (Emptied, Vec<Arc<dyn RowTable>>);

/// The effect of a reset on a job.
pub(super) enum Reset {
    Rejected,
    /// The entry that it has will do.
    InPlace,
    /// This entry speaks for it from now on.
    Requeued(Entry),
}

// All under the group's lock. A job that was accepted is in exactly one of three counts until its values have been
// dropped: `pending`, `running` of the ready queue, `dropping`. Each transition moves it from one to another in one
// step, so their sum, `held`, is zero only when nothing is left: that is what drains the group.
pub(in crate::sched) struct Jobs {
    slab: Slab,
    /// The tables whose rows are jobs.
    pub(in crate::sched) tables: Tables,
    call_sites: CallSites,
    ready: ReadyQueue,
    /// The number of the last job.
    last: u64,
    /// The same, when the driver emptied its inbox.
    seen: u64,
    /// Jobs that have not started. A claimed one counts as running, also while it has not.
    pending: usize,
    /// Jobs that have ended while their values are still being dropped.
    dropping: usize,
    counts: Counts,
    first_panic: FirstPanic,
    max_lateness: Duration,
    /// A series that ends with `wait` was scheduled since the last walk that expedited them.
    to_expedite: bool,
}

impl Jobs {
    pub(super) fn new(limit: usize) -> Jobs {
        Jobs {
            slab: Slab::default(),
            tables: Tables::default(),
            call_sites: CallSites::default(),
            ready: ReadyQueue::new(limit),
            last: 0,
            seen: 0,
            pending: 0,
            dropping: 0,
            counts: Counts::default(),
            first_panic: FirstPanic::default(),
            max_lateness: Duration::ZERO,
            to_expedite: false,
        }
    }

    // Admission.

    /// A number for a job, accepted or not.
    pub(in crate::sched) fn next_id(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// Takes a job in, with one handle on it. Returns its number and its slot; its entry is to be sent.
    pub(super) fn insert(
        &mut self,
        at: Timestamp,
        runnable: Box<dyn Runnable>,
        kind: JobKind,
        scheduled_at: &'static Location<'static>,
    ) -> (JobId, u32) {
        self.to_expedite |= kind == JobKind::UntilWait;
        self.insert_contents(at, Contents::Runnable(runnable), kind, scheduled_at)
    }

    fn insert_contents(
        &mut self,
        at: Timestamp,
        contents: Contents,
        kind: JobKind,
        scheduled_at: &'static Location<'static>,
    ) -> (JobId, u32) {
        let id = self.next_id();
        let call_site = self.call_sites.call_site(scheduled_at, kind);
        let slot = Slot::new(contents, at, Sequence::first(id.0), call_site);
        let slot = self.slab.insert(slot);
        self.pending += 1;
        (id, slot)
    }

    /// Returns whether a series that ends with `wait` was scheduled since the last call.
    pub(super) fn take_to_expedite(&mut self) -> bool {
        std::mem::take(&mut self.to_expedite)
    }

    pub(super) fn has_to_expedite(&self) -> bool {
        self.to_expedite
    }

    /// Brings forward the series of one chunk that end with `wait` and are not due; their entries are to be sent.
    pub(super) fn expedite_chunk(
        &mut self,
        chunk: usize,
        now: Timestamp,
        workers: &Workers,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        for slot in self.slab.chunk(chunk) {
            let not_due = self.slab.peek_mut(slot).is_some_and(|job| {
                job.stage() == Stage::Waiting
                    && job.call_site.ends_with_wait()
                    && job.deadline > now
            });
            if not_due {
                if let Reset::Requeued(entry) = self.reset(slot, now, workers) {
                    entries.push(entry);
                }
            }
        }
        entries
    }

    // Handles on one job.

    /// Returns the state of a job. A claimed one that has not started is pending.
    pub(super) fn state(&mut self, slot: u32, workers: &Workers) -> JobState {
        let stage = self.slab.get(slot).stage();
        // Only looked at, not recalled: a look must not change the order in which jobs start.
        if stage == Stage::Claimed && workers.locals().iter().any(|local| local.contains(slot)) {
            return JobState::Pending;
        }
        if matches!(stage, Stage::Claimed | Stage::Running) {
            // It has left its queue. If it has ended since, it is among the `ended` of one of them.
            self.record_all(workers);
        }
        self.slab.get(slot).state()
    }

    /// Determines how far a claimed job is: it is released again if it has not started, which returns `true`, and
    /// recorded if it has ended. Else it is at its first poll, and stays claimed.
    fn recall(&mut self, slot: u32, workers: &Workers) -> bool {
        if self.slab.get(slot).stage() != Stage::Claimed {
            return false;
        }
        // The race of a caller with the worker that has claimed the job:
        //
        // 1. The job is in a local queue, and both want it. The lock of that queue decides, so one of them gets it.
        // 2. If the caller does, the job is in the ready queue from here on, as if it had not been claimed. The
        //    caller cancels or moves it, under the group's lock all the time, so no other worker claims it.
        // 3. If the worker does, the job is found in no queue: it is running, or it has ended, which is recorded
        //    below.
        //
        // It cannot slip from a queue that is still to be looked at into one that has been: jobs are stolen only
        // under the group's lock.
        for local in workers.locals() {
            if let Some(claim) = local.remove(slot) {
                self.requeue(claim);
                return true;
            }
        }
        self.record_all(workers);
        false
    }

    /// A claimed job has not started, and waits in the ready queue again.
    pub(super) fn requeue(&mut self, claim: Claim) {
        let contents = self.contents_of(claim.work);
        let slot = self.slab.get_mut(claim.slot);
        slot.put_back(contents, Stage::Released);
        let entry = Entry {
            at: slot.deadline,
            sequence: slot.sequence,
            slot: claim.slot,
        };
        // Its own entry again, with the same sequence: it takes its former position among those that are due.
        self.pending += 1;
        self.ready.free_slot();
        self.ready.push(entry);
    }

    fn contents_of(&mut self, work: Work) -> Contents {
        match work {
            Work::Boxed(runnable) => Contents::Runnable(runnable),
            Work::Row(Row { table, key }) => {
                self.tables.hold(key.table, || table);
                Contents::Row(Some(key))
            }
        }
    }

    /// Records the jobs that have ended and were left to their worker's next claim.
    pub(super) fn record(&mut self, local: &LocalQueue) -> Left {
        let left = local.record(|slot| {
            // A cancel or an abort that came during the first poll was too late: the job ended by itself.
            self.ready.free_slot();
            if self.slab.get(slot).stage() == Stage::Running {
                self.slab.take_place(slot);
            }
            self.slab.take_control(slot);
            self.counts.finished += 1;
            self.end(slot, JobState::Finished);
        });
        self.max_lateness = self.max_lateness.max(left.max_lateness);
        left
    }

    /// Records what all workers have ended.
    pub(super) fn record_all(&mut self, workers: &Workers) {
        for local in workers.locals() {
            self.record(local);
        }
    }

    pub(in crate::sched) fn deadline(&self, slot: u32) -> Timestamp {
        self.slab.get(slot).deadline
    }

    pub(in crate::sched) fn ref_inc(&mut self, slot: u32) {
        // A slot is freed when its job has ended and no handle counts it: by `ref_dec` or by `end`, the later of the
        // two. Entries in the driver's heap and in the ready queue do not count. They may outlive the job, and
        // compare sequences before they trust a slot.
        let handles = &mut self.slab.get_mut(slot).handles;
        *handles = handles
            .checked_add(1)
            .expect("schedgroup: more than four billion handles on one job");
    }

    pub(in crate::sched) fn ref_dec(&mut self, slot: u32) {
        let job = self.slab.get_mut(slot);
        job.handles -= 1;
        if job.handles == 0 && matches!(job.stage(), Stage::Ended(_)) {
            self.slab.remove(slot);
        }
    }

    // What is to be dropped goes where its caller keeps it, instead of being returned and moved through each layer: to move
    // what has just been written can cost more than all the rest of a cancel (store forwarding).

    /// Cancels a job. Returns whether that prevents its next run; what it held, if it had not started, is in `dropped`.
    /// `runs_again` says whether the group lets a series run once more.
    pub(super) fn cancel(
        &mut self,
        slot: u32,
        runs_again: bool,
        workers: &Workers,
        dropped: &mut Option<DroppedJob>,
    ) -> bool {
        if self.take_pending(slot, dropped)
            || (self.recall(slot, workers) && self.take_pending(slot, dropped))
        {
            return true;
        }
        let series = self.slab.get(slot).call_site.is_series();
        match self.slab.control(slot) {
            // The run continues, and its end finds this. A second cancel prevents nothing more, and returns `false`.
            Some(control) if series && runs_again && !control.is_last_run() => {
                control.cancelled = true;
                true
            }
            _ => false,
        }
    }

    /// Stops a running job at its next await, and cancels one that has not started. If the job awaits, its
    /// waker is handed out.
    pub(super) fn abort(
        &mut self,
        slot: u32,
        workers: &Workers,
        dropped: &mut Option<DroppedJob>,
    ) -> Option<Waker> {
        self.recall(slot, workers);
        let Some(control) = self.slab.control(slot) else {
            self.take_pending(slot, dropped);
            return None;
        };
        control.abort = true;
        // Under the lock: as soon as the end of this job is recorded its place may be another's, which an abort
        // after the lock could hit. The worker drops the job later, so nothing of the user's runs here.
        let place = self.slab.place(slot)?;
        place.abort();
        Some(Waker::from(Arc::clone(place)))
    }

    /// Takes a job that has not started, and its entry out of the ready queue. Returns whether there is one.
    pub(super) fn take_pending(&mut self, slot: u32, dropped: &mut Option<DroppedJob>) -> bool {
        let stage = self.take_pending_from(slot, Timestamp::ALWAYS, |job| *dropped = Some(job));
        if let Some(stage) = stage {
            self.remove_from_ready(stage);
        }
        stage.is_some()
    }

    /// Takes a job that has not started and is due at `from` or later. Returns the stage that it was at.
    fn take_pending_from(
        &mut self,
        slot: u32,
        from: Timestamp,
        take: impl FnOnce(DroppedJob),
    ) -> Option<Stage> {
        let job = self
            .slab
            .peek_mut(slot)
            .filter(|job| job.deadline >= from)?;
        let stage = job.stage();
        let contents = job.take_contents(Stage::Ended(JobState::Cancelled))?;
        let (id, call_site) = (JobId(job.sequence.job()), job.call_site);
        if job.handles == 0 {
            self.slab.remove(slot);
        }
        // Held until the caller has dropped the runnable, after the lock. The entry stays where it is, and is dead.
        self.pending -= 1;
        self.dropping += 1;
        self.counts.dropped += 1;
        let runnable = match contents {
            Contents::Runnable(runnable) => Some(runnable),
            Contents::Row(key) => {
                key.into_iter()
                    .for_each(|key| self.tables.forget(key.table));
                None
            }
        };
        take(DroppedJob {
            runnable,
            id,
            scheduled_at: self.call_sites.site(call_site),
        });
        Some(stage)
    }

    /// A job that was at `stage` is no longer pending, or no longer in the ready queue.
    fn remove_from_ready(&mut self, stage: Stage) {
        match stage {
            Stage::Released if self.ready.remove() => {
                let slots = &self.slab;
                self.ready.sweep(|entry| slots.is_released(entry));
            }
            Stage::Blocked => self.tables.unblock(),
            _ => {}
        }
    }

    /// Moves a job.
    ///
    /// Later costs a store: the entry stays where it is, and is queued anew when its time comes. Only earlier makes
    /// a new entry.
    pub(super) fn reset(&mut self, slot: u32, at: Timestamp, workers: &Workers) -> Reset {
        self.recall(slot, workers);
        let job = self.slab.get_mut(slot);
        match job.stage() {
            Stage::Waiting if at >= job.deadline => {
                job.deadline = at;
                Reset::InPlace
            }
            stage @ (Stage::Waiting | Stage::Released | Stage::Blocked) => {
                // The new sequence makes the former entry dead, in the heap or in the ready queue. A due job waits
                // for its time again: it may have been moved later, and the driver is what keeps the order.
                job.deadline = at;
                job.wait_anew();
                let sequence = job.sequence;
                self.remove_from_ready(stage);
                Reset::Requeued(Entry { at, sequence, slot })
            }
            // A run of a series: the reset is kept for its end, which takes the earlier of this and what the run
            // wants.
            _ if job.call_site.is_series() => match self.slab.control(slot) {
                Some(control) if !control.is_last_run() => {
                    control.again = Some(at);
                    Reset::InPlace
                }
                _ => Reset::Rejected,
            },
            _ => Reset::Rejected,
        }
    }

    // Rows of tables. Their tables call under their own locks, with the slot that they noted for the row. No handle
    // keeps that slot: a group that ends may have freed it. But it admits nothing afterwards, so a noted slot is either
    // this row's or vacant, and never another job's.

    /// Takes a job in that is a row of a table. Nothing refers to it but the table.
    pub(super) fn insert_row(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl FnOnce() -> Arc<dyn RowTable>,
        scheduled_at: &'static Location<'static>,
    ) -> (JobId, u32) {
        self.tables.hold(key.table, table);
        let contents = Contents::Row(Some(key));
        self.insert_contents(at, contents, JobKind::Once, scheduled_at)
    }

    /// The same, in the slot of another one that is cancelled by this. False if that has started, or is due later: what the
    /// driver has for it would come too late.
    pub(super) fn take_over(
        &mut self,
        slot: u32,
        at: Timestamp,
        key: RowKey,
        table: impl FnOnce() -> Arc<dyn RowTable>,
        scheduled_at: &'static Location<'static>,
    ) -> bool {
        let Some(job) = self.slab.peek_mut(slot) else {
            return false;
        };
        let sequence = Sequence::inherited(self.last + 1);
        let call_site = self.call_sites.call_site(scheduled_at, JobKind::Once);
        let Some(former) = job.take_over(key, at, sequence, call_site) else {
            return false;
        };
        self.last += 1;
        self.counts.dropped += 1;
        if former != key.table {
            self.tables.hold(key.table, table);
            self.tables.forget(former);
        }
        true
    }

    /// Returns whether the job of a row has not started.
    pub(super) fn is_pending_row(&mut self, slot: u32, workers: &Workers) -> bool {
        let stage = self.slab.peek(slot).map(Slot::stage);
        if stage == Some(Stage::Claimed) {
            self.recall(slot, workers);
        }
        self.slab.peek(slot).is_some_and(Slot::is_pending)
    }

    /// Returns when the row's job is due, or was if it has just started.
    pub(in crate::sched) fn row_deadline(&self, slot: u32) -> Option<Timestamp> {
        let job = self.slab.peek(slot)?;
        let is_there = job.is_pending() || job.stage() == Stage::Claimed;
        is_there.then_some(job.deadline)
    }

    /// Cancels the job of a row, if it has not started. What it held is the table's, and dropped there.
    pub(super) fn cancel_row(&mut self, slot: u32, workers: &Workers) {
        let Some(mut job) = self.slab.peek_mut(slot) else {
            return;
        };
        if job.stage() == Stage::Claimed {
            self.recall(slot, workers);
            // It may have ended, and its page with it.
            let Some(recalled) = self.slab.peek_mut(slot) else {
                return;
            };
            job = recalled;
        }
        let stage = job.stage();
        let Some(contents) = job.take_contents(Stage::Ended(JobState::Cancelled)) else {
            return;
        };
        self.slab.remove(slot);
        if let Contents::Row(Some(key)) = contents {
            self.tables.forget(key.table);
        }
        self.pending -= 1;
        self.counts.dropped += 1;
        if stage != Stage::Waiting {
            self.remove_from_ready(stage);
        }
    }

    /// Waits for the lines of memory of some slots together.
    pub(super) fn touch(&self, slots: &[u32]) {
        self.slab.touch(slots.iter().copied());
    }

    /// The same for some of them.
    pub(super) fn cancel_rows(&mut self, slots: &[u32], workers: &Workers) {
        self.touch(slots);
        for &slot in slots {
            self.cancel_row(slot, workers);
        }
    }

    /// A claimed row may not start yet.
    pub(super) fn block(&mut self, slot: u32, key: RowKey, table: &Arc<dyn RowTable>) {
        self.tables.hold(key.table, || Arc::clone(table));
        self.ready.free_slot();
        self.slab.take_control(slot);
        let job = self.slab.get_mut(slot);
        job.put_back(Contents::Row(Some(key)), Stage::Blocked);
        self.pending += 1;
        self.tables.block(job.deadline);
    }

    /// A claimed row never starts.
    pub(super) fn drop_claimed(&mut self, slot: u32) {
        self.ready.free_slot();
        self.slab.take_control(slot);
        self.counts.dropped += 1;
        self.end(slot, JobState::Cancelled);
    }

    /// Unblocks a row that may start. Returns the entry that speaks for it from now on.
    pub(super) fn unblock(&mut self, slot: u32) -> Option<Entry> {
        let job = self.slab.peek_mut(slot)?;
        if job.stage() != Stage::Blocked {
            return None;
        }
        job.wait_anew();
        let (at, sequence) = (job.deadline, job.sequence);
        self.tables.unblock();
        Some(Entry { at, sequence, slot })
    }

    // Running.

    /// The driver empties its inbox.
    pub(super) fn set_seen(&mut self) {
        self.seen = self.last;
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order.
    ///
    /// An entry whose job was moved later goes back, unless its new place falls within the batch:
    /// everything left in the heap comes after the batch's last, so the batch can be put in
    /// order by itself. So it is with the entry of a slot that another job has taken over. That goes back in any case if
    /// it came since the inbox was emptied, in which one may be that came before it.
    pub(super) fn release(&mut self, batch: &mut Vec<Entry>, queue: &mut Queue) {
        let Some(&last) = batch.last() else {
            return;
        };
        let seen = self.seen;
        self.slab.touch(batch.iter().map(|entry| entry.slot));
        let first_moved = batch.iter().position(|entry| {
            // Cancelled, moved or ended since: the entry is dead, and this is where it is dropped. So is the second of two
            // that say the same: a bucket knows only slots, and a slot is used again.
            let slot = self.slab.waiting_mut(entry);
            slot.is_some_and(|slot| {
                let moved = !slot.comes_at(entry) || slot.sequence.job() > seen;
                if !moved {
                    slot.release();
                    self.ready.push(*entry);
                }
                moved
            })
        });
        // Mostly none is.
        let Some(first_moved) = first_moved else {
            return batch.clear();
        };
        batch.drain(..first_moved);
        batch.retain_mut(|entry| {
            let Some(slot) = self.slab.waiting_mut(entry) else {
                return false;
            };
            (entry.at, entry.sequence) = (slot.deadline, slot.sequence);
            // Its turn comes only after this batch.
            if *entry > last || slot.sequence.job() > seen {
                queue.push(*entry);
                return false;
            }
            true
        });
        batch.sort_unstable();
        for entry in batch.drain(..) {
            if let Some(slot) = self.slab.waiting_mut(&entry) {
                slot.release();
                self.ready.push(entry);
            }
        }
    }

    /// Claims the next jobs in release order for which slots are free, `most` at most. Returns how many.
    pub(super) fn claim(
        &mut self,
        local: &Arc<LocalQueue>,
        workers: &Workers,
        most: usize,
    ) -> usize {
        let startable = self.ready.startable();
        if startable == 0 {
            return 0;
        }
        // In a group with a limit a claim holds a slot from here on, also while it waits behind other jobs of its
        // worker. One at a time, each that holds a slot is running.
        let count = match self.ready.is_limited() {
            true => 1,
            false => workers.share_of(startable, most),
        };
        local.fill(count, |claims| {
            for _ in 0..count {
                let slab = &mut self.slab;
                let Some(entry) = self.ready.take(|entry| slab.is_released(entry)) else {
                    break;
                };
                // The stage, the slot and the count change in the step that takes the contents out: no caller finds a
                // pending job without them.
                self.pending -= 1;
                let slot = slab.get_mut(entry.slot);
                let (contents, call_site) = (slot.take_contents(Stage::Claimed), slot.call_site);
                let scheduled_at = self.call_sites.site(call_site);
                // Each kind is pushed by itself: as one value it would be built first and moved then, and to move what has
                // just been written is slow.
                let claim = |work| Claim {
                    slot: entry.slot,
                    id: JobId(entry.sequence.job()),
                    work,
                    deadline: entry.at,
                    scheduled_at,
                };
                match contents {
                    Some(Contents::Runnable(runnable)) => {
                        if call_site.is_series() {
                            // Between its runs the runnable of a series knows how many there were.
                            slab.begin_run(entry.slot, runnable.runs() + 1);
                        }
                        claims.push_back(claim(Work::Boxed(runnable)));
                    }
                    Some(Contents::Row(Some(key))) => {
                        let table = self.tables.release(key.table);
                        claims.push_back(claim(Work::Row(Row { table, key })));
                    }
                    Some(Contents::Row(None)) | None => {
                        unreachable!("a pending job has not started")
                    }
                }
            }
        });
        count
    }

    /// Takes the claimed jobs that have not started out of all local queues: none of them starts.
    pub(super) fn recall_all(&mut self, workers: &Workers) {
        // What has left its queue before this step starts before the end of the group, or is given back. What is
        // taken out here has not started, and the ready queue of a group that has ended gives out no job.
        for local in workers.locals() {
            for claim in local.take_all() {
                self.requeue(claim);
            }
        }
    }

    /// A worker is dropped with what it has claimed.
    pub(super) fn requeue_all(&mut self, local: &LocalQueue) {
        self.record(local);
        for claim in local.take_all() {
            self.requeue(claim);
        }
    }

    /// A job is at its first await. Returns `true` if it must stop instead.
    pub(super) fn set_running(&mut self, slot: u32) -> bool {
        // An abort during the first poll found no task to abort, and left its mark. From this step on there is a
        // task.
        self.slab.get_mut(slot).set_running();
        self.slab.is_aborted(slot)
    }

    /// Notes where a job is found while it runs.
    pub(super) fn set_place(&mut self, slot: u32, place: Arc<AwaitingJob>) {
        self.slab.set_place(slot, place);
    }

    /// Tells the running jobs of one chunk to stop at their next await, and hands out what wakes them. One
    /// that is at its first poll finds out there.
    pub(super) fn abort_chunk(&mut self, chunk: usize) -> Vec<Waker> {
        let running = self.running_of_chunk(chunk);
        running.iter().for_each(|place| place.abort());
        running.into_iter().map(Waker::from).collect()
    }

    /// Where the jobs of one chunk are found that have awaited.
    pub(in crate::sched) fn running_of_chunk(&self, chunk: usize) -> Vec<Arc<AwaitingJob>> {
        let slots = self.slab.chunk(chunk);
        slots
            .filter_map(|slot| self.slab.place(slot).cloned())
            .collect()
    }

    /// A run has ended. What is left of it comes back, and the entry of the further run if one is to be sent.
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        runnable: Option<Box<dyn Runnable>>,
        lifecycle: &Lifecycle,
    ) -> (EndedRun, Option<Entry>) {
        self.ready.free_slot();
        // From here on its place may be another job's.
        self.slab.take_place(slot);
        let control = self.slab.take_control(slot).unwrap_or_default();
        let place = self.slab.get(slot);
        let done = lifecycle.is_draining() && place.call_site.ends_with_wait();
        let mut left = EndedRun {
            runnable,
            panic: None,
        };
        let state = match ending {
            Ending::Ran(next) => {
                let wanted = next.into_iter().chain(control.again).min();
                match (wanted.filter(|_| !done), left.runnable.take()) {
                    (Some(at), Some(runnable))
                        if !control.is_last_run() && lifecycle.may_reschedule() =>
                    {
                        return (left, self.run_again(slot, at, runnable));
                    }
                    (next, runnable) => {
                        left.runnable = runnable;
                        // A shutdown lets a series end with this run, which was all that was left of it.
                        let cut_short = next.is_some() && !lifecycle.is_shut_down();
                        if control.cancelled || cut_short {
                            self.counts.dropped += 1;
                            JobState::Cancelled
                        } else {
                            self.counts.finished += 1;
                            JobState::Finished
                        }
                    }
                }
            }
            Ending::Panicked(panic) => {
                self.counts.panicked += 1;
                left.panic = self.first_panic.keep(panic);
                JobState::Panicked
            }
            Ending::Aborted => {
                self.counts.aborted += 1;
                JobState::Cancelled
            }
        };
        self.end(slot, state);
        // In the step that stops counting the run: in between, the group could drain, and `wait` return while what
        // is left is being dropped.
        self.dropping += usize::from(!left.is_empty());
        (left, None)
    }

    /// The job is pending again. Its entry, if that is to be sent.
    fn run_again(
        &mut self,
        slot: u32,
        at: Timestamp,
        runnable: Box<dyn Runnable>,
    ) -> Option<Entry> {
        self.pending += 1;
        let job = self.slab.get_mut(slot);
        job.put_runnable(runnable, at);
        let sequence = job.sequence;
        let entry = Entry { at, sequence, slot };
        // The worker that ends this run may claim before the driver has its turn, and would pass over a job that is
        // due and comes first.
        if self.ready.is_due(&entry) {
            job.release();
            self.ready.push(entry);
            return None;
        }
        Some(entry)
    }

    /// Ends a job that runs. Its slot is freed here if it has no handle left.
    fn end(&mut self, slot: u32, state: JobState) {
        let job = self.slab.get_mut(slot);
        job.end(state);
        if job.handles == 0 {
            self.slab.remove(slot);
        }
    }

    /// The values of `count` jobs have been dropped.
    pub(super) fn dropped(&mut self, count: usize) {
        self.dropping -= count;
    }

    // All of them.

    /// Takes one chunk's pending jobs that are due at `from` or later.
    pub(super) fn take_pending_chunk(
        &mut self,
        chunk: usize,
        from: Timestamp,
        jobs: &mut Vec<DroppedJob>,
    ) {
        for slot in self.slab.chunk(chunk) {
            // All that wait for a slot are taken, and the ready queue is cleared with the last of them: it is not worth
            // a sweep.
            match self.take_pending_from(slot, from, |job| jobs.push(job)) {
                Some(Stage::Released) => drop(self.ready.remove()),
                Some(Stage::Blocked) => self.tables.unblock(),
                _ => {}
            }
        }
    }

    pub(in crate::sched) fn chunks(&self) -> usize {
        self.slab.chunks()
    }

    /// Lists the jobs of one chunk that have not ended. `claimed` are the slots of those that are claimed and have
    /// not started.
    pub(super) fn list_chunk(
        &mut self,
        chunk: usize,
        claimed: &HashSet<u32>,
        clock: &Clock,
        jobs: &mut Vec<JobInfo>,
    ) {
        for slot in self.slab.chunk(chunk) {
            let Some(job) = self.slab.peek_mut(slot) else {
                continue;
            };
            let state = match job.stage() {
                Stage::Waiting | Stage::Released | Stage::Blocked => JobState::Pending,
                Stage::Claimed if claimed.contains(&slot) => JobState::Pending,
                Stage::Claimed | Stage::Running => JobState::Running,
                Stage::Vacant | Stage::Ended(_) => continue,
            };
            let (id, deadline) = (JobId(job.sequence.job()), job.deadline);
            let scheduled_at = self.call_sites.site(job.call_site);
            jobs.push(JobInfo {
                id,
                state,
                deadline: clock.instant(deadline),
                scheduled_at,
                run: self.slab.run(slot),
            });
        }
    }

    /// An entry for each of these slots whose job waits for its time.
    pub(in crate::sched) fn entries(&self, slots: impl Iterator<Item = u32> + Clone) -> Vec<Entry> {
        self.slab.touch(slots.clone());
        // Nearly all of them are there.
        let mut entries = Vec::with_capacity(slots.size_hint().0);
        entries.extend(slots.filter_map(|slot| self.slab.waiting(slot)));
        entries
    }

    /// The same for a chunk of slots; `None` behind the last one.
    pub(in crate::sched) fn entries_in(&self, slots: Range<u32>) -> Option<Vec<Entry>> {
        (slots.start < self.slab.end()).then(|| self.entries(slots))
    }

    /// Returns how many are pending, running or being dropped.
    pub(super) fn held(&self) -> usize {
        self.pending + self.ready.running() + self.dropping
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(in crate::sched) fn is_limited(&self) -> bool {
        self.ready.is_limited()
    }

    pub(super) fn running(&self) -> usize {
        self.ready.running()
    }

    /// How many due jobs could start now.
    pub(super) fn startable(&self) -> usize {
        self.ready.startable()
    }

    /// Returns how many wait for their time, and need an entry of the driver's for it.
    pub(super) fn not_due(&self) -> usize {
        self.pending - self.tables.blocked() - self.ready.waiting()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn first_panic(&self) -> &FirstPanic {
        &self.first_panic
    }

    pub(in crate::sched) fn keep_panic(&mut self, panic: JobPanic) -> Option<JobPanic> {
        self.first_panic.keep(panic)
    }

    pub(in crate::sched) fn discard_first_panic(&mut self) -> Option<JobPanic> {
        self.first_panic.discard_first_panic()
    }

    /// Returns whether anything is not used any more.
    pub(in crate::sched) fn has_unused(&self) -> bool {
        self.slab.has_emptied() || self.tables.has_released()
    }

    /// Takes what is not used any more, to be dropped after the lock.
    pub(in crate::sched) fn take_unused(&mut self) -> Unused {
        (self.slab.take_emptied(), self.tables.take_released())
    }

    #[cfg(test)]
    pub(in crate::sched) fn take_looks(&self) -> usize {
        self.slab.take_looks()
    }

    /// `head` is not later than any entry that the driver has or is sent.
    pub(super) fn stats(&mut self, head: Timestamp, workers: &Workers, clock: &Clock) -> Stats {
        let mut next = head.min(self.ready.earliest().unwrap_or(Timestamp::NEVER));
        next = next.min(self.tables.earliest_blocked());
        let mut claimed = 0;
        for local in workers.locals() {
            let left = self.record(local);
            claimed += left.unstarted;
            next = next.min(left.first.unwrap_or(Timestamp::NEVER));
        }
        let pending = self.pending + claimed;
        Stats {
            pending,
            waiting: self.ready.waiting() + self.tables.blocked() + claimed,
            running: self.ready.running() - claimed,
            finished: self.counts.finished,
            cancelled: self.counts.aborted + self.counts.dropped,
            panicked: self.counts.panicked,
            next_deadline: (pending > 0).then(|| clock.instant(next)),
            max_lateness: self.max_lateness,
            driver_wakeups: 0,
        }
    }
}
