//! Random histories of a group of tasks on the paused clock, beside a plain queue that is played along.
//!
//! What is compared after every step: the answer of every call, with the index; which tasks started, at which
//! millisecond and in which order; what was dropped; the counts, the cause, the token; the results of `submit`,
//! `wait`, `wait_all`, `drain` and `shutdown`, and when they came.

mod history;
mod oracle;
mod play;

pub(crate) use history::{History, Word};
pub(crate) use play::perform;
