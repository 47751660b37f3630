//! The ends of a group: nothing may hang or be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use schedgroup::Group;
use tokio::runtime::Runtime;

use crate::two_workers;

/// Rounds of one job and a `wait`, which must return within two seconds and after the job has run.
pub(crate) fn hang(rounds: u64) -> u64 {
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

/// Counts a job when it runs, and again when it is dropped.
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

/// Two threads schedule jobs while the group ends. Each accepted job must have run or been dropped once.
pub(crate) fn races(jobs: u64) -> u64 {
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
        End::Wait => {
            runtime.block_on(group.wait()).expect("no job panics");
            true
        }
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
