//! Enqueues, starts workers, and kills them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use delayed_jobs::{Micros, Queue};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use super::check::{self, TIMES};
use super::child::{LEASE, Work};
use super::floor::Floor;
use super::log;

/// Jobs over a while, and workers that are killed meanwhile.
#[derive(Debug)]
pub(crate) struct Crashes {
    pub(crate) jobs: u32,
    pub(crate) over: Duration,
    pub(crate) kills: u32,
}

/// Jobs that come when all others have ended, to see how late they are.
pub(crate) const TAIL: u32 = 110;

/// From one of them to the next.
const BETWEEN: Duration = Duration::from_millis(40);

/// Many rows, of which some are overdue when the worker starts.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) overdue: u32,
    pub(crate) ahead: u32,
}

/// A worker of another process. Dropping it kills it.
pub(crate) struct Worker {
    child: Child,
    pub(crate) name: String,
    pub(crate) started: Micros,
}

impl Worker {
    fn start(address: &str, log: &Path, name: String, now: Micros) -> Worker {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["child", address]).arg(log).arg(&name);
        Worker {
            // It ends when this pipe does, should this program be killed.
            child: command.stdin(Stdio::piped()).spawn().expect("a worker"),
            name,
            started: now,
        }
    }

    /// SIGKILL: no destructor, no signal handler, no last word.
    fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it is gone");
    }

    /// The most memory that it has had, in KiB.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("Linux tells the memory of a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new_log() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log");
    std::fs::write(&path, "").expect("an empty log");
    (dir, path)
}

pub(crate) async fn crashes(address: &str, beside: &str, workers: usize, plan: &Crashes) {
    let queue = Queue::open(address).await.expect("the database");
    let mut floor = Floor::start(beside).await;
    let clock = queue.store().clock();
    let (_dir, log) = new_log();
    let start = |name: String| Worker::start(address, &log, name, clock.now());
    let mut alive: Vec<_> = (0..workers).map(|n| start(format!("w{n}.0"))).collect();

    let first = clock.now().after(Duration::from_millis(500));
    let begun = Instant::now() + Duration::from_millis(500);
    let jobs = (0..plan.jobs).map(|number| {
        let after = plan.over.mul_f64(f64::from(number) / f64::from(plan.jobs));
        queue.enqueue(Work { number }).at(first.after(after))
    });
    queue.enqueue_all(jobs).await.expect("enqueued");

    // Random moments, in order.
    let span = plan.over.mul_f64(0.6);
    let mut moments: Vec<_> = (0..plan.kills)
        .map(|_| span.mul_f64(fastrand::f64()))
        .collect();
    moments.sort();
    let mut kills = Vec::new();
    for (kill, moment) in moments.into_iter().enumerate() {
        sleep_until(begun + moment).await;
        let which = fastrand::usize(..alive.len());
        alive[which].kill();
        kills.push(clock.now());
        alive[which] = start(format!("w{which}.{}", kill + 1));
        // With another worker beside it none may be overdue.
        if workers == 1 {
            restarted(&alive[which], &log, &clock, &mut floor).await;
        }
    }

    all_end(&queue, plan.over + 10 * LEASE).await;
    // Long enough before they are due that the next look finds them.
    let lead = Duration::from_secs(3);
    let first = clock.now().after(lead);
    let tail = (0..TAIL).map(|n| {
        let number = plan.jobs + n;
        queue.enqueue(Work { number }).at(first.after(n * BETWEEN))
    });
    queue.enqueue_all(tail).await.expect("enqueued");
    sleep(lead).await;
    floor.seen();
    all_end(&queue, TAIL * BETWEEN + 10 * LEASE).await;
    check::all(&queue, &log::read(&log), plan, &kills, floor.seen()).await;
}

async fn all_end(queue: &Queue, most: Duration) {
    let patience = Instant::now() + most;
    while queue.counts().await.expect("counts").unfinished() > 0 {
        assert!(
            Instant::now() < patience,
            "not all end: {:?}",
            queue.counts().await
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Jobs were overdue when the worker was started again: how soon did it start one? Long before a lease expires, and on a
/// machine that has much else to do within a few times as long as a single claim takes there.
async fn restarted(worker: &Worker, log: &Path, clock: &delayed_jobs::Clock, floor: &mut Floor) {
    floor.seen();
    let first = first_start(worker, log, clock).await;
    println!("   started the first overdue job {first:?} after the restart");
    assert!(
        first <= Duration::from_millis(500) + TIMES * floor.seen().1,
        "the first job started {first:?} after a restart"
    );
}

async fn first_start(worker: &Worker, log: &Path, clock: &delayed_jobs::Clock) -> Duration {
    loop {
        let lines = log::read(log);
        if let Some(line) = lines.iter().find(|line| line.worker == worker.name) {
            return Micros(line.at).since(worker.started);
        }
        let waited = clock.now().since(worker.started);
        assert!(waited < Duration::from_secs(20), "no job within {waited:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn crowd(address: &str, plan: &Crowd) {
    let queue = Queue::open(address).await.expect("the database");
    let clock = queue.store().clock();
    let now = clock.now();
    let minute = Duration::from_secs(60);
    let begun = Instant::now();
    let overdue = (0..plan.overdue).map(|n| (n, now.before(minute)));
    let ahead =
        (0..plan.ahead).map(|n| (n, now.after(10 * minute + n * Duration::from_millis(10))));
    let rows: Vec<_> = overdue.chain(ahead).collect();
    for rows in rows.chunks(1000) {
        let jobs = rows.iter().map(|(number, at)| {
            // None that fails: it is not what this is about.
            queue
                .enqueue(Work {
                    number: number * 100,
                })
                .at(*at)
        });
        queue.enqueue_all(jobs).await.expect("enqueued");
    }
    let rate = rows.len() as f64 / begun.elapsed().as_secs_f64();
    println!("   enqueued {} rows at {rate:.0} a second", rows.len());

    let (_dir, log) = new_log();
    let worker = Worker::start(address, &log, "w0".to_owned(), clock.now());
    let first = first_start(&worker, &log, &clock).await;
    println!("   started the first overdue job {first:?} after the start");
    assert!(
        first <= Duration::from_secs(2),
        "the first of the crowd started after {first:?}"
    );
    let patience = Instant::now() + minute;
    while queue.counts().await.expect("counts").done < u64::from(plan.overdue) {
        assert!(
            Instant::now() < patience,
            "not all end: {:?}",
            queue.counts().await
        );
        sleep(Duration::from_millis(20)).await;
    }
    let memory = worker.peak_memory();
    println!(
        "   the worker had {:.1} MiB at most",
        memory as f64 / 1024.0
    );
    assert!(
        memory <= 80 * 1024,
        "{memory} KiB with {} pending",
        plan.ahead
    );
}
