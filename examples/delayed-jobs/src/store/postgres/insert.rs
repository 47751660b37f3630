//! New jobs. The jobs of one call are inserted by one statement. Jobs that are enqueued one by one while a statement is
//! under way are combined into the next one.

use std::time::Duration;

use sqlx::postgres::PgArguments;

use super::super::StoreError;
use super::super::sql::{self, Purpose, Row, Value};
use super::batch::{Combine, columns, lists};
use super::pool::Pool;

/// The maximum number of jobs of one statement.
pub(super) const ROWS: usize = 10_000;

pub(super) struct New {
    /// The values of all columns, of which the job needs the first `width`.
    pub(super) values: Vec<Value>,
    pub(super) width: usize,
    pub(super) soon: bool,
    pub(super) purpose: Purpose,
}

impl Combine for New {
    /// The row of the job's id.
    type Answer = Row;

    const MOST: usize = 256;

    const LINGER: Option<Duration> = None;

    async fn run(pool: &Pool, jobs: &[&New]) -> Result<Vec<Row>, StoreError> {
        let rows = jobs.iter().map(|job| job.values.clone()).collect();
        let width = jobs.iter().map(|job| job.width).max().unwrap_or_default();
        let soon = jobs.iter().any(|job| job.soon);
        let purpose = Purpose::of_all(jobs.iter().map(|job| job.purpose));
        insert(pool, rows, width, soon, purpose).await
    }
}

/// Returns a step that locks the jobs in column `number`, which the new ones come after. A trigger locks them for each
/// new job. If they were not locked in one order before, this statement and others could wait for each other.
fn lock_awaited(number: usize) -> String {
    format!(
        "with awaited as materialized (
            select 1 from delayed_jobs where id = any (array(
                select value::bigint from unnest(${number}::text[]) as list
                cross join lateral jsonb_array_elements_text(list::jsonb) as value
            ))
            order by id for update
        )
        "
    )
}

/// Inserts jobs, and returns their ids, which are assigned in the order of the rows.
pub(super) async fn insert(
    pool: &Pool,
    rows: Vec<Vec<Value>>,
    width: usize,
    soon: bool,
    purpose: Purpose,
) -> Result<Vec<Row>, StoreError> {
    let size = rows.len();
    let (sql, values) = statement(rows, width, soon)?;
    let inserted = pool.query(purpose, &sql, values).await?;
    match inserted.len() == size {
        true => Ok(inserted),
        false => Err(StoreError::Closed),
    }
}

/// Returns the statement that inserts jobs, with its parameters. These are lists, one per column, so that the statement is
/// the same for every number of jobs.
pub(super) fn statement(
    rows: Vec<Vec<Value>>,
    width: usize,
    soon: bool,
) -> Result<(String, PgArguments), StoreError> {
    let names: Vec<_> = sql::columns(width).map(|(name, _)| name).collect();
    let names = names.join(", ");
    let lists = lists(sql::columns(width));
    let tell = match soon {
        true => " /*tell */",
        false => "",
    };
    let after = sql::columns(width).position(|(name, _)| name == "after_jobs");
    let is_some = |value: &Value| matches!(value, Value::Text(Some(_)));
    let after = after.filter(|at| rows.iter().any(|row| row.get(*at).is_some_and(is_some)));
    let lock = after.map(|at| lock_awaited(at + 1)).unwrap_or_default();
    let condition = match after {
        Some(_) => "where (select count(*) from awaited) >= 0 /*relax and */",
        None => "/*relax where */",
    };
    let sql = format!(
        "{lock}insert into delayed_jobs ({names})
        select * from unnest({lists}) {condition}
        returning id{tell}"
    );
    let values = columns(rows, sql::columns(width).map(|(_, is_text)| is_text))?;
    Ok((sql, values))
}
