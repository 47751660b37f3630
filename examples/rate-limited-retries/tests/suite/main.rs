//! What the package promises, one module for each of its parts.
#![forbid(unsafe_code)]

// The crate's own, as it is.
#[path = "../../../../tests/common/mod.rs"]
mod common;
mod dispatcher;
mod drains;
mod ends;
mod histories;
mod polite_crawler;
mod retry;
mod rules;
mod webhooks;
