//! Stands for the crate's handle: what a table of rows needs of it.

use std::sync::Arc;

use super::shared::Shared;
use super::state::Caller;

#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    caller: Caller,
}

pub(super) struct Submitter {
    pub(super) caller: Caller,
}

impl Handle {
    pub(super) fn uncounted(shared: Arc<Shared>, caller: Caller) -> Handle {
        Handle { shared, caller }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn submitter(&self) -> Submitter {
        Submitter {
            caller: self.caller,
        }
    }
}
