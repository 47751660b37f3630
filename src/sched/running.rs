//! A job that has started.

use std::panic::Location;

use super::job::JobId;
use super::runnable::Started;
use crate::common::trace::Span;

/// One run of one job, from its first poll to its end. Whoever holds it has to [end](super::run) it.
pub(super) struct RunningJob {
    pub(super) slot: u32,
    pub(super) id: JobId,
    pub(super) scheduled_at: &'static Location<'static>,
    pub(super) span: Span,
    /// `None` if the job panicked before it had a future.
    pub(super) live: Option<Started>,
}
