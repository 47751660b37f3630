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
//! A task is spawned after the lock, and can end before its abort handle is known. So a number is free again only when
//! both the end and the handle have come: a late handle is never taken for that of the next task with this number.
//!
//! Numbers are in pages, and a page without tasks has no storage: a few that outlive a burst keep one page each.

use tokio::task::AbortHandle;

/// Running tasks by number; a number is free again when its task has ended *and* its handle has arrived.
#[derive(Debug, Default)]
pub(crate) struct AbortHandles {
    pages: Vec<Option<Box<Page>>>,
    /// The pages with room, as a stack. The one on top keeps its storage while it is empty, so that nothing is allocated
    /// where few tasks run at a time.
    roomy: Vec<u32>,
    /// The number of tasks.
    used: usize,
    /// All are to be aborted: `started` returns a handle that arrives from now on, for that.
    aborting: bool,
}

/// Numbers in a page.
const PAGE: usize = u128::BITS as usize;

/// The number of pages that are read under one hold of the lock.
const CHUNK: usize = 4;

/// Where no more pages than these were in use, they are kept at the end.
const KEPT: usize = 8;

#[derive(Debug)]
struct Page {
    states: [State; PAGE],
    /// A bit for each state that is not free.
    used: u128,
}

#[derive(Debug)]
enum State {
    Free,
    /// Given to the runtime, which has not yet answered with the handle.
    Starting,
    Running(AbortHandle),
    /// Ended before its handle arrived.
    Ended,
}

impl Page {
    fn new() -> Box<Page> {
        Box::new(Page {
            states: [const { State::Free }; PAGE],
            used: 0,
        })
    }
}

impl AbortHandles {
    pub(crate) fn reserve(&mut self) -> u32 {
        let page = match self.roomy.last() {
            Some(page) => *page,
            None => {
                let page = u32::try_from(self.pages.len()).expect("there is memory for them");
                self.pages.push(None);
                self.roomy.push(page);
                page
            }
        };
        let there = self.pages[page as usize].get_or_insert_with(Page::new);
        let at = there.used.trailing_ones();
        there.states[at as usize] = State::Starting;
        there.used |= 1 << at;
        if there.used == u128::MAX {
            self.roomy.pop();
        }
        self.used += 1;
        let number = page.checked_mul(PAGE as u32);
        number.expect("fewer than 2^32 tasks run at once") + at
    }

    fn state(&mut self, number: u32) -> &mut State {
        let (page, at) = (number as usize / PAGE, number as usize % PAGE);
        let page = self.pages[page].as_mut();
        &mut page.expect("its end or its handle is to come").states[at]
    }

    fn free(&mut self, number: u32) {
        let (page, at) = (number / PAGE as u32, number % PAGE as u32);
        let Some(there) = &mut self.pages[page as usize] else {
            return;
        };
        let was_full = there.used == u128::MAX;
        there.states[at as usize] = State::Free;
        there.used &= !(1 << at);
        let is_empty = there.used == 0;
        let top = self.roomy.last().copied();
        if was_full {
            self.roomy.push(page);
            // It is not on top any more.
            if let Some(top) = top {
                self.pages[top as usize].take_if(|there| there.used == 0);
            }
        } else if is_empty && top != Some(page) {
            self.pages[page as usize] = None;
        }
        self.used -= 1;
        if self.used == 0 && self.pages.len() > KEPT {
            (self.pages, self.roomy) = (Vec::new(), Vec::new());
        }
    }

    /// Takes in the handle of the task of that number. What is returned is for the caller to abort, outside
    /// of the lock; that is harmless for a task that has ended by itself.
    #[must_use]
    pub(crate) fn started(&mut self, number: u32, task: AbortHandle) -> Option<AbortHandle> {
        let aborting = self.aborting;
        let state = self.state(number);
        if matches!(state, State::Ended) {
            self.free(number);
            return Some(task);
        }
        let late = aborting.then(|| task.clone());
        *state = State::Running(task);
        late
    }

    /// The task of that number has ended. What is returned may be the task's last reference: drop it
    /// outside of the lock.
    #[must_use]
    pub(crate) fn ended(&mut self, number: u32) -> Option<AbortHandle> {
        match std::mem::replace(self.state(number), State::Ended) {
            State::Running(task) => {
                self.free(number);
                Some(task)
            }
            // `Starting`: its handle is to come.
            _ => None,
        }
    }

    /// Returns whether `abort_chunk` was called.
    pub(crate) fn is_aborting(&self) -> bool {
        self.aborting
    }

    /// The running tasks of the chunk of pages that begins at `next`, which moves on; `None` behind the
    /// last chunk. The caller aborts them, outside of the lock.
    ///
    /// From the first chunk on `started` returns the handles that arrive, so a task that starts in a chunk that was
    /// passed is not missed.
    pub(crate) fn abort_chunk(&mut self, next: &mut usize) -> Option<Vec<AbortHandle>> {
        self.aborting = true;
        let rest = self.pages.get(*next..).filter(|rest| !rest.is_empty())?;
        let chunk = &rest[..rest.len().min(CHUNK)];
        *next += chunk.len();
        let states = chunk.iter().flatten().flat_map(|page| &page.states);
        let running = states.filter_map(|state| match state {
            State::Running(task) => Some(task.clone()),
            _ => None,
        });
        Some(running.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts `tasks` tasks, and returns their numbers.
    fn start(abort_handles: &mut AbortHandles, task: &AbortHandle, tasks: usize) -> Vec<u32> {
        let numbers: Vec<u32> = (0..tasks).map(|_| abort_handles.reserve()).collect();
        for &number in &numbers {
            assert!(abort_handles.started(number, task.clone()).is_none());
        }
        numbers
    }

    /// The number of pages with storage.
    fn pages(abort_handles: &AbortHandles) -> usize {
        abort_handles.pages.iter().flatten().count()
    }

    #[tokio::test]
    async fn storage_goes_back_after_a_crowd_of_which_a_few_survive() {
        const CROWD: usize = 100 * PAGE;
        let task = tokio::spawn(async {}).abort_handle();
        // The order in which they end: as they came, the other way around, and across the pages.
        for step in [1, CROWD - 1, PAGE + 1] {
            for every in [CROWD, CROWD / 7] {
                let mut abort_handles = AbortHandles::default();
                let numbers = start(&mut abort_handles, &task, CROWD);
                assert_eq!(pages(&abort_handles), CROWD / PAGE);
                let order = (0..CROWD).map(|n| n * step % CROWD);
                let (survivors, others): (Vec<usize>, Vec<usize>) =
                    order.partition(|n| n % every == 0);
                for &other in &others {
                    assert!(abort_handles.ended(numbers[other]).is_some());
                }
                let (kept, few) = (pages(&abort_handles), survivors.len());
                assert!(kept <= few + 1, "{kept} pages for {few}, step {step}");
                // All room is used again before there is more of it.
                let again = start(&mut abort_handles, &task, CROWD - few);
                assert_eq!(abort_handles.pages.len(), CROWD / PAGE);
                for number in again
                    .into_iter()
                    .chain(survivors.iter().map(|&n| numbers[n]))
                {
                    assert!(abort_handles.ended(number).is_some());
                }
                let capacities = (
                    abort_handles.pages.capacity(),
                    abort_handles.roomy.capacity(),
                );
                assert_eq!(capacities, (0, 0), "step {step}");
            }
        }
        assert!(size_of::<Page>() < 4 * 1024);
    }

    #[tokio::test]
    async fn a_number_lasts_until_both_the_end_and_the_handle_have_come() {
        let task = tokio::spawn(async {}).abort_handle();
        let mut abort_handles = AbortHandles::default();
        for _ in 0..2 {
            let number = abort_handles.reserve();
            assert_eq!(number, 0, "it was free");
            assert!(abort_handles.ended(number).is_none(), "no handle yet");
            assert_eq!((abort_handles.used, abort_handles.reserve()), (1, 1));
            assert!(abort_handles.started(1, task.clone()).is_none());
            assert!(abort_handles.ended(1).is_some());
            assert!(abort_handles.started(number, task.clone()).is_some());
            assert_eq!((abort_handles.used, pages(&abort_handles)), (0, 1));
        }
    }

    #[tokio::test]
    async fn tasks_are_aborted_chunk_by_chunk_and_late_ones_as_they_arrive() {
        let task = tokio::spawn(async {}).abort_handle();
        let (mut abort_handles, mut next) = (AbortHandles::default(), 0);
        let chunk_of = CHUNK * PAGE;
        let reserved: Vec<u32> = (0..2 * chunk_of + 10)
            .map(|_| abort_handles.reserve())
            .collect();
        for &index in &reserved[1..] {
            assert!(abort_handles.started(index, task.clone()).is_none());
        }
        assert!(abort_handles.ended(reserved[chunk_of]).is_some());
        let mut chunk = |abort_handles: &mut AbortHandles| {
            abort_handles
                .abort_chunk(&mut next)
                .map(|chunk| chunk.len())
        };
        assert_eq!(
            chunk(&mut abort_handles),
            Some(chunk_of - 1),
            "the first has no handle yet"
        );
        assert!(
            abort_handles.started(reserved[0], task.clone()).is_some(),
            "it is late"
        );
        assert_eq!(
            chunk(&mut abort_handles),
            Some(chunk_of - 1),
            "one has ended"
        );
        let index = abort_handles.reserve();
        assert!(
            abort_handles.started(index, task).is_some(),
            "all chunks are aborted"
        );
        assert_eq!(chunk(&mut abort_handles), Some(10));
        assert_eq!(
            (chunk(&mut abort_handles), chunk(&mut abort_handles)),
            (None, None)
        );
    }
}
