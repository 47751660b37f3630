//! The queues per key, and what may start next; pure: it is told `now`, in nanoseconds.

mod lane;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use hashbrown::HashTable;

pub(crate) use self::lane::{Item, Key, Lane, Returned};
use self::lane::{NONE, Past, fold, unfold};
use crate::gcra::Bucket;
use crate::rate::Rate;
use crate::retry::Tries;

/// What a dispatcher keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) per_key: Option<Rate>,
    pub(crate) overall: Option<Rate>,
    /// At most this many of one key run at a time.
    pub(crate) in_flight: u32,
    /// At most this many run at a time.
    pub(crate) max_running: usize,
}

/// Never, as an instant.
pub(crate) const NEVER: u64 = u64::MAX;

/// Fewer keys than that are not worth a sweep.
const FEW: usize = 64;

/// Names the lane of a key for as long as something of it is queued, delayed or running, or as long as the lock is
/// held that it was looked up under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneId(u32);

/// The entry of a lane with work and a free slot.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    /// When the limits of its key let it start, or earlier.
    at: u64,
    /// In the order in which heads came up. It is the entry's name too: a lane whose entry has another number has
    /// left this one behind.
    number: u32,
    lane: LaneId,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        // The greatest of a heap is the one that starts first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Work that comes again at an instant; ordered by it, and then by when it came.
struct Delayed<T> {
    at: u64,
    number: u64,
    lane: LaneId,
    returned: Returned<T>,
}

impl<T> PartialEq for Delayed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Delayed<T> {}

impl<T> PartialOrd for Delayed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Delayed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The greatest of a heap is the one that comes first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Work that starts now.
pub(crate) struct Started<K, T> {
    pub(crate) lane: LaneId,
    pub(crate) key: Arc<K>,
    pub(crate) item: Item<T>,
    /// The attempts before, if there were any.
    pub(crate) tries: Option<Box<Tries>>,
    /// The exact instant at which it could start.
    pub(crate) at: u64,
    /// When it did.
    pub(crate) now: u64,
}

/// Work that will not start.
pub(crate) struct Left<K, T> {
    pub(crate) key: Arc<K>,
    pub(crate) item: Item<T>,
    pub(crate) tries: Option<Box<Tries>>,
}

/// Counts of all lanes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) started: u64,
    pub(crate) returned: u64,
}

/// Counts and instants of one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneCounts {
    pub(crate) queued: usize,
    pub(crate) delayed: usize,
    pub(crate) running: usize,
    pub(crate) started: u64,
    /// Nothing starts before it; it may have passed.
    pub(crate) not_before: u64,
    /// When its own limits let its head start.
    pub(crate) next: Option<u64>,
}

/// A lane for each key, and the instants at which their heads may start.
pub(crate) struct Lanes<K, T> {
    limits: Limits,
    overall: Bucket,
    by_key: HashTable<LaneId>,
    lanes: Vec<Option<Lane<K, T>>>,
    free: Vec<LaneId>,
    heads: BinaryHeap<Head>,
    delayed: BinaryHeap<Delayed<T>>,
    /// The last number of an entry.
    entries: u32,
    /// The last number of delayed work.
    delays: u64,
    counts: Counts,
    /// The number of calls until the lanes are swept for idle ones.
    until_sweep: usize,
}

/// What may start next.
struct Candidate {
    lane: LaneId,
    /// The exact instant.
    at: u64,
    /// When to look again: that instant, or later if a period is full.
    when: u64,
}

/// By how much to grow what is full: an eighth, since twice the room would be half of the memory.
fn growth(len: usize) -> usize {
    len / 8 + 4
}

impl<K, T> Lanes<K, T> {
    pub(crate) fn new(limits: Limits) -> Lanes<K, T> {
        Lanes {
            limits,
            overall: Bucket::default(),
            by_key: HashTable::new(),
            lanes: Vec::new(),
            free: Vec::new(),
            heads: BinaryHeap::new(),
            delayed: BinaryHeap::new(),
            entries: NONE,
            delays: 0,
            counts: Counts::default(),
            until_sweep: FEW,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// How many keys have work, or a past that still counts.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns whether nothing is queued, delayed or running.
    pub(crate) fn is_quiet(&self) -> bool {
        self.counts.queued == 0 && self.counts.running == 0 && self.delayed.is_empty()
    }

    fn at(&mut self, id: LaneId) -> &mut Lane<K, T> {
        let lane = self.lanes[id.0 as usize].as_mut();
        lane.expect("a lane stays while it is in use")
    }

    /// The past of a lane, which begins now if it has none.
    fn past(&mut self, id: LaneId, now: u64) -> &mut Past<K, T> {
        let slot = &mut self.lanes[id.0 as usize];
        if slot.as_ref().is_some_and(|lane| lane.past().is_none()) {
            *slot = slot.take().map(|lane| lane.with_past(now));
        }
        let past = slot.as_mut().and_then(Lane::past_mut);
        past.expect("a lane stays while it is in use")
    }

    /// Puts work at the end of a lane.
    pub(crate) fn push(&mut self, id: LaneId, item: Item<T>, now: u64) {
        self.counts.queued += 1;
        self.at(id).push(item);
        self.come_up(id, now);
    }

    /// Puts work that has waited before at the head of a lane, behind that alone that has too, once an instant has
    /// come. Until then it keeps no other work of the lane waiting.
    pub(crate) fn push_returned(&mut self, id: LaneId, returned: Returned<T>, at: u64, now: u64) {
        self.counts.returned += 1;
        // What comes before goes first, and instants of a lane are never taken back.
        self.admit_delayed(now);
        if at <= now {
            return self.put_returned(id, returned, now);
        }
        self.past(id, now).delayed += 1;
        self.delays += 1;
        self.delayed.push(Delayed {
            at,
            number: self.delays,
            lane: id,
            returned,
        });
    }

    fn put_returned(&mut self, id: LaneId, returned: Returned<T>, now: u64) {
        self.counts.queued += 1;
        if self.past(id, now).push(returned) {
            // Another head, which may start earlier than the one that has the entry.
            self.at(id).entry = NONE;
        }
        self.come_up(id, now);
    }

    /// Nothing of this lane starts before `at`. The head's entry is left where it is: it is found to be too early when
    /// it surfaces.
    pub(crate) fn hold(&mut self, id: LaneId, at: u64, now: u64) {
        if at > now {
            let past = self.past(id, now);
            past.from = past.from.max(at);
        }
    }

    /// Lifts what [`hold`](Lanes::hold) has set.
    pub(crate) fn lift(&mut self, id: LaneId, now: u64) {
        let lane = self.at(id);
        if let Some(past) = lane.past_mut().filter(|past| past.from > now) {
            past.from = now;
            lane.entry = NONE;
            self.come_up(id, now);
        }
    }

    /// One of this lane has ended.
    pub(crate) fn ended(&mut self, id: LaneId, now: u64) {
        self.counts.running -= 1;
        self.past(id, now).running -= 1;
        self.come_up(id, now);
    }

    /// Gives the lane its entry, if it has work and a free slot and none yet. It could start from `ready` on.
    fn come_up(&mut self, id: LaneId, ready: u64) {
        let Limits {
            in_flight, per_key, ..
        } = self.limits;
        let lane = self.at(id);
        if lane.entry != NONE || lane.running() >= in_flight || lane.cost().is_none() {
            return;
        }
        if let Some(past) = lane.past_mut() {
            past.from = past.from.max(ready);
        }
        let Some(at) = lane.own(per_key, ready) else {
            return;
        };
        if self.entries == u32::MAX {
            self.renumber();
        }
        self.entries += 1;
        let number = self.entries;
        self.at(id).entry = number;
        if self.heads.len() == self.heads.capacity() {
            self.heads.reserve_exact(growth(self.heads.len()));
        }
        self.heads.push(Head {
            at,
            number,
            lane: id,
        });
    }

    /// Numbers the entries anew, in their order: once in four thousand million.
    fn renumber(&mut self) {
        self.drop_stale();
        let mut heads = std::mem::take(&mut self.heads).into_vec();
        heads.sort_unstable_by_key(|head| head.number);
        self.entries = NONE;
        for head in &mut heads {
            self.entries += 1;
            head.number = self.entries;
            self.at(head.lane).entry = head.number;
        }
        self.heads = BinaryHeap::from(heads);
    }

    /// Drops the entries that their lanes have left behind.
    fn drop_stale(&mut self) {
        let lanes = &self.lanes;
        self.heads.retain(|head| {
            let lane = lanes.get(head.lane.0 as usize).and_then(Option::as_ref);
            lane.is_some_and(|lane| lane.entry == head.number)
        });
    }

    /// Moves what has come again by `now` into its lanes.
    fn admit_delayed(&mut self, now: u64) {
        loop {
            let first = self.delayed.peek_mut().filter(|first| first.at <= now);
            let Some(Delayed {
                at, lane, returned, ..
            }) = first.map(PeekMut::pop)
            else {
                return;
            };
            self.past(lane, now).delayed -= 1;
            self.put_returned(lane, returned, at);
            if self.delayed.len() < self.delayed.capacity() / 4 {
                self.delayed.shrink_to(2 * self.delayed.len());
            }
        }
    }

    /// The lane that starts next; of those that may start by their own limits, the first. To be called when the
    /// delayed were admitted.
    fn candidate(&mut self, now: u64) -> Option<Candidate> {
        if self.counts.running >= self.limits.max_running {
            return None;
        }
        let per_key = self.limits.per_key;
        loop {
            let mut head = self.heads.peek_mut()?;
            let lane = self.lanes[head.lane.0 as usize].as_ref();
            let Some(lane) = lane.filter(|lane| lane.entry == head.number) else {
                PeekMut::pop(head);
                continue;
            };
            let (own, cost) = (lane.own(per_key, head.at)?, lane.cost()?);
            let floor = match per_key {
                Some(rate) if own <= now => lane.floor(rate, cost),
                _ => 0,
            };
            let look = own.max(if floor > now { floor } else { 0 });
            if look > head.at {
                head.at = look;
                continue;
            }
            let (mut at, mut when) = (own, look);
            if let Some(rate) = self.limits.overall {
                at = at.max(self.overall.exact(rate, cost));
                when = when.max(at);
                if when <= now {
                    when = when.max(self.overall.floor(rate, cost));
                }
            }
            let lane = head.lane;
            return Some(Candidate { lane, at, when });
        }
    }

    /// When something may start, or work comes again; `None` if nothing can before something else happens.
    pub(crate) fn next(&mut self, now: u64) -> Option<u64> {
        self.admit_delayed(now);
        let delayed = self.delayed.peek().map(|delayed| delayed.at);
        let start = self.candidate(now).map(|candidate| candidate.when);
        // Far away is an instant too.
        Some(start.into_iter().chain(delayed).min()?.min(NEVER - 1))
    }

    /// Takes out the next work that may start `now`, and charges for it.
    pub(crate) fn start(&mut self, now: u64) -> Option<Started<K, T>> {
        self.admit_delayed(now);
        let Candidate { lane: id, at, .. } = self
            .candidate(now)
            .filter(|candidate| candidate.when <= now)?;
        let limits = self.limits;
        self.heads.pop();
        let lane = self.at(id);
        lane.entry = NONE;
        let (item, tries) = lane.pop()?;
        let past = self.past(id, at);
        past.running += 1;
        past.started += 1;
        if let Some(rate) = limits.per_key {
            past.bucket.take(rate, item.cost, at, now);
        }
        let key = Arc::clone(&past.key);
        if let Some(rate) = limits.overall {
            self.overall.take(rate, item.cost, at, now);
        }
        self.counts.queued -= 1;
        self.counts.running += 1;
        self.counts.started += 1;
        self.come_up(id, at);
        Some(Started {
            lane: id,
            key,
            item,
            tries,
            at,
            now,
        })
    }

    /// Takes out, once in as many calls as there were lanes left, the idle ones; the caller drops them.
    pub(crate) fn sweep(&mut self, now: u64) -> Vec<Lane<K, T>> {
        self.until_sweep -= 1;
        if self.until_sweep > 0 {
            return Vec::new();
        }
        let (per_key, lanes) = (self.limits.per_key, &mut self.lanes);
        let idle = self.by_key.extract_if(|id| {
            let lane = lanes[id.0 as usize].as_ref();
            lane.is_none_or(|lane| lane.is_idle(per_key, now))
        });
        let idle: Vec<LaneId> = idle.collect();
        let idle = idle.into_iter();
        let idle = idle.filter_map(|id| lanes[id.0 as usize].take()).collect();
        self.give_back();
        self.until_sweep = self.by_key.len().max(FEW);
        idle
    }

    /// Memory follows the lanes. Slots behind the last one are given back, the lowest ones are used first.
    fn give_back(&mut self) {
        while self.lanes.last().is_some_and(Option::is_none) {
            self.lanes.pop();
        }
        let few = |len: usize| 2 * len.max(FEW);
        self.lanes.shrink_to(few(self.lanes.len()));
        self.free = Vec::new();
        let unused = self.lanes.iter().enumerate();
        let unused = unused.filter(|(_, lane)| lane.is_none());
        self.free
            .extend(unused.map(|(slot, _)| LaneId(slot as u32)).rev());
        // So that the heap is not larger than the lanes.
        self.drop_stale();
        self.heads.shrink_to(few(self.heads.len()));
        let (len, capacity) = (self.by_key.len(), self.by_key.capacity());
        if len < capacity / 4 {
            let lanes = &self.lanes;
            self.by_key.shrink_to(few(len), |id| hash(lanes, *id));
        }
    }

    /// Takes out all that has not started, in the order of the lanes, each in its own order.
    pub(crate) fn clear(&mut self) -> Vec<Left<K, T>> {
        self.heads = BinaryHeap::new();
        let delayed = std::mem::take(&mut self.delayed).into_sorted_vec();
        let mut left = Vec::with_capacity(self.counts.queued + delayed.len());
        self.counts.queued = 0;
        for slot in 0..self.lanes.len() {
            let id = LaneId(slot as u32);
            if self.lanes[slot]
                .as_ref()
                .is_none_or(|lane| lane.cost().is_none())
            {
                continue;
            }
            let key = Arc::clone(&self.past(id, 0).key);
            let lane = self.at(id);
            lane.entry = NONE;
            left.extend(std::iter::from_fn(|| lane.pop()).map(|(item, tries)| Left {
                key: Arc::clone(&key),
                item,
                tries,
            }));
        }
        // The greatest first: the one that would have come first is the last.
        for Delayed { lane, returned, .. } in delayed.into_iter().rev() {
            let past = self.past(lane, 0);
            past.delayed -= 1;
            left.push(Left {
                key: Arc::clone(&past.key),
                item: returned.item,
                tries: Some(returned.tries),
            });
        }
        left
    }
}

fn hash<K, T>(lanes: &[Option<Lane<K, T>>], id: LaneId) -> u64 {
    lanes[id.0 as usize].as_ref().map_or(0, Lane::hash)
}

impl<K: Eq, T> Lanes<K, T> {
    /// The lane of a key that is known.
    pub(crate) fn find(&self, hash: u64, key: &K) -> Option<LaneId> {
        let hash = unfold(fold(hash));
        let is = |id: &LaneId| {
            let lane = self.lanes[id.0 as usize].as_ref();
            lane.is_some_and(|lane| lane.hash() == hash && *lane.key() == *key)
        };
        self.by_key.find(hash, is).copied()
    }

    /// Makes a lane for a key that has none.
    pub(crate) fn insert(&mut self, hash_of_key: u64, key: Key<K>, now: u64) -> LaneId {
        let half = fold(hash_of_key);
        let lane = Some(Lane::new(half, key, now));
        let id = match self.free.pop() {
            Some(id) => {
                self.lanes[id.0 as usize] = lane;
                id
            }
            None => {
                let slot = u32::try_from(self.lanes.len());
                if self.lanes.len() == self.lanes.capacity() {
                    self.lanes.reserve_exact(growth(self.lanes.len()));
                }
                self.lanes.push(lane);
                LaneId(slot.expect("fewer keys than four thousand million"))
            }
        };
        let lanes = &self.lanes;
        self.by_key
            .insert_unique(unfold(half), id, |id| hash(lanes, *id));
        id
    }

    pub(crate) fn lane_counts(&self, hash: u64, key: &K) -> Option<LaneCounts> {
        let id = self.find(hash, key)?;
        let lane = self.lanes[id.0 as usize].as_ref()?;
        let past = lane.past();
        Some(LaneCounts {
            queued: lane.queued(),
            delayed: past.map_or(0, |past| past.delayed as usize),
            running: lane.running() as usize,
            started: past.map_or(0, |past| past.started),
            not_before: past.map_or(0, |past| past.from),
            next: lane
                .own(self.limits.per_key, 0)
                .filter(|_| lane.running() < self.limits.in_flight),
        })
    }
}
