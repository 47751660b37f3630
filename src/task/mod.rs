//! Tasks that may fail: the first error aborts the others, only tells them, or all are collected.
//!
//! ```
//! use schedgroup::TaskError;
//! use schedgroup::task::TaskGroup;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let group = TaskGroup::new();
//! group.spawn(async { Ok(()) });
//! group.spawn(std::future::pending()); // is aborted
//! group.spawn(async { Err("no route") });
//! let outcome = group.wait().await;
//! assert!(matches!(outcome, Err(TaskError::Failed { index: 2, error: "no route" })));
//! # }
//! ```
//!
//! From Go's systems to this one:
//!
//! | there | here |
//! |---|---|
//! | x/sync `task.WithContext(ctx)`, zero `Group` | [`Builder::token`] with [`OnError::Cancel`]; `on_error(OnError::Continue)` |
//! | `Go`, `TryGo`, `Wait`, `SetLimit(n)` | [`spawn`](TaskGroup::spawn), [`try_spawn`](TaskGroup::try_spawn), [`wait`](TaskGroup::wait), [`Builder::limit`] |
//! | `Go` that blocks at the limit | [`submit`](TaskGroup::submit)`.await` |
//! | `context.Cause(ctx)` | [`Token::cause`](crate::Token::cause) |
//! | kratos `GOMAXPROCS(n)`, `WithCancel(ctx)`, recover | [`Builder::limit`], [`OnError::Cancel`], [`TaskError::Panicked`] |
//! | kratos `WithContext(ctx)` | [`Builder::token`] with [`OnError::Continue`], [`spawn_with`](TaskGroup::spawn_with) |
//! | neilotoole `WithContextN(ctx, numG, qSize)` | [`Builder::limit`] and [`Builder::queue`], with `submit` |
//! | facebookgo `Add(1)`, `Done`, `Error` | [`member`](TaskGroup::member), its drop, [`Member::fail`] |
//! | facebookgo and syncs `MultiError` | [`wait_all`](TaskGroup::wait_all), [`TaskErrors`] |
//! | syncs `ErrSizedGroup`, `TermOnErr`, `Discard` | `limit(n)` with `OnError::Continue`, `OnError::Cancel`, `try_spawn` |
//! | go-waitgroup `NewWaitGroup(n)`, `BlockAdd`, `PendingCount` | `limit(n)`, `submit`, [`stats`](TaskGroup::stats) |
//! | conc `ErrorPool`, `ContextPool` with `WithFirstError`, `WithCancelOnError`, `WithFailFast` | `wait`, `OnError::Cancel`, `OnError::Abort` |
//! | a group used again after `Wait` | a new group; `wait` is called again only if its future was dropped before its end |
//!
//! [`TaskError::Panicked`]: crate::TaskError::Panicked
//! [`TaskErrors`]: crate::TaskErrors

mod builder;
mod group;
mod member;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod refusal;
pub(crate) mod spawn;
pub(crate) mod submit;
mod wait;

pub use builder::Builder;
pub use group::{TaskGroup, TaskHandle};
pub use member::Member;
pub use policy::OnError;
pub use wait::{Wait, WaitAll};
