//! The jobs of a group: the life of each, from its admission to its end, and the counts of them.
//!
//! A method that gives a job a new entry returns the entry, and the caller sends it to the driver. Values that are to
//! be dropped are returned as well; their jobs still count as held until [`EndedDrops`] counts them.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::call_site::{CallSite, CallSites, JobKind};
use super::counts::{Counts, Ending, FirstPanic};
use super::dropped::{DroppedChunk, DroppedJob};
use super::lifecycle::Lifecycle;
use super::ready::{MOST_LOOKS, ReadyQueue};
use super::slab::{Contents, Emptied, PAGES, Slab, Slot, Stage};
use super::tables::Tables;
use super::workers::Workers;
use crate::common::time::{Clock, Timestamp};
use crate::sched::awaiting::AwaitingJob;
use crate::sched::ended_drops::EndedDrops;
use crate::sched::error::JobPanic;
use crate::sched::job::{JobId, JobState};
use crate::sched::local_queue::{Claim, Left, LocalQueue};
use crate::sched::queue::{Entry, Queue, Sequence};
use crate::sched::runnable::{RowKey, RowTable, Runnable, Work};
use crate::sched::stats::{JobInfo, Stats};

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

/// Empty storage, and tables that no pending row refers to any more: to be dropped when the lock is free. Boxed where it
/// is moved, since mostly there is none.
pub(in crate::sched) type Unused = (Emptied, Vec<Arc<dyn RowTable>>);

/// The effect of a reset on a job.
pub(super) enum Reset {
    Rejected,
    /// The job keeps its entry; or it is running, and the end of the run takes the new deadline into account.
    InPlace,
    /// The job has this new entry, which is to be sent to the driver.
    Requeued(Entry),
}

// All of it but `ended_drops` is under the group's lock. From its admission until its values have been dropped, a job is
// in exactly one of three counts: `pending`, `ready.running()` and those that are being dropped. Each transition moves it
// from one count to another in one step. So their sum, `held`, is zero only if nothing is left of any job, and only then
// the group drains. The row of a table is an exception: when its table cancels it, it is not counted any more, and its
// values are the table's.
pub(in crate::sched) struct Jobs {
    slab: Slab,
    /// The tables whose rows are jobs.
    pub(in crate::sched) tables: Tables,
    call_sites: CallSites,
    ready: ReadyQueue,
    /// The number of the last submission: of a job, or of a later run of a series.
    last: u64,
    /// The value of `last` when the driver last emptied its inbox.
    seen: u64,
    /// The jobs that have not started and are not claimed. A claimed job counts as running.
    pending: usize,
    /// How many jobs have ended and left values to drop, ever. All but the `ended_drops` are still being dropped.
    begun_drops: usize,
    pub(in crate::sched) ended_drops: Arc<EndedDrops>,
    counts: Counts,
    pub(in crate::sched) first_panic: FirstPanic,
    max_lateness: Duration,
    /// A series that ends with `wait` was scheduled since the last walk that made them due.
    pub(super) to_expedite: bool,
}

/// Notes the numbers of the claimed series, and those of their next runs: while a series runs, its runnable is not here
/// to tell them. Of a first run nothing is noted, since its numbers are those of any other job.
fn begin_runs(slab: &mut Slab, claims: &mut VecDeque<Claim>) {
    let last_run = |claim: &Claim| match &claim.work {
        Work::Boxed(runnable) => runnable.last_run(),
        Work::Row { .. } => None,
    };
    // The runnables lie far from each other, and have left the cache since their last runs. Read in one loop, they are
    // all fetched at the same time (as by `Slab::touch`).
    if claims.len() > 1 {
        std::hint::black_box(claims.iter().filter_map(last_run).count());
    }
    for claim in claims {
        if let Some((id, run)) = last_run(claim) {
            slab.begin_run(claim.slot, (id, run + 1));
            claim.id = id;
        }
    }
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
            begun_drops: 0,
            ended_drops: Arc::default(),
            counts: Counts::default(),
            first_panic: FirstPanic::default(),
            max_lateness: Duration::ZERO,
            to_expedite: false,
        }
    }

    // Admission.

    /// Returns a number for a new job, accepted or not.
    pub(in crate::sched) fn next_id(&mut self) -> JobId {
        JobId(self.next_number())
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Inserts a job with one handle. Returns its number and its slot. The caller sends its entry.
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

    /// Makes the series of one chunk that end with `wait` due now. Returns their new entries.
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
        // The local queues are only looked at. A recall would change the order in which jobs start.
        if stage == Stage::Claimed && workers.locals().iter().any(|local| local.contains(slot)) {
            return JobState::Pending;
        }
        if matches!(stage, Stage::Claimed | Stage::Running) {
            // The job has left its local queue. If it has ended since, its slot is in the `ended` list of one of them, or
            // its worker is about to record it.
            self.record_all(workers);
        }
        self.slab.get(slot).state()
    }

    /// Takes a claimed job that has not started back to the ready queue. Returns whether that was so.
    ///
    /// Otherwise the job is at its first poll, or has ended there and that is not recorded yet, and stays claimed. A job
    /// at another stage is left alone.
    fn recall(&mut self, slot: u32, workers: &Workers) -> bool {
        if self.slab.get(slot).stage() != Stage::Claimed {
            return false;
        }
        // The caller races with the worker that has claimed the job, and may be about to start it. The lock of the
        // worker's local queue decides:
        //
        // - If the caller finds the job in the queue, it takes it out, and the job is in the ready queue again as if it
        //   had never been claimed. The caller holds the group's lock until it has cancelled or moved the job, so no
        //   other worker claims it meanwhile.
        // - If the worker has taken it out first, the job is in no local queue. It is running, or has ended.
        //
        // The search misses no job: a job moves from one local queue to another (`steal`) only under the group's lock.
        for local in workers.locals() {
            if let Some(claim) = local.remove(slot) {
                self.requeue(claim);
                return true;
            }
        }
        false
    }

    /// Puts a claimed job that has not started back into the ready queue.
    pub(super) fn requeue(&mut self, claim: Claim) {
        let contents = match claim.work {
            Work::Boxed(runnable) => Contents::Runnable(runnable),
            Work::Row { table, key } => {
                self.tables.hold(key.table, || table);
                Contents::Row(Some(key))
            }
        };
        // Its run has not begun. In the slot of an ended job these controls would be the next job's.
        self.slab.take_control(claim.slot);
        let slot = self.slab.get_mut(claim.slot);
        slot.put_back(contents, Stage::Released);
        let entry = slot.entry(claim.slot);
        // Its entry is the same as before, so the job is at its former position among the due ones.
        self.pending += 1;
        self.ready.free_slot();
        self.ready.push(entry);
    }

    /// Records the jobs in a worker's `ended` list: they have ended without the lock.
    pub(super) fn record(&mut self, local: &LocalQueue) -> Left {
        let left = local.record(|slot| self.record_end(slot));
        self.max_lateness = self.max_lateness.max(left.max_lateness);
        left
    }

    /// Records a job that has ended without the lock.
    pub(super) fn record_end(&mut self, slot: u32) {
        // A cancel or an abort during the last poll came too late: the job has ended by itself.
        self.ready.free_slot();
        self.slab.take_control(slot);
        self.counts.finished += 1;
        self.slab.end_run(slot, JobState::Finished);
    }

    /// Records the jobs that all workers have ended.
    pub(super) fn record_all(&mut self, workers: &Workers) {
        for local in workers.locals() {
            self.record(local);
        }
    }

    pub(in crate::sched) fn deadline(&self, slot: u32) -> Timestamp {
        self.slab.get(slot).deadline
    }

    /// Returns whether the job is a series that ends with `wait`.
    pub(super) fn ends_with_wait(&self, slot: u32) -> bool {
        self.slab.get(slot).call_site.ends_with_wait()
    }

    pub(in crate::sched) fn ref_inc(&mut self, slot: u32) {
        // A slot is freed when its job has ended and it has no handle: by `ref_dec` or as the job ends, whichever comes
        // later. Entries in the driver's heap and in the ready queue do not keep a slot. They may outlive the job, so
        // their sequence is compared with that of the slot before they are used.
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

    // The methods below write a dropped job into the caller's variable instead of returning it: to move a value through
    // several layers just after it was written can cost more than all the rest of a cancel (store forwarding).

    /// Cancels a job. Returns whether that prevents its next run. A job that had not started is moved to `dropped`.
    /// `runs_again` tells whether the group lets a series run once more.
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
        if !runs_again || !self.slab.get(slot).call_site.may_run_again() {
            return false;
        }
        match self.slab.control(slot) {
            // The run goes on, and `finish` finds the mark. A second cancel prevents nothing more, and returns `false`.
            // It may be that the worker has only taken the job out of its local queue, and the closure is called after
            // this: user code runs under no lock, so a cancel cannot tell.
            Some(control) if !control.is_last_run() => {
                control.cancelled = true;
                true
            }
            _ => false,
        }
    }

    /// Stops a running job at its next await, or moves one that has not started to `dropped`. Returns the waker of a
    /// job that awaits.
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
        // The place is marked under the lock: once the end of this job is recorded, the place may belong to another
        // job, which a later mark would abort. No user code runs here, since the worker drops the job later.
        let place = self.slab.place(slot)?;
        place.abort();
        Some(Waker::from(Arc::clone(place)))
    }

    /// Ends a job that has not started as cancelled, and moves it to `dropped`. Returns whether it was so.
    pub(super) fn take_pending(&mut self, slot: u32, dropped: &mut Option<DroppedJob>) -> bool {
        let stage = self.take_pending_from(slot, Timestamp::ALWAYS, |job| *dropped = Some(job));
        if let Some(stage) = stage {
            self.remove_from_ready(stage);
        }
        stage.is_some()
    }

    /// Ends a job as cancelled if it has not started and is due at `from` or later, and passes its values to `take`.
    /// Returns the stage that it was at.
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
        let (sequence, call_site) = (job.sequence, job.call_site);
        if job.handles == 0 {
            self.slab.remove(slot);
        }
        // The job counts as held until the caller has dropped it, after the lock. Its entry stays in the heap or in the
        // ready queue, and is dead.
        self.begin_drops(1);
        let runnable = match contents {
            Contents::Runnable(runnable) => Some(runnable),
            Contents::Row(key) => {
                key.into_iter()
                    .for_each(|key| self.tables.forget(key.table));
                None
            }
        };
        take(DroppedJob::new(runnable, sequence, call_site));
        Some(stage)
    }

    /// Counts `count` pending jobs as cancelled. They are held until the caller has dropped them.
    fn begin_drops(&mut self, count: usize) {
        self.pending -= count;
        self.begun_drops = self.begun_drops.wrapping_add(count);
        self.counts.dropped += count as u64;
    }

    /// Stops counting a job, which was at `stage` until now, as released or blocked. Its entry in the ready queue is
    /// dead.
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

    /// Moves a job to another deadline.
    ///
    /// A move to later costs one store: the entry stays where it is, and when it is popped it is found to be early, and
    /// queued again. Only a move to earlier makes a new entry.
    pub(super) fn reset(&mut self, slot: u32, at: Timestamp, workers: &Workers) -> Reset {
        self.recall(slot, workers);
        let job = self.slab.get_mut(slot);
        match job.stage() {
            Stage::Waiting if at >= job.deadline => {
                job.deadline = at;
                Reset::InPlace
            }
            stage @ (Stage::Waiting | Stage::Released | Stage::Blocked) => {
                // `wait_anew` gives the job a new sequence, by which its former entry is dead, in the heap or in the
                // ready queue. A due job goes back to the driver too, since only the driver knows the order of
                // deadlines.
                job.deadline = at;
                job.wait_anew();
                let entry = job.entry(slot);
                self.remove_from_ready(stage);
                Reset::Requeued(entry)
            }
            // A series is running. The reset is kept for the end of the run, and the next run is at the earlier of `at`
            // and the instant that the run asks for.
            _ if job.call_site.may_run_again() => match self.slab.control(slot) {
                Some(control) if !control.is_last_run() => {
                    control.again = Some(at);
                    Reset::InPlace
                }
                _ => Reset::Rejected,
            },
            _ => Reset::Rejected,
        }
    }

    // Rows of tables. A table calls these methods under its own lock, with the slot that it has noted for a row. A row
    // has no handle that would keep its slot, so a group that ends may have freed the slot before the table knows. But
    // a group that ends admits no job any more. So a noted slot is either still that of the row or vacant, and never
    // another job's.

    /// Inserts the job of a row. Only its table refers to it.
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

    /// Inserts the job of a row into `slot`, in place of the row's job that is there, which is cancelled. Returns
    /// `false`, and does nothing, if that job has started, or is due later than `at`: the driver's entry for it would
    /// come too late.
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

    /// Returns whether the job of a row has not started. A claimed one is recalled by this.
    pub(super) fn is_pending_row(&mut self, slot: u32, workers: &Workers) -> bool {
        let stage = self.slab.peek(slot).map(Slot::stage);
        if stage == Some(Stage::Claimed) {
            self.recall(slot, workers);
        }
        self.slab.peek(slot).is_some_and(Slot::is_pending)
    }

    /// Returns the deadline of a row's job, if the job is pending or just being started.
    pub(super) fn row_deadline(&self, slot: u32) -> Option<Timestamp> {
        let job = self.slab.peek(slot)?;
        let is_there = job.is_pending() || job.stage() == Stage::Claimed;
        is_there.then_some(job.deadline)
    }

    /// Cancels the job of a row, if it has not started. The table drops its values.
    pub(super) fn cancel_row(&mut self, slot: u32, workers: &Workers) {
        let Some(mut job) = self.slab.peek_mut(slot) else {
            return;
        };
        if job.stage() == Stage::Claimed {
            self.recall(slot, workers);
            job = self.slab.get_mut(slot);
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

    /// Loads some slots into the cache, all at the same time.
    pub(super) fn touch(&self, slots: &[u32]) {
        self.slab.touch(slots.iter().copied());
    }

    /// Cancels the jobs of some rows, as [`cancel_row`](Jobs::cancel_row) does.
    pub(super) fn cancel_rows(&mut self, slots: &[u32], workers: &Workers) {
        self.touch(slots);
        for &slot in slots {
            self.cancel_row(slot, workers);
        }
    }

    /// Blocks a claimed row, which may not start yet: it is pending again, and has no entry.
    pub(super) fn block(&mut self, slot: u32, key: RowKey, table: &Arc<dyn RowTable>) {
        self.tables.hold(key.table, || Arc::clone(table));
        self.ready.free_slot();
        let job = self.slab.get_mut(slot);
        job.put_back(Contents::Row(Some(key)), Stage::Blocked);
        self.pending += 1;
        self.tables.block(job.deadline);
    }

    /// Ends the job of a claimed row that was removed just before its start.
    pub(super) fn drop_claimed(&mut self, slot: u32) {
        self.ready.free_slot();
        self.counts.dropped += 1;
        self.slab.end_run(slot, JobState::Cancelled);
    }

    /// Unblocks a row that may start now, before due jobs that have a later deadline. Returns `false` if it is not blocked.
    pub(super) fn unblock(&mut self, slot: u32) -> bool {
        let Some(job) = self.slab.peek_mut(slot) else {
            return false;
        };
        if job.stage() != Stage::Blocked {
            return false;
        }
        job.release();
        self.ready.push(job.entry(slot));
        self.tables.unblock();
        true
    }

    // Running.

    /// Notes that the driver empties its inbox in this step.
    pub(super) fn set_seen(&mut self) {
        self.seen = self.last;
    }

    /// Releases the due jobs of a batch that the driver took from the front of its heap, in order.
    ///
    /// A job may come later than its entry says: it was moved later, or has taken over the slot. The entry is then
    /// updated, and goes back to the heap if it comes after the last entry of the batch by now. Otherwise it is released
    /// in its new place, since everything that is left in the heap comes after the batch.
    ///
    /// The entry of a job that took over its slot after the inbox was emptied (`seen`) always goes back. The inbox may
    /// hold an entry that comes before it, which the driver has not seen yet.
    pub(super) fn release(&mut self, batch: &mut Vec<Entry>, queue: &mut Queue) {
        let Some(&last) = batch.last() else {
            return;
        };
        let seen = self.seen;
        self.slab.touch(batch.iter().map(|entry| entry.slot));
        let (slab, mut done) = (&mut self.slab, 0);
        let unmoved = batch.iter().map_while(|entry| {
            // `None` for a dead entry, whose job was cancelled, moved or has ended: it is forgotten here. So is the
            // second of two entries for one job, which there can be, since a bucket of the wheel knows only slots (see
            // `Queue::push`).
            let mut slot = slab.waiting_mut(entry);
            if let Some(slot) = &mut slot {
                if !slot.comes_at(entry) || slot.sequence.number() > seen {
                    return None;
                }
                slot.release();
            }
            done += 1;
            Some(slot.map(|_| *entry))
        });
        self.ready.extend(unmoved.flatten());
        // The common case: no entry has to be updated.
        if done == batch.len() {
            return batch.clear();
        }
        for entry in batch.drain(..).skip(done) {
            let Some(slot) = self.slab.waiting_mut(&entry) else {
                continue;
            };
            let entry = slot.entry(entry.slot);
            if entry > last || slot.sequence.number() > seen {
                queue.push(entry);
            } else {
                slot.release();
                self.ready.push(entry);
            }
        }
    }

    /// Moves the next due jobs for which slots are free to the local queue of a worker, in release order and at most
    /// `most`. Returns how many it has tried to move: behind very many dead entries there are fewer jobs or none, and
    /// the worker claims again.
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
        // A claimed job holds a slot of `max_running`. In a group with a limit only one is claimed at a time, so that
        // no slot is held by a job that waits behind another one of its worker.
        let count = match self.ready.is_limited() {
            true => 1,
            false => workers.share_of(startable, most),
        };
        local.fill(count, |claims| {
            let (mut has_series, mut looks) = (false, MOST_LOOKS);
            for _ in 0..count {
                let slab = &mut self.slab;
                let taken = self.ready.take(&mut looks, |entry| {
                    let slot = slab.released_mut(entry)?;
                    Some((slot.take_contents(Stage::Claimed)?, slot.call_site))
                });
                let Some((entry, (contents, call_site))) = taken else {
                    break;
                };
                // The stage and the counts change in the step that takes the contents out, so no caller ever finds a
                // pending job without its contents.
                self.pending -= 1;
                let scheduled_at = self.call_sites.site(call_site);
                // One `push_back` for each kind of job, so that the claim is built where it stays. To build one value
                // and move it would be slower (store forwarding).
                let claim = |id, work| Claim {
                    slot: entry.slot,
                    id,
                    work,
                    deadline: entry.at,
                    scheduled_at,
                };
                let id = JobId(entry.sequence.number());
                match contents {
                    Contents::Runnable(runnable) => {
                        has_series |= call_site.may_run_again();
                        claims.push_back(claim(id, Work::Boxed(runnable)));
                    }
                    Contents::Row(Some(key)) => {
                        let table = self.tables.claim(key.table);
                        claims.push_back(claim(id, Work::Row { table, key }));
                    }
                    Contents::Row(None) => unreachable!("a pending job has not started"),
                }
            }
            if has_series {
                begin_runs(&mut self.slab, claims);
            }
        });
        self.ready.shrink();
        count
    }

    /// Takes all claimed jobs that have not started back to the ready queue, when the group has been stopped.
    pub(super) fn recall_all(&mut self, workers: &Workers) {
        // None of them starts, since no job is claimed in a group that was stopped. A job that has left its local queue
        // before this step starts before the end of the group, or is given back by its worker.
        for local in workers.locals() {
            self.requeue_all(local);
        }
    }

    /// Takes the claimed jobs of a worker that have not started back to the ready queue.
    pub(super) fn requeue_all(&mut self, local: &LocalQueue) {
        for claim in local.take_all() {
            self.requeue(claim);
        }
    }

    /// Notes that a job is at its first await. Returns `true` if it was aborted during its first poll.
    pub(super) fn set_running(&mut self, slot: u32) -> bool {
        // An abort during the first poll found no place to mark, and left its mark in the slot's `RunControl`.
        self.slab.get_mut(slot).set_running();
        self.slab.is_aborted(slot)
    }

    /// Notes the place of a job that awaits.
    pub(super) fn set_place(&mut self, slot: u32, place: Arc<AwaitingJob>) {
        self.slab.set_place(slot, place);
    }

    /// Tells the jobs of one chunk that have a place to stop, and returns their wakers. A job at its first poll has
    /// none; it sees at its first await that the group aborts its jobs.
    pub(super) fn abort_chunk(&mut self, chunk: usize) -> Vec<Waker> {
        let running = self.running_of_chunk(chunk);
        running.iter().for_each(|place| place.abort());
        running.into_iter().map(Waker::from).collect()
    }

    /// Returns the places of the jobs of one chunk that have awaited.
    pub(in crate::sched) fn running_of_chunk(&self, chunk: usize) -> Vec<Arc<AwaitingJob>> {
        let slots = self.slab.chunk(chunk);
        slots
            .filter_map(|slot| self.slab.place(slot).cloned())
            .collect()
    }

    /// Ends a run. Returns the values that are left of it, or the entry of the next run, if one is to be sent.
    ///
    /// `head` is not later than the deadline of any job that is not due as far as the driver knows.
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        runnable: Option<Box<dyn Runnable>>,
        lifecycle: &Lifecycle,
        head: Timestamp,
    ) -> (EndedRun, Option<Entry>) {
        self.ready.free_slot();
        let control = self.slab.take_control(slot).unwrap_or_default();
        let call_site = || self.slab.get(slot).call_site;
        let ends_with_wait = lifecycle.is_closed() && call_site().ends_with_wait();
        let mut left = EndedRun {
            runnable,
            panic: None,
        };
        let state = match ending {
            Ending::Ran(next) => {
                // A job in steps that is done has nothing to run again.
                let again = control
                    .again
                    .filter(|_| next.is_some() || !call_site().is_in_steps());
                let wanted = next.into_iter().chain(again).min();
                match (wanted.filter(|_| !ends_with_wait), left.runnable.take()) {
                    (Some(at), Some(runnable))
                        if !control.is_last_run() && lifecycle.may_reschedule() =>
                    {
                        return (left, self.run_again(slot, at, runnable, head));
                    }
                    (wanted, runnable) => {
                        left.runnable = runnable;
                        // A series that was cancelled, or wants to run again and may not, counts as dropped; the
                        // latter as finished after a shutdown, which lets the present run end. A job in steps has
                        // finished if its last step says so, whatever was asked of it meanwhile.
                        let cut_short = match call_site().is_in_steps() {
                            true => next.is_some(),
                            false if control.cancelled => true,
                            // It says that it is done if this run was none of its own, such as a look at a clock.
                            false if ends_with_wait && lifecycle.finishes_series() => {
                                next.is_none()
                            }
                            false => wanted.is_some() && !lifecycle.finishes_series(),
                        };
                        if cut_short {
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
            Ending::Aborted(panic) => {
                self.counts.aborted += 1;
                left.panic = panic.and_then(|panic| self.first_panic.keep(panic));
                JobState::Cancelled
            }
        };
        self.slab.end_run(slot, state);
        // In the same step that stops counting the run, or the group could drain, and `wait` return, while the values
        // that are left are being dropped.
        self.begun_drops = self.begun_drops.wrapping_add((!left.is_empty()).into());
        (left, None)
    }

    /// Makes a job of a series pending again after its run. Returns its entry, if that is to be sent to the driver.
    fn run_again(
        &mut self,
        slot: u32,
        at: Timestamp,
        runnable: Box<dyn Runnable>,
        head: Timestamp,
    ) -> Option<Entry> {
        self.pending += 1;
        self.slab.forget_place(slot);
        let sequence = Sequence::first(self.next_number());
        let job = self.slab.get_mut(slot);
        job.put_runnable(runnable, at, sequence);
        let entry = job.entry(slot);
        // A job that is due already is released here: the worker that ends this run may claim before the driver's next
        // turn, and would start a job that comes after this one. But it must not overtake a job of the same deadline
        // that the driver has not released yet.
        if self.ready.is_due(&entry) && at < head {
            job.release();
            self.ready.push(entry);
            return None;
        }
        Some(entry)
    }

    // Walks over all jobs.

    /// Ends the pending jobs of one chunk that are due at `from` or later as cancelled, and moves them to `dropped`.
    pub(super) fn take_pending_chunk(
        &mut self,
        chunk: usize,
        from: Timestamp,
        dropped: &mut DroppedChunk,
    ) {
        for page in chunk * PAGES..(chunk + 1) * PAGES {
            if let Some(page) = self.slab.take_page(page, from) {
                self.begin_drops(page.len());
                dropped.pages.push(page);
            }
        }
        for slot in self.slab.chunk(chunk) {
            // No sweep of the ready queue here. Mostly the walk takes all jobs that are in it, and with the last one the
            // queue is cleared. After a shutdown it takes only those that have become due since the call, and what is
            // left is worked off within the grace.
            match self.take_pending_from(slot, from, |job| dropped.jobs.push(job)) {
                Some(Stage::Released) => drop(self.ready.remove()),
                Some(Stage::Blocked) => self.tables.unblock(),
                _ => {}
            }
        }
    }

    /// Returns the call site of the job in a slot, if there is one.
    pub(super) fn scheduled_at(&self, slot: u32) -> Option<&'static Location<'static>> {
        let job = self.slab.peek(slot)?;
        (job.stage() != Stage::Vacant).then(|| self.site(job.call_site))
    }

    /// Returns the location of a call site.
    pub(in crate::sched) fn site(&self, call_site: CallSite) -> &'static Location<'static> {
        self.call_sites.site(call_site)
    }

    pub(in crate::sched) fn chunks(&self) -> usize {
        self.slab.chunks()
    }

    /// Lists the jobs of one chunk that have not ended. `claimed` are the slots of claimed jobs that have not started.
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
                Stage::Vacant | Stage::Ended(_) => continue,
                Stage::Claimed if claimed.contains(&slot) => JobState::Pending,
                _ => job.state(),
            };
            let deadline = clock.instant(job.deadline);
            let scheduled_at = self.call_sites.site(job.call_site);
            let (id, run) = self.slab.run(slot);
            jobs.push(JobInfo {
                id,
                state,
                deadline,
                scheduled_at,
                run,
            });
        }
    }

    /// Returns the entries of those of the slots whose jobs are not due.
    pub(in crate::sched) fn entries(&self, slots: impl Iterator<Item = u32> + Clone) -> Vec<Entry> {
        self.slab.touch(slots.clone());
        // Nearly all of them have one.
        let mut entries = Vec::with_capacity(slots.size_hint().0);
        entries.extend(slots.filter_map(|slot| self.slab.waiting(slot)));
        entries
    }

    /// The same for a range of slots; `None` behind the last slot.
    pub(in crate::sched) fn entries_in(&self, slots: Range<u32>) -> Option<Vec<Entry>> {
        (slots.start < self.slab.end()).then(|| self.entries(slots))
    }

    /// Returns how many are pending, running or being dropped.
    pub(super) fn held(&self) -> usize {
        self.pending + self.ready.running() + self.ended_drops.left_of(self.begun_drops)
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

    /// Returns how many due jobs have a free slot, and could start now.
    pub(super) fn startable(&self) -> usize {
        self.ready.startable()
    }

    /// Returns how many pending jobs are not due. Each has one live entry with the driver.
    pub(super) fn not_due(&self) -> usize {
        self.pending - self.tables.blocked() - self.ready.waiting()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns whether there is something for [`take_unused`](Jobs::take_unused).
    pub(in crate::sched) fn has_unused(&self) -> bool {
        self.slab.has_emptied() || self.tables.has_unheld()
    }

    /// Takes empty storage and unused tables, to be dropped after the lock.
    #[cold]
    pub(in crate::sched) fn take_unused(&mut self) -> Box<Unused> {
        Box::new((self.slab.take_emptied(), self.tables.take_unheld()))
    }

    #[cfg(test)]
    pub(in crate::sched) fn take_looks(&self) -> usize {
        self.slab.take_looks()
    }

    /// Counts the jobs. `head` is not later than the deadline of any job that is not due.
    pub(super) fn stats(&mut self, head: Timestamp, workers: &Workers, clock: &Clock) -> Stats {
        let mut next = head.min(self.ready.earliest().unwrap_or(Timestamp::NEVER));
        next = next.min(self.tables.earliest_blocked());
        let mut claimed = 0;
        for local in workers.locals() {
            let left = self.record(local);
            claimed += left.unstarted;
            next = next.min(left.earliest.unwrap_or(Timestamp::NEVER));
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
