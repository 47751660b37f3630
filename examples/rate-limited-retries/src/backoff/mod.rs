//! Exponential backoff with jitter: an iterator of growing delays that stay below a cap.
//!
//! A [`Backoff`] is settings, made once and used for many chains of attempts; each chain has an iterator
//! of its own, [`Delays`]. Every function for delays takes any `Iterator<Item = Duration>`, so that an array,
//! [`std::iter::repeat`] or the iterators of the crate backon do as well.
//!
//! ```
//! use std::time::Duration;
//! use rate_limited_retries::backoff::{Backoff, Jitter};
//!
//! let ms = Duration::from_millis;
//! let backoff = Backoff::exponential(ms(100), ms(1000)).max_delays(6);
//! assert_eq!(
//!     backoff.iter().collect::<Vec<_>>(),
//!     [ms(100), ms(200), ms(400), ms(800), ms(1000), ms(1000)],
//! );
//! for delay in backoff.jitter(Jitter::Full) {
//!     assert!(delay <= ms(1000));
//! }
//! ```
//!
//! With `d` the delay that would come without jitter, and `last` the one that came before:
//!
//! | jitter | the delay is | for |
//! |---|---|---|
//! | [`None`](Jitter::None) | `d` | a single client, and tests |
//! | [`Full`](Jitter::Full) | between 0 and `d` | many clients: it spreads them best |
//! | [`Equal`](Jitter::Equal) | between `d / 2` and `d` | many clients that must always pause |
//! | [`Decorrelated`](Jitter::Decorrelated) | between the first delay and `last` × 3 | many clients whose retries began together |

mod delays;
mod random;

pub use delays::{Backoff, Delays, Jitter};
