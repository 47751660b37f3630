//! The running tasks, to be aborted together.
//!
//! ```text
//!   reserve              its handle arrives            it ends
//!     ───────▶ Starting ───────────────────▶ Running ───────────▶ Free
//!                 │ it ends                                         ▲
//!                 └──────────▶ Ended ───────────────────────────────┘
//!                                     its handle arrives
//! ```
//!
//! A task is spawned after the lock, and can end before its abort handle is known. So the state of a number is kept
//! until both the end and the handle have come. Numbers are not reused, and a page of them goes when all its tasks have
//! ended. So a few tasks that outlive a burst keep one page each.

use std::collections::BTreeMap;

use tokio::task::AbortHandle;

/// Running tasks by number.
#[derive(Debug, Default)]
pub(crate) struct AbortHandles {
    /// Numbers `PAGE * n ..` are in the page `n`.
    pages: BTreeMap<u64, Box<Page>>,
    /// The next number that is given out. Its page is kept while it is empty.
    next: u64,
    /// A page that has gone, for the next one: where few tasks run at a time, nothing is allocated for them.
    spare: Option<Box<Page>>,
    /// All are to be aborted: `started` returns a handle that arrives from now on, for that.
    aborting: bool,
}

/// Numbers in a page.
const PAGE: u64 = 32;

/// The number of pages that are read under one hold of the lock.
const CHUNK: usize = 16;

#[derive(Debug, Default)]
struct Page {
    states: [State; PAGE as usize],
    /// How many are not free.
    used: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Free,
    /// Given to the runtime, which has not yet answered with the handle.
    Starting,
    Running(AbortHandle),
    /// Ended before its handle arrived.
    Ended,
}

impl AbortHandles {
    pub(crate) fn reserve(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        let page = self.pages.entry(number / PAGE);
        let page = page.or_insert_with(|| self.spare.take().unwrap_or_default());
        page.states[(number % PAGE) as usize] = State::Starting;
        page.used += 1;
        number
    }

    fn state(&mut self, number: u64) -> &mut State {
        let page = self.pages.get_mut(&(number / PAGE));
        &mut page.expect("its end or its handle is to come").states[(number % PAGE) as usize]
    }

    fn free(&mut self, number: u64) {
        *self.state(number) = State::Free;
        let page = number / PAGE;
        if let Some(there) = self.pages.get_mut(&page) {
            there.used -= 1;
            if there.used == 0 && page != self.next / PAGE {
                self.spare = self.pages.remove(&page);
            }
        }
    }

    /// Takes in the handle of the task of that number. What is returned is for the caller to abort, outside
    /// of the lock; that is harmless for a task that has ended by itself.
    #[must_use]
    pub(crate) fn started(&mut self, number: u64, task: AbortHandle) -> Option<AbortHandle> {
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
    pub(crate) fn ended(&mut self, number: u64) -> Option<AbortHandle> {
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
    pub(crate) fn abort_chunk(&mut self, next: &mut u64) -> Option<Vec<AbortHandle>> {
        self.aborting = true;
        let chunk = || self.pages.range(*next..).take(CHUNK);
        let (last, _) = chunk().last()?;
        let states = chunk().flat_map(|(_, page)| &page.states);
        let running = states.filter_map(|state| match state {
            State::Running(task) => Some(task.clone()),
            _ => None,
        });
        let running = running.collect();
        *next = last + 1;
        Some(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn storage_goes_back_after_a_crowd_of_which_a_few_survive() {
        let task = tokio::spawn(async {}).abort_handle();
        let mut abort_handles = AbortHandles::default();
        let (crowd, every) = (10_000_u64, 1_000);
        let reserved: Vec<u64> = (0..crowd).map(|_| abort_handles.reserve()).collect();
        for &number in &reserved {
            assert!(abort_handles.started(number, task.clone()).is_none());
        }
        assert_eq!(abort_handles.pages.len() as u64, crowd.div_ceil(PAGE));
        let (survivors, others): (Vec<u64>, Vec<u64>) =
            reserved.iter().partition(|&number| number % every == 0);
        for &number in &others {
            assert!(abort_handles.ended(number).is_some());
        }
        // The page of the next number stays.
        let (pages, few) = (abort_handles.pages.len(), survivors.len());
        assert_eq!(pages, few + 1, "for {few} survivors");
        assert!(size_of::<Page>() < 1_024);
        for &number in &survivors {
            assert!(abort_handles.ended(number).is_some());
        }
        assert_eq!(abort_handles.pages.len(), 1);
    }

    #[tokio::test]
    async fn a_number_lasts_until_both_the_end_and_the_handle_have_come() {
        let task = tokio::spawn(async {}).abort_handle();
        let mut abort_handles = AbortHandles::default();
        for round in 0..4 * PAGE {
            let number = abort_handles.reserve();
            assert_eq!(number, round);
            let of_page = |abort_handles: &AbortHandles| {
                abort_handles
                    .pages
                    .get(&(number / PAGE))
                    .map(|page| page.used)
            };
            assert!(abort_handles.ended(number).is_none(), "no handle yet");
            assert_eq!(of_page(&abort_handles), Some(1));
            assert!(abort_handles.started(number, task.clone()).is_some());
            let is_last = number % PAGE == PAGE - 1;
            assert_eq!(of_page(&abort_handles), (!is_last).then_some(0));
        }
    }

    #[tokio::test]
    async fn tasks_are_aborted_chunk_by_chunk_and_late_ones_as_they_arrive() {
        let task = tokio::spawn(async {}).abort_handle();
        let (mut abort_handles, mut next) = (AbortHandles::default(), 0);
        let chunk_of = CHUNK * PAGE as usize;
        let reserved: Vec<u64> = (0..2 * chunk_of + 10)
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
        assert_eq!(chunk(&mut abort_handles), Some(10 + 1));
        assert_eq!(
            (chunk(&mut abort_handles), chunk(&mut abort_handles)),
            (None, None)
        );
    }
}
