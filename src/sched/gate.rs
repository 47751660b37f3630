//! Who may come in: how a group closes, ends, and refuses.

/// Where a job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The `Group`: scheduling on it once it is closed is a mistake.
    Owner,
    /// A handle of the group, which cannot know.
    Outside,
    /// The context of a job, which is let in while the group drains.
    Inside,
}

/// How far the group is closed: by the verb of its owner that closes it furthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    Open,
    Waited,
    Draining,
    ShutDown,
}

impl Door {
    /// The verb that closed it.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Door::Open | Door::Waited => "wait",
            Door::Draining => "drain",
            Door::ShutDown => "shutdown",
        }
    }
}

/// Why no further job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Cancelled,
    DeadlineExceeded,
}

/// Why a job was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Closed(Door),
    Cancelled,
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) door: Door,
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
            door: Door::Open,
            sealed: false,
            waited: false,
            ended: None,
            drained: false,
        }
    }

    /// What was closed further stays so.
    pub(super) fn close(&mut self, door: Door) {
        self.door = self.door.max(door);
    }

    /// Closed beats cancelled: who schedules on a closed group has made a mistake either way.
    pub(super) fn admit(&self, caller: Caller, cancelled: bool) -> Result<(), Refusal> {
        let closed = match caller {
            Caller::Owner | Caller::Outside => self.door != Door::Open,
            Caller::Inside => self.sealed || (self.drained && self.door != Door::Open),
        };
        if closed {
            Err(Refusal::Closed(self.door))
        } else if cancelled || self.ended.is_some() || self.drained {
            Err(Refusal::Cancelled)
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
        use Caller::{Inside, Outside};
        let cancelled = Some(End::Cancelled);
        let table = [
            // door, ended, drained, caller, answer
            (Door::Open, None, false, Outside, Ok(())),
            (Door::Open, None, false, Inside, Ok(())),
            (
                Door::Open,
                cancelled,
                false,
                Outside,
                Err(Refusal::Cancelled),
            ),
            (Door::Open, cancelled, true, Inside, Err(Refusal::Cancelled)),
            (Door::Open, None, true, Outside, Err(Refusal::Cancelled)),
            (
                Door::Waited,
                None,
                false,
                Outside,
                Err(Refusal::Closed(Door::Waited)),
            ),
            (Door::Waited, None, false, Inside, Ok(())),
            (
                Door::Waited,
                cancelled,
                false,
                Outside,
                Err(Refusal::Closed(Door::Waited)),
            ),
            (
                Door::Waited,
                cancelled,
                false,
                Inside,
                Err(Refusal::Cancelled),
            ),
            (
                Door::Waited,
                None,
                true,
                Inside,
                Err(Refusal::Closed(Door::Waited)),
            ),
            (
                Door::ShutDown,
                None,
                false,
                Outside,
                Err(Refusal::Closed(Door::ShutDown)),
            ),
            (
                Door::ShutDown,
                None,
                false,
                Inside,
                Err(Refusal::Closed(Door::ShutDown)),
            ),
        ];
        for (door, ended, drained, caller, answer) in table {
            let gate = Gate {
                door,
                sealed: door == Door::ShutDown,
                waited: false,
                ended,
                drained,
            };
            assert_eq!(gate.admit(caller, false), answer, "{gate:?} {caller:?}");
            if caller == Outside {
                assert_eq!(gate.admit(Caller::Owner, false), answer, "{gate:?}");
            }
        }
    }

    #[test]
    fn a_drain_admits_jobs_until_it_is_sealed() {
        let mut gate = Gate::new();
        gate.close(Door::Draining);
        gate.close(Door::Waited);
        let closed = Err(Refusal::Closed(Door::Draining));
        assert_eq!(gate.admit(Caller::Outside, false), closed);
        assert_eq!(gate.admit(Caller::Inside, false), Ok(()));
        gate.sealed = true;
        assert_eq!(gate.admit(Caller::Inside, false), closed);
    }

    #[test]
    fn a_cancelled_token_refuses_before_the_group_has_noticed() {
        assert_eq!(
            Gate::new().admit(Caller::Outside, true),
            Err(Refusal::Cancelled)
        );
    }
}
