//! A slab of jobs: numbered slots, in pages that are freed when they are empty. These are not the slots of `max_running`
//! that due jobs wait for, which `ready.rs` counts.

use std::sync::Arc;

use super::call_site::CallSite;
use super::controls::{Controls, RunControl};
use super::dropped::DroppedJob;
use crate::common::time::Timestamp;
use crate::sched::awaiting::AwaitingJob;
use crate::sched::job::{JobId, JobState};
use crate::sched::queue::{Entry, Sequence};
use crate::sched::runnable::{RowKey, Runnable, TableId};

/// One job, from its admission until it has ended and no handle is left. All of it is under the group's lock.
pub(super) struct Slot {
    /// What is started. It leaves the slot when the job is claimed or dropped.
    contents: Contents,
    /// The deadline; while the job runs, that of this run.
    pub(super) deadline: Timestamp,
    /// The sequence of the job's live entry. An entry with another sequence is dead.
    pub(super) sequence: Sequence,
    /// The number of `JobHandle`s; 0 for the row of a table. In a vacant slot this is the index of the next vacant slot
    /// of the page (an intrusive free list).
    pub(super) handles: u32,
    stage: Stage,
    pub(super) call_site: CallSite,
}

/// The contents of a slot. It fits into two words.
pub(super) enum Contents {
    Runnable(Box<dyn Runnable>),
    /// The row of a table; `None` if there are no contents, since the job, of either kind, was claimed or has ended.
    Row(Option<RowKey>),
}

/// The state machine of a slot.
///
/// ```text
///                  reset                recalled
///            ┌───────────────┐      ┌────────────────┐
///   insert   ▼      due      │      ▼    claimed     │      awaits
///  ───────▶ Waiting ──────▶ Released ───────────▶ Claimed ───────────▶ Running
///            │ ▲ ▲            │ ▲ unblocked       │ │ │                 │  │
///            │ │ │            │ │   may not start │ │ │                 │  │
///            │ │ └────────────│─┴── Blocked ◀─────┘ │ │                 │  │
///            │ │    reset     │        │            │ │   runs again    │  │
///            │ └──────────────│────────│────────────│─┴─────────────────┘  │
///            │ cancelled      │        │            │ ended                │ ended
///            ▼                ▼        ▼            ▼                      ▼
///          Ended ◀─────────────────────────────────────────────────────────
///            │ no handle is left, which is so at once for the row of a table
///            ▼
///          Vacant
/// ```
///
/// A waiting job that is reset stays at its stage; if that is to an earlier deadline, it gets a new sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Vacant,
    /// Pending and not due, as far as the driver knows. Its live entry is in the inbox or with the driver.
    Waiting,
    /// Pending and due. Its live entry is in the ready queue.
    Released,
    /// Pending and due, but its table does not let it start yet (a key whose run has not ended). It has no live entry.
    Blocked,
    /// In the local queue of a worker, or at its first poll, or ended there and not recorded yet.
    Claimed,
    /// The job has awaited, and has a place (`AwaitingJob`); or its end is not recorded yet.
    Running,
    Ended(JobState),
}

impl Slot {
    pub(super) fn new(
        contents: Contents,
        deadline: Timestamp,
        sequence: Sequence,
        call_site: CallSite,
    ) -> Slot {
        let handles = match contents {
            Contents::Runnable(_) => 1,
            Contents::Row(_) => 0,
        };
        Slot {
            contents,
            deadline,
            sequence,
            handles,
            stage: Stage::Waiting,
            call_site,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn state(&self) -> JobState {
        match self.stage {
            Stage::Waiting | Stage::Released | Stage::Blocked => JobState::Pending,
            Stage::Claimed | Stage::Running => JobState::Running,
            Stage::Ended(state) => state,
            Stage::Vacant => unreachable!("a handle keeps its slot"),
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(
            self.stage,
            Stage::Waiting | Stage::Released | Stage::Blocked
        )
    }

    fn is_row(&self) -> bool {
        matches!(self.contents, Contents::Row(_))
    }

    /// Returns whether the slot is vacant, or holds a job that [`take_page`](Slab::take_page) takes.
    fn leaves_with_page(&self, from: Timestamp) -> bool {
        match self.stage {
            Stage::Vacant => true,
            Stage::Waiting => self.handles == 0 && self.deadline >= from && !self.is_row(),
            _ => false,
        }
    }

    pub(super) fn release(&mut self) {
        self.stage = Stage::Released;
    }

    /// Notes that the job was pending after its first poll.
    pub(super) fn set_running(&mut self) {
        self.stage = Stage::Running;
    }

    /// Makes a claimed job that has not started pending again, at `stage`.
    pub(super) fn put_back(&mut self, contents: Contents, stage: Stage) {
        self.contents = contents;
        self.stage = stage;
    }

    /// Takes the contents of a pending job, which moves on to `stage`. Returns `None` if the job is not pending.
    pub(super) fn take_contents(&mut self, stage: Stage) -> Option<Contents> {
        if !self.is_pending() {
            return None;
        }
        self.stage = stage;
        Some(std::mem::replace(&mut self.contents, Contents::Row(None)))
    }

    /// Gives the slot of a waiting row to another row, which is due later or at the same time. Returns the table of the
    /// former row; `None` if the slot holds no such row, or one that is due later.
    pub(super) fn take_over(
        &mut self,
        key: RowKey,
        deadline: Timestamp,
        sequence: Sequence,
        call_site: CallSite,
    ) -> Option<TableId> {
        let Contents::Row(Some(former)) = self.contents else {
            return None;
        };
        if self.stage != Stage::Waiting || self.deadline > deadline {
            return None;
        }
        // As after a move to later: the entry is popped early, and queued again with the new deadline.
        self.contents = Contents::Row(Some(key));
        self.deadline = deadline;
        self.sequence = sequence;
        self.call_site = call_site;
        Some(former.table)
    }

    /// Makes a running job of a series pending again. `sequence` is new: the next run comes after all jobs of its
    /// deadline that have been submitted before.
    pub(super) fn put_runnable(
        &mut self,
        runnable: Box<dyn Runnable>,
        deadline: Timestamp,
        sequence: Sequence,
    ) {
        self.contents = Contents::Runnable(runnable);
        self.deadline = deadline;
        self.sequence = sequence;
        self.stage = Stage::Waiting;
    }

    /// Makes the job wait with another sequence, so that its former entry is dead.
    pub(super) fn wait_anew(&mut self) {
        // The sequence keeps its number, and with it the job's position among equal deadlines.
        self.sequence = self.sequence.renewed();
        self.stage = Stage::Waiting;
    }

    /// Returns the entry that speaks for the job, which is in the slot `number`.
    pub(super) fn entry(&self, number: u32) -> Entry {
        Entry {
            at: self.deadline,
            sequence: self.sequence,
            slot: number,
        }
    }

    /// Returns whether the entry has the job's present deadline and sequence.
    pub(super) fn comes_at(&self, entry: &Entry) -> bool {
        (self.deadline, self.sequence) == (entry.at, entry.sequence)
    }

    /// Returns whether an entry of the driver is live: that of a waiting job, which may have been moved to later.
    fn waits_by(&self, entry: &Entry) -> bool {
        let is_own = self.sequence == entry.sequence || self.sequence.is_inherited();
        self.stage == Stage::Waiting && is_own
    }

    /// Returns whether an entry of the ready queue is live: that of a released job, which is at its place there.
    fn is_released_by(&self, entry: &Entry) -> bool {
        self.stage == Stage::Released && self.comes_at(entry)
    }
}

/// Returns the number of a job, and that of the run that it waits for. Until the first run of a series, its sequence has
/// the number of the job.
pub(super) fn next_run(runnable: &dyn Runnable, sequence: Sequence) -> (JobId, u64) {
    match runnable.last_run() {
        Some((id, run)) => (id, run + 1),
        None => (JobId(sequence.number()), 1),
    }
}

// A *page* is a unit of storage. A *chunk* is the unit of a walk over all slots: the lock is released after each of
// them.

/// Slots in a chunk.
pub(in crate::sched) const CHUNK: usize = 512;
/// Pages in a chunk.
pub(super) const PAGES: usize = CHUNK / PAGE;
/// Slots in a page. A job that outlives all others of its page keeps its 2.5 KiB.
const PAGE: usize = 64;
/// Pages in a block. A block is the list of its pages, and is freed when all of them are empty.
const BLOCK: usize = 16;
/// A page of no more slots than this keeps its storage when it is empty, so that a group with few jobs at a time does
/// not allocate for each of them.
const KEPT: usize = 16;
const NONE: u32 = u32::MAX;

/// A slab of two levels: blocks of pages of slots. The number of a slot gives its block, its page and its index in the
/// page, so no slot ever moves. Pages and blocks that are empty lose their storage.
// A vacant slot is found without a search:
//
// - The blocks that have room form a linked stack: `Slab::roomy` is the top, and `Block::below` the next one. A slot is
//   always taken from the block at the top. So a block that becomes full is at the top, and is popped. A block that
//   gets room again is pushed, unless it is in the stack (`listed`).
// - The pages of a block that have room are the bits of `Block::roomy`.
// - The vacant slots of a page form an intrusive free list: `Page::vacant`, then `Slot::handles`.
//
// So to take or to free a slot takes the same time for any number of slots, and allocates nothing for these lists. An
// empty page or block is replaced by one without storage, which keeps its number, its bit and its position in the
// stack.
#[derive(Default)]
pub(super) struct Slab {
    blocks: Vec<Block>,
    /// The top of the stack of blocks with room.
    roomy: Option<u32>,
    used: usize,
    /// Boxed, since most groups have none, and an idle group is to be small.
    controls: Option<Box<Controls>>,
    /// Storage that has become empty, until it is dropped after the lock.
    emptied: Emptied,
    /// How often slots were looked at.
    #[cfg(test)]
    looks: std::cell::Cell<usize>,
}

#[derive(Default)]
struct Block {
    /// At most [`BLOCK`].
    pages: Vec<Page>,
    /// Bit `i` is set if page `i` is there and has room.
    roomy: u32,
    used: u16,
    /// The block is in the stack of blocks with room.
    listed: bool,
    /// The next block in that stack.
    below: Option<u32>,
}

pub(super) struct Page {
    /// At most [`PAGE`].
    slots: Vec<Slot>,
    /// The first vacant slot.
    vacant: u32,
    used: u32,
    /// The places of the jobs that have awaited, by slot. Empty until one of them has.
    running: Vec<Option<Arc<AwaitingJob>>>,
}

/// Empty storage, to be dropped when the lock is free: an allocator can need long to free much of it.
#[derive(Default)]
pub(in crate::sched) struct Emptied(Vec<Storage>);

#[allow(dead_code, reason = "what is in it is only dropped")]
enum Storage {
    Page(Page),
    Block(Block),
    All(Vec<Block>),
}

impl Default for Page {
    fn default() -> Page {
        Page {
            slots: Vec::new(),
            vacant: NONE,
            used: 0,
            running: Vec::new(),
        }
    }
}

impl Page {
    /// The number of jobs.
    pub(super) fn len(&self) -> usize {
        self.used as usize
    }

    /// Takes the jobs out of a page that has left its slab.
    pub(super) fn into_jobs(self) -> impl Iterator<Item = DroppedJob> {
        let jobs = self.slots.into_iter();
        jobs.filter_map(|slot| match slot.contents {
            Contents::Runnable(runnable) => {
                let runnable = Some(runnable);
                Some(DroppedJob::new(runnable, slot.sequence, slot.call_site))
            }
            Contents::Row(_) => None,
        })
    }

    /// If `whole`, storage for a whole page is allocated at once.
    fn insert(&mut self, slot: Slot, whole: bool) -> u32 {
        self.used += 1;
        let index = self.vacant;
        if index == NONE {
            if whole && self.slots.capacity() == 0 {
                self.slots.reserve_exact(PAGE);
            }
            self.slots.push(slot);
            return self.slots.len() as u32 - 1;
        }
        let free = &mut self.slots[index as usize];
        self.vacant = free.handles;
        *free = slot;
        index
    }

    fn remove(&mut self, index: u32) {
        let freed = &mut self.slots[index as usize];
        freed.stage = Stage::Vacant;
        freed.handles = self.vacant;
        self.vacant = index;
        self.used -= 1;
    }

    fn is_full(&self) -> bool {
        self.vacant == NONE && self.slots.len() == PAGE
    }

    fn set_place(&mut self, index: u32, place: Arc<AwaitingJob>) {
        if self.running.len() < self.slots.len() {
            self.running.resize_with(self.slots.len(), || None);
        }
        self.running[index as usize] = Some(place);
    }

    /// Forgets the place of a run that has ended. It may be given to another job from here on.
    fn forget_place(&mut self, index: u32) {
        if let Some(place) = self.running.get_mut(index as usize) {
            *place = None;
        }
    }
}

impl Block {
    /// Returns the number of a page with room.
    fn roomy_page(&mut self) -> usize {
        if self.roomy == 0 {
            self.roomy |= 1 << self.pages.len();
            self.pages.push(Page::default());
        }
        self.roomy.trailing_zeros() as usize
    }

    fn is_full(&self) -> bool {
        self.roomy == 0 && self.pages.len() == BLOCK
    }
}

/// Splits the number of a slot into those of its block, of its page in the block, and of the slot in the page.
fn split(index: u32) -> (usize, usize, u32) {
    let page = index as usize / PAGE;
    (page / BLOCK, page % BLOCK, index % PAGE as u32)
}

impl Slab {
    pub(super) fn insert(&mut self, slot: Slot) -> u32 {
        let number = match self.roomy {
            Some(block) => block,
            None => {
                let block = u32::try_from(self.blocks.len())
                    .ok()
                    .filter(|&block| block < NONE / (BLOCK * PAGE) as u32)
                    .expect("schedgroup: more than four billion jobs at once");
                // No block had room, so the stack was empty.
                self.blocks.push(Block {
                    listed: true,
                    ..Block::default()
                });
                self.roomy = Some(block);
                block
            }
        };
        let block = &mut self.blocks[number as usize];
        let page = block.roomy_page();
        let whole = (number, page) != (0, 0);
        let index = block.pages[page].insert(slot, whole);
        if block.pages[page].is_full() {
            block.roomy &= !(1 << page);
        }
        // It is at the top of the stack.
        if block.is_full() {
            block.listed = false;
            self.roomy = block.below.take();
        }
        block.used += 1;
        self.used += 1;
        (number * BLOCK as u32 + page as u32) * PAGE as u32 + index
    }

    /// Notes the place of a job that has awaited.
    pub(super) fn set_place(&mut self, index: u32, place: Arc<AwaitingJob>) {
        let (block, page, index) = split(index);
        self.blocks[block].pages[page].set_place(index, place);
    }

    pub(super) fn place(&self, index: u32) -> Option<&Arc<AwaitingJob>> {
        let (block, page, index) = split(index);
        let page = self.blocks.get(block)?.pages.get(page)?;
        page.running.get(index as usize)?.as_ref()
    }

    /// Forgets the place of a run that has ended, and whose job runs again.
    pub(super) fn forget_place(&mut self, index: u32) {
        let (block, page, index) = split(index);
        self.blocks[block].pages[page].forget_place(index);
    }

    /// Returns the controls of a claimed or running job, which are made by the first call.
    pub(super) fn control(&mut self, index: u32) -> Option<&mut RunControl> {
        let runs = matches!(self.get(index).stage, Stage::Claimed | Stage::Running);
        runs.then(|| {
            let controls = self.controls.get_or_insert_default();
            controls.get_or_insert(index)
        })
    }

    /// Notes the number of a claimed job of a series, and that of the run that it is about to begin.
    pub(super) fn begin_run(&mut self, index: u32, run: (JobId, u64)) {
        if let Some(control) = self.control(index) {
            control.run = Some(run);
        }
    }

    fn peek_control(&self, index: u32) -> Option<&RunControl> {
        self.controls.as_ref()?.get(index)
    }

    /// Returns whether a running job was aborted.
    pub(super) fn is_aborted(&self, index: u32) -> bool {
        self.peek_control(index)
            .is_some_and(|control| control.abort)
    }

    /// Takes the controls of a run that ends, if there are any.
    #[inline]
    pub(super) fn take_control(&mut self, index: u32) -> Option<RunControl> {
        self.controls.as_mut()?.remove(index)
    }

    /// Returns the number of the job, and that of the run that it is at or waits for.
    pub(super) fn run(&self, index: u32) -> (JobId, u64) {
        let slot = self.get(index);
        match &slot.contents {
            Contents::Runnable(runnable) => next_run(&**runnable, slot.sequence),
            Contents::Row(_) => {
                let run = self.peek_control(index).and_then(|control| control.run);
                run.unwrap_or((JobId(slot.sequence.number()), 1))
            }
        }
    }

    pub(super) fn get(&self, index: u32) -> &Slot {
        self.look();
        let (block, page, index) = split(index);
        &self.blocks[block].pages[page].slots[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Slot {
        self.look();
        let (block, page, index) = split(index);
        &mut self.blocks[block].pages[page].slots[index as usize]
    }

    /// Returns whether the entry of a released job still speaks for it.
    pub(super) fn is_released(&self, entry: &Entry) -> bool {
        self.peek(entry.slot)
            .is_some_and(|slot| slot.is_released_by(entry))
    }

    /// Returns the slot of a released job, if the entry is live for it.
    pub(super) fn released_mut(&mut self, entry: &Entry) -> Option<&mut Slot> {
        self.peek_mut(entry.slot)
            .filter(|slot| slot.is_released_by(entry))
    }

    /// Returns the live entry of a waiting job.
    pub(super) fn waiting(&self, index: u32) -> Option<Entry> {
        let slot = self.peek(index)?;
        (slot.stage == Stage::Waiting).then(|| slot.entry(index))
    }

    /// Returns the slot of a waiting job, if the entry is live for it.
    pub(super) fn waiting_mut(&mut self, entry: &Entry) -> Option<&mut Slot> {
        self.peek_mut(entry.slot)
            .filter(|slot| slot.waits_by(entry))
    }

    /// Ends a job that was claimed or running. Its place may be given to another job from here on, and its slot is freed
    /// if no handle is left.
    pub(super) fn end_run(&mut self, number: u32, state: JobState) {
        self.look();
        let (block, page, index) = split(number);
        let found = &mut self.blocks[block].pages[page];
        found.forget_place(index);
        let slot = &mut found.slots[index as usize];
        slot.stage = Stage::Ended(state);
        if slot.handles == 0 {
            found.remove(index);
            self.vacated(block, page, 1);
        }
    }

    /// Frees the slot of a job that has ended.
    pub(super) fn remove(&mut self, index: u32) {
        let (block, page, index) = split(index);
        self.blocks[block].pages[page].remove(index);
        self.vacated(block, page, 1);
    }

    /// Takes a page out with all its jobs, if all of them wait, are due at `from` or later, are not rows of tables, and
    /// have no handle. So these need not be taken out one by one.
    pub(super) fn take_page(&mut self, number: usize, from: Timestamp) -> Option<Page> {
        let (block, page) = (number / BLOCK, number % BLOCK);
        let found = self.blocks.get_mut(block)?.pages.get_mut(page)?;
        if found.used == 0 || !found.slots.iter().all(|slot| slot.leaves_with_page(from)) {
            return None;
        }
        let taken = std::mem::take(found);
        self.vacated(block, page, taken.used as usize);
        Some(taken)
    }

    /// Records that `count` slots of a page have become vacant.
    #[inline]
    fn vacated(&mut self, number: usize, page: usize, count: usize) {
        let block = &mut self.blocks[number];
        block.roomy |= 1 << page;
        block.used -= count as u16;
        self.used -= count;
        if !block.listed {
            block.listed = true;
            block.below = self.roomy.replace(number as u32);
        }
        if block.pages[page].used == 0 {
            self.page_emptied(number, page);
        }
    }

    /// Gives up the storage of an empty page, and of its block or of all blocks if nothing else is in them. It is not
    /// freed here, under the lock, but later (`take_emptied`).
    #[inline(never)]
    fn page_emptied(&mut self, number: usize, page: usize) {
        let many = self.blocks.len() > 1;
        let block = &mut self.blocks[number];
        if self.used == 0 && many {
            let all = std::mem::take(&mut self.blocks);
            self.emptied.0.push(Storage::All(all));
            self.roomy = None;
        } else if block.used == 0 && block.pages.len() > 1 {
            // The block may be in the middle of the stack, so it keeps its link.
            let empty = Block {
                listed: true,
                below: block.below,
                ..Block::default()
            };
            let block = std::mem::replace(block, empty);
            self.emptied.0.push(Storage::Block(block));
        } else {
            let empty = &mut block.pages[page];
            if empty.slots.capacity() > KEPT {
                self.emptied.0.push(Storage::Page(std::mem::take(empty)));
            } else {
                empty.slots.clear();
                empty.vacant = NONE;
            }
        }
    }

    pub(super) fn has_emptied(&self) -> bool {
        !self.emptied.0.is_empty()
    }

    /// Takes the storage that has become empty since the last call, to be dropped after the lock.
    pub(super) fn take_emptied(&mut self) -> Emptied {
        std::mem::take(&mut self.emptied)
    }

    /// Returns how many chunks there are, for a walk that releases the lock between them.
    pub(super) fn chunks(&self) -> usize {
        self.blocks.len() * BLOCK * PAGE / CHUNK
    }

    /// Returns a number that is larger than that of every slot.
    pub(super) fn end(&self) -> u32 {
        (self.blocks.len() * BLOCK * PAGE) as u32
    }

    /// Returns the numbers of the slots in a chunk, vacant ones included.
    pub(super) fn chunk(&self, chunk: usize) -> impl Iterator<Item = u32> + use<> {
        let pages: [_; PAGES] = std::array::from_fn(|page| {
            let page = chunk * PAGES + page;
            let block = self.blocks.get(page / BLOCK);
            let found = block.and_then(|block| block.pages.get(page % BLOCK));
            let len = found.map_or(0, |page| page.slots.len());
            let start = (page * PAGE) as u32;
            start..start + len as u32
        });
        pages.into_iter().flatten()
    }

    /// Returns the slot of that number, if there is storage for it.
    pub(super) fn peek(&self, index: u32) -> Option<&Slot> {
        self.look();
        self.find(index)
    }

    fn find(&self, index: u32) -> Option<&Slot> {
        let (block, page, index) = split(index);
        let page = self.blocks.get(block)?.pages.get(page)?;
        page.slots.get(index as usize)
    }

    /// The same, to be changed.
    pub(super) fn peek_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.look();
        let (block, page, index) = split(index);
        let page = self.blocks.get_mut(block)?.pages.get_mut(page)?;
        page.slots.get_mut(index as usize)
    }

    /// Loads slots into the cache that are used next and lie far from each other. The processor fetches them all at the
    /// same time, instead of waiting for one after the other.
    pub(super) fn touch(&self, slots: impl Iterator<Item = u32>) {
        // A slot may lie in two lines of the cache, so a field at either end of it is read. `black_box` keeps the
        // compiler from leaving the reads out.
        let slots = slots.filter_map(|index| self.find(index));
        let wanted = slots.filter(|slot| slot.is_row() & slot.is_pending());
        std::hint::black_box(wanted.count());
    }

    /// Counts for the tests.
    fn look(&self) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
    }

    #[cfg(test)]
    pub(super) fn take_looks(&self) -> usize {
        self.looks.take()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::time::Duration;

    use super::super::call_site::{CallSites, JobKind};
    use super::*;

    fn slot(job: u64) -> Slot {
        Slot {
            contents: Contents::Row(None),
            deadline: Timestamp::NEVER,
            sequence: Sequence::first(job),
            handles: 0,
            stage: Stage::Running,
            call_site: CallSites::default().call_site(Location::caller(), JobKind::Once),
        }
    }

    #[test]
    fn a_slot_is_forty_bytes() {
        assert_eq!(std::mem::size_of::<Slot>(), 40);
    }

    #[test]
    fn the_entries_that_a_job_had_before_a_move_are_dead() {
        let mut slot = slot(1);
        waits(&mut slot, Timestamp::ALWAYS);
        let former = slot.entry(0);
        slot.release();
        assert!(slot.is_released_by(&former));
        slot.wait_anew();
        let present = slot.entry(0);
        assert!(!slot.waits_by(&former) && slot.waits_by(&present));
        slot.release();
        assert!(!slot.is_released_by(&former) && slot.is_released_by(&present));
    }

    #[test]
    fn a_removed_slot_is_used_again_before_new_ones() {
        let mut slots = Slab::default();
        let first = slots.insert(slot(1));
        let second = slots.insert(slot(2));
        slots.remove(first);
        assert_eq!(slots.insert(slot(3)), first);
        assert_eq!(slots.get(second).sequence, Sequence::first(2));
        assert!(!slots.has_emptied(), "its page has another");
    }

    #[test]
    fn a_run_that_is_only_aborted_is_still_the_first() {
        let (mut slots, numbers) = filled(1);
        let control = slots.control(numbers[0]).expect("it runs");
        control.abort = true;
        assert_eq!(slots.run(numbers[0]), (JobId(0), 1));
    }

    /// A slab of `jobs` jobs, and their numbers.
    fn filled(jobs: usize) -> (Slab, Vec<u32>) {
        let mut slots = Slab::default();
        let numbers = (0..jobs as u64).map(|job| slots.insert(slot(job)));
        let numbers = numbers.collect();
        (slots, numbers)
    }

    /// Returns for how many slots, and for how many pages, there is storage.
    fn kept(slots: &Slab) -> (usize, usize) {
        let pages = slots.blocks.iter().flat_map(|block| &block.pages);
        let kept = pages.map(|page| page.slots.capacity()).sum();
        let lists = slots.blocks.iter().map(|block| block.pages.capacity());
        (kept, lists.sum())
    }

    #[test]
    fn numbers_are_given_once_and_name_their_slots() {
        let (slots, numbers) = filled(3 * BLOCK * PAGE + 1);
        let jobs: Vec<u64> = numbers
            .iter()
            .map(|&n| slots.get(n).sequence.number())
            .collect();
        assert!(jobs.iter().copied().eq(0..numbers.len() as u64));
    }

    /// All that was freed is used again before anything new is made, in any order.
    #[test]
    fn all_room_is_found_again() {
        let (mut slots, numbers) = filled(4 * BLOCK * PAGE);
        let freed: Vec<u32> = (0..numbers.len())
            .map(|at| numbers[at * 7919 % numbers.len()])
            .filter(|number| number % 3 != 0)
            .collect();
        freed.iter().for_each(|&number| slots.remove(number));
        let mut again: Vec<u32> = freed.iter().map(|_| slots.insert(slot(0))).collect();
        let mut freed = freed;
        freed.sort_unstable();
        again.sort_unstable();
        assert_eq!(again, freed);
        assert_eq!(slots.insert(slot(0)), numbers.len() as u32, "it was full");
    }

    /// In the stack of blocks with room lie others below it, in whatever order they came.
    #[test]
    fn a_block_that_is_emptied_hides_none_below_it() {
        let (mut slots, numbers) = filled(3 * BLOCK * PAGE);
        slots.remove(numbers[0]);
        let emptied = &numbers[BLOCK * PAGE..2 * BLOCK * PAGE];
        emptied.iter().for_each(|&number| slots.remove(number));
        let end = slots.end();
        (0..=emptied.len()).for_each(|_| {
            slots.insert(slot(0));
        });
        assert_eq!(slots.end(), end, "all of it was used again");
    }

    #[test]
    fn one_survivor_keeps_one_page_and_one_list_of_pages() {
        for survivor in [0, PAGE, BLOCK * PAGE + 7, 10 * BLOCK * PAGE - 1] {
            let (mut slots, numbers) = filled(10 * BLOCK * PAGE);
            for &number in numbers.iter().filter(|&&n| n != numbers[survivor]) {
                slots.remove(number);
            }
            assert_eq!(kept(&slots), (PAGE, BLOCK), "survivor {survivor}");
            let found = slots.get(numbers[survivor]);
            assert_eq!(found.sequence, Sequence::first(survivor as u64));
            let again = slots.insert(slot(0));
            assert!(
                again < (10 * BLOCK * PAGE) as u32,
                "emptied pages are used again"
            );
        }
    }

    #[test]
    fn a_survivor_keeps_at_most_four_kib() {
        let page = PAGE * size_of::<Slot>();
        let list = BLOCK * size_of::<Page>();
        let running = PAGE * size_of::<Option<Arc<AwaitingJob>>>();
        // The malloc's own part of each of the three is 16 bytes.
        let all = page + list + running + 3 * 16;
        assert!(all <= 4096, "{page} + {list} + {running} bytes");
    }

    #[test]
    fn nothing_is_kept_after_the_last_of_many() {
        let (mut slots, numbers) = filled(3 * BLOCK * PAGE);
        for number in numbers {
            slots.remove(number);
        }
        assert_eq!((slots.blocks.capacity(), slots.roomy), (0, None));
    }

    #[test]
    fn a_few_at_a_time_keep_their_storage_and_many_do_not() {
        for (jobs, expected) in [(KEPT, KEPT), (KEPT + 1, 0), (PAGE + 1, 0)] {
            let (mut slots, numbers) = filled(jobs);
            for number in numbers {
                slots.remove(number);
            }
            assert_eq!(kept(&slots).0, expected, "{jobs} jobs");
        }
    }

    #[test]
    fn what_has_become_empty_is_handed_out_to_be_dropped() {
        let (mut slots, numbers) = filled(2 * BLOCK * PAGE);
        let slots_of = |emptied: Emptied| -> Vec<usize> {
            let all = emptied.0.into_iter();
            let sizes = all.map(|storage| match storage {
                Storage::Page(page) => page.slots.capacity(),
                Storage::Block(block) => block.pages.len() * PAGE,
                Storage::All(blocks) => blocks.len() * BLOCK * PAGE,
            });
            sizes.collect()
        };
        let mut numbers = numbers.into_iter();
        let mut remove = |slots: &mut Slab, count| {
            numbers.by_ref().take(count).for_each(|n| slots.remove(n));
        };
        remove(&mut slots, PAGE - 1);
        assert_eq!(slots_of(slots.take_emptied()), []);
        remove(&mut slots, 1);
        assert_eq!(slots_of(slots.take_emptied()), [PAGE]);
        remove(&mut slots, (BLOCK - 1) * PAGE);
        let spare = slots_of(slots.take_emptied());
        assert_eq!(
            (spare.len(), spare.last()),
            (BLOCK - 1, Some(&(BLOCK * PAGE)))
        );
        remove(&mut slots, BLOCK * PAGE);
        let spare = slots_of(slots.take_emptied());
        assert_eq!(spare.last(), Some(&(2 * BLOCK * PAGE)));
    }

    /// Makes the job of a slot wait until `at`, without a handle.
    fn waits(slot: &mut Slot, at: Timestamp) {
        slot.put_runnable(Box::new(async {}), at, slot.sequence);
    }

    /// Also if some of its slots are vacant. Its numbers are used again.
    #[test]
    fn a_page_leaves_whole_if_all_of_its_jobs_wait_and_have_no_handle() {
        let from = Timestamp::ALWAYS.after(Duration::from_secs(1));
        let plain: fn(&mut Slot) = |_| ();
        let changes = [
            (plain, true),
            (|slot| slot.handles = 1, false),
            (|slot| slot.deadline = Timestamp::ALWAYS, false),
            (|slot| slot.release(), false),
            (|slot| slot.contents = Contents::Row(None), false),
        ];
        for (change, leaves) in changes {
            let (mut slots, numbers) = filled(3 * PAGE);
            for &number in &numbers {
                waits(slots.get_mut(number), from);
            }
            let gone = numbers[PAGE + 7];
            let ended = Stage::Ended(JobState::Cancelled);
            assert!(slots.get_mut(gone).take_contents(ended).is_some());
            slots.remove(gone);
            change(slots.get_mut(numbers[PAGE + 9]));
            let taken = slots.take_page(1, from);
            assert_eq!(taken.is_some(), leaves);
            let Some(page) = taken else { continue };
            assert_eq!((page.len(), slots.used), (PAGE - 1, 2 * PAGE));
            let ids = page.into_jobs().map(|job| job.id.0 as usize);
            assert!(ids.eq((PAGE..2 * PAGE).filter(|&id| id != PAGE + 7)));
            assert!(slots.take_page(1, from).is_none(), "it is empty");
            assert!(slots.take_page(BLOCK, from).is_none(), "there is none");
            let again: Vec<u32> = (0..PAGE as u64)
                .map(|job| slots.insert(slot(job)))
                .collect();
            assert_eq!(again, numbers[PAGE..2 * PAGE]);
        }
    }

    #[test]
    fn the_last_pages_that_leave_leave_nothing() {
        let (mut slots, numbers) = filled(2 * BLOCK * PAGE);
        for number in numbers {
            waits(slots.get_mut(number), Timestamp::ALWAYS);
        }
        for page in 0..2 * BLOCK {
            assert!(slots.take_page(page, Timestamp::ALWAYS).is_some());
        }
        assert_eq!(
            (slots.blocks.capacity(), slots.roomy, slots.used),
            (0, None, 0)
        );
        assert_eq!(slots.insert(slot(0)), 0);
    }

    #[test]
    fn the_chunks_of_a_walk_are_all_slots_once() {
        let (mut slots, numbers) = filled(BLOCK * PAGE + CHUNK + 3);
        for chunk in 0..slots.chunks() {
            assert!(slots.chunk(chunk).count() <= CHUNK, "chunk {chunk}");
        }
        let walk = |slots: &Slab| {
            (0..slots.chunks())
                .flat_map(|chunk| slots.chunk(chunk))
                .collect::<Vec<_>>()
        };
        assert_eq!(walk(&slots), numbers);
        for &number in &numbers[PAGE..2 * PAGE] {
            slots.remove(number);
        }
        let rest = [&numbers[..PAGE], &numbers[2 * PAGE..]].concat();
        assert_eq!(walk(&slots), rest, "an emptied page is passed over");
        assert_eq!(slots.chunk(slots.chunks()).count(), 0);
    }
}
