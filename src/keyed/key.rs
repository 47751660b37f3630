//! The key of a row: its own, or one that is being read while the row may go.

use std::sync::Arc;

/// A key that more than its row holds. It is cloned under no lock, while the row stays or goes.
///
/// Behind `dyn`, so that a key need be neither `Clone` nor `Sync` where that is not needed.
pub(super) trait Share<K>: Send + Sync {
    fn key(&self) -> &K;
    fn cloned(&self) -> K;
}

pub(super) struct Owned<K>(pub(super) K);

impl<K: Clone + Send + Sync> Share<K> for Owned<K> {
    fn key(&self) -> &K {
        &self.0
    }

    fn cloned(&self) -> K {
        self.0.clone()
    }
}

pub(super) type SharedKey<K> = Arc<dyn Share<K>>;

pub(super) fn share<K: Clone + Send + Sync + 'static>(key: K) -> SharedKey<K> {
    Arc::new(Owned(key))
}

/// The key of a row that is there no more.
pub(super) enum TakenKey<K> {
    Own(K),
    Shared(SharedKey<K>),
}

impl<K> TakenKey<K> {
    /// The key itself. It may have to be cloned, which is user code.
    pub(super) fn into_key(self) -> K {
        match self {
            TakenKey::Own(key) => key,
            TakenKey::Shared(key) => key.cloned(),
        }
    }
}
