//! Random histories of all verbs by key on the paused clock, beside a plain map; and of keys that run alone.

mod alone;
mod play;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::paused;
use crate::{kept, shown, spell};
use play::{Step, play, play_alone};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec((0..6_u64, 0..20_u8, 0..5_u64, 0..20_u64, 0..20_u64), 0..120)
}

fn check(kept: &'static str, play: impl AsyncFn(Vec<Step>)) {
    spell(kept, &steps(), |steps| {
        let history = format!("{steps:?}");
        shown(&history, || paused().block_on(play(steps)));
    });
}

#[test]
fn random_histories_agree_with_a_plain_map() {
    check(kept!("keys"), play);
}

#[test]
fn random_histories_of_keys_that_run_alone_never_overlap_and_lose_nothing() {
    check(kept!("keys-alone"), play_alone);
}

#[test]
fn random_histories_of_keys_that_run_alone_agree_with_a_list_per_key() {
    check(kept!("keys-alone-exactly"), alone::play);
}
