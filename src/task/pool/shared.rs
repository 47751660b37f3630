//! Tasks of one group: so many at once, the others kept as data, until the last has ended.
//!
//! One lock guards the state. Under it no user code runs and no user value is dropped; a task that is
//! parked, skipped or handed back is only moved. The lock of an [`PendingSubmit`] is taken by itself.

use std::future::Future;
use std::panic::Location;
use std::sync::{Arc, PoisonError};
#[cfg(not(shuttle))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

// Under the scheduler of tests/shuttle the lock is a place to switch.
#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::lifecycle::{Lifecycle, Rejected};
use super::line::{Head, Line};
use super::outcome::{End, OnFailure, Outcomes};
use super::queued::{Launch, PendingSubmit, Queued, QueuedTask, SubmitTicket, TaskMeta};
use super::run::{Employer, Run, run};
use crate::ground::error::TaskError;
use crate::ground::panic::{catch, discard, forget, message, wake_each};
use crate::ground::seats::Seats;
use crate::ground::token::{Cause, Token};
use crate::ground::trace;
use crate::task::policy::{Caller, OnError, Outcome, TaskStats};
use crate::task::refusal::SpawnError;

type CallSite = &'static Location<'static>;

/// So many parked tasks are started before other tasks of the worker get a turn.
const BATCH: usize = 128;

/// A group's shared state.
pub(crate) struct Pool<E> {
    name: &'static str,
    token: Token,
    runtime: Handle,
    state: Mutex<State<E>>,
}

struct State<E> {
    lifecycle: Lifecycle,
    line: Line<Pool<E>>,
    seats: Seats,
    outcomes: Outcomes<E>,
    /// How many tasks and members there have been.
    named: usize,
}

impl<E> State<E> {
    fn index(&mut self) -> usize {
        self.named += 1;
        self.named - 1
    }

    /// For a task that has its place.
    fn meta(&mut self, index: usize, spawned_at: CallSite) -> TaskMeta {
        TaskMeta {
            index,
            seat: self.seats.claim(),
            spawned_at,
        }
    }

    /// Counts an end and, if the policy says so, stops what has not started.
    fn record(&mut self, end: End<E>, token: &Token) -> OnFailure<E> {
        let mut after = self.outcomes.record(end, token);
        if after.others != OnError::Continue && !self.lifecycle.stop() {
            // The failure before this one sees to the others, and is not over until it has.
            after.others = OnError::Continue;
        }
        after
    }

    /// The waiter, if this was the last step.
    fn settle(&mut self) -> Option<Waker> {
        if self.line.is_idle() {
            return self.lifecycle.drain(self.outcomes.has_lost());
        }
        None
    }
}

/// Where `try_spawn` and `submit` put a task.
pub(crate) enum Entry<F> {
    In(usize),
    Full(F),
}

impl<E: Send + 'static> Pool<E> {
    #[track_caller]
    pub(crate) fn new(
        name: &'static str,
        limit: usize,
        room: usize,
        on_error: Option<OnError>,
        token: Token,
        runtime: Option<Handle>,
    ) -> Arc<Pool<E>> {
        let runtime = runtime.or_else(|| Handle::try_current().ok());
        // Not in a closure: there `track_caller` does not reach.
        let Some(runtime) = runtime else {
            panic!(
                "schedgroup: {name} was made outside of a tokio runtime: make it inside of one, or \
                 name one with Builder::runtime"
            );
        };
        Arc::new(Pool {
            name,
            token,
            runtime,
            state: Mutex::new(State {
                lifecycle: Lifecycle::new(),
                line: Line::new(limit, room),
                seats: Seats::default(),
                outcomes: Outcomes::new(on_error),
                named: 0,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn stats(&self) -> TaskStats {
        let state = self.lock();
        TaskStats {
            pending: state.line.waiting(),
            running: state.line.running(),
            ..state.outcomes.stats()
        }
    }

    /// Never waits. A rejected task is dropped and counted as skipped; but after its own `wait` the owner's
    /// spawn is misuse.
    #[track_caller]
    pub(crate) fn spawn<F>(self: &Arc<Self>, caller: Caller, task: F) -> usize
    where
        F: Future<Output: Outcome<E>> + Send + 'static,
    {
        let spawned_at = Location::caller();
        let mut state = self.lock();
        match state.lifecycle.admit(caller, self.token.is_cancelled()) {
            Err(Rejected::Closed) if caller == Caller::Owner => {
                drop(state);
                // Before the panic: a second one, of the task's destructor, would end the process.
                discard(task).unwrap_or_else(forget);
                let name = self.name;
                panic!("schedgroup: attempted to spawn a task after {name}::wait was called");
            }
            Err(Rejected::Closed | Rejected::Cancelled) => {
                state.outcomes.skip(1);
                let index = state.index();
                drop(state);
                self.drop_user(index, spawned_at, || drop(task));
                return index;
            }
            Ok(()) => {}
        }
        let index = state.index();
        if state.line.take() {
            let meta = state.meta(index, spawned_at);
            drop(state);
            self.launch(task, meta);
        } else {
            let task = QueuedTask::Owned(Box::new(task));
            self.park(state, index, spawned_at, task);
        }
        index
    }

    pub(crate) fn try_spawn<F>(
        self: &Arc<Self>,
        caller: Caller,
        spawned_at: CallSite,
        task: F,
    ) -> Result<Entry<F>, SpawnError<F>>
    where
        F: Future<Output: Outcome<E>> + Send + 'static,
    {
        let mut state = self.lock();
        if let Err(refused) = state.lifecycle.admit(caller, self.token.is_cancelled()) {
            drop(state);
            return Err(refused.with(task));
        }
        if state.line.take() {
            let index = state.index();
            let meta = state.meta(index, spawned_at);
            drop(state);
            self.launch(task, meta);
            return Ok(Entry::In(index));
        }
        if !state.line.has_room() {
            return Ok(Entry::Full(task));
        }
        let index = state.index();
        let task = QueuedTask::Owned(Box::new(task));
        self.park(state, index, spawned_at, task);
        Ok(Entry::In(index))
    }

    /// Stands a task at the end of the line. The first one has the token listened to: if that is cancelled
    /// from outside, the line does not wait for a running task to end.
    fn park(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<E>>,
        index: usize,
        spawned_at: CallSite,
        task: QueuedTask<Self>,
    ) -> u64 {
        let number = state.line.stand(Queued {
            index,
            spawned_at,
            task,
        });
        let watch = state.line.watch();
        drop(state);
        if watch {
            let (token, pool) = (self.token.clone(), Arc::downgrade(self));
            self.runtime.spawn(async move {
                // It outcomes with the group, whose end cancels the token.
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

    /// Stands a task in line that its `submit` can take back.
    ///
    /// If a place has become free since the group was found full, the task starts at once.
    pub(crate) fn offer<F>(
        self: &Arc<Self>,
        caller: Caller,
        spawned_at: CallSite,
        task: F,
        waker: &Waker,
    ) -> Result<SubmitTicket<F>, SpawnError<F>>
    where
        F: Future<Output: Outcome<E>> + Send + 'static,
    {
        let waker = waker.clone();
        let offer = Arc::new(PendingSubmit::new(task));
        let mut state = self.lock();
        if let Err(refused) = state.lifecycle.admit(caller, self.token.is_cancelled()) {
            drop(state);
            let task = offer.take().expect("nobody else has the offer");
            return Err(refused.with(task));
        }
        let index = state.index();
        let task = QueuedTask::Submitted(offer.clone(), Some(waker));
        let number = self.park(state, index, spawned_at, task);
        self.start_queued();
        Ok(SubmitTicket {
            index,
            number,
            offer,
        })
    }

    /// Is the offer accepted? `Some(Err)` gives back the task of a group that ended first.
    pub(crate) fn poll_offer<F>(
        &self,
        number: u64,
        offer: &PendingSubmit<F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), F>> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        if offer.is_accepted() {
            return Poll::Ready(Ok(()));
        }
        let listening = state.line.listen(number, fresh);
        drop(state);
        if listening.is_ok() {
            return Poll::Pending;
        }
        Poll::Ready(match offer.take() {
            Some(task) => Err(task),
            None => Ok(()),
        })
    }

    /// Takes an offer out of the line, unless it was accepted.
    pub(crate) fn withdraw<F>(&self, number: u64, offer: &PendingSubmit<F>) -> Option<F> {
        let mut state = self.lock();
        if offer.is_accepted() {
            return None;
        }
        let parked = state.line.withdraw(number);
        let waiter = state.settle();
        drop(state);
        drop(parked);
        wake_each(waiter);
        offer.take()
    }

    /// Starts what found a place, in order, until nothing more does; skips all in a stopped group.
    ///
    /// Only one caller does so at a time. Whoever gives a place back meanwhile leaves it to that one,
    /// which looks again: starts stay in order, and on a runtime that is gone, where a start outcomes the
    /// task at once, the stack does not grow.
    fn start_queued(self: &Arc<Self>) {
        if self.lock().line.begin() {
            self.start_up_to(BATCH);
        }
    }

    /// Begun by [`start_queued`](Pool::start_queued). After so many starts the rest is left to a task of its own. Nothing
    /// unwinds in between: the panics of wakers, destructors and subscribers are caught.
    fn start_up_to(self: &Arc<Self>, most: usize) {
        for _ in 0..most {
            let mut state = self.lock();
            if state.lifecycle.is_stopping() || self.token.is_cancelled() {
                state = self.skip_all(state);
            }
            let Some(Head { parked, taken_in }) = state.line.next() else {
                state.line.pause();
                let waiter = state.settle();
                drop(state);
                return wake_each(waiter);
            };
            let meta = state.meta(parked.index, parked.spawned_at);
            drop(state);
            let submit = parked.task.start(self, meta);
            wake_each(taken_in.into_iter().chain(submit));
        }
        let rest = Remainder(Some(Arc::clone(self)));
        self.runtime.spawn(rest.start_queued());
    }

    fn skip_all<'a>(&'a self, mut state: MutexGuard<'a, State<E>>) -> MutexGuard<'a, State<E>> {
        while state.line.waiting() > 0 {
            let skipped = state.line.take_page();
            let taken_in = skipped.iter().filter(|parked| parked.is_taken_in());
            state.outcomes.skip(taken_in.count());
            drop(state);
            for parked in skipped {
                self.skip(parked);
            }
            state = self.lock();
        }
        state
    }

    fn skip(&self, parked: Queued<Self>) {
        match parked.task {
            QueuedTask::Owned(task) => {
                self.drop_user(parked.index, parked.spawned_at, || drop(task))
            }
            QueuedTask::Submitted(offer, waker) => {
                // If it was not taken in, its submit has it back.
                if offer.is_accepted() {
                    self.drop_user(parked.index, parked.spawned_at, || offer.clear());
                }
                drop(offer);
                wake_each(waker);
            }
        }
    }

    /// Drops what a task was; its destructor's panic harms nobody and is told.
    fn drop_user(&self, index: usize, spawned_at: CallSite, dropping: impl FnOnce()) {
        if let Err(payload) = catch(dropping) {
            trace::panicked(self.name, index as u64, spawned_at, message(&*payload));
            forget(payload);
        }
    }

    /// Does to the other tasks what a failure asks for.
    fn apply_policy(&self, others: OnError) {
        match others {
            OnError::Continue => {}
            OnError::Cancel => self.token.cancel(),
            OnError::Abort => {
                self.token.cancel();
                self.abort_all();
            }
        }
    }

    fn abort_all(&self) {
        let mut next = 0;
        loop {
            let page = self.lock().seats.abort_page(&mut next);
            let Some(page) = page else { return };
            page.iter().for_each(AbortHandle::abort);
        }
    }

    /// Cancels the token; what has not started is skipped.
    pub(crate) fn cancel(self: &Arc<Self>) {
        self.token.explain(Cause::Cancelled);
        self.token.cancel();
        self.start_queued();
    }

    pub(crate) fn abort(self: &Arc<Self>) {
        self.cancel();
        self.abort_all();
    }

    /// The owner is gone.
    pub(crate) fn abandon(self: &Arc<Self>) {
        self.lock().lifecycle.abandon();
        self.abort();
    }

    /// Holds the group open. `Err` if it is closed.
    pub(crate) fn join(&self, caller: Caller) -> Result<usize, ()> {
        let mut state = self.lock();
        state.lifecycle.join(caller).map_err(|_closed| ())?;
        Ok(state.index())
    }

    pub(crate) fn member_failed(self: &Arc<Self>, index: usize, error: E) {
        let end = End::Failed(TaskError::Failed { index, error });
        let after = self.lock().record(end, &self.token);
        drop(after.unwanted);
        self.apply_policy(after.others);
        self.start_queued();
    }

    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.lifecycle.leave();
        let waiter = state.settle();
        drop(state);
        wake_each(waiter);
    }

    /// False if somebody waits already, or has waited to the end.
    pub(super) fn close(&self) -> bool {
        self.lock().lifecycle.close()
    }

    /// All failures in order of time, and whether a task was skipped or aborted.
    pub(super) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<(Vec<TaskError<E>>, bool)> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        let former = state.settle();
        let Some(lost) = state.lifecycle.answer() else {
            let former = state.lifecycle.listen(fresh);
            drop(state);
            drop(former);
            return Poll::Pending;
        };
        let failures = state.outcomes.take_failures();
        drop(state);
        drop(former);
        self.token.explain(Cause::Finished);
        self.token.cancel();
        Poll::Ready((failures, lost))
    }

    pub(super) fn stop_waiting(&self) {
        // A user's waker: dropped outside of the lock, which is let go at the end of the line.
        let waiter = self.lock().lifecycle.stop_waiting();
        drop(waiter);
    }
}

impl<E, F> Launch<F> for Pool<E>
where
    E: Send + 'static,
    F: Future<Output: Outcome<E>> + Send + 'static,
{
    fn launch(self: &Arc<Self>, task: F, meta: TaskMeta) {
        let seat = meta.seat;
        let running = Run::new(task, Arc::clone(self), meta);
        let abort = self.runtime.spawn(run(running)).abort_handle();
        let late = self.lock().seats.started(seat, abort);
        if let Some(task) = late {
            task.abort();
        }
    }
}

impl<E: Send + 'static> Employer for Pool<E> {
    type Error = E;

    fn ended(self: &Arc<Self>, meta: &TaskMeta, end: End<E>) {
        if let End::Failed(TaskError::Panicked { panic, .. }) = &end {
            let (index, at) = (meta.index as u64, meta.spawned_at);
            trace::panicked(self.name, index, at, panic.message());
        }
        let mut state = self.lock();
        let after = state.record(end, &self.token);
        let handle = state.seats.ended(meta.seat);
        // The place is kept until the others were told, so that `wait` outcomes after that.
        if after.others != OnError::Continue {
            drop(state);
            self.apply_policy(after.others);
            state = self.lock();
        }
        state.line.give_back();
        let line = state.line.waiting() > 0;
        let waiter = if line { None } else { state.settle() };
        drop(state);
        drop((handle, after.unwanted));
        wake_each(waiter);
        if line {
            self.start_queued();
        }
    }
}

/// What is left of the line after so many starts.
struct Remainder<E: Send + 'static>(Option<Arc<Pool<E>>>);

impl<E: Send + 'static> Remainder<E> {
    async fn start_queued(mut self) {
        if let Some(pool) = self.0.take() {
            pool.start_up_to(BATCH);
        }
    }
}

/// Its runtime is gone: each start outcomes at once and nobody waits for a turn, so it goes to the end.
impl<E: Send + 'static> Drop for Remainder<E> {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.start_up_to(usize::MAX);
        }
    }
}
