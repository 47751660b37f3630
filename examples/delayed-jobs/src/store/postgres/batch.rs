//! Batches: requests that arrive one by one while a statement is under way are combined into the next statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Arguments;
use sqlx::postgres::PgArguments;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::StoreError;
use super::super::sql::{ABANDONED, Value};
use super::pool::Pool;

/// The number of statements of a batch that are under way at a time, so that a request does not wait for others, and
/// one statement is built while others wait for the disk.
const AT_ONCE: usize = 3;

/// A request that can share a statement with others.
pub(super) trait Combine: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// The maximum number of requests in one statement.
    const MOST: usize;

    /// How long the first request of a statement waits for others, if the previous statement had several.
    const LINGER: Option<Duration>;

    /// Runs one statement for these requests, and returns the answer to each.
    fn run(
        pool: &Pool,
        requests: &[&Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// A request, with the channel for its answer.
struct Request<T: Combine> {
    what: T,
    sent: Instant,
    answer: oneshot::Sender<Result<T::Answer, StoreError>>,
}

impl<T: Combine> Request<T> {
    /// Sends the answer. If the caller no longer waits for it, this notifies the workers in its place.
    fn reply(self, pool: &Pool, answer: Result<T::Answer, StoreError>) {
        if self.answer.send(answer).is_err() {
            pool.changed();
        }
    }

    /// Returns whether its caller has gone, and it need not be run any more.
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed() && self.sent.elapsed() > ABANDONED
    }
}

/// The sender of the requests.
pub(super) struct Batch<T: Combine> {
    sender: Option<mpsc::UnboundedSender<Request<T>>>,
    timeout: Duration,
}

/// The receiver, which the tasks that run the statements share.
type Inbox<T> = Arc<Mutex<mpsc::UnboundedReceiver<Request<T>>>>;

impl<T: Combine> Batch<T> {
    /// Creates a batch that accepts no requests.
    pub(super) fn idle() -> Batch<T> {
        Batch {
            sender: None,
            timeout: Duration::ZERO,
        }
    }

    pub(super) fn start(pool: &Arc<Pool>, tasks: &mut JoinSet<()>) -> Batch<T> {
        let (sender, inbox) = mpsc::unbounded_channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..AT_ONCE {
            tasks.spawn(work(Arc::clone(pool), Arc::clone(&inbox)));
        }
        Batch {
            sender: Some(sender),
            timeout: pool.settings.query_timeout,
        }
    }

    /// Sends a request, and waits for its answer. The timeout of a statement includes the wait for earlier ones.
    pub(super) async fn ask(&self, what: T) -> Result<T::Answer, StoreError> {
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let sent = sender.send(Request {
            what,
            sent: Instant::now(),
            answer,
        });
        sent.map_err(|_| StoreError::Closed)?;
        match timeout(self.timeout, answered).await {
            Ok(answer) => answer.map_err(|_| StoreError::Closed)?,
            Err(_) => Err(StoreError::TimedOut(self.timeout)),
        }
    }
}

async fn work<T: Combine>(pool: Arc<Pool>, inbox: Inbox<T>) {
    let mut are_many = false;
    while let Some(requests) = next(&inbox, T::LINGER.filter(|_| are_many)).await {
        are_many = requests.len() > 1;
        let all: Vec<_> = requests.iter().map(|request| &request.what).collect();
        let answers = T::run(&pool, &all).await;
        match answers {
            Ok(answers) => {
                for (request, answer) in requests.into_iter().zip(answers) {
                    request.reply(&pool, Ok(answer));
                }
            }
            // One of the requests may have caused the error, and none had an effect. So they are run one by one.
            Err(StoreError::Postgres(sqlx::Error::Database(_))) if are_many => {
                for request in requests {
                    if !request.is_abandoned() {
                        let alone = T::run(&pool, &[&request.what]).await;
                        let first = |all: Vec<_>| all.into_iter().next().ok_or(StoreError::Closed);
                        request.reply(&pool, alone.and_then(first));
                    }
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for request in requests {
                    request.reply(&pool, Err(StoreError::Shared(Arc::clone(&error))));
                }
            }
        }
    }
}

/// Waits for requests, and returns those of the next statement. If `linger` is set, the first one waits that long for
/// others. Returns `None` when no more will come.
async fn next<T: Combine>(inbox: &Inbox<T>, linger: Option<Duration>) -> Option<Vec<Request<T>>> {
    let mut requests = Vec::new();
    while requests.is_empty() {
        let mut inbox = inbox.lock().await;
        if inbox.recv_many(&mut requests, T::MOST).await == 0 {
            return None;
        }
        if let Some(linger) = linger.filter(|_| requests.len() < T::MOST) {
            tokio::time::sleep(linger).await;
            while requests.len() < T::MOST
                && let Ok(request) = inbox.try_recv()
            {
                requests.push(request);
            }
        }
        requests.retain(|request| !request.is_abandoned());
    }
    Some(requests)
}

/// Converts rows of parameters to columns, each of which has texts or numbers. Further values of a row are ignored.
pub(super) fn columns(
    rows: Vec<Vec<Value>>,
    is_text: impl Iterator<Item = bool>,
) -> Result<PgArguments, StoreError> {
    let is_text: Vec<bool> = is_text.collect();
    let size = rows.len();
    let mut columns: Vec<_> = is_text.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for ((ints, texts), is_text) in columns.iter_mut().zip(&is_text) {
        match is_text {
            true => Vec::reserve_exact(texts, size),
            false => Vec::reserve_exact(ints, size),
        }
    }
    for row in rows {
        for (value, (ints, texts)) in row.into_iter().zip(&mut columns) {
            match value {
                Value::Int(value) => ints.push(value),
                Value::Text(value) => texts.push(value),
            }
        }
    }
    let mut arguments = PgArguments::default();
    for ((ints, texts), is_text) in columns.into_iter().zip(is_text) {
        let added = match is_text {
            true => arguments.add(texts),
            false => arguments.add(ints),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Returns the parameters of a statement that takes [`columns`], as lists with their types.
pub(super) fn lists<'a>(columns: impl Iterator<Item = (&'a str, bool)>) -> String {
    let list = |(number, (_, is_text)): (usize, (&str, bool))| match is_text {
        true => format!("${number}::text[]"),
        false => format!("${number}::bigint[]"),
    };
    let lists: Vec<_> = (1..).zip(columns).map(list).collect();
    lists.join(", ")
}
