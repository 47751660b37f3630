//! Random histories of a group on the paused clock, beside a plain sorted list that is played along.
//!
//! What is compared after every step: which jobs started, at which millisecond and in which order; the
//! answer of every call; the state, deadline and payload of every job; the group's counts; the results of
//! `wait` and `shutdown`, and when they came.
//!
//! proptest spells the histories: it makes a failing one small, and keeps it in a file of `proptest-regressions`, beside
//! this one, to be played first from then on. `PROPTEST_CASES` sets how many it spells for each test.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
mod flows;
mod history;
mod keyed;
mod oracle;
mod play;
mod rounds;
mod tasks;

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use history::{History, Mix};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};

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
    check(kept!("pending"), CALM);
}

#[test]
fn jobs_under_a_limit_are_as_in_a_sorted_list() {
    let mix = Mix {
        limited: 100,
        sleeps: 70,
        ..CALM
    };
    check(kept!("limited"), mix);
}

#[test]
fn series_are_as_in_a_sorted_list() {
    let mix = Mix {
        series: 60,
        limited: 30,
        ..CALM
    };
    check(kept!("series"), mix);
}

#[test]
fn ends_of_a_group_are_as_in_a_sorted_list() {
    check(kept!("jobs"), Mix::ALL);
}

/// A byte for each decision.
fn check(kept: &'static str, mix: Mix) {
    spell(kept, &vec(any::<u8>(), 0..600), |numbers| {
        let history = History::spelt(&mix, numbers);
        shown(&history, || play::perform(&history));
    });
}

/// A word an op.
#[test]
fn histories_of_tasks_are_as_in_a_plain_queue() {
    let spelling = vec(any::<tasks::Word>(), 0..50);
    spell(kept!("tasks"), &spelling, |words| {
        let history = tasks::History::spelt(&words);
        shown(&history, || tasks::perform(&history));
    });
}

/// All combinators over sets of tasks, and streams.
#[test]
fn combinators_are_as_in_plain_lists() {
    let spelling = vec(any::<flows::Word>(), 0..24);
    spell(kept!("flows"), &spelling, |words| {
        let history = flows::History::spelt(&words);
        shown(&history, || flows::perform(&history));
    });
}

#[test]
fn waterfalls_and_retries_are_as_in_a_plain_loop() {
    let spelling = vec(any::<flows::Word>(), 0..10);
    spell(kept!("steps"), &spelling, |words| {
        let steps = flows::Steps::spelt(&words);
        shown(&steps, || steps.perform());
    });
}

/// The file in which failures are kept.
macro_rules! kept {
    ($what:literal) => {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/",
            $what,
            ".txt"
        )
    };
}
use kept;

fn spell<S: Strategy>(kept: &'static str, spelling: &S, play: impl Fn(S::Value)) {
    let spelt = Config::default();
    let config = Config {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => spelt.cases,
            None => 2_000,
        },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..spelt
    };
    let spelt = TestRunner::new(config).run(spelling, |spelt| {
        play(spelt);
        Ok(())
    });
    // What was spelt is in the file; the reason has the history.
    match spelt {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Adds the history to the message of a panic.
fn shown(history: &impl Display, play: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(play)) {
        panic!("{}\nafter {history}", text(payload));
    }
}

/// What a panic said.
fn text(payload: Box<dyn Any + Send>) -> String {
    payload.downcast::<String>().map_or_else(
        |payload| format!("{:?}", payload.downcast::<&str>()),
        |text| *text,
    )
}
