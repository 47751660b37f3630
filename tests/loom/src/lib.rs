//! The group without its driver and its public types, and the entries of a keyed group, compiled from the crate's own
//! files, for the models of `sched::models` and `keyed::models`.
//!
//! What needs a runtime has a stand-in here: `rt` has loom's locks and a runtime whose threads are loom's,
//! `shared` has no token and no clock, and the models have a driver of a few lines.
#![forbid(unsafe_code)]
#![cfg(test)]
// The models use a part of it.
#![allow(dead_code, unused_imports)]

mod common;
mod keyed;
mod sched;

use sched::Handle;
