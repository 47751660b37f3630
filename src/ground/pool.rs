//! Tasks of one group: so many at once, the others kept as data, until the last has ended.
//!
//! One lock guards the state. Under it no user code runs and no user value is dropped; a task that is
//! parked, skipped or handed back is only moved. The lock of an [`Offer`] is taken by itself.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use super::error::TaskError;
use super::panic::{catch, discard, forget, message, poll_caught};
use super::parked::{InLine, Launch, Offer, Parked, Task, Ticket};
use super::permits::Permits;
use super::policy::{Asker, OnError, Outcome, TaskStats};
use super::refusal::SpawnError;
use super::seats::Seats;
use super::token::{Cause, Token};
use super::trace;

type Caller = &'static Location<'static>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// `wait` was called.
    Draining,
    Drained,
    /// The owner is gone.
    Dropped,
}

/// A group's shared state.
pub(crate) struct Pool<E> {
    name: &'static str,
    /// None: what fails is counted, and not kept.
    on_error: Option<OnError>,
    token: Token,
    runtime: Handle,
    state: Mutex<State<E>>,
}

struct State<E> {
    permits: Permits<Parked<Pool<E>>>,
    seats: Seats,
    gate: Gate,
    /// Guards that hold the group open without a task.
    members: usize,
    /// In order of time.
    failures: Vec<TaskError<E>>,
    stats: TaskStats,
    next_index: usize,
    /// Set in the step that records the failure, so that no parked task slips in before the token is
    /// cancelled.
    stopping: bool,
    /// Somebody is starting parked tasks: the others leave theirs to it.
    pumping: bool,
    /// Somebody listens to the token, for the line.
    watched: bool,
    waiter: Option<Waker>,
}

impl<E> State<E> {
    fn admits(&self, asker: Asker, cancelled: bool) -> Option<Refused> {
        match (self.gate, asker) {
            (Gate::Dropped, _) => Some(Refused::Cancelled),
            (Gate::Drained, _) | (Gate::Draining, Asker::Owner) => Some(Refused::Closed),
            _ if self.stopping || cancelled => Some(Refused::Cancelled),
            _ => None,
        }
    }

    fn index(&mut self) -> usize {
        self.next_index += 1;
        self.next_index - 1
    }

    /// After a step forward of the line: the one that is now taken in, to be woken.
    fn settle(&mut self) -> Option<Waker> {
        match &mut self.permits.newest_inside()?.task {
            Task::Offered(offer, waker) => {
                offer.accept();
                waker.take()
            }
            Task::Own(_) => None,
        }
    }

    /// The waiter, if this was the last step.
    fn drained(&mut self) -> Option<Waker> {
        let idle = !self.pumping
            && self.members == 0
            && self.permits.taken() == 0
            && self.permits.waiting() == 0;
        if idle && self.gate == Gate::Draining {
            self.gate = Gate::Drained;
        }
        (self.gate == Gate::Drained)
            .then(|| self.waiter.take())
            .flatten()
    }

    /// Counts a failure, writes it down and, if the policy says so, stops what has not started. What
    /// comes back is not wanted: drop it outside of the lock.
    #[must_use]
    fn fail(
        &mut self,
        error: TaskError<E>,
        on_error: Option<OnError>,
        token: &Token,
    ) -> Option<TaskError<E>> {
        match error {
            TaskError::Panicked { .. } => self.stats.panicked += 1,
            _ => self.stats.failed += 1,
        }
        let Some(on_error) = on_error else {
            return Some(error);
        };
        let cause = Cause::of(&error);
        self.failures.push(error);
        if on_error != OnError::Continue {
            token.explain(cause);
            self.stopping = true;
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    Closed,
    Cancelled,
}

impl Refused {
    fn with<F>(self, task: F) -> SpawnError<F> {
        match self {
            Refused::Closed => SpawnError::Closed(task),
            Refused::Cancelled => SpawnError::Cancelled(task),
        }
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
            on_error,
            token,
            runtime,
            state: Mutex::new(State {
                permits: Permits::new(limit, room),
                seats: Seats::default(),
                gate: Gate::Open,
                members: 0,
                failures: Vec::new(),
                stats: TaskStats::default(),
                next_index: 0,
                stopping: false,
                pumping: false,
                watched: false,
                waiter: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn stats(&self) -> TaskStats {
        let state = self.lock();
        TaskStats {
            pending: state.permits.waiting(),
            running: state.permits.taken(),
            ..state.stats
        }
    }

    /// Never waits. A task of a cancelled group is dropped and counted as skipped.
    #[track_caller]
    pub(crate) fn spawn<F>(self: &Arc<Self>, asker: Asker, task: F) -> usize
    where
        F: Future<Output: Outcome<E>> + Send + 'static,
    {
        let spawned_at = Location::caller();
        let mut state = self.lock();
        match state.admits(asker, self.token.is_cancelled()) {
            Some(Refused::Closed) => {
                drop(state);
                // Before the panic: a second one, of the task's destructor, would end the process.
                discard(task).unwrap_or_else(forget);
                let name = self.name;
                panic!("schedgroup: attempted to spawn a task after {name}::wait was called");
            }
            Some(Refused::Cancelled) => {
                state.stats.skipped += 1;
                let index = state.index();
                drop(state);
                self.drop_user(index, spawned_at, || drop(task));
                return index;
            }
            None => {}
        }
        let index = state.index();
        if state.permits.take() {
            let seat = state.seats.claim();
            drop(state);
            self.launch(
                task,
                Ticket {
                    index,
                    seat,
                    spawned_at,
                },
            );
        } else {
            let task = Task::Own(Box::new(task));
            self.park(state, index, spawned_at, task);
        }
        index
    }

    pub(crate) fn try_spawn<F>(
        self: &Arc<Self>,
        asker: Asker,
        spawned_at: Caller,
        task: F,
    ) -> Result<Entry<F>, SpawnError<F>>
    where
        F: Future<Output: Outcome<E>> + Send + 'static,
    {
        let mut state = self.lock();
        if let Some(refused) = state.admits(asker, self.token.is_cancelled()) {
            drop(state);
            return Err(refused.with(task));
        }
        if state.permits.take() {
            let (index, seat) = (state.index(), state.seats.claim());
            drop(state);
            self.launch(
                task,
                Ticket {
                    index,
                    seat,
                    spawned_at,
                },
            );
            return Ok(Entry::In(index));
        }
        if !state.permits.has_room() {
            return Ok(Entry::Full(task));
        }
        let index = state.index();
        let task = Task::Own(Box::new(task));
        self.park(state, index, spawned_at, task);
        Ok(Entry::In(index))
    }

    /// Stands a task at the end of the line. The first one has the token listened to: if that is cancelled
    /// from outside, the line does not wait for a running task to end.
    fn park(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<E>>,
        index: usize,
        spawned_at: Caller,
        task: Task<Self>,
    ) -> u64 {
        let number = state.permits.park(Parked {
            index,
            spawned_at,
            task,
        });
        let watched = std::mem::replace(&mut state.watched, true);
        drop(state);
        if !watched {
            let (token, pool) = (self.token.clone(), Arc::downgrade(self));
            self.runtime.spawn(async move {
                // It ends with the group, whose end cancels the token.
                token.cancelled().await;
                if let Some(pool) = pool.upgrade() {
                    pool.pump();
                }
            });
        }
        number
    }

    pub(crate) fn discarded(&self) {
        self.lock().stats.discarded += 1;
    }

    /// Stands a task in line that its `submit` can take back.
    ///
    /// If a place has become free since the group was found full, the task starts at once.
    pub(crate) fn offer<F>(
        self: &Arc<Self>,
        asker: Asker,
        spawned_at: Caller,
        task: F,
        waker: &Waker,
    ) -> Result<InLine<F>, SpawnError<F>>
    where
        F: Future<Output: Outcome<E>> + Send + 'static,
    {
        let waker = waker.clone();
        let offer = Arc::new(Offer::new(task));
        let mut state = self.lock();
        if let Some(refused) = state.admits(asker, self.token.is_cancelled()) {
            drop(state);
            let task = offer.take().expect("nobody else has the offer");
            return Err(refused.with(task));
        }
        let index = state.index();
        if state.permits.has_room() {
            offer.accept();
        }
        let task = Task::Offered(offer.clone(), Some(waker));
        let number = self.park(state, index, spawned_at, task);
        self.pump();
        Ok(InLine {
            index,
            number,
            offer,
        })
    }

    /// Is the offer accepted? `Some(Err)` gives back the task of a group that ended first.
    pub(crate) fn poll_offer<F>(
        &self,
        number: u64,
        offer: &Offer<F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), F>> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        if offer.is_accepted() {
            return Poll::Ready(Ok(()));
        }
        let old = match state.permits.parked(number) {
            Some(Parked {
                task: Task::Offered(_, waker),
                ..
            }) => waker.replace(fresh),
            _ => {
                drop(state);
                return match offer.take() {
                    Some(task) => Poll::Ready(Err(task)),
                    None => Poll::Ready(Ok(())),
                };
            }
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Takes an offer out of the line, unless it was accepted.
    pub(crate) fn withdraw<F>(&self, number: u64, offer: &Offer<F>) -> Option<F> {
        let mut state = self.lock();
        if offer.is_accepted() {
            return None;
        }
        let parked = state.permits.withdraw(number);
        let waiter = state.drained();
        drop(state);
        drop(parked);
        wake([waiter]);
        offer.take()
    }

    /// Starts what found a place, in order, until nothing more does; skips all in a stopped group.
    ///
    /// Only one caller does so at a time. Whoever gives a place back meanwhile leaves it to that one,
    /// which looks again: starts stay in order, and on a runtime that is gone, where a start ends the
    /// task at once, the stack does not grow.
    fn pump(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.pumping {
            return;
        }
        state.pumping = true;
        loop {
            if state.permits.waiting() > 0 && (state.stopping || self.token.is_cancelled()) {
                let skipped = state.permits.clear();
                let taken_in = skipped.iter().filter(|(_, parked)| parked.is_taken_in());
                state.stats.skipped += taken_in.count() as u64;
                drop(state);
                for (_, parked) in skipped {
                    self.skip(parked);
                }
                state = self.lock();
                continue;
            }
            let Some(parked) = state.permits.next() else {
                break;
            };
            let seat = state.seats.claim();
            let accepted = state.settle();
            let ticket = Ticket {
                index: parked.index,
                seat,
                spawned_at: parked.spawned_at,
            };
            if let Task::Offered(offer, _) = &parked.task {
                offer.accept();
            }
            drop(state);
            match parked.task {
                Task::Own(task) => {
                    task.start(self, ticket);
                    wake([accepted]);
                }
                Task::Offered(offer, submit) => {
                    offer.start(self, ticket);
                    wake([accepted, submit]);
                }
            }
            state = self.lock();
        }
        state.pumping = false;
        let waiter = state.drained();
        drop(state);
        wake([waiter]);
    }

    fn skip(&self, parked: Parked<Self>) {
        match parked.task {
            Task::Own(task) => self.drop_user(parked.index, parked.spawned_at, || drop(task)),
            Task::Offered(offer, waker) => {
                // If it was not taken in, its submit has it back.
                if offer.is_accepted() {
                    self.drop_user(parked.index, parked.spawned_at, || offer.clear());
                }
                drop(offer);
                wake([waker]);
            }
        }
    }

    /// Drops what a task was; its destructor's panic harms nobody and is told.
    fn drop_user(&self, index: usize, spawned_at: Caller, dropping: impl FnOnce()) {
        if let Err(payload) = catch(dropping) {
            trace::panicked(self.name, index as u64, spawned_at, message(&*payload));
            forget(payload);
        }
    }

    fn ended(self: &Arc<Self>, ticket: &Ticket, ended: Option<Result<(), TaskError<E>>>) {
        if let Some(Err(TaskError::Panicked { panic, .. })) = &ended {
            let (index, at) = (ticket.index as u64, ticket.spawned_at);
            trace::panicked(self.name, index, at, panic.message());
        }
        let failed = matches!(ended, Some(Err(_)));
        let mut state = self.lock();
        let unwanted = match ended {
            Some(Ok(())) => {
                state.stats.finished += 1;
                None
            }
            None => {
                state.stats.aborted += 1;
                None
            }
            Some(Err(error)) => state.fail(error, self.on_error, &self.token),
        };
        let handle = state.seats.ended(ticket.seat);
        // The place is kept until the others were told, so that `wait` ends after that.
        if failed {
            drop(state);
            self.stop_if_failed();
            state = self.lock();
        }
        state.permits.give_back();
        let line = state.permits.waiting() > 0;
        let waiter = if line { None } else { state.drained() };
        drop(state);
        drop((handle, unwanted));
        wake([waiter]);
        if line {
            self.pump();
        }
    }

    fn stop_if_failed(&self) {
        match self.on_error {
            None | Some(OnError::Continue) => {}
            Some(OnError::Cancel) => self.token.cancel(),
            Some(OnError::Abort) => {
                self.token.cancel();
                self.abort_all();
            }
        }
    }

    fn abort_all(&self) {
        let running = self.lock().seats.abort_all();
        for task in running {
            task.abort();
        }
    }

    /// Cancels the token; what has not started is skipped.
    pub(crate) fn cancel(self: &Arc<Self>) {
        self.token.explain(Cause::Cancelled);
        self.token.cancel();
        self.pump();
    }

    pub(crate) fn abort(self: &Arc<Self>) {
        self.cancel();
        self.abort_all();
    }

    /// The owner is gone.
    pub(crate) fn abandon(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.gate = Gate::Dropped;
            state.stopping = true;
        }
        self.abort();
    }

    /// Holds the group open. `Err` if it is closed.
    pub(crate) fn join(&self, asker: Asker) -> Result<usize, ()> {
        let mut state = self.lock();
        // A cancelled group may still be joined: the member holds `wait` up, and learns of it.
        if state.admits(asker, false) == Some(Refused::Closed) {
            return Err(());
        }
        state.members += 1;
        Ok(state.index())
    }

    pub(crate) fn member_failed(self: &Arc<Self>, index: usize, error: E) {
        let error = TaskError::Failed { index, error };
        let unwanted = self.lock().fail(error, self.on_error, &self.token);
        drop(unwanted);
        self.stop_if_failed();
        self.pump();
    }

    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.members -= 1;
        let waiter = state.drained();
        drop(state);
        wake([waiter]);
    }

    /// False for the second call.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.lock();
        let first = state.gate == Gate::Open;
        if first {
            state.gate = Gate::Draining;
        }
        first
    }

    /// All failures in order of time, and whether the group was cancelled from outside, or lost tasks with
    /// their runtime.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<(Vec<TaskError<E>>, bool)> {
        let fresh = cx.waker().clone();
        let mut state = self.lock();
        let old = state.waiter.take();
        state.drained();
        if state.gate != Gate::Drained {
            state.waiter = Some(fresh);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        let failures = std::mem::take(&mut state.failures);
        let lost = state.stats.aborted > 0;
        drop(state);
        let cancelled = lost || self.token.cause() == Some(Cause::Cancelled);
        self.token.explain(Cause::Finished);
        self.token.cancel();
        Poll::Ready((failures, cancelled))
    }
}

impl<E, F> Launch<F> for Pool<E>
where
    E: Send + 'static,
    F: Future<Output: Outcome<E>> + Send + 'static,
{
    fn launch(self: &Arc<Self>, task: F, ticket: Ticket) {
        let seat = ticket.seat;
        let duty = Duty {
            pool: Some(Arc::clone(self)),
            ticket,
        };
        let running = self.runtime.spawn(run(Run { task, duty }));
        let abort = running.abort_handle();
        drop(running);
        let late = self.lock().seats.started(seat, abort);
        if let Some(task) = late {
            task.abort();
        }
    }
}

fn wake<const N: usize>(wakers: [Option<Waker>; N]) {
    for waker in wakers.into_iter().flatten() {
        waker.wake();
    }
}

/// Reports a task's end, whatever the end: if it is dropped, the task was aborted.
struct Duty<E: Send + 'static> {
    /// Until the end was told.
    pool: Option<Arc<Pool<E>>>,
    ticket: Ticket,
}

impl<E: Send + 'static> Duty<E> {
    fn ended(&mut self, ended: Option<Result<(), TaskError<E>>>) {
        if let Some(pool) = self.pool.take() {
            pool.ended(&self.ticket, ended);
        }
    }
}

impl<E: Send + 'static> Drop for Duty<E> {
    fn drop(&mut self) {
        self.ended(None);
    }
}

/// One argument, so that a task that is aborted before its first poll is dropped before its duty is.
struct Run<F, E: Send + 'static> {
    task: F,
    duty: Duty<E>,
}

async fn run<E, F>(run: Run<F, E>)
where
    E: Send + 'static,
    F: Future<Output: Outcome<E>>,
{
    let Run { task, mut duty } = run;
    let mut task = pin!(Some(task));
    let outcome = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    let index = duty.ticket.index;
    duty.ended(Some(match outcome {
        Ok(outcome) => outcome
            .into_result()
            .map_err(|error| TaskError::Failed { index, error }),
        Err(payload) => Err(TaskError::panicked(index, payload, duty.ticket.spawned_at)),
    }));
}
