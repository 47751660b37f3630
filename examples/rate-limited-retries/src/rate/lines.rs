//! The queues per key, and what may go next; pure: it gets `now`, in nanoseconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::allowance::Rate;
use super::bucket::Bucket;
use crate::table::Table;

/// What a pacer keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) per_key: Rate,
    pub(super) overall: Option<Rate>,
    /// At most this many of one key run at a time.
    pub(super) in_flight: u32,
}

/// A timer wakes up to this late, in nanoseconds. What goes within it is charged at its exact instant, so
/// that a rate is not lost to rounding; what goes later is charged as if it had been this late, so that a
/// program that was stopped does not make up for it all at once.
const LATE: u64 = 1_000_000;

/// Never, as an instant.
const NEVER: u64 = u64::MAX;

/// Names a line, and finds it without code of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineId {
    hash: u64,
    /// Never used twice.
    number: u64,
}

struct Line<K, T> {
    id: LineId,
    key: Arc<K>,
    bucket: Bucket,
    not_before: u64,
    /// What has waited before and came back; it goes first.
    returned: VecDeque<Waiting<T>>,
    waiting: VecDeque<Waiting<T>>,
    in_flight: u32,
    /// The number of its entry among the heads, if it has one; an older one counts no more.
    entry: Option<u64>,
}

/// Where work joins its line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    End,
    /// It has waited before, and stands behind those alone that have too.
    Head,
}

struct Waiting<T> {
    work: T,
    cost: u32,
}

impl<K, T> Line<K, T> {
    fn head(&self) -> Option<&Waiting<T>> {
        self.returned.front().or(self.waiting.front())
    }

    fn take_head(&mut self) -> Option<Waiting<T>> {
        let line = if self.returned.is_empty() {
            &mut self.waiting
        } else {
            &mut self.returned
        };
        let head = line.pop_front();
        if line.is_empty() && line.capacity() > FEW {
            *line = VecDeque::new();
        }
        head
    }
}

/// Work that goes now.
pub(super) struct Released<K, T> {
    pub(super) line: LineId,
    pub(super) key: Arc<K>,
    pub(super) work: T,
    pub(super) cost: u32,
    /// The exact instant at which it was allowed to go.
    pub(super) at: u64,
}

/// A line for each key, and the instants at which their heads may go.
pub(super) struct Lines<K, T> {
    limits: Limits,
    overall: Bucket,
    lines: Table<Arc<K>, Line<K, T>>,
    /// How many lines there have been.
    begun: u64,
    /// For each line with work and a free slot: when its own limits let its head go, or earlier; then in
    /// the order in which heads came up.
    heads: BinaryHeap<Reverse<(u64, u64, LineId)>>,
    came_up: u64,
    waiting: usize,
    /// The number of calls until the lines are looked through for idle ones.
    patience: usize,
}

/// Fewer lines than that are not worth looking through.
const FEW: usize = 64;

impl<K: Eq, T> Lines<K, T> {
    pub(super) fn new(limits: Limits) -> Lines<K, T> {
        Lines {
            limits,
            overall: Bucket::default(),
            lines: Table::new(),
            begun: 0,
            heads: BinaryHeap::new(),
            came_up: 0,
            waiting: 0,
            patience: FEW,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many keys have work, or a past that still counts.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line of a key, a new one if it has none.
    pub(super) fn line(&mut self, hash: u64, key: &Arc<K>) -> LineId {
        if let Some(line) = self.lines.find(hash, |known, _| **known == **key) {
            return line.id;
        }
        self.begun += 1;
        let id = LineId {
            hash,
            number: self.begun,
        };
        let line = Line {
            id,
            key: Arc::clone(key),
            bucket: Bucket::default(),
            not_before: 0,
            returned: VecDeque::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            entry: None,
        };
        self.lines.insert(hash, Arc::clone(key), line);
        id
    }

    fn find(&mut self, id: LineId) -> Option<&mut Line<K, T>> {
        self.lines.find(id.hash, |_, line| line.id == id)
    }

    fn at(&mut self, id: LineId) -> &mut Line<K, T> {
        self.find(id).expect("a line stays while it is in use")
    }

    /// Puts work into a line.
    pub(super) fn push(&mut self, id: LineId, place: Place, work: T, cost: u32, now: u64) {
        self.waiting += 1;
        let line = self.at(id);
        match place {
            Place::End => line.waiting.push_back(Waiting { work, cost }),
            Place::Head => {
                if line.returned.is_empty() {
                    // Another head, which may go earlier than the one that has the entry.
                    line.entry = None;
                }
                line.returned.push_back(Waiting { work, cost });
            }
        }
        self.come_up(id, now);
    }

    /// Nothing of this line goes before `at`. The head's entry is left where it is: it is found to be
    /// too early when it surfaces.
    pub(super) fn not_before(&mut self, line: LineId, at: u64) {
        let line = self.at(line);
        line.not_before = line.not_before.max(at);
    }

    /// Returns whether nothing of this line may go yet.
    pub(super) fn is_held_up(&mut self, line: LineId, now: u64) -> bool {
        self.at(line).not_before > now
    }

    /// One of this line has ended.
    pub(super) fn ended(&mut self, line: LineId, now: u64) {
        self.at(line).in_flight -= 1;
        self.come_up(line, now);
    }

    /// When the line's head may go by the limits of its key, from `now` on.
    fn own(&mut self, line: LineId, now: u64) -> Option<u64> {
        let per_key = self.limits.per_key;
        let line = self.at(line);
        let head = line.head()?;
        let earliest = line.bucket.earliest(per_key, head.cost);
        Some(earliest.max(line.not_before).max(now))
    }

    /// Gives the line its entry, if it has work and a free slot and none yet.
    fn come_up(&mut self, id: LineId, now: u64) {
        let in_flight = self.limits.in_flight;
        let line = self.at(id);
        if line.entry.is_some() || line.in_flight >= in_flight {
            return;
        }
        let Some(own) = self.own(id, now) else {
            return;
        };
        self.came_up += 1;
        self.at(id).entry = Some(self.came_up);
        self.heads.push(Reverse((own, self.came_up, id)));
    }

    /// The line that goes next, and when; of those that may go by their own limits, the first.
    fn next_line(&mut self) -> Option<(LineId, u64)> {
        loop {
            let &Reverse((entered, came_up, id)) = self.heads.peek()?;
            let line = self.find(id);
            if line.is_none_or(|line| line.entry != Some(came_up)) {
                self.heads.pop();
                continue;
            }
            let own = self.own(id, entered)?;
            if own <= entered {
                let cost = self.at(id).head()?.cost;
                let shared = self.limits.overall;
                let shared = shared.map_or(0, |rate| self.overall.earliest(rate, cost));
                return Some((id, own.max(shared)));
            }
            self.heads.pop();
            self.heads.push(Reverse((own, came_up, id)));
        }
    }

    /// When something may go next; far away if nothing can before something else happens.
    pub(super) fn next(&mut self) -> u64 {
        self.next_line().map_or(NEVER, |(_, at)| at)
    }

    /// Takes out the next work that may go by `now`.
    pub(super) fn release(&mut self, now: u64) -> Option<Released<K, T>> {
        let (id, at) = self.next_line().filter(|&(_, at)| at <= now)?;
        let at = at.max(now.saturating_sub(LATE));
        let limits = self.limits;
        self.heads.pop();
        let line = self.at(id);
        let Waiting { work, cost } = line.take_head()?;
        line.entry = None;
        line.in_flight += 1;
        line.bucket.take(limits.per_key, cost, at);
        let key = Arc::clone(&line.key);
        if let Some(rate) = limits.overall {
            self.overall.take(rate, cost, at);
        }
        self.waiting -= 1;
        self.come_up(id, at);
        Some(Released {
            line: id,
            key,
            work,
            cost,
            at,
        })
    }

    /// Takes out, once in as many calls as there were lines left, the idle ones; the
    /// caller drops their keys.
    pub(super) fn look_through(&mut self, now: u64) -> Vec<Arc<K>> {
        self.patience -= 1;
        if self.patience > 0 {
            return Vec::new();
        }
        let per_key = self.limits.per_key;
        let idle = self.lines.sift(|line| {
            line.head().is_some()
                || line.in_flight > 0
                || line.not_before > now
                || !line.bucket.is_full(per_key, now)
        });
        self.patience = self.lines.len().max(FEW);
        self.heads.shrink_to(2 * self.patience);
        idle.into_iter().map(|(key, _)| key).collect()
    }

    /// Takes out all that waits, for the caller to drop.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.heads.clear();
        self.waiting = 0;
        let lines = self.lines.values_mut().flat_map(|line| {
            line.entry = None;
            let returned = std::mem::take(&mut line.returned);
            returned
                .into_iter()
                .chain(std::mem::take(&mut line.waiting))
        });
        lines.map(|waiting| waiting.work).collect()
    }
}
