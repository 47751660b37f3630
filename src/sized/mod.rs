//! Tasks that return `()`, at most N at a time.
//!
//! ```
//! use schedgroup::sized::SizedGroup;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let group = SizedGroup::new(10);
//! for _ in 0..1000 {
//!     group.spawn(async {});
//! }
//! assert_eq!(group.wait().await.finished, 1000);
//! # }
//! ```
//!
//! Each verb is one way of admission, for what comes when all places are taken; from go-pkgz/syncs:
//!
//! | there | here |
//! |---|---|
//! | `NewSizedGroup(n)`, `Go` | [`SizedGroup::new`], [`spawn`](SizedGroup::spawn): the task is kept as data |
//! | `Preemptive` | [`submit`](SizedGroup::submit)`.await`: the caller waits |
//! | `Discard` | [`try_spawn`](SizedGroup::try_spawn): the task comes back, and is counted |
//! | `Context(ctx)` | [`Builder::token`], [`spawn_with`](SizedGroup::spawn_with) |
//! | `Wait` | [`wait`](SizedGroup::wait) |
//! | `Go` from a task while `Wait` runs | [`SizedGroup::handle`] |
//! | unmerged `WaitQueue(n)` | [`Builder::queue`] |
//! | `ErrSizedGroup`, `TermOnErr` | [`TaskGroup`](crate::task::TaskGroup) with a limit |

mod builder;
mod group;

pub use builder::Builder;
pub use group::{Handle, SizedGroup, Wait};
