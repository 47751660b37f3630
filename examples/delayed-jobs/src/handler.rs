//! The arguments of a handler, and the handlers of a worker.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::job::{JobId, Payload};
use crate::lock::lock;
use crate::retry::{Failure, Retry};
use crate::store::{Claimed, Lease, Store, StoreError};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::store::{Ended, Verdict};
use crate::time::Micros;

/// A running job, with its payload, its token, and its progress.
///
/// It may run more than once: if its worker is lost before the end is stored, another worker starts it again. Use its
/// [`id`](Job::id) to make its effects idempotent.
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

    /// Returns the time at which the job was due.
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
    /// A handler that ignores the token is dropped at its next await when the worker's grace is over.
    pub fn token(&self) -> &CancellationToken {
        &self.context.token
    }

    /// Stores the progress of the job. Values above 100 count as 100.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store. The job may continue after an error.
    pub async fn progress(&self, percent: u8) -> Result<(), StoreError> {
        let Context { store, lease, .. } = &self.context;
        store.progress(*lease, percent.min(100)).await?;
        Ok(())
    }

    /// Ends the job, with its output so far, on a SQLite connection of yours to the same file. The job is done if and only
    /// if your transaction is committed, together with all its other changes. Return from the handler soon after. If it is
    /// not committed, the run has failed, also if the handler returns `Ok`.
    ///
    /// The call blocks, like all calls of rusqlite. Begin a transaction that reads first with `Immediate`, as for
    /// [`Enqueue::in_sqlite`](crate::Enqueue::in_sqlite).
    ///
    /// # Errors
    ///
    /// Returns [`CompleteError::Lost`] if another worker has the job by now: roll your transaction back.
    #[cfg(feature = "sqlite")]
    pub fn complete_in_sqlite(
        &self,
        connection: &rusqlite::Connection,
    ) -> Result<(), CompleteError> {
        let is_held = crate::store::finish_in_sqlite(connection, self.done())?;
        self.completed(is_held)
    }

    /// Ends the job, with its output so far, within a Postgres transaction of yours. The job is done if and only if that is
    /// committed, together with all its other changes. Make this the last step, since it locks the row of the job until the
    /// commit, and return from the handler soon after. If it is not committed, the run has failed, also if the handler
    /// returns `Ok`.
    ///
    /// If other jobs come after this one, the transaction must be `READ COMMITTED`, which is Postgres' default: with a
    /// stricter isolation it does not see the ends of others, and this fails. Commit it at once, since it holds up the ends of
    /// other jobs meanwhile.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use delayed_jobs::{Failure, Job, Payload};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Charge { cents: i64 }
    /// # impl Payload for Charge { const KIND: &'static str = "charge"; }
    /// async fn charge(job: Job<Charge>, pool: sqlx::PgPool) -> Result<(), Failure> {
    ///     let mut transaction = pool.begin().await?;
    ///     let booking = sqlx::query("insert into bookings (cents) values ($1)");
    ///     booking.bind(job.payload.cents).execute(&mut *transaction).await?;
    ///     job.complete_in_postgres(&mut transaction).await?;
    ///     transaction.commit().await?; // the booking is made exactly once
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`CompleteError::Lost`] if another worker has the job by now: roll your transaction back.
    #[cfg(feature = "postgres")]
    pub async fn complete_in_postgres(
        &self,
        transaction: &mut sqlx::PgConnection,
    ) -> Result<(), CompleteError>
    where
        T: Sync,
    {
        let schema = self.context.store.schema();
        let ended = crate::store::finish_in_postgres(transaction, schema, self.done());
        let is_held = ended.await?;
        self.completed(is_held)
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn done(&self) -> Ended {
        let output = self.context.output.lock().clone();
        Ended {
            lease: self.context.lease,
            at: self.context.store.clock().now(),
            verdict: Verdict::Done { output },
            relaxed: false,
        }
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn completed(&self, is_held: bool) -> Result<(), CompleteError> {
        if !is_held {
            return Err(CompleteError::Lost(self.id()));
        }
        self.context.completed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Sets the output of the job. It is stored if this run succeeds, and kept as long as the job. A second output replaces
    /// the first.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written as JSON.
    pub fn output<O: Serialize + ?Sized>(&self, output: &O) -> Result<(), serde_json::Error> {
        let output = serde_json::to_string(output)?;
        *self.context.output.lock() = Some(output);
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

/// The context of a run, which does not depend on the type of the payload.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Lease,
    pub(crate) attempt: u32,
    pub(crate) run_at: Micros,
    pub(crate) lateness: Duration,
    pub(crate) token: CancellationToken,
    pub(crate) output: Output,
    /// It was ended in a transaction of the handler's, which may be committed or not.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "only a database has transactions")
    )]
    pub(crate) completed: Arc<AtomicBool>,
}

/// The error of a job that was not ended in a transaction.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// Another worker has the job by now, or the job has ended before. Roll the transaction back.
    #[error("job {0} is not held by this run any more")]
    Lost(JobId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a job has brought forth so far, as JSON.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Option<String>>>);

impl Output {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.0)
    }
}

pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

type Start = Box<dyn Fn(Context, &str) -> Result<Running, serde_json::Error> + Send + Sync>;

/// A handler, with the settings for its jobs.
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
    /// Adds a handler. Returns `false` if there was one for this kind already.
    pub(crate) fn add(&mut self, kind: &'static str, handler: Handler) -> bool {
        self.by_kind.insert(kind, handler).is_none()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.by_kind.keys().map(|kind| (*kind).to_owned()).collect()
    }

    pub(crate) fn of(&self, kind: &str) -> Option<&Handler> {
        self.by_kind.get(kind)
    }

    /// Starts a job, or returns the reason why it cannot start. A retry by a newer version of the program may succeed.
    pub(crate) fn start(&self, claimed: &Claimed, context: Context) -> Result<Running, Failure> {
        let kind = &claimed.kind;
        // A claim takes only kinds that have a handler.
        let no_handler = || Failure::new(format!("this worker has no handler for `{kind}`"));
        let handler = self.of(kind).ok_or_else(no_handler)?;
        (handler.start)(context, &claimed.payload)
            .map_err(|error| Failure::new(format!("the payload is no `{kind}`: {error}")))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_kind.keys()).finish()
    }
}
