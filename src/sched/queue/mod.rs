//! The queue of deadlines: a heap for near ones, and behind it a timing wheel for far ones.

mod heap;
mod sweep;
mod wheel;

pub(super) use heap::{Entry, Queue, Sequence};
pub(super) use sweep::Sweep;
