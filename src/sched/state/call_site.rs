//! The call sites of jobs, in three bytes per job.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::Location;

type Site = &'static Location<'static>;

/// The kind of a job: how often it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum JobKind {
    Once,
    /// It runs until it says that it is done.
    Series,
    /// The same; but after `wait` was called it runs at most once more, at once, and says then that it is done if it had
    /// nothing to run.
    UntilWait,
    /// It runs once, in several steps: looks at a clock before the run, or the attempts of a retry. As long as a step
    /// asks for another one, the job has not finished.
    InSteps,
}

/// The call site that scheduled a job, and the job's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) struct CallSite([u8; 3]);

/// The kind is above the bits of the call site's number.
const NUMBER: u32 = (1 << 22) - 1;
const SERIES: u32 = 1 << 22;
const UNTIL_WAIT: u32 = 2 << 22;
const IN_STEPS: u32 = 3 << 22;

impl CallSite {
    fn new(number: u32, kind: JobKind) -> CallSite {
        let kind = match kind {
            JobKind::Once => 0,
            JobKind::Series => SERIES,
            JobKind::UntilWait => UNTIL_WAIT,
            JobKind::InSteps => IN_STEPS,
        };
        let [a, b, c, _] = (number | kind).to_le_bytes();
        CallSite([a, b, c])
    }

    fn bits(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0])
    }

    /// Returns whether a run may ask for another one, which is the next of a series or a further step.
    pub(super) fn may_run_again(self) -> bool {
        self.bits() > NUMBER
    }

    pub(super) fn ends_with_wait(self) -> bool {
        self.bits() & !NUMBER == UNTIL_WAIT
    }

    /// Returns whether a run of the job is only a step of it.
    pub(super) fn is_in_steps(self) -> bool {
        self.bits() & !NUMBER == IN_STEPS
    }
}

/// The call sites that have scheduled jobs of one group, by number. There are few of them, and a number is smaller than
/// an address.
#[derive(Debug, Default)]
pub(super) struct CallSites {
    sites: Vec<Site>,
    /// The numbers, by address. A call site that has several addresses gets several numbers.
    numbers: HashMap<usize, u32, BuildHasherDefault<DefaultHasher>>,
    /// The last address and its number, since a loop schedules its jobs from one call site.
    last: (usize, u32),
}

impl CallSites {
    #[inline]
    pub(super) fn call_site(&mut self, site: Site, kind: JobKind) -> CallSite {
        let address = std::ptr::from_ref(site) as usize;
        if self.last.0 != address {
            self.last = (address, self.number(address, site));
        }
        CallSite::new(self.last.1, kind)
    }

    fn number(&mut self, address: usize, site: Site) -> u32 {
        *self.numbers.entry(address).or_insert_with(|| {
            self.sites.push(site);
            u32::try_from(self.sites.len() - 1)
                .ok()
                .filter(|&number| number <= NUMBER)
                .expect("schedgroup: jobs of one group from more than four million places")
        })
    }

    pub(super) fn site(&self, call_site: CallSite) -> Site {
        self.sites[(call_site.bits() & NUMBER) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn here() -> Site {
        Location::caller()
    }

    #[test]
    fn a_call_site_tells_its_location_and_its_kind() {
        let mut call_sites = CallSites::default();
        let sites = [here(), here()];
        for round in 0..2 {
            for (number, site) in sites.into_iter().enumerate() {
                for kind in [
                    JobKind::Once,
                    JobKind::Series,
                    JobKind::UntilWait,
                    JobKind::InSteps,
                ] {
                    let call_site = call_sites.call_site(site, kind);
                    assert_eq!(
                        call_site,
                        CallSite::new(number as u32, kind),
                        "round {round}"
                    );
                    assert_eq!(call_sites.site(call_site), site);
                    assert_eq!(call_site.may_run_again(), kind != JobKind::Once);
                    assert_eq!(call_site.ends_with_wait(), kind == JobKind::UntilWait);
                    assert_eq!(call_site.is_in_steps(), kind == JobKind::InSteps);
                }
            }
        }
        assert_eq!(call_sites.sites.len(), 2);
    }

    #[test]
    fn the_last_number_fits() {
        let call_site = CallSite::new(NUMBER, JobKind::InSteps);
        assert_eq!(call_site.bits(), (1 << 24) - 1);
    }
}
