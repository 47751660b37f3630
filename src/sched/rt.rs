//! The parts of the runtime that the group's state needs: `tests/shuttle` has other locks, and `tests/loom` a
//! file of its own instead of this one.

#[cfg(not(shuttle))]
pub(super) use std::sync::atomic::AtomicU8;
#[cfg(not(shuttle))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(super) use shuttle::sync::atomic::AtomicU8;
#[cfg(shuttle)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};

/// A number of this thread; those of a runtime's threads follow one another, more or less.
pub(super) fn thread_index() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: usize = THREADS.fetch_add(1, Relaxed);
    }
    INDEX.with(|index| *index)
}
