//! All that SQLite and Postgres share, which is nearly everything: their statements are the same text.
//!
//! Parameters are written `$1`, and integers are 64 bits wide. Where rows have to be locked for other
//! connections the text says `/* skip locked */`: a comment for SQLite, whose writers come one by one,
//! and a clause for Postgres.
//!
//! ```text
//! store    the store, statement by statement
//! enqueue  one job on its way into the table, perhaps in the caller's transaction
//! text     the statements
//! execute  what a database is, seen from the statements
//! value    what goes into a statement and what comes out of it
//! ```

mod enqueue;
mod execute;
mod store;
mod text;
mod value;

pub(super) use enqueue::enqueue;
pub(super) use execute::{Database, Execute};
pub(super) use store::Sql;
pub(super) use value::{Row, Value};
