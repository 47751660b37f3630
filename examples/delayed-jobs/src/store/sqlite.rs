//! One SQLite file: durable at each answer, and no call blocks a thread of the runtime.
//!
//! Two threads have a connection each. The writer takes all statements that have come in since its last
//! commit and commits them together, so that a hundred jobs that end at once cost one `fsync`. The reader
//! answers what only looks, beside it. A third copies the log of writes into the file, which would hold
//! the writer up for tens of milliseconds. Other processes may open the same file: the writer asks SQLite
//! whether another program has committed, which costs no query and no lock.

use std::fmt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params_from_iter};
use tokio::sync::{oneshot, watch};

use super::sql::{self, Database, Execute, Row, Sql, Value};
use super::types::{Enqueued, NewJob};
use super::{Answer, Store, StoreError};
use crate::time::Clock;

const MIGRATIONS: &[&str] = &[include_str!("../../schema/sqlite/001_jobs.sql")];

/// How long to wait for another process that is writing.
const BUSY: Duration = Duration::from_secs(10);

/// How often an idle writer looks whether another process has committed.
const LOOK: Duration = Duration::from_millis(20);

/// At most this many statements go into one commit.
const GROUP: usize = 512;

/// How often the log of writes is copied into the file.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// At this length, in pages of 4 KiB, the writer does so itself, since no other thread did.
const LONGEST_LOG: i64 = 16_000;

/// Longer statements are made for one use, and not worth keeping.
const KEPT_LENGTH: usize = 3000;

/// Opens a SQLite file, creates it if there is none, and brings its schema up to date.
///
/// It is in WAL mode with `synchronous = FULL`: what a resolved call has written survives a loss of power. The
/// file must be on a disk of this machine.
///
/// # Errors
///
/// [`StoreError::Sqlite`] if it cannot be opened or is no database, and [`StoreError::TooNew`].
pub async fn open_sqlite(path: impl AsRef<Path>) -> Result<Arc<dyn Store>, StoreError> {
    let path = path.as_ref().to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let writer = connect(&path, OpenFlags::default())?;
        migrate(&writer)?;
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = connect(&path, read_only)?;
        let copier = connect(&path, OpenFlags::default())?;
        Lanes::start(writer, reader, copier)
    });
    let database = opened.await.map_err(|_| StoreError::Closed)??;
    Ok(Arc::new(Sql {
        database,
        clock: Clock::system(),
    }))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", LONGEST_LOG)?;
    }
    Ok(connection)
}

/// Runs the migrations that the file has not seen.
fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "create table if not exists delayed_jobs_schema (version integer primary key)",
    )?;
    let sql = "select coalesce(max(version), 0) from delayed_jobs_schema";
    let found: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(found as usize) {
        transaction.execute_batch(migration)?;
        let sql = "insert into delayed_jobs_schema (version) values (?1)";
        transaction.execute(sql, [version])?;
    }
    Ok(transaction.commit()?)
}

/// A statement on its way to a thread, and the way back.
struct Command {
    sql: String,
    values: Vec<Value>,
    answer: oneshot::Sender<Result<Vec<Row>, StoreError>>,
}

struct Lanes {
    writer: Sender<Command>,
    reader: Sender<Command>,
    changes: watch::Receiver<u64>,
}

impl Lanes {
    fn start(
        writer: Connection,
        reader: Connection,
        copier: Connection,
    ) -> Result<Lanes, StoreError> {
        let (to_writer, writes) = mpsc::channel();
        let (to_reader, reads) = mpsc::channel();
        let (change, changes) = watch::channel(0);
        let (alive, lives) = mpsc::channel();
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("jobs-writer").spawn(move || {
            write(&writer, &writes, &change);
            drop(alive);
        })?;
        thread("jobs-reader").spawn(move || read(&reader, &reads))?;
        thread("jobs-copier").spawn(move || copy(&copier, &lives))?;
        Ok(Lanes {
            writer: to_writer,
            reader: to_reader,
            changes,
        })
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

/// Ends when the store is gone.
fn read(connection: &Connection, inbox: &Receiver<Command>) {
    for command in inbox {
        let _ = command
            .answer
            .send(run(connection, &command.sql, command.values));
    }
}

/// Copies what can be copied without blocking other threads. Ends when the writer has.
fn copy(connection: &Connection, lives: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = lives.recv_timeout(CHECKPOINT) {
        // It answers a row. If it fails, the log is longer for a while.
        let _ = connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()));
    }
}

/// Ends when the store is gone.
fn write(connection: &Connection, inbox: &Receiver<Command>, change: &watch::Sender<u64>) {
    let mut seen = version(connection);
    loop {
        match inbox.recv_timeout(LOOK) {
            Ok(first) => commit_group(connection, first, inbox),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // The number moves by the commits of other connections only.
        let now = version(connection);
        if now != seen {
            seen = now;
            change.send_modify(|changes| *changes += 1);
        }
    }
}

fn version(connection: &Connection) -> Option<i64> {
    let version = connection.pragma_query_value(None, "data_version", |row| row.get(0));
    version.ok()
}

/// Runs all that has come in as one transaction, and answers when it is on the disk.
///
/// A statement that fails leaves nothing behind and does not harm the others.
fn commit_group(connection: &Connection, first: Command, inbox: &Receiver<Command>) {
    let mut answers = Vec::new();
    let mut outcome = connection
        .execute_batch("begin immediate")
        .map_err(|error| error.to_string());
    for command in std::iter::once(first).chain(inbox.try_iter().take(GROUP)) {
        let result = match &outcome {
            Ok(()) => run(connection, &command.sql, command.values),
            Err(_) => Ok(Vec::new()),
        };
        answers.push((command.answer, result));
    }
    if outcome.is_ok() {
        outcome = connection.execute_batch("commit").map_err(|error| {
            let _ = connection.execute_batch("rollback");
            error.to_string()
        });
    }
    for (answer, result) in answers {
        let _ = answer.send(match &outcome {
            Ok(()) => result,
            Err(error) => Err(StoreError::Commit(error.clone())),
        });
    }
}

fn run(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
    let sql = sql.replace('$', "?");
    let values = params_from_iter(values);
    if sql.len() > KEPT_LENGTH {
        return collect(&mut connection.prepare(&sql)?, values);
    }
    collect(&mut *connection.prepare_cached(&sql)?, values)
}

fn collect(
    statement: &mut rusqlite::Statement<'_>,
    values: impl rusqlite::Params,
) -> Result<Vec<Row>, StoreError> {
    let width = statement.column_count();
    let rows = statement.query_map(values, |row| {
        let cells = (0..width).map(|at| row.get_ref(at).map(cell));
        let cells: Result<Vec<_>, _> = cells.collect();
        cells.map(|cells| Row(cells.into_iter()))
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        // No column of ours holds a blob or a fraction.
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Value::Null => Ok(rusqlite::types::Null.into()),
            Value::Int(value) => value.to_sql(),
            Value::Text(text) => text.to_sql(),
        }
    }
}

impl Execute for Lanes {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>> {
        let (answer, answered) = oneshot::channel();
        let lane = match sql.starts_with("select") {
            true => &self.reader,
            false => &self.writer,
        };
        let sent = lane.send(Command {
            sql: sql.to_owned(),
            values,
            answer,
        });
        Box::pin(async move {
            sent.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        })
    }
}

impl Database for Lanes {
    fn announce(&self) {}

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// A connection of the caller's answers at once.
impl Execute for Connection {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>> {
        let rows = run(self, sql, values);
        Box::pin(async { rows })
    }
}

pub(crate) fn enqueue_in(connection: &Connection, job: &NewJob) -> Result<Enqueued, StoreError> {
    let enqueued = pin!(sql::enqueue(connection, job));
    match enqueued.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(enqueued) => enqueued,
        Poll::Pending => unreachable!("a connection answers at once"),
    }
}
