//! What groups and combinators have in common: their runtime, a run of a task whose end is reported, and its panic.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::panic::{Payload, TaskPanic, catch, discard, message, poll_caught};
use super::trace;

/// Returns the runtime of a group that is created: the one that was named, or else that of the caller.
#[track_caller]
pub(crate) fn runtime_for(named: Option<Handle>) -> Handle {
    let Some(runtime) = named.or_else(|| Handle::try_current().ok()) else {
        panic!(
            "schedgroup: a group must be created inside a tokio runtime; enter one, or name one with `builder().runtime(handle)`"
        );
    };
    runtime
}

/// The end of a task.
pub(crate) enum End<T> {
    /// It has ended by itself: its output or its panic.
    Ended(Result<T, Payload>),
    /// It was dropped before, by an abort or with its runtime. A panic of its destructor is its panic.
    Dropped(Result<(), Payload>),
}

/// A larger task is boxed: `run` has to store a task twice, as what it captured and as what it polls.
const LARGE: usize = 512;

/// Spawns a task and calls `report` with its end, once, when what the task held is gone.
pub(crate) fn spawn<F, R>(runtime: &Handle, task: F, report: R) -> AbortHandle
where
    F: Future<Output: Send> + Send + 'static,
    R: FnOnce(End<F::Output>) + Send + 'static,
{
    // A constant, so that of the two forms only the one that is taken is compiled, for each type of task.
    let running = if const { size_of::<F>() > LARGE } {
        runtime.spawn(run(Box::pin(task), report))
    } else {
        runtime.spawn(run(task, report))
    };
    running.abort_handle()
}

fn run<F, R>(task: F, report: R) -> impl Future<Output = ()>
where
    F: Future,
    R: FnOnce(End<F::Output>),
{
    let mut unpolled = Unpolled(Some((task, report)));
    async move {
        let Some((task, report)) = unpolled.0.take() else {
            return;
        };
        let mut running = Running {
            task: pin!(Some(task)),
            report: Some(report),
        };
        let end = poll_fn(|cx| poll_caught(running.task.as_mut(), cx)).await;
        running.report(End::Ended(end));
    }
}

/// A task on its way to its first poll, until that takes it.
struct Unpolled<F: Future, R: FnOnce(End<F::Output>)>(Option<(F, R)>);

impl<F: Future, R: FnOnce(End<F::Output>)> Drop for Unpolled<F, R> {
    fn drop(&mut self) {
        if let Some((task, report)) = self.0.take() {
            report(End::Dropped(discard(task)));
        }
    }
}

/// A task that is polled.
struct Running<'a, F: Future, R: FnOnce(End<F::Output>)> {
    task: Pin<&'a mut Option<F>>,
    /// Until the end was reported.
    report: Option<R>,
}

impl<F: Future, R: FnOnce(End<F::Output>)> Running<'_, F, R> {
    fn report(&mut self, end: End<F::Output>) {
        // Taken, so that the `Drop` behind a regular end reports nothing.
        if let Some(report) = self.report.take() {
            report(end);
        }
    }
}

impl<F: Future, R: FnOnce(End<F::Output>)> Drop for Running<'_, F, R> {
    fn drop(&mut self) {
        let dropped = catch(|| self.task.set(None));
        self.report(End::Dropped(dropped));
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
