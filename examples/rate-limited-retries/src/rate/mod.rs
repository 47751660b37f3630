//! Limits of rate: how much may go, for each key and in all, and when the next may.
//!
//! Both ends keep to GCRA, the generic cell rate algorithm, in whole numbers: a bucket for each key that
//! fills steadily, and one for all of them. Nothing is refused and nobody polls: each has its own
//! instant, first come, first served.
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
//! | work in lines, run at its time by a group | [`Pacer`] |
//! | an instant, to be kept by your own code | [`Limiter`] |
//! | to hold up a key: `429 Too Many Requests` | [`Pacer::not_before`], [`Limiter::not_before`] |
//!
//! An instant that was given out cannot be moved; work that stands in line can. So a server's wish
//! holds up what waits in a pacer already, and its rate over all is asked at the last moment.

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
