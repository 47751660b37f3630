//! Statements of pages and queries that are not about single jobs: workers, schedules and counts.

use super::super::types::{ScheduleRow, WorkerRow};
use super::value::{Row, Value, values};
use crate::store::StoreError;
use crate::time::Micros;

/// Uses the partial indexes, which have only the jobs of these states.
pub(super) const COUNTS: &str = "\
select 'pending' as state, count(*) from delayed_jobs where state = 'pending'
union all
select 'running', count(*) from delayed_jobs where state = 'running'
union all
select state, count(*) from delayed_jobs where finished_at is not null group by state";

pub(super) const QUEUES: &str = "\
select name, cast(max(paused) as bigint), cast(sum(unfinished) as bigint) from (
    select queue as name, 0 as paused, count(*) as unfinished from delayed_jobs
    where state = 'pending' group by queue
    union all
    select queue, 0, count(*) from delayed_jobs where state = 'running' group by queue
    union all
    select queue, 1, 0 from delayed_jobs_paused
) as all_kinds
group by name order by name";

pub(super) const BEAT: &str = "\
insert into delayed_jobs_workers (name, host, queues, began_at, until) values ($1, $2, $3, $4, $5)
on conflict (name) do update set queues = $3, until = $5";

/// Deletes workers that ended without saying so, some time after their last heartbeat.
pub(super) const FORGET: &str = "delete from delayed_jobs_workers where until < $1";

pub(super) const LEAVE: &str = "delete from delayed_jobs_workers where name = $1";

pub(super) const WORKERS: &str = "\
select name, host, queues, began_at, until from delayed_jobs_workers where until >= $1 order by began_at, name";

pub(super) const SCHEDULES: &str =
    "select name, spec, slot, paused from delayed_jobs_schedules order by name";

pub(super) fn values_of(worker: &WorkerRow) -> Vec<Value> {
    values![
        worker.name.as_str(),
        worker.host.as_str(),
        worker.queues.as_str(),
        worker.began_at,
        worker.until,
    ]
}

pub(super) fn worker(mut row: Row) -> Result<WorkerRow, StoreError> {
    Ok(WorkerRow {
        name: row.text()?,
        host: row.text()?,
        queues: row.text()?,
        began_at: row.int().map(Micros)?,
        until: row.int().map(Micros)?,
    })
}

pub(super) fn schedule(mut row: Row) -> Result<ScheduleRow, StoreError> {
    Ok(ScheduleRow {
        name: row.text()?,
        spec: row.text()?,
        slot: row.maybe_int()?.map(Micros),
        paused: row.int()? == 1,
    })
}
