//! The front of a queue: where its due jobs begin, while more jobs are due than one claim takes.
//!
//! On Postgres the entries of claimed jobs stay in the index of due jobs until the next vacuum, and they come before
//! the entries of the jobs that are still due. With a million jobs, a claim could read half a million dead entries. So
//! a claim begins where the last one has ended. A job that becomes due before this place, because it was given back or
//! enqueued late with an early time, is found by a claim from the beginning. Such a claim is made regularly, and
//! whenever a claim got fewer jobs than it asked for.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::Claimed;
use crate::time::Micros;

/// The shortest time between two claims from the beginning. It is longer if they take long, so that at most a thirtieth
/// of the time is spent on them.
const WHOLE: Duration = Duration::from_millis(250);
const COST: u32 = 30;
const LONGEST: Duration = Duration::from_secs(10);

/// After this many claims in a row that got all the jobs they asked for, claims begin at the front. Without a backlog
/// each claim is from the beginning.
const FULL: u32 = 4;

/// Claims from the beginning, for each priority.
pub(super) const EVERYTHING: [Micros; 3] = [Micros::EARLIEST; 3];

#[derive(Debug, Default)]
pub(super) struct Front {
    /// By priority: the latest time of the jobs that were claimed.
    from: [Option<Micros>; 3],
    /// The number of claims in a row that got all the jobs they asked for.
    full: u32,
    /// When the next claim from the beginning is due.
    whole_at: Option<Instant>,
}

impl Front {
    /// Returns, for each priority, the time from which on the next claim looks for jobs.
    pub(super) fn begin(&mut self, now: Instant) -> [Micros; 3] {
        match self.whole_at.is_some_and(|at| now < at) && self.full >= FULL {
            true => self.from.map(|from| from.unwrap_or(Micros::EARLIEST)),
            false => EVERYTHING,
        }
    }

    /// Records the result of a claim. Returns `true` if a claim from the beginning has to follow.
    pub(super) fn claimed(
        &mut self,
        began: [Micros; 3],
        jobs: &[Claimed],
        asked: usize,
        took: Duration,
    ) -> bool {
        if jobs.len() < asked {
            *self = Front::default();
            return began != EVERYTHING;
        }
        self.full = self.full.saturating_add(1);
        if began == EVERYTHING {
            let wait = took.saturating_mul(COST).clamp(WHOLE, LONGEST);
            self.whole_at = Instant::now().checked_add(wait);
        }
        for (rank, from) in (0..).zip(&mut self.from) {
            let of_rank = jobs.iter().filter(|job| job.priority.rank() == rank);
            let last = of_rank.map(|job| job.run_at).max();
            *from = last.or(*from);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{EVERYTHING, FULL, Front, WHOLE};
    use crate::job::{JobId, Priority};
    use crate::store::{Claimed, Lease};
    use crate::time::Micros;
    use tokio::time::Instant;

    const MILLI: Duration = Duration::from_millis(1);

    fn job(priority: Priority, run_at: i64) -> Claimed {
        Claimed {
            lease: Lease {
                id: JobId(run_at),
                claim: 1,
            },
            priority,
            kind: String::new(),
            payload: String::new(),
            attempt: 1,
            run_at: Micros(run_at),
            attempts: None,
            timeout: None,
            relaxed: false,
        }
    }

    fn normal(times: std::ops::Range<i64>) -> Vec<Claimed> {
        times.map(|at| job(Priority::Normal, at)).collect()
    }

    /// Returns a front after full claims up to time 40.
    fn busy(now: Instant) -> Front {
        let mut front = Front::default();
        for lot in 0..i64::from(FULL) {
            assert_eq!(front.begin(now), EVERYTHING, "there is no backlog yet");
            let jobs = normal(lot * 10..lot * 10 + 10);
            assert!(!front.claimed(EVERYTHING, &jobs, 10, MILLI));
        }
        front
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_over_a_backlog_begins_where_the_last_one_has_ended() {
        let now = Instant::now();
        let mut front = busy(now);
        let from = front.begin(now);
        assert_eq!(from, [Micros::EARLIEST, Micros(39), Micros::EARLIEST]);
        let mut jobs = normal(39..48);
        jobs.push(job(Priority::High, 7));
        assert!(!front.claimed(from, &jobs, 10, MILLI));
        assert_eq!(
            front.begin(now),
            [Micros(7), Micros(47), Micros::EARLIEST],
            "each priority has its own"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_from_the_beginning_comes_now_and_then() {
        let now = Instant::now();
        let mut front = busy(now);
        tokio::time::advance(WHOLE).await;
        let later = Instant::now();
        assert_ne!(front.begin(later - Duration::from_millis(1)), EVERYTHING);
        assert_eq!(front.begin(later), EVERYTHING);
        assert!(!front.claimed(EVERYTHING, &normal(3..13), 10, MILLI));
        let from = front.begin(later);
        assert_eq!(from[1], Micros(12), "what was earlier is followed by more");

        let mut front = busy(now);
        let took = Duration::from_secs(1);
        assert!(!front.claimed(EVERYTHING, &normal(3..13), 10, took));
        let soon = Instant::now() + Duration::from_secs(9);
        assert_ne!(front.begin(soon), EVERYTHING, "dear ones are seldom");
        assert_eq!(front.begin(soon + took), EVERYTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn when_there_is_no_more_a_claim_from_the_beginning_follows_at_once() {
        let now = Instant::now();
        let mut front = busy(now);
        let from = front.begin(now);
        assert!(front.claimed(from, &normal(40..45), 10, MILLI));
        assert_eq!(front.begin(now), EVERYTHING);
        assert!(
            !front.claimed(EVERYTHING, &[], 10, MILLI),
            "that one was enough"
        );
    }
}
