//! The tasks of one combinator, while they run.

use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::settings::Settings;
use super::stop::StopSignal;
use crate::common::abort_handles::AbortHandles;
use crate::common::closing::StopReason;
use crate::common::panic::{DiscardEach, TaskPanic};
use crate::common::run;

/// Starts tasks in order, hands their ends out in order of completion, and leaves none behind.
///
/// It knows of no limit and of no result: its owner asks for one more task, or for one more end.
pub(super) struct TaskSet<I, T> {
    /// The tasks that have not started; `None` at the end of the input and after `cut_off`.
    // It may be dropped while a panic unwinds: that of the input itself, or of misuse.
    tasks: DiscardEach<Option<I>>,
    started: usize,
    /// The number of tasks that have started, and whose ends were not received.
    running: usize,
    /// The number of tasks that never ended by themselves: they were aborted, or taken by `cut_off`.
    aborted: usize,
    abort_handles: AbortHandles,
    /// Each task sends its end. tokio's budget for channels gives other tasks a turn between many ends.
    sender: UnboundedSender<Completion<T>>,
    receiver: UnboundedReceiver<Completion<T>>,
}

/// The end of one task, which may be dropped in the channel.
struct Completion<T> {
    index: usize,
    /// None: it was aborted.
    end: DiscardEach<Option<Result<T, TaskPanic>>>,
}

/// What happened in a set.
pub(super) enum Event<T> {
    /// The task of this index ended by itself.
    Ended(usize, Result<T, TaskPanic>),
    /// All that started have ended.
    Idle,
    /// There is a reason to stop, and no end that came before it; or the runtime was shut down.
    Stopped(StopReason),
}

impl<I, T> TaskSet<I, T> {
    pub(super) fn new(tasks: I) -> TaskSet<I, T> {
        let (sender, receiver) = unbounded_channel();
        TaskSet {
            tasks: Some(tasks).into(),
            started: 0,
            running: 0,
            aborted: 0,
            abort_handles: AbortHandles::default(),
            sender,
            receiver,
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
            let Poll::Ready(Some(mut completion)) = self.receiver.poll_recv(cx) else {
                // Behind the ends: what is there when the stop comes is not lost.
                return match stop.poll(cx) {
                    Some(stop) if !self.is_stopped() => Poll::Ready(Event::Stopped(stop)),
                    _ => Poll::Pending,
                };
            };
            self.running -= 1;
            drop(self.abort_handles.ended(completion.index));
            match completion.end.take() {
                Some(end) => return Poll::Ready(Event::Ended(completion.index, end)),
                None => self.aborted += 1,
            }
            // Without a stop it is the runtime that was shut down.
            if !self.is_stopped() {
                return Poll::Ready(Event::Stopped(StopReason::Cancelled));
            }
        }
    }

    /// Aborts what runs.
    pub(super) fn stop(&mut self) {
        self.abort_handles.abort().for_each(|task| task.abort());
    }

    fn is_stopped(&self) -> bool {
        self.abort_handles.is_aborting()
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
        match &*self.tasks {
            Some(tasks) => tasks.size_hint().1?.checked_add(started),
            None => Some(started),
        }
    }

    /// Drops what has not started, and returns how many tasks never ended by themselves. The input is taken until `most` of
    /// them are known.
    pub(super) fn cut_off(&mut self, most: usize, settings: &Settings) -> usize {
        while self.aborted < most {
            // If the input panics, a later call goes on here.
            let Some(task) = self.tasks.as_mut().and_then(Iterator::next) else {
                break;
            };
            settings.discard(self.started, task);
            self.started += 1;
            self.aborted += 1;
        }
        settings.discard(self.started, self.tasks.take());
        self.aborted
    }

    /// Starts the next task, on the runtime of the first poll. Returns `false` when there are no more.
    pub(super) fn start_next(&mut self, settings: &Settings) -> bool {
        let task = self.tasks.as_mut().and_then(Iterator::next);
        let (Some(task), Some(runtime)) = (task, &settings.runtime) else {
            drop(self.tasks.take());
            return false;
        };
        let index = self.started;
        self.started += 1;
        self.running += 1;
        let (name, called_at) = (settings.name, settings.called_at);
        let sender = self.sender.clone();
        let running = run::spawn(runtime, task, move |end| {
            // A panic is an event here, so that it is seen if the combinator was dropped.
            let panicked = |payload| run::panicked(name, index, called_at, payload);
            let end = match end {
                run::End::Ended(end) => Some(end.map_err(panicked)),
                run::End::Dropped(dropped) => dropped.err().map(panicked).map(Err),
            };
            // An error means that the set was dropped, and then so is the end.
            let _ = sender.send(Completion {
                index,
                end: end.into(),
            });
        });
        let late = self.abort_handles.started(index, running);
        debug_assert!(late.is_none(), "nothing starts after a stop");
        true
    }
}

impl<I, T> Drop for TaskSet<I, T> {
    fn drop(&mut self) {
        self.stop();
    }
}
