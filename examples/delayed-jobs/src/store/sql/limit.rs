//! Claims from a queue that has limits over all workers, or in which priorities age.
//!
//! A claim is several statements in one transaction. On Postgres the first statement locks the limits of the queue, so
//! that the counts of the second one stay valid until the commit. SQLite has only one writer at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::types::Claim;
use super::execute::Steps;
use super::value::{Row, Value, values};
use crate::limit::{Limit, Pace, Part};
use crate::store::StoreError;
use crate::time::{Micros, micros};

/// Selects due jobs of one priority whose keys are below their limits. It selects some more than may be claimed, since
/// the first ones may all have the same key.
macro_rules! due {
    ($priority:literal, $name:literal) => {
        concat!(
            "select * from (
        select id, priority, run_at, limit_key from delayed_jobs
        where state = 'pending' and queue = $4 and priority = ", $priority, "
            and run_at <= /*sqlite $3 *//*postgres least($3, (extract(epoch from now()) * 1000000)::bigint) */
            and crashes < $7
            and kind /*sqlite in (select value from json_each($6)) *//*postgres = any (array(select jsonb_array_elements_text($6::text::jsonb))) */
            and (limit_key is null or limit_key not in (select key from full_keys))
        order by run_at, id limit $5 + 64 /*postgres for update skip locked */
    ) as ", $name
        )
    };
}

/// Computes how many jobs a [`Pace`] allows to start now, if the rate alone allows the next start at `$due`. A start that
/// is late by at most 50 milliseconds does not delay later ones.
macro_rules! allows {
    ($every:literal, $burst:literal, $due:literal) => {
        concat!(
            "(($3 - /*sqlite max *//*postgres greatest */(coalesce(",
            $due,
            ", 0), $3 - /*sqlite min *//*postgres least */(50000, ",
            $every,
            " / 2)) + ",
            $burst,
            " * ",
            $every,
            ") / ",
            $every,
            ")"
        )
    };
}

/// Waits for other claims from the same queue.
const LOCK: &str =
    "select queue from delayed_jobs_limits where queue = $1 /*postgres for update */";

/// Jobs are claimed in the order of their times, to which `$8` microseconds are added for each step of priority.
const CLAIM: &str = concat!(
    "with rule as materialized (
    select * from delayed_jobs_limits where queue = $4
), running as materialized (
    select coalesce(limit_key, '') as key, count(*) as jobs from delayed_jobs
    where state = 'running' and queue = $4 and exists (select 1 from rule) group by 1
), full_keys as materialized (
    select key from running, rule where jobs >= key_at_once
    union
    select key from delayed_jobs_paces as paces, rule
    where paces.queue = $4 and key <> '' and due > $3 + (key_burst - 1) * key_every
), candidates as materialized (
    ",
    due!("0", "high"),
    "
    union all
    ",
    due!("1", "normal"),
    "
    union all
    ",
    due!("2", "low"),
    "
), ranked as (
    select id, limit_key, run_at + priority * $8 as turn,
        row_number() over (partition by limit_key order by run_at + priority * $8, id) as nth
    from candidates
), due as materialized (
    select ranked.id from ranked
    left join rule on 1 = 1
    left join running on running.key = limit_key
    left join delayed_jobs_paces as paces on paces.queue = $4 and paces.key = limit_key
    where limit_key is null
        or nth <= coalesce(key_at_once - coalesce(jobs, 0), nth)
            and nth <= coalesce(",
    allows!("key_every", "key_burst", "due"),
    ", nth)
    order by turn, ranked.id
    limit /*sqlite max *//*postgres greatest */(0, /*sqlite min *//*postgres least */(
        $5,
        coalesce((select at_once from rule) - coalesce((select sum(jobs) from running), 0), $5),
        coalesce((select ",
    allows!(
        "every",
        "burst",
        "(select due from delayed_jobs_paces where queue = $4 and key = '')"
    ),
    " from rule), $5)
    ))
)",
    super::text::lease!("0", "")
);

/// Claims a job whose workers were lost. It may exceed the rate at the cost of later jobs, but not the number of jobs
/// that may run.
const CLAIM_ALONE: &str = super::text::claim_alone!(
    "
        and not exists (
            select 1 from delayed_jobs_limits as rule
            where rule.queue = $4 and (
                at_once <= (select count(*) from delayed_jobs where state = 'running' and queue = $4)
                or key_at_once <= (
                    select count(*) from delayed_jobs as beside
                    where beside.state = 'running' and beside.queue = $4 and beside.limit_key = jobs.limit_key
                )
            )
        )",
    ""
);

/// Advances the paces by the jobs of this claim, which are those with the end of its leases.
const CHARGE: &str = "\
insert into delayed_jobs_paces (queue, key, due)
select $2, started.key,
    /*sqlite max *//*postgres greatest */(coalesce(known.due, 0), $3 - /*sqlite min *//*postgres least */(50000, started.every / 2))
        + started.jobs * started.every
from (
    select '' as key, count(*) as jobs, (select every from delayed_jobs_limits where queue = $2) as every
    from delayed_jobs where state = 'running' and worker = $1 and queue = $2 and lease_until = $4 and started_at = $3
    union all
    select limit_key, count(*), (select key_every from delayed_jobs_limits where queue = $2)
    from delayed_jobs where state = 'running' and worker = $1 and queue = $2 and lease_until = $4 and started_at = $3 and limit_key <> ''
    group by limit_key
) as started
left join delayed_jobs_paces as known on known.queue = $2 and known.key = started.key
where started.every is not null and started.jobs > 0
on conflict (queue, key) do update set due = excluded.due";

/// Deletes paces of the past, which have no effect any more, and those so far ahead that the clock was set back since: jobs
/// that run alone may exceed the rate a little, and the clocks of workers differ a little.
const FORGET: &str = "\
delete from delayed_jobs_paces where queue = $1 and key in (
    select key from delayed_jobs_paces where queue = $1 and due < $2 - 1000000
    union all
    select key from delayed_jobs_paces where queue = $1 and key = ''
        and due > $2 + 10000000 + (select (burst + 10) * every from delayed_jobs_limits where queue = $1)
    union all
    select key from delayed_jobs_paces where queue = $1 and key <> ''
        and due > $2 + 10000000 + (select (key_burst + 10) * key_every from delayed_jobs_limits where queue = $1)
)";

/// Tests whether a job of this priority is due that the claim could have taken.
macro_rules! is_due {
    ($priority:literal, $name:literal) => {
        concat!(
            "exists (select 1 from (
        select id from delayed_jobs where state = 'pending' and queue = $1 and priority = ",
            $priority,
            " and run_at <= $2 and crashes < $4
            and kind /*sqlite in (select value from json_each($3)) *//*postgres = any (array(select jsonb_array_elements_text($3::text::jsonb))) */
        order by run_at, id limit 1
    ) as ",
            $name,
            ")"
        )
    };
}

/// Returns whether due jobs were left, when the pace of the queue allows the next one to start, and when the first of the
/// keys that are at their pace may go on.
const LEFT: &str = concat!(
    "select coalesce((
    select paces.due - (rule.burst - 1) * rule.every from delayed_jobs_limits as rule
    join delayed_jobs_paces as paces on paces.queue = rule.queue and paces.key = ''
    where rule.queue = $1
), 0), coalesce((
    select paces.due - (rule.key_burst - 1) * rule.key_every from delayed_jobs_limits as rule
    join delayed_jobs_paces as paces on paces.queue = rule.queue and paces.key <> ''
    where rule.queue = $1 and paces.due > $2 + (rule.key_burst - 1) * rule.key_every
    order by paces.due limit 1
), 9223372036854775807)
where not exists (select 1 from delayed_jobs_paused where queue = $1) and (
    ",
    is_due!("0", "high"),
    "\n    or ",
    is_due!("1", "normal"),
    "\n    or ",
    is_due!("2", "low"),
    "\n)"
);

/// Forgets the intervals of an earlier rate.
const CAP: &str = "\
update delayed_jobs_paces set due = /*sqlite min *//*postgres least */(due, case key when '' then $2 else $3 end)
where queue = $1";

const SET: &str = "\
insert into delayed_jobs_limits (queue, at_once, every, burst, key_at_once, key_every, key_burst, worker_at_once)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (queue) do update set at_once = $2, every = $3, burst = $4, key_at_once = $5, key_every = $6, key_burst = $7,
    worker_at_once = $8
returning queue /*tell */";

const UNSET: &str = "delete from delayed_jobs_limits where queue = $1 returning queue /*tell */";

/// Claims from a queue without limits do not delete its paces.
const FORGET_ALL: &str = "delete from delayed_jobs_paces where queue = $1";

pub(super) const LIST: &str = "\
select queue, at_once, every, burst, key_at_once, key_every, key_burst, worker_at_once from delayed_jobs_limits order by queue";

/// Returns the statements of a claim, from the parameters of one without limits. The second one returns the jobs, and the
/// last one whether jobs were left.
pub(super) fn steps(claim: &Claim, alone: bool, mut values: Vec<Value>) -> Steps {
    // Other claims of the worker at the same time, as on a paused clock, must not have the same end of their leases.
    static CLAIMS: AtomicU64 = AtomicU64::new(0);
    let number = 1 + CLAIMS.fetch_add(1, Ordering::Relaxed) % 1000;
    let lease_until = claim.lease_until.after(Duration::from_micros(number));
    values[1] = Value::from(lease_until);
    let (queue, worker, now) = (claim.queue.as_str(), claim.worker.as_str(), claim.now);
    let kinds_and_crashes = values[5..].to_vec();
    let left = [values![queue, now], kinds_and_crashes].concat();
    let sql = match alone {
        true => CLAIM_ALONE,
        false => {
            // Without ageing all jobs of a priority come before those of the next one.
            let never = 1 << 60;
            let ageing = claim.ageing.map_or(never, micros);
            values.push(Value::from(ageing.min(never)));
            CLAIM
        }
    };
    vec![
        (LOCK, values![queue]),
        (sql, values),
        (CHARGE, values![worker, queue, now, lease_until]),
        (FORGET, values![queue, now]),
        (LEFT, left),
    ]
}

/// Returns the statements that set the limits of a queue. They are one transaction, which claims from the queue wait for.
pub(super) fn set(queue: &str, limit: &Limit, now: Micros) -> Steps {
    if *limit == Limit::default() {
        return vec![(UNSET, values![queue]), (FORGET_ALL, values![queue])];
    }
    let parts = [limit.all, limit.key];
    let mut values = values![queue];
    for part in parts {
        values.push(Value::from(part.at_once.map(i64::from)));
        values.push(Value::from(part.pace.map(|pace| pace.every)));
        values.push(Value::from(part.pace.map(|pace| pace.burst)));
    }
    values.push(Value::from(limit.worker.map(i64::from)));
    // The latest time when the next start can be due by the rate alone.
    let latest = |pace: Pace| now.0 + pace.burst * pace.every;
    let [all, key] = parts.map(|part| part.pace.map_or(i64::MAX, latest));
    vec![(SET, values), (CAP, values![queue, all, key])]
}

pub(super) fn limit(mut row: Row) -> Result<(String, Limit), StoreError> {
    let queue = row.text()?;
    let mut part = || {
        let at_once = row.maybe_small()?;
        let (every, burst) = (row.maybe_int()?, row.maybe_int()?);
        let pace = every.zip(burst).map(|(every, burst)| Pace { every, burst });
        Ok::<_, StoreError>(Part { at_once, pace })
    };
    let (all, key) = (part()?, part()?);
    let worker = row.maybe_small()?;
    Ok((queue, Limit { all, key, worker }))
}

/// Returns the statements that claims run on jobs and paces. A test checks their plans.
#[cfg(test)]
pub(super) fn all() -> Vec<String> {
    [CLAIM, CLAIM_ALONE, CHARGE, FORGET, FORGET_ALL, LEFT]
        .map(str::to_owned)
        .to_vec()
}
