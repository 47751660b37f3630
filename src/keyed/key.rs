//! Keys that a row shares with others: with a run of the key, or with a call that clones it.

use std::sync::Arc;

use crate::common::panic::{self, Payload};

/// A key that not only its row refers to. So it can be cloned without the lock, also while its row goes.
///
/// It is used as `dyn Share`, so that the table does not require `Clone` and `Sync` of keys that are never shared.
pub(super) trait Share<K>: Send + Sync {
    fn key(&self) -> &K;
    fn cloned(&self) -> K;
    /// Returns the key itself if this is the last reference to it.
    fn into_own(self: Arc<Self>) -> Result<K, SharedKey<K>>;
}

/// The one implementation of [`Share`].
struct Owned<K>(K);

impl<K: Clone + Send + Sync + 'static> Share<K> for Owned<K> {
    fn key(&self) -> &K {
        &self.0
    }

    fn cloned(&self) -> K {
        self.0.clone()
    }

    fn into_own(self: Arc<Self>) -> Result<K, SharedKey<K>> {
        match Arc::try_unwrap(self) {
            Ok(Owned(key)) => Ok(key),
            Err(shared) => Err(shared),
        }
    }
}

pub(super) type SharedKey<K> = Arc<dyn Share<K>>;

pub(super) fn share<K: Clone + Send + Sync + 'static>(key: K) -> SharedKey<K> {
    Arc::new(Owned(key))
}

/// The key of an entry that was taken out of its row.
pub(super) enum TakenKey<K> {
    Own(K),
    Shared(SharedKey<K>),
}

impl<K> TakenKey<K> {
    /// Returns the key itself. One that is still shared is cloned, which is user code; its panic is returned with the
    /// key.
    pub(super) fn into_key(self) -> Result<K, (TakenKey<K>, Payload)> {
        let shared = match self {
            TakenKey::Own(key) => return Ok(key),
            TakenKey::Shared(key) => match key.into_own() {
                Ok(key) => return Ok(key),
                Err(key) => key,
            },
        };
        let cloned = panic::catch(|| shared.cloned());
        match cloned {
            Ok(key) => {
                // By now it may be the last reference.
                panic::drop_quietly(shared);
                Ok(key)
            }
            Err(payload) => Err((TakenKey::Shared(shared), payload)),
        }
    }
}
