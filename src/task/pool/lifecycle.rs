//! Who may come into a pool, how it closes and stops, and who waits for its end.

use std::task::Waker;

use crate::task::policy::Caller;
use crate::task::refusal::SpawnError;

/// How far a pool is open. It only ever goes on to a later stage.
#[derive(Debug)]
pub(super) struct Lifecycle {
    stage: Stage,
    /// Set in the step that records a failure, so that no parked task slips in before the token is
    /// cancelled.
    stopping: bool,
    /// Guards that hold the pool open without a task.
    members: usize,
    wait: Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// `wait` was called.
    Draining,
    /// Nothing that comes later changes what `wait` says.
    Drained {
        /// A task was skipped or aborted by then.
        lost: bool,
    },
    /// The owner is gone; it is stopping, too.
    Dropped,
}

/// The one `wait` of a pool, which may be called again if its future was dropped before it ended.
#[derive(Debug)]
enum Wait {
    /// It may be called.
    Free,
    /// Its future is alive, and is woken when the pool has drained.
    Alive(Option<Waker>),
    /// Its future has ended.
    Over,
}

/// Why a task was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Closed,
    Cancelled,
}

impl Rejected {
    pub(super) fn with<F>(self, task: F) -> SpawnError<F> {
        match self {
            Rejected::Closed => SpawnError::Closed(task),
            Rejected::Cancelled => SpawnError::Cancelled(task),
        }
    }
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        Lifecycle {
            stage: Stage::Open,
            stopping: false,
            members: 0,
            wait: Wait::Free,
        }
    }

    pub(super) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Rejected> {
        match (self.stage, caller) {
            (Stage::Drained { .. }, _) | (Stage::Draining, Caller::Owner) => Err(Rejected::Closed),
            _ if self.stopping || cancelled => Err(Rejected::Cancelled),
            _ => Ok(()),
        }
    }

    /// A guard comes. A cancelled pool may still be joined: the guard holds `wait` up, and learns of it.
    pub(super) fn join(&mut self, caller: Caller) -> Result<(), Rejected> {
        match self.admit(caller, false) {
            Err(Rejected::Closed) => Err(Rejected::Closed),
            _ => {
                self.members += 1;
                Ok(())
            }
        }
    }

    pub(super) fn leave(&mut self) {
        self.members -= 1;
    }

    /// Nothing more starts; false if that was so before.
    pub(super) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.stopping, true)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// `wait` is called; false if its future is alive already, or has ended.
    pub(super) fn close(&mut self) -> bool {
        if !matches!(self.wait, Wait::Free) {
            return false;
        }
        self.wait = Wait::Alive(None);
        if self.stage == Stage::Open {
            self.stage = Stage::Draining;
        }
        true
    }

    /// The owner is gone.
    pub(super) fn abandon(&mut self) {
        self.stage = Stage::Dropped;
        self.stop();
    }

    /// The pool has no task, and has or has not lost one: the waiter, if there is nothing else to wait for.
    pub(super) fn drain(&mut self, lost: bool) -> Option<Waker> {
        if self.stage == Stage::Draining && self.members == 0 {
            self.stage = Stage::Drained { lost };
        }
        match (self.stage, &mut self.wait) {
            (Stage::Drained { .. }, Wait::Alive(waiter)) => waiter.take(),
            _ => None,
        }
    }

    /// The end of `wait`, if the pool has drained: was a task lost?
    pub(super) fn answer(&mut self) -> Option<bool> {
        let Stage::Drained { lost } = self.stage else {
            return None;
        };
        self.wait = Wait::Over;
        Some(lost)
    }

    /// Wakes `waiter` at the end; the one before comes back.
    pub(super) fn listen(&mut self, waiter: Waker) -> Option<Waker> {
        match &mut self.wait {
            Wait::Alive(former) => former.replace(waiter),
            Wait::Free | Wait::Over => Some(waiter),
        }
    }

    /// The future of `wait` is dropped before its end: its waker comes back.
    pub(super) fn stop_waiting(&mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.wait, Wait::Free) {
            Wait::Alive(waiter) => waiter,
            Wait::Free | Wait::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use Caller::{Handle, Owner};

    use super::*;

    #[test]
    fn the_table_of_admission() {
        let (open, mut draining, mut drained) =
            (Lifecycle::new(), Lifecycle::new(), Lifecycle::new());
        draining.close();
        drained.close();
        drained.drain(false);
        let mut dropped = Lifecycle::new();
        dropped.abandon();
        let (closed, cancelled) = (Err(Rejected::Closed), Err(Rejected::Cancelled));
        let table = [
            // lifecycle, caller, answer, answer when cancelled
            (&open, Owner, Ok(()), cancelled),
            (&open, Handle, Ok(()), cancelled),
            (&draining, Owner, closed, closed),
            (&draining, Handle, Ok(()), cancelled),
            (&drained, Owner, closed, closed),
            (&drained, Handle, closed, closed),
            (&dropped, Handle, cancelled, cancelled),
        ];
        for (lifecycle, caller, answer, when_cancelled) in table {
            assert_eq!(
                lifecycle.admit(caller, false),
                answer,
                "{lifecycle:?} {caller:?}"
            );
            assert_eq!(
                lifecycle.admit(caller, true),
                when_cancelled,
                "{lifecycle:?} {caller:?}"
            );
        }
    }

    #[test]
    fn a_pool_that_stops_refuses_before_its_token_is_cancelled() {
        let mut lifecycle = Lifecycle::new();
        assert!(!lifecycle.is_stopping());
        assert!(lifecycle.stop() && !lifecycle.stop(), "once");
        assert!(lifecycle.is_stopping());
        assert_eq!(lifecycle.admit(Owner, false), Err(Rejected::Cancelled));
        assert_eq!(lifecycle.join(Owner), Ok(()), "a guard may still come");
    }

    #[test]
    fn it_is_drained_once_it_is_closed_and_the_last_guard_has_left() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.join(Owner).unwrap();
        assert!(
            lifecycle.drain(false).is_none() && lifecycle.answer().is_none(),
            "open"
        );
        assert!(lifecycle.close());
        assert!(lifecycle.listen(Waker::noop().clone()).is_none());
        assert!(
            lifecycle.drain(false).is_none() && lifecycle.answer().is_none(),
            "a guard is there"
        );
        lifecycle.leave();
        assert!(lifecycle.drain(true).is_some());
        assert!(lifecycle.drain(false).is_none(), "it was drained before");
        assert_eq!(lifecycle.join(Handle), Err(Rejected::Closed));
        assert_eq!(lifecycle.answer(), Some(true));
    }

    #[test]
    fn one_wait_is_alive_at_a_time_and_none_comes_after_its_end() {
        let mut lifecycle = Lifecycle::new();
        assert!(lifecycle.close() && !lifecycle.close());
        assert!(lifecycle.listen(Waker::noop().clone()).is_none());
        assert!(
            lifecycle.stop_waiting().is_some(),
            "it takes its waker along"
        );
        assert_eq!(lifecycle.admit(Owner, false), Err(Rejected::Closed));
        assert!(lifecycle.drain(false).is_none(), "nobody waits");
        assert!(lifecycle.close() && lifecycle.answer() == Some(false));
        assert!(!lifecycle.close());
    }
}
