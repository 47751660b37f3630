//! The end of a group, waited for.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::Pool;
use crate::common::panic::ENDED;

/// Resolves when the group has drained. Its waker is removed when it is dropped.
pub(crate) struct Drained<'a, E: Send + 'static> {
    pool: &'a Arc<Pool<E>>,
    number: Option<u64>,
    ended: bool,
}

impl<'a, E: Send + 'static> Drained<'a, E> {
    pub(crate) fn new(pool: &'a Arc<Pool<E>>) -> Drained<'a, E> {
        Drained {
            pool,
            number: None,
            ended: false,
        }
    }

    pub(crate) fn pool(&self) -> &'a Arc<Pool<E>> {
        self.pool
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        assert!(!self.ended, "{ENDED}");
        // Each poll reads the state anew, so a spurious wake-up does no harm.
        let drained = self.pool.poll_drained(&mut self.number, cx);
        self.ended = drained.is_ready();
        drained
    }
}

impl<E: Send + 'static> Drop for Drained<'_, E> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // Otherwise the pool would keep the waker until the group ends.
            self.pool.stop_waiting(number);
        }
    }
}
