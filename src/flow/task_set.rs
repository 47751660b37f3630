//! The tasks of one combinator, while they run.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::completions::{Completer, Completion, Completions};
use super::stop::Watch;
use super::task::{Given, Task};
use crate::ground::panic::{TaskPanic, discard, discard_each, forget, message, poll_caught};
use crate::ground::seats::Seats;
use crate::ground::token::{Cause, Token};
use crate::ground::trace;

/// So many ends are taken in one poll, before the others have a turn.
const TURN: u32 = 128;

/// Starts tasks in order, tells their ends in order of time, and leaves none behind.
///
/// It knows of no limit and of no result: whoever has it asks for one more task or for one more end.
pub(super) struct TaskSet<I, K, T> {
    name: &'static str,
    called_at: &'static Location<'static>,
    runtime: Handle,
    token: Token,
    watch: Watch,
    /// Those that have not started; none when there are no more.
    tasks: Option<I>,
    started: usize,
    /// Started, and their end is not taken.
    running: usize,
    /// Started, and aborted before they ended by themselves.
    aborted: usize,
    seats: Seats,
    completions: Arc<Completions<T>>,
    /// Read from the completions, and not taken.
    ended: VecDeque<Completion<T>>,
    /// Ends that were taken since the others had a turn.
    taken: u32,
    stopped: bool,
    kind: PhantomData<fn() -> K>,
}

/// What a set is asked for.
pub(super) enum Event<T> {
    /// The task of this index ended by itself.
    Ended(usize, Result<T, TaskPanic>),
    /// All that started have ended.
    Idle,
    /// The token was cancelled while nothing else was new, or the runtime is gone.
    Cancelled,
}

impl<I, K, T: Send + 'static> TaskSet<I, K, T> {
    /// `None` outside of a runtime.
    pub(super) fn new(
        name: &'static str,
        called_at: &'static Location<'static>,
        token: Token,
        tasks: I,
    ) -> Option<TaskSet<I, K, T>> {
        Some(TaskSet {
            name,
            called_at,
            runtime: Handle::try_current().ok()?,
            watch: Watch::new(token.token()),
            token,
            tasks: Some(tasks),
            started: 0,
            running: 0,
            aborted: 0,
            seats: Seats::default(),
            completions: Completions::new(),
            ended: VecDeque::new(),
            taken: 0,
            stopped: false,
            kind: PhantomData,
        })
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// How many tasks have started.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event<T>> {
        loop {
            if self.running == 0 {
                return Poll::Ready(Event::Idle);
            }
            if self.taken == TURN {
                self.taken = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(Completion { index, seat, end }) = self.next_ended(cx) else {
                self.taken = 0;
                if !self.stopped && self.watch.is_cancelled(cx) {
                    return Poll::Ready(Event::Cancelled);
                }
                return Poll::Pending;
            };
            self.taken += 1;
            self.running -= 1;
            drop(self.seats.ended(seat));
            match end {
                Some(end) => return Poll::Ready(Event::Ended(index, end)),
                None => self.aborted += 1,
            }
            // Without a stop it is the runtime that is gone.
            if !self.stopped {
                return Poll::Ready(Event::Cancelled);
            }
        }
    }

    fn next_ended(&mut self, cx: &mut Context<'_>) -> Option<Completion<T>> {
        if self.ended.is_empty() {
            self.completions.read(&mut self.ended, cx.waker());
        }
        self.ended.pop_front()
    }

    /// Aborts what runs. The first cause stays.
    pub(super) fn stop(&mut self, cause: Cause) {
        self.stopped = true;
        self.token.explain(cause);
        self.token.cancel();
        self.abort();
    }

    /// Drops a value of the user's; a panic of its destructor is an event and harms nobody.
    pub(super) fn bury<V>(&self, value: V) {
        if let Err(payload) = discard(value) {
            let (index, text) = (self.started as u64, message(&*payload));
            trace::panicked(self.name, index, self.called_at, text);
            forget(payload);
        }
    }
}

impl<I, K, T> TaskSet<I, K, T> {
    fn abort(&mut self) {
        let mut next = 0;
        while let Some(page) = self.seats.abort_page(&mut next) {
            page.iter().for_each(AbortHandle::abort);
        }
    }
}

impl<I, K, T> TaskSet<I, K, T>
where
    I: Iterator<Item: Task<K, Output = T>>,
    T: Send + 'static,
{
    /// Returns how many tasks have no end yet, at most; `None` where the input does not know.
    ///
    /// Those that were aborted are among them: they never had one.
    pub(super) fn without_end(&self) -> Option<usize> {
        let started = self.running + self.aborted;
        match &self.tasks {
            Some(tasks) => tasks.size_hint().1?.checked_add(started),
            None => Some(started),
        }
    }

    /// Drops what has not started, and counts the tasks that never ended by themselves: at most `most`,
    /// and the input is taken no further than that needs.
    pub(super) fn cut_off(&mut self, most: usize) -> usize {
        let mut count = self.aborted.min(most);
        let mut rest = self.tasks.take().into_iter().flatten();
        for task in rest.by_ref().take(most - count) {
            self.bury(task);
            count += 1;
        }
        self.bury(rest);
        count
    }

    /// False when there are no more tasks.
    pub(super) fn start_next(&mut self) -> bool {
        let Some(task) = self.tasks.as_mut().and_then(Iterator::next) else {
            self.tasks = None;
            return false;
        };
        let (index, seat) = (self.started, self.seats.claim());
        self.started += 1;
        self.running += 1;
        let token = Given(I::Item::LISTENS.then(|| self.token.clone()));
        let running = self.runtime.spawn(run(Run {
            task: task.run(token),
            name: self.name,
            called_at: self.called_at,
            report: Completer::new(&self.completions, index, seat),
        }));
        let late = self.seats.started(seat, running.abort_handle());
        debug_assert!(late.is_none(), "nothing starts after a stop");
        true
    }
}

impl<I, K, T> Drop for TaskSet<I, K, T> {
    fn drop(&mut self) {
        self.token.explain(Cause::Cancelled);
        self.token.cancel();
        self.abort();
        discard_each(self.completions.close());
        discard_each(std::mem::take(&mut self.ended));
    }
}

impl<I, K, T> fmt::Debug for TaskSet<I, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name)
            .field("started", &self.started)
            .field("running", &self.running)
            .field("cause", &self.token.cause())
            .finish_non_exhaustive()
    }
}

/// One argument, so that a task that is aborted before its first poll is dropped before its end is told.
struct Run<F: Future> {
    task: F,
    name: &'static str,
    called_at: &'static Location<'static>,
    report: Completer<F::Output>,
}

/// One task, whose panic is its end. It is an event here too, so that it is seen if nobody waits.
async fn run<F: Future>(run: Run<F>) {
    let Run {
        task,
        name,
        called_at,
        mut report,
    } = run;
    let mut task = pin!(Some(task));
    let end = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    report.tell(Some(end.map_err(|payload| {
        let index = report.index() as u64;
        trace::panicked(name, index, called_at, message(&*payload));
        TaskPanic::new(payload, called_at)
    })));
}
