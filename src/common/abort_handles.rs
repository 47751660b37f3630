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

use tokio::task::AbortHandle;

/// Running tasks by number; a number is free again when its task has ended *and* its handle has arrived.
#[derive(Debug, Default)]
pub(crate) struct AbortHandles {
    handles: Vec<State>,
    free: Vec<u32>,
    /// All are to be aborted: `started` returns a handle that arrives from now on, for that.
    aborting: bool,
}

/// The number of entries that are read under one hold of the lock.
const CHUNK: usize = 512;

#[derive(Debug)]
enum State {
    Free,
    /// Given to the runtime, which has not yet answered with the handle.
    Starting,
    Running(AbortHandle),
    /// Ended before its handle arrived.
    Ended,
}

impl AbortHandles {
    pub(crate) fn reserve(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            self.handles[index as usize] = State::Starting;
            return index;
        }
        self.handles.push(State::Starting);
        u32::try_from(self.handles.len() - 1).expect("fewer than 2^32 tasks run at once")
    }

    /// Takes in the handle of the task at `index`. What is returned is for the caller to abort, outside
    /// of the lock; that is harmless for a task that has ended by itself.
    #[must_use]
    pub(crate) fn started(&mut self, index: u32, task: AbortHandle) -> Option<AbortHandle> {
        let state = &mut self.handles[index as usize];
        if matches!(state, State::Ended) {
            *state = State::Free;
            self.free.push(index);
            return Some(task);
        }
        if self.aborting {
            *state = State::Running(task.clone());
            return Some(task);
        }
        *state = State::Running(task);
        None
    }

    /// The task at `index` has ended. What is returned may be the task's last reference: drop it
    /// outside of the lock.
    #[must_use]
    pub(crate) fn ended(&mut self, index: u32) -> Option<AbortHandle> {
        let state = &mut self.handles[index as usize];
        if matches!(state, State::Starting) {
            *state = State::Ended;
            return None;
        }
        let State::Running(task) = std::mem::replace(state, State::Free) else {
            return None;
        };
        self.free.push(index);
        if self.free.len() == self.handles.len() && self.handles.len() > 1024 {
            (self.handles, self.free) = (Vec::new(), Vec::new());
        }
        Some(task)
    }

    /// Returns whether `abort_chunk` was called.
    pub(crate) fn is_aborting(&self) -> bool {
        self.aborting
    }

    /// The running tasks of the chunk that begins at `next`, which moves on; `None` behind the
    /// last chunk. The caller aborts them, outside of the lock.
    ///
    /// From the first chunk on `started` returns the handles that arrive, so a task that starts in a chunk that was
    /// passed is not missed.
    pub(crate) fn abort_chunk(&mut self, next: &mut usize) -> Option<Vec<AbortHandle>> {
        self.aborting = true;
        let rest = self.handles.get(*next..).filter(|rest| !rest.is_empty())?;
        let chunk = &rest[..rest.len().min(CHUNK)];
        *next += chunk.len();
        let running = chunk.iter().filter_map(|state| match state {
            State::Running(task) => Some(task.clone()),
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
            let mut abort_handles = AbortHandles::default();
            let reserved: Vec<u32> = (0..crowd).map(|_| abort_handles.reserve()).collect();
            for &index in &reserved {
                assert!(abort_handles.started(index, task.clone()).is_none());
            }
            for &index in &reserved {
                assert_eq!(abort_handles.handles.len(), crowd, "one is running");
                assert!(abort_handles.ended(index).is_some());
            }
            assert_eq!(
                (abort_handles.handles.len(), abort_handles.free.len()),
                (kept, kept)
            );
        }
    }

    #[tokio::test]
    async fn tasks_are_aborted_chunk_by_chunk_and_late_ones_as_they_arrive() {
        let task = tokio::spawn(async {}).abort_handle();
        let (mut abort_handles, mut next) = (AbortHandles::default(), 0);
        let reserved: Vec<u32> = (0..2 * CHUNK + 10)
            .map(|_| abort_handles.reserve())
            .collect();
        for &index in &reserved[1..] {
            assert!(abort_handles.started(index, task.clone()).is_none());
        }
        assert!(abort_handles.ended(reserved[CHUNK]).is_some());
        let mut chunk = |abort_handles: &mut AbortHandles| {
            abort_handles
                .abort_chunk(&mut next)
                .map(|chunk| chunk.len())
        };
        assert_eq!(
            chunk(&mut abort_handles),
            Some(CHUNK - 1),
            "the first has no handle yet"
        );
        assert!(
            abort_handles.started(reserved[0], task.clone()).is_some(),
            "it is late"
        );
        assert_eq!(chunk(&mut abort_handles), Some(CHUNK - 1), "one has ended");
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
