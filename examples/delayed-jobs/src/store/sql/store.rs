//! The store, statement by statement.

use std::time::Duration;

use tokio::sync::watch;

use super::super::types::{
    Asked, Claim, Claimed, Counts, Ended, Enqueued, Filter, Lease, NewJob, QueueRow, Reclaimed,
    Slot,
};
use super::super::{Answer, Store, StoreError};
use super::enqueue::enqueue;
use super::execute::{Database, one};
use super::text::{
    AHEAD, ASKED_TO_CANCEL, CANCEL, CLAIM, COLUMNS, FINISH, NEXT_EXPIRY, PROGRESS, PRUNE, RECLAIM,
    RETRY, STATE, insert, list, record, values_of, values_of_end,
};
use super::value::{Row, Value, values};
use crate::job::{JobId, Record};
use crate::time::{Clock, Micros};

/// A store on a database.
#[derive(Debug)]
pub(in crate::store) struct Sql<D> {
    pub(in crate::store) database: D,
    pub(in crate::store) clock: Clock,
}

/// At most this many jobs go in by one statement; SQLite takes 32,766 parameters.
const ROWS: usize = 1000;

/// Jobs due later than this are found by other workers' looking ahead; they need no telling.
const SOON: Duration = Duration::from_secs(60);

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
