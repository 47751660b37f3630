//! Rate limits per key and overall: throttled queues of work, or the instant at which a caller may go.
//!
//! Both types follow GCRA, the generic cell rate algorithm, a token bucket in whole numbers: one bucket per key,
//! and one for all of them. Nothing is rejected and nothing polls: each caller has its own instant, in FIFO order.
//!
//! ```
//! use rate_limited_retries::rate::{Limiter, Rate};
//!
//! let limiter = Limiter::new(Rate::per_second(10).burst(2));
//! let [a, b, c] = [(); 3].map(|()| limiter.reserve(&"example.org", 1));
//! assert!(b - a < c - b); // two at once, the third a tenth of a second later
//! ```
//!
//! | you want | reach for |
//! |---|---|
//! | work in a queue per key, run by a group when it is due | [`Pacer`] |
//! | an instant that your own code waits for | [`Limiter`] |
//! | to delay a key: `429 Too Many Requests` | [`Pacer::not_before`], [`Limiter::not_before`] |
//!
//! An instant that was returned cannot be moved; queued work can. So `not_before` also delays what waits in a
//! pacer already, and a pacer applies its overall rate at the last moment.

mod allowance;
mod bucket;
mod calendar;
mod limiter;
mod lines;
mod pacer;
mod pump;

pub use allowance::Rate;
pub use limiter::Limiter;
pub use pacer::{Builder, Pacer};
pub use pump::Turn;
