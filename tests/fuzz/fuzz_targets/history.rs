//! Every input is a history; it fails where the group and the oracle differ.
#![forbid(unsafe_code)]
#![no_main]
// Each target compiles its own copy and uses a part of it.
#![allow(dead_code)]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../model/history.rs"]
mod history;
#[path = "../../model/oracle.rs"]
mod oracle;
#[path = "../../model/play.rs"]
mod play;

use history::{History, Mix};

libfuzzer_sys::fuzz_target!(|numbers: &[u8]| {
    play::perform(&History::spelt(&Mix::ALL, numbers.to_vec()));
});
