//! New jobs. The jobs of one call are inserted by one statement. Jobs that are enqueued one by one while a statement is
//! under way are combined into the next one.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::StoreError;
use super::super::sql::{self, Purpose, Row, Value};
use super::batch::{self, Batch, Inbox, Request, columns, lists};
use super::pool::Pool;

/// The maximum number of jobs in one statement.
const MOST: usize = 256;

/// The number of statements that are under way at a time, so that a single job does not wait for others.
const AT_ONCE: usize = 3;

pub(super) struct New {
    /// The values of all columns, of which the job needs the first `width`.
    pub(super) values: Vec<Value>,
    pub(super) width: usize,
    pub(super) soon: bool,
    pub(super) purpose: Purpose,
}

/// Answers with the row of the job's id.
pub(super) type Inserter = Batch<New, Row>;

pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Inserter {
    Batch::start(AT_ONCE, pool, tasks, work)
}

async fn work(pool: Arc<Pool>, inbox: Inbox<New, Row>) {
    while let Some(jobs) = batch::next(&inbox, MOST, None).await {
        match together(&pool, &jobs).await {
            Ok(rows) => {
                for (job, row) in jobs.into_iter().zip(rows) {
                    answer(&pool, job, Ok(row));
                }
            }
            // One of the jobs may have caused the error, and none was inserted. So they are inserted one by one.
            Err(StoreError::Postgres(sqlx::Error::Database(_))) if jobs.len() > 1 => {
                for job in jobs.into_iter().filter(|job| !job.is_abandoned()) {
                    let alone = std::slice::from_ref(&job);
                    let row = together(&pool, alone)
                        .await
                        .and_then(|rows| rows.into_iter().next().ok_or(StoreError::Closed));
                    answer(&pool, job, row);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for job in jobs {
                    answer(&pool, job, Err(StoreError::Shared(Arc::clone(&error))));
                }
            }
        }
    }
}

/// Sends the answer. If the caller no longer waits for it, this notifies the workers in its place.
fn answer(pool: &Pool, job: Request<New, Row>, row: Result<Row, StoreError>) {
    if !job.reply(row) {
        pool.changed();
    }
}

async fn together(pool: &Pool, jobs: &[Request<New, Row>]) -> Result<Vec<Row>, StoreError> {
    let jobs = jobs.iter().map(|job| &job.what);
    let rows = jobs.clone().map(|job| job.values.clone()).collect();
    let width = jobs.clone().map(|job| job.width).max().unwrap_or_default();
    let soon = jobs.clone().any(|job| job.soon);
    let purpose = Purpose::of_all(jobs.map(|job| job.purpose));
    insert(pool, rows, width, soon, purpose).await
}

/// Inserts jobs, and returns their ids, which are assigned in the order of the rows. The parameters are lists, one per
/// column, so that the statement is the same for every number of jobs.
pub(super) async fn insert(
    pool: &Pool,
    rows: Vec<Vec<Value>>,
    width: usize,
    soon: bool,
    purpose: Purpose,
) -> Result<Vec<Row>, StoreError> {
    let names: Vec<_> = sql::columns(width).map(|(name, _)| name).collect();
    let names = names.join(", ");
    let lists = lists(sql::columns(width));
    let tell = match soon {
        true => " /*tell */",
        false => "",
    };
    let sql = format!(
        "insert into delayed_jobs ({names})
        select * from unnest({lists}) /*relax where */
        returning id{tell}"
    );
    let size = rows.len();
    let values = columns(rows, sql::columns(width).map(|(_, is_text)| is_text))?;
    let inserted = pool.query(purpose, &sql, values).await?;
    match inserted.len() == size {
        true => Ok(inserted),
        false => Err(StoreError::Closed),
    }
}
