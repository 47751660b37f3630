//! Settings for a keyed group.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use super::group::{KeyedGroup, KeyedHandle};
use crate::{Group, Handle};

/// Settings for a [`KeyedGroup`]: whether a key's runs may overlap, and how keys are hashed.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use schedgroup::keyed::{KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let reloads = KeyedGroup::builder()
///     .exclusive()
///     .build_in(Group::builder().max_running(4).build());
/// let reload = async { println!("reloading") };
/// reloads.delay("config.toml", Duration::from_millis(50), reload, OnDuplicate::Replace);
/// reloads.wait().await
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "settings are nothing until `build` is called"]
pub struct Builder<S = RandomState> {
    hasher: S,
    exclusive: bool,
}

impl KeyedGroup<()> {
    /// Settings for a keyed group.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<S> Builder<S> {
    /// Two runs of one key never overlap: what is scheduled for a key while its job runs starts when
    /// that run has ended, or later if its time has not come.
    ///
    /// However many events come during a run, one more run follows. It holds no place of
    /// `max_running` until it starts. `shutdown` counts it among what is not yet due, and drops it.
    pub fn exclusive(mut self) -> Builder<S> {
        self.exclusive = true;
        self
    }

    /// Hashes keys with `hasher`: a faster one than the default, if nobody hostile chooses the keys.
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> Builder<T> {
        Builder {
            hasher,
            exclusive: self.exclusive,
        }
    }
}

impl<S: BuildHasher + Send + Sync + 'static> Builder<S> {
    /// A keyed group with a group of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    #[track_caller]
    pub fn build<K: Eq + Hash + Send + 'static>(self) -> KeyedGroup<K, S> {
        self.build_in(Group::new())
    }

    /// A keyed group that owns this group.
    pub fn build_in<K: Eq + Hash + Send + 'static>(self, group: Group) -> KeyedGroup<K, S> {
        KeyedGroup::assemble(self.hasher, self.exclusive, group.own_handle(), group)
    }

    /// Keys in a group that belongs to somebody else, who waits for it, cancels it and shuts it down.
    pub fn build_on<K: Eq + Hash + Send + 'static>(self, group: Handle) -> KeyedHandle<K, S> {
        KeyedGroup::assemble(self.hasher, self.exclusive, group, ())
    }
}

impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("exclusive", &self.exclusive)
            .finish_non_exhaustive()
    }
}
