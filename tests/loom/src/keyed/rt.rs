//! loom's lock, and its threads.

use loom::thread_local;

pub(super) use loom::sync::{Mutex, MutexGuard};

thread_local! {
    static HERE: u8 = 0;
}

/// Returns an address that no other thread has.
pub(super) fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}
