//! Tasks of one group, at most N at a time, the others kept as data, until the last has ended.

pub(crate) mod drained;
mod lifecycle;
mod line;
mod outcome;
pub(crate) mod queued;
mod run;
pub(crate) mod shared;
mod wait_queue;
