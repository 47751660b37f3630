//! schedgroup beside what one would use instead: a task and a sleep for each job, or a `DelayQueue`.
//!
//! ```sh
//! cargo run --release -p versus                     # the table, in under a minute
//! cargo run --release -p versus -- --full           # all sizes up to 10 million, some minutes
//! cargo run --release -p versus -- --only lateness  # rows with that word
//! cargo run --release -p versus -- --plot docs/growth.svg
//! ```
//!
//! Every cell is the median of several runs, each in a process of its own. Read ratios, and of these
//! only such as are above 1.3: the rest is noise of the machine.

mod cell;
mod contender;
mod meter;
mod plot;
mod rows;
mod table;
mod workload;

use std::process::ExitCode;

const USAGE: &str = "usage: versus [--full] [--only WORD] [--plot FILE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        [] => table::print(false, ""),
        ["--full"] => table::print(true, ""),
        ["--only", word] | ["--full", "--only", word] => table::print(true, word),
        ["--plot", file] => plot::draw(file),
        ["--cell", who, workload, size] => return measure_cell(who, workload, size),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What a child process does; its parent wrote the arguments.
fn measure_cell(who: &str, workload: &str, size: &str) -> ExitCode {
    let who = cell::Who::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == who);
    let row = rows::ROWS
        .iter()
        .find(|row| format!("{:?}", row.workload) == workload);
    match (who, row, size.parse()) {
        (Some(who), Some(row), Ok(size)) => {
            cell::measure_here(who, row.workload, size);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}
