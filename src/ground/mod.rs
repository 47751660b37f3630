//! Pure pieces that every family of groups stands on.
//!
//! ```text
//! error     how tasks fail
//! panic     a panic of user code, caught and kept as a value
//! seats     running tasks, to be aborted together
//! table     rows by key, without calling the code of a key to hash
//! timeline  instants and durations as one ordered number
//! trace     spans and events, or nothing at all without the feature `tracing`
//! waiters   those who wait for a group to drain
//! ```

pub(crate) mod error;
pub(crate) mod panic;
pub(crate) mod seats;
pub(crate) mod table;
pub(crate) mod timeline;
pub(crate) mod trace;
pub(crate) mod waiters;
