//! How a group ends: closed by `wait` or `drain`, shut down, cancelled, past its deadline, dropped, or detached. This
//! part of the state knows no job; it is told when no job is held.
//!
//! ```text
//!                            wait, drain           shutdown, or the grace is over
//!   who may schedule    all ─────────────▶ closed ────────────────────────────────▶ sealed
//!                        │              its own jobs                                no job, and later
//!                        └────────────────────────────────────────────────────────▶ ones are dropped
//!                            shutdown
//!
//!                            cancel, the token, the deadline, or the group is dropped
//!   which jobs start    due ──────────────────────────────────────────────────────────▶ stopped
//!                                                                                       none
//!
//!                            the grace is over,
//!                            or the group is dropped               a turn of the driver
//!   which jobs run      all ─────────────────────────▶ abort due ──────────────────────▶ aborting
//!                                                      none starts                       none after its next await
//!
//!   whatever these are, when the group is closing and no job is held ──▶ drained
//! ```
//!
//! A group is *closing* when it is closed, sealed or stopped, or is detached and has no handle. Each arrow is taken at
//! most once, and none leads back.

use std::time::Duration;

use super::counts::{Counts, FirstPanic};
use crate::common::closing::{Closing, Report, StopReason};
use crate::common::schedule_error::ScheduleError;
use crate::common::time::Timestamp;
use crate::sched::error::JobPanic;

/// The kind of caller that schedules a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Caller {
    /// The `Group` itself: to schedule on it after closing it is a mistake of the program.
    Owner,
    /// A handle, whose user cannot know that the group was closed.
    External,
    /// The context of a job: it is admitted while the group drains.
    Job,
}

/// The method of its owner that has closed the group; the one that closes it furthest, if there were several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClosedBy {
    Wait,
    Drain,
    ShutDown,
}

impl ClosedBy {
    /// Panics, since the owner of a group that was closed by this method has scheduled on it.
    #[track_caller]
    pub(crate) fn misuse(self) -> ! {
        let method = match self {
            ClosedBy::Wait => "wait",
            ClosedBy::Drain => "drain",
            ClosedBy::ShutDown => "shutdown",
        };
        panic!("schedgroup: attempted to schedule job after Group::{method} was called");
    }
}

/// The reason why a job was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    Closed(ClosedBy),
    Cancelled,
}

impl Rejected {
    pub(in crate::sched) fn with<J>(self, job: J) -> ScheduleError<J> {
        match self {
            Rejected::Closed(_) => ScheduleError::Closed(job),
            Rejected::Cancelled => ScheduleError::Cancelled(job),
        }
    }
}

#[derive(Debug)]
pub(in crate::sched) struct Lifecycle {
    closed: Option<ClosedBy>,
    /// Closed to jobs too: `shutdown` was called, or the grace of a drain is over.
    sealed: Option<Sealed>,
    /// A `Wait` is alive or has resolved. Cleared when a `Wait` is dropped before it has resolved.
    wait_taken: bool,
    /// Why no job starts any more. The first reason stays.
    stopped: Option<StopReason>,
    /// The group was closing, and no job was held. Final.
    drained: bool,
    /// The group's own deadline.
    deadline: Timestamp,
    /// The earliest end of the grace of a drain or a shutdown.
    grace_ends: Timestamp,
    abort: Abort,
    /// The `Group` was detached.
    detached: bool,
    /// The number of `Handle`s.
    handles: usize,
}

/// A group that admits no job at all any more.
#[derive(Debug)]
struct Sealed {
    /// Jobs that are due later than this are dropped.
    due: Timestamp,
    /// The driver has dropped them.
    swept: bool,
    /// The counts at the time: if a job is aborted or dropped from then on, `wait` returns `Cancelled`.
    before: Counts,
}

/// How far the abort of the running jobs is. No job starts from the time on that it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Abort {
    No,
    /// The group was dropped, or the grace is over.
    Due,
    /// The driver walks over the jobs that await, in its turn or as it is dropped; a job at its first poll sees this at
    /// its first await.
    Begun,
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
            closed: None,
            sealed: None,
            wait_taken: false,
            stopped: None,
            drained: false,
            deadline,
            grace_ends: Timestamp::NEVER,
            abort: Abort::No,
            detached: false,
            handles: 0,
        }
    }

    /// Closes the group, or leaves it closed further.
    fn close(&mut self, by: ClosedBy) {
        self.closed = self.closed.max(Some(by));
    }

    /// Returns whether a job is accepted. A group that is both closed and cancelled answers that it is closed, since to
    /// schedule on it is a mistake of its owner either way.
    ///
    /// `now` and `cancelled` are the clock and the token as for [`reason`](Lifecycle::reason): an end that is not noted
    /// yet rejects the job, too.
    pub(in crate::sched) fn admit(
        &self,
        caller: Caller,
        now: Timestamp,
        cancelled: bool,
    ) -> Result<(), Rejected> {
        // The answer holds only while the lock is held, so the caller inserts the job in the same step. In two steps, a
        // `wait` in between could find no job held and return, and the accepted job would be lost.
        let is_shut_out = match caller {
            Caller::Owner | Caller::External => true,
            Caller::Job => self.is_sealed() || now >= self.grace_ends || self.drained,
        };
        match self.closed {
            Some(by) if is_shut_out => Err(Rejected::Closed(by)),
            _ if cancelled || now >= self.deadline => Err(Rejected::Cancelled),
            _ if self.has_stopped() || self.drained => Err(Rejected::Cancelled),
            _ => Ok(()),
        }
    }

    // What happens to the group.

    /// Returns why the group is to stop now, if its token was cancelled or its deadline has passed.
    pub(super) fn reason(&self, now: Timestamp, cancelled: bool) -> Option<StopReason> {
        if self.stopped.is_some() || self.drained {
            None
        } else if cancelled {
            Some(StopReason::Cancelled)
        } else {
            (now >= self.deadline).then_some(StopReason::DeadlineExceeded)
        }
    }

    /// Stops the group: no job starts any more. Returns `false` if the group was stopped before, whose first reason
    /// stays, or has drained, which needs none.
    pub(super) fn stop(&mut self, why: StopReason) -> bool {
        let first = self.stopped.is_none() && !self.drained;
        if first {
            self.stopped = Some(why);
        }
        first
    }

    /// Closes the group for `wait`. Returns `false` if another `Wait` is alive or has resolved.
    pub(super) fn close_to_wait(&mut self) -> bool {
        self.close(ClosedBy::Wait);
        !std::mem::replace(&mut self.wait_taken, true)
    }

    /// Lets `wait` be called again, since the `Wait` was dropped before it had resolved. The group stays closed.
    pub(in crate::sched) fn give_up_wait(&mut self) {
        self.wait_taken = false;
    }

    /// Closes the group with a grace that ends at `abort`.
    pub(super) fn close_until(
        &mut self,
        closing: Closing,
        now: Timestamp,
        abort: Timestamp,
        before: Counts,
    ) {
        self.grace_ends = self.grace_ends.min(abort);
        match closing {
            // Nothing is dropped before the grace is over.
            Closing::Drain => self.close(ClosedBy::Drain),
            Closing::ShutDown => {
                self.close(ClosedBy::ShutDown);
                self.seal(now, before);
            }
        }
    }

    /// Seals the group: no job is admitted any more, and none that is due later than `now` runs.
    fn seal(&mut self, now: Timestamp, before: Counts) {
        // The first call counts: a second shutdown must not let later jobs run, nor count the jobs that the first one
        // has dropped as dropped before it.
        self.sealed.get_or_insert(Sealed {
            due: now,
            swept: false,
            before,
        });
    }

    /// Returns whether the grace of a drain or a shutdown is over, and that is not noted yet.
    pub(super) fn outlasts_grace(&self, now: Timestamp) -> bool {
        now >= self.grace_ends && !(self.is_sealed() && self.abort > Abort::No)
    }

    /// Notes that the grace is over. A drain goes on as a shutdown without one.
    pub(super) fn end_grace(&mut self, now: Timestamp, before: Counts) {
        self.seal(now, before);
        self.abort = self.abort.max(Abort::Due);
    }

    /// Notes that the group was dropped, or its runtime was shut down.
    pub(super) fn group_dropped(&mut self) {
        self.abort = self.abort.max(Abort::Due);
    }

    /// Lets no job go on that reaches an await.
    pub(super) fn abort(&mut self) {
        self.abort = Abort::Begun;
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

    /// Notes that no job is held in a group that is closing. Returns `true` if this drains the group, which happens once.
    pub(super) fn note_empty(&mut self) -> bool {
        // A closed group admits the jobs that its own jobs schedule. None of these is running here, and a context that
        // outlived its job is rejected from this step on.
        !std::mem::replace(&mut self.drained, true)
    }

    /// Returns whether the group drains as soon as no job is held.
    pub(super) fn is_closing(&self) -> bool {
        self.has_stopped() || self.is_closed() || (self.detached && self.handles == 0)
    }

    // What this means for the jobs.

    fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Returns whether `wait`, `drain` or `shutdown` was called.
    pub(in crate::sched) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Returns whether a series counts as finished if its run has ended, wants another one, and may not have it. It does
    /// after a shutdown; otherwise the series was cut short.
    pub(super) fn finishes_series(&self) -> bool {
        self.closed == Some(ClosedBy::ShutDown)
    }

    /// Returns whether the series that end with `wait` are to run now, to see that it was called. In a group that ends
    /// in another way they are cancelled or dropped instead.
    pub(super) fn must_expedite(&self) -> bool {
        self.is_closed() && self.may_reschedule()
    }

    pub(in crate::sched) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Returns whether a due job may start.
    pub(super) fn may_start(&self) -> bool {
        !self.has_stopped() && self.abort == Abort::No
    }

    /// Returns whether no job starts any more, due or not.
    pub(in crate::sched) fn has_ended(&self) -> bool {
        self.drained || !self.may_start()
    }

    /// Returns the latest deadline of a job that may start. After a shutdown only those may that were due at its call.
    pub(in crate::sched) fn last_due(&self) -> Timestamp {
        let sealed = self.sealed.as_ref();
        sealed.map_or(Timestamp::NEVER, |sealed| sealed.due)
    }

    /// Returns whether a pending job with that deadline may start.
    pub(in crate::sched) fn may_start_at(&self, at: Timestamp) -> bool {
        self.may_start() && at <= self.last_due()
    }

    /// Returns whether a job may be moved, or run once more.
    pub(super) fn may_reschedule(&self) -> bool {
        self.may_start() && !self.is_sealed()
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.abort == Abort::Begun
    }

    /// Returns the instant such that pending jobs with this or a later deadline are to be dropped; `None` if there is
    /// nothing to drop or to abort.
    pub(super) fn drops_from(&mut self, pending: usize) -> Option<Timestamp> {
        // True in one turn only, whose walk aborts each job that has a place by then. A job that reaches its first
        // await later sees `Begun` in the step that would record its place (`State::awaits`).
        let aborts = self.abort == Abort::Due;
        if aborts {
            self.abort = Abort::Begun;
        }
        if aborts || (pending > 0 && !self.may_start()) {
            return Some(Timestamp::ALWAYS);
        }
        let sealed = self.sealed.as_mut().filter(|sealed| !sealed.swept)?;
        sealed.swept = true;
        (pending > 0).then(|| sealed.due.after(Duration::from_nanos(1)))
    }

    /// Returns the next instant at which time alone changes something here.
    pub(super) fn next(&self) -> Timestamp {
        let deadline = if self.has_stopped() {
            Timestamp::NEVER
        } else {
            self.deadline
        };
        let grace = match self.abort {
            Abort::No => self.grace_ends,
            Abort::Due | Abort::Begun => Timestamp::NEVER,
        };
        deadline.min(grace)
    }

    // The outcome.

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
        let left_over = self.sealed.as_ref().is_some_and(|sealed| {
            let report = counts.report_since(sealed.before);
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
    fn who_is_admitted_depends_on_the_end_of_the_group_and_on_the_caller() {
        use Caller::{External, Job};
        let cancelled = Some(StopReason::Cancelled);
        let table = [
            // closed, stopped, drained, caller, answer
            (None, None, false, External, Ok(())),
            (None, None, false, Job, Ok(())),
            (None, cancelled, false, External, Err(Rejected::Cancelled)),
            (None, cancelled, true, Job, Err(Rejected::Cancelled)),
            (None, None, true, External, Err(Rejected::Cancelled)),
            (
                Some(ClosedBy::Wait),
                None,
                false,
                External,
                Err(Rejected::Closed(ClosedBy::Wait)),
            ),
            (Some(ClosedBy::Wait), None, false, Job, Ok(())),
            (
                Some(ClosedBy::Wait),
                cancelled,
                false,
                External,
                Err(Rejected::Closed(ClosedBy::Wait)),
            ),
            (
                Some(ClosedBy::Wait),
                cancelled,
                false,
                Job,
                Err(Rejected::Cancelled),
            ),
            (
                Some(ClosedBy::Wait),
                None,
                true,
                Job,
                Err(Rejected::Closed(ClosedBy::Wait)),
            ),
            (
                Some(ClosedBy::ShutDown),
                None,
                false,
                External,
                Err(Rejected::Closed(ClosedBy::ShutDown)),
            ),
            (
                Some(ClosedBy::ShutDown),
                None,
                false,
                Job,
                Err(Rejected::Closed(ClosedBy::ShutDown)),
            ),
        ];
        for (closed, stopped, drained, caller, answer) in table {
            let mut lifecycle = Lifecycle {
                closed,
                stopped,
                drained,
                ..open()
            };
            if closed == Some(ClosedBy::ShutDown) {
                lifecycle.seal(Timestamp::ALWAYS, Counts::default());
            }
            assert_eq!(
                lifecycle.admit(caller, Timestamp::ALWAYS, false),
                answer,
                "{lifecycle:?} {caller:?}"
            );
            if caller == External {
                assert_eq!(
                    lifecycle.admit(Caller::Owner, Timestamp::ALWAYS, false),
                    answer,
                    "{lifecycle:?}"
                );
            }
        }
    }

    #[test]
    fn a_drain_admits_jobs_until_it_is_sealed() {
        let mut lifecycle = open();
        lifecycle.close(ClosedBy::Drain);
        lifecycle.close(ClosedBy::Wait);
        let closed = Err(Rejected::Closed(ClosedBy::Drain));
        assert_eq!(
            lifecycle.admit(Caller::External, Timestamp::ALWAYS, false),
            closed
        );
        assert_eq!(
            lifecycle.admit(Caller::Job, Timestamp::ALWAYS, false),
            Ok(())
        );
        lifecycle.seal(Timestamp::ALWAYS, Counts::default());
        assert_eq!(
            lifecycle.admit(Caller::Job, Timestamp::ALWAYS, false),
            closed
        );
    }

    #[test]
    fn a_cancelled_token_rejects_before_the_group_has_noticed() {
        assert_eq!(
            open().admit(Caller::External, Timestamp::ALWAYS, true),
            Err(Rejected::Cancelled)
        );
    }

    #[test]
    fn a_group_that_has_a_reason_to_stop_gets_no_other() {
        let deadline = Timestamp::ALWAYS.after(Duration::from_secs(1));
        let mut limited = Lifecycle::new(deadline);
        assert_eq!(limited.reason(Timestamp::ALWAYS, false), None);
        let exceeded = Some(StopReason::DeadlineExceeded);
        assert_eq!(limited.reason(deadline, false), exceeded);
        assert!(limited.stop(StopReason::Cancelled));
        assert_eq!(limited.reason(deadline, true), None, "the first one stays");
    }

    #[test]
    fn a_group_that_has_ended_with_nothing_pending_drops_nothing() {
        let mut ended = open();
        assert!(ended.stop(StopReason::Cancelled));
        assert_eq!(ended.drops_from(0), None);
        assert_eq!(ended.drops_from(1), Some(Timestamp::ALWAYS));
    }

    #[test]
    fn the_clock_rejects_before_the_group_has_noticed() {
        let (before, end) = (
            Timestamp::ALWAYS,
            Timestamp::ALWAYS.after(Duration::from_secs(1)),
        );
        let limited = Lifecycle::new(end);
        for caller in [Caller::Owner, Caller::External, Caller::Job] {
            assert_eq!(limited.admit(caller, before, false), Ok(()));
            let rejected = Err(Rejected::Cancelled);
            assert_eq!(limited.admit(caller, end, false), rejected);
        }
        let mut drains = open();
        drains.close_until(Closing::Drain, before, end, Counts::default());
        assert_eq!(drains.admit(Caller::Job, before, false), Ok(()));
        let closed = Err(Rejected::Closed(ClosedBy::Drain));
        assert_eq!(drains.admit(Caller::Job, end, false), closed);
    }

    #[test]
    fn a_shutdown_drops_what_is_due_after_it_in_one_turn_if_there_is_any() {
        let (now, counts) = (Timestamp::ALWAYS, Counts::default());
        for pending in [0, 1] {
            let mut ends = open();
            ends.close_until(Closing::ShutDown, now, Timestamp::NEVER, counts);
            let from = (pending > 0).then(|| now.after(Duration::from_nanos(1)));
            assert_eq!(ends.drops_from(pending), from);
            assert_eq!(ends.drops_from(1), None);
        }
    }

    #[test]
    fn the_running_jobs_are_aborted_in_one_turn_after_the_grace_or_the_drop_of_the_group() {
        let (now, counts) = (Timestamp::ALWAYS, Counts::default());
        let ends: [fn(&mut Lifecycle, Timestamp, Counts); 2] =
            [Lifecycle::end_grace, |ends, _, _| ends.group_dropped()];
        for end in ends {
            let mut ends = open();
            ends.close_until(Closing::Drain, now, now, counts);
            assert!(ends.outlasts_grace(now) && ends.may_start());
            end(&mut ends, now, counts);
            assert!(!ends.may_start() && !ends.is_aborting(), "no turn yet");
            assert_eq!(ends.drops_from(0), Some(Timestamp::ALWAYS));
            assert!(ends.is_aborting());
            ends.group_dropped();
            assert_eq!(ends.drops_from(0), None, "it is done");
            if ends.outlasts_grace(now) {
                ends.end_grace(now, counts);
            }
            assert_eq!(ends.drops_from(0), None, "it is done");
            assert!(ends.is_aborting() && !ends.outlasts_grace(now));
        }
    }

    /// A context that has read the clock before may come after it, and is rejected as by any closed group.
    #[test]
    fn the_end_of_a_grace_is_noted_also_if_the_group_was_dropped_before() {
        let (before, counts) = (Timestamp::ALWAYS, Counts::default());
        let now = before.after(Duration::from_secs(1));
        for begun in [false, true] {
            let mut ends = open();
            ends.group_dropped();
            if begun {
                ends.abort();
            }
            ends.close_until(Closing::Drain, now, now, counts);
            assert!(ends.outlasts_grace(now));
            ends.end_grace(now, counts);
            let closed = Err(Rejected::Closed(ClosedBy::Drain));
            assert_eq!(ends.admit(Caller::Job, before, false), closed);
            assert_eq!(ends.is_aborting(), begun);
        }
    }
}
