//! What a database is, seen from the statements.

use std::fmt;

use tokio::sync::watch;

use super::super::{Answer, StoreError};
use super::value::{Row, Value};

/// Runs one statement.
pub(in crate::store) trait Execute {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>>;
}

/// A database of its own: one statement is one transaction.
pub(in crate::store) trait Database:
    Execute + Send + Sync + fmt::Debug + 'static
{
    /// Tells other workers to look.
    fn announce(&self);

    /// A number that moves when others have changed something.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The first row.
pub(super) async fn one<E: Execute>(
    on: &E,
    sql: &str,
    values: Vec<Value>,
) -> Result<Option<Row>, StoreError> {
    Ok(on.query(sql, values).await?.into_iter().next())
}
