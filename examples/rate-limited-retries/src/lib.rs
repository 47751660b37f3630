//! Work in a queue per key that goes at a rate, and jobs that are retried by a policy.
//!
//! A package on top of [`schedgroup`]: what waits, waits on the heap of a scheduling group, not in a task
//! with a timer of its own. Copy it, or depend on it by path.
//!
//! | you want | use |
//! |---|---|
//! | a rate limit per key and overall, with a FIFO queue for each key | [`rate::Pacer`] |
//! | an instant to go at, by the same limits | [`rate::Limiter`] |
//! | a job that is retried, within a budget and behind a circuit breaker | [`retry::Retry`] |
//! | exponential backoff with jitter | [`backoff::Backoff`] |
//!
//! ```
//! use std::time::Duration;
//! use rate_limited_retries::rate::{Pacer, Rate};
//! use schedgroup::Group;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), schedgroup::WaitError> {
//! let group = Group::new();
//! let pacer = Pacer::builder(Rate::per_second(2)).run(&group, |page: u32, turn| async move {
//!     println!("{} {page}", turn.key());
//! });
//! for page in 1..=3 {
//!     pacer.push("a.example", page); // at once, after 500 ms, after a second
//! }
//! group.wait().await
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod backoff;
mod drops;
pub mod rate;
pub mod retry;
mod table;
mod time;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
