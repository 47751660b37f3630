//! The rate that is reached with a backlog of one key and a burst of one, and what starts in one period.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rate_limited_retries::{Dispatcher, Rate};
use schedgroup::Group;

use crate::meter::{counted, cpu, polls, runtime};
use crate::peers;

/// What one contender did.
struct Run {
    /// When the work started, by its own clock.
    starts: Vec<Instant>,
    /// The same as the dispatcher has it.
    charged: Vec<Instant>,
    cpu: Duration,
    wakeups: u64,
}

pub(crate) fn run(small: bool) {
    println!(
        "\na backlog of one key, burst 1        share of the rate   over in a period (own clock)   CPU a start   wake-ups a start"
    );
    let seconds = if small { 2 } else { 10 };
    for count in [100, 1_000, 5_000] {
        let rate = Rate::per_second(count);
        for (name, contender) in [
            ("dispatcher", dispatcher as fn(Rate, u64) -> Run),
            ("governor, backon, semaphore", governor),
        ] {
            let Run {
                mut starts,
                mut charged,
                cpu,
                wakeups,
            } = contender(rate, seconds);
            starts.sort_unstable();
            charged.sort_unstable();
            let started = starts.len() as f64;
            let length = (starts[starts.len() - 1] - starts[0]).as_secs_f64();
            let share = (started - 1.0) / length / f64::from(count);
            println!(
                "{count:>5}/s  {name:<28}{:>15.2} %{:>22} ({}){:>13.1} us{:>19.2}",
                100.0 * share,
                over(&starts, rate),
                over(&charged, rate),
                cpu.as_secs_f64() * 1e6 / started,
                wakeups as f64 / started,
            );
        }
    }
}

/// The most that started in any half-open window of one period, over the count and the burst.
fn over(starts: &[Instant], rate: Rate) -> i64 {
    let (mut from, mut most) = (0, 0);
    for (n, &start) in starts.iter().enumerate() {
        while start - starts[from] >= rate.period() {
            from += 1;
        }
        most = most.max(n + 1 - from);
    }
    (most as i64 - rate.in_a_period() as i64).max(0)
}

fn dispatcher(rate: Rate, seconds: u64) -> Run {
    runtime().block_on(async {
        let group = Group::new();
        let backlog = u64::from(rate.count()) * seconds;
        let starts = Arc::new(Mutex::new(Vec::with_capacity(backlog as usize + 1)));
        let of_work = Arc::clone(&starts);
        let before = (cpu(), polls());
        let dispatcher = Dispatcher::builder()
            .per_key(rate)
            .run(&group, move |_: u64, context| {
                let starts = Arc::clone(&of_work);
                let charged = context.started().into_std();
                counted(async move { starts.lock().unwrap().push((Instant::now(), charged)) })
            });
        for n in 0..=backlog {
            dispatcher.push("key", n).await.expect("it is open");
        }
        group.wait().await.expect("no work panics");
        // Each time the driver woke up, and each poll of the work.
        let wakeups = polls() - before.1 + group.stats().driver_wakeups;
        let (starts, charged) = std::mem::take(&mut *starts.lock().unwrap())
            .into_iter()
            .unzip();
        Run {
            starts,
            charged,
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
        let crawl = peers::Peers::new(rate, 64);
        let tasks: Vec<_> = (0..=backlog)
            .map(|_| {
                let starts = Arc::clone(&starts);
                let work = crawl.item("key", move || {
                    starts.lock().unwrap().push(Instant::now());
                    std::future::ready(Ok(()))
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
            charged: starts.clone(),
            starts,
            cpu: cpu() - before.0,
            wakeups,
        }
    })
}
