//! Spans and events, or nothing at all without the feature `tracing`.
//!
//! The macros of `tracing` evaluate their arguments only when a subscriber listens, so nothing is
//! formatted or allocated without one. A subscriber that panics costs no job its end: the panic ends here,
//! and the panic hook has reported it.

use std::panic::Location;
use std::time::Duration;

#[cfg(feature = "tracing")]
use super::panic::{catch, drop_payload};

/// The span that is entered for every poll of a job.
pub(crate) struct Span {
    /// `None` if no subscriber records it: most jobs have none.
    #[cfg(feature = "tracing")]
    span: Option<tracing::Span>,
}

#[cfg(feature = "tracing")]
impl Span {
    pub(crate) fn job(
        group: &str,
        id: u64,
        scheduled_at: &Location<'_>,
        lateness: impl FnOnce() -> Duration,
    ) -> Span {
        let mut span = None;
        if tracing::level_filters::LevelFilter::current() >= tracing::Level::DEBUG {
            let lateness = lateness();
            call_subscriber(|| {
                let made = tracing::debug_span!(
                    target: "schedgroup",
                    parent: None,
                    "job",
                    group,
                    id,
                    scheduled_at = %scheduled_at,
                    lateness_us = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX),
                );
                span = Some(made).filter(|made| !made.is_none());
            });
        }
        Span { span }
    }

    /// Runs code inside of the span. The code must catch its own panics: if one unwound through here and the
    /// subscriber panicked at the exit, the process would end.
    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        let Some(span) = &self.span else {
            return code();
        };
        let mut entered = None;
        call_subscriber(|| entered = Some(span.enter()));
        let result = code();
        call_subscriber(|| drop(entered));
        result
    }
}

/// Closes the span in the subscriber.
#[cfg(feature = "tracing")]
impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            call_subscriber(|| drop(span));
        }
    }
}

#[cfg(feature = "tracing")]
fn call_subscriber(subscriber: impl FnOnce()) {
    catch(subscriber).unwrap_or_else(drop_payload);
}

/// A job panicked, or a destructor of one did.
#[cfg(feature = "tracing")]
pub(crate) fn panicked(group: &str, id: u64, scheduled_at: &Location<'_>, message: &str) {
    call_subscriber(|| {
        tracing::error!(
            target: "schedgroup",
            group,
            id,
            scheduled_at = %scheduled_at,
            panic = message,
            "job panicked"
        );
    });
}

/// A task of a group of tasks or of a combinator panicked, or a destructor of one did.
#[cfg(feature = "tracing")]
pub(crate) fn task_panicked(group: &str, index: usize, spawned_at: &Location<'_>, message: &str) {
    call_subscriber(|| {
        tracing::error!(
            target: "schedgroup",
            group,
            index,
            spawned_at = %spawned_at,
            panic = message,
            "task panicked"
        );
    });
}

/// A group was dropped that still held jobs.
#[cfg(feature = "tracing")]
pub(crate) fn dropped(group: &str, pending: usize, running: usize) {
    call_subscriber(|| {
        tracing::warn!(
            target: "schedgroup",
            group,
            pending,
            running,
            "group dropped: its pending jobs will not run; wait for it, shut it down or detach it"
        );
    });
}

#[cfg(not(feature = "tracing"))]
impl Span {
    pub(crate) fn job(_: &str, _: u64, _: &Location<'_>, _: impl FnOnce() -> Duration) -> Span {
        Span {}
    }

    pub(crate) fn enter<R>(&self, code: impl FnOnce() -> R) -> R {
        code()
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn panicked(_: &str, _: u64, _: &Location<'_>, _: &str) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn task_panicked(_: &str, _: usize, _: &Location<'_>, _: &str) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn dropped(_: &str, _: usize, _: usize) {}
