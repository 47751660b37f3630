//! The statements, and what is bound to them.

use super::super::StoreError;
use super::super::types::{Ended, Filter, Lease, NewJob, Slot, Verdict};
use super::value::{Row, Value, values};
use crate::job::{Priority, Record, State};
use crate::time::Micros;

pub(super) const COLUMNS_OF_NEW: &str =
    "kind, queue, payload, priority, run_at, created_at, key, schedule, slot";
pub(super) const VALUES_OF_NEW: usize = 9;

pub(super) fn insert(rows: usize) -> String {
    let mut sql = format!("insert into delayed_jobs ({COLUMNS_OF_NEW}) values ");
    for row in 0..rows {
        let numbers = (1..=VALUES_OF_NEW).map(|n| format!("${}", row * VALUES_OF_NEW + n));
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        sql += if row == 0 { "(" } else { ", (" };
        sql += &numbers;
        sql += ")";
    }
    sql + " on conflict do nothing returning id"
}

pub(super) fn values_of(job: &NewJob, slot: Option<&Slot>) -> Vec<Value> {
    values![
        job.kind.as_str(),
        job.queue.as_str(),
        job.payload.as_str(),
        job.priority.rank(),
        job.run_at,
        job.created_at,
        job.key.as_ref().map(|key| key.key.as_str()),
        slot.map(|slot| slot.schedule.as_str()),
        slot.map(|slot| slot.slot),
    ]
}

pub(super) const REPLACE: &str = "\
update delayed_jobs
set kind = $2, queue = $3, payload = $4, priority = $5, run_at = $6, created_at = $7,
    attempt = 0, crashes = 0, progress = null, error = null
where key = $1 and state = 'pending'
returning id";

pub(super) const LOSE_KEY: &str =
    "update delayed_jobs set key = null where key = $1 and state = 'running'";

pub(super) const HAS_KEY: &str =
    "select id from delayed_jobs where key = $1 and state in ('pending', 'running')";

pub(super) const AHEAD: &str = "\
select run_at, id from delayed_jobs
where state = 'pending' and queue = $1 and run_at > $2 and run_at <= $3
order by run_at limit $4";

/// One range of the index for each priority; the later ones are not looked at once the limit is met.
pub(super) const CLAIM: &str = "\
with due as materialized (
    select id from (
        select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = 0 and run_at <= $3
            order by run_at, id limit $5 /* skip locked */
        ) as high
        union all
        select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = 1 and run_at <= $3
            order by run_at, id limit $5 /* skip locked */
        ) as normal
        union all
        select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = 2 and run_at <= $3
            order by run_at, id limit $5 /* skip locked */
        ) as low
    ) as ranked
    limit $5
)
update delayed_jobs
set state = 'running', claim = claim + 1, attempt = attempt + 1, worker = $1, lease_until = $2,
    started_at = $3, progress = null
from due
where delayed_jobs.id = due.id and not exists (select 1 from delayed_jobs_paused where queue = $4)
returning delayed_jobs.priority, delayed_jobs.run_at, delayed_jobs.id, delayed_jobs.claim, delayed_jobs.kind, delayed_jobs.payload, delayed_jobs.attempt";

pub(super) const FINISH: &str = "\
update delayed_jobs
set state = $3, run_at = coalesce($4, run_at), error = coalesce($5, error), attempt = attempt - $6,
    finished_at = $7, worker = null, lease_until = null, cancel = 0
where id = $1 and claim = $2 and state = 'running'
returning id";

pub(super) const ASKED_TO_CANCEL: &str =
    "select id from delayed_jobs where state = 'running' and worker = $1 and cancel = 1";

pub(super) const RECLAIM: &str = "\
with lost as materialized (
    select id from delayed_jobs
    where state = 'running' and lease_until <= $1
    order by lease_until limit 1000 /* skip locked */
)
update delayed_jobs
set state = case when cancel = 1 then 'cancelled' when crashes + 1 >= $2 then 'dead' else 'pending' end,
    error = case
        when cancel = 0 and crashes + 1 >= $2
        then 'its worker was lost ' || (crashes + 1) || ' times while it ran'
        else error
    end,
    finished_at = case when cancel = 1 or crashes + 1 >= $2 then $1 end,
    crashes = crashes + 1, attempt = attempt - 1, worker = null, lease_until = null, cancel = 0
from lost
where delayed_jobs.id = lost.id
returning delayed_jobs.id, delayed_jobs.queue, delayed_jobs.state";

pub(super) const NEXT_EXPIRY: &str =
    "select min(lease_until) from delayed_jobs where state = 'running' and worker <> $1";

pub(super) const PROGRESS: &str = "\
update delayed_jobs set progress = $3 where id = $1 and claim = $2 and state = 'running' returning id";

pub(super) const CANCEL: &str = "\
update delayed_jobs
set state = case when state = 'pending' then 'cancelled' else state end,
    cancel = case when state = 'running' then 1 else 0 end,
    finished_at = case when state = 'pending' then $2 else finished_at end
where id = $1 and state in ('pending', 'running')
returning state";

pub(super) const RETRY: &str = "\
update delayed_jobs
set state = 'pending', run_at = $2, attempt = 0, crashes = 0, progress = null, finished_at = null
where id = $1 and state in ('pending', 'dead', 'cancelled')
returning state";

pub(super) const STATE: &str = "select state from delayed_jobs where id = $1";

pub(super) const COLUMNS: &str = "\
id, kind, queue, payload, priority, run_at, state, attempt, crashes, key, worker, lease_until, progress, \
error, created_at, started_at, finished_at";

pub(super) fn record(mut row: Row) -> Result<Record, StoreError> {
    Ok(Record {
        id: row.id()?,
        kind: row.text()?,
        queue: row.text()?,
        payload: row.text()?,
        priority: Priority::from_rank(row.int()?),
        run_at: row.int().map(Micros)?,
        state: row.state()?,
        attempt: row.small()?,
        crashes: row.small()?,
        key: row.maybe_text()?,
        worker: row.maybe_text()?,
        lease_until: row.maybe_int()?.map(Micros),
        progress: row
            .maybe_int()?
            .map(|percent| u8::try_from(percent).unwrap_or(0)),
        error: row.maybe_text()?,
        created_at: row.int().map(Micros)?,
        started_at: row.maybe_int()?.map(Micros),
        finished_at: row.maybe_int()?.map(Micros),
    })
}

pub(super) fn list(filter: &Filter) -> (String, Vec<Value>) {
    let wanted = [
        ("state", filter.state.map(|state| state.word().to_owned())),
        ("queue", filter.queue.clone()),
        ("kind", filter.kind.clone()),
    ];
    let mut values = Vec::new();
    let mut sql = format!("select {COLUMNS} from delayed_jobs where 1 = 1");
    for (column, value) in wanted {
        if let Some(value) = value {
            values.push(Value::Text(value));
            sql += &format!(" and {column} = ${}", values.len());
        }
    }
    sql += match filter.state {
        Some(State::Pending) => " order by run_at, id",
        _ => " order by id desc",
    };
    values.push(Value::Int(i64::try_from(filter.limit).unwrap_or(i64::MAX)));
    sql += &format!(" limit ${}", values.len());
    (sql, values)
}

pub(super) const PRUNE: &str = "\
delete from delayed_jobs where id in (
    select id from delayed_jobs
    where state in ('done', 'cancelled') and finished_at < $1
    order by finished_at limit $2
)
returning id";

/// Parameters of [`FINISH`] after the lease: state, time, error, tries taken back, end.
pub(super) fn values_of_end(ended: Ended) -> Vec<Value> {
    let Lease { id, claim } = ended.lease;
    let (state, at, error, back) = match ended.verdict {
        Verdict::Done => (State::Done, None, None, 0),
        Verdict::Retry { at, error } => (State::Pending, Some(at), Some(error), 0),
        Verdict::Dead { error } => (State::Dead, None, Some(error), 0),
        Verdict::Cancelled => (State::Cancelled, None, None, 0),
        Verdict::Released => (State::Pending, None, None, 1),
    };
    let end = (state != State::Pending).then_some(ended.at);
    values![id, claim, state.word(), at, error, back, end]
}
