//! When a failed job is retried, and how a handler decides about that.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A retry policy: the number of attempts, and exponential backoff with jitter.
///
/// The delays double from `first` up to `cap`. Each is then shortened by up to a half at random, so that
/// jobs which failed together are not retried together.
///
/// # Examples
///
/// ```
/// use delayed_jobs::Retry;
/// use std::time::Duration;
///
/// let retry = Retry::exponential(Duration::from_secs(1), Duration::from_secs(3600)).attempts(5);
/// let third = retry.wait(3).expect("two tries are left");
/// assert!(Duration::from_secs(2) <= third && third <= Duration::from_secs(4));
/// assert_eq!(retry.wait(5), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    cap: Duration,
    attempts: u32,
    jitter: bool,
}

impl Retry {
    /// Creates a policy with delays of `first`, twice that, and so on up to `cap`, and ten attempts in all.
    pub fn exponential(first: Duration, cap: Duration) -> Retry {
        Retry {
            first,
            cap,
            attempts: 10,
            jitter: true,
        }
    }

    /// Creates a policy with a constant delay, and ten attempts in all.
    pub fn fixed(wait: Duration) -> Retry {
        Retry::exponential(wait, wait)
    }

    /// Creates a policy of a single attempt.
    pub fn never() -> Retry {
        Retry::fixed(Duration::ZERO).attempts(1)
    }

    /// Sets the maximum number of attempts, including the first.
    pub fn attempts(mut self, attempts: u32) -> Retry {
        self.attempts = attempts.max(1);
        self
    }

    /// Turns the jitter off, for tests, and for jobs that do not fail together with others.
    pub fn without_jitter(mut self) -> Retry {
        self.jitter = false;
        self
    }

    /// Returns the delay after attempt number `attempt` has failed, or `None` if it was the last one.
    pub fn wait(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.cap);
        Some(match self.jitter {
            true => wait.mul_f64(1.0 - fastrand::f64() / 2.0),
            false => wait,
        })
    }
}

impl Default for Retry {
    /// Returns a policy with delays from a second to an hour, and ten attempts.
    fn default() -> Retry {
        Retry::exponential(Duration::from_secs(1), Duration::from_secs(3600))
    }
}

/// The error of a handler. Any error converts into one by `?`. An `anyhow::Error` or a `Box<dyn Error + Send + Sync>` is
/// no error in this sense: use `.map_err(Failure::new)?`.
pub struct Failure {
    pub(crate) error: Box<dyn Error + Send + Sync>,
    pub(crate) next: Next,
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// What the retry policy says.
    Policy,
    /// Another try after this long, if one is left.
    After(Duration),
    /// No further try.
    Dead,
    /// Another run after this long, which is no failure.
    Snooze(Duration),
}

impl Failure {
    /// Creates a failure that is retried by the handler's [`Retry`].
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            error: error.into(),
            next: Next::Policy,
        }
    }

    /// Creates a failure that is never retried: the job is dead at once.
    pub fn dead(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            error: error.into(),
            next: Next::Dead,
        }
    }

    /// Creates a failure that is retried after `wait` if an attempt is left, for example for a `Retry-After`.
    pub fn after(wait: Duration, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            error: error.into(),
            next: Next::After(wait),
        }
    }

    /// Ends this run without a failure: the job runs again after `wait`, and this attempt does not count.
    pub fn snooze(wait: Duration) -> Failure {
        Failure {
            error: "snoozed".into(),
            next: Next::Snooze(wait),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("error", &self.error)
            .field("next", &self.next)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_cap_and_end_with_the_last_try() {
        let retry = Retry::exponential(SECOND, 5 * SECOND).without_jitter();
        let waits: Vec<_> = (1..=5).map(|n| retry.attempts(5).wait(n)).collect();
        let seconds = [1, 2, 4, 5].map(|n| Some(n * SECOND));
        assert_eq!(waits[..4], seconds);
        assert_eq!(waits[4], None);
        assert_eq!(
            retry.attempts(u32::MAX).wait(4_000_000_000),
            Some(5 * SECOND)
        );
    }

    #[test]
    fn jitter_takes_away_a_half_at_most() {
        let retry = Retry::fixed(SECOND);
        let waits: Vec<_> = (0..1000).filter_map(|_| retry.wait(1)).collect();
        let (min, max) = (waits.iter().min(), waits.iter().max());
        assert!(min >= Some(&(SECOND / 2)) && max <= Some(&SECOND));
        assert!(min < Some(&(SECOND * 6 / 10)) && max > Some(&(SECOND * 9 / 10)));
    }
}
