//! Dispatches work with a FIFO queue and a rate limit per key, and retries.
//!
//! The package is built on [`schedgroup`]: work that waits for its turn, or between two attempts, is data in the heap of a
//! scheduling group, not a task with a timer of its own. Copy the package, or depend on it by path.
//!
//! | you want | use |
//! |---|---|
//! | work that starts at a rate per key and overall (GCRA, exact), in order | [`Dispatcher`] |
//! | a serial queue per key, without a rate | [`Builder::in_flight`] with 1 |
//! | to hold a key, as a server's `Retry-After` asks for | [`Dispatcher::not_before`] |
//! | to retry failed work, with backoff, jitter and a retry budget | [`Policy`], [`Context::retry`] |
//! | to read `Retry-After` | [`retry_after`] |
//! | back pressure | [`Builder::bound`] |
//! | a shutdown with a grace, which gives back the work that is left | [`Dispatcher::drain`] |
//! | to retry an operation without a queue | [`schedgroup::flow::retry`] |
//!
//! ```
//! use rate_limited_retries::{Dispatcher, Rate};
//! use schedgroup::Group;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! let dispatcher = Dispatcher::builder().per_key(Rate::per_second(2)).run(
//!     &group,
//!     |page: u32, context| async move {
//!         println!("{} {page}", context.key());
//!     },
//! );
//! for page in 1..=3 {
//!     dispatcher.push("a.example", page).await?; // at once, after 500 ms, after a second
//! }
//! group.wait().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The queue of a key has no priorities. In this example the work is in a heap of the program's own, and what is pushed is
//! a ticket for each piece of it. The ticket that starts takes the most urgent work. To retry work, make the ticket an
//! `enum` that may contain it. After a [drain](Dispatcher::drain) the work that is left is in the heap.
//!
//! ```
//! use std::collections::BinaryHeap;
//! use std::sync::{Arc, Mutex};
//!
//! use rate_limited_retries::{Dispatcher, Rate};
//! use schedgroup::Group;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let order = Arc::new(Mutex::new(Vec::new()));
//! # let note = Arc::clone(&order);
//! let group = Group::new();
//! let waiting = Arc::new(Mutex::new(BinaryHeap::new()));
//! let heap = Arc::clone(&waiting);
//! let builder = Dispatcher::builder().per_key(Rate::per_second(2));
//! let dispatcher = builder.run(&group, move |(), context| {
//!     let most_urgent = heap.lock().expect("no panic").pop();
//! #   note.lock().expect("no panic").extend(most_urgent.map(|(priority, _)| priority));
//!     async move {
//!         if let Some((_, path)) = most_urgent {
//!             println!("{}{path}", context.key());
//!         }
//!     }
//! });
//! for (priority, path) in [(1, "/low"), (3, "/high"), (2, "/middle")] {
//!     waiting.lock().expect("no panic").push((priority, path));
//!     dispatcher.push("a.example", ()).await?;
//! }
//! group.wait().await?; // /high at once, /middle after 500 ms, /low after a second
//! # assert_eq!(*order.lock().expect("no panic"), [3, 2, 1]);
//! # Ok(())
//! # }
//! ```
// `rate.rs` and `gcra.rs` have a rate and its GCRA bucket. `lanes/` has the queues per key, as a pure data structure
// that gets the time as an argument. `dispatcher/` has the lock, the jobs and the public API. `retry/` has the policies.
// `time.rs` counts nanoseconds, and `drops.rs` drops values whose destructors may panic.
#![forbid(unsafe_code)]

mod dispatcher;
mod drops;
mod gcra;
mod lanes;
mod rate;
mod retry;
mod time;

pub use dispatcher::{
    Builder, Closed, Context, Dispatcher, Drained, KeyStats, Stats, TryPushError, Unstarted,
};
pub use rate::Rate;
pub use retry::{Failure, GaveUp, Policy, Reason, retry_after};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
