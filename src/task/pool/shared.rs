//! The state of one group under its lock, and the steps that go beyond it.
//!
//! Under the lock no user code runs and no user value is dropped; a task that is queued, skipped or rejected is only
//! moved. The lock of a [`PendingSubmit`] is never held together with another. Locks are acquired in this order: the
//! pool's, then the token's (to check whether it is cancelled). So the token is never cancelled under the pool's lock:
//! its wakers may be users', and may call the pool.

use std::panic::Location;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
#[cfg(not(shuttle))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

// Under the scheduler of tests/shuttle the lock is a point at which tasks switch.
#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};

use tokio::runtime;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lifecycle::{Caller, Lifecycle, Rejected};
use super::outcomes::{Counts, Outcomes};
use super::queued::{CallSite, PendingSubmit, Queued, QueuedTask, SubmitTicket, TaskMeta};
use super::wait_queue::{Next, WaitQueue};
use crate::common::abort_handles::AbortHandles;
use crate::common::closing::Closing;
use crate::common::error::TaskError;
use crate::common::panic::{catch, drop_payload, drop_quietly, wake_each};
use crate::common::run;
use crate::common::schedule_error::ScheduleError;
use crate::common::time::{CENTURY, later};
use crate::common::waiters::Waiters;
use crate::task::output::{Sealed, TaskOutput};
use crate::task::policy::{Cause, OnError};
use crate::task::stats::TaskStats;

/// The number of queued tasks that are started before other tasks of the worker get a turn.
const BATCH: usize = 128;

/// The settings of a group.
pub(crate) struct Settings {
    pub(crate) name: Option<Box<str>>,
    pub(crate) limit: usize,
    pub(crate) queue: usize,
    pub(crate) on_error: OnError,
    pub(crate) token: CancellationToken,
    pub(crate) deadline: Option<Instant>,
    pub(crate) runtime: runtime::Handle,
}

/// A group's shared state.
pub(crate) struct Pool<E> {
    name: Option<Box<str>>,
    on_error: OnError,
    token: CancellationToken,
    /// Why the token was cancelled; without a value, by a cancel. It is set before the token is cancelled, so code that
    /// sees the token cancelled finds it. No lock is needed: the first cause stays.
    cause: OnceLock<Cause>,
    deadline: Option<Instant>,
    runtime: runtime::Handle,
    state: Mutex<State<E>>,
}

// What is under the pool's lock. Wakes, aborts and drops are done after it: they are returned to the method that took
// the lock, as `Ended`, `Next` or abort handles.
struct State<E> {
    lifecycle: Lifecycle,
    queue: WaitQueue<E>,
    abort_handles: AbortHandles,
    outcomes: Outcomes<E>,
    waiters: Waiters,
    /// The timer tasks of the deadline and of graces, to be aborted at the end. They hold the pool weakly.
    timers: Vec<AbortHandle>,
    /// The counts at the end, once the group has drained. Later rejections do not change what `wait` returns.
    drained: Option<TaskStats>,
    /// A task has been spawned that skips the queue when the token is cancelled; see `enqueue`.
    is_token_watched: bool,
    /// The task whose end stops the others has been counted, and keeps its slot while they are stopped.
    is_stopping_others: bool,
    next_index: usize,
}

impl<E> State<E> {
    fn next_index(&mut self) -> usize {
        self.next_index += 1;
        self.next_index - 1
    }

    /// Returns whether a task that comes now would have to be queued beyond the capacity.
    fn is_full(&self) -> bool {
        !self.queue.has_slot() && !self.queue.has_capacity()
    }

    /// Gives the next task its index.
    fn meta(&mut self, spawned_at: CallSite) -> TaskMeta {
        TaskMeta {
            index: self.next_index(),
            spawned_at,
        }
    }

    fn stats(&self) -> TaskStats {
        // Each task is counted once.
        let running = self.queue.running() - usize::from(self.is_stopping_others);
        self.outcomes.counts.stats(self.queue.len(), running)
    }

    /// Ends the group if it is closed and nothing is left.
    fn check_drained(&mut self) -> Option<Ended> {
        // Called in each step that may have been the last: a task or a member has ended, a submit was taken back, the
        // queue was emptied, the group was closed. "Nothing is left" and "closed" are read under one lock, so the last
        // end and a `wait` that closes the group cannot miss each other.
        if !self.queue.is_idle() || !self.lifecycle.try_drain() {
            return None;
        }
        // `try_drain` returns `true` once, so there is one `Ended`, which wakes each waiter.
        self.drained = Some(self.stats());
        Some(Ended {
            waiters: self.waiters.take().collect(),
            timers: std::mem::take(&mut self.timers),
        })
    }
}

/// The effects of the end of a group, to be applied after the lock.
#[must_use]
struct Ended {
    waiters: Vec<Waker>,
    timers: Vec<AbortHandle>,
}

/// The answer to a task of `submit` that was not rejected.
pub(crate) enum Submitted<F> {
    /// The group has it, under this index.
    Accepted(usize),
    /// It waits in the queue to be accepted.
    Waiting(SubmitTicket<F>),
}

/// What `wait` and `wait_all` make their results of.
pub(crate) struct Outcome<E> {
    /// In order of time.
    pub(crate) failures: Vec<TaskError<E>>,
    pub(crate) stats: TaskStats,
    /// The reason, if a task was skipped or aborted.
    pub(crate) lost: Option<TaskError<E>>,
}

impl<E: Send + 'static> Pool<E> {
    /// Panics at the caller's line on a runtime without a timer, if there is a deadline.
    #[track_caller]
    pub(crate) fn new(settings: Settings) -> Arc<Pool<E>> {
        let pool = Arc::new(Pool {
            name: settings.name,
            on_error: settings.on_error,
            token: settings.token,
            cause: OnceLock::new(),
            deadline: settings.deadline,
            runtime: settings.runtime,
            state: Mutex::new(State {
                lifecycle: Lifecycle::new(),
                queue: WaitQueue::new(settings.limit, settings.queue),
                abort_handles: AbortHandles::default(),
                outcomes: Outcomes::new(),
                waiters: Waiters::default(),
                timers: Vec::new(),
                drained: None,
                is_token_watched: false,
                is_stopping_others: false,
                next_index: 0,
            }),
        });
        if let Some(deadline) = settings.deadline {
            if let Some(sleep) = pool.sleep(deadline) {
                pool.after(sleep, Pool::check_deadline);
            }
            pool.check_deadline();
        }
        pool
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state as it is now: a deadline or a grace that is over takes effect first, since its timer may be late
    /// while tasks block the threads of the runtime. What admits, starts, fails, ends or closes takes the lock by
    /// this.
    fn lock_in_time(self: &Arc<Self>) -> MutexGuard<'_, State<E>> {
        self.check_deadline();
        let state = self.lock();
        if !state.lifecycle.is_overdue() {
            return state;
        }
        drop(state);
        self.end_grace();
        self.lock()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(crate) fn stats(&self) -> TaskStats {
        self.lock().stats()
    }

    // Admission.

    /// Never waits. A rejected task is dropped and counted as skipped; but after its own `wait` the owner's
    /// spawn is misuse.
    #[track_caller]
    pub(crate) fn spawn<F>(self: &Arc<Self>, caller: Caller, task: F) -> usize
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let spawned_at = Location::caller();
        let mut state = self.lock_in_time();
        match state.lifecycle.admit(caller, self.token.is_cancelled()) {
            Err(Rejected::Closed) if caller == Caller::Owner => {
                let method = state.lifecycle.closed_by();
                drop(state);
                // Before the panic: if the task's destructor panicked while that unwinds, the process would end.
                drop_quietly(task);
                panic!(
                    "schedgroup: attempted to spawn a task after TaskGroup::{method} was called"
                );
            }
            Err(Rejected::Closed | Rejected::Cancelled) => {
                state.outcomes.counts.rejected += 1;
                let meta = state.meta(spawned_at);
                drop(state);
                self.drop_task(meta, || drop(task));
                meta.index
            }
            Ok(()) => self.enter(state, spawned_at, task),
        }
    }

    /// Never waits, and queues the task only within the capacity.
    #[track_caller]
    pub(crate) fn try_spawn<F>(
        self: &Arc<Self>,
        caller: Caller,
        task: F,
    ) -> Result<usize, ScheduleError<F>>
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let spawned_at = Location::caller();
        let mut state = self.lock_in_time();
        if let Err(rejected) = state.lifecycle.admit(caller, self.token.is_cancelled()) {
            drop(state);
            return Err(rejected.with(task));
        }
        if state.is_full() {
            state.outcomes.counts.discarded += 1;
            return Err(ScheduleError::Full(task));
        }
        Ok(self.enter(state, spawned_at, task))
    }

    /// Like `try_spawn`, but queues the task also beyond the capacity. There its `submit` can take it back.
    pub(crate) fn submit<F>(
        self: &Arc<Self>,
        caller: Caller,
        spawned_at: CallSite,
        task: F,
    ) -> Result<Submitted<F>, ScheduleError<F>>
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let state = self.lock_in_time();
        if let Err(rejected) = state.lifecycle.admit(caller, self.token.is_cancelled()) {
            drop(state);
            return Err(rejected.with(task));
        }
        if !state.is_full() {
            return Ok(Submitted::Accepted(self.enter(state, spawned_at, task)));
        }
        let pending = Arc::new(PendingSubmit::new(task));
        // Without a waker: the same poll of the `Submit` registers it next, unless the task has been accepted by then.
        let task = QueuedTask::Submitted(pending.clone(), None);
        let index = self.enqueue(state, spawned_at, task);
        Ok(Submitted::Waiting(SubmitTicket { index, pending }))
    }

    /// Starts an admitted task if a slot is free, and queues it otherwise.
    ///
    /// `state` is the guard under which it was admitted, so admission and the slot, or the place in the queue, are one
    /// step. A concurrent `wait` waits for the task or has it rejected, and a slot that is released concurrently is
    /// taken by the task or finds it in the queue.
    fn enter<F>(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<E>>,
        spawned_at: CallSite,
        task: F,
    ) -> usize
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        if !state.queue.try_acquire() {
            let launch = |pool: &Arc<Self>, meta: TaskMeta| pool.launch(task, meta);
            return self.enqueue(state, spawned_at, QueuedTask::Owned(Box::new(launch)));
        }
        // The slot is taken, so the group cannot drain before this task has ended, though it is spawned only after
        // the lock.
        let meta = state.meta(spawned_at);
        drop(state);
        self.launch(task, meta);
        meta.index
    }

    /// Queues a task at the end. The first one has the token watched: if that is cancelled from outside, the
    /// queue does not wait for a running task to end.
    fn enqueue(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<E>>,
        spawned_at: CallSite,
        task: QueuedTask<E>,
    ) -> usize {
        let meta = state.meta(spawned_at);
        state.queue.push(Queued { meta, task });
        // In the step that queues the task, so that only one task is spawned for it.
        let is_watched = std::mem::replace(&mut state.is_token_watched, true);
        drop(state);
        if !is_watched {
            // Without it, tasks that are queued behind one that never ends would stay queued when the parent token is
            // cancelled. The pool is held weakly: the token may never be cancelled, and the pool may go before.
            let (token, pool) = (self.token.clone(), Arc::downgrade(self));
            self.runtime.spawn(async move {
                // The end of the group cancels the token too, which ends this task.
                token.cancelled().await;
                if let Some(pool) = pool.upgrade() {
                    pool.start_queued();
                }
            });
        }
        meta.index
    }

    /// Resolves when the task is accepted, or gives it back if the group ends first.
    pub(crate) fn poll_submit<F>(
        &self,
        ticket: &SubmitTicket<F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), F>> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        if ticket.pending.is_accepted() {
            return Poll::Ready(Ok(()));
        }
        // Under the same lock as `is_accepted`: the step that accepts the task later wakes this waker.
        let registered = state.queue.register(ticket.index, fresh);
        drop(state);
        if registered.is_ok() {
            return Poll::Pending;
        }
        // It has left the queue and was not accepted, so it was skipped, which leaves such a task to its submit.
        Poll::Ready(match ticket.pending.take() {
            Some(task) => Err(task),
            None => Ok(()),
        })
    }

    /// Takes a task out of the queue, unless it was accepted. Called when its `submit` is dropped or sees the token
    /// cancelled.
    pub(crate) fn cancel_submit<F>(&self, ticket: &SubmitTicket<F>) -> Option<F> {
        let mut state = self.lock();
        if ticket.pending.is_accepted() {
            return None;
        }
        // Under the same lock as `is_accepted`, so either this submit has the task or the group has it. In a closed
        // group it may have been the last that `wait` waited for.
        let queued = state.queue.remove(ticket.index);
        let ended = state.check_drained();
        drop(state);
        // It holds the waker of the submit, which may be a user's and panic when it is dropped. Whatever it does, the
        // end of the group is not lost, and the task is its submit's.
        drop_quietly(queued);
        self.finish(ended);
        ticket.pending.take()
    }

    // Tasks start and end.

    pub(super) fn launch<F>(self: &Arc<Self>, task: F, meta: TaskMeta)
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let pool = Arc::clone(self);
        // `ended` is called in each case, also after an abort or a shutdown of the runtime, and releases the slot. It
        // may be called on another thread before the handle is there.
        let abort = run::spawn(&self.runtime, task, move |end| pool.ended(meta, end));
        let late = self.lock().abort_handles.started(meta.index, abort);
        // All tasks were aborted meanwhile, without this one; or it has ended.
        if let Some(task) = late {
            task.abort();
        }
    }

    fn ended<O: TaskOutput<E>>(self: &Arc<Self>, meta: TaskMeta, end: run::End<O>) {
        let TaskMeta { index, spawned_at } = meta;
        let panicked = |payload| {
            let panic = run::panicked(self.name(), index, spawned_at, payload);
            TaskError::Panicked(panic)
        };
        let (is_aborted, failure) = match end {
            run::End::Dropped(dropped) => (true, dropped.err().map(panicked)),
            run::End::Ended(Err(payload)) => (false, Some(panicked(payload))),
            run::End::Ended(Ok(output)) => {
                let error = output.into_result(Sealed::NEW).err();
                (false, error.map(|error| TaskError::Failed { index, error }))
            }
        };
        // The failure, its effect on the lifecycle and the count are one step: from here on no queued task starts.
        let mut state = self.lock_in_time();
        let mut others = self.on_failure(&mut state, failure.as_ref());
        // Dropped, and not by the group: its runtime was shut down, so no task can run any more.
        let is_lost = is_aborted && !state.abort_handles.is_aborting();
        if is_lost && state.lifecycle.stop() {
            // Without another cause the cancelled token means `Cause::Cancelled`.
            others = OnError::Cancel;
        }
        let unread = state.outcomes.record(is_aborted, failure);
        let handle = state.abort_handles.ended(index);
        // The slot is kept while the policy is applied, without the lock. So `wait` does not return before the token is
        // cancelled and the others are aborted, and no queued task takes this slot meanwhile.
        if others != OnError::Continue {
            // Only of the first.
            state.is_stopping_others = true;
            drop(state);
            self.apply_policy(others);
            state = self.lock();
            state.is_stopping_others = false;
        }
        state.queue.release();
        // With a queue the group is not at its end. `start_queued` checks again when it has emptied the queue.
        let queued = state.queue.len() > 0;
        let ended = if queued { None } else { state.check_drained() };
        drop(state);
        drop(handle);
        drop_quietly(unread);
        self.finish(ended);
        if queued {
            self.start_queued();
        }
    }

    /// Starts queued tasks in order while there are free slots; skips all of them in a stopped group.
    ///
    /// Only one caller does so at a time; what another releases meanwhile is left to that one, which looks again. So
    /// starts stay in order. And on a runtime that was shut down, where a start ends the task at once, which comes here
    /// again, the stack does not grow.
    fn start_queued(self: &Arc<Self>) {
        // No free slot is missed though only one caller starts:
        //
        // 1. A caller releases a slot, under the lock, and then comes here.
        // 2. If another caller is starting, it has not reached `end_starting` yet, which it calls under the same lock
        //    under which it found nothing to start. So that comes after the release, and finds the slot.
        // 3. If no other is starting, this caller begins, and finds the slot itself.
        if self.lock().queue.begin_starting() {
            self.start_up_to(BATCH);
        }
    }

    /// Begun by [`start_queued`](Pool::start_queued). After a batch the remainder is left to a task of its own.
    /// Nothing unwinds in between: the panics of wakers, destructors and subscribers are caught.
    fn start_up_to(self: &Arc<Self>, most: usize) {
        for _ in 0..most {
            let mut state = self.lock_in_time();
            // Under the same lock as `next`, so that no queued task starts after the group was stopped.
            if state.lifecycle.is_stopping() || self.token.is_cancelled() {
                state = self.skip_all(state);
            }
            let Some(Next { queued, accepted }) = state.queue.next() else {
                state.queue.end_starting();
                let ended = state.check_drained();
                drop(state);
                return self.finish(ended);
            };
            // It is accepted and has its slot, so no `submit` can take it back: it is started without the lock.
            drop(state);
            let submit = queued.task.start(self, queued.meta);
            wake_each(accepted.into_iter().chain(submit));
        }
        // `starting` stays set until the remainder has run: no other caller starts, and the group does not drain.
        let remainder = Remainder(Some(Arc::clone(self)));
        self.runtime.spawn(remainder.start());
    }

    fn skip_all<'a>(&'a self, mut state: MutexGuard<'a, State<E>>) -> MutexGuard<'a, State<E>> {
        while state.queue.len() > 0 {
            let skipped = state.queue.take_chunk();
            let accepted = skipped.iter().filter(|queued| queued.is_accepted());
            state.outcomes.counts.dropped += accepted.count() as u64;
            drop(state);
            // Each task is dropped without the lock. `starting` keeps the group from draining until all are.
            for queued in skipped {
                self.skip(queued);
            }
            state = self.lock();
        }
        state
    }

    fn skip(&self, queued: Queued<E>) {
        match queued.task {
            QueuedTask::Owned(task) => {
                self.drop_task(queued.meta, || drop(task));
            }
            QueuedTask::Submitted(task, waker) => {
                // If it was not accepted, its submit takes it back. The token wakes that submit.
                if task.is_accepted() {
                    self.drop_task(queued.meta, || task.clear());
                }
                drop_quietly(waker);
            }
        }
    }

    /// Drops what a task was; a panic of its destructor is an event and harms no other task.
    fn drop_task(&self, meta: TaskMeta, dropping: impl FnOnce()) {
        run::discard_of_task(self.name(), meta.index, meta.spawned_at, dropping);
    }

    // The end of the group, or of its tasks.

    /// Returns the policy to apply to the others for a failure: none if it was applied for an earlier one.
    fn on_failure(&self, state: &mut State<E>, failure: Option<&TaskError<E>>) -> OnError {
        match failure {
            // `stop` answers `true` once: the first failure gives the cause, and applies the policy.
            Some(failure) if self.on_error != OnError::Continue && state.lifecycle.stop() => {
                self.set_cause(Cause::of(failure));
                self.on_error
            }
            _ => OnError::Continue,
        }
    }

    fn apply_policy(&self, others: OnError) {
        match others {
            OnError::Continue => {}
            OnError::Cancel => self.cancel_token(),
            OnError::Abort => {
                self.cancel_token();
                self.abort_all();
            }
        }
    }

    fn abort_all(&self) {
        // A task whose handle arrives later is aborted as it arrives (see `launch`).
        let running = self.lock().abort_handles.abort();
        running.for_each(|task| task.abort());
    }

    /// Sets the cause for which the token is about to be cancelled, unless there is one.
    fn set_cause(&self, cause: Cause) {
        if !self.token.is_cancelled() {
            // An error means that another cause was first, which stays.
            let _ = self.cause.set(cause);
        }
    }

    /// Wakes user code: not to be called under the lock. A waker's panic ends here.
    fn cancel_token(&self) {
        catch(|| self.token.cancel()).unwrap_or_else(drop_payload);
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        let cancelled = self.token.is_cancelled();
        // It is set here if it was not, so that each call returns the same.
        cancelled.then(|| *self.cause.get_or_init(|| Cause::Cancelled))
    }

    /// Cancels the token; what has not started is skipped.
    pub(crate) fn cancel(self: &Arc<Self>) {
        // A deadline that has passed came first, though its timer may be late.
        self.check_deadline();
        self.cancel_token();
        self.start_queued();
    }

    pub(crate) fn abort(self: &Arc<Self>) {
        self.cancel();
        self.abort_all();
    }

    /// Aborts all tasks, since the owner was dropped.
    pub(crate) fn drop_owner(self: &Arc<Self>) {
        let mut state = self.lock_in_time();
        // The phase changes before the tasks are aborted: then no handle spawns one that would not be aborted.
        state.lifecycle.drop_owner();
        let timers = std::mem::take(&mut state.timers);
        // No `wait` can come: its errors are not kept for as long as there are handles.
        let unread = state.outcomes.failures.take();
        drop(state);
        drop(unread);
        timers.iter().for_each(AbortHandle::abort);
        self.abort();
    }

    /// Applies the effects of the end, after the lock: cancels the token, stops the timers and wakes the waiters.
    fn finish(&self, ended: Option<Ended>) {
        if let Some(Ended { waiters, timers }) = ended {
            // The token before the waiters: a task that is woken for the end finds it cancelled.
            self.end_token();
            timers.iter().for_each(AbortHandle::abort);
            wake_each(waiters);
        }
    }

    fn end_token(&self) {
        self.set_cause(Cause::Finished);
        self.cancel_token();
    }

    // Time.

    /// Returns a timer for that instant; `None` if it is too far away to matter.
    #[track_caller]
    fn sleep(&self, at: Instant) -> Option<Sleep> {
        let is_near = at.saturating_duration_since(Instant::now()) < CENTURY;
        let _inside = self.runtime.enter();
        // Not by `bool::then`: `track_caller` does not reach into a closure.
        if is_near { Some(sleep_until(at)) } else { None }
    }

    /// Calls `then` when the timer fires, or when its runtime is shut down; it does nothing in a group that has ended.
    fn after(self: &Arc<Self>, sleep: Sleep, then: fn(&Arc<Self>)) {
        let timer = Timer {
            pool: Arc::downgrade(self),
            then,
        };
        let timer = self.runtime.spawn(async move {
            let _timer = timer;
            sleep.await;
        });
        // If the group has drained since the timer was spawned, its end did not find this timer to abort it.
        let timer = timer.abort_handle();
        let mut state = self.lock();
        if state.lifecycle.is_drained() {
            drop(state);
            timer.abort();
        } else {
            state.timers.push(timer);
        }
    }

    /// Ends the group if its deadline has passed.
    fn check_deadline(self: &Arc<Self>) {
        if self.deadline.is_none_or(|at| at > Instant::now()) {
            return;
        }
        // From this step on nothing queued starts, also before the token is cancelled below. It returns `true` once,
        // so the timer and a caller that finds the deadline passed do not both do the rest. Whatever stopped the group
        // before has set the cause and applies the policy, or aborts all.
        let mut state = self.lock();
        if !state.lifecycle.expire() {
            return;
        }
        // Under the same lock: a task that is rejected for it, and a `wait` that ends, find the cause.
        self.set_cause(Cause::DeadlineExceeded);
        drop(state);
        self.cancel_token();
        self.start_queued();
        if self.on_error == OnError::Abort {
            self.abort_all();
        }
    }

    // The owner closes the group.

    /// Closes the group for `wait` or `wait_all`. Returns `false` if the future of another one is alive, or has
    /// resolved.
    pub(crate) fn close_to_wait(self: &Arc<Self>, method: &'static str) -> bool {
        let mut state = self.lock_in_time();
        let admitted = state.lifecycle.close_to_wait(method);
        let ended = state.check_drained();
        drop(state);
        self.finish(ended);
        admitted
    }

    /// Begins a drain or a shutdown, and returns the counts before it. It continues by itself.
    #[track_caller]
    pub(crate) fn close_within(self: &Arc<Self>, closing: Closing, grace: Duration) -> Counts {
        let end = later(Instant::now(), grace);
        // Made before anything changes, since it panics on a runtime without a timer. A grace of zero needs none.
        let sleep = if grace.is_zero() {
            None
        } else {
            self.sleep(end)
        };
        let mut state = self.lock_in_time();
        // Under the same lock as the closing: the report has what ends after the call, and not what ended before.
        let before = state.outcomes.counts;
        let is_earliest = state.lifecycle.close_until(closing, end);
        let ended = state.check_drained();
        drop(state);
        self.finish(ended);
        match sleep {
            Some(sleep) if is_earliest => self.after(sleep, Pool::end_grace),
            None if grace.is_zero() => self.end_grace(),
            _ => {}
        }
        before
    }

    /// The grace is over: what is left is aborted or dropped.
    fn end_grace(self: &Arc<Self>) {
        // Its timer may run before that of a deadline that came first.
        self.check_deadline();
        let mut state = self.lock();
        let Some(members) = state.lifecycle.end_grace() else {
            return;
        };
        // Under the same lock as `end_grace`: a member that leaves later is not counted again.
        state.outcomes.counts.aborted += members as u64;
        self.set_cause(Cause::Cancelled);
        drop(state);
        // It ends the group, too, if nothing is left.
        self.abort();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().outcomes.counts
    }

    /// Returns whether the group has drained. If not, the future of that number is woken when it has.
    pub(crate) fn poll_drained(&self, number: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        if !state.lifecycle.is_drained() {
            // Under the same lock as `is_drained`: an end that comes later wakes this waker.
            let former = state.waiters.listen(number, fresh);
            drop(state);
            // A panic of the waker's destructor ends here, as in a scheduling group: it is none of who waits.
            drop_quietly(former);
            return Poll::Pending;
        }
        drop(state);
        // The thread that ended the group cancels the token after the lock, and may not have done so yet. No task is
        // to see a drained group whose token is not cancelled.
        self.end_token();
        Poll::Ready(())
    }

    pub(crate) fn stop_waiting(&self, number: u64) {
        // It may be a user's waker, so it is dropped after the lock, which is released at the end of this line. The
        // future that leaves may be dropped while its thread is panicking, so a panic of the waker ends here.
        let waker = self.lock().waiters.leave(number);
        drop_quietly(waker);
    }

    pub(crate) fn give_up_wait(&self) {
        self.lock().lifecycle.give_up_wait();
    }

    /// Takes what `wait` returns, once the group has drained.
    pub(crate) fn take_outcome(&self) -> Outcome<E> {
        let mut state = self.lock();
        let failures = state.outcomes.failures.take();
        let failures = failures.map_or_else(Vec::new, |mut kept| kept.take());
        let stats = state.drained.unwrap_or_default();
        let lost = (stats.skipped + stats.aborted > 0).then(|| match self.cause() {
            Some(Cause::DeadlineExceeded) => TaskError::DeadlineExceeded,
            _ => TaskError::Cancelled,
        });
        Outcome {
            failures,
            stats,
            lost,
        }
    }

    // Members.

    /// Adds a member, which keeps the group open. Returns its index, and whether it was admitted; but after its own
    /// `wait` the owner's call is misuse.
    #[track_caller]
    pub(crate) fn join(self: &Arc<Self>, caller: Caller) -> (usize, bool) {
        let mut state = self.lock_in_time();
        // Admission and the count are one step, as for a task.
        let joins = state.lifecycle.join(caller);
        if !joins && caller == Caller::Owner {
            let method = state.lifecycle.closed_by();
            drop(state);
            panic!("schedgroup: attempted to add a member after TaskGroup::{method} was called");
        }
        (state.next_index(), joins)
    }

    pub(crate) fn member_failed(self: &Arc<Self>, index: usize, error: E) {
        let error = TaskError::Failed { index, error };
        let mut state = self.lock_in_time();
        // A member that is not waited for must not change what `wait` or a report says.
        if !state.lifecycle.waits_for_members() {
            drop(state);
            return;
        }
        let others = self.on_failure(&mut state, Some(&error));
        let unread = state.outcomes.fail(error);
        drop(state);
        drop_quietly(unread);
        self.apply_policy(others);
        self.start_queued();
    }

    pub(crate) fn leave(self: &Arc<Self>) {
        let mut state = self.lock_in_time();
        if !state.lifecycle.leave() {
            return;
        }
        state.outcomes.counts.ended += 1;
        let ended = state.check_drained();
        drop(state);
        self.finish(ended);
    }
}

/// The timer of a deadline or a grace. It acts in its `Drop`, as it is also dropped when its runtime is shut down: a
/// grace that could not end any more would keep a group open for as long as it has a member.
struct Timer<E: Send + 'static> {
    pool: Weak<Pool<E>>,
    then: fn(&Arc<Pool<E>>),
}

impl<E: Send + 'static> Drop for Timer<E> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            (self.then)(&pool);
        }
    }
}

/// The queue after a batch of starts.
struct Remainder<E: Send + 'static>(Option<Arc<Pool<E>>>);

impl<E: Send + 'static> Remainder<E> {
    async fn start(mut self) {
        if let Some(pool) = self.0.take() {
            pool.start_up_to(BATCH);
        }
    }
}

/// Its runtime was shut down: each start ends at once and no task waits for a turn, so it continues to the end. Without
/// this `starting` would stay set, and `wait` would never return.
impl<E: Send + 'static> Drop for Remainder<E> {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.start_up_to(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Pending, pending};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    use tokio::task::yield_now;

    use super::*;

    fn settings(limit: usize) -> Settings {
        Settings {
            name: None,
            limit,
            queue: 0,
            on_error: OnError::default(),
            token: CancellationToken::new(),
            deadline: None,
            runtime: runtime::Handle::current(),
        }
    }

    fn pool(limit: usize) -> Arc<Pool<()>> {
        Pool::new(settings(limit))
    }

    /// The thread that drains it does not come to `finish`.
    fn drain(pool: &Pool<()>) {
        let mut state = pool.lock();
        assert!(state.lifecycle.close_to_wait("wait"));
        assert!(state.check_drained().is_some());
        drop(state);
        assert_eq!(pool.cause(), None);
    }

    /// Takes the only slot, and submits a task that waits for it.
    fn waiting_submit(pool: &Arc<Pool<()>>) -> SubmitTicket<Pending<Result<(), ()>>> {
        assert!(pool.lock().queue.try_acquire());
        match pool.submit(Caller::Owner, Location::caller(), pending()) {
            Ok(Submitted::Waiting(ticket)) => ticket,
            _ => unreachable!("there is no slot"),
        }
    }

    /// Panics when its last waker is dropped.
    struct Bomb;

    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor of a waker");
        }
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    /// Counts its destructors that have found the lock free.
    struct DroppedOutside(Arc<Pool<()>>, Arc<AtomicUsize>);

    impl Wake for DroppedOutside {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for DroppedOutside {
        fn drop(&mut self) {
            let is_free = self.0.state.try_lock().is_ok();
            self.1.fetch_add(usize::from(is_free), SeqCst);
        }
    }

    #[tokio::test]
    async fn the_wakers_of_a_submit_are_dropped_outside_of_the_lock() {
        let pool = pool(1);
        let ticket = waiting_submit(&pool);
        let dropped = Arc::new(AtomicUsize::new(0));
        for former in 0..2 {
            let waker = DroppedOutside(Arc::clone(&pool), Arc::clone(&dropped));
            let waker = Waker::from(Arc::new(waker));
            let polled = pool.poll_submit(&ticket, &mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert_eq!(dropped.load(SeqCst), former);
        }
        assert!(pool.cancel_submit(&ticket).is_some());
        assert_eq!(dropped.load(SeqCst), 2);
    }

    /// A pool with that many free slots and as many queued tasks, as if the slots had been released while another
    /// caller was starting.
    fn free_and_queued(tasks: usize) -> Arc<Pool<()>> {
        let pool = pool(tasks);
        for _ in 0..tasks {
            assert!(pool.lock().queue.try_acquire());
        }
        for _ in 0..tasks {
            pool.spawn(Caller::Owner, pending::<Result<(), ()>>());
        }
        for _ in 0..tasks {
            pool.lock().queue.release();
        }
        pool
    }

    #[tokio::test]
    async fn queued_tasks_start_batch_by_batch_and_others_have_turns_in_between() {
        let pool = free_and_queued(2 * BATCH + 1);
        pool.start_queued();
        let mut running = vec![pool.stats().running];
        for _ in 0..100 {
            yield_now().await;
            running.push(pool.stats().running);
        }
        running.dedup();
        assert_eq!(running, [BATCH, 2 * BATCH, 2 * BATCH + 1]);
    }

    #[test]
    fn the_queue_ends_though_its_runtime_is_shut_down_after_a_batch() {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let entered = runtime.enter();
        let pool = free_and_queued(BATCH + 1);
        drop(entered);
        pool.start_queued();
        assert_eq!(pool.stats().pending, 1);
        assert!(pool.close_to_wait("wait"));
        drop(runtime);
        let polled = pool.poll_drained(&mut None, &mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready());
    }

    #[tokio::test]
    async fn who_finds_the_group_drained_finds_its_token_cancelled() {
        let pool = pool(1);
        drain(&pool);
        let polled = pool.poll_drained(&mut None, &mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready());
        assert_eq!(pool.cause(), Some(Cause::Finished));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_passes_behind_the_end_is_not_its_cause() {
        let second = Duration::from_secs(1);
        let pool: Arc<Pool<()>> = Pool::new(Settings {
            deadline: Some(Instant::now() + second),
            ..settings(1)
        });
        drain(&pool);
        sleep_until(Instant::now() + second).await;
        yield_now().await; // the timer has fired
        assert_eq!(pool.cause(), None);
    }

    /// The last task has released its slot, and its thread has not come to `start_queued` yet.
    #[tokio::test]
    async fn the_end_is_told_though_the_waker_of_the_last_submit_panics_when_it_is_dropped() {
        let pool = pool(1);
        let ticket = waiting_submit(&pool);
        let bomb = Waker::from(Arc::new(Bomb));
        let polled = pool.poll_submit(&ticket, &mut Context::from_waker(&bomb));
        assert!(polled.is_pending());
        drop(bomb);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(pool.close_to_wait("wait"));
        let polled = pool.poll_drained(&mut None, &mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        pool.lock().queue.release();

        let taken = catch(|| pool.cancel_submit(&ticket));
        assert!(woken.0.load(SeqCst), "nothing is left");
        assert!(matches!(taken, Ok(Some(_))), "the task is back");
    }
}
