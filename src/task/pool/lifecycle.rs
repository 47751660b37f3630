//! How far a group is closed, and which callers it still admits.
//!
//! ```text
//!         wait, drain              the last task or member has ended
//! Open ───────────────▶ Draining ───────────────────────────────────▶ Drained
//!   │                       │ shutdown, or the grace is over              ▲
//!   │ shutdown              ▼                                             │
//!   └──────────────────▶ ShutDown ────────────────────────────────────────┘
//!
//! Open, Draining ── the owner is dropped ──▶ Dropped
//! ```
//!
//! A group changes to a later phase and never back. A question and the change that follows from it happen under one hold
//! of the pool's lock, so a task that is spawned concurrently with `wait` is waited for or rejected, never lost.
//!
//! `stopping` is independent of the phase: a failure, the deadline, the end of a grace, the drop of the owner or the end
//! of the runtime sets it, and a cancelled token has the same effect. A group that is stopping still drains only when it
//! is closed.

use tokio::time::Instant;

use crate::common::closing::Closing;
use crate::common::schedule_error::ScheduleError;

#[derive(Debug)]
pub(super) struct Lifecycle {
    phase: Phase,
    /// The method that closed the group first, for the message of misuse.
    closed_by: &'static str,
    /// Nothing queued starts any more. It is set under the lock under which a failure is recorded; the token is
    /// cancelled only after that lock, and no queued task is to start in between.
    stopping: bool,
    /// Guards that keep the group open without a task. The end of a grace and the drop of the owner take it to zero,
    /// and none joins after them: so a member that is alive and finds zero is not waited for any more.
    members: usize,
    /// The instant at which running tasks are aborted, until that is done.
    grace_ends: Option<Instant>,
    /// A future of `wait` is alive or has resolved. One that is dropped before it has resolved resets it.
    wait_taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The owner is rejected, its handles are not.
    Draining,
    /// Both are rejected; what is held runs until the grace is over.
    ShutDown,
    /// It was closed, and its last task or member has ended. No later event changes what `wait` returns.
    Drained,
    /// The owner was dropped, so no `wait` can come. The group is stopping, too.
    Dropped,
}

/// The caller that spawns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The group itself: after its own `wait` that is misuse.
    Owner,
    /// A handle, which lives in other tasks: there the end of the group is no mistake.
    Handle,
}

/// The reason why a task was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Closed,
    Cancelled,
}

impl Rejected {
    pub(super) fn with<F>(self, task: F) -> ScheduleError<F> {
        match self {
            Rejected::Closed => ScheduleError::Closed(task),
            Rejected::Cancelled => ScheduleError::Cancelled(task),
        }
    }
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        Lifecycle {
            phase: Phase::Open,
            closed_by: "wait",
            stopping: false,
            members: 0,
            grace_ends: None,
            wait_taken: false,
        }
    }

    pub(super) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Rejected> {
        match (self.phase, caller) {
            (Phase::Drained | Phase::ShutDown, _) | (Phase::Draining, Caller::Owner) => {
                Err(Rejected::Closed)
            }
            _ if self.stopping || cancelled => Err(Rejected::Cancelled),
            _ => Ok(()),
        }
    }

    /// Adds a member. Returns `false` if it is rejected. A cancelled group may still be joined: `wait` waits for the
    /// member. Without an owner no `wait` can come.
    pub(super) fn join(&mut self, caller: Caller) -> bool {
        let is_closed = self.admit(caller, false) == Err(Rejected::Closed);
        let joins = !is_closed && self.phase != Phase::Dropped;
        self.members += usize::from(joins);
        joins
    }

    /// Removes a member. Returns `false` if it is not waited for any more.
    pub(super) fn leave(&mut self) -> bool {
        let counts = self.waits_for_members();
        self.members -= usize::from(counts);
        counts
    }

    pub(super) fn closed_by(&self) -> &'static str {
        self.closed_by
    }

    fn close(&mut self, method: &'static str, phase: Phase) {
        if self.phase == Phase::Open {
            self.closed_by = method;
        }
        if matches!(
            (self.phase, phase),
            (Phase::Open, _) | (Phase::Draining, Phase::ShutDown)
        ) {
            self.phase = phase;
        }
    }

    /// Closes the group for `wait` or `wait_all`. Returns `false` if a future of either is alive already, or has
    /// resolved.
    pub(super) fn close_to_wait(&mut self, method: &'static str) -> bool {
        let admitted = !std::mem::replace(&mut self.wait_taken, true);
        if admitted {
            self.close(method, Phase::Draining);
        }
        admitted
    }

    /// Admits another `wait`, since the future of this one is dropped before it has resolved.
    pub(super) fn give_up_wait(&mut self) {
        self.wait_taken = false;
    }

    /// Begins a drain or a shutdown. Returns `true` if the caller has to end the grace at `end`: the earliest end
    /// of several holds.
    pub(super) fn close_until(&mut self, closing: Closing, end: Instant) -> bool {
        match closing {
            Closing::Drain => self.close("drain", Phase::Draining),
            Closing::ShutDown => self.close("shutdown", Phase::ShutDown),
        }
        let earlier = self.grace_ends.is_none_or(|before| end < before);
        if earlier {
            self.grace_ends = Some(end);
        }
        earlier
    }

    /// Returns whether the grace is over and was not ended.
    pub(super) fn is_overdue(&self) -> bool {
        self.grace_ends.is_some_and(|end| end <= Instant::now())
    }

    /// Ends the grace. Returns the number of members that are not waited for any more; `None` if there is nothing left
    /// to end.
    pub(super) fn end_grace(&mut self) -> Option<usize> {
        self.grace_ends = None;
        if matches!(self.phase, Phase::Drained | Phase::Dropped) {
            return None;
        }
        self.phase = Phase::ShutDown;
        self.stopping = true;
        Some(std::mem::take(&mut self.members))
    }

    /// Stops the group for its deadline. Returns `false` if it was stopping before, or has drained.
    pub(super) fn expire(&mut self) -> bool {
        self.phase != Phase::Drained && self.stop()
    }

    /// Stops the group: nothing more starts. Returns `false` if that was so before.
    pub(super) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.stopping, true)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Notes that the owner was dropped. A group that is closed to all stays so.
    pub(super) fn drop_owner(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Draining) {
            self.phase = Phase::Dropped;
        }
        self.stopping = true;
        self.members = 0;
    }

    /// Ends a closed group that has no task, if no member is left. Returns `true` once.
    pub(super) fn try_drain(&mut self) -> bool {
        // Not an open one, whose owner may spawn more, nor a dropped one, which nothing waits for.
        let drains = matches!(self.phase, Phase::Draining | Phase::ShutDown) && self.members == 0;
        if drains {
            self.phase = Phase::Drained;
        }
        drains
    }

    pub(super) fn is_drained(&self) -> bool {
        self.phase == Phase::Drained
    }

    /// Returns, to a member that is alive, whether it is still waited for.
    pub(super) fn waits_for_members(&self) -> bool {
        self.members > 0
    }
}

#[cfg(test)]
mod tests {
    use Caller::{Handle, Owner};

    use super::*;

    fn open() -> Lifecycle {
        Lifecycle::new()
    }

    fn draining() -> Lifecycle {
        let mut draining = open();
        assert!(draining.close_to_wait("wait"));
        draining
    }

    #[test]
    fn who_is_admitted_depends_on_the_phase_the_caller_and_a_cancel() {
        let now = Instant::now();
        let [
            mut drained,
            mut drain,
            mut shut_down,
            mut late,
            mut dropped,
            mut shut_down_and_dropped,
        ] = [(); 6].map(|()| open());
        drained.close_to_wait("wait");
        assert!(drained.try_drain());
        drain.close_until(Closing::Drain, now);
        shut_down.close_until(Closing::ShutDown, now);
        late.close_until(Closing::Drain, now);
        late.end_grace();
        dropped.drop_owner();
        shut_down_and_dropped.close_until(Closing::ShutDown, now);
        shut_down_and_dropped.drop_owner();
        let (closed, cancelled) = (Err(Rejected::Closed), Err(Rejected::Cancelled));
        let table = [
            // phase, caller, answer, answer when cancelled
            (&open(), Owner, Ok(()), cancelled),
            (&open(), Handle, Ok(()), cancelled),
            (&draining(), Owner, closed, closed),
            (&draining(), Handle, Ok(()), cancelled),
            (&drain, Owner, closed, closed),
            (&drain, Handle, Ok(()), cancelled),
            (&shut_down, Owner, closed, closed),
            (&shut_down, Handle, closed, closed),
            (&late, Handle, closed, closed),
            (&drained, Owner, closed, closed),
            (&drained, Handle, closed, closed),
            (&dropped, Handle, cancelled, cancelled),
            (&shut_down_and_dropped, Handle, closed, closed),
        ];
        for (lifecycle, caller, answer, when_cancelled) in table {
            let answers = [false, true].map(|cancelled| lifecycle.admit(caller, cancelled));
            assert_eq!(
                answers,
                [answer, when_cancelled],
                "{lifecycle:?} {caller:?}"
            );
        }
    }

    #[test]
    fn what_stops_rejects_before_its_token_is_cancelled() {
        let mut lifecycle = open();
        assert!(!lifecycle.is_stopping());
        assert!(lifecycle.stop(), "once");
        assert!(!lifecycle.stop(), "once");
        assert_eq!(lifecycle.admit(Owner, false), Err(Rejected::Cancelled));
        assert!(lifecycle.join(Owner), "a member may still come");
    }

    #[test]
    fn it_is_drained_once_it_is_closed_and_the_last_member_has_left() {
        let mut lifecycle = open();
        assert!(lifecycle.join(Owner), "open");
        assert!(!lifecycle.try_drain(), "open");
        assert!(lifecycle.close_to_wait("wait"), "a member is there");
        assert!(!lifecycle.try_drain(), "a member is there");
        assert!(lifecycle.leave());
        assert!(lifecycle.try_drain());
        assert!(!lifecycle.try_drain(), "it was drained before");
        assert!(!lifecycle.join(Handle));
    }

    #[test]
    fn a_member_that_is_there_when_the_grace_is_over_is_not_waited_for() {
        let mut lifecycle = open();
        assert!(lifecycle.join(Owner));
        assert!(lifecycle.close_until(Closing::Drain, Instant::now()));
        assert!(lifecycle.join(Handle));
        assert!(!lifecycle.try_drain());
        assert!(lifecycle.waits_for_members());
        assert_eq!(lifecycle.end_grace(), Some(2));
        assert!(lifecycle.is_stopping());
        assert!(!lifecycle.is_overdue(), "it was ended");
        assert_eq!(lifecycle.end_grace(), Some(0));
        assert!(!lifecycle.is_drained());
        assert!(!lifecycle.waits_for_members());
        assert!(lifecycle.try_drain());
        assert!(!lifecycle.leave());
    }

    #[test]
    fn a_group_whose_owner_is_dropped_waits_for_no_member() {
        let mut lifecycle = open();
        assert!(lifecycle.join(Owner));
        lifecycle.drop_owner();
        assert!(!lifecycle.join(Handle));
        assert!(!lifecycle.waits_for_members());
    }

    #[test]
    fn the_earliest_end_of_grace_holds() {
        let (mut lifecycle, now) = (open(), Instant::now());
        let later = now + std::time::Duration::from_secs(1);
        assert!(lifecycle.close_until(Closing::Drain, later));
        assert!(!lifecycle.close_until(Closing::ShutDown, later));
        assert!(lifecycle.close_until(Closing::Drain, now));
        assert_eq!(lifecycle.closed_by(), "drain");
        assert_eq!(lifecycle.admit(Handle, false), Err(Rejected::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_is_over_at_its_very_end() {
        let (mut lifecycle, now) = (open(), Instant::now());
        let later = now + std::time::Duration::from_nanos(1);
        assert!(lifecycle.close_until(Closing::Drain, later));
        assert!(!lifecycle.is_overdue());
        assert!(lifecycle.close_until(Closing::Drain, now));
        assert!(lifecycle.is_overdue());
    }

    #[test]
    fn one_wait_is_alive_at_a_time_and_none_comes_after_it_was_drained() {
        let mut lifecycle = draining();
        assert!(!lifecycle.close_to_wait("wait"));
        lifecycle.give_up_wait();
        assert_eq!(lifecycle.admit(Owner, false), Err(Rejected::Closed));
        assert!(lifecycle.close_to_wait("wait"));
        assert!(lifecycle.try_drain());
        assert!(!lifecycle.close_to_wait("wait"));
    }

    #[test]
    fn a_deadline_ends_a_group_once_and_only_one_that_is_left() {
        let mut lifecycle = open();
        assert!(lifecycle.expire());
        assert!(lifecycle.is_stopping());
        assert!(!lifecycle.expire());
        let mut drained = draining();
        assert!(drained.try_drain());
        assert!(!drained.expire());
    }
}
