//! The worker, which runs the jobs.
//!
//! ```text
//! builder     the builder, and a running worker from its start to the end of its shutdown
//! site        a store and the workers on it in this process
//! lane        one queue in one worker, and the limit of its jobs that run at a time
//! front       where the due jobs of a queue begin, if many are due
//! engine      when to query the store: hints, claims, leases
//! heartbeat   heartbeats, on their own thread
//! outage      a store that does not answer: waits, and one line of log per change
//! run         one run of one job, and its verdict
//! error_text  the texts of errors and panics of handlers
//! schedule    the jobs of a schedule
//! every       the times of a schedule
//! settings    settings and their defaults
//! ```
//!
//! The steps of one job, once it is in the store:
//!
//! ```text
//! look      every 2.5 s, and when the store reports a change: finds the jobs that are due in the next 10 s
//!   │
//!   ▼  (due, id) is inserted into the scheduling group; nothing is leased yet
//! hint      expires when the job is due, and requests a claim for its queue
//!   │
//!   ▼  two claims of one queue never overlap; all requests during a claim lead to one more claim
//! claim     one statement leases as many due jobs as there are free slots
//!   │
//!   ▼  one group per queue, limited to its concurrency
//! run       the handler runs, until it returns, times out, is cancelled, or the lease is lost
//!   │
//!   ▼
//! verdict   done, retried, dead, cancelled or given back: one statement, which has an effect only if the
//!           lease is still held. It runs in another group, so that the slot is free meanwhile
//! ```

mod builder;
mod engine;
mod error_text;
mod every;
mod front;
mod heartbeat;
mod lane;
mod outage;
mod run;
mod schedule;
mod settings;
mod site;

pub use builder::{Handling, Worker};
#[cfg(feature = "cron")]
pub use every::CronError;
pub use every::Every;
pub use schedule::{MissedRuns, Recurring};
pub(crate) use site::Site;
