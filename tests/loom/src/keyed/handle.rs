//! Stands for the crate's context of a run: the entries, for its handler.

use std::sync::Arc;

use super::shared::{Entries, Keys};
use crate::sched::Run;

pub(super) struct KeyedContext<K, V, S> {
    keys: Arc<Keys<K, V, S>>,
}

impl<K, V, S> KeyedContext<K, V, S> {
    pub(super) fn new(keys: Arc<Keys<K, V, S>>, _: Run) -> KeyedContext<K, V, S> {
        KeyedContext { keys }
    }

    pub(super) fn entries(&self) -> Entries<'_, K, V, S> {
        Entries {
            keys: &self.keys,
            group: self.keys.group(),
        }
    }
}
