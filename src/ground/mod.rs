//! Pure pieces that every family of groups stands on.
//!
//! ```text
//! panic     a panic of user code, caught and kept as a value
//! timeline  instants and durations as one ordered number
//! trace     spans and events, or nothing at all without the feature `tracing`
//! ```

pub(crate) mod panic;
pub(crate) mod timeline;
pub(crate) mod trace;
