//! All that SQLite and Postgres share, which is nearly everything: their statements are the same text.
//!
//! Parameters are written `$1`, and integers are 64 bits wide. Where the two differ the text says
//! `/*sqlite ... */` and `/*postgres ... */`: a clause for the one and a comment for the other. `/*tell */` stands
//! where Postgres may notify other workers with the commit, and `/*relax and */` or `/*relax where */` where it may be told not to
//! wait for the disk.
//!
//! ```text
//! store    the store, statement by statement
//! theirs   what may be done in a transaction of the caller's
//! text     the statements
//! filter   those for the jobs of a filter
//! limit    those for queues that have limits over all workers
//! look     what those who look on ask for beside jobs
//! execute  what a database is, seen from the statements
//! value    what goes into a statement and what comes out of it
//! ```

mod execute;
mod filter;
mod limit;
mod look;
mod store;
mod text;
mod theirs;
mod value;

pub(super) use execute::{Database, Execute, Purpose, Text};
pub(super) use store::Sql;
#[cfg(test)]
pub(super) use text::all as all_statements;
#[cfg(feature = "postgres")]
pub(super) use text::columns;
#[cfg(feature = "sqlite")]
pub(super) use text::insert;
pub(super) use text::{FINISH, dialect};
pub(super) use theirs::{enqueue, finish};
pub(super) use value::{Row, Value};
