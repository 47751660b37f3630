//! Pure pieces that every family of groups stands on.
//!
//! ```text
//! error     how tasks fail
//! panic     a panic of user code, caught and kept as a value
//! seats     running tasks, to be aborted together
//! table     rows by key, without calling the code of a key to hash
//! timeline  instants and durations as one ordered number
//! token     a token that says why it was cancelled
//! trace     spans and events, or nothing at all without the feature `tracing`
//! ```

pub(crate) mod error;
pub(crate) mod panic;
pub(crate) mod seats;
pub(crate) mod table;
pub(crate) mod timeline;
pub(crate) mod token;
pub(crate) mod trace;
