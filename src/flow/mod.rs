//! Combinators over sets of tasks that run in parallel: all results, the first, the last, a stream; and retries.
//!
//! They resemble `join_all`, `try_join_all` and `select_ok` of the crate futures, but spawn each future on the runtime,
//! so that the futures run in parallel.
//!
//! | call | resolves to | ends early | empty input |
//! |---|---|---|---|
//! | [`all`]`(tasks)` | for each task, `Ok` with what it returned or its [`TaskError`](crate::TaskError), in order of the input | never | `[]` |
//! | [`try_all`]`(tasks)` | the values, in order of the input | at the first error or panic | `Ok([])` |
//! | [`race`](race())`(tasks)` | the first value; errors are skipped | at the first value | [`RaceError::TooFew`] |
//! | [`take`](take())`(n, tasks)` | the first `n` values, in order of completion; errors are skipped | at the `n`th value, or when `n` values can no longer be reached | [`RaceError::TooFew`]; with `n` = 0 `Ok([])`, nothing starts |
//! | [`try_take`]`(n, tasks)` | the first `n` values, in order of completion; all if there are fewer | at the `n`th value, or at an error or panic before it | `Ok([])`; with `n` = 0 nothing starts |
//! | [`last`](last())`(n, tasks)` | the last `n` values, in order of completion; all if there are fewer | at the first error or panic | `Ok([])`; with `n` = 0 all run |
//! | [`map`](map())`(items, f)` | what `f` returned for each item, in order of the items | at the first panic | `Ok([])` |
//! | [`for_each`]`(items, f)` | nothing | at the first panic | `Ok(())` |
//! | [`stream`](stream())`(tasks).next()` | for the next task what `all` returns for each, in order of the input or of completion | never | `None` |
//! | [`waterfall`](waterfall())`(value).then(f)` | the value of the last step | at the first error or panic | `Ok(value)` |
//! | [`retry`](retry())`(op)` | the first value of several attempts | at the first value, or at [`Verdict::Stop`] | – |
//!
//! ```
//! use std::time::Duration;
//! use schedgroup::flow;
//! use tokio::time::sleep;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), schedgroup::TaskError> {
//! let pages = (1..=100).map(|page| async move {
//!     sleep(Duration::from_millis(page % 7)).await;
//!     Ok(page)
//! });
//! let pages = flow::try_all(pages).limit(16).await?;
//! assert_eq!(pages.iter().sum::<u64>(), 5050);
//! # Ok(())
//! # }
//! ```
//!
//! **Tasks** are futures, in an iterator or an array. They are spawned on the runtime, so they must be `Send + 'static`
//! and run in parallel; the iterator itself may borrow. Futures of different types are boxed, as
//! `Pin<Box<dyn Future<Output = T> + Send>>`. A future is taken from the iterator when it is started, so with a limit no
//! more futures exist than may run. `waterfall` and `retry` do one thing at a time: they run in the task
//! that awaits them, and what they run may borrow. A [`Flow`] or a [`Stream`] runs nothing until its first poll, and
//! can be named and stored.
//!
//! **Settings** are the same for all combinators:
//!
//! - `limit(n)`: at most `n` tasks run at a time. Without a limit `map`, `for_each` and `stream` run as many tasks at a
//!   time as the machine has CPUs; the others start all tasks at once. So they need a finite input: with an endless one
//!   they would spawn tasks until memory is exhausted.
//! - `token(token)` and `deadline(at)`: when the token is cancelled or the deadline passes, the tasks that have not
//!   ended are aborted, and the result is `Cancelled` or `DeadlineExceeded`. If the result is known by then, it is
//!   returned instead. If the token was cancelled or the deadline had passed before the first poll, nothing starts.
//!   The shutdown of the runtime on which the tasks run acts like a cancel.
//!   When the combinator is stopped, `all` still takes the input to its end, to return an element for each task; the
//!   others take at most one more item, to see whether the input was at its end. A task that has to notice the cancel
//!   captures a clone of the token.
//!
//! **The end.** When the future resolves, all other tasks have been aborted and have ended. (A task that blocks its
//! thread cannot be aborted: it is waited for.) Dropping the future aborts the tasks too, but does not wait for them.
//!
//! **A panic** of a task or a step becomes its error, with the payload and the line of the call; so does a panic of a
//! task's destructor, unless the result is known by then or the task never started. A panic of the input iterator, or of
//! the operation or the settings of a retry, is passed on to the caller.
//!
//! # From Go
//!
//! What the packages of Go call it, and what corresponds to it here:
//!
//! | there | here |
//! |---|---|
//! | gollback `All` | [`all`] |
//! | gollback `Race` | [`race`](race()); all failed: all errors, the latest at the end |
//! | gollback `Retry(ctx, n, fn)`, `n` = 0 | [`retry`](retry())`(op).attempts(n)`, `attempts(u32::MAX)` |
//! | Hunch `All` | [`try_all`] |
//! | Hunch `Take`, `First` | [`try_take`], `try_take(1, ..)`; [`take`](take()) or [`race`](race()) where errors may come before |
//! | Hunch `Last` | [`last`](last()) |
//! | Hunch `Waterfall` | `?`, or [`waterfall`](waterfall()) |
//! | Hunch `Retry`, `MaxRetriesExceededError` | [`retry`](retry()), [`Ended::Attempts`] beside the last error |
//! | conc `stream` | [`stream`](stream()): its callbacks are the body of the loop over `next` |
//! | conc `iter.Map`, `ForEach` | [`map`](map()), [`for_each`] |
//! | conc `iter.MapErr`, `ResultErrorPool` with `WithCollectErrored` | [`all`] |
//! | conc `ResultPool`, `ResultErrorPool`, `ResultContextPool` with `WithFailFast` | [`map`](map()), [`all`], [`try_all`] |
//!
//! To spawn tasks one by one, from several parts of a program, use a [`TaskGroup`](crate::task::TaskGroup). For futures
//! that are to stay in the current task, use the combinators of the crate futures.

mod combinators;
mod error;
mod future;
mod retry;
mod retry_job;
mod rule;
mod settings;
mod stop;
mod stream;
mod task_set;
mod waterfall;

pub use combinators::{
    all, for_each, last, map, race, retry, stream, take, try_all, try_take, waterfall,
};
pub use error::{Ended, RaceError, RetryError};
pub use future::Flow;
pub use retry::{Retry, Verdict};
pub use retry_job::RetryHandle;
pub use stream::Stream;
pub use waterfall::Waterfall;
