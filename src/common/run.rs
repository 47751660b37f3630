//! What the tasks of a group and of a combinator have in common: a run whose end is reported, and their panics.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::pin;

use super::panic::{Payload, TaskPanic, catch, message, poll_caught};
use super::trace;

/// The end of a task: its output or its panic; `None` if it was dropped before, by an abort or with its runtime.
pub(crate) type End<T> = Option<Result<T, Payload>>;

/// Runs a task and calls `report` with its end, once, when what the task held is gone.
pub(crate) fn run<F, R>(task: F, report: R) -> impl Future<Output = ()>
where
    F: Future,
    R: FnOnce(End<F::Output>),
{
    let reporter = Reporter {
        report: Some(report),
        output: PhantomData,
    };
    let run = Run { task, reporter };
    async move {
        // A task that is dropped before its first poll is still one `Run`. From here on the order is that of the
        // locals: the pinned task is declared after the reporter, and so is dropped before it.
        let Run { task, mut reporter } = run;
        let mut task = pin!(Some(task));
        let end = poll_fn(|cx| poll_caught(task.as_mut(), cx)).await;
        reporter.report(Some(end));
    }
}

/// A task on its way to its first poll. Its fields are dropped in this order.
struct Run<F, T, R: FnOnce(End<T>)> {
    task: F,
    reporter: Reporter<T, R>,
}

/// Reports the end of a task: if it is dropped before, the task was.
struct Reporter<T, R: FnOnce(End<T>)> {
    /// Until the end was reported.
    report: Option<R>,
    output: PhantomData<fn(T)>,
}

impl<T, R: FnOnce(End<T>)> Reporter<T, R> {
    fn report(&mut self, end: End<T>) {
        // Taken, so that the `Drop` behind a regular end reports nothing.
        if let Some(report) = self.report.take() {
            report(end);
        }
    }
}

impl<T, R: FnOnce(End<T>)> Drop for Reporter<T, R> {
    fn drop(&mut self) {
        self.report(None);
    }
}

/// Makes the error of a task that panicked, which is an event too.
pub(crate) fn panicked(
    group: &str,
    index: usize,
    spawned_at: &'static Location<'static>,
    payload: Payload,
) -> TaskPanic {
    trace::task_panicked(group, index, spawned_at, message(&*payload));
    TaskPanic::new(payload, index, spawned_at)
}

/// Runs code that drops what a task was or made; a panic of a destructor is an event and harms no other task.
pub(crate) fn discard_of_task(
    group: &str,
    index: usize,
    spawned_at: &'static Location<'static>,
    dropping: impl FnOnce(),
) {
    if let Err(payload) = catch(dropping) {
        drop(panicked(group, index, spawned_at, payload));
    }
}
