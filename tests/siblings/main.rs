//! The groups of tasks, `errgroup` and `sized`: what they promise, and the tests and faults of the Go
//! systems they come from, told anew, one module per system.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod conc;
mod facebookgo;
mod kratos;
mod neilotoole;
mod promises;
mod stress;
mod syncs;
mod waitgroup;
mod xsync;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts what runs, and the most that ran at once.
#[derive(Clone, Default)]
struct Meter(Arc<(AtomicUsize, AtomicUsize, AtomicUsize)>);

impl Meter {
    /// One task: in, a turn for the others, out.
    async fn run(self) {
        let (now, most, all) = &*self.0;
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        all.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        now.fetch_sub(1, SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    fn all(&self) -> usize {
        self.0.2.load(SeqCst)
    }
}

/// The text of the panic of misused code, which must name the line of the misuse.
#[track_caller]
fn misuse<R>(code: impl FnOnce() -> R) -> String {
    let here = std::panic::Location::caller();
    let panic = common::panic_of(code);
    assert_eq!(panic.file, here.file(), "{panic:?}");
    assert!(
        panic.line.abs_diff(here.line()) <= 1,
        "{panic:?}, not at {here}"
    );
    panic.message
}
