//! A job that has started.

use std::panic::Location;

use super::job::JobId;
use super::runnable::Started;
use crate::common::trace::Span;

/// One run of one job, from its first poll to its end. Its holder has to [end](super::run) it.
pub(super) struct RunningJob {
    // The slot stays the job's until `end`: a started job has not ended, and only an ended one loses its slot. So no
    // sequence is compared here.
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) scheduled_at: &'static Location<'static>,
    pub(super) span: Span,
    /// `None` if the job panicked before it had a future.
    pub(super) live: Option<Started>,
}
