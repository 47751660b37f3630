//! The table, in Markdown, and the histograms of lateness below it.

use std::collections::HashMap;

use crate::cell::{Medians, Who, measure};
use crate::meter::ROUGH_NAMES;
use crate::rows::{ROWS, Row};
use crate::workload::{Beside, Workload};

type Cells = HashMap<(String, usize, Who), Medians>;

/// Measures and prints the rows whose text has `word` in it; of the quick table unless `full`.
pub(crate) fn print(full: bool, word: &str) {
    let chosen: Vec<&Row> = ROWS
        .iter()
        .filter(|row| (full || !row.full) && row.what.contains(word))
        .collect();
    let mut cells = Cells::new();
    println!("{}\n", machine());
    print!("| what |");
    let columns = columns();
    columns.iter().for_each(|who| print!(" {} |", who.name()));
    println!(" ratio |");
    println!("|---|{}", "---:|".repeat(columns.len() + 1));
    for row in &chosen {
        println!("{}", line(row, full, &mut cells));
    }
    for row in chosen {
        if matches!(row.workload, Workload::Lateness(Beside::Nothing)) && row.figure == "p50" {
            println!("\n{}, and how many were that late:\n", row.what);
            histogram(row, &cells);
        }
    }
}

fn columns() -> Vec<Who> {
    let all = Who::ALL.into_iter();
    all.filter(|who| who.can(Workload::Idle)).collect()
}

fn line(row: &Row, full: bool, cells: &mut Cells) -> String {
    let workload = format!("{:?}", row.workload);
    let mut line = format!("| {} |", row.what);
    let mut figures = HashMap::new();
    for who in columns() {
        if !row.who.contains(&who) || !who.can(row.workload) {
            line += " |";
            continue;
        }
        let cell = cells
            .entry((workload.clone(), row.size, who))
            .or_insert_with(|| measure(who, &workload, row.size, times(row, full)));
        match cell.get(row.figure) {
            Some(&figure) => {
                figures.insert(who, figure);
                line += &format!(" {} |", readable(figure));
            }
            None => line += " – |",
        }
    }
    line + &format!(" {} |", ratio(&figures).unwrap_or_default())
}

/// So often a cell is measured, for the median.
fn times(row: &Row, full: bool) -> usize {
    let takes_a_second = matches!(
        row.workload,
        Workload::Spread | Workload::Lateness(_) | Workload::Idle | Workload::AfterBurst
    );
    match (full, row.size) {
        (_, 10_000_000..) => 1,
        (true, 1_000_000..) => 3,
        (true, _) => 5,
        (false, 1_000_000..) => 1,
        (false, _) if takes_a_second => 1,
        (false, _) => 3,
    }
}

/// How many times less than the better of the two forms with a task for each job.
fn ratio(figures: &HashMap<Who, f64>) -> Option<String> {
    let ours = *figures.get(&Who::Ours)?;
    let tasks = [Who::Tracker, Who::JoinSet];
    let best = tasks.iter().filter_map(|who| figures.get(who).copied());
    let best = best.min_by(f64::total_cmp)?;
    (ours > 0.0 && best > 0.0).then(|| format!("{:.1}", best / ours))
}

fn readable(figure: f64) -> String {
    match figure.abs() {
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Bars of at most 40 characters, one for each stretch of lateness.
fn histogram(row: &Row, cells: &Cells) {
    for &who in row.who {
        let Some(cell) = cells.get(&(format!("{:?}", row.workload), row.size, who)) else {
            continue;
        };
        println!("    {}, {} early", who.name(), readable(cell["early"]));
        let counts = ROUGH_NAMES.map(|name| cell[name]);
        let total: f64 = counts.iter().sum();
        for (name, count) in ROUGH_NAMES.into_iter().zip(counts) {
            let bar = "#".repeat((40.0 * count / total).ceil() as usize);
            println!("    {name:>10} {:>6.2} % {bar}", 100.0 * count / total);
        }
        println!();
    }
}

/// What it ran on, in a line.
fn machine() -> String {
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
    format!(
        "{cores} x {}, tokio {}, tokio-util {}, two workers; medians; the ratio is the better of the two forms with a task for each job, divided by ours",
        model.map_or("unknown", |(_, model)| model),
        version("tokio"),
        version("tokio-util"),
    )
}
