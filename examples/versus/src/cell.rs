//! One cell of the table: one contender, one workload, one size, in a process of its own.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use crate::contender::{
    Contender, Delayed, Fine, Joined, Limited, Ours, Plain, Tracked, WithHandles,
};
use crate::workload::{Figures, Workload, run};

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
}

impl Who {
    pub(crate) const ALL: [Who; 7] = [
        Who::Tracker,
        Who::JoinSet,
        Who::DelayQueue,
        Who::Ours,
        Who::OursLimited,
        Who::OursWithHandles,
        Who::OursFine,
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
        }
    }

    /// Has it what the workload asks for?
    pub(crate) fn can(self, workload: Workload) -> bool {
        match self {
            Who::Tracker => Tracked::CANCELS_ALL || workload != Workload::CancelAll,
            Who::OursFine => cfg!(all(feature = "timerfd", target_os = "linux")),
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
        }
    }
}

/// Medians by name.
pub(crate) type Medians = HashMap<String, f64>;

/// Runs a cell in this process and prints its figures for the parent.
pub(crate) fn measure_here(who: Who, workload: Workload, size: usize) {
    for (name, figure) in who.run(workload, size) {
        println!("{name}={figure}");
    }
}

/// Runs a cell so many times, each in a fresh process, and takes the median of each figure.
pub(crate) fn measure(who: Who, workload: &str, size: usize, times: usize) -> Medians {
    let mut all: HashMap<String, Vec<f64>> = HashMap::new();
    for _ in 0..times {
        for (name, figure) in measure_once(who, workload, size) {
            all.entry(name).or_default().push(figure);
        }
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    all.into_iter()
        .map(|(name, figures)| (name, median(figures)))
        .collect()
}

fn measure_once(who: Who, workload: &str, size: usize) -> Vec<(String, f64)> {
    let child = Command::new(std::env::current_exe().expect("this program's path"))
        .args(["--cell", &format!("{who:?}"), workload, &size.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("this program, started again");
    assert!(
        child.status.success(),
        "{who:?} failed at {workload} of {size}"
    );
    let text = String::from_utf8(child.stdout).expect("figures");
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, figure)| (name.to_owned(), figure.parse().expect("a number")))
        .collect()
}
