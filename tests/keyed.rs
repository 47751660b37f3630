//! Entries under keys: at most one pending per key, moved, replaced, kept and removed by key.

mod debounce;
mod ends;
mod exclusive;
mod handlers;
mod jobs;
mod user_code;
mod values;

use schedgroup::keyed::KeyedGroup;
use tokio::time::sleep;

use crate::common::{Log, ms};

/// A keyed group that logs what it handles.
fn logging() -> (KeyedGroup<char, u32>, Log<(char, u32)>) {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(move |_, key, value| handled.job((key, value)));
    (keyed, log)
}

/// Each run takes ten milliseconds.
fn alone() -> (KeyedGroup<char, u32>, Log<(char, u32)>) {
    let log = Log::new();
    let runs = log.clone();
    let keyed = KeyedGroup::builder()
        .exclusive()
        .build_with(move |_, key, value| {
            runs.push((key, value));
            sleep(ms(10))
        });
    (keyed, log)
}
