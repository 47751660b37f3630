//! The long runs: nothing hangs, nothing is lost, nothing is early, nothing is kept, nothing starves.
//!
//! ```sh
//! cargo run --release --example soak -- hang [ROUNDS]     # schedule, then wait, on two workers
//! cargo run --release --example soak -- races [JOBS]      # accepted jobs against every way to end
//! cargo run --release --example soak -- volume [JOBS]     # one group on the paused clock
//! cargo run --release --example soak -- real [JOBS]       # the same in real time
//! cargo run --release --example soak -- years [YEARS]     # hourly jobs on the paused clock
//! cargo run --release --example soak -- waves [WAVES]     # live bytes after many bursts
//! cargo run --release --example soak -- groups [GROUPS]   # made and dropped
//! cargo run --release --example soak -- crowd [SECONDS]   # push, cancel and move from eight tasks
//! cargo run --release --example soak -- idle [SECONDS]    # how late jobs are
//! cargo run --release --example soak -- flood [SECONDS]   # beside a million pushes a second
//! cargo run --release --example soak -- deluge [SECONDS]  # beside as many as two threads can push
//! cargo run --release --example soak -- blocked [SECONDS] # beside jobs that block a worker
//! cargo run --release --example soak -- cancel [JOBS]     # all pending ones at once
//! cargo run --release --example soak -- end [JOBS]        # who asks while a group is dropped
//! cargo run --release --example soak -- sweep [JOBS]      # beside a sweep of dead entries
//! cargo run --release --example soak -- front [JOBS]      # a burst with one job just before it
//! cargo run --release --example soak -- schedule-then-block [SECONDS] # beside jobs that do so
//! cargo run --release --example soak -- block-after-await [SECONDS]   # beside jobs that do so
//! cargo run --release --example soak -- repeating [SECONDS]  # 200,000 jobs that repeat
//! cargo run --release --example soak -- task-races [RACES]   # tasks against every way to end
//! ```
//!
//! Each figure is a line; a miss ends the program with 1.
#![deny(unsafe_code)]

mod crowd;
mod ends;
mod late;
mod memory;
mod starved;
mod tasks;
mod volume;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

type Soak = fn(u64) -> u64;

/// Each with what it takes when nothing is said; it returns its misses.
const ALL: [(&str, Soak, u64); 20] = [
    ("hang", ends::hang, 1_000_000),
    ("races", ends::races, 1_000_000),
    ("volume", volume::volume, 10_000_000),
    ("real", volume::real, 10_000_000),
    ("years", volume::years, 10),
    ("waves", memory::waves, 1000),
    ("groups", memory::groups, 1_000_000),
    ("crowd", crowd::crowd, 60),
    ("idle", late::idle, 20),
    ("flood", late::flood, 10),
    ("deluge", late::deluge, 10),
    ("blocked", late::blocked, 10),
    ("cancel", late::cancel, 1_000_000),
    ("end", late::end, 5_000_000),
    ("sweep", late::sweep, 2_000_000),
    ("front", late::front, 1_000_000),
    ("schedule-then-block", starved::schedule_then_block, 10),
    ("block-after-await", starved::block_after_await, 10),
    ("repeating", starved::repeating, 10),
    ("task-races", tasks::task_races, 100_000),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, count) = (arguments.next(), arguments.next());
    let Some((_, soak, default)) = ALL.iter().find(|(name, ..)| Some(*name) == what.as_deref())
    else {
        eprintln!(
            "usage: soak {} [COUNT]",
            ALL.map(|(name, ..)| name).join("|")
        );
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

/// Numbers that look random; not zero.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
