//! One run of one job: its start, what may stop it, and its verdict.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use crate::handler::Context;
use crate::retry::{Failure, Next};
use crate::store::{Claimed, Ended, Verdict};

/// The ways in which others end a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Stops {
    /// The one that the handler sees.
    pub(super) token: CancellationToken,
    cancelled: CancellationToken,
    lost: CancellationToken,
}

impl Stops {
    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
        self.token.cancel();
    }

    pub(super) fn lose(&self) {
        self.lost.cancel();
        self.token.cancel();
    }
}

/// How a run ended.
enum End {
    Returned(Result<(), Failure>),
    TimedOut(Duration),
    /// It was to be cancelled and did not return in time.
    Cancelled,
    /// Another worker has the job by now.
    Lost,
}

pub(super) async fn run(engine: Arc<Engine>, lane: usize, job: Claimed, stops: Stops) {
    let lateness = engine.clock.now().since(job.run_at);
    match job.run_at < engine.born {
        true => engine.metrics.start_overdue(),
        false => engine.metrics.start(lateness),
    }
    let context = Context {
        store: Arc::clone(&engine.store),
        lease: job.lease,
        attempt: job.attempt,
        run_at: job.run_at,
        lateness,
        token: stops.token.clone(),
    };
    let end = caught(supervise(&engine, &job, context, &stops)).await;
    if let Some(verdict) = judge(&engine, &job, end, &stops) {
        let again = match &verdict {
            Verdict::Retry { at, .. } => Some(*at),
            _ => None,
        };
        conclude(&engine, &job, verdict).await;
        if let Some(at) = again {
            engine.hint(lane, job.lease.id, at);
        }
    }
    engine.let_go(lane, job.lease);
}

async fn supervise(engine: &Engine, job: &Claimed, context: Context, stops: &Stops) -> End {
    let handler = engine.handlers.of(&job.kind);
    let timeout = handler.and_then(|handler| handler.timeout);
    let work = async { engine.handlers.start(job, context)?.await };
    let out_of_time = async {
        match timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let cancelled = async {
        stops.cancelled.cancelled().await;
        sleep(engine.settings.cancel_grace).await;
    };
    tokio::select! {
        returned = work => End::Returned(returned),
        () = out_of_time => End::TimedOut(timeout.unwrap_or_default()),
        () = stops.lost.cancelled() => End::Lost,
        () = cancelled => End::Cancelled,
    }
}

/// A panic is a failure like others, also one of a destructor.
async fn caught(work: impl Future<Output = End>) -> End {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // What the handler shares with others is its own affair, as with a thread that panics.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(payload) => Poll::Ready(End::Returned(Err(Failure::new(message(&*payload))))),
        }
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    format!(
        "panicked: {}",
        text.unwrap_or("with something that is no text")
    )
}

/// `None` if it is not ours to say.
fn judge(engine: &Engine, job: &Claimed, end: End, stops: &Stops) -> Option<Verdict> {
    let failure = match end {
        End::Lost => return None,
        End::Returned(Ok(())) => return Some(Verdict::Done),
        End::Cancelled => return Some(Verdict::Cancelled),
        End::Returned(Err(failure)) => failure,
        End::TimedOut(timeout) => Failure::new(format!("not done after {timeout:?}")),
    };
    if stops.cancelled.is_cancelled() {
        return Some(Verdict::Cancelled);
    }
    if engine.closing.load(Ordering::SeqCst) && failure.next != Next::Dead {
        return Some(Verdict::Released);
    }
    let retry = engine.handlers.of(&job.kind).map(|handler| handler.retry);
    let wait = retry.unwrap_or_default().wait(job.attempt);
    let wait = match failure.next {
        Next::Policy => wait,
        Next::After(asked) => wait.map(|_| asked),
        Next::Dead => None,
    };
    let error = failure.error.to_string();
    Some(match wait {
        Some(wait) => Verdict::Retry {
            at: engine.clock.now().after(wait),
            error,
        },
        None => Verdict::Dead { error },
    })
}

/// Tells the store, as long as the lease would last without a sign of life.
async fn conclude(engine: &Engine, job: &Claimed, verdict: Verdict) {
    let metrics = &engine.metrics;
    let count = match &verdict {
        Verdict::Done => &metrics.done,
        Verdict::Retry { .. } => &metrics.failed,
        Verdict::Dead { .. } => &metrics.dead,
        Verdict::Cancelled => &metrics.cancelled,
        Verdict::Released => &metrics.released,
    };
    let ended = Ended {
        lease: job.lease,
        at: engine.clock.now(),
        verdict,
    };
    let give_up = Instant::now() + engine.settings.lease;
    let mut wait = Duration::from_millis(50);
    loop {
        match engine.store.finish(ended.clone()).await {
            Ok(true) => {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(false) => {
                return tracing::warn!(job = %job.lease.id, "another worker has the job by now");
            }
            Err(error) if Instant::now() + wait < give_up => {
                tracing::warn!(%error, job = %job.lease.id, "its end could not be written; trying again");
                sleep(wait).await;
                wait *= 2;
            }
            Err(error) => {
                return tracing::error!(%error, job = %job.lease.id, "its end was not written");
            }
        }
    }
}
