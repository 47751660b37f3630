//! The pool of one group: tasks at most N at a time, the others kept as data, until the last has ended.
//!
//! ```text
//! spawn, try_spawn ──▶ lifecycle: is it admitted? ── no ──▶ dropped as skipped, or given back
//! submit                        │
//!                               ▼
//!                     wait_queue: is a slot free? ── no ──▶ queued, in order
//!                               │                              │ a slot is released
//!                               ▼                              ▼
//!                     run: its panic is caught, its end reported in a `Drop`
//!                               │
//!                               ▼
//!                     outcomes: counted; a failure stops the others by policy;
//!                               the last one ends the group and wakes `wait`
//! ```
//!
//! All of it lies under one lock, in `shared`.

mod lifecycle;
mod outcomes;
mod queued;
mod shared;
mod wait_queue;

pub(super) use lifecycle::Caller;
pub(super) use outcomes::Counts;
pub(super) use queued::SubmitTicket;
pub(super) use shared::{Outcome, Pool, Settings, Submitted};
