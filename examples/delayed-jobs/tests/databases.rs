//! The library on real databases and the real clock: strict about "never early", loose about lateness.
#![forbid(unsafe_code)]

#[path = "support/notes.rs"]
mod notes;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delayed_jobs::store::{
    Claim, Ended, NewJob, PostgresOptions, ScheduleSpec, Slot, Suspects, Verdict,
};
use delayed_jobs::{
    CompleteError, Enqueue, EnqueueError, Enqueued, Failure, Filter, Handling, Job, JobId, Limit,
    Micros, OnDuplicate, Payload, Priority, Queue, Retry, State, StoreError, Unique, UniqueWhile,
    Worker,
};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Executor};
use tokio::time::sleep;

use notes::{Note, spawn};

const MILLI: Duration = Duration::from_millis(1);

/// A database, as often opened as one likes: each opening is like another process.
struct Database {
    address: String,
    _dir: Option<tempfile::TempDir>,
}

impl Database {
    async fn open(&self) -> Queue {
        Queue::open(&self.address).await.expect("it opens")
    }
}

async fn sqlite() -> Option<Database> {
    let (dir, address) = support::sqlite();
    Some(Database {
        address,
        _dir: Some(dir),
    })
}

async fn postgres() -> Option<Database> {
    let address = support::postgres()?.database().await;
    Some(Database {
        address,
        _dir: None,
    })
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        on_both!(@ sqlite: $($name)*);
        on_both!(@ postgres: $($name)*);
    };
    (@ $kind:ident: $($name:ident)*) => {
        mod $kind {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(database) = super::$kind().await {
                        super::$name(database).await;
                    }
                }
            )*
        }
    };
}

on_both![
    jobs_start_at_their_times_and_never_before,
    two_workers_share_the_jobs_and_none_runs_twice,
    what_another_process_enqueues_is_not_waited_for,
    another_process_cancels_a_running_job,
    another_process_pauses_and_resumes,
    schedules_make_no_duplicates_across_processes,
    replacing_a_key_from_many_sides_leaves_one_job,
    the_jobs_of_a_lost_worker_are_taken_over,
    limits_hold_over_two_workers,
    jobs_that_end_at_once_let_the_next_one_go_and_only_once,
    a_job_ends_with_the_transaction_of_its_handler,
    a_job_whose_transaction_was_not_committed_is_not_done,
    the_testkit_drains_a_database_too,
    a_job_that_was_lost_cannot_be_ended_in_a_transaction,
    a_job_that_was_lost_before_its_transaction_was_committed_is_not_done,
    a_row_that_another_program_inserts_is_a_job,
    a_schema_from_the_future_or_from_long_ago_is_refused,
    a_row_that_comes_after_others_needs_no_time_of_its_own,
    a_database_of_an_earlier_version_is_brought_up_to_date,
    opening_at_the_same_time_migrates_once,
    a_slot_is_filled_and_remembered_together,
    a_job_keeps_its_key_if_its_replacement_is_not_stored,
    errors_that_another_program_has_cleared_keep_no_lease_and_no_end,
    a_job_with_a_state_that_no_program_writes_is_named,
    a_schedule_that_has_only_a_name_is_not_run_by_hand_until_it_is_declared,
];

/// When each note began, and when it was due.
type Starts = Arc<Mutex<Vec<(u32, Micros, Micros)>>>;

fn noting(queue: &Queue, starts: &Starts) -> Worker {
    let (starts, clock) = (Arc::clone(starts), queue.store().clock());
    queue.worker().register(move |job: Job<Note>| {
        let start = (job.payload.0, clock.now(), job.run_at());
        starts.lock().expect("no panic").push(start);
        async { Ok(()) }
    })
}

async fn until_done(queue: &Queue, done: u64) {
    let enough = || async { queue.counts().await.expect("counts").done >= done };
    support::until(&format!("{done} jobs are done"), enough).await;
}

async fn jobs_start_at_their_times_and_never_before(database: Database) {
    let queue = database.open().await;
    let starts = Starts::default();
    let running = spawn(noting(&queue, &starts));
    let jobs = (0..200).map(|n| queue.enqueue(Note(n)).after(5 * n * MILLI));
    queue.enqueue_all(jobs).await.expect("enqueued");
    until_done(&queue, 200).await;
    let summary = running.end().await;
    assert_eq!((summary.done, summary.failed), (200, 0));
    let starts = starts.lock().expect("no panic");
    assert_eq!(starts.len(), 200);
    let early: Vec<_> = starts
        .iter()
        .filter(|(_, began, due)| began < due)
        .collect();
    assert!(early.is_empty(), "{early:?}");
    assert!(
        summary.p50 < 500_000,
        "half of the jobs were late by {} us",
        summary.p50
    );
}

async fn two_workers_share_the_jobs_and_none_runs_twice(database: Database) {
    let queues = [database.open().await, database.open().await];
    let starts = Starts::default();
    let running = queues
        .each_ref()
        .map(|queue| spawn(noting(queue, &starts).concurrency("default", 8)));
    let jobs = (0..600).map(|n| queues[0].enqueue(Note(n)).after(n % 50 * 20 * MILLI));
    queues[0].enqueue_all(jobs).await.expect("enqueued");
    until_done(&queues[1], 600).await;
    let mut shares = Vec::new();
    for running in running {
        shares.push(running.end().await.done);
    }
    assert_eq!(shares.iter().sum::<u64>(), 600, "{shares:?}");
    let mut notes: Vec<_> = starts
        .lock()
        .expect("no panic")
        .iter()
        .map(|start| start.0)
        .collect();
    notes.sort();
    assert_eq!(notes, (0..600).collect::<Vec<_>>());
}

async fn what_another_process_enqueues_is_not_waited_for(database: Database) {
    let (here, there) = (database.open().await, database.open().await);
    let starts = Starts::default();
    let running = spawn(noting(&here, &starts));
    // Past its first look, so that only a hint from elsewhere can make it look before 2.5 s.
    there.enqueue(Note(0)).await.expect("enqueued");
    until_done(&there, 1).await;
    sleep(300 * MILLI).await;
    for n in 1..4 {
        there.enqueue(Note(n)).await.expect("enqueued");
        until_done(&there, u64::from(n) + 1).await;
    }
    running.end().await;
    let starts = starts.lock().expect("no panic");
    let late = starts[1..].iter().map(|(_, began, due)| began.since(*due));
    let least = late.min().expect("three starts");
    assert!(least < Duration::from_secs(1), "at best {least:?} late");
}

async fn another_process_cancels_a_running_job(database: Database) {
    let (here, there) = (database.open().await, database.open().await);
    let running = spawn(here.worker().register(|job: Job<Note>| async move {
        job.token().cancelled().await;
        Err(Failure::new("stopped"))
    }));
    let id = there.enqueue(Note(1)).await.expect("enqueued").id();
    let state = async || {
        there
            .job(id)
            .await
            .expect("an answer")
            .expect("a job")
            .state
    };
    support::until("it runs", || async { state().await == State::Running }).await;
    assert_eq!(there.cancel(id).await.expect("granted"), State::Running);
    support::until("it is cancelled", || async {
        state().await == State::Cancelled
    })
    .await;
    assert_eq!(running.end().await.cancelled, 1);
}

async fn another_process_pauses_and_resumes(database: Database) {
    let (here, there) = (database.open().await, database.open().await);
    there.pause("default").await.expect("paused");
    let starts = Starts::default();
    let running = spawn(noting(&here, &starts));
    there.enqueue(Note(1)).await.expect("enqueued");
    sleep(200 * MILLI).await;
    assert_eq!(there.counts().await.expect("counts").pending, 1);
    there.resume("default").await.expect("resumed");
    until_done(&there, 1).await;
    running.end().await;
}

async fn schedules_make_no_duplicates_across_processes(database: Database) {
    let queues = [database.open().await, database.open().await];
    let starts = Starts::default();
    let running = queues
        .each_ref()
        .map(|queue| spawn(noting(queue, &starts).every("tick", 100 * MILLI, &Note(7))));
    until_done(&queues[0], 12).await;
    for running in running {
        running.end().await;
    }
    let mut runs: BTreeMap<Micros, u32> = BTreeMap::new();
    for (_, began, due) in starts.lock().expect("no panic").iter() {
        assert!(began >= due && due.0 % 100_000 == 0);
        *runs.entry(*due).or_default() += 1;
    }
    assert!(runs.values().all(|runs| *runs == 1), "{runs:?}");
    assert!(runs.len() >= 12);
}

async fn replacing_a_key_from_many_sides_leaves_one_job(database: Database) {
    let queue = database.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let queue = queue.clone();
        tasks.spawn(async move {
            let job = queue.enqueue(Note(n)).after(Duration::from_secs(60));
            let enqueued = job
                .unique(Unique::key("one").or(OnDuplicate::Replace))
                .await;
            enqueued.expect("enqueued")
        });
    }
    let outcomes = tasks.join_all().await;
    let new = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Enqueued::New(_)));
    assert_eq!(new.count(), 1, "{outcomes:?}");
    assert_eq!(queue.counts().await.expect("counts").pending, 1);
}

async fn the_jobs_of_a_lost_worker_are_taken_over(database: Database) {
    let lost = database.open().await;
    let worker = lost.worker().lease(500 * MILLI).concurrency("default", 4);
    let worker = worker.register(|_: Job<Note>| std::future::pending());
    for n in 0..6 {
        lost.enqueue(Note(n)).await.expect("enqueued");
    }
    let running = spawn(worker);
    let held = || async { lost.counts().await.expect("counts").running == 4 };
    support::until("four are held", held).await;
    running.task.abort();

    let heir = database.open().await;
    let starts = Starts::default();
    let running = spawn(noting(&heir, &starts).lease(500 * MILLI));
    until_done(&heir, 6).await;
    assert_eq!(running.end().await.reclaimed, 4);
}

/// Writes an effect and ends the job in one transaction, which is committed or rolled back.
async fn complete(address: &str, job: &Job<Note>, commit: bool) -> Result<(), CompleteError> {
    let effect = format!("insert into effects (note) values ({})", job.payload.0);
    if address.starts_with("postgres") {
        let mut client = support::client(address).await;
        let mut transaction = client.begin().await.expect("a transaction");
        support::execute(&mut transaction, &effect).await;
        job.complete_in_postgres(&mut transaction).await?;
        if commit {
            transaction.commit().await.expect("committed");
        }
        return Ok(());
    }
    tokio::task::block_in_place(|| {
        let mut connection = rusqlite::Connection::open(address).expect("a connection");
        let transaction = connection.transaction().expect("a transaction");
        transaction.execute(&effect, []).expect("an effect");
        job.complete_in_sqlite(&transaction)?;
        if commit {
            transaction.commit().expect("committed");
        }
        Ok(())
    })
}

async fn run_sql(address: &str, sql: &str) {
    if address.starts_with("postgres") {
        return support::run(address, sql).await;
    }
    let connection = rusqlite::Connection::open(address).expect("a connection");
    connection.execute_batch(sql).expect("it runs");
}

async fn effects(address: &str) -> i64 {
    let sql = "select count(*) from effects";
    if address.starts_with("postgres") {
        let mut client = support::client(address).await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut client).await;
        return count.expect("a count");
    }
    let connection = rusqlite::Connection::open(address).expect("a connection");
    let count = connection.query_row(sql, [], |row| row.get(0));
    count.expect("a count")
}

async fn a_job_ends_with_the_transaction_of_its_handler(database: Database) {
    let queue = database.open().await;
    run_sql(&database.address, "create table effects (note bigint)").await;
    let id = queue.enqueue(Note(1)).await.expect("enqueued").id();
    let next = queue.enqueue(Note(2)).after_done([id]);
    let next = next.await.expect("enqueued").id();
    let retry = Retry::fixed(MILLI).attempts(5);
    let address = database.address.clone();
    let worker = queue.worker().lease(300 * MILLI).register_with(
        Handling::default().retry(retry),
        move |job: Job<Note>| {
            let address = address.clone();
            async move {
                if job.payload.0 == 2 {
                    return Ok(());
                }
                job.output(&job.attempt())?;
                complete(&address, &job, job.attempt() > 1).await?;
                // For longer than the lease: it is not held any more, and nobody minds.
                sleep(400 * MILLI).await;
                match job.attempt() {
                    1 => Err(Failure::new("rolled back")),
                    _ => Err(Failure::new("it is done all the same")),
                }
            }
        },
    );
    let metrics = worker.metrics();
    let running = spawn(worker);
    until_done(&queue, 2).await;
    let ended = || async { metrics.snapshot().done == 2 };
    support::until("the worker knows of both ends", ended).await;
    running.end().await;
    let record = queue.job(id).await.expect("an answer").expect("a job");
    assert_eq!((record.state, record.attempt), (State::Done, 2));
    assert_eq!(record.output.as_deref(), Some("2"));
    assert_eq!(record.errors.len(), 1, "that of the first try");
    assert_eq!(effects(&database.address).await, 1);
    let next = queue.job(next).await.expect("an answer").expect("a job");
    assert_eq!(next.state, State::Done);
}

async fn a_job_whose_transaction_was_not_committed_is_not_done(database: Database) {
    let queue = database.open().await;
    run_sql(&database.address, "create table effects (note bigint)").await;
    let id = queue.enqueue(Note(1)).await.expect("enqueued").id();
    let retry = Handling::default().retry(Retry::fixed(MILLI));
    let address = database.address.clone();
    let worker = queue.worker().register_with(retry, move |job: Job<Note>| {
        let address = address.clone();
        async move { Ok(complete(&address, &job, job.attempt() > 1).await?) }
    });
    let running = spawn(worker);
    until_done(&queue, 1).await;
    let summary = running.end().await;
    assert_eq!((summary.failed, summary.done), (1, 1));
    let record = queue.job(id).await.expect("an answer").expect("a job");
    assert_eq!((record.state, record.attempt), (State::Done, 2));
    let error = "the transaction that ends the job was not committed";
    assert_eq!(record.error.as_deref(), Some(error));
    assert_eq!(effects(&database.address).await, 1);
}

async fn the_testkit_drains_a_database_too(database: Database) {
    let queue = database.open().await;
    for n in 0..3 {
        let job = queue.enqueue(Note(n)).after(100 * n * MILLI);
        job.await.expect("enqueued");
    }
    // The drain looks again and again while jobs change their states.
    let often = Handling::default().retry(Retry::fixed(MILLI).attempts(100));
    let worker = queue
        .worker()
        .register_with(often, |job: Job<Note>| async move {
            match job.attempt() {
                100 => Ok(()),
                _ => Err(Failure::new("not yet")),
            }
        });
    let drain = delayed_jobs::testkit::drain(worker);
    let drained = tokio::time::timeout(Duration::from_secs(30), drain).await;
    let summary = drained.expect("it ends").expect("drained");
    assert_eq!((summary.failed, summary.done), (297, 3));
}

async fn a_job_that_was_lost_cannot_be_ended_in_a_transaction(database: Database) {
    let queue = database.open().await;
    run_sql(&database.address, "create table effects (note bigint)").await;
    queue.enqueue(Note(1)).await.expect("enqueued");
    let (sender, mut refused) = tokio::sync::mpsc::unbounded_channel();
    let address = database.address.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        let (address, sender) = (address.clone(), sender.clone());
        async move {
            // As if another worker had claimed it.
            run_sql(&address, "update delayed_jobs set claim = claim + 1").await;
            let refusal = complete(&address, &job, true).await;
            let _ = sender.send(matches!(refusal, Err(CompleteError::Lost(id)) if id == job.id()));
            Ok(())
        }
    });
    let running = spawn(worker);
    assert_eq!(refused.recv().await, Some(true));
    running.end().await;
    assert_eq!(effects(&database.address).await, 0);
}

async fn a_job_that_was_lost_before_its_transaction_was_committed_is_not_done(database: Database) {
    let queue = database.open().await;
    run_sql(&database.address, "create table effects (note bigint)").await;
    queue.enqueue(Note(1)).await.expect("enqueued");
    let address = database.address.clone();
    let worker = queue.worker().register(move |job: Job<Note>| {
        let address = address.clone();
        async move {
            complete(&address, &job, false).await?;
            // As if another worker had claimed it.
            run_sql(&address, "update delayed_jobs set claim = claim + 1").await;
            Ok(())
        }
    });
    let metrics = worker.metrics();
    let running = spawn(worker);
    let has_ended = || async {
        let counts = metrics.snapshot();
        counts.lost + counts.done > 0
    };
    support::until("the run has ended", has_ended).await;
    let counts = running.end().await;
    assert_eq!((counts.done, counts.lost), (0, 1), "{counts:?}");
}

/// Each of many jobs waits for two that end at about the same moment, on two workers.
async fn jobs_that_end_at_once_let_the_next_one_go_and_only_once(database: Database) {
    let (first, second) = (database.open().await, database.open().await);
    let mut last = Vec::new();
    for n in 0..60 {
        let pair = (0..2).map(|_| first.enqueue(Note(n)));
        let pair = first.enqueue_all(pair).await.expect("enqueued");
        let next = first.enqueue(Note(100 + n));
        let next = next.after_done(pair.iter().map(|job| job.id()));
        last.push(next.await.expect("enqueued").id());
    }
    let callback = first.enqueue(Note(1000)).after_ended(last);
    callback.await.expect("enqueued");
    let starts = Starts::default();
    let workers = [&first, &second].map(|queue| spawn(noting(queue, &starts)));
    until_done(&first, 181).await;
    for worker in workers {
        worker.end().await;
    }
    let order: Vec<_> = starts
        .lock()
        .expect("no panic")
        .iter()
        .map(|start| start.0)
        .collect();
    assert_eq!(order.len(), 181, "each runs once");
    assert_eq!(order.last(), Some(&1000));
    for n in 0..60 {
        let place = |note| order.iter().rposition(|start| *start == note);
        assert!(place(100 + n) > place(n), "{n}: {order:?}");
    }
}

async fn limits_hold_over_two_workers(database: Database) {
    let (first, second) = (database.open().await, database.open().await);
    let limit = Limit::default().at_once(3).rate(50, Duration::from_secs(1));
    first.limit("default", limit).await.expect("set");
    let jobs = (0..80).map(|n| first.enqueue(Note(n)));
    first.enqueue_all(jobs).await.expect("enqueued");
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let worker = |queue: &Queue| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        queue.worker().register(move |_: Job<Note>| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(10 * MILLI).await;
                running.fetch_sub(1, SeqCst);
                Ok(())
            }
        })
    };
    let begun = std::time::Instant::now();
    let workers = [spawn(worker(&first)), spawn(worker(&second))];
    until_done(&first, 80).await;
    let took = begun.elapsed();
    for worker in workers {
        worker.end().await;
    }
    let most = most.load(SeqCst);
    assert!(most <= 3, "{most} at a time");
    // 80 of 50 a second, of which five may start together.
    assert!(took >= 1450 * MILLI, "all within {took:?}");
    println!("80 jobs at 50 a second took {took:?}, {most} at a time");
}

#[derive(Debug, Serialize, Deserialize)]
struct Email {
    to: String,
}

impl Payload for Email {
    const KIND: &'static str = "email";
}

/// Runs the statements that the README has for other programs.
async fn a_row_that_another_program_inserts_is_a_job(database: Database) {
    let readme = include_str!("../README.md");
    let statements = readme.split("```sql\n").skip(1);
    let [postgres, sqlite] = statements
        .filter_map(|rest| rest.split("```").next())
        .collect::<Vec<_>>()[..]
    else {
        panic!("the README has other statements");
    };
    let queue = database.open().await;
    let (address, notes) = (&database.address, Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&notes);
    let running = spawn(queue.worker().register(move |job: Job<Email>| {
        seen.lock().expect("no panic").push(job.payload.to);
        async { Ok(()) }
    }));
    let (later, soon) = match address.starts_with("postgres") {
        true => (postgres, postgres.replace("'1 hour'", "'100 ms'")),
        false => (sqlite, sqlite.replace("+ 3600", "+ 0.1")),
    };
    run_sql(address, later).await;
    run_sql(address, &soon).await;
    until_done(&queue, 1).await;
    running.end().await;
    assert_eq!(*notes.lock().expect("no panic"), ["ada@example.org"]);
    let jobs = queue.list(delayed_jobs::Filter::default()).await;
    let jobs = jobs.expect("a list");
    let waits = jobs.iter().map(|job| job.run_at.since(job.created_at));
    // SQLite computes them in fractions.
    let waits: Vec<_> = waits.map(|wait| (wait.as_micros() + 500) / 1000).collect();
    assert_eq!(waits, [100, 3_600_000]);
}

async fn a_schema_from_the_future_or_from_long_ago_is_refused(database: Database) {
    drop(database.open().await);
    for (version, reason, advice) in [
        (99, "knows versions up to", ": use a newer program"),
        (8, "migrates only versions from", "with an earlier release"),
    ] {
        let sql = format!(
            "delete from delayed_jobs_schema; insert into delayed_jobs_schema values ({version})"
        );
        run_sql(&database.address, &sql).await;
        let refused = Queue::open(&database.address).await.expect_err("refused");
        let words = refused.to_string();
        let begin = format!("the schema has version {version}, and this program {reason} ");
        assert!(
            words.starts_with(&begin) && words.ends_with(advice),
            "{words}"
        );
    }
}

/// Inserts a row of the kind `note` as another program may do it, which comes after a job and has no `wanted_at`.
async fn insert_after(address: &str, job: JobId) {
    let sql = format!(
        "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at, after_jobs)
        values ('note', 'default', '7', 1, 9223372036854775807, 0, '[{job}]')"
    );
    run_sql(address, &sql).await;
}

async fn a_row_that_comes_after_others_needs_no_time_of_its_own(database: Database) {
    let queue = database.open().await;
    let first = queue.enqueue(Note(1)).await.expect("enqueued").id();
    insert_after(&database.address, first).await;
    insert_after(&database.address, JobId(first.0 + 999)).await;
    let running = spawn(noting(&queue, &Starts::default()));
    until_done(&queue, 3).await;
    running.end().await;
}

async fn a_database_of_an_earlier_version_is_brought_up_to_date(database: Database) {
    let (tables, version) = match database.address.starts_with("postgres") {
        true => (include_str!("../schema/postgres/011_schema.sql"), 11),
        false => (include_str!("../schema/sqlite/009_schema.sql"), 9),
    };
    let tables = tables.replace("{channel}", "delayed_jobs");
    let jobs = format!(
        "insert into delayed_jobs_schema (version) values ({version});
        insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at)
        values ('note', 'default', '1', 1, 0, 0)"
    );
    run_sql(&database.address, &format!("{tables}\n{jobs}")).await;
    insert_after(&database.address, JobId(1)).await;
    let refused = Queue::open_existing(&database.address).await;
    let error = refused.expect_err("it is too old");
    assert!(matches!(error, StoreError::TooOld { .. }), "{error}");
    let queue = database.open().await;
    let running = spawn(noting(&queue, &Starts::default()));
    until_done(&queue, 2).await;
    running.end().await;
}

async fn a_job_keeps_its_key_if_its_replacement_is_not_stored(database: Database) {
    let queue = database.open().await;
    let enqueue = async |note, rule| {
        let once = Unique::key("k").within(UniqueWhile::Kept).or(rule);
        queue.enqueue(Note(note)).unique(once).await
    };
    let first = enqueue(1, OnDuplicate::Replace).await.expect("enqueued");
    let running = spawn(noting(&queue, &Starts::default()));
    until_done(&queue, 1).await;
    running.end().await;
    let broken = match database.address.starts_with("postgres") {
        true => "alter table delayed_jobs add constraint broken check (payload <> '2')",
        false => {
            "create trigger broken before insert on delayed_jobs when new.payload = '2'
            begin select raise(abort, 'as planned'); end"
        }
    };
    run_sql(&database.address, broken).await;
    enqueue(2, OnDuplicate::Replace)
        .await
        .expect_err("as planned");
    let again = enqueue(3, OnDuplicate::Keep).await.expect("an answer");
    assert_eq!(again, Enqueued::Kept(first.id()));
    let new = enqueue(4, OnDuplicate::Replace).await.expect("enqueued");
    assert_eq!(new, Enqueued::New(new.id()));
    let again = enqueue(5, OnDuplicate::Replace).await.expect("enqueued");
    assert_eq!(again, Enqueued::Replaced(new.id()));
}

/// Versions of long ago did not store what the jobs of a schedule are.
async fn a_schedule_that_has_only_a_name_is_not_run_by_hand_until_it_is_declared(
    database: Database,
) {
    let queue = database.open().await;
    let insert = "insert into delayed_jobs_schedules (name, spec) values ('hourly', 'a')";
    run_sql(&database.address, insert).await;
    let store = queue.store();
    let now = store.clock().now();
    let made = store.run_schedule("hourly", now).await;
    assert_eq!(made.expect("an answer"), None);
    let schedule = ScheduleSpec {
        name: "hourly".to_owned(),
        spec: "a".to_owned(),
        kind: Note::KIND.to_owned(),
        queue: "default".to_owned(),
        payload: "7".to_owned(),
    };
    store.declare(schedule).await.expect("declared");
    let made = store.run_schedule("hourly", now).await;
    assert!(made.expect("an answer").is_some());
}

async fn a_job_with_a_state_that_no_program_writes_is_named(database: Database) {
    let queue = database.open().await;
    let hour = 3600 * 1000 * MILLI;
    queue.enqueue(Note(1)).after(hour).await.expect("enqueued");
    let odd = queue.enqueue(Note(2)).after(hour).await.expect("enqueued");
    let odd = odd.id();
    let set = format!("update delayed_jobs set state = 'paused' where id = {odd}");
    run_sql(&database.address, &set).await;
    let errors = [
        queue
            .list(Filter::default())
            .await
            .map(drop)
            .unwrap_err()
            .to_string(),
        queue.job(odd).await.map(drop).unwrap_err().to_string(),
        queue.cancel(odd).await.map(drop).unwrap_err().to_string(),
        queue.retry(odd).await.map(drop).unwrap_err().to_string(),
    ];
    for error in errors {
        let wanted = format!("job {odd} holds `paused`, where a state was expected");
        assert!(error.ends_with(&wanted), "{error}");
    }
    assert_eq!(queue.counts().await.expect("counts").pending, 1);
}

/// The leases of all lost workers are taken back by one statement.
async fn errors_that_another_program_has_cleared_keep_no_lease_and_no_end(database: Database) {
    let queue = database.open().await;
    let store = queue.store();
    let first = queue.enqueue(Note(1)).await.expect("enqueued").id();
    queue.enqueue(Note(2)).await.expect("enqueued");
    let claim = async |lease: Duration| {
        let now = store.clock().now();
        let claim = Claim {
            worker: "w".to_owned(),
            queue: "default".to_owned(),
            limit: 9,
            now,
            lease_until: now.after(lease),
            kinds: vec![Note::KIND.to_owned()],
            from: [Micros::EARLIEST; 3],
            suspects: Suspects::Without(9),
            limited: false,
            ageing: None,
        };
        store.claim(claim).await.expect("a claim").jobs
    };
    for errors in ["", "none", "{}", "7"] {
        let set = format!("update delayed_jobs set errors = '{errors}' where id = {first}");
        assert_eq!(claim(Duration::ZERO).await.len(), 2);
        run_sql(&database.address, &set).await;
        let lost = store.reclaim(store.clock().now(), 9).await;
        assert_eq!(lost.expect("an answer").len(), 2, "`{errors}`");
        let jobs = claim(60 * 1000 * MILLI).await;
        run_sql(&database.address, &set).await;
        for job in jobs {
            let verdict = Verdict::Retry {
                at: Micros(0),
                error: "x".to_owned(),
            };
            let ended = Ended {
                lease: job.lease,
                at: store.clock().now(),
                verdict,
                relaxed: false,
            };
            assert!(store.finish(ended).await.expect("an answer"), "`{errors}`");
        }
        let job = queue.job(first).await.expect("an answer").expect("a job");
        assert_eq!(job.errors.len(), 1, "`{errors}`: {:?}", job.errors);
    }
}

fn schedule(spec: &str) -> ScheduleSpec {
    ScheduleSpec {
        name: "tick".to_owned(),
        spec: spec.to_owned(),
        kind: Note::KIND.to_owned(),
        queue: "default".to_owned(),
        payload: "1".to_owned(),
    }
}

fn slot(at: i64, spec: &str) -> Slot {
    let at = Micros(at);
    Slot {
        schedule: "tick".to_owned(),
        spec: spec.to_owned(),
        slot: at,
        earliest: Micros::EARLIEST,
        latest: Micros::NEVER,
        overlap: false,
        job: NewJob {
            kind: Note::KIND.to_owned(),
            queue: "default".to_owned(),
            payload: "1".to_owned(),
            priority: Priority::Normal,
            run_at: at,
            created_at: at,
            attempts: None,
            timeout: None,
            limit_key: None,
            key: None,
            after: None,
        },
    }
}

/// If the slot were not remembered, the runs after it would be taken for missed, but its own would stand in their way.
async fn a_slot_is_filled_and_remembered_together(database: Database) {
    let queue = database.open().await;
    let store = queue.store();
    store.declare(schedule("a")).await.expect("declared");
    let (begin, end) = match database.address.starts_with("postgres") {
        true => (
            "alter table delayed_jobs_schedules add constraint broken check (slot is null)",
            "alter table delayed_jobs_schedules drop constraint broken",
        ),
        false => (
            "create trigger broken before update on delayed_jobs_schedules
            begin select raise(abort, 'as planned'); end",
            "drop trigger broken",
        ),
    };
    run_sql(&database.address, begin).await;
    store.fill_slot(slot(1, "a")).await.expect_err("as planned");
    run_sql(&database.address, end).await;
    assert!(store.fill_slot(slot(1, "a")).await.expect("an answer"));
    let last = store.last_slot("tick").await.expect("an answer");
    assert_eq!(last, Some(Micros(1)));
}

/// A session of another program may have any path, and its changes run the triggers.
#[tokio::test]
async fn triggers_find_the_tables_whatever_the_path_of_a_session_is_on_postgres() {
    let Some(server) = support::postgres() else {
        return;
    };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let ids: Vec<_> = queue
        .enqueue_all([1, 2].map(|n| queue.enqueue(Note(n)).after(3600 * 1000 * MILLI)))
        .await
        .expect("enqueued");
    let [done, deleted] = [ids[0].id(), ids[1].id()];
    let sql = format!(
        "create schema elsewhere;
        set search_path = elsewhere;
        insert into public.delayed_jobs (kind, queue, payload, priority, run_at, created_at, after_jobs, after_any)
        values ('note', 'default', '7', 1, 9223372036854775807, 0, '[{done}, {deleted}]', 1);
        update public.delayed_jobs set state = 'done', finished_at = 5 where id = {done};
        delete from public.delayed_jobs where id = {deleted};"
    );
    support::run(&address, &sql).await;
    let pending = Filter {
        state: Some(State::Pending),
        ..Filter::default()
    };
    let next = queue.list(pending).await.expect("a list");
    assert_eq!(next.len(), 1);
    assert!(next[0].run_at < Micros(i64::MAX), "it waits for nothing");
}

/// The first schema of the path may be another one than that of the tables.
#[tokio::test]
async fn tables_are_brought_up_to_date_in_their_own_schema_on_postgres() {
    let Some(server) = support::postgres() else {
        return;
    };
    let address = server.database().await;
    let tables = include_str!("../schema/postgres/011_schema.sql");
    let tables = tables.replace("{channel}", "delayed_jobs");
    let sql = format!(
        "{tables}
        insert into delayed_jobs_schema (version) values (11);
        create schema own;
        do $$ begin
            execute format('alter database %I set search_path = own, public', current_database());
        end $$;"
    );
    support::run(&address, &sql).await;
    let queue = Queue::open(&address).await.expect("it opens");
    let itself = queue.enqueue(Note(1)).after_done([JobId(1)]).await;
    let error = itself.expect_err("it would wait for itself");
    assert!(matches!(error, EnqueueError::AfterItself), "{error}");
    let mut client = support::client(&address).await;
    let sql = "select count(*) from pg_catalog.pg_proc where pronamespace = 'own'::regnamespace";
    let strays: i64 = sqlx::query_scalar(sql)
        .fetch_one(&mut client)
        .await
        .expect("a count");
    assert_eq!(strays, 0);
}

/// Between the jobs of one statement others lock the jobs that they come after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_are_enqueued_together_after_others_cause_no_deadlock_on_postgres() {
    let Some(server) = support::Postgres::start(support::Disk::Trusted) else {
        return;
    };
    let address = server.database().await;
    let queue = Queue::open(&address).await.expect("it opens");
    let (first, second) = (in_an_hour(&queue).await, in_an_hour(&queue).await);
    let sql = "create function slow() returns trigger language plpgsql
        as $$ begin perform pg_sleep(0.4); return null; end $$;
        create trigger slow after insert on delayed_jobs for each row when (new.payload = '7') execute function slow()";
    run_sql(&address, sql).await;
    let after = |note, jobs: &[JobId]| {
        let jobs = jobs.to_vec();
        queue.enqueue(Note(note)).after_done(jobs)
    };
    let together = queue.enqueue_all([after(7, &[second]), after(1, &[first])]);
    let meanwhile = async {
        sleep(100 * MILLI).await;
        after(2, &[first, second]).await
    };
    let (together, meanwhile) = tokio::join!(together, meanwhile);
    assert_eq!(together.expect("enqueued").len(), 2);
    meanwhile.expect("enqueued");
    assert!(!server.log().contains("deadlock"), "{}", server.log());
}

/// A job ends on which two others wait, and one of these is cancelled meanwhile. Each of the two transactions has locked
/// what the other one needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_meets_the_end_of_a_job_before_it_is_granted_on_postgres() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let first = in_an_hour(&queue).await;
    let after = async |job| {
        let job = queue.enqueue(Note(1)).after_ended([job]).await;
        job.expect("enqueued").id()
    };
    let (slow, other) = (after(first).await, after(first).await);
    let last = after(other).await;
    let sql = format!(
        "create function slow() returns trigger language plpgsql
        as $$ begin perform pg_sleep(0.4); return new; end $$;
        create trigger slow before update on delayed_jobs for each row when (new.id = {slow}) execute function slow()"
    );
    run_sql(&database.address, &sql).await;
    let meanwhile = async {
        sleep(100 * MILLI).await;
        queue.cancel(other).await
    };
    let (ended, cancelled) = tokio::join!(queue.cancel(first), meanwhile);
    let (ended, cancelled) = (ended.expect("granted"), cancelled.expect("granted"));
    assert_eq!((ended, cancelled), (State::Cancelled, State::Cancelled));
    for id in [slow, last] {
        let job = queue.job(id).await.expect("an answer").expect("a job");
        assert!(job.run_at < Micros::NEVER, "{job:?}");
    }
}

/// The insert of the slot's job takes a while here, and the schedule is paused or changed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_filled_meanwhile_leaves_no_job_to_a_schedule_that_ends_on_postgres() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let store = queue.store();
    let slow = "create function slow() returns trigger language plpgsql
        as $$ begin perform pg_sleep(0.3); return new; end $$;
        create trigger slow before insert on delayed_jobs for each row execute function slow()";
    run_sql(&database.address, slow).await;
    for (at, ends) in [(1, "paused"), (2, "changed"), (3, "filled by another")] {
        store.declare(schedule("a")).await.expect("declared");
        let fill = async {
            let filled = store.fill_slot(slot(10 * at, "a")).await;
            filled.expect("an answer")
        };
        let end = async {
            sleep(100 * MILLI).await;
            match ends {
                "paused" => drop(store.pause_schedule("tick", true).await.expect("paused")),
                "changed" => store.declare(schedule("b")).await.expect("declared"),
                _ => drop(
                    store
                        .fill_slot(slot(10 * at + 1, "a"))
                        .await
                        .expect("an answer"),
                ),
            }
        };
        let (filled, ()) = tokio::join!(fill, end);
        assert!(filled, "{ends}");
        let pending = queue.counts().await.expect("counts").pending;
        assert_eq!(pending, u64::from(at == 3), "{ends}");
        store.pause_schedule("tick", false).await.expect("resumed");
    }
}

async fn opening_at_the_same_time_migrates_once(database: Database) {
    let opened = tokio::join!(
        Queue::open(&database.address),
        Queue::open(&database.address),
        Queue::open(&database.address)
    );
    for queue in [opened.0, opened.1, opened.2] {
        queue
            .expect("it opens")
            .enqueue(Note(1))
            .await
            .expect("enqueued");
    }
}

#[tokio::test]
async fn a_job_is_part_of_the_callers_sqlite_transaction() {
    let (_dir, address) = support::sqlite();
    let queue = Queue::open(&address).await.expect("it opens");
    let mut theirs = rusqlite::Connection::open(&address).expect("a connection");
    theirs
        .execute_batch("create table users (name text)")
        .expect("a table");

    let transaction = theirs.transaction().expect("a transaction");
    transaction
        .execute("insert into users values ('ada')", [])
        .expect("a user");
    queue
        .enqueue(Note(1))
        .in_sqlite(&transaction)
        .expect("enqueued");
    transaction.rollback().expect("rolled back");
    assert_eq!(queue.counts().await.expect("counts").pending, 0);

    let starts = Starts::default();
    let running = spawn(noting(&queue, &starts));
    let transaction = theirs.transaction().expect("a transaction");
    transaction
        .execute("insert into users values ('ada')", [])
        .expect("a user");
    let job = queue
        .enqueue(Note(2))
        .unique(Unique::key("ada").or(OnDuplicate::Replace));
    let id = job.in_sqlite(&transaction).expect("enqueued").id();
    let again = queue.enqueue(Note(3)).unique("ada").in_sqlite(&transaction);
    let words = format!("job {id} holds the key `ada`");
    assert_eq!(again.expect_err("taken").to_string(), words);
    transaction.commit().expect("committed");
    until_done(&queue, 1).await;
    running.end().await;
    assert_eq!(starts.lock().expect("no panic")[0].0, 2);
}

/// Many jobs: with keys and without, and one that comes after another one.
fn many<'a>(queue: &'a Queue, first: JobId) -> impl Iterator<Item = Enqueue<'a>> {
    let plain = (0..1500).map(|n| queue.enqueue(Note(n)));
    let keyed = [7, 8].map(|n| queue.enqueue(Note(n)).unique("one"));
    let next = queue.enqueue(Note(9)).after_done([first]);
    plain.chain(keyed).chain([next])
}

async fn assert_many_were_enqueued(queue: &Queue, first: JobId, outcomes: &[Enqueued]) {
    let ids: Vec<_> = outcomes.iter().map(|outcome| outcome.id()).collect();
    assert!(ids[..1501].is_sorted() && ids[1500] == ids[1501], "{ids:?}");
    let kinds = (outcomes[0], outcomes[1500], outcomes[1501], outcomes[1502]);
    let expected = (
        Enqueued::New(ids[0]),
        Enqueued::New(ids[1500]),
        Enqueued::Refused(ids[1500]),
        Enqueued::New(ids[1502]),
    );
    assert_eq!(kinds, expected);
    for (at, payload) in [(0, "0"), (1499, "1499"), (1500, "7"), (1502, "9")] {
        let job = queue.job(ids[at]).await.expect("an answer");
        assert_eq!(job.expect("a job").payload, payload);
    }
    let next = queue.job(ids[1502]).await.expect("an answer");
    assert_eq!(next.expect("a job").after, [first]);
    assert_eq!(queue.counts().await.expect("counts").pending, 1503);
}

#[tokio::test]
async fn many_jobs_are_part_of_the_callers_sqlite_transaction() {
    let (_dir, address) = support::sqlite();
    let queue = Queue::open(&address).await.expect("it opens");
    let first = queue.enqueue(Note(1)).await.expect("enqueued").id();
    let mut theirs = rusqlite::Connection::open(&address).expect("a connection");
    let transaction = theirs.transaction().expect("a transaction");
    let all = queue.enqueue_all(many(&queue, first));
    all.in_sqlite(&transaction).expect("enqueued");
    transaction.rollback().expect("rolled back");
    assert_eq!(queue.counts().await.expect("counts").pending, 1);
    let transaction = theirs.transaction().expect("a transaction");
    let all = queue.enqueue_all(many(&queue, first));
    let outcomes = all.in_sqlite(&transaction).expect("enqueued");
    transaction.commit().expect("committed");
    assert_many_were_enqueued(&queue, first, &outcomes).await;
}

#[tokio::test]
async fn many_jobs_are_part_of_the_callers_postgres_transaction() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let first = queue.enqueue(Note(1)).await.expect("enqueued").id();
    let mut theirs = support::client(&database.address).await;
    let mut transaction = theirs.begin().await.expect("a transaction");
    let all = queue.enqueue_all(many(&queue, first));
    all.in_postgres(&mut transaction).await.expect("enqueued");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(queue.counts().await.expect("counts").pending, 1);
    let mut transaction = theirs.begin().await.expect("a transaction");
    let all = queue.enqueue_all(many(&queue, first));
    let outcomes = all.in_postgres(&mut transaction).await.expect("enqueued");
    transaction.commit().await.expect("committed");
    assert_many_were_enqueued(&queue, first, &outcomes).await;
}

#[tokio::test]
async fn a_job_is_part_of_the_callers_postgres_transaction() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let mut theirs = support::client(&database.address).await;

    let mut transaction = theirs.begin().await.expect("a transaction");
    queue
        .enqueue(Note(1))
        .in_postgres(&mut transaction)
        .await
        .expect("enqueued");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(queue.counts().await.expect("counts").pending, 0);

    let starts = Starts::default();
    let running = spawn(noting(&queue, &starts));
    let mut transaction = theirs.begin().await.expect("a transaction");
    let job = queue
        .enqueue(Note(2))
        .unique(Unique::key("ada").or(OnDuplicate::Replace));
    let id: JobId = job
        .in_postgres(&mut transaction)
        .await
        .expect("enqueued")
        .id();
    let again = queue
        .enqueue(Note(3))
        .unique("ada")
        .in_postgres(&mut transaction)
        .await;
    let words = format!("job {id} holds the key `ada`");
    assert_eq!(again.expect_err("taken").to_string(), words);
    transaction.commit().await.expect("committed");
    until_done(&queue, 1).await;
    running.end().await;
    assert_eq!(starts.lock().expect("no panic")[0].0, 2);
}

/// Other programs on the database may want it. Two ends wait for the same lock, and the second one has to see the first.
#[tokio::test]
async fn ends_see_each_other_whatever_the_default_isolation_of_postgres_is() {
    let Some(database) = postgres().await else {
        return;
    };
    let name = database.address.rsplit('/').next().unwrap_or_default();
    let set =
        format!("alter database {name} set default_transaction_isolation = 'repeatable read'");
    run_sql(&database.address, &set).await;
    let (first, second) = (database.open().await, database.open().await);
    let pair = first.enqueue_all([first.enqueue(Note(0)), first.enqueue(Note(1))]);
    let pair = pair.await.expect("enqueued");
    let last = first.enqueue(Note(2));
    let last = last.after_done(pair.iter().map(|job| job.id()));
    last.await.expect("enqueued");
    let mut client = support::client(&database.address).await;
    let lock = client.execute("select pg_advisory_lock(7235419200281472867)");
    lock.await.expect("locked");
    let starts = Starts::default();
    let workers = [&first, &second].map(|queue| {
        let worker = noting(queue, &starts);
        spawn(worker.concurrency("default", 1))
    });
    let both_wait = || async {
        let sql = "select count(*) from pg_locks join pg_database as ours on ours.oid = database
            where datname = current_database() and locktype = 'advisory' and not granted";
        let mut client = support::client(&database.address).await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut client).await;
        let count: i64 = count.expect("a count");
        count == 2
    };
    support::until("both ends wait", both_wait).await;
    client.close().await.expect("closed");
    until_done(&first, 3).await;
    for worker in workers {
        worker.end().await;
    }
}

/// With such a transaction the end of the second job would not see that of the first one, and the last job would wait
/// for ever.
#[tokio::test]
async fn a_transaction_that_cannot_see_other_ends_is_refused_by_postgres() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let other = in_an_hour(&queue).await;
    let slow = queue.enqueue(Note(1)).await.expect("enqueued").id();
    let last = queue.enqueue(Note(2)).after_done([slow, other]);
    last.await.expect("enqueued");
    let (address, ours) = (database.address.clone(), queue.clone());
    let handling = Handling::default().retry(Retry::fixed(MILLI));
    let worker = queue
        .worker()
        .register_with(handling, move |job: Job<Note>| {
            let (address, queue) = (address.clone(), ours.clone());
            async move {
                if job.id() != slow || job.attempt() > 1 {
                    return Ok(());
                }
                let mut client = support::client(&address).await;
                let begin = "begin isolation level repeatable read";
                let mut transaction = client.begin_with(begin).await?;
                transaction.execute("select 1 from delayed_jobs").await?;
                queue.retry(other).await?;
                until_done(&queue, 1).await;
                job.complete_in_postgres(&mut transaction).await?;
                Ok(transaction.commit().await?)
            }
        });
    let running = spawn(worker);
    until_done(&queue, 3).await;
    running.end().await;
}

/// Enqueues a job that is due in an hour.
async fn in_an_hour(queue: &Queue) -> JobId {
    let job = queue.enqueue(Note(0)).after(Duration::from_secs(3600));
    job.await.expect("enqueued").id()
}

/// Ten thousand of them take longer than a statement may.
#[tokio::test]
async fn many_jobs_that_come_after_others_are_several_steps_on_postgres() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let first = in_an_hour(&queue).await;
    let jobs = (0..2500).map(|n| queue.enqueue(Note(n)).after_done([first]));
    let enqueued = queue.enqueue_all(jobs).await.expect("enqueued");
    assert_eq!(enqueued.len(), 2500);
    let mut client = support::client(&database.address).await;
    let sql = "select count(distinct xmin::text) from delayed_jobs where after_jobs is not null";
    let steps: i64 = sqlx::query_scalar(sql)
        .fetch_one(&mut client)
        .await
        .expect("a count");
    assert_eq!(steps, 3);
}

/// In a new database, where nothing tells the planner how many rows there will be.
#[tokio::test]
async fn each_job_that_comes_after_others_reads_few_rows_of_postgres() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let first = in_an_hour(&queue).await;
    let mut client = support::client(&database.address).await;
    let mut transaction = client.begin().await.expect("a transaction");
    let insert = format!(
        "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at, after_jobs, wanted_at)
        select 'note', 'default', '1', 1, {}, 0, '[{first}]', 5 from generate_series(1, 1000)",
        i64::MAX
    );
    let inserted = transaction.execute(sqlx::AssertSqlSafe(insert)).await;
    assert_eq!(inserted.expect("inserted").rows_affected(), 1000);
    let sql = "select sum(seq_tup_read + idx_tup_fetch)::bigint from pg_stat_xact_user_tables where relname like 'delayed_jobs%'";
    let read: i64 = sqlx::query_scalar(sql)
        .fetch_one(&mut *transaction)
        .await
        .expect("a count");
    assert!(read < 20_000, "{read} rows were read for a thousand jobs");
}

#[tokio::test]
async fn a_database_that_breaks_off_is_connected_to_again() {
    let Some(database) = postgres().await else {
        return;
    };
    let queue = database.open().await;
    let starts = Starts::default();
    let handling = Handling::default().retry(Retry::fixed(10 * MILLI));
    let running = spawn(queue.worker().register_with(handling, {
        let starts = Arc::clone(&starts);
        move |job: Job<Note>| {
            let start = (job.payload.0, Micros(0), job.run_at());
            starts.lock().expect("no panic").push(start);
            async { Ok(()) }
        }
    }));
    queue.enqueue(Note(1)).await.expect("enqueued");
    until_done(&queue, 1).await;

    let mut client = support::client(&database.address).await;
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    support::execute(&mut client, sql).await;
    let again = || async {
        queue
            .enqueue(Note(2))
            .unique(Unique::key("two").or(OnDuplicate::Keep))
            .await
            .is_ok()
    };
    support::until("a job can be enqueued again", again).await;
    until_done(&queue, 2).await;
    running.end().await;
}

/// As when a server has become a standby, and its name leads to another one by now.
#[tokio::test]
async fn a_database_that_was_read_only_is_connected_to_again() {
    let Some(database) = postgres().await else {
        return;
    };
    let mut client = support::client(&database.address).await;
    let name = sqlx::query_scalar::<_, String>("select current_database()");
    let name = name.fetch_one(&mut client).await.expect("a name");
    database.open().await;
    // This applies to new connections.
    let alter = format!("alter database {name} set default_transaction_read_only =");
    let mut set = async |word: &str| {
        support::execute(&mut client, &format!("{alter} {word}")).await;
    };
    set("on").await;
    let queue = database.open().await;
    let error = queue.enqueue(Note(1)).await.expect_err("read-only");
    assert!(error.to_string().contains("read-only"), "{error}");
    set("off").await;
    let again = || async { queue.enqueue(Note(1)).await.is_ok() };
    support::until("a job can be enqueued again", again).await;
}

#[tokio::test]
async fn a_timeout_may_be_longer_than_any_that_postgres_knows() {
    let Some(database) = postgres().await else {
        return;
    };
    let options = PostgresOptions::new(&database.address).expect("an address");
    let options = options
        .query_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX);
    let queue = Queue::on(options.open().await.expect("it opens"));
    queue.enqueue(Note(1)).await.expect("enqueued");
    let changes = queue.store().changes();
    let hears = || async {
        run_sql(&database.address, "notify delayed_jobs").await;
        changes.has_changed().expect("the store is open")
    };
    support::until("it hears of changes", hears).await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let error = Queue::open("/no/such/folder/jobs.db")
        .await
        .expect_err("no folder");
    let words = error.to_string();
    assert!(
        words.starts_with("SQLite: unable to open database file"),
        "{words}"
    );
    let nobody = "postgres://postgres@127.0.0.1:1/none";
    let words = Queue::open(nobody)
        .await
        .expect_err("no server")
        .to_string();
    assert!(words.starts_with("Postgres: "), "{words}");
}
