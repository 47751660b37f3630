//! Every input is a history of a keyed group; it fails where the group and a plain map differ, or where runs of a key
//! overlap.
#![forbid(unsafe_code)]
#![no_main]
// Each target compiles its own copy and uses a part of it.
#![allow(dead_code)]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../model/keyed/play.rs"]
mod play;

use common::paused;
use play::Step;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, steps)) = bytes.split_first() else {
        return;
    };
    // As far as the numbers of tests/model go, and half as long. A long history costs more than it finds.
    let steps: Vec<Step> = steps
        .chunks_exact(5)
        .take(60)
        .map(|step| {
            let below = |at: usize, end: u8| step[at] % end;
            let number = |at, end| u64::from(below(at, end));
            let (key, one, other) = (number(2, 5), number(3, 20), number(4, 20));
            (number(0, 6), below(1, 20), key, one, other)
        })
        .collect();
    match first % 2 {
        0 => paused().block_on(play::play(steps)),
        _ => paused().block_on(play::play_alone(steps)),
    }
});
