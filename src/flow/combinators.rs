//! The functions that a user calls.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use super::error::RaceError;
use super::future::Flow;
use super::retry::Retry;
use super::rule::{All, Take, TryAll, TryTake};
use super::stream::Stream;
use super::waterfall::Waterfall;
use crate::common::error::TaskError;
use crate::common::panic::{Guarded, run_inside};

/// Without a limit all tasks start at once.
const ALL: usize = usize::MAX;

/// The limit where the items may be many, and the work on each is small.
fn cpus() -> usize {
    // Asked once: on Linux it opens files, which takes longer than all else that a combinator of few tasks does.
    static CPUS: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));
    *CPUS
}

/// Runs all tasks and returns the result of each, in order of the input.
///
/// It does not look at what a task returns: if tasks return a `Result`, each element is a `Result` in a `Result`. An
/// empty input gives an empty vector.
///
/// # Errors
///
/// It has no error of its own. Each element of the vector has the error of its task: `Panicked`, or `Cancelled` or
/// `DeadlineExceeded` if the task had not ended when the token was cancelled or the deadline passed. Tasks that never
/// started have an element too: so the rest of the input is consumed then, and the input must be finite even with a
/// limit.
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
#[doc(alias = "join_all")]
#[track_caller]
pub fn all<'a, I, T>(tasks: I) -> Flow<'a, Vec<Result<T, TaskError>>>
where
    I: IntoIterator<Item: Future<Output = T> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
{
    Flow::new("flow::all", ALL, tasks.into_iter(), All::new())
}

/// Runs all tasks and returns their values in order of the input, or the error that came first.
///
/// The first error or panic aborts the other tasks. An empty input gives an empty vector.
///
/// # Errors
///
/// `Failed` or `Panicked`, with the task's index, if a task failed or panicked: the first one. Otherwise `Cancelled` or
/// `DeadlineExceeded`, if the token or the deadline stopped tasks.
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
#[doc(alias = "try_join_all")]
#[track_caller]
pub fn try_all<'a, I, T, E>(tasks: I) -> Flow<'a, Result<Vec<T>, TaskError<E>>>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static, IntoIter: Send + 'a>,
    T: Send + 'static,
    E: Send + 'static,
{
    Flow::new("flow::try_all", ALL, tasks.into_iter(), TryAll::new())
}

/// Runs all tasks until one of them returns a value, and returns this value.
///
/// Errors and panics are skipped. The other tasks are aborted when a value is there. It is [`take`] with a count of
/// one.
///
/// # Errors
///
/// [`Failed`](RaceError::Failed), with all errors in order of completion, if every task failed;
/// [`TooFew`](RaceError::TooFew) if there are no tasks; otherwise [`Cancelled`](RaceError::Cancelled) or
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
///
/// Hedged requests, where a second replica is asked if the first has not answered within 50 ms:
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow;
/// use tokio::time::{Instant, sleep};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// async fn ask(replica: &'static str, millis: u64) -> Result<&'static str, std::io::Error> {
///     sleep(Duration::from_millis(millis)).await; // the request
///     Ok(replica)
/// }
///
/// let start = Instant::now();
/// let answer = flow::race([("slow", 0, 300), ("fast", 50, 20)].map(|(replica, wait, millis)| async move {
///     sleep(Duration::from_millis(wait)).await;
///     ask(replica, millis).await
/// }));
/// assert_eq!(answer.await.unwrap(), "fast");
/// assert_eq!(start.elapsed(), Duration::from_millis(70));
/// # }
/// ```
#[doc(alias = "select_ok")]
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

/// Runs all tasks until `count` of them have returned a value, and returns those in order of completion.
///
/// Errors and panics are skipped, as by [`race`]; [`try_take`] ends at the first of them instead. With a `count`
/// of zero nothing starts.
///
/// # Errors
///
/// As soon as fewer than `count` tasks can still succeed: [`Failed`](RaceError::Failed), with the errors in order of
/// completion, or [`TooFew`](RaceError::TooFew) if none failed but there are fewer tasks than `count`. The number of
/// tasks is taken from the upper bound of the input's `size_hint`, so an array that is too short starts nothing; an
/// input without such a bound is counted at its end. Otherwise [`Cancelled`](RaceError::Cancelled) or
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

/// Runs all tasks until `count` of them have returned a value, and returns those in order of completion; or the first
/// error, if one comes before that.
///
/// If there are fewer than `count` tasks it returns all their values. With a `count` of zero nothing starts. [`take`]
/// skips errors instead.
///
/// # Errors
///
/// `Failed` or `Panicked`, with the task's index, if a task failed or panicked before there were enough values: the
/// first one. Otherwise `Cancelled` or `DeadlineExceeded`, if the token or the deadline stopped tasks.
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
/// If there are fewer than `count` tasks it returns all their values. With a `count` of zero all tasks run, and no
/// value is returned.
///
/// # Errors
///
/// `Failed` or `Panicked`, with the task's index, if a task failed or panicked: the first one. Otherwise `Cancelled` or
/// `DeadlineExceeded`, if the token or the deadline stopped tasks.
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
/// `Panicked`, with the item's index, if `f` panicked for an item: the first one. Otherwise `Cancelled` or
/// `DeadlineExceeded`, if the token or the deadline stopped it. The values so far are dropped then: [`all`] returns
/// them.
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
    // Guarded, since it is dropped together with the items: of their destructors only one may panic.
    let f = Arc::new(Guarded::new(f));
    let tasks = items.into_iter().map(move |item| {
        let f = Arc::clone(&f);
        async move { Ok(run_inside(pin!(Some(f(item)))).await) }
    });
    Flow::new("flow::map", cpus(), tasks, TryAll::new())
}

/// Runs `f` on each item and returns when the last run has ended. It keeps no values, so the items may be endless.
///
/// `f` is called by the tasks. Without a [`limit`](Flow::limit) as many run at a time as the machine has CPUs.
///
/// # Errors
///
/// `Panicked`, with the item's index, if `f` panicked for an item: the first one. Otherwise `Cancelled` or
/// `DeadlineExceeded`, if the token or the deadline stopped it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// schedgroup::flow::for_each(1..=4, |n| async move { println!("{n}") }).limit(2).await
/// # }
/// ```
#[doc(alias = "for_each_concurrent")]
#[track_caller]
pub fn for_each<'a, I, F, R>(items: I, f: F) -> Flow<'a, Result<(), TaskError>>
where
    I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'a>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    // Guarded, since it is dropped together with the items: of their destructors only one may panic.
    let f = Arc::new(Guarded::new(f));
    let tasks = items.into_iter().map(move |item| {
        let f = Arc::clone(&f);
        async move {
            run_inside(pin!(Some(f(item)))).await;
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
/// It does not look at what a task returns: if tasks return a `Result`, each item is a `Result` in a `Result`.
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
#[doc(alias = "buffered")]
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
/// In Rust `?` does the same: `let number = parse(text).await?; let list = make(number).await?;`. In addition this
/// takes a token and a deadline, and returns the panic of a step as an error. It resolves to the value of the last
/// step, or to the first error, with the number of its step, counted from zero. Without steps it resolves to `value`.
///
/// If the compiler cannot infer the error's type from a step, name it here: `waterfall::<_, Error>(value)`.
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

/// Calls `op` again and again until an attempt returns a value.
///
/// By default it makes at most three attempts without a pause between them; [`attempts`](Retry::attempts),
/// [`delays`](Retry::delays) and the other settings of [`Retry`] change that. `delays` shows exponential backoff with
/// jitter.
///
/// If you await it, the attempts are made in the current task, so `op` may borrow. With [`spawn_on`](Retry::spawn_on)
/// they are made by a job of a scheduling group, where a pause needs no task.
///
/// # Errors
///
/// [`RetryError`](super::RetryError), with the reason why it gave up, the number of attempts, and the last error.
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
#[doc(alias = "backoff")]
pub fn retry<'a, O, F, T, E>(op: O) -> Retry<'a, O, F, E>
where
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    Retry::new(op)
}
