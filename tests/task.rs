//! `TaskGroup`: what it promises beyond the systems that it comes from.

mod closing;
mod errors;
mod promises;
mod stress;
mod waits;
