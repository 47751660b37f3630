//! What waiting work costs and what it leaves behind, in exact bytes of a counting allocator.

// A global allocator cannot be written without it; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use schedgroup::Group;
use schedgroup::rate::{Pacer, Rate};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, SeqCst);
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

type Payload = [u64; 4];

const URLS: i64 = 50_000;
const HOSTS: i64 = 500;

/// The allocator is one for the whole program, so everything is measured in one test.
#[tokio::test(start_paused = true)]
async fn waiting_work_is_small_and_leaves_nothing() {
    let group = Group::new();
    let before = LIVE.load(SeqCst);
    let pacer = Pacer::builder(Rate::per_second(20).burst(5))
        .overall(Rate::per_second(2_000))
        .run(&group.handle(), |_: Payload, _| async {});
    for url in 0..URLS {
        pacer.push(url % HOSTS, [0; 4]);
    }
    let beyond = (LIVE.load(SeqCst) - before) / URLS - size_of::<Payload>() as i64;
    println!("{beyond} bytes beyond the payload");
    assert!(beyond <= 250, "{beyond} bytes beyond the payload");

    group.wait().await.unwrap();
    let left = LIVE.load(SeqCst) - before;
    // What keys were used last still counts for a moment, and is looked through in passing.
    assert!(
        left <= HOSTS * 400,
        "{left} bytes are left of {URLS} entries"
    );
}
