//! The queues per key, and what may start next; pure: it is told `now`, in nanoseconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use hashbrown::HashTable;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(u32);

/// One piece of work, in a queue.
pub(crate) struct Item<T> {
    pub(crate) work: T,
    pub(crate) cost: u32,
    /// It takes a place of the bound, which is free again when it starts.
    pub(crate) bounded: bool,
    /// The attempts before, if there were any.
    pub(crate) tries: Option<Box<Tries>>,
}

/// Where work joins its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    End,
    /// It has waited before, and stands behind those alone that have too.
    Head,
}

struct Lane<K, T> {
    hash: u64,
    key: Arc<K>,
    bucket: Bucket,
    not_before: u64,
    /// Since when its head could start, as far as others are concerned: it has come, and a slot is free.
    ready: u64,
    /// The number of its entry among the heads, if it has one; an older one counts no more.
    entry: u64,
    waiting: VecDeque<Item<T>>,
    /// What has come again; it goes first. Most lanes have none.
    #[expect(clippy::box_collection, reason = "a fourth of the size in most lanes")]
    returned: Option<Box<VecDeque<Item<T>>>>,
    running: u32,
    /// How many wait among the delayed.
    delayed: u32,
    started: u64,
}

/// No entry.
const NONE: u64 = 0;

impl<K, T> Lane<K, T> {
    fn head(&self) -> Option<&Item<T>> {
        let returned = self.returned.as_ref().and_then(|items| items.front());
        returned.or_else(|| self.waiting.front())
    }

    fn take_head(&mut self) -> Option<Item<T>> {
        if let Some(returned) = &mut self.returned {
            let head = returned.pop_front();
            if returned.is_empty() {
                self.returned = None;
            }
            return head;
        }
        let head = self.waiting.pop_front();
        let (len, capacity) = (self.waiting.len(), self.waiting.capacity());
        if len == 0 {
            self.waiting = VecDeque::new();
        } else if capacity > FEW && len < capacity / 4 {
            self.waiting.shrink_to(2 * len);
        }
        head
    }

    fn queued(&self) -> usize {
        self.waiting.len() + self.returned.as_ref().map_or(0, |items| items.len())
    }

    fn is_in_use(&self) -> bool {
        self.head().is_some() || self.running > 0 || self.delayed > 0
    }
}

/// Work that comes again at an instant; ordered by it, and then by when it came.
struct Delayed<T> {
    at: u64,
    number: u64,
    lane: LaneId,
    place: Place,
    item: Item<T>,
}

impl<T> PartialEq for Delayed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Delayed<T> {}

impl<T> PartialOrd for Delayed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Delayed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The greatest of a heap is the one that comes first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Work that starts now.
pub(crate) struct Started<K, T> {
    pub(crate) lane: LaneId,
    pub(crate) key: Arc<K>,
    pub(crate) item: Item<T>,
    /// The exact instant at which it could start.
    pub(crate) at: u64,
    /// When it did.
    pub(crate) now: u64,
}

/// Work that will not start, with its key.
pub(crate) type Unstarted<K, T> = (Arc<K>, Item<T>);

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
    pub(crate) not_before: u64,
    /// When its own limits let its head start.
    pub(crate) next: Option<u64>,
}

/// A lane for each key, and the instants at which their heads may start.
pub(crate) struct Lanes<K, T> {
    limits: Limits,
    overall: Bucket,
    by_key: HashTable<LaneId>,
    lanes: Vec<Option<Box<Lane<K, T>>>>,
    free: Vec<LaneId>,
    /// For each lane with work and a free slot: when its own limits let its head start, or earlier; then in the
    /// order in which heads came up.
    heads: BinaryHeap<Reverse<(u64, u64, LaneId)>>,
    delayed: BinaryHeap<Delayed<T>>,
    /// Numbers entries and delayed work.
    numbers: u64,
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
            numbers: NONE,
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
        let lane = self.lanes[id.0 as usize].as_deref_mut();
        lane.expect("a lane stays while it is in use")
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Puts work into a lane.
    pub(crate) fn push(&mut self, id: LaneId, place: Place, item: Item<T>, now: u64) {
        self.counts.queued += 1;
        let lane = self.at(id);
        match place {
            Place::End => {
                if lane.waiting.capacity() == 0 {
                    // Most queues of many keys have one.
                    lane.waiting.reserve_exact(1);
                }
                lane.waiting.push_back(item);
            }
            Place::Head => {
                let returned = lane.returned.get_or_insert_default();
                returned.push_back(item);
                if returned.len() == 1 {
                    // Another head, which may start earlier than the one that has the entry.
                    lane.entry = NONE;
                }
            }
        }
        self.come_up(id, now);
    }

    /// Puts work into a lane once an instant has come. Until then it keeps no other work of the lane waiting.
    pub(crate) fn push_at(&mut self, id: LaneId, place: Place, item: Item<T>, at: u64, now: u64) {
        if at <= now {
            return self.push(id, place, item, now);
        }
        let number = self.number();
        self.at(id).delayed += 1;
        self.delayed.push(Delayed {
            at,
            number,
            lane: id,
            place,
            item,
        });
    }

    /// Counts work that has come again.
    pub(crate) fn count_returned(&mut self) {
        self.counts.returned += 1;
    }

    /// Nothing of this lane starts before `at`. The head's entry is left where it is: it is found to be too early when
    /// it surfaces.
    pub(crate) fn hold(&mut self, id: LaneId, at: u64) {
        let lane = self.at(id);
        lane.not_before = lane.not_before.max(at);
    }

    /// Lifts what [`hold`](Lanes::hold) has set.
    pub(crate) fn lift(&mut self, id: LaneId, now: u64) {
        let lane = self.at(id);
        if lane.not_before > now {
            lane.not_before = 0;
            lane.entry = NONE;
            self.come_up(id, now);
        }
    }

    /// One of this lane has ended.
    pub(crate) fn ended(&mut self, id: LaneId, now: u64) {
        self.counts.running -= 1;
        self.at(id).running -= 1;
        self.come_up(id, now);
    }

    /// The exact instant at which the limits of its key let the lane's head start.
    fn own(&self, lane: &Lane<K, T>) -> Option<u64> {
        let head = lane.head()?;
        let exact = match self.limits.per_key {
            Some(rate) => lane.bucket.exact(rate, head.cost),
            None => 0,
        };
        Some(exact.max(lane.not_before).max(lane.ready))
    }

    /// Gives the lane its entry, if it has work and a free slot and none yet. It could start from `ready` on.
    fn come_up(&mut self, id: LaneId, ready: u64) {
        let in_flight = self.limits.in_flight;
        let number = self.number();
        let lane = self.at(id);
        if lane.entry != NONE || lane.running >= in_flight {
            return;
        }
        lane.ready = ready;
        let lane = self.lanes[id.0 as usize].as_deref();
        let Some(own) = lane.and_then(|lane| self.own(lane)) else {
            return;
        };
        self.at(id).entry = number;
        self.heads.push(Reverse((own, number, id)));
    }

    /// Moves what has come again by `now` into its lanes.
    fn admit_delayed(&mut self, now: u64) {
        while let Some(first) = self.delayed.peek() {
            if first.at > now {
                return;
            }
            let Some(Delayed {
                at,
                lane,
                place,
                item,
                ..
            }) = self.delayed.pop()
            else {
                return;
            };
            self.at(lane).delayed -= 1;
            self.push(lane, place, item, at);
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
        loop {
            let &Reverse((entered, number, id)) = self.heads.peek()?;
            let lane = self.lanes[id.0 as usize].as_deref();
            let Some(lane) = lane.filter(|lane| lane.entry == number) else {
                self.heads.pop();
                continue;
            };
            let (own, cost) = (self.own(lane)?, lane.head()?.cost);
            let floor = match self.limits.per_key {
                Some(rate) if own <= now => lane.bucket.floor(rate, cost),
                _ => 0,
            };
            let look = own.max(if floor > now { floor } else { 0 });
            if look > entered {
                self.heads.pop();
                self.heads.push(Reverse((look, number, id)));
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
            return Some(Candidate { lane: id, at, when });
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
        let item = lane.take_head()?;
        lane.running += 1;
        lane.started += 1;
        if let Some(rate) = limits.per_key {
            lane.bucket.take(rate, item.cost, at, now);
        }
        let key = Arc::clone(&lane.key);
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
            at,
            now,
        })
    }

    /// Takes out, once in as many calls as there were lanes left, the idle ones; the caller drops their keys.
    pub(crate) fn sweep(&mut self, now: u64) -> Vec<Arc<K>> {
        self.until_sweep -= 1;
        if self.until_sweep > 0 {
            return Vec::new();
        }
        let per_key = self.limits.per_key;
        let lanes = &mut self.lanes;
        let idle = self.by_key.extract_if(|id| {
            lanes[id.0 as usize].as_ref().is_none_or(|lane| {
                !lane.is_in_use()
                    && lane.not_before <= now
                    && per_key.is_none_or(|rate| lane.bucket.is_idle(rate, now))
            })
        });
        let idle: Vec<LaneId> = idle.collect();
        let mut lane = |id: LaneId| lanes[id.0 as usize].take();
        let keys = idle.into_iter().filter_map(|id| Some(lane(id)?.key));
        let keys = keys.collect();
        self.give_back();
        self.until_sweep = self.by_key.len().max(FEW);
        keys
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
        // What is stale goes, so that the heap is not larger than the lanes.
        let lanes = &self.lanes;
        self.heads.retain(|Reverse((_, number, id))| {
            let lane = lanes.get(id.0 as usize).and_then(|lane| lane.as_ref());
            lane.is_some_and(|lane| lane.entry == *number)
        });
        self.heads.shrink_to(few(self.heads.len()));
        let (len, capacity) = (self.by_key.len(), self.by_key.capacity());
        if len < capacity / 4 {
            self.by_key.shrink_to(few(len), |id| {
                lanes[id.0 as usize].as_ref().map_or(0, |lane| lane.hash)
            });
        }
    }

    /// Takes out all that has not started, in the order of the lanes, each in its own order.
    pub(crate) fn clear(&mut self) -> Vec<Unstarted<K, T>> {
        self.heads = BinaryHeap::new();
        let delayed = std::mem::take(&mut self.delayed).into_sorted_vec();
        let mut left = Vec::with_capacity(self.counts.queued + delayed.len());
        self.counts.queued = 0;
        for lane in self.lanes.iter_mut().flatten() {
            lane.entry = NONE;
            lane.delayed = 0;
            let returned = lane
                .returned
                .take()
                .map_or_else(VecDeque::new, |items| *items);
            let items = returned
                .into_iter()
                .chain(std::mem::take(&mut lane.waiting));
            left.extend(items.map(|item| (Arc::clone(&lane.key), item)));
        }
        // The greatest first: the one that would have come first is the last.
        for delayed in delayed.into_iter().rev() {
            let lane = self.lanes[delayed.lane.0 as usize].as_ref();
            left.extend(lane.map(|lane| (Arc::clone(&lane.key), delayed.item)));
        }
        left
    }
}

impl<K: Eq, T> Lanes<K, T> {
    /// The lane of a key that is known.
    pub(crate) fn find(&self, hash: u64, key: &K) -> Option<LaneId> {
        let is = |id: &LaneId| {
            let lane = self.lanes[id.0 as usize].as_ref();
            lane.is_some_and(|lane| lane.hash == hash && *lane.key == *key)
        };
        self.by_key.find(hash, is).copied()
    }

    /// The lane of a key, a new one if it has none.
    pub(crate) fn lane(&mut self, hash: u64, key: &Arc<K>) -> LaneId {
        if let Some(id) = self.find(hash, key) {
            return id;
        }
        let lane = Some(Box::new(Lane {
            hash,
            key: Arc::clone(key),
            bucket: Bucket::default(),
            not_before: 0,
            ready: 0,
            entry: NONE,
            waiting: VecDeque::new(),
            returned: None,
            running: 0,
            delayed: 0,
            started: 0,
        }));
        let id = match self.free.pop() {
            Some(id) => {
                self.lanes[id.0 as usize] = lane;
                id
            }
            None => {
                let slot = u32::try_from(self.lanes.len());
                self.lanes.push(lane);
                LaneId(slot.expect("fewer keys than four thousand million"))
            }
        };
        let lanes = &self.lanes;
        self.by_key.insert_unique(hash, id, |id| {
            lanes[id.0 as usize].as_ref().map_or(0, |lane| lane.hash)
        });
        id
    }

    pub(crate) fn lane_counts(&self, hash: u64, key: &K) -> Option<LaneCounts> {
        let id = self.find(hash, key)?;
        let lane = self.lanes[id.0 as usize].as_deref()?;
        Some(LaneCounts {
            queued: lane.queued(),
            delayed: lane.delayed as usize,
            running: lane.running as usize,
            started: lane.started,
            not_before: lane.not_before,
            next: self
                .own(lane)
                .filter(|_| lane.running < self.limits.in_flight),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Splitmix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % bound
        }

        fn rate(&mut self) -> Option<Rate> {
            let count = 1 + self.below(200) as u32;
            let period = Duration::from_millis(1 + self.below(1_000));
            let rate = Rate::new(count, period).burst(1 + self.below(4) as u32);
            (self.below(3) > 0).then_some(rate)
        }
    }

    /// Looked for in each lane, without the heap: something that could start.
    fn could_start(lanes: &Lanes<u64, u64>, now: u64) -> Option<u64> {
        if lanes.counts.running >= lanes.limits.max_running {
            return None;
        }
        let free = lanes.lanes.iter().flatten().filter(|lane| {
            let Some(own) = lanes.own(lane).filter(|own| *own <= now) else {
                return false;
            };
            let cost = lane.head().map_or(0, |head| head.cost);
            let per_key = lanes.limits.per_key;
            let floor = per_key.map_or(0, |rate| lane.bucket.floor(rate, cost));
            let overall = lanes.limits.overall.map_or(0, |rate| {
                lanes
                    .overall
                    .exact(rate, cost)
                    .max(lanes.overall.floor(rate, cost))
            });
            lane.running < lanes.limits.in_flight && own.max(floor).max(overall) <= now
        });
        free.map(|lane| *lane.key).next()
    }

    /// Random pushes, holds, lifts and ends: whatever may start starts, in order, and the next look is in time. With one
    /// cost, since one that waits for the rate over all goes before cheaper ones.
    #[test]
    fn nothing_that_may_start_is_overlooked() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let limits = Limits {
                per_key: random.rate(),
                overall: random.rate(),
                in_flight: 1 + random.below(3) as u32,
                max_running: 1 + random.below(6) as usize,
            };
            let mut lanes: Lanes<u64, u64> = Lanes::new(limits);
            let (mut now, mut number, mut running) = (0, 0, Vec::new());
            let mut latest = [0; 8];
            for _ in 0..1_000 {
                let key = random.below(8);
                let lane = lanes.lane(key, &Arc::new(key));
                let item = |work| Item {
                    work,
                    cost: 1,
                    bounded: false,
                    tries: None,
                };
                match random.below(8) {
                    0..=2 => {
                        number += 1;
                        lanes.push(lane, Place::End, item(number), now);
                    }
                    3 => {
                        let at = now + random.below(50_000_000);
                        lanes.push_at(lane, Place::Head, item(0), at, now);
                    }
                    4 => lanes.hold(lane, now + random.below(100_000_000)),
                    5 => lanes.lift(lane, now),
                    6 if !running.is_empty() => {
                        let which = random.below(running.len() as u64) as usize;
                        lanes.ended(running.swap_remove(which), now);
                    }
                    _ => now += random.below(30_000_000),
                }
                while let Some(started) = lanes.start(now) {
                    assert!(started.at <= now, "seed {seed}");
                    running.push(started.lane);
                    let (key, work) = (*started.key as usize, started.item.work);
                    assert!(work == 0 || work > latest[key], "seed {seed}: out of order");
                    latest[key] = latest[key].max(work);
                }
                let overlooked = could_start(&lanes, now);
                assert_eq!(overlooked, None, "seed {seed}, at {now}");
                drop(lanes.sweep(now));
                // At the next look something may start, or an instant of the heads was too early; it comes to an end.
                if let Some(next) = lanes.next(now) {
                    assert!(next > now, "seed {seed}: {next} at {now}");
                }
            }
            let queued = lanes.counts.queued + lanes.delayed.len();
            let left = lanes.clear();
            assert_eq!(left.len(), queued, "seed {seed}");
            assert!(lanes.next(now).is_none(), "seed {seed}");
        }
    }
}
