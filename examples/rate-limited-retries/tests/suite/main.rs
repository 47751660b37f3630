//! What the package promises, one module for each of its own.
#![forbid(unsafe_code)]

mod backoff;
mod common;
mod pacer;
mod polite_crawler;
mod rate;
mod retry;
mod shown;
