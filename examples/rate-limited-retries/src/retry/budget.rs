//! A limit on retries in proportion to first attempts.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// A retry budget: a limit on retries in proportion to first attempts, shared by all that retry against one server.
///
/// When a server is down, every request becomes as many as there are attempts, and keeps it down. With a
/// budget only a share of the recent first attempts may come again, and a floor per second for
/// when there is little traffic. Both count over the last ten seconds, by the whole second: a credit lives
/// no longer, so quiet times are not saved up.
///
/// Clones share the credits. Use one budget for each server.
///
/// # Examples
///
/// ```
/// # use rate_limited_retries::retry::{Budget, Retry};
/// let budget = Budget::percent(20).floor_per_second(10);
/// # let backoff = [std::time::Duration::from_secs(1)];
/// let policy = Retry::new(move || backoff).budget(&budget);
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u32,
    floor: u32,
    since: Instant,
    recent: Arc<Mutex<Recent>>,
}

/// The number of seconds that credits live.
const LIFE: usize = 10;

impl Budget {
    /// Creates a budget of `share` retries per hundred first attempts.
    pub fn percent(share: u32) -> Budget {
        Budget {
            percent: share,
            floor: 0,
            since: Instant::now(),
            recent: Arc::default(),
        }
    }

    /// Sets a floor of retries per second that are allowed besides, on average over ten seconds.
    #[must_use = "the budget is returned"]
    pub fn floor_per_second(mut self, retries: u32) -> Budget {
        self.floor = retries;
        self
    }

    fn with<R>(&self, work: impl FnOnce(&mut Recent) -> R) -> R {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.advance(self.since.elapsed().as_secs());
        work(&mut recent)
    }

    /// A first attempt is made.
    pub(super) fn deposit(&self) {
        self.with(|recent| recent.current().first += 1);
    }

    /// Takes a credit for a retry, if there is one.
    pub(super) fn withdraw(&self) -> bool {
        self.with(|recent| {
            let (first, retries) = recent.sums();
            let credit =
                first * u64::from(self.percent) + 100 * LIFE as u64 * u64::from(self.floor);
            let granted = 100 * (retries + 1) <= credit;
            recent.current().retries += u32::from(granted);
            granted
        })
    }
}

/// What was attempted of late, second by second; pure.
#[derive(Debug, Default)]
struct Recent {
    second: u64,
    counts: [Count; LIFE],
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    first: u32,
    retries: u32,
}

impl Recent {
    fn advance(&mut self, now: u64) {
        // After a long silence each place is cleared once.
        for _ in 0..now.saturating_sub(self.second).min(LIFE as u64) {
            self.second += 1;
            *self.current() = Count::default();
        }
        self.second = self.second.max(now);
    }

    fn current(&mut self) -> &mut Count {
        &mut self.counts[(self.second % LIFE as u64) as usize]
    }

    fn sums(&self) -> (u64, u64) {
        let add = |(first, retries), count: &Count| {
            (
                first + u64::from(count.first),
                retries + u64::from(count.retries),
            )
        };
        self.counts.iter().fold((0, 0), add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_live_for_ten_seconds_whatever_the_steps() {
        for step in [1, 3, 10, 11, 1000] {
            let mut recent = Recent::default();
            recent.advance(7);
            recent.current().first = 5;
            let mut now = 7;
            while now < 60 {
                now += step;
                recent.advance(now);
                let expected = if now < 17 { 5 } else { 0 };
                assert_eq!(recent.sums(), (expected, 0), "steps of {step}, at {now}");
            }
        }
    }
}
