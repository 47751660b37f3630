//! What the group's state needs of the runtime, in one place: the models of `tests/loom` and
//! `tests/shuttle` have other locks, and those of `tests/loom` have no runtime.

#[cfg(not(shuttle))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
pub(super) use tokio::task::AbortHandle;
