//! The promises of the scheduling group, one module each: every clause has a test that fails when
//! the clause is broken.
//!
//! What other files of `tests/` hold already is not said again; `tests/README.md` is the map.

mod p01_never_early;
mod p02_order;
mod p03_accepted;
mod p04_wake_ups;
mod p05_any_deadline;
mod p06_cancel_beats_all;
mod p07_one_job;
mod p08_panics;
mod p09_closed;
mod p10_gone;
mod p11_drain;
mod p11_shutdown;
mod p12_drop_detach_abort;
mod p13_repeat;
mod p14_limit;
mod p15_runtimes;
mod p16_memory;
mod p17_destructors;
mod p18_unsafe;
mod p19_short_locks;
mod values;

use schedgroup::WaitError;

#[track_caller]
fn assert_cancelled(outcome: &Result<(), WaitError>) {
    assert!(matches!(outcome, Err(WaitError::Cancelled)), "{outcome:?}");
}

#[track_caller]
fn assert_deadline_exceeded(outcome: &Result<(), WaitError>) {
    assert!(
        matches!(outcome, Err(WaitError::DeadlineExceeded)),
        "{outcome:?}"
    );
}

#[track_caller]
fn panic_message(outcome: &Result<(), WaitError>) -> &str {
    match outcome {
        Err(WaitError::Panicked(panic)) => panic.message(),
        other => panic!("no panic but {other:?}"),
    }
}
