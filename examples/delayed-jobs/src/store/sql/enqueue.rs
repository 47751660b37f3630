//! One job on its way into the table.

use super::super::StoreError;
use super::super::types::{Enqueued, NewJob, OnDuplicate};
use super::execute::{Execute, Purpose, one};
use super::text::{HAS_KEY, LOSE_KEY, REPLACE, insert, values_of};
use super::value::{Value, values};

/// Enqueues one job, perhaps inside the caller's transaction.
///
/// Other workers are notified if it is due `soon`. Between two of its statements others may free the key or take it; then it begins anew.
pub(in crate::store) async fn enqueue<E: Execute>(
    on: &E,
    job: &NewJob,
    soon: bool,
) -> Result<Enqueued, StoreError> {
    for _ in 0..10 {
        if let Some(key) = &job.key
            && key.on_duplicate == OnDuplicate::Replace
        {
            let values = values![
                key.key.as_str(),
                job.kind.as_str(),
                job.queue.as_str(),
                job.payload.as_str(),
                job.priority.rank(),
                job.run_at,
                job.created_at,
            ];
            if let Some(mut row) = one(on, Purpose::Write, REPLACE, values).await? {
                return row.id().map(Enqueued::Replaced);
            }
            let values = values![key.key.as_str()];
            on.query(Purpose::Write, LOSE_KEY, values).await?;
        }
        if let Some(mut row) = one(on, Purpose::Write, &insert(1, soon), values_of(job)).await? {
            return row.id().map(Enqueued::New);
        }
        let Some(key) = &job.key else { continue };
        let values = values![key.key.as_str()];
        if let Some(mut row) = one(on, Purpose::Write, HAS_KEY, values).await? {
            match key.on_duplicate {
                OnDuplicate::Reject => return row.id().map(Enqueued::Refused),
                OnDuplicate::Keep => return row.id().map(Enqueued::Kept),
                OnDuplicate::Replace => {}
            }
        }
    }
    let key = job.key.as_ref().map(|key| key.key.clone());
    Err(StoreError::Busy {
        key: key.unwrap_or_default(),
    })
}
