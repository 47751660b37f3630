//! Measures one cell of the table: one contender, one workload and one size, in a process of its own.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::thread;

use crate::contender::{Delayed, Fine, Joined, Limited, Ours, Plain, Split, Tracked, WithHandles};
use crate::timeouts::{OfPingora, OfTokio};
use crate::workload::{self, Figures, TOO_LATE, Workload, run};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Tracker,
    JoinSet,
    DelayQueue,
    Ours,
    /// With `max_running(64)`.
    OursLimited,
    /// With all handles kept.
    OursWithHandles,
    /// With the feature `timerfd`, and a timer of the kernel's.
    OursFine,
    /// The jobs dealt out to 200 groups.
    OursSplit,
    /// Timeouts alone.
    TokioTimeout,
    /// Likewise.
    PingoraTimeout,
}

impl Who {
    pub(crate) const ALL: [Who; 10] = [
        Who::Tracker,
        Who::JoinSet,
        Who::DelayQueue,
        Who::Ours,
        Who::OursLimited,
        Who::OursWithHandles,
        Who::OursFine,
        Who::OursSplit,
        Who::TokioTimeout,
        Who::PingoraTimeout,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Tracker => "TaskTracker + sleep",
            Who::JoinSet => "JoinSet + sleep",
            Who::DelayQueue => "DelayQueue + driver",
            Who::Ours => "schedgroup",
            Who::OursLimited => "with a limit",
            Who::OursWithHandles => "with handles",
            Who::OursFine => "with a timerfd",
            Who::OursSplit => "in 200 groups",
            Who::TokioTimeout => "tokio::time::timeout",
            Who::PingoraTimeout => "pingora-timeout",
        }
    }

    /// Returns whether it supports the workload.
    pub(crate) fn can(self, workload: Workload) -> bool {
        match self {
            // It cannot cancel all of its tasks.
            Who::Tracker => workload != Workload::CancelAll,
            Who::OursFine => cfg!(all(feature = "timerfd", target_os = "linux")),
            Who::TokioTimeout | Who::PingoraTimeout => workload == Workload::Timeouts,
            _ => true,
        }
    }

    fn run(self, workload: Workload, size: usize) -> Figures {
        match self {
            Who::Tracker => run::<Tracked>(workload, size),
            Who::JoinSet => run::<Joined>(workload, size),
            Who::DelayQueue => run::<Delayed>(workload, size),
            Who::Ours => run::<Ours<Plain>>(workload, size),
            Who::OursLimited => run::<Ours<Limited>>(workload, size),
            Who::OursWithHandles => run::<Ours<WithHandles>>(workload, size),
            Who::OursFine => run::<Ours<Fine>>(workload, size),
            Who::OursSplit => run::<Ours<Split>>(workload, size),
            Who::TokioTimeout => workload::run_timeouts::<OfTokio>(size),
            Who::PingoraTimeout => workload::run_timeouts::<OfPingora>(size),
        }
    }
}

/// The figures of one contender at one workload and size: for each name one of every round.
#[derive(Default)]
pub(crate) struct Cell(HashMap<String, Vec<f64>>);

impl Cell {
    fn add(&mut self, figures: Vec<(String, f64)>) {
        for (name, figure) in figures {
            self.0.entry(name).or_default().push(figure);
        }
    }

    pub(crate) fn median(&self, figure: &str) -> Option<f64> {
        median(self.0.get(figure)?)
    }

    /// How many times that of `other` a figure is: the median over the rounds, in each of which the two were
    /// measured right after each other.
    pub(crate) fn ratio_to(&self, other: &Cell, figure: &str) -> Option<f64> {
        let (ours, theirs) = (self.0.get(figure)?, other.0.get(figure)?);
        median_ratio(ours, theirs).filter(|ratio| ratio.is_finite() && *ratio > 0.0)
    }
}

/// The one in the middle, or half-way between the two.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = figures.get(middle)?;
    Some(match figures.len() % 2 {
        0 => (figures[middle - 1] + upper) / 2.0,
        _ => *upper,
    })
}

/// The median of the ratios of the rounds.
pub(crate) fn median_ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
    median(&ratios.collect::<Vec<_>>())
}

/// Runs a cell in this process and prints its figures for the parent.
pub(crate) fn measure_here(who: Who, workload: Workload, size: usize) {
    for (name, figure) in who.run(workload, size) {
        println!("{name}={figure}");
    }
}

/// Measures the contenders in turn, then all of them again, and so on, each time in a fresh process: what else the
/// machine does meanwhile befalls all of them alike.
pub(crate) fn measure(
    contenders: &[Who],
    workload: Workload,
    size: usize,
    rounds: usize,
) -> HashMap<Who, Cell> {
    let mut cells: HashMap<Who, Cell> = HashMap::new();
    for _ in 0..rounds {
        for &who in contenders {
            let figures = measure_once(who, workload, size);
            cells.entry(who).or_default().add(figures);
        }
    }
    cells
}

/// Measures all contenders once and at the same time, to see that it works: each disturbs the others.
pub(crate) fn measure_at_once(
    contenders: &[Who],
    workload: Workload,
    size: usize,
) -> HashMap<Who, Cell> {
    thread::scope(|scope| {
        let measure = |&who: &Who| (who, scope.spawn(move || measure_once(who, workload, size)));
        let threads: Vec<_> = contenders.iter().map(measure).collect();
        let cells = threads.into_iter().map(|(who, thread)| {
            let mut cell = Cell::default();
            cell.add(thread.join().expect("a cell that was measured"));
            (who, cell)
        });
        cells.collect()
    })
}

fn measure_once(who: Who, workload: Workload, size: usize) -> Vec<(String, f64)> {
    let (contender, row, jobs) = (
        format!("{who:?}"),
        format!("{workload:?}"),
        size.to_string(),
    );
    for patience in ["1", "2", "4", "8"] {
        match in_child(&["--cell", &contender, &row, &jobs, patience]) {
            Ok(figures) => return figures,
            Err(Some(TOO_LATE)) => {}
            Err(_) => panic!("{who:?} failed at {workload:?} of {size}"),
        }
    }
    panic!("{who:?} is too slow to schedule {size} jobs of {workload:?} before they are due");
}

/// Runs this program again with those arguments. Returns the figures that it prints, or the exit code if it fails.
pub(crate) fn in_child(arguments: &[&str]) -> Result<Vec<(String, f64)>, Option<i32>> {
    let program = std::env::current_exe().expect("this program's path");
    let child = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("this program, started again");
    if !child.status.success() {
        return Err(child.status.code());
    }
    let text = String::from_utf8(child.stdout).expect("figures");
    let figures = text.lines().filter_map(|line| line.split_once('='));
    Ok(figures
        .map(|(name, figure)| (name.to_owned(), figure.parse().expect("a number")))
        .collect())
}
