//! Prints the table in Markdown, and the histograms of lateness below it.

use std::collections::HashMap;
use std::process::ExitCode;

use crate::cell::{Cell, Who, measure, measure_at_once};
use crate::meter::ROUGH_NAMES;
use crate::rows::{ROWS, Row};
use crate::workload::{Beside, Workload};

/// Which rows, and how often each is measured.
#[derive(Default)]
pub(crate) struct Choice {
    /// Nine rounds, and the rows that the quick table omits.
    pub(crate) full: bool,
    /// Prints the table of keyed groups instead.
    pub(crate) keyed: bool,
    /// All rows with this word in their text, of the quick and of the full table.
    pub(crate) word: Option<String>,
    pub(crate) rounds: Option<usize>,
    /// One round at a hundredth of the size, with all contenders at the same time.
    pub(crate) small: bool,
}

impl Choice {
    /// Returns whether the text of a row has the word, if there is one.
    pub(crate) fn names(&self, what: &str) -> bool {
        self.word.as_deref().is_none_or(|word| what.contains(word))
    }

    fn takes(&self, row: &Row) -> bool {
        self.names(row.what) && (self.word.is_some() || self.full || self.small || !row.full)
    }

    fn size(&self, row: &Row) -> usize {
        if self.small {
            row.size.div_ceil(100)
        } else {
            row.size
        }
    }

    fn rounds(&self, row: &Row) -> usize {
        let takes_seconds = row.size >= 1_000_000
            || matches!(
                row.workload,
                Workload::Spread(_)
                    | Workload::Lateness(_)
                    | Workload::LoneOnTwoWorkers
                    | Workload::RepeatOnTwoWorkers { .. }
            );
        match self.rounds {
            Some(rounds) => rounds,
            None if self.small || row.size >= 10_000_000 => 1,
            None if self.full => 9,
            None if takes_seconds => 1,
            None => 3,
        }
    }

    /// How often rows are measured, in words.
    fn all_rounds(&self) -> String {
        match self.rounds {
            Some(rounds) => in_words(rounds),
            None if self.small => {
                "one small round with all contenders at the same time, which only shows that it works".to_owned()
            }
            None if self.full => "nine rounds (of one, at 10 million jobs)".to_owned(),
            None => "three rounds (of one, where a round takes seconds)".to_owned(),
        }
    }
}

/// A number of rounds.
pub(crate) fn in_words(rounds: usize) -> String {
    format!("{rounds} round{}", if rounds == 1 { "" } else { "s" })
}

/// The message when `--only` selects nothing.
pub(crate) const NO_ROW: &str = "no row has that word in its text";

/// The columns; what else a row has goes into the last one.
const COLUMNS: [Who; 4] = [Who::Tracker, Who::JoinSet, Who::DelayQueue, Who::Ours];

/// What was measured, by workload and size.
type Measured = HashMap<(Workload, usize), HashMap<Who, Cell>>;

/// Measures and prints the chosen rows.
pub(crate) fn print(choice: &Choice) -> ExitCode {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| choice.takes(row)).collect();
    if rows.is_empty() {
        eprintln!("{NO_ROW}");
        return ExitCode::FAILURE;
    }
    println!(
        "{}. Figures are medians of {}, and so are ratios, which are taken in each round. \"Ours\" is schedgroup, and \
         \"tasks\" the cheaper of the two contenders with a task per job.\n",
        machine(),
        choice.all_rounds(),
    );
    print!("| what |");
    for who in COLUMNS {
        print!(" {} |", who.name());
    }
    println!(" tasks ÷ ours | DelayQueue ÷ ours | others (÷ ours) |");
    println!("|---|{}---|", "---:|".repeat(COLUMNS.len() + 2));
    let mut measured = Measured::new();
    for row in &rows {
        let (workload, size) = (row.workload, choice.size(row));
        let cells = measured.entry((workload, size)).or_insert_with(|| {
            // Those of every row that has the same workload and size.
            let mut contenders = Who::ALL.to_vec();
            contenders.retain(|who| {
                let like = |other: &Row| (other.workload, other.size) == (workload, row.size);
                who.can(workload) && rows.iter().any(|row| like(row) && row.who.contains(who))
            });
            match choice.rounds {
                None if choice.small => measure_at_once(&contenders, workload, size),
                _ => measure(&contenders, workload, size, choice.rounds(row)),
            }
        });
        println!("{}", line(row, cells));
    }
    for row in rows {
        if matches!(row.workload, Workload::Lateness(Beside::Nothing)) && row.figure == "p50" {
            let load = row.what.split(',').next().unwrap_or(row.what);
            println!("\n{load}, how many were that late:\n");
            histogram(row, &measured[&(row.workload, choice.size(row))]);
        }
    }
    ExitCode::SUCCESS
}

fn line(row: &Row, cells: &HashMap<Who, Cell>) -> String {
    let median = |who: Who| cells.get(&who)?.median(row.figure);
    let ratio = |who: Who| {
        cells
            .get(&who)?
            .ratio_to(cells.get(&Who::Ours)?, row.figure)
    };
    let tasks = [Who::Tracker, Who::JoinSet]
        .into_iter()
        .filter_map(|who| Some((who, median(who)?)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other));
    let others: Vec<String> = row
        .who
        .iter()
        .filter(|who| !COLUMNS.contains(who))
        .filter_map(|&who| {
            let ratio = ratio(who).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            Some(format!(
                "{} {} ({ratio})",
                who.name(),
                readable(median(who)?)
            ))
        })
        .collect();
    let mut line = format!("| {} |", row.what);
    for who in COLUMNS {
        line += &median(who).map_or(" – |".to_owned(), |figure| {
            format!(" {} |", readable(figure))
        });
    }
    for ratio in [
        tasks.and_then(|(who, _)| ratio(who)),
        ratio(Who::DelayQueue),
    ] {
        line += &ratio.map_or(" – |".to_owned(), |ratio| format!(" {ratio:.2} |"));
    }
    line + &format!(" {} |", others.join(", "))
}

fn readable(figure: f64) -> String {
    match figure.abs() {
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Bars of at most 40 characters, one for each stretch of lateness.
fn histogram(row: &Row, cells: &HashMap<Who, Cell>) {
    for &who in row.who {
        let Some(cell) = cells.get(&who) else {
            continue;
        };
        let figure = |name| cell.median(name).unwrap_or_default();
        println!("    {}, {} early", who.name(), readable(figure("early")));
        let counts = ROUGH_NAMES.map(figure);
        let total: f64 = counts.iter().sum();
        for (name, count) in ROUGH_NAMES.into_iter().zip(counts) {
            let bar = "#".repeat((40.0 * count / total).ceil() as usize);
            println!("    {name:>10} {:>6.2} % {bar}", 100.0 * count / total);
        }
        println!();
    }
}

/// What it runs on.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let versions = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let entry = versions.split_once(&format!("name = \"{name}\"\nversion = \""));
        entry
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or("?")
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{cores} x {}, load {} at the start, tokio {}, tokio-util {}, two workers",
        model.map_or("unknown", |(_, model)| model),
        load.split(' ').next().unwrap_or("?"),
        version("tokio"),
        version("tokio-util"),
    )
}
