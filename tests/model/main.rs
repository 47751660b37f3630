//! Random histories of a group on the paused clock, beside a plain sorted list that is played along.
//!
//! What is compared after every step: which jobs started, at which millisecond and in which order; the
//! answer of every call; the state, deadline and payload of every job; the group's counts; the results of
//! `wait` and `shutdown`, and when they came.
//!
//! `SCHEDGROUP_SEED` sets the first seed and `SCHEDGROUP_HISTORIES` how many histories each test plays. A
//! history that fails is cut down to the ops that matter and printed.

#[path = "../common/mod.rs"]
mod common;
mod history;
mod keyed;
mod oracle;
mod play;

use std::panic::{AssertUnwindSafe, catch_unwind};

use history::{History, Mix};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};

const CALM: Mix = Mix {
    ops: 40,
    limited: 0,
    deadline: 0,
    series: 0,
    sleeps: 40,
    panics: 0,
    meddling: 40,
    ends: 0,
};

#[test]
fn pending_jobs_are_as_in_a_sorted_list() {
    check(CALM);
}

#[test]
fn jobs_under_a_limit_are_as_in_a_sorted_list() {
    check(Mix {
        limited: 100,
        sleeps: 70,
        ..CALM
    });
}

#[test]
fn series_are_as_in_a_sorted_list() {
    check(Mix {
        series: 60,
        limited: 30,
        ..CALM
    });
}

#[test]
fn ends_of_a_group_are_as_in_a_sorted_list() {
    check(Mix::ALL);
}

/// The same histories, spelt by proptest: it makes a failing one small, and keeps it in a file beside this
/// one (`proptest-regressions`), to be played first from then on.
///
/// `PROPTEST_CASES` sets how many it spells.
#[test]
fn histories_that_are_spelt_are_as_in_a_sorted_list() {
    let config = Config {
        source_file: Some(file!()),
        ..Config::default()
    };
    let spelling = vec(any::<u8>(), 0..600);
    TestRunner::new(config)
        .run(&spelling, |numbers| {
            let history = History::spelt(&Mix::ALL, numbers);
            play::perform(&history);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn check(mix: Mix) {
    let first = number("SCHEDGROUP_SEED").unwrap_or(1);
    let histories = number("SCHEDGROUP_HISTORIES").unwrap_or(1000);
    for seed in first..first + histories {
        let history = History::random(&mix, seed);
        if let Err(message) = play(&history) {
            let (history, message) = cut_down(history, message);
            panic!("SCHEDGROUP_SEED={seed} SCHEDGROUP_HISTORIES=1\n{message}\nafter {history}");
        }
    }
}

/// The message of the panic that the history ends with.
fn play(history: &History) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| play::perform(history))).map_err(|payload| {
        payload.downcast::<String>().map_or_else(
            |payload| format!("{:?}", payload.downcast::<&str>()),
            |text| *text,
        )
    })
}

/// Leaves out one op after another as long as the history still fails.
fn cut_down(mut history: History, mut message: String) -> (History, String) {
    let mut op = history.ops.len();
    while op > 0 {
        op -= 1;
        let removed = history.ops.remove(op);
        match play(&history) {
            Err(shorter) => message = shorter,
            Ok(()) => history.ops.insert(op, removed),
        }
    }
    (history, message)
}
