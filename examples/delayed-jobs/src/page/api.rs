//! What the page's script asks for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Redact;
use super::overview::{self, Overview, Row, Shared, cut, row};
use super::prometheus;
use crate::job::{JobId, Record, State as JobState};
use crate::metrics::{Metrics, Snapshot};
use crate::queue::{AskError, Queue};
use crate::store::{Change, Filter, StoreError};

/// Longer payloads are cut, also where one job is shown.
const LONGEST: usize = 64 * 1024;

/// The number of jobs on a page of a search.
const PAGE: usize = 25;

/// A search that takes longer is given up.
const LONG_SEARCH: Duration = Duration::from_secs(5);

/// A store that takes longer to answer is not ready.
const READY: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Shown {
    queue: Queue,
    metrics: Arc<Metrics>,
    redact: Option<Redact>,
    overview: Arc<Shared>,
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
#[derive(Deserialize)]
pub(super) struct Search {
    state: Option<JobState>,
    queue: Option<String>,
    kind: Option<String>,
    key: Option<String>,
    id: Option<i64>,
    /// The last job of the page before.
    after: Option<i64>,
}

/// A job that was found. Only who searches sees its key.
#[derive(Serialize)]
pub(super) struct Found {
    #[serde(flatten)]
    row: Row,
    key: Option<String>,
}

/// One page of jobs.
pub(super) async fn jobs(
    State(shown): State<Shown>,
    Query(search): Query<Search>,
) -> Result<Json<Vec<Found>>, Refusal> {
    let filter = Filter {
        id: search.id.map(JobId),
        state: search.state,
        queue: search.queue,
        kind: search.kind,
        key: search.key,
        after: search.after.map(JobId),
        limit: PAGE,
        ..Filter::default()
    };
    let limit = timeout(LONG_SEARCH, shown.queue.list(filter)).await;
    let found = limit.map_err(|_| Refusal {
        status: StatusCode::GATEWAY_TIMEOUT,
        words: "the search took too long: name a state or a key".to_owned(),
    })?;
    let found = found?.into_iter().map(|mut job| {
        let key = job.key.take().map(|key| cut(key, overview::LONGEST));
        Found { row: row(job), key }
    });
    Ok(Json(found.collect()))
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

pub(super) async fn retry(
    _: Button,
    State(shown): State<Shown>,
    Path(id): Path<i64>,
) -> Result<Json<JobState>, Refusal> {
    let state = shown.queue.retry(JobId(id)).await?;
    shown.overview.forget().await;
    Ok(Json(state))
}

pub(super) async fn cancel(
    _: Button,
    State(shown): State<Shown>,
    Path(id): Path<i64>,
) -> Result<Json<JobState>, Refusal> {
    let state = shown.queue.cancel(JobId(id)).await?;
    shown.overview.forget().await;
    Ok(Json(state))
}

pub(super) async fn delete(
    _: Button,
    State(shown): State<Shown>,
    Path(id): Path<i64>,
) -> Result<(), Refusal> {
    let id = JobId(id);
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    if shown.queue.change(Change::Delete, filter).await? == 0 {
        let job = shown.queue.job(id).await?.ok_or(AskError::Unknown(id))?;
        let state = job.state;
        return Err(AskError::State { id, state }.into());
    }
    shown.overview.forget().await;
    Ok(())
}

pub(super) async fn pause(
    _: Button,
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<(), Refusal> {
    // A pause is kept in the store, which must not fill with names that mean nothing.
    let known = shown.queue.queues().await?;
    if known.iter().all(|queue| queue.name != name) {
        return Err(Refusal {
            status: StatusCode::NOT_FOUND,
            words: "there is no such queue with jobs".to_owned(),
        });
    }
    shown.queue.pause(&name).await?;
    shown.overview.forget().await;
    Ok(())
}

pub(super) async fn resume(
    _: Button,
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<(), Refusal> {
    shown.queue.resume(&name).await?;
    shown.overview.forget().await;
    Ok(())
}

/// Shows that the request was made by our script. A browser lets no other origin send such a header
/// without asking first, and gets no answer.
pub(super) struct Button;

impl<S: Sync> FromRequestParts<S> for Button {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Button, Refusal> {
        match parts.headers.contains_key("x-delayed-jobs") {
            true => Ok(Button),
            false => Err(Refusal {
                status: StatusCode::FORBIDDEN,
                words: "the header x-delayed-jobs is missing".to_owned(),
            }),
        }
    }
}

/// Why a request was not granted, in words for the page.
pub(super) struct Refusal {
    status: StatusCode,
    words: String,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            words: error.to_string(),
        }
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Refusal {
        Refusal {
            status: match error {
                AskError::Unknown(_) => StatusCode::NOT_FOUND,
                AskError::State { .. } | AskError::KeyTaken(_) => StatusCode::CONFLICT,
                AskError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            },
            words: error.to_string(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, self.words).into_response()
    }
}
