//! What the clones of a dispatcher and its running work share: the lock, and the ticket in the group's heap.
//!
//! What is queued is data. One job of the group, the ticket, is due when something may start next. It runs like this:
//!
//! 1. under the lock, it takes out what may start now and charges for it: this is the start, however long the
//!    ticket waited for a slot of its group;
//! 2. it sees to it that there is a next ticket: due when something else may start, or a moment later if that is now;
//! 3. it polls the work. If that is ready, its slot in its lane is free, and this job goes on with 1 for the next work:
//!    many short ones cost the group no more than one;
//! 4. else it is the job of that work from now on, and the next ticket is due as soon as something may start. If the
//!    work blocks its thread, it is the next ticket that goes on, on another worker.
//!
//! As long as something is queued that could start, there is a ticket. What could not, waits for work that runs,
//! and that is a job of the group too. So the group is not drained before the queues are empty.

use std::fmt;
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
use super::ticket::{Running, Spare, Watch};
use crate::drops::drop_each;
use crate::lanes::{Item, Key, LaneId, Lanes, Left, Limits, NEVER, Returned, Started};
use crate::retry::Tries;
use crate::time::{Clock, later, nanos};

pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(super) type Run<K, T> = Box<dyn Fn(T, Context<K, T>) -> Work + Send + Sync>;

/// What a builder has set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) bound: Option<usize>,
    pub(super) max_hold: Duration,
    pub(super) slack: Duration,
}

/// How long the next ticket waits for a job that starts one short work after the other: as long as work may block
/// its thread before another worker goes on with what is due.
const LEND: u64 = 1_000_000;

/// A ticket is not moved for less than this, since timers work in whole milliseconds.
const NEAR: u64 = 1_000_000;

/// Lock order: this one, then the group's. Of the user's code only `Eq` of keys runs under it. The group's methods
/// that are called under it, `reset_at` and `is_finished`, run, drop and wake nothing of a user's.
pub(super) struct Shared<K, T> {
    pub(super) group: Handle,
    pub(super) clock: Clock,
    hasher: RandomState,
    pub(super) run: Run<K, T>,
    max_hold: Duration,
    slack: u64,
    /// The permits of the bound: one for each piece that may be queued.
    pub(super) permits: Option<Semaphore>,
    /// Nothing is left, or nothing will start any more.
    quiet: Notify,
    state: Mutex<State<K, T>>,
}

struct State<K, T> {
    lanes: Lanes<K, T>,
    ticket: Ticket,
    /// When the ticket is due, or earlier.
    due: u64,
    /// Numbers tickets.
    numbers: u64,
    phase: Phase,
}

/// ```text
/// None -> Scheduled                  by a push: a ticket that the group has accepted is adopted
/// None -> Scheduling -> Scheduled    by a job: it makes one, outside of the lock
/// any  -> None                       the ticket starts, or the group drops it
/// ```
enum Ticket {
    None,
    /// A caller that wants it earlier leaves that to the job that schedules it.
    Scheduling(u64),
    Scheduled(u64, JobHandle),
}

impl Ticket {
    fn is_number(&self, wanted: u64) -> bool {
        match self {
            Ticket::None => false,
            Ticket::Scheduling(number) | Ticket::Scheduled(number, _) => *number == wanted,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more from outside.
    Draining,
    /// No more at all: drained, or the group has ended.
    Closed,
}

/// A ticket that is to be scheduled.
struct Order {
    number: u64,
    at: u64,
}

/// Who pushes.
pub(super) enum Pusher<'a> {
    Outside,
    /// Running work; the context's handle is admitted while the group drains.
    Work(&'a JobContext),
}

/// Work on its way into a lane.
pub(super) struct New<T> {
    pub(super) item: Item<T>,
    /// Of work that comes again: when, and the attempts before.
    pub(super) again: Option<(Instant, Box<Tries>)>,
}

impl<K, T> State<K, T> {
    /// Sees to it that there is a ticket if something may start at some time, and that it is not due later.
    ///
    /// It is `lent` if the caller goes on with what is due by itself.
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
        match &self.ticket {
            Ticket::None => {
                let number = self.number();
                self.ticket = Ticket::Scheduling(number);
                self.due = due;
                Some(Order { number, at: due })
            }
            Ticket::Scheduled(_, job)
                if due < self.due && (due <= now || self.due - due > NEAR) =>
            {
                self.due = due;
                // False for one that starts now, which will look, and in a group that goes down, which drops it.
                job.reset_at(clock.instant(due));
                None
            }
            Ticket::Scheduled(..) | Ticket::Scheduling(_) => None,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
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
                ticket: Ticket::None,
                due: NEVER,
                numbers: 0,
                phase: Phase::Open,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        // Poisoned by `Eq` of a key, before a lane was changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> Stats {
        let now = self.clock.now();
        let mut state = self.lock();
        let counts = state.lanes.counts();
        let next = state.lanes.next(now);
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

    /// The ticket was dropped with its group: nothing starts any more. What is queued waits for a drain.
    pub(super) fn lost(&self, number: u64) {
        let mut state = self.lock();
        if !state.ticket.is_number(number) {
            return;
        }
        let ticket = std::mem::replace(&mut state.ticket, Ticket::None);
        state.phase = Phase::Closed;
        drop(state);
        drop(ticket);
        self.close_permits();
        self.quiet.notify_waiters();
    }

    fn close_permits(&self) {
        if let Some(permits) = &self.permits {
            permits.close();
        }
    }

    /// A drain begins; how much has started until now.
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

    /// Waits until nothing is left or the grace is over, and takes out the rest.
    pub(super) async fn drain(&self, grace: Duration, started: u64) -> Drained<K, T> {
        let end = later(Instant::now(), grace);
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            // Before the look, so that no end is missed.
            quiet.as_mut().enable();
            let over = {
                let state = self.lock();
                state.lanes.is_quiet() || state.phase == Phase::Closed
            };
            if over || timeout_at(end, quiet).await.is_err() {
                return self.take_left(started);
            }
        }
    }

    fn take_left(&self, started: u64) -> Drained<K, T> {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        let left = state.lanes.clear();
        let counts = state.lanes.counts();
        let ticket = std::mem::replace(&mut state.ticket, Ticket::None);
        drop(state);
        if let Ticket::Scheduled(_, job) = ticket {
            job.cancel();
        }
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
        let (hash, now) = (self.hasher.hash_one(key), self.clock.now());
        let Some(counts) = self.lock().lanes.lane_counts(hash, key) else {
            return KeyStats::default();
        };
        let instant = |at| self.clock.instant(at);
        KeyStats {
            queued: counts.queued,
            delayed: counts.delayed,
            running: counts.running,
            started: counts.started,
            not_before: Some(counts.not_before).filter(|&at| at > now).map(instant),
            next: counts.next.map(|next| instant(next.max(now))),
        }
    }

    pub(super) fn not_before(&self, key: Key<K>, at: Instant) {
        let (hash, now) = (self.hasher.hash_one(key.get()), self.clock.now());
        let at = self
            .clock
            .nanos(at)
            .min(now.saturating_add(nanos(self.max_hold)));
        let mut state = self.lock();
        // A key that is not needed is dropped at the end, as those that are forgotten: outside of the lock.
        let lane = match state.lanes.find(hash, key.get()) {
            Some(lane) => lane,
            None => state.lanes.insert(hash, key, now),
        };
        state.lanes.hold(lane, at, now);
        let idle = state.lanes.sweep(now);
        drop(state);
        drop_each(idle);
    }
}

impl<K, T> Shared<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    pub(super) fn clear_not_before(self: &Arc<Self>, key: &K) {
        let (hash, now) = (self.hasher.hash_one(key), self.clock.now());
        let mut state = self.lock();
        let Some(lane) = state.lanes.find(hash, key) else {
            return;
        };
        state.lanes.lift(lane, now);
        let order = state.plan(&self.clock, now, self.slack, false);
        drop(state);
        self.schedule(&self.group, order, false);
    }

    /// Puts work into its lane.
    ///
    /// Where there is no ticket, the group is asked for one first, due never: it says whether more may come. So what
    /// is accepted beside a starting `wait` is waited for.
    pub(super) fn push(
        self: &Arc<Self>,
        pusher: &Pusher<'_>,
        key: Key<K>,
        new: New<T>,
    ) -> Result<(), Closed<New<T>>> {
        let hash = self.hasher.hash_one(key.get());
        let via = match pusher {
            Pusher::Outside => &self.group,
            Pusher::Work(context) => context.as_ref(),
        };
        if matches!(pusher, Pusher::Outside) && via.is_closed() {
            return Err(Closed(new));
        }
        // Dropped behind the lock, also in a panic of `Eq`.
        let mut spare = Spare(None);
        loop {
            let mut state = self.lock();
            let accepts = match pusher {
                Pusher::Outside => state.phase == Phase::Open,
                Pusher::Work(_) => state.phase != Phase::Closed,
            };
            if !accepts {
                return Err(Closed(new));
            }
            let needs_ticket = matches!(state.ticket, Ticket::None);
            if needs_ticket && spare.0.is_none() {
                let number = state.number();
                drop(state);
                let job = self.ticket(via, Order { number, at: NEVER });
                spare.0 = Some((number, job));
                continue;
            }
            if needs_ticket && spare.0.as_ref().is_some_and(|(_, job)| job.is_finished()) {
                return Err(Closed(new));
            }
            // `Eq` of a key may panic; nothing is changed yet.
            let known = state.lanes.find(hash, key.get());
            if needs_ticket {
                state.ticket = match spare.0.take() {
                    Some((number, job)) => Ticket::Scheduled(number, job),
                    None => Ticket::None,
                };
                state.due = NEVER;
            }
            let now = self.clock.now();
            // A key that is not needed is dropped with this call, outside of the lock: no closure may own it.
            let lane = match known {
                Some(lane) => lane,
                None => state.lanes.insert(hash, key, now),
            };
            match new {
                New { item, again: None } => state.lanes.push(lane, item, now),
                New {
                    item,
                    again: Some((at, tries)),
                } => {
                    let returned = Returned { item, tries };
                    let at = self.clock.nanos(at);
                    state.lanes.push_returned(lane, returned, at, now);
                }
            }
            let order = state.plan(&self.clock, now, self.slack, false);
            let idle = state.lanes.sweep(now);
            drop(state);
            self.schedule(via, order, false);
            drop_each(idle);
            return Ok(());
        }
    }

    /// Schedules the ticket that was planned.
    fn schedule(self: &Arc<Self>, via: &Handle, order: Option<Order>, lent: bool) {
        let Some(order) = order else {
            return;
        };
        let number = order.number;
        let job = self.ticket(via, order);
        let mut state = self.lock();
        // Else it has started, or was dropped, by now.
        if state.ticket.is_number(number) {
            state.ticket = Ticket::Scheduled(number, job);
            // It may be wanted earlier since.
            let order = state.plan(&self.clock, self.clock.now(), self.slack, lent);
            debug_assert!(order.is_none(), "there is a ticket");
        } else {
            // A handle takes the group's lock: not under this one.
            drop(state);
            drop(job);
        }
    }

    fn ticket(self: &Arc<Self>, via: &Handle, Order { number, at }: Order) -> JobHandle {
        let watch = Watch::new(Arc::clone(self), number);
        via.schedule_with(self.clock.instant(at), move |job| Running::new(watch, job))
    }

    /// Books the end of work, takes out what may start now, and plans the next ticket: one step.
    pub(super) fn step(
        self: &Arc<Self>,
        job: &JobContext,
        ticket: Option<u64>,
        ended: Option<LaneId>,
        may_start: bool,
    ) -> Option<Started<K, T>> {
        let mut state = self.lock();
        // Read under the lock, so that the starts are in the order of their instants.
        let now = self.clock.now();
        let mut spent = Ticket::None;
        if ticket.is_some_and(|number| state.ticket.is_number(number)) {
            std::mem::swap(&mut state.ticket, &mut spent);
        }
        if let Some(lane) = ended {
            state.lanes.ended(lane, now);
        }
        let started = match state.phase {
            Phase::Open | Phase::Draining if may_start => state.lanes.start(now),
            _ => None,
        };
        let lent = started.is_some();
        let order = state.plan(&self.clock, now, self.slack, lent);
        let is_quiet = state.phase != Phase::Open && state.lanes.is_quiet();
        drop(state);
        drop(spent);
        self.schedule(job.as_ref(), order, lent);
        if is_quiet {
            self.quiet.notify_waiters();
        }
        if started.as_ref().is_some_and(|started| started.item.bounded) {
            self.permits
                .iter()
                .for_each(|permits| permits.add_permits(1));
        }
        started
    }
}

impl<K, T> Drop for Shared<K, T> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop_each(state.lanes.clear());
    }
}

impl<K, T> fmt::Debug for Shared<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
