//! All that SQLite and Postgres share, which is nearly everything: their statements are the same text.
//!
//! Parameters are written `$1`, and integers are 64 bits wide. Where rows have to be locked for other
//! connections the text says `/* skip locked */`: a comment for SQLite, whose writers come one by one,
//! and a clause for Postgres.

use std::fmt;
use std::time::Duration;
use std::vec;

use tokio::sync::watch;

use super::types::{
    Asked, Claim, Claimed, Counts, Ended, Enqueued, Filter, Lease, NewJob, OnDuplicate, QueueRow,
    Reclaimed, Slot, Verdict,
};
use super::{Answer, Store, StoreError};
use crate::job::{JobId, Priority, Record, State};
use crate::time::{Clock, Micros};

/// A parameter, or a cell of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl From<Micros> for Value {
    fn from(value: Micros) -> Value {
        Value::Int(value.0)
    }
}

impl From<JobId> for Value {
    fn from(value: JobId) -> Value {
        Value::Int(value.0)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(Value::from($value)),*] };
}

/// A row of an answer, read from left to right.
pub(super) struct Row(pub(super) vec::IntoIter<Value>);

impl Row {
    fn int(&mut self) -> Result<i64, StoreError> {
        self.maybe_int()?.ok_or_else(|| wrong("a number", None))
    }

    fn maybe_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Value::Int(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            other => Err(wrong("a number", other)),
        }
    }

    fn text(&mut self) -> Result<String, StoreError> {
        self.maybe_text()?.ok_or_else(|| wrong("a text", None))
    }

    fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            other => Err(wrong("a text", other)),
        }
    }

    fn state(&mut self) -> Result<State, StoreError> {
        let word = self.text()?;
        word.parse().map_err(|_| StoreError::state(&word))
    }

    fn id(&mut self) -> Result<JobId, StoreError> {
        self.int().map(JobId)
    }

    fn count(&mut self) -> Result<u64, StoreError> {
        self.int().map(|count| u64::try_from(count).unwrap_or(0))
    }

    fn small(&mut self) -> Result<u32, StoreError> {
        self.int().map(|count| u32::try_from(count).unwrap_or(0))
    }
}

fn wrong(wanted: &'static str, found: Option<Value>) -> StoreError {
    let found = found.map_or("nothing".to_owned(), |value| format!("{value:?}"));
    StoreError::Row { wanted, found }
}

/// Runs one statement.
pub(super) trait Execute {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>>;
}

/// A database of its own: one statement is one transaction.
pub(super) trait Database: Execute + Send + Sync + fmt::Debug + 'static {
    /// Tells other workers to look.
    fn announce(&self);

    /// A number that moves when somebody else does.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A store on a database.
#[derive(Debug)]
pub(super) struct Sql<D> {
    pub(super) database: D,
    pub(super) clock: Clock,
}

/// At most so many jobs go in by one statement; SQLite takes 32,766 parameters.
const ROWS: usize = 1000;

/// Jobs due later than this are found by other workers' looking ahead; they need no telling.
const SOON: Duration = Duration::from_secs(60);

const COLUMNS_OF_NEW: &str =
    "kind, queue, payload, priority, run_at, created_at, key, schedule, slot";
const VALUES_OF_NEW: usize = 9;

fn insert(rows: usize) -> String {
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

fn values_of(job: &NewJob, slot: Option<&Slot>) -> Vec<Value> {
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

const REPLACE: &str = "\
update delayed_jobs
set kind = $2, queue = $3, payload = $4, priority = $5, run_at = $6, created_at = $7,
    attempt = 0, crashes = 0, progress = null, error = null
where key = $1 and state = 'pending'
returning id";

const LOSE_KEY: &str = "update delayed_jobs set key = null where key = $1 and state = 'running'";

const HAS_KEY: &str =
    "select id from delayed_jobs where key = $1 and state in ('pending', 'running')";

/// Takes in one job, perhaps inside somebody's transaction.
///
/// Between two of its statements others may free the key or take it; then it begins anew.
pub(super) async fn enqueue<E: Execute>(on: &E, job: &NewJob) -> Result<Enqueued, StoreError> {
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
            if let Some(mut row) = one(on, REPLACE, values).await? {
                return row.id().map(Enqueued::Replaced);
            }
            on.query(LOSE_KEY, values![key.key.as_str()]).await?;
        }
        if let Some(mut row) = one(on, &insert(1), values_of(job, None)).await? {
            return row.id().map(Enqueued::New);
        }
        let Some(key) = &job.key else { continue };
        if let Some(mut row) = one(on, HAS_KEY, values![key.key.as_str()]).await? {
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

async fn one<E: Execute>(on: &E, sql: &str, values: Vec<Value>) -> Result<Option<Row>, StoreError> {
    Ok(on.query(sql, values).await?.into_iter().next())
}

const AHEAD: &str = "\
select run_at, id from delayed_jobs
where state = 'pending' and queue = $1 and run_at > $2 and run_at <= $3
order by run_at limit $4";

/// One range of the index for each priority; the later ones are not looked at once the limit is met.
const CLAIM: &str = "\
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

const FINISH: &str = "\
update delayed_jobs
set state = $3, run_at = coalesce($4, run_at), error = coalesce($5, error), attempt = attempt - $6,
    finished_at = $7, worker = null, lease_until = null, cancel = 0
where id = $1 and claim = $2 and state = 'running'
returning id";

const ASKED_TO_CANCEL: &str =
    "select id from delayed_jobs where state = 'running' and worker = $1 and cancel = 1";

const RECLAIM: &str = "\
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

const NEXT_EXPIRY: &str =
    "select min(lease_until) from delayed_jobs where state = 'running' and worker <> $1";

const PROGRESS: &str = "\
update delayed_jobs set progress = $3 where id = $1 and claim = $2 and state = 'running' returning id";

const CANCEL: &str = "\
update delayed_jobs
set state = case when state = 'pending' then 'cancelled' else state end,
    cancel = case when state = 'running' then 1 else 0 end,
    finished_at = case when state = 'pending' then $2 else finished_at end
where id = $1 and state in ('pending', 'running')
returning state";

const RETRY: &str = "\
update delayed_jobs
set state = 'pending', run_at = $2, attempt = 0, crashes = 0, progress = null, finished_at = null
where id = $1 and state in ('pending', 'dead', 'cancelled')
returning state";

const STATE: &str = "select state from delayed_jobs where id = $1";

const COLUMNS: &str = "\
id, kind, queue, payload, priority, run_at, state, attempt, crashes, key, worker, lease_until, progress, \
error, created_at, started_at, finished_at";

fn record(mut row: Row) -> Result<Record, StoreError> {
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

fn list(filter: &Filter) -> (String, Vec<Value>) {
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

const PRUNE: &str = "\
delete from delayed_jobs where id in (
    select id from delayed_jobs
    where state in ('done', 'cancelled') and finished_at < $1
    order by finished_at limit $2
)
returning id";

/// Parameters of [`FINISH`] after the lease: state, time, error, tries taken back, end.
fn values_of_end(ended: Ended) -> Vec<Value> {
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

impl<D: Database> Sql<D> {
    async fn enqueue_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, StoreError> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        for chunk in jobs.chunk_by(|a, b| a.key.is_none() && b.key.is_none()) {
            match chunk {
                [job] => outcomes.push(enqueue(&self.database, job).await?),
                many => {
                    for rows in many.chunks(ROWS) {
                        let values = rows.iter().flat_map(|job| values_of(job, None)).collect();
                        let answer = self.database.query(&insert(rows.len()), values).await?;
                        let ids: Result<Vec<_>, _> =
                            answer.into_iter().map(|mut row| row.id()).collect();
                        // Ids are given in the order of the rows, which come back in any.
                        let mut ids = ids?;
                        ids.sort();
                        outcomes.extend(ids.into_iter().map(Enqueued::New));
                    }
                }
            }
        }
        let soon = self.clock.now().after(SOON);
        if jobs.iter().any(|job| job.run_at <= soon) {
            self.database.announce();
        }
        Ok(outcomes)
    }

    /// What the first row's first column says, or why there is no row.
    async fn ask(&self, sql: &str, id: JobId, now: Micros) -> Result<Asked, StoreError> {
        let answer = match one(&self.database, sql, values![id, now]).await {
            Err(error) if error.is_key_taken() => return Ok(Asked::KeyTaken),
            answer => answer?,
        };
        if let Some(mut row) = answer {
            self.database.announce();
            return row.state().map(Asked::Granted);
        }
        match one(&self.database, STATE, values![id]).await? {
            Some(mut row) => row.state().map(Asked::Refused),
            None => Ok(Asked::Unknown),
        }
    }

    async fn is_any(&self, sql: &str, values: Vec<Value>) -> Result<bool, StoreError> {
        Ok(one(&self.database, sql, values).await?.is_some())
    }

    async fn ids(&self, sql: &str, values: Vec<Value>) -> Result<Vec<JobId>, StoreError> {
        let rows = self.database.query(sql, values).await?;
        rows.into_iter().map(|mut row| row.id()).collect()
    }
}

impl<D: Database> Store for Sql<D> {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn enqueue(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Enqueued>> {
        Box::pin(self.enqueue_all(jobs))
    }

    fn ahead(
        &self,
        queue: &str,
        after: Micros,
        until: Micros,
        limit: usize,
    ) -> Answer<'_, Vec<(Micros, JobId)>> {
        let values = values![queue, after, until, limit as i64];
        Box::pin(async move {
            let rows = self.database.query(AHEAD, values).await?;
            let hint = |mut row: Row| Ok((row.int().map(Micros)?, row.id()?));
            rows.into_iter().map(hint).collect()
        })
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Vec<Claimed>> {
        Box::pin(async move {
            let Claim {
                worker,
                queue,
                limit,
                now,
                lease_until,
            } = claim;
            let values = values![worker, lease_until, now, queue, limit as i64];
            let rows = self.database.query(CLAIM, values).await?;
            let claimed = |mut row: Row| {
                let priority = row.int()?;
                let run_at = row.int().map(Micros)?;
                let lease = Lease {
                    id: row.id()?,
                    claim: row.int()?,
                };
                let claimed = Claimed {
                    lease,
                    kind: row.text()?,
                    payload: row.text()?,
                    attempt: row.small()?,
                    run_at,
                };
                Ok(((priority, run_at, lease.id), claimed))
            };
            let claimed: Result<Vec<_>, StoreError> = rows.into_iter().map(claimed).collect();
            let mut claimed = claimed?;
            claimed.sort_by_key(|(order, _)| *order);
            Ok(claimed.into_iter().map(|(_, claimed)| claimed).collect())
        })
    }

    fn finish(&self, ended: Ended) -> Answer<'_, bool> {
        Box::pin(self.is_any(FINISH, values_of_end(ended)))
    }

    fn renew(&self, leases: Vec<Lease>, until: Micros) -> Answer<'_, Vec<JobId>> {
        Box::pin(async move {
            if leases.is_empty() {
                return Ok(Vec::new());
            }
            let pairs: Vec<_> = leases
                .iter()
                .map(|lease| format!("({}, {})", lease.id, lease.claim))
                .collect();
            let sql = format!(
                "update delayed_jobs set lease_until = $1 where state = 'running' and (id, claim) in (values {}) \
                 returning id",
                pairs.join(", ")
            );
            self.ids(&sql, values![until]).await
        })
    }

    fn asked_to_cancel(&self, worker: &str) -> Answer<'_, Vec<JobId>> {
        let values = values![worker];
        Box::pin(async move { self.ids(ASKED_TO_CANCEL, values).await })
    }

    fn reclaim(&self, now: Micros, crashes: u32) -> Answer<'_, Vec<Reclaimed>> {
        Box::pin(async move {
            let values = values![now, i64::from(crashes)];
            let rows = self.database.query(RECLAIM, values).await?;
            let reclaimed = |mut row: Row| {
                Ok(Reclaimed {
                    id: row.id()?,
                    queue: row.text()?,
                    state: row.state()?,
                })
            };
            rows.into_iter().map(reclaimed).collect()
        })
    }

    fn next_expiry(&self, worker: &str) -> Answer<'_, Option<Micros>> {
        let values = values![worker];
        Box::pin(async move {
            match one(&self.database, NEXT_EXPIRY, values).await? {
                Some(mut row) => Ok(row.maybe_int()?.map(Micros)),
                None => Ok(None),
            }
        })
    }

    fn progress(&self, lease: Lease, percent: u8) -> Answer<'_, bool> {
        let values = values![lease.id, lease.claim, i64::from(percent)];
        Box::pin(self.is_any(PROGRESS, values))
    }

    fn cancel(&self, id: JobId, now: Micros) -> Answer<'_, Asked> {
        Box::pin(self.ask(CANCEL, id, now))
    }

    fn retry(&self, id: JobId, now: Micros) -> Answer<'_, Asked> {
        Box::pin(self.ask(RETRY, id, now))
    }

    fn get(&self, id: JobId) -> Answer<'_, Option<Record>> {
        Box::pin(async move {
            let sql = format!("select {COLUMNS} from delayed_jobs where id = $1");
            one(&self.database, &sql, values![id])
                .await?
                .map(record)
                .transpose()
        })
    }

    fn list(&self, filter: Filter) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            let (sql, values) = list(&filter);
            let rows = self.database.query(&sql, values).await?;
            rows.into_iter().map(record).collect()
        })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let sql = "select state, count(*) from delayed_jobs group by state";
            let mut counts = Counts::default();
            for mut row in self.database.query(sql, Vec::new()).await? {
                let state = row.state()?;
                *counts.of(state) = row.count()?;
            }
            Ok(counts)
        })
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRow>> {
        Box::pin(async move {
            let sql = "\
                select name, cast(max(paused) as bigint), cast(sum(unfinished) as bigint) from (
                    select queue as name, 0 as paused, count(*) as unfinished from delayed_jobs
                    where state in ('pending', 'running') group by queue
                    union all
                    select queue, 1, 0 from delayed_jobs_paused
                ) as both_kinds
                group by name order by name";
            let rows = self.database.query(sql, Vec::new()).await?;
            let queue = |mut row: Row| {
                Ok(QueueRow {
                    name: row.text()?,
                    paused: row.int()? == 1,
                    unfinished: row.count()?,
                })
            };
            rows.into_iter().map(queue).collect()
        })
    }

    fn pause(&self, queue: &str) -> Answer<'_, ()> {
        let values = values![queue];
        Box::pin(async move {
            let sql = "insert into delayed_jobs_paused (queue) values ($1) on conflict do nothing";
            self.database.query(sql, values).await?;
            Ok(())
        })
    }

    fn resume(&self, queue: &str) -> Answer<'_, ()> {
        let values = values![queue];
        Box::pin(async move {
            let sql = "delete from delayed_jobs_paused where queue = $1";
            self.database.query(sql, values).await?;
            self.database.announce();
            Ok(())
        })
    }

    fn fill_slot(&self, slot: Slot) -> Answer<'_, bool> {
        Box::pin(async move {
            let values = values_of(&slot.job, Some(&slot));
            self.is_any(&insert(1), values).await
        })
    }

    fn prune(&self, before: Micros, limit: usize) -> Answer<'_, u64> {
        Box::pin(async move {
            let values = values![before, limit as i64];
            Ok(self.database.query(PRUNE, values).await?.len() as u64)
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.database.changes()
    }
}
