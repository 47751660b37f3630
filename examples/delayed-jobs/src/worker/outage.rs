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
