//! The running tasks, to be aborted together.
//!
//! A task is spawned after the lock, and can end before its abort handle is known. So whichever of the two comes first,
//! its handle or its end, is kept until the other has come.
//!
//! The tasks are in pages, and a page without tasks has no storage: a few that outlive a burst keep one page each.

use std::collections::BTreeMap;

use tokio::task::AbortHandle;

/// The abort handles of running tasks, by the index of the task.
#[derive(Debug, Default)]
pub(crate) struct AbortHandles {
    /// By the first index divided by `PAGE`. None of them is empty.
    pages: BTreeMap<usize, Box<Page>>,
    /// An empty page, so that nothing is allocated where few tasks run at a time.
    spare: Option<Box<Page>>,
    /// All were taken out to be aborted: nothing is kept any more.
    aborting: bool,
}

/// The number of tasks in a page.
const PAGE: usize = u32::BITS as usize;

#[derive(Debug, Default)]
struct Page {
    running: [Option<AbortHandle>; PAGE],
    /// A bit for each task of which one of the two has come: it is in `running`, or has ended before its handle arrived.
    open: u32,
}

impl AbortHandles {
    /// Notes the handle of a task, or without one its end. If the other has come before, returns the handle.
    fn note(&mut self, index: usize, task: Option<AbortHandle>) -> Option<AbortHandle> {
        let (number, at) = (index / PAGE, index % PAGE);
        let page = self.pages.entry(number);
        let page = page.or_insert_with(|| self.spare.take().unwrap_or_default());
        let Page { running, open } = &mut **page;
        *open ^= 1 << at;
        if *open & (1 << at) != 0 {
            running[at] = task;
            return None;
        }
        let handle = task.or(running[at].take());
        if *open == 0 {
            self.spare = self.pages.remove(&number);
        }
        handle
    }

    /// Keeps the handle of a task until that ends. What is returned is for the caller to abort, outside of the lock;
    /// that is harmless for a task that has ended by itself.
    #[must_use]
    pub(crate) fn started(&mut self, index: usize, task: AbortHandle) -> Option<AbortHandle> {
        if self.aborting {
            return Some(task);
        }
        self.note(index, Some(task))
    }

    /// Notes that a task has ended. What is returned may be the task's last reference: drop it outside of the lock.
    #[must_use]
    pub(crate) fn ended(&mut self, index: usize) -> Option<AbortHandle> {
        if self.aborting {
            return None;
        }
        self.note(index, None)
    }

    /// Returns whether `abort` was called.
    pub(crate) fn is_aborting(&self) -> bool {
        self.aborting
    }

    /// Takes all of them out. The caller aborts them, outside of the lock. From now on `started` returns the handles
    /// that arrive, so no task is missed.
    pub(crate) fn abort(&mut self) -> impl Iterator<Item = AbortHandle> + use<> {
        self.aborting = true;
        self.spare = None;
        let pages = std::mem::take(&mut self.pages);
        let running = pages.into_values().flat_map(|page| page.running);
        running.flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of pages with storage.
    fn pages(abort_handles: &AbortHandles) -> usize {
        abort_handles.pages.len() + usize::from(abort_handles.spare.is_some())
    }

    #[tokio::test]
    async fn storage_goes_back_after_a_crowd_of_which_a_few_survive() {
        const CROWD: usize = 100 * PAGE;
        let task = tokio::spawn(async {}).abort_handle();
        // The order in which they end: as they came, the other way around, and across the pages.
        for step in [1, CROWD - 1, PAGE + 1] {
            for every in [CROWD, CROWD / 7] {
                let mut abort_handles = AbortHandles::default();
                for index in 0..CROWD {
                    assert!(abort_handles.started(index, task.clone()).is_none());
                }
                assert_eq!(pages(&abort_handles), CROWD / PAGE);
                let order = (0..CROWD).map(|n| n * step % CROWD);
                let (survivors, others): (Vec<usize>, Vec<usize>) =
                    order.partition(|n| n % every == 0);
                for &other in &others {
                    assert!(abort_handles.ended(other).is_some());
                }
                let (kept, few) = (pages(&abort_handles), survivors.len());
                assert!(kept <= few + 1, "{kept} pages for {few}, step {step}");
                for survivor in survivors {
                    assert!(abort_handles.ended(survivor).is_some());
                }
                assert_eq!(pages(&abort_handles), 1, "step {step}");
            }
        }
        assert!(size_of::<Page>() < 300);
    }

    #[tokio::test]
    async fn a_page_lasts_until_the_end_and_the_handle_of_each_of_its_tasks_have_come() {
        let task = tokio::spawn(async {}).abort_handle();
        let mut abort_handles = AbortHandles::default();
        assert!(abort_handles.ended(7).is_none(), "no handle yet");
        assert!(abort_handles.started(8, task.clone()).is_none());
        assert!(abort_handles.ended(8).is_some());
        assert_eq!(abort_handles.pages.len(), 1, "a handle is to come");
        assert!(abort_handles.started(7, task).is_some(), "it has ended");
        assert_eq!(abort_handles.pages.len(), 0);
    }

    #[tokio::test]
    async fn those_that_are_known_are_aborted_at_once_and_late_ones_as_they_arrive() {
        let task = tokio::spawn(async {}).abort_handle();
        let mut abort_handles = AbortHandles::default();
        for index in 1..=3 * PAGE {
            assert!(abort_handles.started(index, task.clone()).is_none());
        }
        assert!(abort_handles.ended(PAGE).is_some());
        assert!(abort_handles.ended(4 * PAGE).is_none(), "no handle yet");
        assert!(abort_handles.started(5 * PAGE, task.clone()).is_none());
        assert!(abort_handles.ended(5 * PAGE).is_some());
        assert!(abort_handles.spare.is_some());
        assert_eq!(abort_handles.abort().count(), 3 * PAGE - 1);
        assert!(abort_handles.ended(1).is_none(), "it was taken");
        assert!(abort_handles.started(0, task).is_some(), "it is late");
        assert_eq!(pages(&abort_handles), 0);
        assert_eq!(abort_handles.abort().count(), 0);
    }
}
