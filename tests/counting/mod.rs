//! The allocator of a test program that counts bytes and allocations. It is one for the whole program,
//! so such a program measures in one test.

// A global allocator cannot be written without it; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Bytes that are allocated and not freed.
pub(crate) fn live() -> i64 {
    LIVE.load(SeqCst)
}

/// How often something was allocated.
// Not every program asks for both.
#[allow(dead_code)]
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(SeqCst)
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, SeqCst);
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, SeqCst);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
