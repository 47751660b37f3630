//! Runs the scheduling group for long, and checks that nothing hangs, is lost, starts early, leaks or starves.
//!
//! You should see a line of figures for each measurement. The program fails if a check does.
//!
//! ```sh
//! cargo run --release --example soak -- hang [ROUNDS]     # schedule, then wait, on two workers
//! cargo run --release --example soak -- races [JOBS]      # accepted jobs against every way to end
//! cargo run --release --example soak -- volume [JOBS]     # one group on the paused clock
//! cargo run --release --example soak -- real [JOBS]       # the same on the real clock
//! cargo run --release --example soak -- years [YEARS]     # hourly jobs on the paused clock
//! cargo run --release --example soak -- waves [WAVES]     # live bytes after many bursts of jobs
//! cargo run --release --example soak -- groups [GROUPS]   # groups that are created and dropped
//! cargo run --release --example soak -- crowd [SECONDS]   # schedule, cancel and move from eight tasks
//! cargo run --release --example soak -- idle [SECONDS]    # lateness on an idle machine, for comparison
//! cargo run --release --example soak -- flood [SECONDS]   # lateness while a million jobs a second are scheduled
//! cargo run --release --example soak -- deluge [SECONDS]  # lateness while two threads schedule without a pause
//! cargo run --release --example soak -- keyed-resets [SECONDS] # lateness while keyed entries are reset
//! cargo run --release --example soak -- blocked [SECONDS] # lateness while jobs block a worker
//! cargo run --release --example soak -- cancel [JOBS]     # a cancel of many pending jobs
//! cargo run --release --example soak -- end [JOBS]        # queries of other threads while a large group is dropped
//! cargo run --release --example soak -- sweep [JOBS]      # lateness during a sweep of dead entries
//! cargo run --release --example soak -- front [JOBS]      # a burst with one job just before it
//! cargo run --release --example soak -- schedule-then-block [SECONDS] # lateness while jobs do so
//! cargo run --release --example soak -- block-after-await [SECONDS]   # lateness while jobs do so
//! cargo run --release --example soak -- repeating [SECONDS]  # 200,000 jobs that repeat
//! cargo run --release --example soak -- task-races [RACES]   # tasks against every way to end
//! cargo run --release --example soak -- keyed-races [RACES]  # keyed values against every way to end
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

/// The name, the function and the default count of each. The function returns the number of failures.
const ALL: [(&str, Soak, u64); 22] = [
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
    ("keyed-resets", late::keyed_resets, 10),
    ("blocked", late::blocked, 10),
    ("cancel", late::cancel, 1_000_000),
    ("end", late::end, 5_000_000),
    ("sweep", late::sweep, 2_000_000),
    ("front", late::front, 1_000_000),
    ("schedule-then-block", starved::schedule_then_block, 10),
    ("block-after-await", starved::block_after_await, 10),
    ("repeating", starved::repeating, 10),
    ("task-races", tasks::task_races, 100_000),
    ("keyed-races", keyed::keyed_races, 100_000),
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
