//! Ends of jobs: those that arrive while a statement is under way are combined into the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::StoreError;
use super::super::sql::{FINISH, Purpose, Value};
use super::batch::{Batch, Inbox, columns, lists};
use super::pool::Pool;

/// The maximum number of ends in one statement.
const MOST: usize = 512;

/// The number of statements that are under way at a time, so that one is built while others wait for the disk.
const AT_ONCE: usize = 3;

/// How long the first end of a statement waits for others, if the previous statement had several ends.
const LINGER: Duration = Duration::from_millis(1);

struct End {
    /// The parameters of [`FINISH`].
    values: Vec<Value>,
    purpose: Purpose,
    answer: oneshot::Sender<Result<bool, Arc<StoreError>>>,
}

pub(super) struct Finisher(Batch<End>);

impl Finisher {
    /// Creates a finisher that accepts no ends.
    pub(super) fn idle() -> Finisher {
        Finisher(Batch::idle())
    }

    pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Finisher {
        Finisher(Batch::start(AT_ONCE, pool, tasks, work))
    }

    pub(super) async fn finish(
        &self,
        values: Vec<Value>,
        purpose: Purpose,
    ) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(End {
            values,
            purpose,
            answer,
        })?;
        let outcome = answered.await.map_err(|_| StoreError::Closed)?;
        outcome.map_err(StoreError::Shared)
    }
}

async fn work(pool: Arc<Pool>, inbox: Inbox<End>) {
    let sql = statement();
    let mut is_busy = false;
    loop {
        let mut ends = Vec::new();
        {
            let mut inbox = inbox.lock().await;
            if inbox.recv_many(&mut ends, MOST).await == 0 {
                return;
            }
            if is_busy && ends.len() < MOST {
                // Waits a little, since more ends are about to come.
                sleep(LINGER).await;
                while ends.len() < MOST
                    && let Ok(end) = inbox.try_recv()
                {
                    ends.push(end);
                }
            }
        }
        is_busy = ends.len() > 1;
        let purpose = Purpose::of_all(ends.iter().map(|end| end.purpose));
        let ends = ends.into_iter().map(|end| (end.values, end.answer));
        let (values, answers): (Vec<_>, Vec<_>) = ends.unzip();
        // The same job may occur twice, with an old claim and with a new one.
        let key = |values: &[Value]| (values.first().cloned(), values.get(1).cloned());
        let keys: Vec<_> = values.iter().map(|values| key(values)).collect();
        let outcome = match columns(values, COLUMNS.map(|(_, is_text)| is_text).into_iter()) {
            Ok(arguments) => pool.query(purpose, &sql, arguments).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(rows) => {
                let ended: std::collections::HashSet<_> = rows
                    .into_iter()
                    .map(|mut row| (row.0.next(), row.0.next()))
                    .map(|(id, claim)| (as_int(id), as_int(claim)))
                    .collect();
                for (answer, (id, claim)) in answers.into_iter().zip(keys) {
                    let is_ended = ended.contains(&(as_int(id), as_int(claim)));
                    let _ = answer.send(Ok(is_ended));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
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
