//! What the page's script asks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::job::{JobId, Record, State as JobState};
use crate::metrics::{Metrics, Snapshot};
use crate::queue::{AskError, Queue};
use crate::store::{Counts, Filter, QueueRow, StoreError};
use crate::time::Micros;

/// The number of jobs that are shown of each kind.
const SHOWN: usize = 20;

#[derive(Clone)]
pub(super) struct Shown {
    pub(super) queue: Queue,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Serialize)]
pub(super) struct Overview {
    now: Micros,
    counts: Counts,
    queues: Vec<QueueRow>,
    pending: Vec<Record>,
    running: Vec<Record>,
    dead: Vec<Record>,
    metrics: Snapshot,
}

pub(super) async fn overview(State(shown): State<Shown>) -> Result<Json<Overview>, Refusal> {
    let queue = &shown.queue;
    let list = async |state| {
        let filter = Filter {
            state: Some(state),
            limit: SHOWN,
            ..Filter::default()
        };
        queue.list(filter).await
    };
    Ok(Json(Overview {
        now: queue.store().clock().now(),
        counts: queue.counts().await?,
        queues: queue.queues().await?,
        pending: list(JobState::Pending).await?,
        running: list(JobState::Running).await?,
        dead: list(JobState::Dead).await?,
        metrics: shown.metrics.snapshot(),
    }))
}

pub(super) async fn retry(
    _: Button,
    State(shown): State<Shown>,
    Path(id): Path<i64>,
) -> Result<Json<JobState>, Refusal> {
    Ok(Json(shown.queue.retry(JobId(id)).await?))
}

pub(super) async fn cancel(
    _: Button,
    State(shown): State<Shown>,
    Path(id): Path<i64>,
) -> Result<Json<JobState>, Refusal> {
    Ok(Json(shown.queue.cancel(JobId(id)).await?))
}

pub(super) async fn pause(
    _: Button,
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<(), Refusal> {
    Ok(shown.queue.pause(&name).await?)
}

pub(super) async fn resume(
    _: Button,
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<(), Refusal> {
    Ok(shown.queue.resume(&name).await?)
}

/// Shows that the request was made by our script. A browser lets no other origin send such a header
/// without asking first, and nobody answers.
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
