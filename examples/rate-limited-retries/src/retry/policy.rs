//! Whether, and when, failed work comes again.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::BackoffBuilder;
use schedgroup::flow::Verdict;
use tower::retry::budget::Budget;

use super::tries::{Delays, Tries};

/// A retry policy: delays, a verdict per error, limits and a budget.
///
/// The delays come from a builder of the crate backon, or from any iterator of durations that can be cloned. Each piece of
/// work has delays of its own, and is given up when they end. [`attempt`](Policy::attempt) makes one attempt, and
/// [`Context::retry`](crate::Context::retry) puts failed work back at the head of its queue. Clones share the budget.
///
/// For an operation that is not queued, use [`schedgroup::flow::retry`] with the same delays, awaited or spawned on a
/// group.
///
/// # Examples
///
/// ```
/// use backon::ExponentialBuilder;
/// use rate_limited_retries::{Dispatcher, Policy, Rate};
/// use schedgroup::Group;
/// use schedgroup::flow::Verdict;
/// use std::time::Duration;
///
/// # async fn send(_: &str) -> Result<(), u16> { Err(503) }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Policy::new(ExponentialBuilder::default().with_jitter().with_max_times(4))
///     .when(|status: &u16| if *status >= 500 { Verdict::Retry } else { Verdict::Stop })
///     .attempt_timeout(Duration::from_secs(10))
///     .notify(|failure, pause| println!("{failure}: again in {pause:?}"));
///
/// let group = Group::new();
/// let dispatcher = Dispatcher::builder().per_key(Rate::per_second(10)).run(
///     &group,
///     move |path: &'static str, context| {
///         let policy = policy.clone();
///         async move {
///             if let Err(failure) = policy.attempt(send(path)).await {
///                 if let Err(gave_up) = context.retry(&policy, path, &failure) {
///                     println!("{} after {} attempts: {failure}", gave_up.work, gave_up.attempts);
///                 }
///             }
///         }
///     },
/// );
/// dispatcher.push("host", "/a").await?;
/// group.wait().await?;
/// # Ok(())
/// # }
/// ```
pub struct Policy<E> {
    delays: Arc<dyn Fn() -> Delays + Send + Sync>,
    when: Option<Arc<When<E>>>,
    notify: Option<Arc<Notify<E>>>,
    budget: Option<Arc<dyn Budget + Send + Sync>>,
    max_retry_after: Duration,
    attempt_timeout: Option<Duration>,
    /// Each pause holds the whole key.
    pub(crate) in_order: bool,
}

/// The longest pause that a server may ask for, unless the policy says otherwise.
const HOUR: Duration = Duration::from_secs(3_600);

type When<E> = dyn Fn(&E) -> Verdict + Send + Sync;
type Notify<E> = dyn Fn(&Failure<E>, Duration) + Send + Sync;

impl<E> Policy<E> {
    /// Creates a policy with these delays, which retries every error.
    ///
    /// The number of delays limits the attempts: there is one attempt more than there are delays.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ExponentialBuilder;
    /// use rate_limited_retries::Policy;
    /// use std::time::Duration;
    ///
    /// let backoff = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_jitter();
    /// let policy = Policy::<std::io::Error>::new(backoff);
    /// # drop(policy);
    /// ```
    pub fn new<B>(delays: B) -> Policy<E>
    where
        B: BackoffBuilder<Backoff: 'static> + Clone + 'static,
    {
        Policy {
            delays: Arc::new(move || Box::new(delays.clone().build())),
            when: None,
            notify: None,
            budget: None,
            max_retry_after: HOUR,
            attempt_timeout: None,
            in_order: false,
        }
    }

    /// Sets a closure that decides for each error whether and when to retry.
    ///
    /// [`Verdict::RetryAfter`] holds the whole key until then, as a server asks for with `Retry-After`, also if the work itself
    /// is given up. The closure is not called for an attempt that exceeded its timeout: it is retried.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::Policy;
    /// use schedgroup::flow::Verdict;
    /// use std::time::Duration;
    ///
    /// struct Refused { status: u16, retry_after: Option<Duration> }
    ///
    /// let policy = Policy::new(ConstantBuilder::default()).when(|refused: &Refused| {
    ///     match (refused.status, refused.retry_after) {
    ///         (429 | 503, Some(pause)) => Verdict::RetryAfter(pause),
    ///         (429 | 500.., _) => Verdict::Retry,
    ///         _ => Verdict::Stop,
    ///     }
    /// });
    /// # drop(policy);
    /// ```
    #[must_use = "the policy is returned"]
    pub fn when(mut self, verdict: impl Fn(&E) -> Verdict + Send + Sync + 'static) -> Policy<E> {
        self.when = Some(Arc::new(verdict));
        self
    }

    /// Sets a closure that is called with each failure that is retried, and with the pause after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::Policy;
    ///
    /// let policy = Policy::<String>::new(ConstantBuilder::default())
    ///     .notify(|failure, pause| eprintln!("{failure}: again in {pause:?}"));
    /// # drop(policy);
    /// ```
    #[must_use = "the policy is returned"]
    pub fn notify(
        mut self,
        call: impl Fn(&Failure<E>, Duration) + Send + Sync + 'static,
    ) -> Policy<E> {
        self.notify = Some(Arc::new(call));
        self
    }

    /// Sets a retry budget: `TpsBudget` of tower, or another one.
    ///
    /// A success deposits, a retry withdraws, and without credit the work is given up. Use one budget per server.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::Policy;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tower::retry::budget::TpsBudget;
    ///
    /// // One retry for five successes of the last ten seconds, and ten a second besides.
    /// let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2));
    /// let policy = Policy::<String>::new(ConstantBuilder::default()).budget(budget);
    /// # drop(policy);
    /// ```
    #[must_use = "the policy is returned"]
    pub fn budget(mut self, budget: Arc<dyn Budget + Send + Sync>) -> Policy<E> {
        self.budget = Some(budget);
        self
    }

    /// Sets the longest [`Verdict::RetryAfter`] that work waits for. Work is given up if a server asks for a longer pause.
    /// Without it the limit is an hour.
    ///
    /// A pause that is longer than the dispatcher's [`max_hold`](crate::Builder::max_hold) holds the key only for that time,
    /// and the work itself for the whole pause.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::Policy;
    /// use std::time::Duration;
    ///
    /// let policy = Policy::<String>::new(ConstantBuilder::default())
    ///     .max_retry_after(Duration::from_secs(60));
    /// # drop(policy);
    /// ```
    #[must_use = "the policy is returned"]
    pub fn max_retry_after(mut self, pause: Duration) -> Policy<E> {
        self.max_retry_after = pause;
        self
    }

    /// Keeps the work of a key in order: each pause holds the whole key, not only a pause that a server asks for.
    ///
    /// Together with [`in_flight(1)`](crate::Builder::in_flight), nothing overtakes work that is retried, also if the hold is
    /// lifted by [`clear_not_before`](crate::Dispatcher::clear_not_before). The dispatcher's
    /// [`max_hold`](crate::Builder::max_hold) does not shorten these pauses.
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ExponentialBuilder;
    /// use rate_limited_retries::Policy;
    ///
    /// let policy = Policy::<String>::new(ExponentialBuilder::default()).in_order();
    /// # drop(policy);
    /// ```
    #[must_use = "the policy is returned"]
    pub fn in_order(mut self) -> Policy<E> {
        self.in_order = true;
        self
    }

    /// Sets a timeout for each [`attempt`](Policy::attempt).
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::{Failure, Policy};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let policy = Policy::<String>::new(ConstantBuilder::default())
    ///     .attempt_timeout(Duration::from_secs(10));
    /// let failure = policy.attempt(std::future::pending::<Result<(), _>>()).await;
    /// assert_eq!(failure, Err(Failure::TimedOut));
    /// # }
    /// ```
    #[must_use = "the policy is returned"]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Policy<E> {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Makes one attempt: awaits the future until it resolves or exceeds its timeout, and deposits a success in the budget.
    ///
    /// # Errors
    ///
    /// Returns a [`Failure`], to be passed to [`Context::retry`](crate::Context::retry).
    ///
    /// # Examples
    ///
    /// ```
    /// use backon::ConstantBuilder;
    /// use rate_limited_retries::{Failure, Policy};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let policy = Policy::new(ConstantBuilder::default());
    /// assert_eq!(policy.attempt(async { Ok::<_, &str>(1) }).await, Ok(1));
    /// let failure = policy.attempt(async { Err::<(), _>("busy") }).await;
    /// assert_eq!(failure, Err(Failure::Error("busy")));
    /// # }
    /// ```
    pub async fn attempt<T>(
        &self,
        attempt: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure<E>> {
        let result = match self.attempt_timeout {
            Some(timeout) => tokio::time::timeout(timeout, attempt).await,
            None => Ok(attempt.await),
        };
        let value = result
            .map_err(|_| Failure::TimedOut)?
            .map_err(Failure::Error)?;
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        Ok(value)
    }

    /// Returns the verdict on a failure.
    pub(crate) fn verdict(&self, failure: &Failure<E>) -> Verdict {
        match (&self.when, failure) {
            (Some(when), Failure::Error(error)) => when(error),
            _ => Verdict::Retry,
        }
    }

    /// Returns the pause before the next attempt of failed work, or the reason why there is none. The budget is asked
    /// last, so that no credit is lost.
    pub(crate) fn decide(
        &self,
        tries: &mut Tries,
        verdict: Verdict,
        is_closed: bool,
    ) -> Result<Duration, Reason> {
        let delays = tries
            .delays
            .get_or_insert_with(|| Mutex::new((self.delays)()));
        let delays = delays.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A `RetryAfter` uses up a delay too, since the number of delays limits the number of retries.
        let pause = match verdict {
            Verdict::Retry => delays.next().ok_or(Reason::Delays)?,
            Verdict::RetryAfter(pause) => {
                delays.next().ok_or(Reason::Delays)?;
                if pause > self.max_retry_after {
                    return Err(Reason::TooLong(pause));
                }
                pause
            }
            _ => return Err(Reason::Stopped),
        };
        if is_closed {
            return Err(Reason::Closed);
        }
        match &self.budget {
            Some(budget) if !budget.withdraw() => Err(Reason::Budget),
            _ => Ok(pause),
        }
    }

    /// Calls the hook of failures that are retried.
    pub(crate) fn call_notify(&self, failure: &Failure<E>, pause: Duration) {
        if let Some(notify) = &self.notify {
            notify(failure, pause);
        }
    }
}

impl<E> Clone for Policy<E> {
    fn clone(&self) -> Policy<E> {
        Policy {
            delays: Arc::clone(&self.delays),
            when: self.when.clone(),
            notify: self.notify.clone(),
            budget: self.budget.clone(),
            ..*self
        }
    }
}

impl<E> fmt::Debug for Policy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("has_budget", &self.budget.is_some())
            .field("max_retry_after", &self.max_retry_after)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("in_order", &self.in_order)
            .finish_non_exhaustive()
    }
}

/// The failure of one attempt.
///
/// # Examples
///
/// ```
/// use rate_limited_retries::Failure;
///
/// let failure = Failure::Error("no route");
/// assert_eq!(failure.to_string(), "no route");
/// assert_eq!(failure.error(), Some(&"no route"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure<E> {
    /// It returned this error.
    Error(E),
    /// It took longer than the policy's [`attempt_timeout`](Policy::attempt_timeout).
    TimedOut,
}

impl<E> Failure<E> {
    /// Returns the error, or `None` for a timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// use rate_limited_retries::Failure;
    ///
    /// assert_eq!(Failure::<String>::TimedOut.error(), None);
    /// ```
    pub fn error(&self) -> Option<&E> {
        match self {
            Failure::Error(error) => Some(error),
            Failure::TimedOut => None,
        }
    }
}

// Not derived, since a derive would require `E: Error`, and an error may be only text.
impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => error.fmt(f),
            Failure::TimedOut => f.write_str("the attempt timed out"),
        }
    }
}

impl<E: Error> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().and_then(Error::source)
    }
}

/// Work that is not retried, given back by [`Context::retry`](crate::Context::retry).
///
/// # Examples
///
/// ```
/// use rate_limited_retries::{GaveUp, Reason};
///
/// fn note(gave_up: GaveUp<&str>) {
///     if gave_up.reason != Reason::Closed {
///         eprintln!("{}: {gave_up}", gave_up.work); // /a: given up at attempt 5: all attempts were made
///     }
/// }
/// # let _ = note;
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("given up at attempt {attempts}: {reason}")]
#[must_use = "the work is in it"]
pub struct GaveUp<T> {
    /// The work.
    pub work: T,
    /// The number of attempts that were made.
    pub attempts: u32,
    /// The reason why there is no other attempt.
    pub reason: Reason,
}

impl<T> fmt::Debug for GaveUp<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GaveUp")
            .field("attempts", &self.attempts)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// The reason why work is given up.
///
/// # Examples
///
/// ```
/// assert_eq!(rate_limited_retries::Reason::Budget.to_string(), "the retry budget is spent");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The verdict on the error was [`Verdict::Stop`].
    #[error("the error is final")]
    Stopped,
    /// The delays have ended: there was one attempt more than there are delays.
    #[error("all attempts were made")]
    Delays,
    /// The retry budget has no credit.
    #[error("the retry budget is spent")]
    Budget,
    /// The server asks for a longer pause than [`Policy::max_retry_after`].
    #[error("the server asks for a pause of {0:?}")]
    TooLong(Duration),
    /// The dispatcher or its group accepts no more work.
    #[error("the dispatcher is closed")]
    Closed,
}
