//! The functions that a user calls.

use std::future::Future;
use std::sync::Arc;
use std::thread::available_parallelism;

use super::error::RaceError;
use super::future::Flow;
use super::retry::Retry;
use super::rule::{All, Take, TryAll, TryTake};
use super::stream::Stream;
use super::waterfall::Waterfall;
use crate::common::error::TaskError;

/// Without a limit all tasks start at once.
const ALL: usize = usize::MAX;

/// The limit where the items may be many, and the work on each is small.
fn cpus() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Runs all tasks and returns the result of each, in order of the input.
///
/// What a task returns is not looked at: if it is a `Result`, then so is the value in its slot. An empty input
/// gives an empty vector.
///
/// # Errors
///
/// It has no error of its own; each slot has its task's: `Panicked`, and after a cancel or the deadline `Cancelled` or
/// `DeadlineExceeded` for each task that had not ended. Tasks that never started are among them, so the rest of the
/// input is consumed then, and the input must be finite even with a limit.
///
/// # Examples
///
/// ```
/// use schedgroup::flow;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let results = flow::all((1..=3).map(|n| async move { if n == 2 { Err("failed") } else { Ok(n) } })).await;
/// let results: Vec<_> = results.into_iter().map(|result| result.expect("none panicked")).collect();
/// assert_eq!(results, [Ok(1), Err("failed"), Ok(3)]);
/// # }
/// ```
#[track_caller]
pub fn all<'a, I, T>(tasks: I) -> Flow<'a, Vec<Result<T, TaskError>>>
where
    I: IntoIterator<Item: Future<Output = T> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
{
    Flow::new("flow::all", ALL, tasks.into_iter(), All::new())
}

/// Runs all tasks and returns their values in order of the input, or the first error in time.
///
/// The first error aborts the other tasks. An empty input gives an empty vector.
///
/// # Errors
///
/// The first task that fails or panics ends it, with `Failed` or `Panicked` and the task's index; else `Cancelled` or
/// `DeadlineExceeded`, if tasks were cut off.
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
pub fn try_all<'a, I, T, E>(tasks: I) -> Flow<'a, Result<Vec<T>, TaskError<E>>>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
    E: Send + 'static,
{
    Flow::new("flow::try_all", ALL, tasks.into_iter(), TryAll::new())
}

/// Runs all tasks until one has a value, and returns it.
///
/// Errors and panics are skipped. It is [`take`] for one value.
///
/// # Errors
///
/// [`Failed`](RaceError::Failed), with all errors in order of completion, if no task has a value;
/// [`TooFew`](RaceError::TooFew) if there are no tasks; else [`Cancelled`](RaceError::Cancelled) or
/// [`DeadlineExceeded`](RaceError::DeadlineExceeded).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow;
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mirrors = [("slow", 300), ("broken", 10), ("fast", 100)];
/// let first = flow::race(mirrors.map(|(mirror, millis)| async move {
///     sleep(Duration::from_millis(millis)).await;
///     if mirror == "broken" { Err("no answer") } else { Ok(mirror) }
/// }));
/// assert_eq!(first.await.unwrap(), "fast");
/// # }
/// ```
#[track_caller]
pub fn race<'a, I, T, E>(tasks: I) -> Flow<'a, Result<T, RaceError<E>>>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
    E: Send + 'static,
{
    Flow::new("flow::race", ALL, tasks.into_iter(), Take::new(1))
        .map_output(|values| values.map(|mut values| values.pop().expect("it takes one")))
}

/// Runs all tasks until `count` of them have a value, and returns those in order of completion.
///
/// Errors and panics are skipped, like those of a [`race`]; [`try_take`] ends with the first instead. With a `count`
/// of zero nothing starts.
///
/// # Errors
///
/// As soon as `count` values can no longer be had: [`Failed`](RaceError::Failed), with the errors in order of
/// completion, or [`TooFew`](RaceError::TooFew) if none failed and there are too few tasks. The number of tasks is
/// known from the upper bound of the input's `size_hint`, so an array that is too short starts nothing; without a bound
/// it is known at the input's end. Else [`Cancelled`](RaceError::Cancelled) or
/// [`DeadlineExceeded`](RaceError::DeadlineExceeded).
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
pub fn take<'a, I, T, E>(count: usize, tasks: I) -> Flow<'a, Result<Vec<T>, RaceError<E>>>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
    E: Send + 'static,
{
    Flow::new("flow::take", ALL, tasks.into_iter(), Take::new(count))
}

/// Runs all tasks until `count` of them have a value, and returns those in order of completion; or the first error
/// before.
///
/// If there are fewer tasks it returns all values. With a `count` of zero nothing starts. [`take`] skips errors
/// instead.
///
/// # Errors
///
/// The first task that fails or panics before ends it, with `Failed` or `Panicked` and the task's index; else
/// `Cancelled` or `DeadlineExceeded`, if tasks were cut off.
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
pub fn try_take<'a, I, T, E>(count: usize, tasks: I) -> Flow<'a, Result<Vec<T>, TaskError<E>>>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
    E: Send + 'static,
{
    Flow::new(
        "flow::try_take",
        ALL,
        tasks.into_iter(),
        TryTake::first(count),
    )
}

/// Runs all tasks and returns the `count` values that came last, in order of completion.
///
/// If there are fewer tasks it returns all values. With a `count` of zero all tasks run.
///
/// # Errors
///
/// The first task that fails or panics ends it, with `Failed` or `Panicked` and the task's index; else `Cancelled` or
/// `DeadlineExceeded`, if tasks were cut off.
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
pub fn last<'a, I, T, E>(count: usize, tasks: I) -> Flow<'a, Result<Vec<T>, TaskError<E>>>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
    E: Send + 'static,
{
    Flow::new("flow::last", ALL, tasks.into_iter(), TryTake::last(count))
}

/// Runs `f` on each item and returns its values, in order of the items.
///
/// `f` is called by the tasks. Without a [`limit`](Flow::limit) as many run at a time as the machine has CPUs. Where
/// `f` can fail, use [`try_all`] or [`all`] over `items.map(f)`.
///
/// # Errors
///
/// The first panic ends it, with `Panicked` and the item's index; else `Cancelled` or `DeadlineExceeded`, if items were
/// cut off.
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
pub fn map<'a, I, F, R>(items: I, f: F) -> Flow<'a, Result<Vec<R::Output>, TaskError>>
where
    I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'a>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Future<Output: Send + 'static> + Send + 'static,
{
    let f = Arc::new(f);
    let tasks = items.into_iter().map(move |item| {
        let f = Arc::clone(&f);
        async move { Ok(f(item).await) }
    });
    Flow::new("flow::map", cpus(), tasks, TryAll::new())
}

/// Runs `f` on each item and returns when the last has ended; it keeps nothing, so the items may be endless.
///
/// `f` is called by the tasks. Without a [`limit`](Flow::limit) as many run at a time as the machine has CPUs.
///
/// # Errors
///
/// The first panic ends it, with `Panicked` and the item's index; else `Cancelled` or `DeadlineExceeded`, if items were
/// cut off.
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
pub fn for_each<'a, I, F, R>(items: I, f: F) -> Flow<'a, Result<(), TaskError>>
where
    I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'a>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let f = Arc::new(f);
    let tasks = items.into_iter().map(move |item| {
        let f = Arc::clone(&f);
        async move {
            f(item).await;
            Ok(())
        }
    });
    Flow::new("flow::for_each", cpus(), tasks, TryTake::last(0)).map_output(|none| none.map(|_| ()))
}

/// Runs tasks in parallel and returns their results one by one, in order of the input.
///
/// Without a [`limit`](Stream::limit) as many run at a time as the machine has CPUs. The input may be endless.
/// [`unordered`](Stream::unordered) returns them in order of completion.
///
/// # Examples
///
/// ```
/// use schedgroup::flow;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// let pages = (1..).map(|page| async move { format!("page {page}") });
/// let mut pages = flow::stream(pages).limit(4);
/// while let Some(page) = pages.next().await {
///     let page = page?;
///     println!("{page}");
///     if page == "page 10" {
///         break; // dropping the stream aborts the tasks that run ahead
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn stream<'a, I, T>(tasks: I) -> Stream<'a, T>
where
    I: IntoIterator<Item: Future<Output = T> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
{
    Stream::new(cpus(), tasks.into_iter())
}

/// Passes a value through steps, one after the other.
///
/// In Rust `?` does the same: `let number = parse(text).await?; let list = make(number).await?;`. What this adds is a
/// token, a deadline, and the panic of a step as an error. It resolves to the last step's value, or to the first error
/// with the number of its step, from zero; without steps to `value`.
///
/// Where no step names the error, name it here: `waterfall::<_, Error>(value)`.
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
pub fn waterfall<'a, T, E>(value: T) -> Waterfall<'a, T, E>
where
    T: Send + 'a,
    E: 'a,
{
    Waterfall::new(value)
}

/// Tries `op` again until it has a value.
///
/// It makes at most three attempts without a pause between them; [`attempts`](Retry::attempts),
/// [`delays`](Retry::delays) and the other settings of [`Retry`] change that. Await it to make the attempts here, so
/// that `op` may borrow; [`spawn_on`](Retry::spawn_on) makes them as a job of a scheduling group, whose pauses cost no
/// task.
///
/// # Errors
///
/// [`RetryError`](super::RetryError): what ended it, the number of attempts, and the last error.
///
/// # Panics
///
/// A panic of `op` is passed on to the caller.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let text = String::from("twenty-one");
/// let error = flow::retry(|| async { text.parse::<u32>() })
///     .attempts(5)
///     .delays(std::iter::repeat(Duration::from_millis(100)))
///     .await
///     .unwrap_err();
/// assert_eq!(error.to_string(), "gave up after 5 attempts: invalid digit found in string");
/// # }
/// ```
pub fn retry<'a, O, F, T, E>(op: O) -> Retry<'a, O, F, E>
where
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    Retry::new(op)
}
