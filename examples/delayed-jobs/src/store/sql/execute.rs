//! What a database is, seen from the statements.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::super::{Answer, Store, StoreError};
use super::value::{Row, Value};
use crate::time::Clock;

/// What a statement is for, which decides where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    /// It changes something.
    Write,
    /// It changes something, and need not be on the disk when it is answered.
    Relaxed,
    /// A worker looks for what to do.
    Read,
    /// For people who look on, and must not hold a worker up.
    Look,
}

impl Purpose {
    /// What many changes are for that go together: all of them wait if one has to.
    pub(in crate::store) fn of_all(mut purposes: impl Iterator<Item = Purpose>) -> Purpose {
        match purposes.all(|purpose| purpose == Purpose::Relaxed) {
            true => Purpose::Relaxed,
            false => Purpose::Write,
        }
    }
}

/// The text of a statement. One that is part of the program is known again by where it lies, without being read.
pub(in crate::store) type Text = Cow<'static, str>;

/// Runs one statement.
pub(in crate::store) trait Execute {
    fn query(
        &self,
        purpose: Purpose,
        sql: impl Into<Text>,
        values: Vec<Value>,
    ) -> Answer<'_, Vec<Row>>;
}

/// A database of its own: one statement is one transaction.
pub(in crate::store) trait Database:
    Execute + Send + Sync + fmt::Debug + 'static
{
    /// The clock that all who use the database go by.
    fn clock(&self) -> Clock;

    /// Compares that clock with the database's, and sets it.
    fn set_clock(&self) -> Answer<'_, i64>;

    /// Runs steps as one transaction, and returns the rows of each.
    fn steps(&self, steps: Vec<(&'static str, Vec<Value>)>) -> Answer<'_, Vec<Vec<Row>>>;

    /// The outcomes of many [`FINISH`](super::text::FINISH), in one statement if that is cheaper.
    fn finish(&self, values: Vec<Value>, purpose: Purpose) -> Answer<'_, bool>;

    /// Inserts one job without a key, with others in one statement if that is cheaper. It needs the first `width`
    /// columns.
    fn insert(
        &self,
        values: Vec<Value>,
        width: usize,
        soon: bool,
        purpose: Purpose,
    ) -> Answer<'_, Row>;

    /// At most this many jobs go in by one statement.
    const ROWS: usize;

    /// Inserts jobs without keys by one statement, and returns their ids. They need the first `width` columns.
    fn insert_all(
        &self,
        rows: Vec<Vec<Value>>,
        width: usize,
        soon: bool,
        purpose: Purpose,
    ) -> Answer<'_, Vec<Row>>;

    /// How the changes of a queue's jobs are written.
    fn purpose(&self, _queue: &str) -> Purpose {
        Purpose::Write
    }

    /// The same database for another runtime.
    fn apart(&self) -> Option<Arc<dyn Store>>;

    /// The schema that the tables are in, if it was named.
    fn schema(&self) -> Option<&str>;

    /// A number that moves when others have changed something.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The first row.
pub(super) async fn one<E: Execute + ?Sized>(
    on: &E,
    purpose: Purpose,
    sql: impl Into<Text>,
    values: Vec<Value>,
) -> Result<Option<Row>, StoreError> {
    Ok(on.query(purpose, sql, values).await?.into_iter().next())
}
