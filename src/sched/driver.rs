//! The driver: the one task that owns the heap and the one sleep. It runs no job.
//!
//! A turn moves all entries that have arrived into the heap, releases the due jobs, and parks until the next deadline.
//! The driver yields between bounded pieces of work, so that neither many entries nor many due jobs hold up the
//! runtime.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio_util::sync::WaitForCancellationFutureOwned;

use super::queue::{Entry, Queue, Sweep};
use super::shared::Shared;
use super::state::{DroppedChunk, Effects, Turn};
use super::worker;
use super::yield_now::yield_now;
use crate::common::time::Timestamp;

/// How many entries are moved into the heap before the driver yields.
const ARRIVALS: usize = 4096;
/// How many chunks of slots are dropped before the driver yields. To drop one takes 10 to 15 microseconds, and what the
/// destructors of its jobs take.
const CHUNKS_A_TURN: usize = 8;
/// How many jobs are released before the driver yields.
const RELEASES: usize = 512;
/// How many entries of storage the batch keeps, and `arrived` when there is nothing to sleep for: an idle group is to be
/// small.
const KEPT: usize = 16;
/// How many entries of storage `arrived` keeps otherwise.
const KEPT_ARRIVED: usize = 1024;
/// How many slots of a bucket, and how many of a sweep, are looked up under one hold of the lock.
const LOOKED_UP: usize = 512;

pub(super) struct Driver {
    // Everything but `shared` belongs to this task alone, and needs no lock.
    shared: Arc<Shared>,
    queue: Queue,
    /// `Some` while dead entries are removed.
    sweep: Option<Box<Sweep>>,
    /// Resolves when the token is cancelled; `None` after that.
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Due entries from the front of the heap, to be released.
    batch: Vec<Entry>,
    /// The empty buffer for the entries that arrive next.
    arrived: Vec<Entry>,
    /// `cancelled` has this task's waker.
    listens: bool,
    /// The group has drained. Otherwise the runtime drops this task before its end.
    done: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Driver {
        let token = shared.token.clone();
        Driver {
            queue: Queue::new(shared.now()),
            sweep: None,
            shared,
            cancelled: Some(Box::pin(token.cancelled_owned())),
            batch: Vec::new(),
            arrived: Vec::new(),
            listens: false,
            done: false,
        }
    }

    /// Drives the group until it has drained.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` would hold the driver twice: as the argument, and as what that is moved to"
    )]
    pub(super) fn drive(mut self) -> impl Future<Output = ()> + Send {
        async move { self.take_turns().await }
    }

    async fn take_turns(&mut self) {
        loop {
            match self.turn() {
                Turn::Exit => return self.done = true,
                Turn::Drop(from) => self.drop_pending(from).await,
                Turn::Expedite => self.expedite().await,
                Turn::Work {
                    arrived,
                    earliest,
                    due,
                    dead,
                } => {
                    // Jobs are released in the order of (deadline, submission). So before the first of them is
                    // released, all entries that are due have to be in order: those still in the wheel, and those that
                    // have just arrived.
                    self.cascade_due(due).await;
                    self.drain_inbox(arrived, earliest).await;
                    if dead && self.sweep.is_none() {
                        self.sweep = Some(Box::new(Sweep::new(due, LOOKED_UP as u32)));
                    }
                    self.queue.pop_due(due, &mut self.batch, RELEASES);
                    // So that a few entries that are near need no turn of their own.
                    let cascade = cascade_near(&self.shared, &mut self.queue, due, LOOKED_UP);
                    let busy = cascade || self.sweep.is_some();
                    if !self.release_and_park(due, busy).await {
                        cascade_near(&self.shared, &mut self.queue, due, ARRIVALS);
                        self.finish_sweep(due);
                        yield_now(&self.shared.runtime).await;
                    }
                }
            }
        }
    }

    /// Begins a turn. In the same step under the lock, the first slots that are due soon are looked up, and the next
    /// chunk of a sweep.
    fn turn(&mut self) -> Turn {
        let empty = std::mem::take(&mut self.arrived);
        let now = self.shared.now();
        let cancelled = self.shared.is_cancelled();
        let slots = self.queue.cascade(now, LOOKED_UP);
        let chunk = self.sweep.as_ref().map(|sweep| sweep.chunk());
        // The sweep's chunk has to be looked up in the same step that empties the inbox (`queue/sweep.rs` says why).
        // The rest is part of the step to take the lock less often.
        let (turn, entries, chunk) = self.shared.enter_as_driver(|state, effects| {
            let turn = state.turn(now, cancelled, empty, effects);
            let entries = slots.map(|slots| state.jobs.entries(slots.iter().copied()));
            let chunk = chunk.and_then(|chunk| state.jobs.entries_in(chunk));
            (turn, entries, chunk)
        });
        // Also if this turn drops jobs instead of working: the slots have left the wheel, so their jobs would have no
        // entry.
        if let Some(entries) = entries {
            self.queue.cascaded(entries);
        }
        if let Some(sweep) = &mut self.sweep {
            sweep.add_chunk(chunk);
        }
        turn
    }

    /// Moves all entries that have arrived into the heap. Until that is done, only jobs that are due before the
    /// `earliest` of them are released, so that the order of release is that of the deadlines.
    async fn drain_inbox(&mut self, mut arrived: Vec<Entry>, earliest: Timestamp) {
        for (count, part) in arrived.chunks(ARRIVALS).enumerate() {
            if count > 0 {
                self.release_before(earliest);
                yield_now(&self.shared.runtime).await;
            }
            self.queue.extend(part.iter().copied());
            if let Some(sweep) = &mut self.sweep {
                sweep.add_arrived(part);
            }
        }
        arrived.clear();
        if arrived.capacity() <= KEPT_ARRIVED {
            self.arrived = arrived;
        }
    }

    /// Releases a batch of jobs that are due before `earliest`, while more entries are on their way into the heap.
    /// Callers that push without a pause can add entries for longer than until the next deadline.
    fn release_before(&mut self, earliest: Timestamp) {
        let (now, tick) = (self.shared.now(), Duration::from_nanos(1));
        let due = now.min(earliest.before(tick));
        if self.queue.next() > due {
            return;
        }
        // Nor may these jobs overtake entries that have come into the inbox since this turn began. If the group was shut
        // down since then, what falls due after that is to be dropped, by the next turn.
        let (arrived, last) = self
            .shared
            .with(|state| (state.inbox.earliest(), state.lifecycle.last_due()));
        let due = due.min(arrived.before(tick)).min(last);
        cascade_near(&self.shared, &mut self.queue, due, ARRIVALS);
        if self.queue.is_behind(due) {
            // More is due in the wheel. Released after the next part.
            return;
        }
        self.queue.advance(due);
        self.queue.pop_due(due, &mut self.batch, RELEASES);
        let start = self
            .shared
            .enter(|state, effects| state.release(&mut self.batch, &mut self.queue, now, effects));
        self.batch.shrink_to(KEPT);
        worker::start(&self.shared, start);
    }

    /// Moves everything that is due from the wheel into order, so that it can be released.
    async fn cascade_due(&mut self, now: Timestamp) {
        while self.queue.is_behind(now) {
            if cascade_near(&self.shared, &mut self.queue, now, ARRIVALS) {
                yield_now(&self.shared.runtime).await;
            }
        }
        self.queue.advance(now);
    }

    /// Ends the sweep, if all chunks have been gathered.
    fn finish_sweep(&mut self, due: Timestamp) {
        // The new heap has an entry for each job that is not released, also for those that are due: the old heap need
        // not release them first, which it may never be done with while many jobs fall due. A job that the old heap has
        // released meanwhile is found released, when its slot or its entry is looked up, and is not released again.
        let gathered = self.sweep.as_mut().and_then(|sweep| sweep.gathered());
        if let Some(fresh) = gathered {
            if !cascade_near(&self.shared, fresh, due, ARRIVALS) {
                std::mem::swap(fresh, &mut self.queue);
                self.sweep = None;
                // The next turn asks whether another sweep is worth it.
                let (head, queued) = (self.queue.next(), self.queue.len());
                self.shared
                    .with(|state| state.inbox.set_queue_stats(head, queued));
            }
        }
    }

    /// Drops the pending jobs that are due at `from` or later, and wakes those that are to be aborted.
    async fn drop_pending(&mut self, from: Timestamp) {
        // The number of chunks is read once, since no job is admitted any more and no run that ends makes its job
        // pending again. A job that a worker gives back meanwhile notifies the driver, and the next turn walks again.
        let mut dropped = DroppedChunk::new();
        for chunk in 0..self.shared.with(|state| state.jobs.chunks()) {
            self.shared.drop_chunk(chunk, from, &mut dropped);
            if chunk % CHUNKS_A_TURN == CHUNKS_A_TURN - 1 {
                yield_now(&self.shared.runtime).await;
            }
        }
        if from == Timestamp::ALWAYS {
            // All pending jobs were dropped, so every entry is dead. A job that a worker gives back later is in the
            // ready queue, and needs no entry here.
            self.queue.clear();
            self.sweep = None;
            drop(self.shared.with(|state| state.inbox.forget()));
        }
    }

    /// Makes the series that end with `wait` due now, so that they see that it was called.
    async fn expedite(&mut self) {
        let now = self.shared.now();
        for chunk in 0..self.shared.with(|state| state.jobs.chunks()) {
            self.shared
                .enter(|state, effects| state.expedite_chunk(chunk, now, effects));
            yield_now(&self.shared.runtime).await;
        }
    }

    /// Releases the batch and, unless the driver is `busy`, sleeps until the next deadline or until it is woken: for an
    /// earlier entry, a notification, or the token. Returns `false` if there was a reason not to sleep.
    async fn release_and_park(&mut self, due: Timestamp, busy: bool) -> bool {
        let mut asleep = false;
        poll_fn(|cx| {
            // Whatever the reason for this wake-up, the next turn looks at everything.
            if asleep {
                return Poll::Ready(true);
            }
            // Applied when the timer is free, which a wake-up of the driver may lock.
            let mut effects = Effects::default();
            // Locked from before the driver parks until the timer is set. So a caller that pushes an earlier entry
            // meanwhile sets the timer after this (`inbox.rs`, arm or wake).
            let mut timer = self.shared.timer();
            // Release and park are one step, so that a lone job costs one lock less. Parking comes last, since a
            // release may put a moved job back into the heap, or begin a watch over the workers.
            let (start, parked) = self.shared.enter_as_driver(|state, _| {
                let start = state.release(&mut self.batch, &mut self.queue, due, &mut effects);
                effects.take_unused(&mut state.jobs);
                let next = self.queue.next();
                state.inbox.set_queue_stats(next, self.queue.len());
                let next = next.min(self.queue.next_large());
                // A moved job that went back to the heap may be due.
                if busy || next <= due {
                    return (start, None);
                }
                (start, state.park(next, cx.waker()))
            });
            if matches!(parked, Some(Timestamp::NEVER)) {
                self.arrived.shrink_to(KEPT);
            }
            // A wake-up from here on finds this task running, and tokio polls it again. So none is missed although the
            // timer is set, and the token asked, after the group's lock.
            let rings = parked.zip(timer.as_mut());
            let rings = rings.map(|(until, timer)| timer.park(until, due, cx));
            drop(timer);
            self.shared.apply(effects);
            self.batch.shrink_to(KEPT);
            worker::start(&self.shared, start);
            match rings {
                None => return Poll::Ready(false),
                Some(Poll::Ready(())) => return Poll::Ready(true),
                Some(Poll::Pending) => asleep = true,
            }
            // A cancel before this poll resolves it, and a later one wakes this task. One registration is enough for
            // the life of the driver, since the waker of a task stays the same.
            match &mut self.cancelled {
                Some(cancelled) if !self.listens => {
                    let waker = Waker::from(Arc::new(Stealable {
                        driver: cx.waker().clone(),
                        shared: Arc::clone(&self.shared),
                    }));
                    let heard = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
                    self.listens = heard.is_pending();
                    if heard.is_ready() {
                        self.cancelled = None;
                    }
                    heard.map(|()| true)
                }
                _ => Poll::Pending,
            }
        })
        .await
    }
}

/// The driver's waker for the token. The task that cancels it may block its thread next, so other threads must be able
/// to steal the driver.
struct Stealable {
    driver: Waker,
    shared: Arc<Shared>,
}

impl Wake for Stealable {
    fn wake(self: Arc<Self>) {
        // Takes no lock of the group, since the caller may hold that of a parent token.
        self.driver.wake_by_ref();
        self.shared.make_stealable();
    }
}

/// Moves about `most` entries that are due soon from the wheel into order. Returns `true` if there may be more.
fn cascade_near(shared: &Shared, queue: &mut Queue, now: Timestamp, most: usize) -> bool {
    let mut moved = 0;
    while let Some(slots) = queue.cascade(now, LOOKED_UP) {
        moved += slots.len();
        let entries = shared.enter_as_driver(|state, _| state.jobs.entries(slots.iter().copied()));
        queue.cascaded(entries);
        if moved >= most {
            return true;
        }
    }
    false
}

/// Drops the timer. If the runtime was shut down before the group had drained, no job will run any more: the group ends
/// here, so that no task waits for it for ever.
impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.timer().take();
        if !self.done {
            let woken = self
                .shared
                .enter_checked(|state, effects| state.runtime_gone(effects));
            drop(woken);
            // In this thread and without a yield, since no task of the group will be polled any more. The lock is still
            // released after each chunk, for callers on other threads.
            let mut dropped = DroppedChunk::new();
            for chunk in 0..self.shared.with(|state| state.jobs.chunks()) {
                self.shared
                    .drop_chunk(chunk, Timestamp::ALWAYS, &mut dropped);
                self.shared.end_chunk(chunk);
            }
        }
        let (_waker, is_detached) = self
            .shared
            .with(|state| (state.inbox.take_waker(), state.lifecycle.is_detached()));
        // A `Group` that is dropped, or is detached only now, clears the tables itself, and one that is alive may still
        // be asked for the values that are left in them. So this is only for a group that was detached before.
        if is_detached {
            self.shared.clear_tables();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::sync::Weak;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use tokio::time::{Instant, advance};
    use tokio_util::sync::CancellationToken;

    use super::super::runnable::{JobFuture, RowKey, RowTable, Run};
    use super::super::state::{CHUNK, JobKind, State, Workers};
    use super::super::timer::Timer;
    use super::*;
    use crate::common::closing::{Closing, StopReason};
    use crate::common::panic::Payload;
    use crate::common::time::Clock;

    /// A driver that only moves when it is polled here.
    struct Stepped {
        shared: Arc<Shared>,
        drive: Pin<Box<dyn Future<Output = ()>>>,
    }

    impl Stepped {
        fn new() -> Stepped {
            let clock = Clock::new(Instant::now());
            let shared = Shared::new(
                State::new(usize::MAX, Workers::new(1, false), Timestamp::NEVER),
                clock,
                CancellationToken::new(),
                false,
                tokio::runtime::Handle::current(),
                None,
                Timer::new(clock, None),
            );
            let driver = Driver::new(Arc::clone(&shared));
            let drive = Box::pin(driver.drive());
            let mut stepped = Stepped { shared, drive };
            stepped.step();
            stepped
        }

        fn submit(&self, delay: Duration) -> u32 {
            self.submit_at(self.shared.now().after(delay))
        }

        fn submit_at(&self, at: Timestamp) -> u32 {
            self.submit_kind(at, JobKind::Once)
        }

        fn submit_kind(&self, at: Timestamp, kind: JobKind) -> u32 {
            let runnable = Box::new(async {});
            let (_, slot) = self.shared.enter(|state, effects| {
                state.insert(at, runnable, kind, Location::caller(), effects)
            });
            slot
        }

        /// How many jobs were released.
        fn released(&self) -> usize {
            let clock = &self.shared.clock;
            self.shared.with(|state| state.stats(clock).waiting)
        }

        /// Polls the driver once; how often it took the lock.
        fn step(&mut self) -> u64 {
            let locks = || self.shared.costs.locks.load(Relaxed);
            let before = locks();
            let polled = self
                .drive
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "the group does not end");
            locks() - before
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_takes_the_lock_twice_whether_one_thing_is_due_or_none() {
        let mut driver = Stepped::new();
        assert_eq!(driver.step(), 2, "nothing is there");
        for delay in [0, 1, 10, 100, 3_600_000] {
            let delay = Duration::from_millis(delay);
            driver.submit(delay);
            if !delay.is_zero() {
                assert_eq!(driver.step(), 2, "{delay:?} is not over");
                advance(delay).await;
            }
            assert_eq!(driver.step(), 2, "{delay:?} is over");
            let started = driver
                .shared
                .with(|state| state.stats(&driver.shared.clock).waiting);
            assert_eq!(started, 1, "it was released after {delay:?}");
            tokio::task::yield_now().await;
        }
    }

    /// With its waker the task of the driver would stay, for as long as there is a handle of a job.
    #[tokio::test(start_paused = true)]
    async fn no_waker_outlives_the_driver() {
        let Stepped { shared, mut drive } = Stepped::new();
        let counted = Arc::new(Counted);
        let waker = Waker::from(Arc::clone(&counted));
        let mut cx = Context::from_waker(&waker);
        assert!(drive.as_mut().poll(&mut cx).is_pending());
        // The turn finds this by itself, so the waker is not taken out to wake the driver.
        shared.share_token().cancel();
        assert!(drive.as_mut().poll(&mut cx).is_ready());
        drop((drive, waker));
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn no_timer_outlives_the_driver() {
        let Stepped { shared, drive } = Stepped::new();
        assert!(shared.timer().is_some());
        drop(drive);
        assert!(shared.timer().is_none());
    }

    /// A driver that has begun to take in many far entries, of which the last is due `last` from now. One that was
    /// there before falls due two milliseconds later, in the middle.
    async fn in_the_middle_of_arrivals(last: Duration) -> Stepped {
        let mut driver = Stepped::new();
        driver.submit(Duration::from_millis(2));
        driver.step();
        for _ in 0..4 * ARRIVALS {
            driver.submit(Duration::from_secs(3_600));
        }
        driver.submit(last);
        driver.step();
        advance(Duration::from_millis(2)).await;
        driver
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_while_many_arrive_is_released_before_all_of_them_are_in() {
        let mut driver = in_the_middle_of_arrivals(Duration::from_secs(3_600)).await;
        driver.step();
        assert_eq!(driver.released(), 1, "after the second of five parts");
    }

    /// What is in the wheel moves in first, a part of it after each part of what arrives.
    #[tokio::test(start_paused = true)]
    async fn many_that_fall_due_while_many_arrive_are_released_in_parts() {
        let (mut driver, crowd) = (Stepped::new(), 3 * ARRIVALS);
        for _ in 0..crowd {
            driver.submit(Duration::from_secs(10));
        }
        (0..10).for_each(|_| {
            driver.step();
        });
        for _ in 0..9 * ARRIVALS {
            driver.submit(Duration::from_secs(3_600));
        }
        driver.step();
        advance(Duration::from_secs(10)).await;
        let released: Vec<_> = (0..8)
            .map(|_| {
                driver.step();
                driver.released()
            })
            .collect();
        assert_eq!(released[0], 0, "two thirds of them are still in the wheel");
        assert!(released.is_sorted(), "{released:?}");
        assert!(released[7] >= RELEASES, "{released:?}");
        (0..100).for_each(|_| {
            driver.step();
        });
        assert_eq!(driver.released(), crowd);
    }

    /// They move at 98.784 seconds, if the driver is awake then, where a bucket of the wheel begins.
    #[tokio::test(start_paused = true)]
    async fn what_comes_while_many_far_ones_move_is_released_at_its_time() {
        let (mut driver, millisecond) = (Stepped::new(), Duration::from_millis(1));
        for _ in 0..16 * ARRIVALS {
            driver.submit(100_000 * millisecond);
        }
        (0..20).for_each(|_| _ = driver.step());
        for (round, delay) in [98_780, 20, 20, 20].into_iter().enumerate() {
            driver.submit(delay * millisecond);
            driver.step();
            advance(delay * millisecond).await;
            driver.step();
            assert_eq!(driver.released(), 1, "round {round}");
            // The worker starts it.
            tokio::task::yield_now().await;
        }
        assert!(driver.step() > 3, "they still move");
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_while_many_arrive_does_not_overtake_any_of_them() {
        let mut driver = in_the_middle_of_arrivals(Duration::from_millis(1)).await;
        for _ in 0..3 {
            driver.step();
            assert_eq!(driver.released(), 0, "an earlier one has arrived");
        }
        driver.step();
        assert_eq!(driver.released(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_while_many_arrive_does_not_overtake_what_comes_meanwhile() {
        let mut driver = in_the_middle_of_arrivals(Duration::from_secs(3_600)).await;
        let millisecond = Duration::from_millis(1);
        driver.submit_at(driver.shared.now().before(millisecond));
        for _ in 0..4 {
            driver.step();
            assert_eq!(driver.released(), 0, "an earlier one waits in the inbox");
        }
        driver.step();
        assert_eq!(driver.released(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_after_a_shutdown_is_not_released_though_many_arrive() {
        let (mut driver, millisecond) = (Stepped::new(), Duration::from_millis(1));
        driver.submit(millisecond);
        driver.submit(2 * millisecond);
        driver.step();
        for _ in 0..4 * ARRIVALS {
            driver.submit(Duration::from_secs(3_600));
        }
        driver.step();
        advance(millisecond).await;
        let grace = Duration::from_secs(1);
        driver.shared.close_within(Closing::ShutDown, grace);
        advance(millisecond).await;
        driver.step();
        assert_eq!(driver.released(), 1, "the other was not due at the call");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_drops_the_series_that_are_not_due_yet_though_a_wait_makes_them_due() {
        let (mut driver, millisecond) = (Stepped::new(), Duration::from_millis(1));
        let later = driver.shared.now().after(3_600_000 * millisecond);
        for _ in 0..3 * CHUNK {
            driver.submit_kind(later, JobKind::UntilWait);
        }
        driver.step();
        assert!(
            driver
                .shared
                .enter(|state, effects| state.close_to_wait(effects))
        );
        // The walk is at the second of three chunks.
        driver.step();
        advance(millisecond).await;
        let shared = &driver.shared;
        shared.close_within(Closing::ShutDown, 1_000 * millisecond);
        (0..10).for_each(|_| _ = driver.step());
        assert_eq!(driver.released(), CHUNK);
    }

    /// A table whose drop, like the destructor of a user's handler, looks whether something holds.
    struct Looks<F: Fn() -> bool>(F, Arc<AtomicBool>);

    impl<F: Fn() -> bool> Drop for Looks<F> {
        fn drop(&mut self) {
            self.1.store((self.0)(), Relaxed);
        }
    }

    impl<F: Fn() -> bool + Send + Sync> RowTable for Looks<F> {
        fn may_start(&self, _: &Arc<dyn RowTable>, _: u32, _: u32) -> Result<bool, Payload> {
            Ok(true)
        }

        fn start(self: Arc<Self>, _: u32, _: u32, _: Run) -> Option<JobFuture> {
            None
        }

        fn clear(&self) {}
    }

    /// Leaves the group a table that the next step under the lock releases, since the cancel of its last row is noted.
    /// Returns what the table finds when it is dropped.
    fn leave_table(
        shared: &Arc<Shared>,
        looks: impl Fn(&Shared) -> bool + Send + Sync + 'static,
    ) -> Arc<AtomicBool> {
        let (found, of) = (Arc::default(), Arc::downgrade(shared));
        let look = move || looks(&of.upgrade().expect("the test has it"));
        let table: Arc<dyn RowTable> = Arc::new(Looks(look, Arc::clone(&found)));
        let weak: Weak<dyn RowTable> = Arc::downgrade(&table);
        let slot = shared.enter(|state, effects| {
            let key = RowKey {
                table: state.jobs.tables.register(weak),
                row: 0,
            };
            let (table, site) = (|| Arc::clone(&table), Location::caller());
            state.insert_row(Timestamp::NEVER, key, table, None, site, effects)
        });
        let cancels = shared.with(|state| state.jobs.tables.cancels().cloned());
        assert!(cancels.expect("there is a table").note(slot));
        found
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_is_dropped_when_the_effects_of_the_step_are_applied() {
        let driver = Stepped::new();
        let found = leave_table(&driver.shared, |shared| shared.token.is_cancelled());
        driver
            .shared
            .enter(|state, effects| state.stop(StopReason::Cancelled, effects));
        assert!(found.load(Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_goes_as_the_driver_parks_is_dropped_outside_of_all_locks() {
        let mut driver = Stepped::new();
        for _ in 0..=ARRIVALS {
            driver.submit(Duration::from_secs(3_600));
        }
        driver.step();
        // The driver has begun its turn, and has yet to park.
        let found = leave_table(&driver.shared, |shared| shared.timer_is_free());
        driver.step();
        assert!(found.load(Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_idle_hour_a_job_costs_no_look_up_before_its_time() {
        let mut driver = Stepped::new();
        driver.submit(Duration::from_secs(7_200));
        driver.step();
        advance(Duration::from_secs(3_600)).await;
        driver.submit(Duration::from_millis(1));
        assert_eq!(driver.step(), 2);
        advance(Duration::from_millis(1)).await;
        assert_eq!(driver.step(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_releases_a_batch_and_no_more() {
        let mut driver = Stepped::new();
        for _ in 0..3 * RELEASES {
            driver.submit(Duration::ZERO);
        }
        for batches in 1..=3 {
            driver.step();
            assert_eq!(driver.released(), batches * RELEASES);
        }
    }

    /// Else the dead entries of a flood would pile up for as long as it lasts.
    #[tokio::test(start_paused = true)]
    async fn dead_entries_are_swept_though_more_is_due_in_each_turn_than_it_releases() {
        let mut driver = Stepped::new();
        for _ in 0..3 * RELEASES {
            driver.submit(Duration::ZERO);
        }
        for turn in 0..150 {
            for _ in 0..RELEASES {
                driver.shared.drop_handle(driver.submit(Duration::ZERO));
                if turn < 100 {
                    let slot = driver.submit(Duration::from_secs(3_600));
                    let cancel =
                        |state: &mut State, effects: &mut _| state.cancel(slot, &mut None, effects);
                    assert!(driver.shared.enter(cancel));
                    driver.shared.drop_handle(slot);
                }
            }
            driver.step();
            // The worker runs what was released.
            while driver.released() > 0 {
                tokio::task::yield_now().await;
            }
        }
        let due = driver.shared.with(|state| {
            assert!(!state.has_too_many_dead());
            state.stats(&driver.shared.clock).pending
        });
        assert!(due > RELEASES, "{due} are due");
    }
}
