//! One chain of attempts, as a value.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::circuit::Probe;
use super::outcome::{Decision, GaveUp, Outcome, Reason};
use super::policy::{Delays, Retry};
use crate::time::later;

/// A chain of attempts as a value, for code that makes the attempts itself.
///
/// [`Retry::run`] does this for you with a job of a group. With a chain of your own an attempt can
/// wait in another queue, as that of a [`Pacer`](crate::rate::Pacer): call [`begin`](Chain::begin) before each
/// attempt and [`end`](Chain::end) after it, and follow the [`Decision`].
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use rate_limited_retries::retry::{Chain, Decision, GaveUp, Outcome, Retry};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), GaveUp<&'static str>> {
/// let policy = Retry::new(|| [Duration::from_secs(1); 3]);
/// let mut chain = policy.chain(());
/// loop {
///     chain.begin()?;
///     let outcome = if chain.attempts() < 3 { Outcome::Retry("busy") } else { Outcome::Done("page") };
///     match chain.end(outcome) {
///         Decision::Again(at) => tokio::time::sleep_until(at).await,
///         Decision::GaveUp(gave_up) => return Err(gave_up),
///         _ => break,
///     }
/// }
/// assert_eq!(chain.attempts(), 3);
/// # Ok(())
/// # }
/// ```
pub struct Chain<E, K: Eq + Hash + Clone = ()> {
    policy: Retry<K>,
    key: K,
    delays: Delays,
    deadline: Option<Instant>,
    attempts: u32,
    last_error: Option<E>,
    /// An attempt has begun and not ended.
    under_way: bool,
    /// The attempt is the probe of its key's half-open circuit, and is not reported yet.
    probe: Option<Probe>,
}

impl<K: Eq + Hash + Clone> Retry<K> {
    /// Creates a chain of attempts for this key, to be made by code of your own.
    pub fn chain<E>(&self, key: K) -> Chain<E, K> {
        Chain {
            policy: self.clone(),
            key,
            delays: (self.delays)(),
            deadline: self
                .rules
                .timeout
                .map(|timeout| later(Instant::now(), timeout)),
            attempts: 0,
            last_error: None,
            under_way: false,
            probe: None,
        }
    }
}

impl<E, K: Eq + Hash + Clone> Chain<E, K> {
    /// Returns the number of attempts that have begun.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the deadline of the whole chain, if the policy has a timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Begins an attempt.
    ///
    /// One that begins while another is in progress replaces it.
    ///
    /// # Errors
    ///
    /// [`GaveUp`] if the attempt must not be made: its key's circuit is open, or the chain's deadline has passed.
    pub fn begin(&mut self) -> Result<(), GaveUp<E>> {
        let now = Instant::now();
        self.abandon();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(self.give_up(Reason::TimedOut));
        }
        if let Some(circuits) = &self.policy.circuits {
            match circuits.begin(&self.key, now) {
                Ok(probe) => self.probe = probe,
                Err(until) => return Err(self.give_up(Reason::CircuitOpen { until })),
            }
        }
        if let Some(budget) = self.policy.budget.as_ref().filter(|_| self.attempts == 0) {
            budget.deposit();
        }
        self.attempts = self.attempts.saturating_add(1);
        self.under_way = true;
        Ok(())
    }

    /// Ends the attempt with this outcome, and returns what to do next.
    pub fn end<T>(&mut self, outcome: Outcome<T, E>) -> Decision<T, E> {
        self.under_way = false;
        let (error, after) = match outcome {
            Outcome::Done(value) => {
                self.report(true);
                return Decision::Done(value);
            }
            Outcome::GiveUp(error) => {
                self.report(true);
                self.last_error = Some(error);
                return Decision::GaveUp(self.give_up(Reason::GiveUp));
            }
            Outcome::Retry(error) => (error, None),
            Outcome::RetryAfter(error, after) => (error, Some(after)),
        };
        let open = self.report(false);
        self.last_error = Some(error);
        match self.next(after, open) {
            Ok(at) => Decision::Again(at),
            Err(reason) => Decision::GaveUp(self.give_up(reason)),
        }
    }

    /// When the next attempt is due, with a circuit that may be open until then. The budget is charged
    /// last, so that no credit is lost.
    fn next(&mut self, after: Option<Duration>, open: Option<Instant>) -> Result<Instant, Reason> {
        let (now, rules) = (Instant::now(), self.policy.rules);
        if rules.max_attempts.is_some_and(|most| self.attempts >= most) {
            return Err(Reason::Exhausted);
        }
        // One that is told when to come again uses up a delay too: the iterator counts attempts.
        let own = self.delays.next().ok_or(Reason::Exhausted)?;
        let cap = rules.max_delay.unwrap_or(Duration::MAX);
        let at = later(now, after.unwrap_or(own.min(cap)));
        if after.is_some_and(|after| after > cap) {
            return Err(Reason::TooLong { until: at });
        }
        if self.deadline.is_some_and(|deadline| at >= deadline) {
            return Err(Reason::TimedOut);
        }
        if let Some(until) = open.filter(|&until| at < until) {
            return Err(Reason::CircuitOpen { until });
        }
        match &self.policy.budget {
            Some(budget) if !budget.withdraw() => Err(Reason::Budget),
            _ => Ok(at),
        }
    }

    /// Reports to the circuit of its key; until when it is open now, if it is. The code of a key may panic:
    /// then its probe is still there, to be abandoned.
    fn report(&mut self, answered: bool) -> Option<Instant> {
        let circuits = self.policy.circuits.as_ref();
        let open = circuits.and_then(|circuits| {
            if answered {
                circuits.succeeded(&self.key);
                return None;
            }
            circuits.failed(&self.key, Instant::now(), self.probe)
        });
        self.probe = None;
        open
    }

    /// An attempt in progress gets no answer any more.
    fn abandon(&mut self) {
        self.under_way = false;
        let probe = self.probe.take();
        if let (Some(circuits), Some(probe)) = (&self.policy.circuits, probe) {
            circuits.unanswered(probe);
        }
    }

    /// The end of the chain, with all that is known. Whoever gets it may try again at once.
    pub(super) fn give_up(&mut self, reason: Reason) -> GaveUp<E> {
        self.abandon();
        GaveUp {
            reason,
            attempts: self.attempts,
            last_error: self.last_error.take(),
        }
    }
}

impl<E, K: Eq + Hash + Clone> Drop for Chain<E, K> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<E, K: Eq + Hash + Clone> fmt::Debug for Chain<E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("attempts", &self.attempts)
            .field("deadline", &self.deadline)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}
