//! Fixed-rate ticks that neither drift nor overlap, and jobs at times of the wall clock or a calendar.
//!
//! [`Group::every`](crate::Group::every) runs a job at a fixed rate: tick k is due k periods after the start, however
//! long the runs take. [`MissedTicks`] sets what happens to ticks whose time passes during a run. A [`WallClock`] shows
//! the time of day, which people and time servers set forward and back; [`at`] creates a series at times that a
//! calendar computes, such as a cron expression.
//!
//! `wait`, `drain` and `shutdown` of the group end a series. So a program first awaits whatever tells it to end, such
//! as `tokio::signal::ctrl_c()`, and then calls one of them.
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::Group;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), schedgroup::WaitError> {
//! let group = Group::new();
//! group.every(Duration::from_secs(1)).run(|tick| async move {
//!     println!("beat {}", tick.number());
//! });
//! tokio::time::sleep(Duration::from_millis(2500)).await; // beat 0, beat 1, beat 2
//! group.wait().await // lets a run in progress finish, and starts no further tick
//! # }
//! ```
//!
//! The table shows when the runs start if the period is 10, the run at 10 takes 25, and the other runs take 3:
//!
//! | tick | 0 | 1 | 2 | 3 | 4 |
//! |---|---|---|---|---|---|
//! | due at | 0 | 10 | 20 | 30 | 40 |
//! | `Skip` leaves missed ticks out | 0 | 10 | – | – | 40 |
//! | `Delay` postpones all later ones | 0 | 10 | 35 | 45 | 55 |
//! | `Burst(2)` catches up | 0 | 10 | 35 | 38 | 41 |
//! | `Burst(1)` makes up for one | 0 | 10 | – | 35 | 40 |

mod calendar;
mod clock;
mod every;
mod handle;
mod methods;
mod on_panic;
mod table;
mod tick;
mod wall;

pub use calendar::{At, at};
pub use clock::WallClock;
pub use every::Every;
pub use handle::TimedHandle;
pub use on_panic::OnPanic;
pub use table::MissedTicks;
pub use tick::Tick;
