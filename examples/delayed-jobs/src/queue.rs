//! The public API of an open store.

use std::sync::Arc;
use std::time::Duration;

use crate::enqueue::{Enqueue, EnqueueAll, EnqueueError};
use crate::job::{JobId, Payload, Record, State};
use crate::limit::Limit;
use crate::store::{
    Address, Asked, Change, Counts, Enqueued, Filter, Found, NewJob, QueueRow, ScheduleRow, Search,
    Store, StoreError, WorkerRow,
};
use crate::worker::{Site, Worker};

/// A handle to the jobs in a store: enqueue them, manage them, and create workers for them.
///
/// It is cheap to clone. Use one value per store and process: the workers of a queue know at once what is enqueued
/// through it.
#[derive(Clone, Debug)]
pub struct Queue {
    site: Arc<Site>,
}

/// The error of a job that was not cancelled or retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// There is no such job; it may have been deleted.
    #[error("there is no job {0}")]
    Unknown(JobId),
    /// The request does not apply to a job in this state.
    #[error("job {id} is {state}")]
    State {
        /// The job.
        id: JobId,
        /// Its state.
        state: State,
    },
    /// Another job has its unique key by now.
    #[error("another job has the key of job {0} by now")]
    KeyTaken(JobId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The error of a schedule that was not paused, resumed or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// No worker has declared a schedule of this name.
    #[error("there is no schedule `{0}`")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Queue {
    /// Opens a store: a Postgres database by `postgres://...`, or a SQLite file by a path, `sqlite:path` or
    /// `sqlite://path`. The file is created if it does not exist, except with `?mode=rw`. Tables are created or brought up to
    /// date.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be opened, belongs to a newer program or to a much older one, and
    /// [`StoreError::Address`] if the address has another form. A database in memory is rejected too, since it would be lost:
    /// see [`testkit`](crate::testkit).
    pub async fn open(database: &str) -> Result<Queue, StoreError> {
        match Address::parse(database)? {
            #[cfg(feature = "sqlite")]
            Address::Sqlite { path, create } => {
                let store = crate::store::open_sqlite_as(&path, create, true);
                Ok(Queue::on(store.await?))
            }
            #[cfg(feature = "postgres")]
            Address::Postgres(url) => Ok(Queue::on(crate::store::open_postgres(&url).await?)),
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            _ => Err(crate::store::not_built()),
        }
    }

    /// Opens a store that exists and is up to date. It creates nothing.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Queue::open), and [`StoreError::TooOld`].
    pub async fn open_existing(database: &str) -> Result<Queue, StoreError> {
        match Address::parse(database)? {
            #[cfg(feature = "sqlite")]
            Address::Sqlite { path, .. } => {
                let store = crate::store::open_sqlite_as(&path, false, false);
                Ok(Queue::on(store.await?))
            }
            #[cfg(feature = "postgres")]
            Address::Postgres(url) => {
                let options = crate::store::PostgresOptions::new(&url)?.existing();
                Ok(Queue::on(options.open().await?))
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            _ => Err(crate::store::not_built()),
        }
    }

    /// Creates a queue on a store of your own.
    pub fn on(store: Arc<dyn Store>) -> Queue {
        Queue {
            site: Arc::new(Site::new(store)),
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.site.store
    }

    /// Enqueues a job with this payload once the returned [`Enqueue`] is awaited.
    pub fn enqueue<T: Payload>(&self, payload: T) -> Enqueue<'_> {
        let payload = serde_json::to_string(&payload);
        let check = |payload: &str| serde_json::from_str::<T>(payload).map(drop);
        Enqueue::new(
            self,
            T::KIND.to_owned(),
            T::QUEUE.to_owned(),
            payload,
            check,
        )
    }

    /// Enqueues a job of a kind that has no type in this program, with JSON as its payload. Otherwise it is like
    /// [`enqueue`](Queue::enqueue).
    pub fn enqueue_json(&self, kind: &str, payload: &serde_json::Value) -> Enqueue<'_> {
        let payload = serde_json::to_string(payload);
        let queue_name = crate::job::DEFAULT_QUEUE.to_owned();
        Enqueue::new(self, kind.to_owned(), queue_name, payload, |_| Ok(()))
    }

    /// Enqueues many jobs once the returned [`EnqueueAll`] is awaited. This is much faster than one by one: up to 1,000 jobs
    /// without keys are one transaction, on Postgres up to 10,000 if none of them comes after others. It returns the outcome
    /// of each job in their order, also [`Enqueued::Refused`].
    ///
    /// # Errors
    ///
    /// Returns an [`EnqueueError`]. If there is more than one transaction, the first ones may have been stored.
    pub fn enqueue_all<'a>(&self, jobs: impl IntoIterator<Item = Enqueue<'a>>) -> EnqueueAll<'_> {
        EnqueueAll::new(self, jobs)
    }

    pub(crate) async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, EnqueueError> {
        let due: Vec<_> = jobs
            .iter()
            .map(|job| {
                let max_wait = job.key.as_ref().and_then(|key| key.max_wait);
                (job.queue.clone(), job.run_at, max_wait.is_some())
            })
            .collect();
        let enqueued = self.store().enqueue(jobs).await?;
        for ((queue, at, may_be_sooner), enqueued) in due.iter().zip(&enqueued) {
            match enqueued {
                Enqueued::Replaced(id) if *may_be_sooner => {
                    // Only the store knows since when the job has waited. The job is enqueued, so an error here is none of
                    // the caller's: the next look finds the time of the job.
                    let known = self.job(*id).await.ok().flatten();
                    self.site
                        .hint(queue, *id, known.map_or(*at, |job| job.run_at));
                }
                Enqueued::New(id) | Enqueued::Replaced(id) => self.site.hint(queue, *id, *at),
                Enqueued::Kept(_) | Enqueued::Refused(_) => {}
            }
        }
        Ok(enqueued)
    }

    /// Cancels a job, and returns its state. A pending job is cancelled at once. For a running job it returns `Running`:
    /// its token is cancelled, and it is dropped if it does not return in time.
    ///
    /// # Errors
    ///
    /// Returns an [`AskError`], also for a job that has ended.
    pub async fn cancel(&self, id: JobId) -> Result<State, AskError> {
        let asked = self.store().cancel(id, self.store().clock().now()).await?;
        let state = granted(id, asked)?;
        if state == State::Running {
            self.site.cancel(id);
        }
        // Other jobs may have waited for the end of this one. They need not be due yet.
        self.site.request_looks();
        Ok(state)
    }

    /// Makes a dead or cancelled job due now, with all its attempts. A pending job becomes due now, also if it waits for others.
    ///
    /// # Errors
    ///
    /// Returns an [`AskError`], also for a job that runs or is done.
    pub async fn retry(&self, id: JobId) -> Result<State, AskError> {
        let asked = self.store().retry(id, self.store().clock().now()).await?;
        let state = granted(id, asked)?;
        self.site.request_claims();
        Ok(state)
    }

    /// Returns the record of a job.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn job(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.store().get(id).await
    }

    /// Lists jobs. If the filter asks for pending ones, these are in the order in which they are due. Otherwise the job
    /// that was enqueued last comes first, also in a list of dead jobs.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Record>, StoreError> {
        self.store().list(filter).await
    }

    /// Searches jobs by their payloads. It reads at most as many jobs as the search allows, on a connection that no worker
    /// waits for, and returns where to continue.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn search(&self, search: Search) -> Result<Found, StoreError> {
        self.store().search(search).await
    }

    /// Returns the number of jobs that match a filter, up to its limit.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn count(&self, filter: Filter) -> Result<u64, StoreError> {
        self.store().count(filter).await
    }

    /// Returns the number of jobs in each state.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.store().counts().await
    }

    /// Lists the queues that hold unfinished jobs or are paused.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        self.store().queues().await
    }

    /// Lists the workers that are alive, in the order in which they started. A worker that was killed is listed for up to 40
    /// seconds more.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        self.store().workers(self.store().clock().now()).await
    }

    /// Lists the schedules that workers have declared.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        self.store().schedules().await
    }

    /// Pauses a schedule for all workers. Its pending job is deleted unless it has started before, and the runs until it is
    /// resumed are skipped.
    ///
    /// # Errors
    ///
    /// Returns a [`ScheduleError`].
    pub async fn pause_schedule(&self, name: &str) -> Result<(), ScheduleError> {
        self.set_schedule(name, true).await
    }

    /// Resumes a paused schedule: its next run is at its next time.
    ///
    /// # Errors
    ///
    /// Returns a [`ScheduleError`].
    pub async fn resume_schedule(&self, name: &str) -> Result<(), ScheduleError> {
        self.set_schedule(name, false).await
    }

    async fn set_schedule(&self, name: &str, paused: bool) -> Result<(), ScheduleError> {
        storable("the name of a schedule", name)?;
        let is_known = self.store().pause_schedule(name, paused).await?;
        self.site.request_looks();
        match is_known {
            true => Ok(()),
            false => Err(ScheduleError::Unknown(name.to_owned())),
        }
    }

    /// Enqueues a job of a schedule that is due at once, also if the schedule is paused. The job of its next time is not
    /// affected.
    ///
    /// # Errors
    ///
    /// Returns a [`ScheduleError`].
    pub async fn run_schedule(&self, name: &str) -> Result<JobId, ScheduleError> {
        storable("the name of a schedule", name)?;
        let now = self.store().clock().now();
        let made = self.store().run_schedule(name, now).await?;
        let (id, queue) = made.ok_or_else(|| ScheduleError::Unknown(name.to_owned()))?;
        self.site.hint(&queue, id, now);
        Ok(id)
    }

    /// Pauses a queue for all workers. Running jobs continue.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn pause(&self, queue: &str) -> Result<(), StoreError> {
        storable("the name of a queue", queue)?;
        self.store().pause(queue).await
    }

    /// Resumes a paused queue.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn resume(&self, queue: &str) -> Result<(), StoreError> {
        storable("the name of a queue", queue)?;
        self.store().resume(queue).await?;
        self.site.request_claims();
        Ok(())
    }

    /// Sets the limits of a queue, over all workers and per worker. They apply to workers that run, too.
    /// [`Limit::default`] removes them.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn limit(&self, queue: &str, limit: Limit) -> Result<(), StoreError> {
        storable("the name of a queue", queue)?;
        self.store().set_limit(queue, limit).await?;
        self.site.request_looks();
        Ok(())
    }

    /// Lists the queues that have limits.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn limits(&self) -> Result<Vec<(String, Limit)>, StoreError> {
        self.store().limits().await
    }

    /// Changes the jobs that match a filter, up to its limit, and returns their number. A retry applies to dead and
    /// cancelled jobs, and to pending ones if the filter asks for them. A delete applies to all but running jobs.
    ///
    /// Jobs are changed a few hundred at a time, with pauses for other work. If the future is dropped, the changes so far
    /// remain.
    ///
    /// # Examples
    ///
    /// ```
    /// # use delayed_jobs::{Change, Filter, State, testkit};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let queue = testkit::queue();
    /// let dead_emails = Filter {
    ///     state: Some(State::Dead),
    ///     kind: Some("email".to_owned()),
    ///     limit: usize::MAX,
    ///     ..Filter::default()
    /// };
    /// let retried = queue.change(Change::Retry, dead_emails).await?;
    /// # assert_eq!(retried, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn change(&self, change: Change, mut filter: Filter) -> Result<u64, StoreError> {
        const LOT: usize = 500;
        let mut left = filter.limit;
        let mut all = 0;
        loop {
            let now = self.store().clock().now();
            filter.limit = left.min(LOT);
            let changed = self.store().change(change, filter.clone(), now).await?;
            if change == Change::Cancel {
                // For jobs that were pending this does nothing, since they do not run.
                changed.iter().for_each(|id| self.site.cancel(*id));
            }
            match change {
                Change::Retry => self.site.request_claims(),
                // Other jobs may have waited for these, as in `cancel`.
                _ => self.site.request_looks(),
            }
            left -= changed.len().min(left);
            all += changed.len() as u64;
            if changed.len() < LOT || left == 0 {
                return Ok(all);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Creates a worker for these jobs. It has no handlers yet.
    pub fn worker(&self) -> Worker {
        Worker::new(Arc::clone(&self.site))
    }
}

/// Rejects a name that only some stores could store.
fn storable(what: &'static str, name: &str) -> Result<(), StoreError> {
    match name.contains('\0') {
        true => Err(StoreError::ZeroByte(what)),
        false => Ok(()),
    }
}

fn granted(id: JobId, asked: Asked) -> Result<State, AskError> {
    match asked {
        Asked::Granted(state) => Ok(state),
        Asked::Refused(state) => Err(AskError::State { id, state }),
        Asked::KeyTaken => Err(AskError::KeyTaken(id)),
        Asked::Unknown => Err(AskError::Unknown(id)),
    }
}
