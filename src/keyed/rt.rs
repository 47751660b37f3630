//! The parts of the runtime that the lock needs: `tests/shuttle` has others, and `tests/loom` a file of its own instead
//! of this one.

#[cfg(not(shuttle))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(shuttle)]
use shuttle::thread_local;

thread_local! {
    static HERE: u8 = const { 0 };
}

/// Returns an address that no other thread has.
pub(super) fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}
