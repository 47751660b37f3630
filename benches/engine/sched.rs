//! The queue of deadlines beside the plain heap that it is built around: all entries in, then all out in order. Times
//! are for all entries of a row; the line below them says how many entries went in and out in a second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;

use self::queue::{Entry, Queue, Sequence};
use crate::common::time::Timestamp;

// The driver asks more of it than this does, and sweeps it.
#[allow(dead_code, unused_imports)]
#[path = "../../src/sched/queue/mod.rs"]
mod queue;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const MINUTE: u64 = 60_000_000_000;
const TURN: u64 = 1_000_000;

/// Deadlines at random within a minute; slot `i` is due at the `i`th.
fn entries(size: usize) -> Vec<Entry> {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    (0..size as u64)
        .map(|job| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            Entry {
                at: Timestamp::ALWAYS.after(Duration::from_nanos(random % MINUTE)),
                sequence: Sequence::first(job),
                slot: job as u32,
            }
        })
        .collect()
}

fn count(bencher: Bencher<'_, '_>, size: usize, drain: fn(&[Entry]) -> usize) {
    let entries = entries(size);
    bencher
        .counter(ItemsCount::new(size))
        .bench_local(|| assert_eq!(drain(&entries), size));
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn queue_of_the_driver(bencher: Bencher<'_, '_>, size: usize) {
    count(bencher, size, |entries| {
        let mut queue = Queue::new(Timestamp::ALWAYS);
        entries.iter().for_each(|&entry| queue.push(entry));
        let mut batch = Vec::new();
        let mut out = 0;
        for turn in 0..=MINUTE / TURN {
            let now = Timestamp::ALWAYS.after(Duration::from_nanos(turn * TURN));
            while let Some(slots) = queue.cascade(now, 512) {
                queue.cascaded(slots.into_iter().map(|slot| entries[slot as usize]));
            }
            queue.pop_due(now, &mut batch, usize::MAX);
            out += batch.drain(..).count();
        }
        out
    });
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn queue_of_a_heap_alone(bencher: Bencher<'_, '_>, size: usize) {
    count(bencher, size, |entries| {
        let mut heap = BinaryHeap::new();
        entries.iter().for_each(|&entry| heap.push(Reverse(entry)));
        std::iter::from_fn(|| heap.pop()).count()
    });
}
