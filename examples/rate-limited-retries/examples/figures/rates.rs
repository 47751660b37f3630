//! The rate that is reached with a backlog of one key and a burst of one, and what starts in one period.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rate_limited_retries::Rate;

use crate::meter::{counted, cpu, polls, runtime};
use crate::ours::Ours;
use crate::peers::Peers;

/// What one contender did.
struct Run {
    /// When work started: by its own clock, and by that of its dispatcher, which has charged it then.
    ///
    /// The work's is read later: by a microsecond, or by milliseconds if its thread was preempted in between. Where a
    /// period is full the dispatcher starts the next work as it ends, to the nanosecond, and so the work's clock
    /// may see that one within the period of one whose own reading was later by more.
    starts: Vec<(Instant, Instant)>,
    cpu: Duration,
    wakeups: u64,
}

pub(crate) fn run(small: bool) {
    println!(
        "\na backlog of one key, burst 1        share of the rate   over in a period   (by the work's clock, read at most)   CPU a start   wake-ups a start"
    );
    let seconds = if small { 2 } else { 10 };
    for count in [100, 1_000, 5_000] {
        let rate = Rate::per_second(count);
        for (name, contender) in [
            ("dispatcher", dispatcher as fn(Rate, u64) -> Run),
            ("governor, backon, semaphore", governor),
        ] {
            let Run {
                starts,
                cpu,
                wakeups,
            } = contender(rate, seconds);
            let later = starts.iter().map(|(work, started)| *work - *started);
            let later = later.max().unwrap_or_default();
            let (mut by_work, mut starts): (Vec<_>, Vec<_>) = starts.into_iter().unzip();
            by_work.sort_unstable();
            starts.sort_unstable();
            let started = starts.len() as f64;
            let length = (starts[starts.len() - 1] - starts[0]).as_secs_f64();
            let share = (started - 1.0) / length / f64::from(count);
            println!(
                "{count:>5}/s  {name:<28}{:>15.2} %{:>19} ({}, {:.2?} later){:>13.1} us{:>19.2}",
                100.0 * share,
                over(&starts, rate, rate.period()),
                over(&by_work, rate, rate.period().saturating_sub(later)),
                later,
                cpu.as_secs_f64() * 1e6 / started,
                wakeups as f64 / started,
            );
        }
    }
}

/// The most that started in any half-open window of this length, over the count and the burst of a period.
///
/// Readings that are late by at most `d` and lie within a period less `d` are of starts within one period.
fn over(starts: &[Instant], rate: Rate, window: Duration) -> i64 {
    let (mut from, mut most) = (0, 0);
    for (n, &start) in starts.iter().enumerate() {
        while start - starts[from] >= window {
            from += 1;
        }
        most = most.max(n + 1 - from);
    }
    (most as i64 - rate.in_a_period() as i64).max(0)
}

fn dispatcher(rate: Rate, seconds: u64) -> Run {
    runtime().block_on(async {
        let backlog = u64::from(rate.count()) * seconds;
        let starts = Arc::new(Mutex::new(Vec::with_capacity(backlog as usize + 1)));
        let before = (cpu(), polls());
        let ours = Ours::new(rate, 64);
        for _ in 0..=backlog {
            let starts = Arc::clone(&starts);
            ours.item("key", move |started| {
                starts.lock().unwrap().push((Instant::now(), started));
                counted(ready(Ok(())))
            });
        }
        ours.group.wait().await.expect("no work panics");
        // Each time the driver woke up, and each poll of the work.
        let wakeups = polls() - before.1 + ours.group.stats().driver_wakeups;
        let starts = std::mem::take(&mut *starts.lock().unwrap());
        Run {
            starts,
            cpu: cpu() - before.0,
            wakeups,
        }
    })
}

fn governor(rate: Rate, seconds: u64) -> Run {
    runtime().block_on(async {
        let backlog = u64::from(rate.count()) * seconds;
        let starts = Arc::new(Mutex::new(Vec::with_capacity(backlog as usize + 1)));
        let before = (cpu(), polls());
        let crawl = Peers::new(rate, 64);
        let tasks: Vec<_> = (0..=backlog)
            .map(|_| {
                let starts = Arc::clone(&starts);
                let work = crawl.item("key", move |started| {
                    starts.lock().unwrap().push((Instant::now(), started));
                    ready(Ok(()))
                });
                tokio::spawn(counted(work))
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
        let wakeups = polls() - before.1;
        let starts = std::mem::take(&mut *starts.lock().unwrap());
        Run {
            starts,
            cpu: cpu() - before.0,
            wakeups,
        }
    })
}
