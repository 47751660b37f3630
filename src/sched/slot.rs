//! Where jobs are kept: numbered slots that give their storage back.

use std::task::Waker;

use super::body::Body;
use super::job::{JobId, JobState};
use super::origin::Origin;
use super::queue::{Entry, Stamp};
use crate::ground::timeline::Tick;

/// One job, from its submission until it has ended and no handle is left.
pub(super) struct Slot {
    held: Held,
    /// When the job is due; while it runs, when it was.
    pub(super) deadline: Tick,
    /// The stamp of the one entry that speaks for the job.
    pub(super) stamp: Stamp,
    /// How many `JobHandle`s there are; in a vacant slot, the next vacant one of the chunk.
    pub(super) handles: u32,
    stage: Stage,
    pub(super) origin: Origin,
}

/// What a slot holds: two kinds of box in two words. The stage says which.
enum Held {
    Body(Box<dyn Body>),
    /// Of a running job; allocated when somebody wants something of it.
    Control(Option<Box<Control>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Vacant,
    /// Has not started, and has a body.
    Waiting,
    /// The same; due, and handed to the runners.
    Released,
    /// A runner has the body.
    Running,
    Ended(JobState),
}

/// What is asked of a running job.
#[derive(Default)]
pub(super) struct Control {
    /// Wakes the task that the run lives in, once it has one to itself.
    pub(super) waker: Option<Waker>,
    /// Stop at the next await; no run after this one.
    pub(super) abort: bool,
    /// Somebody was told that there is no run after this one.
    pub(super) cancelled: bool,
    /// Run again at this instant at the latest.
    pub(super) again: Option<Tick>,
}

impl Control {
    pub(super) fn is_last_run(&self) -> bool {
        self.abort || self.cancelled
    }
}

impl Slot {
    pub(super) fn new(body: Box<dyn Body>, deadline: Tick, stamp: Stamp, origin: Origin) -> Slot {
        Slot {
            held: Held::Body(body),
            deadline,
            stamp,
            handles: 1,
            stage: Stage::Waiting,
            origin,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn state(&self) -> JobState {
        match self.stage {
            Stage::Waiting | Stage::Released => JobState::Pending,
            Stage::Running => JobState::Running,
            Stage::Ended(state) => state,
            Stage::Vacant => unreachable!("a handle keeps its slot"),
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Released)
    }

    pub(super) fn release(&mut self) {
        self.stage = Stage::Released;
    }

    /// Takes the body of a pending job, which goes on to `stage`.
    pub(super) fn take_body(&mut self, stage: Stage) -> Option<Box<dyn Body>> {
        if !self.is_pending() {
            return None;
        }
        self.stage = stage;
        match std::mem::replace(&mut self.held, Held::Control(None)) {
            Held::Body(body) => Some(body),
            Held::Control(_) => unreachable!("a pending job has a body"),
        }
    }

    /// A running job becomes pending again.
    pub(super) fn put_body(&mut self, body: Box<dyn Body>, deadline: Tick) {
        self.held = Held::Body(body);
        self.deadline = deadline;
        self.wait_anew();
    }

    /// Waits from now on under a new entry: the former one is dead.
    pub(super) fn wait_anew(&mut self) {
        self.stamp = self.stamp.renewed();
        self.stage = Stage::Waiting;
    }

    pub(super) fn end(&mut self, state: JobState) {
        self.stage = Stage::Ended(state);
    }

    /// The controls of a running job.
    pub(super) fn control(&mut self) -> Option<&mut Control> {
        match (&mut self.held, self.stage) {
            (Held::Control(control), Stage::Running) => Some(control.get_or_insert_default()),
            _ => None,
        }
    }

    /// The controls of a run that ends, if there are any.
    pub(super) fn take_control(&mut self) -> Option<Box<Control>> {
        match &mut self.held {
            Held::Control(control) => control.take(),
            Held::Body(_) => None,
        }
    }

    /// An entry speaks for a job at one stage: in the heap while it waits for its time, and among the
    /// released ones after it.
    fn is_spoken_for_by(&self, entry: &Entry, stage: Stage) -> bool {
        self.stage == stage && self.stamp == entry.stamp
    }
}

/// Slots in a chunk. A chunk is the unit in which storage is given back.
const CHUNK: usize = 512;
/// A chunk that is no larger than this keeps its storage when it empties, so that a group with one
/// job at a time does not allocate for each.
const KEPT: usize = 16;
const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Slots {
    chunks: Vec<Chunk>,
    /// Chunks with room, the last one first. A chunk is listed at most once.
    roomy: Vec<u32>,
    used: usize,
}

struct Chunk {
    slots: Vec<Slot>,
    /// The first vacant slot.
    vacant: u32,
    used: u32,
    listed: bool,
}

impl Chunk {
    /// `whole` makes room for a whole chunk at once.
    fn insert(&mut self, slot: Slot, whole: bool) -> u32 {
        self.used += 1;
        let index = self.vacant;
        if index == NONE {
            if whole && self.slots.capacity() == 0 {
                self.slots.reserve_exact(CHUNK);
            }
            self.slots.push(slot);
            return self.slots.len() as u32 - 1;
        }
        let place = &mut self.slots[index as usize];
        self.vacant = place.handles;
        *place = slot;
        index
    }

    fn is_full(&self) -> bool {
        self.vacant == NONE && self.slots.len() == CHUNK
    }
}

impl Slots {
    pub(super) fn insert(&mut self, slot: Slot) -> u32 {
        let chunk = match self.roomy.last() {
            Some(&chunk) => chunk,
            None => {
                let chunk = u32::try_from(self.chunks.len())
                    .ok()
                    .filter(|&chunk| chunk < NONE / CHUNK as u32)
                    .expect("schedgroup: more than four billion jobs at once");
                self.chunks.push(Chunk {
                    slots: Vec::new(),
                    vacant: NONE,
                    used: 0,
                    listed: true,
                });
                self.roomy.push(chunk);
                chunk
            }
        };
        let whole = self.chunks.len() > 1;
        let place = &mut self.chunks[chunk as usize];
        let index = place.insert(slot, whole);
        if place.is_full() {
            place.listed = false;
            self.roomy.pop();
        }
        self.used += 1;
        chunk * CHUNK as u32 + index
    }

    pub(super) fn get(&self, index: u32) -> &Slot {
        &self.chunks[index as usize / CHUNK].slots[index as usize % CHUNK]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / CHUNK].slots[index as usize % CHUNK]
    }

    /// Is it still this job's slot?
    pub(super) fn is_held_by(&self, index: u32, id: JobId) -> bool {
        self.peek(index)
            .is_some_and(|slot| slot.stage != Stage::Vacant && slot.stamp.job() == id.0)
    }

    /// Does the entry of a released job still speak for it?
    pub(super) fn is_released(&self, entry: &Entry) -> bool {
        self.peek(entry.slot)
            .is_some_and(|slot| slot.is_spoken_for_by(entry, Stage::Released))
    }

    /// The entry of a job that waits for its time.
    pub(super) fn waiting(&self, index: u32) -> Option<Entry> {
        let slot = self.peek(index)?;
        (slot.stage == Stage::Waiting).then_some(Entry {
            at: slot.deadline,
            stamp: slot.stamp,
            slot: index,
        })
    }

    /// The slot of a job that waits for its time, if the entry speaks for it.
    pub(super) fn waiting_mut(&mut self, entry: &Entry) -> Option<&mut Slot> {
        self.peek_mut(entry.slot)
            .filter(|slot| slot.is_spoken_for_by(entry, Stage::Waiting))
    }

    /// Frees a slot; its job has ended and dropped its body.
    pub(super) fn remove(&mut self, index: u32) {
        let chunk = index / CHUNK as u32;
        let place = &mut self.chunks[chunk as usize];
        let inner = index % CHUNK as u32;
        let freed = &mut place.slots[inner as usize];
        freed.stage = Stage::Vacant;
        freed.handles = place.vacant;
        place.vacant = inner;
        place.used -= 1;
        if place.used == 0 {
            place.vacant = NONE;
            if place.slots.capacity() > KEPT {
                place.slots = Vec::new();
            } else {
                place.slots.clear();
            }
        }
        if !place.listed {
            place.listed = true;
            self.roomy.push(chunk);
        }
        self.used -= 1;
        if self.used == 0 && self.chunks.len() > 1 {
            *self = Slots::default();
        }
    }

    /// How many chunks there are, for a walk that lets go of the lock between them.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Every slot has a smaller number.
    pub(super) fn end(&self) -> u32 {
        self.chunk(self.chunks.len().saturating_sub(1)).end
    }

    /// The numbers of the slots in a chunk.
    pub(super) fn chunk(&self, chunk: usize) -> std::ops::Range<u32> {
        let len = self.chunks.get(chunk).map_or(0, |chunk| chunk.slots.len());
        let start = (chunk * CHUNK) as u32;
        start..start + len as u32
    }

    fn peek(&self, index: u32) -> Option<&Slot> {
        self.chunks
            .get(index as usize / CHUNK)?
            .slots
            .get(index as usize % CHUNK)
    }

    /// The slot of that number, if the walk still finds it.
    pub(super) fn peek_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.chunks
            .get_mut(index as usize / CHUNK)?
            .slots
            .get_mut(index as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::super::origin::{Course, Origins};
    use super::*;

    fn slot(job: u64) -> Slot {
        Slot {
            held: Held::Control(None),
            deadline: Tick::NEVER,
            stamp: Stamp::first(job),
            handles: 0,
            stage: Stage::Running,
            origin: Origins::default().origin(Location::caller(), Course::Once),
        }
    }

    #[test]
    fn a_slot_is_forty_bytes() {
        assert_eq!(std::mem::size_of::<Slot>(), 40);
    }

    #[test]
    fn a_removed_slot_is_used_again_before_new_ones() {
        let mut slots = Slots::default();
        let first = slots.insert(slot(1));
        let second = slots.insert(slot(2));
        slots.remove(first);
        assert_eq!(slots.insert(slot(3)), first);
        assert_eq!(slots.get(second).stamp, Stamp::first(2));
    }

    #[test]
    fn an_emptied_chunk_gives_its_storage_back_though_others_are_in_use() {
        let mut slots = Slots::default();
        let numbers: Vec<u32> = (0..10 * CHUNK as u64)
            .map(|job| slots.insert(slot(job)))
            .collect();
        let (last, rest) = numbers.split_last().unwrap();
        for &number in rest {
            slots.remove(number);
        }
        let kept: usize = slots
            .chunks
            .iter()
            .map(|chunk| chunk.slots.capacity())
            .sum();
        assert_eq!(kept, CHUNK);
        assert_eq!(slots.get(*last).stamp, Stamp::first(10 * CHUNK as u64 - 1));
        assert!(
            slots.insert(slot(0)) < 10 * CHUNK as u32,
            "emptied chunks are used again"
        );
    }

    #[test]
    fn nothing_is_kept_after_the_last_of_many() {
        let mut slots = Slots::default();
        let numbers: Vec<u32> = (0..3 * CHUNK as u64)
            .map(|job| slots.insert(slot(job)))
            .collect();
        for number in numbers {
            slots.remove(number);
        }
        assert_eq!((slots.chunks.capacity(), slots.roomy.capacity()), (0, 0));
    }

    #[test]
    fn a_full_chunk_is_not_offered() {
        let mut slots = Slots::default();
        let numbers: Vec<u32> = (0..2 * CHUNK as u64 + 1)
            .map(|job| slots.insert(slot(job)))
            .collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), numbers.len());
    }
}
