//! The tasks of one combinator, while they run.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::task::{Given, Task};
use super::watch::Watch;
use crate::ground::panic::{TaskPanic, discard, forget, message, poll_caught};
use crate::ground::token::{Cause, Token};
use crate::ground::trace;

/// Starts tasks in order, tells their ends in order of time, and leaves none behind.
///
/// It knows of no limit and of no result: whoever has it asks for one more task or for one more end.
pub(super) struct Crew<I, K, T> {
    name: &'static str,
    called_at: &'static Location<'static>,
    runtime: Handle,
    token: Token,
    watch: Watch,
    /// Those that have not started; none when there are no more, and when the crew has stopped.
    tasks: Option<I>,
    started: usize,
    running: JoinSet<Ended<T>>,
    stopped: bool,
    kind: PhantomData<fn() -> K>,
}

/// How a task ended by itself.
pub(super) struct Ended<T> {
    pub(super) index: usize,
    pub(super) end: Result<T, TaskPanic>,
}

/// What a crew is asked for.
pub(super) enum News<T> {
    Ended(Ended<T>),
    /// All that started have ended.
    Idle,
    /// The token was cancelled while nothing else was new, or the runtime is gone.
    Cancelled,
}

impl<I, K, T: Send + 'static> Crew<I, K, T> {
    /// `None` outside of a runtime.
    pub(super) fn new(
        name: &'static str,
        called_at: &'static Location<'static>,
        token: Token,
        tasks: I,
    ) -> Option<Crew<I, K, T>> {
        Some(Crew {
            name,
            called_at,
            runtime: Handle::try_current().ok()?,
            watch: Watch::new(token.token()),
            token,
            tasks: Some(tasks),
            started: 0,
            running: JoinSet::new(),
            stopped: false,
            kind: PhantomData,
        })
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// How many tasks have started.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News<T>> {
        loop {
            match self.running.poll_join_next(cx) {
                Poll::Ready(None) => return Poll::Ready(News::Idle),
                Poll::Ready(Some(Ok(ended))) => return Poll::Ready(News::Ended(ended)),
                // Aborted, after a stop; or gone with the runtime.
                Poll::Ready(Some(Err(_))) if self.stopped => {}
                Poll::Ready(Some(Err(_))) => return Poll::Ready(News::Cancelled),
                Poll::Pending if self.stopped || !self.watch.is_cancelled(cx) => {
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(News::Cancelled),
            }
        }
    }

    /// Aborts what runs and starts no more; answers with what has not started. The first cause stays.
    pub(super) fn stop(&mut self, cause: Cause) -> Option<I> {
        self.stopped = true;
        self.token.explain(cause);
        self.token.cancel();
        self.running.abort_all();
        self.tasks.take()
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

impl<I, K, T> Crew<I, K, T>
where
    I: Iterator<Item: Task<K, Output = T>>,
    T: Send + 'static,
{
    /// False when there are no more tasks.
    pub(super) fn start_next(&mut self) -> bool {
        let Some(task) = self.tasks.as_mut().and_then(Iterator::next) else {
            self.tasks = None;
            return false;
        };
        let index = self.started;
        self.started += 1;
        let token = Given(I::Item::LISTENS.then(|| self.token.clone()));
        let running = run(self.name, index, self.called_at, task.run(token));
        self.running.spawn_on(running, &self.runtime);
        true
    }
}

impl<I, K, T> Drop for Crew<I, K, T> {
    /// The set aborts its tasks by itself; the token is for what they have started.
    fn drop(&mut self) {
        self.token.explain(Cause::Cancelled);
        self.token.cancel();
    }
}

impl<I, K, T> fmt::Debug for Crew<I, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name)
            .field("started", &self.started)
            .field("running", &self.running.len())
            .field("cause", &self.token.cause())
            .finish_non_exhaustive()
    }
}

/// One task, whose panic is its end. It is an event here too, so that it is seen if nobody waits.
async fn run<F: Future>(
    name: &'static str,
    index: usize,
    called_at: &'static Location<'static>,
    task: F,
) -> Ended<F::Output> {
    let mut task = pin!(Some(task));
    let end = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
    let end = end.map_err(|payload| {
        trace::panicked(name, index as u64, called_at, message(&*payload));
        TaskPanic::new(payload, called_at)
    });
    Ended { index, end }
}
