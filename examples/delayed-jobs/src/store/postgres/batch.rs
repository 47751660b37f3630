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

/// A request, with the channel for its answer.
pub(super) struct Request<T, A> {
    pub(super) what: T,
    sent: Instant,
    answer: oneshot::Sender<Result<A, StoreError>>,
}

impl<T, A> Request<T, A> {
    /// Sends the answer. Returns `false` if the caller no longer waits for it.
    pub(super) fn reply(self, answer: Result<A, StoreError>) -> bool {
        self.answer.send(answer).is_ok()
    }

    /// Returns whether its caller has gone, and it need not be run any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed() && self.sent.elapsed() > ABANDONED
    }
}

/// The sender of the requests.
pub(super) struct Batch<T, A> {
    sender: Option<mpsc::UnboundedSender<Request<T, A>>>,
    timeout: Duration,
}

/// The receiver, which the tasks that build the statements share.
pub(super) type Inbox<T, A> = Arc<Mutex<mpsc::UnboundedReceiver<Request<T, A>>>>;

impl<T, A> Batch<T, A> {
    /// Creates a batch that accepts no requests.
    pub(super) fn idle() -> Batch<T, A> {
        Batch {
            sender: None,
            timeout: Duration::ZERO,
        }
    }

    /// Starts `at_once` tasks that run `work`, so that at most `at_once` statements run at a time.
    pub(super) fn start<F>(
        at_once: usize,
        pool: &Arc<Pool>,
        tasks: &mut JoinSet<()>,
        work: impl Fn(Arc<Pool>, Inbox<T, A>) -> F,
    ) -> Batch<T, A>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, inbox) = mpsc::unbounded_channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..at_once {
            tasks.spawn(work(Arc::clone(pool), Arc::clone(&inbox)));
        }
        Batch {
            sender: Some(sender),
            timeout: pool.settings.query_timeout,
        }
    }

    /// Sends a request, and waits for its answer. The timeout of a statement includes the wait for earlier ones.
    pub(super) async fn ask(&self, what: T) -> Result<A, StoreError> {
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

/// Waits for requests, and returns up to `most` of them. If `linger` is set, the first one waits that long for others.
/// Returns `None` when no more will come.
pub(super) async fn next<T, A>(
    inbox: &Inbox<T, A>,
    most: usize,
    linger: Option<Duration>,
) -> Option<Vec<Request<T, A>>> {
    let mut requests = Vec::new();
    while requests.is_empty() {
        let mut inbox = inbox.lock().await;
        if inbox.recv_many(&mut requests, most).await == 0 {
            return None;
        }
        if let Some(linger) = linger.filter(|_| requests.len() < most) {
            tokio::time::sleep(linger).await;
            while requests.len() < most
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
