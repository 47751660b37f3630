//! How late jobs start: this package, a worker that polls the same store each second, and apalis-sqlite
//! with its defaults, all at once on the same jobs.
//!
//! ```sh
//! cargo run --release --manifest-path examples/delayed-jobs/versus/Cargo.toml
//! ```
//!
//! It takes as long as the slowest, and 100 s at most.
#![forbid(unsafe_code)]

mod contenders;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use contenders::{Outcome, apalis, ours, polling};
use tokio::time::{sleep, timeout};

/// From the start to the time when the first job is due: all have opened their stores by then.
const LEAD: Duration = Duration::from_secs(2);
const OVER: Duration = Duration::from_secs(10);
const JOBS: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(100);

/// When a job is due.
type Times = Arc<Vec<SystemTime>>;

/// How late each job started, in microseconds; less than zero is early.
#[derive(Clone)]
pub struct Starts {
    times: Times,
    late: Arc<Mutex<Vec<i64>>>,
}

impl Starts {
    fn new(times: &Times) -> Starts {
        Starts {
            times: Arc::clone(times),
            late: Arc::default(),
        }
    }

    pub fn note(&self, number: u32) {
        let due = self.times[number as usize];
        let late = match SystemTime::now().duration_since(due) {
            Ok(late) => late.as_micros() as i64,
            Err(early) => -(early.duration().as_micros() as i64),
        };
        self.late.lock().expect("no panic").push(late);
    }

    fn sorted(&self) -> Vec<i64> {
        let mut late = self.late.lock().expect("no panic").clone();
        late.sort();
        late
    }

    async fn complete(&self) {
        while self.sorted().len() < JOBS as usize {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    // A prime step spreads the times over the milliseconds of a second.
    let first = SystemTime::now() + LEAD;
    let times: Times = (0..JOBS)
        .map(|n| {
            first + OVER * (n * 37 % JOBS) / JOBS + Duration::from_millis(7 * u64::from(n) % 97)
        })
        .collect::<Vec<_>>()
        .into();

    let rows = [
        ("delayed-jobs", Starts::new(&times)),
        ("the same store, polled each second", Starts::new(&times)),
        ("apalis-sqlite 1.0.0, its defaults", Starts::new(&times)),
    ];
    let start = |name: &str, row: usize| (path(name), Arc::clone(&times), rows[row].1.clone());
    let (file, jobs, starts) = start("ours.db", 0);
    alone(move || ours(file, jobs, starts));
    let (file, jobs, starts) = start("polling.db", 1);
    alone(move || polling(file, jobs, starts));
    let (file, jobs, starts) = start("apalis.db", 2);
    alone(move || apalis(file, jobs, starts));
    println!("{JOBS} jobs, due over {OVER:?}; waiting for the slowest, {PATIENCE:?} at most\n");
    for (_, starts) in &rows {
        let left = (first + PATIENCE)
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let _ = timeout(left, starts.complete()).await;
    }

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
    // The contenders hold their files open; they end with the program.
    Ok(())
}

/// Runs a contender on a thread and a runtime of its own, so that none waits for another.
fn alone<F: Future<Output = Outcome>>(run: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        if let Err(error) = runtime.block_on(run()) {
            eprintln!("a contender gave up: {error}");
        }
    });
}

fn words(micros: i64) -> String {
    match micros.unsigned_abs() {
        0..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}
