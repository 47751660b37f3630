//! A pool of connections. Each call has a timeout.
//!
//! If a call times out or is dropped, its connection is closed, since the next answer on it could belong to that call. If
//! the call took long, the other connections are replaced too: what broke one of them, such as a firewall or a server that
//! has moved, has probably broken all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::super::StoreError;
use super::super::sql::{KEPT_LENGTH, Purpose, Row};
use super::{QUIET, fetch_steps, for_postgres, relaxed};
use crate::lock::lock;

/// If a call ends without an answer after this time, the connections are assumed to be dead.
const SUSPICIOUS: Duration = Duration::from_millis(500);

/// A connection that was idle for longer than this is checked before it is used, since a server that was restarted has
/// closed it.
const STALE: Duration = Duration::from_secs(1);

/// The pause before a transaction that the server has ended in a deadlock runs again.
const AFTER_DEADLOCK: Duration = Duration::from_millis(20);

/// What a pool is made from.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connect: PgConnectOptions,
    pub(super) schema: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) query_timeout: Duration,
    /// The name of this process in its notifications.
    pub(super) name: String,
}

/// A connection that is not in use.
struct Idle {
    generation: u64,
    since: Instant,
    connection: PgConnection,
}

pub(super) struct Pool {
    pub(super) settings: Settings,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// Connections of earlier generations are not used again.
    generation: AtomicU64,
    texts: Mutex<HashMap<(String, bool, bool), Arc<str>>>,
    begun: Instant,
    /// When the last statement with a notification began, in microseconds since `begun`.
    told: AtomicI64,
    /// Notified when a change should have been announced and was not.
    pub(super) untold: Notify,
    /// Changed when a call was dropped, since its effect is not known.
    change: watch::Sender<u64>,
}

impl Pool {
    pub(super) fn new(settings: Settings, size: usize, change: watch::Sender<u64>) -> Pool {
        Pool {
            settings,
            permits: Semaphore::new(size),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
            texts: Mutex::default(),
            begun: Instant::now(),
            told: AtomicI64::new(i64::MIN / 2),
            untold: Notify::new(),
            change,
        }
    }

    /// Returns a pool of one connection to the same database, for another runtime.
    pub(super) fn apart(&self) -> Pool {
        Pool::new(self.settings.clone(), 1, self.change.clone())
    }

    pub(super) async fn query(
        &self,
        purpose: Purpose,
        sql: &str,
        arguments: PgArguments,
    ) -> Result<Vec<Row>, StoreError> {
        let may_tell = sql.contains("/*tell */");
        let (now, last) = (self.micros(), self.told.load(Ordering::Relaxed));
        // Others do not notify from now on, although this one may have to wait for a connection.
        let tells = may_tell && now - last >= QUIET.as_micros() as i64 && self.set_told(last, now);
        let text = self.text(sql, tells, purpose == Purpose::Relaxed);
        let limit = self.settings.query_timeout;
        let answer = timeout(limit, self.run(vec![(text, arguments)])).await;
        let rows = answer.map_err(|_| StoreError::TimedOut(limit))??;
        let rows = rows.into_iter().next().unwrap_or_default();
        // A statement without a row has changed nothing. If it were announced, idle workers would wake each other for ever.
        let has_news = may_tell && !rows.is_empty();
        if has_news && !tells {
            self.untold.notify_one();
        } else if tells && !has_news {
            // The next statement may notify.
            self.set_told(now, last);
        }
        Ok(rows)
    }

    /// Sets the time of the last notification. Returns `false` if it is not `from` any more.
    fn set_told(&self, from: i64, to: i64) -> bool {
        let set = self
            .told
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        set.is_ok()
    }

    /// Runs several statements as one transaction.
    pub(super) async fn steps(
        &self,
        steps: Vec<(&str, PgArguments)>,
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let steps = steps.into_iter();
        // Steps that notify other workers are rare, so each of them does.
        let text = |sql: &str| self.text(sql, sql.contains("/*tell */"), false);
        let steps = steps.map(|(sql, arguments)| (text(sql), arguments));
        let limit = self.settings.query_timeout;
        let answer = timeout(limit, self.run(steps.collect())).await;
        answer.map_err(|_| StoreError::TimedOut(limit))?
    }

    fn micros(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn text(&self, sql: &str, tell: bool, relax: bool) -> Arc<str> {
        let texts = || lock(&self.texts);
        let key = (sql.to_owned(), tell, relax);
        if let Some(known) = texts().get(&key) {
            return Arc::clone(known);
        }
        let tell = tell.then_some(self.settings.name.as_str());
        let mut text = for_postgres(sql, self.settings.schema.as_deref(), tell);
        if relax {
            text = relaxed(&text);
        }
        let text: Arc<str> = text.into();
        if sql.len() <= KEPT_LENGTH {
            texts().insert(key, Arc::clone(&text));
        }
        text
    }

    async fn run(&self, steps: Vec<(Arc<str>, PgArguments)>) -> Result<Vec<Vec<Row>>, StoreError> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| StoreError::Closed)?;
        let mut watched = Watched {
            pool: self,
            begun: Instant::now(),
            answered: false,
        };
        let (mut generation, mut connection) = match self.idle().await {
            Some(idle) => (idle.generation, idle.connection),
            None => self.connect_anew().await?,
        };
        let mut outcome = fetch_steps(&mut connection, &steps).await;
        let only_looks = matches!(&steps[..], [(sql, _)] if sql.starts_with("select"));
        if only_looks && outcome.as_ref().is_err_and(was_shut_down) {
            // The server has ended the session. A read can be repeated safely.
            self.distrust();
            (generation, connection) = self.connect_anew().await?;
            outcome = fetch_steps(&mut connection, &steps).await;
        }
        while outcome.as_ref().is_err_and(was_deadlocked) {
            // Nothing of this transaction is left. At once it would lock again what the others wait for.
            sleep(AFTER_DEADLOCK).await;
            outcome = fetch_steps(&mut connection, &steps).await;
        }
        watched.answered = true;
        match &outcome {
            // After an error that the server reports, the connection can be used again, unless the error ends it.
            Err(error) if was_shut_down(error) => self.distrust(),
            Ok(_) | Err(sqlx::Error::Database(_)) => lock(&self.idle).push(Idle {
                generation,
                since: Instant::now(),
                connection,
            }),
            Err(_) => self.distrust(),
        }
        Ok(outcome?)
    }

    async fn idle(&self) -> Option<Idle> {
        loop {
            let generation = self.generation.load(Ordering::Relaxed);
            let mut idle = lock(&self.idle).pop()?;
            if idle.generation != generation {
                continue;
            }
            if idle.since.elapsed() < STALE || idle.connection.ping().await.is_ok() {
                return Some(idle);
            }
            self.distrust();
        }
    }

    /// Opens a connection, and returns it with its generation, which is the one in which this began.
    async fn connect_anew(&self) -> Result<(u64, PgConnection), StoreError> {
        let generation = self.generation.load(Ordering::Relaxed);
        Ok((generation, self.connect().await?))
    }

    /// Opens a connection. The server cancels a statement at the same timeout as this program. A statement that has waited
    /// for others has to see what they did, whatever the isolation of other programs on this database is.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let limit = self.settings.connect_timeout;
        let connecting = async {
            let mut connection = PgConnection::connect_with(&self.settings.connect).await?;
            let millis = self.settings.query_timeout.as_millis();
            let set = format!(
                "set statement_timeout = {millis}; set default_transaction_isolation = 'read committed'"
            );
            connection.execute(AssertSqlSafe(set)).await?;
            Ok(connection)
        };
        let connected: Result<_, sqlx::Error> = timeout(limit, connecting)
            .await
            .map_err(|_| StoreError::TimedOut(limit))?;
        Ok(connected?)
    }

    /// Notes a change that was not announced from here.
    pub(super) fn changed(&self) {
        self.change.send_modify(|changes| *changes += 1);
    }

    /// Stops using all present connections.
    fn distrust(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        lock(&self.idle).clear();
    }
}

/// Returns whether the session is over: `admin_shutdown`, `crash_shutdown` or `cannot_connect_now`; or of no use, since
/// the server has become a standby: `read_only_sql_transaction`. Another one may have the name of the server by now.
fn was_shut_down(error: &sqlx::Error) -> bool {
    has_code(error, &["57P01", "57P02", "57P03", "25006"])
}

/// Returns whether the server has ended this transaction since it and others waited for each other.
fn was_deadlocked(error: &sqlx::Error) -> bool {
    has_code(error, &["40P01"])
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| codes.contains(&&*code))
}

/// Detects calls that end without an answer, also if they are dropped.
struct Watched<'a> {
    pool: &'a Pool,
    begun: Instant,
    answered: bool,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if self.begun.elapsed() >= SUSPICIOUS {
            self.pool.distrust();
        }
        // The transaction may have enqueued jobs all the same, now or in a moment.
        note_twice(&self.pool.change);
    }
}

/// Notes a change, and once more a little later for what came meanwhile.
pub(super) fn note_twice(change: &watch::Sender<u64>) {
    let note = |change: &watch::Sender<u64>| change.send_modify(|changes| *changes += 1);
    note(change);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let change = change.clone();
        runtime.spawn(async move {
            sleep(2 * QUIET).await;
            note(&change);
        });
    }
}
