//! The table of lanes: it finds the lane of a key, adds lanes, and removes idle ones.

use super::lane::{Key, Lane, Past, fold, unfold};
use super::{FEW, LaneId, Lanes, PAGE, growth};

impl<K, T> Lanes<K, T> {
    /// Returns the number of keys that have work or a past that still matters.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn at(&mut self, id: LaneId) -> &mut Lane<K, T> {
        let lane = self.lanes[id.0 as usize].as_mut();
        lane.expect("a lane stays while it is in use")
    }

    /// Returns the past of a lane, and creates it if it has none.
    pub(super) fn past(&mut self, id: LaneId, now: u64) -> &mut Past<K, T> {
        let slot = &mut self.lanes[id.0 as usize];
        if slot.as_ref().is_some_and(|lane| lane.past().is_none()) {
            *slot = slot.take().map(|lane| lane.with_past(now));
        }
        let past = slot.as_mut().and_then(Lane::past_mut);
        past.expect("a lane stays while it is in use")
    }

    /// Removes and returns the idle lanes of the next page, which the caller drops.
    ///
    /// It looks at two slots for each call. A call adds at most one, so the last page comes after as many calls as there
    /// were slots at the first page.
    pub(crate) fn sweep(&mut self, now: u64) -> Vec<Lane<K, T>> {
        self.until_sweep -= 1;
        if self.until_sweep > 0 {
            return Vec::new();
        }
        let (per_key, from) = (self.limits.per_key, self.next_page);
        let page = self.lanes.iter_mut().enumerate().skip(from).take(PAGE);
        let mut idle = Vec::new();
        for (slot, lane) in page {
            if let Some(lane) = lane.take_if(|lane| lane.is_idle(per_key, now)) {
                let id = LaneId(slot as u32);
                if let Ok(entry) = self.by_key.find_entry(lane.hash(), |known| *known == id) {
                    entry.remove();
                }
                self.free.push(id);
                idle.push(lane);
            }
        }
        self.has_removed |= !idle.is_empty();
        self.next_page = from + PAGE;
        self.until_sweep = PAGE / 2;
        if self.next_page >= self.lanes.len() {
            self.next_page = 0;
            self.until_sweep = ((self.lanes.len() - from) / 2).max(FEW);
            let are_many_stale = self.heads.len() > 2 * self.by_key.len().max(FEW);
            if std::mem::take(&mut self.has_removed) || are_many_stale {
                self.give_back();
            }
        }
        idle
    }

    /// Shrinks the storage to the lanes that are left. Slots behind the last lane are freed, and the lowest free slots
    /// are used first. This takes longer than a page, but happens only after a pass that has removed lanes.
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
        // After this the heap has at most as many entries as there are lanes.
        self.drop_stale();
        self.heads.shrink_to(few(self.heads.len()));
        let (len, capacity) = (self.by_key.len(), self.by_key.capacity());
        if len < capacity / 4 {
            let lanes = &self.lanes;
            self.by_key.shrink_to(few(len), |id| hash(lanes, *id));
        }
    }

    /// Removes and returns all lanes. Call `clear` before, which returns their work.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Lane<K, T>> + use<K, T> {
        self.by_key.clear();
        self.free.clear();
        std::mem::take(&mut self.lanes).into_iter().flatten()
    }
}

fn hash<K, T>(lanes: &[Option<Lane<K, T>>], id: LaneId) -> u64 {
    lanes[id.0 as usize].as_ref().map_or(0, Lane::hash)
}

impl<K: Eq, T> Lanes<K, T> {
    /// Returns the lane of a key, if it has one.
    pub(crate) fn find(&self, hash: u64, key: &K) -> Option<LaneId> {
        let hash = unfold(fold(hash));
        let is = |id: &LaneId| {
            let lane = self.lanes[id.0 as usize].as_ref();
            lane.is_some_and(|lane| lane.hash() == hash && *lane.key() == *key)
        };
        self.by_key.find(hash, is).copied()
    }

    /// Creates a lane for a key that has none.
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
}
