//! The store on SQLite or Postgres.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::super::types::{
    Asked, Change, Claim, Claimed, Counts, Ended, Enqueued, Filter, Found, Lease, Lot, NewJob,
    QueueRow, Reclaimed, ScheduleRow, ScheduleSpec, Search, Slot, Suspects, Verdict, WorkerRow,
};
use super::super::{Answer, Store, StoreError};
use super::execute::{Database, Purpose, Text, one};
use super::filter::{self, COLUMNS, record};
use super::limit;
use super::look;
use super::text::{
    AHEAD, ASKED_TO_CANCEL, CANCEL, CLAIM, CLAIM_ALONE, DECLARE, DROP_PAUSED, DROP_PENDING,
    DROP_SLOTS, FILL_SLOT, HELD_BY, LAST_SLOT, LOCK_SCHEDULE, NEEDS_SLOT, NEXT_EXPIRY,
    NEXT_SUSPECT, PAUSE, PAUSE_SCHEDULE, PROGRESS, RECLAIM, REMEMBER_SLOT, RENEW, RESUME, RETRY,
    RUN_SCHEDULE, SHARE, STATE, values_of_end, values_of_slot,
};
use super::transaction::enqueue;
use super::value::{Row, Value, values};
use crate::job::{Cursor, JobId, Priority, Record};
use crate::limit::Limit;
use crate::time::{Clock, Micros};

/// A store on a database.
#[cfg_attr(
    not(feature = "sqlite"),
    allow(unreachable_pub, reason = "only the store in memory has a public name")
)]
#[derive(Debug)]
pub struct Sql<D> {
    pub(in crate::store) database: D,
}

/// The delay until the next look at a queue that has reached its limits, if it is not known when a job may start.
const HELD_BACK: Duration = Duration::from_millis(100);

/// Jobs that are pending again, and due later than this, need no notification: every worker looks before they are due. Most
/// retries are due within a minute.
const SOON_AGAIN: Duration = Duration::from_secs(5);

/// Returns whether other workers are to be notified of a job that is pending again. Its own worker may have no slot for it
/// when it is due, or may be shutting down.
fn is_soon_again(ended: &Ended) -> bool {
    match ended.verdict {
        Verdict::Retry { at, .. } | Verdict::Snoozed { at } => at <= ended.at.after(SOON_AGAIN),
        Verdict::Released => true,
        Verdict::Done { .. } | Verdict::Dead { .. } | Verdict::Cancelled => false,
    }
}

#[allow(private_bounds, reason = "none of these methods is public")]
impl<D: Database> Sql<D> {
    async fn write(
        &self,
        sql: impl Into<Text>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.database.query(Purpose::Write, sql, values).await
    }

    /// Returns the answer in the first column of the first row, or the reason why there is no row.
    async fn ask(&self, sql: &'static str, id: JobId, now: Micros) -> Result<Asked, StoreError> {
        let answer = match one(&self.database, Purpose::Write, sql, values![id, now]).await {
            Err(error) if error.is_key_taken() => return Ok(Asked::KeyTaken),
            answer => answer?,
        };
        let state = |mut row: Row| row.state().map_err(|error| error.of_job(id));
        if let Some(row) = answer {
            return state(row).map(Asked::Granted);
        }
        match one(&self.database, Purpose::Read, STATE, values![id]).await? {
            Some(row) => state(row).map(Asked::Refused),
            None => Ok(Asked::Unknown),
        }
    }

    /// Returns the time in the first column of the first row.
    async fn time(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Micros>, StoreError> {
        match one(&self.database, Purpose::Read, sql, values).await? {
            Some(mut row) => Ok(row.maybe_int()?.map(Micros)),
            None => Ok(None),
        }
    }

    async fn is_any(&self, sql: &'static str, values: Vec<Value>) -> Result<bool, StoreError> {
        Ok(!self.write(sql, values).await?.is_empty())
    }
}

/// Reads the jobs of a claim, in the order in which it chose them.
fn claimed(
    rows: Vec<Row>,
    ageing: Option<Duration>,
    purpose: Purpose,
) -> Result<Vec<Claimed>, StoreError> {
    let step = ageing.map_or(i128::MAX >> 2, |step| step.as_micros() as i128);
    let claimed = |mut row: Row| {
        let priority = Priority::from_rank(row.int()?);
        let run_at = row.int().map(Micros)?;
        let lease = row.lease()?;
        let claimed = Claimed {
            lease,
            priority,
            kind: row.text()?,
            payload: row.text()?,
            attempt: row.small()?,
            run_at,
            attempts: row.maybe_small()?,
            timeout: row.maybe_time()?,
            relaxed: purpose == Purpose::Relaxed,
        };
        let turn = i128::from(run_at.0) + i128::from(priority.rank()) * step;
        Ok(((turn, lease.id), claimed))
    };
    let claimed: Result<Vec<_>, StoreError> = rows.into_iter().map(claimed).collect();
    let mut claimed = claimed?;
    claimed.sort_by_key(|(order, _)| *order);
    Ok(claimed.into_iter().map(|(_, claimed)| claimed).collect())
}

fn ids(rows: Vec<Row>) -> Result<Vec<JobId>, StoreError> {
    rows.into_iter().map(|mut row| row.id()).collect()
}

impl<D: Database> Store for Sql<D> {
    fn clock(&self) -> Clock {
        self.database.clock()
    }

    fn set_clock(&self) -> Answer<'_, i64> {
        self.database.set_clock()
    }

    fn apart(&self) -> Option<Arc<dyn Store>> {
        let database = self.database.apart()?;
        Some(Arc::new(Sql { database }))
    }

    fn schema(&self) -> Option<&str> {
        self.database.schema()
    }

    fn enqueue(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Enqueued>> {
        Box::pin(async move {
            let now = self.clock().now();
            let purpose = |queue: &str| self.database.purpose(queue);
            enqueue(&self.database, &jobs, now, purpose).await
        })
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
            let rows = self.database.query(Purpose::Read, AHEAD, values).await?;
            let hint = |mut row: Row| Ok((row.int().map(Micros)?, row.id()?));
            rows.into_iter().map(hint).collect()
        })
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Lot> {
        Box::pin(async move {
            let purpose = self.database.purpose(&claim.queue);
            let (sql, alone, crashes) = match claim.suspects {
                Suspects::Without(crashes) => (CLAIM, false, crashes),
                Suspects::Alone(crashes) => (CLAIM_ALONE, true, crashes),
            };
            let mut values = values![
                claim.worker.as_str(),
                claim.lease_until,
                claim.now,
                claim.queue.as_str(),
                claim.limit.min(i32::MAX as usize) as i64,
                claim.kinds.as_slice(),
                i64::from(crashes),
            ];
            if !claim.limited && claim.ageing.is_none() {
                if !alone {
                    values.extend(claim.from.map(Value::from));
                }
                let rows = self.database.query(purpose, sql, values).await?;
                let jobs = claimed(rows, None, purpose)?;
                return Ok(Lot { jobs, again: None });
            }
            let steps = limit::steps(&claim, alone, values);
            let mut rows = self.database.steps(steps).await?;
            let left = rows.pop().and_then(|rows| rows.into_iter().next());
            let jobs = claimed(rows.swap_remove(1), claim.ageing, purpose)?;
            let again = match left {
                Some(mut next) if jobs.len() < claim.limit => {
                    let now = claim.now;
                    let (next, of_a_key) = (Micros(next.int()?), Micros(next.int()?));
                    // The next claim may take some of the jobs that were left, since jobs of one key may have hidden
                    // those of another.
                    let (soon, latest) = (now.after(HELD_BACK / 20), now.after(HELD_BACK));
                    Some(match next > now {
                        true => next,
                        false if jobs.is_empty() => of_a_key.clamp(soon, latest),
                        false => soon,
                    })
                }
                _ => None,
            };
            Ok(Lot { jobs, again })
        })
    }

    fn finish(&self, ended: Ended) -> Answer<'_, bool> {
        let purpose = match ended.relaxed {
            true => Purpose::Relaxed,
            false => Purpose::Write,
        };
        let soon = is_soon_again(&ended);
        self.database.finish(values_of_end(ended), purpose, soon)
    }

    fn renew(&self, leases: Vec<Lease>, until: Micros) -> Answer<'_, Vec<JobId>> {
        Box::pin(async move {
            if leases.is_empty() {
                return Ok(Vec::new());
            }
            let pairs: Vec<_> = leases
                .iter()
                .map(|lease| [lease.id.0, lease.claim])
                .collect();
            let pairs = serde_json::to_string(&pairs).unwrap_or_default();
            ids(self.write(RENEW, values![until, pairs]).await?)
        })
    }

    fn held_by(&self, worker: &str) -> Answer<'_, Vec<Lease>> {
        let values = values![worker];
        Box::pin(async move {
            // It waits behind the claims of this worker that are still under way.
            let rows = self.write(HELD_BY, values).await?;
            rows.into_iter().map(|mut row| row.lease()).collect()
        })
    }

    fn asked_to_cancel(&self, worker: &str) -> Answer<'_, Vec<JobId>> {
        let values = values![worker];
        Box::pin(async move {
            let asked = self.database.query(Purpose::Read, ASKED_TO_CANCEL, values);
            ids(asked.await?)
        })
    }

    fn reclaim(&self, now: Micros, crashes: u32) -> Answer<'_, Vec<Reclaimed>> {
        Box::pin(async move {
            let rows = self
                .write(RECLAIM, values![now, i64::from(crashes)])
                .await?;
            let reclaimed = |mut row: Row| {
                Ok(Reclaimed {
                    id: row.id()?,
                    state: row.state()?,
                })
            };
            rows.into_iter().map(reclaimed).collect()
        })
    }

    fn next_suspect(
        &self,
        queues: &[String],
        kinds: &[String],
        crashes: u32,
    ) -> Answer<'_, Option<(Micros, String)>> {
        let values = values![queues, kinds, i64::from(crashes)];
        Box::pin(async move {
            let first = one(&self.database, Purpose::Read, NEXT_SUSPECT, values).await?;
            let suspect = |mut row: Row| Ok((row.int().map(Micros)?, row.text()?));
            first.map(suspect).transpose()
        })
    }

    fn share(&self, lease: Lease) -> Answer<'_, bool> {
        Box::pin(self.is_any(SHARE, values![lease.id, lease.claim]))
    }

    fn next_expiry(&self, worker: &str) -> Answer<'_, Option<Micros>> {
        let values = values![worker];
        Box::pin(self.time(NEXT_EXPIRY, values))
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
            one(&self.database, Purpose::Look, sql, values![id])
                .await?
                .map(record)
                .transpose()
        })
    }

    fn list(&self, filter: Filter) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            let (sql, values) = filter::list(&filter);
            let rows = self.database.query(Purpose::Look, sql, values).await?;
            rows.into_iter().map(record).collect()
        })
    }

    fn search(&self, mut search: Search) -> Answer<'_, Found> {
        // Both maximums are at least one, so that each search gets further.
        search.most = search.most.max(1);
        search.filter.limit = search.filter.limit.max(1);
        Box::pin(async move {
            let (sql, values) = filter::search(&search);
            let rows = self.database.query(Purpose::Look, sql, values).await?;
            let (mut jobs, mut next) = (Vec::new(), None);
            for mut row in rows {
                // A job of any age may have been replaced since, so the search goes on to the last one.
                let last = row.maybe_int()?.zip(row.maybe_int()?);
                next = last.map(|(run_at, id)| Cursor {
                    run_at: Micros(run_at),
                    id: JobId(id),
                });
                if row.maybe_int()?.is_some() {
                    jobs.push(record(row)?);
                }
            }
            if jobs.len() >= search.filter.limit {
                next = jobs.last().map(Record::cursor);
            }
            Ok(Found { jobs, next })
        })
    }

    fn count(&self, filter: Filter) -> Answer<'_, u64> {
        Box::pin(async move {
            let (sql, values) = filter::count(&filter);
            match one(&self.database, Purpose::Look, sql, values).await? {
                Some(mut row) => row.count(),
                None => Ok(0),
            }
        })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let mut counts = Counts::default();
            let rows = self.database.query(Purpose::Look, look::COUNTS, Vec::new());
            for mut row in rows.await? {
                // An unknown state, written by a newer program or by hand, is left out.
                if let Ok(state) = row.state() {
                    *counts.of(state) = row.count()?;
                }
            }
            Ok(counts)
        })
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRow>> {
        Box::pin(async move {
            let rows = self.database.query(Purpose::Look, look::QUEUES, Vec::new());
            let queue = |mut row: Row| {
                Ok(QueueRow {
                    name: row.text()?,
                    paused: row.int()? == 1,
                    unfinished: row.count()?,
                })
            };
            rows.await?.into_iter().map(queue).collect()
        })
    }

    fn beat(&self, worker: WorkerRow, now: Micros) -> Answer<'_, ()> {
        let steps = vec![
            (look::BEAT, look::values_of(&worker)),
            (look::FORGET, values![now]),
        ];
        Box::pin(async move { self.database.steps(steps).await.map(drop) })
    }

    fn leave(&self, worker: &str) -> Answer<'_, ()> {
        let values = values![worker];
        Box::pin(async move { self.write(look::LEAVE, values).await.map(drop) })
    }

    fn workers(&self, now: Micros) -> Answer<'_, Vec<WorkerRow>> {
        let values = values![now];
        Box::pin(async move {
            let rows = self.database.query(Purpose::Look, look::WORKERS, values);
            rows.await?.into_iter().map(look::worker).collect()
        })
    }

    fn schedules(&self) -> Answer<'_, Vec<ScheduleRow>> {
        Box::pin(async move {
            let rows = self
                .database
                .query(Purpose::Look, look::SCHEDULES, Vec::new());
            rows.await?.into_iter().map(look::schedule).collect()
        })
    }

    fn pause(&self, queue: &str) -> Answer<'_, ()> {
        let values = values![queue];
        Box::pin(async move { self.write(PAUSE, values).await.map(drop) })
    }

    fn resume(&self, queue: &str) -> Answer<'_, ()> {
        let values = values![queue];
        Box::pin(async move { self.write(RESUME, values).await.map(drop) })
    }

    fn set_limit(&self, queue: &str, limit: Limit) -> Answer<'_, ()> {
        let steps = limit::set(queue, &limit, self.clock().now());
        Box::pin(async move { self.database.steps(steps).await.map(drop) })
    }

    fn limits(&self) -> Answer<'_, Vec<(String, Limit)>> {
        Box::pin(async move {
            let rows = self.database.query(Purpose::Read, limit::LIST, Vec::new());
            rows.await?.into_iter().map(limit::limit).collect()
        })
    }

    fn declare(&self, schedule: ScheduleSpec) -> Answer<'_, ()> {
        Box::pin(async move {
            let (name, spec) = (schedule.name.as_str(), schedule.spec.as_str());
            let lock = (LOCK_SCHEDULE, values![name]);
            let drop_pending = (DROP_PENDING, values![name, spec]);
            let values = values![name, spec, schedule.kind, schedule.queue, schedule.payload];
            let steps = vec![lock, drop_pending, (DECLARE, values)];
            self.database.steps(steps).await.map(drop)
        })
    }

    fn pause_schedule(&self, schedule: &str, paused: bool) -> Answer<'_, bool> {
        let steps = vec![
            (PAUSE_SCHEDULE, values![schedule, i64::from(paused)]),
            (DROP_PAUSED, values![schedule]),
        ];
        Box::pin(async move {
            let rows = self.database.steps(steps).await?;
            Ok(rows.first().is_some_and(|paused| !paused.is_empty()))
        })
    }

    fn run_schedule(&self, schedule: &str, now: Micros) -> Answer<'_, Option<(JobId, String)>> {
        let values = values![schedule, Priority::default().rank(), now];
        Box::pin(async move {
            let made = one(&self.database, Purpose::Write, RUN_SCHEDULE, values).await?;
            made.map(|mut row| Ok((row.id()?, row.text()?))).transpose()
        })
    }

    fn last_slot(&self, schedule: &str) -> Answer<'_, Option<Micros>> {
        let values = values![schedule];
        Box::pin(self.time(LAST_SLOT, values))
    }

    fn fill_slot(&self, slot: Slot) -> Answer<'_, bool> {
        Box::pin(async move {
            let (name, spec) = (slot.schedule.as_str(), slot.spec.as_str());
            let this = values![name, spec, slot.slot];
            let needs = one(&self.database, Purpose::Read, NEEDS_SLOT, this.clone());
            if needs.await?.is_none() {
                return Ok(false);
            }
            let others = values![name, spec, slot.earliest, slot.latest];
            let steps = vec![
                (LOCK_SCHEDULE, values![name]),
                (DROP_SLOTS, others),
                (FILL_SLOT, values_of_slot(&slot)),
                (REMEMBER_SLOT, this),
            ];
            let rows = self.database.steps(steps).await?;
            Ok(rows.get(2).is_some_and(|filled| !filled.is_empty()))
        })
    }

    fn change(&self, change: Change, mut filter: Filter, now: Micros) -> Answer<'_, Vec<JobId>> {
        Box::pin(async move {
            let mut changed = Vec::new();
            for states in filter::states(change, &filter) {
                let (sql, values) = filter::change(change, &filter, &states, now);
                let mut tries = 0;
                let found = loop {
                    match self.write(sql.clone(), values.clone()).await {
                        // A job that was enqueued meanwhile holds the key of one of the jobs, so this tries again.
                        Err(error) if error.is_key_taken() && tries < 10 => tries += 1,
                        found => break ids(found?)?,
                    }
                };
                filter.limit = filter.limit.saturating_sub(found.len());
                changed.extend(found);
            }
            Ok(changed)
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.database.changes()
    }
}
