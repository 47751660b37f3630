//! Tasks whose results belong together: all of them, the first, the last, one after the other.
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
//! | call | its value | ends early | no tasks |
//! |---|---|---|---|
//! | [`all`]`(tasks)` | each task's end, by position | never | `[]` |
//! | [`try_all`]`(tasks)` | the values, by position | at the first error or panic | `Ok([])` |
//! | [`race`]`(tasks)` | the first value | at the first value | [`RaceError::TooFew`] |
//! | [`take`]`(n, tasks)` | the first `n` values, in order of completion | at the `n`th value, or when `n` can no longer be had | [`RaceError::TooFew`]; with `n` = 0 `Ok([])`, nothing starts |
//! | [`try_take`]`(n, tasks)` | the first `n` values, in order of completion; all if there are fewer | at the `n`th value, at an error or panic before it | `Ok([])`; with `n` = 0 nothing starts |
//! | [`last`]`(n, tasks)` | the last `n` values, in order of completion; all if there are fewer | at the first error or panic | `Ok([])`; with `n` = 0 all run |
//! | [`map`]`(items, f)` | what `f` made of the items, by position | at the first panic | `Ok([])` |
//! | [`for_each`]`(items, f)` | nothing | at the first panic | `Ok(())` |
//! | [`stream`]`(tasks).start()` | each task's end, one by one in order of the tasks | never | `None` |
//! | [`waterfall`]`(value).then(f)` | what the last step made of it | at the first error or panic | `Ok(value)` |
//! | [`retry`]`(attempts, delays, op)` | the first value | at the first value, at a panic, at [`Verdict::Stop`] | – |
//!
//! **Tasks** are an iterator or an array of futures, or of closures that take a
//! [`Token`](crate::Token) and return a future; `|token: Token| async { .. }` names its type, since
//! the compiler cannot guess it. They are spawned on the runtime and run in parallel. They are taken out
//! of the iterator as they start, so that with a limit there are never more futures than may run.
//! `waterfall` and `retry` have one thing to do at a time: they run where they are awaited, and what
//! they run may borrow. For many retries that share a policy, a budget or a circuit, and that run as jobs
//! of a [`Group`](crate::Group), take the module [`retry`](mod@crate::retry).
//!
//! **Settings** are the same everywhere. `limit(n)`: at most `n` tasks run at a time. Without it `map`,
//! `for_each` and `stream` run as many as the machine has CPUs; the others start all tasks at once, which
//! needs a finite input: over an endless one they spawn until memory is gone. `token(token)`: a cancel of
//! it ends what has not finished, with an error that says `Cancelled`. A value or an error that is there
//! when the cancel arrives is returned. If the token was cancelled before, nothing starts. After a cancel
//! `all` takes the input to its end, to have a slot for each task; the others take at most one more item,
//! to see whether they had all.
//!
//! **The end.** When the future resolves, all other tasks have been aborted and have ended. (A task that
//! blocks its thread cannot be aborted: it is waited for.) Dropping the future aborts them too, without
//! the waiting.
//!
//! **A panic** is an error of its task, with its payload and the line of the call. That of the iterator
//! is the caller's own, like that of a retry's delays and verdict.
//!
//! # From Go
//!
//! | there | here |
//! |---|---|
//! | gollback `All` | [`all`] |
//! | gollback `Race` | [`race`]; all failed: all errors, the last in time at the end |
//! | gollback `Retry(ctx, n, fn)`, `n` = 0 | [`retry`]`(n, ..)`, [`Attempts::Unlimited`] |
//! | Hunch `All` | [`try_all`] |
//! | Hunch `Take`, `First` | [`try_take`], `try_take(1, ..)`; [`take`] or [`race`] where errors may come before |
//! | Hunch `Last` | [`last`] |
//! | Hunch `Waterfall` | [`waterfall`] |
//! | Hunch `Retry`, `MaxRetriesExceededError` | [`retry`], [`Ended::Attempts`] beside the last error |
//! | conc `stream` | [`stream`]: what its callbacks do is done by whoever takes the results |
//! | conc `iter.Map`, `ForEach` | [`map`], [`for_each`] |
//! | conc `iter.MapErr`, `ResultErrorPool` with `WithCollectErrored` | [`all`] |
//! | conc `ResultPool`, `ResultErrorPool`, `ResultContextPool` with `WithFailFast` | [`map`], [`all`], [`try_all`] |
//!
//! Tasks that are spawned one by one, from many places, belong in an
//! [`ErrGroup`](crate::errgroup::ErrGroup); tasks that shall not leave the current one in the
//! combinators of the crate futures.

mod combinators;
mod completions;
mod error;
mod retry;
mod rule;
mod running;
mod settings;
mod stop;
mod stream;
mod task;
mod task_set;
mod waterfall;

pub use combinators::{
    all, for_each, last, map, race, retry, stream, take, try_all, try_take, waterfall,
};
pub use error::{Ended, RaceError, RetryError};
pub use retry::{Attempts, Retry, Retrying, Verdict};
pub use rule::{All, Each, Last, Map, Ordered, Race, Take, TryAll, TryTake};
pub use running::Running;
pub use settings::Flow;
pub use stream::Stream;
pub use task::Task;
pub use waterfall::{Falling, Seed, Then, Waterfall};
