//! Spans and events, or nothing at all without the feature `tracing`.
//!
//! The macros of `tracing` evaluate their arguments only when a subscriber listens, so nothing is
//! formatted or allocated for nobody.

use std::panic::Location;
use std::time::Duration;

/// Around every poll of a job.
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(feature = "tracing")]
impl Span {
    pub(crate) fn job(
        group: &str,
        id: u64,
        scheduled_at: &Location<'_>,
        lateness: Duration,
    ) -> Span {
        Span {
            span: tracing::debug_span!(
                target: "schedgroup",
                parent: None,
                "job",
                group,
                id,
                scheduled_at = %scheduled_at,
                lateness_us = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX),
            ),
        }
    }

    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        self.span.in_scope(code)
    }
}

/// A job panicked, or a destructor of one did.
#[cfg(feature = "tracing")]
pub(crate) fn panicked(group: &str, id: u64, scheduled_at: &Location<'_>, message: &str) {
    tracing::error!(
        target: "schedgroup",
        group,
        id,
        scheduled_at = %scheduled_at,
        panic = message,
        "job panicked"
    );
}

/// A group was dropped that still held jobs.
#[cfg(feature = "tracing")]
pub(crate) fn dropped(group: &str, pending: usize, running: usize) {
    tracing::warn!(
        target: "schedgroup",
        group,
        pending,
        running,
        "group dropped: its pending jobs will not run; wait for it, shut it down or detach it"
    );
}

#[cfg(not(feature = "tracing"))]
impl Span {
    pub(crate) fn job(_: &str, _: u64, _: &Location<'_>, _: Duration) -> Span {
        Span {}
    }

    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        code()
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn panicked(_: &str, _: u64, _: &Location<'_>, _: &str) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn dropped(_: &str, _: usize, _: usize) {}
