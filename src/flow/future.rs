//! The future that most combinators are.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rule::Rule;
use super::settings::{Settings, Work};
use super::task_set::{Event, TaskSet};
use crate::common::closing::StopReason;
use crate::common::panic::{ENDED, TaskPanic};

/// A future that runs a set of tasks and combines their results into `T`.
///
/// Returned by [`all`](super::all), [`try_all`](super::try_all), [`race`](super::race),
/// [`take`](super::take), [`try_take`](super::try_take), [`last`](super::last), [`map`](super::map) and
/// [`for_each`](super::for_each). Nothing runs until its first poll. `'a` is the lifetime of what the input
/// iterator borrows.
///
/// When it resolves, all of its tasks have ended: tasks that were no longer needed have been aborted.
///
/// # Cancel safety
///
/// Awaiting `&mut flow` in a `select!` loses nothing. Dropping it aborts its tasks at their next await,
/// without waiting for them, and drops the values that they have returned.
///
/// # Panics
///
/// The first poll panics outside of a tokio runtime, and with a [`deadline`](Flow::deadline) also on one without a
/// timer, at the line of `flow.await`. A poll after the end panics. A panic of the input iterator is passed on to the
/// caller. A panic of a task becomes the error of that task.
///
/// # Examples
///
/// ```
/// use schedgroup::{TaskError, flow};
///
/// /// A download that can be stored before it runs.
/// struct Download<'a> {
///     pages: flow::Flow<'a, Result<Vec<String>, TaskError<&'static str>>>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TaskError<&'static str>> {
/// let urls = [String::from("/a"), String::from("/b")];
/// let fetches = urls.iter().map(|url| {
///     let url = url.clone();
///     async move { if url.is_empty() { Err("no url") } else { Ok(url) } }
/// });
/// let download = Download { pages: flow::try_all(fetches).limit(16) };
/// assert_eq!(download.pages.await?, ["/a", "/b"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "a flow runs nothing until it is awaited"]
pub struct Flow<'a, T> {
    settings: Settings,
    /// Until the end.
    work: Option<Work<'a, T>>,
}

impl<'a, T> Flow<'a, T> {
    #[track_caller]
    pub(super) fn new<I, R>(name: &'static str, limit: usize, tasks: I, rule: R) -> Flow<'a, T>
    where
        I: Iterator<Item: Future<Output = R::Input> + Send + 'static> + Send + 'a,
        R: Rule<Output = T> + Send + 'a,
    {
        let mut run = Run {
            set: TaskSet::new(tasks),
            rule,
            over: None,
        };
        Flow {
            settings: Settings::new(name, limit),
            work: Some(Box::new(move |settings, cx| run.poll(settings, cx))),
        }
    }

    /// Makes another value of the rule's.
    pub(super) fn map_output<U>(self, f: fn(T) -> U) -> Flow<'a, U>
    where
        T: 'a,
        U: 'a,
    {
        let mut work = self.work.expect(ENDED);
        Flow {
            settings: self.settings,
            work: Some(Box::new(move |settings, cx| work(settings, cx).map(f))),
        }
    }

    /// Sets the limit: at most `tasks` tasks run at a time.
    ///
    /// With a limit the next task is taken from the input when a slot is free. So at most `tasks` futures exist at a
    /// time, and the input may be endless if the combinator ends early. Without a limit, `map` and `for_each` run as
    /// many tasks at a time as the machine has CPUs; all other combinators start the whole input at once, so it must be
    /// finite.
    ///
    /// # Panics
    ///
    /// If `tasks` is zero: no task could ever run.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let squares = (1_u64..).map(|n| async move { Ok::<_, ()>(n * n) });
    /// // Without the limit this would start tasks for ever.
    /// assert_eq!(schedgroup::flow::take(3, squares).limit(1).await.unwrap(), [1, 4, 9]);
    /// # }
    /// ```
    #[track_caller]
    pub fn limit(mut self, tasks: usize) -> Flow<'a, T> {
        self.settings.set_limit("Flow::limit", tasks);
        self
    }

    /// Sets a token; a cancel of it ends the flow with `Cancelled`.
    ///
    /// A cancel aborts the tasks that have not ended. If the flow has its value or an error already when the cancel
    /// comes, it returns that. If the token was cancelled before the first poll, nothing starts.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::{TaskError, flow};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let token = CancellationToken::new();
    /// let stop = token.clone();
    /// let never = flow::map([1, 2], |n| async move { std::future::pending::<()>().await; n });
    /// tokio::spawn(async move { stop.cancel() });
    /// assert!(matches!(never.token(token).await, Err(TaskError::Cancelled)));
    /// # }
    /// ```
    pub fn token(mut self, token: CancellationToken) -> Flow<'a, T> {
        self.settings.stop.set_token(token);
        self
    }

    /// Sets an instant at which the flow ends with `DeadlineExceeded`.
    ///
    /// Otherwise it acts like a cancel of the [`token`](Flow::token) at that instant.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::flow::{self, RaceError};
    /// use tokio::time::{Instant, sleep};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mirrors = [20, 30].map(|seconds| async move {
    ///     sleep(Duration::from_secs(seconds)).await;
    ///     Ok::<_, &str>(seconds)
    /// });
    /// let first = flow::race(mirrors).deadline(Instant::now() + Duration::from_secs(5));
    /// assert!(matches!(first.await, Err(RaceError::DeadlineExceeded)));
    /// # }
    /// ```
    pub fn deadline(mut self, at: Instant) -> Flow<'a, T> {
        self.settings.stop.set_deadline(at);
        self
    }
}

impl<T> Future for Flow<'_, T> {
    type Output = T;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Flow { settings, work } = &mut *self;
        let Some(poll) = work else {
            panic!("{ENDED}");
        };
        settings.start();
        let value = ready!(poll(settings, cx));
        *work = None;
        Poll::Ready(value)
    }
}

impl<T> fmt::Debug for Flow<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flow").field(&self.settings).finish()
    }
}

/// A set of tasks with its rule.
struct Run<I, R: Rule> {
    set: TaskSet<I, R::Input>,
    rule: R,
    over: Option<Over>,
}

/// The reason why no more tasks start, while those that run are waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The rule has its value: what still ends does not count.
    Settled,
    /// A task that had ended by itself before the abort reached it still counts.
    Stopped(StopReason),
}

impl<I, R> Run<I, R>
where
    I: Iterator<Item: Future<Output = R::Input> + Send + 'static>,
    R: Rule,
{
    fn poll(&mut self, settings: &mut Settings, cx: &mut Context<'_>) -> Poll<R::Output> {
        loop {
            self.start(settings);
            match ready!(self.set.poll_event(&mut settings.stop, cx)) {
                Event::Ended(index, end) => self.ended(index, end, settings),
                Event::Stopped(stop) => self.stop(stop),
                Event::Idle => return Poll::Ready(self.finish(settings)),
            }
        }
    }

    /// Starts what may start, unless there is a value or a reason to stop.
    fn start(&mut self, settings: &Settings) {
        self.decide();
        while self.over.is_none() && self.set.running() < settings.limit {
            // Asked before each start, since the input may take its time.
            match settings.stop.get() {
                Some(stop) => self.stop(stop),
                None if self.set.start_next(settings) => {}
                None => break,
            }
        }
        // The end of the input may be known only now.
        self.decide();
    }

    /// Asks the rule for its decision; a value that is there wins over a stop.
    fn decide(&mut self) {
        if self.rule.is_settled(self.set.without_end()) {
            self.over = Some(Over::Settled);
            self.set.stop();
        }
    }

    fn stop(&mut self, stop: StopReason) {
        self.over = Some(Over::Stopped(stop));
        self.set.stop();
    }

    fn ended(&mut self, index: usize, end: Result<R::Input, TaskPanic>, settings: &Settings) {
        if self.over == Some(Over::Settled) {
            settings.discard(index, end);
        } else {
            self.rule.ended(index, end);
        }
    }

    /// Takes the value, when no task runs any more.
    fn finish(&mut self, settings: &Settings) -> R::Output {
        let Some(Over::Stopped(stop)) = self.over else {
            return self.rule.settle();
        };
        // Without slots one task is enough to show that the stop cut something off.
        let most = if R::SLOTS { usize::MAX } else { 1 };
        match self.set.cut_off(most, settings) {
            0 => self.rule.settle(),
            cut_off => self.rule.stopped(stop, cut_off),
        }
    }
}
