//! The job of a ticket: it starts the work that is due, and continues as the job of the first work that has to await.

use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use schedgroup::JobContext;

use super::context::Context;
use super::shared::{Shared, Step, Work};
use crate::lanes::{Slot, Started};

/// The limit of starts in one run of a job, so that other jobs and tasks get their turns.
const MAX_STARTS: u32 = 32;

/// Held by the job of a ticket until it starts. If the group drops the job before, the drop of this tells the
/// dispatcher.
pub(super) struct Watch<K, T> {
    /// `Some` until the ticket starts.
    shared: Option<Arc<Shared<K, T>>>,
    number: u64,
}

impl<K, T> Watch<K, T> {
    pub(super) fn new(shared: Arc<Shared<K, T>>, number: u64) -> Watch<K, T> {
        Watch {
            shared: Some(shared),
            number,
        }
    }

    fn start(mut self) -> (Arc<Shared<K, T>>, u64) {
        let shared = self.shared.take().expect("a ticket starts once");
        (shared, self.number)
    }
}

impl<K, T> Drop for Watch<K, T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.ticket_dropped(self.number);
        }
    }
}

/// Held by running work. Its drop frees the slot of the work, however the work ends.
struct CompletionGuard<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    shared: Arc<Shared<K, T>>,
    /// `Some` until the work has ended.
    slot: Option<Slot>,
    job: JobContext,
}

impl<K, T> CompletionGuard<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Ends the work, if it has not ended, and returns the next work if it may start now.
    fn exchange(&mut self, may_start: bool) -> Option<Started<K, T>> {
        let slot = self.slot.take()?;
        let step = Step::End { slot, may_start };
        self.shared.step(&self.job, step)
    }
}

impl<K, T> Drop for CompletionGuard<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    fn drop(&mut self) {
        self.exchange(false);
    }
}

/// The job of a ticket.
///
/// It is not an `async` block: after a panic its fields are intact, and the group drops them.
pub(super) struct Running<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// `Some` until the first poll.
    ticket: Option<Watch<K, T>>,
    job: JobContext,
    /// The running work. Its slot is freed after the work was dropped, since it is the second field.
    work: Option<(Work, CompletionGuard<K, T>)>,
    /// How much work this job has started.
    starts: u32,
}

impl<K, T> Running<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    pub(super) fn new(ticket: Watch<K, T>, job: JobContext) -> Running<K, T> {
        Running {
            ticket: Some(ticket),
            job,
            work: None,
            starts: 0,
        }
    }

    /// Returns `false` in a group that was cancelled or shut down, which starts no more work.
    fn may_start(&self) -> bool {
        !self.job.as_ref().is_closed()
    }

    fn begin(&mut self, shared: &Arc<Shared<K, T>>, started: Started<K, T>) {
        self.starts += 1;
        // Created before the call of the user's closure, so that the slot is freed if the closure panics.
        let guard = CompletionGuard {
            shared: Arc::clone(shared),
            slot: Some(started.slot),
            job: self.job.clone(),
        };
        let context = Context {
            shared: Arc::clone(shared),
            key: started.key,
            at: started.at,
            started: started.now,
            cost: started.item.cost,
            tries: started.tries,
            job: self.job.clone(),
        };
        let work = (shared.run)(started.item.work, context);
        self.work = Some((work, guard));
    }
}

impl<K, T> Future for Running<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let is_first = self.ticket.is_some();
        if let Some(ticket) = self.ticket.take() {
            let (shared, ticket) = ticket.start();
            let may_start = self.may_start();
            let step = Step::Start { ticket, may_start };
            let Some(started) = shared.step(&self.job, step) else {
                return Poll::Ready(());
            };
            self.begin(&shared, started);
        }
        while let Some((work, guard)) = &mut self.work {
            if work.as_mut().poll(cx).is_pending() {
                if is_first {
                    // Other work that is due does not wait until this work has ended.
                    guard.shared.step(&guard.job, Step::Await);
                }
                return Poll::Pending;
            }
            let Some((work, mut guard)) = self.work.take() else {
                break;
            };
            drop(work);
            let may_start = is_first && self.starts < MAX_STARTS && self.may_start();
            if let Some(started) = guard.exchange(may_start) {
                let shared = Arc::clone(&guard.shared);
                self.begin(&shared, started);
            }
        }
        Poll::Ready(())
    }
}
