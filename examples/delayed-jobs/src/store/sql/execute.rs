//! The interface of a database, as the statements use it.

use std::borrow::Cow;
use std::fmt;
use std::future::ready;
use std::time::Duration;

use tokio::sync::watch;

use super::super::{Answer, StoreError};
use super::text::{FINISH, insert};
use super::value::{Row, Value};
use crate::time::Clock;

/// The purpose of a statement, which decides on which connection it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    /// It changes the database.
    Write,
    /// It changes the database, and may be answered before it is on disk.
    Relaxed,
    /// It reads for a worker.
    Read,
    /// It reads for pages and queries, which must not delay a worker.
    Look,
}

impl Purpose {
    /// Returns the purpose of several changes in one transaction, which waits for the disk if one of them has to.
    pub(in crate::store) fn of_all(mut purposes: impl Iterator<Item = Purpose>) -> Purpose {
        match purposes.all(|purpose| purpose == Purpose::Relaxed) {
            true => Purpose::Relaxed,
            false => Purpose::Write,
        }
    }
}

/// A statement that has waited for this long is not run if its caller has gone. A claim would lease jobs to a worker that
/// does not know of them.
pub(in crate::store) const ABANDONED: Duration = Duration::from_millis(200);

/// Longer statements are used only once, so they are not cached.
pub(in crate::store) const KEPT_LENGTH: usize = 6000;

/// The text of a statement. A text that is part of the program is recognised by its address, without a comparison.
pub(in crate::store) type Text = Cow<'static, str>;

/// Statements that are one step, each with its parameters.
pub(in crate::store) type Steps = Vec<(&'static str, Vec<Value>)>;

/// Runs statements.
pub(in crate::store) trait Execute {
    fn query(
        &self,
        purpose: Purpose,
        sql: impl Into<Text>,
        values: Vec<Value>,
    ) -> Answer<'_, Vec<Row>>;

    /// Runs several statements as one transaction, or within that of the caller, and returns the rows of each.
    fn steps(&self, steps: Steps) -> Answer<'_, Vec<Vec<Row>>>;

    /// The maximum number of jobs that one statement inserts. SQLite allows 32,766 parameters.
    const ROWS: usize = 1000;

    /// Inserts jobs without keys by one statement, and returns their ids. The jobs need the first `width` columns. A single
    /// job may share the statement with those of other callers.
    fn insert(
        &self,
        rows: Vec<Vec<Value>>,
        width: usize,
        soon: bool,
        purpose: Purpose,
    ) -> Answer<'_, Vec<Row>> {
        let sql = insert(rows.len(), width, soon);
        let values = rows.into_iter().flat_map(|row| row.into_iter().take(width));
        self.query(purpose, sql, values.collect())
    }
}

/// A database with connections of its own, where each statement is one transaction.
pub(in crate::store) trait Database:
    Execute + Send + Sync + Sized + fmt::Debug + 'static
{
    /// Returns the clock that all programs on this database use.
    fn clock(&self) -> Clock;

    /// Compares this clock with that of the database, and sets it, unless both are the same.
    fn set_clock(&self) -> Answer<'_, i64> {
        Box::pin(ready(Ok(0)))
    }

    /// Runs [`FINISH`], together with others in one statement if that is cheaper. Other workers are notified if the job is
    /// due again `soon`.
    fn finish(&self, values: Vec<Value>, purpose: Purpose, _soon: bool) -> Answer<'_, bool> {
        let finished = self.query(purpose, FINISH, values);
        Box::pin(async { Ok(!finished.await?.is_empty()) })
    }

    /// Returns the purpose of the changes of a queue's jobs.
    fn purpose(&self, _queue: &str) -> Purpose {
        Purpose::Write
    }

    /// Returns the same database for another runtime, if it can be used there.
    fn apart(&self) -> Option<Self>;

    /// Returns the schema of the tables, if it was set.
    fn schema(&self) -> Option<&str> {
        None
    }

    /// Returns a number that changes when others have changed the database.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Runs a statement and returns its first row.
pub(super) async fn one<E: Execute>(
    on: &E,
    purpose: Purpose,
    sql: impl Into<Text>,
    values: Vec<Value>,
) -> Result<Option<Row>, StoreError> {
    Ok(on.query(purpose, sql, values).await?.into_iter().next())
}
