//! The statements and their parameters.

use std::sync::LazyLock;
use std::time::Duration;

use super::super::types::{Ended, Lease, NewJob, Slot, UniqueKey, Verdict};
use super::execute::Text;
use super::value::{Value, values};
use crate::job::State;
use crate::time::{Micros, micros};

/// Returns a statement for one kind of database: the text in `/*kind ... */` becomes part of it.
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

/// The columns that every job needs.
const PLAIN: [&str; 6] = [
    "kind",
    "queue",
    "payload",
    "priority",
    "run_at",
    "created_at",
];
/// The columns that only some jobs need.
const FURTHER: [&str; 9] = [
    "attempts",
    "timeout",
    "limit_key",
    "key",
    "holds",
    "held_until",
    "after_jobs",
    "after_any",
    "wanted_at",
];

/// The columns that are texts. The others are numbers.
#[cfg(feature = "postgres")]
const TEXTS: [&str; 6] = ["kind", "queue", "payload", "limit_key", "key", "after_jobs"];

/// Returns how many columns these jobs need. With fewer columns SQLite parses the statement faster.
pub(super) fn width(jobs: &[NewJob]) -> usize {
    let is_plain = |job: &NewJob| {
        job.attempts.is_none()
            && job.timeout.is_none()
            && job.limit_key.is_none()
            && job.key.is_none()
            && job.after.is_none()
    };
    match jobs.iter().all(is_plain) {
        true => PLAIN.len(),
        false => PLAIN.len() + FURTHER.len(),
    }
}

/// Returns the statement that inserts `rows` jobs of `width` columns.
pub(in crate::store) fn insert(rows: usize, width: usize, soon: bool) -> Text {
    match rows {
        1 => insert_one(width, soon).into(),
        _ => insert_text(rows, width, soon).into(),
    }
}

/// Returns the statement that inserts one job. Such statements are built only once.
pub(super) fn insert_one(width: usize, soon: bool) -> &'static str {
    static ONE: LazyLock<[[String; 2]; 2]> = LazyLock::new(|| {
        [PLAIN.len(), PLAIN.len() + FURTHER.len()]
            .map(|width| [false, true].map(|soon| insert_text(1, width, soon)))
    });
    &ONE[usize::from(width > PLAIN.len())][usize::from(soon)]
}

/// Returns the first `width` columns of a job, each with whether it is a text.
#[cfg(feature = "postgres")]
pub(in crate::store) fn columns(width: usize) -> impl Iterator<Item = (&'static str, bool)> {
    let columns = PLAIN.into_iter().chain(FURTHER).take(width);
    columns.map(|column| (column, TEXTS.contains(&column)))
}

/// Builds the statement. Other workers are notified if a job is due `soon`; they find the others when they look ahead.
fn insert_text(rows: usize, width: usize, soon: bool) -> String {
    let columns: Vec<_> = PLAIN.into_iter().chain(FURTHER).take(width).collect();
    let mut sql = format!("insert into delayed_jobs ({}) values ", columns.join(", "));
    for row in 0..rows {
        let numbers = (1..=width).map(|n| format!("${}", row * width + n));
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        sql += if row == 0 { "(" } else { ", (" };
        sql += &numbers;
        sql += ")";
    }
    sql += " on conflict do nothing";
    // For one job SQLite reports the id without this clause.
    sql += if rows == 1 {
        " /*postgres returning id */"
    } else {
        " returning id"
    };
    if soon {
        sql += " /*tell */";
    }
    sql
}

/// Returns the time of a job that waits for no others: it is before that of jobs that do, which the ends of others change.
fn by_itself(at: Micros) -> Micros {
    Micros(at.0.min(Micros::NEVER.0 - 1))
}

/// Returns the values of all columns. A statement uses the first ones.
pub(super) fn values_of(job: &NewJob) -> Vec<Value> {
    let run_at = match job.after {
        Some(_) => Micros::NEVER,
        None => by_itself(job.run_at),
    };
    let mut values = values![
        job.kind.as_str(),
        job.queue.as_str(),
        job.payload.as_str(),
        job.priority.rank(),
        run_at,
        job.created_at,
        job.attempts.map(i64::from),
        job.timeout.map(micros),
        job.limit_key.as_deref(),
    ];
    values.extend(match &job.key {
        Some(key) => values_of_key(key),
        None => values![None::<&str>, 0_i64, 0_i64],
    });
    values.extend(match &job.after {
        Some(after) => values![
            serde_json::to_string(&after.jobs).unwrap_or_default(),
            i64::from(after.any_end),
            by_itself(job.run_at),
        ],
        None => values![None::<&str>, 0_i64, None::<Micros>],
    });
    values
}

/// Returns the key, the states in which a job holds it, and the end of its period.
pub(super) fn values_of_key(key: &UniqueKey) -> Vec<Value> {
    let until = key.until.unwrap_or(Micros(0));
    values![key.key.as_str(), key.within.bits(), until]
}

/// Tests whether a job holds its key, in exactly the words of the partial index.
macro_rules! holds_key {
    () => {
        "key is not null and (holds & case state when 'pending' then 1 when 'running' then 2 when 'done' then 4 when 'dead' then 8 else 16 end) <> 0"
    };
}
pub(super) use holds_key;

/// Adds an error to those of a job, of which the last ones are kept; see [`TryError`](crate::job::TryError). Another program
/// may have written something else there: it is dropped, since a statement that fails would keep the leases of other
/// jobs too.
macro_rules! with_error {
    ($at:literal, $error:literal) => {
        concat!(
            "/*sqlite json_insert(case when not json_valid(errors) then '[]' when json_type(errors) <> 'array' then '[]' when json_array_length(errors) >= 20 then json_remove(errors, '$[0]') else coalesce(errors, '[]') end, '$[#]', json_object('attempt', attempt, 'at', ", $at, ", 'error', substr(", $error, ", 1, 1000))) */",
            "/*postgres ((case when errors not like '[%' then '[]' when jsonb_array_length(errors::jsonb) >= 20 then errors::jsonb - 0 else coalesce(errors::jsonb, '[]') end) || jsonb_build_object('attempt', attempt, 'at', ", $at, ", 'error', left(", $error, ", 1000)))::text */"
        )
    };
}

/// Selects due jobs of one priority from a range of their index. The range begins at the first due job: on Postgres
/// dead entries of claimed jobs come before it until the next vacuum.
macro_rules! due {
    ($priority:literal, $from:literal, $name:literal) => {
        concat!(
            "select id from (
            select id from delayed_jobs
            where state = 'pending' and queue = $4 and priority = ", $priority, " and run_at >= ", $from, "
                and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
                and crashes < $7
                and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */
            order by run_at, id limit $5 /*postgres for update skip locked */
        ) as ", $name
        )
    };
}

/// Selects jobs of one priority that will be due.
macro_rules! ahead {
    ($priority:literal, $name:literal) => {
        concat!(
            "select run_at, id from (
        select run_at, id from delayed_jobs
        where state = 'pending' and queue = $1 and priority = ",
            $priority,
            " and run_at > $2 and run_at <= $3
        order by run_at, id limit $4
    ) as ",
            $name
        )
    };
}

/// Tests whether the queue has no limits over all workers.
macro_rules! not_shared {
    () => {
        "\n    and not exists (
        select 1 from delayed_jobs_limits
        where queue = $4 and coalesce(at_once, every, key_at_once, key_every) is not null
    )"
    };
}

/// The changes of a claimed job. It releases a key that is only held while the job is pending.
macro_rules! lease {
    ($alone:literal, $also:expr) => {
        concat!(
            "
update delayed_jobs
set state = 'running', claim = claim + 1, attempt = attempt + 1, worker = $1, lease_until = $2,
    started_at = $3, progress = null, alone = ", $alone, ", holds = case holds when 1 then 0 else holds end
/*postgres from due where delayed_jobs.id = due.id *//*sqlite where id in (select id from due) */ and not exists (select 1 from delayed_jobs_paused where queue = $4)",
            $also,
            " /*relax and */",
            "\nreturning delayed_jobs.priority, delayed_jobs.run_at, delayed_jobs.id, delayed_jobs.claim, delayed_jobs.kind, delayed_jobs.payload, delayed_jobs.attempt, delayed_jobs.attempts, delayed_jobs.timeout"
        )
    };
}
pub(super) use lease;

/// Claims a job whose workers were lost. Such jobs are few and have their own index.
macro_rules! claim_alone {
    ($and:expr, $also:expr) => {
        concat!(
            "with due as materialized (
    select id from delayed_jobs as jobs
    where state = 'pending' and crashes > 0 and crashes >= $7 and queue = $4
        and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
        and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */",
            $and,
            "
    order by run_at limit $5 /*postgres for update skip locked */
)",
            $crate::store::sql::text::lease!("1", $also)
        )
    };
}
pub(super) use claim_alone;

/// Checks the spec first, so that a slot is filled only for the schedule for which it was computed.
pub(super) const FILL_SLOT: &str = "\
insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at, schedule, slot)
select $3, $4, $5, $6, $7, $8, name, $9
from delayed_jobs_schedules
where name = $1 and spec = $2 and paused = 0 and (slot is null or slot <> $9)
    and not exists (
        select 1 from delayed_jobs
        where schedule = $1 and state in ('pending', 'running') and (started_at is null or $10 = 0)
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

/// Tests whether a slot may have to be filled. It is asked much more often than that, so this locks nothing.
pub(super) const NEEDS_SLOT: &str = "\
select name from delayed_jobs_schedules where name = $1 and spec = $2 and paused = 0 and (slot is null or slot <> $3)";

/// Waits for others that fill a slot of the schedule, or change it.
pub(super) const LOCK_SCHEDULE: &str =
    "select name from delayed_jobs_schedules where name = $1 /*postgres for update */";

/// Runs after the job of the slot was inserted, or if it was there before.
pub(super) const REMEMBER_SLOT: &str = "\
update delayed_jobs_schedules set slot = $3
where name = $1 and spec = $2 and paused = 0
    and exists (select 1 from delayed_jobs where schedule = $1 and slot = $3)
returning name";

pub(super) const LAST_SLOT: &str = "select slot from delayed_jobs_schedules where name = $1";

/// Deletes pending jobs of other slots. A job that has started stays, however its run ended: a run that was snoozed, cut
/// off or given back is not missed. A worker of an older program knows other times, so it deletes nothing.
pub(super) const DROP_SLOTS: &str = "\
delete from delayed_jobs
where schedule = $1 and state = 'pending' and started_at is null and (slot < $3 or slot > $4)
    and exists (select 1 from delayed_jobs_schedules where name = $1 and spec = $2)
returning id";

/// Runs before the change is written. After it, a pending job may already have the new kind.
pub(super) const DROP_PENDING: &str = "\
delete from delayed_jobs
where schedule = $1 and state = 'pending' and started_at is null
    and not exists (select 1 from delayed_jobs_schedules where name = $1 and spec = $2)
returning id";

pub(super) const DECLARE: &str = "\
insert into delayed_jobs_schedules as known (name, spec, kind, queue, payload) values ($1, $2, $3, $4, $5)
on conflict (name) do update
set spec = $2, kind = $3, queue = $4, payload = $5, slot = case known.spec when $2 then known.slot end
where known.spec <> $2 or known.kind is null";

/// Clears the slot, since its job is deleted: the slot is filled again when the schedule is resumed.
pub(super) const PAUSE_SCHEDULE: &str = "\
update delayed_jobs_schedules set paused = $2, slot = case paused when $2 then slot end
where name = $1 returning name /*tell */";

pub(super) const DROP_PAUSED: &str = "\
delete from delayed_jobs
where schedule = $1 and state = 'pending' and started_at is null
    and exists (select 1 from delayed_jobs_schedules where name = $1 and paused = 1)
returning id";

/// The job has no slot, so it is in addition to those of the slots.
pub(super) const RUN_SCHEDULE: &str = "\
insert into delayed_jobs (kind, queue, payload, priority, run_at, created_at, schedule)
select kind, queue, payload, $2, $3, $3, name from delayed_jobs_schedules where name = $1 and kind is not null
returning id, queue /*tell */";

/// Replaces a pending job by a later one. A series of replacements delays the job until `$16` after the first one at
/// the latest. A job that has run before begins a new series.
pub(super) const REPLACE: &str = concat!(
    "\
update delayed_jobs
set kind = $1, queue = $2, payload = $3, priority = $4,
    run_at = coalesce(/*sqlite min *//*postgres least */($5, $16 + case when started_at is null then coalesce(first_at, created_at) else $6 end), $5),
    first_at = case when started_at is null then coalesce(first_at, created_at) else $6 end,
    created_at = $6, attempts = $7, timeout = $8,
    limit_key = $9, holds = $11, after_jobs = $13, after_any = $14, wanted_at = $15,
    attempt = 0, crashes = 0, progress = null, error = null, errors = null, started_at = null
where key = $10 and held_until = $12 and state = 'pending' and ",
    holds_key!(),
    "\nreturning id /*tell */"
);

/// Returns the values of all columns, and for how long the job may be delayed.
pub(super) fn values_of_replacement(job: &NewJob, key: &UniqueKey) -> Vec<Value> {
    let mut values = values_of(job);
    // A wait that is short enough to be added to any time.
    let longest = Duration::from_secs(1 << 40);
    values.push(Value::from(
        key.max_wait.map(|wait| micros(wait.min(longest))),
    ));
    values
}

pub(super) const LOSE_KEY: &str = concat!(
    "update delayed_jobs set holds = 0 where key = $1 and held_until = $2 and state <> 'pending' and ",
    holds_key!(),
    " returning id"
);

pub(super) const HAS_KEY: &str = concat!(
    "select id from delayed_jobs where key = $1 and held_until = $2 and ",
    holds_key!()
);

/// Selects the first jobs of each priority, and the first of those. Few jobs are due so soon.
pub(super) const AHEAD: &str = concat!(
    "select run_at, id from (
    ",
    ahead!("0", "high"),
    "
    union all
    ",
    ahead!("1", "normal"),
    "
    union all
    ",
    ahead!("2", "low"),
    "
) as ranked order by run_at limit $4"
);

/// Reads one range of the index per priority, and stops at the limit. The kinds are a filter, since a join would read
/// all due jobs before it returns the first. A job is claimed only if it is due by the clock of the database, whatever
/// the clock of the worker says. Nothing is claimed from a queue with limits that the worker does not know yet.
pub(super) const CLAIM: &str = concat!(
    "with due as materialized (
    select id from (
        ",
    due!("0", "$8", "high"),
    "
        union all
        ",
    due!("1", "$9", "normal"),
    "
        union all
        ",
    due!("2", "$10", "low"),
    "
    ) as ranked
    limit $5
)",
    lease!("0", not_shared!())
);

/// The same for jobs whose workers were lost.
pub(super) const CLAIM_ALONE: &str = claim_alone!("", not_shared!());

pub(super) const NEXT_SUSPECT: &str = "\
select run_at, queue from delayed_jobs /*sqlite indexed by delayed_jobs_suspects */
where state = 'pending' and crashes > 0 and crashes >= $3
    and queue /*sqlite in (select value from json_each($1)) *//*postgres = any (array(select jsonb_array_elements_text($1::text::jsonb))) */
    and kind /*sqlite in (select value from json_each($2)) *//*postgres = any (array(select jsonb_array_elements_text($2::text::jsonb))) */
    and queue not in (select queue from delayed_jobs_paused)
order by run_at limit 1";

/// A cancel that was accepted has priority, unless the job is done. A run that fails by itself resets the count of lost
/// workers.
pub(in crate::store) const FINISH: &str = concat!(
    "\
update delayed_jobs
set state = case when cancel = 1 and $3 <> 'done' then 'cancelled' else $3 end,
    run_at = coalesce($4, run_at), error = coalesce($5, error),
    errors = case when $5 is null then errors else ",
    with_error!("$7", "$5"),
    " end,
    attempt = attempt - $6, output = $8,
    finished_at = case when $3 = 'pending' and cancel = 0 then null else $7 end,
    crashes = case when $3 = 'pending' and $6 = 0 then 0 else crashes end,
    worker = null, lease_until = null, cancel = 0, alone = 0
where id = $1 and claim = $2 and state = 'running'
/*postgres returning id */"
);

/// A list of numbers is one JSON parameter, so that the statement is the same for lists of every length. On Postgres a
/// job that another transaction has locked is still held, though its lease is not renewed now: a long transaction must
/// not cost other jobs their leases, and no lease of a locked job is taken back.
pub(super) const RENEW: &str = "\
with held as materialized (
    select id from delayed_jobs
    where state = 'running' and (id, claim) in (
        /*sqlite select value ->> 0, value ->> 1 from json_each($2) */
        /*postgres select (pair ->> 0)::bigint, (pair ->> 1)::bigint from jsonb_array_elements($2::text::jsonb) as pair */
    )
    order by id /*postgres for update skip locked */
)/*postgres , renewed as ( */
update delayed_jobs set lease_until = $1
from held where delayed_jobs.id = held.id
/*sqlite returning delayed_jobs.id */
/*postgres )
select id from delayed_jobs
where state = 'running' and (id, claim) in (
    select (pair ->> 0)::bigint, (pair ->> 1)::bigint from jsonb_array_elements($2::text::jsonb) as pair
) */";

pub(super) const HELD_BY: &str = "select id, claim from delayed_jobs /*sqlite indexed by delayed_jobs_running */ where state = 'running' and worker = $1";

pub(super) const ASKED_TO_CANCEL: &str = "select id from delayed_jobs /*sqlite indexed by delayed_jobs_running */ where state = 'running' and worker = $1 and cancel = 1";

/// Counts the loss of a worker only for a job that ran alone. The first retry is at once, and later delays double from
/// a second to a minute.
pub(super) const RECLAIM: &str = concat!(
    "\
with lost as materialized (
    select id from delayed_jobs /*sqlite indexed by delayed_jobs_running */
    where state = 'running'
        and lease_until <= /*sqlite $1 *//*postgres least($1, (extract(epoch from now()) * 1000000)::bigint) */
    limit 1000 /*postgres for update skip locked */
)
update delayed_jobs
set state = case when cancel = 1 then 'cancelled' when alone = 1 and crashes + 1 >= $2 then 'dead' else 'pending' end,
    error = case
        when cancel = 0 and alone = 1 and crashes + 1 >= $2
        then 'its worker was lost ' || (crashes + 1) || ' times while it ran'
        else error
    end,
    errors = ",
    with_error!("$1", "'its worker was lost'"),
    ",
    finished_at = case when cancel = 1 or alone = 1 and crashes + 1 >= $2 then $1 end,
    run_at = case
        when crashes = 0 then run_at
        else $1 + 1000000 * case crashes when 1 then 1 when 2 then 2 when 3 then 4 when 4 then 8 when 5 then 16 else 60 end
    end,
    crashes = crashes + 1, attempt = attempt - 1, worker = null, lease_until = null, cancel = 0, alone = 0
from lost
where delayed_jobs.id = lost.id
returning delayed_jobs.id, delayed_jobs.state"
);

pub(super) const SHARE: &str = "\
update delayed_jobs set alone = 0 where id = $1 and claim = $2 and state = 'running' returning id";

pub(super) const NEXT_EXPIRY: &str = "\
select min(lease_until) from delayed_jobs /*sqlite indexed by delayed_jobs_running */
where state = 'running' and worker <> $1";

pub(super) const PROGRESS: &str = "\
update delayed_jobs set progress = $3 where id = $1 and claim = $2 and state = 'running' returning id";

macro_rules! cancel {
    ($now:literal) => {
        concat!(
            "\
update delayed_jobs
set state = case when state = 'pending' then 'cancelled' else state end,
    cancel = case when state = 'running' then 1 else 0 end,
    finished_at = case when state = 'pending' then ",
            $now,
            " else finished_at end
where "
        )
    };
}

macro_rules! retry {
    ($now:literal) => {
        concat!(
            "\
update delayed_jobs
set state = 'pending',
    run_at = case when state = 'pending' and run_at < ",
            $now,
            " then run_at else ",
            $now,
            " end,
    attempt = 0, crashes = 0, progress = null, finished_at = null
where "
        )
    };
}

pub(super) const CANCEL: &str = concat!(
    cancel!("$2"),
    "id = $1 and state in ('pending', 'running') returning state /*tell */"
);

pub(super) const RETRY: &str = concat!(
    retry!("$2"),
    "id = $1 and state in ('pending', 'dead', 'cancelled') returning state /*tell */"
);

/// The beginnings of statements that change many jobs. The first parameter is the time.
pub(super) const CANCEL_MANY: &str = cancel!("$1");
pub(super) const RETRY_MANY: &str = retry!("$1");

pub(super) const STATE: &str = "select state from delayed_jobs where id = $1";

pub(super) const PAUSE: &str =
    "insert into delayed_jobs_paused (queue) values ($1) on conflict do nothing";

pub(super) const RESUME: &str =
    "delete from delayed_jobs_paused where queue = $1 returning queue /*tell */";

/// Returns the parameters of [`FINISH`] after the lease: state, time, error, attempts to subtract, end, output.
pub(super) fn values_of_end(ended: Ended) -> Vec<Value> {
    let Lease { id, claim } = ended.lease;
    let mut brought = None;
    let (state, at, error, back) = match ended.verdict {
        Verdict::Done { output } => {
            brought = output;
            (State::Done, None, None, 0)
        }
        Verdict::Retry { at, error } => (State::Pending, Some(by_itself(at)), Some(error), 0),
        Verdict::Dead { error } => (State::Dead, None, Some(error), 0),
        Verdict::Cancelled => (State::Cancelled, None, None, 0),
        Verdict::Snoozed { at } => (State::Pending, Some(by_itself(at)), None, 1),
        Verdict::Released => (State::Pending, None, None, 1),
    };
    values![id, claim, state.word(), at, error, back, ended.at, brought]
}

/// Returns all statements that workers and pages run often. A test checks their plans.
#[cfg(test)]
pub(in crate::store) fn all() -> Vec<String> {
    let mut all: Vec<String> = [
        NEEDS_SLOT,
        LOCK_SCHEDULE,
        FILL_SLOT,
        REMEMBER_SLOT,
        LAST_SLOT,
        DROP_SLOTS,
        DROP_PENDING,
        DROP_PAUSED,
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
        SHARE,
        NEXT_EXPIRY,
        PROGRESS,
        CANCEL,
        RETRY,
        STATE,
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend(super::filter::all());
    all.extend(super::limit::all());
    all
}
