//! Ends of jobs: those that arrive while a statement is under way are combined into the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::StoreError;
use super::super::sql::{FINISH, Purpose, Row, Value};
use super::batch::{self, Batch, Inbox, Request, columns, lists};
use super::pool::Pool;

/// The maximum number of ends in one statement.
const MOST: usize = 512;

/// The number of statements that are under way at a time, so that one is built while others wait for the disk.
const AT_ONCE: usize = 3;

/// If another transaction locks a job for longer than this, the ends of the other jobs of the statement are written
/// without it.
const LONGEST_LOCK: &str = "1s";

/// How long the first end of a statement waits for others, if the previous statement had several ends.
const LINGER: Duration = Duration::from_millis(1);

pub(super) struct End {
    /// The parameters of [`FINISH`].
    pub(super) values: Vec<Value>,
    pub(super) purpose: Purpose,
}

/// The id of a job, and the number of the claim: the same job may occur twice, with an old claim and with a new one.
type Claim = (Option<i64>, Option<i64>);

impl End {
    fn claim(&self) -> Claim {
        let value = |at: usize| as_int(self.values.get(at).cloned());
        (value(0), value(1))
    }
}

/// Answers whether the claim was valid.
pub(super) type Finisher = Batch<End, bool>;

pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Finisher {
    Batch::start(AT_ONCE, pool, tasks, work)
}

async fn work(pool: Arc<Pool>, inbox: Inbox<End, bool>) {
    let sql = statement();
    let mut is_busy = false;
    while let Some(ends) = batch::next(&inbox, MOST, is_busy.then_some(LINGER)).await {
        is_busy = ends.len() > 1;
        match together(&pool, &sql, &ends).await {
            Ok(written) => {
                for end in ends {
                    let is_written = written.contains(&end.what.claim());
                    end.reply(Ok(is_written));
                }
            }
            // One of the ends may have caused the error, and none was written. So they are written one by one.
            Err(StoreError::Postgres(sqlx::Error::Database(_))) if ends.len() > 1 => {
                for end in ends.into_iter().filter(|end| !end.is_abandoned()) {
                    let alone = together(&pool, &sql, std::slice::from_ref(&end)).await;
                    end.reply(alone.map(|written| !written.is_empty()));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for end in ends {
                    end.reply(Err(StoreError::Shared(Arc::clone(&error))));
                }
            }
        }
    }
}

/// Writes ends, and returns the claims that were valid.
async fn together(
    pool: &Pool,
    sql: &str,
    ends: &[Request<End, bool>],
) -> Result<HashSet<Claim>, StoreError> {
    let purpose = Purpose::of_all(ends.iter().map(|end| end.what.purpose));
    let values = ends.iter().map(|end| end.what.values.clone()).collect();
    let arguments = columns(values, COLUMNS.map(|(_, is_text)| is_text).into_iter())?;
    let rows = pool.query(purpose, sql, arguments).await?;
    let claim = |mut row: Row| (as_int(row.0.next()), as_int(row.0.next()));
    Ok(rows.into_iter().map(claim).collect())
}

fn as_int(value: Option<Value>) -> Option<i64> {
    match value {
        Some(Value::Int(value)) => value,
        _ => None,
    }
}

/// The names of the parameters of [`FINISH`], each with whether it is a text.
const COLUMNS: [(&str, bool); 8] = [
    ("e_id", false),
    ("e_claim", false),
    ("e_state", true),
    ("e_at", false),
    ("e_error", true),
    ("e_back", false),
    ("e_end", false),
    ("e_output", true),
];

/// Returns [`FINISH`] for many jobs. Rows are locked in the order of their ids, as by a renewal, so that the two cannot
/// deadlock. Each end is joined to its row only once, since a planner that does not know their number would otherwise
/// compare every end with every row.
fn statement() -> String {
    let mut one = FINISH.to_owned();
    for (number, (name, _)) in (1..).zip(COLUMNS) {
        one = one.replace(&format!("${number}"), name);
    }
    let set = one
        .split_once("where id = e_id")
        .map_or(one.as_str(), |(set, _)| set);
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let lists = lists(COLUMNS.into_iter());
    format!(
        "with held as materialized (
            select ends.* from unnest({lists}) as ends({names})
            join delayed_jobs as jobs on jobs.id = e_id and jobs.claim = e_claim
            where jobs.state = 'running' and (select set_config('lock_timeout', '{LONGEST_LOCK}', true)) is not null
            order by jobs.id for update of jobs
        )
        {set}
        from held
        where delayed_jobs.id = e_id and delayed_jobs.claim = e_claim /*relax and */
        returning delayed_jobs.id, delayed_jobs.claim"
    )
}
