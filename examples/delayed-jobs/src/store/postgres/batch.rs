//! Batches: requests that arrive one by one while a statement is under way are combined into the next statement.

use std::sync::Arc;

use sqlx::Arguments;
use sqlx::postgres::PgArguments;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::super::StoreError;
use super::super::sql::Value;
use super::pool::Pool;

/// The sender of the requests.
pub(super) struct Batch<T>(Option<mpsc::UnboundedSender<T>>);

/// The receiver, which the tasks that build the statements share.
pub(super) type Inbox<T> = Arc<Mutex<mpsc::UnboundedReceiver<T>>>;

impl<T> Batch<T> {
    /// Creates a batch that accepts no requests.
    pub(super) fn idle() -> Batch<T> {
        Batch(None)
    }

    /// Starts `at_once` tasks that run `work`, so that at most `at_once` statements run at a time.
    pub(super) fn start<F>(
        at_once: usize,
        pool: &Arc<Pool>,
        tasks: &mut JoinSet<()>,
        work: impl Fn(Arc<Pool>, Inbox<T>) -> F,
    ) -> Batch<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, inbox) = mpsc::unbounded_channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..at_once {
            tasks.spawn(work(Arc::clone(pool), Arc::clone(&inbox)));
        }
        Batch(Some(sender))
    }

    pub(super) fn send(&self, one: T) -> Result<(), StoreError> {
        let sender = self.0.as_ref().ok_or(StoreError::Closed)?;
        sender.send(one).map_err(|_| StoreError::Closed)
    }
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
