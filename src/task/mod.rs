//! Groups of tasks: a concurrency limit, a policy for errors, back pressure, and one end to wait for.
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
//! | when the limit is reached | method |
//! |---|---|
//! | the task is queued, without a bound | [`spawn`](TaskGroup::spawn), [`spawn_with`](TaskGroup::spawn_with) |
//! | the task comes back, unless the queue has capacity | [`try_spawn`](TaskGroup::try_spawn) |
//! | the caller waits, unless the queue has capacity | [`submit`](TaskGroup::submit) |
//!
//! | the end | tasks that run or are queued | handles | resolves to |
//! |---|---|---|---|
//! | [`wait`](TaskGroup::wait), [`wait_all`](TaskGroup::wait_all) | run to their end | admitted | the counts, or the first error; or all |
//! | [`drain(grace)`](TaskGroup::drain) | run until the grace is over | admitted until then | [`Report`](crate::Report) |
//! | [`shutdown(grace)`](TaskGroup::shutdown) | run until the grace is over | rejected | [`Report`](crate::Report) |
//! | [`cancel`](TaskGroup::cancel) | running ones see their token; queued ones are skipped | rejected | – |
//! | [`abort`](TaskGroup::abort), drop | are stopped at their next await; queued ones are skipped | rejected | – |
//!
//! A task that panics is an error of that task in every policy, unless the program is built with
//! `panic = "abort"`. With the feature `tracing` it is also an error event, `task panicked`, with the fields `group`
//! (its name), `index`, `spawned_at` and `panic`.
//!
//! # From Go
//!
//! | there | here |
//! |---|---|
//! | x/sync `errgroup.WithContext(ctx)`, zero `Group` | [`Builder::token`] with [`OnError::Cancel`]; `on_error(OnError::Continue)` |
//! | `Go`, `TryGo`, `Wait`, `SetLimit(n)` | [`spawn`](TaskGroup::spawn), [`try_spawn`](TaskGroup::try_spawn), [`wait`](TaskGroup::wait), [`Builder::limit`] |
//! | `Go` that blocks at the limit | [`submit`](TaskGroup::submit)`.await` |
//! | `context.Cause(ctx)` | [`TaskGroup::cause`] |
//! | kratos `GOMAXPROCS(n)`, `WithCancel(ctx)`, recover | [`Builder::limit`], [`OnError::Cancel`], [`TaskError::Panicked`] |
//! | kratos `WithContext(ctx)` | [`Builder::token`] with [`OnError::Continue`], [`spawn_with`](TaskGroup::spawn_with) |
//! | neilotoole `WithContextN(ctx, numG, qSize)` | [`Builder::limit`] and [`Builder::queue`], with `submit` |
//! | facebookgo `Add(1)`, `Done`, `Error` | [`member`](TaskGroup::member), its drop, [`Member::fail`] |
//! | facebookgo and syncs `MultiError` | [`wait_all`](TaskGroup::wait_all), [`TaskErrors`] |
//! | syncs `NewSizedGroup(n)` | `limit(n)` with [`OnError::Continue`]; tasks return `()` |
//! | its `Go`, `Preemptive`, `Discard` | `spawn`, `submit`, `try_spawn`, whose tasks are counted as `discarded` |
//! | its `Context(ctx)`, `Go` from a task while `Wait` runs, unmerged `WaitQueue(n)` | [`Builder::token`], [`TaskHandle`], [`Builder::queue`] |
//! | syncs `NewErrSizedGroup(n)`, `TermOnErr` | `limit(n)` with `OnError::Continue`, `OnError::Cancel` |
//! | go-waitgroup `NewWaitGroup(n)`, `BlockAdd`, `PendingCount` | `limit(n)`, `submit`, [`stats`](TaskGroup::stats) |
//! | conc `Pool`, `ErrorPool`, `ContextPool` with `WithFirstError`, `WithCancelOnError`, `WithFailFast` | `limit(n)`, `wait`, `OnError::Cancel`, `OnError::Abort` |
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

pub use builder::Builder;
pub use group::TaskGroup;
pub use handle::TaskHandle;
pub use member::Member;
pub use output::TaskOutput;
pub use policy::{Cause, OnError};
pub use stats::TaskStats;
pub use submit::Submit;
pub use wait::{Drain, Shutdown, Wait, WaitAll};
