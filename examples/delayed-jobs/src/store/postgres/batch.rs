//! What makes one statement of many that come one by one: those that have come in since the last one go together.

use std::sync::Arc;

use sqlx::Arguments;
use sqlx::postgres::PgArguments;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::super::StoreError;
use super::super::sql::Value;
use super::pool::Pool;

/// Where the statements are handed in.
pub(super) struct Batch<T>(Option<mpsc::UnboundedSender<T>>);

/// Where those that make the statements take them.
pub(super) type Inbox<T> = Arc<Mutex<mpsc::UnboundedReceiver<T>>>;

impl<T> Batch<T> {
    /// Creates one that accepts nothing.
    pub(super) fn idle() -> Batch<T> {
        Batch(None)
    }

    /// Starts `at_once` tasks that do `work`, as many statements as are on their way at a time.
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

/// Columns of parameters from rows of them, of which each column is of texts or of numbers. What a row has more than that is
/// left out.
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

/// The parameters of a statement that takes [`columns`], as lists of their types.
pub(super) fn lists<'a>(columns: impl Iterator<Item = (&'a str, bool)>) -> String {
    let list = |(number, (_, is_text)): (usize, (&str, bool))| match is_text {
        true => format!("${number}::text[]"),
        false => format!("${number}::bigint[]"),
    };
    let lists: Vec<_> = (1..).zip(columns).map(list).collect();
    lists.join(", ")
}
