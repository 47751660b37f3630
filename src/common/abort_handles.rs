//! The running tasks, to be aborted together.
//!
//! ```text
//!           reserve              its handle arrives            it ends
//!   Free ────────────▶ Starting ───────────────────▶ Running ───────────▶ Free
//!                         │ it ends                                         ▲
//!                         └──────────▶ Ended ───────────────────────────────┘
//!                                             its handle arrives
//! ```
//!
//! A task is spawned after the lock, and can end before its abort handle is known. So a number is free again only
//! when both have come, the end and the handle: a late handle never gets to the next task of that number.

use tokio::task::AbortHandle;

/// Running tasks by number; a number is free again when its task has ended *and* its handle has arrived.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    free: Vec<u32>,
    /// All are to be aborted: a handle that arrives from now on is returned for that at once.
    aborting: bool,
}

/// The number of them that are looked at in one step, under the lock.
const PAGE: usize = 512;

#[derive(Debug)]
enum Seat {
    Free,
    /// Given to the runtime, which has not yet answered with the handle.
    Starting,
    Running(AbortHandle),
    /// Ended before its handle arrived.
    Ended,
}

impl Seats {
    pub(crate) fn claim(&mut self) -> u32 {
        if let Some(seat) = self.free.pop() {
            self.seats[seat as usize] = Seat::Starting;
            return seat;
        }
        self.seats.push(Seat::Starting);
        u32::try_from(self.seats.len() - 1).expect("fewer than 2^32 tasks run at once")
    }

    /// Takes in the handle of the task on `seat`. What comes back is for the caller to abort, outside
    /// of the lock; that is harmless for a task that has ended by itself.
    #[must_use]
    pub(crate) fn started(&mut self, seat: u32, task: AbortHandle) -> Option<AbortHandle> {
        let place = &mut self.seats[seat as usize];
        if matches!(place, Seat::Ended) {
            *place = Seat::Free;
            self.free.push(seat);
            return Some(task);
        }
        if self.aborting {
            *place = Seat::Running(task.clone());
            return Some(task);
        }
        *place = Seat::Running(task);
        None
    }

    /// The task on `seat` has ended. What is returned may be the task's last reference: drop it
    /// outside of the lock.
    #[must_use]
    pub(crate) fn ended(&mut self, seat: u32) -> Option<AbortHandle> {
        let place = &mut self.seats[seat as usize];
        if matches!(place, Seat::Starting) {
            *place = Seat::Ended;
            return None;
        }
        let Seat::Running(task) = std::mem::replace(place, Seat::Free) else {
            return None;
        };
        self.free.push(seat);
        if self.free.len() == self.seats.len() && self.seats.len() > 1024 {
            (self.seats, self.free) = (Vec::new(), Vec::new());
        }
        Some(task)
    }

    /// The running tasks of the page that begins with the seat `next`, which moves on; `None` behind the
    /// last page. The caller aborts them, outside of the lock.
    ///
    /// From the first page on, tasks that are starting are given out as they arrive, so a seat that is
    /// taken behind the walker's back is not missed.
    pub(crate) fn abort_page(&mut self, next: &mut usize) -> Option<Vec<AbortHandle>> {
        // Before the first page: a task whose handle arrives behind the walk sees this, and one ahead of it is met
        // by the walk too.
        self.aborting = true;
        let rest = self.seats.get(*next..).filter(|rest| !rest.is_empty())?;
        let page = &rest[..rest.len().min(PAGE)];
        *next += page.len();
        let running = page.iter().filter_map(|seat| match seat {
            Seat::Running(task) => Some(task.clone()),
            _ => None,
        });
        Some(running.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn storage_goes_back_after_a_crowd() {
        let task = tokio::spawn(async {}).abort_handle();
        for (crowd, kept) in [(1024, 1024), (1025, 0)] {
            let mut seats = Seats::default();
            let claimed: Vec<u32> = (0..crowd).map(|_| seats.claim()).collect();
            for &seat in &claimed {
                assert!(seats.started(seat, task.clone()).is_none());
            }
            for &seat in &claimed {
                assert_eq!(seats.seats.len(), crowd, "one is running");
                assert!(seats.ended(seat).is_some());
            }
            assert_eq!((seats.seats.len(), seats.free.len()), (kept, kept));
        }
    }

    #[tokio::test]
    async fn tasks_are_aborted_page_by_page_and_late_ones_as_they_arrive() {
        let task = tokio::spawn(async {}).abort_handle();
        let (mut seats, mut next) = (Seats::default(), 0);
        let claimed: Vec<u32> = (0..2 * PAGE + 10).map(|_| seats.claim()).collect();
        for &seat in &claimed[1..] {
            assert!(seats.started(seat, task.clone()).is_none());
        }
        assert!(seats.ended(claimed[PAGE]).is_some());
        let mut page = |seats: &mut Seats| seats.abort_page(&mut next).map(|page| page.len());
        assert_eq!(
            page(&mut seats),
            Some(PAGE - 1),
            "the first has no handle yet"
        );
        assert!(
            seats.started(claimed[0], task.clone()).is_some(),
            "it is late"
        );
        assert_eq!(page(&mut seats), Some(PAGE - 1), "one has ended");
        let seat = seats.claim();
        assert!(seats.started(seat, task).is_some(), "all pages are aborted");
        assert_eq!(page(&mut seats), Some(10));
        assert_eq!((page(&mut seats), page(&mut seats)), (None, None));
    }
}
