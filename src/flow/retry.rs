//! Attempts until one succeeds.

use std::fmt;
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::{Ended, RetryError};
use super::stop::{StopSignal, Timer};
use crate::common::panic::{DiscardEach, ENDED, Guarded, drop_quietly};

/// The decision after an attempt that failed; see [`Retry::when`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow::{self, Verdict};
///
/// struct Refusal { status: u16, retry_after: Option<Duration> }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let failing = || async { Err::<(), _>(Refusal { status: 404, retry_after: None }) };
/// let error = flow::retry(failing)
///     .when(|refusal| match (refusal.status, refusal.retry_after) {
///         (429 | 503, Some(pause)) => Verdict::RetryAfter(pause),
///         (429 | 500.., _) => Verdict::Retry,
///         _ => Verdict::Stop,
///     })
///     .await
///     .unwrap_err();
/// assert_eq!((error.attempts, error.ended), (1, flow::Ended::Stopped));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Try again after the next delay.
    Retry,
    /// Try again after this pause instead of the next delay, for example after the time that a server asks for with
    /// `Retry-After`. The next delay is taken from the iterator all the same, and not used.
    RetryAfter(Duration),
    /// Do not try again.
    Stop,
}

/// A future that makes attempts until one returns a value; created by [`retry`](super::retry()).
///
/// The attempts are made in the task that awaits it, so the operation may borrow. With [`spawn_on`](Retry::spawn_on) a
/// scheduling group makes them instead. `O` is the operation, `F` the future of one attempt, and `E` its error; `'a` is
/// the lifetime of what the settings borrow.
///
/// The operation returns a new future for each attempt, so it clones what an `async move` block needs to own:
/// `move || { let client = client.clone(); async move { client.get(id).await } }`.
///
/// | setting | without it |
/// |---|---|
/// | [`attempts`](Retry::attempts) | 3 |
/// | [`delays`](Retry::delays) | no pause, but it yields to other tasks between two attempts |
/// | [`when`](Retry::when) | every error is retried |
/// | [`attempt_timeout`](Retry::attempt_timeout) | an attempt may take any time |
/// | [`notify`](Retry::notify) | nothing is called |
/// | [`token`](Retry::token), [`deadline`](Retry::deadline) | it is not cancelled and has no deadline |
///
/// # Cancel safety
///
/// Awaiting `&mut retry` in a `select!` loses nothing. Dropping it drops the attempt that runs.
///
/// # Panics
///
/// A poll after the end panics. With delays, timeouts or a deadline it needs a tokio runtime with a timer, and panics
/// without one at the line of the `.await`. A panic of the operation, of the delays, of `when` or of `notify` is
/// passed on to the caller.
///
/// # Errors
///
/// [`RetryError`], with the reason why it gave up, the number of attempts and the last error.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use schedgroup::flow::{self, RetryError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), RetryError<&'static str>> {
/// let delays = std::iter::successors(Some(Duration::from_millis(100)), |delay| Some(*delay * 2));
/// let mut calls = 0;
/// let page = flow::retry(|| {
///     calls += 1;
///     let call = calls;
///     async move { if call < 4 { Err("busy") } else { Ok("page") } }
/// })
/// .attempts(5)
/// .delays(delays)
/// .attempt_timeout(Duration::from_secs(10));
/// assert_eq!(page.await?, "page"); // after 100 + 200 + 400 ms
/// # Ok(())
/// # }
/// ```
#[must_use = "a retry runs nothing until it is awaited or spawned"]
pub struct Retry<'a, O, F, E> {
    // All else is guarded: of the destructors of a struct only one may panic, a second would end the process.
    op: O,
    max_attempts: u32,
    /// None: no pause, without an end.
    delays: DiscardEach<Option<Box<Delays<'a>>>>,
    when: DiscardEach<Option<Box<When<'a, E>>>>,
    notify: DiscardEach<Option<Box<Notify<'a, E>>>>,
    attempt_timeout: Option<Duration>,
    pub(super) stop: StopSignal,
    /// How many were begun.
    attempts: u32,
    last: DiscardEach<Option<E>>,
    /// The one that runs, in one box for all of them.
    attempt: Guarded<Pin<Box<Option<F>>>>,
    timeout: Option<Timer>,
    /// Between two attempts that are made where it is awaited.
    pause: Option<Timer>,
    ended: bool,
}

type Delays<'a> = dyn Iterator<Item = Duration> + Send + 'a;
type When<'a, E> = dyn FnMut(&E) -> Verdict + Send + 'a;
type Notify<'a, E> = dyn FnMut(&E, Duration) + Send + 'a;

impl<'a, O, F, E> Retry<'a, O, F, E> {
    pub(super) fn new(op: O) -> Retry<'a, O, F, E> {
        Retry {
            op,
            max_attempts: 3,
            delays: DiscardEach::default(),
            when: DiscardEach::default(),
            notify: DiscardEach::default(),
            attempt_timeout: None,
            stop: StopSignal::default(),
            attempts: 0,
            last: DiscardEach::default(),
            attempt: Guarded::new(Box::pin(None)),
            timeout: None,
            pause: None,
            ended: false,
        }
    }

    /// Sets how many attempts are made at most; `u32::MAX` sets no limit.
    ///
    /// # Panics
    ///
    /// If `most` is zero: it could never succeed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = schedgroup::flow::retry(|| async { Err::<(), _>("busy") }).attempts(5).await.unwrap_err();
    /// assert_eq!(error.attempts, 5);
    /// # }
    /// ```
    #[track_caller]
    pub fn attempts(mut self, most: u32) -> Self {
        if most == 0 {
            // Before the panic: a destructor that panics while another panic unwinds would end the process.
            drop_quietly(self);
            panic!(
                "schedgroup: Retry::attempts must be at least 1: with none it could never succeed"
            );
        }
        self.max_attempts = most;
        self
    }

    /// Sets the pauses between attempts, as an iterator; when the iterator ends, the retry gives up.
    ///
    /// Any iterator of durations can be used, such as an array or `std::iter::repeat`. Exponential backoff is
    /// `std::iter::successors(Some(first), |delay| Some((*delay * 2).min(longest)))`; with the crate rand,
    /// `.map(|delay| delay.mul_f64(rand::random_range(0.5..1.0)))` adds jitter to it. With the crate backon it is
    /// `ExponentialBuilder::default().with_jitter().without_max_times().build()`, where `build` is a method of the
    /// trait `BackoffBuilder`; without `without_max_times` these delays end after three, whatever `attempts` is.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::flow::{self, Ended};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let error = flow::retry(|| async { Err::<(), _>("busy") })
    ///     .attempts(u32::MAX)
    ///     .delays([Duration::from_millis(100), Duration::from_secs(1)])
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!((error.attempts, error.ended), (3, Ended::Delays));
    /// # }
    /// ```
    #[doc(alias = "backoff")]
    #[doc(alias = "jitter")]
    pub fn delays<D>(mut self, delays: D) -> Self
    where
        D: IntoIterator<Item = Duration, IntoIter: Send + 'a>,
    {
        *self.delays = Some(Box::new(delays.into_iter()));
        self
    }

    /// Sets a closure that decides for each error whether, and when, to try again.
    ///
    /// It is not called for the error of the last allowed attempt, nor when an attempt took longer than its timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use schedgroup::flow::{self, Verdict};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = flow::retry(|| async { Err::<(), _>(Error::from(ErrorKind::NotFound)) })
    ///     .when(|error| match error.kind() {
    ///         ErrorKind::ConnectionReset | ErrorKind::TimedOut => Verdict::Retry,
    ///         _ => Verdict::Stop,
    ///     })
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(error.attempts, 1);
    /// # }
    /// ```
    pub fn when(mut self, verdict: impl FnMut(&E) -> Verdict + Send + 'a) -> Self {
        *self.when = Some(Box::new(verdict));
        self
    }

    /// Sets how long one attempt may take.
    ///
    /// An attempt that takes longer is dropped, counts as an attempt, and is retried after the next delay. It has no
    /// error, so [`RetryError::last`] is then the error of an earlier attempt, or `None`, and neither
    /// [`when`](Retry::when) nor [`notify`](Retry::notify) is called for it.
    ///
    /// Where a timeout is to be told from other errors, use `tokio::time::timeout` in the operation instead, and return
    /// an error of your own when the time is over.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let error = schedgroup::flow::retry(std::future::pending::<Result<(), ()>>)
    ///     .attempt_timeout(Duration::from_secs(1))
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!((error.attempts, error.last), (3, None)); // after 3 seconds
    /// # }
    /// ```
    ///
    /// In this example a timeout is an error like others:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let call = std::future::pending::<Result<(), &str>>;
    /// let error = schedgroup::flow::retry(|| async {
    ///     timeout(Duration::from_secs(1), call()).await.unwrap_or(Err("timed out"))
    /// })
    /// .await
    /// .unwrap_err();
    /// assert_eq!((error.attempts, error.last), (3, Some("timed out")));
    /// # }
    /// ```
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Sets a closure that is called with each error that is retried, and with the pause before the next attempt.
    ///
    /// It is not called for an attempt that took longer than its timeout, since that has no error.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mut seen = Vec::new();
    /// let error = schedgroup::flow::retry(|| async { Err::<(), _>("busy") })
    ///     .delays([1, 2].map(Duration::from_secs))
    ///     .notify(|error, pause| seen.push(format!("{error}: again in {pause:?}")))
    ///     .await;
    /// assert!(error.is_err());
    /// assert_eq!(seen, ["busy: again in 1s", "busy: again in 2s"]);
    /// # }
    /// ```
    pub fn notify(mut self, call: impl FnMut(&E, Duration) + Send + 'a) -> Self {
        *self.notify = Some(Box::new(call));
        self
    }

    /// Sets a token; a cancel of it ends the retry with [`Ended::Cancelled`], during an attempt or a pause.
    ///
    /// If the value is there when the cancel comes, it is returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use schedgroup::flow::{self, Ended};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let token = CancellationToken::new();
    /// token.cancel();
    /// let error = flow::retry(|| async { Ok::<_, ()>(1) }).token(token).await.unwrap_err();
    /// assert_eq!((error.attempts, error.ended), (0, Ended::Cancelled));
    /// # }
    /// ```
    pub fn token(mut self, token: CancellationToken) -> Self {
        self.stop.set_token(token);
        self
    }

    /// Sets an instant at which the retry ends with [`Ended::DeadlineExceeded`].
    ///
    /// An attempt that is running at the deadline is dropped. If a pause would reach the deadline, the retry ends at
    /// once instead of pausing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use schedgroup::flow::{self, Ended};
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let error = flow::retry(|| async { Err::<(), _>("busy") })
    ///     .attempts(u32::MAX)
    ///     .delays(std::iter::repeat(Duration::from_secs(2)))
    ///     .deadline(Instant::now() + Duration::from_secs(5))
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!((error.attempts, error.ended), (3, Ended::DeadlineExceeded)); // at 0, 2 and 4 seconds
    /// # }
    /// ```
    pub fn deadline(mut self, at: Instant) -> Self {
        self.stop.set_deadline(at);
        self
    }

    /// Panics at the caller's line if it has resolved: another attempt would run the operation again.
    #[track_caller]
    pub(super) fn unresolved(self) -> Self {
        if self.ended {
            // Before the panic: a destructor that panics while another panic unwinds would end the process.
            drop_quietly(self);
            panic!("{ENDED}");
        }
        self
    }

    /// Drops the attempt that runs, if there is one.
    pub(super) fn drop_attempt(&mut self) {
        self.attempt = Guarded::new(Box::pin(None));
    }

    /// Makes the error of a retry that has ended for this reason.
    pub(super) fn give_up(&mut self, ended: Ended) -> RetryError<E> {
        RetryError {
            attempts: self.attempts,
            ended,
            last: self.last.take(),
        }
    }

    /// Returns the pause after an attempt that failed, with the last error or by its timeout; or why there is none.
    fn pause_after(&mut self, timed_out: bool) -> Result<Duration, Ended> {
        let error = self.last.as_ref().filter(|_| !timed_out);
        if self.attempts >= self.max_attempts && self.max_attempts != u32::MAX {
            return Err(Ended::Attempts);
        }
        let verdict = match (&mut *self.when, error) {
            (Some(when), Some(error)) => when(error),
            _ => Verdict::Retry,
        };
        if verdict == Verdict::Stop {
            return Err(Ended::Stopped);
        }
        let mut pause = match &mut *self.delays {
            Some(delays) => delays.next().ok_or(Ended::Delays)?,
            None => Duration::ZERO,
        };
        // The delay is used up all the same: the delays may be the limit.
        if let Verdict::RetryAfter(asked) = verdict {
            pause = asked;
        }
        if let Some(stop) = self.stop.get_within(pause) {
            return Err(stop.into());
        }
        if let (Some(notify), Some(error)) = (&mut *self.notify, error) {
            notify(error, pause);
        }
        Ok(pause)
    }
}

impl<O, F, T, E> Retry<'_, O, F, E>
where
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    /// Makes one attempt to its end. Continues with the pause before the next one.
    #[track_caller]
    pub(super) fn poll_attempt(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ControlFlow<Result<T, Ended>, Duration>> {
        if self.attempt.is_none() {
            if let Some(stop) = self.stop.poll(cx) {
                return Poll::Ready(Break(Err(stop.into())));
            }
            self.attempts = self.attempts.saturating_add(1);
            self.attempt.set(Some((self.op)()));
            self.timeout = self.attempt_timeout.map(Timer::after);
        }
        let running = self.attempt.as_mut().as_pin_mut().expect("it has begun");
        // Guarded, since the attempt is dropped before it is looked at.
        let mut end = DiscardEach::default();
        match running.poll(cx) {
            Poll::Ready(ended) => *end = Some(ended),
            // Behind the attempt: a value that is there wins over a stop.
            Poll::Pending => {
                if let Some(stop) = self.stop.poll(cx) {
                    self.attempt.set(None);
                    return Poll::Ready(Break(Err(stop.into())));
                }
                let Some(timeout) = &mut self.timeout else {
                    return Poll::Pending;
                };
                ready!(timeout.poll(cx));
            }
        }
        self.attempt.set(None);
        self.timeout = None;
        let end = end.take();
        let timed_out = end.is_none();
        match end {
            Some(Ok(value)) => return Poll::Ready(Break(Ok(value))),
            Some(Err(error)) => self.last = Some(error).into(),
            None => {}
        }
        Poll::Ready(match self.pause_after(timed_out) {
            Ok(pause) => Continue(pause),
            Err(ended) => Break(Err(ended)),
        })
    }

    #[track_caller]
    fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Ended>> {
        if let Some(pause) = &mut self.pause {
            if let Some(stop) = self.stop.poll(cx) {
                return Poll::Ready(Err(stop.into()));
            }
            ready!(pause.poll(cx));
            self.pause = None;
        }
        match ready!(self.poll_attempt(cx)) {
            Break(end) => Poll::Ready(end),
            Continue(pause) => {
                self.pause = Some(Timer::after(pause));
                // A turn for other tasks, however short the pause is: it may be over before it is polled.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// Only the attempt and the timers are polled in place, and they have their boxes.
impl<O, F, E> Unpin for Retry<'_, O, F, E> {}

impl<O, F, T, E> Future for Retry<'_, O, F, E>
where
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, RetryError<E>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.ended, "{ENDED}");
        let end = ready!(self.poll_here(cx));
        self.ended = true;
        Poll::Ready(end.map_err(|ended| self.give_up(ended)))
    }
}

impl<O, F, E> fmt::Debug for Retry<'_, O, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("max_attempts", &self.max_attempts)
            .finish_non_exhaustive()
    }
}
