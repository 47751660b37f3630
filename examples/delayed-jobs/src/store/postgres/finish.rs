//! Ends of jobs: those that arrive while a statement is under way are combined into the next one.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::StoreError;
use super::super::sql::{FINISH, Purpose, Value};
use super::batch::{self, Batch, Inbox, columns, lists};
use super::pool::Pool;

/// The maximum number of ends in one statement.
const MOST: usize = 512;

/// The number of statements that are under way at a time, so that one is built while others wait for the disk.
const AT_ONCE: usize = 3;

/// How long the first end of a statement waits for others, if the previous statement had several ends.
const LINGER: Duration = Duration::from_millis(1);

pub(super) struct End {
    /// The parameters of [`FINISH`].
    pub(super) values: Vec<Value>,
    pub(super) purpose: Purpose,
}

/// Answers whether the claim was valid.
pub(super) type Finisher = Batch<End, bool>;

pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Finisher {
    Batch::start(AT_ONCE, pool, tasks, work)
}

async fn work(pool: Arc<Pool>, inbox: Inbox<End, bool>) {
    let sql = statement();
    let mut is_busy = false;
    while let Some(mut ends) = batch::next(&inbox, MOST, is_busy.then_some(LINGER)).await {
        is_busy = ends.len() > 1;
        let purpose = Purpose::of_all(ends.iter().map(|end| end.what.purpose));
        let values = ends.iter_mut().map(|end| mem::take(&mut end.what.values));
        let values: Vec<_> = values.collect();
        // The same job may occur twice, with an old claim and with a new one.
        let key = |values: &Vec<Value>| (values.first().cloned(), values.get(1).cloned());
        let keys: Vec<_> = values.iter().map(key).collect();
        let outcome = match columns(values, COLUMNS.map(|(_, is_text)| is_text).into_iter()) {
            Ok(arguments) => pool.query(purpose, &sql, arguments).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(rows) => {
                let ended: HashSet<_> = rows
                    .into_iter()
                    .map(|mut row| (as_int(row.0.next()), as_int(row.0.next())))
                    .collect();
                for (end, (id, claim)) in ends.into_iter().zip(keys) {
                    end.reply(Ok(ended.contains(&(as_int(id), as_int(claim)))));
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
            where jobs.state = 'running' order by jobs.id for update of jobs
        )
        {set}
        from held
        where delayed_jobs.id = e_id and delayed_jobs.claim = e_claim /*relax and */
        returning delayed_jobs.id, delayed_jobs.claim"
    )
}
