//! The long runs: nothing hangs, nothing is lost, nothing is early.
//!
//! ```sh
//! cargo run --release --example soak -- hang [ROUNDS]    # schedule, then wait, on two workers
//! cargo run --release --example soak -- races [JOBS]     # accepted jobs against every way to end
//! cargo run --release --example soak -- volume [JOBS]    # one group on the paused clock
//! ```
//!
//! Each figure is a line; a miss ends the program with 1.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use schedgroup::Group;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, count) = (arguments.next(), arguments.next());
    let count = |default: u64| match &count {
        Some(count) => count.parse().expect("a number"),
        None => default,
    };
    let misses = match what.as_deref() {
        Some("hang") => hang(count(1_000_000)),
        Some("races") => races(count(1_000_000)),
        Some("volume") => volume(count(10_000_000)),
        _ => {
            eprintln!("usage: soak hang|races|volume [COUNT]");
            return ExitCode::FAILURE;
        }
    };
    if misses == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn two_workers() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().build();
    built.expect("a runtime")
}

/// Rounds of one job and a wait, which must end within two seconds with the job run.
fn hang(rounds: u64) -> u64 {
    const AT_ONCE: u64 = 64;
    let mut all_hung = 0;
    for delay in [0, 1, 20, 100, 1000] {
        let start = Instant::now();
        let hung = two_workers().block_on(async move {
            let mut lanes = tokio::task::JoinSet::new();
            for lane in 0..AT_ONCE {
                let rounds = rounds / 5 / AT_ONCE + u64::from(lane < rounds / 5 % AT_ONCE);
                lanes.spawn(async move {
                    let mut hung = 0;
                    for _ in 0..rounds {
                        let ran = Arc::new(AtomicU64::new(0));
                        let counter = Arc::clone(&ran);
                        let group = Group::new();
                        group.delay(Duration::from_micros(delay), async move {
                            counter.fetch_add(1, SeqCst);
                        });
                        let waited = tokio::time::timeout(Duration::from_secs(2), group.wait());
                        let ended = matches!(waited.await, Ok(Ok(())));
                        hung += u64::from(!ended || ran.load(SeqCst) != 1);
                    }
                    hung
                });
            }
            lanes.join_all().await.into_iter().sum::<u64>()
        });
        println!(
            "hang: {hung} of {} waits hung or came early, delay {delay} µs, {:.1?}",
            rounds / 5,
            start.elapsed()
        );
        all_hung += hung;
    }
    all_hung
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Wait,
    Cancel,
    Drop,
    RuntimeShutdown,
}

/// Counts a job when it runs, and once more when it is dropped.
#[derive(Clone, Default)]
struct Ledger {
    accepted: Arc<AtomicU64>,
    ran: Arc<AtomicU64>,
    gone: Arc<AtomicU64>,
}

struct Entry(Ledger);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, SeqCst);
    }
}

/// Jobs pushed by two threads while the group ends: each accepted one is run or dropped, once.
fn races(jobs: u64) -> u64 {
    let mut misses = 0;
    for end in [End::Wait, End::Cancel, End::Drop, End::RuntimeShutdown] {
        let start = Instant::now();
        let (mut accepted, mut ran, mut lost, mut rounds) = (0, 0, 0, 0_u64);
        let mut shared = two_workers();
        while accepted < jobs {
            rounds += 1;
            let ledger = Ledger::default();
            let survives = race(&mut shared, end, rounds, &ledger);
            let (took, gone) = (ledger.accepted.load(SeqCst), ledger.gone.load(SeqCst));
            accepted += took;
            ran += ledger.ran.load(SeqCst);
            lost += took.abs_diff(gone);
            if survives {
                lost += took.abs_diff(ledger.ran.load(SeqCst));
            }
        }
        println!(
            "races: {lost} lost of {accepted} accepted, {ran} ran, {rounds} races against {end:?}, {:.1?}",
            start.elapsed()
        );
        misses += lost;
    }
    misses
}

/// One race; true if every accepted job must have run.
fn race(shared: &mut Runtime, end: End, round: u64, ledger: &Ledger) -> bool {
    let own = (end == End::RuntimeShutdown).then(two_workers);
    let runtime = own.as_ref().unwrap_or(shared);
    let group = Group::builder().runtime(runtime.handle().clone()).build();
    let producers: Vec<_> = (0..2)
        .map(|_| {
            let (handle, ledger) = (group.handle(), ledger.clone());
            std::thread::spawn(move || {
                // The books are closed by the group's end; until then at most this many.
                for i in 0..20_000_u64 {
                    let entry = Entry(ledger.clone());
                    let job = async move {
                        entry.0.ran.fetch_add(1, SeqCst);
                    };
                    match handle.try_delay(Duration::from_micros(i % 50), job) {
                        Ok(_) => ledger.accepted.fetch_add(1, SeqCst),
                        Err(refused) => {
                            drop(refused);
                            ledger.gone.fetch_sub(1, SeqCst);
                            return;
                        }
                    };
                }
            })
        })
        .collect();
    // A different moment in each round, without a clock.
    for _ in 0..(round * 7919) % 60_000 {
        std::hint::spin_loop();
    }
    let survives = match end {
        End::Wait => runtime.block_on(group.wait()).is_ok(),
        End::Cancel => {
            group.cancel();
            runtime.block_on(group.shutdown(Duration::from_secs(30)));
            false
        }
        End::Drop => {
            drop(group);
            false
        }
        End::RuntimeShutdown => {
            if let Some(own) = own {
                own.shutdown_timeout(Duration::from_secs(30));
            }
            false
        }
    };
    for producer in producers {
        producer.join().expect("a producer");
    }
    // A dropped group's driver drops what was pending on its next turn: bounded, and seen by count.
    let patience = Instant::now();
    while ledger.gone.load(SeqCst) != ledger.accepted.load(SeqCst)
        && patience.elapsed() < Duration::from_secs(5)
    {
        std::thread::yield_now();
    }
    survives
}

/// Windows of random deadlines within a second: each job runs once, and not before its time.
fn volume(jobs: u64) -> u64 {
    const WINDOW: u64 = 400_000;
    let start = Instant::now();
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build();
    let (early, doubled, ran) = runtime.expect("a runtime").block_on(async move {
        let group = Group::new();
        let early = Arc::new(AtomicU64::new(0));
        let doubled = Arc::new(AtomicU64::new(0));
        let ran = Arc::new(AtomicU64::new(0));
        let seen: Arc<[AtomicU64]> = (0..jobs.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for first in (0..jobs).step_by(WINDOW as usize) {
            let now = tokio::time::Instant::now();
            for job in first..jobs.min(first + WINDOW) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = now + Duration::from_nanos(random % 1_000_000_000);
                let (early, doubled, ran, seen) =
                    (early.clone(), doubled.clone(), ran.clone(), seen.clone());
                group.schedule(at, async move {
                    early.fetch_add(u64::from(tokio::time::Instant::now() < at), SeqCst);
                    let bit = 1 << (job % 64);
                    let before = seen[(job / 64) as usize].fetch_or(bit, SeqCst);
                    doubled.fetch_add(u64::from(before & bit != 0), SeqCst);
                    ran.fetch_add(1, SeqCst);
                });
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        group.wait().await.expect("no job panics");
        (early.load(SeqCst), doubled.load(SeqCst), ran.load(SeqCst))
    });
    let lost = jobs.abs_diff(ran - doubled);
    println!(
        "volume: {lost} lost, {doubled} twice, {early} early of {jobs} jobs, {:.1?}",
        start.elapsed()
    );
    lost + doubled + early
}
