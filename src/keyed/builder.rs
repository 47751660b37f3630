//! Settings for a keyed group.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;

use super::group::KeyedGroup;
use super::handle::KeyedHandle;
use super::shared::Keys;
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
#[must_use = "settings are nothing until `build` is called"]
pub struct Builder<K, S = RandomState> {
    hasher: S,
    exclusive: bool,
    keys: PhantomData<fn(K)>,
}

impl<K: Eq + Hash + Send + 'static> KeyedGroup<K> {
    /// Returns settings for a keyed group.
    pub fn builder() -> Builder<K> {
        Builder {
            hasher: RandomState::new(),
            exclusive: false,
            keys: PhantomData,
        }
    }
}

impl<K, S> Builder<K, S> {
    /// Makes the runs of one key exclusive: what is scheduled for a key while its job runs starts when
    /// that run has ended, or later if it is not due by then.
    ///
    /// However many events come during a run, one more run follows. It holds no slot of
    /// `max_running` until it starts. `shutdown` counts it among what is not yet due, and drops it.
    pub fn exclusive(mut self) -> Builder<K, S> {
        self.exclusive = true;
        self
    }

    /// Sets the hasher of keys: a faster one than the default, if keys are not chosen by an attacker.
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> Builder<K, T> {
        Builder {
            hasher,
            exclusive: self.exclusive,
            keys: PhantomData,
        }
    }
}

impl<K, S> Builder<K, S>
where
    K: Eq + Hash + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Creates a keyed group with a group of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and on one without a timer.
    #[track_caller]
    pub fn build(self) -> KeyedGroup<K, S> {
        self.build_in(Group::new())
    }

    /// Creates a keyed group that owns this group.
    pub fn build_in(self, group: Group) -> KeyedGroup<K, S> {
        KeyedGroup::own(self.build_on(&group), group)
    }

    /// Creates keys in a group that has another owner, which waits for it, cancels it and shuts it down.
    pub fn build_on(self, group: &impl AsRef<Handle>) -> KeyedHandle<K, S> {
        let keys = Keys::new(self.hasher, self.exclusive);
        KeyedHandle::new(Arc::new(keys), group.as_ref().clone())
    }
}

impl<K, S> fmt::Debug for Builder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("exclusive", &self.exclusive)
            .finish_non_exhaustive()
    }
}
