//! The options, and the steps that open a store: connect, migrate, listen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::sql::{Purpose, Sql};
use super::super::{Store, StoreError};
use super::batch::Batch;
use super::pool::{Pool, Settings, note_twice};
use super::{Postgres, QUIET, ask_clock, channel, migrate};
use crate::time::Clock;

/// How often a listening connection without notifications is checked.
const LISTENER_PING: Duration = Duration::from_secs(5);

/// The longest timeout, some 24 days: Postgres knows no longer one.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// The size of the cache of prepared statements. There are about forty constant statements.
const STATEMENTS: usize = 128;

/// Opens the database, and brings its schema up to date. [`PostgresOptions`] has more settings.
///
/// # Errors
///
/// Returns [`StoreError::Postgres`] if the database cannot be reached, [`StoreError::TimedOut`],
/// [`StoreError::TooNew`], or [`StoreError::TooOldToMigrate`].
pub async fn open_postgres(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    PostgresOptions::new(url)?.open().await
}

/// Options for a store on Postgres.
///
/// # Examples
///
/// ```no_run
/// # use std::time::Duration;
/// use delayed_jobs::Queue;
/// use delayed_jobs::store::PostgresOptions;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let options = PostgresOptions::new("postgres://app@db/shop?sslmode=verify-full")?
///     .schema("jobs")
///     .connections(8)
///     .query_timeout(Duration::from_secs(5));
/// let queue = Queue::on(options.open().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "`open` it"]
pub struct PostgresOptions {
    connect: PgConnectOptions,
    schema: Option<String>,
    connections: usize,
    connect_timeout: Duration,
    query_timeout: Duration,
    relaxed: Vec<String>,
    make: bool,
}

impl From<PgConnectOptions> for PostgresOptions {
    fn from(connect: PgConnectOptions) -> PostgresOptions {
        PostgresOptions {
            connect: connect.statement_cache_capacity(STATEMENTS),
            schema: None,
            connections: 6,
            connect_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(10),
            relaxed: Vec::new(),
            make: true,
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("database", &self.to_string())
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for PostgresOptions {
    /// Writes the server and the database, without the name and the password of the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.connect.get_host(), self.connect.get_port());
        let database = self.connect.get_database().unwrap_or_default();
        write!(f, "postgres://{host}:{port}/{database}")
    }
}

impl PostgresOptions {
    /// Creates options from a URL, with all parameters that sqlx knows: `sslmode`, `sslrootcert`, `options` and more.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Address`] if it is not a URL of Postgres. The error does not contain the URL.
    pub fn new(url: &str) -> Result<PostgresOptions, StoreError> {
        let connect: Result<PgConnectOptions, sqlx::Error> = url.parse();
        match connect {
            Ok(connect) => Ok(connect.into()),
            Err(_) => Err(StoreError::Address("this is no URL of a Postgres database")),
        }
    }

    /// Sets the schema of the tables. The default is the first one that the connection finds.
    ///
    /// # Panics
    ///
    /// If it is not a plain name: at most 40 lower-case letters, digits and `_`, not starting with a digit.
    #[track_caller]
    pub fn schema(mut self, schema: &str) -> PostgresOptions {
        let is_plain = schema.len() <= 40
            && schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && schema
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(
            is_plain,
            "delayed-jobs: `{schema}` is no plain name of a schema"
        );
        self.schema = Some(schema.to_owned());
        self
    }

    /// Sets the number of connections for work. The default is 6. One more connection listens, two serve queries of pages and
    /// programs, and each worker has one that sends the heartbeats of its running jobs.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn connections(mut self, connections: usize) -> PostgresOptions {
        assert!(connections > 0, "delayed-jobs: no connection is too few");
        self.connections = connections;
        self
    }

    /// Sets a timeout for connecting. The default is 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> PostgresOptions {
        self.connect_timeout = limit.min(LONGEST);
        self
    }

    /// Sets a timeout for a statement, including the wait for a connection and for statements before it. The default is
    /// 10 s.
    pub fn query_timeout(mut self, limit: Duration) -> PostgresOptions {
        self.query_timeout = limit.clamp(Duration::from_millis(1), LONGEST);
        self
    }

    /// Confirms the jobs of a queue before they are on the server's disk (`synchronous_commit = off`). With slow disks several
    /// times as many jobs are enqueued and worked. If the server or its machine crashes, what was confirmed in the last moments
    /// is undone, by the server's defaults at most about a second: jobs that were enqueued are lost, and jobs that were done run
    /// again. A crash of a worker loses nothing.
    ///
    /// It applies to what this process does with the queue: to claims, to ends, and to jobs that it enqueues without a key
    /// and that come after no others. Statements for queues with limits, for keys, or for jobs of other queues as well, wait
    /// for the disk.
    pub fn relaxed_queue(mut self, queue: &str) -> PostgresOptions {
        self.relaxed.push(queue.to_owned());
        self
    }

    /// Opens a database only if its tables exist and are up to date. It needs no right to create tables.
    pub fn existing(mut self) -> PostgresOptions {
        self.make = false;
        self
    }

    /// Creates the tables, or brings them up to date, and returns the version before and after.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](PostgresOptions::open).
    pub async fn migrate(&self) -> Result<(i64, i64), StoreError> {
        let pool = Pool::new(self.settings(), 1, watch::channel(0).0);
        migrate::migrate(&pool, true).await
    }

    fn settings(&self) -> Settings {
        Settings {
            connect: self.connect.clone(),
            schema: self.schema.clone(),
            connect_timeout: self.connect_timeout,
            query_timeout: self.query_timeout,
            name: format!("{:016x}", fastrand::u64(..)),
        }
    }

    /// Opens the database. If its schema is up to date, it needs no right to create anything.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Postgres`] if the database cannot be reached, [`StoreError::TimedOut`],
    /// [`StoreError::TooNew`], [`StoreError::TooOldToMigrate`], or [`StoreError::TooOld`] if tables are missing and may not
    /// be created.
    pub async fn open(self) -> Result<Arc<dyn Store>, StoreError> {
        let settings = self.settings();
        let (change, changes) = watch::channel(0);
        let work = Arc::new(Pool::new(
            settings.clone(),
            self.connections,
            change.clone(),
        ));
        migrate::migrate(&work, self.make).await?;
        let (now, _) = ask_clock(&work).await?;
        let look = Arc::new(Pool::new(settings.clone(), 2, change.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(tell(Arc::clone(&work)));
        tasks.spawn(listen(settings, change));
        let finisher = Batch::start(&work, &mut tasks);
        let inserter = Batch::start(&work, &mut tasks);
        Ok(Arc::new(Sql {
            database: Postgres {
                work,
                look,
                clock: Clock::server(now),
                finisher,
                inserter,
                changes,
                relaxed: self.relaxed.into(),
                _tasks: tasks,
            },
        }))
    }
}

/// Tells of what was written without a notification, since one had gone out a moment before.
async fn tell(pool: Arc<Pool>) {
    let channel = channel(pool.settings.schema.as_deref());
    let name = &pool.settings.name;
    let sql = format!("select pg_notify('{channel}', '{name}')::text");
    let mut is_well = true;
    loop {
        pool.untold.notified().await;
        sleep(QUIET).await;
        match pool
            .query(Purpose::Write, &sql, PgArguments::default())
            .await
        {
            Ok(_) => is_well = true,
            Err(error) if is_well => {
                tracing::warn!(%error, "other workers could not be told; they will find out by looking");
                is_well = false;
            }
            Err(_) => {}
        }
    }
}

/// Counts the notifications of others, and once more a little later for what came without one.
async fn listen(settings: Settings, change: watch::Sender<u64>) {
    let mut wait = Duration::from_secs(1);
    let mut is_well = true;
    loop {
        let begun = std::time::Instant::now();
        if let Err(error) = listen_once(&settings, &change).await
            && is_well
        {
            tracing::warn!(%error, "not listening for other workers; trying again");
            is_well = false;
        }
        if begun.elapsed() > 2 * LISTENER_PING {
            (wait, is_well) = (Duration::from_secs(1), true);
        }
        sleep(wait).await;
        wait = (2 * wait).min(Duration::from_secs(30));
    }
}

async fn listen_once(settings: &Settings, change: &watch::Sender<u64>) -> Result<(), StoreError> {
    let limit = settings.connect_timeout;
    let late = |_| StoreError::TimedOut(limit);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(limit);
    let pool = pool.connect_lazy_with(settings.connect.clone());
    let mut listener = timeout(limit, PgListener::connect_with(&pool))
        .await
        .map_err(late)??;
    let channel = channel(settings.schema.as_deref());
    timeout(limit, listener.listen(&channel))
        .await
        .map_err(late)??;
    // Notifications that were sent while no connection listened are lost, so every reader looks again.
    change.send_modify(|changes| *changes += 1);
    loop {
        match timeout(LISTENER_PING, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                if notification.payload() == settings.name {
                    continue;
                }
                note_twice(change);
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let ping = sqlx::query("select 1").execute(&mut listener);
                timeout(limit, ping).await.map_err(late)??;
            }
        }
    }
}
