//! A Postgres database, for many workers on many machines.
//!
//! ```text
//! open     the options, and the steps that open a store: connect, migrate, listen
//! pool     the connections; each call has a timeout
//! finish   ends of jobs, many in one statement
//! insert   new jobs, many in one statement
//! batch    combines requests into one statement
//! migrate  the migrations of the schema
//! ```
//!
//! Commits of different connections share an `fsync`: that is the group commit of Postgres. `NOTIFY` takes a lock on
//! the whole server at commit. So in the time [`QUIET`] at most one commit of a process notifies, and one more
//! notification follows for the commits that did not. A worker that receives one looks again a little later, for jobs
//! that were enqueued meanwhile without a notification.

mod batch;
mod finish;
mod insert;
mod migrate;
mod open;
mod pool;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Connection as _, PgConnection, Row as _, TypeInfo};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;

use super::sql::{self, Database, Execute, KEPT_LENGTH, Purpose, Row, Steps, Text, Value, dialect};
use super::types::{Ended, Enqueued, NewJob};
use super::{Answer, StoreError};
use crate::time::{Clock, Micros};

use batch::Batch;
use finish::End;
use insert::New;
pub use open::{PostgresOptions, open_postgres};
use pool::Pool;

/// In this time at most one commit of a process notifies others, and one more notification follows.
const QUIET: Duration = Duration::from_millis(40);

struct Postgres {
    /// The connections of the workers.
    work: Arc<Pool>,
    /// The connections of pages and queries, which so do not delay a worker.
    look: Arc<Pool>,
    clock: Clock,
    finisher: Batch<End>,
    inserter: Batch<New>,
    changes: watch::Receiver<u64>,
    /// The queues whose changes may be answered before they are on disk.
    relaxed: Arc<[String]>,
    /// The tasks of the store, which end with it.
    _tasks: JoinSet<()>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Execute for Postgres {
    fn query(
        &self,
        purpose: Purpose,
        sql: impl Into<Text>,
        values: Vec<Value>,
    ) -> Answer<'_, Vec<Row>> {
        let pool = match purpose {
            Purpose::Look => &self.look,
            Purpose::Write | Purpose::Relaxed | Purpose::Read => &self.work,
        };
        let sql = sql.into();
        Box::pin(async move { pool.query(purpose, &sql, arguments(values)?).await })
    }

    fn steps(&self, steps: Steps) -> Answer<'_, Vec<Vec<Row>>> {
        Box::pin(async move {
            let steps = steps.into_iter();
            let steps = steps.map(|(sql, values)| Ok((sql, arguments(values)?)));
            let steps: Result<Vec<_>, StoreError> = steps.collect();
            self.work.steps(steps?).await
        })
    }

    const ROWS: usize = insert::ROWS;

    fn insert(
        &self,
        mut rows: Vec<Vec<Value>>,
        width: usize,
        soon: bool,
        purpose: Purpose,
    ) -> Answer<'_, Vec<Row>> {
        if rows.len() == 1
            && let Some(values) = rows.pop()
        {
            let alone = self.inserter.ask(New {
                values,
                width,
                soon,
                purpose,
            });
            return Box::pin(async { Ok(vec![alone.await?]) });
        }
        Box::pin(insert::insert(&self.work, rows, width, soon, purpose))
    }
}

impl Database for Postgres {
    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn set_clock(&self) -> Answer<'_, i64> {
        Box::pin(async move {
            let (now, within) = ask_clock(&self.work).await?;
            Ok(self.clock.set(now, within))
        })
    }

    fn finish(&self, values: Vec<Value>, purpose: Purpose, soon: bool) -> Answer<'_, bool> {
        Box::pin(self.finisher.ask(End {
            values,
            purpose,
            soon,
        }))
    }

    fn purpose(&self, queue: &str) -> Purpose {
        match self.relaxed.iter().any(|relaxed| relaxed == queue) {
            true => Purpose::Relaxed,
            false => Purpose::Write,
        }
    }

    fn apart(&self) -> Option<Postgres> {
        let pool = Arc::new(self.work.apart());
        Some(Postgres {
            look: Arc::clone(&pool),
            finisher: Batch::idle(),
            inserter: Batch::idle(),
            work: pool,
            clock: self.clock.clone(),
            changes: self.changes.clone(),
            relaxed: Arc::clone(&self.relaxed),
            _tasks: JoinSet::new(),
        })
    }

    fn schema(&self) -> Option<&str> {
        self.work.settings.schema.as_deref()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Returns the earliest time that it may be on the server, and by how much it may be later, which is the round trip.
async fn ask_clock(pool: &Pool) -> Result<(Micros, Duration), StoreError> {
    let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let asked = std::time::Instant::now();
    let rows = pool.query(Purpose::Read, sql, PgArguments::default());
    let rows = rows.await?;
    let within = asked.elapsed();
    let mut row = rows.into_iter().next().ok_or(StoreError::Closed)?;
    Ok((Micros(row.int()?), within))
}

/// Returns a statement in the dialect of Postgres. `tell` is the content of a notification, if one is due.
fn for_postgres(sql: &str, schema: Option<&str>, tell: Option<&str>) -> String {
    let mut text = dialect(sql, "postgres");
    if let Some(tell) = tell {
        let channel = channel(schema);
        let notify = format!(", pg_notify('{channel}', '{tell}')::text");
        text = text.replace("/*tell */", &notify);
    }
    let Some(schema) = schema else {
        return text;
    };
    let before = [
        "from ",
        "into ",
        "update ",
        "table ",
        " on ",
        "join ",
        "function ",
        "drop index ",
    ];
    for before in before {
        let after = format!("{before}\"{schema}\".delayed_jobs");
        text = text.replace(&format!("{before}delayed_jobs"), &after);
    }
    text
}

/// Returns a statement whose commit does not wait for the disk. Its first step sets this for its own transaction only.
fn relaxed(sql: &str) -> String {
    let off = "(select set_config('synchronous_commit', 'off', true)) is not null";
    sql.replace("/*relax and */", &format!("and {off}"))
        .replace("/*relax where */", &format!("where {off}"))
}

fn channel(schema: Option<&str>) -> String {
    match schema {
        None => "delayed_jobs".to_owned(),
        Some(schema) => format!("delayed_jobs_{schema}"),
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

async fn fetch(
    connection: &mut PgConnection,
    sql: Arc<str>,
    arguments: PgArguments,
) -> Result<Vec<Row>, sqlx::Error> {
    let is_kept = sql.len() <= KEPT_LENGTH;
    let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(is_kept);
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(row).collect()
}

/// Runs one statement, or several in a transaction.
async fn fetch_steps(
    connection: &mut PgConnection,
    steps: &[(Arc<str>, PgArguments)],
) -> Result<Vec<Vec<Row>>, sqlx::Error> {
    if let [(sql, arguments)] = steps {
        let rows = fetch(connection, Arc::clone(sql), arguments.clone()).await?;
        return Ok(vec![rows]);
    }
    let mut transaction = connection.begin().await?;
    let mut rows = Vec::with_capacity(steps.len());
    for (sql, arguments) in steps {
        rows.push(fetch(&mut transaction, Arc::clone(sql), arguments.clone()).await?);
    }
    transaction.commit().await?;
    Ok(rows)
}

fn row(row: PgRow) -> Result<Row, sqlx::Error> {
    let cell = |at: usize| {
        Ok(match row.column(at).type_info().name() {
            "INT8" => Value::Int(row.try_get(at)?),
            _ => Value::Text(row.try_get(at)?),
        })
    };
    let cells: Result<Vec<_>, sqlx::Error> = (0..row.len()).map(cell).collect();
    Ok(Row(cells?.into_iter()))
}

/// A transaction of the caller's. Each statement locks it.
struct CallerTransaction<'a> {
    connection: AsyncMutex<&'a mut PgConnection>,
    schema: Option<&'a str>,
}

impl Execute for CallerTransaction<'_> {
    fn query(&self, _: Purpose, sql: impl Into<Text>, values: Vec<Value>) -> Answer<'_, Vec<Row>> {
        // Every transaction with news notifies, with its commit. If transactions shared a notification, one that is rolled
        // back could suppress that of another.
        let sql = for_postgres(&sql.into(), self.schema, Some(""));
        Box::pin(async move {
            let mut connection = self.connection.lock().await;
            Ok(fetch(&mut connection, sql.into(), arguments(values)?).await?)
        })
    }

    fn steps(&self, steps: Steps) -> Answer<'_, Vec<Vec<Row>>> {
        Box::pin(async move {
            let mut rows = Vec::with_capacity(steps.len());
            for (sql, values) in steps {
                rows.push(self.query(Purpose::Write, sql, values).await?);
            }
            Ok(rows)
        })
    }

    const ROWS: usize = insert::ROWS;

    fn insert(
        &self,
        rows: Vec<Vec<Value>>,
        width: usize,
        soon: bool,
        _: Purpose,
    ) -> Answer<'_, Vec<Row>> {
        Box::pin(async move {
            let (sql, values) = insert::statement(rows, width, soon)?;
            let sql = for_postgres(&sql, self.schema, Some(""));
            let mut connection = self.connection.lock().await;
            Ok(fetch(&mut connection, sql.into(), values).await?)
        })
    }
}

/// Enqueues jobs within the caller's transaction. Workers are notified at the commit if one of them is due soon.
pub(crate) async fn enqueue_in(
    connection: &mut PgConnection,
    schema: Option<&str>,
    jobs: &[NewJob],
    now: Micros,
) -> Result<Vec<Enqueued>, StoreError> {
    let connection = AsyncMutex::new(connection);
    let transaction = CallerTransaction { connection, schema };
    sql::enqueue(&transaction, jobs, now, |_| Purpose::Write).await
}

/// Ends a claim within the caller's transaction.
pub(crate) async fn finish_in(
    connection: &mut PgConnection,
    schema: Option<&str>,
    ended: Ended,
) -> Result<bool, StoreError> {
    let connection = AsyncMutex::new(connection);
    sql::finish(&CallerTransaction { connection, schema }, ended).await
}

#[cfg(test)]
mod tests {
    use super::for_postgres;

    #[test]
    fn a_statement_names_its_schema_and_tells_if_it_should() {
        let sql = "insert into delayed_jobs (a) values (1) returning id /*tell */";
        assert_eq!(
            for_postgres(sql, Some("own"), Some("me")),
            "insert into \"own\".delayed_jobs (a) values (1) returning id , pg_notify('delayed_jobs_own', 'me')::text"
        );
        let sql = "select id from delayed_jobs where delayed_jobs.id = 1 /*sqlite x */ /*postgres for update */";
        assert_eq!(
            for_postgres(sql, None, None),
            "select id from delayed_jobs where delayed_jobs.id = 1 /*sqlite x */ for update "
        );
    }
}
