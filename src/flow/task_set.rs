//! The tasks of one combinator, while they run.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::AbortHandle;

use super::completions::{Completion, Completions};
use super::settings::Settings;
use super::stop::{Stop, StopSignal};
use crate::common::abort_handles::AbortHandles;
use crate::common::panic::{TaskPanic, discard_each};
use crate::common::run::{self, run};

/// At most this many completions are taken per poll, before other tasks have a turn.
const TURN: u32 = 128;

/// Starts tasks in order, hands their ends out in order of completion, and leaves none behind.
///
/// It knows of no limit and of no result: its owner asks for one more task, or for one more end.
pub(super) struct TaskSet<I, T> {
    /// Those that have not started; none when there are no more.
    tasks: Option<I>,
    started: usize,
    /// Started, and their end is not taken.
    running: usize,
    /// Started, and aborted before they ended by themselves.
    aborted: usize,
    abort_handles: AbortHandles,
    completions: Arc<Completions<T>>,
    /// Read from the completions, and not taken.
    ended: VecDeque<Completion<T>>,
    /// Ends that were taken since the others had a turn.
    taken: u32,
    stopped: bool,
}

/// What happened in a set.
pub(super) enum Event<T> {
    /// The task of this index ended by itself.
    Ended(usize, Result<T, TaskPanic>),
    /// All that started have ended.
    Idle,
    /// There is a reason to stop, and no end that came before it; or the runtime was shut down.
    Stopped(Stop),
}

impl<I, T> TaskSet<I, T> {
    pub(super) fn new(tasks: I) -> TaskSet<I, T> {
        TaskSet {
            tasks: Some(tasks),
            started: 0,
            running: 0,
            aborted: 0,
            abort_handles: AbortHandles::default(),
            completions: Completions::new(),
            ended: VecDeque::new(),
            taken: 0,
            stopped: false,
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// The number of tasks that have started.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    pub(super) fn poll_event(
        &mut self,
        stop: &mut StopSignal,
        cx: &mut Context<'_>,
    ) -> Poll<Event<T>> {
        loop {
            if self.running == 0 {
                return Poll::Ready(Event::Idle);
            }
            if self.taken == TURN {
                self.taken = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(Completion {
                index,
                handle_index,
                end,
            }) = self.next_ended(cx)
            else {
                self.taken = 0;
                // Behind the ends: what is there when the stop comes is not lost.
                return match stop.poll(cx) {
                    Some(stop) if !self.stopped => Poll::Ready(Event::Stopped(stop)),
                    _ => Poll::Pending,
                };
            };
            self.taken += 1;
            self.running -= 1;
            drop(self.abort_handles.ended(handle_index));
            match end {
                Some(end) => return Poll::Ready(Event::Ended(index, end)),
                None => self.aborted += 1,
            }
            // Without a stop it is the runtime that was shut down.
            if !self.stopped {
                return Poll::Ready(Event::Stopped(Stop::Cancelled));
            }
        }
    }

    fn next_ended(&mut self, cx: &mut Context<'_>) -> Option<Completion<T>> {
        if self.ended.is_empty() {
            self.completions.read(&mut self.ended, cx.waker());
        }
        self.ended.pop_front()
    }

    /// Aborts what runs.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        let mut next = 0;
        while let Some(chunk) = self.abort_handles.abort_chunk(&mut next) {
            chunk.iter().for_each(AbortHandle::abort);
        }
    }
}

impl<I, T> TaskSet<I, T>
where
    I: Iterator<Item: Future<Output = T> + Send + 'static>,
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
    pub(super) fn cut_off(&mut self, most: usize, settings: &Settings) -> usize {
        let mut count = self.aborted.min(most);
        let mut rest = self.tasks.take().into_iter().flatten();
        for task in rest.by_ref().take(most - count) {
            settings.discard(self.started, task);
            count += 1;
        }
        settings.discard(self.started, rest);
        count
    }

    /// Starts the next task, on the runtime of the first poll. Returns `false` when there are no more.
    pub(super) fn start_next(&mut self, settings: &Settings) -> bool {
        let task = self.tasks.as_mut().and_then(Iterator::next);
        let (Some(task), Some(runtime)) = (task, &settings.runtime) else {
            self.tasks = None;
            return false;
        };
        let (index, handle_index) = (self.started, self.abort_handles.reserve());
        self.started += 1;
        self.running += 1;
        let (name, called_at) = (settings.name, settings.called_at);
        let completions = Arc::clone(&self.completions);
        let running = runtime.spawn(run(task, move |end| {
            // A panic is an event here, so that it is seen if the combinator was dropped.
            let end = end
                .map(|end| end.map_err(|payload| run::panicked(name, index, called_at, payload)));
            completions.push(Completion {
                index,
                handle_index,
                end,
            });
        }));
        let late = self
            .abort_handles
            .started(handle_index, running.abort_handle());
        debug_assert!(late.is_none(), "nothing starts after a stop");
        true
    }
}

impl<I, T> Drop for TaskSet<I, T> {
    fn drop(&mut self) {
        self.stop();
        discard_each(self.completions.close());
        discard_each(std::mem::take(&mut self.ended));
    }
}
