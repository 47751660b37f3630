//! The state of one group under its lock, and the steps that go beyond it.
//!
//! Under the lock no user code runs and no user value is dropped; a task that is queued, skipped or handed back
//! is only moved. The lock of a [`PendingSubmit`] is taken by itself. Locks are taken in this order: the
//! pool's, then the token's (which is asked whether it is cancelled).

use std::panic::Location;
use std::sync::{Arc, OnceLock, PoisonError};
#[cfg(not(shuttle))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

// Under the scheduler of tests/shuttle the lock is a place to switch.
#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};

use tokio::runtime;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lifecycle::{Caller, Closing, Lifecycle, Rejected};
use super::outcomes::{Counts, End, Outcomes};
use super::queued::{CallSite, PendingSubmit, Queued, QueuedTask, SubmitTicket, TaskMeta};
use super::run::{Run, run};
use super::wait_queue::{Next, WaitQueue};
use crate::ScheduleError;
use crate::common::abort_handles::Seats;
use crate::common::error::TaskError;
use crate::common::panic::{catch, discard, forget, message, wake_each};
use crate::common::time::later;
use crate::common::trace;
use crate::common::waiters::Waiters;
use crate::task::output::TaskOutput;
use crate::task::policy::{Cause, OnError};
use crate::task::stats::TaskStats;

/// How many queued tasks are started before other tasks of the worker get a turn.
const BATCH: usize = 128;

/// An instant that is farther away arms no timer, so it moves no paused clock either.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a group is made with.
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
    /// Written before the token is cancelled for it.
    cause: OnceLock<Cause>,
    deadline: Option<Instant>,
    runtime: runtime::Handle,
    state: Mutex<State<E>>,
}

struct State<E> {
    lifecycle: Lifecycle,
    queue: WaitQueue<E>,
    abort_handles: Seats,
    outcomes: Outcomes<E>,
    waiters: Waiters,
    /// Those of the deadline and of graces, to be stopped at the end.
    timers: Vec<AbortHandle>,
    /// The counts at the end, once the group has drained.
    drained: Option<TaskStats>,
    /// A task of its own listens to the token, for the queue.
    is_token_watched: bool,
    next_index: usize,
}

impl<E> State<E> {
    fn next_index(&mut self) -> usize {
        self.next_index += 1;
        self.next_index - 1
    }

    /// For a task that has its slot.
    fn meta(&mut self, index: usize, spawned_at: CallSite) -> TaskMeta {
        TaskMeta {
            index,
            seat: self.abort_handles.claim(),
            spawned_at,
        }
    }

    fn stats(&self) -> TaskStats {
        self.outcomes.stats(self.queue.len(), self.queue.running())
    }

    /// Ends the group if this was its last step.
    fn settle(&mut self) -> Option<Ended> {
        if !self.queue.is_idle() || !self.lifecycle.try_drain() {
            return None;
        }
        self.drained = Some(self.stats());
        Some(Ended {
            waiters: self.waiters.take().collect(),
            timers: std::mem::take(&mut self.timers),
        })
    }
}

/// What the end of a group leaves to do, outside of the lock.
#[must_use]
struct Ended {
    waiters: Vec<Waker>,
    timers: Vec<AbortHandle>,
}

/// Where `try_spawn` and `submit` put a task.
pub(crate) enum Entry<F> {
    In(usize),
    Full(F),
}

/// What `wait` is told.
pub(crate) struct Outcome<E> {
    /// In order of time.
    pub(crate) failures: Vec<TaskError<E>>,
    pub(crate) stats: TaskStats,
    /// Why, if a task was skipped or aborted.
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
                abort_handles: Seats::default(),
                outcomes: Outcomes::new(),
                waiters: Waiters::default(),
                timers: Vec::new(),
                drained: None,
                is_token_watched: false,
                next_index: 0,
            }),
        });
        if let Some(deadline) = settings.deadline {
            if let Some(sleep) = pool.sleep(deadline) {
                pool.after(sleep, Pool::expire);
            }
            pool.check_deadline();
        }
        pool
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    // Tasks come in.

    /// Never waits. A rejected task is dropped and counted as skipped; but after its own `wait` the owner's
    /// spawn is misuse.
    #[track_caller]
    pub(crate) fn spawn<F>(self: &Arc<Self>, caller: Caller, task: F) -> usize
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let spawned_at = Location::caller();
        self.check_deadline();
        let mut state = self.lock();
        match state.lifecycle.admit(caller, self.token.is_cancelled()) {
            Err(Rejected::Closed) if caller == Caller::Owner => {
                let method = state.lifecycle.closed_by();
                drop(state);
                // Before the panic: a second one, of the task's destructor, would end the process.
                discard(task).unwrap_or_else(forget);
                panic!(
                    "schedgroup: attempted to spawn a task after TaskGroup::{method} was called"
                );
            }
            Err(Rejected::Closed | Rejected::Cancelled) => {
                state.outcomes.reject();
                let index = state.next_index();
                drop(state);
                self.drop_task(index, spawned_at, || drop(task));
                return index;
            }
            Ok(()) => {}
        }
        let index = state.next_index();
        if state.queue.try_acquire() {
            let meta = state.meta(index, spawned_at);
            drop(state);
            self.launch(task, meta);
        } else {
            let task = QueuedTask::Owned(Box::new(task));
            self.enqueue(state, index, spawned_at, task);
        }
        index
    }

    pub(crate) fn try_spawn<F>(
        self: &Arc<Self>,
        caller: Caller,
        spawned_at: CallSite,
        task: F,
    ) -> Result<Entry<F>, ScheduleError<F>>
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        self.check_deadline();
        let mut state = self.lock();
        if let Err(rejected) = state.lifecycle.admit(caller, self.token.is_cancelled()) {
            drop(state);
            return Err(rejected.with(task));
        }
        if state.queue.try_acquire() {
            let index = state.next_index();
            let meta = state.meta(index, spawned_at);
            drop(state);
            self.launch(task, meta);
            return Ok(Entry::In(index));
        }
        if !state.queue.has_capacity() {
            return Ok(Entry::Full(task));
        }
        let index = state.next_index();
        let task = QueuedTask::Owned(Box::new(task));
        self.enqueue(state, index, spawned_at, task);
        Ok(Entry::In(index))
    }

    /// Queues a task at the end. The first one has the token watched: if that is cancelled from outside, the
    /// queue does not wait for a running task to end.
    fn enqueue(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<E>>,
        index: usize,
        spawned_at: CallSite,
        task: QueuedTask<E>,
    ) -> u64 {
        let number = state.queue.push(Queued {
            index,
            spawned_at,
            task,
        });
        let is_watched = std::mem::replace(&mut state.is_token_watched, true);
        drop(state);
        if !is_watched {
            let (token, pool) = (self.token.clone(), Arc::downgrade(self));
            self.runtime.spawn(async move {
                // It ends with the group, whose end cancels the token.
                token.cancelled().await;
                if let Some(pool) = pool.upgrade() {
                    pool.start_queued();
                }
            });
        }
        number
    }

    pub(crate) fn discarded(&self) {
        self.lock().outcomes.discard();
    }

    /// Queues a task that its `submit` can take back.
    ///
    /// If a slot has become free since the group was found full, the task starts at once.
    pub(crate) fn submit<F>(
        self: &Arc<Self>,
        caller: Caller,
        spawned_at: CallSite,
        task: F,
        waker: &Waker,
    ) -> Result<SubmitTicket<F>, ScheduleError<F>>
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let waker = waker.clone();
        let pending = Arc::new(PendingSubmit::new(task));
        let mut state = self.lock();
        if let Err(rejected) = state.lifecycle.admit(caller, self.token.is_cancelled()) {
            drop(state);
            let task = pending.take().expect("nothing else has the task");
            return Err(rejected.with(task));
        }
        let index = state.next_index();
        let task = QueuedTask::Submitted(pending.clone(), Some(waker));
        let number = self.enqueue(state, index, spawned_at, task);
        self.start_queued();
        Ok(SubmitTicket {
            index,
            number,
            pending,
        })
    }

    /// Returns `Some(Ok)` if the task is accepted. `Some(Err)` gives back the task of a group that ended first.
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
        let registered = state.queue.register(ticket.number, fresh);
        drop(state);
        if registered.is_ok() {
            return Poll::Pending;
        }
        Poll::Ready(match ticket.pending.take() {
            Some(task) => Err(task),
            None => Ok(()),
        })
    }

    /// Takes a task out of the queue, unless it was accepted.
    pub(crate) fn withdraw<F>(&self, ticket: &SubmitTicket<F>) -> Option<F> {
        let mut state = self.lock();
        if ticket.pending.is_accepted() {
            return None;
        }
        let queued = state.queue.withdraw(ticket.number);
        let ended = state.settle();
        drop(state);
        drop(queued);
        self.finish(ended);
        ticket.pending.take()
    }

    // Tasks start and end.

    pub(super) fn launch<F>(self: &Arc<Self>, task: F, meta: TaskMeta)
    where
        F: Future<Output: TaskOutput<E>> + Send + 'static,
    {
        let seat = meta.seat;
        let running = Run::new(task, Arc::clone(self), meta);
        let abort = self.runtime.spawn(run(running)).abort_handle();
        let late = self.lock().abort_handles.started(seat, abort);
        if let Some(task) = late {
            task.abort();
        }
    }

    pub(super) fn ended(self: &Arc<Self>, meta: &TaskMeta, end: End<E>) {
        if let End::Failed(TaskError::Panicked(panic)) = &end {
            trace::task_panicked(self.name(), meta.index, meta.spawned_at, panic.message());
        }
        let mut state = self.lock();
        let others = self.on_failure(&mut state, end.cause());
        state.outcomes.record(end);
        let handle = state.abort_handles.ended(meta.seat);
        // The slot is kept until the others were told, so that `wait` ends after that.
        if others != OnError::Continue {
            drop(state);
            self.apply_policy(others);
            state = self.lock();
        }
        state.queue.release();
        let queued = state.queue.len() > 0;
        let ended = if queued { None } else { state.settle() };
        drop(state);
        drop(handle);
        self.finish(ended);
        if queued {
            self.start_queued();
        }
    }

    /// Starts what found a slot, in order, until nothing more does; skips all in a stopped group.
    ///
    /// Only one caller does so at a time. One that gives a slot back meanwhile leaves it to that one, which
    /// looks again: starts stay in order, and on a runtime that is gone, where a start ends the task at once,
    /// the stack does not grow.
    fn start_queued(self: &Arc<Self>) {
        if self.lock().queue.begin_starting() {
            self.start_up_to(BATCH);
        }
    }

    /// Begun by [`start_queued`](Pool::start_queued). After a batch the remainder is left to a task of its own.
    /// Nothing unwinds in between: the panics of wakers, destructors and subscribers are caught.
    fn start_up_to(self: &Arc<Self>, most: usize) {
        for _ in 0..most {
            let mut state = self.lock();
            if state.lifecycle.is_stopping() || self.token.is_cancelled() {
                state = self.skip_all(state);
            }
            let Some(Next { queued, accepted }) = state.queue.next() else {
                state.queue.end_starting();
                let ended = state.settle();
                drop(state);
                return self.finish(ended);
            };
            let meta = state.meta(queued.index, queued.spawned_at);
            drop(state);
            let submit = queued.task.start(self, meta);
            wake_each(accepted.into_iter().chain(submit));
        }
        let remainder = Remainder(Some(Arc::clone(self)));
        self.runtime.spawn(remainder.start());
    }

    fn skip_all<'a>(&'a self, mut state: MutexGuard<'a, State<E>>) -> MutexGuard<'a, State<E>> {
        while state.queue.len() > 0 {
            let skipped = state.queue.take_page();
            let accepted = skipped.iter().filter(|queued| queued.is_accepted());
            state.outcomes.skip(accepted.count());
            drop(state);
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
                self.drop_task(queued.index, queued.spawned_at, || drop(task));
            }
            QueuedTask::Submitted(task, waker) => {
                // If it was not accepted, its submit takes it back.
                if task.is_accepted() {
                    self.drop_task(queued.index, queued.spawned_at, || task.clear());
                }
                drop(task);
                wake_each(waker);
            }
        }
    }

    /// Drops what a task was; a panic of its destructor is an event and harms no other task.
    fn drop_task(&self, index: usize, spawned_at: CallSite, dropping: impl FnOnce()) {
        if let Err(payload) = catch(dropping) {
            trace::task_panicked(self.name(), index, spawned_at, message(&*payload));
            forget(payload);
        }
    }

    // The group ends, or its tasks are to.

    /// What a failure does to the others: nothing, if the failure before it sees to them.
    fn on_failure(&self, state: &mut State<E>, cause: Option<Cause>) -> OnError {
        match cause {
            Some(cause) if self.on_error != OnError::Continue && state.lifecycle.stop() => {
                self.explain(cause);
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
        let mut next = 0;
        loop {
            let page = self.lock().abort_handles.abort_page(&mut next);
            let Some(page) = page else { return };
            page.iter().for_each(AbortHandle::abort);
        }
    }

    /// Writes down why the token is about to be cancelled: who sees it cancelled finds the cause. A later one
    /// is dropped.
    fn explain(&self, cause: Cause) {
        if !self.token.is_cancelled() {
            // An error means that another cause was first, and that one stays.
            let _ = self.cause.set(cause);
        }
    }

    /// Wakes user code: not to be called under the lock. A waker's panic ends here.
    fn cancel_token(&self) {
        catch(|| self.token.cancel()).unwrap_or_else(forget);
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        let cancelled = self.token.is_cancelled();
        // Written down, so that a cause that comes late does not change what was read.
        cancelled.then(|| *self.cause.get_or_init(|| Cause::Cancelled))
    }

    /// Cancels the token; what has not started is skipped.
    pub(crate) fn cancel(self: &Arc<Self>) {
        self.explain(Cause::Cancelled);
        self.cancel_token();
        self.start_queued();
    }

    pub(crate) fn abort(self: &Arc<Self>) {
        self.cancel();
        self.abort_all();
    }

    /// The owner is gone.
    pub(crate) fn drop_owner(self: &Arc<Self>) {
        let mut state = self.lock();
        state.lifecycle.drop_owner();
        let timers = std::mem::take(&mut state.timers);
        drop(state);
        timers.iter().for_each(AbortHandle::abort);
        self.abort();
    }

    /// Tells of the end of the group, outside of the lock.
    fn finish(&self, ended: Option<Ended>) {
        if let Some(Ended { waiters, timers }) = ended {
            self.end_token();
            timers.iter().for_each(AbortHandle::abort);
            wake_each(waiters);
        }
    }

    fn end_token(&self) {
        self.explain(Cause::Finished);
        self.cancel_token();
    }

    // Time.

    /// A timer for that instant; `None` if it is too far away to matter.
    #[track_caller]
    fn sleep(&self, at: Instant) -> Option<Sleep> {
        let is_near = at.saturating_duration_since(Instant::now()) < FAR;
        let _inside = self.runtime.enter();
        // Not in a closure: there `track_caller` does not reach.
        if is_near { Some(sleep_until(at)) } else { None }
    }

    /// Calls `then` when the timer fires, unless the group has ended by then.
    fn after(self: &Arc<Self>, sleep: Sleep, then: fn(&Arc<Self>)) {
        let pool = Arc::downgrade(self);
        let timer = self.runtime.spawn(async move {
            sleep.await;
            if let Some(pool) = pool.upgrade() {
                then(&pool);
            }
        });
        let timer = timer.abort_handle();
        let mut state = self.lock();
        if state.lifecycle.is_drained() {
            drop(state);
            timer.abort();
        } else {
            state.timers.push(timer);
        }
    }

    /// Ends the group if its deadline has passed and the timer was late.
    fn check_deadline(self: &Arc<Self>) {
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            self.expire();
        }
    }

    /// The deadline has passed.
    fn expire(self: &Arc<Self>) {
        if !self.lock().lifecycle.expire() {
            return;
        }
        self.explain(Cause::DeadlineExceeded);
        self.cancel_token();
        self.start_queued();
        if self.on_error == OnError::Abort {
            self.abort_all();
        }
    }

    // The owner closes the group.

    /// False if the future of another `wait` is alive, or has resolved.
    pub(crate) fn close_to_wait(self: &Arc<Self>) -> bool {
        self.check_deadline();
        let mut state = self.lock();
        let admitted = state.lifecycle.close_to_wait();
        let ended = state.settle();
        drop(state);
        self.finish(ended);
        admitted
    }

    /// Begins a drain or a shutdown, and returns the counts before it. It goes on by itself.
    #[track_caller]
    pub(crate) fn close_within(self: &Arc<Self>, closing: Closing, grace: Duration) -> Counts {
        self.check_deadline();
        let end = later(Instant::now(), grace);
        // Made before anything changes: without a timer of the runtime it panics. No grace needs none.
        let sleep = if grace.is_zero() {
            None
        } else {
            self.sleep(end)
        };
        let mut state = self.lock();
        let before = state.outcomes.counts();
        let is_earliest = state.lifecycle.close_until(closing, end);
        let ended = state.settle();
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
        let mut state = self.lock();
        let Some(members) = state.lifecycle.end_grace() else {
            return;
        };
        state.outcomes.abort_members(members);
        drop(state);
        // This looks whether that was all, too.
        self.abort();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().outcomes.counts()
    }

    /// Returns whether the group has drained. If not, the future of that number is woken when it has.
    pub(crate) fn poll_drained(&self, number: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        if !state.lifecycle.is_drained() {
            let former = state.waiters.listen(number, fresh);
            drop(state);
            drop(former);
            return Poll::Pending;
        }
        drop(state);
        // The one that ended the group may not have come to it yet.
        self.end_token();
        Poll::Ready(())
    }

    pub(crate) fn stop_waiting(&self, number: u64) {
        // A user's waker: dropped outside of the lock, which is let go at the end of the line.
        let waker = self.lock().waiters.leave(number);
        drop(waker);
    }

    pub(crate) fn give_up_wait(&self) {
        self.lock().lifecycle.give_up_wait();
    }

    /// The end of `wait`, once the group has drained.
    pub(crate) fn end_wait(&self) -> Outcome<E> {
        let mut state = self.lock();
        state.lifecycle.end_wait();
        let failures = state.outcomes.take_failures();
        let stats = state.drained.unwrap_or_default();
        drop(state);
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

    /// Keeps the group open, if it is not closed; and the index.
    pub(crate) fn join(self: &Arc<Self>, caller: Caller) -> (usize, bool) {
        self.check_deadline();
        let mut state = self.lock();
        let joins = state.lifecycle.join(caller);
        (state.next_index(), joins)
    }

    pub(crate) fn closed_by(&self) -> &'static str {
        self.lock().lifecycle.closed_by()
    }

    pub(crate) fn member_failed(self: &Arc<Self>, index: usize, error: E) {
        let error = TaskError::Failed { index, error };
        let mut state = self.lock();
        if !state.lifecycle.hears_members() {
            drop(state);
            drop(error);
            return;
        }
        let others = self.on_failure(&mut state, Some(Cause::of(&error)));
        state.outcomes.fail(error);
        drop(state);
        self.apply_policy(others);
        self.start_queued();
    }

    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        if !state.lifecycle.leave() {
            return;
        }
        state.outcomes.member_left();
        let ended = state.settle();
        drop(state);
        self.finish(ended);
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

/// Its runtime is gone: each start ends at once and no task waits for a turn, so it goes to the end.
impl<E: Send + 'static> Drop for Remainder<E> {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.start_up_to(usize::MAX);
        }
    }
}
