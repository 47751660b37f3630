//! Runs statements on a connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Statement, params_from_iter};

use super::super::sql::{self, Execute, KEPT_LENGTH, Purpose, Row, Steps, Text, Value, dialect};
use super::super::types::{Ended, Enqueued, NewJob};
use super::super::{Answer, StoreError};
use crate::time::Micros;

pub(super) fn for_sqlite(sql: &str) -> String {
    let text = dialect(sql, "sqlite");
    let mut parts = text.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A `?` is only a parameter of SQLite if a number follows. Otherwise it begins a path into a JSON text.
        text.push(if part.starts_with(|c: char| c.is_ascii_digit()) {
            '?'
        } else {
            '$'
        });
        text += part;
    }
    text
}

/// The prepared statements of a connection. Statements that are part of the program are translated once, and found by
/// the address of their text. The most recent of the others are found by their text. At the end the most recent of all
/// stay in the cache of the connection.
pub(super) struct Prepared<'a> {
    pub(super) connection: &'a Connection,
    fixed: HashMap<(usize, usize), CachedStatement<'a>>,
    texts: HashMap<String, Arc<str>>,
}

impl<'a> Prepared<'a> {
    pub(super) fn on(connection: &'a Connection) -> Prepared<'a> {
        Prepared {
            connection,
            fixed: HashMap::new(),
            texts: HashMap::new(),
        }
    }

    /// Runs several statements, which change nothing if one fails. A single statement needs nothing for that.
    pub(super) fn run_steps(
        &mut self,
        steps: Vec<(Text, Vec<Value>)>,
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let connection = self.connection;
        let are_many = steps.len() > 1;
        if are_many {
            connection.execute_batch("savepoint steps")?;
        }
        let steps = steps.into_iter();
        let rows: Result<Vec<_>, _> = steps.map(|(sql, values)| self.run(sql, values)).collect();
        // On a full disk SQLite has rolled back the whole transaction, and there is no savepoint any more.
        if are_many && !connection.is_autocommit() {
            connection.execute_batch(match rows {
                Ok(_) => "release steps",
                Err(_) => "rollback to steps; release steps",
            })?;
        }
        rows
    }

    fn run(&mut self, sql: Text, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let connection = self.connection;
        match sql {
            Text::Borrowed(sql) => {
                let statement = match self.fixed.entry((sql.as_ptr().addr(), sql.len())) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(connection.prepare_cached(&for_sqlite(sql))?),
                };
                collect(connection, statement, values)
            }
            Text::Owned(sql) if sql.len() > KEPT_LENGTH => collect(
                connection,
                &mut connection.prepare(&for_sqlite(&sql))?,
                values,
            ),
            Text::Owned(sql) => {
                let text = self
                    .texts
                    .entry(sql)
                    .or_insert_with_key(|sql| for_sqlite(sql).into());
                collect(connection, &mut *connection.prepare_cached(text)?, values)
            }
        }
    }
}

/// Returns the rows of a result. For a statement that returns no rows and has changed one, this returns a row with the
/// last id that was assigned, and whether triggers have changed more. Asking SQLite for these costs less than a row of
/// its own.
fn collect(
    connection: &Connection,
    statement: &mut Statement<'_>,
    values: Vec<Value>,
) -> Result<Vec<Row>, StoreError> {
    let width = statement.column_count();
    if width == 0 {
        let before = connection.total_changes();
        let own = statement.execute(params_from_iter(values))? as u64;
        let all = connection.total_changes() - before;
        let cells = [connection.last_insert_rowid(), i64::from(all > own)];
        let cells = Vec::from(cells.map(Value::from));
        return Ok(match own {
            0 => Vec::new(),
            _ => vec![Row(cells.into_iter())],
        });
    }
    let rows = statement.query_map(params_from_iter(values), |row| {
        let cells = (0..width).map(|at| row.get_ref(at).map(cell));
        let cells: Result<Vec<_>, _> = cells.collect();
        cells.map(|cells| Row(cells.into_iter()))
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(value) => Value::Int(Some(value)),
        // Other programs may insert bytes for a text, and a time that they have computed with fractions.
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Value::Text(Some(String::from_utf8_lossy(text).into_owned()))
        }
        ValueRef::Real(value) => Value::Int(Some(value as i64)),
        ValueRef::Null => Value::Text(None),
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Value::Int(value) => value.to_sql(),
            Value::Text(text) => text.to_sql(),
        }
    }
}

/// On a connection of the caller's a statement is answered at once.
impl Execute for Connection {
    fn query(&self, _: Purpose, sql: impl Into<Text>, values: Vec<Value>) -> Answer<'_, Vec<Row>> {
        let rows = Prepared::on(self).run(sql.into(), values);
        Box::pin(ready(rows))
    }

    fn steps(&self, steps: Steps) -> Answer<'_, Vec<Vec<Row>>> {
        let rows = Prepared::on(self).run_steps(texts(steps));
        Box::pin(ready(rows))
    }
}

pub(super) fn texts(steps: Steps) -> Vec<(Text, Vec<Value>)> {
    let steps = steps.into_iter();
    steps.map(|(sql, values)| (sql.into(), values)).collect()
}

/// Returns the output of a future that is ready at its first poll.
fn at_once<T>(asked: impl Future<Output = T>) -> T {
    match pin!(asked).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("a connection answers at once"),
    }
}

/// Enqueues jobs within the caller's transaction.
pub(crate) fn enqueue_in(
    connection: &Connection,
    jobs: &[NewJob],
    now: Micros,
) -> Result<Vec<Enqueued>, StoreError> {
    at_once(sql::enqueue(connection, jobs, now, |_| Purpose::Write))
}

/// Ends a claim within the caller's transaction.
pub(crate) fn finish_in(connection: &Connection, ended: Ended) -> Result<bool, StoreError> {
    at_once(sql::finish(connection, ended))
}
