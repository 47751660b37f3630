//! The state that the clones of a dispatcher and its running work share: the lock, and the ticket in the group's heap.
//!
//! Queued work is data. One job of the group, the ticket, is due when work may start next. It runs in these steps:
//!
//! 1. Under the lock it takes the work that may start now out of its queue, and charges for it. This counts as the
//!    start of the work, however long the ticket has waited for a slot of its group.
//! 2. It schedules the next ticket, which is due when other work may start; or a moment later, if other work may start
//!    now.
//! 3. It polls the work. If the work is ready, its slot in its lane is free, and the job continues with step 1 for the
//!    next work. Therefore several short items of work in a row cost the group one job.
//! 4. Otherwise it is the job of that work from now on, and the next ticket is moved to the instant at which other work
//!    may start. If the work blocks its thread, the next ticket runs on another worker.
//!
//! While there is queued work that could start, there is a ticket. Queued work that could not start waits for running
//! work, which is a job of the group too. So the group is not drained before the queues are empty. When no work is left,
//! there is no ticket, so the group is drained then.

use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schedgroup::{Handle, JobContext, JobHandle};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::drain::{Drained, Unstarted};
use super::error::Closed;
use super::stats::{KeyStats, Stats};
use super::ticket::{Running, Watch};
use crate::drops::drop_each;
use crate::lanes::{Item, Key, LaneId, Lanes, Left, Limits, NEVER, Returned, Slot, Started};
use crate::retry::Tries;
use crate::time::{Clock, later, nanos};

pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(super) type Run<K, T> = Box<dyn Fn(T, Context<K, T>) -> Work + Send + Sync>;

/// The settings that a builder has collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) bound: Option<usize>,
    pub(super) max_hold: Duration,
    pub(super) slack: Duration,
}

/// How long the next ticket waits while a job starts one short piece of work after the other, in nanoseconds. If work
/// blocks its thread, another worker continues after this time.
const LEND: u64 = 1_000_000;

/// A ticket is not moved by less than this, in nanoseconds, since timers work in whole milliseconds.
const NEAR: u64 = 1_000_000;

/// Lock order: this lock, then the group's. The only user code that runs under it is `Eq` of keys. The methods of the
/// group that are called under it, `reset_at` and `is_finished`, run no user code, drop no user value and wake no task.
pub(super) struct Shared<K, T> {
    pub(super) group: Handle,
    pub(super) clock: Clock,
    hasher: RandomState,
    pub(super) run: Run<K, T>,
    pub(super) max_hold: Duration,
    slack: u64,
    /// The permits of the bound: one for each piece of work that may be queued.
    pub(super) permits: Option<Semaphore>,
    /// Notified when no work is left, or no work will start any more.
    quiet: Notify,
    state: Mutex<State<K, T>>,
}

struct State<K, T> {
    lanes: Lanes<K, T>,
    ticket: Option<Ticket>,
    /// The number of the newest ticket.
    last_ticket: u64,
    phase: Phase,
}

/// The ticket, while there is one.
///
/// ```text
/// none -> scheduled                        a push takes over a ticket that the group has accepted
/// none -> being scheduled -> scheduled     a job creates a ticket, outside of the lock
/// any  -> none                             the ticket starts, the group drops it, or no work is left
/// ```
struct Ticket {
    number: u64,
    /// The instant at which it is due, or an earlier one.
    due: u64,
    /// `None` while it is being scheduled. A caller that needs it earlier changes nothing then: the job that schedules
    /// it looks again.
    job: Option<JobHandle>,
}

/// Cancels the job of a ticket, if it has one. The lock may not be held: the group drops the job, and with it a `Watch`.
fn cancel(job: Option<JobHandle>) {
    if let Some(job) = job {
        job.cancel();
    }
}

/// A ticket that no push has taken over yet. If it is dropped, its job is cancelled.
struct Spare(Option<Ticket>);

impl Drop for Spare {
    fn drop(&mut self) {
        cancel(self.0.take().and_then(|ticket| ticket.job));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Only running work may push.
    Draining,
    /// Nothing may be pushed: the dispatcher was drained, or the group has ended.
    Closed,
}

/// A ticket that is to be scheduled.
struct Order {
    number: u64,
    at: u64,
}

/// The kind of caller that pushes work.
pub(super) enum Pusher<'a> {
    Outside,
    /// Running work, whose context may schedule while the group drains.
    Work(&'a JobContext),
}

/// What the job of a ticket has done, and whether it can start work now.
pub(super) enum Step {
    /// It has started. It is the ticket with this number.
    Start { ticket: u64, may_start: bool },
    /// Its work has ended.
    End { slot: Slot, may_start: bool },
    /// Its work has to await.
    Await,
}

/// Work on its way into a lane.
pub(super) struct New<T> {
    pub(super) item: Item<T>,
    /// For retried work: when it is due, and its earlier attempts.
    pub(super) again: Option<(Instant, Box<Tries>)>,
}

impl<K, T> State<K, T> {
    /// Makes sure that there is a ticket if work may start at some time, and that the ticket is not due later.
    ///
    /// If `lent`, the caller itself continues with the work that is due, and the ticket is only needed if that blocks.
    fn plan(&mut self, clock: &Clock, now: u64, slack: u64, lent: bool) -> Option<Order> {
        if self.phase == Phase::Closed {
            return None;
        }
        let next = self.lanes.next(now)?;
        let due = match (next > now, lent) {
            (true, _) => next.saturating_add(slack).min(NEVER - 1),
            (false, true) => now + LEND.max(slack),
            (false, false) => next,
        };
        match &mut self.ticket {
            None => {
                let (number, job) = (self.number(), None);
                self.ticket = Some(Ticket { number, due, job });
                Some(Order { number, at: due })
            }
            Some(Ticket {
                due: known,
                job: Some(job),
                ..
            }) if due < *known && (due <= now || *known - due >= NEAR) => {
                *known = due;
                // If the ticket is just being started, this returns `false`, and the ticket will find the work. In a
                // group that ends it returns `false` too, and the ticket is dropped.
                job.reset_at(clock.instant(due));
                None
            }
            Some(_) => None,
        }
    }

    /// Takes out a scheduled ticket that is not needed, since no work is left. It may be due late or never, and the
    /// group would wait for it.
    fn take_unneeded(&mut self) -> Option<JobHandle> {
        let is_quiet = self.lanes.is_quiet();
        let unneeded = |ticket: &mut Ticket| is_quiet && ticket.job.is_some();
        self.ticket.take_if(unneeded)?.job
    }

    /// Takes over a ticket that the group has accepted, if there is no other one.
    fn take_over(&mut self, spare: &mut Spare) {
        if self.ticket.is_none() {
            self.ticket = spare.0.take();
        }
    }

    /// Adds work to a lane. Retried work may be due later.
    fn enqueue(&mut self, lane: LaneId, New { item, again }: New<T>, clock: &Clock, now: u64) {
        match again {
            None => self.lanes.push(lane, item, now),
            Some((at, tries)) => {
                let returned = Returned { item, tries };
                self.lanes
                    .push_returned(lane, returned, clock.nanos(at), now);
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }
}

impl<K, T> Shared<K, T> {
    pub(super) fn new(settings: Settings, group: Handle, run: Run<K, T>) -> Shared<K, T> {
        let permits = settings
            .bound
            .map(|count| count.min(Semaphore::MAX_PERMITS));
        Shared {
            group,
            clock: Clock::new(),
            hasher: RandomState::new(),
            run,
            max_hold: settings.max_hold,
            slack: nanos(settings.slack),
            permits: permits.map(Semaphore::new),
            quiet: Notify::new(),
            state: Mutex::new(State {
                lanes: Lanes::new(settings.limits),
                ticket: None,
                last_ticket: 0,
                phase: Phase::Open,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        // Only `Eq` of a key can panic under the lock, and it is called before a lane is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock, and then reads the clock, so that no step finds the instant of an earlier one in the future.
    fn lock_now(&self) -> (MutexGuard<'_, State<K, T>>, u64) {
        let state = self.lock();
        let now = self.clock.now();
        (state, now)
    }

    pub(super) fn stats(&self) -> Stats {
        let (mut state, now) = self.lock_now();
        // First, since it queues the delayed work that has become due.
        let next = state.lanes.next(now);
        let next = next.filter(|_| state.phase != Phase::Closed);
        let counts = state.lanes.counts();
        Stats {
            queued: counts.queued,
            delayed: state.lanes.delayed(),
            running: counts.running,
            keys: state.lanes.len(),
            started: counts.started,
            returned: counts.returned,
            next: next.map(|next| self.clock.instant(next)),
        }
    }

    /// Notes that the ticket was dropped with its group. No work starts any more, and queued work waits for a drain.
    pub(super) fn ticket_dropped(&self, number: u64) {
        let mut state = self.lock();
        let Some(ticket) = state.ticket.take_if(|ticket| ticket.number == number) else {
            return;
        };
        state.phase = Phase::Closed;
        drop(state);
        drop(ticket);
        self.close_permits();
        self.quiet.notify_waiters();
    }

    pub(super) fn release_permit(&self) {
        if let Some(permits) = &self.permits {
            permits.add_permits(1);
        }
    }

    fn close_permits(&self) {
        if let Some(permits) = &self.permits {
            permits.close();
        }
    }

    /// Returns whether a push of running work would be rejected. The group may close at any moment after it.
    pub(super) fn is_closed(&self, job: &JobContext) -> bool {
        self.lock().phase == Phase::Closed || job.as_ref().is_closed()
    }

    /// Begins a drain. Returns how much work has started so far.
    pub(super) fn close(&self) -> u64 {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        let started = state.lanes.counts().started;
        drop(state);
        self.close_permits();
        started
    }

    /// Waits until no work is left, the end has come or the group was cancelled, and returns the work that is left.
    pub(super) async fn drain(&self, end: Instant, started: u64) -> Drained<K, T> {
        let cancelled = self.group.token();
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            // Enabled before the state is read, so that no notification is missed.
            quiet.as_mut().enable();
            let over = {
                let state = self.lock();
                state.lanes.is_quiet() || state.phase == Phase::Closed
            };
            // A cancelled group may have no ticket whose drop would tell of it.
            let quiet = cancelled.run_until_cancelled(quiet);
            if over || !matches!(timeout_at(end, quiet).await, Ok(Some(()))) {
                return self.take_left(started);
            }
        }
    }

    fn take_left(&self, started: u64) -> Drained<K, T> {
        let (mut state, now) = self.lock_now();
        state.phase = Phase::Closed;
        let left = state.lanes.clear(now);
        let counts = state.lanes.counts();
        let ticket = state.ticket.take();
        drop(state);
        cancel(ticket.and_then(|ticket| ticket.job));
        self.quiet.notify_waiters();
        let left = left.into_iter().map(|Left { key, item, tries }| Unstarted {
            key,
            work: item.work,
            cost: item.cost,
            attempts: tries.map_or(0, |tries| tries.attempts),
        });
        Drained {
            started: counts.started - started,
            running: counts.running,
            left: left.collect(),
        }
    }
}

impl<K: Eq + Hash, T> Shared<K, T> {
    pub(super) fn key_stats(&self, key: &K) -> KeyStats {
        let hash = self.hasher.hash_one(key);
        let (mut state, now) = self.lock_now();
        // As in `stats`, it queues the delayed work that has become due.
        state.lanes.next(now);
        let Some(counts) = state.lanes.lane_counts(hash, key, now) else {
            return KeyStats::default();
        };
        let next = counts.next.filter(|_| state.phase != Phase::Closed);
        drop(state);
        let instant = |at| self.clock.instant(at);
        KeyStats {
            queued: counts.queued,
            delayed: counts.delayed,
            running: counts.running,
            started: counts.started,
            not_before: Some(counts.not_before).filter(|&at| at > now).map(instant),
            next: next.map(|next| instant(next.max(now))),
        }
    }
}

impl<K, T> Shared<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Holds a key until `at`, but at most for `max_hold`.
    pub(super) fn not_before(self: &Arc<Self>, key: Key<K>, at: Instant) {
        self.hold(key, at.min(later(Instant::now(), self.max_hold)));
    }

    pub(super) fn hold(self: &Arc<Self>, key: Key<K>, at: Instant) {
        let hash = self.hasher.hash_one(key.get());
        let at = self.clock.nanos(at);
        let (mut state, now) = self.lock_now();
        let (lane, unneeded) = match state.lanes.find(hash, key.get()) {
            Some(lane) => (lane, Some(key)),
            None => (state.lanes.insert(hash, key, now), None),
        };
        state.lanes.hold(lane, at, now);
        // Keys behind this one may start now.
        let order = state.plan(&self.clock, now, self.slack, false);
        let idle = state.lanes.sweep(now);
        drop(state);
        self.schedule(&self.group, order, false);
        drop_each(unneeded);
        drop_each(idle);
    }

    pub(super) fn clear_not_before(self: &Arc<Self>, key: &K) {
        let hash = self.hasher.hash_one(key);
        let (mut state, now) = self.lock_now();
        let Some(lane) = state.lanes.find(hash, key) else {
            return;
        };
        state.lanes.lift(lane, now);
        let order = state.plan(&self.clock, now, self.slack, false);
        drop(state);
        self.schedule(&self.group, order, false);
    }

    /// Adds work to its lane.
    ///
    /// If there is no ticket, one is scheduled first, due never: the group rejects it if it accepts no more jobs. So
    /// work that is accepted concurrently with a call of `wait` is waited for.
    pub(super) fn push(
        self: &Arc<Self>,
        pusher: &Pusher<'_>,
        key: Key<K>,
        new: New<T>,
    ) -> Result<(), Closed<New<T>>> {
        let hash = self.hasher.hash_one(key.get());
        // Declared before the guard, so that it is dropped after it, also if `Eq` panics.
        let mut spare = Spare(None);
        let Some(mut state) = self.admit(pusher, &mut spare) else {
            return Err(Closed(new));
        };
        // `Eq` of a key may panic here. Nothing has been changed yet.
        let known = state.lanes.find(hash, key.get());
        state.take_over(&mut spare);
        let now = self.clock.now();
        let (lane, unneeded) = match known {
            Some(lane) => (lane, Some(key)),
            None => (state.lanes.insert(hash, key, now), None),
        };
        state.enqueue(lane, new, &self.clock, now);
        let order = state.plan(&self.clock, now, self.slack, false);
        let idle = state.lanes.sweep(now);
        drop(state);
        self.schedule(self.via(pusher), order, false);
        // A panic of this destructor would tell the caller that the work was not accepted.
        drop_each(unneeded);
        drop_each(idle);
        Ok(())
    }

    /// Returns the handle by which this caller schedules.
    fn via<'a>(&'a self, pusher: &'a Pusher<'a>) -> &'a Handle {
        match pusher {
            Pusher::Outside => &self.group,
            Pusher::Work(context) => context.as_ref(),
        }
    }

    /// Takes the lock if work of this caller is accepted. Then there is a ticket, or `spare` is one.
    fn admit(
        self: &Arc<Self>,
        pusher: &Pusher<'_>,
        spare: &mut Spare,
    ) -> Option<MutexGuard<'_, State<K, T>>> {
        let via = self.via(pusher);
        if matches!(pusher, Pusher::Outside) && via.is_closed() {
            return None;
        }
        loop {
            let mut state = self.lock();
            let accepts = match pusher {
                Pusher::Outside => state.phase == Phase::Open,
                Pusher::Work(_) => state.phase != Phase::Closed,
            };
            if !accepts {
                return None;
            }
            if state.ticket.is_some() {
                return Some(state);
            }
            if let Some(Ticket { job: Some(job), .. }) = &spare.0 {
                return (!job.is_finished()).then_some(state);
            }
            let number = state.number();
            drop(state);
            let due = NEVER;
            let job = Some(self.ticket(via, Order { number, at: due }));
            spare.0 = Some(Ticket { number, due, job });
        }
    }

    /// Schedules a ticket that `plan` has asked for.
    fn schedule(self: &Arc<Self>, via: &Handle, order: Option<Order>, lent: bool) {
        let Some(order) = order else {
            return;
        };
        let number = order.number;
        let job = Some(self.ticket(via, order));
        let mut state = self.lock();
        let unneeded = match &mut state.ticket {
            Some(ticket) if ticket.number == number => {
                ticket.job = job;
                // Meanwhile it may be needed earlier, or not any more.
                let order = state.plan(&self.clock, self.clock.now(), self.slack, lent);
                debug_assert!(order.is_none(), "there is a ticket");
                state.take_unneeded()
            }
            // If it has started meanwhile, the cancel does nothing. Otherwise a drain has taken what was left.
            _ => job,
        };
        drop(state);
        cancel(unneeded);
    }

    fn ticket(self: &Arc<Self>, via: &Handle, Order { number, at }: Order) -> JobHandle {
        let watch = Watch::new(Arc::clone(self), number);
        via.schedule_with(self.clock.instant(at), move |job| Running::new(watch, job))
    }

    /// Records what the job of a ticket has done, takes out the work that may start now, and plans the next ticket, all
    /// in one step.
    pub(super) fn step(self: &Arc<Self>, job: &JobContext, step: Step) -> Option<Started<K, T>> {
        let (mut state, now) = self.lock_now();
        let mut spent = None;
        let may_start = match step {
            Step::Start { ticket, may_start } => {
                spent = state.ticket.take_if(|known| known.number == ticket);
                may_start
            }
            Step::End { slot, may_start } => {
                state.lanes.ended(slot, now);
                may_start
            }
            Step::Await => false,
        };
        let started = match state.phase {
            Phase::Open | Phase::Draining if may_start => state.lanes.start(now),
            _ => None,
        };
        let lent = started.is_some();
        let order = state.plan(&self.clock, now, self.slack, lent);
        let is_drained = state.lanes.is_quiet() && state.phase != Phase::Open;
        // A push has made it for work that this job has done itself.
        let unneeded = state.take_unneeded();
        drop(state);
        drop(spent);
        cancel(unneeded);
        self.schedule(job.as_ref(), order, lent);
        if is_drained {
            self.quiet.notify_waiters();
        }
        if started.as_ref().is_some_and(|started| started.item.bounded) {
            self.release_permit();
        }
        started
    }
}

impl<K, T> Drop for Shared<K, T> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop_each(state.lanes.clear(0));
        drop_each(state.lanes.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::tests::item;

    /// Steps of three threads in the order that leaves the ticket of one of them unneeded:
    ///
    /// 1. A job finds that work may start in an hour, and is about to schedule the next ticket.
    /// 2. Another thread lifts the hold of this work. A third one starts it, and ends it.
    /// 3. The job schedules the ticket.
    #[tokio::test(start_paused = true)]
    async fn a_ticket_that_is_not_needed_any_more_does_not_keep_the_group() {
        let group = schedgroup::Group::new();
        let (send, job) = tokio::sync::oneshot::channel();
        group.delay_with(Duration::ZERO, |job| async move { drop(send.send(job)) });
        let job: JobContext = job.await.expect("the job runs");
        let builder = crate::Dispatcher::<u64, u64>::builder();
        let dispatcher = builder.run(&group, |_, _| async {});
        let shared = &dispatcher.shared;
        let order = {
            let mut state = shared.lock();
            let lane = state.lanes.insert(1, Key::Owned(1), 0);
            state.lanes.hold(lane, 3_600_000_000_000, 0);
            state.lanes.push(lane, item(1), 0);
            let order = state.plan(&shared.clock, 0, 0, false);
            state.lanes.lift(lane, 0);
            let started = state.lanes.start(0).expect("the work may start");
            state.lanes.ended(started.slot, 0);
            order
        };
        assert!(order.is_some(), "the work needs a ticket");
        shared.schedule(job.as_ref(), order, false);
        let begin = Instant::now();
        group.wait().await.expect("the group ends");
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
