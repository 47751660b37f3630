//! What the page's buttons do.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::api::{Refusal, Shown, Wanted};
use super::overview::queue_views;
use crate::job::{Cursor, JobId, State as JobState};
use crate::limit::Limit;
use crate::queue::AskError;
use crate::store::{Change, Filter};

/// How long one request changes jobs. If there are more then, the script sends another one.
const LONG: Duration = Duration::from_secs(2);

/// The maximum number of jobs that one statement changes.
const LOT: usize = 500;

/// Shows that the request was made by our script. A browser lets no other origin send such a header
/// without asking first, and gets no answer.
pub(super) struct Button;

impl<S: Sync> FromRequestParts<S> for Button {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Button, Refusal> {
        match parts.headers.contains_key("x-delayed-jobs") {
            true => Ok(Button),
            false => {
                let words = "the header x-delayed-jobs is missing";
                Err(Refusal::new(StatusCode::FORBIDDEN, words))
            }
        }
    }
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

/// The number of jobs that were changed, and the cursor of the next request if there are more.
#[derive(Default, Serialize)]
pub(super) struct Changed {
    jobs: u64,
    more: bool,
    after: Option<Cursor>,
}

/// Changes what a search shows, and all that it would show on its next pages.
pub(super) async fn change(
    _: Button,
    State(shown): State<Shown>,
    Path(word): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Changed>, Refusal> {
    let wrong = |words| Refusal::new(StatusCode::BAD_REQUEST, words);
    let change = match word.as_str() {
        "retry" => Change::Retry,
        "cancel" => Change::Cancel,
        "delete" => Change::Delete,
        _ => return Err(wrong("jobs are retried, cancelled or deleted")),
    };
    if wanted.is_all() {
        return Err(wrong(
            "choose which jobs first: a state, a kind, a queue, a key or a text",
        ));
    }
    let changed = match wanted.is_search() {
        true => change_found(&shown, change, wanted).await?,
        false => change_all(&shown, change, wanted).await?,
    };
    shown.overview.forget().await;
    Ok(Json(changed))
}

/// Changes all jobs of a filter, [`LOT`] in one statement. A job that was changed no longer matches, so each statement finds
/// others.
async fn change_all(shown: &Shown, change: Change, mut wanted: Wanted) -> Result<Changed, Refusal> {
    let begun = Instant::now();
    wanted.after = None;
    let mut changed = Changed::default();
    loop {
        let lot = shown.queue.change(change, wanted.filter(LOT)).await?;
        changed.jobs += lot;
        changed.more = lot == LOT as u64;
        if !changed.more || begun.elapsed() > LONG {
            return Ok(changed);
        }
    }
}

/// Changes the jobs that a search in payloads finds, each by its id. The search is made here and not by the statement that
/// changes them, since the store does not know what the page hides of a payload.
async fn change_found(
    shown: &Shown,
    change: Change,
    mut wanted: Wanted,
) -> Result<Changed, Refusal> {
    let begun = Instant::now();
    let mut found = Vec::new();
    let mut changed = Changed {
        more: true,
        ..Changed::default()
    };
    while changed.more && found.len() < LOT && begun.elapsed() < LONG / 2 {
        let page = shown.found(&wanted).await?;
        found.extend(page.jobs.into_iter().map(|job| job.id));
        wanted.after = page.next;
        changed.after = page.next;
        changed.more = page.next.is_some();
    }
    for id in found {
        let one = Filter {
            id: Some(id),
            state: wanted.state,
            limit: 1,
            ..Filter::default()
        };
        changed.jobs += shown.queue.change(change, one).await?;
    }
    Ok(changed)
}

/// Fails if the page does not show a queue. A pause and a limit are rows of their own in the store, which must not fill
/// with rows for names that no job has.
async fn known(shown: &Shown, name: &str) -> Result<(), Refusal> {
    let known = queue_views(&shown.queue).await?;
    match known.iter().any(|queue| queue.row.name == name) {
        true => Ok(()),
        false => {
            let words = "there is no such queue with jobs or limits";
            Err(Refusal::new(StatusCode::NOT_FOUND, words))
        }
    }
}

pub(super) async fn pause(
    _: Button,
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<(), Refusal> {
    known(&shown, &name).await?;
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

/// Limits as a person writes them: rates are starts in a minute.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(super) struct Limits {
    at_once: Option<u32>,
    rate: Option<f64>,
    key_at_once: Option<u32>,
    key_rate: Option<f64>,
    worker_at_once: Option<u32>,
}

impl Limits {
    /// Reads limits; none of them may be zero, which is what a pause is for.
    fn limit(&self) -> Option<Limit> {
        let mut limit = Limit::default();
        let is_some = |number: &u32| *number > 0;
        for (number, set) in [
            (self.at_once, Limit::at_once as fn(Limit, u32) -> Limit),
            (self.key_at_once, Limit::key_at_once),
            (self.worker_at_once, Limit::worker_at_once),
        ] {
            if let Some(number) = number {
                limit = set(limit, Some(number).filter(is_some)?);
            }
        }
        for (rate, set) in [
            (self.rate, Limit::rate as fn(Limit, u32, Duration) -> Limit),
            (self.key_rate, Limit::key_rate),
        ] {
            if let Some(rate) = rate {
                // A rate per minute, from one job in two years to a million per second.
                let is_rate = (1e-6..=6e7).contains(&rate);
                limit = set(
                    limit,
                    1,
                    Duration::from_secs_f64(60.0 / Some(rate).filter(|_| is_rate)?),
                );
            }
        }
        Some(limit)
    }

    pub(super) fn of(limit: &Limit) -> Limits {
        let rate = |every: i64| 60e6 / every as f64;
        Limits {
            at_once: limit.all.at_once,
            rate: limit.all.pace.map(|pace| rate(pace.every)),
            key_at_once: limit.key.at_once,
            key_rate: limit.key.pace.map(|pace| rate(pace.every)),
            worker_at_once: limit.worker,
        }
    }
}

pub(super) async fn limit(
    _: Button,
    State(shown): State<Shown>,
    Path(name): Path<String>,
    Json(limits): Json<Limits>,
) -> Result<(), Refusal> {
    let words = "a limit is more than zero: pause the queue instead";
    let limit = limits.limit();
    let limit = limit.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, words))?;
    if limit != Limit::default() {
        known(&shown, &name).await?;
    }
    shown.queue.limit(&name, limit).await?;
    shown.overview.forget().await;
    Ok(())
}

pub(super) async fn schedule(
    _: Button,
    State(shown): State<Shown>,
    Path((name, word)): Path<(String, String)>,
) -> Result<(), Refusal> {
    match word.as_str() {
        "pause" => shown.queue.pause_schedule(&name).await?,
        "resume" => shown.queue.resume_schedule(&name).await?,
        "run" => drop(shown.queue.run_schedule(&name).await?),
        _ => {
            let words = "a schedule is paused, resumed or run";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, words));
        }
    }
    shown.overview.forget().await;
    Ok(())
}
