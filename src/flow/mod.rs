//! Combinators over sets of tasks that run in parallel: all results, the first, the last, a stream; and retries.
//!
//! | call | resolves to | ends early | empty input |
//! |---|---|---|---|
//! | [`all`]`(tasks)` | each task's result, in order of the input | never | `[]` |
//! | [`try_all`]`(tasks)` | the values, in order of the input | at the first error or panic | `Ok([])` |
//! | [`race`](race())`(tasks)` | the first value; errors are skipped | at the first value | [`RaceError::TooFew`] |
//! | [`take`](take())`(n, tasks)` | the first `n` values, in order of completion; errors are skipped | at the `n`th value, or when `n` can no longer be had | [`RaceError::TooFew`]; with `n` = 0 `Ok([])`, nothing starts |
//! | [`try_take`]`(n, tasks)` | the first `n` values, in order of completion; all if there are fewer | at the `n`th value, or at an error or panic before it | `Ok([])`; with `n` = 0 nothing starts |
//! | [`last`](last())`(n, tasks)` | the last `n` values, in order of completion; all if there are fewer | at the first error or panic | `Ok([])`; with `n` = 0 all run |
//! | [`map`](map())`(items, f)` | what `f` returned for each item, in order of the items | at the first panic | `Ok([])` |
//! | [`for_each`]`(items, f)` | nothing | at the first panic | `Ok(())` |
//! | [`stream`](stream())`(tasks).next()` | the next task's result, in order of the input or of completion | never | `None` |
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
//! **Tasks** are futures, in an iterator or an array. They are spawned on the runtime, so they are `Send + 'static` and
//! run in parallel; the iterator may borrow. They are taken out of it as they start, so with a limit there are never
//! more futures than may run. `waterfall` and `retry` do one thing at a time: they run where they are awaited, and what
//! they run may borrow. A [`Flow`] or a [`Stream`] runs nothing until its first poll, and can be named and stored.
//!
//! **Settings** are the same everywhere. `limit(n)`: at most `n` tasks run at a time. Without it `map`, `for_each` and
//! `stream` run as many as the machine has CPUs; the others start all tasks at once, which needs a finite input: over an
//! endless one they spawn until memory is exhausted. `token(token)` and `deadline(at)` end what has not finished, with
//! `Cancelled` or `DeadlineExceeded`. A value or an error that is there by then is returned. If the token was cancelled
//! or the deadline had passed before the first poll, nothing starts. Stopped by either, `all` takes the input to its
//! end, to have a slot for each task; the others take at most one more item, to see whether they had all. A task that
//! has to see the cancel captures a clone of the token.
//!
//! **The end.** When the future resolves, all other tasks have been aborted and have ended. (A task that blocks its
//! thread cannot be aborted: it is waited for.) Dropping the future aborts them too, without the waiting.
//!
//! **A panic** is an error of its task or step, with its payload and the line of the call. That of the input iterator is
//! passed on to the caller, and so is that of a retry's operation and settings.
//!
//! # From Go
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
//! Tasks that are spawned one by one, by several parts of a program, belong in a [`TaskGroup`](crate::task::TaskGroup); futures
//! that shall stay in the current task belong in the combinators of the crate futures.

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
