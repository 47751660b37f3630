//! The jobs of a schedule.

use super::every::Every;
use crate::job::Priority;
use crate::store::{NewJob, ScheduleSpec, Slot};
use crate::time::Micros;

/// A rule for runs of a schedule that were missed because no worker was alive or the queue was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedRuns {
    /// None of them runs, but a single one does, late, if its next time has not come yet.
    Skip,
    /// One run replaces all of them.
    #[default]
    Once,
    /// The last `n` of them run, one after the other. Times at which the last run had not ended count as missed here, unless
    /// runs may overlap.
    Last(u32),
}

/// Settings for a schedule: the rules for missed and overlapping runs.
///
/// # Examples
///
/// ```
/// use delayed_jobs::{MissedRuns, Recurring};
///
/// let hourly_report = Recurring::default().missed(MissedRuns::Last(24));
/// let ping = Recurring::default().missed(MissedRuns::Skip).overlap(true);
/// # let _ = (hourly_report, ping);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "hand it to `Worker::every_with`"]
pub struct Recurring {
    missed: MissedRuns,
    overlap: bool,
}

impl Recurring {
    /// Sets the rule for missed runs. By default one run replaces all of them.
    pub fn missed(mut self, missed: MissedRuns) -> Recurring {
        self.missed = missed;
        self
    }

    /// Sets whether a run may start while the last one has not ended: it runs, or it waits for a retry. By default such a
    /// run is skipped, or follows later with [`MissedRuns::Last`].
    pub fn overlap(mut self, overlap: bool) -> Recurring {
        self.overlap = overlap;
        self
    }
}

/// A schedule: one job for each of its times.
///
/// At most one job that has not started is pending at a time. The next one is enqueued when it has started, or when it has
/// ended if runs may not overlap.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    pub(crate) every: Every,
    pub(crate) kind: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) payload: String,
    pub(crate) recurring: Recurring,
}

impl Schedule {
    pub(super) fn spec(&self) -> ScheduleSpec {
        let Schedule {
            every,
            kind,
            queue,
            payload,
            ..
        } = self;
        ScheduleSpec {
            name: self.name.clone(),
            spec: format!("{every}: {kind} in {queue} with {payload}"),
            kind: (*kind).to_owned(),
            queue: (*queue).to_owned(),
            payload: payload.clone(),
        }
    }

    /// Returns whether the next job is enqueued when a job of this kind has started, and not when it has ended.
    pub(super) fn overlaps(&self, kind: &str) -> bool {
        self.recurring.overlap && self.kind == kind
    }

    /// Returns whether the next slot depends on the last one.
    pub(super) fn needs_last(&self) -> bool {
        matches!(self.recurring.missed, MissedRuns::Last(_))
    }

    /// Returns the slot whose job should be in the store by now. The job is enqueued long before its time, so that it
    /// is not lost if no worker runs at that time: it runs as soon as one does.
    pub(super) fn next(&self, now: Micros, last: Option<Micros>) -> Slot {
        let ahead = self.every.next(now);
        let slot = match (self.recurring.missed, last) {
            (MissedRuns::Last(most), Some(last)) if last < ahead => {
                self.every.missed(most, last, ahead)
            }
            _ => ahead,
        };
        let earliest = match (self.recurring.missed, last) {
            (MissedRuns::Skip, _) => self.every.before(ahead),
            // The job of the last slot may still be pending. It is one of those that were missed, and perhaps none of the
            // last ones.
            (MissedRuns::Last(most), Some(last)) if last < ahead => {
                let before = self.every.before(last);
                self.every.missed(most.max(1), before, ahead)
            }
            _ => Micros::EARLIEST,
        };
        Slot {
            schedule: self.name.clone(),
            spec: self.spec().spec,
            slot,
            earliest,
            latest: self.every.next(ahead),
            overlap: self.recurring.overlap,
            job: NewJob {
                kind: self.kind.to_owned(),
                queue: self.queue.to_owned(),
                payload: self.payload.clone(),
                priority: Priority::default(),
                run_at: slot,
                created_at: now,
                attempts: None,
                timeout: None,
                limit_key: None,
                key: None,
                after: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slot(period: u64, now: i64, missed: MissedRuns, last: Option<i64>) -> Slot {
        let schedule = Schedule {
            name: "tick".to_owned(),
            every: Duration::from_micros(period).into(),
            kind: "tick",
            queue: "default",
            payload: "null".to_owned(),
            recurring: Recurring::default().missed(missed),
        };
        schedule.next(Micros(now), last.map(Micros))
    }

    fn next(period: u64, now: i64, missed: MissedRuns, last: Option<i64>) -> i64 {
        slot(period, now, missed, last).slot.0
    }

    #[test]
    fn a_run_that_is_among_the_last_missed_ones_stays() {
        use MissedRuns::{Last, Once, Skip};
        for (missed, last, earliest) in [
            (Once, Some(10), Micros::EARLIEST.0),
            (Skip, None, 90),
            (Skip, Some(10), 90),
            (Last(3), None, Micros::EARLIEST.0),
            // That of 10 is not among the three from 70 to 90.
            (Last(3), Some(10), 70),
            (Last(3), Some(80), 80),
            (Last(3), Some(100), Micros::EARLIEST.0),
            // It has just become due, and is not missed.
            (Last(0), Some(90), 90),
        ] {
            let slot = slot(10, 95, missed, last);
            assert_eq!(slot.earliest.0, earliest, "{missed:?} after {last:?}");
        }
    }

    #[test]
    fn the_next_slot_is_the_first_full_period_after_now() {
        assert_eq!(next(10, 25, MissedRuns::Once, None), 30);
        assert_eq!(next(10, 30, MissedRuns::Once, Some(30)), 40);
        assert_eq!(next(10, 95, MissedRuns::Skip, Some(30)), 100);
        assert_eq!(next(1_000_000, 25, MissedRuns::Once, None), 1_000_000);
        assert_eq!(next(u64::MAX, 25, MissedRuns::Once, None), i64::MAX);
    }

    #[test]
    fn missed_slots_are_made_up_for_one_by_one_and_not_all() {
        let last = MissedRuns::Last(3);
        assert_eq!(next(10, 95, last, None), 100);
        assert_eq!(next(10, 95, last, Some(80)), 90);
        assert_eq!(next(10, 95, last, Some(90)), 100);
        assert_eq!(next(10, 95, last, Some(100)), 100);
        assert_eq!(
            next(10, 95, last, Some(10)),
            70,
            "of 20 to 90 the last three"
        );
        // A clock that was wrong has left a slot far in the future.
        assert_eq!(next(10, 95, last, Some(10_000)), 100);
    }
}
