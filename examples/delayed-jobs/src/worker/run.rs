//! One run of one job: its start, what can stop it, and its verdict.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::engine::Engine;
use super::error_text::{drop_quietly, error_text, panic_text};
use super::outage::with_jitter;
use super::settings::Settings;
use crate::handler::{Context, Output};
use crate::job::State;
use crate::metrics::Outcome;
use crate::retry::{Failure, Next};
use crate::store::{Claimed, Ended, Filter, Lease, StoreError, Verdict};

/// The ways to stop a run from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Stops {
    /// The token that the handler sees.
    pub(super) token: CancellationToken,
    cancelled: CancellationToken,
    lost: CancellationToken,
    /// The handler has ended the job in its own transaction, so a lost lease means nothing any more.
    pub(super) completed: Arc<AtomicBool>,
    /// The handler has returned or was stopped. Its end is being written, which also tells whether the lease was lost.
    pub(super) ended: Arc<AtomicBool>,
    /// How far the run has come.
    pub(super) stage: Arc<Stage>,
}

/// How far a run has come.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) started: AtomicBool,
    /// The run has ended and its end was written, or it was dropped.
    pub(super) over: AtomicBool,
}

/// Records that a run is over, also if it is dropped before its first poll.
pub(super) struct Over(Arc<Stage>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

impl Stops {
    pub(super) fn over(&self) -> Over {
        Over(Arc::clone(&self.stage))
    }

    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
        self.token.cancel();
    }

    pub(super) fn lose(&self) {
        self.lost.cancel();
        self.token.cancel();
    }
}

/// The error of a run that is not done although its handler says so.
const UNCOMMITTED: &str = "the transaction that ends the job was not committed";

/// How a run ended.
enum End {
    Returned(Result<(), Failure>),
    TimedOut(Duration),
    /// It was cancelled and did not return in time.
    Cancelled,
    /// The lease was lost; another worker may run the job.
    Lost,
}

/// Frees the slot of a job if its run panics outside of its handler. The lease of the job then expires.
struct SlotGuard {
    engine: Arc<Engine>,
    lane: usize,
    lease: Lease,
    _over: Over,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.engine.release_slot(self.lane, self.lease);
        }
    }
}

pub(super) async fn run(engine: Arc<Engine>, lane: usize, job: Claimed, stops: Stops, over: Over) {
    stops.stage.started.store(true, Ordering::SeqCst);
    let slot = SlotGuard {
        engine: Arc::clone(&engine),
        lane,
        lease: job.lease,
        _over: over,
    };
    let lateness = engine.clock.now().since(job.run_at);
    match job.run_at < engine.started_at {
        true => engine.metrics.start_overdue(),
        false => engine.metrics.start(lateness),
    }
    let id = job.lease.id;
    tracing::debug!(job = %id, kind = job.kind, attempt = job.attempt, ?lateness, "started");
    if engine.schedules.iter().any(|of| of.overlaps(&job.kind)) {
        engine.request_slots(&job.kind);
    }
    let output = Output::default();
    let context = Context {
        store: Arc::clone(&engine.store),
        lease: job.lease,
        attempt: job.attempt,
        run_at: job.run_at,
        lateness,
        token: stops.token.clone(),
        output: output.clone(),
        completed: Arc::clone(&stops.completed),
    };
    let begun = Instant::now();
    let end = caught(supervise(&engine, &job, context, &stops)).await;
    stops.ended.store(true, Ordering::SeqCst);
    let took = begun.elapsed();
    engine.lanes[lane].ran(took);
    let verdict = judge(&engine, &job, end, &stops, &output);
    let ends = engine.ends.clone();
    let end = async move {
        let _slot = slot;
        if let Some(verdict) = verdict {
            // If the handler has ended the job in a transaction, the answer of the store tells whether that was committed.
            let is_open = stops.completed.load(Ordering::SeqCst);
            if !is_open {
                log_end(&job, &verdict, took);
            }
            let verdict = conclude(&engine, &job, verdict, took, &stops).await;
            if is_open {
                log_end(&job, &verdict, took);
            }
            if let Verdict::Retry { at, .. } | Verdict::Snoozed { at } = verdict {
                let queue = &engine.lanes[lane].queue;
                engine.site.hint(queue, job.lease.id, at);
            }
        }
        engine.release_slot(lane, job.lease);
        engine.request_slots(&job.kind);
    };
    // The end is written by a job of another group, so that the slot is free while it is written to disk.
    if let Err(rejected) = ends.try_delay(Duration::ZERO, end) {
        rejected.into_inner().await;
    }
}

/// Emits one event for each end of a run.
fn log_end(job: &Claimed, verdict: &Verdict, took: Duration) {
    let (id, kind, attempt) = (job.lease.id, &job.kind, job.attempt);
    match verdict {
        Verdict::Done { .. } => tracing::debug!(job = %id, kind, attempt, ?took, "done"),
        Verdict::Retry { at, error } => {
            tracing::warn!(job = %id, kind, attempt, ?took, %at, error, "failed, and is tried again");
        }
        Verdict::Dead { error } => {
            tracing::error!(job = %id, kind, attempt, ?took, error, "dead: it is not tried again");
        }
        Verdict::Cancelled => tracing::info!(job = %id, kind, attempt, ?took, "cancelled"),
        Verdict::Snoozed { at } => tracing::debug!(job = %id, kind, attempt, %at, "snoozed"),
        Verdict::Released => tracing::info!(job = %id, kind, attempt, "given back"),
    }
}

async fn supervise(engine: &Engine, job: &Claimed, context: Context, stops: &Stops) -> End {
    let handler = engine.handlers.of(&job.kind);
    let timeout = job.timeout.or(handler.and_then(|handler| handler.timeout));
    let (id, kind, attempt) = (job.lease.id, &job.kind, job.attempt);
    let work = async { engine.handlers.start(job, context)?.await };
    // What the handler logs then tells its job.
    let work = work.instrument(tracing::info_span!("job", job = %id, kind, attempt));
    // When the time is over, this yields to the runtime once, and a result that is there comes first. So a run that ends
    // at the very moment of its timeout has ended.
    let out_of_time = async {
        match timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
        yield_now().await;
    };
    let cancelled = async {
        stops.cancelled.cancelled().await;
        sleep(engine.settings.cancel_grace).await;
        yield_now().await;
    };
    tokio::select! {
        biased;
        returned = work => End::Returned(returned),
        () = stops.lost.cancelled() => End::Lost,
        () = out_of_time => End::TimedOut(timeout.unwrap_or_default()),
        () = cancelled => End::Cancelled,
    }
}

/// Catches a panic of the handler or of a destructor, which is a failure like others.
async fn caught(work: impl Future<Output = End>) -> End {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // Asserts unwind safety: state that a handler shares with others is its own responsibility, as in a thread.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(payload) => {
                let text = panic_text(&*payload);
                drop_quietly(payload);
                Poll::Ready(End::Returned(Err(Failure::new(text))))
            }
        }
    })
    .await
}

/// Returns the verdict of a run; `None` if its lease was lost, since another worker may have the job by now.
fn judge(
    engine: &Engine,
    job: &Claimed,
    end: End,
    stops: &Stops,
    output: &Output,
) -> Option<Verdict> {
    let failure = match end {
        End::Lost => return None,
        // This takes effect only if the transaction was not committed, since the job has ended otherwise.
        End::Returned(Ok(())) if stops.completed.load(Ordering::SeqCst) => {
            Failure::new(UNCOMMITTED)
        }
        End::Returned(Ok(())) => {
            let output = output.lock().take();
            return Some(Verdict::Done { output });
        }
        End::Cancelled => return Some(Verdict::Cancelled),
        End::Returned(Err(failure)) => failure,
        End::TimedOut(timeout) => Failure::new(format!("not done after {timeout:?}")),
    };
    let next = failure.next;
    // Both run code of the handler's author, which may panic.
    let error = error_text(&*failure.error);
    drop_quietly(failure);
    if stops.cancelled.is_cancelled() {
        return Some(Verdict::Cancelled);
    }
    if let Next::Snooze(wait) = next {
        let at = engine.clock.now().after(wait);
        return Some(Verdict::Snoozed { at });
    }
    if engine.closing.load(Ordering::SeqCst) && next != Next::Dead {
        return Some(Verdict::Released);
    }
    let retry = engine.handlers.of(&job.kind).map(|handler| handler.retry);
    let retry = retry.unwrap_or_default();
    let retry = job.attempts.map_or(retry, |most| retry.attempts(most));
    let wait = retry.wait(job.attempt);
    let wait = match next {
        Next::After(asked) => wait.map(|_| asked),
        Next::Dead => None,
        _ => wait,
    };
    Some(match wait {
        Some(wait) => Verdict::Retry {
            at: engine.clock.now().after(wait),
            error,
        },
        None => Verdict::Dead { error },
    })
}

/// Writes the verdict to the store. It retries until the store answers. If the store answers other calls, it retries for
/// no longer than a lease, or ten seconds if the lease is shorter. Returns the verdict; if the handler has committed its own,
/// that is returned.
async fn conclude(
    engine: &Engine,
    job: &Claimed,
    verdict: Verdict,
    took: Duration,
    stops: &Stops,
) -> Verdict {
    let outcome = Outcome::of(&verdict);
    let ended = Ended {
        lease: job.lease,
        at: engine.clock.now(),
        verdict,
        relaxed: job.relaxed,
    };
    let Settings { lease, rescan, .. } = engine.settings;
    // Whether the store answers other calls is known after some looks, however short the lease is.
    let longest = lease.max(4 * rescan);
    let begun = Instant::now();
    let mut failing_since = begun;
    let mut is_unanswered = false;
    let mut wait = Duration::ZERO;
    loop {
        let write = async {
            let is_written = engine.in_time(engine.store.finish(ended.clone())).await?;
            let may_be_done = !is_written && stops.completed.load(Ordering::SeqCst);
            Ok((is_written, may_be_done && is_done(engine, job).await?))
        };
        match write.await {
            Ok((is_written, is_committed)) => {
                let (verdict, outcome) = match is_written {
                    // The handler has committed its transaction, so the job is done, whatever the handler returned.
                    false if is_committed => (Verdict::Done { output: None }, Outcome::Done),
                    // Within the lease it is an earlier call that has written the end, and whose answer was lost.
                    false if !is_unanswered || begun.elapsed() >= lease => {
                        tracing::warn!(job = %job.lease.id, "another worker has the job by now");
                        // An earlier call may have written the end, and a renewal may have told of the loss.
                        if !is_unanswered && !stops.lost.is_cancelled() {
                            engine.metrics.lose_lease();
                        }
                        return ended.verdict;
                    }
                    _ => (ended.verdict, outcome),
                };
                engine.metrics.end(&job.kind, outcome, Some(took));
                return verdict;
            }
            Err(error) => {
                is_unanswered = true;
                let what = "the end of a job could not be written";
                wait = engine.outage.failed_apart(what, &error, wait);
                if engine.outage.lasted() >= (lease / 2).max(2 * rescan) {
                    failing_since = Instant::now();
                }
                if failing_since.elapsed() + wait >= longest {
                    tracing::error!(%error, job = %job.lease.id, "its end was not written");
                    return ended.verdict;
                }
                sleep(with_jitter(wait)).await;
            }
        }
    }
}

/// Returns whether a job that its handler may have ended in a transaction is done. Otherwise its lease was lost. A job that
/// was deleted since was done.
async fn is_done(engine: &Engine, job: &Claimed) -> Result<bool, StoreError> {
    let this = Filter {
        id: Some(job.lease.id),
        longest: Some(0),
        ..Filter::default()
    };
    let found = engine.in_time(engine.store.list(this)).await?;
    Ok(found.iter().all(|job| job.state == State::Done))
}
