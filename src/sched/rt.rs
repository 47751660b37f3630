//! The parts of the runtime that the group's state needs: `tests/shuttle` has other locks, and `tests/loom` a
//! file of its own instead of this one.

#[cfg(not(shuttle))]
pub(super) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize};
#[cfg(not(shuttle))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(super) use shuttle::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize};
#[cfg(shuttle)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
