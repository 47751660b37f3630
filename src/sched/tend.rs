//! When due jobs wait for a runner that does not come: one more is started then.

use std::time::Duration;

use super::places::Places;
use crate::ground::timeline::Tick;

/// How long jobs may wait beside free places without one being taken.
const PATIENCE: Duration = Duration::from_millis(5);

/// Watches over jobs that wait for a runner although there are places.
///
/// Every runner may be with a job that blocks its thread, and none is left to take the next one. Whether
/// that is so cannot be seen; that nothing was taken for a while can.
#[derive(Debug, Default)]
pub(super) struct Tend {
    /// How many jobs had been taken, and since when; while jobs wait.
    behind: Option<(u64, Tick)>,
}

impl Tend {
    /// Looks at the places. True if one more runner is to start; it is counted.
    pub(super) fn look(&mut self, places: &mut Places, now: Tick) -> bool {
        let (behind, taken) = (places.is_behind(), places.taken());
        let since = self.behind.filter(|&(before, _)| before == taken);
        let relief = behind && since.is_some_and(|(_, since)| now >= since.after(PATIENCE));
        self.behind = match since {
            _ if !behind => None,
            Some(since) if !relief => Some(since),
            _ => Some((taken, now)),
        };
        if relief {
            places.relieve();
        }
        relief
    }

    /// When to look again.
    pub(super) fn next(&self) -> Tick {
        self.behind
            .map_or(Tick::NEVER, |(_, since)| since.after(PATIENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Entry, Stamp};
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::ALWAYS.after(Duration::from_millis(millis))
    }

    /// One place taken by the only runner, and so many jobs that wait beside free places.
    fn stuck(waiting: u64) -> Places {
        let mut places = Places::new(9, 1);
        for job in 0..=waiting {
            places.offer(Entry {
                at: Tick::ALWAYS,
                stamp: Stamp::first(job),
                slot: 0,
            });
        }
        assert_eq!(places.hire(), 1);
        assert!(places.take(|_| true).is_some());
        places
    }

    #[test]
    fn a_job_that_waits_for_long_gets_one_more_runner_and_then_another() {
        let (mut tend, mut places) = (Tend::default(), stuck(1));
        assert_eq!(tend.next(), Tick::NEVER);
        assert!(!tend.look(&mut places, at(10)));
        assert_eq!(tend.next(), at(15));
        assert!(!tend.look(&mut places, at(14)));
        assert_eq!(tend.next(), at(15), "it waits since then");
        assert!(tend.look(&mut places, at(15)));
        assert_eq!(tend.next(), at(20));
        assert!(!tend.look(&mut places, at(19)));
        assert!(tend.look(&mut places, at(30)));
        assert_eq!(tend.next(), at(35));
    }

    #[test]
    fn a_job_that_is_taken_is_a_sign_of_progress() {
        let (mut tend, mut places) = (Tend::default(), stuck(2));
        assert!(!tend.look(&mut places, at(10)));
        assert!(places.take(|_| true).is_some());
        assert!(!tend.look(&mut places, at(15)));
        assert_eq!(tend.next(), at(20));
        assert!(places.take(|_| true).is_some());
        assert!(!tend.look(&mut places, at(20)), "none waits");
        assert_eq!(tend.next(), Tick::NEVER);
    }

    #[test]
    fn the_runner_that_is_added_is_counted() {
        let (mut tend, mut places) = (Tend::default(), stuck(1));
        tend.look(&mut places, at(0));
        assert!(tend.look(&mut places, at(5)));
        places.leave();
        assert_eq!(places.hire(), 0, "one is left for one worker");
        places.leave();
        assert_eq!(places.hire(), 1);
    }
}
