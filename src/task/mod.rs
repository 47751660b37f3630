//! Groups of tasks that start at once, with a concurrency limit, a policy for errors and back pressure.
//!
//! A [`TaskGroup`] is an errgroup: spawn tasks into it, then wait for all of them and get the first error.
//!
//! ```
//! use schedgroup::TaskError;
//! use schedgroup::task::TaskGroup;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let group = TaskGroup::<&str>::new();
//! group.spawn(async { Ok(()) });
//! group.spawn(std::future::pending::<Result<(), _>>()); // is aborted
//! group.spawn(async { Err("no route") });
//! let outcome = group.wait().await;
//! assert!(matches!(outcome, Err(TaskError::Failed { index: 2, error: "no route" })));
//! # }
//! ```
//!
//! What happens when the [limit](Builder::limit) is reached depends on the method:
//!
//! | method | when the limit is reached |
//! |---|---|
//! | [`spawn`](TaskGroup::spawn), [`spawn_with`](TaskGroup::spawn_with) | the task is queued, without a bound |
//! | [`try_spawn`](TaskGroup::try_spawn) | the task is queued if the [queue](Builder::queue) has capacity, and otherwise returned in an error |
//! | [`submit`](TaskGroup::submit) | the task is queued if the [queue](Builder::queue) has capacity, and otherwise the caller waits |
//!
//! A group ends in one of these ways:
//!
//! | call | running and queued tasks | new tasks of handles | resolves to |
//! |---|---|---|---|
//! | [`wait`](TaskGroup::wait), [`wait_all`](TaskGroup::wait_all) | run to their end | accepted | the counts, or the first error; all errors |
//! | [`drain(grace)`](TaskGroup::drain) | run until the grace is over | accepted until then | [`Report`](crate::Report) |
//! | [`shutdown(grace)`](TaskGroup::shutdown) | run until the grace is over | rejected | [`Report`](crate::Report) |
//! | [`cancel`](TaskGroup::cancel) | running ones see their token; queued ones are skipped | rejected | – |
//! | [`abort`](TaskGroup::abort), drop | are stopped at their next await; queued ones are skipped | rejected | – |
//!
//! The panic of a task is handled like an error that it returned, with every [`OnError`], unless the program is built
//! with `panic = "abort"`. So is a panic of its destructor, also if the task was aborted, but not if it never started.
//! With the feature `tracing` each of them is also an error event, `task panicked`, with the fields `group` (the group's
//! name), `index`, `spawned_at` and `panic`.
//!
//! # From Go
//!
//! What the packages of Go call it, and what corresponds to it here:
//!
//! | there | here |
//! |---|---|
//! | x/sync `errgroup.WithContext(ctx)`, zero `Group` | [`Builder::token`] with [`OnError::Cancel`]; `on_error(OnError::Continue)` |
//! | `Go`, `TryGo`, `Wait`, `SetLimit(n)` | [`spawn`](TaskGroup::spawn), [`try_spawn`](TaskGroup::try_spawn), [`wait`](TaskGroup::wait), [`Builder::limit`] |
//! | the `ctx` that `WithContext` returns | [`spawn_with`](TaskGroup::spawn_with), [`TaskGroup::token`] |
//! | `Go` that blocks at the limit | [`submit`](TaskGroup::submit)`.await`; if it fails, call `wait` for the reason |
//! | `context.Cause(ctx)` | [`TaskGroup::cause`] |
//! | kratos `GOMAXPROCS(n)`, `WithCancel(ctx)`, recover | [`Builder::limit`], [`OnError::Cancel`], [`TaskError::Panicked`] |
//! | kratos `WithContext(ctx)` | [`Builder::token`] with [`OnError::Continue`], [`spawn_with`](TaskGroup::spawn_with) |
//! | neilotoole `WithContextN(ctx, numG, qSize)` | [`Builder::limit`] and [`Builder::queue`], with `submit` |
//! | facebookgo `Add(1)`, `Done`, `Error` | [`member`](TaskGroup::member), its drop, [`Member::fail`] |
//! | facebookgo and syncs `MultiError` | [`wait_all`](TaskGroup::wait_all), [`TaskErrors`], with `OnError::Continue` |
//! | syncs `NewSizedGroup(n)` | `limit(n)` with [`OnError::Continue`]; tasks return `()` |
//! | its `Go`, `Preemptive`, `Discard` | `spawn`, `submit`, `try_spawn`, whose tasks are counted as `discarded` |
//! | its `Context(ctx)`, `Go` from a task while `Wait` runs, unmerged `WaitQueue(n)` | [`Builder::token`], [`TaskHandle`], [`Builder::queue`] |
//! | syncs `NewErrSizedGroup(n)`, `TermOnErr` | `limit(n)` with `OnError::Continue`, `OnError::Cancel` |
//! | go-waitgroup `NewWaitGroup(n)`, `BlockAdd`, `PendingCount` | `limit(n)`, `submit`, [`stats`](TaskGroup::stats) |
//! | conc `Pool`, `ErrorPool`, `ContextPool` | `limit(n)` with `OnError::Continue`; `wait_all` |
//! | their `WithFirstError`, `WithCancelOnError`, `WithFailFast` | `wait`; `OnError::Cancel`; both |
//! | a group used again after `Wait` | a new group; `wait` is called again only if its future was dropped before it had resolved |
//!
//! [`TaskError::Panicked`]: crate::TaskError::Panicked
//! [`TaskErrors`]: crate::TaskErrors

mod builder;
mod group;
mod handle;
mod member;
mod methods;
mod output;
mod policy;
mod pool;
mod stats;
mod submit;
mod wait;

// Those of `flow` too, so their place is the root; here for `use schedgroup::task::{TaskGroup, TaskError}`.
#[doc(no_inline)]
pub use crate::common::error::{TaskError, TaskErrors};
pub use builder::Builder;
pub use group::TaskGroup;
pub use handle::TaskHandle;
pub use member::Member;
pub use output::TaskOutput;
pub use policy::{Cause, OnError};
pub use stats::TaskStats;
pub use submit::Submit;
pub use wait::{Drain, Shutdown, Wait, WaitAll};
