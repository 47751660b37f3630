//! What was asked of claimed and running jobs.

use std::collections::BTreeMap;

use crate::common::time::Timestamp;
use crate::sched::job::JobId;

/// What was asked of a claimed or running job. It is looked at when the run ends, and at its first await.
#[derive(Default)]
pub(super) struct RunControl {
    /// Stop at the next await; no run after this one.
    pub(super) abort: bool,
    /// A cancel has returned `true`, so there is no run after this one.
    pub(super) cancelled: bool,
    /// Run again at this instant at the latest.
    pub(super) again: Option<Timestamp>,
    /// The number of the job and that of the run, for a series.
    pub(super) run: Option<(JobId, u64)>,
}

impl RunControl {
    pub(super) fn is_last_run(&self) -> bool {
        self.abort || self.cancelled
    }
}

/// The controls of the runs that have any, by the slot of the job.
///
/// Each run of a series but the first has some. One run has a place outside of the map, since series that are due one
/// after another run one at a time.
#[derive(Default)]
pub(super) struct Controls {
    one: Option<(u32, RunControl)>,
    others: BTreeMap<u32, RunControl>,
}

impl Controls {
    pub(super) fn get(&self, slot: u32) -> Option<&RunControl> {
        match &self.one {
            Some((one, control)) if *one == slot => Some(control),
            _ => self.others.get(&slot),
        }
    }

    pub(super) fn get_or_insert(&mut self, slot: u32) -> &mut RunControl {
        if self.one.is_none() && !self.others.contains_key(&slot) {
            self.one = Some((slot, RunControl::default()));
        }
        match &mut self.one {
            Some((one, control)) if *one == slot => control,
            _ => self.others.entry(slot).or_default(),
        }
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<RunControl> {
        match self.one.take_if(|(one, _)| *one == slot) {
            Some((_, control)) => Some(control),
            None => self.others.remove(&slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_own_in_whatever_order_they_end() {
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut controls = Controls::default();
            let run = |slot| Some((JobId(u64::from(slot)), 7));
            for slot in 0..3 {
                controls.get_or_insert(slot).run = run(slot);
            }
            for slot in order {
                assert_eq!(controls.get_or_insert(slot).run, run(slot));
                assert_eq!(
                    controls.get(slot).and_then(|control| control.run),
                    run(slot)
                );
                assert_eq!(
                    controls.remove(slot).and_then(|control| control.run),
                    run(slot)
                );
                assert!(controls.get(slot).is_none() && controls.remove(slot).is_none());
                // Now the place of the one is free, or not, while others have theirs in the map.
                assert!(controls.get_or_insert(9).run.is_none());
                assert!(controls.remove(9).is_some());
            }
        }
    }
}
