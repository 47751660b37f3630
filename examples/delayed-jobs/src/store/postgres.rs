//! A Postgres database, for many workers on many machines.
//!
//! A few connections take turns and are made anew when they break. Commits of different connections share
//! an `fsync`, which is Postgres' own group commit. `NOTIFY` takes a lock of the whole database at commit,
//! so it is a hint that is sent ten times a second at most; whoever misses one finds the job by looking
//! ahead.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Config, GenericClient, NoTls, Statement};

use super::sql::{self, Database, Execute, Row, Sql, Value};
use super::types::{Enqueued, NewJob};
use super::{Answer, Store, StoreError};
use crate::time::Clock;

const MIGRATIONS: &[&str] = &[include_str!("../../schema/postgres/001_jobs.sql")];

/// Keeps two programs from migrating at once. The number is only ours.
const LOCK: i64 = 0x6465_6c61_7965_6421;

/// The number of connections, beside the one that listens.
const LANES: usize = 4;

/// At most one notification in this time.
const QUIET: Duration = Duration::from_millis(100);

/// Longer statements are made for one use, and not worth keeping.
const KEPT_LENGTH: usize = 3000;

/// Opens the database, and brings its schema up to date.
///
/// The clock is the server's: it is asked once, and its distance from ours is kept. Connections are not
/// encrypted.
///
/// # Errors
///
/// [`StoreError::Postgres`] if it cannot be reached, and [`StoreError::TooNew`].
pub async fn open_postgres(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let config: Config = url.parse()?;
    let mut client = connect(&config).await?;
    migrate(&mut client).await?;
    let clock = clock(&client).await?;
    let name = format!("{:016x}", fastrand::u64(..));
    let lanes = Arc::new(Lanes {
        config: config.clone(),
        lanes: (0..LANES).map(|_| AsyncMutex::default()).collect(),
        turn: AtomicUsize::new(0),
    });
    let (bell, (change, changes)) = (Arc::new(Notify::new()), watch::channel(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(tell(Arc::clone(&lanes), Arc::clone(&bell), name.clone()));
    tasks.spawn(listen(config, name, change));
    Ok(Arc::new(Sql {
        database: Postgres {
            lanes,
            bell,
            changes,
            _tasks: tasks,
        },
        clock,
    }))
}

async fn connect(config: &Config) -> Result<Client, StoreError> {
    let (client, connection) = config.connect(NoTls).await?;
    // It ends when the client is dropped; a broken one is seen by `is_closed`.
    tokio::spawn(connection);
    Ok(client)
}

/// Runs the migrations that the database has not seen.
async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    transaction
        .execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    transaction
        .batch_execute(
            "create table if not exists delayed_jobs_schema (version bigint primary key)",
        )
        .await?;
    let sql = "select coalesce(max(version), 0) from delayed_jobs_schema";
    let (found, known): (i64, _) = (
        transaction.query_one(sql, &[]).await?.get(0),
        MIGRATIONS.len() as i64,
    );
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(found as usize) {
        transaction.batch_execute(migration).await?;
        let sql = "insert into delayed_jobs_schema (version) values ($1)";
        transaction.execute(sql, &[&version]).await?;
    }
    Ok(transaction.commit().await?)
}

/// Half of the way there and back is taken off.
async fn clock(client: &Client) -> Result<Clock, StoreError> {
    let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let ask = client.prepare(sql).await?;
    let before = Clock::system().now();
    let theirs: i64 = client.query_one(&ask, &[]).await?.get(0);
    let after = Clock::system().now();
    Ok(Clock::system_with_offset(theirs - (before.0 + after.0) / 2))
}

/// Sends what was announced, at most once in [`QUIET`].
async fn tell(lanes: Arc<Lanes>, bell: Arc<Notify>, name: String) {
    loop {
        bell.notified().await;
        let sql = "select pg_notify('delayed_jobs', $1)::text";
        if let Err(error) = lanes.query(sql, vec![Value::Text(name.clone())]).await {
            tracing::warn!(%error, "other workers could not be told; they will find out by looking");
        }
        sleep(QUIET).await;
    }
}

/// Counts the notifications of others, and once more a little later for those they held back.
async fn listen(config: Config, name: String, change: watch::Sender<u64>) {
    loop {
        if let Err(error) = listen_once(&config, &name, &change).await {
            tracing::warn!(%error, "not listening for other workers; trying again in a second");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn listen_once(
    config: &Config,
    name: &str,
    change: &watch::Sender<u64>,
) -> Result<(), StoreError> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let messages = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message?
                && notification.payload() != name
            {
                change.send_modify(|changes| *changes += 1);
                let change = change.clone();
                tokio::spawn(async move {
                    sleep(2 * QUIET).await;
                    change.send_modify(|changes| *changes += 1);
                });
            }
        }
        Ok(())
    };
    // The answer to `listen` comes by the same connection, so it has to be driven meanwhile.
    let listening = async {
        client.batch_execute("listen delayed_jobs").await?;
        std::future::pending::<Result<(), StoreError>>().await
    };
    tokio::select! {
        ended = messages => ended,
        failed = listening => failed,
    }
}

struct Postgres {
    lanes: Arc<Lanes>,
    bell: Arc<Notify>,
    changes: watch::Receiver<u64>,
    /// They end with the store.
    _tasks: JoinSet<()>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Execute for Postgres {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>> {
        self.lanes.query(sql, values)
    }
}

impl Database for Postgres {
    fn announce(&self) {
        self.bell.notify_one();
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

struct Lanes {
    config: Config,
    lanes: Vec<AsyncMutex<Option<Arc<Lane>>>>,
    turn: AtomicUsize,
}

struct Lane {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
}

impl Lanes {
    /// The next connection that is whole, made anew if it is not.
    async fn lane(&self) -> Result<Arc<Lane>, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut lane = self.lanes[turn % self.lanes.len()].lock().await;
        if let Some(lane) = lane.as_ref().filter(|lane| !lane.client.is_closed()) {
            return Ok(Arc::clone(lane));
        }
        let made = Arc::new(Lane {
            client: connect(&self.config).await?,
            statements: Mutex::default(),
        });
        Ok(Arc::clone(lane.insert(made)))
    }
}

impl Lane {
    async fn statement(&self, sql: &str) -> Result<Statement, StoreError> {
        let statements = || {
            self.statements
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let known = statements().get(sql).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let statement = self.client.prepare(&for_postgres(sql)).await?;
        if sql.len() <= KEPT_LENGTH {
            statements().insert(sql.to_owned(), statement.clone());
        }
        Ok(statement)
    }
}

impl Execute for Lanes {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>> {
        let sql = sql.to_owned();
        Box::pin(async move {
            let lane = self.lane().await?;
            let statement = lane.statement(&sql).await?;
            collect(&lane.client, &statement, &values).await
        })
    }
}

/// A transaction of the caller's.
struct Theirs<'a, C>(&'a C);

impl<C: GenericClient + Sync> Execute for Theirs<'_, C> {
    fn query<'a>(&'a self, sql: &str, values: Vec<Value>) -> Answer<'a, Vec<Row>> {
        let sql = for_postgres(sql);
        Box::pin(async move {
            let statement = self.0.prepare(&sql).await?;
            collect(self.0, &statement, &values).await
        })
    }
}

fn for_postgres(sql: &str) -> String {
    sql.replace("/* skip locked */", "for update skip locked")
}

async fn collect<C: GenericClient>(
    client: &C,
    statement: &Statement,
    values: &[Value],
) -> Result<Vec<Row>, StoreError> {
    let values: Vec<&(dyn ToSql + Sync)> = values
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect();
    let rows = client.query(statement, &values).await?;
    rows.into_iter().map(row).collect()
}

fn row(row: tokio_postgres::Row) -> Result<Row, StoreError> {
    let cell = |at: usize| {
        Ok(match *row.columns()[at].type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.into(),
            _ => row.try_get::<_, Option<String>>(at)?.into(),
        })
    };
    let cells: Result<Vec<_>, StoreError> = (0..row.len()).map(cell).collect();
    Ok(Row(cells?.into_iter()))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) => value.to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::TEXT)
    }

    to_sql_checked!();
}

/// When a notification went out with a transaction last, in microseconds of the machine's clock.
static LAST_TOLD: AtomicI64 = AtomicI64::new(0);

/// Enqueues a job within the caller's transaction. Workers are notified at the commit.
pub(crate) async fn enqueue_in<C: GenericClient + Sync>(
    client: &C,
    job: &NewJob,
) -> Result<Enqueued, StoreError> {
    let enqueued = sql::enqueue(&Theirs(client), job).await?;
    let now = Clock::system().now().0;
    if now - LAST_TOLD.load(Ordering::Relaxed) > QUIET.as_micros() as i64 {
        LAST_TOLD.store(now, Ordering::Relaxed);
        client
            .execute("select pg_notify('delayed_jobs', '')", &[])
            .await?;
    }
    Ok(enqueued)
}
