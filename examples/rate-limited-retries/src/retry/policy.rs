//! The retry policy.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::circuit::Circuits;

/// A retry policy: delays and limits; made once, and used for many chains of attempts.
///
/// Clones share the budget and the circuits. Without any cap, and with delays that never end, a chain continues
/// until it succeeds or its group ends.
///
/// With a [`circuit`](Retry::circuit) each chain belongs to a key of type `K`: a server, a shard.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::Group;
/// # use rate_limited_retries::backoff::{Backoff, Jitter};
/// # use rate_limited_retries::retry::{Budget, Outcome, Reason, Retry};
/// # async fn fetch(_: u32) -> Result<u32, &'static str> { Err("busy") }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10));
/// let backoff = backoff.jitter(Jitter::Full);
/// let policy = Retry::new(move || backoff)
///     .max_attempts(5)
///     .timeout(Duration::from_secs(60))
///     .budget(&Budget::percent(20).floor_per_second(10));
///
/// let group = Group::new();
/// let page = policy.run(&group, |attempt| async move {
///     fetch(attempt.number()).await.into() // or an `Outcome` that knows more
/// });
/// let gave_up = page.await.expect_err("it is always busy");
/// assert_eq!((gave_up.attempts(), gave_up.reason()), (5, Reason::Exhausted));
/// assert_eq!(gave_up.last_error(), Some(&"busy"));
/// # }
/// ```
#[must_use = "a policy does nothing until something is run with it"]
pub struct Retry<K = ()> {
    pub(super) rules: Rules,
    pub(super) delays: Arc<dyn Fn() -> Delays + Send + Sync>,
    pub(super) budget: Option<Budget>,
    pub(super) circuits: Option<Arc<Circuits<K>>>,
}

pub(super) type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// The caps of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    pub(super) max_attempts: Option<u32>,
    pub(super) max_delay: Option<Duration>,
    pub(super) timeout: Option<Duration>,
}

impl Retry {
    /// Creates a policy with these delays: each chain gets an iterator of its own from `delays`, and ends with it.
    ///
    /// `move || backoff` with a [`Backoff`](crate::backoff::Backoff), or with an array; or anything else
    /// that returns an iterator of durations, such as the builders of the crate backon.
    pub fn new<I>(delays: impl Fn() -> I + Send + Sync + 'static) -> Retry
    where
        I: IntoIterator<Item = Duration>,
        I::IntoIter: Send + 'static,
    {
        Retry {
            rules: Rules::default(),
            delays: Arc::new(move || Box::new(delays().into_iter())),
            budget: None,
            circuits: None,
        }
    }

    /// Sets a circuit breaker per key: `failures` in a row open it, and for a `pause` no attempt is made.
    ///
    /// Chains whose next attempt would be due in that time give up with
    /// [`CircuitOpen`](super::Reason::CircuitOpen), as new ones do. After `pause` the circuit is
    /// half-open: one probe at a time is let through; if it fails there is another pause, else the circuit closes.
    /// A circuit that was not tried for another pause may be forgotten, and is closed then.
    /// Failures further apart than the pause are not in a row. An attempt that gives up for good was
    /// answered, and counts as a success here.
    ///
    /// # Panics
    ///
    /// If `failures` is zero.
    #[track_caller]
    pub fn circuit<K: Eq + Hash + Clone>(self, failures: u32, pause: Duration) -> Retry<K> {
        assert!(
            failures > 0,
            "rate-limited-retries: Retry::circuit was called with zero failures: no attempt could be made"
        );
        Retry {
            rules: self.rules,
            delays: self.delays,
            budget: self.budget,
            circuits: Some(Arc::new(Circuits::new(failures, pause))),
        }
    }
}

impl<K> Retry<K> {
    /// Sets the maximum number of attempts in a chain, including the first.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_attempts(mut self, count: u32) -> Retry<K> {
        assert!(
            count > 0,
            "rate-limited-retries: Retry::max_attempts must be at least 1"
        );
        self.rules.max_attempts = Some(count);
        self
    }

    /// Sets the maximum delay. Longer ones of the iterator are cut; if [`RetryAfter`](super::Outcome::RetryAfter)
    /// asks for more, the chain gives up with [`TooLong`](super::Reason::TooLong).
    pub fn max_delay(mut self, delay: Duration) -> Retry<K> {
        self.rules.max_delay = Some(delay);
        self
    }

    /// Sets a timeout for the whole chain: no attempt starts after it, and a chain gives up as soon as its next
    /// one would.
    ///
    /// An attempt in progress is not interrupted; it can read the [`deadline`](super::Attempt::deadline).
    pub fn timeout(mut self, timeout: Duration) -> Retry<K> {
        self.rules.timeout = Some(timeout);
        self
    }

    /// Sets a budget: retries are made only while it has credit.
    pub fn budget(mut self, budget: &Budget) -> Retry<K> {
        self.budget = Some(budget.clone());
        self
    }
}

impl<K> Clone for Retry<K> {
    fn clone(&self) -> Retry<K> {
        Retry {
            rules: self.rules,
            delays: Arc::clone(&self.delays),
            budget: self.budget.clone(),
            circuits: self.circuits.clone(),
        }
    }
}

impl<K> fmt::Debug for Retry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("rules", &self.rules)
            .field("budget", &self.budget)
            .field("has_circuits", &self.circuits.is_some())
            .finish_non_exhaustive()
    }
}
