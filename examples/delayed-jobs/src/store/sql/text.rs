//! The statements, and what is bound to them.

use super::super::StoreError;
use super::super::types::{Ended, Filter, Lease, NewJob, Slot, Verdict};
use super::value::{Row, Value, values};
use crate::job::{Priority, Record, State};
use crate::time::Micros;

/// A statement for one kind of database: what stands in `/*kind ... */` is part of it.
pub(in crate::store) fn dialect(sql: &str, kind: &str) -> String {
    let mark = format!("/*{kind} ");
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once(&mark) {
        text += before;
        let Some((inside, after)) = after.split_once("*/") else {
            break;
        };
        text += inside;
        rest = after;
    }
    text + rest
}

const COLUMNS_OF_NEW: &str = "kind, queue, payload, priority, run_at, created_at, key";
const VALUES_OF_NEW: usize = 7;

/// Jobs that are due later than `soon` are found by other workers' looking ahead; they need no telling.
pub(in crate::store) fn insert(rows: usize, soon: bool) -> String {
    let mut sql = format!("insert into delayed_jobs ({COLUMNS_OF_NEW}) values ");
    for row in 0..rows {
        let numbers = (1..=VALUES_OF_NEW).map(|n| format!("${}", row * VALUES_OF_NEW + n));
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        sql += if row == 0 { "(" } else { ", (" };
        sql += &numbers;
        sql += ")";
    }
    sql += " on conflict do nothing returning id";
    if soon {
        sql += " /*tell */";
    }
    sql
}

pub(super) fn values_of(job: &NewJob) -> Vec<Value> {
    values![
        job.kind.as_str(),
        job.queue.as_str(),
        job.payload.as_str(),
        job.priority.rank(),
        job.run_at,
        job.created_at,
        job.key.as_ref().map(|key| key.key.as_str()),
    ]
}

/// The spec stands first, so that a slot is filled only for the schedule that it was made for.
pub(super) const FILL_SLOT: &str = "\
insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at, schedule, slot)
select $3, $4, $5, $6, $7, $8, name, $9
from delayed_jobs_schedules
where name = $1 and spec = $2 and (slot is null or slot <> $9)
    and not exists (
        select 1 from delayed_jobs
        where schedule = $1 and (state = 'pending' or state = 'running' and $10 = 0)
    )
on conflict do nothing
returning id /*tell */";

pub(super) fn values_of_slot(slot: &Slot) -> Vec<Value> {
    let job = &slot.job;
    values![
        slot.schedule.as_str(),
        slot.spec.as_str(),
        job.kind.as_str(),
        job.queue.as_str(),
        job.payload.as_str(),
        job.priority.rank(),
        job.run_at,
        job.created_at,
        slot.slot,
        i64::from(slot.overlap),
    ]
}

/// Written after the slot's job, which has the slot too: whatever happens in between, there is no second one.
pub(super) const REMEMBER_SLOT: &str =
    "update delayed_jobs_schedules set slot = $2 where name = $1 returning name";

pub(super) const LAST_SLOT: &str = "select slot from delayed_jobs_schedules where name = $1";

pub(super) const DROP_SLOTS: &str = "\
delete from delayed_jobs
where schedule = $1 and state = 'pending' and attempt = 0 and (slot < $2 or slot > $3)
returning id";

/// Before the change is written: after it, a pending job may be of the new kind already.
pub(super) const DROP_PENDING: &str = "\
delete from delayed_jobs
where schedule = $1 and state = 'pending' and attempt = 0
    and not exists (select 1 from delayed_jobs_schedules where name = $1 and spec = $2)
returning id";

pub(super) const DECLARE: &str = "\
insert into delayed_jobs_schedules as known (name, spec) values ($1, $2)
on conflict (name) do update set spec = $2, slot = null where known.spec <> $2";

pub(super) const REPLACE: &str = "\
update delayed_jobs
set kind = $2, queue = $3, payload = $4, priority = $5, run_at = $6, created_at = $7,
    attempt = 0, crashes = 0, progress = null, error = null
where key = $1 and state = 'pending'
returning id /*tell */";

pub(super) const LOSE_KEY: &str =
    "update delayed_jobs set key = null where key = $1 and state = 'running'";

pub(super) const HAS_KEY: &str =
    "select id from delayed_jobs where key = $1 and state in ('pending', 'running')";

pub(super) const AHEAD: &str = "\
select run_at, id from delayed_jobs
where state = 'pending' and queue = $1 and run_at > $2 and run_at <= $3
order by run_at limit $4";

/// One range of the index for each priority; the later ones are not looked at once the limit is met. The kinds are a
/// filter and no join, which would read all that is due before it takes the first. Nothing is claimed that is not due by the clock of the database, whatever the worker's says.
pub(super) const CLAIM: &str = "\
with due as materialized (
    select id from (
        select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = 0
                and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
                and crashes < $7
                and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */
            order by run_at, id limit $5 /*postgres for update skip locked */
        ) as high
        union all
        select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = 1
                and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
                and crashes < $7
                and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */
            order by run_at, id limit $5 /*postgres for update skip locked */
        ) as normal
        union all
        select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = 2
                and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
                and crashes < $7
                and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */
            order by run_at, id limit $5 /*postgres for update skip locked */
        ) as low
    ) as ranked
    limit $5
)
update delayed_jobs
set state = 'running', claim = claim + 1, attempt = attempt + 1, worker = $1, lease_until = $2,
    started_at = $3, progress = null, alone = 0
from due
where delayed_jobs.id = due.id and not exists (select 1 from delayed_jobs_paused where queue = $4)
returning delayed_jobs.priority, delayed_jobs.run_at, delayed_jobs.id, delayed_jobs.claim, delayed_jobs.kind, delayed_jobs.payload, delayed_jobs.attempt";

/// The same for jobs that have lost workers, which are few and have an index of their own.
pub(super) const CLAIM_ALONE: &str = "\
with due as materialized (
    select id from delayed_jobs
    where state = 'pending' and crashes > 0 and crashes >= $7 and queue = $4
        and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
        and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */
    order by run_at limit $5 /*postgres for update skip locked */
)
update delayed_jobs
set state = 'running', claim = claim + 1, attempt = attempt + 1, worker = $1, lease_until = $2,
    started_at = $3, progress = null, alone = 1
from due
where delayed_jobs.id = due.id and not exists (select 1 from delayed_jobs_paused where queue = $4)
returning delayed_jobs.priority, delayed_jobs.run_at, delayed_jobs.id, delayed_jobs.claim, delayed_jobs.kind, delayed_jobs.payload, delayed_jobs.attempt";

pub(super) const NEXT_SUSPECT: &str = "\
select run_at, queue from delayed_jobs /*sqlite indexed by delayed_jobs_suspects */
where state = 'pending' and crashes > 0 and crashes >= $3
    and queue /*sqlite in (select value from json_each($1)) *//*postgres = any (array(select jsonb_array_elements_text($1::text::jsonb))) */
    and kind /*sqlite in (select value from json_each($2)) *//*postgres = any (array(select jsonb_array_elements_text($2::text::jsonb))) */
    and queue not in (select queue from delayed_jobs_paused)
order by run_at limit 1";

/// A cancel that was granted holds, unless the job is done. A run that failed by itself clears it of suspicion.
pub(in crate::store) const FINISH: &str = "\
update delayed_jobs
set state = case when cancel = 1 and $3 <> 'done' then 'cancelled' else $3 end,
    run_at = coalesce($4, run_at), error = coalesce($5, error), attempt = attempt - $6,
    finished_at = case when $3 = 'pending' and cancel = 0 then null else $7 end,
    crashes = case when $3 = 'pending' and $6 = 0 then 0 else crashes end,
    worker = null, lease_until = null, cancel = 0, alone = 0
where id = $1 and claim = $2 and state = 'running'
returning id";

/// Lists of numbers go as JSON, so that the statement is the same for any number of them. Rows are locked in the order
/// of their ids, as by those that end many jobs.
pub(super) const RENEW: &str = "\
with held as materialized (
    select id from delayed_jobs
    where state = 'running' and (id, claim) in (
        /*sqlite select value ->> 0, value ->> 1 from json_each($2) */
        /*postgres select (pair ->> 0)::bigint, (pair ->> 1)::bigint from jsonb_array_elements($2::text::jsonb) as pair */
    )
    order by id /*postgres for update */
)
update delayed_jobs set lease_until = $1
from held where delayed_jobs.id = held.id
returning delayed_jobs.id";

pub(super) const HELD_BY: &str =
    "select id, claim from delayed_jobs where state = 'running' and worker = $1";

pub(super) const ASKED_TO_CANCEL: &str =
    "select id from delayed_jobs where state = 'running' and worker = $1 and cancel = 1";

/// Only a job that ran alone is charged with the loss of its worker. The first wait is none, the others double from
/// a second to a minute.
pub(super) const RECLAIM: &str = "\
with lost as materialized (
    select id from delayed_jobs /*sqlite indexed by delayed_jobs_leased */
    where state = 'running'
        and lease_until <= /*sqlite $1 *//*postgres least($1, (extract(epoch from now()) * 1000000)::bigint) */
    order by lease_until limit 1000 /*postgres for update skip locked */
)
update delayed_jobs
set state = case when cancel = 1 then 'cancelled' when alone = 1 and crashes + 1 >= $2 then 'dead' else 'pending' end,
    error = case
        when cancel = 0 and alone = 1 and crashes + 1 >= $2
        then 'its worker was lost ' || (crashes + 1) || ' times while it ran'
        else error
    end,
    finished_at = case when cancel = 1 or alone = 1 and crashes + 1 >= $2 then $1 end,
    run_at = case
        when crashes = 0 then run_at
        else $1 + 1000000 * case crashes when 1 then 1 when 2 then 2 when 3 then 4 when 4 then 8 when 5 then 16 else 60 end
    end,
    crashes = crashes + 1, attempt = attempt - 1, worker = null, lease_until = null, cancel = 0, alone = 0
from lost
where delayed_jobs.id = lost.id
returning delayed_jobs.id, delayed_jobs.queue, delayed_jobs.state";

pub(super) const NEXT_EXPIRY: &str = "\
select lease_until from delayed_jobs /*sqlite indexed by delayed_jobs_leased */
where state = 'running' and worker <> $1 and lease_until is not null order by lease_until limit 1";

pub(super) const PROGRESS: &str = "\
update delayed_jobs set progress = $3 where id = $1 and claim = $2 and state = 'running' returning id";

pub(super) const CANCEL: &str = "\
update delayed_jobs
set state = case when state = 'pending' then 'cancelled' else state end,
    cancel = case when state = 'running' then 1 else 0 end,
    finished_at = case when state = 'pending' then $2 else finished_at end
where id = $1 and state in ('pending', 'running')
returning state /*tell */";

pub(super) const RETRY: &str = "\
update delayed_jobs
set state = 'pending', run_at = $2, attempt = 0, crashes = 0, progress = null, finished_at = null
where id = $1 and state in ('pending', 'dead', 'cancelled')
returning state /*tell */";

pub(super) const STATE: &str = "select state from delayed_jobs where id = $1";

pub(super) const COUNTS: &str = "select state, count(*) from delayed_jobs group by state";

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

pub(super) const PAUSE: &str =
    "insert into delayed_jobs_paused (queue) values ($1) on conflict do nothing";

pub(super) const RESUME: &str =
    "delete from delayed_jobs_paused where queue = $1 returning queue /*tell */";

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
        ("queue", filter.queue.clone()),
        ("kind", filter.kind.clone()),
    ];
    let mut values = Vec::new();
    // Without statistics SQLite would rather sort them all.
    let index = match filter.state {
        Some(State::Pending) => " /*sqlite indexed by delayed_jobs_next */",
        _ => "",
    };
    let mut sql = format!("select {COLUMNS} from delayed_jobs{index} where 1 = 1");
    if let Some(state) = filter.state {
        // As a literal, since the indexes are for one state each.
        sql += &format!(" and state = '{}'", state.word());
    }
    for (column, value) in wanted {
        if let Some(value) = value {
            values.push(Value::from(value));
            sql += &format!(" and {column} = ${}", values.len());
        }
    }
    sql += match filter.state {
        Some(State::Pending) => " order by run_at + 0, id",
        _ => " order by id desc",
    };
    values.push(Value::from(i64::try_from(filter.limit).unwrap_or(i64::MAX)));
    sql += &format!(" limit ${}", values.len());
    (sql, values)
}

pub(super) const PRUNE: &str = "\
delete from delayed_jobs where id in (
    select id from delayed_jobs /*sqlite indexed by delayed_jobs_finished */
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
        Verdict::Snoozed { at } => (State::Pending, Some(at), None, 1),
        Verdict::Released => (State::Pending, None, None, 1),
    };
    values![id, claim, state.word(), at, error, back, ended.at]
}

/// All that are used again and again, for those who look at their plans. Counting reads all rows, and is done seldom
/// and apart.
#[cfg(test)]
pub(in crate::store) fn all() -> Vec<String> {
    let mut all: Vec<String> = [
        FILL_SLOT,
        REMEMBER_SLOT,
        LAST_SLOT,
        DROP_SLOTS,
        DROP_PENDING,
        REPLACE,
        LOSE_KEY,
        HAS_KEY,
        AHEAD,
        CLAIM,
        CLAIM_ALONE,
        NEXT_SUSPECT,
        FINISH,
        RENEW,
        HELD_BY,
        ASKED_TO_CANCEL,
        RECLAIM,
        NEXT_EXPIRY,
        PROGRESS,
        CANCEL,
        RETRY,
        STATE,
        PRUNE,
    ]
    .map(str::to_owned)
    .to_vec();
    for state in State::ALL.map(Some).into_iter().chain([None]) {
        let filter = Filter {
            state,
            ..Filter::default()
        };
        all.push(list(&filter).0);
    }
    all
}
