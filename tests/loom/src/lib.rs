//! The pure part of the group, compiled from the crate's own files, for the models of `sched::models`.
//!
//! Left out is what needs a runtime: `driver`, `runner`, `shared` and the faces. The models have a few
//! lines each in their stead, over loom's lock.
#![cfg(test)]
// The models use a part of it.
#![allow(dead_code)]

mod ground;
mod sched;
