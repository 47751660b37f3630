//! What a keyed group, its handles and its jobs share: the lock.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::state::State;

/// The keys of one keyed group.
///
/// Lock order: this one, then the group's. Of the user's code only `Eq` and `Borrow` of keys run under
/// it, before anything is changed; so a lock that their panic has poisoned guards a whole state.
pub(super) struct Keys<K, S> {
    hasher: S,
    /// Two runs of one key never overlap.
    pub(super) exclusive: bool,
    state: Mutex<State<K>>,
}

impl<K, S> Keys<K, S> {
    pub(super) fn new(hasher: S, exclusive: bool) -> Keys<K, S> {
        Keys {
            hasher,
            exclusive,
            state: Mutex::new(State::new()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, S: BuildHasher> Keys<K, S> {
    /// User code: it is called outside of the lock.
    pub(super) fn hash<Q>(&self, key: &Q) -> u64
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.hasher.hash_one(key)
    }
}
