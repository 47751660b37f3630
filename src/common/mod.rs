//! The parts that several of the modules are built on.

pub(crate) mod abort_handles;
pub(crate) mod closing;
pub(crate) mod error;
pub(crate) mod panic;
pub(crate) mod run;
pub(crate) mod schedule_error;
pub(crate) mod time;
pub(crate) mod trace;
pub(crate) mod waiters;
