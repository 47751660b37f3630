//! The end of a pool, waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::shared::Pool;
use crate::ground::error::TaskError;
use crate::ground::panic::ENDED;
use crate::task::policy::TaskStats;

/// Outcomes when the pool has drained, with all failures in order of time, and whether a task was skipped or
/// aborted.
///
/// Only one is alive at a time, and none comes after one that has ended. One that is dropped before leaves
/// the pool closed and takes its waker along; then the next may come.
pub(crate) struct Drained<'a, E: Send + 'static> {
    pool: &'a Pool<E>,
    ended: bool,
}

impl<'a, E: Send + 'static> Drained<'a, E> {
    /// Closes the pool.
    #[track_caller]
    pub(crate) fn new(pool: &'a Pool<E>) -> Drained<'a, E> {
        let first = pool.close();
        assert!(first, "schedgroup: multiple calls to {}::wait", pool.name());
        Drained { pool, ended: false }
    }

    pub(crate) fn stats(&self) -> TaskStats {
        self.pool.stats()
    }
}

impl<E: Send + 'static> Future for Drained<'_, E> {
    type Output = (Vec<TaskError<E>>, bool);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.ended, "{ENDED}");
        let drained = self.pool.poll_drained(cx);
        self.ended = drained.is_ready();
        drained
    }
}

impl<E: Send + 'static> Drop for Drained<'_, E> {
    fn drop(&mut self) {
        if !self.ended {
            self.pool.stop_waiting();
        }
    }
}
