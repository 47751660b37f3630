//! What the package promises, one module for each of its own.
#![forbid(unsafe_code)]

mod backoff;
// The crate's own, as it is.
#[path = "../../../../tests/common/mod.rs"]
mod common;
mod pacer;
mod polite_crawler;
mod rate;
mod retry;
mod shown;
