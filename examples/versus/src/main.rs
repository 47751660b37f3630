//! Measures schedgroup beside the usual alternatives: a task and a sleep per job, a `DelayQueue`, a `timeout`.
//!
//! ```sh
//! cargo run --release -p versus                     # the quick table, in some minutes
//! cargo run --release -p versus -- --full           # all rows in nine rounds, 10 million jobs in one; an hour or more
//! cargo run --release -p versus -- --only sleeps    # all rows with that word, also those that only --full has
//! cargo run --release -p versus -- --rounds 9       # nine rounds
//! cargo run --release -p versus -- --small          # a check that it works: each row once, at a hundredth of its size
//! cargo run --release -p versus -- --plot docs/growth.svg
//! cargo run --release -p versus -- --keyed          # keyed groups beside a DelayQueue behind a map
//! cargo run --release -p versus -- --keyed --only reset  # of these the rows with that word
//! ```
//!
//! You should see a table with a column per contender and columns with ratios. A ratio above 1 means that schedgroup
//! costs less; the table of `--keyed` divides the other way round, so there a ratio below 1 means so.
//!
//! Every figure is the median of its rounds. In a round each contender is measured once, in a process of its own, one
//! right after the other. Compare the ratios, not the figures, and only those above 1.3 or below 0.8: the rest is noise of
//! the machine. On a busy machine the two workers seldom run at the same time, so contention between them does not show.
//! That favours the contenders with a task per job most. `--small` measures all contenders of a row at the same time, so
//! its figures mean nothing.
#![deny(unsafe_code)]

mod cell;
mod contender;
mod keyed;
mod meter;
mod plot;
mod rows;
mod table;
mod timeouts;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

use table::Choice;

const USAGE: &str = "usage: versus [--full | --keyed] [--only WORD] [--rounds N] [--small]\n       versus --plot FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["--plot", file] => {
            plot::draw(file);
            ExitCode::SUCCESS
        }
        ["--cell", who, workload, size, patience] => measure_cell(who, workload, size, patience),
        ["--keyed-cell", who, cell, size] => match size.parse() {
            Ok(size) => keyed::measure_cell(who, cell, size),
            Err(_) => ExitCode::FAILURE,
        },
        ref words => match choice(words) {
            Some(choice) if choice.keyed => keyed::print(&choice),
            Some(choice) => table::print(&choice),
            None => {
                eprintln!("{USAGE}");
                ExitCode::FAILURE
            }
        },
    }
}

fn choice(words: &[&str]) -> Option<Choice> {
    let mut choice = Choice::default();
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "--full" => choice.full = true,
            "--keyed" => choice.keyed = true,
            "--small" => choice.small = true,
            "--only" => choice.word = Some((*words.next()?).to_owned()),
            "--rounds" => {
                choice.rounds = Some(words.next()?.parse().ok().filter(|&rounds| rounds > 0)?);
            }
            _ => return None,
        }
    }
    Some(choice)
}

/// Measures one cell. This runs in a child process, and its parent wrote the arguments.
fn measure_cell(who: &str, workload: &str, size: &str, patience: &str) -> ExitCode {
    let who = cell::Who::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == who);
    let row = rows::ROWS
        .iter()
        .find(|row| format!("{:?}", row.workload) == workload);
    match (who, row, size.parse(), patience.parse()) {
        (Some(who), Some(row), Ok(size), Ok(patience)) => {
            workload::PATIENCE.store(patience, Relaxed);
            cell::measure_here(who, row.workload, size);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}
