//! The code that SQLite and Postgres share, which is nearly all: both use the same statements.
//!
//! Parameters are written `$1`, and integers are 64 bits wide. Where the two differ, the text has `/*sqlite ... */` and
//! `/*postgres ... */`: a clause for the one database, which is a comment for the other. At `/*tell */` Postgres can
//! notify other workers with the commit, and at `/*relax and */` and `/*relax where */` it can be told not to wait for
//! the disk.
//!
//! ```text
//! store        the store, on either database
//! transaction  the operations that can run in a transaction of the caller's
//! text         the statements
//! filter       statements for the jobs of a filter
//! limit        statements for queues that have limits over all workers
//! look         statements of pages and queries that are not about single jobs
//! execute      the interface of a database, as the statements use it
//! value        parameters and results of statements
//! schema       the versions of the tables
//! ```

mod execute;
mod filter;
mod limit;
mod look;
mod schema;
mod store;
mod text;
mod transaction;
mod value;

pub(super) use execute::{ABANDONED, Database, Execute, KEPT_LENGTH, Purpose, Steps, Text};
pub(super) use schema::Schema;
pub(super) use store::Sql;
#[cfg(test)]
pub(super) use text::all as all_statements;
#[cfg(feature = "postgres")]
pub(super) use text::columns;
pub(super) use text::{FINISH, dialect};
pub(super) use transaction::{enqueue, finish};
pub(super) use value::{Row, Value};
