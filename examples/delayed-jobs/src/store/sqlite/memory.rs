//! A store in memory, for tests: a SQLite database without a file, on tokio's clock, which may be paused.
//!
//! It has no thread. A statement runs within the call, since a paused clock would go on while the caller waits.

use std::fmt;
use std::future::ready;
use std::sync::Mutex;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use tokio::sync::watch;

use super::super::sql::{Database, Execute, Purpose, Row, Sql, Steps, Text, Value};
use super::super::{Answer, StoreError};
use super::statements::{Prepared, texts};
use super::{KEPT, keep_statements, migrate};
use crate::lock::lock;
use crate::time::Clock;

/// A store in memory, for tests. It is a SQLite database without a file, and uses tokio's clock, which may be paused.
pub type MemoryStore = Sql<Memory>;

/// A database in memory, which ends with its store.
pub struct Memory {
    connection: Mutex<Connection>,
    clock: Clock,
    changes: watch::Sender<u64>,
}

impl MemoryStore {
    /// Creates an empty store, on tokio's clock.
    ///
    /// # Panics
    ///
    /// If SQLite has no memory for it.
    pub fn new() -> MemoryStore {
        let clock = Clock::tokio();
        let connection = match connect(clock.clone()) {
            Ok(connection) => Mutex::new(connection),
            Err(error) => panic!("delayed-jobs: no store in memory: {error}"),
        };
        let changes = watch::Sender::new(0);
        Sql {
            database: Memory {
                connection,
                clock,
                changes,
            },
        }
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

fn connect(clock: Clock) -> Result<Connection, StoreError> {
    let connection = Connection::open_in_memory()?;
    // The statements that are part of the program are among them here.
    keep_statements(&connection, 2 * KEPT)?;
    migrate(&connection, true)?;
    // A trigger asks SQLite for the time when a job is deleted that others come after. A day is a floating-point number,
    // which is rounded down, so that these are not due in the future.
    let julian_day = move |_: &Context<'_>| {
        let days = clock.now().0 as f64 / 86_400e6;
        Ok((days + 2_440_587.5).next_down())
    };
    connection.create_scalar_function("julianday", 1, FunctionFlags::SQLITE_UTF8, julian_day)?;
    Ok(connection)
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// Runs one statement, or several as one transaction. No other call comes in between.
    fn run(&self, steps: Vec<(Text, Vec<Value>)>) -> Result<Vec<Vec<Row>>, StoreError> {
        let is_news = steps.iter().all(|(sql, _)| is_news(sql));
        let connection = lock(&self.connection);
        let before = connection.total_changes();
        let rows = Prepared::on(&connection).run_steps(steps);
        let has_changed = connection.total_changes() != before;
        drop(connection);
        if is_news && has_changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
        rows
    }
}

/// Returns whether workers are to look at the store again if this statement has changed something. A look renews leases,
/// takes jobs, and tells that the worker is alive. If this counted, each look would be the reason for the next one.
fn is_news(sql: &str) -> bool {
    !sql.contains("lease_until = $") && !sql.contains("delayed_jobs_workers")
}

impl Execute for Memory {
    fn query(&self, _: Purpose, sql: impl Into<Text>, values: Vec<Value>) -> Answer<'_, Vec<Row>> {
        let rows = self.run(vec![(sql.into(), values)]);
        Box::pin(ready(rows.map(|mut rows| rows.pop().unwrap_or_default())))
    }

    fn steps(&self, steps: Steps) -> Answer<'_, Vec<Vec<Row>>> {
        Box::pin(ready(self.run(texts(steps))))
    }
}

impl Database for Memory {
    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Another runtime may have another clock.
    fn apart(&self) -> Option<Memory> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
