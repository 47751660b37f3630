//! The job that lets work go at its time, and what that work sees of it.

use std::fmt;
use std::future::ready;
use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schedgroup::{Handle, JobContext, JobHandle, Next};
use tokio::time::Instant;

use super::lines::{Limits, LineId, Lines, Place, Released};
use crate::drops::drop_each;
use crate::time::Clock;

type Work<K, T> =
    Box<dyn Fn(T, Turn<K, T>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What a pacer's clones, its pump and its work share.
///
/// Lock order: this one, then the group's. Of the user's code only `Eq` of keys runs under it.
pub(super) struct Shared<K, T> {
    pub(super) group: Handle,
    clock: Clock,
    hasher: RandomState,
    run: Work<K, T>,
    state: Mutex<State<K, T>>,
}

pub(super) struct State<K, T> {
    pub(super) lines: Lines<K, T>,
    /// There while something waits.
    pump: Option<Pump>,
    pumps: u64,
}

/// Work on its way into a line.
pub(super) struct New<T> {
    pub(super) place: Place,
    pub(super) cost: u32,
    pub(super) work: T,
}

/// The job of the group in which the lines are looked after.
struct Pump {
    number: u64,
    job: JobHandle,
    /// When it looks at the lines the next time, or earlier: not later than any head may go, so that
    /// nothing nudges it while it runs, when it may be about to go.
    armed: u64,
}

/// At most this many go in one run of the pump, before other jobs and tasks get their turns.
const AT_ONCE: usize = 128;

impl<K, T> Shared<K, T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        // Poisoned by `Eq` of a key, before a line was changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq, T> Shared<K, T> {
    pub(super) fn new(limits: Limits, group: Handle, run: Work<K, T>) -> Shared<K, T> {
        Shared {
            group,
            clock: Clock::new(),
            hasher: RandomState::new(),
            run,
            state: Mutex::new(State {
                lines: Lines::new(limits),
                pump: None,
                pumps: 0,
            }),
        }
    }

    /// Wakes the pump if something may go before it would look.
    fn nudge(&self, state: &mut State<K, T>) {
        let next = state.lines.next();
        if let Some(pump) = state.pump.as_mut().filter(|pump| next < pump.armed) {
            pump.armed = next;
            // False only in a group that goes down, which drops the pump.
            pump.job.reset_at(self.clock.instant(next));
        }
    }

    fn ended(&self, line: LineId) {
        let mut state = self.lock();
        state.lines.ended(line, self.clock.now());
        self.nudge(&mut state);
    }
}

impl<K: Eq + Hash, T> Shared<K, T> {
    pub(super) fn not_before(&self, key: Arc<K>, at: Instant) {
        let (hash, at) = (self.hasher.hash_one(&*key), self.clock.nanos(at));
        let mut state = self.lock();
        let line = state.lines.line(hash, &key);
        state.lines.not_before(line, at);
        let idle = state.lines.look_through(self.clock.now());
        drop(state);
        // Keys are dropped outside of the lock.
        drop_each(idle);
    }
}

impl<K, T> Shared<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Puts work into a line, and sees to it that there is a pump: so it is the group that decides
    /// whether more may come.
    #[track_caller]
    pub(super) fn push(self: &Arc<Self>, group: &Handle, key: Arc<K>, new: New<T>) {
        let hash = self.hasher.hash_one(&*key);
        if group.is_closed() {
            return;
        }
        let mut fresh = None;
        loop {
            let mut state = self.lock();
            if let Some(spare) = state.adopt(fresh.take(), self.clock.now()) {
                drop(state);
                spare.job.cancel();
                continue;
            }
            if state.pump.is_some() {
                // `Eq` of a key may panic; the work is not under the lock yet.
                let line = state.lines.line(hash, &key);
                let idle = self.put(&mut state, line, new);
                drop(state);
                // Keys are dropped outside of the lock.
                drop_each(idle);
                return;
            }
            let number = state.number();
            drop(state);
            let pump = self.start(group, number);
            if pump.job.is_finished() {
                return;
            }
            fresh = Some(pump);
        }
    }

    /// The keys that come back are for the caller to drop.
    fn put(&self, state: &mut State<K, T>, line: LineId, new: New<T>) -> Vec<Arc<K>> {
        let now = self.clock.now();
        state.lines.push(line, new.place, new.work, new.cost, now);
        self.nudge(state);
        state.lines.look_through(now)
    }

    /// A pump that does nothing until it is adopted.
    #[track_caller]
    fn start(self: &Arc<Self>, group: &Handle, number: u64) -> Pump {
        let watch = Watch {
            shared: Arc::clone(self),
            number,
        };
        let job = group.repeat(self.clock.instant(u64::MAX), move |context| {
            ready(watch.shared.turn(watch.number, context))
        });
        Pump {
            number,
            job,
            armed: u64::MAX,
        }
    }

    /// One run of the pump: lets go what may go, and the rest of a crowd in the next run.
    fn turn(self: &Arc<Self>, number: u64, context: JobContext) -> Next {
        for _ in 0..AT_ONCE {
            let released = self.lock().lines.release(self.clock.now());
            let Some(released) = released else {
                break;
            };
            self.send(released, &context);
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.lines.waiting() == 0 {
            state.pump = None;
            return Next::Done;
        }
        let next = state.lines.next();
        if let Some(pump) = state.pump.as_mut().filter(|pump| pump.number == number) {
            pump.armed = next;
        }
        // What is due already goes behind what was sent.
        Next::At(self.clock.instant(next.max(self.clock.now())))
    }

    /// Makes a job of work whose turn has come.
    fn send(self: &Arc<Self>, released: Released<K, T>, context: &JobContext) {
        let duty = Duty {
            shared: Arc::clone(self),
            line: released.line,
        };
        context.delay_with(Duration::ZERO, move |context| {
            let is_held_up = duty.is_held_up();
            async move {
                let shared = &duty.shared;
                if is_held_up {
                    let new = New {
                        place: Place::Head,
                        cost: released.cost,
                        work: released.work,
                    };
                    return shared.push(context.as_ref(), released.key, new);
                }
                let turn = Turn {
                    shared: Arc::clone(shared),
                    key: released.key,
                    at: released.at,
                    context,
                };
                (shared.run)(released.work, turn).await;
            }
        });
    }
}

impl<K, T> State<K, T> {
    fn number(&mut self) -> u64 {
        self.pumps += 1;
        self.pumps
    }

    /// Stores a pump that the group has admitted; it comes back if there is another one.
    fn adopt(&mut self, fresh: Option<Pump>, now: u64) -> Option<Pump> {
        let mut fresh = fresh?;
        if self.pump.is_some() {
            return Some(fresh);
        }
        // One that was dropped in the meantime is of no use, and its watch has ended; one that will be
        // dropped has a watch that waits for this lock.
        if !fresh.job.is_finished() {
            // It looks at once, and goes again if a panic of `Eq` keeps the work out.
            fresh.job.reset_after(Duration::ZERO);
            fresh.armed = now;
            self.pump = Some(fresh);
        }
        None
    }
}

/// Goes with the pump: when the group drops it, what waits is dropped too.
struct Watch<K: Eq, T> {
    shared: Arc<Shared<K, T>>,
    number: u64,
}

impl<K: Eq, T> Drop for Watch<K, T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let mine = state.pump.take_if(|pump| pump.number == self.number);
        let waiting = mine.map(|_| state.lines.clear());
        drop(state);
        drop_each(waiting.into_iter().flatten());
    }
}

/// Goes with a job that is work: its slot in its line is free when it ends, however it does.
struct Duty<K: Eq, T> {
    shared: Arc<Shared<K, T>>,
    line: LineId,
}

impl<K: Eq, T> Duty<K, T> {
    /// Returns whether a `not_before` came after the work was released, while it waited for a slot in its group.
    fn is_held_up(&self) -> bool {
        let mut state = self.shared.lock();
        state.lines.is_held_up(self.line, self.shared.clock.now())
    }
}

impl<K: Eq, T> Drop for Duty<K, T> {
    fn drop(&mut self) {
        self.shared.ended(self.line);
    }
}

/// The view of a running piece of work: its key, its instant, and the methods to push more.
pub struct Turn<K, T> {
    shared: Arc<Shared<K, T>>,
    key: Arc<K>,
    at: u64,
    context: JobContext,
}

impl<K, T> Turn<K, T> {
    /// Returns the key in whose queue it was.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Returns the exact instant at which the limits let it go.
    pub fn at(&self) -> Instant {
        self.shared.clock.instant(self.at)
    }

    /// Returns the run's view of its group.
    pub fn context(&self) -> &JobContext {
        &self.context
    }
}

impl<K, T> Turn<K, T>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Queues more work of cost one for a key, also while the group drains. It never panics.
    #[track_caller]
    pub fn push(&self, key: K, work: T) {
        let group = self.context.handle();
        let new = New {
            place: Place::End,
            cost: 1,
            work,
        };
        self.shared.push(&group, Arc::new(key), new);
    }

    /// Puts work of cost one back at the head of this key's queue when `at` is due, since it has waited before.
    ///
    /// Until then it is a job of the group, and keeps no other work of the key waiting.
    #[track_caller]
    pub fn again(&self, at: Instant, work: T) {
        let (shared, key) = (Arc::clone(&self.shared), Arc::clone(&self.key));
        let new = New {
            place: Place::Head,
            cost: 1,
            work,
        };
        self.context.schedule_with(at, move |context| async move {
            shared.push(context.as_ref(), key, new);
        });
    }

    /// Delays the start of this key's work until `at`: [`Pacer::not_before`](super::Pacer::not_before).
    pub fn not_before(&self, at: Instant) {
        self.shared.not_before(Arc::clone(&self.key), at);
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Turn<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("key", &self.key)
            .field("at", &self.at())
            .finish_non_exhaustive()
    }
}
