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

/// Columns of parameters from rows of them; those at `texts` are texts, and the others numbers.
pub(super) fn columns(
    rows: Vec<Vec<Value>>,
    texts: &[usize],
    width: usize,
) -> Result<PgArguments, StoreError> {
    let mut columns = vec![(Vec::new(), Vec::new()); width];
    for row in rows {
        for (value, (ints, texts)) in row.into_iter().zip(&mut columns) {
            match value {
                Value::Int(value) => ints.push(value),
                Value::Text(value) => texts.push(value),
            }
        }
    }
    let mut arguments = PgArguments::default();
    for (at, (ints, words)) in columns.into_iter().enumerate() {
        let added = match texts.contains(&at) {
            true => arguments.add(words),
            false => arguments.add(ints),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
