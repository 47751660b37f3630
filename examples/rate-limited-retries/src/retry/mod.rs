//! Attempts again and again, by a policy: with delays, caps, a budget and circuits.
//!
//! A [`Retry`] is made once and used for many chains of attempts. With [`run`](Retry::run) a chain is one
//! job of a group, which waits on its heap between two attempts and holds no slot there.
//!
//! To retry one operation in the current task, without a group and with borrows, use
//! [`flow::retry`](schedgroup::flow::retry()). There the caller classifies an error by
//! a [`Verdict`](schedgroup::flow::Verdict), here by an [`Outcome`]; a [`Chain`] returns a [`Decision`].
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::Group;
//! use rate_limited_retries::retry::{Outcome, Retry};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! let policy = Retry::new(|| [Duration::from_millis(100), Duration::from_secs(1)]);
//! let page = policy.run(&group, |attempt| async move {
//!     match attempt.number() {
//!         1 => Outcome::Retry(std::io::Error::other("connection reset")),
//!         2 => Outcome::RetryAfter(std::io::Error::other("too many requests"), Duration::from_secs(5)),
//!         _ => Outcome::Done("page"),
//!     }
//! });
//! assert_eq!(page.await?, "page"); // after 5.1 seconds
//! group.wait().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | you want | reach for |
//! |---|---|
//! | to try until it works | [`Retry::run`] |
//! | to report what failed, and when to retry | [`Outcome`] |
//! | exponential backoff with jitter | [`Backoff`](crate::backoff::Backoff) |
//! | a limit on attempts and time | [`Retry::max_attempts`], [`Retry::max_delay`], [`Retry::timeout`] |
//! | not to overload a server that is down | [`Budget`], [`Retry::circuit`] |
//! | attempts under a rate limit | [`Chain`], in a [`Pacer`](crate::rate::Pacer) |
//! | to read `Retry-After` | [`retry_after`] |

mod budget;
mod chain;
mod circuit;
mod header;
mod outcome;
mod policy;
mod run;

pub use budget::Budget;
pub use chain::Chain;
pub use header::retry_after;
pub use outcome::{Decision, GaveUp, Outcome, Reason};
pub use policy::Retry;
pub use run::{Attempt, RetryHandle};
