//! The ends of tasks, one by one.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::settings::{Settings, Work};
use super::task_set::{Event, TaskSet};
use crate::common::closing::StopReason;
use crate::common::error::TaskError;
use crate::common::panic::{DiscardEach, TaskPanic};

/// A stream of the results of tasks that run in parallel; returned by [`stream`](super::stream()).
///
/// Nothing runs until the first poll of [`next`](Stream::next). From then on at most [`limit`](Stream::limit) tasks are
/// running or have a result that was not taken yet, so a slow reader slows the tasks down (backpressure). `'a` is the
/// lifetime of what the input iterator borrows, and `T` is what a task returns.
///
/// With the feature `stream` it is a `futures_core::Stream` of `Result<T, TaskError>`.
///
/// # Cancel safety
///
/// Dropping it aborts its tasks at their next await, and drops the results that were not taken.
///
/// # Panics
///
/// The first poll panics outside of a tokio runtime, and with a [`deadline`](Stream::deadline) also on one without a
/// timer, at the line of the `.await`. A panic of the input iterator is passed on to the caller, and no result is lost.
/// A panic of a task becomes its result.
///
/// # Examples
///
/// ```
/// use schedgroup::flow;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), schedgroup::TaskError> {
/// let lines = ["a", "b", "c"].map(|line| async move { line.to_uppercase() });
/// let mut lines = flow::stream(lines).limit(2);
/// let mut text = String::new();
/// while let Some(line) = lines.next().await {
///     text += &line?;
/// }
/// assert_eq!(text, "ABC");
/// # Ok(())
/// # }
/// ```
#[must_use = "a stream runs nothing until its `next` is awaited"]
pub struct Stream<'a, T> {
    settings: Settings,
    work: Work<'a, Option<Result<T, TaskError>>>,
}

impl<'a, T: Send + 'static> Stream<'a, T> {
    #[track_caller]
    pub(super) fn new<I>(limit: usize, tasks: I) -> Stream<'a, T>
    where
        I: Iterator<Item: Future<Output = T> + Send + 'static> + Send + 'a,
    {
        let mut run = Run {
            set: TaskSet::new(tasks),
            ends: DiscardEach::default(),
            phase: Phase::Open,
        };
        Stream {
            settings: Settings::new("flow::stream", limit),
            work: Box::new(move |settings, cx| run.poll_next(settings, cx)),
        }
    }
}

impl<'a, T> Stream<'a, T> {
    /// Sets the limit: at most `tasks` tasks run at a time, including those whose result was not taken yet.
    ///
    /// By default the limit is the number of CPUs of the machine.
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
    /// let numbers = (1_u64..).map(|n| async move { n });
    /// let mut numbers = schedgroup::flow::stream(numbers).limit(8);
    /// assert!(matches!(numbers.next().await, Some(Ok(1))));
    /// # }
    /// ```
    #[track_caller]
    pub fn limit(mut self, tasks: usize) -> Stream<'a, T> {
        self.settings.set_limit("Stream::limit", tasks);
        self
    }

    /// Returns the results in order of completion instead of that of the input.
    ///
    /// A slow task then does not delay the results of other tasks.
    ///
    /// # Panics
    ///
    /// If it is called after the first poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::sleep;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let tasks = [300, 100].map(|millis| async move {
    ///     sleep(Duration::from_millis(millis)).await;
    ///     millis
    /// });
    /// let mut results = schedgroup::flow::stream(tasks).limit(2).unordered();
    /// assert!(matches!(results.next().await, Some(Ok(100))));
    /// assert!(matches!(results.next().await, Some(Ok(300))));
    /// # }
    /// ```
    #[doc(alias = "buffer_unordered")]
    #[track_caller]
    pub fn unordered(mut self) -> Stream<'a, T> {
        assert!(
            self.settings.runtime.is_none(),
            "schedgroup: Stream::unordered was called after the first poll"
        );
        self.settings.unordered = true;
        self
    }

    /// Sets a token; a cancel of it ends the stream.
    ///
    /// The running tasks are aborted. `next` then returns the results that are there; after them
    /// [`Cancelled`](TaskError::Cancelled), once, if the cancel stopped any task; and `None` from then on.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::TaskError;
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let token = CancellationToken::new();
    /// let numbers = (1_u64..).map(|n| async move { n });
    /// let mut numbers = schedgroup::flow::stream(numbers).limit(1).token(token.clone());
    /// assert!(matches!(numbers.next().await, Some(Ok(1))));
    /// token.cancel();
    /// assert!(matches!(numbers.next().await, Some(Err(TaskError::Cancelled))));
    /// assert!(numbers.next().await.is_none());
    /// # }
    /// ```
    pub fn token(mut self, token: CancellationToken) -> Stream<'a, T> {
        self.settings.stop.set_token(token);
        self
    }

    /// Sets an instant at which the stream ends, with [`DeadlineExceeded`](TaskError::DeadlineExceeded).
    ///
    /// Otherwise it acts like a cancel of the [`token`](Stream::token) at that instant.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::TaskError;
    /// use tokio::time::{Instant, sleep};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let beats = (1_u64..).map(|n| async move { sleep(Duration::from_secs(n)).await });
    /// let deadline = Instant::now() + Duration::from_millis(3_500);
    /// let mut beats = schedgroup::flow::stream(beats).limit(1).deadline(deadline);
    /// assert!(matches!(beats.next().await, Some(Ok(()))));
    /// assert!(matches!(beats.next().await, Some(Ok(()))));
    /// assert!(matches!(beats.next().await, Some(Err(TaskError::DeadlineExceeded))));
    /// # }
    /// ```
    pub fn deadline(mut self, at: Instant) -> Stream<'a, T> {
        self.settings.stop.set_deadline(at);
        self
    }

    /// Returns the result of the next task: its value, or [`Panicked`](TaskError::Panicked); `None` after the last.
    ///
    /// After a cancel or the deadline it waits until all running tasks have ended. Then it returns the results that are
    /// there; after them the reason, once, if any task was stopped; and then `None`.
    ///
    /// # Cancel safety
    ///
    /// No result is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// `Panicked` if the task panicked; the stream continues. `Cancelled` or `DeadlineExceeded`, once, as its last
    /// item, if tasks were stopped by the [`token`](Stream::token), the [`deadline`](Stream::deadline) or the end
    /// of the runtime.
    ///
    /// # Panics
    ///
    /// The first poll panics outside of a tokio runtime, and with a [`deadline`](Stream::deadline) also on one without a
    /// timer.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::{TaskError, flow};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut results = flow::stream([1, 0].map(|n| async move { 6 / n }));
    /// assert!(matches!(results.next().await, Some(Ok(6))));
    /// assert!(matches!(results.next().await, Some(Err(TaskError::Panicked(_)))));
    /// assert!(results.next().await.is_none());
    /// # }
    /// ```
    #[expect(
        clippy::should_implement_trait,
        reason = "it is the name that streams have for it"
    )]
    pub fn next(
        &mut self,
    ) -> impl Future<Output = Option<Result<T, TaskError>>> + Send + use<'_, 'a, T> {
        Next(self)
    }

    #[track_caller]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        self.settings.start();
        (self.work)(&mut self.settings, cx)
    }
}

#[cfg(feature = "stream")]
#[cfg_attr(docsrs, doc(cfg(feature = "stream")))]
impl<T> futures_core::Stream for Stream<'_, T> {
    type Item = Result<T, TaskError>;

    #[track_caller]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_end(cx)
    }
}

impl<T> fmt::Debug for Stream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.settings).finish()
    }
}

/// The future of `next`, by hand so that a misuse is at the caller's line.
struct Next<'s, 'a, T>(&'s mut Stream<'a, T>);

impl<T> Future for Next<'_, '_, T> {
    type Output = Option<Result<T, TaskError>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_end(cx)
    }
}

/// The tasks of a stream, and their ends.
struct Run<I, T> {
    set: TaskSet<I, T>,
    /// In order of the input: a slot for each task that started and was not taken. Else: what was not taken.
    ends: DiscardEach<VecDeque<Option<Result<T, TaskError>>>>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Stopped(StopReason),
    /// There is nothing more to take.
    Over,
}

impl<I, T> Run<I, T>
where
    I: Iterator<Item: Future<Output = T> + Send + 'static>,
    T: Send + 'static,
{
    fn poll_next(
        &mut self,
        settings: &mut Settings,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, TaskError>>> {
        loop {
            if self.phase == Phase::Open {
                // A reason to stop that is there already comes before any start.
                if let Some(stop) = settings.stop.get() {
                    self.stop(stop);
                } else if let Some(end) = self.take(settings) {
                    return Poll::Ready(Some(end));
                }
            }
            match ready!(self.set.poll_event(&mut settings.stop, cx)) {
                Event::Ended(index, end) => self.put(index, end, settings.unordered),
                Event::Stopped(stop) => self.stop(stop),
                Event::Idle => return Poll::Ready(self.idle(settings)),
            }
        }
    }

    /// The first end, if it is there; its slot goes to the next task.
    fn take(&mut self, settings: &Settings) -> Option<Result<T, TaskError>> {
        self.fill(settings.limit, settings);
        self.ends.front()?.as_ref()?;
        // Before the end is taken out, so that it is not lost if the input panics.
        self.fill(settings.limit.saturating_add(1), settings);
        self.ends.pop_front().flatten()
    }

    fn fill(&mut self, limit: usize, settings: &Settings) {
        while self.phase == Phase::Open && self.slots(settings.unordered) < limit {
            // Asked before each start, since the input may take its time.
            match settings.stop.get() {
                Some(stop) => self.stop(stop),
                None if !self.set.start_next(settings) => return,
                None if settings.unordered => {}
                None => self.ends.push_back(None),
            }
        }
    }

    /// The number of tasks that run or whose end was not taken.
    fn slots(&self, unordered: bool) -> usize {
        if unordered {
            self.set.running() + self.ends.len()
        } else {
            self.ends.len()
        }
    }

    fn put(&mut self, index: usize, end: Result<T, TaskPanic>, unordered: bool) {
        let end = Some(end.map_err(TaskError::Panicked));
        if unordered {
            return self.ends.push_back(end);
        }
        let first = self.set.started() - self.ends.len();
        self.ends[index - first] = end;
    }

    fn stop(&mut self, stop: StopReason) {
        self.phase = Phase::Stopped(stop);
        self.set.stop();
    }

    /// Takes what is left when no task runs any more.
    fn idle(&mut self, settings: &Settings) -> Option<Result<T, TaskError>> {
        // After a stop there are gaps, of the tasks that were aborted.
        while let Some(end) = self.ends.pop_front() {
            if end.is_some() {
                return end;
            }
        }
        let end = match self.phase {
            Phase::Stopped(stop) if self.set.cut_off(1, settings) > 0 => Some(Err(stop.into())),
            _ => None,
        };
        // After the input was asked, which may panic.
        self.phase = Phase::Over;
        end
    }
}
