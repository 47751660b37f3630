//! What a handler gets, and how handlers are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::job::{JobId, Payload};
use crate::retry::{Failure, Retry};
use crate::store::{Claimed, Lease, Store, StoreError};
use crate::time::Micros;

/// A running job: its payload, its token, and its progress.
///
/// It may run more than once: if its worker is lost before the end is in the store, another one starts
/// it again. Make its effects idempotent, by its [`id`](Job::id).
pub struct Job<T> {
    /// The payload.
    pub payload: T,
    context: Context,
}

impl<T> Job<T> {
    /// Returns the id of the job, the same for each attempt.
    pub fn id(&self) -> JobId {
        self.context.lease.id
    }

    /// Returns the number of this attempt, from 1. Attempts that a crash cut off do not count.
    pub fn attempt(&self) -> u32 {
        self.context.attempt
    }

    /// Returns the time at which it was due.
    pub fn run_at(&self) -> Micros {
        self.context.run_at
    }

    /// Returns how late this run started, measured from [`run_at`](Job::run_at).
    pub fn lateness(&self) -> Duration {
        self.context.lateness
    }

    /// Returns a token that is cancelled when the job is cancelled, when its lease is lost, and when its worker
    /// shuts down.
    ///
    /// A handler that ignores it is dropped at its next await when the worker's grace is over.
    pub fn token(&self) -> &CancellationToken {
        &self.context.token
    }

    /// Stores the progress of the job. More than 100 is 100.
    ///
    /// # Errors
    ///
    /// Those of the store. A job may continue without its progress being stored.
    pub async fn progress(&self, percent: u8) -> Result<(), StoreError> {
        let Context { store, lease, .. } = &self.context;
        store.progress(*lease, percent.min(100)).await?;
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id())
            .field("attempt", &self.attempt())
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

/// A job's side of its run, whatever it carries.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Lease,
    pub(crate) attempt: u32,
    pub(crate) run_at: Micros,
    pub(crate) lateness: Duration,
    pub(crate) token: CancellationToken,
}

pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

type Start = Box<dyn Fn(Context, &str) -> Result<Running, serde_json::Error> + Send + Sync>;

/// A handler, and how its jobs are treated.
pub(crate) struct Handler {
    start: Start,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
}

impl Handler {
    pub(crate) fn new<T, F, Fut>(run: F) -> Handler
    where
        T: Payload,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        Handler {
            start: Box::new(move |context, payload| {
                let payload = serde_json::from_str(payload)?;
                Ok(Box::pin(run(Job { payload, context })))
            }),
            retry: Retry::default(),
            timeout: None,
        }
    }
}

/// Handlers by the kind of their jobs.
#[derive(Default)]
pub(crate) struct Handlers {
    by_kind: BTreeMap<&'static str, Handler>,
}

impl Handlers {
    /// False if there was one for this kind already.
    pub(crate) fn add(&mut self, kind: &'static str, handler: Handler) -> bool {
        self.by_kind.insert(kind, handler).is_none()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.by_kind.keys().map(|kind| (*kind).to_owned()).collect()
    }

    pub(crate) fn of(&self, kind: &str) -> Option<&Handler> {
        self.by_kind.get(kind)
    }

    /// Starts a job; or says why it cannot be, which a retry by a newer program may mend.
    pub(crate) fn start(&self, claimed: &Claimed, context: Context) -> Result<Running, Failure> {
        let kind = &claimed.kind;
        let Some(handler) = self.of(kind) else {
            let known: Vec<_> = self.by_kind.keys().copied().collect();
            let known = known.join(", ");
            return Err(Failure::new(format!(
                "this worker has no handler for `{kind}`, only for: {known}"
            )));
        };
        (handler.start)(context, &claimed.payload)
            .map_err(|error| Failure::new(format!("the payload is no `{kind}`: {error}")))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_kind.keys()).finish()
    }
}
