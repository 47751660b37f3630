//! The driver: the one task that owns the heap and the one sleep.
//!
//! A turn takes in all entries that have arrived, releases what is due in bounded batches, and lies
//! down until the next deadline. It runs no job. Between bounded pieces of work it yields, so that
//! neither a flood of entries nor a flood of due jobs holds up the runtime.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio_util::sync::WaitForCancellationFutureOwned;

use super::alarm::Alarm;
use super::queue::{Entry, Queue};
use super::shared::Shared;
use super::state::Turn;
use super::worker;
use super::yield_now::yield_now;
use crate::ground::timeline::Tick;

/// Entries that are taken into the heap before others get a turn.
const ARRIVALS: usize = 4096;
/// Jobs that are released before others get a turn.
const RELEASES: usize = 512;
/// As many entries of a batch keep their storage for the next one: an idle group is small.
const KEPT: usize = 16;
/// Slots that are looked up under the lock in one go.
const LOOKED_UP: usize = 512;

pub(super) struct Driver {
    shared: Arc<Shared>,
    queue: Queue,
    alarm: Alarm,
    /// `None` once it has been heard.
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    batch: Vec<Entry>,
    /// Ended by itself, not with its runtime.
    done: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, alarm: Alarm) -> Driver {
        let token = shared.token.clone();
        Driver {
            queue: Queue::new(shared.now()),
            shared,
            alarm,
            cancelled: Some(Box::pin(token.cancelled_owned())),
            batch: Vec::new(),
            done: false,
        }
    }

    pub(super) async fn drive(mut self) {
        loop {
            match self.turn() {
                Turn::Exit => break,
                Turn::Drop(from) => self.drop_pending(from).await,
                Turn::Hurry => self.hurry().await,
                Turn::Work { arrived, due } => {
                    self.take_in(arrived).await;
                    self.sweep().await;
                    self.catch_up(due).await;
                    let released = self.release(due);
                    let busy = self.move_in(due) || released;
                    if busy || !self.lie_down().await {
                        yield_now(&self.shared.runtime).await;
                    }
                }
            }
        }
        self.done = true;
    }

    fn turn(&self) -> Turn {
        let now = self.shared.now();
        let cancelled = self.shared.is_cancelled();
        self.shared
            .enter(|state, todo| state.turn(now, cancelled, todo))
    }

    /// Everything that has arrived goes into the heap before anything is released, so that the order
    /// of release is that of the deadlines, whatever the order of arrival.
    async fn take_in(&mut self, arrived: Vec<Entry>) {
        for (count, part) in arrived.chunks(ARRIVALS).enumerate() {
            if count > 0 {
                yield_now(&self.shared.runtime).await;
            }
            self.queue.extend(part.iter().copied());
        }
    }

    /// Moves in whatever is due by now: before that nothing can be released in order.
    async fn catch_up(&mut self, now: Tick) {
        while self.queue.is_behind(now) {
            if self.move_in(now) {
                yield_now(&self.shared.runtime).await;
            }
        }
    }

    /// Moves entries whose time comes near into the heap's order; true if there may be more.
    fn move_in(&mut self, now: Tick) -> bool {
        let mut moved = 0;
        while let Some(slots) = self.queue.arriving(now, LOOKED_UP) {
            moved += slots.len();
            let entries = self.shared.enter(|state, _| state.entries(slots));
            self.queue.extend(entries);
            if moved >= ARRIVALS {
                return true;
            }
        }
        false
    }

    /// Releases a batch of due jobs; true if there may be more.
    fn release(&mut self, due: Tick) -> bool {
        while self.batch.len() < RELEASES {
            match self.queue.pop_due(due) {
                Some(entry) => self.batch.push(entry),
                None => break,
            }
        }
        let full = self.batch.len() == RELEASES;
        let now = self.shared.now();
        let start = self
            .shared
            .enter(|state, todo| state.release(&mut self.batch, &mut self.queue, now, todo));
        self.batch.shrink_to(KEPT);
        worker::start(&self.shared, start);
        full || self.queue.next().is_some_and(|next| next <= due)
    }

    /// Gets rid of dead entries, when they are more than the live ones, by making all entries anew.
    async fn sweep(&mut self) {
        if !self.shared.enter(|state, _| state.has_too_many_dead()) {
            return;
        }
        self.queue.clear();
        for chunk in 0..self.shared.enter(|state, _| state.chunks()) {
            let entries = self.shared.enter(|state, _| state.chunk_entries(chunk));
            self.queue.extend(entries);
            yield_now(&self.shared.runtime).await;
        }
    }

    /// Drops the pending jobs that are due at `from` or later, and wakes those that are to be aborted.
    async fn drop_pending(&mut self, from: Tick) {
        for chunk in 0..self.shared.enter(|state, _| state.chunks()) {
            self.shared.drop_chunk(chunk, from);
            yield_now(&self.shared.runtime).await;
        }
        if from == Tick::ALWAYS {
            self.queue.clear();
            self.shared.enter(|state, _| state.forget_entries());
        }
    }

    /// Brings forward the series that end with `wait`, so that they see that it was called.
    async fn hurry(&mut self) {
        let now = self.shared.now();
        for chunk in 0..self.shared.enter(|state, _| state.chunks()) {
            self.shared
                .enter(|state, todo| state.hurry_chunk(chunk, now, todo));
            yield_now(&self.shared.runtime).await;
        }
    }

    /// Sleeps until the next deadline, an earlier job, a cancelled token, or another reason to look.
    /// False if there was one before it fell asleep.
    async fn lie_down(&mut self) -> bool {
        let mut asleep = false;
        poll_fn(|cx| {
            if asleep {
                return Poll::Ready(true);
            }
            let next = self.queue.wakes();
            let lain = self
                .shared
                .enter(|state, _| state.lie_down(next, cx.waker()));
            let Some(until) = lain else {
                return Poll::Ready(false);
            };
            asleep = true;
            // Nothing to come arms nothing, so that an idle group leaves a paused clock alone.
            if until < Tick::NEVER {
                self.alarm.set(self.shared.timeline.instant(until));
                if self.alarm.poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
            }
            match &mut self.cancelled {
                Some(cancelled) => {
                    let heard = cancelled.as_mut().poll(cx);
                    if heard.is_ready() {
                        self.cancelled = None;
                    }
                    heard.map(|()| true)
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// The runtime has gone before the group had drained: nothing more will run, and nobody may be left
/// waiting for it.
impl Drop for Driver {
    fn drop(&mut self) {
        if !self.done {
            self.shared.enter(|state, todo| state.abandon(todo));
            for chunk in 0..self.shared.enter(|state, _| state.chunks()) {
                self.shared.drop_chunk(chunk, Tick::ALWAYS);
            }
        }
    }
}
