//! A slab of jobs: numbered slots that give their storage back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::call_site::CallSite;
use crate::common::time::Timestamp;
use crate::sched::awaiting::AwaitingJob;
use crate::sched::job::JobState;
use crate::sched::queue::{Entry, Sequence};
use crate::sched::runnable::{RowKey, Runnable, TableId};

/// One job, from its submission until it has ended and no handle is left.
pub(super) struct Slot {
    // All under the group's lock. The runnable leaves the slot when it is claimed or dropped.
    contents: Contents,
    /// The deadline; while the job runs, that of this run.
    pub(super) deadline: Timestamp,
    /// The sequence of the one entry that speaks for the job.
    pub(super) sequence: Sequence,
    /// The number of `JobHandle`s, none for the row of a table; in a vacant slot, the next vacant one of the page (an
    /// intrusive free list).
    pub(super) handles: u32,
    stage: Stage,
    pub(super) call_site: CallSite,
}

/// The contents of a slot, in two words.
pub(super) enum Contents {
    Runnable(Box<dyn Runnable>),
    /// A job that is the row of a table; `None` once a job of either kind has started.
    Row(Option<RowKey>),
}

/// The state machine of a slot.
///
/// ```text
///                  reset                recalled
///            ┌───────────────┐      ┌────────────────┐
///   insert   ▼      due      │      ▼    claimed     │      awaits
///  ───────▶ Waiting ──────▶ Released ───────────▶ Claimed ───────────▶ Running
///            │ ▲ ▲            │                   │ │ │                 │  │
///            │ │ │ unblocked, │     may not start │ │ │                 │  │
///            │ │ └────────────│──── Blocked ◀─────┘ │ │                 │  │
///            │ │   or reset   │        │            │ │   runs again    │  │
///            │ └──────────────│────────│────────────│─┴─────────────────┘  │
///            │ cancelled      │        │            │ ended                │ ended
///            ▼                ▼        ▼            ▼                      ▼
///          Ended ◀─────────────────────────────────────────────────────────
///            │ the last handle is dropped; at once for the row of a table, which has none
///            ▼
///          Vacant
/// ```
///
/// A reset to earlier keeps a waiting job at its stage, under a new sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Vacant,
    /// Has not started, and has a runnable.
    Waiting,
    /// The same, and due: it has an entry in the ready queue.
    Released,
    /// The same; due, and no entry speaks for it until its table unblocks it.
    Blocked,
    /// The runnable is in the local queue of a worker, or at its first poll.
    Claimed,
    /// The job has awaited. It is at its place, or its end is not recorded yet.
    Running,
    Ended(JobState),
}

/// The requests to a running job.
#[derive(Default)]
pub(super) struct RunControl {
    /// Stop at the next await; no run after this one.
    pub(super) abort: bool,
    /// A cancel has returned `true`: there is no run after this one.
    pub(super) cancelled: bool,
    /// Run again at this instant at the latest.
    pub(super) again: Option<Timestamp>,
    /// The number of the run, of a series.
    pub(super) run: u64,
}

impl RunControl {
    pub(super) fn is_last_run(&self) -> bool {
        self.abort || self.cancelled
    }
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

    pub(super) fn release(&mut self) {
        self.stage = Stage::Released;
    }

    /// The job could not be finished at its first poll.
    pub(super) fn set_running(&mut self) {
        self.stage = Stage::Running;
    }

    /// A claimed job has not started, and is pending again, at `stage`.
    pub(super) fn put_back(&mut self, contents: Contents, stage: Stage) {
        self.contents = contents;
        self.stage = stage;
    }

    /// Takes the contents of a pending job, which changes to `stage`.
    pub(super) fn take_contents(&mut self, stage: Stage) -> Option<Contents> {
        if !self.is_pending() {
            return None;
        }
        self.stage = stage;
        Some(std::mem::replace(&mut self.contents, Contents::Row(None)))
    }

    /// Returns how many runs of a series have begun, if the job has not started.
    fn runs(&self) -> Option<u64> {
        match &self.contents {
            Contents::Runnable(runnable) => Some(runnable.runs()),
            Contents::Row(_) => None,
        }
    }

    /// The slot of the row of a table that waits for its time is another's from here on, who is due later or at the
    /// same time. Returns the table of the former, or `None` if it is no such slot.
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
        // As with a move to later: the entry is found, and queued anew, when its time comes.
        self.contents = Contents::Row(Some(key));
        self.deadline = deadline;
        self.sequence = sequence;
        self.call_site = call_site;
        Some(former.table)
    }

    /// A running job becomes pending again.
    pub(super) fn put_runnable(&mut self, runnable: Box<dyn Runnable>, deadline: Timestamp) {
        self.contents = Contents::Runnable(runnable);
        self.deadline = deadline;
        self.wait_anew();
    }

    /// Waits from now on under a new entry: the former one is dead.
    pub(super) fn wait_anew(&mut self) {
        // The job keeps its number, and so its position among equal deadlines.
        self.sequence = self.sequence.renewed();
        self.stage = Stage::Waiting;
    }

    pub(super) fn end(&mut self, state: JobState) {
        self.stage = Stage::Ended(state);
    }

    /// Returns the entry that speaks for the job, which is in the slot `number`.
    pub(super) fn entry(&self, number: u32) -> Entry {
        Entry {
            at: self.deadline,
            sequence: self.sequence,
            slot: number,
        }
    }

    /// Returns whether the job comes just where the entry says.
    pub(super) fn comes_at(&self, entry: &Entry) -> bool {
        (self.deadline, self.sequence) == (entry.at, entry.sequence)
    }

    /// An entry speaks for a job at one stage: in the heap while it waits for its time, and among the
    /// released ones after it.
    fn is_spoken_for_by(&self, entry: &Entry, stage: Stage) -> bool {
        let inherited = stage == Stage::Waiting && self.sequence.is_inherited();
        self.stage == stage && (self.sequence == entry.sequence || inherited)
    }
}

/// Most groups have none, and an idle group is to be small.
type Controls = Option<Box<BTreeMap<u32, RunControl>>>;

// Two units, with one name each. A *page* is a unit of storage, below. A *chunk* is the unit of a walk: what is looked
// at before the lock is released for others.

/// Slots in a chunk.
pub(in crate::sched) const CHUNK: usize = 512;
/// Slots in a page, the unit in which storage is given back: a job that outlives all others of its page
/// keeps 2.5 KiB for itself.
const PAGE: usize = 64;
/// Pages in a block, the unit in which lists of pages are given back.
const BLOCK: usize = 16;
/// A page that is no larger than this keeps its storage when it empties, so that a group with one
/// job at a time does not allocate for each.
const KEPT: usize = 16;
const NONE: u32 = u32::MAX;

/// A slab of two levels: blocks of pages of slots. Where a slot is follows from its number, so nothing that is
/// in use can be moved; what is empty is taken out, on either level.
// Free storage is found without a search, on three levels:
//
// - Blocks with room are in a linked stack: `Slab::roomy`, then `Block::below`. A slot is always taken from the
//   block at the top, so a block that becomes full is at the top, and is popped. One that gets room again, anywhere,
//   is pushed, unless it is `listed` already.
// - Pages with room of one block are bits of a word, `Block::roomy`.
// - Vacant slots of one page are an intrusive free list: `Page::vacant`, then `Slot::handles`.
//
// So to take or to free a slot costs the same however many there are, and grows none of these lists. An empty page
// or block is exchanged for one without storage under the same number, and keeps its bit or its position in the
// stack.
#[derive(Default)]
pub(super) struct Slab {
    blocks: Vec<Block>,
    /// The top of a stack of the blocks with room. It is linked, so that to free a slot allocates nothing.
    roomy: Option<u32>,
    used: usize,
    /// The requests to running jobs, by slot: of few, and it gives its storage back.
    controls: Controls,
    /// Empty storage, until it is dropped after the lock.
    emptied: Emptied,
    /// The number of looks at slots.
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
    /// Whether it is in the stack of those with room, where it is at most once.
    listed: bool,
    /// The next one below it in there.
    below: Option<u32>,
}

struct Page {
    /// At most [`PAGE`].
    slots: Vec<Slot>,
    /// The first vacant slot.
    vacant: u32,
    used: u32,
    /// Where the jobs are that have awaited, by slot; empty as long as none has.
    running: Vec<Option<Arc<AwaitingJob>>>,
}

/// Storage that is empty, to be dropped: freeing much of it can take an allocator long.
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
    /// `whole` makes room for a whole page at once.
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
}

impl Block {
    /// The number of a page with room.
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

/// The numbers of a slot's block, of its page therein, and of its own therein.
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
                // No block has room, so the stack is empty, and the new block is all of it.
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
        // It is the top of the stack, since the slot was taken from there.
        if block.is_full() {
            block.listed = false;
            self.roomy = block.below.take();
        }
        block.used += 1;
        self.used += 1;
        (number * BLOCK as u32 + page as u32) * PAGE as u32 + index
    }

    /// Notes where a job is found while it runs.
    pub(super) fn set_place(&mut self, index: u32, place: Arc<AwaitingJob>) {
        let (block, page, index) = split(index);
        self.blocks[block].pages[page].set_place(index, place);
    }

    pub(super) fn place(&self, index: u32) -> Option<&Arc<AwaitingJob>> {
        let (block, page, index) = split(index);
        let page = self.blocks.get(block)?.pages.get(page)?;
        page.running.get(index as usize)?.as_ref()
    }

    pub(super) fn take_place(&mut self, index: u32) -> Option<Arc<AwaitingJob>> {
        let (block, page, index) = split(index);
        let running = &mut self.blocks[block].pages[page].running;
        running.get_mut(index as usize)?.take()
    }

    /// The controls of a running job, which come to be by this.
    pub(super) fn control(&mut self, index: u32) -> Option<&mut RunControl> {
        let runs = matches!(self.get(index).stage, Stage::Claimed | Stage::Running);
        runs.then(|| {
            let controls = self.controls.get_or_insert_default();
            controls.entry(index).or_default()
        })
    }

    /// A claimed job of a series is about to begin that run.
    pub(super) fn begin_run(&mut self, index: u32, run: u64) {
        if let Some(control) = self.control(index) {
            control.run = run;
        }
    }

    fn peek_control(&self, index: u32) -> Option<&RunControl> {
        self.controls.as_ref()?.get(&index)
    }

    /// Returns whether a running job is to be stopped.
    pub(super) fn is_aborted(&self, index: u32) -> bool {
        self.peek_control(index)
            .is_some_and(|control| control.abort)
    }

    /// The controls of a run that ends, if there are any.
    pub(super) fn take_control(&mut self, index: u32) -> Option<RunControl> {
        self.controls.as_mut()?.remove(&index)
    }

    /// The number of the run that the job is at, or waits for.
    pub(super) fn run(&self, index: u32) -> u64 {
        match self.get(index).runs() {
            Some(runs) => runs + 1,
            // Only a series has the number of its run there, which is 1 or more.
            None => self
                .peek_control(index)
                .map_or(1, |control| control.run.max(1)),
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
            .is_some_and(|slot| slot.is_spoken_for_by(entry, Stage::Released))
    }

    /// The entry of a job that waits for its time.
    pub(super) fn waiting(&self, index: u32) -> Option<Entry> {
        let slot = self.peek(index)?;
        (slot.stage == Stage::Waiting).then(|| slot.entry(index))
    }

    /// The slot of a job that waits for its time, if the entry speaks for it.
    pub(super) fn waiting_mut(&mut self, entry: &Entry) -> Option<&mut Slot> {
        self.peek_mut(entry.slot)
            .filter(|slot| slot.is_spoken_for_by(entry, Stage::Waiting))
    }

    /// Frees a slot; its job has ended and dropped its runnable.
    pub(super) fn remove(&mut self, index: u32) {
        let (number, page, index) = split(index);
        let many = self.blocks.len() > 1;
        let block = &mut self.blocks[number];
        block.pages[page].remove(index);
        block.roomy |= 1 << page;
        block.used -= 1;
        self.used -= 1;
        if !block.listed {
            block.listed = true;
            block.below = self.roomy.replace(number as u32);
        }
        // Emptied storage is handed out (`take_emptied`), not freed here: an allocator may take its time.
        if self.used == 0 && many {
            let all = std::mem::take(&mut self.blocks);
            self.emptied.0.push(Storage::All(all));
            self.roomy = None;
        } else if block.used == 0 && block.pages.len() > 1 {
            // It may be in the middle of the stack, so it keeps its link.
            let empty = Block {
                listed: true,
                below: block.below,
                ..Block::default()
            };
            let block = std::mem::replace(block, empty);
            self.emptied.0.push(Storage::Block(block));
        } else if block.pages[page].used == 0 {
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

    /// Returns how many chunks there are, for a walk that lets go of the lock between them.
    pub(super) fn chunks(&self) -> usize {
        self.blocks.len() * BLOCK * PAGE / CHUNK
    }

    /// Returns a number that is larger than that of every slot.
    pub(super) fn end(&self) -> u32 {
        (self.blocks.len() * BLOCK * PAGE) as u32
    }

    /// The numbers of the slots in a chunk.
    pub(super) fn chunk(&self, chunk: usize) -> impl Iterator<Item = u32> + use<> {
        const PAGES: usize = CHUNK / PAGE;
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

    /// The slot of that number, if there is one.
    pub(super) fn peek(&self, index: u32) -> Option<&Slot> {
        self.look();
        self.find(index)
    }

    fn find(&self, index: u32) -> Option<&Slot> {
        let (block, page, index) = split(index);
        let page = self.blocks.get(block)?.pages.get(page)?;
        page.slots.get(index as usize)
    }

    /// The slot of that number, if the walk still finds it.
    pub(super) fn peek_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.look();
        let (block, page, index) = split(index);
        let page = self.blocks.get_mut(block)?.pages.get_mut(page)?;
        page.slots.get_mut(index as usize)
    }

    /// Looks at slots that are wanted next and lie far from each other: a processor waits for the lines of memory of
    /// all of them at the same time.
    pub(super) fn touch(&self, slots: impl Iterator<Item = u32>) {
        // A slot may lie in two lines, so that both ends of it are looked at. The compiler cannot know why.
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
        assert_eq!(slots.run(numbers[0]), 1);
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
            .map(|&n| slots.get(n).sequence.job())
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
