//! The state of a group, and its transitions. It reads no clock, is given the time, and runs no task. The group's lock
//! guards it; what it shares with the workers (local queues, woken jobs) has locks of its own.

mod call_site;
mod controls;
mod counts;
mod dropped;
mod inbox;
mod jobs;
mod lifecycle;
mod ready;
mod slab;
mod tables;
mod transitions;
mod workers;

pub(super) use call_site::JobKind;
pub(super) use counts::{Counts, Ending};
pub(super) use dropped::{DroppedChunk, DroppedJob};
pub(super) use inbox::WakeDriver;
pub(crate) use lifecycle::Rejected;
pub(super) use lifecycle::{Caller, GroupOutcome};
pub(super) use slab::CHUNK;
pub(super) use transitions::{ClaimResult, Effects, State, Turn};
pub(super) use workers::{Registration, Workers};
