//! Errors of a store.

use std::sync::Arc;

use crate::job::JobId;

/// The error of a store. Its text has that of the database's error, so that error is no [`source`](std::error::Error::source)
/// of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An error of SQLite.
    #[cfg(feature = "sqlite")]
    #[error("SQLite: {0}")]
    Sqlite(rusqlite::Error),
    /// The group of statements with this one could not be committed, so none of them was.
    #[error("SQLite could not commit: {0}")]
    Commit(String),
    /// Postgres returned an error, or cannot be reached.
    #[cfg(feature = "postgres")]
    #[error("Postgres: {0}")]
    Postgres(sqlx::Error),
    /// An error of a statement that was for several jobs at once.
    #[error(transparent)]
    Shared(Arc<StoreError>),
    /// The address of the database is not valid.
    #[error("{0}")]
    Address(&'static str),
    /// The file could not be created.
    #[error("SQLite: unable to open database file: {0}")]
    File(std::io::Error),
    /// The database did not answer in time, so it is not known whether the statement took effect.
    #[error("the database did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The database has no tables for jobs, or older ones than this program needs.
    #[error(
        "the schema has version {found}, and this program needs version {known}: run `delayed-jobs migrate`"
    )]
    TooOld {
        /// The version of the database, or 0 if there are no tables.
        found: i64,
        /// The version that this program needs.
        known: i64,
    },
    /// The schema is older than the oldest one that this program can bring up to date.
    #[error(
        "the schema has version {found}, and this program migrates only versions from {first} on: open the database once with an earlier release"
    )]
    TooOldToMigrate {
        /// The version of the database.
        found: i64,
        /// The oldest version that this program can bring up to date.
        first: i64,
    },
    /// The schema is newer than this program.
    #[error(
        "the schema has version {found}, and this program knows versions up to {known}: use a newer program"
    )]
    TooNew {
        /// The version of the database.
        found: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// A job that comes after others cannot replace another job, since that may be running by then.
    #[error("a job that comes after others cannot replace another one")]
    ReplacesAndWaits,
    /// A name has a zero byte, which Postgres cannot store. No job, queue or schedule has such a name.
    #[error("{0} must not have a zero byte")]
    ZeroByte(&'static str),
    /// A thread for the database could not be started.
    #[error("no thread for the database: {0}")]
    Thread(std::io::Error),
    /// The store's thread has ended, because the store was dropped or its thread panicked.
    #[error("the store has been closed")]
    Closed,
    /// A row has a value that this program never writes.
    #[error("{} holds {found}, where {wanted} was expected", row_of(*job))]
    Row {
        /// The job, if it is a row of the table of jobs.
        job: Option<JobId>,
        /// The value that was expected.
        wanted: &'static str,
        /// The value that was found.
        found: String,
    },
    /// A unique key became free and was taken again at each attempt to use it; try again.
    #[error("the key `{key}` changes hands too fast; try again")]
    Busy {
        /// The key.
        key: String,
    },
}

/// Names a row with a wrong value.
fn row_of(job: Option<JobId>) -> String {
    job.map_or_else(|| "a row".to_owned(), |id| format!("job {id}"))
}

#[cfg(feature = "sqlite")]
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError::Sqlite(error)
    }
}

#[cfg(feature = "postgres")]
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        StoreError::Postgres(error)
    }
}

impl StoreError {
    /// Returns `true` if a job was to come after itself. A trigger of the schema says so.
    pub(crate) fn comes_after_itself(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            StoreError::Sqlite(error) => {
                let code = error.sqlite_error().map(|error| error.extended_code);
                code == Some(rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER)
                    && error.to_string().contains("a job cannot come after itself")
            }
            #[cfg(feature = "postgres")]
            StoreError::Postgres(sqlx::Error::Database(error)) => {
                error.code().as_deref() == Some("DJ001")
            }
            StoreError::Shared(error) => error.comes_after_itself(),
            _ => false,
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl StoreError {
    /// Adds the job to the error of a row, so that its value can be found and mended.
    pub(super) fn of_job(self, id: JobId) -> StoreError {
        match self {
            StoreError::Row { wanted, found, .. } => {
                let job = Some(id);
                StoreError::Row { job, wanted, found }
            }
            other => other,
        }
    }

    /// Returns `true` if two jobs would have the same key.
    pub(super) fn is_key_taken(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            StoreError::Sqlite(error) => {
                let code = error.sqlite_error().map(|error| error.extended_code);
                code == Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
            }
            #[cfg(feature = "postgres")]
            StoreError::Postgres(sqlx::Error::Database(error)) => error.is_unique_violation(),
            _ => false,
        }
    }
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use std::error::Error;

    use super::StoreError;
    use crate::enqueue::EnqueueError;

    /// A reporter prints an error and then its sources.
    #[test]
    fn no_error_repeats_its_source() {
        let io = || std::io::Error::other("full");
        let json = serde_json::from_str::<u32>("x").expect_err("no number");
        let errors: [Box<dyn Error>; 5] = [
            Box::new(StoreError::Sqlite(rusqlite::Error::InvalidQuery)),
            Box::new(StoreError::Postgres(sqlx::Error::PoolClosed)),
            Box::new(StoreError::Thread(io())),
            Box::new(StoreError::File(io())),
            Box::new(EnqueueError::Payload(json)),
        ];
        for error in errors {
            let source = error.source().map(ToString::to_string);
            let repeats = source.is_some_and(|source| error.to_string().contains(&source));
            assert!(!repeats, "{error}");
        }
    }
}
