//! Jobs that were taken out under the lock, to be dropped after it.

use super::call_site::CallSite;
use super::slab::{CHUNK, PAGES, Page, next_run};
use crate::sched::job::JobId;
use crate::sched::queue::Sequence;
use crate::sched::runnable::Runnable;

/// The values of a job that never starts, or never starts again.
pub(in crate::sched) struct DroppedJob {
    /// `None` for the row of a table, which holds the values itself.
    pub(in crate::sched) runnable: Option<Box<dyn Runnable>>,
    pub(in crate::sched) id: JobId,
    pub(in crate::sched) call_site: CallSite,
}

impl DroppedJob {
    /// `sequence` is that of the job's last entry.
    pub(super) fn new(
        runnable: Option<Box<dyn Runnable>>,
        sequence: Sequence,
        call_site: CallSite,
    ) -> DroppedJob {
        let id = match &runnable {
            Some(runnable) if call_site.may_run_again() => next_run(&**runnable, sequence).0,
            _ => JobId(sequence.number()),
        };
        DroppedJob {
            runnable,
            id,
            call_site,
        }
    }
}

/// The jobs that were taken out of one chunk. It is filled and drained for one chunk after the other, so that its storage
/// is allocated once.
pub(in crate::sched) struct DroppedChunk {
    /// Pages of jobs without handles, which were taken out whole.
    pub(super) pages: Vec<Page>,
    /// The other jobs.
    pub(super) jobs: Vec<DroppedJob>,
}

impl DroppedChunk {
    /// All storage is allocated here, not under the lock: for a large request an allocator may first tidy up all that
    /// was freed, which has taken tens of milliseconds.
    pub(in crate::sched) fn new() -> DroppedChunk {
        DroppedChunk {
            pages: Vec::with_capacity(PAGES),
            jobs: Vec::with_capacity(CHUNK),
        }
    }

    /// Takes the jobs out, and keeps the storage for the next chunk.
    pub(in crate::sched) fn drain(&mut self) -> impl Iterator<Item = DroppedJob> {
        let of_pages = self.pages.drain(..).flat_map(Page::into_jobs);
        of_pages.chain(self.jobs.drain(..))
    }
}
