//! The settings of a job that is being enqueued.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use crate::job::{JobId, Priority};
use crate::queue::Queue;
use crate::store::{After, Enqueued, NewJob, StoreError};
use crate::time::Micros;
use crate::unique::Unique;

/// A job that is not enqueued yet; created by [`Queue::enqueue`]. Await it, or pass it to a transaction.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use delayed_jobs::{Enqueued, OnDuplicate, Payload, Priority, Unique, testkit};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Email { to: String }
/// # impl Payload for Email { const KIND: &'static str = "email"; }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = testkit::queue();
/// let email = |to: &str| Email { to: to.to_owned() };
///
/// let days = Duration::from_secs(24 * 3600);
/// let first = queue.enqueue(email("ada")).after(3 * days).unique("welcome:42").await?;
/// let again = queue
///     .enqueue(email("ada"))
///     .priority(Priority::High)
///     .unique(Unique::key("welcome:42").or(OnDuplicate::Keep))
///     .await?;
/// assert_eq!(again, Enqueued::Kept(first.id()));
/// # Ok(())
/// # }
/// ```
#[must_use = "await it, or nothing is enqueued"]
pub struct Enqueue<'a> {
    queue: &'a Queue,
    kind: String,
    queue_name: String,
    payload: Result<String, serde_json::Error>,
    /// Checks whether the payload can be read back.
    check: Check,
    priority: Priority,
    due: Due,
    attempts: Option<u32>,
    timeout: Option<Duration>,
    limit_key: Option<String>,
    unique: Option<Unique>,
    follows: Option<After>,
}

type Check = fn(&str) -> Result<(), serde_json::Error>;

/// The maximum length of the name of a kind or a queue, in bytes.
const LONGEST_NAME: usize = 200;

/// The maximum length of a key, in bytes. An index of Postgres allows 2,700.
const LONGEST_KEY: usize = 1000;

enum Due {
    After(Duration),
    At(Micros),
}

/// The error of a job that was not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// Another job has the key. Wait for that job, cancel it, or choose another [`OnDuplicate`](crate::OnDuplicate).
    #[error("job {job} holds the key `{key}`")]
    Duplicate {
        /// The key.
        key: String,
        /// The job that has it.
        job: JobId,
    },
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Payload(serde_json::Error),
    /// The payload can be written as JSON, but the JSON cannot be read back. For example, a NaN is written as `null`.
    #[error("the payload cannot be read back from what is written: {0}")]
    Unreadable(serde_json::Error),
    /// A name or a key cannot be stored by all databases.
    #[error("{what} must have 1 to {most} bytes, none of them zero")]
    Name {
        /// Which it is.
        what: &'static str,
        /// The longest that is taken.
        most: usize,
    },
    /// A job that comes after others cannot replace another job, since that may be running by then.
    #[error("a job that comes after others cannot replace another one")]
    ReplacesAndWaits,
    /// The job was to come after itself, since it names the id that it would get. It would wait for ever.
    #[error("a job cannot come after itself")]
    AfterItself,
    /// The store failed. The job may have been stored nevertheless, if only the answer was lost. With a unique key it is
    /// safe to enqueue it again.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for EnqueueError {
    fn from(error: StoreError) -> EnqueueError {
        match error {
            StoreError::ReplacesAndWaits => EnqueueError::ReplacesAndWaits,
            error if error.comes_after_itself() => EnqueueError::AfterItself,
            error => EnqueueError::Store(error),
        }
    }
}

impl<'a> Enqueue<'a> {
    pub(crate) fn new(
        queue: &'a Queue,
        kind: String,
        queue_name: String,
        payload: Result<String, serde_json::Error>,
        check: Check,
    ) -> Enqueue<'a> {
        Enqueue {
            queue,
            kind,
            queue_name,
            payload,
            check,
            priority: Priority::default(),
            due: Due::After(Duration::ZERO),
            attempts: None,
            timeout: None,
            limit_key: None,
            unique: None,
            follows: None,
        }
    }

    /// Sets the delay after which the job is due. By default it is due at once.
    pub fn after(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }

    /// Sets the time of the wall clock at which the job is due: a `SystemTime`, or [`Micros`].
    pub fn at(mut self, time: impl Into<Micros>) -> Self {
        self.due = Due::At(time.into());
        self
    }

    /// Sets the queue. The default is the queue of the payload. A worker runs the jobs of another queue only if its
    /// [`concurrency`](crate::Worker::concurrency) is set.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue_name = queue.into();
        self
    }

    /// Sets the priority among due jobs.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the maximum number of attempts, including the first. The default is that of the handler's
    /// [`Retry`](crate::Retry), which always sets the delays.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts.max(1));
        self
    }

    /// Sets a timeout for each run. The default is that of the handler's [`Handling`](crate::Handling).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the key by which the queue's limits per key count this job, for example a customer. See
    /// [`Limit`](crate::Limit).
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.limit_key = Some(key.into());
        self
    }

    /// Makes the job come after others: it waits until all of them are done, and is cancelled if one of them ends in
    /// another way, or is deleted while it is pending. A job that was deleted before, or is not there yet, counts as done.
    /// It does not wait for a job with a higher id than its own, which only another program can have inserted. A job cannot
    /// come after itself: see [`EnqueueError::AfterItself`].
    ///
    /// Of several calls of this and of [`after_ended`](Enqueue::after_ended) only the last one counts.
    ///
    /// # Examples
    ///
    /// ```
    /// # use delayed_jobs::{Payload, testkit};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Page(u32);
    /// # impl Payload for Page { const KIND: &'static str = "page"; }
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Bind(u32);
    /// # impl Payload for Bind { const KIND: &'static str = "bind"; }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let queue = testkit::queue();
    /// let pages = queue.enqueue_all((0..20).map(|n| queue.enqueue(Page(n)))).await?;
    /// queue.enqueue(Bind(20)).after_done(pages.iter().map(|page| page.id())).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn after_done(self, jobs: impl IntoIterator<Item = JobId>) -> Self {
        self.follow(jobs, false)
    }

    /// Makes the job come after others, however they end. This is the callback of a batch.
    pub fn after_ended(self, jobs: impl IntoIterator<Item = JobId>) -> Self {
        self.follow(jobs, true)
    }

    fn follow(mut self, jobs: impl IntoIterator<Item = JobId>, any_end: bool) -> Self {
        let jobs = jobs.into_iter().collect();
        self.follows = Some(After { jobs, any_end });
        self
    }

    /// Makes the job unique by a rule. A text is a key, and the job is rejected if another job has that key.
    pub fn unique(mut self, unique: impl Into<Unique>) -> Self {
        self.unique = Some(unique.into());
        self
    }

    /// Enqueues the job on a SQLite connection of yours to the same file. It is part of your transaction, so it exists if
    /// and only if that is committed.
    ///
    /// The call blocks, like all calls of rusqlite. Workers notice the commit within some 20 ms.
    ///
    /// Begin a transaction that reads first with `Immediate`. SQLite rejects the first write of another one, with `database
    /// is locked` and without a wait, if there was a commit since it has read.
    ///
    /// # Examples
    ///
    /// ```
    /// use rusqlite::{Connection, TransactionBehavior};
    /// # use delayed_jobs::{Payload, Queue};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Email { to: String }
    /// # impl Payload for Email { const KIND: &'static str = "email"; }
    ///
    /// fn sign_up(path: &str, queue: &Queue) -> Result<(), Box<dyn std::error::Error>> {
    ///     let mut connection = Connection::open(path)?;
    ///     let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    ///     transaction.execute("insert into users (name) values ('ada')", [])?;
    ///     queue.enqueue(Email { to: "ada@example.org".into() }).in_sqlite(&transaction)?;
    ///     transaction.commit()?;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("jobs.db");
    /// # let path = path.to_str().ok_or("a path")?;
    /// # let queue = Queue::open(path).await?;
    /// # Connection::open(path)?.execute_batch("create table users (name text)")?;
    /// tokio::task::block_in_place(|| sign_up(path, &queue))?;
    /// # assert_eq!(queue.counts().await?.pending, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnqueueError`].
    #[cfg(feature = "sqlite")]
    pub fn in_sqlite(self, connection: &rusqlite::Connection) -> Result<Enqueued, EnqueueError> {
        let (job, key) = self.alone();
        accepted(job.in_sqlite(connection)?, key)
    }

    /// Enqueues the job within a Postgres transaction of yours, so it exists if and only if that is committed. If the job is
    /// due within a minute, or replaces another one, the commit notifies the workers. Such commits run one after the other
    /// on the whole server, since `NOTIFY` takes a lock on it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use delayed_jobs::{Payload, Queue};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Email { to: String }
    /// # impl Payload for Email { const KIND: &'static str = "email"; }
    /// # async fn example(pool: sqlx::PgPool, queue: Queue) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = pool.begin().await?;
    /// sqlx::query("insert into users (name) values ('ada')").execute(&mut *transaction).await?;
    /// queue.enqueue(Email { to: "ada@example.org".into() }).in_postgres(&mut transaction).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnqueueError`].
    #[cfg(feature = "postgres")]
    pub async fn in_postgres(
        self,
        transaction: &mut sqlx::PgConnection,
    ) -> Result<Enqueued, EnqueueError> {
        let (job, key) = self.alone();
        accepted(job.in_postgres(transaction).await?, key)
    }

    /// Returns the job as the only one of many, and its key.
    fn alone(self) -> (EnqueueAll<'a>, Option<String>) {
        let all = EnqueueAll::new(self.queue, [self]);
        let job = all.jobs.as_ref().ok().and_then(|jobs| jobs.first());
        let key = job.and_then(|job| Some(job.key.as_ref()?.key.clone()));
        (all, key)
    }

    fn job(self) -> Result<NewJob, EnqueueError> {
        let now = self.queue.store().clock().now();
        let fits = |text: &str, most| (1..=most).contains(&text.len()) && !text.contains('\0');
        let key = self.unique.as_ref().and_then(Unique::own_key);
        let limit_key = self.limit_key.as_deref();
        for (what, text, most) in [
            ("a kind", self.kind.as_str(), LONGEST_NAME),
            (
                "the name of a queue",
                self.queue_name.as_str(),
                LONGEST_NAME,
            ),
            ("a key", key.unwrap_or("key"), LONGEST_KEY),
            ("a limit key", limit_key.unwrap_or("key"), LONGEST_KEY),
        ] {
            if !fits(text, most) {
                return Err(EnqueueError::Name { what, most });
            }
        }
        let payload = self.payload.map_err(EnqueueError::Payload)?;
        (self.check)(&payload).map_err(EnqueueError::Unreadable)?;
        let run_at = match self.due {
            Due::After(delay) => now.after(delay),
            Due::At(at) => at,
        };
        let latest = self.unique.as_ref().and_then(Unique::longest_wait);
        let run_at = latest.map_or(run_at, |wait| run_at.min(now.after(wait)));
        let key = self
            .unique
            .map(|unique| unique.of(&self.kind, &payload, run_at));
        Ok(NewJob {
            kind: self.kind,
            queue: self.queue_name,
            payload,
            priority: self.priority,
            run_at,
            created_at: now,
            attempts: self.attempts,
            timeout: self.timeout,
            limit_key: self.limit_key,
            key,
            after: self.follows,
        })
    }
}

/// Returns the outcome of a single job with this key.
fn accepted(enqueued: Vec<Enqueued>, key: Option<String>) -> Result<Enqueued, EnqueueError> {
    match enqueued.into_iter().next().ok_or(StoreError::Closed)? {
        Enqueued::Refused(job) => Err(EnqueueError::Duplicate {
            key: key.unwrap_or_default(),
            job,
        }),
        enqueued => Ok(enqueued),
    }
}

impl<'a> IntoFuture for Enqueue<'a> {
    type Output = Result<Enqueued, EnqueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (job, key) = self.alone();
            accepted(job.await?, key)
        })
    }
}

impl fmt::Debug for Enqueue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enqueue")
            .field("kind", &self.kind)
            .field("queue", &self.queue_name)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

/// Many jobs that are not enqueued yet; created by [`Queue::enqueue_all`]. Await it, or pass it to a transaction.
///
/// # Examples
///
/// ```
/// # use delayed_jobs::{Payload, testkit};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Email { to: String }
/// # impl Payload for Email { const KIND: &'static str = "email"; }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let queue = testkit::queue();
/// let emails = ["ada@example.org", "ben@example.org"].map(|to| Email { to: to.into() });
/// let enqueued = queue.enqueue_all(emails.map(|email| queue.enqueue(email))).await?;
/// assert_eq!(enqueued.len(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "await it, or nothing is enqueued"]
pub struct EnqueueAll<'a> {
    queue: &'a Queue,
    jobs: Result<Vec<NewJob>, EnqueueError>,
}

impl<'a> EnqueueAll<'a> {
    pub(crate) fn new<'b>(
        queue: &'a Queue,
        jobs: impl IntoIterator<Item = Enqueue<'b>>,
    ) -> EnqueueAll<'a> {
        let jobs = jobs.into_iter().map(Enqueue::job).collect();
        EnqueueAll { queue, jobs }
    }

    /// Enqueues the jobs on a SQLite connection of yours to the same file, as [`Enqueue::in_sqlite`] does with one. It returns
    /// the outcome of each job in their order, also [`Enqueued::Refused`].
    ///
    /// # Errors
    ///
    /// [`EnqueueError`]. Roll your transaction back, since it may have the first ones of the jobs.
    #[cfg(feature = "sqlite")]
    pub fn in_sqlite(
        self,
        connection: &rusqlite::Connection,
    ) -> Result<Vec<Enqueued>, EnqueueError> {
        let now = self.queue.store().clock().now();
        let enqueued = crate::store::enqueue_in_sqlite(connection, &self.jobs?, now)?;
        Ok(enqueued)
    }

    /// Enqueues the jobs within a Postgres transaction of yours, as [`Enqueue::in_postgres`] does with one. It returns the
    /// outcome of each job in their order, also [`Enqueued::Refused`].
    ///
    /// # Errors
    ///
    /// [`EnqueueError`]. Roll your transaction back, since it may have the first ones of the jobs.
    #[cfg(feature = "postgres")]
    pub async fn in_postgres(
        self,
        transaction: &mut sqlx::PgConnection,
    ) -> Result<Vec<Enqueued>, EnqueueError> {
        let store = self.queue.store();
        let (schema, now) = (store.schema(), store.clock().now());
        let jobs = self.jobs?;
        let enqueued = crate::store::enqueue_in_postgres(transaction, schema, &jobs, now).await?;
        Ok(enqueued)
    }
}

impl<'a> IntoFuture for EnqueueAll<'a> {
    type Output = Result<Vec<Enqueued>, EnqueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.queue.put(self.jobs?).await })
    }
}

impl fmt::Debug for EnqueueAll<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueAll")
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}
