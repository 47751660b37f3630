//! The worker, which runs the jobs.
//!
//! ```text
//! face      the builder, and a worker's life from the first look to the last job given back
//! site      a store, and the workers on it in this process
//! lane      a queue, and how many of its jobs run at a time
//! front     where the due jobs of a queue begin, if they are many
//! engine    when to look into the store: hints, claims, leases
//! heart     heartbeats, on a thread of their own
//! trouble   a store that does not answer: waits, and one line for each change
//! run       one run of one job, and its verdict
//! words     what errors and panics of handlers say
//! schedule  which jobs a schedule wants
//! every     the times of a schedule
//! settings  what can be set
//! ```
//!
//! One job's way, once it is in the store:
//!
//! ```text
//! look      every 2.5 s, and when the store reports a change: finds what is due in the next 10 s
//!   │
//!   ▼  (due, id) into the scheduling group; nothing is leased yet
//! hint      fires when the job is due, and rings its queue
//!   │
//!   ▼  never two rounds of one queue at once; what rings meanwhile is one more round
//! claim     one statement leases as many due jobs as there are free slots
//!   │
//!   ▼  a group of its own for each queue, limited to its concurrency
//! run       the handler, beside its timeout, its cancellation and the loss of its lease
//!   │
//!   ▼
//! verdict   done, another try, dead, cancelled, given back: one statement, which only counts if the
//!           claim still does, in a group of its own, so that the slot is free meanwhile
//! ```

mod engine;
mod every;
mod face;
mod front;
mod heart;
mod lane;
mod run;
mod schedule;
mod settings;
mod site;
mod trouble;
mod words;

#[cfg(feature = "cron")]
pub use every::CronError;
pub use every::Every;
pub use face::{Handling, Worker};
pub use schedule::{MissedRuns, Recurring};
pub(crate) use site::Site;
