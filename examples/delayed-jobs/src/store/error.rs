//! Errors of a store.

use tokio_postgres::error::SqlState;

/// The error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An error of SQLite.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The group of statements that this one was in could not be committed, so nothing of it was.
    #[error("SQLite could not commit: {0}")]
    Commit(String),
    /// An error of Postgres, or it cannot be reached.
    #[error("Postgres: {}", in_full(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The schema is newer than this program.
    #[error(
        "the schema has version {found}, and this program knows versions up to {known}: use a newer program"
    )]
    TooNew {
        /// That of the database.
        found: i64,
        /// The latest one this program knows.
        known: i64,
    },
    /// A thread for the database could not be started.
    #[error("no thread for the database: {0}")]
    Thread(#[from] std::io::Error),
    /// The store's thread has ended, because the store was dropped or its thread panicked.
    #[error("the store has been closed")]
    Closed,
    /// A row holds a value that this program never writes.
    #[error("a row of the table of jobs holds {found}, where {wanted} was expected")]
    Row {
        /// The value that was expected.
        wanted: &'static str,
        /// The value that was found.
        found: String,
    },
    /// A unique key was freed and taken again each time it was looked at; try again.
    #[error("the key `{key}` changes hands too fast; try again")]
    Busy {
        /// The key.
        key: String,
    },
}

impl StoreError {
    /// Returns whether the error is that two unfinished jobs would have one key.
    pub(super) fn is_key_taken(&self) -> bool {
        match self {
            StoreError::Sqlite(error) => {
                let code = error.sqlite_error().map(|error| error.extended_code);
                code == Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
            }
            StoreError::Postgres(error) => error.code() == Some(&SqlState::UNIQUE_VIOLATION),
            _ => false,
        }
    }

    pub(super) fn state(word: &str) -> StoreError {
        StoreError::Row {
            wanted: "a state",
            found: format!("`{word}`"),
        }
    }
}

/// tokio-postgres says `db error` and leaves the rest to the source.
fn in_full(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
