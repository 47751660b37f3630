//! What a keyed group, its handles and its jobs share: the lock.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::state::State;

/// The keys of one keyed group.
///
/// Lock order: this one, then the group's. Of the user's code only `Eq` and `Borrow` of keys run under
/// it, before anything is changed; so a lock that their panic has poisoned guards a whole state. The
/// group's verbs that are called under it wake nothing but the group's driver.
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

    /// Moves the key's pending job.
    pub(super) fn touch<Q>(&self, key: &Q, at: Instant) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut state = self.lock();
        let Some(pending) = state.pending(hash, |known| known.borrow() == key) else {
            return false;
        };
        if pending.held.is_none() {
            return pending.job.reset_at(at);
        }
        // It stays far away until the run that holds it has ended; only the group knows if it may.
        let honoured = pending.job.reset_after(Duration::MAX);
        if honoured {
            pending.held = Some(at);
        }
        honoured
    }

    /// Cancels the key's pending job.
    pub(super) fn cancel<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let taken = self.lock().take(hash, |known, _| known.borrow() == key);
        // Its ticket counts no more; this frees what the job holds.
        taken.map(|taken| taken.pending.job.cancel()).is_some()
    }

    /// When the key's pending job is due.
    pub(super) fn deadline<Q>(&self, key: &Q) -> Option<Instant>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut state = self.lock();
        let pending = state.pending(hash, |known| known.borrow() == key)?;
        Some(pending.deadline())
    }
}
