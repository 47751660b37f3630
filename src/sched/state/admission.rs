//! Who may come in: how a group closes, ends, and refuses.

/// Where a job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Caller {
    /// The `Group`: scheduling on it once it is closed is a mistake.
    Owner,
    /// A handle of the group, which cannot know.
    External,
    /// The context of a job, which is let in while the group drains.
    Job,
}

/// How far the group is closed: by the verb of its owner that closes it furthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) enum Phase {
    Open,
    Waited,
    Draining,
    ShutDown,
}

impl Phase {
    /// The verb that closed it.
    pub(in crate::sched) fn verb(self) -> &'static str {
        match self {
            Phase::Open | Phase::Waited => "wait",
            Phase::Draining => "drain",
            Phase::ShutDown => "shutdown",
        }
    }
}

/// Why no further job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum End {
    Cancelled,
    DeadlineExceeded,
}

/// Why a job was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Rejected {
    Closed(Phase),
    Cancelled,
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) door: Phase,
    /// It is closed to jobs too: shut down, or the grace of a drain is over.
    pub(super) sealed: bool,
    /// A `Wait` is on its way or has ended.
    pub(super) waited: bool,
    /// The first reason stays.
    pub(super) ended: Option<End>,
    /// Closed or ended, and nothing is held any more. Final.
    pub(super) drained: bool,
}

impl Gate {
    pub(super) fn new() -> Gate {
        Gate {
            door: Phase::Open,
            sealed: false,
            waited: false,
            ended: None,
            drained: false,
        }
    }

    /// What was closed further stays so.
    pub(super) fn close(&mut self, door: Phase) {
        self.door = self.door.max(door);
    }

    /// Closed beats cancelled: who schedules on a closed group has made a mistake either way.
    pub(super) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Rejected> {
        let closed = match caller {
            Caller::Owner | Caller::External => self.door != Phase::Open,
            Caller::Job => self.sealed || (self.drained && self.door != Phase::Open),
        };
        if closed {
            Err(Rejected::Closed(self.door))
        } else if cancelled || self.ended.is_some() || self.drained {
            Err(Rejected::Cancelled)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_admission() {
        use Caller::{External, Job};
        let cancelled = Some(End::Cancelled);
        let table = [
            // door, ended, drained, caller, answer
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
        for (door, ended, drained, caller, answer) in table {
            let gate = Gate {
                door,
                sealed: door == Phase::ShutDown,
                waited: false,
                ended,
                drained,
            };
            assert_eq!(gate.admit(caller, false), answer, "{gate:?} {caller:?}");
            if caller == External {
                assert_eq!(gate.admit(Caller::Owner, false), answer, "{gate:?}");
            }
        }
    }

    #[test]
    fn a_drain_admits_jobs_until_it_is_sealed() {
        let mut gate = Gate::new();
        gate.close(Phase::Draining);
        gate.close(Phase::Waited);
        let closed = Err(Rejected::Closed(Phase::Draining));
        assert_eq!(gate.admit(Caller::External, false), closed);
        assert_eq!(gate.admit(Caller::Job, false), Ok(()));
        gate.sealed = true;
        assert_eq!(gate.admit(Caller::Job, false), closed);
    }

    #[test]
    fn a_cancelled_token_refuses_before_the_group_has_noticed() {
        assert_eq!(
            Gate::new().admit(Caller::External, true),
            Err(Rejected::Cancelled)
        );
    }
}
