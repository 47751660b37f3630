//! What all who look on share, so that ten open pages cost what one does.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use crate::job::{Record, State};
use crate::queue::Queue;
use crate::store::{Counts, Filter, QueueRow, StoreError};
use crate::time::Micros;

/// The number of jobs that are shown of each state.
const SHOWN: usize = 20;

/// However little it costs.
const OFTEN: Duration = Duration::from_millis(400);

/// Looking takes at most one part in this many of the time.
const SELDOM: u32 = 12;

/// Longer texts are cut.
const LONGEST: usize = 200;

/// A job as a list shows it: without its payload.
#[derive(Clone, Serialize)]
pub(super) struct Row {
    id: crate::job::JobId,
    kind: String,
    queue: String,
    attempt: u32,
    run_at: Micros,
    progress: Option<u8>,
    error: Option<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct Overview {
    pub(super) now: Micros,
    pub(super) counts: Counts,
    pub(super) queues: Vec<QueueRow>,
    pub(super) pending: Vec<Row>,
    pub(super) running: Vec<Row>,
    pub(super) dead: Vec<Row>,
    /// How long the first job that is due has waited, in microseconds.
    pub(super) oldest_due: u64,
}

impl Overview {
    async fn look(queue: &Queue) -> Result<Overview, StoreError> {
        let list = async |state| {
            let filter = Filter {
                state: Some(state),
                limit: SHOWN,
                ..Filter::default()
            };
            let jobs = queue.list(filter).await?;
            Ok::<_, StoreError>(jobs.into_iter().map(row).collect::<Vec<_>>())
        };
        let pending = list(State::Pending).await?;
        let now = queue.store().clock().now();
        let oldest = pending.first().map(|row| now.since(row.run_at));
        let oldest = oldest.unwrap_or_default().as_micros();
        Ok(Overview {
            now,
            counts: queue.counts().await?,
            queues: queue.queues().await?,
            pending,
            running: list(State::Running).await?,
            dead: list(State::Dead).await?,
            oldest_due: u64::try_from(oldest).unwrap_or(u64::MAX),
        })
    }
}

fn row(job: Record) -> Row {
    Row {
        id: job.id,
        kind: cut(job.kind, LONGEST),
        queue: cut(job.queue, LONGEST),
        attempt: job.attempt,
        run_at: job.run_at,
        progress: job.progress,
        error: job.error.map(|error| cut(error, LONGEST)),
    }
}

/// The beginning of a text.
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
        if let Some(look) = last.as_ref()
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

    /// A visitor has changed something and wants to see it.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
