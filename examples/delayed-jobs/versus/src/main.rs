//! Compares delayed-jobs with apalis and graphile_worker on the same jobs: lateness, and jobs per second.
//!
//! ```sh
//! cargo run --release --manifest-path examples/delayed-jobs/versus/Cargo.toml            # both
//! cargo run --release --manifest-path examples/delayed-jobs/versus/Cargo.toml -- late    # one of them
//! cargo run --release --manifest-path examples/delayed-jobs/versus/Cargo.toml -- speed
//! ```
//!
//! You should see a table for each. The lateness is measured with all contenders at the same time, which takes as long as
//! the slowest of them, but at most 100 s. The jobs per second are measured with one contender after the other, in several
//! rounds; each has at most 30 s to enqueue the jobs and 15 s to run them. The program starts a Postgres server of its own.
#![forbid(unsafe_code)]

mod contenders;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use contenders::{ALL, Contender, Outcome, Store};
use support::{Disk, Postgres};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// From the start to the time when the first job is due: all have opened their stores by then.
const LEAD: Duration = Duration::from_secs(10);
const OVER: Duration = Duration::from_secs(10);
const LATE_JOBS: u32 = 100;
const LATE_PATIENCE: Duration = Duration::from_secs(100);

/// Jobs that are due already, and how long a contender may take for them.
const SPEED_JOBS: u32 = 10_000;
const SPEED_PATIENCE: Duration = Duration::from_secs(15);
const ROUNDS: usize = 3;

/// How many jobs may run at a time.
const AT_ONCE: usize = 64;

/// When each job is due.
pub type Times = Arc<Vec<SystemTime>>;

/// What a contender has to do.
pub struct Task {
    pub address: String,
    pub times: Times,
    pub starts: Starts,
    pub at_once: usize,
}

/// How late each job started, in microseconds; less than zero is early.
#[derive(Clone, Debug)]
pub struct Starts {
    times: Times,
    late: Arc<Mutex<Vec<i64>>>,
    /// When the contender began to work, and when the last job started.
    worked: Arc<Mutex<Option<(Instant, Instant)>>>,
}

impl Starts {
    fn new(times: &Times) -> Starts {
        Starts {
            times: Arc::clone(times),
            late: Arc::default(),
            worked: Arc::default(),
        }
    }

    /// All jobs are in, and work begins.
    pub fn begin(&self) {
        let now = Instant::now();
        *self.worked.lock().expect("no panic") = Some((now, now));
    }

    pub fn note(&self, number: u32) {
        let late = match SystemTime::now().duration_since(self.times[number as usize]) {
            Ok(late) => late.as_micros() as i64,
            Err(early) => -(early.duration().as_micros() as i64),
        };
        self.late.lock().expect("no panic").push(late);
        if let Some((_, last)) = &mut *self.worked.lock().expect("no panic") {
            *last = Instant::now();
        }
    }

    fn count(&self) -> usize {
        self.late.lock().expect("no panic").len()
    }

    fn sorted(&self) -> Vec<i64> {
        let mut late = self.late.lock().expect("no panic").clone();
        late.sort();
        late
    }

    async fn complete(&self, limit: Duration) {
        let all = async {
            while self.count() < self.times.len() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(limit, all).await;
    }
}

/// Where the databases are made.
struct Places {
    server: Option<Postgres>,
    dir: tempfile::TempDir,
}

impl Places {
    async fn make(&self, number: usize, of: &Contender) -> Option<String> {
        match of.store {
            Store::Sqlite => {
                let name = format!("{number}-{}.db", fresh());
                Some(self.dir.path().join(name).display().to_string())
            }
            Store::Postgres => Some(self.server.as_ref()?.database().await),
        }
    }
}

fn fresh() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
}

#[tokio::main]
async fn main() -> Outcome {
    let only = std::env::args().nth(1);
    let wants = |word: &str| only.as_deref().is_none_or(|only| only == word);
    let settings = "shared_buffers = 1GB\nmax_wal_size = 8GB\n";
    let places = Places {
        server: Postgres::start_with(Disk::Waited, &[], settings),
        dir: tempfile::tempdir()?,
    };
    if wants("late") {
        late(&places).await?;
    }
    if wants("speed") {
        speed(&places).await?;
    }
    Ok(())
}

/// All at once: each waits for its jobs most of the time.
async fn late(places: &Places) -> Outcome {
    // A prime step spreads the times over the milliseconds of a second.
    let first = SystemTime::now() + LEAD;
    let spread = |n: u32| Duration::from_millis(7 * u64::from(n) % 97);
    let times: Vec<_> = (0..LATE_JOBS)
        .map(|n| first + OVER * (n * 37 % LATE_JOBS) / LATE_JOBS + spread(n))
        .collect();
    let times = Arc::new(times);
    println!(
        "\n{LATE_JOBS} jobs, due over {OVER:?}, {LATE_PATIENCE:?} of patience; load {}\n",
        load()
    );
    let stop = CancellationToken::new();
    let mut rows = Vec::new();
    for (number, contender) in ALL.iter().enumerate() {
        let starts = Starts::new(&times);
        if let Some(address) = places.make(number, contender).await {
            alone(contender, address, &starts, &stop);
        }
        rows.push((contender.name, starts));
    }
    for (_, starts) in &rows {
        let end = first + LATE_PATIENCE;
        let left = end.duration_since(SystemTime::now());
        starts.complete(left.unwrap_or_default()).await;
    }
    stop.cancel();
    println!("| | started | early | p50 | p99 | max |\n|---|---|---|---|---|---|");
    for (name, starts) in &rows {
        let late = starts.sorted();
        let at = |part: f64| match late.len() {
            0 => "–".to_owned(),
            n => words(late[((n - 1) as f64 * part).round() as usize]),
        };
        let early = late.iter().filter(|late| **late < 0).count();
        println!(
            "| {name} | {} | {early} | {} | {} | {} |",
            late.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    println!("\nload {}", load());
    Ok(())
}

/// One after the other, by turns. Who needs all the time that there is has one round.
async fn speed(places: &Places) -> Outcome {
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    let times: Times = Arc::new(vec![long_ago; SPEED_JOBS as usize]);
    println!(
        "\n{SPEED_JOBS} jobs that are due, {AT_ONCE} at once, {SPEED_PATIENCE:?} of patience, {ROUNDS} rounds by turns; load {}\n",
        load()
    );
    let contenders: Vec<_> = ALL
        .iter()
        .filter(|one| !one.name.contains("polled"))
        .collect();
    let mut rows: Vec<_> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (number, (contender, row)) in contenders.iter().zip(&mut rows).enumerate() {
            let is_slow = |(count, _): &(usize, f64)| *count < times.len();
            if round > 0 && row.last().is_none_or(is_slow) {
                continue;
            }
            if let Some(address) = places.make(number, contender).await {
                let seen = fast(contender, address, &times).await;
                eprintln!(
                    "{}: {} jobs, {:.0} a second",
                    contender.name, seen.0, seen.1
                );
                row.push(seen);
            }
        }
    }
    println!("| | started | a second, by rounds |\n|---|---|---|");
    for (contender, row) in contenders.iter().zip(rows) {
        let least = row.iter().map(|(count, _)| *count).min().unwrap_or(0);
        let each: Vec<_> = row.iter().map(|(_, each)| format!("{each:.0}")).collect();
        println!("| {} | {least} | {} |", contender.name, each.join(", "));
    }
    println!("\nload {}", load());
    Ok(())
}

/// How many jobs a contender has started, and how many that was a second.
async fn fast(contender: &Contender, address: String, times: &Times) -> (usize, f64) {
    let (starts, stop) = (Starts::new(times), CancellationToken::new());
    let thread = alone(contender, address, &starts, &stop);
    let begun = Instant::now();
    let has_begun = || starts.worked.lock().expect("no panic").is_some();
    // Handing them in takes some of them longer than the work.
    while !has_begun() && begun.elapsed() < 2 * SPEED_PATIENCE {
        sleep(Duration::from_millis(5)).await;
    }
    starts.complete(SPEED_PATIENCE).await;
    stop.cancel();
    let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    let worked = *starts.worked.lock().expect("no panic");
    let took = worked.map_or(0.0, |(begun, last)| (last - begun).as_secs_f64());
    let count = starts.count();
    (count, count as f64 / took.max(1e-6))
}

/// Runs a contender on a thread and a runtime of its own until it is to stop, so that none waits for another.
fn alone(
    contender: &Contender,
    address: String,
    starts: &Starts,
    stop: &CancellationToken,
) -> std::thread::JoinHandle<()> {
    let task = Task {
        address,
        times: Arc::clone(&starts.times),
        starts: starts.clone(),
        at_once: AT_ONCE,
    };
    let (name, run, stop) = (contender.name, contender.run, stop.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                ended = run(task) => match ended {
                    Ok(()) => eprintln!("{name} has ended"),
                    Err(error) => eprintln!("{name} gave up: {error}"),
                },
                () = stop.cancelled() => {}
            }
        });
        runtime.shutdown_background();
    })
}

fn words(micros: i64) -> String {
    match micros.unsigned_abs() {
        0..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// What else the machine has to do.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
