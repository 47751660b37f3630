//! Where the due jobs of a queue begin, while more are due than are claimed at a time.
//!
//! On Postgres what was claimed stays in the index of due jobs until a vacuum clears it away, before all that is still due: of a
//! million jobs a claim would read the traces of half a million. So a claim begins where the last one has ended. What becomes
//! due before that place (a job that was given back, or is handed in late with an early time) is found by a claim from the very
//! beginning, which comes now and then, and as soon as there is no more than was asked for.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::Claimed;
use crate::time::Micros;

/// From a claim from the beginning to the next one, and longer if it took long: a thirtieth of the time goes into them.
const WHOLE: Duration = Duration::from_millis(250);
const COST: u32 = 30;
const LONGEST: Duration = Duration::from_secs(10);

/// This many claims in a row bring all that they ask for before the next ones begin further on: without a backlog each claim is
/// from the beginning.
const FULL: u32 = 4;

/// All times.
pub(super) const EVERYTHING: [Micros; 3] = [Micros::EARLIEST; 3];

#[derive(Debug, Default)]
pub(super) struct Front {
    /// By priority: the latest time of those that were claimed.
    from: [Option<Micros>; 3],
    /// How many claims in a row have brought all that they asked for.
    full: u32,
    /// When the next claim from the beginning is due.
    whole_at: Option<Instant>,
}

impl Front {
    /// Returns from when on the next claim looks for jobs of each priority.
    pub(super) fn begin(&mut self, now: Instant) -> [Micros; 3] {
        match self.whole_at.is_some_and(|at| now < at) && self.full >= FULL {
            true => self.from.map(|from| from.unwrap_or(Micros::EARLIEST)),
            false => EVERYTHING,
        }
    }

    /// Notes what a claim has brought, and returns `true` if one from the beginning has to follow.
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

    /// A front that has seen full claims up to time 40.
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
