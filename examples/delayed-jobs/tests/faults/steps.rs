//! A wall clock that is set while the program runs, and programs that stand still.

use std::path::PathBuf;
use std::process::Command;

use delayed_jobs::{Filter, State};
use serde_json::json;
use tokio::time::sleep;

use super::program::Program;
use super::*;

/// A clock that the program is given in place of its machine's.
struct Clock {
    _dir: tempfile::TempDir,
    library: PathBuf,
    step: PathBuf,
}

impl Clock {
    fn new() -> Option<Clock> {
        let dir = tempfile::tempdir().expect("a folder");
        let (source, library) = (dir.path().join("step.c"), dir.path().join("step.so"));
        std::fs::write(&source, include_str!("step.c")).expect("a file");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source);
        if !compiler.status().is_ok_and(|status| status.success()) {
            support::say_loudly("no C compiler (cc) was found");
            return None;
        }
        let step = dir.path().join("step");
        std::fs::write(&step, 0_i64.to_le_bytes()).expect("a file");
        Some(Clock {
            library,
            step,
            _dir: dir,
        })
    }

    fn set(&self, seconds: i64) {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().write(true).open(&self.step);
        let written = file.and_then(|mut file| file.write_all(&seconds.to_le_bytes()));
        written.expect("the clock is set");
    }

    fn start(&self, args: &[&str]) -> Program {
        Program::start_with(args, |command| {
            command
                .env("LD_PRELOAD", &self.library)
                .env("CLOCK_STEP", &self.step);
        })
    }
}

/// Demo jobs of two seconds each, one after the other.
async fn slow_jobs(queue: &Queue) {
    for n in 0..8 {
        let slow = json!({ "batch": n, "number": 20, "of": 21 });
        let job = queue.enqueue_json("demo", &slow).after(n * SECOND / 2);
        job.await.expect("enqueued");
    }
}

async fn no_running_job_is_taken_away(address: &str) {
    let Some(clock) = Clock::new() else { return };
    let queue = Queue::open(address).await.expect("it opens");
    let _workers = [0, 1].map(|_| clock.start(&["--database", address, "worker"]));
    // In its first five seconds a worker takes no lease back, whatever the clock says.
    sleep(5500 * MILLI).await;
    slow_jobs(&queue).await;
    sleep(2500 * MILLI).await;
    clock.set(3600);
    let done = || async { queue.counts().await.expect("counts").unfinished() == 0 };
    support::until("all have ended", done).await;
    let jobs = queue.list(Filter::default()).await.expect("a list");
    let crashes: Vec<_> = jobs.iter().map(|job| (job.state, job.crashes)).collect();
    assert_eq!(crashes, [(State::Done, 0); 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_ahead_takes_no_running_job_away_on_sqlite() {
    let (_dir, path) = support::sqlite();
    no_running_job_is_taken_away(&path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_ahead_takes_no_running_job_away_on_postgres() {
    let Some(server) = support::postgres() else {
        return;
    };
    no_running_job_is_taken_away(&server.database().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_clock_that_is_set_starts_nothing_before_the_servers_time() {
    let (Some(server), Some(clock)) = (support::postgres(), Clock::new()) else {
        return;
    };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let far = queue
        .enqueue_json("print", &json!("far"))
        .after(3000 * SECOND);
    let far = far.await.expect("enqueued").id();
    let _worker = clock.start(&["--database", &address, "worker"]);
    let soon = queue.enqueue_json("print", &json!("soon")).after(SECOND);
    let soon = soon.await.expect("enqueued").id();
    let done = || async { record(&queue, soon).await.state == State::Done };
    support::until("the worker works", done).await;
    clock.set(3600);
    sleep(6 * SECOND).await;
    let job = record(&queue, far).await;
    assert_eq!(
        (job.state, job.attempt),
        (State::Pending, 0),
        "due in 50 minutes"
    );
    // And back: what is due by the server's clock is not held up.
    clock.set(-3600);
    let soon = queue
        .enqueue_json("print", &json!("now"))
        .await
        .expect("enqueued")
        .id();
    let done = || async { record(&queue, soon).await.state == State::Done };
    support::until("the worker works on", done).await;
}

/// As when their machine is paused. The first one that goes on finds that the lease of the other has expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_stand_still_together_take_nothing_from_each_other() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("it opens");
    let start = |_| {
        let args = [
            "--database",
            &path,
            "worker",
            "--lease",
            "4s",
            "--concurrency",
            "1",
        ];
        Program::start(&args)
    };
    let workers = [0, 1].map(start);
    let slow = json!({ "batch": 1, "number": 20, "of": 21 });
    for _ in 0..2 {
        let job = queue.enqueue_json("demo", &slow);
        job.await.expect("enqueued");
    }
    let both_run = || async { queue.counts().await.expect("counts").running == 2 };
    support::until("both run", both_run).await;
    workers.iter().for_each(|worker| worker.signal("STOP"));
    sleep(5 * SECOND).await;
    workers[0].signal("CONT");
    sleep(SECOND).await;
    workers[1].signal("CONT");
    let done = || async { queue.counts().await.expect("counts").unfinished() == 0 };
    support::until("all have ended", done).await;
    let jobs = queue.list(Filter::default()).await.expect("a list");
    let crashes: Vec<_> = jobs.iter().map(|job| (job.state, job.crashes)).collect();
    assert_eq!(crashes, [(State::Done, 0); 2]);
}
