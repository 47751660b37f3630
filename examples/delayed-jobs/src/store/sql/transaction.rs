//! The operations that can run in a transaction of the caller's: to enqueue jobs, and to end one.

use std::time::Duration;

use super::super::StoreError;
use super::super::types::{Ended, Enqueued, NewJob, OnDuplicate, UniqueKey};
use super::execute::{Execute, Purpose, one};
use super::text::{
    FINISH, HAS_KEY, LOSE_KEY, REPLACE, insert_one, values_of, values_of_end,
    values_of_replacement, width,
};
use super::value::{Value, values};
use crate::time::Micros;

/// Jobs that are due later than this need no notification: every worker looks again before they are due.
const SOON: Duration = Duration::from_secs(60);

/// The maximum number of jobs in one statement if some of them come after others. A trigger runs for each of these, and
/// ten thousand would not be inserted within the timeout of a statement.
const WAITING_ROWS: usize = 1000;

/// Ends a claim. Returns `false` if it is no longer valid.
pub(in crate::store) async fn finish<E: Execute>(on: &E, ended: Ended) -> Result<bool, StoreError> {
    let ended = one(on, Purpose::Write, FINISH, values_of_end(ended)).await?;
    Ok(ended.is_some())
}

/// Returns the values of a key and its period.
fn held(key: &UniqueKey) -> Vec<Value> {
    values![key.key.as_str(), key.until.unwrap_or(Micros(0))]
}

/// Returns whether other workers are to be notified of a job that is enqueued now.
fn is_soon(job: &NewJob, now: Micros) -> bool {
    job.run_at <= now.after(SOON)
}

/// Enqueues jobs, perhaps inside the caller's transaction: those without keys many at a time, the others one by one.
/// `purpose` is that of a change of a queue's jobs.
pub(in crate::store) async fn enqueue<E: Execute>(
    on: &E,
    jobs: &[NewJob],
    now: Micros,
    purpose: impl Fn(&str) -> Purpose,
) -> Result<Vec<Enqueued>, StoreError> {
    // It would be written to the row of another job, and nothing would end its wait.
    if jobs.iter().any(|job| job.replaces() && job.after.is_some()) {
        return Err(StoreError::ReplacesAndWaits);
    }
    let mut outcomes = Vec::with_capacity(jobs.len());
    for chunk in jobs.chunk_by(|a, b| a.key.is_none() && b.key.is_none()) {
        match chunk {
            [job] if job.key.is_some() || job.after.is_some() => {
                outcomes.push(enqueue_one(on, job, is_soon(job, now)).await?);
            }
            many => {
                let rows = match many.iter().all(|job| job.after.is_none()) {
                    true => E::ROWS,
                    false => E::ROWS.min(WAITING_ROWS),
                };
                for jobs in many.chunks(rows) {
                    let soon = jobs.iter().any(|job| is_soon(job, now));
                    let purpose = Purpose::of_all(jobs.iter().map(|job| purpose(&job.queue)));
                    let rows = jobs.iter().map(values_of).collect();
                    let inserted = on.insert(rows, width(jobs), soon, purpose).await?;
                    // Ids are assigned in the order of the rows, but may be returned in any order.
                    let ids = inserted.into_iter().map(|mut row| row.id());
                    let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
                    ids.sort();
                    outcomes.extend(ids.into_iter().map(Enqueued::New));
                }
            }
        }
    }
    Ok(outcomes)
}

/// Enqueues one job.
///
/// Other workers are notified if it is due `soon`. If others take or free the key between two of the statements, it
/// starts again.
async fn enqueue_one<E: Execute>(on: &E, job: &NewJob, soon: bool) -> Result<Enqueued, StoreError> {
    // It has a key, or comes after others, so it needs all columns.
    let width = width(std::slice::from_ref(job));
    let insert = || (insert_one(width, soon), values_of(job));
    for _ in 0..10 {
        let replacing = job.key.as_ref().filter(|_| job.replaces());
        if let Some(key) = replacing
            && let Some(mut row) =
                one(on, Purpose::Write, REPLACE, values_of_replacement(job, key)).await?
        {
            return row.id().map(Enqueued::Replaced);
        }
        let (sql, values) = insert();
        if let Some(mut row) = one(on, Purpose::Write, sql, values).await? {
            return row.id().map(Enqueued::New);
        }
        let Some(key) = &job.key else { continue };
        if replacing.is_some() {
            // A job that has started has the key, and loses it only together with the insert.
            let rows = on.steps(vec![(LOSE_KEY, held(key)), insert()]).await?.pop();
            if let Some(mut row) = rows.and_then(|rows| rows.into_iter().next()) {
                return row.id().map(Enqueued::New);
            }
        } else if let Some(mut row) = one(on, Purpose::Write, HAS_KEY, held(key)).await? {
            return row.id().map(match key.on_duplicate {
                OnDuplicate::Reject => Enqueued::Refused,
                _ => Enqueued::Kept,
            });
        }
    }
    let key = job.key.as_ref().map(|key| key.key.clone());
    Err(StoreError::Busy {
        key: key.unwrap_or_default(),
    })
}
