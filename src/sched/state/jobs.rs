//! The jobs of a group: the life of each, from its coming to its end, and the counts that go with it.
//!
//! A change that calls for a new entry of a job hands it out, to be sent to the driver. What is to be
//! dropped is handed out too, and still counts as held until [`dropped`](Jobs::dropped).

use std::collections::HashSet;
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::call_site::{CallSite, CallSites, JobKind};
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
use crate::sched::local_queue::{Claim, LocalQueue};
use crate::sched::queue::{Entry, Queue, Sequence};
use crate::sched::runnable::{Row, RowKey, RowTable, Runnable, TableId, Work};
use crate::sched::stats::{JobInfo, Stats};

/// What a job was that will not start.
pub(in crate::sched) struct DroppedJob {
    pub(in crate::sched) work: Work,
    pub(in crate::sched) id: JobId,
    pub(in crate::sched) scheduled_at: &'static Location<'static>,
}

/// What is left of a finished run.
pub(in crate::sched) struct EndedRun {
    pub(in crate::sched) runnable: Option<Box<dyn Runnable>>,
    /// A panic that is not the group's first, or that nobody can hear of.
    pub(in crate::sched) panic: Option<JobPanic>,
}

impl EndedRun {
    pub(in crate::sched) fn is_empty(&self) -> bool {
        self.runnable.is_none() && self.panic.is_none()
    }
}

/// Whether a job is moved.
pub(super) enum Reset {
    Rejected,
    /// The entry that it has will do.
    InPlace,
    /// This entry speaks for it from now on.
    Requeued(Entry),
}

pub(in crate::sched) struct Jobs {
    slab: Slab,
    /// The tables whose rows are jobs.
    pub(in crate::sched) tables: Tables,
    call_sites: CallSites,
    ready: ReadyQueue,
    /// The number of the last job.
    last: u64,
    /// Jobs that have not started, and are not claimed.
    pending: usize,
    /// Those of them that are due and wait for their table, and an instant that none of them was due before.
    blocked: usize,
    earliest_blocked: Timestamp,
    /// Jobs that have ended while their values are still being dropped.
    dropping: usize,
    counts: Counts,
    first_panic: FirstPanic,
    max_lateness: Duration,
    /// A series that ends with `wait` came since it was asked last.
    until_wait: bool,
}

impl Jobs {
    pub(super) fn new(limit: usize) -> Jobs {
        Jobs {
            slab: Slab::default(),
            tables: Tables::default(),
            call_sites: CallSites::default(),
            ready: ReadyQueue::new(limit),
            last: 0,
            pending: 0,
            blocked: 0,
            earliest_blocked: Timestamp::NEVER,
            dropping: 0,
            counts: Counts::default(),
            first_panic: FirstPanic::default(),
            max_lateness: Duration::ZERO,
            until_wait: false,
        }
    }

    // Admission.

    /// A number for a job, accepted or not.
    pub(in crate::sched) fn next_id(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// Takes a job in, with one handle on it; its entry is to be sent.
    pub(super) fn insert(
        &mut self,
        at: Timestamp,
        runnable: Box<dyn Runnable>,
        kind: JobKind,
        scheduled_at: &'static Location<'static>,
    ) -> (JobId, Entry) {
        self.until_wait |= kind == JobKind::UntilWait;
        self.insert_contents(at, Contents::Runnable(runnable), kind, scheduled_at)
    }

    fn insert_contents(
        &mut self,
        at: Timestamp,
        contents: Contents,
        kind: JobKind,
        scheduled_at: &'static Location<'static>,
    ) -> (JobId, Entry) {
        let id = self.next_id();
        let sequence = Sequence::first(id.0);
        let call_site = self.call_sites.call_site(scheduled_at, kind);
        let slot = Slot::new(contents, at, sequence, call_site);
        let slot = self.slab.insert(slot);
        self.pending += 1;
        (id, Entry { at, sequence, slot })
    }

    /// Returns whether there may be series that end with `wait`, and resets that.
    pub(super) fn take_until_wait(&mut self) -> bool {
        std::mem::take(&mut self.until_wait)
    }

    pub(super) fn has_until_wait(&self) -> bool {
        self.until_wait
    }

    /// Brings forward the series of one chunk that end with `wait` and are not due; their entries are to be sent.
    pub(super) fn hurry_chunk(
        &mut self,
        chunk: usize,
        now: Timestamp,
        workers: &Workers,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        for slot in self.slab.chunk(chunk) {
            let not_due = self.slab.peek_mut(slot).is_some_and(|place| {
                place.stage() == Stage::Waiting
                    && place.call_site.ends_with_wait()
                    && place.deadline > now
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

    /// A claimed job that has not started is pending, and stays where it is: to ask changes no order.
    pub(super) fn state(&mut self, slot: u32, workers: &Workers) -> JobState {
        if self.slab.get(slot).stage() == Stage::Claimed {
            if workers.locals().iter().any(|local| local.contains(slot)) {
                return JobState::Pending;
            }
            workers.locals().iter().for_each(|local| self.record(local));
        }
        self.slab.get(slot).state()
    }

    /// Settles how far a claimed job is: it is released again if it has not started, and recorded if it has
    /// ended. Else it is at its first poll, and stays claimed.
    fn recall(&mut self, slot: u32, workers: &Workers) {
        if self.slab.get(slot).stage() != Stage::Claimed {
            return;
        }
        for local in workers.locals() {
            if let Some(claim) = local.remove(slot) {
                self.requeue(claim);
                return;
            }
        }
        workers.locals().iter().for_each(|local| self.record(local));
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
        self.pending += 1;
        self.ready.free_slot();
        self.ready.push(entry);
    }

    /// What is taken out of a slot, and put back into it.
    fn work_of(&mut self, contents: Contents) -> Work {
        match contents {
            Contents::Runnable(runnable) => Work::Boxed(runnable),
            Contents::Row(Some(key)) => Work::Row(Row {
                table: self.tables.release(key.table),
                key,
            }),
            Contents::Row(None) => unreachable!("a pending job has not started"),
        }
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

    /// Books the jobs that have ended at their first poll.
    pub(super) fn record(&mut self, local: &LocalQueue) {
        let lateness = local.record(|slot| {
            self.ready.free_slot();
            self.slab.take_control(slot);
            self.counts.finished += 1;
            self.end(slot, JobState::Finished);
        });
        self.max_lateness = self.max_lateness.max(lateness);
    }

    pub(in crate::sched) fn deadline(&self, slot: u32) -> Timestamp {
        self.slab.get(slot).deadline
    }

    pub(in crate::sched) fn ref_inc(&mut self, slot: u32) {
        let handles = &mut self.slab.get_mut(slot).handles;
        *handles = handles
            .checked_add(1)
            .expect("schedgroup: more than four billion handles on one job");
    }

    pub(in crate::sched) fn ref_dec(&mut self, slot: u32) {
        let place = self.slab.get_mut(slot);
        place.handles -= 1;
        if place.handles == 0 && matches!(place.stage(), Stage::Ended(_)) {
            self.slab.remove(slot);
        }
    }

    /// Cancels a job. True if that prevents its next run; what it held comes back if it had not started.
    pub(super) fn cancel(&mut self, slot: u32, workers: &Workers) -> (bool, Option<DroppedJob>) {
        self.recall(slot, workers);
        if let Some(unstarted) = self.take_pending(slot) {
            return (true, Some(unstarted));
        }
        let series = self.slab.get(slot).call_site.is_series();
        match self.slab.control(slot) {
            Some(control) if series && !control.is_last_run() => {
                control.cancelled = true;
                (true, None)
            }
            _ => (false, None),
        }
    }

    /// Stops a running job at its next await, and cancels one that has not started. If the job awaits, its
    /// waker is handed out.
    pub(super) fn abort(
        &mut self,
        slot: u32,
        workers: &Workers,
    ) -> (Option<DroppedJob>, Option<Waker>) {
        self.recall(slot, workers);
        let Some(control) = self.slab.control(slot) else {
            return (self.take_pending(slot), None);
        };
        control.abort = true;
        let place = self.slab.running(slot);
        let waker = place.map(|place| {
            place.abort();
            Waker::from(Arc::clone(place))
        });
        (None, waker)
    }

    /// Takes a job that has not started, and its entry out of the line.
    fn take_pending(&mut self, slot: u32) -> Option<DroppedJob> {
        let (unstarted, stage) = self.take_pending_at(slot)?;
        self.remove_from_ready(stage);
        Some(unstarted)
    }

    /// Takes a job that has not started; the stage that it was at comes with it.
    fn take_pending_at(&mut self, slot: u32) -> Option<(DroppedJob, Stage)> {
        let place = self.slab.get_mut(slot);
        let stage = place.stage();
        let contents = place.take_contents(Stage::Ended(JobState::Cancelled))?;
        let (id, call_site) = (JobId(place.sequence.job()), place.call_site);
        if place.handles == 0 {
            self.slab.remove(slot);
        }
        self.pending -= 1;
        self.dropping += 1;
        self.counts.dropped += 1;
        let unstarted = DroppedJob {
            work: self.work_of(contents),
            id,
            scheduled_at: self.call_sites.site(call_site),
        };
        Some((unstarted, stage))
    }

    /// A job that was at `stage` is pending no more, or elsewhere.
    fn remove_from_ready(&mut self, stage: Stage) {
        match stage {
            Stage::Released if self.ready.withdraw() => {
                let slots = &self.slab;
                self.ready.sweep(|entry| slots.is_released(entry));
            }
            Stage::Blocked => self.leave_blocked(),
            _ => {}
        }
    }

    fn leave_blocked(&mut self) {
        self.blocked -= 1;
        if self.blocked == 0 {
            self.earliest_blocked = Timestamp::NEVER;
        }
    }

    /// Moves a job.
    ///
    /// Later costs a store: the entry stays where it is and is sent on when it surfaces. Only earlier
    /// makes a new entry.
    pub(super) fn reset(&mut self, slot: u32, at: Timestamp, workers: &Workers) -> Reset {
        self.recall(slot, workers);
        let place = self.slab.get_mut(slot);
        match place.stage() {
            Stage::Waiting if at >= place.deadline => {
                place.deadline = at;
                Reset::InPlace
            }
            stage @ (Stage::Waiting | Stage::Released | Stage::Blocked) => {
                place.deadline = at;
                place.wait_anew();
                let sequence = place.sequence;
                self.remove_from_ready(stage);
                Reset::Requeued(Entry { at, sequence, slot })
            }
            _ if place.call_site.is_series() => match self.slab.control(slot) {
                Some(control) if !control.is_last_run() => {
                    control.again = Some(at);
                    Reset::InPlace
                }
                _ => Reset::Rejected,
            },
            _ => Reset::Rejected,
        }
    }

    // Rows of tables. Their tables call under their own locks, with the slot that they noted for the row; a group
    // that ends may have freed that, and takes nothing new in afterwards.

    /// Takes a job in that is a row of a table. Nothing refers to it but the table.
    pub(super) fn insert_row(
        &mut self,
        at: Timestamp,
        key: RowKey,
        table: impl FnOnce() -> Arc<dyn RowTable>,
        scheduled_at: &'static Location<'static>,
    ) -> Entry {
        self.tables.hold(key.table, table);
        let contents = Contents::Row(Some(key));
        let (_, entry) = self.insert_contents(at, contents, JobKind::Once, scheduled_at);
        entry
    }

    /// Returns whether the job of a row has not started.
    pub(super) fn is_pending_row(&mut self, slot: u32, workers: &Workers) -> bool {
        let stage = self.slab.peek(slot).map(Slot::stage);
        if stage == Some(Stage::Claimed) {
            self.recall(slot, workers);
        }
        self.slab.peek(slot).is_some_and(Slot::is_pending)
    }

    /// When the row's job is due, or was if it has just started.
    pub(in crate::sched) fn row_deadline(&self, slot: u32) -> Option<Timestamp> {
        let place = self.slab.peek(slot)?;
        let is_there = place.is_pending() || place.stage() == Stage::Claimed;
        is_there.then_some(place.deadline)
    }

    /// Cancels the job of a row, if it has not started. What it held is the table's, and dropped there.
    pub(super) fn cancel_row(&mut self, slot: u32, table: TableId, workers: &Workers) {
        if !self.is_pending_row(slot, workers) {
            return;
        }
        let place = self.slab.get_mut(slot);
        let stage = place.stage();
        place.end(JobState::Cancelled);
        self.slab.remove(slot);
        self.tables.forget(table);
        self.pending -= 1;
        self.counts.dropped += 1;
        self.remove_from_ready(stage);
    }

    /// A claimed row may not start yet.
    pub(super) fn block(&mut self, slot: u32, key: RowKey, table: &Arc<dyn RowTable>) {
        self.tables.hold(key.table, || Arc::clone(table));
        self.ready.free_slot();
        self.slab.take_control(slot);
        let place = self.slab.get_mut(slot);
        place.put_back(Contents::Row(Some(key)), Stage::Blocked);
        self.pending += 1;
        self.blocked += 1;
        self.earliest_blocked = self.earliest_blocked.min(place.deadline);
    }

    /// A claimed row may not start yet, and never will.
    pub(super) fn drop_claimed(&mut self, slot: u32) {
        self.ready.free_slot();
        self.slab.take_control(slot);
        self.counts.dropped += 1;
        self.end(slot, JobState::Cancelled);
    }

    /// A blocked row may start: the entry that speaks for it from now on.
    pub(super) fn unblock(&mut self, slot: u32) -> Option<Entry> {
        let place = self.slab.peek_mut(slot)?;
        if place.stage() != Stage::Blocked {
            return None;
        }
        place.wait_anew();
        let (at, sequence) = (place.deadline, place.sequence);
        self.leave_blocked();
        Some(Entry { at, sequence, slot })
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
            let Some(slot) = self.slab.waiting_mut(entry) else {
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
            if let Some(slot) = self.slab.waiting_mut(&entry) {
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
            return 0;
        }
        let count = match self.ready.is_limited() {
            true => 1,
            false => workers.share_of(startable),
        };
        let claims = (0..count).map_while(|_| {
            let slots = &self.slab;
            let entry = self.ready.take(|entry| slots.is_released(entry))?;
            let slot = self.slab.get_mut(entry.slot);
            let Some(contents) = slot.take_contents(Stage::Claimed) else {
                unreachable!("a live entry speaks for a pending job");
            };
            let (sequence, deadline, call_site) = (slot.sequence, slot.deadline, slot.call_site);
            let work = self.work_of(contents);
            self.begin_run(entry.slot, call_site, &work);
            self.pending -= 1;
            Some(Claim {
                slot: entry.slot,
                id: JobId(sequence.job()),
                work,
                deadline,
                scheduled_at: self.call_sites.site(call_site),
            })
        });
        local.push(count, claims);
        count
    }

    /// A claimed job is about to begin a run. Between its runs the runnable of a series knows how many there were.
    fn begin_run(&mut self, slot: u32, call_site: CallSite, work: &Work) {
        if let (true, Work::Boxed(runnable)) = (call_site.is_series(), work) {
            if let Some(control) = self.slab.control(slot) {
                control.run = runnable.runs() + 1;
            }
        }
    }

    /// Takes the claimed jobs that have not started out of all local queues: none of them starts.
    pub(super) fn recall_all(&mut self, workers: &Workers) {
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

    /// A job is at its first await. True if it must stop instead.
    pub(super) fn awaits(&mut self, slot: u32) -> bool {
        self.slab.get_mut(slot).run_on();
        self.slab.is_aborted(slot)
    }

    /// Notes where a job is found while it runs.
    pub(super) fn runs_at(&mut self, slot: u32, place: Arc<AwaitingJob>) {
        self.slab.set_running(slot, place);
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
            .filter_map(|slot| self.slab.running(slot).cloned())
            .collect()
    }

    /// A run has ended. What is left of it comes back, and the entry of the further run if there is one.
    pub(super) fn finish(
        &mut self,
        slot: u32,
        ending: Ending,
        runnable: Option<Box<dyn Runnable>>,
        lifecycle: &Lifecycle,
    ) -> (EndedRun, Option<Entry>) {
        self.ready.free_slot();
        drop(self.slab.take_running(slot));
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
                        let again = self.run_again(slot, at, runnable);
                        return (left, Some(again));
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
        self.dropping += usize::from(!left.is_empty());
        (left, None)
    }

    fn run_again(&mut self, slot: u32, at: Timestamp, runnable: Box<dyn Runnable>) -> Entry {
        self.pending += 1;
        let place = self.slab.get_mut(slot);
        place.put_runnable(runnable, at);
        Entry {
            at,
            sequence: place.sequence,
            slot,
        }
    }

    /// Ends a job that runs; its slot goes with its last handle.
    fn end(&mut self, slot: u32, state: JobState) {
        let place = self.slab.get_mut(slot);
        place.end(state);
        if place.handles == 0 {
            self.slab.remove(slot);
        }
    }

    /// The values of so many jobs have been dropped.
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
            let due_later = self
                .slab
                .peek_mut(slot)
                .is_some_and(|place| place.deadline >= from);
            if !due_later {
                continue;
            }
            if let Some((unstarted, stage)) = self.take_pending_at(slot) {
                jobs.push(unstarted);
                // All that wait go, and the line with the last of them: it is not worth a sweep.
                match stage {
                    Stage::Released => drop(self.ready.withdraw()),
                    Stage::Blocked => self.leave_blocked(),
                    _ => {}
                }
            }
        }
    }

    pub(in crate::sched) fn chunks(&self) -> usize {
        self.slab.chunks()
    }

    /// Notes the jobs of one chunk that have not ended. `claimed` are the slots of those that are claimed and
    /// have not started.
    pub(super) fn list_chunk(
        &mut self,
        chunk: usize,
        claimed: &HashSet<u32>,
        clock: &Clock,
        jobs: &mut Vec<JobInfo>,
    ) {
        for slot in self.slab.chunk(chunk) {
            let Some(place) = self.slab.peek_mut(slot) else {
                continue;
            };
            let state = match place.stage() {
                Stage::Waiting | Stage::Released | Stage::Blocked => JobState::Pending,
                Stage::Claimed if claimed.contains(&slot) => JobState::Pending,
                Stage::Claimed | Stage::Running => JobState::Running,
                Stage::Vacant | Stage::Ended(_) => continue,
            };
            let (id, deadline) = (JobId(place.sequence.job()), place.deadline);
            let scheduled_at = self.call_sites.site(place.call_site);
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
    pub(in crate::sched) fn entries(&self, slots: impl IntoIterator<Item = u32>) -> Vec<Entry> {
        let slots = slots.into_iter();
        // Nearly all of them are there.
        let mut entries = Vec::with_capacity(slots.size_hint().0);
        entries.extend(slots.filter_map(|slot| self.slab.waiting(slot)));
        entries
    }

    /// The same for a page of slots; `None` behind the last one.
    pub(in crate::sched) fn page(&self, slots: Range<u32>) -> Option<Vec<Entry>> {
        (slots.start < self.slab.end()).then(|| self.entries(slots))
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

    /// How many due jobs could start now.
    pub(super) fn startable(&self) -> usize {
        self.ready.startable()
    }

    /// How many wait for their time, and need an entry of the driver's for it.
    pub(super) fn not_due(&self) -> usize {
        self.pending - self.blocked - self.ready.waiting()
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

    pub(in crate::sched) fn take_emptied(&mut self) -> Option<Emptied> {
        self.slab.take_emptied()
    }

    #[cfg(test)]
    pub(in crate::sched) fn take_looks(&self) -> usize {
        self.slab.take_looks()
    }

    /// `head` is not later than any entry that the driver has or is sent.
    pub(super) fn stats(&mut self, head: Timestamp, workers: &Workers, clock: &Clock) -> Stats {
        let mut next = head.min(self.ready.earliest().unwrap_or(Timestamp::NEVER));
        next = next.min(self.earliest_blocked);
        let mut claimed = 0;
        for local in workers.locals() {
            self.record(local);
            let (unstarted, first) = local.unstarted();
            claimed += unstarted;
            next = next.min(first.unwrap_or(Timestamp::NEVER));
        }
        let pending = self.pending + claimed;
        Stats {
            pending,
            waiting: self.ready.waiting() + self.blocked + claimed,
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
