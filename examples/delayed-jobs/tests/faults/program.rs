//! The program: signals, words, secrets.

use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use delayed_jobs::{Failure, Filter, Handling, Retry, State};
use serde_json::json;

use super::*;

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_delayed-jobs"))
        .args(args)
        .env_remove("DATABASE_URL")
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn no_secret_is_shown() {
    let mut wrong = Vec::new();
    for url in [
        "postgres://ada:s3cret@127.0.0.1:1/x",
        "postgres://ada@127.0.0.1:1/x?password=s3cret",
        "postgres://127.0.0.1:1/x?user=ada&password=s3cret",
        "postgresql://ada:s3c@ret@127.0.0.1:1/x",
        "postgres://ada:s3cret@127.0.0.1:1/x?application_name=a@b",
        "POSTGRES://ada:s3cret@127.0.0.1:1/x",
        "mysql://ada:s3cret@127.0.0.1:1/x",
        "host=127.0.0.1 port=1 password=s3cret",
        "host=127.0.0.1 port=1 password='s3c ret'",
        "postgres:/ada:s3cret@127.0.0.1:1/x",
        "sqlite:/no/such/folder/x?key=s3cret",
    ] {
        let said = said(&program(&["--database", url, "ls"]));
        if said.contains("s3c") || said.contains("ret@") {
            wrong.push(format!("{url} -> {}", said.trim()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn looking_makes_no_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("typo.db");
    let path = path.to_str().expect("a path");
    for args in [
        &["ls"][..],
        &["show", "1"],
        &["cancel", "1"],
        &["retry", "1"],
        &["pause", "default"],
        &["resume", "default"],
    ] {
        let output = program(&[&["--database", path], args].concat());
        assert!(!output.status.success(), "{args:?}: {}", said(&output));
        let made = std::fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(made, 0, "{args:?} made a file");
    }
    let output = program(&["--database", path, "enqueue", "print", "1"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_lease_that_is_too_short_is_an_error_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let path = path.to_str().expect("a path");
    let output = program(&["--database", path, "worker", "--lease", "50ms"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("100ms"), "{}", said(&output));
}

#[test]
fn a_name_that_no_schema_may_have_is_an_error_in_words() {
    let database = "postgres://127.0.0.1:1/x";
    for name in ["Jobs", "1jobs", "", "jobs-1", &"j".repeat(41)] {
        let output = program(&["--database", database, "--schema", name, "ls"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
    }
    let output = program(&["--database", database, "--schema", "_jobs_1", "ls"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[tokio::test]
async fn a_terminal_gets_no_control_sequences() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let nasty = json!("\u{9b}31m");
    let job = queue
        .enqueue_json("\x1b]0;title\x07kind", &nasty)
        .queue("q\x1b[2J");
    let id = job.unique("k\r\x1b[1A").await.expect("enqueued").id();
    let never = Handling::default().retry(Retry::never());
    let worker = queue.worker().register_with(never, |_: Job<Note>| async {
        Err(Failure::new("\x1b[2J\x1b]0;owned\x07\u{202e}"))
    });
    put(&queue, 1).await;
    beside(worker, tokio::time::sleep(SECOND / 2)).await;
    for args in [&["ls"][..], &["show", &id.to_string()], &["show", "2"]] {
        let said = said(&program(&[&["--database", &path], args].concat()));
        let raw: Vec<_> = said
            .chars()
            .filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}')
            .collect();
        assert!(raw.is_empty(), "{args:?}: {raw:?} in {said:?}");
    }
}

/// Dropping it kills it.
pub(super) struct Program(pub(super) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    pub(super) fn start(args: &[&str]) -> Program {
        Program::start_with(args, |_| {})
    }

    pub(super) fn start_with(args: &[&str], also: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-jobs"));
        command.args(args).env_remove("DATABASE_URL");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        also(&mut command);
        Program(command.spawn().expect("the program runs"))
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// How long it took to end, and its exit code.
    pub(super) fn wait(&mut self, most: Duration) -> Option<(Duration, Option<i32>)> {
        let begun = Instant::now();
        while begun.elapsed() < most {
            if let Some(status) = self.0.try_wait().expect("a status") {
                return Some((begun.elapsed(), status.code()));
            }
            std::thread::sleep(5 * MILLI);
        }
        None
    }
}

/// Enqueues the demo job that takes two seconds, by its number.
async fn put_slow(queue: &Queue) -> JobId {
    let slow = json!({ "batch": 1, "number": 20, "of": 21 });
    let enqueued = queue.enqueue_json("demo", &slow).await;
    enqueued.expect("enqueued").id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_with_term_give_jobs_back_and_charge_nobody() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let id = put_slow(&queue).await;
    for deploy in 0..4 {
        let mut worker = Program::start(&["--database", &path, "worker", "--grace", "100ms"]);
        let runs = || async { record(&queue, id).await.state == State::Running };
        support::until("the job runs", runs).await;
        worker.signal("TERM");
        let ended = tokio::task::block_in_place(|| worker.wait(5 * SECOND));
        let job = record(&queue, id).await;
        assert_eq!(
            ended.and_then(|(_, code)| code),
            Some(0),
            "deploy {deploy}: {ended:?}"
        );
        let seen = (job.state, job.attempt, job.crashes);
        assert_eq!(seen, (State::Pending, 0, 0), "deploy {deploy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_program_at_once() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let id = put_slow(&queue).await;
    let mut worker = Program::start(&["--database", &path, "worker", "--grace", "1m"]);
    let runs = || async { record(&queue, id).await.state == State::Running };
    support::until("the job runs", runs).await;
    worker.signal("TERM");
    tokio::time::sleep(200 * MILLI).await;
    assert_eq!(worker.0.try_wait().expect("a status"), None, "it drains");
    worker.signal("INT");
    let ended = tokio::task::block_in_place(|| worker.wait(SECOND));
    assert!(ended.is_some(), "it is still there after a second signal");
}

#[tokio::test]
async fn jobs_are_cancelled_retried_and_deleted_by_their_ids_or_by_what_they_are() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    for note in 0..6 {
        let job = queue.enqueue(Note(note)).after(3600 * SECOND);
        let queue = if note < 4 { "a" } else { "b" };
        job.queue(queue).await.expect("enqueued");
    }
    for (args, words) in [
        (
            &["cancel", "1", "2"][..],
            "job 1 is cancelled\njob 2 is cancelled",
        ),
        (&["cancel", "--queue", "a"], "2 jobs are cancelled"),
        (
            &["retry", "--state", "cancelled", "--kind", "note"],
            "4 jobs are due now",
        ),
        (&["delete", "--queue", "b"], "2 jobs are deleted"),
        (&["delete", "1"], "job 1 is deleted"),
        (
            &["ls", "--state", "pending", "--after", "3"],
            "1 shown of 3 pending",
        ),
        (
            &["delete", "--state", "done", "--ended", "1d"],
            "0 jobs are deleted",
        ),
        (
            &["limit", "a", "--at-once", "3", "--rate", "120/1m"],
            "a: 3 at once, one each 500ms",
        ),
        (&["limits"], "a: 3 at once"),
        (&["limit", "a", "--none"], "no queue has limits"),
    ] {
        let output = program(&[&["--database", &path], args].concat());
        let said = said(&output);
        assert!(
            output.status.success() && said.contains(words),
            "{args:?}: {said}"
        );
    }
    for args in [
        &["delete"][..],
        &["delete", "1"],
        &["retry", "2", "--queue", "a"],
        &["ls", "--state", "pending", "--after", "99"],
    ] {
        let output = program(&[&["--database", &path], args].concat());
        assert!(!output.status.success(), "{args:?}: {}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_goes_on_after_a_kill_and_loses_nothing() {
    let (_dir, path) = support::sqlite();
    let words = ["--database", &path, "demo", "--jobs", "60", "--over", "3s"];
    let demo = [&words[..], &["--page", "127.0.0.1:0"]].concat();
    let killed = Program::start(&demo);
    let queue = Queue::open(&path).await.expect("it opens");
    let some = || async { queue.counts().await.is_ok_and(|counts| counts.done > 10) };
    support::until("some jobs are done", some).await;
    drop(killed);
    let again = tokio::task::block_in_place(|| program(&demo));
    let said = said(&again);
    assert!(again.status.success(), "{said}");
    let resumed = said.lines().find(|line| line.starts_with("resumed"));
    let resumed = resumed.unwrap_or_default();
    assert!(resumed.ends_with("done before; lost 0"), "{said}");
    assert!(
        said.contains("60 done, 0 dead, 0 cancelled, lost 0"),
        "{said}"
    );
    assert!(said.contains("lateness of"), "{said}");
}

/// The server's clock fails as soon as there are jobs: the demo enqueues its jobs, and its worker cannot begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_ends_with_the_error_of_its_worker() {
    let Some(server) = support::postgres() else {
        return;
    };
    let url = server.database().await;
    let broken_clock = "create schema broken;
        create function broken.clock_timestamp() returns timestamptz language plpgsql as $$
        begin
            if exists (select 1 from public.delayed_jobs) then
                raise exception 'the clock is broken';
            end if;
            return pg_catalog.clock_timestamp();
        end $$;
        do $$ begin
            execute format('alter database %I set search_path = public, broken, pg_catalog', current_database());
        end $$";
    support::run(&url, broken_clock).await;
    let dir = tempfile::tempdir().expect("a folder");
    let err = dir.path().join("err");
    let to_err = std::fs::File::create(&err).expect("a file");
    let words = ["--database", &url, "demo", "--page", "127.0.0.1:0"];
    let mut demo = Program::start_with(&words, |demo| {
        demo.stderr(to_err);
    });
    let ended = tokio::task::block_in_place(|| demo.wait(30 * SECOND));
    let said = std::fs::read_to_string(&err).expect("a file");
    assert_eq!(ended.and_then(|(_, code)| code), Some(1), "{said}");
    assert!(said.contains("the clock is broken"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_does_what_the_commands_say_and_shows_it() {
    let (_dir, path) = support::sqlite();
    let run = |args: &[&str]| program(&[&["--database", &path], args].concat());
    let queue = Queue::open(&path).await.expect("a new file");
    let worker = queue
        .worker()
        .every("nightly", 24 * 3600 * SECOND, &Note(1));
    beside(worker.register(|_: Job<Note>| async { Ok(()) }), async {
        let declared = || async { !queue.schedules().await.expect("a list").is_empty() };
        support::until("the schedule is there", declared).await;
    })
    .await;
    for (args, succeeds, words) in [
        (&["schedules"][..], true, "nightly: in "),
        (
            &["schedule", "pause", "nightly"],
            true,
            "`nightly` is paused",
        ),
        (&["schedules"], true, "nightly: paused"),
        (
            &["schedule", "resume", "nightly"],
            true,
            "`nightly` goes on",
        ),
        (
            &["schedule", "run", "nightly"],
            true,
            "of the schedule `nightly` is due now",
        ),
        (
            &["schedule", "run", "daily"],
            false,
            "there is no schedule `daily`",
        ),
        (&["pause", "default"], true, "`default` is paused"),
        (
            &[
                "enqueue",
                "print",
                "not JSON",
                "--queue",
                "other",
                "--in",
                "1h",
                "--key",
                "k",
                "--max-wait",
                "2h",
                "--limit-key",
                "l",
                "--attempts",
                "3",
                "--timeout",
                "9s",
                "--priority",
                "high",
            ],
            true,
            "is enqueued",
        ),
        (&["enqueue", "print", "2", "--key", "k"], false, "k"),
        (
            &[
                "enqueue",
                "print",
                "3",
                "--key",
                "k",
                "--on-duplicate",
                "keep",
            ],
            true,
            "has the key, and was kept",
        ),
        (
            &[
                "enqueue",
                "print",
                "4",
                "--key",
                "k",
                "--on-duplicate",
                "replace",
                "--at",
                "2100-01-01 00:00:00Z",
            ],
            true,
            "was replaced",
        ),
        (
            &[
                "enqueue", "print", "5", "--key", "k", "--per", "1d", "--within", "kept",
            ],
            true,
            "is enqueued",
        ),
        (&["ls"], true, "the queue `default` is paused"),
        (&["resume", "default"], true, "`default` goes on"),
        (&["show", "99"], false, "there is no job 99"),
        (&["delete", "99"], false, "there is no job 99"),
        (&["cancel", "99"], false, "there is no job 99"),
        (
            &["enqueue", "print", "--queue", ""],
            false,
            "1 to 200 bytes",
        ),
    ] {
        let output = run(args);
        let said = said(&output);
        assert!(
            output.status.success() == succeeds && said.contains(words),
            "{args:?}: {said}"
        );
    }
    let ids = |key: &str| {
        let key = Some(key.to_owned());
        queue.list(Filter {
            key,
            ..Filter::default()
        })
    };
    let replaced = ids("k").await.expect("a list");
    let first = replaced.iter().map(|job| job.id).min().expect("a job");
    let after = run(&["enqueue", "print", "6", "--after-done", &first.to_string()]);
    assert!(after.status.success(), "{}", said(&after));
    let shown = said(&run(&["ls"]));
    assert!(shown.contains("after others"), "{shown}");
    let shown = said(&run(&["show", &first.to_string()]));
    for words in [
        "payload    4",
        "due        2100-01-01 00:00:00",
        "key        k",
        "queue      default",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_serves_its_page_and_tells_at_the_end_what_it_did() {
    let (dir, path) = support::sqlite();
    let out = dir.path().join("out");
    let to_out = std::fs::File::create(&out).expect("a file");
    let words = ["--database", &path, "worker", "--page", "127.0.0.1:0"];
    let mut worker = Program::start_with(&words, |worker| {
        worker.stdout(to_out);
    });
    let said = || std::fs::read_to_string(&out).expect("a file");
    let page = || {
        let said = said();
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("page on http://"));
        line.and_then(|address| address.parse::<std::net::SocketAddr>().ok())
    };
    support::until("the page is served", || async { page().is_some() }).await;
    let address = page().expect("an address");
    let live = pages::ask(address, "GET /live", &["host: localhost"]).await;
    assert_eq!(pages::status(&live), "200", "{live}");
    for payload in ["hello", "[1]"] {
        let output = program(&["--database", &path, "enqueue", "print", payload]);
        assert!(output.status.success());
    }
    let printed = || async { said().contains("job 1: hello") && said().contains("job 2: [1]") };
    support::until("both jobs have run", printed).await;
    worker.signal("TERM");
    let ended = tokio::task::block_in_place(|| worker.wait(10 * SECOND));
    assert_eq!(ended.and_then(|(_, code)| code), Some(0));
    let said = said();
    assert!(said.contains("2 done, 0 failed, 0 dead"), "{said}");

    // Others could reach this one.
    let words = ["--database", &path, "worker", "--page", "0.0.0.0:0"];
    let output = program(&words);
    assert!(!output.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_made_by_a_command_of_their_own() {
    let (_dir, path) = support::sqlite();
    let output = program(&["--database", &path, "migrate"]);
    assert!(
        said(&output).contains("the tables are up to date"),
        "{}",
        said(&output)
    );
    assert!(Queue::open_existing(&path).await.is_ok());
    let Some(server) = support::postgres() else {
        return;
    };
    let database = server.database().await;
    let jobs = ["--database", &database, "--schema", "jobs"];
    for (command, succeeds, words) in [
        ("ls", false, "run `delayed-jobs migrate`"),
        (
            "migrate",
            true,
            "the tables had version 0, and have version",
        ),
        ("migrate", true, "the tables already have version"),
        ("ls", true, "0 shown of 0 pending"),
    ] {
        let output = program(&[&jobs[..], &[command]].concat());
        let said = said(&output);
        assert!(
            output.status.success() == succeeds && said.contains(words),
            "{command}: {said}"
        );
    }
}

#[test]
fn arguments_that_the_library_would_panic_at_are_errors_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let path = path.to_str().expect("a path");
    for (args, code, words) in [
        (
            &["worker", "--page", "127.0.0.1:0", "--page-token", "s3cret"][..],
            1,
            "8 characters",
        ),
        (
            &[
                "worker",
                "--page",
                "127.0.0.1:0",
                "--page-token",
                "s3cret s3cret",
            ],
            1,
            "8 characters",
        ),
        (
            &["enqueue", "print", "--key", "k", "--per", "0.5us"],
            2,
            "microsecond",
        ),
        (
            &["enqueue", "print", "--key", "k", "--per", "0s"],
            2,
            "microsecond",
        ),
        (&["limit", "default", "--rate", "10/0s"], 2, "100/1m"),
        (&["migrate", "--schema", "jobs"], 1, "Postgres"),
    ] {
        let output = program(&[&["--database", path], args].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(
            said.contains(words) && !said.contains("s3cret"),
            "{args:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_negative_number_is_a_payload() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    for (id, payload) in (1..).zip(["-5", "-1.5", "-9223372036854775808", "[-1]"]) {
        let output = program(&[
            "--database",
            &path,
            "enqueue",
            "print",
            payload,
            "--in",
            "1h",
        ]);
        assert!(output.status.success(), "{payload}: {}", said(&output));
        let job = queue.job(JobId(id)).await.expect("an answer");
        assert_eq!(job.expect("a job").payload, payload);
    }
}

#[tokio::test]
async fn each_job_that_is_named_is_changed_though_others_cannot_be() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    for note in 0..2 {
        let job = queue.enqueue(Note(note)).after(3600 * SECOND);
        job.await.expect("enqueued");
    }
    for (command, done) in [
        ("cancel", "cancelled"),
        ("retry", "due now"),
        ("delete", "deleted"),
    ] {
        let output = program(&["--database", &path, command, "1", "99", "2"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        for words in [
            format!("job 1 is {done}"),
            format!("job 2 is {done}"),
            "no job 99".to_owned(),
        ] {
            assert!(said.contains(&words), "{command}: {said}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_panic() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    put(&queue, 1).await;
    for args in [&["ls"][..], &["show", "1"], &["limits"], &["schedules"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-jobs"));
        command.args(["--database", &path]).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .env_remove("DATABASE_URL")
            .spawn()
            .expect("the program runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let said = said(&output);
        assert!(
            output.status.success() && said.is_empty(),
            "{args:?}: {:?} {said}",
            output.status
        );
    }
}

#[tokio::test]
async fn each_job_that_is_named_is_changed_though_nobody_reads_it() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    for note in 0..2 {
        let job = queue.enqueue(Note(note)).after(3600 * SECOND);
        job.await.expect("enqueued");
    }
    for (command, ids, code, state) in [
        ("cancel", &["1", "2"][..], 0, State::Cancelled),
        ("retry", &["98", "1", "99", "2"], 1, State::Pending),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_delayed-jobs"));
        child.args(["--database", &path, command]).args(ids);
        child.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.env_remove("DATABASE_URL").spawn().expect("it runs");
        drop((child.stdout.take(), child.stderr.take()));
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(code), "{command}");
        for id in [1, 2].map(JobId) {
            assert_eq!(record(&queue, id).await.state, state, "{command}: {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_and_ends_though_nobody_reads_its_log() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let words = ["--database", &path, "worker", "--log", "json"];
    let mut worker = Program::start_with(&words, |worker| {
        worker.stderr(Stdio::piped()).env("RUST_LOG", "debug");
    });
    drop(worker.0.stderr.take());
    let job = queue.enqueue_json("print", &json!("hello")).await;
    let id = job.expect("enqueued").id();
    let is_done = || async { record(&queue, id).await.state == State::Done };
    support::until("the job is done", is_done).await;
    worker.signal("TERM");
    let ended = tokio::task::block_in_place(|| worker.wait(10 * SECOND));
    assert_eq!(ended.and_then(|(_, code)| code), Some(0));
}
