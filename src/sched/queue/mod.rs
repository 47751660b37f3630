//! The queue of deadlines: a heap for what is near, behind it a timing wheel for what is far.

mod heap;
mod sweep;
mod wheel;

pub(super) use heap::{Entry, Queue, Sequence};
pub(super) use sweep::Sweep;
