//! SQLite files: what opens one, who can read it, and what holds it up.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Instant;

use delayed_jobs::{Failure, Filter, Handling, Limit, Micros, Retry, Search, State, testkit};
use tokio::time::{sleep, timeout};

use super::*;

#[tokio::test]
async fn a_name_means_one_file_or_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let mut wrong = Vec::new();
    for (url, file) in [
        (format!("sqlite://{}", at("a.db").display()), at("a.db")),
        (format!("sqlite:{}", at("b.db").display()), at("b.db")),
        (
            format!("sqlite:{}?mode=rwc", at("c.db").display()),
            at("c.db"),
        ),
        (
            format!("sqlite://{}?mode=rwc", at("d.db").display()),
            at("d.db"),
        ),
        (at("e.db").display().to_string(), at("e.db")),
    ] {
        match Queue::open(&url).await {
            Err(error) => wrong.push(format!("{url}: {error}")),
            Ok(queue) => {
                let id = queue.enqueue(Note(1)).await.map(|job| job.id());
                let found = match id {
                    Ok(id) => queue.job(id).await.is_ok_and(|job| job.is_some()),
                    Err(_) => false,
                };
                if !file.exists() || !found {
                    wrong.push(format!(
                        "{url}: the file is there: {}; the job: {found}",
                        file.exists()
                    ));
                }
            }
        }
    }
    for name in [
        "",
        ":memory:",
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite:",
        "mysql://localhost/x",
        "postgres:/localhost/x",
        "host=localhost password=s3cret",
        &format!("sqlite:{}?cache=shared", at("f.db").display()),
        &format!("sqlite:{}?mode=rw", at("g.db").display()),
        &format!("sqlite:{}?mode=ro", at("h.db").display()),
        &format!("file:{}?mode=rwc", at("i.db").display()),
    ] {
        match Queue::open(name).await {
            Ok(_) => wrong.push(format!("{name:?} was opened")),
            Err(error) if error.to_string().contains("s3cret") => wrong.push(format!("{error}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A name in capitals is the same scheme.
    let error = Queue::open("POSTGRES://localhost:1/x")
        .await
        .expect_err("no server");
    assert!(error.to_string().starts_with("Postgres: "), "{error}");
}

#[tokio::test]
async fn a_file_is_for_its_owner_alone() {
    let (dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    put(&queue, 1).await;
    for entry in std::fs::read_dir(dir.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its mode").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?} has {mode:o}", entry.file_name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_moved_or_replaced_takes_no_job() {
    for is_replaced in [false, true] {
        let (dir, path) = support::sqlite();
        let queue = Queue::open(&path).await.expect("a new file");
        let log = Log::new();
        let running = spawn(noting(&queue, &log));
        put(&queue, 1).await;
        support::until("the first has run", || async { log.notes() == [1] }).await;
        let away = dir.path().join("away.db");
        std::fs::rename(&path, &away).expect("moved");
        if is_replaced {
            std::fs::write(&path, "").expect("another file");
        }
        let taken = queue
            .enqueue(Note(2))
            .await
            .map_err(|error| error.to_string());
        let looked = queue.counts().await.map_err(|error| error.to_string());
        for said in [taken.map(|_| ()), looked.map(|_| ())] {
            let said = said.expect_err("what is written now is gone with this program");
            assert!(
                said.contains("jobs.db was moved, deleted or replaced"),
                "{said}"
            );
        }
        // It is the same file again.
        std::fs::rename(&away, &path).expect("moved back");
        put(&queue, 3).await;
        support::until("it goes on", || async { log.notes() == [1, 3] }).await;
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_jobs_tells_that_its_file_was_deleted() {
    let (dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let log = dir.path().join("log");
    let to_log = std::fs::File::create(&log).expect("a file");
    let _worker = program::Program::start_with(&["--database", &path, "worker"], |worker| {
        worker.stderr(to_log);
    });
    let lives = || async { !queue.workers().await.expect("a list").is_empty() };
    support::until("the worker has begun", lives).await;
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-shm"] {
        std::fs::remove_file(dir.path().join(name)).expect("deleted");
    }
    let said = || std::fs::read_to_string(&log).expect("a file");
    let told = || async { said().contains("was moved, deleted or replaced") };
    support::until("it tells", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_within_its_grace_though_the_file_is_locked() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let worker = queue.worker().lease(2 * SECOND).grace(200 * MILLI);
    let worker = worker.register(|_: Job<Note>| async {
        sleep(60 * SECOND).await;
        Ok(())
    });
    for n in 0..3 {
        put(&queue, n).await;
    }
    let running = spawn(worker);
    let started = || async { queue.counts().await.expect("counts").running == 3 };
    support::until("three run", started).await;
    let other = rusqlite::Connection::open(&path).expect("a connection");
    other.execute_batch("begin immediate").expect("locked");
    let begun = Instant::now();
    running.shutdown.cancel();
    let ended = timeout(60 * SECOND, running.task).await;
    let took = begun.elapsed();
    other.execute_batch("rollback").expect("unlocked");
    assert!(
        ended.is_ok() && took < 3 * SECOND,
        "a grace of 200 ms took {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_for_too_long_takes_no_job_away() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let log = Log::new();
    let running = spawn(noting(&queue, &log).lease(SECOND));
    let job = queue.enqueue(Note(1)).after(2 * SECOND);
    let id = job.await.expect("enqueued").id();
    let other = rusqlite::Connection::open(&path).expect("a connection");
    // The worker knows when the job is due.
    sleep(SECOND).await;
    other.execute_batch("begin immediate").expect("locked");
    // The claim and further calls give up meanwhile, after half a lease each.
    sleep(4 * SECOND).await;
    other.execute_batch("rollback").expect("unlocked");
    let done = || async { record(&queue, id).await.state == State::Done };
    support::until("it is done", done).await;
    let job = record(&queue, id).await;
    let summary = running.end().await;
    assert_eq!((job.errors.len(), summary.reclaimed), (0, 0), "{job:?}");
    assert_eq!(log.lines().len(), 1);
}

/// Done jobs by the hundred thousand, made by one statement.
fn fill(path: &Path, rows: u32, state: &str, at: i64) {
    let connection = rusqlite::Connection::open(path).expect("a connection");
    let sql = "with recursive n(n) as (select 1 union all select n + 1 from n where n < ?1)
        insert into delayed_jobs (kind, queue, payload, priority, run_at, state, created_at, finished_at)
        select 'note', 'default', '1', 1, ?3 + n, ?2, 0, case when ?2 = 'done' then n end from n";
    connection
        .execute(sql, rusqlite::params![rows, state, at])
        .expect("rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_holds_up_no_enqueue() {
    assert_below(500 * MILLI, || async {
        let (_dir, path) = support::sqlite();
        let queue = Queue::open(&path).await.expect("a new file");
        fill(path.as_ref(), 300_000, "done", 0);
        let there = Queue::open(&path).await.expect("it opens");
        let running = spawn(noting(&queue, &Log::new()).retention(SECOND));
        let begun = Instant::now();
        let mut worst = Duration::ZERO;
        while begun.elapsed() < 5 * SECOND {
            let asked = Instant::now();
            let job = there.enqueue(Note(1)).after(3600 * SECOND);
            job.await.expect("enqueued");
            worst = worst.max(asked.elapsed());
            sleep(20 * MILLI).await;
        }
        let counts = queue.counts().await.expect("counts");
        running.end().await;
        assert!(counts.done < 300_000, "nothing was forgotten");
        worst
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn granted_cancels_hold() {
    let (_dir, path) = support::sqlite();
    let (here, there) = (
        Queue::open(&path).await.expect("a new file"),
        Queue::open(&path).await.expect("it opens"),
    );
    cancel_race(here, there).await;
}

/// Another process cancels running jobs that are about to fail: what was granted holds.
pub(super) async fn cancel_race(here: Queue, there: Queue) {
    let retry = Retry::fixed(50 * MILLI).attempts(50);
    let worker = here.worker().concurrency("default", 50);
    let worker = worker.register_with(
        Handling::default().retry(retry),
        |job: Job<Note>| async move {
            sleep(Duration::from_millis(u64::from(job.payload.0 % 40))).await;
            Err(Failure::new("as planned"))
        },
    );
    let running = spawn(worker);
    let (mut granted, mut put_in) = (Vec::new(), 0);
    // On a busy machine fewer are granted, and it takes more rounds.
    while put_in < 400 || granted.len() <= 200 {
        assert!(put_in < 4000, "{} were granted", granted.len());
        let mut ids = Vec::new();
        for n in put_in..put_in + 50 {
            ids.push(put(&there, n).await);
        }
        put_in += 50;
        sleep(15 * MILLI).await;
        for id in ids {
            if there.cancel(id).await.is_ok() {
                granted.push(id);
            }
        }
    }
    sleep(SECOND).await;
    let mut lost = 0;
    for id in &granted {
        lost += u32::from(record(&there, *id).await.state != State::Cancelled);
    }
    running.end().await;
    assert_eq!(lost, 0, "of {} granted cancels", granted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_that_were_given_up_hold_up_nobody() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    fill(path.as_ref(), 100_000, "done", 0);
    let search = || {
        queue.search(Search {
            filter: Filter::default(),
            text: "no job has this".to_owned(),
            since: Micros(0),
            most: 100_000,
        })
    };
    let begun = Instant::now();
    assert!(search().await.expect("found").jobs.is_empty());
    let one = begun.elapsed();
    for _ in 0..50 {
        let given_up = timeout(Duration::ZERO, search()).await;
        assert!(given_up.is_err(), "it took no time");
    }
    let begun = Instant::now();
    queue.job(JobId(1)).await.expect("an answer");
    let took = begun.elapsed();
    assert!(took < 10 * one, "it took {took:?}, and a search {one:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_skips_no_job_though_the_first_ones_go_meanwhile() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    fill(path.as_ref(), 50_000, "done", 0);
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(put(&queue, n).await);
    }
    let mut search = Search {
        filter: Filter::default(),
        text: "no job has this".to_owned(),
        since: Micros(0),
        most: 100_000,
    };
    // The next search waits behind this one.
    let mut slow = pin!(queue.search(search.clone()));
    assert!(
        slow.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending(),
        "it took no time"
    );
    search.filter.state = Some(State::Pending);
    search.text = "29".to_owned();
    search.most = 10;
    let mut found = pin!(queue.search(search.clone()));
    assert!(
        found
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending(),
        "it did not wait"
    );
    // This call comes after what the search has asked so far.
    queue.counts().await.expect("counts");
    for id in &ids[..20] {
        queue.cancel(*id).await.expect("a pending job");
    }
    let mut found = found.await.expect("found");
    while found.jobs.is_empty() {
        search.filter.after = Some(found.next.expect("the job was skipped"));
        found = queue.search(search.clone()).await.expect("found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rates_of_keys_are_forgotten_with_the_limits_of_their_queue() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let limit = Limit::default().key_rate(100, SECOND);
    queue.limit("default", limit).await.expect("set");
    let ids = (0..3).map(|n| queue.enqueue(Note(n)).limit_key(n.to_string()));
    queue.enqueue_all(ids).await.expect("enqueued");
    let done = testkit::drain(noting(&queue, &Log::new())).await;
    assert_eq!(done.expect("drained").done, 3);
    let theirs = rusqlite::Connection::open(&path).expect("a connection");
    let rows = || -> i64 {
        let sql = "select count(*) from delayed_jobs_paces";
        theirs
            .query_row(sql, [], |row| row.get(0))
            .expect("a count")
    };
    assert_eq!(rows(), 3);
    let none = Limit::default();
    queue.limit("default", none).await.expect("set");
    assert_eq!(rows(), 0);
}

/// The columns of SQLite take values of other types.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_fractions_and_bytes_is_a_job_and_stops_no_other() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let theirs = rusqlite::Connection::open(&path).expect("a connection");
    let sql = "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at)
        values ('note', 'default', cast('1' as blob), 1, 1764039672500000.25, 1764039672500000.25)";
    theirs.execute(sql, []).expect("a row");
    put(&queue, 2).await;
    let log = Log::new();
    let running = spawn(noting(&queue, &log));
    let both = || async { queue.counts().await.is_ok_and(|counts| counts.done == 2) };
    support::until("both are done", both).await;
    running.end().await;
    assert_eq!(
        record(&queue, JobId(1)).await.created_at.0,
        1_764_039_672_500_000
    );
}

/// Where a number is wanted, such a row has what SQLite takes the text for: the number that it begins with, or zero.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_texts_for_numbers_stops_no_other() {
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let theirs = rusqlite::Connection::open(&path).expect("a connection");
    // A job whose time is a text is never due.
    for (column, text) in [
        ("run_at", "2026-01-01"),
        ("created_at", "now"),
        ("attempts", "many"),
        ("timeout", "30s"),
    ] {
        theirs
            .execute_batch(
                "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at)
                values ('note', 'default', '1', 1, 5, 5)",
            )
            .expect("a row");
        let sql = format!("update delayed_jobs set {column} = ?1 where id = last_insert_rowid()");
        theirs.execute(&sql, [text]).expect("a text");
    }
    put(&queue, 2).await;
    let log = Log::new();
    let running = spawn(noting(&queue, &log));
    let others = || async { queue.counts().await.is_ok_and(|counts| counts.done == 4) };
    support::until("the others are done", others).await;
    running.end().await;
    let all = queue.list(Filter::default()).await.expect("a list");
    assert_eq!(all.len(), 5);
    assert_eq!(
        (all[1].timeout, all[2].attempts),
        (Some(Duration::from_micros(30)), Some(0))
    );
    let mut pending = Filter {
        state: Some(State::Pending),
        limit: 1,
        ..Filter::default()
    };
    let first = queue.list(pending.clone()).await.expect("a page");
    assert_eq!((first[0].id, first[0].run_at), (JobId(1), Micros(2026)));
    pending.after = Some(first[0].cursor());
    let second = queue.list(pending).await.expect("a page");
    assert_eq!(second, [], "the first page was the last one");
}

#[tokio::test]
async fn a_file_that_may_not_be_created_is_brought_up_to_date() {
    let (_dir, path) = support::sqlite();
    let address = format!("sqlite:{path}?mode=rw");
    let opened = Queue::open(&address).await;
    assert!(
        opened.is_err() && !Path::new(&path).exists(),
        "it is not created"
    );
    std::fs::write(&path, "").expect("an empty file");
    let opened = Queue::open_existing(&address).await;
    assert!(
        matches!(opened, Err(StoreError::TooOld { .. })),
        "{opened:?}"
    );
    let queue = Queue::open(&address).await.expect("it gets its tables");
    put(&queue, 1).await;
}
