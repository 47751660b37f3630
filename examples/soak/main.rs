//! Runs the scheduling group for long, and checks that nothing hangs, is lost, starts early, leaks or starves.
//!
//! You should see a line of figures for each measurement. The program fails if a check does. `block-after-await` has no
//! check.
//!
//! ```sh
//! cargo run --release --example soak                  # lists the measurements
//! cargo run --release --example soak -- hang          # makes one, with its default count
//! cargo run --release --example soak -- hang 20000    # makes it with another count
//! ```
#![deny(unsafe_code)]

mod crowd;
mod ends;
mod keyed;
mod late;
mod memory;
mod starved;
mod tasks;
mod volume;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::runtime::{Builder, Runtime};

type Soak = fn(u64) -> u64;

/// The name, the function, the default count and what is counted, and what is measured. The function returns the number
/// of failures.
#[rustfmt::skip] // A line for each measurement.
const ALL: [(&str, Soak, u64, &str, &str); 22] = [
    ("hang", ends::hang, 1_000_000, "ROUNDS", "schedule, then wait, on two workers"),
    ("races", ends::races, 1_000_000, "JOBS", "accepted jobs against every way to end"),
    ("volume", volume::volume, 10_000_000, "JOBS", "one group on the paused clock"),
    ("real", volume::real, 10_000_000, "JOBS", "the same on the real clock"),
    ("years", volume::years, 10, "YEARS", "hourly jobs on the paused clock"),
    ("waves", memory::waves, 1000, "WAVES", "live bytes after many bursts of jobs"),
    ("groups", memory::groups, 1_000_000, "GROUPS", "groups that are created and dropped"),
    ("crowd", crowd::crowd, 60, "SECONDS", "schedule, cancel and move from eight tasks"),
    ("idle", late::idle, 20, "SECONDS", "lateness on an idle machine, for comparison"),
    ("flood", late::flood, 10, "SECONDS", "lateness while a million jobs a second are scheduled"),
    ("deluge", late::deluge, 10, "SECONDS", "lateness while two threads schedule without a pause"),
    ("keyed-resets", late::keyed_resets, 10, "SECONDS", "lateness while keyed entries are reset"),
    ("blocked", late::blocked, 10, "SECONDS", "lateness while jobs block a worker"),
    ("cancel", late::cancel, 1_000_000, "JOBS", "a cancel of many pending jobs"),
    ("end", late::end, 5_000_000, "JOBS", "queries of other threads while a large group is dropped"),
    ("sweep", late::sweep, 2_000_000, "JOBS", "lateness during a sweep of dead entries"),
    ("front", late::front, 1_000_000, "JOBS", "a burst with one job just before it"),
    ("schedule-then-block", starved::schedule_then_block, 10, "SECONDS", "lateness while jobs schedule, then block"),
    ("block-after-await", starved::block_after_await, 10, "SECONDS", "lateness while jobs await, then block; no check"),
    ("repeating", starved::repeating, 10, "SECONDS", "200,000 jobs that repeat"),
    ("task-races", tasks::task_races, 100_000, "RACES", "tasks against every way to end"),
    ("keyed-races", keyed::keyed_races, 100_000, "RACES", "keyed values against every way to end"),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, count) = (arguments.next(), arguments.next());
    let Some((_, soak, default, ..)) = ALL.iter().find(|(name, ..)| Some(*name) == what.as_deref())
    else {
        eprintln!("usage: soak NAME [COUNT]\n");
        for (name, _, default, counted, measured) in ALL {
            let name = format!("{name} [{counted}]");
            eprintln!("{name:<30} {measured}; by default {default}");
        }
        return ExitCode::FAILURE;
    };
    let count = count.map_or(*default, |count| count.parse().expect("a number"));
    match soak(count) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn two_workers() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().build();
    built.expect("a runtime")
}

fn paused_clock() -> Runtime {
    let mut builder = Builder::new_current_thread();
    let built = builder.enable_all().start_paused(true).build();
    built.expect("a runtime")
}

/// Pseudo-random numbers that are never zero.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Counts what was dropped.
struct Gone(Arc<AtomicU64>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
