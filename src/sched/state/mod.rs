//! The state of a group, and each transition of it. It is pure: it reads no clock, is given the time, and runs no task.
//! All of it is guarded by the group's lock.

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
pub(super) use lifecycle::{Caller, Closing, GroupOutcome, Rejected, StopReason};
pub(super) use slab::CHUNK;
pub(super) use transitions::{ClaimResult, Effects, State, Turn};
pub(super) use workers::{Registration, Workers};
