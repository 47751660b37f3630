//! The driver: the one task that owns the heap and the one sleep.
//!
//! A turn takes in all entries that have arrived, releases what is due in bounded batches, and lies
//! down until the next deadline. It runs no job. Between bounded pieces of work it yields, so that
//! neither a flood of entries nor a flood of due jobs holds up the runtime.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::RuntimeFlavor;
use tokio::task::yield_now;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::alarm::Alarm;
use super::queue::{Entry, Queue};
use super::runner;
use super::shared::Shared;
use super::state::Turn;
use super::tend::Tend;
use crate::ground::timeline::Tick;

/// Entries that are taken into the heap before others get a turn.
const ARRIVALS: usize = 4096;
/// Jobs that are released before others get a turn.
const RELEASES: usize = 512;
/// As many entries of a batch keep their storage for the next one: an idle group is small.
const KEPT: usize = 16;
/// Slots that are looked up under the lock in one go.
const LOOKED_UP: usize = 512;
/// No timer is armed for what is further away.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) struct Driver {
    shared: Arc<Shared>,
    queue: Queue,
    alarm: Alarm,
    /// `None` once it has been heard.
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    batch: Vec<Entry>,
    /// If workers of the runtime can be blocked without blocking the driver.
    tend: Option<Tend>,
    /// Ended by itself, not with its runtime.
    done: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, alarm: Alarm) -> Driver {
        let token = shared.token.clone();
        let tends = shared.runtime.runtime_flavor() != RuntimeFlavor::CurrentThread;
        Driver {
            queue: Queue::new(shared.now()),
            shared,
            alarm,
            cancelled: Some(Box::pin(token.cancelled_owned())),
            batch: Vec::new(),
            tend: tends.then(Tend::default),
            done: false,
        }
    }

    pub(super) async fn drive(mut self) {
        loop {
            match self.turn() {
                Turn::Exit => break,
                Turn::Drop(from) => self.drop_pending(from).await,
                Turn::Work { arrived, due } => {
                    self.catch_up(due).await;
                    self.take_in(arrived).await;
                    self.sweep().await;
                    let released = self.release(due);
                    let busy = self.move_in(due) || released;
                    if busy || !self.lie_down().await {
                        yield_now().await;
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
                yield_now().await;
            }
            self.queue.extend(part.iter().copied());
        }
    }

    /// Moves in whatever is due by now: before that nothing can be released in order.
    async fn catch_up(&mut self, now: Tick) {
        while self.queue.is_behind(now) {
            if self.move_in(now) {
                yield_now().await;
            }
        }
        self.queue.go_on(now);
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
        let hired = self.shared.enter(|state, _| {
            state.release(&mut self.batch, &mut self.queue);
            let places = state.places();
            let tend = self.tend.as_mut();
            let relief = tend.is_some_and(|tend| tend.look(places, now));
            places.hire() + usize::from(relief)
        });
        self.batch.shrink_to(KEPT);
        runner::start(&self.shared, hired);
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
            yield_now().await;
        }
    }

    /// Drops the pending jobs that are due at `from` or later.
    async fn drop_pending(&mut self, from: Tick) {
        for chunk in 0..self.shared.enter(|state, _| state.chunks()) {
            let jobs = self
                .shared
                .enter(|state, todo| state.unstart_chunk(chunk, from, todo));
            if !jobs.is_empty() {
                self.shared.drop_unstarted(jobs);
                yield_now().await;
            }
        }
        if from == Tick::ALWAYS {
            self.queue.clear();
            self.shared.enter(|state, _| state.forget_entries());
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
            let tend = self.tend.as_ref().map_or(Tick::NEVER, Tend::next);
            let lain = self
                .shared
                .enter(|state, _| state.lie_down(next, tend, cx.waker()));
            let Some(until) = lain else {
                return Poll::Ready(false);
            };
            asleep = true;
            // What is too far away arms nothing, so that an idle group leaves a paused clock alone.
            if until.since(self.shared.now()) < CENTURY {
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
            self.shared.drop_all(Tick::ALWAYS);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::queue::Stamp;
    use super::*;

    const MS: u64 = 1 << 20;

    fn tick(nanos: u64) -> Tick {
        Tick::ALWAYS.after(Duration::from_nanos(nanos))
    }

    /// What a bucket of more than 4,096 entries is promised: so much ahead it has moved in.
    fn lead(len: usize) -> u64 {
        (16_000_000).max(500 * len as u64)
    }

    /// Lets a queue of these deadlines run empty as the driver does, which sleeps until `wakes`; when each
    /// slot was looked up last.
    fn looked_up(deadlines: &[u64]) -> Vec<u64> {
        let entry = |slot: usize| Entry {
            at: tick(deadlines[slot]),
            stamp: Stamp::first(slot as u64),
            slot: slot as u32,
        };
        let mut queue = Queue::new(Tick::ALWAYS);
        queue.extend((0..deadlines.len()).map(entry));
        let (mut now, mut seen) = (Tick::ALWAYS, vec![0; deadlines.len()]);
        loop {
            while let Some(slots) = queue.arriving(now, LOOKED_UP) {
                for &slot in &slots {
                    seen[slot as usize] = now.bits();
                }
                queue.extend(slots.into_iter().map(|slot| entry(slot as usize)));
            }
            while queue.pop_due(now).is_some() {}
            match queue.wakes() {
                Some(next) => {
                    assert!(next > now, "it would not sleep");
                    now = next;
                }
                None => return seen,
            }
        }
    }

    /// A distance within 64 buckets of a level.
    fn distance() -> impl Strategy<Value = u64> {
        (0..4_u32, 0..64 * MS).prop_map(|(level, part)| part << (6 * level))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever stands in front of them, a millisecond's crowd is in order its lead ahead of its time.
        #[test]
        fn a_crowd_moves_in_ahead_of_its_time_whatever_stands_in_front_of_it(
            crowds in prop::collection::vec((distance(), 4_097..40_000_usize), 1..4),
            small in prop::collection::vec((0..4_usize, distance(), 1..100_usize), 0..6),
            first in any::<bool>(),
        ) {
            let mut large = Vec::new();
            for &(at, len) in &crowds {
                large.extend(std::iter::repeat_n(100 * MS + at, len));
            }
            let few = small.iter().flat_map(|&(crowd, ahead, len)| {
                let at = 100 * MS + crowds[crowd % crowds.len()].0;
                std::iter::repeat_n(at.saturating_sub(ahead), len)
            });
            let deadlines: Vec<u64> = if first {
                few.chain(large).collect()
            } else {
                large.into_iter().chain(few).collect()
            };
            let seen = looked_up(&deadlines);
            let mut granules = std::collections::BTreeMap::<u64, (u64, u64, usize)>::new();
            for (&at, &seen) in deadlines.iter().zip(&seen) {
                let (earliest, last, len) = granules.entry(at / MS).or_insert((at, seen, 0));
                *earliest = at.min(*earliest);
                *last = seen.max(*last);
                *len += 1;
            }
            for (granule, (earliest, last, len)) in granules {
                prop_assert!(
                    len <= 4096 || last <= earliest.saturating_sub(lead(len)),
                    "{len} due at {earliest}, in granule {granule}, have moved in only at {last}"
                );
            }
        }
    }
}
