//! What a task of a group costs, in exact allocations of a counting allocator.

// A global allocator cannot be written without it; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

use schedgroup::errgroup::ErrGroup;

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

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

const TASKS: u64 = 100_000;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test]
async fn a_task_is_one_box_while_parked_and_one_task_while_it_runs() {
    let before = LIVE.load(SeqCst);
    {
        let group = ErrGroup::<()>::builder().limit(1).build();
        let start = ALLOCATIONS.load(SeqCst);
        for n in 0..TASKS {
            group.spawn(async move {
                std::hint::black_box(n);
                Ok(())
            });
        }
        // The line, and the list of those that run, grow by doubling.
        let parked = ALLOCATIONS.load(SeqCst) - start;
        assert!(
            (TASKS..=TASKS + 32).contains(&parked),
            "{parked} allocations to park {TASKS}"
        );
        group.wait().await.unwrap();
        let all = ALLOCATIONS.load(SeqCst) - start;
        assert!(
            (2 * TASKS..=2 * TASKS + 64).contains(&all),
            "{all} allocations for {TASKS}"
        );
    }
    {
        let group = ErrGroup::<()>::new();
        let start = ALLOCATIONS.load(SeqCst);
        for _ in 0..TASKS {
            group.spawn(async { Ok(()) });
            tokio::task::yield_now().await;
        }
        group.wait().await.unwrap();
        let all = ALLOCATIONS.load(SeqCst) - start;
        assert!(
            (TASKS..=TASKS + 32).contains(&all),
            "{all} allocations for {TASKS} unparked"
        );
    }
    let left = LIVE.load(SeqCst) - before;
    assert!(left <= 16 * 1024, "{left} bytes left");
}
