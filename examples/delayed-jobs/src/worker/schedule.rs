//! Which jobs a schedule wants.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use crate::job::Priority;
use crate::store::{NewJob, Slot};
use crate::time::Micros;

/// One job for each full period since 1970, UTC.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    pub(crate) period: Duration,
    pub(crate) kind: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) payload: String,
    /// The latest slot that is known to be filled: it need not be tried again.
    pub(crate) filled: AtomicI64,
}

/// At most this many slots are filled by one look, however short the period.
const AT_ONCE: usize = 1000;

impl Schedule {
    /// The slots that should be filled by now: the next one, wherever it is, and all up to `until`.
    ///
    /// The next one is in the store long before its time, so that it is not lost if no worker lives then:
    /// it runs when one does. Slots that were not filled in their time are skipped.
    pub(crate) fn slots(&self, now: Micros, until: Micros) -> impl Iterator<Item = Slot> {
        let period = i64::try_from(self.period.as_micros()).unwrap_or(i64::MAX);
        let next = (now.0.div_euclid(period) + 1).saturating_mul(period);
        let filled = self.filled.load(Relaxed);
        let further = (1..).map_while(move |n| next.checked_add(period.checked_mul(n)?));
        let further = further.take_while(move |slot| *slot <= until.0);
        std::iter::once(next)
            .chain(further)
            .take(AT_ONCE)
            .map(Micros)
            .filter(move |slot| slot.0 > filled)
            .map(move |slot| self.slot(slot, now))
    }

    pub(crate) fn was_filled(&self, slot: Micros) {
        self.filled.fetch_max(slot.0, Relaxed);
    }

    fn slot(&self, slot: Micros, now: Micros) -> Slot {
        Slot {
            schedule: self.name.clone(),
            slot,
            job: NewJob {
                kind: self.kind.to_owned(),
                queue: self.queue.to_owned(),
                payload: self.payload.clone(),
                priority: Priority::default(),
                run_at: slot,
                created_at: now,
                key: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(period: u64, now: i64, until: i64, filled: i64) -> Vec<i64> {
        let schedule = Schedule {
            name: "tick".to_owned(),
            period: Duration::from_micros(period),
            kind: "tick",
            queue: "default",
            payload: "null".to_owned(),
            filled: AtomicI64::new(filled),
        };
        let slots = schedule.slots(Micros(now), Micros(until));
        slots.map(|slot| slot.slot.0).collect()
    }

    #[test]
    fn slots_are_full_periods_after_now() {
        assert_eq!(slots(10, 25, 60, 0), [30, 40, 50, 60]);
        assert_eq!(slots(10, 30, 50, 0), [40, 50]);
    }

    #[test]
    fn the_next_slot_is_filled_however_far_it_is() {
        assert_eq!(slots(1_000_000, 25, 60, 0), [1_000_000]);
        assert_eq!(slots(u64::MAX, 25, 60, 0), [i64::MAX]);
    }

    #[test]
    fn what_is_filled_is_left_alone_and_one_look_fills_so_many() {
        assert_eq!(slots(10, 25, 60, 40), [50, 60]);
        assert_eq!(slots(1, 0, 1_000_000, 0).len(), AT_ONCE);
    }
}
