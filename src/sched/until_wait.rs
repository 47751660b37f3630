//! The series that end with `wait`, which a `wait` looks up.

use super::job::JobId;
use super::slot::Slots;

/// It stays about as long as such series are many, whatever has become of those before them.
#[derive(Debug, Default)]
pub(super) struct UntilWait {
    series: Vec<(u32, JobId)>,
}

impl UntilWait {
    /// Notes a series. When the list is full, those that have ended are forgotten and room is made for as
    /// many as are left: looking through it is paid for by as many series.
    pub(super) fn note(&mut self, slot: u32, id: JobId, slots: &Slots) {
        if self.series.len() == self.series.capacity() {
            self.series.retain(|&(slot, id)| slots.is_held_by(slot, id));
            self.series.reserve(self.series.len());
        }
        self.series.push((slot, id));
    }

    /// The slots of those that are pending; once.
    pub(super) fn take(&mut self, slots: &Slots) -> Vec<u32> {
        let series = std::mem::take(&mut self.series).into_iter();
        let pending =
            |&(slot, id): &(u32, JobId)| slots.is_held_by(slot, id) && slots.get(slot).is_pending();
        series.filter(pending).map(|(slot, _)| slot).collect()
    }
}
