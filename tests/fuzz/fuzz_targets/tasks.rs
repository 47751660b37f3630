//! Every input is a history of a group of tasks; it fails where the group and the oracle differ.
#![forbid(unsafe_code)]
#![no_main]
// Each target compiles its own copy and uses a part of it.
#![allow(dead_code)]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../model/rounds.rs"]
mod rounds;
#[path = "../../model/tasks/mod.rs"]
mod tasks;

use tasks::{History, Word};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let words: Vec<Word> = bytes
        .chunks(size_of::<Word>())
        .map(|chunk| std::array::from_fn(|byte| chunk.get(byte).copied().unwrap_or(0)))
        .collect();
    let history = History::spelt(&words);
    if let Err(payload) = std::panic::catch_unwind(|| tasks::perform(&history)) {
        eprintln!("after {history}");
        std::panic::resume_unwind(payload);
    }
});
