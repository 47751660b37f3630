//! Random uses of the combinators on the paused clock, beside lists that are played along.
//!
//! What is compared: which tasks started, at which millisecond and in which order; how much of the input was taken;
//! what was dropped; the results, and when they came. Waterfalls and retries, which do one thing at a time, are in
//! `steps`.

mod history;
mod oracle;
mod play;
mod steps;

pub(crate) use history::{History, Word};
pub(crate) use play::perform;
pub(crate) use steps::Steps;
