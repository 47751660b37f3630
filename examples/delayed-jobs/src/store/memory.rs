//! A store in memory, for tests. It has no database and no thread, and uses tokio's clock, which may be paused.
//!
//! It does in plain loops what the databases do in SQL, and passes the same tests.

mod table;

use std::future::ready;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use super::types::{
    Asked, Change, Claim, Counts, Ended, Enqueued, Filter, Found, Lease, Lot, NewJob, QueueRow,
    Reclaimed, ScheduleRow, ScheduleSpec, Search, Slot, WorkerRow,
};
use super::{Answer, Store};
use crate::job::{JobId, Priority, Record, State};
use crate::limit::Limit;
use crate::lock::lock;
use crate::time::{Clock, Micros};
use table::{Row, Schedule, Table};

/// A store in memory, which ends with the program.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
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
        lock(&self.table)
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

/// Cuts payloads and outputs if the filter asks for that.
fn cut(jobs: &mut [Record], filter: &Filter) {
    let Some(longest) = filter.longest else {
        return;
    };
    for job in jobs {
        for text in [Some(&mut job.payload), job.output.as_mut()]
            .into_iter()
            .flatten()
        {
            if let Some((end, _)) = text.char_indices().nth(longest) {
                text.truncate(end);
            }
        }
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

    fn claim(&self, claim: Claim) -> Answer<'_, Lot> {
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

    fn share(&self, lease: Lease) -> Answer<'_, bool> {
        let mut table = self.table();
        let row = table.held(lease).map(|row| row.alone = false);
        now(row.is_some())
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
        let mut list = self.table().list(&filter);
        cut(&mut list, &filter);
        now(list)
    }

    fn search(&self, search: Search) -> Answer<'_, Found> {
        let Search {
            mut filter,
            text,
            since,
            most,
        } = search.at_least_one();
        let wanted = std::mem::replace(&mut filter.limit, most);
        let list = self.table().list(&filter);
        let mut found = Found {
            next: list.get(most - 1).map(|last| last.id),
            jobs: Vec::new(),
        };
        let fits = |job: &Record| {
            let beginning = job.payload.chars().take(65_536).collect::<String>();
            job.created_at >= since && beginning.contains(&text)
        };
        for job in list.into_iter().filter(fits) {
            if found.jobs.len() == wanted {
                found.next = found.jobs.last().map(|last| last.id);
                break;
            }
            found.jobs.push(job);
        }
        cut(&mut found.jobs, &filter);
        now(found)
    }

    fn count(&self, filter: Filter) -> Answer<'_, u64> {
        now(self.table().list(&filter).len() as u64)
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

    fn beat(&self, worker: WorkerRow, at: Micros) -> Answer<'_, ()> {
        let mut table = self.table();
        table.workers.insert(worker.name.clone(), worker);
        table.workers.retain(|_, worker| worker.until >= at);
        now(())
    }

    fn leave(&self, worker: &str) -> Answer<'_, ()> {
        self.table().workers.remove(worker);
        now(())
    }

    fn workers(&self, at: Micros) -> Answer<'_, Vec<WorkerRow>> {
        let table = self.table();
        let alive = table.workers.values().filter(|worker| worker.until >= at);
        let mut alive: Vec<_> = alive.cloned().collect();
        alive.sort_by_key(|worker| worker.began_at);
        now(alive)
    }

    fn schedules(&self) -> Answer<'_, Vec<ScheduleRow>> {
        let table = self.table();
        let row = |(name, schedule): (&String, &Schedule)| ScheduleRow {
            name: name.clone(),
            spec: schedule.declared.spec.clone(),
            slot: schedule.slot,
            paused: schedule.paused,
        };
        now(table.schedules.iter().map(row).collect())
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

    fn set_limit(&self, queue: &str, limit: Limit) -> Answer<'_, ()> {
        let mut table = self.table();
        match limit == Limit::default() {
            true => table.limits.remove(queue),
            false => table.limits.insert(queue.to_owned(), limit),
        };
        let at = self.clock.now();
        for ((of, key), due) in &mut table.paces {
            let part = if key.is_none() { limit.all } else { limit.key };
            if let Some(pace) = part.pace.filter(|_| of == queue) {
                *due = pace.latest(at.0).min(*due);
            }
        }
        drop(table);
        self.tell();
        now(())
    }

    fn limits(&self) -> Answer<'_, Vec<(String, Limit)>> {
        let table = self.table();
        let limits = table.limits.iter();
        now(limits
            .map(|(queue, limit)| (queue.clone(), *limit))
            .collect())
    }

    fn declare(&self, declared: ScheduleSpec) -> Answer<'_, ()> {
        let mut table = self.table();
        let known = table.schedules.get(&declared.name);
        if known.is_none_or(|known| known.declared != declared) {
            let paused = known.is_some_and(|known| known.paused);
            table.drop_pending(&declared.name, |_| true, self.clock.now());
            let schedule = Schedule {
                declared,
                slot: None,
                paused,
            };
            let name = schedule.declared.name.clone();
            table.schedules.insert(name, schedule);
        }
        now(())
    }

    fn pause_schedule(&self, schedule: &str, paused: bool) -> Answer<'_, bool> {
        let mut table = self.table();
        let Some(known) = table.schedules.get_mut(schedule) else {
            return now(false);
        };
        if known.paused != paused {
            (known.paused, known.slot) = (paused, None);
        }
        if paused {
            table.drop_pending(schedule, |_| true, self.clock.now());
        }
        now(true)
    }

    fn run_schedule(&self, schedule: &str, at: Micros) -> Answer<'_, Option<(JobId, String)>> {
        let mut table = self.table();
        let Some(known) = table.schedules.get(schedule) else {
            return now(None);
        };
        let job = NewJob {
            kind: known.declared.kind.clone(),
            queue: known.declared.queue.clone(),
            payload: known.declared.payload.clone(),
            priority: Priority::default(),
            run_at: at,
            created_at: at,
            attempts: None,
            timeout: None,
            limit_key: None,
            key: None,
            after: None,
        };
        let queue = job.queue.clone();
        let id = table.insert(job, Some((schedule.to_owned(), None)));
        drop(table);
        self.tell();
        now(Some((id, queue)))
    }

    fn last_slot(&self, schedule: &str) -> Answer<'_, Option<Micros>> {
        let table = self.table();
        now(table.schedules.get(schedule).and_then(|known| known.slot))
    }

    fn fill_slot(&self, slot: Slot) -> Answer<'_, bool> {
        let mut table = self.table();
        let range = slot.earliest..=slot.latest;
        let is_other = |at: Option<Micros>| at.is_some_and(|at| !range.contains(&at));
        table.drop_pending(&slot.schedule, is_other, self.clock.now());
        let is_next = table.schedules.get(&slot.schedule).is_some_and(|known| {
            let fits = known.declared.spec == slot.spec && known.slot != Some(slot.slot);
            fits && !known.paused
        });
        let taken = table.rows.values().any(|row| {
            let record = &row.record;
            row.schedule.as_ref().is_some_and(|(name, at)| {
                let is_open = matches!(record.state, State::Pending | State::Running);
                let blocks = is_open && (record.started_at.is_none() || !slot.overlap);
                *name == slot.schedule && (*at == Some(slot.slot) || blocks)
            })
        });
        let fills = is_next && !taken;
        if fills {
            if let Some(known) = table.schedules.get_mut(&slot.schedule) {
                known.slot = Some(slot.slot);
            }
            table.insert(slot.job, Some((slot.schedule, Some(slot.slot))));
        }
        now(fills)
    }

    fn change(&self, change: Change, filter: Filter, at: Micros) -> Answer<'_, Vec<JobId>> {
        let changed = self.table().change(change, &filter, at);
        self.tell();
        now(changed)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
