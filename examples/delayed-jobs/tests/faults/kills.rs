//! Workers that are killed by SIGKILL at each step of a job's life.
//!
//! The tests start this program again as the worker. It kills itself before or after a call of its store, so the step is
//! exact.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use delayed_jobs::{Failure, Handling, Retry, State};
use sqlx::Connection;
use tokio::time::sleep;

use super::wrapped::Wrapped;
use super::*;

/// Long enough that no worker on a busy machine loses a lease while it lives.
const LEASE: Duration = Duration::from_secs(3);

fn die() -> ! {
    let pid = std::process::id().to_string();
    let _ = Command::new("kill").args(["-KILL", &pid]).status();
    loop {
        std::thread::park();
    }
}

/// What the handler does, by the number of the note.
const PLAIN: u32 = 0;
const FAILS_ONCE: u32 = 1;
const IN_TRANSACTION: u32 = 2;
const TICK: u32 = 3;

/// A worker that writes a line into `log` for each start, and dies at `step`.
fn worker(queue: &Queue, address: &str, log: &str, step: &str) -> Worker {
    let (address, log, step) = (address.to_owned(), log.to_owned(), step.to_owned());
    // Longer than it takes to die, since a dying worker may still claim.
    let retry = Handling::default().retry(Retry::fixed(SECOND).attempts(5));
    let worker = queue.worker().lease(LEASE);
    worker.register_with(retry, move |job: Job<Note>| {
        let line = format!("{} {}\n", job.payload.0, job.run_at().0);
        let file = OpenOptions::new().append(true).create(true).open(&log);
        file.expect("the log")
            .write_all(line.as_bytes())
            .expect("a line");
        let (address, step) = (address.clone(), step.clone());
        async move {
            if step == "running" {
                die();
            }
            match job.payload.0 {
                FAILS_ONCE if job.attempt() == 1 => return Err(Failure::new("as planned")),
                IN_TRANSACTION => complete(&job, &address, &step).await,
                _ => {}
            }
            Ok(())
        }
    })
}

/// Ends the job in a transaction of its own.
async fn complete(job: &Job<Note>, address: &str, step: &str) {
    if address.starts_with("postgres") {
        let mut client = support::client(address).await;
        let mut transaction = client.begin().await.expect("a transaction");
        let completed = job.complete_in_postgres(&mut transaction).await;
        completed.expect("it is ours");
        if step == "before commit" {
            die();
        }
        transaction.commit().await.expect("committed");
    } else {
        let client = rusqlite::Connection::open(address).expect("a connection");
        client.busy_timeout(10 * SECOND).expect("set");
        client
            .execute_batch("begin immediate")
            .expect("a transaction");
        job.complete_in_sqlite(&client).expect("it is ours");
        if step == "before commit" {
            die();
        }
        client.execute_batch("commit").expect("committed");
    }
    if step == "after commit" {
        die();
    }
}

const CHILD: &str = "DELAYED_JOBS_KILLED";

/// Runs the worker of this test if the process is one, until it is killed.
fn is_child() -> bool {
    let Ok(told) = std::env::var(CHILD) else {
        return false;
    };
    let [address, log, step, has_schedule] = told.split('\n').collect::<Vec<_>>()[..] else {
        panic!("{told:?}");
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let opened = Queue::open(address).await.expect("it opens");
        let has_schedule = has_schedule == "true";
        // With a schedule there is something to lose once it has run.
        let armed = Arc::new(AtomicBool::new(!has_schedule));
        let (is_armed, fatal) = (Arc::clone(&armed), step.to_owned());
        let queue = Wrapped::queue(opened.store(), move |when, call| {
            let now = format!("{when:?} {call}").to_lowercase();
            if now == fatal && is_armed.load(Ordering::SeqCst) {
                die();
            }
            Duration::ZERO
        });
        let mut worker = worker(&queue, address, log, step);
        if has_schedule {
            worker = worker.every("tick", PERIOD, &Note(TICK));
        }
        let metrics = worker.metrics();
        let running = spawn(worker);
        let ran = || async { metrics.snapshot().done >= 2 };
        if has_schedule {
            support::until("the schedule has run twice", ran).await;
            armed.store(true, Ordering::SeqCst);
        }
        sleep(30 * SECOND).await;
        running.end().await;
    });
    panic!("it was to be killed");
}

/// Starts the worker, and waits until it is killed.
async fn killed(test: &str, address: &str, log: &str, step: &str, has_schedule: bool) {
    let told = [address, log, step, &has_schedule.to_string()].join("\n");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, told)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = output.await.expect("no panic").expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(9), "at {step}: {said}");
}

/// The addresses of a new database of each kind.
async fn databases() -> (tempfile::TempDir, Vec<String>) {
    let (dir, path) = support::sqlite();
    let mut all = vec![path];
    if let Some(server) = support::postgres() {
        all.push(server.database().await);
    }
    (dir, all)
}

/// The starts in a log: the number of the note, and when it was due.
fn starts(log: &str) -> Vec<(u32, i64)> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = |line: &str| {
        let (note, due) = line.split_once(' ').expect("two numbers");
        (note.parse().expect("a note"), due.parse().expect("a time"))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_job_whose_worker_is_killed_ends_once_whatever_the_step() {
    if is_child() {
        return;
    }
    let test = "kills::a_job_whose_worker_is_killed_ends_once_whatever_the_step";
    // The step, what the job does, how often it starts in all, and whether the lost worker is charged to it.
    let steps = [
        ("before claim", PLAIN, 1, 0),
        ("after claim", PLAIN, 1, 1),
        ("running", PLAIN, 2, 1),
        ("before finish", PLAIN, 2, 1),
        ("after finish", PLAIN, 1, 0),
        ("before finish", FAILS_ONCE, 3, 0),
        ("after finish", FAILS_ONCE, 2, 0),
        ("before commit", IN_TRANSACTION, 2, 1),
        ("after commit", IN_TRANSACTION, 1, 0),
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for (step, note, runs, crashes) in steps {
            all.spawn(async move {
                let (dir, addresses) = databases().await;
                for (number, address) in addresses.iter().enumerate() {
                    let log = dir.path().join(format!("log{number}"));
                    let log = log.to_str().expect("a path in UTF-8");
                    let queue = Queue::open(address).await.expect("it opens");
                    let id = put(&queue, note).await;
                    killed(test, address, log, step, false).await;
                    let running = spawn(worker(&queue, address, log, "never"));
                    let done = || async { record(&queue, id).await.state == State::Done };
                    support::until("the job is done", done).await;
                    let expired = 3 * LEASE / 2;
                    sleep(expired).await;
                    running.end().await;
                    let job = record(&queue, id).await;
                    let seen = (job.state, starts(log).len(), job.crashes);
                    assert_eq!(seen, (State::Done, runs, crashes), "{step}: {job:?}");
                }
            });
        }
        all.join_all().await;
    });
}

const PERIOD: Duration = Duration::from_millis(500);

#[test]
fn a_schedule_whose_worker_is_killed_goes_on_and_runs_once_per_time() {
    if is_child() {
        return;
    }
    let test = "kills::a_schedule_whose_worker_is_killed_goes_on_and_runs_once_per_time";
    let steps = [
        "before fill_slot",
        "after fill_slot",
        "before claim",
        "after claim",
        "after finish",
        // This run is cut off before its end is known, so it starts again.
        "before finish",
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for step in steps {
            all.spawn(async move {
                let (dir, addresses) = databases().await;
                for (number, address) in addresses.iter().enumerate() {
                    let log = dir.path().join(format!("log{number}"));
                    let log = log.to_str().expect("a path in UTF-8");
                    killed(test, address, log, step, true).await;
                    let before = starts(log).len();
                    let queue = Queue::open(address).await.expect("it opens");
                    let worker = worker(&queue, address, log, "never");
                    let running = spawn(worker.every("tick", PERIOD, &Note(TICK)));
                    let more = || async { starts(log).len() >= before + 4 };
                    support::until("the schedule goes on", more).await;
                    running.end().await;
                    let mut runs = BTreeMap::<i64, usize>::new();
                    for (_, due) in starts(log) {
                        *runs.entry(due).or_default() += 1;
                    }
                    let repeated = runs.values().filter(|runs| **runs > 1).count();
                    let allowed = usize::from(step == "before finish");
                    assert_eq!(repeated, allowed, "{step}: {runs:?}");
                }
            });
        }
        all.join_all().await;
    });
}
