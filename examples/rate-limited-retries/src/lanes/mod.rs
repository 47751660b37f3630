//! The queues per key, and which work may start next. This is a pure data structure: it gets the time as an argument, in
//! nanoseconds.

mod lane;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use hashbrown::HashTable;

use self::lane::NONE;
pub(crate) use self::lane::{Item, Key, Lane, Returned};
use crate::gcra::Bucket;
use crate::rate::Rate;
use crate::retry::Tries;

/// The limits of a dispatcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) per_key: Option<Rate>,
    pub(crate) overall: Option<Rate>,
    /// The limit of running work per key.
    pub(crate) in_flight: u32,
    /// The limit of running work overall.
    pub(crate) max_running: usize,
}

/// The instant that stands for never.
pub(crate) const NEVER: u64 = u64::MAX;

/// With fewer keys than this no sweep is worth its cost.
const FEW: usize = 64;

/// The number of slots that one sweep looks at, and of work that is admitted at once, since the lock is held meanwhile.
const PAGE: usize = 512;

/// The number of a key's lane. It is valid while work of the key is queued, delayed or running, and also while the lock
/// is held under which it was looked up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(u32);

/// The entry of a lane that has work and a free slot, in the heap of heads. The one that starts first is the least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    /// The instant at which the limits of its key let the head start, or an earlier one. If that has passed, the
    /// instant since which it is its turn: the last start of the lane, so that lanes which wait for a slot take turns.
    at: u64,
    /// Entries are numbered in the order of their creation. The number also identifies the entry: if its lane has
    /// another number, this entry is stale.
    number: u32,
    lane: LaneId,
}

/// Work that is retried at an instant.
struct Delayed<T> {
    lane: LaneId,
    returned: Returned<T>,
}

/// The slot of its lane that running work takes.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    lane: LaneId,
    /// By how much the start was late and was yet charged at its exact instant, if other work of the lane was queued.
    late: u64,
}

/// Work that starts now.
pub(crate) struct Started<K, T> {
    pub(crate) slot: Slot,
    pub(crate) key: Arc<K>,
    pub(crate) item: Item<T>,
    /// The earlier attempts, if there were any.
    pub(crate) tries: Option<Box<Tries>>,
    /// The exact instant at which it could have started.
    pub(crate) at: u64,
    /// The instant at which it starts.
    pub(crate) now: u64,
}

/// Work that will not start.
pub(crate) struct Left<K, T> {
    pub(crate) key: Arc<K>,
    pub(crate) item: Item<T>,
    pub(crate) tries: Option<Box<Tries>>,
}

/// Counts of all lanes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) started: u64,
    pub(crate) returned: u64,
}

/// Counts and instants of one lane.
#[derive(Clone, Copy)]
pub(crate) struct LaneCounts {
    pub(crate) queued: usize,
    pub(crate) delayed: usize,
    pub(crate) running: usize,
    pub(crate) started: u64,
    /// No work of the lane starts before this instant, which may have passed.
    pub(crate) not_before: u64,
    /// The instant at which the limits of the key let its head start.
    pub(crate) next: Option<u64>,
}

/// A lane for each key, and the instants at which their heads may start.
pub(crate) struct Lanes<K, T> {
    limits: Limits,
    overall: Bucket,
    by_key: HashTable<LaneId>,
    lanes: Vec<Option<Lane<K, T>>>,
    free: Vec<LaneId>,
    heads: BinaryHeap<Reverse<Head>>,
    /// By its instant, and then by its number, which is the order of arrival.
    delayed: BTreeMap<(u64, u64), Delayed<T>>,
    /// The number of the newest entry.
    last_entry: u32,
    /// The number of the newest delayed work.
    last_delayed: u64,
    counts: Counts,
    /// The number of calls until the next page of lanes is swept for idle ones.
    until_sweep: usize,
    /// The slot at which the next page begins.
    next_page: usize,
    /// Whether lanes were removed since the first page.
    has_removed: bool,
}

/// The work that may start next.
struct Candidate {
    lane: LaneId,
    /// The exact instant at which it may start.
    at: u64,
    /// The instant at which to look again: `at`, or a later one if the period has no capacity left.
    when: u64,
}

/// Returns by how much a full heap grows: an eighth, since doubling it would leave up to half of its memory unused.
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
            delayed: BTreeMap::new(),
            last_entry: NONE,
            last_delayed: 0,
            counts: Counts::default(),
            until_sweep: FEW,
            next_page: 0,
            has_removed: false,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Returns whether nothing is queued, delayed or running.
    pub(crate) fn is_quiet(&self) -> bool {
        self.counts.queued == 0 && self.counts.running == 0 && self.delayed.is_empty()
    }

    /// Adds work at the end of a lane.
    pub(crate) fn push(&mut self, id: LaneId, item: Item<T>, now: u64) {
        self.counts.queued += 1;
        self.at(id).push(item);
        self.push_head(id, now, now);
    }

    /// Adds retried work at the head of a lane, behind other retried work, as soon as the instant `at` has come. Until
    /// then it does not delay other work of the lane.
    pub(crate) fn push_returned(&mut self, id: LaneId, returned: Returned<T>, at: u64, now: u64) {
        self.counts.returned += 1;
        // Work that was delayed until an earlier instant goes first.
        let are_admitted = self.admit_delayed(now);
        if at <= now && are_admitted {
            return self.put_returned(id, returned, now);
        }
        self.past(id, now).delayed += 1;
        self.last_delayed += 1;
        let delayed = Delayed { lane: id, returned };
        self.delayed.insert((at, self.last_delayed), delayed);
    }

    fn put_returned(&mut self, id: LaneId, returned: Returned<T>, at: u64) {
        self.counts.queued += 1;
        let per_key = self.limits.per_key;
        self.past(id, at);
        let lane = self.at(id);
        // The lane has had work that could start since that work's own instant. What its rate has earned since then is
        // not lost because other work goes first.
        let waits = lane.exact(per_key, at).filter(|_| lane.entry != NONE);
        let ready = waits.map_or(at, |exact| exact.min(at));
        // The new head may start earlier than the one for which the entry was made, if that cannot start yet. Otherwise
        // the lane keeps its entry, and so its turn.
        let is_cheaper = lane.cost().is_some_and(|cost| returned.item.cost < cost);
        let is_early = is_cheaper && waits.is_some_and(|exact| lane.look(per_key, exact, at) > at);
        let past = self.past(id, at);
        if waits.is_some() {
            past.from = past.from.max(ready);
        }
        if past.push(returned) && is_early {
            self.at(id).entry = NONE;
        }
        self.push_head(id, ready, at);
    }

    /// Lets no work of this lane start before `at`. The entry of the lane is not moved: when it reaches the top of the
    /// heap, `candidate` finds that it is too early.
    pub(crate) fn hold(&mut self, id: LaneId, at: u64, now: u64) {
        if at > now {
            let past = self.past(id, now);
            past.from = past.from.max(at);
        }
    }

    /// Undoes [`hold`](Lanes::hold).
    pub(crate) fn lift(&mut self, id: LaneId, now: u64) {
        let lane = self.at(id);
        if let Some(past) = lane.past_mut().filter(|past| past.from > now) {
            past.from = now;
            lane.entry = NONE;
            self.push_head(id, now, now);
        }
    }

    /// Frees the slot of work that has ended.
    ///
    /// Work that was queued behind a late start, and had no slot until now, could have started earlier by as much. So
    /// that is its exact instant, or the lateness of all starts would add up.
    pub(crate) fn ended(&mut self, Slot { lane, late }: Slot, now: u64) {
        let turn = self.turn(now - late, now);
        self.counts.running -= 1;
        self.past(lane, now).running -= 1;
        self.push_head(lane, now - late, turn);
    }

    /// Returns the turn of the next head of a lane whose work has started or ended now, if `exact` is the instant by
    /// which that is charged. Lanes that wait for a slot take turns, however late each of them is. Lanes that wait for
    /// the overall rate go by their exact instants, or capacity would be lost.
    fn turn(&self, exact: u64, now: u64) -> u64 {
        let is_full = self.counts.running >= self.limits.max_running;
        match self.limits.overall {
            Some(_) if !is_full => exact,
            _ => now,
        }
    }

    /// Creates the entry of a lane that has work and a free slot and no entry yet. Its head could start from `ready`
    /// on, and goes behind the heads that could start before `turn`, which is not in the future.
    fn push_head(&mut self, id: LaneId, ready: u64, turn: u64) {
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
        let Some(at) = lane.exact(per_key, ready) else {
            return;
        };
        if self.last_entry == u32::MAX {
            self.renumber();
        }
        self.last_entry += 1;
        let number = self.last_entry;
        self.at(id).entry = number;
        if self.heads.len() == self.heads.capacity() {
            self.heads.reserve_exact(growth(self.heads.len()));
        }
        self.heads.push(Reverse(Head {
            at: at.max(turn),
            number,
            lane: id,
        }));
    }

    /// Numbers the entries again from one, in their order. This is needed once in four thousand million entries.
    fn renumber(&mut self) {
        self.drop_stale();
        let mut heads = std::mem::take(&mut self.heads).into_vec();
        heads.sort_unstable_by_key(|Reverse(head)| head.number);
        self.last_entry = NONE;
        for Reverse(head) in &mut heads {
            self.last_entry += 1;
            head.number = self.last_entry;
            self.at(head.lane).entry = head.number;
        }
        self.heads = BinaryHeap::from(heads);
    }

    /// Removes stale entries.
    fn drop_stale(&mut self) {
        let lanes = &self.lanes;
        self.heads.retain(|Reverse(head)| {
            let lane = lanes.get(head.lane.0 as usize).and_then(Option::as_ref);
            lane.is_some_and(|lane| lane.entry == head.number)
        });
    }

    /// Moves delayed work whose instant has come into its lanes, but a page at most. Returns whether none is left. Until
    /// then nothing starts, since work that is retried goes first.
    fn admit_delayed(&mut self, now: u64) -> bool {
        for _ in 0..PAGE {
            let first = self.delayed.first_entry();
            let Some(first) = first.filter(|first| first.key().0 <= now) else {
                return true;
            };
            let ((at, _), Delayed { lane, returned }) = first.remove_entry();
            self.past(lane, now).delayed -= 1;
            self.put_returned(lane, returned, at);
        }
        self.first_delayed().is_none_or(|at| at > now)
    }

    /// Returns when the first delayed work is due.
    fn first_delayed(&self) -> Option<u64> {
        let first = self.delayed.first_key_value();
        first.map(|((at, _), _)| *at)
    }

    /// Returns the lane whose work starts next: the first of those that the limits of their keys let start. Call
    /// `admit_delayed` before.
    fn candidate(&mut self, now: u64) -> Option<Candidate> {
        if self.counts.running >= self.limits.max_running {
            return None;
        }
        let per_key = self.limits.per_key;
        loop {
            let mut first = self.heads.peek_mut()?;
            let Reverse(head) = *first;
            let lane = self.lanes[head.lane.0 as usize].as_ref();
            let Some(lane) = lane.filter(|lane| lane.entry == head.number) else {
                PeekMut::pop(first);
                continue;
            };
            let (exact, cost) = (lane.exact(per_key, head.at)?, lane.cost()?);
            let look = lane.look(per_key, exact, now);
            if look > head.at {
                first.0.at = look;
                continue;
            }
            let (mut at, mut when) = (exact, look);
            if let Some(rate) = self.limits.overall {
                at = at.max(self.overall.exact(rate, cost));
                when = when.max(at);
                if when <= now {
                    when = when.max(self.overall.blocked_until(rate, cost));
                }
            }
            let lane = head.lane;
            return Some(Candidate { lane, at, when });
        }
    }

    /// Returns when work may start or delayed work is due; `None` if that cannot happen before another call.
    pub(crate) fn next(&mut self, now: u64) -> Option<u64> {
        if !self.admit_delayed(now) {
            return Some(now);
        }
        let delayed = self.first_delayed();
        let start = self.candidate(now).map(|candidate| candidate.when);
        // An instant that is far away must differ from `NEVER`.
        Some(start.into_iter().chain(delayed).min()?.min(NEVER - 1))
    }

    /// Removes and returns the next work that may start `now`, and charges for it.
    pub(crate) fn start(&mut self, now: u64) -> Option<Started<K, T>> {
        if !self.admit_delayed(now) {
            return None;
        }
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
        let per_key = limits.per_key;
        let per_key = per_key.map(|rate| past.bucket.take(rate, item.cost, at, now));
        let key = Arc::clone(&past.key);
        let overall = limits.overall;
        let overall = overall.map(|rate| self.overall.take(rate, item.cost, at, now));
        self.counts.queued -= 1;
        self.counts.running += 1;
        self.counts.started += 1;
        let turn = self.turn(overall.unwrap_or(now), now);
        // The next work could start when this could, but if this was so late that no rate is charged at that instant.
        let ready = per_key.into_iter().chain(overall).min().unwrap_or(now);
        self.push_head(id, ready, turn);
        let late = per_key
            .max(overall)
            .filter(|_| self.at(id).cost().is_some())
            .map_or(0, |charged| now - charged);
        Some(Started {
            slot: Slot { lane: id, late },
            key,
            item,
            tries,
            at,
            now,
        })
    }

    /// Removes and returns all work that has not started, lane by lane, each lane in its order. Delayed work whose instant
    /// has not come `now` is last.
    pub(crate) fn clear(&mut self, now: u64) -> Vec<Left<K, T>> {
        while !self.admit_delayed(now) {}
        self.heads = BinaryHeap::new();
        let delayed = std::mem::take(&mut self.delayed);
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
        for Delayed { lane, returned } in delayed.into_values() {
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

impl<K: Eq, T> Lanes<K, T> {
    pub(crate) fn lane_counts(&self, hash: u64, key: &K, now: u64) -> Option<LaneCounts> {
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
                .exact(self.limits.per_key, 0)
                .filter(|_| lane.running() < self.limits.in_flight)
                .map(|exact| lane.look(self.limits.per_key, exact, now)),
        })
    }
}
