//! The state that the group, its handles, its workers and its driver share: the lock, and the effects after it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

// Under the scheduler of tests/shuttle a task is a thread.
#[cfg(shuttle)]
use shuttle::thread_local;
use tokio::runtime::{self, RuntimeFlavor};
#[cfg(not(shuttle))]
use tokio::task::try_id;
use tokio_util::sync::CancellationToken;

use super::awaiting::AwaitingJob;
use super::dropped_handle::DroppedHandle;
use super::ended_drops::EndedDrops;
use super::error::JobPanic;
use super::local_queue::Claim;
use super::rt::{Mutex, MutexGuard};
use super::state::{CHUNK, Counts, DroppedChunk, DroppedJob, Effects, State, WakeDriver};
use super::stats::JobInfo;
use super::timer::Timer;
use crate::common::closing::Closing;
use crate::common::panic::{self, Payload};
use crate::common::time::{Clock, Timestamp};
use crate::common::trace;

// Lock order. A thread that holds a lock may take only locks to the right of it:
//
//   table of a keyed group ─┐
//                           ├─▶ `state` ──▶ local queue of a worker ──▶ queue of woken jobs
//   `timer` ────────────────┘       └─────▶ `ends_at`
//
// The lock of an `AwaitingJob` is held while user code is polled, so every lock may be taken under it; it is itself
// never taken under another one.
//
// The cancellation token has a lock of its own, which is never taken under `state`: the token is read before `state` is
// locked, and cancelled after that. No user code runs and no user value is dropped under `state`, so destructors,
// wakers and tracing subscribers may call any method of the group.
pub(super) struct Shared {
    /// Everything that changes. Its lock is called the group's lock.
    state: Mutex<State>,
    /// The driver's sleep; `None` when the driver has ended.
    timer: Mutex<Option<Timer>>,
    dropped_handle: DroppedHandle,
    ended_drops: Arc<EndedDrops>,
    /// The driver waits for the lock, or is about to. A hint only (`Relaxed`): busy callers yield to the driver.
    driver_waits: AtomicBool,
    pub(super) clock: Clock,
    /// A child of the caller's token, so that ending this group ends no other.
    pub(super) token: CancellationToken,
    /// Code outside of the group can cancel the token: the user named its parent, or was given a clone. While this is
    /// `false` only the group itself cancels the token, so the token's lock need not be taken for each job. It is set
    /// once and never cleared.
    token_is_shared: AtomicBool,
    pub(super) runtime: runtime::Handle,
    pub(super) name: Option<Box<str>>,
    /// The clock can end the group: it has a deadline of its own, or a drain or a shutdown has a grace. `Relaxed`: it
    /// publishes nothing else, and who has to see it comes after the step that sets it by the group's lock.
    has_end: AtomicBool,
    /// The first of these instants. Not an `AtomicU64`, which not every target has.
    ends_at: std::sync::Mutex<Timestamp>,
    /// The runtime has several worker threads, which steal tasks from each other.
    steals: bool,
    /// The group has a limit of running jobs.
    pub(super) is_limited: bool,
    #[cfg(test)]
    pub(super) costs: Costs,
}

/// What the tests count.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Costs {
    /// How often the lock was taken.
    pub(super) locks: std::sync::atomic::AtomicU64,
    /// How often the clock was read.
    pub(super) clock_reads: std::sync::atomic::AtomicU64,
    /// The largest number of slots that were looked at under one hold of the lock.
    pub(super) most_looks: std::sync::atomic::AtomicUsize,
}

/// Returns `None`: under shuttle no task sits in a slot from which it cannot be stolen.
#[cfg(shuttle)]
fn try_id() -> Option<std::convert::Infallible> {
    None
}

thread_local! {
    // The code of a job runs on the thread that polls it. So `wait` can find out that it is called by a job of the same
    // group, and would wait for itself for ever.
    /// The address of the group whose job this thread is polling; 0 for none.
    static CURRENT_GROUP: Cell<usize> = const { Cell::new(0) };
}

/// Restores the former value of `CURRENT_GROUP`, also when the job panics.
struct Restore(usize);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT_GROUP.with(|current| current.set(self.0));
    }
}

impl Shared {
    pub(super) fn new(
        state: State,
        clock: Clock,
        token: CancellationToken,
        token_is_shared: bool,
        runtime: runtime::Handle,
        name: Option<Box<str>>,
        timer: Timer,
    ) -> Arc<Shared> {
        let steals = runtime.runtime_flavor() != RuntimeFlavor::CurrentThread
            && runtime.metrics().num_workers() > 1;
        let deadline = state.lifecycle.deadline();
        Arc::new(Shared {
            is_limited: state.jobs.is_limited(),
            has_end: AtomicBool::new(deadline < Timestamp::NEVER),
            ends_at: std::sync::Mutex::new(deadline),
            ended_drops: Arc::clone(&state.jobs.ended_drops),
            state: Mutex::new(state),
            timer: Mutex::new(Some(timer)),
            dropped_handle: DroppedHandle::default(),
            driver_waits: AtomicBool::new(false),
            clock,
            token,
            token_is_shared: AtomicBool::new(token_is_shared),
            runtime,
            name,
            steals,
            #[cfg(test)]
            costs: Costs::default(),
        })
    }

    // The ways to take the group's lock. They differ in what the caller is, or needs to be done in the same step.

    /// Runs a query, or a transition without effects, under the lock.
    pub(super) fn with<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        self.enter(|state, _| transition(state))
    }

    /// Runs one transition under the lock, and applies its effects after it.
    pub(super) fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        self.step::<true, R>(transition)
    }

    /// Like [`enter`](Shared::enter), for a step in which the group may drain or a job ends: if the token or the clock
    /// has ended the group before, that is noted first. A group that has drained accepts no reason any more, and a job
    /// that ends after a grace is lost by the end of the grace.
    pub(super) fn enter_checked<R>(
        &self,
        transition: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        let (now, cancelled) = self.end_inputs();
        self.enter(|state, effects| {
            state.check_end(now, cancelled, effects);
            transition(state, effects)
        })
    }

    /// Like [`enter`](Shared::enter), for the driver: callers that outrun it yield to it.
    pub(super) fn enter_as_driver<R>(
        &self,
        transition: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        self.driver_waits.store(true, Relaxed);
        self.enter(|state, effects| {
            self.driver_waits.store(false, Relaxed);
            transition(state, effects)
        })
    }

    /// Like [`enter`](Shared::enter), for a transition that runs no user code, so that its caller may hold a lock that
    /// user code takes. Cancels that are noted, and tables that become unused by them, are left to the next caller.
    pub(super) fn enter_without_tables<R>(
        &self,
        transition: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        self.step::<false, R>(transition)
    }

    /// Like [`with`](Shared::with), for a caller that holds the lock of a table of rows. It applies noted cancels
    /// itself, and drops emptied storage when it has released that lock (see `RowJobs`).
    pub(super) fn with_table<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        transition(&mut self.lock())
    }

    fn step<const WITH_TABLES: bool, R>(
        &self,
        transition: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        let mut effects = Effects::default();
        let mut state = self.lock();
        if WITH_TABLES {
            effects.wake_driver(state.apply_cancels());
        }
        let result = transition(&mut state, &mut effects);
        #[cfg(test)]
        self.costs
            .most_looks
            .fetch_max(state.jobs.take_looks(), Relaxed);
        let outruns_driver = state.inbox.is_crowded();
        if WITH_TABLES {
            effects.take_unused(&mut state.jobs);
        }
        drop(state);
        // Threads that schedule without a pause hold the lock most of the time: such a thread takes it again before a
        // waiting driver has been woken up, and on a busy machine the kernel mostly suspends that thread while it holds
        // the lock. So the thread yields here, when the lock is free.
        if outruns_driver && self.driver_waits.load(Relaxed) {
            std::thread::yield_now();
        }
        if effects.is_empty() {
            // The common case. Nothing is in it, and `forget` skips the drop of each field.
            std::mem::forget(effects);
        } else {
            self.apply(effects);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.costs.locks.fetch_add(1, Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.dropped_handle.take() {
            state.jobs.ref_dec(slot);
        }
        state
    }

    /// Counts down the handles of a job, or leaves that to the next caller that takes the lock.
    pub(super) fn drop_handle(&self, slot: u32) {
        // The last handle of a job that has ended frees the slot. The slot holds no user value by then, so none is
        // dropped under the lock.
        if !self.dropped_handle.leave(slot) {
            self.with(|state| state.jobs.ref_dec(slot));
        }
    }

    /// Applies the effects of a transition. No lock may be held.
    pub(super) fn apply(&self, effects: Effects) {
        // The order of the effects:
        //
        // 1. The driver and the worker are woken. Their wakers are tokio's and neither block nor panic, so the group
        //    goes on whatever the wakers of users do in steps 2 and 3.
        // 2. The token is cancelled. That calls wakers of users, which may panic.
        // 3. The tasks that wait for the end of the group are woken. They come after the token, so that such a task
        //    finds it cancelled.
        // 4. What is unused is dropped. It may be a table, whose handler has a destructor of the user, which may take
        //    long.
        //
        // Another thread may see the new state before any of these steps.
        if let Some(driver) = effects.driver {
            self.wake_driver(driver);
        }
        if let Some(worker) = effects.worker {
            worker.wake();
            self.make_stealable();
        }
        if effects.cancel || !effects.wake.is_empty() {
            if effects.cancel {
                panic::catch(|| self.token.cancel()).unwrap_or_else(panic::drop_payload);
            }
            // The panic of each waker is caught, or the tasks behind it would never be woken.
            panic::wake_each(effects.wake);
            // What this thread does next may block it: a job, or a destructor of a pending job.
            self.make_stealable();
        }
        drop(effects.unused);
    }

    fn wake_driver(&self, driver: WakeDriver) {
        let woken = match driver {
            WakeDriver::Now(driver) => {
                driver.wake();
                true
            }
            WakeDriver::At(at) => {
                let mut timer = self.timer();
                timer.as_mut().is_some_and(|timer| timer.wake_at(at))
            }
        };
        if woken {
            self.make_stealable();
        }
    }

    /// Locks the driver's sleep. The group's lock must not be held.
    pub(super) fn timer(&self) -> MutexGuard<'_, Option<Timer>> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn timer_is_free(&self) -> bool {
        self.timer.try_lock().is_ok()
    }

    /// Lets other worker threads of the runtime steal the task that was woken or spawned last.
    ///
    /// A task that is woken by another task goes into a slot of the current thread from which tokio steals nothing, and
    /// is polled when the current task yields. If the current task blocks its thread, that is never. The empty task
    /// that is spawned here pushes it out of that slot into the run queue, and wakes another thread. The slot is tokio's
    /// [LIFO slot]; tests of the promises 4, 6 and 14 fail without this.
    ///
    /// [LIFO slot]: https://docs.rs/tokio/latest/tokio/runtime/index.html#multi-threaded-runtime-behavior-at-the-time-of-writing
    pub(super) fn make_stealable(&self) {
        if self.steals && try_id().is_some() {
            self.runtime.spawn(async {});
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        #[cfg(test)]
        self.costs.clock_reads.fetch_add(1, Relaxed);
        self.clock.now()
    }

    /// Returns a clone of the group's token for code outside of the group.
    pub(super) fn share_token(&self) -> CancellationToken {
        // Set before the token is handed out, so before its receiver can cancel it. A start check that must see this
        // cancel is ordered after it by a lock (see `Worker::run_claimed`), so it loads `true` here and asks the token.
        // The flag publishes no other data, so `Relaxed` is enough.
        self.token_is_shared.store(true, Relaxed);
        self.token.clone()
    }

    /// Returns whether the token was cancelled from outside the group.
    pub(super) fn is_cancelled(&self) -> bool {
        self.token_is_shared.load(Relaxed) && self.token.is_cancelled()
    }

    fn ends_at(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        let ends_at = self.ends_at.lock();
        ends_at.unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn has_end(&self) -> bool {
        self.has_end.load(Relaxed)
    }

    /// Notes the end of a grace. Called in the step under the group's lock that closes the group.
    fn note_grace(&self, grace_ends: Timestamp) {
        let mut ends_at = self.ends_at();
        *ends_at = grace_ends.min(*ends_at);
        self.has_end.store(*ends_at < Timestamp::NEVER, Relaxed);
    }

    /// Returns what may have ended the group without a step under its lock: the time, and whether the token was
    /// cancelled. To be called before the lock, since the token has one of its own.
    #[inline]
    pub(super) fn end_inputs(&self) -> (Timestamp, bool) {
        // Without a deadline or a grace the clock is not read.
        let now = if self.has_end() {
            self.now()
        } else {
            Timestamp::ALWAYS
        };
        (now, self.is_cancelled())
    }

    /// Returns whether the token or the clock has ended the group, which may not be noted in the state yet.
    ///
    /// It is the start check of a job, too. Everything else that ends a group takes the claimed jobs out of the local
    /// queues, so it needs no check.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        // Most groups can be ended by neither, and each job asks.
        (self.token_is_shared.load(Relaxed) || self.has_end()) && self.was_ended()
    }

    #[inline(never)]
    fn was_ended(&self) -> bool {
        let is_late = || self.now() >= *self.ends_at();
        self.is_cancelled() || (self.has_end() && is_late())
    }

    /// Closes the group with a grace. Returns the counts that its report begins with.
    pub(super) fn close_within(&self, closing: Closing, grace: Duration) -> Counts {
        let now = self.now();
        let ends = now.after(grace);
        self.enter_checked(|state, effects| {
            self.note_grace(ends);
            state.close_until(closing, now, ends, effects)
        })
    }

    /// Gives back a job that was about to start in a group that [is over](Shared::is_over).
    pub(super) fn give_back(&self, claim: Claim) {
        let mut dropped = None;
        // The end is noted before the job goes back to the ready queue. In a group that has not ended, another worker
        // could claim it there, and would have to give it back in turn.
        self.enter_checked(|state, effects| state.give_back(claim, &mut dropped, effects));
        self.drop_jobs(dropped);
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// Runs code of a job and catches its panic. Meanwhile this thread counts as being [in a job](Shared::is_current).
    pub(super) fn catch_as_current<R>(&self, code: impl FnOnce() -> R) -> Result<R, Payload> {
        let _restore = Restore(
            CURRENT_GROUP.with(|current| current.replace(std::ptr::from_ref(self) as usize)),
        );
        panic::catch(code)
    }

    /// Returns whether the caller is code of one of the group's own jobs.
    pub(super) fn is_current(&self) -> bool {
        CURRENT_GROUP.with(Cell::get) == std::ptr::from_ref(self) as usize
    }

    /// Drops jobs that never start, and then stops counting them.
    pub(super) fn drop_jobs(&self, jobs: impl IntoIterator<Item = DroppedJob>) {
        // One by one, since a second panic while one unwinds would end the process. They are counted down only after
        // the last drop: until then the group does not drain, so `wait` does not return while a value is alive.
        let mut count = 0;
        // `for_each`, since a chain of iterators is slow in a loop.
        jobs.into_iter().for_each(|job| {
            count += 1;
            if let Err(payload) = panic::discard(job.runnable) {
                let scheduled_at = self.with(|state| state.jobs.site(job.call_site));
                let panic = JobPanic::new(payload, job.id, scheduled_at);
                self.report_panic(&panic);
            }
        });
        if count > 0 {
            self.end_drops(count);
        }
    }

    /// Stops counting `count` jobs whose values have been dropped.
    pub(super) fn end_drops(&self, count: usize) {
        if self.ended_drops.add(count) {
            self.enter_checked(|state, effects| state.check_drained(effects));
        }
    }

    /// Drops the values that are left in the tables of a group whose owner cannot ask for them any more.
    pub(super) fn clear_tables(&self) {
        // The list is taken under the lock; the values are users', and are dropped after it.
        let tables = self.with(|state| state.jobs.tables.all());
        tables.iter().for_each(|table| table.clear());
    }

    /// Emits the error event of a panic. It tells of the panic also if no task ever waits for the group.
    pub(super) fn report_panic(&self, panic: &JobPanic) {
        trace::panicked(
            self.name(),
            panic.job().0,
            panic.scheduled_at(),
            panic.message(),
        );
    }

    /// Lists the jobs that have not ended, in the order of their submission.
    pub(super) fn jobs(&self) -> Vec<JobInfo> {
        let mut jobs = Vec::new();
        for chunk in 0..self.with(|state| state.jobs.chunks()) {
            jobs.reserve(CHUNK);
            self.with(|state| state.list_chunk(chunk, &self.clock, &mut jobs));
        }
        jobs.sort_unstable_by_key(|job: &JobInfo| job.id);
        jobs
    }

    /// Drops the pending jobs of one chunk that are due at `from` or later. If the group aborts its running jobs, those
    /// of the chunk are woken to stop. `dropped` is empty before and afterwards.
    pub(super) fn drop_chunk(&self, chunk: usize, from: Timestamp, dropped: &mut DroppedChunk) {
        // A table without a handle is dropped in this step, with the values of its rows; and so before the jobs are
        // counted down, or a value would outlive the group's end.
        self.enter(|state, effects| state.take_pending_chunk(chunk, from, dropped, effects));
        self.drop_jobs(dropped.drain());
    }

    /// Ends the running jobs of one chunk when the runtime is gone. Those that a worker is just polling end after that
    /// poll.
    pub(super) fn end_chunk(&self, chunk: usize) {
        let running = self.with(|state| state.jobs.running_of_chunk(chunk));
        running.into_iter().for_each(AwaitingJob::end_now);
    }
}
