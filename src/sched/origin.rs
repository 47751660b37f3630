//! Where jobs come from, in three bytes each.

use std::collections::HashMap;
use std::panic::Location;

type Site = &'static Location<'static>;

/// How often a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Once,
    /// Until it says that it is done.
    Series,
    /// The same; and a `wait` makes it look at once, after which it does not run again.
    UntilWait,
}

/// Which place in the program scheduled a job, and how often the job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin([u8; 3]);

/// The bits above those of a place's number.
const SERIES: u32 = 1 << 23;
const UNTIL_WAIT: u32 = 1 << 22;

impl Origin {
    fn new(number: u32, course: Course) -> Origin {
        let course = match course {
            Course::Once => 0,
            Course::Series => SERIES,
            Course::UntilWait => SERIES | UNTIL_WAIT,
        };
        let [a, b, c, _] = (number | course).to_le_bytes();
        Origin([a, b, c])
    }

    fn bits(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0])
    }

    pub(super) fn is_series(self) -> bool {
        self.bits() & SERIES != 0
    }

    pub(super) fn ends_with_wait(self) -> bool {
        self.bits() & UNTIL_WAIT != 0
    }
}

/// The places that have scheduled jobs of one group: there are few, and a number is smaller than an
/// address.
#[derive(Debug, Default)]
pub(super) struct Origins {
    sites: Vec<Site>,
    /// Numbers by address. A place that has several addresses gets several numbers.
    numbers: HashMap<usize, u32>,
    /// The last place that was asked for: most jobs of a loop come from one.
    last: (usize, u32),
}

impl Origins {
    pub(super) fn origin(&mut self, site: Site, course: Course) -> Origin {
        let address = std::ptr::from_ref(site) as usize;
        if self.last.0 != address {
            self.last = (address, self.number(address, site));
        }
        Origin::new(self.last.1, course)
    }

    fn number(&mut self, address: usize, site: Site) -> u32 {
        *self.numbers.entry(address).or_insert_with(|| {
            self.sites.push(site);
            u32::try_from(self.sites.len() - 1)
                .ok()
                .filter(|&number| number < UNTIL_WAIT)
                .expect("schedgroup: jobs of one group from more than four million places")
        })
    }

    pub(super) fn site(&self, origin: Origin) -> Site {
        self.sites[(origin.bits() & (UNTIL_WAIT - 1)) as usize]
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
    fn an_origin_tells_its_place_and_its_course() {
        let mut origins = Origins::default();
        let sites = [here(), here()];
        for round in 0..2 {
            for (number, site) in sites.into_iter().enumerate() {
                for course in [Course::Once, Course::Series, Course::UntilWait] {
                    let origin = origins.origin(site, course);
                    assert_eq!(origin, Origin::new(number as u32, course), "round {round}");
                    assert_eq!(origins.site(origin), site);
                    assert_eq!(origin.is_series(), course != Course::Once);
                    assert_eq!(origin.ends_with_wait(), course == Course::UntilWait);
                }
            }
        }
        assert_eq!(origins.sites.len(), 2);
    }

    #[test]
    fn the_last_number_fits() {
        let origin = Origin::new(UNTIL_WAIT - 1, Course::UntilWait);
        assert_eq!(origin.bits(), 2 * SERIES - 1);
    }
}
