//! The query that all open pages share, so that ten pages cost as much as one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use super::act::Limits;
use crate::job::{JobId, Record, State};
use crate::queue::Queue;
use crate::store::{Counts, Filter, QueueRow, ScheduleRow, StoreError, WorkerRow};
use crate::time::Micros;

/// The number of jobs that are shown of each state.
const SHOWN: usize = 20;

/// The shortest time between two queries, however little they cost.
const OFTEN: Duration = Duration::from_millis(400);

/// The queries take at most one part in this many of the time.
const SELDOM: u32 = 20;

/// The maximum length of a text; longer texts are cut.
pub(super) const LONGEST: usize = 200;

/// A job as a list shows it: without its payload.
#[derive(Clone, Serialize)]
pub(super) struct Row {
    id: JobId,
    state: State,
    kind: String,
    queue: String,
    attempt: u32,
    run_at: Micros,
    finished_at: Option<Micros>,
    progress: Option<u8>,
    error: Option<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct Overview {
    pub(super) now: Micros,
    pub(super) counts: Counts,
    pub(super) queues: Vec<QueueView>,
    pub(super) pending: Vec<Row>,
    pub(super) running: Vec<Row>,
    pub(super) dead: Vec<Row>,
    /// How long the first job that is due has waited, in microseconds.
    pub(super) oldest_due: u64,
    pub(super) workers: Vec<WorkerRow>,
    schedules: Vec<ScheduleRow>,
}

/// A queue, and its limits in words and in numbers.
#[derive(Clone, Serialize)]
pub(super) struct QueueView {
    #[serde(flatten)]
    pub(super) row: QueueRow,
    words: Option<String>,
    limits: Limits,
}

impl Overview {
    async fn look(queue: &Queue) -> Result<Overview, StoreError> {
        let list = async |state| {
            let filter = Filter {
                state: Some(state),
                limit: SHOWN,
                longest: Some(0),
                ..Filter::default()
            };
            let jobs = queue.list(filter).await?;
            Ok::<_, StoreError>(jobs.into_iter().map(row).collect::<Vec<_>>())
        };
        let pending = list(State::Pending).await?;
        let now = queue.store().clock().now();
        let oldest = pending.first().map(|row| now.since(row.run_at));
        let oldest = oldest.unwrap_or_default().as_micros();
        let counts = queue.counts().await?;
        let mut schedules = queue.schedules().await?;
        for schedule in &mut schedules {
            // The payload of the schedule is not shown here.
            let spec = schedule.spec.split(" with ").next().unwrap_or_default();
            schedule.spec = cut(spec.to_owned(), LONGEST);
        }
        Ok(Overview {
            now,
            workers: queue.workers().await?,
            schedules,
            counts,
            queues: queue_views(queue).await?,
            pending,
            running: list(State::Running).await?,
            dead: list(State::Dead).await?,
            oldest_due: u64::try_from(oldest).unwrap_or(u64::MAX),
        })
    }
}

/// Returns the queues that have jobs or limits or are paused.
pub(super) async fn queue_views(queue: &Queue) -> Result<Vec<QueueView>, StoreError> {
    let limits: BTreeMap<_, _> = queue.limits().await?.into_iter().collect();
    let mut rows = queue.queues().await?;
    for name in limits.keys() {
        if rows.iter().all(|row| row.name != *name) {
            rows.push(QueueRow {
                name: name.clone(),
                paused: false,
                unfinished: 0,
            });
        }
    }
    let view = |row: QueueRow| {
        let limit = limits.get(&row.name);
        QueueView {
            words: limit.map(ToString::to_string),
            limits: limit.map(Limits::of).unwrap_or_default(),
            row,
        }
    };
    Ok(rows.into_iter().map(view).collect())
}

pub(super) fn row(job: Record) -> Row {
    Row {
        id: job.id,
        state: job.state,
        kind: cut(job.kind, LONGEST),
        queue: cut(job.queue, LONGEST),
        attempt: job.attempt,
        run_at: job.run_at,
        finished_at: job.finished_at,
        progress: job.progress,
        error: job.error.map(|error| cut(error, LONGEST)),
    }
}

/// Returns the beginning of a text.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The last look. Who asks for a new one waits for it, and looks that are asked for meanwhile are the same one.
#[derive(Default)]
pub(super) struct Shared(Mutex<Option<Look>>);

struct Look {
    overview: Overview,
    at: Instant,
    cost: Duration,
}

impl Shared {
    pub(super) async fn get(&self, queue: &Queue) -> Result<Overview, StoreError> {
        let mut last = self.0.lock().await;
        if let Some(look) = &*last
            && look.at.elapsed() < OFTEN.max(SELDOM * look.cost)
        {
            return Ok(look.overview.clone());
        }
        let begun = Instant::now();
        let overview = Overview::look(queue).await?;
        *last = Some(Look {
            overview: overview.clone(),
            at: Instant::now(),
            cost: begun.elapsed(),
        });
        Ok(overview)
    }

    /// Discards the last result, since a visitor has changed something and wants to see it.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
