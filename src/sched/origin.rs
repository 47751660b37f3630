//! Where jobs come from, in three bytes each.

use std::collections::HashMap;
use std::panic::Location;

type Site = &'static Location<'static>;

/// Which place in the program scheduled a job, and whether the job may run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin([u8; 3]);

const SERIES: u32 = 1 << 23;

impl Origin {
    fn new(number: u32, series: bool) -> Origin {
        let [a, b, c, _] = (number | if series { SERIES } else { 0 }).to_le_bytes();
        Origin([a, b, c])
    }

    fn bits(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0])
    }

    pub(super) fn is_series(self) -> bool {
        self.bits() & SERIES != 0
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
    pub(super) fn origin(&mut self, site: Site, series: bool) -> Origin {
        let address = std::ptr::from_ref(site) as usize;
        if self.last.0 != address {
            self.last = (address, self.number(address, site));
        }
        Origin::new(self.last.1, series)
    }

    fn number(&mut self, address: usize, site: Site) -> u32 {
        *self.numbers.entry(address).or_insert_with(|| {
            self.sites.push(site);
            u32::try_from(self.sites.len() - 1)
                .ok()
                .filter(|&number| number < SERIES)
                .expect("schedgroup: jobs of one group from more than eight million places")
        })
    }

    pub(super) fn site(&self, origin: Origin) -> Site {
        self.sites[(origin.bits() & !SERIES) as usize]
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
    fn an_origin_tells_its_place_and_whether_it_is_a_series() {
        let mut origins = Origins::default();
        let sites = [here(), here()];
        for round in 0..2 {
            for (number, site) in sites.into_iter().enumerate() {
                for series in [false, true] {
                    let origin = origins.origin(site, series);
                    assert_eq!(origin, Origin::new(number as u32, series), "round {round}");
                    assert_eq!((origins.site(origin), origin.is_series()), (site, series));
                }
            }
        }
        assert_eq!(origins.sites.len(), 2);
    }

    #[test]
    fn the_last_number_fits() {
        let origin = Origin::new(SERIES - 1, true);
        assert_eq!(origin.bits(), 2 * SERIES - 1);
    }
}
