//! Fixed-rate ticks that neither drift nor overlap, and jobs at times of the wall clock.
//!
//! [`Group::every`](crate::Group::every) is [`repeat`](crate::Group::repeat) with a timetable: tick k is meant for the
//! start plus k periods, however long the runs take. [`MissedTicks`] sets what happens to ticks whose time passes
//! during a run. A [`WallClock`] has the calendar's time, which people and servers set forward and
//! back; [`at`] is a series at the times that a calendar returns.
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
//! With a period of 10, when the run at 10 takes 25 and the others take 3, the runs start at:
//!
//! | tick | 0 | 1 | 2 | 3 | 4 |
//! |---|---|---|---|---|---|
//! | intended | 0 | 10 | 20 | 30 | 40 |
//! | `Skip` leaves missed ticks out | 0 | 10 | – | – | 40 |
//! | `Delay` postpones all later ones | 0 | 10 | 35 | 45 | 55 |
//! | `Burst(2)` catches up | 0 | 10 | 35 | 38 | 41 |
//! | `Burst(1)` makes up for one | 0 | 10 | – | 35 | 40 |

// Modules:
//
// methods  those of the group, its handles and contexts
// every    series with a period
// calendar series at the times of a calendar
// wall     jobs at times of the wall clock
// tick     what a run sees
// on_panic what a panic of one run does to its series
// handle   what the caller keeps
// clock    when a time is due, and when to look again
// table    which tick comes next

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
