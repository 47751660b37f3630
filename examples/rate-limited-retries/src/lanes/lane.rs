//! A lane: the queue of one key, and the state of the key that earlier work has left.
//!
//! The lane of a key whose work has never started is small: it has the work, the key and an entry in the heap of heads.
//! The state that is needed after the first start, or after the first `not_before`, is in a box.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::gcra::Bucket;
use crate::rate::Rate;
use crate::retry::Tries;

/// One piece of work in a queue.
pub(crate) struct Item<T> {
    pub(crate) work: T,
    pub(crate) cost: u32,
    /// It holds a permit of the bound, which is released when the work starts.
    pub(crate) bounded: bool,
}

/// Work that is retried, with its earlier attempts.
pub(crate) struct Returned<T> {
    pub(crate) item: Item<T>,
    pub(crate) tries: Box<Tries>,
}

/// A key on its way into a lane.
pub(crate) enum Key<K> {
    Owned(K),
    /// The key of running work.
    Shared(Arc<K>),
}

impl<K> Key<K> {
    pub(crate) fn get(&self) -> &K {
        match self {
            Key::Owned(key) => key,
            Key::Shared(key) => key,
        }
    }
}

/// A queue with its key. It takes 48 bytes if the key and the work have eight bytes each.
pub(crate) struct Lane<K, T> {
    key: LaneKey<K, T>,
    first: Option<Item<T>>,
    /// The work behind the first; `None` if there is none.
    #[expect(clippy::box_collection, reason = "a fourth of the size in most lanes")]
    rest: Option<Box<VecDeque<Item<T>>>>,
    /// Half of the key's hash; see [`fold`].
    hash: u32,
    /// The number of its entry in the heap of heads. Entries of this lane with another number are stale.
    pub(super) entry: u32,
}

enum LaneKey<K, T> {
    New(K),
    Known(Box<Past<K, T>>),
}

/// The state of a key of which work has started, was delayed by `not_before`, or was retried.
pub(super) struct Past<K, T> {
    pub(super) key: Arc<K>,
    pub(super) bucket: Bucket,
    /// The head does not start before this instant. It is the instant of `hold`, or the instant since when the head is
    /// in the queue and a slot is free.
    pub(super) from: u64,
    pub(super) started: u64,
    /// Retried work, which starts before the rest of the queue.
    #[expect(clippy::box_collection, reason = "a fourth of the size in most lanes")]
    returned: Option<Box<VecDeque<Returned<T>>>>,
    pub(super) running: u32,
    /// The number of its entries in `Lanes::delayed`.
    pub(super) delayed: u32,
}

/// The number that stands for no entry.
pub(super) const NONE: u32 = 0;

/// A queue with a smaller capacity is not shrunk.
const FEW: usize = 64;

/// Returns the half of a hash that is stored. [`unfold`] uses it for both halves, since a hash table uses the lowest and
/// the highest bits.
pub(super) fn fold(hash: u64) -> u32 {
    hash as u32
}

pub(super) fn unfold(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

impl<K, T> Lane<K, T> {
    pub(super) fn new(hash: u32, key: Key<K>, now: u64) -> Lane<K, T> {
        Lane {
            key: match key {
                Key::Owned(key) => LaneKey::New(key),
                Key::Shared(key) => LaneKey::Known(Past::new(key, now)),
            },
            first: None,
            rest: None,
            hash,
            entry: NONE,
        }
    }

    /// Returns the same lane with a past, whose head, if there is one, could start from `from` on.
    pub(super) fn with_past(self, from: u64) -> Lane<K, T> {
        let key = match self.key {
            LaneKey::New(key) => LaneKey::Known(Past::new(Arc::new(key), from)),
            known @ LaneKey::Known(_) => known,
        };
        Lane { key, ..self }
    }

    pub(super) fn hash(&self) -> u64 {
        unfold(self.hash)
    }

    pub(super) fn key(&self) -> &K {
        match &self.key {
            LaneKey::New(key) => key,
            LaneKey::Known(past) => &past.key,
        }
    }

    pub(super) fn past(&self) -> Option<&Past<K, T>> {
        match &self.key {
            LaneKey::New(_) => None,
            LaneKey::Known(past) => Some(past),
        }
    }

    pub(super) fn past_mut(&mut self) -> Option<&mut Past<K, T>> {
        match &mut self.key {
            LaneKey::New(_) => None,
            LaneKey::Known(past) => Some(past),
        }
    }

    pub(super) fn running(&self) -> u32 {
        self.past().map_or(0, |past| past.running)
    }

    /// Returns the cost of its head, if it has one.
    pub(super) fn cost(&self) -> Option<u32> {
        let returned = self.past().and_then(|past| past.returned.as_ref()?.front());
        let head = returned.map(|returned| &returned.item);
        head.or(self.first.as_ref()).map(|item| item.cost)
    }

    /// Returns the exact instant at which the limits of the key let its head start. In a lane without a past that is
    /// `ready`, the instant at which the lane got its entry.
    pub(super) fn exact(&self, per_key: Option<Rate>, ready: u64) -> Option<u64> {
        let cost = self.cost()?;
        Some(match (self.past(), per_key) {
            (None, _) => ready,
            (Some(past), None) => past.from,
            (Some(past), Some(rate)) => past.bucket.exact(rate, cost).max(past.from),
        })
    }

    /// Returns until when late starts keep work of this cost from its start; see [`Bucket::blocked_until`].
    pub(super) fn blocked_until(&self, rate: Rate, cost: u32) -> u64 {
        self.past()
            .map_or(0, |past| past.bucket.blocked_until(rate, cost))
    }

    /// Returns when to look at its head, which may start at `exact`: then, or if that has come, at the end of a period
    /// that late starts have filled.
    pub(super) fn look(&self, per_key: Option<Rate>, exact: u64, now: u64) -> u64 {
        match (per_key, self.cost()) {
            (Some(rate), Some(cost)) if exact <= now => {
                let blocked = self.blocked_until(rate, cost);
                if blocked > now { blocked } else { exact }
            }
            _ => exact,
        }
    }

    pub(super) fn push(&mut self, item: Item<T>) {
        if self.first.is_none() {
            self.first = Some(item);
            return;
        }
        let rest = self
            .rest
            .get_or_insert_with(|| Box::new(VecDeque::with_capacity(1)));
        rest.push_back(item);
    }

    /// Removes the head: the first piece of retried work if there is any, else the first of the queue.
    pub(super) fn pop(&mut self) -> Option<(Item<T>, Option<Box<Tries>>)> {
        if let Some(Returned { item, tries }) = self.past_mut().and_then(Past::pop) {
            return Some((item, Some(tries)));
        }
        let first = self.first.take()?;
        self.first = pop(&mut self.rest);
        Some((first, None))
    }

    pub(super) fn queued(&self) -> usize {
        let returned = self.past().and_then(|past| past.returned.as_ref());
        usize::from(self.first.is_some())
            + self.rest.as_ref().map_or(0, |rest| rest.len())
            + returned.map_or(0, |items| items.len())
    }

    /// Returns whether nothing is queued, delayed or running, and no earlier start affects a later one any more.
    pub(super) fn is_idle(&self, per_key: Option<Rate>, now: u64) -> bool {
        self.cost().is_none()
            && self.past().is_none_or(|past| {
                past.running == 0
                    && past.delayed == 0
                    && past.from <= now
                    && per_key.is_none_or(|rate| past.bucket.is_idle(rate, now))
            })
    }
}

impl<K, T> Past<K, T> {
    fn new(key: Arc<K>, from: u64) -> Box<Past<K, T>> {
        Box::new(Past {
            key,
            bucket: Bucket::default(),
            from,
            started: 0,
            returned: None,
            running: 0,
            delayed: 0,
        })
    }

    /// Adds retried work. Returns whether it is the lane's head now, since there is no other retried work.
    pub(super) fn push(&mut self, returned: Returned<T>) -> bool {
        let items = self.returned.get_or_insert_default();
        items.push_back(returned);
        items.len() == 1
    }

    fn pop(&mut self) -> Option<Returned<T>> {
        pop(&mut self.returned)
    }
}

/// Removes the head of a queue, which gives its memory back as it shrinks.
#[expect(clippy::box_collection, reason = "a fourth of the size in most lanes")]
fn pop<I>(queue: &mut Option<Box<VecDeque<I>>>) -> Option<I> {
    let items = queue.as_mut()?;
    let head = items.pop_front();
    let (len, capacity) = (items.len(), items.capacity());
    if len == 0 {
        *queue = None;
    } else if capacity > FEW && len < capacity / 4 {
        items.shrink_to(2 * len);
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::tests::item;

    #[test]
    fn a_queue_that_shrinks_gives_its_memory_back() {
        let mut pushed: Lane<u64, u64> = Lane::new(0, Key::Owned(0), 0);
        let mut retried = Lane::new(0, Key::Shared(Arc::new(0)), 0);
        for work in 0..10_000 {
            pushed.push(item(work));
            let tries = Box::default();
            let item = item(work);
            retried.past_mut().unwrap().push(Returned { item, tries });
        }
        for _ in 0..9_900 {
            pushed.pop();
            retried.pop();
        }
        let capacities = [
            pushed.rest.as_ref().unwrap().capacity(),
            retried
                .past()
                .unwrap()
                .returned
                .as_ref()
                .unwrap()
                .capacity(),
        ];
        assert!(
            capacities.iter().all(|&capacity| capacity <= 800),
            "{capacities:?}"
        );
    }
}
