//! A store in one SQLite file. A change is on disk when it is answered, and no call blocks a thread of the runtime.
//!
//! There are four threads, each with its own connection. The writer takes all statements that have arrived since its last
//! commit, and commits them together, so that a hundred jobs that end at once cost one `fsync`. The reader serves the
//! workers. The looker serves pages and queries, which may take long. The copier copies the write-ahead log into the file,
//! which would delay the writer by tens of milliseconds. Other processes may open the same file: the writer asks SQLite
//! whether another program has committed, which costs no query and no lock.
//!
//! ```text
//! memory      a store without a file and without threads, for tests
//! statements  runs statements on a connection: on those of the threads, in memory, and on one of the caller's
//! ```

mod memory;
mod statements;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::sql::{
    self, ABANDONED, Database, Execute, Purpose, Row, Schema, Sql, Steps, Text, Value,
};
use super::{Answer, Store, StoreError};
use crate::time::Clock;
pub use memory::MemoryStore;
use statements::{Prepared, texts};
pub(crate) use statements::{enqueue_in, finish_in};

const SCHEMA: Schema = Schema {
    first: 9,
    migrations: &[
        include_str!("../../schema/sqlite/009_schema.sql"),
        include_str!("../../schema/sqlite/010_foreign_waits.sql"),
    ],
};

/// How long to wait for another process that is writing.
const BUSY: Duration = Duration::from_secs(10);

/// How often an idle writer checks whether another process has committed.
const LOOK: Duration = Duration::from_millis(20);

/// The maximum number of statements in one commit.
const GROUP: usize = 512;

/// How often the write-ahead log is copied into the file.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// At this length of the log, in pages of 4 KiB, the writer copies it itself, since no other thread did.
const LONGEST_LOG: i64 = 16_000;

/// The number of prepared statements that a connection caches, of those that are built when they are needed.
const KEPT: usize = 64;

/// Opens a SQLite file, creates it if there is none, and brings its schema up to date.
///
/// It is in WAL mode with `synchronous = FULL`: what a resolved call has written survives a loss of power. The
/// file must be on a disk of this machine. A new one can be read by its owner alone.
///
/// # Errors
///
/// [`StoreError::Sqlite`] if it cannot be opened or is no database, [`StoreError::TooNew`], and
/// [`StoreError::TooOldToMigrate`].
pub async fn open_sqlite(path: impl AsRef<Path>) -> Result<Arc<dyn Store>, StoreError> {
    open(path.as_ref(), true, true).await
}

/// Opens a file, which is created if there is none and `may_create` is set. If `may_migrate` is not set, its schema has
/// to be up to date.
pub(crate) async fn open(
    path: &Path,
    may_create: bool,
    may_migrate: bool,
) -> Result<Arc<dyn Store>, StoreError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if may_create {
            create(&path)?;
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let writer = connect(&path, flags)?;
        migrate(&writer, may_migrate)?;
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = connect(&path, read_only)?;
        let looker = connect(&path, read_only)?;
        let copier = connect(&path, flags)?;
        let file = OpenedFile::of(&path).map_err(StoreError::File)?;
        Threads::start(file, writer, reader, looker, copier)
    });
    let database = opened.await.map_err(|_| StoreError::Closed)??;
    Ok(Arc::new(Sql { database }))
}

/// Creates a file that only its owner can read, since it has payloads. SQLite gives the files beside it the same
/// permissions.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::File(error)),
    }
}

/// A file, and which one it was when it was opened.
#[derive(Clone)]
struct OpenedFile {
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl OpenedFile {
    fn of(path: &Path) -> io::Result<OpenedFile> {
        // The program may change its folder later.
        let path = std::path::absolute(path)?;
        let file = which(&path)?;
        Ok(OpenedFile { path, file })
    }

    /// Fails if the path leads to no file or to another one. With a write-ahead log SQLite does not check this: it would
    /// go on with a file that no other program can open, and that is gone when this one ends.
    fn check(&self) -> rusqlite::Result<()> {
        let is_there = match which(&self.path) {
            Ok(file) => file == self.file,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if is_there {
            return Ok(());
        }
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
        let text = format!(
            "{} was moved, deleted or replaced while it was open: move it back, or restart this program",
            self.path.display()
        );
        Err(rusqlite::Error::SqliteFailure(code, Some(text)))
    }
}

/// Returns the device and the number of a file. Where there are no such numbers, a file that is open cannot be moved.
fn which(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let file = fs::metadata(path)?;
    #[cfg(unix)]
    return Ok(Some({
        use std::os::unix::fs::MetadataExt;
        (file.dev(), file.ino())
    }));
    #[cfg(not(unix))]
    return Ok(None);
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    keep_statements(&connection, KEPT)?;
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        write_ahead(&connection)?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", LONGEST_LOG)?;
    }
    Ok(connection)
}

/// Caches up to `most` prepared statements, and keeps their plans. Otherwise SQLite would prepare a statement again for each
/// new value of its limit, which takes longer than to run it.
fn keep_statements(connection: &Connection, most: usize) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(most);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Sets the mode of the write-ahead log. Here SQLite does not wait for other programs that open a new file at the same
/// time, so this does.
fn write_ahead(connection: &Connection) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun.elapsed() < BUSY =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// Returns the version of the schema, which is 0 in a new file.
fn version_of(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "select count(*) from sqlite_master where name = 'delayed_jobs_schema'";
    let has_tables: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if has_tables == 0 {
        return Ok(0);
    }
    let sql = "select coalesce(max(version), 0) from delayed_jobs_schema";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Runs the missing migrations, if that is allowed.
fn migrate(connection: &Connection, may_migrate: bool) -> Result<(), StoreError> {
    let missing = SCHEMA.missing(version_of(connection)?, may_migrate)?;
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    // Another program may have migrated the schema meanwhile.
    for (version, migration) in SCHEMA.missing(version_of(&transaction)?, may_migrate)? {
        transaction.execute_batch(migration)?;
        let sql = "insert into delayed_jobs_schema (version) values (?1)";
        transaction.execute(sql, [version])?;
    }
    Ok(transaction.commit()?)
}

/// Statements for a thread, with the channel for their rows. Several statements are one atomic step.
struct Command {
    steps: Vec<(Text, Vec<Value>)>,
    sent: Instant,
    answer: oneshot::Sender<Result<Vec<Vec<Row>>, StoreError>>,
}

/// Clones speak to the same threads, which end with the last of them.
#[derive(Clone)]
struct Threads {
    writer: Sender<Command>,
    reader: Sender<Command>,
    looker: Sender<Command>,
    change: watch::Sender<u64>,
}

impl Threads {
    fn start(
        file: OpenedFile,
        writer: Connection,
        reader: Connection,
        looker: Connection,
        copier: Connection,
    ) -> Result<Threads, StoreError> {
        let (to_writer, writes) = mpsc::channel();
        let (to_reader, reads) = mpsc::channel();
        let (to_looker, looks) = mpsc::channel();
        let change = watch::Sender::new(0);
        let changed = change.clone();
        let (alive, lives) = mpsc::channel();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map(drop).map_err(StoreError::Thread)
        };
        let [for_reader, for_looker] = [file.clone(), file.clone()];
        let write = move || {
            write(&file, &writer, &writes, &changed);
            drop(alive);
        };
        spawn("jobs-writer", Box::new(write))?;
        spawn(
            "jobs-reader",
            Box::new(move || read(&for_reader, &reader, &reads)),
        )?;
        spawn(
            "jobs-looker",
            Box::new(move || read(&for_looker, &looker, &looks)),
        )?;
        spawn("jobs-copier", Box::new(move || copy(&copier, &lives)))?;
        Ok(Threads {
            writer: to_writer,
            reader: to_reader,
            looker: to_looker,
            change,
        })
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

/// Runs the reader or the looker, until the store is dropped.
fn read(file: &OpenedFile, connection: &Connection, inbox: &Receiver<Command>) {
    let mut prepared = Prepared::on(connection);
    for command in inbox {
        // A search that was given up changes nothing, so it need not be run.
        if !command.answer.is_closed() {
            let rows = file.check().map_err(StoreError::from);
            let rows = rows.and_then(|()| prepared.run_steps(command.steps));
            // This fails if the caller has gone meanwhile.
            let _ = command.answer.send(rows);
        }
    }
}

/// Runs the copier, which copies as much of the log as it can without blocking other threads. It ends with the writer.
fn copy(connection: &Connection, lives: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = lives.recv_timeout(CHECKPOINT) {
        // The pragma returns a row. If the checkpoint fails, the log stays longer for a while.
        let _ = connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()));
    }
}

/// Runs the writer, until the store is dropped.
fn write(
    file: &OpenedFile,
    connection: &Connection,
    inbox: &Receiver<Command>,
    change: &watch::Sender<u64>,
) {
    let mut seen = version(connection);
    let mut prepared = Prepared::on(connection);
    loop {
        match inbox.recv_timeout(LOOK) {
            Ok(first) => {
                let left = commit_group(file, &mut prepared, first, inbox);
                if left {
                    // The caller did not wait for the answer, and so has not notified the workers.
                    change.send_modify(|changes| *changes += 1);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Only commits of other connections change this number.
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

/// Runs all statements that have arrived as one transaction, and answers when it is on disk. Returns whether a caller
/// did not wait for the answer.  A statement that fails changes nothing and does not affect the others. The exception
/// is an error that rolls back the whole transaction, such as a full disk: then no statement of the group has an
/// effect, and each of them gets the error.
fn commit_group(
    file: &OpenedFile,
    prepared: &mut Prepared<'_>,
    first: Command,
    inbox: &Receiver<Command>,
) -> bool {
    let connection = prepared.connection;
    let mut answers = Vec::new();
    let mut outcome = connection
        .execute_batch("begin immediate")
        .map_err(|error| error.to_string());
    for command in std::iter::once(first).chain(inbox.try_iter().take(GROUP)) {
        if command.answer.is_closed() && command.sent.elapsed() > ABANDONED {
            continue;
        }
        let result = match &outcome {
            Ok(()) => prepared.run_steps(command.steps),
            Err(_) => Ok(Vec::new()),
        };
        // If there is no transaction any more, SQLite has rolled it back. The earlier statements are undone, and the
        // later ones would be committed one by one.
        if outcome.is_ok() && connection.is_autocommit() {
            outcome = Err(match &result {
                Err(error) => error.to_string(),
                Ok(_) => "the transaction ended by itself".to_owned(),
            });
        }
        answers.push((command.answer, result));
    }
    if outcome.is_ok() {
        // Checked here, since commands may have come after the transaction began.
        let committed = file
            .check()
            .and_then(|()| connection.execute_batch("commit"));
        outcome = committed.map_err(|error| {
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("rollback");
            }
            error.to_string()
        });
    }
    let mut left = false;
    for (answer, result) in answers {
        let sent = answer.send(match &outcome {
            Ok(()) => result,
            Err(error) => Err(StoreError::Commit(error.clone())),
        });
        left |= sent.is_err();
    }
    left
}

impl Execute for Threads {
    fn query(
        &self,
        purpose: Purpose,
        sql: impl Into<Text>,
        values: Vec<Value>,
    ) -> Answer<'_, Vec<Row>> {
        let steps = self.send(purpose, vec![(sql.into(), values)]);
        Box::pin(async move { Ok(steps.await?.pop().unwrap_or_default()) })
    }

    fn steps(&self, steps: Steps) -> Answer<'_, Vec<Vec<Row>>> {
        self.send(Purpose::Write, texts(steps))
    }
}

impl Threads {
    fn send<'a>(
        &self,
        purpose: Purpose,
        steps: Vec<(Text, Vec<Value>)>,
    ) -> Answer<'a, Vec<Vec<Row>>> {
        let (answer, answered) = oneshot::channel();
        let thread = match purpose {
            Purpose::Write | Purpose::Relaxed => &self.writer,
            Purpose::Read => &self.reader,
            Purpose::Look => &self.looker,
        };
        let sent = Instant::now();
        let sent = thread.send(Command {
            steps,
            sent,
            answer,
        });
        Box::pin(async move {
            sent.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        })
    }
}

impl Database for Threads {
    fn clock(&self) -> Clock {
        Clock::system()
    }

    /// The writer commits statements together in any case, so combining the ends here would gain nothing.
    fn finish(&self, values: Vec<Value>, _: Purpose, _: bool) -> Answer<'_, bool> {
        let finished = self.query(Purpose::Write, sql::FINISH, values);
        Box::pin(async move {
            let Some(mut row) = finished.await?.pop() else {
                return Ok(false);
            };
            row.0.next();
            if row.int()? == 1 {
                // Other jobs may have waited for this one.
                self.change.send_modify(|changes| *changes += 1);
            }
            Ok(true)
        })
    }

    fn apart(&self) -> Option<Threads> {
        Some(self.clone())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.change.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::statements::for_sqlite;
    use super::*;

    fn in_memory() -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        keep_statements(&connection, KEPT).expect("a setting");
        migrate(&connection, true).expect("its tables");
        connection
    }

    #[test]
    fn every_statement_finds_its_rows_by_an_index_and_in_order() {
        let connection = in_memory();
        let mut wrong = Vec::new();
        for sql in sql::all_statements() {
            let mut sorted = 0;
            let text = format!("explain query plan {}", for_sqlite(&sql));
            let mut plan = connection.prepare(&text).expect("a statement");
            for at in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(at, "[]").expect("a parameter");
            }
            let mut rows = plan.raw_query();
            while let Some(row) = rows.next().expect("a plan") {
                let step: String = row.get(3).expect("a step");
                let reads_all = step.starts_with("SCAN delayed_jobs") && !step.contains("INDEX");
                // A list of the newest ids is read from the end of the table itself.
                let newest = sql.ends_with("order by id desc limit $1") && !sql.contains("state =");
                // Three sorts are allowed, since each has few rows: the candidates of a claim if priorities age, the jobs
                // that are due soon, of all priorities, and the running jobs.
                let sorts = step.contains("TEMP B-TREE FOR ORDER");
                sorted += usize::from(sorts);
                let may_sort = sql.contains("candidates") && sorted <= 2
                    || sql.contains("as ranked order by run_at")
                    || sql.contains("state = 'running'");
                if (reads_all && !newest) || sorts && !may_sort {
                    wrong.push(format!("{step}: {sql}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn no_statement_is_prepared_again_for_other_values() {
        let connection = in_memory();
        for sql in sql::all_statements() {
            let mut statement = connection.prepare(&for_sqlite(&sql)).expect("a statement");
            for value in [1, 2, 3] {
                for at in 1..=statement.parameter_count() {
                    statement
                        .raw_bind_parameter(at, value)
                        .expect("a parameter");
                }
                let mut rows = statement.raw_query();
                while rows.next().expect("an answer").is_some() {}
            }
            let again = statement.get_status(StatementStatus::RePrepare);
            assert_eq!(again, 0, "{sql}");
        }
    }

    #[test]
    fn old_rows_are_found_by_the_time_of_their_end() {
        let connection = in_memory();
        for (sql, index) in sql::all_statements().iter().filter_map(|sql| {
            let (_, rest) = sql.split_once("indexed by ")?;
            Some((sql, rest.split(' ').next()?))
        }) {
            let text = format!("explain query plan {}", for_sqlite(sql));
            let mut plan = connection
                .prepare(&text)
                .expect("a statement that can use it");
            for at in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(at, 1).expect("a parameter");
            }
            let mut rows = plan.raw_query();
            let mut steps = Vec::new();
            while let Some(row) = rows.next().expect("a plan") {
                steps.push(row.get::<_, String>(3).expect("a step"));
            }
            let found = steps.iter().any(|step| step.contains(index));
            assert!(found, "{steps:?} of {sql}");
        }
    }
}
