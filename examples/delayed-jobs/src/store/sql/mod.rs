//! All that SQLite and Postgres share, which is nearly everything: their statements are the same text.
//!
//! Parameters are written `$1`, and integers are 64 bits wide. Where the two differ the text says
//! `/*sqlite ... */` and `/*postgres ... */`: a clause for the one and a comment for the other. `/*tell */` stands
//! where Postgres may notify other workers with the commit.
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
pub(super) use execute::{Database, Execute, Purpose};
pub(super) use store::Sql;
#[cfg(test)]
pub(super) use text::all as all_statements;
#[cfg(feature = "sqlite")]
pub(super) use text::insert;
pub(super) use text::{FINISH, dialect};
pub(super) use value::{Row, Value};
