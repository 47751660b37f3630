//! The functions that a user calls.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use super::retry::{Attempts, Retry, Verdict};
use super::rule::{All, Each, Last, Map, Ordered, Race, Take, TryAll, TryTake};
use super::settings::Flow;
use super::task::{Plain, Task};
use super::waterfall::{Seed, Waterfall};

/// Runs all tasks, and ends with the end of each one, by position.
///
/// What a task returns is not looked at: if it is a `Result`, then so is the value in its slot. A panic is
/// its slot's error. After a cancel the slots of tasks that had not ended say
/// [`Cancelled`](crate::TaskError::Cancelled), also of those that had not started: the rest of the input is
/// consumed for it, so the input must be finite even with a limit. No tasks: no slots.
///
/// # Examples
///
/// ```
/// use schedgroup::flow;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let ends = flow::all((1..=3).map(|n| async move { if n == 2 { Err("failed") } else { Ok(n) } })).await;
/// let ends: Vec<_> = ends.into_iter().map(|end| end.expect("none panicked")).collect();
/// assert_eq!(ends, [Ok(1), Err("failed"), Ok(3)]);
/// # }
/// ```
#[track_caller]
pub fn all<I, K, T>(tasks: I) -> Flow<I::IntoIter, K, All<T>>
where
    I: IntoIterator<Item: Task<K, Output = T>>,
{
    Flow::new("flow::all", tasks.into_iter(), All::new())
}

/// Runs all tasks, and ends with their values by position, or with the first error or panic in time.
///
/// No tasks: no values.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::{TaskError, flow};
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let tasks = [(300, 1), (200, 2), (100, 3)].map(|(millis, value)| async move {
///     sleep(Duration::from_millis(millis)).await;
///     Ok::<_, &str>(value)
/// });
/// assert_eq!(flow::try_all(tasks).await.unwrap(), [1, 2, 3]);
///
/// let tasks = (0..1000).map(|n| async move { if n == 7 { Err("no seven") } else { Ok(n) } });
/// let outcome = flow::try_all(tasks).limit(10).await;
/// assert!(matches!(outcome, Err(TaskError::Failed { index: 7, error: "no seven" })));
/// # }
/// ```
#[track_caller]
pub fn try_all<I, K, T, E>(tasks: I) -> Flow<I::IntoIter, K, TryAll<T, E>>
where
    I: IntoIterator<Item: Task<K, Output = Result<T, E>>>,
{
    Flow::new("flow::try_all", tasks.into_iter(), TryAll::new())
}

/// Runs all tasks until one has a value, and ends with it.
///
/// Errors and panics are skipped. It is [`take`] for one value.
///
/// # Errors
///
/// [`Failed`](super::RaceError::Failed), with all errors in order of time, if no task has a value;
/// [`TooFew`](super::RaceError::TooFew) if there are no tasks; [`Cancelled`](super::RaceError::Cancelled).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::{Token, flow};
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mirrors = [("slow", 300), ("broken", 10), ("fast", 100)];
/// let first = flow::race(mirrors.map(|(mirror, millis)| {
///     move |_token: Token| async move {
///         sleep(Duration::from_millis(millis)).await;
///         if mirror == "broken" { Err("no answer") } else { Ok(mirror) }
///     }
/// }));
/// assert_eq!(first.await.unwrap(), "fast");
/// # }
/// ```
#[track_caller]
pub fn race<I, K, T, E>(tasks: I) -> Flow<I::IntoIter, K, Race<T, E>>
where
    I: IntoIterator<Item: Task<K, Output = Result<T, E>>>,
{
    Flow::new("flow::race", tasks.into_iter(), Race::new())
}

/// Runs all tasks until `count` of them have a value, and ends with those in order of completion.
///
/// Errors and panics are skipped, like those of a [`race`]; [`try_take`] ends with the first instead. With
/// a `count` of zero nothing starts.
///
/// # Errors
///
/// As soon as `count` values can no longer be had: [`Failed`](super::RaceError::Failed), with the errors in
/// order of time, or [`TooFew`](super::RaceError::TooFew) if none failed and there are too few tasks. How
/// many there are is known from the upper bound of the input's `size_hint`, so an array that is too short
/// starts nothing; without a bound it is known at the input's end. Else
/// [`Cancelled`](super::RaceError::Cancelled).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow;
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), flow::RaceError<&'static str>> {
/// let replicas = [(300, Ok(1)), (200, Err("down")), (100, Ok(3))].map(|(millis, vote)| async move {
///     sleep(Duration::from_millis(millis)).await;
///     vote
/// });
/// assert_eq!(flow::take(2, replicas).await?, [3, 1]);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn take<I, K, T, E>(count: usize, tasks: I) -> Flow<I::IntoIter, K, Take<T, E>>
where
    I: IntoIterator<Item: Task<K, Output = Result<T, E>>>,
{
    Flow::new("flow::take", tasks.into_iter(), Take::new(count))
}

/// Runs all tasks until `count` of them have a value, and ends with those in order of completion, or with
/// the first error or panic before.
///
/// It ends with all values if there are fewer. With a `count` of zero nothing starts. [`take`] skips
/// errors instead.
///
/// # Errors
///
/// The first error or panic in time; [`Cancelled`](crate::TaskError::Cancelled).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::{TaskError, flow};
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let tasks = || [(300, Ok(1)), (200, Err("down")), (100, Ok(3))].map(|(millis, end)| async move {
///     sleep(Duration::from_millis(millis)).await;
///     end
/// });
/// assert_eq!(flow::try_take(1, tasks()).await.unwrap(), [3]);
/// let outcome = flow::try_take(2, tasks()).await;
/// assert!(matches!(outcome, Err(TaskError::Failed { index: 1, error: "down" })));
/// # }
/// ```
#[track_caller]
pub fn try_take<I, K, T, E>(count: usize, tasks: I) -> Flow<I::IntoIter, K, TryTake<T, E>>
where
    I: IntoIterator<Item: Task<K, Output = Result<T, E>>>,
{
    Flow::new("flow::try_take", tasks.into_iter(), TryTake::new(count))
}

/// Runs all tasks, and ends with the `count` values that came last, in order of completion.
///
/// It ends with all values if there are fewer, and with the first error or panic. With a `count` of zero
/// all tasks run.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow;
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// let tasks = [(300, 1), (200, 2), (100, 3)].map(|(millis, value)| async move {
///     sleep(Duration::from_millis(millis)).await;
///     Ok(value)
/// });
/// assert_eq!(flow::last(2, tasks).await?, [2, 1]);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn last<I, K, T, E>(count: usize, tasks: I) -> Flow<I::IntoIter, K, Last<T, E>>
where
    I: IntoIterator<Item: Task<K, Output = Result<T, E>>>,
{
    Flow::new("flow::last", tasks.into_iter(), Last::new(count))
}

/// Runs `f` on each item, and ends with what it made of them, by position.
///
/// `f` is called by the tasks. Without a [`limit`](Flow::limit) as many run at a time as the machine has
/// CPUs. A panic ends it. Where `f` can fail, use [`try_all`] or [`all`] over `items.map(f)`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// let squares = schedgroup::flow::map(1..=4, |n| async move { n * n }).await?;
/// assert_eq!(squares, [1, 4, 9, 16]);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn map<I, F, R>(
    items: I,
    f: F,
) -> Flow<
    impl Iterator<Item = impl Future<Output = Result<R::Output, Infallible>> + Send + use<I, F, R>>
    + use<I, F, R>,
    Plain,
    Map<R::Output>,
>
where
    I: IntoIterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Future<Output: Send + 'static> + Send + 'static,
{
    let f = Arc::new(f);
    let tasks = items.into_iter().map(move |item| {
        let f = Arc::clone(&f);
        async move { Ok(f(item).await) }
    });
    Flow::new("flow::map", tasks, TryAll::new()).limit(processors())
}

/// Runs `f` on each item, and keeps nothing, so that the items may be endless.
///
/// Otherwise like [`map`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// schedgroup::flow::for_each(1..=4, |n| async move { println!("{n}") }).limit(2).await
/// # }
/// ```
#[track_caller]
pub fn for_each<I, F, R>(
    items: I,
    f: F,
) -> Flow<
    impl Iterator<Item = impl Future<Output = ()> + Send + use<I, F, R>> + use<I, F, R>,
    Plain,
    Each,
>
where
    I: IntoIterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let f = Arc::new(f);
    let tasks = items.into_iter().map(move |item| {
        let f = Arc::clone(&f);
        async move { f(item).await }
    });
    Flow::new("flow::for_each", tasks, Each::new()).limit(processors())
}

fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Runs tasks in parallel, to hand their ends out one by one, in the order of the tasks.
///
/// Without a [`limit`](Flow::limit) as many run at a time as the machine has CPUs. The input may be
/// endless.
///
/// # Examples
///
/// ```
/// use schedgroup::flow;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// let pages = (1..).map(|page| async move { format!("page {page}") });
/// let mut pages = flow::stream(pages).limit(4).start();
/// while let Some(page) = pages.next().await {
///     let page = page?;
///     println!("{page}");
///     if page == "page 10" {
///         break; // the tasks that run ahead are aborted
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn stream<I, K, T>(tasks: I) -> Flow<I::IntoIter, K, Ordered<T>>
where
    I: IntoIterator<Item: Task<K, Output = T>>,
{
    Flow::new("flow::stream", tasks.into_iter(), Ordered::new()).limit(processors())
}

/// Hands a value through steps, one after the other.
///
/// It does what `?` does in an `async` block, and adds a token and caught panics. It ends with the last
/// step's value, or with the first error or panic and the number of its step, from zero. Without steps it
/// ends with `value`.
///
/// # Examples
///
/// ```
/// use schedgroup::{TaskError, flow};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TaskError<std::num::ParseIntError>> {
/// let length = flow::waterfall("21")
///     .then(|text| async move { text.parse::<u64>() })
///     .then(|number| async move { Ok(vec![number; 2]) })
///     .then(|list| async move { Ok(list.len()) });
/// assert_eq!(length.await?, 2);
/// # Ok(())
/// # }
/// ```
pub fn waterfall<T, E>(value: T) -> Waterfall<Seed<T, E>> {
    Waterfall::new(Seed::new(value))
}

/// Tries `op` again until it has a value, with pauses of `delays` between.
///
/// `attempts` is a number, or [`Attempts::Unlimited`]. It gives up when they, or the delays, have come to
/// their end; [`verdict`](Retry::verdict) can stop it sooner, or choose the pause. A
/// [`token`](Retry::token) ends it in the middle of an attempt or of a pause, unless the value is there. A
/// panic of `op` ends it too: it is returned with the error of the attempt before. Retries that share a
/// policy or a budget and run as jobs of a group are those of [`retry::Retry`](crate::retry::Retry).
///
/// It runs where it is awaited, so `op` may borrow. Without pauses it lets others run between attempts.
///
/// # Panics
///
/// For a number of zero, with which `op` could never run.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::{backoff::Backoff, flow::{self, Ended}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10));
/// let mut calls = 0;
/// let error = flow::retry(5, backoff, || {
///     calls += 1;
///     async { Err::<(), _>("failed") }
/// })
/// .await
/// .unwrap_err();
/// assert_eq!((calls, error.last), (5, Some("failed")));
/// assert!(matches!(error.ended, Ended::Attempts));
/// # }
/// ```
#[track_caller]
pub fn retry<D, O, F, T, E>(
    attempts: impl Into<Attempts>,
    delays: D,
    op: O,
) -> Retry<D::IntoIter, O, fn(&E) -> Verdict>
where
    D: IntoIterator<Item = Duration>,
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    Retry::new(attempts.into(), delays.into_iter(), op)
}
