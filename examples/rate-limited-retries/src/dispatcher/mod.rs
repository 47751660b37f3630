//! The dispatcher: queued work that a group runs at a rate.
//!
//! | file | what it holds |
//! |---|---|
//! | `handle.rs`, `builder.rs`, `context.rs` | the public API: `Dispatcher`, `Builder`, `Context` |
//! | `drain.rs`, `stats.rs`, `error.rs` | values: `Drained`, `Unstarted`; `Stats`, `KeyStats`; errors |
//! | `shared.rs` | the lock, and the ticket that waits in the group's heap |
//! | `ticket.rs` | the job of a ticket, and the running work |

mod builder;
mod context;
mod drain;
mod error;
mod handle;
mod shared;
mod stats;
mod ticket;

pub use builder::Builder;
pub use context::Context;
pub use drain::{Drained, Unstarted};
pub use error::{Closed, TryPushError};
pub use handle::Dispatcher;
pub use stats::{KeyStats, Stats};
