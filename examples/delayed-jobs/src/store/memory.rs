//! Jobs in memory, for tests: no database, no thread, and tokio's clock, which may be paused.
//!
//! It says in plain loops what the databases say in SQL, and passes the same tests.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::types::{
    Asked, Claim, Claimed, Counts, Ended, Enqueued, Filter, Lease, NewJob, OnDuplicate, QueueRow,
    Reclaimed, ScheduleSpec, Slot, Suspects, Verdict,
};
use super::{Answer, Store};
use crate::job::{JobId, Record, State};
use crate::time::{Clock, Micros};

/// A store in memory, which ends with the program.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    last: i64,
    rows: BTreeMap<JobId, Row>,
    paused: BTreeSet<String>,
    /// What each schedule is, and the slot that it filled last.
    schedules: BTreeMap<String, (String, Option<Micros>)>,
}

#[derive(Debug)]
struct Row {
    record: Record,
    claim: i64,
    cancel: bool,
    alone: bool,
    slot: Option<(String, Micros)>,
}

impl MemoryStore {
    /// Creates an empty store, on tokio's clock.
    pub fn new() -> MemoryStore {
        MemoryStore {
            clock: Clock::tokio(),
            table: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

fn now<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(ready(Ok(value)))
}

impl Table {
    fn running_of<'a>(&'a self, worker: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.values().filter(move |row| {
            row.record.state == State::Running && row.record.worker.as_deref() == Some(worker)
        })
    }

    fn holder(&self, key: &str) -> Option<JobId> {
        let unfinished = |row: &&Row| matches!(row.record.state, State::Pending | State::Running);
        let mut holders = self.rows.values().filter(unfinished);
        let holder = holders.find(|row| row.record.key.as_deref() == Some(key))?;
        Some(holder.record.id)
    }

    fn insert(&mut self, job: NewJob, slot: Option<(String, Micros)>) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        let record = Record {
            id,
            kind: job.kind,
            queue: job.queue,
            payload: job.payload,
            priority: job.priority,
            run_at: job.run_at,
            state: State::Pending,
            attempt: 0,
            crashes: 0,
            key: job.key.map(|key| key.key),
            worker: None,
            lease_until: None,
            progress: None,
            error: None,
            created_at: job.created_at,
            started_at: None,
            finished_at: None,
        };
        let row = Row {
            record,
            claim: 0,
            cancel: false,
            alone: false,
            slot,
        };
        self.rows.insert(id, row);
        id
    }

    fn enqueue(&mut self, job: NewJob) -> Enqueued {
        let Some(key) = &job.key else {
            return Enqueued::New(self.insert(job, None));
        };
        let holder = self.holder(&key.key);
        match (
            holder.and_then(|id| self.rows.get_mut(&id)),
            key.on_duplicate,
        ) {
            (None, _) => Enqueued::New(self.insert(job, None)),
            (Some(row), OnDuplicate::Reject) => Enqueued::Refused(row.record.id),
            (Some(row), OnDuplicate::Keep) => Enqueued::Kept(row.record.id),
            (Some(row), OnDuplicate::Replace) if row.record.state == State::Running => {
                row.record.key = None;
                Enqueued::New(self.insert(job, None))
            }
            (Some(row), OnDuplicate::Replace) => {
                let record = &mut row.record;
                (record.attempt, record.crashes) = (0, 0);
                (record.progress, record.error) = (None, None);
                record.kind = job.kind;
                record.queue = job.queue;
                record.payload = job.payload;
                record.priority = job.priority;
                record.run_at = job.run_at;
                record.created_at = job.created_at;
                Enqueued::Replaced(record.id)
            }
        }
    }

    fn claim(&mut self, claim: Claim) -> Vec<Claimed> {
        if self.paused.contains(&claim.queue) {
            return Vec::new();
        }
        let due = |row: &&mut Row| {
            let record = &row.record;
            record.state == State::Pending
                && record.queue == claim.queue
                && record.run_at <= claim.now
                && claim.kinds.contains(&record.kind)
                && match claim.suspects {
                    Suspects::Without(crashes) => record.crashes < crashes,
                    Suspects::Alone(crashes) => record.crashes >= crashes.max(1),
                }
        };
        let alone = matches!(claim.suspects, Suspects::Alone(_));
        let mut due: Vec<_> = self.rows.values_mut().filter(due).collect();
        due.sort_by_key(|row| (row.record.priority, row.record.run_at, row.record.id));
        let lease = |row: &mut Row| {
            let record = &mut row.record;
            row.claim += 1;
            row.alone = alone;
            record.attempt += 1;
            record.state = State::Running;
            record.worker = Some(claim.worker.clone());
            record.lease_until = Some(claim.lease_until);
            record.started_at = Some(claim.now);
            record.progress = None;
            Claimed {
                lease: Lease {
                    id: record.id,
                    claim: row.claim,
                },
                kind: record.kind.clone(),
                payload: record.payload.clone(),
                attempt: record.attempt,
                run_at: record.run_at,
            }
        };
        due.into_iter().take(claim.limit).map(lease).collect()
    }

    fn held(&mut self, lease: Lease) -> Option<&mut Row> {
        let row = self.rows.get_mut(&lease.id)?;
        (row.claim == lease.claim && row.record.state == State::Running).then_some(row)
    }

    fn finish(&mut self, ended: Ended) -> bool {
        let Some(row) = self.held(ended.lease) else {
            return false;
        };
        let record = &mut row.record;
        let verdict = match ended.verdict {
            Verdict::Done => Verdict::Done,
            Verdict::Retry { error, .. } | Verdict::Dead { error } if row.cancel => {
                record.error = Some(error);
                Verdict::Cancelled
            }
            _ if row.cancel => Verdict::Cancelled,
            verdict => verdict,
        };
        record.state = match verdict {
            Verdict::Done => State::Done,
            Verdict::Cancelled => State::Cancelled,
            Verdict::Dead { error } => {
                record.error = Some(error);
                State::Dead
            }
            Verdict::Retry { at, error } => {
                (record.run_at, record.error) = (at, Some(error));
                record.crashes = 0;
                State::Pending
            }
            Verdict::Snoozed { at } => {
                record.run_at = at;
                record.attempt -= 1;
                State::Pending
            }
            Verdict::Released => {
                record.attempt -= 1;
                State::Pending
            }
        };
        record.finished_at = (record.state != State::Pending).then_some(ended.at);
        (record.worker, record.lease_until) = (None, None);
        (row.cancel, row.alone) = (false, false);
        true
    }

    fn reclaim(&mut self, now: Micros, crashes: u32) -> Vec<Reclaimed> {
        let running = |row: &&mut Row| row.record.state == State::Running;
        let expired = |row: &&mut Row| row.record.lease_until.is_some_and(|until| until <= now);
        let mut reclaimed = Vec::new();
        for row in self.rows.values_mut().filter(running).filter(expired) {
            let record = &mut row.record;
            if record.crashes > 0 {
                let wait = 1 << (record.crashes - 1).min(6);
                record.run_at = now.after(Duration::from_secs(wait.min(60)));
            }
            record.crashes += 1;
            record.attempt -= 1;
            (record.worker, record.lease_until) = (None, None);
            record.state = if row.cancel {
                State::Cancelled
            } else if row.alone && record.crashes >= crashes {
                let crashes = record.crashes;
                record.error = Some(format!("its worker was lost {crashes} times while it ran"));
                State::Dead
            } else {
                State::Pending
            };
            record.finished_at = (record.state != State::Pending).then_some(now);
            (row.cancel, row.alone) = (false, false);
            reclaimed.push(Reclaimed {
                id: record.id,
                queue: record.queue.clone(),
                state: record.state,
            });
        }
        reclaimed
    }

    fn cancel(&mut self, id: JobId, now: Micros) -> Asked {
        let Some(row) = self.rows.get_mut(&id) else {
            return Asked::Unknown;
        };
        match row.record.state {
            State::Pending => {
                row.record.state = State::Cancelled;
                row.record.finished_at = Some(now);
            }
            State::Running => row.cancel = true,
            other => return Asked::Refused(other),
        }
        Asked::Granted(row.record.state)
    }

    fn retry(&mut self, id: JobId, now: Micros) -> Asked {
        let Some(row) = self.rows.get(&id) else {
            return Asked::Unknown;
        };
        if matches!(row.record.state, State::Running | State::Done) {
            return Asked::Refused(row.record.state);
        }
        let holder = row.record.key.as_deref().and_then(|key| self.holder(key));
        if holder.is_some_and(|holder| holder != id) {
            return Asked::KeyTaken;
        }
        if let Some(Row { record, .. }) = self.rows.get_mut(&id) {
            record.state = State::Pending;
            record.run_at = now;
            (record.attempt, record.crashes) = (0, 0);
            (record.progress, record.finished_at) = (None, None);
        }
        Asked::Granted(State::Pending)
    }

    fn list(&self, filter: &Filter) -> Vec<Record> {
        let records = self.rows.values().map(|row| &row.record);
        let matches = |wanted: &Option<String>, found: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let mut found: Vec<_> = records
            .filter(|record| filter.state.is_none_or(|state| record.state == state))
            .filter(|record| matches(&filter.queue, &record.queue))
            .filter(|record| matches(&filter.kind, &record.kind))
            .collect();
        match filter.state {
            Some(State::Pending) => found.sort_by_key(|record| (record.run_at, record.id)),
            _ => found.reverse(),
        }
        found.into_iter().take(filter.limit).cloned().collect()
    }

    fn prune(&mut self, before: Micros, limit: usize) -> u64 {
        let ended = |row: &&Row| {
            let record = &row.record;
            matches!(record.state, State::Done | State::Cancelled)
                && record.finished_at.is_some_and(|at| at < before)
        };
        let old = self.rows.values().filter(ended);
        let mut old: Vec<_> = old
            .map(|row| (row.record.finished_at, row.record.id))
            .collect();
        old.sort();
        old.truncate(limit);
        for (_, id) in &old {
            self.rows.remove(id);
        }
        old.len() as u64
    }

    fn queues(&self) -> Vec<QueueRow> {
        let mut unfinished: BTreeMap<&str, u64> = BTreeMap::new();
        for queue in &self.paused {
            unfinished.entry(queue).or_default();
        }
        for Row { record, .. } in self.rows.values() {
            if matches!(record.state, State::Pending | State::Running) {
                *unfinished.entry(&record.queue).or_default() += 1;
            }
        }
        let row = |(name, unfinished): (&str, u64)| QueueRow {
            name: name.to_owned(),
            paused: self.paused.contains(name),
            unfinished,
        };
        unfinished.into_iter().map(row).collect()
    }
}

impl Store for MemoryStore {
    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn enqueue(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Enqueued>> {
        let mut table = self.table();
        let outcomes = jobs.into_iter().map(|job| table.enqueue(job)).collect();
        drop(table);
        self.tell();
        now(outcomes)
    }

    fn ahead(
        &self,
        queue: &str,
        after: Micros,
        until: Micros,
        limit: usize,
    ) -> Answer<'_, Vec<(Micros, JobId)>> {
        let table = self.table();
        let records = table.rows.values().map(|row| &row.record);
        let ours = records.filter(|record| record.queue == queue && record.state == State::Pending);
        let ours = ours.filter(|record| after < record.run_at && record.run_at <= until);
        let mut hints: Vec<_> = ours.map(|record| (record.run_at, record.id)).collect();
        hints.sort();
        hints.truncate(limit);
        now(hints)
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Vec<Claimed>> {
        now(self.table().claim(claim))
    }

    fn finish(&self, ended: Ended) -> Answer<'_, bool> {
        let ended = self.table().finish(ended);
        self.tell();
        now(ended)
    }

    fn renew(&self, leases: Vec<Lease>, until: Micros) -> Answer<'_, Vec<JobId>> {
        let mut table = self.table();
        let renew = |lease: Lease| {
            table.held(lease)?.record.lease_until = Some(until);
            Some(lease.id)
        };
        now(leases.into_iter().filter_map(renew).collect())
    }

    fn held_by(&self, worker: &str) -> Answer<'_, Vec<Lease>> {
        let table = self.table();
        let ours = table.running_of(worker);
        let lease = |row: &Row| Lease {
            id: row.record.id,
            claim: row.claim,
        };
        now(ours.map(lease).collect())
    }

    fn next_suspect(
        &self,
        queues: &[String],
        kinds: &[String],
        crashes: u32,
    ) -> Answer<'_, Option<(Micros, String)>> {
        let table = self.table();
        let records = table.rows.values().map(|row| &row.record);
        let suspects = records.filter(|record| {
            record.state == State::Pending
                && record.crashes >= crashes.max(1)
                && queues.contains(&record.queue)
                && kinds.contains(&record.kind)
                && !table.paused.contains(&record.queue)
        });
        let first = suspects.min_by_key(|record| record.run_at);
        now(first.map(|record| (record.run_at, record.queue.clone())))
    }

    fn asked_to_cancel(&self, worker: &str) -> Answer<'_, Vec<JobId>> {
        let table = self.table();
        let ours = table.running_of(worker);
        now(ours
            .filter(|row| row.cancel)
            .map(|row| row.record.id)
            .collect())
    }

    fn reclaim(&self, at: Micros, crashes: u32) -> Answer<'_, Vec<Reclaimed>> {
        now(self.table().reclaim(at, crashes))
    }

    fn next_expiry(&self, worker: &str) -> Answer<'_, Option<Micros>> {
        let table = self.table();
        let records = table.rows.values().map(|row| &row.record);
        let others = records.filter(|record| record.worker.as_deref().is_some_and(|w| w != worker));
        now(others.filter_map(|record| record.lease_until).min())
    }

    fn progress(&self, lease: Lease, percent: u8) -> Answer<'_, bool> {
        let mut table = self.table();
        let held = table.held(lease);
        now(held
            .map(|row| row.record.progress = Some(percent))
            .is_some())
    }

    fn cancel(&self, id: JobId, at: Micros) -> Answer<'_, Asked> {
        let asked = self.table().cancel(id, at);
        self.tell();
        now(asked)
    }

    fn retry(&self, id: JobId, at: Micros) -> Answer<'_, Asked> {
        let asked = self.table().retry(id, at);
        self.tell();
        now(asked)
    }

    fn get(&self, id: JobId) -> Answer<'_, Option<Record>> {
        now(self.table().rows.get(&id).map(|row| row.record.clone()))
    }

    fn list(&self, filter: Filter) -> Answer<'_, Vec<Record>> {
        now(self.table().list(&filter))
    }

    fn counts(&self) -> Answer<'_, Counts> {
        let mut counts = Counts::default();
        for row in self.table().rows.values() {
            *counts.of(row.record.state) += 1;
        }
        now(counts)
    }

    fn queues(&self) -> Answer<'_, Vec<QueueRow>> {
        now(self.table().queues())
    }

    fn pause(&self, queue: &str) -> Answer<'_, ()> {
        self.table().paused.insert(queue.to_owned());
        now(())
    }

    fn resume(&self, queue: &str) -> Answer<'_, ()> {
        self.table().paused.remove(queue);
        self.tell();
        now(())
    }

    fn declare(&self, schedule: ScheduleSpec) -> Answer<'_, ()> {
        let mut table = self.table();
        let known = table.schedules.get(&schedule.name);
        if known.is_none_or(|(spec, _)| *spec != schedule.spec) {
            table.rows.retain(|_, row| {
                let of = row.slot.as_ref().map(|(name, _)| name);
                let waits = row.record.state == State::Pending && row.record.attempt == 0;
                of != Some(&schedule.name) || !waits
            });
            let spec = (schedule.spec, None);
            table.schedules.insert(schedule.name, spec);
        }
        now(())
    }

    fn last_slot(&self, schedule: &str) -> Answer<'_, Option<Micros>> {
        let table = self.table();
        now(table.schedules.get(schedule).and_then(|(_, last)| *last))
    }

    fn fill_slot(&self, slot: Slot) -> Answer<'_, bool> {
        let mut table = self.table();
        table.rows.retain(|_, row| {
            let range = slot.earliest..=slot.latest;
            let is_wrong = row
                .slot
                .as_ref()
                .is_some_and(|(name, at)| *name == slot.schedule && !range.contains(at));
            !is_wrong || row.record.state != State::Pending || row.record.attempt > 0
        });
        let is_next = table
            .schedules
            .get(&slot.schedule)
            .is_some_and(|(spec, last)| *spec == slot.spec && *last != Some(slot.slot));
        let taken = table.rows.values().any(|row| {
            row.slot.as_ref().is_some_and(|(name, at)| {
                let blocks = match row.record.state {
                    State::Pending => true,
                    State::Running => !slot.overlap,
                    _ => false,
                };
                *name == slot.schedule && (*at == slot.slot || blocks)
            })
        });
        let fills = is_next && !taken;
        if fills {
            if let Some((_, last)) = table.schedules.get_mut(&slot.schedule) {
                *last = Some(slot.slot);
            }
            table.insert(slot.job, Some((slot.schedule, slot.slot)));
        }
        now(fills)
    }

    fn prune(&self, before: Micros, limit: usize) -> Answer<'_, u64> {
        now(self.table().prune(before, limit))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
