//! A store that does not answer: how long to wait, and what to log, which is one line per change.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;
use crate::store::StoreError;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Outage {
    /// The longest wait.
    cap: Duration,
    lease: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    failures: u64,
    wait: Duration,
    until: Option<Instant>,
    /// The end of the last outage that may have cost leases.
    ended: Option<Instant>,
    /// The last success.
    answered: Option<Instant>,
}

impl State {
    /// Records a failure of a call, which the store may not have answered since `begun`.
    fn record(&mut self, what: &'static str, error: &StoreError, begun: Instant) {
        self.failures += 1;
        // Other calls may have succeeded meanwhile.
        let since = self.answered.map_or(begun, |at| at.max(begun));
        if let Some(known) = self.since {
            self.since = Some(known.min(since));
            tracing::debug!(%error, "{what}");
        } else {
            self.since = Some(since);
            tracing::warn!(%error, "{what}; trying again until the store answers");
        }
    }
}

/// Shortens a wait a little, so that workers that have lost the same server do not all retry at once.
pub(super) fn with_jitter(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - fastrand::f64() / 4.0)
}

impl Outage {
    /// Creates it with a longest wait that is a fraction of the lease, so that a recovery is noticed in time.
    pub(super) fn new(lease: Duration) -> Outage {
        Outage {
            cap: (lease / 4).clamp(FIRST, Duration::from_secs(5)),
            lease,
            state: Mutex::default(),
        }
    }

    /// Records that a call has failed. Returns how long to wait before the next one.
    pub(super) fn failed(&self, what: &'static str, error: &StoreError) -> Duration {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let begun = match error {
            StoreError::TimedOut(limit) => now.checked_sub(*limit),
            _ => None,
        };
        state.record(what, error, begun.unwrap_or(now));
        // Calls that fail at the same time count as one failure.
        if state.until.is_none_or(|until| until <= now) {
            state.wait = self.wait_after(state.wait);
            state.until = Some(now + with_jitter(state.wait));
        }
        state.until.map_or(FIRST, |until| until - now)
    }

    /// Records that a call has failed which may fail by itself, while the store answers others: they do not wait. `wait` is
    /// the time for which this call has waited last. Returns how long it waits now.
    pub(super) fn failed_apart(
        &self,
        what: &'static str,
        error: &StoreError,
        wait: Duration,
    ) -> Duration {
        lock(&self.state).record(what, error, Instant::now());
        self.wait_after(wait)
    }

    fn wait_after(&self, wait: Duration) -> Duration {
        (2 * wait).clamp(FIRST, self.cap)
    }

    /// Returns how long to wait before the next call, if a wait is under way.
    pub(super) fn wait(&self) -> Option<Duration> {
        let until = lock(&self.state).until?;
        let wait = until.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then_some(wait)
    }

    /// Returns how long the store has not answered by now.
    pub(super) fn lasted(&self) -> Duration {
        lock(&self.state)
            .since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns whether leases may have expired since the store did not answer, and their workers have had no time since
    /// then to renew them.
    pub(super) fn may_have_cost_leases(&self) -> bool {
        let ended = lock(&self.state).ended;
        self.lasted() >= self.lease / 2 || ended.is_some_and(|ended| ended.elapsed() < self.lease)
    }

    /// Records that a call has succeeded.
    pub(super) fn succeeded(&self) {
        let mut state = lock(&self.state);
        state.answered = Some(Instant::now());
        if let Some(since) = state.since {
            let lasted = since.elapsed();
            tracing::info!(
                failures = state.failures,
                ?lasted,
                "the store answers again"
            );
            let was_long = lasted >= self.lease / 2;
            *state = State {
                ended: was_long.then(Instant::now).or(state.ended),
                answered: state.answered,
                ..State::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::Outage;
    use crate::store::StoreError;

    const LEASE: Duration = Duration::from_secs(30);

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    async fn pass(time: f64) {
        advance(seconds(time)).await;
    }

    fn fail(outage: &Outage) -> Duration {
        outage.failed("it failed", &StoreError::Closed)
    }

    fn time_out(outage: &Outage, after: f64) {
        outage.failed("no answer", &StoreError::TimedOut(seconds(after)));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_up_to_a_limit_and_calls_that_fail_together_wait_together() {
        let outage = Outage::new(LEASE);
        for longest in [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0] {
            let wait = fail(&outage);
            assert!(wait <= seconds(longest), "{wait:?}");
            assert!(wait >= seconds(longest * 0.75), "{wait:?}");
            assert_eq!((fail(&outage), outage.wait()), (wait, Some(wait)));
            advance(wait).await;
            assert_eq!(outage.wait(), None);
        }
        outage.succeeded();
        assert!(fail(&outage) <= seconds(0.25), "a new one begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_apart_has_a_wait_of_its_own() {
        let outage = Outage::new(LEASE);
        let mut wait = Duration::ZERO;
        for expected in [0.25, 0.5, 1.0, 2.0, 4.0, 5.0] {
            wait = outage.failed_apart("it failed", &StoreError::Closed, wait);
            assert_eq!(wait, seconds(expected));
        }
        assert_eq!(outage.wait(), None, "others do not wait");
        pass(3.0).await;
        assert_eq!(outage.lasted(), seconds(3.0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_begins_with_the_first_call_that_got_no_answer_after_the_last_answer() {
        pass(100.0).await;
        let outage = Outage::new(LEASE);
        time_out(&outage, 10.0);
        assert_eq!(outage.lasted(), seconds(10.0));

        outage.succeeded();
        assert_eq!(outage.lasted(), Duration::ZERO);
        pass(4.0).await;
        time_out(&outage, 10.0);
        assert_eq!(outage.lasted(), seconds(4.0), "another call was answered");

        outage.succeeded();
        pass(20.0).await;
        fail(&outage);
        pass(1.0).await;
        assert_eq!(outage.lasted(), seconds(1.0));
        time_out(&outage, 10.0);
        assert_eq!(outage.lasted(), seconds(10.0), "this one began before");
    }

    #[tokio::test(start_paused = true)]
    async fn leases_may_have_expired_after_half_a_lease_and_for_a_lease_after_it() {
        let outage = Outage::new(LEASE);
        fail(&outage);
        pass(14.0).await;
        assert!(!outage.may_have_cost_leases());
        outage.succeeded();
        assert!(!outage.may_have_cost_leases(), "it was short");

        fail(&outage);
        pass(15.0).await;
        assert!(outage.may_have_cost_leases());
        outage.succeeded();
        pass(20.0).await;
        assert!(outage.may_have_cost_leases());
        fail(&outage);
        outage.succeeded();
        assert!(outage.may_have_cost_leases(), "also after a short one");
        pass(10.0).await;
        assert!(!outage.may_have_cost_leases());
    }
}
