//! Who may come into a pool, how it closes and stops, and who waits for its end.

use std::task::Waker;

use super::policy::Asker;
use super::refusal::SpawnError;

/// How far a pool is open. It only ever goes on to a later stage.
#[derive(Debug)]
pub(super) struct Gate {
    stage: Stage,
    /// Set in the step that records a failure, so that no parked task slips in before the token is
    /// cancelled.
    stopping: bool,
    /// Guards that hold the pool open without a task.
    members: usize,
    waiter: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// `wait` was called.
    Draining,
    Drained,
    /// The owner is gone; it is stopping, too.
    Dropped,
}

/// Why a task was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Closed,
    Cancelled,
}

impl Refused {
    pub(super) fn with<F>(self, task: F) -> SpawnError<F> {
        match self {
            Refused::Closed => SpawnError::Closed(task),
            Refused::Cancelled => SpawnError::Cancelled(task),
        }
    }
}

impl Gate {
    pub(super) fn new() -> Gate {
        Gate {
            stage: Stage::Open,
            stopping: false,
            members: 0,
            waiter: None,
        }
    }

    pub(super) fn admit(&self, asker: Asker, cancelled: bool) -> Result<(), Refused> {
        match (self.stage, asker) {
            (Stage::Drained, _) | (Stage::Draining, Asker::Owner) => Err(Refused::Closed),
            _ if self.stopping || cancelled => Err(Refused::Cancelled),
            _ => Ok(()),
        }
    }

    /// A guard comes. A cancelled pool may still be joined: the guard holds `wait` up, and learns of it.
    pub(super) fn join(&mut self, asker: Asker) -> Result<(), Refused> {
        match self.admit(asker, false) {
            Err(Refused::Closed) => Err(Refused::Closed),
            _ => {
                self.members += 1;
                Ok(())
            }
        }
    }

    pub(super) fn leave(&mut self) {
        self.members -= 1;
    }

    /// Nothing more starts.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// `wait` was called; false for the second call.
    pub(super) fn close(&mut self) -> bool {
        let first = self.stage == Stage::Open;
        if first {
            self.stage = Stage::Draining;
        }
        first
    }

    /// The owner is gone.
    pub(super) fn abandon(&mut self) {
        self.stage = Stage::Dropped;
        self.stop();
    }

    /// The pool has no task: the waiter, if there is nothing else to wait for.
    pub(super) fn drain(&mut self) -> Option<Waker> {
        if self.stage == Stage::Draining && self.members == 0 {
            self.stage = Stage::Drained;
        }
        self.is_drained().then(|| self.waiter.take()).flatten()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.stage == Stage::Drained
    }

    /// Wakes `waiter` at the end; the one before comes back.
    pub(super) fn listen(&mut self, waiter: Waker) -> Option<Waker> {
        self.waiter.replace(waiter)
    }
}

#[cfg(test)]
mod tests {
    use Asker::{Handle, Owner};

    use super::*;

    #[test]
    fn the_table_of_admission() {
        let (open, mut draining, mut drained) = (Gate::new(), Gate::new(), Gate::new());
        draining.close();
        drained.close();
        drained.drain();
        let mut dropped = Gate::new();
        dropped.abandon();
        let (closed, cancelled) = (Err(Refused::Closed), Err(Refused::Cancelled));
        let table = [
            // gate, asker, answer, answer when cancelled
            (&open, Owner, Ok(()), cancelled),
            (&open, Handle, Ok(()), cancelled),
            (&draining, Owner, closed, closed),
            (&draining, Handle, Ok(()), cancelled),
            (&drained, Owner, closed, closed),
            (&drained, Handle, closed, closed),
            (&dropped, Handle, cancelled, cancelled),
        ];
        for (gate, asker, answer, when_cancelled) in table {
            assert_eq!(gate.admit(asker, false), answer, "{gate:?} {asker:?}");
            assert_eq!(
                gate.admit(asker, true),
                when_cancelled,
                "{gate:?} {asker:?}"
            );
        }
    }

    #[test]
    fn a_pool_that_stops_refuses_before_its_token_is_cancelled() {
        let mut gate = Gate::new();
        assert!(!gate.is_stopping());
        gate.stop();
        assert!(gate.is_stopping());
        assert_eq!(gate.admit(Owner, false), Err(Refused::Cancelled));
        assert_eq!(gate.join(Owner), Ok(()), "a guard may still come");
    }

    #[test]
    fn it_is_drained_once_it_is_closed_and_the_last_guard_has_left() {
        let mut gate = Gate::new();
        gate.join(Owner).unwrap();
        gate.listen(Waker::noop().clone());
        assert!(gate.drain().is_none(), "open");
        assert!(gate.close() && !gate.close());
        assert!(gate.drain().is_none(), "a guard is there");
        gate.leave();
        assert!(gate.drain().is_some() && gate.is_drained());
        assert_eq!(gate.join(Handle), Err(Refused::Closed));
    }
}
