//! What the page's script asks for, and what machines ask for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Redact;
use super::overview::{self, Overview, Row, Shared, cut, row};
use super::prometheus;
use crate::job::{Cursor, JobId, Record, State as JobState};
use crate::metrics::{Metrics, Snapshot};
use crate::queue::{AskError, Queue, ScheduleError};
use crate::store::{Filter, Found, Search, StoreError};
use crate::time::Micros;

/// Longer payloads are cut, also where one job is shown.
const LONGEST: usize = 64 * 1024;

/// The number of jobs on a page of a search.
const PAGE: usize = 25;

/// The number of jobs that a search in payloads looks at before it asks whether to go on.
const LOOKED_AT: usize = 10_000;

/// No more are counted.
const COUNTED: usize = 100_000;

/// A search that takes longer is given up.
const LONG_SEARCH: Duration = Duration::from_secs(5);

/// A store that takes longer to answer is not ready.
const READY: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Shown {
    pub(super) queue: Queue,
    metrics: Arc<Metrics>,
    redact: Option<Redact>,
    pub(super) overview: Arc<Shared>,
}

impl Shown {
    pub(super) fn new(queue: Queue, metrics: Arc<Metrics>, redact: Option<Redact>) -> Shown {
        Shown {
            queue,
            metrics,
            redact,
            overview: Arc::default(),
        }
    }

    /// One page of jobs. What is not shown of a payload is not searched: who searches must not find out what it says.
    pub(super) async fn found(&self, wanted: &Wanted) -> Result<Found, StoreError> {
        if !wanted.is_search() {
            let jobs = self.queue.list(wanted.filter(PAGE)).await?;
            let next = jobs.last().map(Record::cursor);
            let next = next.filter(|_| jobs.len() == PAGE);
            return Ok(Found { jobs, next });
        }
        let now = self.queue.store().clock().now();
        let within = wanted
            .within
            .map(|seconds| Duration::from_secs(seconds.into()));
        let text = wanted.text.clone().unwrap_or_default();
        let mut filter = wanted.filter(PAGE);
        if self.redact.is_some() && !text.is_empty() {
            // What is hidden of a payload depends on all of it.
            filter.longest = None;
        }
        let search = Search {
            filter,
            text: text.clone(),
            since: within.map_or(Micros::EARLIEST, |within| now.before(within)),
            most: LOOKED_AT,
        };
        let mut found = self.queue.search(search).await?;
        if let Some(redact) = self.redact.as_ref().filter(|_| !text.is_empty()) {
            let shows = |job: &Record| redact(&job.kind, &job.payload).contains(&text);
            found.jobs.retain(shows);
        }
        Ok(found)
    }
}

#[derive(Serialize)]
pub(super) struct Everything {
    #[serde(flatten)]
    overview: Overview,
    metrics: Snapshot,
}

pub(super) async fn overview(State(shown): State<Shown>) -> Result<Json<Everything>, Refusal> {
    Ok(Json(Everything {
        overview: shown.overview.get(&shown.queue).await?,
        metrics: shown.metrics.snapshot(),
    }))
}

/// What jobs are looked for by.
#[derive(Clone, Deserialize)]
pub(super) struct Wanted {
    pub(super) state: Option<JobState>,
    queue: Option<String>,
    kind: Option<String>,
    key: Option<String>,
    id: Option<i64>,
    /// What is in the payload, as far as it is shown.
    pub(super) text: Option<String>,
    /// Enqueued within the last N seconds.
    within: Option<u32>,
    /// The end of the page before.
    pub(super) after: Option<Cursor>,
}

impl Wanted {
    /// A filter for these jobs, whose payloads are not read.
    pub(super) fn filter(&self, limit: usize) -> Filter {
        Filter {
            id: self.id.map(JobId),
            state: self.state,
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            key: self.key.clone(),
            after: self.after,
            limit,
            longest: Some(0),
            ..Filter::default()
        }
    }

    /// Whether rows have to be looked at one by one.
    pub(super) fn is_search(&self) -> bool {
        self.text.is_some() || self.within.is_some()
    }

    /// Whether it is for all jobs.
    pub(super) fn is_all(&self) -> bool {
        let words = [&self.queue, &self.kind, &self.key];
        let names_none = words.iter().all(|word| word.is_none());
        names_none && self.state.is_none() && self.id.is_none() && !self.is_search()
    }
}

/// A job that was found. Only who searches sees its key.
#[derive(Serialize)]
pub(super) struct Hit {
    #[serde(flatten)]
    row: Row,
    key: Option<String>,
}

/// One page of jobs, and where the next one begins.
#[derive(Serialize)]
pub(super) struct Hits {
    jobs: Vec<Hit>,
    next: Option<Cursor>,
}

pub(super) async fn jobs(
    State(shown): State<Shown>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Hits>, Refusal> {
    let Found { jobs, next } = in_time(shown.found(&wanted)).await?;
    let jobs = jobs.into_iter().map(|mut job| {
        let key = job.key.take().map(|key| cut(key, overview::LONGEST));
        Hit { row: row(job), key }
    });
    Ok(Json(Hits {
        jobs: jobs.collect(),
        next,
    }))
}

/// The number of jobs that would be changed, and whether there may be more.
#[derive(Serialize)]
pub(super) struct Counted {
    jobs: u64,
    or_more: bool,
}

pub(super) async fn count(
    State(shown): State<Shown>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Counted>, Refusal> {
    let (jobs, or_more) = match wanted.is_search() {
        true => {
            let Found { jobs, next } = in_time(shown.found(&wanted)).await?;
            (jobs.len() as u64, next.is_some())
        }
        false => {
            let jobs = in_time(shown.queue.count(wanted.filter(COUNTED))).await?;
            (jobs, jobs >= COUNTED as u64)
        }
    };
    Ok(Json(Counted { jobs, or_more }))
}

async fn in_time<T>(looking: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refusal> {
    let words = "the search took too long: name a state or a key";
    let found = timeout(LONG_SEARCH, looking).await;
    let found = found.map_err(|_| Refusal::new(StatusCode::GATEWAY_TIMEOUT, words))?;
    Ok(found?)
}

/// All that is known of one job.
pub(super) async fn job(
    State(shown): State<Shown>,
    Path(id): Path<i64>,
) -> Result<Json<Record>, Refusal> {
    let id = JobId(id);
    let found = shown.queue.job(id).await?;
    let mut job = found.ok_or(AskError::Unknown(id))?;
    if let Some(redact) = &shown.redact {
        job.payload = redact(&job.kind, &job.payload);
        job.output = job.output.map(|output| redact(&job.kind, &output));
    }
    job.payload = cut(job.payload, LONGEST);
    job.error = job.error.map(|error| cut(error, LONGEST));
    job.output = job.output.map(|output| cut(output, LONGEST));
    Ok(Json(job))
}

/// Whether the store answers.
pub(super) async fn ready(State(shown): State<Shown>) -> Response {
    match timeout(READY, shown.queue.job(JobId(0))).await {
        Ok(Ok(_)) => "ready\n".into_response(),
        Ok(Err(_)) | Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer\n",
        )
            .into_response(),
    }
}

pub(super) async fn metrics(State(shown): State<Shown>) -> Result<Response, Refusal> {
    let overview = shown.overview.get(&shown.queue).await?;
    let text = prometheus::text(&overview, &shown.metrics.snapshot());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

/// Why a request was not granted, in words for the page.
pub(super) struct Refusal {
    status: StatusCode,
    words: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, words: impl ToString) -> Refusal {
        let words = words.to_string();
        Refusal { status, words }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let status = match error {
            StoreError::ZeroByte(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal::new(status, error)
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Refusal {
        let status = match error {
            AskError::Unknown(_) => StatusCode::NOT_FOUND,
            AskError::State { .. } | AskError::KeyTaken(_) => StatusCode::CONFLICT,
            AskError::Store(error) => return error.into(),
        };
        Refusal::new(status, error)
    }
}

impl From<ScheduleError> for Refusal {
    fn from(error: ScheduleError) -> Refusal {
        let status = match error {
            ScheduleError::Unknown(_) => StatusCode::NOT_FOUND,
            ScheduleError::Store(error) => return error.into(),
        };
        Refusal::new(status, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, self.words).into_response()
    }
}
