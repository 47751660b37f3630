//! The operations that can run in a transaction of the caller's: to enqueue a job, and to end one.

use super::super::StoreError;
use super::super::types::{Ended, Enqueued, NewJob, OnDuplicate, UniqueKey};
use super::execute::{Execute, Purpose, one};
use super::text::{
    FINISH, HAS_KEY, LOSE_KEY, REPLACE, insert_one, values_of, values_of_end,
    values_of_replacement, width,
};
use super::value::{Value, values};
use crate::time::Micros;

/// Ends a claim. Returns `false` if it is no longer valid.
pub(in crate::store) async fn finish<E: Execute>(on: &E, ended: Ended) -> Result<bool, StoreError> {
    let ended = one(on, Purpose::Write, FINISH, values_of_end(ended)).await?;
    Ok(ended.is_some())
}

/// Returns the values of a key and its period.
fn held(key: &UniqueKey) -> Vec<Value> {
    values![key.key.as_str(), key.until.unwrap_or(Micros(0))]
}

/// Enqueues one job, perhaps inside the caller's transaction.
///
/// Other workers are notified if it is due `soon`. If others take or free the key between two of the statements, it
/// starts again.
pub(in crate::store) async fn enqueue<E: Execute>(
    on: &E,
    job: &NewJob,
    soon: bool,
) -> Result<Enqueued, StoreError> {
    let width = width(std::slice::from_ref(job));
    let insert = || {
        let mut values = values_of(job);
        values.truncate(width);
        (insert_one(width, soon), values)
    };
    for _ in 0..10 {
        let replacing = job.key.as_ref();
        let replacing = replacing.filter(|key| key.on_duplicate == OnDuplicate::Replace);
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
