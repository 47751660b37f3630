//! The table. Each method is one step under the lock of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::HELD_BACK;
use super::super::types::{
    Asked, Change, Claim, Claimed, Ended, Enqueued, Filter, Lease, Lot, NewJob, OnDuplicate,
    QueueRow, Reclaimed, ScheduleSpec, Suspects, Verdict, WorkerRow,
};
use crate::job::{JobId, Record, State, TryError};
use crate::limit::{Limit, Part};
use crate::time::Micros;
use crate::unique::{UniqueWhile, holds_in};

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) last: i64,
    pub(super) rows: BTreeMap<JobId, Row>,
    pub(super) paused: BTreeSet<String>,
    pub(super) limits: BTreeMap<String, Limit>,
    /// By queue and limit key: when the rate alone allows the next start.
    pub(super) paces: BTreeMap<(String, Option<String>), i64>,
    pub(super) workers: BTreeMap<String, WorkerRow>,
    pub(super) schedules: BTreeMap<String, Schedule>,
}

/// A schedule, and the slot that it filled last.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) declared: ScheduleSpec,
    pub(super) slot: Option<Micros>,
    pub(super) paused: bool,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) record: Record,
    pub(super) claim: i64,
    pub(super) cancel: bool,
    pub(super) alone: bool,
    /// The schedule that it is a job of, and the slot unless it was created by hand.
    pub(super) schedule: Option<(String, Option<Micros>)>,
    /// The states in which the job holds its key, and until when.
    pub(super) holds: i64,
    pub(super) held_until: Option<Micros>,
    /// The jobs that it waits for, whether it runs however they end, and when it is due by itself.
    pub(super) waits: BTreeSet<JobId>,
    pub(super) any_end: bool,
    pub(super) wanted_at: Micros,
    /// When the first job of a series of replacements was enqueued.
    pub(super) first_at: Micros,
}

impl Row {
    pub(super) fn holds(&self) -> bool {
        self.record.key.is_some() && holds_in(self.holds, self.record.state)
    }

    /// Returns when it ended, for the deletion of old jobs.
    pub(super) fn forgettable(&self) -> Option<Micros> {
        let finished = self.record.finished_at?;
        Some(finished.max(self.held_until.unwrap_or(finished)))
    }

    pub(super) fn lease(&mut self, claim: &Claim) -> Claimed {
        self.claim += 1;
        self.alone = matches!(claim.suspects, Suspects::Alone(_));
        if self.holds == UniqueWhile::Pending.bits() {
            self.holds = 0;
        }
        let record = &mut self.record;
        record.attempt += 1;
        record.state = State::Running;
        record.worker = Some(claim.worker.clone());
        record.lease_until = Some(claim.lease_until);
        record.started_at = Some(claim.now);
        record.progress = None;
        Claimed {
            lease: Lease {
                id: record.id,
                claim: self.claim,
            },
            priority: record.priority,
            kind: record.kind.clone(),
            payload: record.payload.clone(),
            attempt: record.attempt,
            run_at: record.run_at,
            attempts: record.attempts,
            timeout: record.timeout,
            relaxed: false,
        }
    }

    pub(super) fn remember(&mut self, at: Micros, error: &str) {
        let record = &mut self.record;
        if record.errors.len() >= TryError::KEPT {
            record.errors.remove(0);
        }
        let error = TryError::new(record.attempt, at, error);
        record.errors.push(error);
    }
}

impl Table {
    pub(super) fn running_of<'a>(&'a self, worker: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.values().filter(move |row| {
            row.record.state == State::Running && row.record.worker.as_deref() == Some(worker)
        })
    }

    /// Removes the pending jobs of a schedule for these slots, unless they have started before.
    pub(super) fn drop_pending(
        &mut self,
        schedule: &str,
        of: impl Fn(Option<Micros>) -> bool,
        at: Micros,
    ) {
        let is_for = |row: &&Row| {
            let known = row.schedule.as_ref();
            row.record.state == State::Pending
                && row.record.started_at.is_none()
                && known.is_some_and(|(name, slot)| name == schedule && of(*slot))
        };
        let ids = self.rows.values().filter(is_for).map(|row| row.record.id);
        for id in ids.collect::<Vec<_>>() {
            self.delete(id, at);
        }
    }

    /// Deletes a job. Returns whether it was there.
    fn delete(&mut self, id: JobId, at: Micros) -> bool {
        let row = self.rows.remove(&id);
        if row
            .as_ref()
            .is_some_and(|row| row.record.state == State::Pending)
        {
            self.settle(id, "deleted", at);
        }
        row.is_some()
    }

    pub(super) fn holder(&self, key: &str, until: Option<Micros>) -> Option<JobId> {
        let holder = self.rows.values().find(|row| {
            row.record.key.as_deref() == Some(key) && row.held_until == until && row.holds()
        })?;
        Some(holder.record.id)
    }

    pub(super) fn insert(
        &mut self,
        job: NewJob,
        schedule: Option<(String, Option<Micros>)>,
    ) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        let after = job.after.map(|after| (after.jobs, after.any_end));
        let (after, any_end) = after.unwrap_or_default();
        let state = |id: &JobId| self.rows.get(id).map(|row| row.record.state);
        let has_failed = |id: &JobId| matches!(state(id), Some(State::Dead | State::Cancelled));
        let is_open = |id: &&JobId| matches!(state(id), Some(State::Pending | State::Running));
        let waits: BTreeSet<_> = after.iter().filter(is_open).copied().collect();
        let is_cancelled = !any_end && after.iter().any(has_failed);
        let holds = job.key.as_ref().map_or(0, |key| key.within.bits());
        let held_until = job.key.as_ref().and_then(|key| key.until);
        let record = Record {
            id,
            kind: job.kind,
            queue: job.queue,
            payload: job.payload,
            priority: job.priority,
            run_at: match waits.is_empty() {
                true => job.run_at,
                false => Micros::NEVER,
            },
            state: match is_cancelled {
                true => State::Cancelled,
                false => State::Pending,
            },
            attempt: 0,
            crashes: 0,
            attempts: job.attempts,
            timeout: job.timeout,
            limit_key: job.limit_key,
            key: job.key.map(|key| key.key),
            worker: None,
            lease_until: None,
            progress: None,
            error: is_cancelled.then(|| "a job that it comes after has failed".to_owned()),
            errors: Vec::new(),
            output: None,
            after,
            created_at: job.created_at,
            started_at: None,
            finished_at: is_cancelled.then_some(job.created_at),
        };
        let row = Row {
            record,
            claim: 0,
            cancel: false,
            alone: false,
            schedule,
            holds,
            held_until,
            waits,
            any_end,
            wanted_at: job.run_at,
            first_at: job.created_at,
        };
        self.rows.insert(id, row);
        id
    }

    /// Releases or cancels the jobs that come after one that has ended.
    pub(super) fn settle(&mut self, id: JobId, ending: &str, at: Micros) {
        let mut cancelled = Vec::new();
        for row in self.rows.values_mut().filter(|row| row.waits.contains(&id)) {
            row.waits.remove(&id);
            let record = &mut row.record;
            if record.state != State::Pending || record.run_at != Micros::NEVER {
                continue;
            }
            if ending != "done" && !row.any_end {
                record.state = State::Cancelled;
                record.finished_at = Some(at);
                record.error = Some(format!("job {id}, which it comes after, is {ending}"));
                cancelled.push(record.id);
            } else if row.waits.is_empty() {
                record.run_at = row.wanted_at.max(at);
            }
        }
        for id in cancelled {
            self.settle(id, "cancelled", at);
        }
    }

    pub(super) fn enqueue(&mut self, job: NewJob) -> Enqueued {
        let Some(key) = &job.key else {
            return Enqueued::New(self.insert(job, None));
        };
        let holder = self.holder(&key.key, key.until);
        let holds = key.within.bits();
        let max_wait = key.max_wait;
        match (
            holder.and_then(|id| self.rows.get_mut(&id)),
            key.on_duplicate,
        ) {
            (None, _) => Enqueued::New(self.insert(job, None)),
            (Some(row), OnDuplicate::Reject) => Enqueued::Refused(row.record.id),
            (Some(row), OnDuplicate::Keep) => Enqueued::Kept(row.record.id),
            (Some(row), OnDuplicate::Replace) if row.record.state != State::Pending => {
                row.holds = 0;
                Enqueued::New(self.insert(job, None))
            }
            (Some(row), OnDuplicate::Replace) => {
                row.holds = holds;
                row.waits.clear();
                if row.record.started_at.is_some() {
                    row.first_at = job.created_at;
                }
                let latest = max_wait.map(|wait| row.first_at.after(wait));
                let record = &mut row.record;
                (record.attempt, record.crashes) = (0, 0);
                (record.progress, record.error) = (None, None);
                record.started_at = None;
                record.errors.clear();
                (record.attempts, record.timeout) = (job.attempts, job.timeout);
                record.limit_key = job.limit_key;
                record.after.clear();
                record.kind = job.kind;
                record.queue = job.queue;
                record.payload = job.payload;
                record.priority = job.priority;
                record.run_at = latest.map_or(job.run_at, |latest| latest.min(job.run_at));
                record.created_at = job.created_at;
                Enqueued::Replaced(record.id)
            }
        }
    }

    /// Returns whether the limits allow one more job of the queue and the key, or of the queue alone.
    pub(super) fn has_room(
        &self,
        queue: &str,
        key: Option<&String>,
        part: Part,
        now: Micros,
    ) -> bool {
        let running = self.rows.values().filter(|row| {
            row.record.state == State::Running
                && row.record.queue == queue
                && (key.is_none() || row.record.limit_key.as_ref() == key)
        });
        let pace = (queue.to_owned(), key.cloned());
        let due = self.paces.get(&pace).copied().unwrap_or(0);
        part.at_once
            .is_none_or(|limit| running.count() < limit as usize)
            && part.pace.is_none_or(|pace| pace.allows(due, now.0) > 0)
    }

    pub(super) fn set_on(&mut self, queue: &str, key: Option<String>, part: Part, now: Micros) {
        if let Some(pace) = part.pace {
            let due = self.paces.entry((queue.to_owned(), key)).or_default();
            *due = pace.after(*due, now.0, 1);
        }
    }

    pub(super) fn claim(&mut self, claim: Claim) -> Lot {
        let limit = self.limits.get(&claim.queue).copied();
        let is_shared = limit.is_some_and(|limit| limit.is_shared());
        if self.paused.contains(&claim.queue) || is_shared && !claim.limited {
            return Lot::default();
        }
        let limit = limit.unwrap_or_default();
        let leaves_out = !claim.limited && claim.ageing.is_none();
        let is_due = |row: &&Row| {
            let record = &row.record;
            record.state == State::Pending
                && record.queue == claim.queue
                && !(leaves_out && record.run_at < claim.from[record.priority as usize])
                && record.run_at <= claim.now
                && claim.kinds.contains(&record.kind)
                && match claim.suspects {
                    Suspects::Without(crashes) => record.crashes < crashes,
                    Suspects::Alone(crashes) => record.crashes >= crashes.max(1),
                }
        };
        let turn = |record: &Record| {
            let step = claim
                .ageing
                .map_or(i128::MAX >> 2, |step| step.as_micros() as i128);
            let rank = i128::from(record.priority.rank());
            (i128::from(record.run_at.0) + rank * step, record.id)
        };
        self.paces.retain(|(queue, key), due| {
            let part = if key.is_none() { limit.all } else { limit.key };
            let is_ours = *queue == claim.queue;
            let farthest = part.pace.filter(|_| is_ours);
            farthest.is_none_or(|pace| *due <= pace.farthest(claim.now.0))
        });
        let due = self.rows.values().filter(is_due);
        let mut due: Vec<_> = due.map(|row| turn(&row.record)).collect();
        due.sort();
        let mut lot = Lot::default();
        for (_, id) in due {
            let key = self.rows[&id].record.limit_key.clone();
            let has_room = self.has_room(&claim.queue, None, limit.all, claim.now)
                && (key.is_none()
                    || self.has_room(&claim.queue, key.as_ref(), limit.key, claim.now));
            if lot.jobs.len() == claim.limit {
                break;
            }
            if !has_room {
                let pace = self.paces.get(&(claim.queue.clone(), None));
                let next = limit
                    .all
                    .pace
                    .zip(pace)
                    .map(|(pace, due)| Micros(pace.next(*due)));
                let soon = claim.now.after(HELD_BACK);
                lot.again = Some(next.filter(|next| *next > claim.now).unwrap_or(soon));
                continue;
            }
            self.set_on(&claim.queue, None, limit.all, claim.now);
            if key.is_some() {
                self.set_on(&claim.queue, key, limit.key, claim.now);
            }
            lot.jobs
                .extend(self.rows.get_mut(&id).map(|row| row.lease(&claim)));
        }
        lot
    }

    pub(super) fn held(&mut self, lease: Lease) -> Option<&mut Row> {
        let row = self.rows.get_mut(&lease.id)?;
        (row.claim == lease.claim && row.record.state == State::Running).then_some(row)
    }

    pub(super) fn finish(&mut self, ended: Ended) -> bool {
        let Some(row) = self.held(ended.lease) else {
            return false;
        };
        if let Verdict::Retry { error, .. } | Verdict::Dead { error } = &ended.verdict {
            row.remember(ended.at, error);
            row.record.error = Some(error.clone());
        }
        let record = &mut row.record;
        let verdict = match ended.verdict {
            done @ Verdict::Done { .. } => done,
            _ if row.cancel => Verdict::Cancelled,
            verdict => verdict,
        };
        record.state = match verdict {
            Verdict::Done { output } => {
                record.output = output;
                State::Done
            }
            Verdict::Cancelled => State::Cancelled,
            Verdict::Dead { .. } => State::Dead,
            Verdict::Retry { at, .. } => {
                record.run_at = at;
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
        let (id, state) = (record.id, record.state);
        (row.cancel, row.alone) = (false, false);
        if state != State::Pending {
            self.settle(id, state.word(), ended.at);
        }
        true
    }

    pub(super) fn reclaim(&mut self, now: Micros, crashes: u32) -> Vec<Reclaimed> {
        let running = |row: &&mut Row| row.record.state == State::Running;
        let expired = |row: &&mut Row| row.record.lease_until.is_some_and(|until| until <= now);
        let mut reclaimed = Vec::new();
        for row in self.rows.values_mut().filter(running).filter(expired) {
            row.remember(now, "its worker was lost");
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
                state: record.state,
            });
        }
        for lost in &reclaimed {
            if lost.state != State::Pending {
                self.settle(lost.id, lost.state.word(), now);
            }
        }
        reclaimed
    }

    pub(super) fn cancel(&mut self, id: JobId, now: Micros) -> Asked {
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
        let state = row.record.state;
        if state == State::Cancelled {
            self.settle(id, state.word(), now);
        }
        Asked::Granted(state)
    }

    pub(super) fn retry(&mut self, id: JobId, now: Micros) -> Asked {
        let Some(row) = self.rows.get(&id) else {
            return Asked::Unknown;
        };
        if matches!(row.record.state, State::Running | State::Done) {
            return Asked::Refused(row.record.state);
        }
        let key = row.record.key.as_deref().filter(|_| row.holds != 0);
        let holder = key.and_then(|key| self.holder(key, row.held_until));
        if holder.is_some_and(|holder| holder != id) {
            return Asked::KeyTaken;
        }
        if let Some(Row { record, .. }) = self.rows.get_mut(&id) {
            if record.state != State::Pending || record.run_at > now {
                record.run_at = now;
            }
            record.state = State::Pending;
            (record.attempt, record.crashes) = (0, 0);
            (record.progress, record.finished_at) = (None, None);
        }
        Asked::Granted(State::Pending)
    }

    /// Returns the jobs of a filter in the order of a list.
    pub(super) fn matching<'a>(&'a self, filter: &'a Filter) -> Vec<&'a Row> {
        let is = |wanted: &Option<String>, found: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == found
        };
        let by_time = filter.state == Some(State::Pending);
        let place = |row: &Row| match by_time {
            true => (row.record.run_at.0, row.record.id.0),
            false => (0, -row.record.id.0),
        };
        let after = filter.after.map(|id| self.rows.get(&id).map(&place));
        let mut found: Vec<_> = self
            .rows
            .values()
            .filter(|row| {
                let record = &row.record;
                filter.id.is_none_or(|id| record.id == id)
                    && filter.state.is_none_or(|state| record.state == state)
                    && is(&filter.queue, Some(&record.queue))
                    && is(&filter.kind, Some(&record.kind))
                    && is(&filter.key, record.key.as_ref())
                    && filter
                        .ended_before
                        .is_none_or(|before| row.forgettable().is_some_and(|at| at < before))
                    && after.is_none_or(|after| after.is_some_and(|after| place(row) > after))
            })
            .collect();
        found.sort_by_key(|row| place(row));
        found
    }

    pub(super) fn list(&self, filter: &Filter) -> Vec<Record> {
        let found = self.matching(filter).into_iter().take(filter.limit);
        found.map(|row| row.record.clone()).collect()
    }

    pub(super) fn change(&mut self, change: Change, filter: &Filter, now: Micros) -> Vec<JobId> {
        let mut found = self.matching(filter);
        found.sort_by_key(|row| (row.forgettable(), row.record.id));
        let is_for = |row: &&Row| match (change, row.record.state) {
            (Change::Cancel, State::Pending) => true,
            (Change::Cancel, State::Running) => !row.cancel,
            (Change::Retry, State::Pending) => filter.state.is_some() && row.record.run_at > now,
            (Change::Retry, State::Dead | State::Cancelled) => !self.has_later_one(row),
            (Change::Retry, _) => false,
            (Change::Delete, state) => state != State::Running,
            (Change::Cancel, _) => false,
        };
        let ids = found.into_iter().filter(is_for).map(|row| row.record.id);
        let ids: Vec<_> = ids.collect();
        let mut changed = Vec::new();
        for id in ids {
            if changed.len() == filter.limit {
                break;
            }
            let is_changed = match change {
                Change::Cancel => matches!(self.cancel(id, now), Asked::Granted(_)),
                Change::Retry => matches!(self.retry(id, now), Asked::Granted(_)),
                Change::Delete => self.delete(id, now),
            };
            if is_changed {
                changed.push(id);
            }
        }
        changed
    }

    /// Returns whether a later job was enqueued with the key of this one.
    fn has_later_one(&self, row: &Row) -> bool {
        let is_same = |later: &Row| {
            later.record.key == row.record.key
                && later.held_until == row.held_until
                && later.holds != 0
                && later.record.id > row.record.id
        };
        row.record.key.is_some() && row.holds != 0 && self.rows.values().any(is_same)
    }

    pub(super) fn queues(&self) -> Vec<QueueRow> {
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
