//! The end of a group: closed by `wait` or `drain`, shut down, cancelled, past its deadline, dropped, or
//! detached. It knows no job: the state says when none is held.
//!
//! ```text
//!          wait, drain                shutdown, or the grace of a drain is over
//!   open ───────────────▶ closed ───────────────────────────────────────────────▶ sealed
//!     │               to others; jobs                                        to jobs too
//!     │             may schedule more                                            ▲ │
//!     │                             shutdown                                     │ │ the grace is over
//!     ├──────────────────────────────────────────────────────────────────────────┘ ▼
//!     │                     the group is dropped; also when closed or sealed
//!     └────────────────────────────────────────────────────────────────────────▶ aborting
//!
//!   beside that:  running ──── cancel, the token, the deadline, drop ────▶ stopped: no due job starts
//!
//!   each of them, when no job is held and none will come ────▶ drained
//! ```
//!
//! None will come once the group is closed, stopped or dropped, or is detached and has no handle. Each arrow is taken
//! at most once, and none leads back.

use std::time::Duration;

use super::counts::{Counts, FirstPanic};
use crate::common::time::Timestamp;
use crate::sched::error::JobPanic;
use crate::sched::stats::Report;

/// The caller that schedules a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Caller {
    /// The `Group`: scheduling on it once it is closed is a mistake.
    Owner,
    /// A handle of the group, which cannot know.
    External,
    /// The context of a job, which is admitted while the group drains.
    Job,
}

/// The method of its owner that has closed the group furthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) enum Phase {
    Open,
    Waited,
    Draining,
    ShutDown,
}

impl Phase {
    /// The method that closed it.
    pub(in crate::sched) fn method(self) -> &'static str {
        match self {
            Phase::Open | Phase::Waited => "wait",
            Phase::Draining => "drain",
            Phase::ShutDown => "shutdown",
        }
    }
}

/// The reason why no further job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum StopReason {
    Cancelled,
    DeadlineExceeded,
}

/// The reason why a job was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Rejected {
    Closed(Phase),
    Cancelled,
}

#[derive(Debug)]
pub(in crate::sched) struct Lifecycle {
    phase: Phase,
    /// Closed to jobs too: shut down, or the grace of a drain is over.
    sealed: bool,
    /// A `Wait` is alive or has resolved. Reset if it is dropped before that.
    waited: bool,
    /// The first reason stays.
    stopped: Option<StopReason>,
    /// Closed or stopped, and nothing is held any more. Final.
    drained: bool,
    /// The group's own deadline.
    deadline: Timestamp,
    shutdown: Option<Shutdown>,
    /// The earliest end of the grace of a drain or a shutdown.
    grace_ends: Timestamp,
    /// The group was dropped: running jobs are to be aborted.
    group_dropped: bool,
    /// Running jobs have been asked to stop, and any that still reaches an await will be. Only in a group that
    /// was dropped or whose grace is over. Set in a turn of the driver, which then walks over the running jobs.
    aborting: bool,
    /// The `Group` was detached.
    detached: bool,
    /// The number of `Handle`s.
    handles: usize,
}

/// A shutdown on its way.
#[derive(Debug)]
struct Shutdown {
    /// Jobs that are due later than this are dropped.
    due: Timestamp,
    /// The driver has dropped what was not due.
    swept: bool,
    /// The counts when it began: for `wait`, a job that is lost from then on makes it a cancel.
    before: Counts,
}

/// The outcome of a group.
pub(in crate::sched) enum GroupOutcome<'a> {
    Done,
    Stopped(StopReason),
    Panicked(&'a JobPanic),
}

impl Lifecycle {
    pub(super) fn new(deadline: Timestamp) -> Lifecycle {
        Lifecycle {
            phase: Phase::Open,
            sealed: false,
            waited: false,
            stopped: None,
            drained: false,
            deadline,
            shutdown: None,
            grace_ends: Timestamp::NEVER,
            group_dropped: false,
            aborting: false,
            detached: false,
            handles: 0,
        }
    }

    /// Closes the group up to `phase`, or leaves it closed further.
    fn close(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
    }

    /// Closed beats cancelled: to schedule on a closed group is a mistake of the owner either way.
    pub(in crate::sched) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Rejected> {
        // The answer holds only as long as the lock is held: the caller inserts the job in the same step. Taken
        // apart, a `wait` in between could find nothing held and return, and the job that was accepted would be
        // lost.
        let closed = match caller {
            Caller::Owner | Caller::External => self.phase != Phase::Open,
            Caller::Job => self.sealed || (self.drained && self.phase != Phase::Open),
        };
        if closed {
            Err(Rejected::Closed(self.phase))
        } else if cancelled || self.stopped.is_some() || self.drained {
            Err(Rejected::Cancelled)
        } else {
            Ok(())
        }
    }

    // What happens to the group.

    /// A cancelled token or a passed deadline, if that ends the group now.
    pub(super) fn reason(&self, now: Timestamp, cancelled: bool) -> Option<StopReason> {
        if self.stopped.is_some() || self.drained {
            None
        } else if cancelled {
            Some(StopReason::Cancelled)
        } else {
            (now >= self.deadline).then_some(StopReason::DeadlineExceeded)
        }
    }

    /// No job starts from here on. The first reason stays, and what has drained ended without one: returns `false`
    /// for a later one.
    pub(super) fn end(&mut self, why: StopReason) -> bool {
        let first = self.stopped.is_none() && !self.drained;
        if first {
            self.stopped = Some(why);
        }
        first
    }

    /// Closes the group for `wait`. Returns `false` if another `Wait` is alive or has resolved.
    pub(super) fn close_to_wait(&mut self) -> bool {
        self.close(Phase::Waited);
        !std::mem::replace(&mut self.waited, true)
    }

    /// The `Wait` was dropped before it had resolved; the group stays closed.
    pub(in crate::sched) fn give_up_wait(&mut self) {
        self.waited = false;
    }

    /// `drain` was called: nothing is dropped before the grace is over.
    pub(super) fn drain_until(&mut self, abort: Timestamp) {
        self.close(Phase::Draining);
        self.grace_ends = self.grace_ends.min(abort);
    }

    /// `shutdown` was called.
    pub(super) fn shut_down(&mut self, now: Timestamp, abort: Timestamp, before: Counts) {
        self.close(Phase::ShutDown);
        self.grace_ends = self.grace_ends.min(abort);
        self.seal(now, before);
    }

    /// No job comes any more, and none that is due later than now will run.
    fn seal(&mut self, now: Timestamp, before: Counts) {
        // The first one stays: a second shutdown must not let later jobs run, nor count as "before" what the first
        // lost.
        self.sealed = true;
        self.shutdown.get_or_insert(Shutdown {
            due: now,
            swept: false,
            before,
        });
    }

    /// The group was dropped, or its runtime was shut down.
    pub(super) fn group_dropped(&mut self) {
        self.group_dropped = true;
    }

    /// Nothing that reaches an await goes on.
    pub(super) fn abort(&mut self) {
        self.aborting = true;
    }

    pub(super) fn detach(&mut self) {
        self.detached = true;
    }

    pub(in crate::sched) fn is_detached(&self) -> bool {
        self.detached
    }

    pub(in crate::sched) fn handle_created(&mut self) {
        self.handles += 1;
    }

    pub(super) fn handle_dropped(&mut self) {
        self.handles -= 1;
    }

    /// Notes that no job is held. Returns `true` if none will come either, for the first time: it is final.
    pub(super) fn drain(&mut self) -> bool {
        // A closed group still admits what its running jobs schedule. But here none is running, and a context that
        // outlived its job is rejected from now on, in the same step.
        let drains = self.is_closing() && !self.drained;
        self.drained |= drains;
        drains
    }

    /// Returns whether the group drains as soon as no job is held.
    pub(super) fn is_closing(&self) -> bool {
        self.has_stopped()
            || self.is_draining()
            || self.group_dropped
            || (self.detached && self.handles == 0)
    }

    // What follows for its jobs.

    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// `wait`, `drain` or `shutdown` was called.
    pub(in crate::sched) fn is_draining(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Returns whether series that end with `wait` are to look at once. What else closes a group ends them itself.
    pub(super) fn must_expedite(&self) -> bool {
        self.is_draining() && self.may_reschedule()
    }

    pub(in crate::sched) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Returns whether the clock can end the group.
    pub(super) fn has_deadline(&self) -> bool {
        self.deadline < Timestamp::NEVER
    }

    /// Returns whether a due job may start.
    pub(super) fn may_start(&self) -> bool {
        !(self.has_stopped() || self.aborting || self.group_dropped)
    }

    /// Returns whether a job that is pending and due then may start, unless it is moved: a shutdown lets only what was due
    /// at its call do so.
    pub(super) fn may_start_at(&self, at: Timestamp) -> bool {
        let shutdown = self.shutdown.as_ref();
        self.may_start() && shutdown.is_none_or(|shutdown| at <= shutdown.due)
    }

    /// Returns whether a job may be moved, or run once more.
    pub(super) fn may_reschedule(&self) -> bool {
        !(self.has_stopped() || self.is_shut_down() || self.group_dropped)
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.aborting
    }

    /// Returns the instant from which on pending jobs are to be dropped, if there is anything to drop or to abort.
    /// When its grace is over, a drain continues as a shutdown without any.
    pub(super) fn drops_from(
        &mut self,
        now: Timestamp,
        pending: usize,
        counts: Counts,
    ) -> Option<Timestamp> {
        if self.grace_ends <= now {
            self.seal(now, counts);
        }
        // True in one turn only. A run that reaches its first await after the walk of that turn sees `aborting`
        // there, under this lock; one that reached it before has a task by then, which the walk aborts.
        let aborts = !self.aborting && (self.group_dropped || self.grace_ends <= now);
        self.aborting |= aborts;
        if aborts || (pending > 0 && !self.may_start()) {
            return Some(Timestamp::ALWAYS);
        }
        let shutdown = self.shutdown.as_mut().filter(|shutdown| !shutdown.swept)?;
        shutdown.swept = true;
        (pending > 0).then(|| shutdown.due.after(Duration::from_nanos(1)))
    }

    /// Returns when the clock next changes something here.
    pub(super) fn next(&self) -> Timestamp {
        let deadline = if self.has_stopped() {
            Timestamp::NEVER
        } else {
            self.deadline
        };
        let grace = if self.aborting {
            Timestamp::NEVER
        } else {
            self.grace_ends
        };
        deadline.min(grace)
    }

    // What is reported at the end.

    /// Returns the outcome for `wait`, once it is known.
    pub(super) fn outcome<'a>(
        &self,
        counts: Counts,
        first: &'a FirstPanic,
    ) -> Option<GroupOutcome<'a>> {
        if let Some(end) = self.stopped {
            return Some(GroupOutcome::Stopped(end));
        }
        if !self.drained {
            return None;
        }
        let left_over = self.shutdown.as_ref().is_some_and(|shutdown| {
            let report = counts.report_since(shutdown.before);
            report.aborted + report.dropped > 0
        });
        Some(match first.get() {
            _ if left_over => GroupOutcome::Stopped(StopReason::Cancelled),
            Some(panic) => GroupOutcome::Panicked(panic),
            None => GroupOutcome::Done,
        })
    }

    /// Returns the report for `drain` and `shutdown`, once it is known.
    pub(super) fn report(&self, counts: Counts, before: Counts) -> Option<Report> {
        self.drained.then(|| counts.report_since(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Lifecycle {
        Lifecycle::new(Timestamp::NEVER)
    }

    #[test]
    fn the_table_of_admission() {
        use Caller::{External, Job};
        let cancelled = Some(StopReason::Cancelled);
        let table = [
            // phase, stopped, drained, caller, answer
            (Phase::Open, None, false, External, Ok(())),
            (Phase::Open, None, false, Job, Ok(())),
            (
                Phase::Open,
                cancelled,
                false,
                External,
                Err(Rejected::Cancelled),
            ),
            (Phase::Open, cancelled, true, Job, Err(Rejected::Cancelled)),
            (Phase::Open, None, true, External, Err(Rejected::Cancelled)),
            (
                Phase::Waited,
                None,
                false,
                External,
                Err(Rejected::Closed(Phase::Waited)),
            ),
            (Phase::Waited, None, false, Job, Ok(())),
            (
                Phase::Waited,
                cancelled,
                false,
                External,
                Err(Rejected::Closed(Phase::Waited)),
            ),
            (
                Phase::Waited,
                cancelled,
                false,
                Job,
                Err(Rejected::Cancelled),
            ),
            (
                Phase::Waited,
                None,
                true,
                Job,
                Err(Rejected::Closed(Phase::Waited)),
            ),
            (
                Phase::ShutDown,
                None,
                false,
                External,
                Err(Rejected::Closed(Phase::ShutDown)),
            ),
            (
                Phase::ShutDown,
                None,
                false,
                Job,
                Err(Rejected::Closed(Phase::ShutDown)),
            ),
        ];
        for (phase, stopped, drained, caller, answer) in table {
            let lifecycle = Lifecycle {
                phase,
                sealed: phase == Phase::ShutDown,
                stopped,
                drained,
                ..open()
            };
            assert_eq!(
                lifecycle.admit(caller, false),
                answer,
                "{lifecycle:?} {caller:?}"
            );
            if caller == External {
                assert_eq!(
                    lifecycle.admit(Caller::Owner, false),
                    answer,
                    "{lifecycle:?}"
                );
            }
        }
    }

    #[test]
    fn a_drain_admits_jobs_until_it_is_sealed() {
        let mut lifecycle = open();
        lifecycle.close(Phase::Draining);
        lifecycle.close(Phase::Waited);
        let closed = Err(Rejected::Closed(Phase::Draining));
        assert_eq!(lifecycle.admit(Caller::External, false), closed);
        assert_eq!(lifecycle.admit(Caller::Job, false), Ok(()));
        lifecycle.sealed = true;
        assert_eq!(lifecycle.admit(Caller::Job, false), closed);
    }

    #[test]
    fn a_cancelled_token_refuses_before_the_group_has_noticed() {
        assert_eq!(
            open().admit(Caller::External, true),
            Err(Rejected::Cancelled)
        );
    }

    #[test]
    fn a_clock_is_asked_for_a_deadline_alone_and_a_reason_for_a_group_that_has_none() {
        let deadline = Timestamp::ALWAYS.after(Duration::from_secs(1));
        assert!(!open().has_deadline());
        let mut limited = Lifecycle::new(deadline);
        assert!(limited.has_deadline());
        assert_eq!(limited.reason(Timestamp::ALWAYS, false), None);
        let exceeded = Some(StopReason::DeadlineExceeded);
        assert_eq!(limited.reason(deadline, false), exceeded);
        assert!(limited.end(StopReason::Cancelled));
        assert_eq!(limited.reason(deadline, true), None, "the first one stays");
    }

    #[test]
    fn a_group_that_has_ended_with_nothing_pending_drops_nothing() {
        let (mut ended, counts) = (open(), Counts::default());
        assert!(ended.end(StopReason::Cancelled));
        let drops =
            |ended: &mut Lifecycle, pending| ended.drops_from(Timestamp::ALWAYS, pending, counts);
        assert_eq!(drops(&mut ended, 0), None);
        assert_eq!(drops(&mut ended, 1), Some(Timestamp::ALWAYS));
    }

    #[test]
    fn a_shutdown_drops_what_is_due_after_it_in_one_turn_if_there_is_any() {
        let (now, counts) = (Timestamp::ALWAYS, Counts::default());
        for pending in [0, 1] {
            let mut ends = open();
            ends.shut_down(now, Timestamp::NEVER, counts);
            let from = (pending > 0).then(|| now.after(Duration::from_nanos(1)));
            assert_eq!(ends.drops_from(now, pending, counts), from);
            assert_eq!(ends.drops_from(now, 1, counts), None);
        }
    }
}
