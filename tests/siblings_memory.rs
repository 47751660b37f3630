//! What a task of a group costs, in exact allocations of a counting allocator.

// A global allocator cannot be written without it; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

use schedgroup::errgroup::ErrGroup;
use schedgroup::flow;

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
async fn what_a_task_of_a_group_costs() {
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
    {
        // A task; what its ends and the results are kept in grows by doubling.
        let start = ALLOCATIONS.load(SeqCst);
        let tasks = (0..TASKS).map(|n| async move { n });
        assert_eq!(flow::all(tasks).limit(16).await.len() as u64, TASKS);
        let all = ALLOCATIONS.load(SeqCst) - start;
        assert!(
            (TASKS..=TASKS + 64).contains(&all),
            "{all} allocations for {TASKS} in a flow"
        );
    }
    {
        // Never more at once than may run, so the peak is that of 16 tasks, whatever their number.
        let (start, most) = (LIVE.load(SeqCst), AtomicI64::new(0));
        let room = |_| {
            most.fetch_max(LIVE.load(SeqCst), SeqCst);
            async move { std::hint::black_box([0_u8; 1024]).len() }
        };
        let each = flow::all((0..TASKS).map(room)).limit(16);
        assert_eq!(each.await.len() as u64, TASKS);
        let most = most.load(SeqCst) - start;
        let results = TASKS as i64 * 2 * 48;
        assert!(most < results + 200 * 1024, "{most} bytes at most");
    }
    let left = LIVE.load(SeqCst) - before;
    assert!(left <= 16 * 1024, "{left} bytes left");
}
