//! Ends of jobs, as many in one statement as have come in since the last one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::StoreError;
use super::super::sql::{FINISH, Value};
use super::batch::{Batch, Inbox, columns};
use super::pool::Pool;

/// At most this many ends go into one statement.
const MOST: usize = 512;

/// The statements that are on their way at a time: one is made up while others wait for the disk.
const AT_ONCE: usize = 3;

/// How long the first end of a statement waits for others, if others came with the one before.
const LINGER: Duration = Duration::from_millis(1);

/// Parameters of [`FINISH`], and where its answer goes.
type End = (Vec<Value>, oneshot::Sender<Result<bool, Arc<StoreError>>>);

pub(super) struct Finisher(Batch<End>);

impl Finisher {
    /// Creates one that accepts nothing.
    pub(super) fn idle() -> Finisher {
        Finisher(Batch::idle())
    }

    pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Finisher {
        Finisher(Batch::start(AT_ONCE, pool, tasks, work))
    }

    pub(super) async fn finish(&self, values: Vec<Value>) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((values, answer))?;
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
                // More are about to come.
                sleep(LINGER).await;
                while ends.len() < MOST
                    && let Ok(end) = inbox.try_recv()
                {
                    ends.push(end);
                }
            }
        }
        is_busy = ends.len() > 1;
        let (values, answers): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        // The same job may be there twice, under an old claim and a new one.
        let key = |values: &[Value]| (values.first().cloned(), values.get(1).cloned());
        let keys: Vec<_> = values.iter().map(|values| key(values)).collect();
        let outcome = match columns(values, &[2, 4, 7], 8) {
            Ok(arguments) => pool.query(&sql, arguments).await,
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

/// [`FINISH`] for many. Rows are locked in the order of their ids, as by a renewal, so that the two never wait for
/// each other. Each end is joined to its row once: a planner that does not know how many there are compares all with all
/// otherwise.
fn statement() -> String {
    let mut one = FINISH.to_owned();
    let names = [
        "e_id", "e_claim", "e_state", "e_at", "e_error", "e_back", "e_end", "e_output",
    ];
    for (number, name) in (1..).zip(names) {
        one = one.replace(&format!("${number}"), name);
    }
    let set = one
        .split_once("where id = e_id")
        .map_or(one.as_str(), |(set, _)| set);
    format!(
        "with held as materialized (
            select ends.* from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
                as ends(e_id, e_claim, e_state, e_at, e_error, e_back, e_end, e_output)
            join delayed_jobs as jobs on jobs.id = e_id and jobs.claim = e_claim
            where jobs.state = 'running' order by jobs.id for update of jobs
        )
        {set}
        from held
        where delayed_jobs.id = e_id and delayed_jobs.claim = e_claim
        returning delayed_jobs.id, delayed_jobs.claim"
    )
}
