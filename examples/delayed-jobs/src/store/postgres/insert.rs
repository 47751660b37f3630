//! Jobs that are enqueued one by one, as many in one statement as have come in since the last one.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::super::StoreError;
use super::super::sql::{Row, Value};
use super::batch::{Batch, Inbox, columns};
use super::pool::Pool;

/// At most this many jobs go into one statement.
const MOST: usize = 256;

/// The statements that are on their way at a time, so that a lone job waits for no other.
const AT_ONCE: usize = 3;

struct New {
    /// Kind, queue, payload, priority, time, when it was handed in, attempts, timeout and limit key; it has no other key.
    values: Vec<Value>,
    soon: bool,
    answer: oneshot::Sender<Result<Row, StoreError>>,
}

pub(super) struct Inserter(Batch<New>);

impl Inserter {
    /// Creates one that accepts nothing.
    pub(super) fn idle() -> Inserter {
        Inserter(Batch::idle())
    }

    pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Inserter {
        Inserter(Batch::start(AT_ONCE, pool, tasks, work))
    }

    pub(super) async fn insert(
        &self,
        values: Vec<Value>,
        soon: bool,
    ) -> Result<Vec<Row>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let new = New {
            values,
            soon,
            answer,
        };
        self.0.send(new)?;
        let row = answered.await.map_err(|_| StoreError::Closed)??;
        Ok(vec![row])
    }
}

async fn work(pool: Arc<Pool>, inbox: Inbox<New>) {
    loop {
        let mut jobs = Vec::new();
        if inbox.lock().await.recv_many(&mut jobs, MOST).await == 0 {
            return;
        }
        match insert(&pool, &jobs).await {
            Ok(rows) => {
                for (job, row) in jobs.into_iter().zip(rows) {
                    answer(&pool, job, Ok(row));
                }
            }
            // One of them may be the reason, and nothing of the statement is there.
            Err(StoreError::Postgres(sqlx::Error::Database(_))) if jobs.len() > 1 => {
                for job in jobs {
                    let alone = std::slice::from_ref(&job);
                    let row = insert(&pool, alone)
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

/// A caller that does not wait for the answer has notified no worker here.
fn answer(pool: &Pool, job: New, row: Result<Row, StoreError>) {
    if job.answer.send(row).is_err() {
        pool.changed();
    }
}

/// Ids are given in the order of the rows.
async fn insert(pool: &Pool, jobs: &[New]) -> Result<Vec<Row>, StoreError> {
    let tell = match jobs.iter().any(|job| job.soon) {
        true => " /*tell */",
        false => "",
    };
    let sql = format!(
        "insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at, attempts, timeout, limit_key)
        select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[])
        returning id{tell}"
    );
    let values = jobs.iter().map(|job| job.values.clone()).collect();
    let rows = pool.query(&sql, columns(values, &[0, 1, 2, 8], 9)?).await?;
    match rows.len() == jobs.len() {
        true => Ok(rows),
        false => Err(StoreError::Closed),
    }
}
