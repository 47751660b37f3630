//! The state that the group, its handles, its workers and its driver share: the lock, and the effects after it.

use std::cell::Cell;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, PoisonError};

// Under the scheduler of tests/shuttle a task is a thread.
#[cfg(shuttle)]
use shuttle::thread_local;
use tokio::runtime::{self, RuntimeFlavor};
#[cfg(not(shuttle))]
use tokio::task::try_id;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::awaiting::AwaitingJob;
use super::dropped_handle::DroppedHandle;
use super::error::JobPanic;
use super::local_queue::Claim;
use super::rt::{Mutex, MutexGuard};
use super::state::{CHUNK, DroppedJob, Effects, State, WakeDriver};
use super::stats::JobInfo;
use super::timer::Timer;
use crate::common::panic::{self, Payload};
use crate::common::time::{Clock, Timestamp};
use crate::common::trace;

// Locks, each of which may be taken while those before it are held:
//
//   key table of a keyed group, `timer` ──▶ `state` ──▶ local queue of a worker, queue of woken jobs
//
// The token's lock is never taken under `state`: what it answers is read before it, and wakers are called and tokens
// cancelled after it. No user code runs and no user value is dropped under `state`, so destructors, wakers and tracing
// subscribers may call any method of the group.
pub(super) struct Shared {
    /// All that changes, under the group's lock. Nothing of the user's is run, dropped or woken under it.
    state: Mutex<State>,
    /// What wakes the driver, as long as there is one.
    timer: Mutex<Option<Timer>>,
    dropped_handle: DroppedHandle,
    /// The driver waits for the lock, or is about to. A hint, which orders nothing: callers make room for it.
    driver_waits: AtomicBool,
    /// The number of times it was taken.
    #[cfg(test)]
    pub(super) entered: std::sync::atomic::AtomicU64,
    pub(super) clock: Clock,
    /// A child of the caller's token, so that ending this group ends no other.
    pub(super) token: CancellationToken,
    /// Code outside of the group can cancel the token: its parent or a clone of it was handed out. As long as that
    /// is not so, the state knows all that ends the group, and the token's lock is not taken for each job.
    ///
    /// It only ever becomes true. The store in `share_token` pairs with the load in `is_cancelled`.
    token_is_shared: AtomicBool,
    pub(super) runtime: runtime::Handle,
    pub(super) name: Option<Box<str>>,
    /// The group's own deadline.
    deadline: Timestamp,
    /// Worker threads of the runtime steal tasks from each other. Fixed when the group is built.
    steals: bool,
    /// The group has a limit of running jobs.
    pub(super) is_limited: bool,
    /// The most often that slots were looked at while the lock was held once.
    #[cfg(test)]
    pub(super) most_looks: std::sync::atomic::AtomicUsize,
}

/// There, no task sits in a slot from which it cannot be taken.
#[cfg(shuttle)]
fn try_id() -> Option<std::convert::Infallible> {
    None
}

thread_local! {
    // The code that a job's poll calls runs on the thread of that poll. So `wait` can tell that it was called from
    // inside a job, for whose end it would wait for ever.
    /// The group whose job this thread is polling, by its address; 0 for none.
    static CURRENT_GROUP: Cell<usize> = const { Cell::new(0) };
}

/// Takes what a transition has left unused, and drops it after the lock: an allocator may take its time to free it, and all
/// that wait for the lock would wait for that.
#[cold]
fn free_unused(mut state: MutexGuard<'_, State>) {
    let unused = state.jobs.take_unused();
    drop(state);
    drop(unused);
}

/// Puts the former value back, also when the job panics.
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
        Arc::new(Shared {
            is_limited: state.jobs.is_limited(),
            deadline: state.lifecycle.deadline(),
            state: Mutex::new(state),
            timer: Mutex::new(Some(timer)),
            dropped_handle: DroppedHandle::default(),
            driver_waits: AtomicBool::new(false),
            #[cfg(test)]
            entered: Default::default(),
            clock,
            token,
            token_is_shared: AtomicBool::new(token_is_shared),
            runtime,
            name,
            steals,
            #[cfg(test)]
            most_looks: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    /// A look under the lock, or a transition that leaves nothing to be done.
    pub(super) fn with<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let driver = state.apply_cancels();
        let result = transition(&mut state);
        #[cfg(test)]
        self.most_looks.fetch_max(
            state.jobs.take_looks(),
            std::sync::atomic::Ordering::Relaxed,
        );
        let outruns_driver = state.inbox.is_crowded();
        if state.jobs.has_unused() {
            free_unused(state);
        } else {
            drop(state);
        }
        // Threads that schedule without a pause hold the lock most of the time. One of them takes it again before a task that
        // was woken for it runs, and where others compete for the processors the kernel mostly stops it while it holds
        // the lock. So it makes room when the lock is free.
        if outruns_driver && self.driver_waits.load(Relaxed) {
            std::thread::yield_now();
        }
        if let Some(driver) = driver {
            self.wake_driver(driver);
        }
        result
    }

    /// As [`with`](Shared::with), for the driver: callers make room for it.
    pub(super) fn with_priority<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        self.driver_waits.store(true, Relaxed);
        self.with(|state| {
            self.driver_waits.store(false, Relaxed);
            transition(state)
        })
    }

    /// A transition under the lock of a table too, which deals with noted cancels itself. What it leaves unused is dropped
    /// by the next one.
    pub(super) fn with_table<R>(&self, transition: impl FnOnce(&mut State) -> R) -> R {
        transition(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.entered
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.dropped_handle.take() {
            state.jobs.ref_dec(slot);
        }
        state
    }

    /// The handle on a job is dropped.
    pub(super) fn drop_handle(&self, slot: u32) {
        // The last handle of a job that has ended frees the slot. No value is in it any more, so nothing of the user's is
        // dropped under the lock.
        if !self.dropped_handle.leave(slot) {
            self.with(|state| state.jobs.ref_dec(slot));
        }
    }

    /// One transition under the lock, then what it leaves to be done.
    pub(super) fn enter<R>(&self, transition: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = self.with(|state| transition(state, &mut effects));
        if effects.is_empty() {
            // As most are. It spares the look at each field.
            std::mem::forget(effects);
        } else {
            self.apply(effects);
        }
        result
    }

    /// Like [`enter`](Shared::enter), for a step in which the group may drain: if the token or the clock has ended the
    /// group before, that is noted first. A group that has drained accepts no reason any more.
    pub(super) fn enter_checked<R>(
        &self,
        transition: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        // Before the lock: the token has a lock of its own, which is never taken under the group's.
        let (now, cancelled) = (self.deadline_clock(), self.is_cancelled());
        self.enter(|state, effects| {
            state.check_end(now, cancelled, effects);
            transition(state, effects)
        })
    }

    /// Does what transitions have left to be done, when no lock is held.
    pub(super) fn apply(&self, effects: Effects) {
        // The order of the effects:
        //
        // 1. The driver and the worker. Their wakers are tokio's, so they neither block nor panic, and the group
        //    continues whatever the users' wakers do that come after them.
        // 2. Spare tasks that are to end. Nothing waits for them.
        // 3. The token. Its wakers may be users', and so may panic.
        // 4. The tasks that wait for the end of the group. They come after the token, so that a task that is woken
        //    for the end finds the token cancelled.
        //
        // A caller that looks at the state between the lock and these may see the end before any of them has
        // happened.
        if let Some(driver) = effects.driver {
            self.wake_driver(driver);
        }
        if let Some(worker) = effects.worker {
            worker.wake();
            self.make_stealable();
        }
        if effects.cancel {
            panic::catch(|| self.token.cancel()).unwrap_or_else(panic::forget);
        }
        // Each panic of a waker is caught: one that unwound here would leave the tasks behind it asleep for ever.
        if !effects.wake.is_empty() {
            panic::wake_each(effects.wake);
        }
    }

    fn wake_driver(&self, driver: WakeDriver) {
        match driver {
            WakeDriver::Now(driver) => {
                driver.wake();
                self.make_stealable();
            }
            WakeDriver::At(at) => self.wake_driver_at(at),
        }
    }

    /// Lets the driver look at that time, or at once if it has come.
    fn wake_driver_at(&self, at: Timestamp) {
        let (at, now) = (self.clock.instant(at), Instant::now());
        let woken = self
            .timer()
            .as_mut()
            .is_some_and(|timer| timer.wake_at(at, now));
        if woken {
            self.make_stealable();
        }
    }

    /// What wakes the driver.
    pub(super) fn timer(&self) -> MutexGuard<'_, Option<Timer>> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets other worker threads take the task that was woken or spawned last.
    ///
    /// From inside a task tokio puts it into a slot of the present worker from which none is stolen, to
    /// be polled when the present task yields; one that blocks its thread then would hold it up. The
    /// next task to be spawned pushes it out of there, and wakes another worker.
    pub(super) fn make_stealable(&self) {
        if self.steals && try_id().is_some() {
            self.runtime.spawn(async {});
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The group's token, for others.
    pub(super) fn share_token(&self) -> CancellationToken {
        // Before the token is handed out: its receiver can cancel it only after this store. A start check that has
        // to see the cancel comes after a lock that the receiver has held since (see `worker.rs`), and so loads
        // `true`. No data is published by this flag.
        self.token_is_shared.store(true, SeqCst);
        self.token.clone()
    }

    /// Returns whether the token was cancelled from outside the group.
    pub(super) fn is_cancelled(&self) -> bool {
        self.token_is_shared.load(SeqCst) && self.token.is_cancelled()
    }

    /// The clock, as far as it can end the group: it is not read for one without a deadline.
    pub(super) fn deadline_clock(&self) -> Timestamp {
        if self.deadline < Timestamp::NEVER {
            self.now()
        } else {
            Timestamp::ALWAYS
        }
    }

    /// The start check of a job: returns whether a token or the clock has ended the group from outside.
    ///
    /// What ends it from within takes the claims out of the local queues itself.
    pub(super) fn is_over(&self) -> bool {
        self.is_cancelled() || self.deadline_clock() >= self.deadline
    }

    /// Ends the group that [`is_over`](Shared::is_over), and gives back a job that was about to start.
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

    /// Runs a job's code: its panic ends here.
    pub(super) fn catch_as_current<R>(&self, code: impl FnOnce() -> R) -> Result<R, Payload> {
        let _restore = Restore(
            CURRENT_GROUP.with(|current| current.replace(std::ptr::from_ref(self) as usize)),
        );
        panic::catch(code)
    }

    /// Returns whether this is called by the code of one of the group's own jobs.
    pub(super) fn is_current(&self) -> bool {
        CURRENT_GROUP.with(Cell::get) == std::ptr::from_ref(self) as usize
    }

    /// Drops what jobs were that never started, and stops counting them.
    pub(super) fn drop_jobs(&self, jobs: impl IntoIterator<Item = DroppedJob>) {
        // Each by itself, since a second panic while one unwinds would end the process. All of them are counted down
        // after the last: until then the group does not drain, and so `wait` does not return `Ok` while a value is
        // alive.
        let mut count = 0;
        for job in jobs {
            count += 1;
            if let Err(payload) = panic::discard(job.runnable) {
                let panic = JobPanic::new(payload, job.id, job.scheduled_at);
                self.report_panic(&panic);
            }
        }
        if count > 0 {
            self.dropped(count);
        }
    }

    /// The values of `count` jobs have been dropped.
    pub(super) fn dropped(&self, count: usize) {
        self.enter_checked(|state, effects| state.dropped(count, effects));
    }

    /// Drops what is left in the tables of a group that no caller can ask for it.
    pub(super) fn clear_tables(&self) {
        // The list is taken under the lock, the values are dropped after it: they are users'.
        let tables = self.with(|state| state.jobs.tables.all());
        tables.iter().for_each(|table| table.clear());
    }

    /// Emits the error event of a panic, which is seen also if no task ever waits for the group.
    pub(super) fn report_panic(&self, panic: &JobPanic) {
        trace::panicked(
            self.name(),
            panic.job().0,
            panic.scheduled_at(),
            panic.message(),
        );
    }

    /// The jobs that have not ended, in the order of their submission.
    pub(super) fn jobs(&self) -> Vec<JobInfo> {
        let mut jobs = Vec::new();
        for chunk in 0..self.with(|state| state.jobs.chunks()) {
            jobs.reserve(CHUNK);
            self.with(|state| state.list_chunk(chunk, &self.clock, &mut jobs));
        }
        jobs.sort_unstable_by_key(|job: &JobInfo| job.id);
        jobs
    }

    /// Drops the pending jobs of one chunk that are due at `from` or later, and wakes those that are to be
    /// aborted.
    pub(super) fn drop_chunk(&self, chunk: usize, from: Timestamp) {
        // What is taken out under the lock has room before: an allocator that is asked for much may first put
        // in order all that was freed, and has needed tens of milliseconds for that.
        let mut jobs = Vec::with_capacity(CHUNK);
        self.enter(|state, effects| state.take_pending_chunk(chunk, from, &mut jobs, effects));
        self.drop_jobs(jobs);
    }

    /// The runtime is gone: ends the running jobs of one chunk that no worker polls at the moment.
    pub(super) fn end_chunk(&self, chunk: usize) {
        let running = self.with(|state| state.jobs.running_of_chunk(chunk));
        running.into_iter().for_each(AwaitingJob::end_now);
    }
}
